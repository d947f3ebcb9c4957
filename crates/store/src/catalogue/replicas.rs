//! The processes that share a catalogue: who they are, that they are alive, and which of two that
//! claim to be the same one is newer.
//!
//! A replica says twice a second that it is there, and learns in the same breath what is new. Times
//! are the server's own, so that no replica's clock matters.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use base::Timestamp;

use super::{CatalogueError, CatalogueServer};
use crate::database::DatabaseError;

/// Ten seconds: twenty times what a replica takes to say again that it is there.
pub(crate) const THERE_FOR: Duration = Duration::from_secs(10);

/// The server's clock, in microseconds.
macro_rules! now {
    () => {
        "(extract(epoch FROM clock_timestamp()) * 1000000)::bigint"
    };
}

/// A replica's id: that of its data folder, for good.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ReplicaId(u128);

/// What a process says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replica {
    /// Its data folder's id.
    pub id: ReplicaId,
    /// What people call it.
    pub name: String,
    /// What it does: `gateway,control,worker`.
    pub roles: String,
    /// Which program it runs.
    pub program: String,
}

/// A replica's place among the others. Whoever registers the same id later takes it over.
#[derive(Debug)]
pub struct Registered {
    server: Arc<CatalogueServer>,
    id: ReplicaId,
    epoch: i64,
}

/// What a replica learns when it says that it is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Beat {
    /// The server's clock.
    pub at: Timestamp,
    /// How long the answer took, by this machine's clock: `at` lies in that time.
    pub took: Duration,
    /// The catalogue's newest version.
    pub version: u64,
    /// Grows with each change of a setting.
    pub settings: u64,
    /// How many replicas serve clients, this one included.
    pub gateways: u32,
}

/// A replica as people see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplicaView {
    /// Its data folder's id.
    pub id: ReplicaId,
    /// What people call it.
    pub name: String,
    /// What it does.
    pub roles: String,
    /// Which program it runs.
    pub program: String,
    /// The version of the catalogue that it serves.
    pub version: u64,
    /// Since when.
    pub started_at: Timestamp,
    /// How long ago it said that it is there, by the server's clock.
    pub seen_ago: Duration,
    /// Whether it has ended, rather than fallen silent.
    pub has_ended: bool,
}

/// Why a replica does not count any more, or could not say that it is there.
#[derive(Debug, thiserror::Error)]
pub enum ReplicaError {
    /// Another process works with a copy of the same data folder, and came later.
    #[error(
        "another process has taken over as replica {id}: it serves a copy of the same data folder. Only one may: give the other a folder of its own"
    )]
    Fenced {
        /// Whose id it is.
        id: ReplicaId,
    },
    /// The catalogue cannot be asked.
    #[error(transparent)]
    Catalogue(#[from] CatalogueError),
}

impl ReplicaView {
    /// Whether it serves, as far as anybody can tell: it has not ended, and was heard of lately.
    pub fn is_there(&self) -> bool {
        !self.has_ended && self.seen_ago < THERE_FOR
    }
}

impl ReplicaId {
    /// Of an installation with one process.
    pub const ALONE: Self = Self(0);

    /// The id with these bits.
    pub const fn from_bits(bits: u128) -> Self {
        Self(bits)
    }
}

impl fmt::Display for ReplicaId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl FromStr for ReplicaId {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        u128::from_str_radix(text, 16).map(Self)
    }
}

impl CatalogueServer {
    /// Takes the replica's place among the others. Blocks.
    ///
    /// # Errors
    ///
    /// Database errors.
    pub fn register(self: &Arc<Self>, replica: &Replica) -> Result<Registered, CatalogueError> {
        let rows = self.ask(
            concat!(
                "INSERT INTO replicas
                     (id, name, roles, program, epoch, version, started_at, seen_at, ended)
                 VALUES ($1, $2, $3, $4, 1, 0, ",
                now!(),
                ", ",
                now!(),
                ", false)
                 ON CONFLICT (id) DO UPDATE
                 SET name = excluded.name, roles = excluded.roles, program = excluded.program,
                     epoch = replicas.epoch + 1, started_at = excluded.started_at,
                     seen_at = excluded.seen_at, ended = false
                 RETURNING epoch"
            ),
            &[
                &replica.id.to_string(),
                &replica.name,
                &replica.roles,
                &replica.program,
            ],
        )?;
        let epoch = match rows.first() {
            Some(row) => row.try_get(0).map_err(DatabaseError::from)?,
            None => 0,
        };
        self.is_of(replica.id);
        Ok(Registered {
            server: Arc::clone(self),
            id: replica.id,
            epoch,
        })
    }

    /// All replicas that anybody has not forgotten, by name.
    ///
    /// # Errors
    ///
    /// Database errors.
    pub fn replicas(&self) -> Result<Vec<ReplicaView>, CatalogueError> {
        let rows = self.ask(
            concat!(
                "SELECT id, name, roles, program, version, started_at, ",
                now!(),
                " - seen_at, ended
                 FROM replicas ORDER BY name, id LIMIT 1000"
            ),
            &[],
        )?;
        rows.iter()
            .map(|row| Ok(view(row)?))
            .collect::<Result<_, CatalogueError>>()
    }

    /// Forgets a replica that is not there any more. Says whether it was known.
    ///
    /// # Errors
    ///
    /// Database errors.
    pub fn forget_replica(&self, id: ReplicaId) -> Result<bool, CatalogueError> {
        let gone = self.ask(
            "DELETE FROM replicas WHERE id = $1 RETURNING id",
            &[&id.to_string()],
        )?;
        Ok(!gone.is_empty())
    }
}

impl Registered {
    pub(super) fn server(&self) -> &CatalogueServer {
        &self.server
    }

    /// Whose place it is.
    pub const fn id(&self) -> ReplicaId {
        self.id
    }

    /// Grows with each process that takes this place.
    pub const fn epoch(&self) -> i64 {
        self.epoch
    }

    /// Says that it is there and serves `version`; learns what is new. A replica counts as there
    /// for `alive_for` after it said so. Blocks.
    ///
    /// # Errors
    ///
    /// [`ReplicaError::Fenced`] for good; all else may pass.
    pub fn beat(&self, version: u64, alive_for: Duration) -> Result<Beat, ReplicaError> {
        let asked_at = self.server.clock().elapsed();
        let alive_for = i64::try_from(alive_for.as_micros()).unwrap_or(i64::MAX);
        let rows = self.server.ask(
            concat!(
                "UPDATE replicas SET seen_at = t.now, version = $3
                 FROM (SELECT ",
                now!(),
                " AS now) AS t
                 WHERE id = $1 AND epoch = $2
                 RETURNING t.now,
                     (SELECT coalesce(max(version), 0) FROM versions),
                     (SELECT coalesce(max(generation), 0) FROM feed),
                     (SELECT count(*) FROM replicas AS other
                      WHERE other.id <> $1 AND NOT other.ended
                        AND other.seen_at > t.now - $4::bigint
                        AND position('gateway' IN other.roles) > 0)"
            ),
            &[
                &self.id.to_string(),
                &self.epoch,
                &i64::try_from(version).unwrap_or(i64::MAX),
                &alive_for,
            ],
        )?;
        let Some(row) = rows.first() else {
            return Err(ReplicaError::Fenced { id: self.id });
        };
        let number = |column: usize| -> Result<i64, ReplicaError> {
            let read = row.try_get(column).map_err(DatabaseError::from);
            Ok(read.map_err(CatalogueError::from)?)
        };
        Ok(Beat {
            at: Timestamp::from_micros(number(0)?),
            took: self.server.clock().elapsed().saturating_sub(asked_at),
            version: unsigned(number(1)?),
            settings: unsigned(number(2)?),
            gateways: u32::try_from(number(3)?).unwrap_or(u32::MAX - 1) + 1,
        })
    }

    /// Says that it has ended: it holds nothing back, and nobody needs to wait for it. Blocks.
    ///
    /// # Errors
    ///
    /// Database errors.
    pub fn end(&self) -> Result<(), CatalogueError> {
        self.server.ask(
            "UPDATE replicas SET ended = true WHERE id = $1 AND epoch = $2",
            &[&self.id.to_string(), &self.epoch],
        )?;
        Ok(())
    }
}

fn view(row: &tokio_postgres::Row) -> Result<ReplicaView, DatabaseError> {
    let id: String = row.try_get(0)?;
    let seen_ago: i64 = row.try_get(6)?;
    Ok(ReplicaView {
        id: id
            .parse()
            .map_err(|_| DatabaseError::BadColumn { column: 0 })?,
        name: row.try_get(1)?,
        roles: row.try_get(2)?,
        program: row.try_get(3)?,
        version: unsigned(row.try_get(4)?),
        started_at: Timestamp::from_micros(row.try_get(5)?),
        seen_ago: Duration::from_micros(unsigned(seen_ago)),
        has_ended: row.try_get(7)?,
    })
}

fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}
