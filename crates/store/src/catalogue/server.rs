//! A catalogue on a PostgreSQL server, which several processes share.

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use base::{Clock, Entropy};
use tenancy::PlatformKeys;
use tokio::runtime::Runtime;
use tokio::sync::Notify;
use tokio_postgres::AsyncMessage;

use super::CatalogueError;
use super::replicas::{ReplicaId, THERE_FOR};
use crate::database::{Database, DatabaseError};
use crate::journal::InstallationId;
use crate::postgres::{
    CATALOGUE_SCHEMA, Capacity, Lease, OwnerSession, SESSIONS_MAX, Server, ServerError,
    ServerOptions, catalogue_schema, start_runtime,
};

/// Whoever changes the catalogue holds this lock from reading what there is to serving what comes.
/// "PWCT".
const TURN_LOCK: i64 = 0x5057_4354;
/// What a connection is called that has the turn, or waits for it: this, and the replica's id.
const TURN_OF: &str = "partywall turn ";
/// 1 s, then a connection that only listens is made again. Nobody depends on it: whoever waits for
/// news asks twice a second besides.
const LISTEN_AGAIN_AFTER: Duration = Duration::from_secs(1);

/// Where the server is.
#[derive(Debug, Clone)]
pub struct CatalogueServerOptions {
    /// `postgres://user:password@host/database`, of a role that may make a schema there and then
    /// owns it.
    pub address: tokio_postgres::Config,
    /// A PEM file with the authorities that vouch for its certificate; none for those that
    /// browsers trust.
    pub authorities: Option<PathBuf>,
}

/// The server, before the keys are known that open what it holds.
pub struct CatalogueServer {
    pub(super) server: Arc<Server>,
    /// Whose turns these are, once it has registered.
    replica: OnceLock<ReplicaId>,
    clock: Arc<dyn Clock>,
    /// Drives the connections.
    runtime: Option<Runtime>,
}

/// What makes an installation: who it is, and its own key under the root key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Founding {
    /// Its id.
    pub installation: InstallationId,
    /// Its wrapped keys: the caller's own encoding.
    pub platform_key: Vec<u8>,
}

/// Says when there may be something new.
#[derive(Debug, Clone)]
pub struct CatalogueNews {
    notify: Arc<Notify>,
}

/// The right to change the catalogue: no other process has it meanwhile.
pub struct CatalogueTurn<'s> {
    lease: Lease<'s>,
}

impl CatalogueServer {
    /// Connects, and makes the catalogue's tables or brings them up to date. Blocks.
    ///
    /// # Errors
    ///
    /// [`ServerError`].
    pub fn connect(
        options: CatalogueServerOptions,
        clock: &Arc<dyn Clock>,
        entropy: &Arc<dyn Entropy>,
    ) -> Result<Arc<Self>, ServerError> {
        let runtime = start_runtime()?;
        let options = ServerOptions {
            name: "catalogue".parse().expect("this is a name"),
            address: options.address,
            pool: None,
            region: None,
            capacity: Capacity::default(),
            sessions_max: SESSIONS_MAX,
            authorities: options.authorities,
        };
        let server = Server::new(options, runtime.handle().clone(), clock, entropy)?;
        server.prepare_catalogue()?;
        Ok(Arc::new(Self {
            server: Arc::new(server),
            replica: OnceLock::new(),
            clock: Arc::clone(clock),
            runtime: Some(runtime),
        }))
    }

    /// Which installation it is; none if nobody has founded one.
    ///
    /// # Errors
    ///
    /// Database errors.
    pub fn founding(&self) -> Result<Option<Founding>, CatalogueError> {
        let rows = self.ask(
            "SELECT id, platform_key FROM installation WHERE single = 1",
            &[],
        )?;
        let Some(row) = rows.first() else {
            return Ok(None);
        };
        let id: String = row.try_get(0).map_err(DatabaseError::from)?;
        let bits = u128::from_str_radix(&id, 16);
        Ok(Some(Founding {
            installation: bits
                .map_err(|_| DatabaseError::BadColumn { column: 0 })?
                .to_be_bytes(),
            platform_key: row.try_get(1).map_err(DatabaseError::from)?,
        }))
    }

    /// Makes it this installation's, unless somebody was faster. Says whose it is.
    ///
    /// # Errors
    ///
    /// Database errors.
    pub fn found(&self, founding: &Founding) -> Result<Founding, CatalogueError> {
        let id = format!("{:032x}", u128::from_be_bytes(founding.installation));
        self.ask(
            "INSERT INTO installation (single, id, platform_key) VALUES (1, $1, $2)
             ON CONFLICT (single) DO NOTHING",
            &[&id, &founding.platform_key],
        )?;
        let kept = self.founding()?;
        Ok(kept.ok_or(DatabaseError::BadColumn { column: 0 })?)
    }

    /// Keeps the installation's wrapped keys in place of those before.
    ///
    /// # Errors
    ///
    /// Database errors.
    pub fn replace_platform_key(&self, platform_key: &[u8]) -> Result<(), CatalogueError> {
        self.ask(
            "UPDATE installation SET platform_key = $1 WHERE single = 1",
            &[&platform_key],
        )?;
        Ok(())
    }

    /// Waits until no other process changes the catalogue, for as long as a server may take to
    /// answer. A replica that is paused in its turn, and does not count as there any more, loses it:
    /// what it was about to commit was made for a version that will not be the newest. Blocks.
    ///
    /// # Errors
    ///
    /// [`CatalogueError::Server`] with [`ServerError::Busy`] if another process took too long.
    pub fn turn(&self) -> Result<CatalogueTurn<'_>, CatalogueError> {
        match self.try_turn() {
            Err(CatalogueError::Server(ServerError::Busy { .. })) if self.end_paused_turn()? => {
                self.try_turn()
            }
            tried => tried,
        }
    }

    fn try_turn(&self) -> Result<CatalogueTurn<'_>, CatalogueError> {
        let lease = self.lease()?;
        let whose = match self.replica.get() {
            // Its text is 32 hexadecimal digits, by its making.
            Some(replica) => format!("SET application_name = '{TURN_OF}{replica}'; "),
            None => String::new(),
        };
        let locked = lease
            .session()
            .batch(&format!("{whose}SELECT pg_advisory_lock({TURN_LOCK})"));
        match locked {
            Ok(()) => Ok(CatalogueTurn { lease }),
            Err(error) if error.is_lock_timeout() => Err(self.server.busy().into()),
            // The server's patience and ours are the same: either may end first.
            Err(DatabaseError::TimedOut { .. }) => Err(self.server.busy().into()),
            Err(error) => Err(self.server.unreachable(error).into()),
        }
    }

    /// Ends the connection of a replica that has the turn and is not there any more. Whether there
    /// was one.
    fn end_paused_turn(&self) -> Result<bool, CatalogueError> {
        let there_for = i64::try_from(THERE_FOR.as_micros()).unwrap_or(i64::MAX);
        let ended = self.ask(
            "SELECT pg_terminate_backend(holder.pid)
             FROM pg_locks AS held JOIN pg_stat_activity AS holder ON holder.pid = held.pid
             WHERE held.locktype = 'advisory' AND held.granted
               AND held.classid = 0 AND held.objid::bigint = $1
               AND holder.datname = current_database() AND holder.usename = current_user
               AND starts_with(holder.application_name, $2)
               AND NOT EXISTS (
                   SELECT 1 FROM replicas
                   WHERE id = substr(holder.application_name, length($2) + 1) AND NOT ended
                     AND seen_at > (extract(epoch FROM clock_timestamp()) * 1000000)::bigint
                                   - $3::bigint)",
            &[&TURN_LOCK, &TURN_OF, &there_for],
        )?;
        Ok(!ended.is_empty())
    }

    /// Whose the turns are from here on.
    pub(super) fn is_of(&self, replica: ReplicaId) {
        self.replica.get_or_init(|| replica);
    }

    /// Listens for changes, for as long as the server is held. What is not heard is found by
    /// asking.
    pub fn listen(&self) -> CatalogueNews {
        let notify = Arc::new(Notify::new());
        let news = CatalogueNews {
            notify: Arc::clone(&notify),
        };
        let runtime = self.runtime.as_ref().expect("it is there until the drop");
        let server = Arc::clone(&self.server);
        runtime.spawn(async move {
            loop {
                if let Err(error) = listen_once(&server, &notify).await {
                    tracing::debug!(%error, "changes of the catalogue are asked for, not heard");
                }
                tokio::time::sleep(LISTEN_AGAIN_AFTER).await;
            }
        });
        news
    }

    pub(super) fn with<T, E: From<CatalogueError>>(
        &self,
        keys: &PlatformKeys,
        act: impl FnOnce(&Database<'_>) -> Result<T, E>,
    ) -> Result<T, E> {
        let lease = self.lease().map_err(|error| E::from(error.into()))?;
        let rows = keys.sealing_key();
        let entropy = &*self.server.entropy;
        let session = OwnerSession::of_platform(lease.session(), rows, entropy);
        act(&Database::postgres(session))
    }

    pub(super) fn ask(
        &self,
        text: &str,
        parameters: &[&(dyn tokio_postgres::types::ToSql + Sync)],
    ) -> Result<Vec<tokio_postgres::Row>, CatalogueError> {
        let lease = self.lease()?;
        Ok(lease.session().ask(text, parameters)?)
    }

    pub(super) fn clock(&self) -> &dyn Clock {
        &*self.clock
    }

    pub(super) fn lease(&self) -> Result<Lease<'_>, ServerError> {
        self.server.lease_as_owner(catalogue_schema())
    }
}

impl Drop for CatalogueServer {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // Not waited for: this may be dropped on a thread of another runtime.
            runtime.shutdown_background();
        }
    }
}

impl std::fmt::Debug for CatalogueServer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("CatalogueServer")
            .field(&CATALOGUE_SCHEMA)
            .finish()
    }
}

impl CatalogueNews {
    /// Waits until the server says that something has changed. What was said while nobody waited
    /// is not lost.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub async fn changed(&self) {
        self.notify.notified().await;
    }
}

impl Drop for CatalogueTurn<'_> {
    fn drop(&mut self) {
        let session = self.lease.session();
        // A connection that does not answer is closed, which unlocks it too.
        if let Err(error) = session.batch(&format!("SELECT pg_advisory_unlock({TURN_LOCK})")) {
            session.give_up();
            tracing::debug!(%error, "the turn's connection is closed");
        }
    }
}

/// Listens until the connection ends.
async fn listen_once(server: &Server, heard: &Notify) -> Result<(), tokio_postgres::Error> {
    let (client, mut connection) = server.connect_to_listen().await?;
    let listening = client.batch_execute("LISTEN partywall_catalogue");
    let messages = async {
        loop {
            match std::future::poll_fn(|context| connection.poll_message(context)).await {
                Some(Ok(AsyncMessage::Notification(_))) => heard.notify_one(),
                Some(Ok(_)) => {}
                Some(Err(error)) => return Err(error),
                None => return Ok(()),
            }
        }
    };
    // The first ends when the server has understood; the other one with the connection.
    let (asked, ended) = tokio::join!(listening, messages);
    asked.and(ended)
}
