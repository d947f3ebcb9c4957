//! The disk comes through [`Disk`], so that a simulation can fill, tear and lose it.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;

/// Append-only files in folders: all that the journal needs of a disk.
pub trait Disk: Send + Sync + fmt::Debug {
    /// Opens `path` for appending, and makes it if it is not there.
    ///
    /// # Errors
    ///
    /// Whatever the disk reports.
    fn open_append(&self, path: &Path) -> io::Result<Box<dyn DiskFile>>;

    /// The whole of `path`.
    ///
    /// # Errors
    ///
    /// `NotFound`, and whatever the disk reports.
    fn read(&self, path: &Path) -> io::Result<Vec<u8>>;

    /// Up to `len_max` bytes of `path` from `offset` on; fewer only where the file ends.
    ///
    /// # Errors
    ///
    /// `NotFound`, and whatever the disk reports.
    fn read_part(&self, path: &Path, offset: u64, len_max: usize) -> io::Result<Vec<u8>> {
        let bytes = self.read(path)?;
        let start = usize::try_from(offset).map_or(bytes.len(), |start| start.min(bytes.len()));
        let end = start.saturating_add(len_max).min(bytes.len());
        Ok(bytes[start..end].to_vec())
    }

    /// Replaces `path` by `bytes`, at once and durably: a crash leaves the old or the new.
    ///
    /// # Errors
    ///
    /// Whatever the disk reports.
    fn replace(&self, path: &Path, bytes: &[u8]) -> io::Result<()>;

    /// The names in `folder`, sorted; none if there is no such folder.
    ///
    /// # Errors
    ///
    /// Whatever the disk reports.
    fn list(&self, folder: &Path) -> io::Result<Vec<String>>;

    /// Removes `path`, durably.
    ///
    /// # Errors
    ///
    /// `NotFound`, and whatever the disk reports.
    fn remove(&self, path: &Path) -> io::Result<()>;
}

/// A file open for appending.
pub trait DiskFile: Send + fmt::Debug {
    /// Writes at the end. Durable only after [`DiskFile::sync`]. On an error a part may have
    /// been written: [`DiskFile::truncate`] to the last known length before the next append.
    ///
    /// # Errors
    ///
    /// `StorageFull`, and whatever the disk reports.
    fn append(&mut self, bytes: &[u8]) -> io::Result<()>;

    /// Makes all that was appended, and the file's own name, survive a crash.
    ///
    /// # Errors
    ///
    /// Whatever the disk reports. After an error nothing since the last success is certain.
    fn sync(&mut self) -> io::Result<()>;

    /// Cuts the file to `len` bytes.
    ///
    /// # Errors
    ///
    /// Whatever the disk reports.
    fn truncate(&mut self, len: u64) -> io::Result<()>;

    /// Bytes in the file.
    ///
    /// # Errors
    ///
    /// Whatever the disk reports.
    fn len(&self) -> io::Result<u64>;

    /// Whether the file has no byte.
    ///
    /// # Errors
    ///
    /// Whatever the disk reports.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }
}

/// The machine's disk. Files that it makes are for their owner alone.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemDisk;

#[derive(Debug)]
struct SystemFile {
    file: std::fs::File,
    /// The folder that holds the name, until the first sync has made the name durable.
    unsynced_folder: Option<PathBuf>,
}

/// Read and written by the owner; nothing for anybody else.
const PRIVATE: u32 = 0o600;

/// Makes the names in `folder` survive a crash.
fn sync_folder(folder: &Path) -> io::Result<()> {
    std::fs::File::open(folder)?.sync_all()
}

fn parent(path: &Path) -> &Path {
    path.parent()
        .filter(|parent| !parent.as_os_str().is_empty())
        .unwrap_or(Path::new("."))
}

impl Disk for SystemDisk {
    fn open_append(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let is_new = !path.exists();
        let file = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .mode(PRIVATE)
            .open(path)?;
        let unsynced_folder = is_new.then(|| parent(path).to_owned());
        Ok(Box::new(SystemFile {
            file,
            unsynced_folder,
        }))
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        std::fs::File::open(path)?.read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    fn read_part(&self, path: &Path, offset: u64, len_max: usize) -> io::Result<Vec<u8>> {
        let mut file = std::fs::File::open(path)?;
        file.seek(io::SeekFrom::Start(offset))?;
        let mut bytes = Vec::new();
        file.take(len_max as u64).read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    fn replace(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let mut draft_name = path.file_name().unwrap_or_default().to_owned();
        draft_name.push(".draft");
        let draft = path.with_file_name(draft_name);
        let mut options = std::fs::OpenOptions::new();
        let mut file = options
            .create(true)
            .truncate(true)
            .write(true)
            .mode(PRIVATE)
            .open(&draft)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        std::fs::rename(&draft, path)?;
        sync_folder(parent(path))
    }

    fn list(&self, folder: &Path) -> io::Result<Vec<String>> {
        let entries = match std::fs::read_dir(folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries?,
        };
        let mut names = entries
            .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
            .collect::<io::Result<Vec<_>>>()?;
        names.sort();
        Ok(names)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        std::fs::remove_file(path)?;
        sync_folder(parent(path))
    }
}

impl DiskFile for SystemFile {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all(bytes)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.file.sync_data()?;
        if let Some(folder) = &self.unsynced_folder {
            sync_folder(folder)?;
            self.unsynced_folder = None;
        }
        Ok(())
    }

    fn truncate(&mut self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }
}

/// A disk in memory that can crash: what was not synced may be lost, or torn in the middle.
/// Clones share one disk.
#[derive(Debug, Clone, Default)]
pub struct MemoryDisk {
    state: Arc<Mutex<MemoryState>>,
}

#[derive(Debug, Default)]
struct MemoryState {
    files: BTreeMap<PathBuf, MemoryContent>,
    capacity_bytes: Option<u64>,
    sync_fails: bool,
}

#[derive(Debug, Clone, Default)]
struct MemoryContent {
    bytes: Vec<u8>,
    synced_len: usize,
}

#[derive(Debug)]
struct MemoryFile {
    disk: MemoryDisk,
    path: PathBuf,
}

impl MemoryDisk {
    /// An empty disk without a limit.
    pub fn new() -> Self {
        Self::default()
    }

    /// Cuts power: of every file what was synced stays, and of the rest a prefix whose length
    /// `kept_of(unsynced length)` says. Files never synced go if nothing of them is kept.
    pub fn crash(&self, mut kept_of: impl FnMut(usize) -> usize) {
        let mut state = self.state.lock();
        state.files.retain(|_, content| {
            let unsynced = content.bytes.len() - content.synced_len;
            let kept = kept_of(unsynced).min(unsynced);
            content.bytes.truncate(content.synced_len + kept);
            content.synced_len = content.bytes.len();
            !content.bytes.is_empty()
        });
    }

    /// From now on the disk holds `bytes` at most; `None` lifts the limit.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.state.lock().capacity_bytes = bytes;
    }

    /// From now on syncs fail, or work again.
    pub fn set_sync_fails(&self, fails: bool) {
        self.state.lock().sync_fails = fails;
    }

    /// Changes one byte of a file, as a bad disk would.
    pub fn flip(&self, path: &Path, offset: usize) {
        if let Some(byte) = self
            .state
            .lock()
            .files
            .get_mut(path)
            .and_then(|content| content.bytes.get_mut(offset))
        {
            *byte ^= 0x40;
        }
    }
}

impl MemoryState {
    fn used_bytes(&self) -> u64 {
        self.files
            .values()
            .map(|content| content.bytes.len() as u64)
            .sum()
    }
}

impl Disk for MemoryDisk {
    fn open_append(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        self.state.lock().files.entry(path.to_owned()).or_default();
        Ok(Box::new(MemoryFile {
            disk: self.clone(),
            path: path.to_owned(),
        }))
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        let state = self.state.lock();
        state
            .files
            .get(path)
            .map(|content| content.bytes.clone())
            .ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn replace(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let mut state = self.state.lock();
        if state.sync_fails {
            return Err(io::Error::other("sync failed"));
        }
        if state
            .capacity_bytes
            .is_some_and(|max| state.used_bytes() + bytes.len() as u64 > max)
        {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let content = MemoryContent {
            bytes: bytes.to_vec(),
            synced_len: bytes.len(),
        };
        state.files.insert(path.to_owned(), content);
        Ok(())
    }

    fn list(&self, folder: &Path) -> io::Result<Vec<String>> {
        let state = self.state.lock();
        let inside = state
            .files
            .keys()
            .filter(|path| path.parent() == Some(folder));
        Ok(inside
            .filter_map(|path| Some(path.file_name()?.to_string_lossy().into_owned()))
            .collect())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let removed = self.state.lock().files.remove(path);
        removed
            .map(drop)
            .ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

impl MemoryFile {
    fn with<T>(&self, act: impl FnOnce(&mut MemoryContent) -> T) -> io::Result<T> {
        let mut state = self.disk.state.lock();
        state
            .files
            .get_mut(&self.path)
            .map(act)
            .ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

impl DiskFile for MemoryFile {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        let room = {
            let state = self.disk.state.lock();
            state
                .capacity_bytes
                .map(|max| max.saturating_sub(state.used_bytes()) as usize)
        };
        let fitting = room.unwrap_or(bytes.len()).min(bytes.len());
        self.with(|content| content.bytes.extend_from_slice(&bytes[..fitting]))?;
        if fitting < bytes.len() {
            Err(io::ErrorKind::StorageFull.into())
        } else {
            Ok(())
        }
    }

    fn sync(&mut self) -> io::Result<()> {
        if self.disk.state.lock().sync_fails {
            return Err(io::Error::other("sync failed"));
        }
        self.with(|content| content.synced_len = content.bytes.len())
    }

    fn truncate(&mut self, len: u64) -> io::Result<()> {
        self.with(|content| {
            content.bytes.truncate(len as usize);
            content.synced_len = content.synced_len.min(content.bytes.len());
        })
    }

    fn len(&self) -> io::Result<u64> {
        self.with(|content| content.bytes.len() as u64)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_crash_keeps_what_was_synced_and_a_prefix_of_the_rest() {
        let disk = MemoryDisk::new();
        let path = Path::new("journal/1");
        let mut file = disk.open_append(path).expect("opens");
        file.append(b"synced").expect("appends");
        file.sync().expect("syncs");
        file.append(b"torn").expect("appends");
        disk.crash(|unsynced| unsynced / 2);
        assert_eq!(disk.read(path).expect("reads"), b"syncedto");
    }

    #[test]
    fn a_full_disk_writes_what_fits_and_says_so() {
        let disk = MemoryDisk::new();
        disk.set_capacity(Some(4));
        let mut file = disk.open_append(Path::new("f")).expect("opens");
        let refused = file.append(b"too long").expect_err("full");
        assert_eq!(refused.kind(), io::ErrorKind::StorageFull);
        assert_eq!(file.len().expect("has a length"), 4);
    }

    #[test]
    fn the_machines_disk_does_the_same() {
        let folder = std::env::temp_dir().join(format!("partywall-disk-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a temporary folder");
        let path = folder.join("f");
        let disk = SystemDisk;
        disk.replace(&path, b"12").expect("replaces");
        let mut file = disk.open_append(&path).expect("opens");
        file.append(b"345").expect("appends");
        file.sync().expect("syncs");
        file.truncate(4).expect("cuts");
        disk.open_append(&folder.join("g")).expect("opens");
        for name in ["f", "g"] {
            let mode = std::fs::metadata(folder.join(name)).expect("is there");
            assert_eq!(mode.permissions().mode() & 0o777, PRIVATE, "{name}");
        }
        disk.remove(&folder.join("g")).expect("removes");
        assert_eq!(disk.read(&path).expect("reads"), b"1234");
        assert_eq!(disk.list(&folder).expect("lists"), ["f"]);
        disk.remove(&path).expect("removes");
        std::fs::remove_dir_all(&folder).expect("cleans up");
    }
}
