//! The last key of a connection, so that its calls are spared a hash each.

use std::fmt;

use parking_lot::Mutex;
use zeroize::Zeroizing;

use crate::keys::{ApiKey, KeyHash, is_same_secret};

/// The key that was last accepted on a connection, and its hash: the same text again has the same
/// hash. Whether the key is still good is asked each time; nothing of that is remembered.
#[derive(Default)]
pub struct RememberedKey(Mutex<Option<Remembered>>);

struct Remembered {
    text: Zeroizing<Box<str>>,
    hash: KeyHash,
}

impl RememberedKey {
    /// The hash of what is presented, if it is the key that was last accepted.
    pub(crate) fn recall(&self, presented: &str) -> Option<KeyHash> {
        let remembered = self.0.lock();
        let remembered = remembered.as_ref()?;
        is_same_secret(remembered.text.as_bytes(), presented.as_bytes())
            .then(|| remembered.hash.clone())
    }

    pub(crate) fn remember(&self, key: &ApiKey, hash: &KeyHash) {
        *self.0.lock() = Some(Remembered {
            text: Zeroizing::new(key.expose().into()),
            hash: hash.clone(),
        });
    }
}

impl fmt::Debug for RememberedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RememberedKey([redacted])")
    }
}

#[cfg(test)]
mod tests {
    use base::SeededEntropy;

    use super::*;

    #[test]
    fn the_last_key_alone_is_recalled() {
        let entropy = SeededEntropy::new(1);
        let keys = [ApiKey::generate(&entropy), ApiKey::generate(&entropy)];
        let hashes = [1, 2].map(|byte| KeyHash::from_bytes([byte; 32]));
        let remembered = RememberedKey::default();
        assert!(remembered.recall(keys[0].expose()).is_none());
        for (key, hash) in keys.iter().zip(&hashes) {
            remembered.remember(key, hash);
            assert!(remembered.recall(key.expose()).as_ref() == Some(hash));
        }
        assert!(remembered.recall(keys[0].expose()).is_none());
        let cut = &keys[1].expose()[..51];
        assert!(remembered.recall(cut).is_none() && remembered.recall("").is_none());
        assert_eq!(format!("{remembered:?}"), "RememberedKey([redacted])");
    }
}
