//! A disk in memory, which can be full, fail, lose power and go bad.

use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;

use super::{Disk, DiskFile};

/// 512 bytes: the smallest piece that any disk writes wholly or not at all.
const SECTOR_BYTES: usize = 512;

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
    /// The length that survives a crash; beyond it nothing is certain.
    synced_len: usize,
    /// What stood below `synced_len`, from `overwritten_start` on, before it was overwritten and
    /// not synced.
    overwritten: Vec<u8>,
    overwritten_start: usize,
}

#[derive(Debug)]
struct MemoryFile {
    disk: MemoryDisk,
    path: PathBuf,
    /// Where the next append begins.
    end: usize,
}

impl MemoryDisk {
    /// An empty disk without a limit.
    pub fn new() -> Self {
        Self::default()
    }

    /// Cuts power: of every file what was synced stays, and of what was written since, in the
    /// order of places, as many bytes as `kept_of(unsynced bytes)` says. Files never synced go if
    /// nothing of them is kept.
    pub fn crash(&self, mut kept_of: impl FnMut(usize) -> usize) {
        self.state.lock().files.retain(|_, content| {
            let kept = kept_of(content.unsynced());
            content.keep_first(kept);
            !content.bytes.is_empty()
        });
    }

    /// Cuts power: of every file what was synced stays, and of the sectors that were written
    /// since, in any order, those for which `survives()`. Files never synced go if nothing of them
    /// is kept.
    pub fn crash_in_sectors(&self, mut survives: impl FnMut() -> bool) {
        self.state.lock().files.retain(|_, content| {
            content.keep_sectors(&mut survives);
            !content.bytes.is_empty()
        });
    }

    /// From now on the disk holds `bytes` at most; `None` lifts the limit. Holding more already,
    /// it refuses also what is written over something, as a disk does that copies on write.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.state.lock().capacity_bytes = bytes;
    }

    /// From now on syncs and cuts fail, or work again. What is written then is as uncertain as what
    /// a crash catches before its sync.
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

impl MemoryContent {
    /// Writes `bytes` at `start`, which is in the file or at its end.
    fn write(&mut self, start: usize, bytes: &[u8]) {
        let inside = bytes.len().min(self.bytes.len() - start);
        self.remember(start..(start + inside).min(self.synced_len));
        self.bytes[start..start + inside].copy_from_slice(&bytes[..inside]);
        self.bytes.extend_from_slice(&bytes[inside..]);
    }

    /// Keeps what stands in `range`, unless an earlier state of it is kept.
    fn remember(&mut self, range: Range<usize>) {
        if range.is_empty() {
            return;
        }
        if self.overwritten.is_empty() {
            self.overwritten_start = range.start;
        }
        let kept = self.overwritten_range();
        if range.start < kept.start {
            let earlier = self.bytes[range.start..kept.start].iter().copied();
            drop(self.overwritten.splice(0..0, earlier));
            self.overwritten_start = range.start;
        }
        if range.end > kept.end {
            self.overwritten
                .extend_from_slice(&self.bytes[kept.end..range.end]);
        }
    }

    fn overwritten_range(&self) -> Range<usize> {
        self.overwritten_start..self.overwritten_start + self.overwritten.len()
    }

    /// Puts back what stood in `range` at the last sync, as far as it was overwritten.
    fn put_back(&mut self, range: Range<usize>) {
        let kept = self.overwritten_range();
        let range = range.start.max(kept.start)..range.end.min(kept.end);
        if !range.is_empty() {
            let before = &self.overwritten[range.start - kept.start..range.end - kept.start];
            self.bytes[range].copy_from_slice(before);
        }
    }

    /// A cut is durable at once: nothing relies on its being undone.
    fn truncate(&mut self, len: usize) {
        self.bytes.truncate(len);
        self.synced_len = self.synced_len.min(self.bytes.len());
        let left = self.bytes.len().saturating_sub(self.overwritten_start);
        self.overwritten.truncate(left);
    }

    fn sync(&mut self) {
        self.synced_len = self.bytes.len();
        self.overwritten.clear();
    }

    /// How many bytes were written since the last sync.
    fn unsynced(&self) -> usize {
        self.overwritten.len() + (self.bytes.len() - self.synced_len)
    }

    fn keep_first(&mut self, kept: usize) {
        let tail_kept = kept.saturating_sub(self.overwritten.len());
        self.put_back(self.overwritten_start.saturating_add(kept)..self.synced_len);
        self.bytes.truncate(self.synced_len + tail_kept);
        self.sync();
    }

    fn keep_sectors(&mut self, survives: &mut impl FnMut() -> bool) {
        let len = self.bytes.len();
        let written = match self.overwritten.is_empty() {
            true => self.synced_len..len,
            false if len == self.synced_len => self.overwritten_range(),
            false => self.overwritten_start..len,
        };
        let mut kept_len = self.synced_len;
        for sector in written.start / SECTOR_BYTES..written.end.div_ceil(SECTOR_BYTES) {
            let range = sector * SECTOR_BYTES..((sector + 1) * SECTOR_BYTES).min(len);
            if survives() {
                kept_len = kept_len.max(range.end);
                continue;
            }
            self.put_back(range.clone());
            let tail = range.start.max(self.synced_len).min(range.end)..range.end;
            self.bytes[tail].fill(0);
        }
        self.bytes.truncate(kept_len);
        self.sync();
    }
}

impl Disk for MemoryDisk {
    fn open_append(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let mut state = self.state.lock();
        let content = state.files.entry(path.to_owned()).or_default();
        Ok(Box::new(MemoryFile {
            disk: self.clone(),
            path: path.to_owned(),
            end: content.bytes.len(),
        }))
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        self.read_part(path, 0, usize::MAX)
    }

    fn read_part(&self, path: &Path, offset: u64, len_max: usize) -> io::Result<Vec<u8>> {
        let state = self.state.lock();
        let content = state.files.get(path).ok_or(io::ErrorKind::NotFound)?;
        let bytes = &content.bytes;
        let start = usize::try_from(offset).map_or(bytes.len(), |start| start.min(bytes.len()));
        let end = start.saturating_add(len_max).min(bytes.len());
        Ok(bytes[start..end].to_vec())
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
            ..MemoryContent::default()
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

    /// Writes at `start` as much of `bytes` as the disk has room for. Returns how much that was.
    fn write(&self, start: usize, bytes: &[u8]) -> io::Result<usize> {
        let mut state = self.disk.state.lock();
        let room = match state.capacity_bytes {
            None => usize::MAX,
            Some(max) => match max.checked_sub(state.used_bytes()) {
                None => return Ok(0),
                Some(room) => room as usize,
            },
        };
        let content = state
            .files
            .get_mut(&self.path)
            .ok_or(io::ErrorKind::NotFound)?;
        let inside = content.bytes.len() - start;
        let fitting = inside.saturating_add(room).min(bytes.len());
        content.write(start, &bytes[..fitting]);
        Ok(fitting)
    }
}

fn whole(written: usize, len: usize) -> io::Result<()> {
    if written < len {
        return Err(io::ErrorKind::StorageFull.into());
    }
    Ok(())
}

impl DiskFile for MemoryFile {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        whole(self.write(self.end, bytes)?, bytes.len())?;
        self.end += bytes.len();
        Ok(())
    }

    fn reserve(&mut self, len: u64) -> io::Result<()> {
        let start = self.with(|content| content.bytes.len())?;
        let zeros = vec![0; (len as usize).saturating_sub(start)];
        whole(self.write(start, &zeros)?, zeros.len())
    }

    fn sync(&mut self) -> io::Result<()> {
        if self.disk.state.lock().sync_fails {
            return Err(io::Error::other("sync failed"));
        }
        self.with(MemoryContent::sync)
    }

    fn truncate(&mut self, len: u64) -> io::Result<()> {
        if self.disk.state.lock().sync_fails {
            return Err(io::Error::other("cut failed"));
        }
        self.with(|content| content.truncate(len as usize))?;
        self.end = self.end.min(len as usize);
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        self.with(|content| content.bytes.len() as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn synced(disk: &MemoryDisk, path: &Path, bytes: &[u8]) -> Box<dyn DiskFile> {
        let mut file = disk.open_append(path).expect("opens");
        file.append(bytes).expect("appends");
        file.sync().expect("syncs");
        file
    }

    #[test]
    fn a_crash_keeps_what_was_synced_and_a_prefix_of_the_rest() {
        let disk = MemoryDisk::new();
        let path = Path::new("journal/1");
        let mut file = synced(&disk, path, b"synced");
        file.append(b"torn").expect("appends");
        disk.crash(|unsynced| unsynced / 2);
        assert_eq!(disk.read(path).expect("reads"), b"syncedto");
    }

    #[test]
    fn what_is_appended_over_zeros_is_as_uncertain_as_what_is_appended_behind() {
        let path = Path::new("journal/1");
        for kept in 0..=6 {
            let disk = MemoryDisk::new();
            let mut file = synced(&disk, path, b"12");
            file.reserve(6).expect("reserves");
            file.sync().expect("syncs");
            file.append(b"345678").expect("appends");
            disk.crash(|unsynced| {
                assert_eq!(unsynced, 6);
                kept
            });
            let mut expected = b"12\0\0\0\0".to_vec();
            expected.resize(6.max(2 + kept), 0);
            expected[2..2 + kept].copy_from_slice(&b"345678"[..kept]);
            assert_eq!(disk.read(path).expect("reads"), expected);
        }
    }

    #[test]
    fn a_sector_survives_whole_or_not_at_all_and_in_any_order() {
        let path = Path::new("f");
        for survivors in 0_u32..16 {
            let disk = MemoryDisk::new();
            let mut file = synced(&disk, path, &[1; 700]);
            file.reserve(1_100).expect("reserves");
            file.sync().expect("syncs");
            // 700 to 1,100 over zeros in sectors 1 and 2; to 1,900 behind, in 2 and 3.
            file.append(&[2; 1_200]).expect("appends");
            let mut sector = 0;
            disk.crash_in_sectors(|| {
                sector += 1;
                survivors & (1 << sector) != 0
            });
            assert_eq!(sector, 3);
            let bytes = disk.read(path).expect("reads");
            let has = |sector: u32| survivors & (1 << sector) != 0;
            let len = [(3, 1_900), (2, 1_536)].into_iter().find(|end| has(end.0));
            assert_eq!(bytes.len(), len.map_or(1_100, |end| end.1));
            assert_eq!(bytes[..700], [1; 700]);
            for (place, byte) in bytes.iter().enumerate().skip(700) {
                let expected = if has((place / 512) as u32) { 2 } else { 0 };
                assert_eq!(*byte, expected, "{survivors:b} {place}");
            }
        }
    }

    #[test]
    fn a_full_disk_writes_what_fits_and_says_so() {
        let disk = MemoryDisk::new();
        disk.set_capacity(Some(4));
        let mut file = disk.open_append(Path::new("f")).expect("opens");
        let refused = file.append(b"too long").expect_err("full");
        assert_eq!(refused.kind(), io::ErrorKind::StorageFull);
        assert_eq!(file.len().expect("has a length"), 4);
        file.truncate(0).expect("cuts");
        file.reserve(4).expect("fits");
        assert!(file.reserve(5).is_err());
        file.append(b"fits").expect("there is room for it");
        assert_eq!(disk.read(Path::new("f")).expect("reads"), b"fits");
        file.truncate(0).expect("cuts");
        file.reserve(4).expect("fits");
        disk.set_capacity(Some(3));
        assert!(file.append(b"over").is_err());
        assert_eq!(disk.read(Path::new("f")).expect("reads"), [0; 4]);
    }
}
