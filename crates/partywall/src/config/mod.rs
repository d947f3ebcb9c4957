//! `partywall.toml`: the installation, and nothing that a tenant or an operator changes while it
//! runs. Tenants, keys, tiers, upstreams, routes, prices, limits and budgets live in the
//! catalogue.

mod alerts;
mod diagnosis;
mod exports;
mod options;
mod reference;

use std::path::{Path, PathBuf};

pub(crate) use alerts::{AlertsOptions, DashboardOptions, MailEncryption, MailOptions};
pub(crate) use diagnosis::{Diagnosis, nearest};
pub(crate) use exports::{ExportsFormat, ExportsOptions};
pub(crate) use options::{
    AdaptersOptions, BackupOptions, BoundsOptions, CallRecords, CallersTraces, CatalogueOptions,
    CatalogueUrl, GenAiNames, InstallationConfig, LogFormat, LogOptions, MetricsReaders,
    PostgresOptions, RatesOptions, RatesUrl, RootKeyPlace, TelemetryOptions,
};
pub(crate) use reference::reference;

/// The file's name where none is given.
pub(crate) const FILE_NAME: &str = "partywall.toml";

/// The data folder's name where none is given.
pub(crate) const DATA_FOLDER: &str = "partywall-data";

/// 1 MiB: a thousand times the longest file that says something.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfigError {
    /// There is no file.
    #[error("there is no {}: {}", path.display(), way_out(nearby.as_deref()))]
    Absent {
        path: PathBuf,
        /// One in the data folder beside it, as `partywall quickstart` makes it.
        nearby: Option<PathBuf>,
    },
    /// The file could not be read.
    #[error("cannot read {}: {cause}", path.display())]
    Read {
        path: PathBuf,
        cause: std::io::Error,
    },
    /// It is not a configuration file at all.
    #[error("{} has more than {FILE_BYTES_MAX} bytes: that is no partywall.toml", path.display())]
    TooLong { path: PathBuf },
    /// Something in it is wrong, and where.
    #[error(transparent)]
    Wrong(#[from] Diagnosis),
}

/// Reads and checks the file at `path`. Paths in it are relative to its folder.
pub(crate) fn load(path: &Path) -> Result<InstallationConfig, ConfigError> {
    let read = |cause: std::io::Error| unreadable(path, cause);
    if std::fs::metadata(path).map_err(read)?.len() > FILE_BYTES_MAX {
        return Err(ConfigError::TooLong {
            path: path.to_owned(),
        });
    }
    let text = std::fs::read_to_string(path).map_err(read)?;
    let mut config = parse(&path.display().to_string(), &text)?;
    let folder = path.parent().unwrap_or(Path::new(""));
    config.resolve_paths(folder);
    Ok(config)
}

fn unreadable(path: &Path, cause: std::io::Error) -> ConfigError {
    let path = path.to_owned();
    if cause.kind() != std::io::ErrorKind::NotFound {
        return ConfigError::Read { path, cause };
    }
    let nearby = path.with_file_name(DATA_FOLDER).join(FILE_NAME);
    let nearby = nearby.exists().then_some(nearby);
    ConfigError::Absent { path, nearby }
}

fn way_out(nearby: Option<&Path>) -> String {
    match nearby {
        Some(nearby) => format!("did you mean `--config {}`?", nearby.display()),
        None => "`partywall init` makes one".into(),
    }
}

/// The configuration that `text` is; `file` names it in errors.
pub(crate) fn parse(file: &str, text: &str) -> Result<InstallationConfig, Diagnosis> {
    let config: InstallationConfig =
        toml::from_str(text).map_err(|error| Diagnosis::of(file, text, &error))?;
    match config.problem() {
        None => Ok(config),
        Some((key, message)) => Err(Diagnosis::at_key(file, text, key, message)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_file_is_the_defaults() {
        assert_eq!(parse("x", ""), Ok(InstallationConfig::default()));
    }

    #[test]
    fn each_mistake_is_named_with_its_place() {
        let table = [
            (
                "\n\n[listn]\ngateway = \"127.0.0.1:1\"\n",
                "partywall.toml:3:2: unknown key `listn`; did you mean `listen`?",
            ),
            (
                "[listen]\ngatewy = \"127.0.0.1:1\"\n",
                "partywall.toml:2:1: unknown key `gatewy`; did you mean `gateway`?",
            ),
            (
                "[log]\nxyzzy = 1\n",
                "partywall.toml:2:1: unknown key `xyzzy`; known here are `format`, `level`, `queue_lines_max`",
            ),
            (
                "[log]\nformat = \"jsn\"\n",
                "partywall.toml:2:10: unknown value `jsn`; did you mean `json`?",
            ),
            (
                "[bounds]\nconnections_max = \"many\"\n",
                "partywall.toml:2:19: invalid type: string \"many\", expected usize",
            ),
            (
                "[listen]\ngateway = \"localhost\"\n",
                "partywall.toml:2:11: invalid socket address syntax",
            ),
            (
                "[root_key]\nfile = \"a\"\nenv = \"B\"\n",
                "partywall.toml:3:1: give the root key by `file` or by `env`, not by both",
            ),
            (
                "[listen]\nadmin = \"127.0.0.1:8080\"\n",
                "partywall.toml:2:1: the gateway and the admin API cannot share an address",
            ),
            (
                "[bounds]\nconnections_max = 0\n",
                "partywall.toml:2:1: at least 1 is needed",
            ),
            (
                "[rates]\nurl = \"valkey://127.0.0.1\"\n",
                "partywall.toml:2:1: one process needs no server for its rates: remove `[rates]`, or set `catalogue.url` to run replicas",
            ),
            (
                "[rates]\nurl = \"valkey://:secret@127.0.0.1\"\n",
                "partywall.toml:2:7: this file holds no password: put the address into a file or the environment, and say `file:/path` or `env:NAME`",
            ),
            (
                "[rates]\nurl = \"memcached://127.0.0.1\"\n",
                "partywall.toml:2:7: an address begins with `valkey://` or `redis://`, or, in TLS, with `valkeys://` or `rediss://`",
            ),
            (
                "[storage.servers.eu]\nurl = \"env:EU\"\nconnections_max = 3\n",
                "partywall.toml:1:10: `eu` needs `connections_max` of 4 at least",
            ),
        ];
        for (text, expected) in table {
            let error = parse("partywall.toml", text).expect_err(text);
            assert_eq!(error.to_string(), expected, "{text}");
        }
    }

    #[test]
    fn broken_syntax_has_a_place_too() {
        let error = parse("f.toml", "[listen]\ngateway = \n").expect_err("refused");
        assert!(error.to_string().starts_with("f.toml:2:11: "), "{error}");
    }

    #[test]
    fn relative_paths_start_at_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(FILE_NAME);
        std::fs::write(
            &path,
            "[storage]\nfolder = \"data\"\n[root_key]\nfile = \"/k\"\n[catalogue]\nca_file = \"ca.pem\"\n\
             [storage.servers.eu]\nurl = \"env:EU\"\nca_file = \"eu.pem\"\n",
        )
        .unwrap();
        let config = load(&path).unwrap();
        assert_eq!(config.storage.folder, folder.path().join("data"));
        let authority = |name: &str| Some(folder.path().join(name));
        assert_eq!(config.catalogue.ca_file, authority("ca.pem"));
        let server = &config.storage.servers["eu"];
        assert_eq!(server.ca_file, authority("eu.pem"));
        assert_eq!(
            config.root_key.place(&config.storage.folder),
            RootKeyPlace::File("/k".into())
        );
    }

    #[test]
    fn a_missing_file_says_how_to_make_one() {
        let error = load(Path::new("/nowhere/partywall.toml")).expect_err("absent");
        assert!(error.to_string().contains("partywall init"), "{error}");
    }
}
