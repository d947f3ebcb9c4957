//! A server, and the connections to it.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use base::{Clock, Entropy, Name};
use parking_lot::{Condvar, Mutex};
use tenancy::DatabaseSecret;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::Semaphore;
use tokio_postgres::Config;
use tokio_postgres::error::SqlState;

use super::Login;
use super::options::{Capacity, ServerError, ServerOptions};
use super::session::Session;
use super::tls::{self, Tls};
use crate::database::DatabaseError;
use crate::steps::{Bring, Upgraded};

/// 32 connections of a process to one server, unless it is told otherwise: PostgreSQL allows 100
/// in all by default, and three replicas have room.
pub const SESSIONS_MAX: usize = 32;
/// 16 operations wait for one server at a time, or half as many as there are connections, so that
/// other tenants' connections are not closed for each.
const THREADS_MAX: usize = 16;
/// 10 s: a page of rows takes milliseconds. A server that is slower than that is not there.
const ANSWER_MAX: Duration = Duration::from_secs(10);
/// 5 s: twice what a handshake across continents takes, with TLS and a password.
const CONNECT_MAX: Duration = Duration::from_secs(5);
/// 2 s, in which a server that was not there is not asked again: whoever has much to do there, such
/// as the posting of many tenants' lines, does not wait for each.
const DOWN_FOR: Duration = Duration::from_secs(2);
/// 60 s, then a connection that nobody uses is closed: a server keeps megabytes for each.
const IDLE_MAX: Duration = Duration::from_secs(60);

/// The servers of an installation.
pub struct Servers {
    by_name: HashMap<Name, Arc<Server>>,
    /// Drives the connections; none where there is no server.
    runtime: Option<Runtime>,
}

/// One server.
pub(crate) struct Server {
    pub(super) name: Name,
    pub(super) address: Config,
    /// As whom a pool's statements run; none on a server that has no tenants' stores.
    pool: Option<DatabaseSecret>,
    region: Option<Name>,
    capacity: Capacity,
    sessions_max: usize,
    tls: Tls,
    runtime: tokio::runtime::Handle,
    clock: Arc<dyn Clock>,
    pub(crate) entropy: Arc<dyn Entropy>,
    /// How many operations run there at a time.
    pub(crate) threads: Semaphore,
    sessions: Mutex<Sessions>,
    freed: Condvar,
    pool_is_ready: Mutex<bool>,
    /// Until when it is not asked, on the clock's monotonic time.
    down_until: Mutex<Duration>,
}

#[derive(Default)]
struct Sessions {
    /// Idle ones and those in use.
    open: usize,
    /// The longest idle first.
    idle: VecDeque<Idle>,
}

struct Idle {
    login: Login,
    session: Session,
    /// On the clock's monotonic time.
    since: Duration,
}

/// A session for the time of one operation.
pub(crate) struct Lease<'s> {
    server: &'s Server,
    login: Login,
    /// There until it is dropped.
    session: Option<Session>,
}

impl Servers {
    /// No server: every tenant has a file.
    pub fn none() -> Self {
        Self {
            by_name: HashMap::new(),
            runtime: None,
        }
    }

    /// These servers. Nothing is connected yet.
    ///
    /// # Errors
    ///
    /// [`ServerError::NoThread`].
    pub fn new(
        servers: Vec<ServerOptions>,
        clock: &Arc<dyn Clock>,
        entropy: &Arc<dyn Entropy>,
    ) -> Result<Self, ServerError> {
        if servers.is_empty() {
            return Ok(Self::none());
        }
        let runtime = start_runtime()?;
        let server = |options: ServerOptions| {
            let name = options.name.clone();
            let server = Server::new(options, runtime.handle().clone(), clock, entropy)?;
            Ok((name, Arc::new(server)))
        };
        Ok(Self {
            by_name: servers.into_iter().map(server).collect::<Result<_, _>>()?,
            runtime: Some(runtime),
        })
    }

    pub(crate) fn get(&self, name: &Name) -> Result<&Arc<Server>, ServerError> {
        self.by_name
            .get(name)
            .ok_or_else(|| ServerError::Unknown { name: name.clone() })
    }

    /// Its region, and how many tenants it may have; none if there is no such server.
    pub(crate) fn room(&self, name: &Name) -> Option<(Option<&Name>, Capacity)> {
        let server = self.by_name.get(name)?;
        Some((server.region.as_ref(), server.capacity))
    }

    pub(crate) fn names(&self) -> Vec<Name> {
        let mut names: Vec<_> = self.by_name.keys().cloned().collect();
        names.sort();
        names
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = &Arc<Server>> {
        self.by_name.values()
    }
}

/// What drives connections.
pub(crate) fn start_runtime() -> Result<Runtime, ServerError> {
    Builder::new_multi_thread()
        // One: it moves bytes between sockets and channels.
        .worker_threads(1)
        .thread_name("postgres")
        .enable_all()
        .build()
        .map_err(ServerError::NoThread)
}

impl Drop for Servers {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // Not waited for: this may be dropped on a thread of another runtime.
            runtime.shutdown_background();
        }
    }
}

impl fmt::Debug for Servers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.by_name.keys()).finish()
    }
}

impl Server {
    /// A server. Nothing is connected yet.
    pub(crate) fn new(
        options: ServerOptions,
        runtime: tokio::runtime::Handle,
        clock: &Arc<dyn Clock>,
        entropy: &Arc<dyn Entropy>,
    ) -> Result<Self, ServerError> {
        let authority = |source| ServerError::Authority {
            name: options.name.clone(),
            source,
        };
        let mut address = options.address;
        address.ssl_mode(tls::mode_of(&address));
        Ok(Self {
            tls: Tls::new(options.authorities.as_deref()).map_err(authority)?,
            name: options.name,
            address,
            pool: options.pool,
            region: options.region,
            capacity: options.capacity,
            sessions_max: options.sessions_max,
            runtime,
            clock: Arc::clone(clock),
            entropy: Arc::clone(entropy),
            threads: Semaphore::new(THREADS_MAX.min(options.sessions_max.div_ceil(2))),
            sessions: Mutex::default(),
            freed: Condvar::new(),
            pool_is_ready: Mutex::new(false),
            down_until: Mutex::new(Duration::ZERO),
        })
    }

    /// As whom a pool's statements run.
    pub(super) fn pool(&self) -> &DatabaseSecret {
        self.pool
            .as_ref()
            .expect("only servers of tenants' stores have pools")
    }

    /// A connection of this role: one that is idle, or a new one.
    pub(crate) fn lease(
        &self,
        login: Login,
        secret: &DatabaseSecret,
    ) -> Result<Lease<'_>, ServerError> {
        let session = match self.take(&login)? {
            Some(session) => session,
            None => self.connect(&login, Some(secret)).inspect_err(|_| {
                self.forget_one();
            })?,
        };
        Ok(Lease {
            server: self,
            login,
            session: Some(session),
        })
    }

    /// A connection of the pool's role. The first one makes sure that there is a pool, and that
    /// it keeps tenants apart.
    pub(crate) fn lease_pool(&self, login: Login) -> Result<Lease<'_>, ServerError> {
        self.ready_pool()?;
        self.lease(login, self.pool())
    }

    /// Makes sure that there is a pool, and that it keeps tenants apart.
    pub(crate) fn ready_pool(&self) -> Result<(), ServerError> {
        let mut is_ready = self.pool_is_ready.lock();
        if !*is_ready {
            self.prepare_pool(Bring::WhereServed)?;
            *is_ready = true;
        }
        Ok(())
    }

    /// Brings the pool to the newest step, whatever this process knows of it.
    pub(crate) fn upgrade_pool(&self) -> Result<Upgraded, ServerError> {
        let mut is_ready = self.pool_is_ready.lock();
        let upgraded = self.prepare_pool(Bring::ToNewest)?;
        *is_ready = true;
        Ok(upgraded)
    }

    /// The answer where a tenant's store is missing.
    pub(crate) fn no_store(&self) -> ServerError {
        ServerError::NoStore {
            name: self.name.clone(),
        }
    }

    /// A connection of the role that owns the tables, to this database. It is not kept.
    pub(super) fn administer(
        &self,
        database: Option<super::login::Identifier>,
    ) -> Result<Session, ServerError> {
        let owner = Login {
            // Not used: the address says who.
            role: super::login::Identifier::schema(),
            database,
            schema: super::login::Identifier::schema(),
        };
        self.connect(&owner, None)
    }

    /// A connection of the role that the address names, which sees this schema. It is kept for the
    /// next who asks.
    pub(crate) fn lease_as_owner(
        &self,
        schema: super::login::Identifier,
    ) -> Result<Lease<'_>, ServerError> {
        let login = Login {
            // Not used: the address says who.
            role: schema.clone(),
            database: None,
            schema,
        };
        let session = match self.take(&login)? {
            Some(session) => session,
            None => self.connect(&login, None).inspect_err(|_| {
                self.forget_one();
            })?,
        };
        Ok(Lease {
            server: self,
            login,
            session: Some(session),
        })
    }

    pub(crate) fn unreachable(&self, source: DatabaseError) -> ServerError {
        ServerError::Unreachable {
            name: self.name.clone(),
            source,
        }
    }

    fn down(&self, source: DatabaseError) -> ServerError {
        *self.down_until.lock() = self.clock.elapsed() + DOWN_FOR;
        self.unreachable(source)
    }

    /// An idle session of this login, or none and the right to open one.
    fn take(&self, login: &Login) -> Result<Option<Session>, ServerError> {
        let mut sessions = self.sessions.lock();
        loop {
            let idle = sessions.idle.iter().rposition(|idle| idle.login == *login);
            if let Some(found) = idle.and_then(|place| sessions.idle.remove(place)) {
                if found.session.is_good() {
                    return Ok(Some(found.session));
                }
                sessions.open -= 1;
                continue;
            }
            if sessions.open < self.sessions_max {
                sessions.open += 1;
                return Ok(None);
            }
            // Somebody else's that is idle gives way.
            if sessions.idle.pop_front().is_some() {
                return Ok(None);
            }
            if self.freed.wait_for(&mut sessions, CONNECT_MAX).timed_out() {
                return Err(self.busy());
            }
        }
    }

    fn connect(
        &self,
        login: &Login,
        secret: Option<&DatabaseSecret>,
    ) -> Result<Session, ServerError> {
        if self.clock.elapsed() < *self.down_until.lock() {
            return Err(ServerError::Down {
                name: self.name.clone(),
            });
        }
        let mut address = self.address.clone();
        if let Some(secret) = secret {
            address.user(login.role.as_str());
            address.password(secret.password().as_bytes());
        }
        if let Some(database) = &login.database {
            address.dbname(database.as_str());
        }
        let answer_ms = ANSWER_MAX.as_millis();
        address
            .application_name("partywall")
            .connect_timeout(CONNECT_MAX)
            .tcp_user_timeout(ANSWER_MAX)
            .options(format!(
                "-c search_path={} -c statement_timeout={answer_ms} -c lock_timeout={answer_ms} \
                 -c idle_in_transaction_session_timeout={answer_ms}",
                login.schema
            ));
        let connected = {
            let _timers = self.runtime.enter();
            pollster::block_on(tokio::time::timeout(CONNECT_MAX, self.open(&address)))
        };
        match connected {
            Ok(Ok(client)) => Ok(Session::new(client, self.runtime.clone(), ANSWER_MAX)),
            // To a tenant's role this is how a server says that it was never made here.
            Ok(Err(source)) if secret.is_some() && is_refusal(&source) => Err(self.no_store()),
            Ok(Err(source)) => Err(self.down(source.into())),
            Err(_) => Err(self.down(DatabaseError::TimedOut { after: CONNECT_MAX })),
        }
    }

    /// The answer where something took too long that others do too.
    pub(crate) fn busy(&self) -> ServerError {
        ServerError::Busy {
            name: self.name.clone(),
        }
    }

    /// A connection of its own, whose messages the caller reads.
    pub(crate) async fn connect_to_listen(
        &self,
    ) -> Result<
        (
            tokio_postgres::Client,
            tokio_postgres::Connection<
                tokio_postgres::Socket,
                tls::Encrypted<tokio_postgres::Socket>,
            >,
        ),
        tokio_postgres::Error,
    > {
        let mut address = self.address.clone();
        address
            .application_name("partywall")
            .connect_timeout(CONNECT_MAX)
            .keepalives_idle(ANSWER_MAX);
        address.connect(self.tls.clone()).await
    }

    async fn open(
        &self,
        address: &Config,
    ) -> Result<tokio_postgres::Client, tokio_postgres::Error> {
        let name = self.name.clone();
        let ended = move |outcome: Result<(), tokio_postgres::Error>| {
            if let Err(error) = outcome {
                tracing::warn!(server = %name, %error, "a connection to PostgreSQL ended");
            }
        };
        let (client, connection) = address.connect(self.tls.clone()).await?;
        self.runtime.spawn(async move { ended(connection.await) });
        Ok(client)
    }

    fn give_back(&self, login: Login, session: Session) {
        let mut sessions = self.sessions.lock();
        if session.is_good() {
            sessions.idle.push_back(Idle {
                login,
                session,
                since: self.clock.elapsed(),
            });
        } else {
            sessions.open -= 1;
        }
        drop(sessions);
        self.freed.notify_one();
    }

    fn forget_one(&self) {
        self.sessions.lock().open -= 1;
        self.freed.notify_one();
    }

    /// Closes connections that nobody has used for a while. Says how many.
    pub(crate) fn close_idle(&self) -> usize {
        let due = self.clock.elapsed().saturating_sub(IDLE_MAX);
        let mut sessions = self.sessions.lock();
        let before = sessions.idle.len();
        sessions
            .idle
            .retain(|idle| idle.since > due && idle.session.is_good());
        let closed = before - sessions.idle.len();
        sessions.open -= closed;
        closed
    }

    /// Closes what is idle of this role: it is about to be removed, or to get another password.
    pub(crate) fn close_idle_of(&self, role: &super::login::Identifier) {
        let mut sessions = self.sessions.lock();
        let before = sessions.idle.len();
        sessions.idle.retain(|idle| idle.login.role != *role);
        sessions.open -= before - sessions.idle.len();
    }
}

/// Whether a role or a database is not there, or the password is another.
fn is_refusal(error: &tokio_postgres::Error) -> bool {
    let refusals = [
        SqlState::INVALID_PASSWORD,
        SqlState::INVALID_AUTHORIZATION_SPECIFICATION,
        SqlState::INVALID_CATALOG_NAME,
        SqlState::INSUFFICIENT_PRIVILEGE,
    ];
    error.code().is_some_and(|code| refusals.contains(code))
}

impl Lease<'_> {
    pub(crate) fn session(&self) -> &Session {
        self.session
            .as_ref()
            .expect("a lease has its session until it is dropped")
    }
}

impl Drop for Lease<'_> {
    fn drop(&mut self) {
        if let Some(session) = self.session.take() {
            self.server.give_back(self.login.clone(), session);
        }
    }
}
