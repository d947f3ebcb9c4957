//! The root key of an installation without a KMS: 32 bytes in a file that its owner alone may
//! read, or in an environment variable.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use aes_gcm_siv::aead::{Aead, Payload};
use aes_gcm_siv::{Aes256GcmSiv, KeyInit, Nonce};
use base::Entropy;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::hmac;
use zeroize::Zeroizing;

use super::{KeyError, RootKey, RootKeyId, derive};
use crate::hex;

/// A root key that this process holds.
///
/// Wraps with AES-256-GCM-SIV (RFC 8452). The nonce is a MAC of what is wrapped, so that wrapping
/// needs no randomness, and a repeated nonce means a repeated message.
pub struct LocalRootKey {
    id: RootKeyId,
    secret: Zeroizing<[u8; 32]>,
    cipher: Aes256GcmSiv,
    nonces: hmac::Key,
}

/// 96 bits: AES-GCM-SIV's only nonce size.
const NONCE_BYTES: usize = 12;
/// 44 characters of base64 and a line's end; more is not a root key.
const FILE_BYTES_MAX: u64 = 64;

impl LocalRootKey {
    /// A new root key, in memory alone.
    pub fn generate(entropy: &dyn Entropy) -> Self {
        let mut secret = Zeroizing::new([0; 32]);
        entropy.fill(secret.as_mut_slice());
        Self::from_secret(secret)
    }

    /// Makes a new root key and the file that keeps it, mode 0600. The file appears whole or not
    /// at all, and never replaces one.
    ///
    /// # Errors
    ///
    /// [`RootKeyFileError::Exists`] if there is a file already; [`RootKeyFileError::Write`] if it
    /// cannot be made durable.
    pub fn create(path: &Path, entropy: &dyn Entropy) -> Result<Self, RootKeyFileError> {
        let key = Self::generate(entropy);
        let mut text = Zeroizing::new(STANDARD.encode(key.secret.as_slice()));
        text.push('\n');
        write_new(path, text.as_bytes(), entropy).map_err(|source| {
            let path = path.to_owned();
            if source.kind() == io::ErrorKind::AlreadyExists {
                RootKeyFileError::Exists { path }
            } else {
                RootKeyFileError::Write { path, source }
            }
        })?;
        Ok(key)
    }

    /// Reads the root key from the file at `path`.
    ///
    /// # Errors
    ///
    /// [`RootKeyFileError::Permissions`] if anybody but its owner may read or write the file;
    /// [`RootKeyFileError::Read`] or [`RootKeyFileError::Malformed`] if it holds no key.
    pub fn open(path: &Path) -> Result<Self, RootKeyFileError> {
        let read = |source| RootKeyFileError::Read {
            path: path.to_owned(),
            source,
        };
        // The mode is asked of the open file: the path could name another a moment later.
        let file = File::open(path).map_err(read)?;
        let mode = file.metadata().map_err(read)?.permissions().mode() & 0o777;
        if mode & 0o077 != 0 {
            return Err(RootKeyFileError::Permissions {
                path: path.to_owned(),
                mode,
            });
        }
        let mut text = Zeroizing::new(String::with_capacity(FILE_BYTES_MAX as usize + 1));
        file.take(FILE_BYTES_MAX + 1)
            .read_to_string(&mut text)
            .map_err(read)?;
        decode(&text).ok_or_else(|| RootKeyFileError::Malformed {
            path: path.to_owned(),
        })
    }

    /// The root key that an environment variable's value is: base64 of 32 bytes. The same text as
    /// in a file.
    ///
    /// # Errors
    ///
    /// [`RootKeyFileError::MalformedValue`] if it is something else.
    pub fn from_environment_value(value: &str) -> Result<Self, RootKeyFileError> {
        decode(value).ok_or(RootKeyFileError::MalformedValue)
    }

    fn from_secret(secret: Zeroizing<[u8; 32]>) -> Self {
        let prk = derive::extract(&secret);
        let label = |label: &str| derive::expand(&prk, &[b"partywall/root/v1/", label.as_bytes()]);
        let mut id = String::from("local/");
        hex::push(&mut id, &label("id")[..8]);
        Self {
            id: id.parse().expect("a prefix and 16 digits are an id"),
            cipher: Aes256GcmSiv::new((&*label("wrap")).into()),
            nonces: hmac::Key::new(hmac::HMAC_SHA256, label("nonce").as_slice()),
            secret,
        }
    }

    fn nonce(&self, aad: &[u8], key: &[u8; 32]) -> [u8; NONCE_BYTES] {
        let mut mac = hmac::Context::with_key(&self.nonces);
        mac.update(&derive::length_prefix(aad));
        mac.update(aad);
        mac.update(key);
        mac.sign().as_ref()[..NONCE_BYTES]
            .try_into()
            .expect("a tag is longer than a nonce")
    }
}

impl RootKey for LocalRootKey {
    fn id(&self) -> RootKeyId {
        self.id.clone()
    }

    fn wrap(&self, aad: &[u8], key: &[u8; 32]) -> Result<Vec<u8>, KeyError> {
        let nonce = self.nonce(aad, key);
        let sealed = self
            .cipher
            .encrypt(&Nonce::from(nonce), Payload { msg: key, aad })
            .expect("32 bytes are far below the cipher's limit");
        Ok([nonce.as_slice(), &sealed].concat())
    }

    fn unwrap(&self, aad: &[u8], wrapped: &[u8]) -> Result<Zeroizing<[u8; 32]>, KeyError> {
        let (nonce, msg) = wrapped
            .split_first_chunk::<NONCE_BYTES>()
            .ok_or(KeyError::NotAuthentic)?;
        let opened = self
            .cipher
            .decrypt(&Nonce::from(*nonce), Payload { msg, aad })
            .map(Zeroizing::new)
            .map_err(|_| KeyError::NotAuthentic)?;
        let key = opened
            .as_slice()
            .try_into()
            .map_err(|_| KeyError::NotAuthentic)?;
        Ok(Zeroizing::new(key))
    }
}

impl fmt::Debug for LocalRootKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LocalRootKey({})", self.id)
    }
}

/// Why there is no root key.
#[derive(Debug, thiserror::Error)]
pub enum RootKeyFileError {
    /// A file is there already; a root key is never overwritten.
    #[error("{} exists already: a root key is never overwritten", path.display())]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// Others may read it.
    #[error(
        "{} has mode {mode:04o}, so others on this machine may use the root key: run `chmod 600 {}`",
        path.display(), path.display()
    )]
    Permissions {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// It could not be read.
    #[error("cannot read the root key from {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It could not be written.
    #[error("cannot write the root key to {}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The file holds something else.
    #[error("{} does not hold a root key: expected one line, the base64 of 32 bytes", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
    },
    /// The environment variable holds something else.
    #[error("the root key's environment variable must be the base64 of 32 bytes")]
    MalformedValue,
}

fn decode(text: &str) -> Option<LocalRootKey> {
    let bytes = Zeroizing::new(STANDARD.decode(text.trim_end()).ok()?);
    let secret: [u8; 32] = bytes.as_slice().try_into().ok()?;
    Some(LocalRootKey::from_secret(Zeroizing::new(secret)))
}

/// Writes beside `path`, flushes, then links: a link fails if the name is taken, and a crash
/// leaves either no file or a whole one.
fn write_new(path: &Path, content: &[u8], entropy: &dyn Entropy) -> io::Result<()> {
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    let mut draft_name = path.file_name().unwrap_or_default().to_owned();
    // Random, so that the draft of an attempt that crashed is in nobody's way.
    draft_name.push(format!(".{:016x}.new", entropy.next_u64()));
    let draft = folder.join(draft_name);
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&draft)?;
    let written = file
        .write_all(content)
        .and_then(|()| file.sync_all())
        .and_then(|()| std::fs::hard_link(&draft, path));
    std::fs::remove_file(&draft)?;
    written?;
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use base::SeededEntropy;

    use super::*;

    #[test]
    fn a_created_key_is_private_and_opens_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("root.key");
        let made = LocalRootKey::create(&path, &SeededEntropy::new(1)).unwrap();
        let mode = std::fs::metadata(&path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600);
        let wrapped = made.wrap(b"context", &[5; 32]).unwrap();
        let opened = LocalRootKey::open(&path).unwrap();
        assert_eq!(opened.id(), made.id());
        assert_eq!(*opened.unwrap(b"context", &wrapped).unwrap(), [5; 32]);

        let text = std::fs::read_to_string(&path).unwrap();
        let named = LocalRootKey::from_environment_value(text.trim()).unwrap();
        assert_eq!(named.id(), made.id());
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_key_is_never_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("root.key");
        LocalRootKey::create(&path, &SeededEntropy::new(1)).unwrap();
        let before = std::fs::read(&path).unwrap();
        let error = LocalRootKey::create(&path, &SeededEntropy::new(2)).unwrap_err();
        assert!(matches!(error, RootKeyFileError::Exists { .. }));
        assert_eq!(std::fs::read(&path).unwrap(), before);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_folder_that_is_not_there_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("absent").join("root.key");
        let error = LocalRootKey::create(&path, &SeededEntropy::new(1)).unwrap_err();
        assert!(matches!(error, RootKeyFileError::Write { .. }));
        assert!(error.to_string().contains(&path.display().to_string()));
    }

    #[test]
    fn a_readable_key_is_refused_with_the_command_that_mends_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("root.key");
        LocalRootKey::create(&path, &SeededEntropy::new(1)).unwrap();
        for mode in [0o640, 0o604, 0o620, 0o666] {
            std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
            let error = LocalRootKey::open(&path).unwrap_err();
            let advice = format!("chmod 600 {}", path.display());
            assert!(error.to_string().contains(&advice), "{error}");
        }
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o400)).unwrap();
        assert!(LocalRootKey::open(&path).is_ok());
    }

    #[test]
    fn anything_else_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("root.key");
        let short = STANDARD.encode([1; 31]);
        let long = "A".repeat(200);
        for content in ["", "not base64!", &short, &long] {
            std::fs::write(&path, content).unwrap();
            std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).unwrap();
            let error = LocalRootKey::open(&path).unwrap_err();
            assert!(matches!(error, RootKeyFileError::Malformed { .. }));
            let error = LocalRootKey::from_environment_value(content).unwrap_err();
            assert!(matches!(error, RootKeyFileError::MalformedValue));
        }
        let error = LocalRootKey::open(&folder.path().join("absent")).unwrap_err();
        assert!(matches!(error, RootKeyFileError::Read { .. }));
    }

    #[test]
    fn wrapping_binds_the_context_and_notices_every_changed_byte() {
        let root = LocalRootKey::generate(&SeededEntropy::new(1));
        let wrapped = root.wrap(b"a", &[5; 32]).unwrap();
        assert!(root.unwrap(b"b", &wrapped).is_err());
        for place in 0..wrapped.len() {
            let mut changed = wrapped.clone();
            changed[place] ^= 1;
            assert!(root.unwrap(b"a", &changed).is_err(), "byte {place}");
            assert!(root.unwrap(b"a", &wrapped[..place]).is_err());
        }
        let other = LocalRootKey::generate(&SeededEntropy::new(2));
        assert_ne!(other.id(), root.id());
        assert!(other.unwrap(b"a", &wrapped).is_err());
    }
}
