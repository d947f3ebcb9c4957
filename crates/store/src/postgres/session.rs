//! One connection to a server, and one owner's use of it: a tenant's, or the platform's.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::future::Future;
use std::time::Duration;

use base::{Entropy, TenantId};
use tenancy::{SealingKey, TenantKeys, purpose};
use tokio::runtime::Handle;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::{IsNull, ToSql, Type, to_sql_checked};
use tokio_postgres::{Client, Row, SimpleQueryMessage, Statement};

use super::gate::{self, Passed, Refused, Visitor};
use crate::database::{Column, DatabaseError, Sql, Tables, Value};

/// Whoever writes to the catalogue holds this lock. "PWCW".
const PLATFORM_LOCK: i64 = 0x5057_4357;

/// A connection. Its statements are prepared once.
pub(crate) struct Session {
    client: Client,
    runtime: Handle,
    answer_max: Duration,
    statements: RefCell<HashMap<Box<str>, Statement>>,
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

    /// The same, with what they answer.
    fn batch_answers(&self, text: &str) -> Result<Vec<SimpleQueryMessage>, DatabaseError> {
        self.wait_for(self.client.simple_query(text))
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

    /// Texts are those of this program, or of another version of it that runs beside it: they are
    /// few.
    pub(crate) fn prepare(&self, text: &str) -> Result<Statement, DatabaseError> {
        if let Some(known) = self.statements.borrow().get(text) {
            return Ok(known.clone());
        }
        let prepared = self.wait_for(self.client.prepare(text))?;
        self.statements
            .borrow_mut()
            .insert(text.into(), prepared.clone());
        Ok(prepared)
    }
}

/// One owner's use of a session: a tenant's, or the platform's. On tables that tenants share every
/// statement runs in a transaction that says whose it is, and names the tenant besides.
///
/// A tenant's store is asked first whether it is the store (`gate.rs`): once for an operation that
/// reads, and in each transaction that writes, under the writers' lock.
pub(crate) struct OwnerSession<'c> {
    session: &'c Session,
    tables: Tables,
    visitor: Visitor,
    /// As text: 32 hexadecimal digits. Empty for the platform, which shares no tables.
    tenant: String,
    /// Whoever writes to the owner's tables holds this lock.
    lock: i64,
    rows: SealingKey<purpose::Rows>,
    entropy: &'c dyn Entropy,
    state: Cell<State>,
    /// Whether the open transaction holds the lock.
    holds_lock: Cell<bool>,
    /// The store has let this visitor in, in this operation.
    is_inside: Cell<bool>,
    /// What the open transaction changes is to be logged; so many bytes are.
    logged: Cell<Option<i64>>,
    /// Something was written and is durable.
    has_written: Cell<bool>,
    refused: Cell<Option<Refused>>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// No transaction is open.
    Idle,
    /// One is open, since shared tables or a change need one.
    Implicit,
    /// One is open that somebody asked for.
    Explicit,
}

/// What a transaction is for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Access {
    Reading,
    Writing,
}

impl<'c> OwnerSession<'c> {
    pub(crate) fn new(
        session: &'c Session,
        (tables, lock): (Tables, i64),
        visitor: Visitor,
        keys: &TenantKeys,
        entropy: &'c dyn Entropy,
    ) -> Self {
        Self {
            session,
            tables,
            visitor,
            tenant: as_uuid(keys.tenant()),
            lock,
            rows: keys.sealing_key(),
            entropy,
            state: Cell::new(State::Idle),
            holds_lock: Cell::new(false),
            is_inside: Cell::new(false),
            logged: Cell::new(None),
            has_written: Cell::new(false),
            refused: Cell::new(None),
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
            visitor: Visitor::Platform,
            tenant: String::new(),
            lock: PLATFORM_LOCK,
            rows,
            entropy,
            state: Cell::new(State::Idle),
            holds_lock: Cell::new(false),
            is_inside: Cell::new(false),
            logged: Cell::new(None),
            has_written: Cell::new(false),
            refused: Cell::new(None),
        }
    }

    /// Whose the tables are.
    pub(crate) const fn tables(&self) -> Tables {
        self.tables
    }

    /// Why the store did not let this visitor in, if it did not and nothing was written before:
    /// the same can be tried again, there or where the store is now.
    pub(crate) fn refused(&self) -> Option<Refused> {
        self.refused.get().filter(|_| !self.has_written.get())
    }

    /// How many bytes of changes are logged, where those of the open transaction are to be.
    pub(crate) fn logged(&self) -> Option<i64> {
        self.logged.get()
    }

    /// Begins a transaction. Until its end no other process writes to this owner's tables: as with
    /// a file, one writer at a time, so that what is read there stays true.
    pub(crate) fn begin_writing(&self) -> Result<(), DatabaseError> {
        self.finish()?;
        self.open("BEGIN; ", Access::Writing)?;
        self.state.set(State::Explicit);
        Ok(())
    }

    /// Begins a transaction that sees one state of all tables to its end, and does not write.
    pub(crate) fn begin_snapshot(&self) -> Result<(), DatabaseError> {
        self.finish()?;
        self.open(
            "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; ",
            Access::Reading,
        )?;
        self.state.set(State::Explicit);
        // The first statement says which state it is.
        self.session.batch("SELECT 1")
    }

    pub(crate) fn commit(&self) -> Result<(), DatabaseError> {
        self.session.batch("COMMIT")?;
        if self.holds_lock.get() {
            self.has_written.set(true);
        }
        self.ended();
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
        self.ended();
    }

    fn ended(&self) {
        self.state.set(State::Idle);
        self.holds_lock.set(false);
        self.logged.set(None);
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
        self.ready(access_of(sql))?;
        self.run(
            sql.text(self.tables),
            parameters,
            |statement, parameters| {
                let client = &self.session.client;
                self.session.wait_for(client.execute(statement, parameters))
            },
        )
    }

    pub(crate) fn query(
        &self,
        sql: &'static Sql,
        parameters: &[Value<'_>],
    ) -> Result<Vec<Row>, DatabaseError> {
        self.ready(access_of(sql))?;
        self.run(
            sql.text(self.tables),
            parameters,
            |statement, parameters| {
                let client = &self.session.client;
                self.session.wait_for(client.query(statement, parameters))
            },
        )
    }

    /// Does again what a transaction elsewhere has done: its text is that of these tables.
    pub(crate) fn repeat(&self, text: &str, parameters: &[Value<'_>]) -> Result<(), DatabaseError> {
        self.ready(Access::Writing)?;
        self.run(text, parameters, |statement, parameters| {
            let client = &self.session.client;
            self.session.wait_for(client.query(statement, parameters))
        })
        .map(drop)
    }

    /// Opens a value that was sealed for this column.
    pub(crate) fn unseal(&self, column: Column, sealed: &[u8]) -> Result<Vec<u8>, DatabaseError> {
        let opened = self.rows.open(&[column.as_bytes()], sealed);
        let mut plain = opened.map_err(|source| DatabaseError::Sealed { column, source })?;
        Ok(std::mem::take(&mut *plain))
    }

    fn run<T>(
        &self,
        text: &str,
        parameters: &[Value<'_>],
        act: impl FnOnce(&Statement, &[&(dyn ToSql + Sync)]) -> Result<T, DatabaseError>,
    ) -> Result<T, DatabaseError> {
        let statement = self.session.prepare(text)?;
        let tenant = Bound::Text(&self.tenant);
        let bound: Vec<Bound<'_>> = parameters.iter().map(|value| self.bind(value)).collect();
        let mut all: Vec<&(dyn ToSql + Sync)> = Vec::with_capacity(bound.len() + 1);
        if self.tables == Tables::Shared {
            all.push(&tenant);
        }
        all.extend(bound.iter().map(|value| value as &(dyn ToSql + Sync)));
        act(&statement, &all)
    }

    /// Sees to the transaction, the lock and the store's permission that a statement needs.
    fn ready(&self, access: Access) -> Result<(), DatabaseError> {
        if self.visitor == Visitor::Platform {
            return Ok(());
        }
        match (self.state.get(), access) {
            (State::Idle, Access::Writing) => self.begin_implicitly(access),
            (State::Idle, Access::Reading) if self.tables == Tables::Shared => {
                self.begin_implicitly(access)
            }
            (State::Idle, Access::Reading) if !self.is_inside.get() => self.open("", access),
            (State::Implicit, Access::Writing) if !self.holds_lock.get() => self.open("", access),
            _ => Ok(()),
        }
    }

    fn begin_implicitly(&self, access: Access) -> Result<(), DatabaseError> {
        self.open("BEGIN; ", access)?;
        self.state.set(State::Implicit);
        Ok(())
    }

    /// Begins a transaction in this way, if any: until its end row-level security lets this
    /// tenant's rows pass alone. Whoever writes waits for the lock; then the store says whether it
    /// is the store.
    fn open(&self, begin: &str, access: Access) -> Result<(), DatabaseError> {
        let mut text = begin.to_owned();
        if self.tables == Tables::Shared {
            // Its text is 32 hexadecimal digits, by its making.
            let tenant = &self.tenant;
            text += &format!("SELECT set_config('app.tenant', '{tenant}', true); ");
        }
        if access == Access::Writing {
            text += &format!("SELECT pg_advisory_xact_lock({}); ", self.lock);
        }
        let asks = match self.visitor {
            Visitor::Platform | Visitor::Setup => false,
            Visitor::Tenant => true,
            Visitor::Move(_) => access == Access::Writing,
        };
        if asks {
            text += &gate::question(self.tables, &self.tenant);
        }
        let opened = self
            .session
            .batch_answers(&text)
            .and_then(|answers| match asks {
                true => gate::verdict(self.visitor, &answers),
                false => Ok(Ok(Passed { logged: None })),
            });
        let refused = match opened {
            Ok(Ok(passed)) => {
                self.is_inside.set(true);
                if access == Access::Writing {
                    self.holds_lock.set(true);
                    self.logged.set(passed.logged);
                }
                return Ok(());
            }
            Ok(Err(refused)) => {
                self.refused.set(Some(refused));
                match refused {
                    Refused::Missing => DatabaseError::NoStore,
                    Refused::Elsewhere | Refused::Stale => DatabaseError::Elsewhere,
                }
            }
            Err(failed) => {
                if asks && is_stale(&failed) {
                    self.refused.set(Some(Refused::Stale));
                }
                failed
            }
        };
        self.roll_back();
        Err(refused)
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

fn access_of(sql: &Sql) -> Access {
    match sql.writes() {
        true => Access::Writing,
        false => Access::Reading,
    }
}

/// Whether the tables or the role of a connection are others than when it was made, or gone.
fn is_stale(error: &DatabaseError) -> bool {
    let stale = [
        SqlState::INSUFFICIENT_PRIVILEGE,
        SqlState::UNDEFINED_TABLE,
        SqlState::UNDEFINED_OBJECT,
        SqlState::INVALID_SCHEMA_NAME,
    ];
    match error {
        DatabaseError::TimedOut { .. } => false,
        DatabaseError::Postgres(cause) if !error.is_disconnection() => {
            cause.code().is_some_and(|code| stale.contains(code))
        }
        error => error.is_disconnection(),
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
