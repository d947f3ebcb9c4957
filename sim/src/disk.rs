//! The disk of a run: its power can go in the middle of a write, and it can lie.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use base::{Disk, DiskFile, MemoryDisk};

/// A disk in memory, with faults beyond those that [`MemoryDisk`] has. Clones share one disk.
#[derive(Debug, Clone)]
pub(crate) struct SimDisk {
    pub(crate) memory: MemoryDisk,
    power: Arc<AtomicU8>,
    /// Says that files are synced, and syncs none.
    is_lying: bool,
}

/// When the power goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Power {
    /// It does not.
    On,
    /// Between a write and its sync, and before a file is replaced.
    CutBefore,
    /// Between a write and its sync, and after a file was replaced.
    CutAfter,
}

#[derive(Debug)]
struct SimFile {
    file: Box<dyn DiskFile>,
    disk: SimDisk,
}

impl SimDisk {
    pub(crate) fn honest() -> Self {
        Self {
            memory: MemoryDisk::new(),
            power: Arc::new(AtomicU8::new(Power::On as u8)),
            is_lying: false,
        }
    }

    pub(crate) fn lying() -> Self {
        Self {
            is_lying: true,
            ..Self::honest()
        }
    }

    pub(crate) fn set_power(&self, power: Power) {
        self.power.store(power as u8, Ordering::SeqCst);
    }

    fn has(&self, power: Power) -> bool {
        self.power.load(Ordering::SeqCst) == power as u8
    }

    fn needs_power(&self) -> io::Result<()> {
        if self.has(Power::On) {
            Ok(())
        } else {
            Err(io::Error::other("the power is gone"))
        }
    }
}

impl Disk for SimDisk {
    fn open_append(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        Ok(Box::new(SimFile {
            file: self.memory.open_append(path)?,
            disk: self.clone(),
        }))
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        self.memory.read(path)
    }

    fn replace(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        if self.has(Power::CutBefore) {
            return self.needs_power();
        }
        self.memory.replace(path, bytes)?;
        self.needs_power()
    }

    fn list(&self, folder: &Path) -> io::Result<Vec<String>> {
        self.memory.list(folder)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.needs_power()?;
        self.memory.remove(path)
    }
}

impl DiskFile for SimFile {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.append(bytes)
    }

    fn reserve(&mut self, len: u64) -> io::Result<()> {
        self.file.reserve(len)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.disk.needs_power()?;
        if self.disk.is_lying {
            return Ok(());
        }
        self.file.sync()
    }

    fn truncate(&mut self, len: u64) -> io::Result<()> {
        self.disk.needs_power()?;
        self.file.truncate(len)
    }

    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }
}
