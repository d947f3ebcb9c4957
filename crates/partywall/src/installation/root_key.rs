//! The root key, from where the configuration says.

use std::sync::Arc;

use base::Entropy;
use tenancy::{LocalRootKey, RootKey, RootKeyFileError};
use zeroize::Zeroizing;

use crate::config::RootKeyPlace;

/// Why there is no root key.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RootKeyError {
    /// The file or the variable holds none.
    #[error(transparent)]
    Local(#[from] RootKeyFileError),
    /// The environment variable is not set.
    #[error("the root key is expected in the environment variable {name}, which is not set")]
    NotSet { name: String },
}

/// The root key at `place`.
pub(super) fn open(place: &RootKeyPlace) -> Result<Arc<dyn RootKey>, RootKeyError> {
    let key = match place {
        RootKeyPlace::File(path) => LocalRootKey::open(path)?,
        RootKeyPlace::Environment(name) => {
            let value = std::env::var(name).map(Zeroizing::new);
            let value = value.map_err(|_| RootKeyError::NotSet { name: name.clone() })?;
            LocalRootKey::from_environment_value(&value)?
        }
    };
    Ok(Arc::new(key))
}

/// The root key at `place`; a file that is not there is made.
pub(super) fn open_or_create(
    place: &RootKeyPlace,
    entropy: &dyn Entropy,
) -> Result<Arc<dyn RootKey>, RootKeyError> {
    match place {
        RootKeyPlace::File(path) if !path.exists() => {
            Ok(Arc::new(LocalRootKey::create(path, entropy)?))
        }
        place => open(place),
    }
}
