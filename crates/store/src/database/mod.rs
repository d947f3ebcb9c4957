//! A connection on which one tenant's statements run, whichever database is behind it. Nothing
//! else in this crate says what kind it is but `sqlite.rs` and `postgres/`.

mod changes;
pub(crate) mod sql;

use std::borrow::Cow;
use std::cell::RefCell;

use rusqlite::params_from_iter;
use rusqlite::types::ToSqlOutput;

use crate::postgres::{OwnerSession, Refused};
use changes::ChangeMark;
pub(crate) use changes::{CHANGES, CHANGES_BYTES_MAX, ChangeLog, Logged};
pub(crate) use sql::{Sql, Tables, sql};

/// Why a statement did not run. Nothing of its transaction happened.
#[derive(Debug, thiserror::Error)]
pub enum DatabaseError {
    /// SQLite said so.
    #[error(transparent)]
    Sqlite(#[from] rusqlite::Error),
    /// PostgreSQL said so.
    #[error(transparent)]
    Postgres(#[from] tokio_postgres::Error),
    /// PostgreSQL did not answer.
    #[error("the database did not answer within {} s", .after.as_secs())]
    TimedOut {
        /// How long it was waited for.
        after: std::time::Duration,
    },
    /// A value does not open under the tenant's key: it was changed, or is another's.
    #[error("a value of {column} does not open under the tenant's key")]
    Sealed {
        /// The table and the column.
        column: &'static str,
        /// Why.
        #[source]
        source: tenancy::OpenError,
    },
    /// The store that this is about is elsewhere by now, or is about to be.
    #[error("the tenant's store is being moved: try again in a moment")]
    Elsewhere,
    /// There is no such store.
    #[error("the tenant's store is not there")]
    NoStore,
    /// A column holds another type than it should: a bug, or a changed database.
    #[error("column {column} of a row holds what it should not")]
    BadColumn {
        /// Its place in the row.
        column: usize,
    },
}

impl DatabaseError {
    /// Whether somebody else held a lock for too long.
    pub(crate) fn is_lock_timeout(&self) -> bool {
        use tokio_postgres::error::SqlState;
        match self {
            Self::Postgres(error) => [
                Some(&SqlState::LOCK_NOT_AVAILABLE),
                Some(&SqlState::QUERY_CANCELED),
            ]
            .contains(&error.code()),
            _ => false,
        }
    }

    /// Whether the server is not there any more, rather than refusing: it has ended the connection,
    /// or is about to start.
    pub fn is_disconnection(&self) -> bool {
        use tokio_postgres::error::SqlState;
        let ended = [
            Some(&SqlState::ADMIN_SHUTDOWN),
            Some(&SqlState::CRASH_SHUTDOWN),
            Some(&SqlState::CANNOT_CONNECT_NOW),
        ];
        match self {
            Self::Postgres(error) => error.is_closed() || ended.contains(&error.code()),
            Self::TimedOut { .. } => true,
            Self::Sqlite(_)
            | Self::Sealed { .. }
            | Self::Elsewhere
            | Self::NoStore
            | Self::BadColumn { .. } => false,
        }
    }
}

/// A parameter of a statement.
#[derive(Clone, Copy)]
pub(crate) enum Value<'v> {
    Bool(bool),
    Int(i64),
    Text(&'v str),
    Bytes(&'v [u8]),
    /// What a tenant's clients said, of this column. A file is encrypted as a whole; in
    /// PostgreSQL such a value is sealed under the tenant's key.
    Sealed(Column, &'v [u8]),
    /// The same, where there is none.
    Nothing,
}

/// A column whose values are sealed where the database is not encrypted as a whole: its table and
/// name. Part of what a value is bound to.
pub(crate) type Column = &'static str;

/// A parameter that outlives its statement.
#[derive(Clone)]
pub(crate) enum OwnedValue {
    Bool(bool),
    Int(i64),
    Text(String),
    Bytes(Vec<u8>),
    Sealed(Column, Vec<u8>),
    Nothing,
}

/// Whether rows go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Walk {
    On,
    Stop,
}

/// A tenant's connection, for the time of one operation.
pub(crate) struct Database<'c> {
    engine: Engine<'c>,
    /// What was changed: in a file, while somebody copies it; on a server, in the open transaction.
    log: RefCell<ChangeLog>,
    /// Somebody copies this file.
    is_copied: bool,
}

enum Engine<'c> {
    Sqlite(&'c rusqlite::Connection),
    Postgres(Box<OwnerSession<'c>>),
}

/// One row of an answer.
pub(crate) enum Row<'r> {
    Sqlite(&'r rusqlite::Row<'r>),
    Postgres(&'r tokio_postgres::Row, &'r OwnerSession<'r>),
}

/// A transaction that is rolled back unless it is committed. One at a time writes to a tenant's
/// store.
pub(crate) struct Transaction<'d, 'c> {
    database: &'d Database<'c>,
    is_open: bool,
    /// What was logged before it began.
    logged: ChangeMark,
}

impl<'c> Database<'c> {
    pub(crate) fn sqlite(connection: &'c rusqlite::Connection) -> Self {
        Self {
            engine: Engine::Sqlite(connection),
            log: RefCell::default(),
            is_copied: false,
        }
    }

    pub(crate) fn postgres(session: OwnerSession<'c>) -> Self {
        Self {
            engine: Engine::Postgres(Box::new(session)),
            log: RefCell::default(),
            is_copied: false,
        }
    }

    /// Remembers what is changed in a file from now on.
    pub(crate) fn log_changes(&mut self) {
        self.is_copied = true;
    }

    /// What was changed since [`Database::log_changes`].
    pub(crate) fn into_log(self) -> ChangeLog {
        self.log.into_inner()
    }

    /// Why the store on a server did not let its visitor in: see [`OwnerSession::refused`].
    pub(crate) fn refused(&self) -> Option<Refused> {
        match &self.engine {
            Engine::Sqlite(_) => None,
            Engine::Postgres(session) => session.refused(),
        }
    }

    /// Ends what was begun without anybody's asking. What was done is durable when this returns.
    pub(crate) fn finish(&self) -> Result<(), DatabaseError> {
        match &self.engine {
            Engine::Sqlite(_) => Ok(()),
            Engine::Postgres(session) => {
                self.keep_changes(session)?;
                session.finish()
            }
        }
    }

    /// The SQLite connection, where it is one.
    pub(crate) fn as_sqlite(&self) -> Option<&'c rusqlite::Connection> {
        match &self.engine {
            Engine::Sqlite(connection) => Some(connection),
            Engine::Postgres(_) => None,
        }
    }

    /// Begins a transaction that may write: no other does meanwhile, in any process.
    pub(crate) fn begin(&self) -> Result<Transaction<'_, 'c>, DatabaseError> {
        match &self.engine {
            Engine::Sqlite(connection) => connection
                .prepare_cached("BEGIN IMMEDIATE")?
                .execute([])
                .map(drop)?,
            Engine::Postgres(session) => {
                self.finish()?;
                session.begin_writing()?;
            }
        }
        Ok(Transaction {
            database: self,
            is_open: true,
            logged: self.log.borrow().mark(),
        })
    }

    /// Holds on to the present state: all that is read from here sees it, whatever is changed.
    pub(crate) fn begin_snapshot(&self) -> Result<(), DatabaseError> {
        match &self.engine {
            Engine::Sqlite(connection) => {
                connection.execute_batch("BEGIN; SELECT count(*) FROM schema_version;")?;
                Ok(())
            }
            Engine::Postgres(session) => session.begin_snapshot(),
        }
    }

    /// Lets go of the state that [`Database::begin_snapshot`] held on to.
    pub(crate) fn end_snapshot(&self) -> Result<(), DatabaseError> {
        match &self.engine {
            Engine::Sqlite(connection) => Ok(connection.execute_batch("COMMIT")?),
            Engine::Postgres(session) => session.commit(),
        }
    }

    /// Runs a statement that stands in no transaction, on a server alone.
    pub(crate) fn run_alone(&self, text: &'static str) -> Result<(), DatabaseError> {
        match &self.engine {
            Engine::Sqlite(_) => Ok(()),
            Engine::Postgres(session) => session.run_alone(text),
        }
    }

    /// Runs a statement. How many rows it changed.
    pub(crate) fn execute(
        &self,
        sql: &'static Sql,
        parameters: &[Value<'_>],
    ) -> Result<u64, DatabaseError> {
        let changed = match &self.engine {
            Engine::Sqlite(connection) => {
                let mut statement = connection.prepare_cached(sql.text(Tables::Own))?;
                statement.execute(params_from_iter(parameters))? as u64
            }
            Engine::Postgres(session) => session.execute(sql, parameters)?,
        };
        self.remember(sql, parameters);
        Ok(changed)
    }

    /// Reads the only row of an answer, or none.
    pub(crate) fn row<T>(
        &self,
        sql: &'static Sql,
        parameters: &[Value<'_>],
        read: impl FnMut(&Row<'_>) -> Result<T, DatabaseError>,
    ) -> Result<Option<T>, DatabaseError> {
        Ok(self.rows(sql, parameters, read)?.pop())
    }

    /// Reads all rows of an answer, which is bounded.
    pub(crate) fn rows<T, E: From<DatabaseError>>(
        &self,
        sql: &'static Sql,
        parameters: &[Value<'_>],
        mut read: impl FnMut(&Row<'_>) -> Result<T, E>,
    ) -> Result<Vec<T>, E> {
        let mut all = Vec::new();
        match &self.engine {
            Engine::Sqlite(connection) => {
                let mut statement = connection
                    .prepare_cached(sql.text(Tables::Own))
                    .map_err(DatabaseError::from)?;
                let mut rows = statement
                    .query(params_from_iter(parameters))
                    .map_err(DatabaseError::from)?;
                while let Some(row) = rows.next().map_err(DatabaseError::from)? {
                    all.push(read(&Row::Sqlite(row))?);
                }
            }
            Engine::Postgres(session) => {
                for row in &session.query(sql, parameters)? {
                    all.push(read(&Row::Postgres(row, session))?);
                }
            }
        }
        self.remember(sql, parameters);
        Ok(all)
    }

    /// Does again what was changed elsewhere.
    pub(crate) fn repeat(&self, logged: &Logged) -> Result<(), DatabaseError> {
        let parameters: Vec<_> = logged.parameters.iter().map(OwnedValue::value).collect();
        match &self.engine {
            Engine::Sqlite(connection) => {
                let mut statement = connection.prepare_cached(logged.text(Tables::Own))?;
                let mut rows = statement.query(params_from_iter(&parameters))?;
                while rows.next()?.is_some() {}
                Ok(())
            }
            Engine::Postgres(session) => session.repeat(logged.text(session.tables()), &parameters),
        }
    }

    fn remember(&self, sql: &'static Sql, parameters: &[Value<'_>]) {
        let is_logged = match &self.engine {
            Engine::Sqlite(_) => self.is_copied,
            Engine::Postgres(session) => session.logged().is_some(),
        };
        if is_logged && sql.writes() {
            self.log.borrow_mut().push(sql, parameters);
        }
    }
}

impl<'c> std::ops::Deref for Transaction<'_, 'c> {
    type Target = Database<'c>;

    fn deref(&self) -> &Database<'c> {
        self.database
    }
}

impl Transaction<'_, '_> {
    /// Tells whoever listens on the server, once this is committed, that the catalogue has changed.
    pub(crate) fn announce(&self) -> Result<(), DatabaseError> {
        self.database.run_alone("NOTIFY partywall_catalogue")
    }

    /// What was done is durable when this returns.
    pub(crate) fn commit(mut self) -> Result<(), DatabaseError> {
        match &self.database.engine {
            Engine::Sqlite(connection) => {
                connection.prepare_cached("COMMIT")?.execute([]).map(drop)?
            }
            Engine::Postgres(session) => {
                self.database.keep_changes(session)?;
                session.commit()?;
            }
        }
        self.is_open = false;
        Ok(())
    }
}

impl Drop for Transaction<'_, '_> {
    fn drop(&mut self) {
        if !self.is_open {
            return;
        }
        self.database.log.borrow_mut().return_to(self.logged);
        match &self.database.engine {
            Engine::Sqlite(connection) => {
                if let Err(error) = connection.execute_batch("ROLLBACK") {
                    tracing::debug!(%error, "a transaction was rolled back already");
                }
            }
            Engine::Postgres(session) => session.roll_back(),
        }
    }
}

impl rusqlite::ToSql for Value<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        match self {
            Self::Bool(value) => value.to_sql(),
            Self::Int(value) => value.to_sql(),
            Self::Text(value) => value.to_sql(),
            Self::Bytes(value) | Self::Sealed(_, value) => value.to_sql(),
            Self::Nothing => rusqlite::types::Null.to_sql(),
        }
    }
}

impl OwnedValue {
    fn of(value: &Value<'_>) -> Self {
        match *value {
            Value::Bool(value) => Self::Bool(value),
            Value::Int(value) => Self::Int(value),
            Value::Text(value) => Self::Text(value.to_owned()),
            Value::Bytes(value) => Self::Bytes(value.to_owned()),
            Value::Sealed(column, value) => Self::Sealed(column, value.to_owned()),
            Value::Nothing => Self::Nothing,
        }
    }

    pub(crate) fn value(&self) -> Value<'_> {
        match self {
            Self::Bool(value) => Value::Bool(*value),
            Self::Int(value) => Value::Int(*value),
            Self::Text(value) => Value::Text(value),
            Self::Bytes(value) => Value::Bytes(value),
            Self::Sealed(column, value) => Value::Sealed(column, value),
            Self::Nothing => Value::Nothing,
        }
    }

    /// About how much memory it takes.
    pub(crate) fn bytes(&self) -> usize {
        let heap = match self {
            Self::Text(value) => value.len(),
            Self::Bytes(value) | Self::Sealed(_, value) => value.len(),
            Self::Bool(_) | Self::Int(_) | Self::Nothing => 0,
        };
        size_of::<Self>() + heap
    }
}

impl Row<'_> {
    pub(crate) fn int(&self, column: usize) -> Result<i64, DatabaseError> {
        self.optional_int(column)?
            .ok_or(DatabaseError::BadColumn { column })
    }

    pub(crate) fn optional_int(&self, column: usize) -> Result<Option<i64>, DatabaseError> {
        match self {
            Self::Sqlite(row) => Ok(row.get(column)?),
            Self::Postgres(row, _) => Ok(row.try_get(column)?),
        }
    }

    pub(crate) fn bool(&self, column: usize) -> Result<bool, DatabaseError> {
        match self {
            Self::Sqlite(row) => Ok(row.get(column)?),
            Self::Postgres(row, _) => Ok(row.try_get(column)?),
        }
    }

    pub(crate) fn text(&self, column: usize) -> Result<&str, DatabaseError> {
        let bad = |_| DatabaseError::BadColumn { column };
        match self {
            Self::Sqlite(row) => row.get_ref(column)?.as_str().map_err(bad),
            Self::Postgres(row, _) => Ok(row.try_get(column)?),
        }
    }

    pub(crate) fn bytes(&self, column: usize) -> Result<&[u8], DatabaseError> {
        let bad = |_| DatabaseError::BadColumn { column };
        match self {
            Self::Sqlite(row) => row.get_ref(column)?.as_blob().map_err(bad),
            Self::Postgres(row, _) => Ok(row.try_get(column)?),
        }
    }

    /// A value of this column that was given as [`Value::Sealed`].
    pub(crate) fn sealed(
        &self,
        column: usize,
        name: Column,
    ) -> Result<Cow<'_, [u8]>, DatabaseError> {
        match self {
            Self::Sqlite(_) => Ok(Cow::Borrowed(self.bytes(column)?)),
            Self::Postgres(row, session) => {
                Ok(Cow::Owned(session.unseal(name, row.try_get(column)?)?))
            }
        }
    }

    /// The same, where there may be none.
    pub(crate) fn optional_sealed(
        &self,
        column: usize,
        name: Column,
    ) -> Result<Option<Vec<u8>>, DatabaseError> {
        let is_null = match self {
            Self::Sqlite(row) => row.get_ref(column)? == rusqlite::types::ValueRef::Null,
            Self::Postgres(row, _) => row.try_get::<_, Option<&[u8]>>(column)?.is_none(),
        };
        match is_null {
            true => Ok(None),
            false => Ok(Some(self.sealed(column, name)?.into_owned())),
        }
    }
}
