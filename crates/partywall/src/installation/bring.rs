//! `catalogue move`: an installation of one process becomes one of replicas.
//!
//! Its catalogue goes to a server, with all its history, and its folder becomes the first replica's: the
//! journal, and what was spent, go on. Until that replica has started and told what it has spent,
//! no other one starts.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context as _, bail};
use base::{Clock, Entropy, SystemEntropy};
use clap::{Args, Subcommand};
use control::{ServerPlatformKeyFile, load};
use serde_json::json;
use store::{CATALOGUE_FILE, Catalogue, Founding, ReplicaId};

use super::files::write_private;
use super::{DESCRIPTION_FILE, Description, FORMAT, Installation, open, shared};
use crate::config::{self, CatalogueUrl};
use crate::terminal::{Form, say, say_json};

/// Where the catalogue is.
#[derive(Debug, Clone, Subcommand)]
pub(crate) enum CatalogueCommand {
    /// Bring the catalogue of an installation that is stopped to a PostgreSQL server, for replicas
    Move(MoveCatalogueArgs),
}

/// Whose catalogue goes where.
#[derive(Debug, Clone, Args)]
pub(crate) struct MoveCatalogueArgs {
    /// The installation's configuration
    #[arg(long, short, default_value = config::FILE_NAME, value_name = "FILE")]
    config: PathBuf,
    /// Where to: postgres://user@host/database, or env:NAME or file:/path where it has a password
    #[arg(long, value_name = "URL", value_parser = |text: &str| CatalogueUrl::try_from(text.to_owned()))]
    to: CatalogueUrl,
}

/// What the folder's own catalogue is called once it is of no use any more.
const MOVED_FILE: &str = "catalogue.db.moved";
/// 20 names: a sentence, not a list.
const NAMES_SHOWN: usize = 20;

/// Moves the catalogue. What a cut-off attempt left does not hinder the next. Blocks.
///
/// # Errors
///
/// Why it cannot be moved; then the installation is as it was.
pub(crate) fn move_catalogue(
    args: MoveCatalogueArgs,
    clock: &Arc<dyn Clock>,
    form: Form,
) -> anyhow::Result<()> {
    let mut config = config::load(&args.config)?;
    if config.catalogue.url.is_some() {
        bail!(
            "the configuration has a `[catalogue] url` already: leave it away until this is done"
        );
    }
    let entropy: Arc<dyn Entropy> = Arc::new(SystemEntropy);
    let installation = open(&config, clock, &entropy)?;
    let tenants = check_placements(&installation)?;
    let url = String::from(args.to.clone());
    config.catalogue.url = Some(args.to);
    let server = shared::connect(&config, clock, &entropy)?;
    let turn = server.turn()?;
    match server.founding()? {
        None => {}
        // Another attempt was cut off behind this.
        Some(founding) if founding.installation == installation.id && !server.was_served()? => {}
        Some(_) => bail!("there is an installation on the catalogue's server already"),
    }
    let target = Catalogue::on_server(Arc::clone(&server), Arc::clone(&installation.platform_keys));
    let rows = installation.catalogue.copy_to(&target)?;
    if tenants > 0 {
        server.await_first()?;
    }
    let wrapped = installation.platform_key_file.read()?;
    server.found(&Founding {
        installation: installation.id,
        platform_key: ServerPlatformKeyFile::encode(&wrapped),
    })?;
    drop(turn);
    become_replica(installation)?;
    match form {
        Form::Json => say_json(&json!({"rows": rows, "tenants": tenants})),
        Form::People => say(format_args!(
            "moved the catalogue: {rows} rows, {tenants} tenants\n\
             \n\
             Now say this in {}, and start this folder before any other replica:\n\
             \n\
             [catalogue]\n\
             url = \"{url}\"",
            args.config.display(),
        )),
    }
}

/// How many tenants there are, if all are where other replicas reach them.
fn check_placements(installation: &Installation) -> anyhow::Result<usize> {
    let loaded = load(&installation.catalogue, &*installation.root)?;
    let in_files: Vec<&str> = loaded
        .snapshot
        .tenants()
        .filter(|tenant| tenant.spec.placement().is_file())
        .map(|tenant| tenant.name.as_str())
        .collect();
    if !in_files.is_empty() {
        let shown = in_files.len().min(NAMES_SHOWN);
        let and_more = match in_files.len() - shown {
            0 => String::new(),
            more => format!(", and {more} more"),
        };
        bail!(
            "other replicas do not reach the files of {}{and_more}: start the process, bring each to a server by `partywall tenant move NAME --to pool`, and come back",
            in_files[..shown].join(", ")
        );
    }
    Ok(loaded.snapshot.tenant_count())
}

/// From here on the folder is the first replica's. Its lines were posted under this id, and are
/// posted once.
fn become_replica(installation: Installation) -> anyhow::Result<()> {
    let description = Description {
        format: FORMAT,
        id: installation.id_text(),
        replica: Some(ReplicaId::ALONE.to_string()),
    };
    let Installation {
        folder,
        catalogue,
        lock,
        ..
    } = installation;
    let text = serde_json::to_string_pretty(&description).expect("it is plain data");
    write_private(&folder.join(DESCRIPTION_FILE), &text)
        .with_context(|| format!("cannot write in {}", folder.display()))?;
    drop(catalogue);
    let (from, to) = (folder.join(CATALOGUE_FILE), folder.join(MOVED_FILE));
    std::fs::rename(&from, &to).with_context(|| format!("cannot rename {}", from.display()))?;
    drop(lock);
    Ok(())
}
