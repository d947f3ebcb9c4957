//! Which installation is meant, and with whose key.

use std::path::{Path, PathBuf};

use base::Redacted;

use super::{Client, ClientError, Target};

/// Holds the operator's key in a data folder; mode 0600.
pub(crate) const OPERATOR_KEY_FILE: &str = "operator.key";
/// Holds the admin API's address in a data folder while it is being served.
pub(crate) const ADMIN_URL_FILE: &str = "admin.url";

/// The admin API's address where nothing says another.
const DEFAULT_URL: &str = "http://127.0.0.1:8081";

/// Which installation a command speaks to.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Which installation")]
pub(crate) struct ConnectArgs {
    /// The admin API's address; by default what serves the data folder, else port 8081 here
    #[arg(long, global = true, env = "PARTYWALL_URL", value_name = "URL")]
    url: Option<String>,
    /// An operator's or a tenant administrator's key; by default the data folder's `operator.key`.
    /// Prefer the environment: others on this machine can see arguments
    #[arg(
        long,
        global = true,
        env = "PARTYWALL_KEY",
        hide_env_values = true,
        value_name = "KEY"
    )]
    key: Option<String>,
    /// Why it is done, for the audit log
    #[arg(long, global = true, value_name = "TEXT")]
    reason: Option<String>,
    /// The data folder of a local installation
    #[arg(
        long,
        global = true,
        env = "PARTYWALL_DATA",
        default_value = crate::config::DATA_FOLDER,
        value_name = "FOLDER"
    )]
    pub(crate) data: PathBuf,
}

impl ConnectArgs {
    /// A client of that installation.
    ///
    /// # Errors
    ///
    /// [`ClientError`] if the address is none, or the key file cannot be read.
    pub(crate) fn client(&self) -> Result<Client, ClientError> {
        let from_folder = || read_line(&self.data.join(ADMIN_URL_FILE)).ok();
        let url = self.url.clone().or_else(from_folder);
        let target = Target::parse(url.as_deref().unwrap_or(DEFAULT_URL))?;
        let key = self.key(&target)?;
        if key.is_some() && target.exposes_the_key() {
            tracing::warn!(url = %target, "the key travels unencrypted: use https");
        }
        let reason = match &self.reason {
            Some(text) => Some(text.parse().map_err(|_| ClientError::BadReason)?),
            None => None,
        };
        Ok(Client::new(target, key).because(reason))
    }

    fn key(&self, target: &Target) -> Result<Option<Redacted<String>>, ClientError> {
        if let Some(key) = &self.key {
            return Ok(Some(Redacted::new(key.trim().to_owned())));
        }
        // A distant installation has another key than the folder here.
        if !target.is_loopback() {
            return Ok(None);
        }
        let path = self.data.join(OPERATOR_KEY_FILE);
        match read_line(&path) {
            Ok(key) => Ok(Some(Redacted::new(key))),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(cause) => Err(ClientError::KeyFile { path, cause }),
        }
    }
}

fn read_line(path: &Path) -> std::io::Result<String> {
    Ok(std::fs::read_to_string(path)?.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(url: Option<&str>, key: Option<&str>, data: &Path) -> ConnectArgs {
        ConnectArgs {
            url: url.map(str::to_owned),
            key: key.map(str::to_owned),
            reason: None,
            data: data.to_owned(),
        }
    }

    #[test]
    fn the_folders_key_is_for_a_local_installation_alone() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(OPERATOR_KEY_FILE), "pw_local\n").unwrap();
        let key = |url: Option<&str>, key| {
            let target = Target::parse(url.unwrap_or(DEFAULT_URL)).unwrap();
            let found = args(url, key, folder.path()).key(&target).unwrap();
            found.map(Redacted::into_exposed)
        };
        assert_eq!(key(None, None).as_deref(), Some("pw_local"));
        assert_eq!(
            key(Some("http://127.0.0.1:9"), None).as_deref(),
            Some("pw_local")
        );
        assert_eq!(
            key(Some("http://localhost"), None).as_deref(),
            Some("pw_local")
        );
        assert_eq!(key(Some("https://partywall.example"), None), None);
        assert_eq!(key(None, Some("pw_given")).as_deref(), Some("pw_given"));
    }
}
