//! A move from a server, where several processes change the store meanwhile: what they change stands
//! beside it, in their transactions (`database/changes.rs`).

use std::sync::Arc;

use super::copying::column_named;
use super::moving::{MoveError, Moving, compare, sums};
use super::on_server::Place;
use crate::database::{CHANGES, ChangeLog, Database, Value, sql};
use crate::postgres::{FENCED, LOGGED, OPEN, Visitor};
use crate::tenant::StoreError;

/// What is logged beside a store, and not done again yet.
struct Beside {
    log: ChangeLog,
    /// The last row.
    position: i64,
    /// As they count against the bound.
    bytes: i64,
}

impl Moving {
    /// From the state that `snapshot` holds on to, every process logs what it changes: none of them
    /// writes while that is taken.
    pub(super) fn begin_logging_beside(
        &self,
        place: &Place,
        snapshot: impl FnOnce() -> Result<(), MoveError>,
    ) -> Result<(), MoveError> {
        place.visit(&self.keys, Visitor::Setup, |source| {
            let transaction = source.begin()?;
            let begun = transaction.execute(
                sql!(
                    "UPDATE provisioned SET state = $1, mover = $2, logged = 0
                     WHERE [tenant = $T AND ]single = 1 AND state = $3"
                ),
                &[
                    Value::Int(LOGGED),
                    Value::Text(&self.token.to_string()),
                    Value::Int(OPEN),
                ],
            )?;
            if begun == 0 {
                return Err(MoveError::UnderWay);
            }
            transaction.execute(sql!("DELETE FROM move_changes[ WHERE tenant = $T]"), &[])?;
            snapshot()?;
            Ok(transaction.commit()?)
        })
    }

    /// Does again what was changed since the last time. How many changes that was.
    pub(super) fn catch_up_beside(&mut self, place: &Place) -> Result<usize, MoveError> {
        let keys = Arc::clone(&self.keys);
        let beside = place.visit(&keys, Visitor::Setup, |source| self.beside(source))?;
        self.repeat(&beside.log)?;
        self.position = beside.position;
        // Done again, they do not count any more: the log is bounded by what is left.
        let is_logged = place.visit(&keys, Visitor::Move(self.token), |source| {
            let transaction = source.begin()?;
            transaction.execute(
                sql!("DELETE FROM move_changes WHERE [tenant = $T AND ]position < $1"),
                // The last one stays, so that positions go on.
                &[Value::Int(self.position)],
            )?;
            let left = transaction.execute(
                sql!(
                    "UPDATE provisioned SET logged = logged - $1
                     WHERE [tenant = $T AND ]single = 1 AND state = $2"
                ),
                &[Value::Int(beside.bytes), Value::Int(LOGGED)],
            )?;
            transaction.commit()?;
            Ok::<_, MoveError>(left == 1)
        })?;
        match is_logged {
            true => Ok(beside.log.changes.len()),
            false => Err(MoveError::TooBusy),
        }
    }

    /// Does the rest, while nobody changes the store: every process waits for the lock. From the end
    /// of this transaction on nobody does, whoever has not heard of it included.
    pub(super) fn leave_server(&mut self, place: &Place) -> Result<(), MoveError> {
        let keys = Arc::clone(&self.keys);
        place.visit(&keys, Visitor::Move(self.token), |source| {
            let transaction = source.begin()?;
            loop {
                let beside = self.beside(&transaction)?;
                if beside.log.changes.is_empty() {
                    break;
                }
                self.repeat(&beside.log)?;
                self.position = beside.position;
            }
            let now = sums(&transaction)?;
            self.on_target(|target| compare(target, &now))?;
            let left = transaction.execute(
                sql!(
                    "UPDATE provisioned SET state = $1
                     WHERE [tenant = $T AND ]single = 1 AND state = $2"
                ),
                &[Value::Int(FENCED), Value::Int(LOGGED)],
            )?;
            if left == 0 {
                return Err(MoveError::TooBusy);
            }
            transaction.execute(sql!("DELETE FROM move_changes[ WHERE tenant = $T]"), &[])?;
            Ok(transaction.commit()?)
        })
    }

    /// Some of what is logged beside the store: as much as fits into memory easily.
    fn beside(&self, source: &Database<'_>) -> Result<Beside, MoveError> {
        let mut beside = Beside {
            log: ChangeLog::default(),
            position: self.position,
            bytes: 0,
        };
        let rows = source.rows::<_, StoreError>(
            sql!(
                "SELECT position, changes FROM move_changes
                 WHERE [tenant = $T AND ]position > $1 ORDER BY position LIMIT 64"
            ),
            &[Value::Int(self.position)],
            |row| Ok((row.int(0)?, row.sealed(1, CHANGES)?.into_owned())),
        )?;
        for (position, bytes) in rows {
            beside.log.append(ChangeLog::decoded(&bytes, column_named)?);
            beside.position = position;
            beside.bytes += bytes.len() as i64;
        }
        Ok(beside)
    }
}
