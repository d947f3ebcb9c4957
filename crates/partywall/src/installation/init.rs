//! `init`: a data folder for real use.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use base::{Clock, Entropy, Name, SystemEntropy};
use clap::Args;
use serde_json::json;
use store::{AuditEntry, AuditSigner, ResourceChange};
use tenancy::catalogue::{Kind, OperatorSpec, Resource};
use tenancy::{ApiKey, Role};

use super::{Installation, create, open_or_create, write_private};
use crate::client::OPERATOR_KEY_FILE;
use crate::config::{CatalogueUrl, FILE_NAME, InstallationConfig};
use crate::terminal::{Form, say, say_json};

/// How the installation is made.
#[derive(Debug, Clone, Args)]
pub(crate) struct InitArgs {
    /// Where the root key is to be, or is; by default `root.key` in the data folder
    #[arg(long, value_name = "FILE", conflicts_with = "root_key_env")]
    root_key: Option<PathBuf>,
    /// The environment variable that holds the root key (base64 of 32 bytes)
    #[arg(long, value_name = "NAME")]
    root_key_env: Option<String>,
    /// Where the catalogue is that replicas share: postgres://user@host/database, or env:NAME or
    /// file:/path where it has a password. By default it is a file in the data folder
    #[arg(long, value_name = "URL", value_parser = |text: &str| CatalogueUrl::try_from(text.to_owned()))]
    catalogue: Option<CatalogueUrl>,
    /// Succeed where there is an installation already, and leave it as it is
    #[arg(long)]
    if_missing: bool,
    /// Print the first operator's key, which is shown this once: where nobody can read the folder
    #[arg(long)]
    show_key: bool,
}

/// Makes an installation in `folder`: keys, the first operator, and a commented configuration.
///
/// # Errors
///
/// [`super::FolderProblem`], in words.
pub(crate) fn init(
    folder: &Path,
    args: InitArgs,
    clock: &Arc<dyn Clock>,
    form: Form,
) -> anyhow::Result<()> {
    let mut config = InstallationConfig::default();
    folder.clone_into(&mut config.storage.folder);
    config.root_key.file = args.root_key.map(std::path::absolute).transpose()?;
    config.root_key.env = args.root_key_env;
    config.catalogue.url = args.catalogue;
    let entropy: Arc<dyn Entropy> = Arc::new(SystemEntropy);
    let installation = if args.if_missing {
        open_or_create(&config, clock, &entropy)?
    } else {
        create(&config, clock, &entropy)?
    };
    let is_new = installation.catalogue.current_version()? == 0;
    ensure_operator(&installation, clock.as_ref(), entropy.as_ref())?;
    let file = write_config(&config)?;
    let operator_key = folder.join(OPERATOR_KEY_FILE);
    let joined = config.catalogue.url.is_some() && !operator_key.exists();
    if joined && form == Form::People {
        return say(format_args!(
            "made the folder of another replica in {folder}\n\
             \n\
             configuration   {file}\n\
             \n\
             start it:       partywall serve --config {file}",
            folder = folder.display(),
            file = file.display(),
        ));
    }
    let key = match args.show_key && is_new {
        true => Some(std::fs::read_to_string(&operator_key)?),
        false => None,
    };
    if let (Some(key), Form::People) = (&key, form) {
        say(format_args!("operator's key  {}", key.trim()))?;
    }
    match form {
        Form::Json => say_json(&json!({
            "operator_key": key.as_deref().map(str::trim),
            "folder": folder,
            "config": file,
            "operator_key_file": (!joined).then_some(operator_key),
        })),
        Form::People => say(format_args!(
            "made an installation in {folder}\n\
             \n\
             configuration   {file}\n\
             operator's key  {key} (mode 0600: commands on this machine use it)\n\
             \n\
             start it:       partywall serve --config {file}\n\
             \n\
             Keep a copy of the root key apart from the folder's backups: without it nothing \
             opens.",
            folder = folder.display(),
            file = file.display(),
            key = operator_key.display(),
        )),
    }
}

/// The first operator's name.
const FIRST_OPERATOR: &str = "root";

/// Makes the first operator, if the catalogue is still empty, and keeps the key in the folder.
///
/// # Errors
///
/// If the folder or the catalogue cannot be written.
pub(crate) fn ensure_operator(
    installation: &Installation,
    clock: &dyn Clock,
    entropy: &dyn Entropy,
) -> anyhow::Result<()> {
    let catalogue = &installation.catalogue;
    if catalogue.current_version()? > 0 {
        return Ok(());
    }
    let key = ApiKey::generate(entropy);
    let path = installation.folder.join(OPERATOR_KEY_FILE);
    write_private(&path, key.expose())
        .with_context(|| format!("cannot write {}", path.display()))?;
    let name: Name = FIRST_OPERATOR.parse().expect("it is a name");
    let spec = Resource::from(OperatorSpec {
        role: Role::Operator,
        hash: installation.platform_keys.key_hasher().hash(&key),
        disabled: false,
    });
    let signing_key = installation.platform_keys.audit_signing_key();
    let signer = AuditSigner::platform(&installation.id_text(), &signing_key);
    let target = format!("operators/{name}");
    let entry = AuditEntry::done(clock.now(), "init", "create_operator", target);
    catalogue.with_audit(&signer, |log| log.append(&entry))?;
    let change = ResourceChange {
        kind: Kind::Operator.as_str().to_owned(),
        tenant: String::new(),
        name: name.to_string(),
        spec: Some(spec.to_json().to_string().into_bytes()),
    };
    catalogue.commit(0, &[change], "init", "the first operator", clock.now())?;
    Ok(())
}

/// Writes a commented configuration into the data folder, unless there is one; returns where.
///
/// # Errors
///
/// If it cannot be written.
pub(crate) fn write_config(config: &InstallationConfig) -> anyhow::Result<PathBuf> {
    let path = config.storage.folder.join(FILE_NAME);
    if !path.exists() {
        write_private(&path, &compose(config))
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(path)
}

/// The file's text. Paths in it are relative to the file, which is in the data folder.
fn compose(config: &InstallationConfig) -> String {
    let InstallationConfig {
        listen, root_key, ..
    } = config;
    let quoted = |text: &str| toml::Value::String(text.to_owned()).to_string();
    let catalogue = match &config.catalogue.url {
        Some(url) => format!("url = {}", quoted(&String::from(url.clone()))),
        None => "# url = \"env:PARTYWALL_CATALOGUE\"".to_owned(),
    };
    let root_key = match (&root_key.file, &root_key.env) {
        (Some(file), _) => format!("file = {}", quoted(&file.display().to_string())),
        (None, Some(name)) => format!("env = {}", quoted(name)),
        (None, None) => "# file = \"/somewhere/else/root.key\"".to_owned(),
    };
    format!(
        "# This installation. Every option and its default: docs/configuration.md, or\n\
         # `partywall docs configuration`. Check a change with `partywall config check`, and start\n\
         # the process again; a new `log.level` needs no more than SIGHUP.\n\
         \n\
         [listen]\n\
         # What tenants call. Put TLS in front of it before it leaves this machine.\n\
         gateway = \"{}\"\n\
         # What operators call; health and metrics too.\n\
         admin = \"{}\"\n\
         \n\
         [storage]\n\
         folder = \".\"\n\
         \n\
         [catalogue]\n\
         # For several replicas: a PostgreSQL database that all of them reach. See\n\
         # docs/replicas.md.\n\
         {catalogue}\n\
         \n\
         [root_key]\n\
         # By default `root.key` in the data folder. A copy of the folder alone opens nothing if\n\
         # the key is elsewhere.\n\
         {root_key}\n\
         \n\
         [log]\n\
         format = \"{}\"\n\
         level = {}\n",
        listen.gateway,
        listen.admin,
        match config.log.format {
            crate::config::LogFormat::Pretty => "pretty",
            crate::config::LogFormat::Json => "json",
        },
        quoted(&config.log.level),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::parse;

    #[test]
    fn the_written_file_says_what_it_was_made_from() {
        let mut config = InstallationConfig::default();
        config.storage.folder = ".".into();
        config.listen.gateway = "127.0.0.1:9000".parse().unwrap();
        assert_eq!(parse("f", &compose(&config)), Ok(config.clone()));
        config.root_key.file = Some("/a \"quoted\"/key".into());
        assert_eq!(parse("f", &compose(&config)), Ok(config.clone()));
        config.root_key.file = None;
        config.root_key.env = Some("ROOT_KEY".to_owned());
        assert_eq!(parse("f", &compose(&config)), Ok(config));
    }
}
