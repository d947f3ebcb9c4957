//! Rows as bytes: of a table's name, how many rows of how many values, and the values, each with
//! its kind.

use crate::database::OwnedValue;
use crate::stores::copying::Table;

use super::BackupError;

const INT: u8 = 1;
const TEXT: u8 = 2;
const BYTES: u8 = 3;
const NOTHING: u8 = 4;

/// Begins a chunk of rows of `table`.
pub(super) fn begin(table: &Table, to: &mut Vec<u8>) {
    to.clear();
    to.push(table.name.len() as u8);
    to.extend_from_slice(table.name.as_bytes());
}

/// Appends a row.
pub(super) fn write(row: &[OwnedValue], to: &mut Vec<u8>) {
    to.push(row.len() as u8);
    for value in row {
        match value {
            OwnedValue::Int(number) => {
                to.push(INT);
                to.extend_from_slice(&number.to_be_bytes());
            }
            OwnedValue::Text(text) => part(TEXT, text.as_bytes(), to),
            OwnedValue::Bytes(bytes) | OwnedValue::Sealed(_, bytes) => part(BYTES, bytes, to),
            OwnedValue::Bool(value) => {
                to.push(INT);
                to.extend_from_slice(&i64::from(*value).to_be_bytes());
            }
            OwnedValue::Nothing => to.push(NOTHING),
        }
    }
}

fn part(kind: u8, bytes: &[u8], to: &mut Vec<u8>) {
    to.push(kind);
    to.extend_from_slice(&(bytes.len() as u32).to_be_bytes());
    to.extend_from_slice(bytes);
}

/// The rows of a chunk, and the table that they are of.
pub(super) struct Rows<'c> {
    rest: &'c [u8],
}

impl<'c> Rows<'c> {
    pub(super) fn read(chunk: &'c [u8]) -> Result<(&'c str, Self), BackupError> {
        let mut rows = Self { rest: chunk };
        let length = usize::from(rows.byte()?);
        let name = std::str::from_utf8(rows.take(length)?).map_err(|_| BackupError::Damaged)?;
        Ok((name, rows))
    }

    /// The next row, as `table` has them; none at the end.
    pub(super) fn next(&mut self, table: &Table) -> Result<Option<Vec<OwnedValue>>, BackupError> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let count = usize::from(self.byte()?);
        let values = (0..count).map(|_| self.value());
        let values: Vec<_> = values.collect::<Result<_, _>>()?;
        table.typed(values).ok_or(BackupError::Damaged).map(Some)
    }

    fn value(&mut self) -> Result<OwnedValue, BackupError> {
        Ok(match self.byte()? {
            INT => {
                let number = self.take(8)?.try_into().expect("eight bytes were taken");
                OwnedValue::Int(i64::from_be_bytes(number))
            }
            TEXT => {
                let text = String::from_utf8(self.part()?.to_vec());
                OwnedValue::Text(text.map_err(|_| BackupError::Damaged)?)
            }
            BYTES => OwnedValue::Bytes(self.part()?.to_vec()),
            NOTHING => OwnedValue::Nothing,
            _ => return Err(BackupError::Damaged),
        })
    }

    fn part(&mut self) -> Result<&'c [u8], BackupError> {
        let length = self.take(4)?.try_into().expect("four bytes were taken");
        self.take(u32::from_be_bytes(length) as usize)
    }

    fn byte(&mut self) -> Result<u8, BackupError> {
        Ok(self.take(1)?[0])
    }

    fn take(&mut self, count: usize) -> Result<&'c [u8], BackupError> {
        let (taken, rest) = self
            .rest
            .split_at_checked(count)
            .ok_or(BackupError::Damaged)?;
        self.rest = rest;
        Ok(taken)
    }
}
