//! One connection to a server, and one owner's use of it: a tenant's, or the platform's.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::future::Future;
use std::time::Duration;

use base::{Entropy, TenantId};
use tenancy::{SealingKey, TenantKeys, purpose};
use tokio::runtime::Handle;
use tokio_postgres::types::{IsNull, ToSql, Type, to_sql_checked};
use tokio_postgres::{Client, Row, Statement};

use crate::database::{Column, DatabaseError, Sql, Tables, Value};

/// Whoever writes to the catalogue holds this lock. "PWCW".
const PLATFORM_LOCK: i64 = 0x5057_4357;

/// A connection. Its statements are prepared once.
pub(crate) struct Session {
    client: Client,
    runtime: Handle,
    answer_max: Duration,
    statements: RefCell<HashMap<&'static str, Statement>>,
    /// It may be in the middle of something: nobody else gets it.
    is_broken: Cell<bool>,
}

impl Session {
    pub(super) fn new(client: Client, runtime: Handle, answer_max: Duration) -> Self {
        Self {
            client,
            runtime,
            answer_max,
            statements: RefCell::default(),
            is_broken: Cell::new(false),
        }
    }

    /// Whether somebody else may use it.
    pub(super) fn is_good(&self) -> bool {
        !self.is_broken.get() && !self.client.is_closed()
    }

    /// Nobody else gets it: it is closed.
    pub(crate) fn give_up(&self) {
        self.is_broken.set(true);
    }

    /// Statements without parameters and answers, in one round trip.
    pub(crate) fn batch(&self, text: &str) -> Result<(), DatabaseError> {
        self.wait_for(self.client.batch_execute(text))
    }

    /// Rows of a statement that is rarely asked.
    pub(crate) fn ask(
        &self,
        text: &str,
        parameters: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<Row>, DatabaseError> {
        self.wait_for(self.client.query(text, parameters))
    }

    /// Several requests that are sent together, each with prepared statements.
    pub(crate) fn run<'s, T, F>(
        &'s self,
        requests: impl FnOnce(&'s Client) -> F,
    ) -> Result<T, DatabaseError>
    where
        F: Future<Output = Result<T, tokio_postgres::Error>>,
    {
        self.wait_for(requests(&self.client))
    }

    /// Waits for the server, on this thread, for as long as it may take. Works on any thread: the
    /// connection itself is driven by the servers' own runtime.
    fn wait_for<T>(
        &self,
        answer: impl Future<Output = Result<T, tokio_postgres::Error>>,
    ) -> Result<T, DatabaseError> {
        let _timers = self.runtime.enter();
        let answered = pollster::block_on(tokio::time::timeout(self.answer_max, answer));
        match answered {
            Ok(answer) => Ok(answer?),
            Err(_) => {
                // What it still answers is nobody's.
                self.is_broken.set(true);
                Err(DatabaseError::TimedOut {
                    after: self.answer_max,
                })
            }
        }
    }

    pub(crate) fn prepare(&self, text: &'static str) -> Result<Statement, DatabaseError> {
        if let Some(known) = self.statements.borrow().get(text) {
            return Ok(known.clone());
        }
        let prepared = self.wait_for(self.client.prepare(text))?;
        self.statements.borrow_mut().insert(text, prepared.clone());
        Ok(prepared)
    }
}

/// One owner's use of a session: a tenant's, or the platform's. On tables that tenants share every
/// statement runs in a transaction that says whose it is, and names the tenant besides.
pub(crate) struct OwnerSession<'c> {
    session: &'c Session,
    tables: Tables,
    /// As text: 32 hexadecimal digits. Empty for the platform, which shares no tables.
    tenant: String,
    /// Whoever writes to the owner's tables holds this lock.
    lock: i64,
    rows: SealingKey<purpose::Rows>,
    entropy: &'c dyn Entropy,
    state: Cell<State>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// No transaction is open.
    Idle,
    /// One is open, since shared tables need one.
    Implicit,
    /// One is open that somebody asked for.
    Explicit,
}

impl<'c> OwnerSession<'c> {
    pub(crate) fn new(
        session: &'c Session,
        tables: Tables,
        keys: &TenantKeys,
        entropy: &'c dyn Entropy,
    ) -> Self {
        Self {
            session,
            tables,
            tenant: as_uuid(keys.tenant()),
            // The low bits of an id are random; where two tenants share them, one waits for the
            // other.
            lock: keys.tenant().bits() as u64 as i64,
            rows: keys.sealing_key(),
            entropy,
            state: Cell::new(State::Idle),
        }
    }

    /// The platform's use.
    pub(crate) fn of_platform(
        session: &'c Session,
        rows: SealingKey<purpose::Rows>,
        entropy: &'c dyn Entropy,
    ) -> Self {
        Self {
            session,
            tables: Tables::Own,
            tenant: String::new(),
            lock: PLATFORM_LOCK,
            rows,
            entropy,
            state: Cell::new(State::Idle),
        }
    }

    /// Begins a transaction. Until its end no other process writes to this owner's tables: as with
    /// a file, one writer at a time, so that what is read there stays true.
    pub(crate) fn begin_writing(&self) -> Result<(), DatabaseError> {
        self.finish()?;
        let lock = self.lock;
        self.open(&format!("BEGIN; SELECT pg_advisory_xact_lock({lock})"))?;
        self.state.set(State::Explicit);
        Ok(())
    }

    /// Begins a transaction that sees one state of all tables to its end, and does not write.
    pub(crate) fn begin_snapshot(&self) -> Result<(), DatabaseError> {
        self.finish()?;
        self.open("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")?;
        self.state.set(State::Explicit);
        // The first statement says which state it is.
        self.session.batch("SELECT 1")
    }

    pub(crate) fn commit(&self) -> Result<(), DatabaseError> {
        self.session.batch("COMMIT")?;
        self.state.set(State::Idle);
        Ok(())
    }

    /// Runs a statement as it stands.
    pub(crate) fn run_alone(&self, text: &'static str) -> Result<(), DatabaseError> {
        self.session.batch(text)
    }

    pub(crate) fn roll_back(&self) {
        if self.session.batch("ROLLBACK").is_err() {
            self.session.is_broken.set(true);
        }
        self.state.set(State::Idle);
    }

    /// Ends the transaction that nobody asked for. What was done is durable when this returns.
    pub(crate) fn finish(&self) -> Result<(), DatabaseError> {
        match self.state.get() {
            State::Implicit => self.commit(),
            State::Idle | State::Explicit => Ok(()),
        }
    }

    pub(crate) fn execute(
        &self,
        sql: &'static Sql,
        parameters: &[Value<'_>],
    ) -> Result<u64, DatabaseError> {
        self.run(sql, parameters, |statement, parameters| {
            let client = &self.session.client;
            self.session.wait_for(client.execute(statement, parameters))
        })
    }

    pub(crate) fn query(
        &self,
        sql: &'static Sql,
        parameters: &[Value<'_>],
    ) -> Result<Vec<Row>, DatabaseError> {
        self.run(sql, parameters, |statement, parameters| {
            let client = &self.session.client;
            self.session.wait_for(client.query(statement, parameters))
        })
    }

    /// Opens a value that was sealed for this column.
    pub(crate) fn unseal(&self, column: Column, sealed: &[u8]) -> Result<Vec<u8>, DatabaseError> {
        let opened = self.rows.open(&[column.as_bytes()], sealed);
        let mut plain = opened.map_err(|source| DatabaseError::Sealed { column, source })?;
        Ok(std::mem::take(&mut *plain))
    }

    fn run<T>(
        &self,
        sql: &'static Sql,
        parameters: &[Value<'_>],
        act: impl FnOnce(&Statement, &[&(dyn ToSql + Sync)]) -> Result<T, DatabaseError>,
    ) -> Result<T, DatabaseError> {
        if self.state.get() == State::Idle && self.tables == Tables::Shared {
            self.open("BEGIN")?;
            self.state.set(State::Implicit);
        }
        let statement = self.session.prepare(sql.text(self.tables))?;
        let tenant = Bound::Text(&self.tenant);
        let bound: Vec<Bound<'_>> = parameters.iter().map(|value| self.bind(value)).collect();
        let mut all: Vec<&(dyn ToSql + Sync)> = Vec::with_capacity(bound.len() + 1);
        if self.tables == Tables::Shared {
            all.push(&tenant);
        }
        all.extend(bound.iter().map(|value| value as &(dyn ToSql + Sync)));
        act(&statement, &all)
    }

    /// Begins a transaction in this way. Until its end row-level security lets this tenant's rows
    /// pass alone.
    fn open(&self, begin: &str) -> Result<(), DatabaseError> {
        let begun = match self.tables {
            Tables::Own => self.session.batch(begin),
            // Its text is 32 hexadecimal digits, by its making.
            Tables::Shared => self.session.batch(&format!(
                "{begin}; SELECT set_config('app.tenant', '{}', true)",
                self.tenant
            )),
        };
        if begun.is_err() {
            self.roll_back();
        }
        begun
    }

    fn bind<'v>(&self, value: &Value<'v>) -> Bound<'v> {
        match *value {
            Value::Bool(value) => Bound::Bool(value),
            Value::Int(value) => Bound::Int(value),
            Value::Text(value) => Bound::Text(value),
            Value::Bytes(value) => Bound::Bytes(value),
            Value::Sealed(column, value) => {
                Bound::Sealed(self.rows.seal(self.entropy, &[column.as_bytes()], value))
            }
            Value::Nothing => Bound::Nothing,
        }
    }
}

impl Drop for OwnerSession<'_> {
    fn drop(&mut self) {
        // Nothing is left open for whoever has the session next.
        if self.state.get() != State::Idle {
            self.roll_back();
        }
    }
}

/// A tenant's id as PostgreSQL takes it for a `uuid`.
pub(super) fn as_uuid(tenant: TenantId) -> String {
    format!("{:032x}", tenant.bits())
}

/// A parameter on its way.
enum Bound<'v> {
    Bool(bool),
    Int(i64),
    Text(&'v str),
    Bytes(&'v [u8]),
    Sealed(Vec<u8>),
    Nothing,
}

impl std::fmt::Debug for Bound<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("[redacted]")
    }
}

impl ToSql for Bound<'_> {
    fn to_sql(
        &self,
        ty: &Type,
        out: &mut bytes::BytesMut,
    ) -> Result<IsNull, Box<dyn std::error::Error + Sync + Send>> {
        match self {
            Self::Bool(value) if *ty == Type::BOOL => value.to_sql(ty, out),
            Self::Int(value) if *ty == Type::INT8 => value.to_sql(ty, out),
            Self::Int(value) if *ty == Type::INT4 => i32::try_from(*value)?.to_sql(ty, out),
            Self::Text(value) if <&str as ToSql>::accepts(ty) => value.to_sql(ty, out),
            Self::Bytes(value) if *ty == Type::BYTEA => value.to_sql(ty, out),
            Self::Sealed(value) if *ty == Type::BYTEA => value.as_slice().to_sql(ty, out),
            Self::Nothing => Ok(IsNull::Yes),
            _ => Err(format!("a parameter of another type than {ty}").into()),
        }
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    to_sql_checked!();
}
