//! What is changed in a store while it is copied: statements with their parameters, in their order.
//! One process remembers a file's in memory. A server's are kept beside the store itself, sealed,
//! in the transaction that changes it: so they are there whichever process has made them.

use std::borrow::Cow;

use super::{Column, Database, DatabaseError, OwnedValue, Sql, Tables, Value, sql};
use crate::postgres::OwnerSession;

/// 64 MiB of changes that are to be done again. A tenant that changes more while it is copied is
/// moved at a quieter time.
pub(crate) const CHANGES_BYTES_MAX: i64 = 64 << 20;

/// The column that holds them.
pub(crate) const CHANGES: Column = "move_changes.changes";

/// A statement that changed something, to be done again elsewhere. Where it comes from another
/// process it may be of another version of the program: hence both texts.
pub(crate) struct Logged {
    own: Cow<'static, str>,
    shared: Cow<'static, str>,
    pub(super) parameters: Vec<OwnedValue>,
}

/// The changes of one transaction, or of all since a copy began, in their order.
#[derive(Default)]
pub(crate) struct ChangeLog {
    pub(crate) changes: Vec<Logged>,
    /// About how much memory they take.
    pub(crate) bytes: usize,
}

/// A place in a log.
#[derive(Clone, Copy, Default)]
pub(super) struct ChangeMark {
    changes: usize,
    bytes: usize,
}

impl Logged {
    /// As such tables take it.
    pub(super) fn text(&self, tables: Tables) -> &str {
        match tables {
            Tables::Own => &self.own,
            Tables::Shared => &self.shared,
        }
    }
}

impl ChangeLog {
    pub(super) fn push(&mut self, sql: &'static Sql, parameters: &[Value<'_>]) {
        let parameters: Vec<_> = parameters.iter().map(OwnedValue::of).collect();
        let values: usize = parameters.iter().map(OwnedValue::bytes).sum();
        self.bytes += size_of::<Logged>() + values;
        self.changes.push(Logged {
            own: Cow::Borrowed(sql.text(Tables::Own)),
            shared: Cow::Borrowed(sql.text(Tables::Shared)),
            parameters,
        });
    }

    pub(super) fn mark(&self) -> ChangeMark {
        ChangeMark {
            changes: self.changes.len(),
            bytes: self.bytes,
        }
    }

    pub(super) fn return_to(&mut self, mark: ChangeMark) {
        self.changes.truncate(mark.changes);
        self.bytes = mark.bytes;
    }

    /// Adds what happened after it.
    pub(crate) fn append(&mut self, mut later: Self) {
        self.changes.append(&mut later.changes);
        self.bytes += later.bytes;
    }

    /// As bytes.
    pub(super) fn encoded(&self) -> Vec<u8> {
        let mut to = Vec::with_capacity(self.bytes);
        for change in &self.changes {
            part(change.own.as_bytes(), &mut to);
            part(change.shared.as_bytes(), &mut to);
            to.extend_from_slice(&(change.parameters.len() as u32).to_be_bytes());
            for value in &change.parameters {
                encode(value, &mut to);
            }
        }
        to
    }

    /// What [`ChangeLog::encoded`] has made. `column` finds the name of a sealed one.
    pub(crate) fn decoded(
        bytes: &[u8],
        column: impl Fn(&str) -> Option<Column>,
    ) -> Result<Self, DatabaseError> {
        let mut from = Decoder { rest: bytes };
        let mut log = Self::default();
        while !from.rest.is_empty() {
            let own = from.text()?;
            let shared = from.text()?;
            let count = from.length()?;
            let mut parameters = Vec::new();
            for _ in 0..count {
                parameters.push(from.value(&column)?);
            }
            log.bytes += parameters.iter().map(OwnedValue::bytes).sum::<usize>();
            log.changes.push(Logged {
                own: Cow::Owned(own),
                shared: Cow::Owned(shared),
                parameters,
            });
        }
        Ok(log)
    }
}

impl Database<'_> {
    /// Puts what the open transaction has changed beside the store, where somebody copies it. Where
    /// it is too much the copy is given up: it is not waited for, and nothing grows without bound.
    pub(super) fn keep_changes(&self, session: &OwnerSession<'_>) -> Result<(), DatabaseError> {
        let Some(logged) = session.logged() else {
            return Ok(());
        };
        let log = std::mem::take(&mut *self.log.borrow_mut());
        if log.changes.is_empty() {
            return Ok(());
        }
        let bytes = log.encoded();
        let total = logged.saturating_add(i64::try_from(bytes.len()).unwrap_or(i64::MAX));
        if total > CHANGES_BYTES_MAX {
            session.execute(
                sql!(
                    "UPDATE provisioned SET state = 0, mover = '', logged = 0
                     WHERE [tenant = $T AND ]single = 1"
                ),
                &[],
            )?;
            session.execute(sql!("DELETE FROM move_changes[ WHERE tenant = $T]"), &[])?;
            return Ok(());
        }
        session.execute(
            sql!(
                "INSERT INTO move_changes ([tenant, ]position, changes)
                 SELECT [$T, ]coalesce(max(position), 0) + 1, $1
                 FROM move_changes[ WHERE tenant = $T]"
            ),
            &[Value::Sealed(CHANGES, &bytes)],
        )?;
        session.execute(
            sql!("UPDATE provisioned SET logged = $1 WHERE [tenant = $T AND ]single = 1"),
            &[Value::Int(total)],
        )?;
        Ok(())
    }
}

const FALSE: u8 = 0;
const TRUE: u8 = 1;
const INT: u8 = 2;
const TEXT: u8 = 3;
const BYTES: u8 = 4;
const SEALED: u8 = 5;
const NOTHING: u8 = 6;

/// What a log holds that nobody has written: a bug.
const BROKEN: DatabaseError = DatabaseError::BadColumn { column: 1 };

fn part(bytes: &[u8], to: &mut Vec<u8>) {
    to.extend_from_slice(&(bytes.len() as u32).to_be_bytes());
    to.extend_from_slice(bytes);
}

fn encode(value: &OwnedValue, to: &mut Vec<u8>) {
    match value {
        OwnedValue::Bool(false) => to.push(FALSE),
        OwnedValue::Bool(true) => to.push(TRUE),
        OwnedValue::Int(number) => {
            to.push(INT);
            to.extend_from_slice(&number.to_be_bytes());
        }
        OwnedValue::Text(text) => {
            to.push(TEXT);
            part(text.as_bytes(), to);
        }
        OwnedValue::Bytes(bytes) => {
            to.push(BYTES);
            part(bytes, to);
        }
        OwnedValue::Sealed(column, bytes) => {
            to.push(SEALED);
            part(column.as_bytes(), to);
            part(bytes, to);
        }
        OwnedValue::Nothing => to.push(NOTHING),
    }
}

struct Decoder<'b> {
    rest: &'b [u8],
}

impl<'b> Decoder<'b> {
    fn value(
        &mut self,
        column: impl Fn(&str) -> Option<Column>,
    ) -> Result<OwnedValue, DatabaseError> {
        Ok(match self.take(1)?[0] {
            FALSE => OwnedValue::Bool(false),
            TRUE => OwnedValue::Bool(true),
            INT => {
                let number = self.take(8)?.try_into().expect("eight bytes were taken");
                OwnedValue::Int(i64::from_be_bytes(number))
            }
            TEXT => OwnedValue::Text(self.text()?),
            BYTES => OwnedValue::Bytes(self.part()?.to_vec()),
            SEALED => {
                let name = self.text()?;
                let column = column(&name).ok_or(BROKEN)?;
                OwnedValue::Sealed(column, self.part()?.to_vec())
            }
            NOTHING => OwnedValue::Nothing,
            _ => return Err(BROKEN),
        })
    }

    fn text(&mut self) -> Result<String, DatabaseError> {
        String::from_utf8(self.part()?.to_vec()).map_err(|_| BROKEN)
    }

    fn part(&mut self) -> Result<&'b [u8], DatabaseError> {
        let length = self.length()?;
        self.take(length)
    }

    fn length(&mut self) -> Result<usize, DatabaseError> {
        let length = self.take(4)?.try_into().expect("four bytes were taken");
        Ok(u32::from_be_bytes(length) as usize)
    }

    fn take(&mut self, count: usize) -> Result<&'b [u8], DatabaseError> {
        let (taken, rest) = self.rest.split_at_checked(count).ok_or(BROKEN)?;
        self.rest = rest;
        Ok(taken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COLUMN: Column = "t.b";

    fn log() -> ChangeLog {
        let mut log = ChangeLog::default();
        let statement: &Sql = sql!("UPDATE t SET a = $1[ WHERE tenant = $T]");
        log.push(
            statement,
            &[
                Value::Bool(true),
                Value::Int(-7),
                Value::Text("ä"),
                Value::Bytes(&[0, 255]),
                Value::Sealed(COLUMN, b"secret"),
                Value::Nothing,
            ],
        );
        log.push(sql!("DELETE FROM t[ WHERE tenant = $T]"), &[]);
        log
    }

    #[test]
    fn a_log_comes_back_from_its_bytes() {
        let bytes = log().encoded();
        let known = |name: &str| (name == COLUMN).then_some(COLUMN);
        let back = ChangeLog::decoded(&bytes, known).unwrap();
        assert_eq!(back.encoded(), bytes);
        assert_eq!(back.changes[0].text(Tables::Own), "UPDATE t SET a = $1");
        assert_eq!(
            back.changes[0].text(Tables::Shared),
            "UPDATE t SET a = $2 WHERE tenant = $1::text::uuid"
        );
    }

    #[test]
    fn bytes_that_are_no_log_are_refused() {
        let bytes = log().encoded();
        let known = |name: &str| (name == COLUMN).then_some(COLUMN);
        let first = ChangeLog {
            changes: log().changes.drain(..1).collect(),
            bytes: 0,
        };
        for end in 1..bytes.len() {
            let is_whole = end == first.encoded().len();
            assert_eq!(
                ChangeLog::decoded(&bytes[..end], known).is_ok(),
                is_whole,
                "{end}"
            );
        }
        // A column of nobody's is not sealed as one.
        assert!(ChangeLog::decoded(&bytes, |_| None).is_err());
    }
}
