//! A log as a file that anybody can verify who has the public key, without us and our software's
//! help: JSON lines, the signed head first, then each entry.

use std::fs;
use std::io::{self, BufRead, BufReader, BufWriter, Write as _};
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::checkpoint::{AuditKey, Checkpoint, CheckpointError};
use super::log::{AuditError, AuditLog};
use super::{AuditEntry, ENTRY_BYTES_MAX};
use crate::merkle::{Frontier, Hash};
use crate::page::Page;

/// The first line. It names what the file must hold, so that a file that was cut shows it.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct HeadLine {
    format: String,
    checkpoint: String,
}

/// Every other line.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct EntryLine<'a> {
    index: u64,
    #[serde(borrow)]
    entry: &'a RawValue,
}

const FORMAT: &str = "partywall-audit/1";
/// An entry's bytes, its index and the names around them; the head is shorter.
const LINE_BYTES_MAX: usize = ENTRY_BYTES_MAX + 1024;

/// Why a log was not exported.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The log is empty: nothing is signed.
    #[error("the audit log has no entry yet")]
    Empty,
    /// The log cannot be read, or was changed.
    #[error(transparent)]
    Log(#[from] AuditError),
    /// The file cannot be written.
    #[error("cannot write the export")]
    Disk(#[from] io::Error),
}

impl AuditLog<'_> {
    /// Writes the whole log to `path`, and the verifier key to `path` with `.pub` after it.
    /// Returns the head that is in it, which is worth keeping elsewhere as a witness.
    ///
    /// # Errors
    ///
    /// [`ExportError`].
    pub fn export(&mut self, path: &Path) -> Result<Checkpoint, ExportError> {
        let (checkpoint, head) = self.give_out_checkpoint()?.ok_or(ExportError::Empty)?;
        let mut options = fs::OpenOptions::new();
        let file = options.write(true).create(true).truncate(true).open(path)?;
        let mut writer = BufWriter::new(file);
        let head_line = HeadLine {
            format: FORMAT.to_owned(),
            checkpoint,
        };
        write_line(&mut writer, &head_line)?;
        let mut page = Page::first();
        loop {
            let entries = self.entries(page)?;
            for (index, entry) in entries.iter().filter(|(index, _)| *index < head.size) {
                let entry = RawValue::from_string(entry.clone()).map_err(io::Error::from)?;
                let line = EntryLine {
                    index: *index,
                    entry: &entry,
                };
                write_line(&mut writer, &line)?;
            }
            if entries.is_empty() {
                break;
            }
            page = page.next();
        }
        writer.flush()?;
        writer.get_ref().sync_all()?;
        let mut public = path.as_os_str().to_owned();
        public.push(".pub");
        fs::write(Path::new(&public), format!("{}\n", self.public_key()))?;
        Ok(head)
    }
}

fn write_line(writer: &mut impl io::Write, line: &impl Serialize) -> Result<(), io::Error> {
    serde_json::to_writer(&mut *writer, line)?;
    writer.write_all(b"\n")
}

/// Why an export does not hold.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// The file cannot be read.
    #[error("cannot read the export")]
    Disk(#[from] io::Error),
    /// A line is not as an export writes it.
    #[error("line {line} was changed: it is not as an export writes it")]
    BadLine {
        /// Which, from 1.
        line: u64,
    },
    /// The head is not the log's.
    #[error("the checkpoint in line 1 does not hold")]
    BadCheckpoint(#[from] CheckpointError),
    /// Entries are missing, or there are more than were signed.
    #[error("the log has {signed} entries and the file {found}: it was cut or extended")]
    OtherSize {
        /// How many were signed.
        signed: u64,
        /// How many are there.
        found: u64,
    },
    /// The entries are not those that were signed.
    #[error("an entry was changed: the entries do not give the root that was signed")]
    OtherRoot,
    /// The file is older than the witness.
    #[error("the log was rolled back: it has {found} entries, and had {witnessed} before")]
    RolledBack {
        /// How many the witness saw.
        witnessed: u64,
        /// How many are there.
        found: u64,
    },
    /// The file does not extend what the witness saw.
    #[error(
        "the log was rewritten: its first {witnessed} entries are not those that it had before"
    )]
    Forked {
        /// How many the witness saw.
        witnessed: u64,
    },
}

/// What an export that holds says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifiedExport {
    /// The head: keep it, and give it as the witness next time.
    pub head: Checkpoint,
    /// Whether an earlier checkpoint was given, which the log extends.
    pub extends_witness: bool,
}

/// Verifies an export with nothing but the log's public key; and, with a `witness` (a signed
/// checkpoint from earlier), that the log still begins with what it had then.
///
/// # Errors
///
/// [`VerifyError`]: what was changed.
pub fn verify_export(
    path: &Path,
    key: &AuditKey,
    witness: Option<&str>,
) -> Result<VerifiedExport, VerifyError> {
    let witness = witness
        .map(|note| Checkpoint::verify(note, key))
        .transpose()?;
    let mut lines = Lines::open(path)?;
    let head = read_head(&mut lines, key)?;
    let (size, root, witnessed_root) = read_entries(&mut lines, witness.as_ref())?;
    if size != head.size {
        return Err(VerifyError::OtherSize {
            signed: head.size,
            found: size,
        });
    }
    if root != head.root {
        return Err(VerifyError::OtherRoot);
    }
    if let Some(witness) = &witness {
        let witnessed = witness.size;
        if witnessed > size {
            return Err(VerifyError::RolledBack {
                witnessed,
                found: size,
            });
        }
        if witnessed_root != Some(witness.root) {
            return Err(VerifyError::Forked { witnessed });
        }
    }
    Ok(VerifiedExport {
        head,
        extends_witness: witness.is_some(),
    })
}

fn read_head(lines: &mut Lines, key: &AuditKey) -> Result<Checkpoint, VerifyError> {
    let bad = VerifyError::BadLine { line: 1 };
    let Some(text) = lines.next_line()? else {
        return Err(bad);
    };
    match serde_json::from_str::<HeadLine>(text) {
        Ok(line) if line.format == FORMAT && is_spelled_so(&line, text) => {
            Ok(Checkpoint::verify(&line.checkpoint, key)?)
        }
        _ => Err(bad),
    }
}

/// The size and root of the entries, and the root at the witness's size.
fn read_entries(
    lines: &mut Lines,
    witness: Option<&Checkpoint>,
) -> Result<(u64, Hash, Option<Hash>), VerifyError> {
    let mut tree = Frontier::default();
    let mut witnessed = None;
    loop {
        if witness.is_some_and(|witness| witness.size == tree.size()) {
            witnessed = Some(tree.root());
        }
        let Some(text) = lines.next_line()? else {
            return Ok((tree.size(), tree.root(), witnessed));
        };
        let bad = VerifyError::BadLine {
            line: tree.size() + 2,
        };
        let Ok(line) = serde_json::from_str::<EntryLine<'_>>(text) else {
            return Err(bad);
        };
        let entry = line.entry.get();
        let is_canonical = serde_json::from_str::<AuditEntry>(entry)
            .is_ok_and(|parsed| parsed.canonical_json() == entry);
        if line.index != tree.size() || !is_canonical || !is_spelled_so(&line, text) {
            return Err(bad);
        }
        tree.push(entry.as_bytes());
    }
}

/// Whether `text` is byte for byte what an export writes for `line`.
fn is_spelled_so(line: &impl Serialize, text: &str) -> bool {
    serde_json::to_string(line).is_ok_and(|spelled| spelled == text)
}

/// Lines that all end in a newline and are bounded.
struct Lines {
    reader: BufReader<fs::File>,
    line: Vec<u8>,
    number: u64,
}

impl Lines {
    fn open(path: &Path) -> io::Result<Self> {
        Ok(Self {
            reader: BufReader::new(fs::File::open(path)?),
            line: Vec::new(),
            number: 0,
        })
    }

    fn next_line(&mut self) -> Result<Option<&str>, VerifyError> {
        self.line.clear();
        self.number += 1;
        let mut bounded = io::Read::take(&mut self.reader, LINE_BYTES_MAX as u64);
        let read = bounded.read_until(b'\n', &mut self.line)?;
        if read == 0 {
            return Ok(None);
        }
        let bad = VerifyError::BadLine { line: self.number };
        match self.line.strip_suffix(b"\n").map(str::from_utf8) {
            Some(Ok(text)) => Ok(Some(text)),
            _ => Err(bad),
        }
    }
}
