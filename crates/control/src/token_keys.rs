//! The keys that sign tokens: sealed in the catalogue, and shared by all who verify.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use base::{Clock, Entropy, Timestamp};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use store::{Catalogue, CatalogueError};
use tenancy::{
    OpenError, PlatformKeys, SealingKey, TOKEN_LIFETIME_SECONDS_MAX, TokenKeys, TokenSeed, purpose,
};

/// The setting of the catalogue that keeps the seeds.
const SETTING: &str = "token-signing-seeds";
/// The life of the longest token, and 10 s: twice what the clocks of replicas may be apart.
const OVERLAP: Duration = Duration::from_secs(TOKEN_LIFETIME_SECONDS_MAX as u64 + 10);

/// What a [`TokenKeyring`] works with.
pub struct TokenKeyringParts {
    /// Where the seeds are kept.
    pub catalogue: Arc<Catalogue>,
    /// What seals them.
    pub platform_keys: Arc<PlatformKeys>,
    /// The installation's id, as text: part of the tokens' issuer.
    pub installation: String,
    /// What time it is.
    pub clock: Arc<dyn Clock>,
    /// Where seeds come from.
    pub entropy: Arc<dyn Entropy>,
}

/// The keys that sign tokens. After a rotation the key before is good until the last token that
/// it signed has expired; then [`TokenKeyring::retire`] forgets it.
pub struct TokenKeyring {
    issuer: String,
    catalogue: Arc<Catalogue>,
    sealing: SealingKey<purpose::TokenSigning>,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    shared: Arc<ArcSwap<TokenKeys>>,
    /// What is kept. Locked by whoever changes it, from reading the clock to sharing the keys.
    kept: Mutex<Kept>,
}

/// What the setting holds, as JSON: one value, so that a crash leaves the old or the new.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Kept {
    current: SealedSeed,
    previous: Option<Retiring>,
}

/// A seed as [`TokenSeed::seal`] stores it, in base64.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(transparent)]
struct SealedSeed(String);

/// The key before the current one.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Retiring {
    seed: SealedSeed,
    /// From then on no token that it signed is good.
    until: Timestamp,
}

/// Why the keys that sign tokens cannot be read or changed.
#[derive(Debug, thiserror::Error)]
pub enum TokenKeyringError {
    /// The catalogue cannot be read or written.
    #[error("the keys that sign tokens cannot be read or written")]
    Catalogue(#[from] CatalogueError),
    /// What is kept is no list of seeds.
    #[error("what is kept of the keys that sign tokens is damaged")]
    Malformed,
    /// A seed does not open.
    #[error("a seed of the keys that sign tokens is damaged")]
    Seed(#[from] OpenError),
}

/// What a rotation did.
pub(crate) struct RotatedTokenKeys {
    pub(crate) current: String,
    pub(crate) previous: String,
    pub(crate) previous_until: Timestamp,
}

impl TokenKeyring {
    /// The keys that are kept; the first one is made if none is. Blocks.
    ///
    /// # Errors
    ///
    /// [`TokenKeyringError`].
    pub fn open(parts: TokenKeyringParts) -> Result<Arc<Self>, TokenKeyringError> {
        let sealing = parts.platform_keys.sealing_key();
        let issuer = format!("urn:partywall:{}", parts.installation);
        let kept = match parts.catalogue.setting(SETTING)? {
            Some(text) => Kept::parse(&text)?,
            None => {
                let seed = TokenSeed::generate(parts.entropy.as_ref());
                let first = Kept {
                    current: SealedSeed::of(&seed, &sealing, parts.entropy.as_ref()),
                    previous: None,
                };
                // Another replica may have been faster.
                Kept::parse(&parts.catalogue.setting_or_insert(SETTING, &first.text())?)?
            }
        };
        let keys = kept.keys(&issuer, &sealing)?;
        let ring = Self {
            issuer,
            catalogue: parts.catalogue,
            sealing,
            clock: parts.clock,
            entropy: parts.entropy,
            shared: Arc::new(ArcSwap::from_pointee(keys)),
            kept: Mutex::new(kept),
        };
        ring.retire()?;
        Ok(Arc::new(ring))
    }

    /// Reads what is kept again: another replica may have rotated them. Blocks.
    ///
    /// # Errors
    ///
    /// [`TokenKeyringError`]; then the keys stay as they are.
    pub fn read_again(&self) -> Result<(), TokenKeyringError> {
        let mut kept = self.kept.lock();
        let Some(text) = self.catalogue.setting(SETTING)? else {
            return Ok(());
        };
        let read = Kept::parse(&text)?;
        self.shared
            .store(Arc::new(read.keys(&self.issuer, &self.sealing)?));
        *kept = read;
        Ok(())
    }

    /// The keys as they are at any time: for all who sign, verify or publish them.
    pub fn shared(&self) -> Arc<ArcSwap<TokenKeys>> {
        Arc::clone(&self.shared)
    }

    /// Forgets the key before the current one, if no token that it signed is good any more.
    /// Blocks.
    ///
    /// # Errors
    ///
    /// [`TokenKeyringError`]; then it is not forgotten.
    pub fn retire(&self) -> Result<(), TokenKeyringError> {
        let mut kept = self.kept.lock();
        if kept.previous.is_none() || kept.overlap(self.clock.now()).is_some() {
            return Ok(());
        }
        let next = Kept {
            current: kept.current.clone(),
            previous: None,
        };
        self.take_over(&mut kept, next)
    }

    /// Until when the key before the current one is needed, if it still is.
    pub(crate) fn overlap(&self) -> Option<Timestamp> {
        self.kept.lock().overlap(self.clock.now())
    }

    /// Signs with a new key from now on. Whoever calls this has asked [`TokenKeyring::overlap`]:
    /// the key before the current one is forgotten. Blocks.
    pub(crate) fn rotate(&self) -> Result<RotatedTokenKeys, TokenKeyringError> {
        let mut kept = self.kept.lock();
        let previous = self.shared.load().current_id().to_owned();
        let seed = TokenSeed::generate(self.entropy.as_ref());
        let previous_until = self.clock.now().plus(OVERLAP);
        let next = Kept {
            current: SealedSeed::of(&seed, &self.sealing, self.entropy.as_ref()),
            previous: Some(Retiring {
                seed: kept.current.clone(),
                until: previous_until,
            }),
        };
        self.take_over(&mut kept, next)?;
        Ok(RotatedTokenKeys {
            current: self.shared.load().current_id().to_owned(),
            previous,
            previous_until,
        })
    }

    /// Durable first, so that no token is signed with a key that a crash would lose.
    fn take_over(&self, kept: &mut Kept, next: Kept) -> Result<(), TokenKeyringError> {
        let keys = next.keys(&self.issuer, &self.sealing)?;
        self.catalogue.put_setting(SETTING, &next.text())?;
        *kept = next;
        self.shared.store(Arc::new(keys));
        Ok(())
    }
}

impl fmt::Debug for TokenKeyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TokenKeyring({:?})", self.shared.load())
    }
}

impl Kept {
    fn parse(text: &[u8]) -> Result<Self, TokenKeyringError> {
        serde_json::from_slice(text).map_err(|_| TokenKeyringError::Malformed)
    }

    fn text(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("it is plain data")
    }

    fn overlap(&self, now: Timestamp) -> Option<Timestamp> {
        let until = self.previous.as_ref()?.until;
        (until > now).then_some(until)
    }

    fn keys(
        &self,
        issuer: &str,
        sealing: &SealingKey<purpose::TokenSigning>,
    ) -> Result<TokenKeys, TokenKeyringError> {
        let current = self.current.open(sealing)?;
        Ok(match &self.previous {
            Some(previous) => {
                TokenKeys::new(issuer, &previous.seed.open(sealing)?).rotated(&current)
            }
            None => TokenKeys::new(issuer, &current),
        })
    }
}

impl SealedSeed {
    fn of(
        seed: &TokenSeed,
        sealing: &SealingKey<purpose::TokenSigning>,
        entropy: &dyn Entropy,
    ) -> Self {
        Self(STANDARD.encode(seed.seal(sealing, entropy)))
    }

    fn open(
        &self,
        sealing: &SealingKey<purpose::TokenSigning>,
    ) -> Result<TokenSeed, TokenKeyringError> {
        let sealed = STANDARD.decode(&self.0);
        let sealed = sealed.map_err(|_| TokenKeyringError::Malformed)?;
        Ok(TokenSeed::open(sealing, &sealed)?)
    }
}
