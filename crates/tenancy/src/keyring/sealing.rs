//! Sealing: AES-256-GCM under a key that belongs to one owner and one purpose.
//!
//! A sealed value is `version (1) ‖ generation (4) ‖ nonce (12) ‖ ciphertext ‖ tag (16)`: 33 bytes
//! more than the plaintext. Its associated data is the owner, the purpose, the generation and the
//! caller's context, each length-prefixed: a value moved to another tenant, another purpose or
//! another row does not open.

use std::fmt;
use std::marker::PhantomData;

use base::Entropy;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use zeroize::Zeroizing;

use super::{KeyOwner, derive};

/// What a sealing key is for. Each is an empty type that exists to tell keys apart.
pub mod purpose {
    /// Secrets in the catalogue that are neither credentials nor signing keys.
    pub enum Catalogue {}
    /// Copies of a tenant's store that are kept elsewhere.
    pub enum Backup {}
    /// Files and blobs.
    pub enum Blob {}
    /// Cached answers.
    pub enum Cache {}
    /// Credentials for upstreams.
    pub enum Credential {}
    /// Answers that are kept for idempotency keys.
    pub enum Idempotency {}
    /// Rows of a database that is not encrypted as a whole.
    pub enum Rows {}
    /// Seeds of the keys that sign tokens.
    pub enum TokenSigning {}
    /// Secrets that sign webhooks.
    pub enum WebhookSigning {}
}

/// A purpose, and the label that its key derives from.
pub trait Purpose: private::Sealed + 'static {
    /// Never changes: a changed label cannot open what the old one sealed.
    const LABEL: &'static str;
}

/// A purpose that a tenant's keys serve.
pub trait TenantPurpose: Purpose {}

/// A purpose that the platform's keys serve.
pub trait PlatformPurpose: Purpose {}

/// Seals and opens values of one owner for one purpose. Making one costs about a microsecond;
/// keep it where many values are sealed.
///
/// Nonces are random: seal at most 2³² values under one generation (NIST SP 800-38D, 8.3).
pub struct SealingKey<P> {
    owner: KeyOwner,
    current: Generation,
    previous: Option<Generation>,
    purpose: PhantomData<fn() -> P>,
}

struct Generation {
    number: u32,
    key: LessSafeKey,
}

const VERSION: u8 = 1;
/// Version, generation, nonce.
const HEADER_BYTES: usize = 1 + 4 + NONCE_LEN;

impl<P: Purpose> SealingKey<P> {
    pub(super) fn new(owner: KeyOwner, generation: u32, secret: &[u8; 32]) -> Self {
        Self {
            owner,
            current: Generation::derive::<P>(owner, generation, secret),
            previous: None,
            purpose: PhantomData,
        }
    }

    /// The same, and it opens what the previous generation sealed.
    pub(super) fn with_previous(mut self, generation: u32, secret: &[u8; 32]) -> Self {
        self.previous = Some(Generation::derive::<P>(self.owner, generation, secret));
        self
    }

    /// Encrypts `plaintext` so that only this owner, purpose and `context` (a table and a row, a
    /// file's name, …) open it.
    pub fn seal(&self, entropy: &dyn Entropy, context: &[&[u8]], plaintext: &[u8]) -> Vec<u8> {
        let mut nonce = [0; NONCE_LEN];
        entropy.fill(&mut nonce);
        let tag_bytes = AES_256_GCM.tag_len();
        let mut sealed = Vec::with_capacity(HEADER_BYTES + plaintext.len() + tag_bytes);
        sealed.push(VERSION);
        sealed.extend_from_slice(&self.current.number.to_be_bytes());
        sealed.extend_from_slice(&nonce);
        sealed.extend_from_slice(plaintext);
        let aad = Aad::from(self.associated_data(self.current.number, context));
        let tag = self
            .current
            .key
            .seal_in_place_separate_tag(
                Nonce::assume_unique_for_key(nonce),
                aad,
                &mut sealed[HEADER_BYTES..],
            )
            .expect("a value in memory is below AES-GCM's limit of 64 GiB");
        sealed.extend_from_slice(tag.as_ref());
        sealed
    }

    /// Decrypts what [`SealingKey::seal`] made with the same `context`, under this generation or
    /// the previous one. The result is wiped when dropped; take it out with [`std::mem::take`]
    /// where it is to live on.
    ///
    /// # Errors
    ///
    /// [`OpenError`] for anything else.
    pub fn open(&self, context: &[&[u8]], sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, OpenError> {
        let number = generation_of(sealed)?;
        let generation = [Some(&self.current), self.previous.as_ref()]
            .into_iter()
            .flatten()
            .find(|generation| generation.number == number)
            .ok_or(OpenError::UnknownGeneration { generation: number })?;
        let (header, ciphertext) = sealed.split_at(HEADER_BYTES);
        let nonce = Nonce::try_assume_unique_for_key(&header[5..])
            .expect("the header ends in a whole nonce");
        let aad = Aad::from(self.associated_data(number, context));
        let mut plaintext = Zeroizing::new(ciphertext.to_vec());
        let plaintext_bytes = generation
            .key
            .open_in_place(nonce, aad, &mut plaintext)
            .map_err(|_| OpenError::NotAuthentic)?
            .len();
        plaintext.truncate(plaintext_bytes);
        Ok(plaintext)
    }

    /// Whether `sealed` was sealed under an older generation: a rotation seals it anew.
    ///
    /// # Errors
    ///
    /// [`OpenError::Malformed`] if it was never sealed.
    pub fn is_outdated(&self, sealed: &[u8]) -> Result<bool, OpenError> {
        Ok(generation_of(sealed)? != self.current.number)
    }

    fn associated_data(&self, generation: u32, context: &[&[u8]]) -> Vec<u8> {
        let mut data = b"partywall/sealed/v1".to_vec();
        data.extend_from_slice(&self.owner.to_bytes());
        data.extend_from_slice(&generation.to_be_bytes());
        for part in [P::LABEL.as_bytes()].iter().chain(context) {
            data.extend_from_slice(&derive::length_prefix(part));
            data.extend_from_slice(part);
        }
        data
    }
}

impl Generation {
    fn derive<P: Purpose>(owner: KeyOwner, number: u32, secret: &[u8; 32]) -> Self {
        let prk = derive::extract(secret);
        let key = derive::purpose_key(&prk, owner, number, P::LABEL);
        let key = UnboundKey::new(&AES_256_GCM, key.as_slice()).expect("AES-256 takes 32 bytes");
        Self {
            number,
            key: LessSafeKey::new(key),
        }
    }
}

fn generation_of(sealed: &[u8]) -> Result<u32, OpenError> {
    match sealed {
        [VERSION, a, b, c, d, rest @ ..] if rest.len() >= NONCE_LEN + AES_256_GCM.tag_len() => {
            Ok(u32::from_be_bytes([*a, *b, *c, *d]))
        }
        _ => Err(OpenError::Malformed),
    }
}

impl<P: Purpose> fmt::Debug for SealingKey<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SealingKey({}, {:?})", P::LABEL, self.owner)
    }
}

/// Why a sealed value did not open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// Too short, or of a version that this program does not know.
    #[error("this is not a sealed value of a known version")]
    Malformed,
    /// Its key has been rotated away, or was never this owner's.
    #[error("the value is sealed under generation {generation} of the key, which is not at hand")]
    UnknownGeneration {
        /// The generation it names.
        generation: u32,
    },
    /// It was changed, moved, or sealed by or for somebody else.
    #[error("the value is damaged, or was sealed by or for something else")]
    NotAuthentic,
}

mod private {
    pub trait Sealed {}
}

impl private::Sealed for purpose::Catalogue {}
impl private::Sealed for purpose::Backup {}
impl private::Sealed for purpose::Blob {}
impl private::Sealed for purpose::Cache {}
impl private::Sealed for purpose::Credential {}
impl private::Sealed for purpose::Idempotency {}
impl private::Sealed for purpose::Rows {}
impl private::Sealed for purpose::TokenSigning {}
impl private::Sealed for purpose::WebhookSigning {}

impl Purpose for purpose::Catalogue {
    const LABEL: &'static str = "catalogue";
}
impl Purpose for purpose::Backup {
    const LABEL: &'static str = "backup";
}
impl Purpose for purpose::Blob {
    const LABEL: &'static str = "blob";
}
impl Purpose for purpose::Cache {
    const LABEL: &'static str = "cache";
}
impl Purpose for purpose::Credential {
    const LABEL: &'static str = "credential";
}
impl Purpose for purpose::Idempotency {
    const LABEL: &'static str = "idempotency";
}
impl Purpose for purpose::Rows {
    const LABEL: &'static str = "rows";
}
impl Purpose for purpose::TokenSigning {
    const LABEL: &'static str = "token-signing";
}
impl Purpose for purpose::WebhookSigning {
    const LABEL: &'static str = "webhook-signing";
}

impl TenantPurpose for purpose::Catalogue {}
impl TenantPurpose for purpose::Backup {}
impl TenantPurpose for purpose::Blob {}
impl TenantPurpose for purpose::Cache {}
impl TenantPurpose for purpose::Credential {}
impl TenantPurpose for purpose::Idempotency {}
impl TenantPurpose for purpose::Rows {}
impl TenantPurpose for purpose::WebhookSigning {}

impl PlatformPurpose for purpose::Catalogue {}
impl PlatformPurpose for purpose::Credential {}
impl PlatformPurpose for purpose::Rows {}
impl PlatformPurpose for purpose::TokenSigning {}
impl PlatformPurpose for purpose::WebhookSigning {}
