//! Alerts that are open, or were lately; and what is still to be told of them.
//!
//! Each change of an alert is one conditional statement, and what is to be told goes into the same
//! transaction: of several replicas that see the same thing one opens it, one reminds of it and one
//! resolves it, and a crash loses no message and doubles none that was sent and noted.

use base::Timestamp;

use super::{Catalogue, CatalogueError};
use crate::database::{Column, Database, DatabaseError, Row, Value, sql};

/// The columns that are sealed on a server.
pub(crate) const ABOUT: Column = "alerts.about";
pub(crate) const TEXT: Column = "alert_messages.text";

/// 10,000 alerts are open at most, and 20,000 messages wait: each tenant of a large installation
/// may have one, and two channels.
const ALERTS_MAX: i64 = 10_000;
const MESSAGES_MAX: i64 = 20_000;

/// An alert: what is so, since when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredAlert {
    /// Tells it from all others, whatever tenant they are of.
    pub id: String,
    /// Whose it is; none for the platform's own.
    pub tenant: String,
    /// When it was first seen to be so.
    pub opened_at: Timestamp,
    /// When it last was.
    pub seen_at: Timestamp,
    /// Up to when its reminders have been told.
    pub told_at: Timestamp,
    /// When it was seen to be so no longer.
    pub resolved_at: Option<Timestamp>,
    /// What it is, in the caller's encoding.
    pub about: Vec<u8>,
}

/// A message that is to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredMessage {
    /// The same at every try.
    pub id: String,
    /// Whose channel it goes to; empty for the platform's own.
    pub tenant: String,
    /// The channel's name.
    pub channel: String,
    /// How often it was tried.
    pub tries: u32,
    /// What it says, in the caller's encoding.
    pub text: Vec<u8>,
}

impl Catalogue {
    /// Opens an alert that is not open. Says whether it did: then its messages wait to be sent.
    ///
    /// # Errors
    ///
    /// Database errors.
    pub fn open_alert(
        &self,
        alert: &StoredAlert,
        messages: &[StoredMessage],
    ) -> Result<bool, CatalogueError> {
        self.place.with(|database| {
            let transaction = database.begin()?;
            if count_open(&transaction)? >= ALERTS_MAX {
                return Ok(false);
            }
            let now = Value::Int(alert.opened_at.as_micros());
            let opened = transaction.execute(
                sql!(
                    "INSERT INTO alerts
                       (id, tenant, opened_at, seen_at, told_at, resolved_at, about)
                     VALUES ($1, $2, $3, $4, $5, NULL, $6)
                     ON CONFLICT (id) DO UPDATE
                     SET opened_at = excluded.opened_at, seen_at = excluded.seen_at,
                         told_at = excluded.told_at, resolved_at = NULL, about = excluded.about
                     WHERE alerts.resolved_at IS NOT NULL"
                ),
                &[
                    Value::Text(&alert.id),
                    Value::Text(&alert.tenant),
                    now,
                    now,
                    now,
                    Value::Sealed(ABOUT, &alert.about),
                ],
            )?;
            if opened > 0 {
                put_messages(&transaction, messages, alert.opened_at)?;
            }
            transaction.commit()?;
            Ok(opened > 0)
        })
    }

    /// Notes that these alerts are so still.
    ///
    /// # Errors
    ///
    /// Database errors.
    pub fn see_alerts(&self, ids: &[&str], now: Timestamp) -> Result<(), CatalogueError> {
        if ids.is_empty() {
            return Ok(());
        }
        self.place.with(|database| {
            let transaction = database.begin()?;
            for id in ids {
                transaction.execute(
                    sql!(
                        "UPDATE alerts SET seen_at = $1
                         WHERE id = $2 AND resolved_at IS NULL AND seen_at < $3"
                    ),
                    &[
                        Value::Int(now.as_micros()),
                        Value::Text(id),
                        Value::Int(now.as_micros()),
                    ],
                )?;
            }
            Ok(transaction.commit()?)
        })
    }

    /// Reminds of an alert that is open, unless somebody else has since it was read.
    ///
    /// # Errors
    ///
    /// Database errors.
    pub fn remind_of_alert(
        &self,
        alert: &StoredAlert,
        messages: &[StoredMessage],
        now: Timestamp,
    ) -> Result<bool, CatalogueError> {
        self.place.with(|database| {
            let transaction = database.begin()?;
            let reminded = transaction.execute(
                sql!(
                    "UPDATE alerts SET told_at = $1
                     WHERE id = $2 AND resolved_at IS NULL AND told_at = $3"
                ),
                &[
                    Value::Int(now.as_micros()),
                    Value::Text(&alert.id),
                    Value::Int(alert.told_at.as_micros()),
                ],
            )?;
            if reminded > 0 {
                put_messages(&transaction, messages, now)?;
            }
            transaction.commit()?;
            Ok(reminded > 0)
        })
    }

    /// Resolves an alert that is open, unless somebody has seen it since it was read.
    ///
    /// # Errors
    ///
    /// Database errors.
    pub fn resolve_alert(
        &self,
        alert: &StoredAlert,
        messages: &[StoredMessage],
        now: Timestamp,
    ) -> Result<bool, CatalogueError> {
        self.place.with(|database| {
            let transaction = database.begin()?;
            let resolved = transaction.execute(
                sql!(
                    "UPDATE alerts SET resolved_at = $1
                     WHERE id = $2 AND resolved_at IS NULL AND seen_at = $3"
                ),
                &[
                    Value::Int(now.as_micros()),
                    Value::Text(&alert.id),
                    Value::Int(alert.seen_at.as_micros()),
                ],
            )?;
            if resolved > 0 {
                put_messages(&transaction, messages, now)?;
            }
            transaction.commit()?;
            Ok(resolved > 0)
        })
    }

    /// All alerts that are open or were lately, the newest first.
    ///
    /// # Errors
    ///
    /// Database errors.
    pub fn alerts(&self) -> Result<Vec<StoredAlert>, CatalogueError> {
        self.place.with(|database| {
            database.rows(
                sql!(
                    "SELECT id, tenant, opened_at, seen_at, told_at, resolved_at, about FROM alerts
                     ORDER BY opened_at DESC, id LIMIT 20000"
                ),
                &[],
                |row| Ok(alert(row)?),
            )
        })
    }

    /// One tenant's alerts that are open or were lately, the newest first.
    ///
    /// # Errors
    ///
    /// Database errors.
    pub fn alerts_of(&self, tenant: &str) -> Result<Vec<StoredAlert>, CatalogueError> {
        self.place.with(|database| {
            database.rows(
                sql!(
                    "SELECT id, tenant, opened_at, seen_at, told_at, resolved_at, about FROM alerts
                     WHERE tenant = $1 ORDER BY opened_at DESC, id LIMIT 1000"
                ),
                &[Value::Text(tenant)],
                |row| Ok(alert(row)?),
            )
        })
    }

    /// Forgets alerts that were resolved before this.
    ///
    /// # Errors
    ///
    /// Database errors.
    pub fn forget_alerts(&self, resolved_before: Timestamp) -> Result<(), CatalogueError> {
        self.place.with(|database| {
            database.execute(
                sql!("DELETE FROM alerts WHERE resolved_at < $1"),
                &[Value::Int(resolved_before.as_micros())],
            )?;
            Ok(())
        })
    }

    /// Forgets what a tenant that is gone was told, and was to be told.
    ///
    /// # Errors
    ///
    /// Database errors.
    pub fn forget_alerts_of(&self, tenant: &str) -> Result<(), CatalogueError> {
        self.place.with(|database| {
            let transaction = database.begin()?;
            for forget in [
                sql!("DELETE FROM alerts WHERE tenant = $1"),
                sql!("DELETE FROM alert_messages WHERE tenant = $1"),
            ] {
                transaction.execute(forget, &[Value::Text(tenant)])?;
            }
            Ok(transaction.commit()?)
        })
    }

    /// Puts a message among those that wait. Says whether there was room.
    ///
    /// # Errors
    ///
    /// Database errors.
    pub fn put_alert_message(
        &self,
        message: &StoredMessage,
        now: Timestamp,
    ) -> Result<bool, CatalogueError> {
        self.place.with(|database| {
            let transaction = database.begin()?;
            let put = put_messages(&transaction, std::slice::from_ref(message), now)?;
            transaction.commit()?;
            Ok(put > 0)
        })
    }

    /// Messages whose time has come: at most so many.
    ///
    /// # Errors
    ///
    /// Database errors.
    pub fn due_messages(
        &self,
        now: Timestamp,
        count_max: u16,
    ) -> Result<Vec<StoredMessage>, CatalogueError> {
        self.place.with(|database| {
            database.rows(
                sql!(
                    "SELECT id, tenant, channel, tries, text FROM alert_messages
                     WHERE due_at <= $1 ORDER BY due_at, id LIMIT $2"
                ),
                &[Value::Int(now.as_micros()), Value::Int(count_max.into())],
                |row| Ok(message(row)?),
            )
        })
    }

    /// Takes a message to send it: until `again_at` nobody else does, and then, unless it was
    /// [ended](Self::end_message), it is due again. Says whether it was there to be taken.
    ///
    /// # Errors
    ///
    /// Database errors.
    pub fn take_message(
        &self,
        message: &StoredMessage,
        again_at: Timestamp,
    ) -> Result<bool, CatalogueError> {
        self.place.with(|database| {
            let taken = database.execute(
                sql!(
                    "UPDATE alert_messages SET tries = tries + 1, due_at = $1
                     WHERE id = $2 AND tries = $3"
                ),
                &[
                    Value::Int(again_at.as_micros()),
                    Value::Text(&message.id),
                    Value::Int(message.tries.into()),
                ],
            )?;
            Ok(taken > 0)
        })
    }

    /// Forgets a message: it was sent, or was given up.
    ///
    /// # Errors
    ///
    /// Database errors.
    pub fn end_message(&self, id: &str) -> Result<(), CatalogueError> {
        self.place.with(|database| {
            database.execute(
                sql!("DELETE FROM alert_messages WHERE id = $1"),
                &[Value::Text(id)],
            )?;
            Ok(())
        })
    }
}

fn count_open(database: &Database<'_>) -> Result<i64, DatabaseError> {
    let count = sql!("SELECT count(*) FROM alerts WHERE resolved_at IS NULL");
    Ok(database.row(count, &[], |row| row.int(0))?.unwrap_or(0))
}

/// Puts as many as there is room for; how many that were.
fn put_messages(
    database: &Database<'_>,
    messages: &[StoredMessage],
    now: Timestamp,
) -> Result<u64, DatabaseError> {
    if messages.is_empty() {
        return Ok(0);
    }
    let count = sql!("SELECT count(*) FROM alert_messages");
    let waiting = database.row(count, &[], |row| row.int(0))?.unwrap_or(0);
    let room = usize::try_from(MESSAGES_MAX - waiting).unwrap_or(0);
    if messages.len() > room {
        tracing::warn!("messages of alerts were dropped: too many wait to be sent");
    }
    let mut put = 0;
    for message in messages.iter().take(room) {
        put += database.execute(
            sql!(
                "INSERT INTO alert_messages (id, tenant, channel, tries, due_at, text)
                 VALUES ($1, $2, $3, 0, $4, $5)"
            ),
            &[
                Value::Text(&message.id),
                Value::Text(&message.tenant),
                Value::Text(&message.channel),
                Value::Int(now.as_micros()),
                Value::Sealed(TEXT, &message.text),
            ],
        )?;
    }
    Ok(put)
}

fn alert(row: &Row<'_>) -> Result<StoredAlert, DatabaseError> {
    Ok(StoredAlert {
        id: row.text(0)?.to_owned(),
        tenant: row.text(1)?.to_owned(),
        opened_at: Timestamp::from_micros(row.int(2)?),
        seen_at: Timestamp::from_micros(row.int(3)?),
        told_at: Timestamp::from_micros(row.int(4)?),
        resolved_at: row.optional_int(5)?.map(Timestamp::from_micros),
        about: row.sealed(6, ABOUT)?.into_owned(),
    })
}

fn message(row: &Row<'_>) -> Result<StoredMessage, DatabaseError> {
    Ok(StoredMessage {
        id: row.text(0)?.to_owned(),
        tenant: row.text(1)?.to_owned(),
        channel: row.text(2)?.to_owned(),
        tries: u32::try_from(row.int(3)?).unwrap_or(u32::MAX),
        text: row.sealed(4, TEXT)?.into_owned(),
    })
}
