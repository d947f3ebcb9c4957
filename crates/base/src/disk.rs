//! The disk comes through [`Disk`], so that a simulation can fill, tear and lose it.

mod memory;

use std::fmt;
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

pub use memory::MemoryDisk;

/// Append-only files in folders: all that the journal needs of a disk.
pub trait Disk: Send + Sync + fmt::Debug {
    /// Opens `path` for appending at its end, and makes it if it is not there.
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
    /// Writes behind what was appended before, over zeros that [`DiskFile::reserve`] put there.
    /// Durable only after [`DiskFile::sync`]. On an error a part may have been written:
    /// [`DiskFile::truncate`] to the last known length before the next append.
    ///
    /// # Errors
    ///
    /// `StorageFull`, and whatever the disk reports.
    fn append(&mut self, bytes: &[u8]) -> io::Result<()>;

    /// Writes zeros behind what was appended, until the file has `len` bytes: appending over them
    /// changes nothing but their content, which makes a sync cheaper than one of a file that
    /// grows. Durable only after [`DiskFile::sync`]. On an error as [`DiskFile::append`].
    ///
    /// A disk that gains nothing by it does nothing.
    ///
    /// # Errors
    ///
    /// `StorageFull`, and whatever the disk reports.
    fn reserve(&mut self, len: u64) -> io::Result<()> {
        let _ = len;
        Ok(())
    }

    /// Makes all that was appended, and the file's own name, survive a crash.
    ///
    /// # Errors
    ///
    /// Whatever the disk reports. After an error nothing since the last success is certain.
    fn sync(&mut self) -> io::Result<()>;

    /// Cuts the file to `len` bytes: what was reserved goes too, and the next append begins there
    /// at the latest.
    ///
    /// # Errors
    ///
    /// Whatever the disk reports.
    fn truncate(&mut self, len: u64) -> io::Result<()>;

    /// Bytes in the file, with those that are reserved.
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
    /// Where the next append begins.
    end: u64,
    /// The folder that holds the name, until the first sync has made the name durable.
    unsynced_folder: Option<PathBuf>,
}

/// Read and written by the owner; nothing for anybody else.
const PRIVATE: u32 = 0o600;
/// 64 KiB: few system calls for a megabyte, and no memory of its own.
static ZEROS: [u8; 64 * 1024] = [0; 64 * 1024];

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
            .truncate(false)
            .write(true)
            .mode(PRIVATE)
            .open(path)?;
        let end = file.metadata()?.len();
        let unsynced_folder = is_new.then(|| parent(path).to_owned());
        Ok(Box::new(SystemFile {
            file,
            end,
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
        let left = file.metadata()?.len().saturating_sub(offset);
        file.seek(io::SeekFrom::Start(offset))?;
        let len = left.min(len_max as u64);
        // Room at once: a journal is read by parts, and what grows is copied many times.
        let mut bytes = Vec::with_capacity(usize::try_from(len).map_err(io::Error::other)?);
        file.take(len).read_to_end(&mut bytes)?;
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
        self.file.write_all_at(bytes, self.end)?;
        self.end += bytes.len() as u64;
        Ok(())
    }

    fn reserve(&mut self, len: u64) -> io::Result<()> {
        let mut at = self.file.metadata()?.len();
        while at < len {
            let part = (len - at).min(ZEROS.len() as u64);
            self.file.write_all_at(&ZEROS[..part as usize], at)?;
            at += part;
        }
        Ok(())
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
        self.file.set_len(len)?;
        self.end = self.end.min(len);
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

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
        file.reserve(150_000).expect("reserves");
        file.append(b"67").expect("appends");
        assert_eq!(file.len().expect("has a length"), 150_000);
        let start = disk.read_part(&path, 0, 10).expect("reads");
        assert_eq!(start, b"1234567\0\0\0");
        file.truncate(4).expect("cuts");
        file.append(b"x").expect("appends");
        assert_eq!(disk.read(&path).expect("reads"), b"1234x");
        assert_eq!(disk.read_part(&path, 3, 10).expect("reads"), b"4x");
        assert_eq!(disk.read_part(&path, 6, 10).expect("reads"), b"");
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
