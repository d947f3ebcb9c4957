//! How calls went at each replica, minute by minute, for the others to read: one row for a minute
//! of a process. What is in it is the caller's own encoding; counts alone, for operators.

use std::sync::Arc;
use std::time::Duration;

use base::Timestamp;
use tokio_postgres::types::ToSql;

use super::replicas::{Registered, ReplicaError, ReplicaId, THERE_FOR};
use super::{CatalogueError, CatalogueServer};
use crate::database::DatabaseError;

/// 65 minutes, by the server's clock: the hour that is shown, and what clocks may be off.
const KEPT: Duration = Duration::from_secs(65 * 60);
/// 64 rows of one question: a minute of 64 replicas, some 3 MB each at the very most.
const HEARD_MAX: i64 = 64;

const TELL: &str = "
INSERT INTO replica_minutes (replica, epoch, minute, revision, began_at, told_at, body)
SELECT replicas.id, replicas.epoch, new.minute, 1, new.began_at,
       (extract(epoch FROM clock_timestamp()) * 1000000)::bigint, new.body
FROM replicas, unnest($3::bigint[], $4::bigint[], $5::bytea[]) AS new(minute, began_at, body)
WHERE replicas.id = $1 AND replicas.epoch = $2
ON CONFLICT (replica, epoch, minute) DO UPDATE
SET revision = replica_minutes.revision + 1, told_at = excluded.told_at, body = excluded.body
RETURNING minute";
const FORGET: &str = "
DELETE FROM replica_minutes
WHERE least(began_at, told_at)
    < (extract(epoch FROM clock_timestamp()) * 1000000)::bigint - $1::bigint";
const HEAR: &str = "
SELECT told.replica, told.epoch, told.minute, told.revision, told.began_at, told.body
FROM replica_minutes AS told
LEFT JOIN unnest($3::text[], $4::bigint[], $5::bigint[], $6::bigint[])
    AS known(replica, epoch, minute, revision) USING (replica, epoch, minute, revision)
WHERE NOT (told.replica = $1 AND told.epoch = $2) AND known.minute IS NULL
ORDER BY told.told_at DESC LIMIT $7";
const OTHERS: &str = "
SELECT id, epoch, name,
       (extract(epoch FROM clock_timestamp()) * 1000000)::bigint - seen_at, ended
FROM replicas WHERE id <> $1 AND position('gateway' IN roles) > 0 ORDER BY name, id LIMIT 1000";

/// A replica's way to what it tells the others of its calls, and hears of theirs. All methods
/// block.
#[derive(Debug)]
pub struct ReplicaMinutes(Arc<Registered>);

/// A minute to tell of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TellMinute {
    /// Its number in the process's life.
    pub minute: u32,
    /// When it began, by this machine's clock.
    pub began_at: Timestamp,
    /// What there was.
    pub body: Vec<u8>,
}

/// Which state of which minute of which process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct MinuteId {
    /// Whose.
    pub replica: ReplicaId,
    /// Of which process in that replica's place.
    pub epoch: i64,
    /// Its number in the process's life.
    pub minute: i64,
}

/// A minute that another process told of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeardMinute {
    /// Which.
    pub id: MinuteId,
    /// Grows each time it is told anew.
    pub revision: i64,
    /// When it began, by that machine's clock.
    pub began_at: Timestamp,
    /// What there was.
    pub body: Vec<u8>,
}

/// Another replica that serves clients, or did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OtherReplica {
    /// Its data folder's id.
    pub id: ReplicaId,
    /// The process that has its place.
    pub epoch: i64,
    /// What people call it.
    pub name: String,
    /// How long ago it said that it is there.
    pub seen_ago: Duration,
    /// Whether it has ended, rather than fallen silent.
    pub has_ended: bool,
}

impl OtherReplica {
    /// Whether it serves, as far as anybody can tell.
    pub fn is_there(&self) -> bool {
        !self.has_ended && self.seen_ago < THERE_FOR
    }
}

impl ReplicaMinutes {
    /// Of this replica.
    pub const fn new(registered: Arc<Registered>) -> Self {
        Self(registered)
    }

    fn server(&self) -> &CatalogueServer {
        self.0.server()
    }

    /// Tells of these minutes, in place of what was told of them before.
    ///
    /// # Errors
    ///
    /// [`ReplicaError::Fenced`] if another process has the replica's place: nothing was told.
    pub fn tell(&self, minutes: &[TellMinute]) -> Result<(), ReplicaError> {
        if minutes.is_empty() {
            return Ok(());
        }
        let id = self.0.id().to_string();
        let numbers: Vec<i64> = minutes.iter().map(|it| it.minute.into()).collect();
        let began: Vec<i64> = minutes.iter().map(|it| it.began_at.as_micros()).collect();
        let bodies: Vec<&[u8]> = minutes.iter().map(|it| it.body.as_slice()).collect();
        let told = self
            .server()
            .ask(TELL, &[&id, &self.0.epoch(), &numbers, &began, &bodies])?;
        if told.is_empty() {
            return Err(ReplicaError::Fenced { id: self.0.id() });
        }
        Ok(())
    }

    /// Forgets what nobody shows any more, whoever told it.
    ///
    /// # Errors
    ///
    /// Database errors.
    pub fn forget(&self) -> Result<(), CatalogueError> {
        let kept = i64::try_from(KEPT.as_micros()).unwrap_or(i64::MAX);
        self.server().ask(FORGET, &[&kept])?;
        Ok(())
    }

    /// What other processes told that is not among what is `known`, with its revision: 64 minutes
    /// at most, the newest first.
    ///
    /// # Errors
    ///
    /// Database errors.
    pub fn hear(&self, known: &[(MinuteId, i64)]) -> Result<Vec<HeardMinute>, CatalogueError> {
        let id = self.0.id().to_string();
        let replicas: Vec<String> = known.iter().map(|(it, _)| it.replica.to_string()).collect();
        let epochs: Vec<i64> = known.iter().map(|(it, _)| it.epoch).collect();
        let minutes: Vec<i64> = known.iter().map(|(it, _)| it.minute).collect();
        let revisions: Vec<i64> = known.iter().map(|(_, revision)| *revision).collect();
        let parameters: [&(dyn ToSql + Sync); 7] = [
            &id,
            &self.0.epoch(),
            &replicas,
            &epochs,
            &minutes,
            &revisions,
            &HEARD_MAX,
        ];
        let rows = self.server().ask(HEAR, &parameters)?;
        let read = |row: &tokio_postgres::Row| -> Result<HeardMinute, DatabaseError> {
            Ok(HeardMinute {
                id: MinuteId {
                    replica: id_at(row, 0)?,
                    epoch: row.try_get(1)?,
                    minute: row.try_get(2)?,
                },
                revision: row.try_get(3)?,
                began_at: Timestamp::from_micros(row.try_get(4)?),
                body: row.try_get(5)?,
            })
        };
        Ok(rows.iter().map(read).collect::<Result<_, _>>()?)
    }

    /// The other replicas that serve clients, as far as anybody knows: 1,000 at most.
    ///
    /// # Errors
    ///
    /// Database errors.
    pub fn others(&self) -> Result<Vec<OtherReplica>, CatalogueError> {
        let rows = self.server().ask(OTHERS, &[&self.0.id().to_string()])?;
        let read = |row: &tokio_postgres::Row| -> Result<OtherReplica, DatabaseError> {
            let seen_ago: i64 = row.try_get(3)?;
            Ok(OtherReplica {
                id: id_at(row, 0)?,
                epoch: row.try_get(1)?,
                name: row.try_get(2)?,
                seen_ago: Duration::from_micros(u64::try_from(seen_ago).unwrap_or(0)),
                has_ended: row.try_get(4)?,
            })
        };
        Ok(rows.iter().map(read).collect::<Result<_, _>>()?)
    }
}

fn id_at(row: &tokio_postgres::Row, column: usize) -> Result<ReplicaId, DatabaseError> {
    let id: String = row.try_get(column)?;
    id.parse().map_err(|_| DatabaseError::BadColumn { column })
}
