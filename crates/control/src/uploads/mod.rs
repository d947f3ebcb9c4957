//! Uploaded adapters: received as they arrive, looked through, and put where engines read them.
//!
//! Engines read plain files, so that these are the one thing of a tenant's that rests unencrypted.
//! Each upload has a folder of its own with a name that nobody guesses; nothing refers to it until it
//! is whole and found sound. Only weights in safetensors and their configuration are kept: no file
//! that runs code when it is read ever reaches an engine.

mod tar;
mod weights;

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use base::{Disk, DiskFile, Entropy, TenantId};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use parking_lot::Mutex;
use ring::digest::{Context, SHA256};
use tenancy::catalogue::{AdapterSource, AdapterSpec};
use tokio::sync::mpsc;

use crate::error::ApiError;
use tar::{Piece, TarError, TarReader};
use weights::NotAnAdapter;

const WEIGHTS: &str = "adapter_model.safetensors";
const CONFIG: &str = "adapter_config.json";
/// What trainers put beside an adapter, and engines do not need: read and left out.
const LEFT_OUT: [&str; 10] = [
    "README.md",
    "added_tokens.json",
    "chat_template.jinja",
    "merges.txt",
    "special_tokens_map.json",
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "training_args.json",
    "vocab.json",
];
/// Pieces of a body that wait for the disk: four of at most 64 KiB or so.
pub(crate) const PIECES_MAX: usize = 4;

/// What the folder of an upload is called while it arrives: nothing refers to it.
const INCOMING: &str = "incoming-";

/// Where uploaded adapters are.
#[derive(Debug, Clone)]
pub struct AdapterFolder {
    /// As this process sees it.
    folder: PathBuf,
    /// As engines see it.
    engine_folder: PathBuf,
    /// Writes the files.
    disk: Arc<dyn Disk>,
    /// Whose uploads arrive now: one of each tenant's, so that what a tenant can put on the disk is
    /// bounded by its adapters and one more.
    arriving: Arc<Mutex<BTreeSet<TenantId>>>,
}

/// An upload that is whole and sound.
#[derive(Debug)]
pub(crate) struct Received {
    /// The folder, as engines see it.
    pub(crate) location: String,
    /// The hash of its files, in hexadecimal.
    pub(crate) sha256: String,
    pub(crate) bytes: u64,
    pub(crate) rank: u32,
    place: Place,
}

/// The folder of one upload. Dropped, it goes, unless it is kept.
#[derive(Debug)]
struct Place {
    all: AdapterFolder,
    tenant: TenantId,
    /// Where it arrives.
    incoming: PathBuf,
    /// Where it is once it is whole.
    settled: PathBuf,
    is_kept: bool,
}

/// Why an upload is not taken.
#[derive(Debug, thiserror::Error)]
enum Refused {
    #[error(transparent)]
    Tar(#[from] TarError),
    #[error(transparent)]
    Content(#[from] NotAnAdapter),
    #[error(
        "`{0}` is not taken: send `{CONFIG}` and `{WEIGHTS}`; pickles (`.bin`, `.pt`) may run code"
    )]
    Name(String),
    #[error("`{0}` is there twice")]
    Twice(&'static str),
    #[error("`{0}` is missing")]
    Missing(&'static str),
    #[error(
        "the files are larger than the {0} bytes that the tier allows (`adapters.upload_bytes_max`)"
    )]
    TooLarge(u64),
    #[error("the disk failed")]
    Disk(#[from] io::Error),
}

impl From<Refused> for ApiError {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Disk(error) => Self::internal(error),
            refused => Self::invalid(refused.to_string()),
        }
    }
}

impl Received {
    /// Puts it where it is referred to. Blocks.
    ///
    /// # Errors
    ///
    /// If the disk fails.
    pub(crate) fn settle(&self) -> Result<(), ApiError> {
        fs::rename(&self.place.incoming, &self.place.settled).map_err(ApiError::internal)
    }

    /// It is referred to from now on.
    pub(crate) fn keep(mut self) {
        self.place.is_kept = true;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if !self.is_kept {
            remove(&self.incoming);
            remove(&self.settled);
        }
        self.all.arriving.lock().remove(&self.tenant);
    }
}

impl AdapterFolder {
    /// `folder` as this process sees it, and `engine_folder` as engines do.
    pub fn new(folder: PathBuf, engine_folder: PathBuf, disk: Arc<dyn Disk>) -> Self {
        Self {
            folder,
            engine_folder,
            disk,
            arriving: Arc::default(),
        }
    }

    /// Receives an archive of a tenant's. Blocks; what was written of an upload that is refused is
    /// removed again.
    ///
    /// # Errors
    ///
    /// What is wrong with it, and how to do it right.
    pub(crate) fn receive(
        &self,
        tenant: TenantId,
        bytes_max: u64,
        entropy: &dyn Entropy,
        pieces: mpsc::Receiver<Bytes>,
    ) -> Result<Received, ApiError> {
        let mut token = [0; 32];
        entropy.fill(&mut token);
        let token = URL_SAFE_NO_PAD.encode(token);
        let place = self.place(tenant, &token)?;
        let receiving = Receiving::new(&*self.disk, &place.incoming, bytes_max);
        let (sha256, bytes, rank) = receiving.run(pieces)?;
        let location = self.engine_folder.join(tenant.to_string()).join(&token);
        Ok(Received {
            location: location.display().to_string(),
            sha256,
            bytes,
            rank,
            place,
        })
    }

    /// A folder for one upload; what a crash left of an earlier one goes.
    fn place(&self, tenant: TenantId, token: &str) -> Result<Place, ApiError> {
        if !self.arriving.lock().insert(tenant) {
            return Err(ApiError::conflict(
                "another upload of this tenant is under way: try again when it has ended",
            ));
        }
        let own = self.folder_of(tenant);
        let place = Place {
            all: self.clone(),
            tenant,
            incoming: own.join(format!("{INCOMING}{token}")),
            settled: own.join(token),
            is_kept: false,
        };
        for (name, path) in entries(&own) {
            if name.starts_with(INCOMING) {
                remove(&path);
            }
        }
        fs::create_dir_all(&place.incoming).map_err(ApiError::internal)?;
        Ok(place)
    }

    /// Whether the files of an adapter are there, if it has any of ours.
    pub(crate) fn has(&self, tenant: TenantId, adapter: &AdapterSpec) -> bool {
        let AdapterSource::Uploaded(uploaded) = &adapter.source else {
            return true;
        };
        let token = Path::new(&*uploaded.location).file_name();
        token.is_some_and(|token| self.folder_of(tenant).join(token).is_dir())
    }

    /// Removes the tenant's uploads but for those at these locations, and for what arrives.
    pub(crate) fn keep_only(&self, tenant: TenantId, locations: &[&str]) {
        for (name, path) in entries(&self.folder_of(tenant)) {
            let is_at = |location: &&str| Path::new(location).file_name() == Some(name.as_ref());
            if !name.starts_with(INCOMING) && !locations.iter().any(is_at) {
                remove(&path);
            }
        }
    }

    /// Removes all of a tenant's uploads.
    pub(crate) fn forget(&self, tenant: TenantId) {
        remove(&self.folder_of(tenant));
    }

    fn folder_of(&self, tenant: TenantId) -> PathBuf {
        self.folder.join(tenant.to_string())
    }
}

/// What is in a folder, by name; nothing if there is none.
fn entries(folder: &Path) -> Vec<(String, PathBuf)> {
    let all = fs::read_dir(folder).into_iter().flatten().flatten();
    all.filter_map(|entry| Some((entry.file_name().into_string().ok()?, entry.path())))
        .collect()
}

fn remove(folder: &Path) {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            tracing::error!(%error, folder = %folder.display(), "uploaded files could not be removed");
        }
        _ => {}
    }
}

/// One upload on its way to the disk.
struct Receiving<'a> {
    disk: &'a dyn Disk,
    folder: &'a Path,
    bytes_max: u64,
    /// All that arrived, archive and all.
    arrived: u64,
    kept: u64,
    hash: Context,
    config: Option<Vec<u8>>,
    weights_bytes: Option<u64>,
    now: Now,
}

/// The file that arrives now.
enum Now {
    None,
    Config(Vec<u8>),
    Weights(Box<dyn DiskFile>),
    LeftOut,
}

impl<'a> Receiving<'a> {
    fn new(disk: &'a dyn Disk, folder: &'a Path, bytes_max: u64) -> Self {
        Self {
            disk,
            folder,
            bytes_max,
            arrived: 0,
            kept: 0,
            hash: Context::new(&SHA256),
            config: None,
            weights_bytes: None,
            now: Now::None,
        }
    }

    /// All of it: its hash, its length and its rank.
    fn run(mut self, mut pieces: mpsc::Receiver<Bytes>) -> Result<(String, u64, u32), Refused> {
        let mut reader = TarReader::new();
        while let Some(piece) = pieces.blocking_recv() {
            self.arrived += piece.len() as u64;
            if self.arrived > self.bytes_max {
                return Err(Refused::TooLarge(self.bytes_max));
            }
            let mut bytes = &piece[..];
            while let Some(piece) = reader.next(&mut bytes)? {
                self.take(piece)?;
            }
        }
        reader.finish()?;
        let config = self.config.as_ref().ok_or(Refused::Missing(CONFIG))?;
        let rank = weights::rank_of(config)?;
        self.check_weights()?;
        self.disk.replace(&self.folder.join(CONFIG), config)?;
        let hash = self.hash.finish();
        let hash = hash.as_ref().iter().map(|byte| format!("{byte:02x}"));
        Ok((hash.collect(), self.kept, rank))
    }

    fn take(&mut self, piece: Piece<'_>) -> Result<(), Refused> {
        match piece {
            Piece::Begin(name, bytes) => {
                self.now = self.begin(&name, bytes)?;
                // Names and lengths too: no two lists of files have one hash.
                if !matches!(self.now, Now::LeftOut) {
                    self.hash.update(name.as_bytes());
                    self.hash.update(&[0]);
                    self.hash.update(&bytes.to_be_bytes());
                    self.kept += bytes;
                }
            }
            Piece::Bytes(bytes) => {
                match &mut self.now {
                    Now::Config(config) => config.extend_from_slice(bytes),
                    Now::Weights(file) => file.append(bytes)?,
                    Now::LeftOut | Now::None => return Ok(()),
                }
                self.hash.update(bytes);
            }
            Piece::End => match std::mem::replace(&mut self.now, Now::None) {
                Now::Config(config) => self.config = Some(config),
                Now::Weights(mut file) => file.sync()?,
                Now::LeftOut | Now::None => {}
            },
        }
        Ok(())
    }

    fn begin(&mut self, name: &str, bytes: u64) -> Result<Now, Refused> {
        match name {
            CONFIG if self.config.is_some() => Err(Refused::Twice(CONFIG)),
            CONFIG if bytes > weights::CONFIG_BYTES_MAX => {
                Err(NotAnAdapter::Config("is larger than a megabyte").into())
            }
            CONFIG => Ok(Now::Config(Vec::new())),
            WEIGHTS if self.weights_bytes.is_some() => Err(Refused::Twice(WEIGHTS)),
            WEIGHTS => {
                self.weights_bytes = Some(bytes);
                Ok(Now::Weights(
                    self.disk.open_append(&self.folder.join(WEIGHTS))?,
                ))
            }
            // A Mac's archiver puts a shadow beside each file.
            name if name.starts_with("._") || LEFT_OUT.contains(&name) => Ok(Now::LeftOut),
            name => Err(Refused::Name(name.to_owned())),
        }
    }

    fn check_weights(&self) -> Result<(), Refused> {
        let bytes = self.weights_bytes.ok_or(Refused::Missing(WEIGHTS))?;
        let path = self.folder.join(WEIGHTS);
        let first = self.disk.read_part(&path, 0, 8)?;
        let length = weights::header_bytes(&first, bytes)?;
        let header = self
            .disk
            .read_part(&path, 8, usize::try_from(length).unwrap_or(0))?;
        Ok(weights::check_weights(&header, bytes)?)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use base::{SeededEntropy, SystemDisk};

    pub(crate) use super::tar::tests::{archive, entry};
    use super::weights::tests::weights;
    use super::*;

    const ACME: TenantId = TenantId::from_bits(1);
    const CONFIGURATION: &[u8] = br#"{"peft_type":"LORA","r":8}"#;

    /// The archive of an adapter of rank 8.
    pub(crate) fn adapter() -> Vec<u8> {
        let weights = weights();
        archive(&[
            ("./README.md", b"hi"),
            (CONFIG, CONFIGURATION),
            (WEIGHTS, &weights),
        ])
    }

    fn receive(folder: &AdapterFolder, tar: &[u8], bytes_max: u64) -> Result<Received, ApiError> {
        let (sender, receiver) = mpsc::channel(64);
        for piece in tar.chunks(1_000) {
            sender.try_send(Bytes::copy_from_slice(piece)).unwrap();
        }
        drop(sender);
        folder.receive(
            ACME,
            bytes_max,
            &SeededEntropy::new(tar.len() as u64),
            receiver,
        )
    }

    fn place() -> (tempfile::TempDir, AdapterFolder) {
        let place = tempfile::tempdir().unwrap();
        let disk = Arc::new(SystemDisk);
        let folder = AdapterFolder::new(place.path().to_owned(), "/srv/adapters".into(), disk);
        (place, folder)
    }

    fn left(folder: &AdapterFolder) -> usize {
        fs::read_dir(folder.folder_of(ACME)).map_or(0, Iterator::count)
    }

    #[test]
    fn a_sound_upload_is_where_engines_read_it() {
        let (_place, folder) = place();
        let received = receive(&folder, &adapter(), 1 << 20).unwrap();
        assert_eq!((received.rank, received.sha256.len()), (8, 64));
        let prefix = format!("/srv/adapters/{ACME}/");
        assert_eq!(received.location.strip_prefix(&prefix).unwrap().len(), 43);
        let at = received.place.settled.clone();
        assert!(!at.exists(), "nobody refers to it yet");
        received.settle().unwrap();
        assert_eq!(fs::read(at.join(WEIGHTS)).unwrap(), weights());
        assert_eq!(fs::read(at.join(CONFIG)).unwrap(), CONFIGURATION);
        assert_eq!(fs::read_dir(&at).unwrap().count(), 2);
        // One at a time, and it is over once it is kept or dropped.
        let refused = receive(&folder, &adapter(), 1 << 20).unwrap_err();
        assert!(refused.to_string().contains("under way"), "{refused}");
        let (sha256, location) = (received.sha256.clone(), received.location.clone());
        received.keep();
        fs::create_dir(folder.folder_of(ACME).join("incoming-crashed")).unwrap();
        let again = receive(&folder, &[adapter(), vec![0; 512]].concat(), 1 << 20).unwrap();
        assert_eq!(again.sha256, sha256);
        assert_eq!(left(&folder), 2, "what a crash left is gone");
        folder.keep_only(ACME, &[&location]);
        again.settle().unwrap();
        folder.keep_only(ACME, &[&again.location]);
        assert!(!at.exists() && again.place.settled.exists());
        drop(again);
        assert_eq!(left(&folder), 0, "it was not kept");
        folder.forget(ACME);
        assert_eq!(left(&folder), 0);
    }

    #[test]
    fn what_is_refused_leaves_nothing_behind() {
        let (_place, folder) = place();
        let weights = weights();
        let pickle = archive(&[(CONFIG, CONFIGURATION), ("adapter_model.bin", b"\x80\x02")]);
        let disguised = archive(&[(CONFIG, CONFIGURATION), (WEIGHTS, b"\x80\x02}q\x00.")]);
        let outside = archive(&[
            (CONFIG, CONFIGURATION),
            ("../adapter_model.safetensors", &weights),
        ]);
        let twice = archive(&[(WEIGHTS, &weights), (WEIGHTS, &weights)]);
        for (tar, sentence) in [
            (pickle, "pickles"),
            (disguised, "no safetensors file"),
            (outside, "is not taken"),
            (twice, "is there twice"),
            (
                archive(&[(WEIGHTS, &weights)]),
                "`adapter_config.json` is missing",
            ),
            (
                archive(&[(CONFIG, CONFIGURATION)]),
                "`adapter_model.safetensors` is missing",
            ),
            (adapter()[..1_200].to_vec(), "ended in the middle"),
            (b"hello".repeat(200), "no tar archive"),
        ] {
            let refused = receive(&folder, &tar, 1 << 20).unwrap_err().to_string();
            assert!(refused.contains(sentence), "{sentence}: {refused}");
        }
        let refused = receive(&folder, &adapter(), 1_000).unwrap_err().to_string();
        assert!(refused.contains("larger than the 1000 bytes"), "{refused}");
        assert_eq!(left(&folder), 0);
    }
}
