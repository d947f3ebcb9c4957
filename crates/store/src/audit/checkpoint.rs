//! Signed checkpoints: C2SP `tlog-checkpoint` in a C2SP `signed-note`.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::digest::{SHA256, digest};
use ring::signature::{ED25519, UnparsedPublicKey};
use tenancy::AuditSigningKey;

use crate::merkle::Hash;

/// The algorithm byte of Ed25519 in a signed note.
const ED25519_ALGORITHM: u8 = 0x01;
/// An em dash and a space begin each signature.
const SIGNATURE_PREFIX: &str = "\u{2014} ";
/// 4 KiB: several times the longest checkpoint that we sign.
const NOTE_BYTES_MAX: usize = 4096;

/// A log's size and root at one time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// Which log: `partywall/<installation>/<tenant|platform>`.
    pub origin: String,
    /// How many entries it has.
    pub size: u64,
    /// The root over them.
    pub root: Hash,
}

/// Why a text is not a checkpoint that its key signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CheckpointError {
    /// Not the form of a signed checkpoint.
    #[error("this is not a signed checkpoint")]
    Malformed,
    /// Of another log.
    #[error("this checkpoint is another log's")]
    OtherLog,
    /// Not signed by this key.
    #[error("this checkpoint was not signed by the log's key, or was changed afterwards")]
    BadSignature,
}

impl Checkpoint {
    /// The text that is signed.
    fn body(&self) -> String {
        format!(
            "{}\n{}\n{}\n",
            self.origin,
            self.size,
            STANDARD.encode(self.root)
        )
    }

    /// The signed note.
    pub(super) fn sign(&self, key: &AuditSigningKey) -> String {
        let body = self.body();
        let public = AuditKey::new(&self.origin, key.public_key());
        let mut signature = public.id().to_vec();
        signature.extend_from_slice(&key.sign(body.as_bytes()));
        let encoded = STANDARD.encode(signature);
        format!("{body}\n{SIGNATURE_PREFIX}{} {encoded}\n", self.origin)
    }

    /// The checkpoint in `note`, if `key` signed it. Accepts one spelling of each: whatever
    /// differs by a byte is refused.
    ///
    /// # Errors
    ///
    /// [`CheckpointError`].
    pub fn verify(note: &str, key: &AuditKey) -> Result<Self, CheckpointError> {
        if note.len() > NOTE_BYTES_MAX {
            return Err(CheckpointError::Malformed);
        }
        let (body, signature) = note.split_once("\n\n").ok_or(CheckpointError::Malformed)?;
        let mut lines = body.split('\n');
        let mut line = || lines.next().ok_or(CheckpointError::Malformed);
        let (origin, size, root) = (line()?, line()?, line()?);
        if lines.next().is_some() {
            return Err(CheckpointError::Malformed);
        }
        if origin != key.name {
            return Err(CheckpointError::OtherLog);
        }
        let root = STANDARD
            .decode(root)
            .ok()
            .and_then(|root| root.try_into().ok());
        let checkpoint = Self {
            origin: origin.to_owned(),
            size: size.parse().map_err(|_| CheckpointError::Malformed)?,
            root: root.ok_or(CheckpointError::Malformed)?,
        };
        let signature = signature
            .strip_prefix(SIGNATURE_PREFIX)
            .and_then(|rest| rest.strip_prefix(origin))
            .and_then(|rest| rest.strip_prefix(' '))
            .and_then(|rest| rest.strip_suffix('\n'))
            .and_then(|encoded| STANDARD.decode(encoded).ok())
            .ok_or(CheckpointError::Malformed)?;
        let signature = signature
            .strip_prefix(&key.id())
            .ok_or(CheckpointError::BadSignature)?;
        let signed = checkpoint.body();
        if signed.len() != body.len() + 1 || !signed.starts_with(body) {
            return Err(CheckpointError::Malformed);
        }
        UnparsedPublicKey::new(&ED25519, key.public)
            .verify(signed.as_bytes(), signature)
            .map_err(|_| CheckpointError::BadSignature)?;
        Ok(checkpoint)
    }
}

/// A log's public key, in the form of a signed note's verifier key:
/// `<name>+<key id>+<base64 of algorithm and key>`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditKey {
    name: String,
    public: [u8; 32],
}

impl AuditKey {
    /// The key of the log `origin`.
    pub fn new(origin: &str, public: [u8; 32]) -> Self {
        Self {
            name: origin.to_owned(),
            public,
        }
    }

    /// The log's origin.
    pub fn origin(&self) -> &str {
        &self.name
    }

    fn id(&self) -> [u8; 4] {
        let mut named = self.name.clone().into_bytes();
        named.push(b'\n');
        named.push(ED25519_ALGORITHM);
        named.extend_from_slice(&self.public);
        let mut id = [0; 4];
        id.copy_from_slice(&digest(&SHA256, &named).as_ref()[..4]);
        id
    }
}

impl fmt::Display for AuditKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut key = vec![ED25519_ALGORITHM];
        key.extend_from_slice(&self.public);
        write!(
            f,
            "{}+{:08x}+{}",
            self.name,
            u32::from_be_bytes(self.id()),
            STANDARD.encode(key)
        )
    }
}

/// The text is not a verifier key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a verifier key is `<name>+<key id>+<base64>`, as in the `.pub` file of an export")]
pub struct ParseAuditKeyError;

impl FromStr for AuditKey {
    type Err = ParseAuditKeyError;

    fn from_str(text: &str) -> Result<Self, ParseAuditKeyError> {
        // The base64 may hold a `+` of its own; neither of the others can.
        let mut parts = text.trim_end().splitn(3, '+');
        let mut part = || parts.next().ok_or(ParseAuditKeyError);
        let (name, _id, encoded) = (part()?, part()?, part()?);
        let bytes = STANDARD.decode(encoded).map_err(|_| ParseAuditKeyError)?;
        let public = bytes
            .strip_prefix(&[ED25519_ALGORITHM])
            .and_then(|public| public.try_into().ok())
            .ok_or(ParseAuditKeyError)?;
        let key = Self::new(name, public);
        // The id is a checksum over all of it.
        if key.to_string() == text.trim_end() {
            Ok(key)
        } else {
            Err(ParseAuditKeyError)
        }
    }
}
