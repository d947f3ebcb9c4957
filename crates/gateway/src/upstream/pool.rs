//! Kept connections of one upstream: last in, first out, so that the others may grow old and go.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use base::{Deadline, Stream};
use parking_lot::Mutex;
use tokio_rustls::TlsConnector;

use super::http1::Connection;
use super::{EgressError, Origin, Reach, UpstreamParts, permitted_addresses};

/// 30 s: common servers close idle connections after 60 s or later, so ours goes first.
const IDLE_MAX: Duration = Duration::from_secs(30);

/// The idle connections of one upstream.
pub(super) struct Pool {
    parts: UpstreamParts,
    idle: Mutex<Vec<Idle>>,
    idle_max: usize,
    is_closed: AtomicBool,
}

struct Idle {
    connection: Connection,
    since: Duration,
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The host may not or cannot be reached.
    #[error(transparent)]
    Egress(#[from] EgressError),
    /// The upstream has no replica that is known, or none that was not tried.
    #[error("no replica of the upstream is known")]
    NoEndpoint,
    /// No address answered.
    #[error("no connection could be made")]
    Refused(#[source] std::io::Error),
    /// The peer does not speak TLS as we do, or its certificate is not good.
    #[error("the connection could not be encrypted")]
    Handshake(#[source] std::io::Error),
    /// It took too long.
    #[error("connecting took longer than `connect_ms`")]
    TimedOut,
}

impl Pool {
    pub(super) fn new(parts: UpstreamParts, idle_max: usize) -> Self {
        Self {
            parts,
            idle: Mutex::new(Vec::new()),
            idle_max,
            is_closed: AtomicBool::new(false),
        }
    }

    /// A kept connection that is still open.
    pub(super) fn take(&self) -> Option<Connection> {
        let now = self.parts.clock.elapsed();
        let mut idle = self.idle.lock();
        while let Some(mut kept) = idle.pop() {
            if kept.is_good(now) {
                return Some(kept.connection);
            }
        }
        None
    }

    /// Keeps a connection whose call has ended, if another may follow on it.
    pub(super) fn put_back(&self, mut connection: Connection) {
        if !connection.is_reusable() || self.is_closed.load(Ordering::Acquire) {
            return;
        }
        connection.rest();
        let since = self.parts.clock.elapsed();
        let mut idle = self.idle.lock();
        // The oldest stand in front: those that nobody asked for go, a few at a time.
        while idle
            .first()
            .is_some_and(|oldest| since.saturating_sub(oldest.since) > IDLE_MAX)
        {
            drop(idle.remove(0));
        }
        if idle.len() < self.idle_max {
            idle.push(Idle { connection, since });
        }
    }

    /// Closes what is too old, or was closed by the peer: nobody else reads idle connections.
    pub(super) fn sweep(&self) {
        let now = self.parts.clock.elapsed();
        self.idle.lock().retain_mut(|kept| kept.is_good(now));
    }

    /// Closes what is idle.
    pub(super) fn clear(&self) {
        self.idle.lock().clear();
    }

    /// Closes what is idle, and keeps nothing from now on.
    pub(super) fn close(&self) {
        self.is_closed.store(true, Ordering::Release);
        self.clear();
    }

    /// A new connection.
    ///
    /// # Errors
    ///
    /// [`ConnectError`].
    pub(super) async fn connect(
        &self,
        origin: &Origin,
        reach: Reach,
        budget: Duration,
    ) -> Result<Connection, ConnectError> {
        let deadline = Deadline::after(&*self.parts.clock, budget);
        let connecting = async {
            let stream = self.open(origin, reach).await?;
            let Some(name) = &origin.tls else {
                return Ok(Connection::new(stream));
            };
            let connector = TlsConnector::from(Arc::clone(&self.parts.tls));
            let stream = connector.connect(name.clone(), stream).await;
            let stream = stream.map_err(ConnectError::Handshake)?;
            Ok(Connection::new(Box::new(stream)))
        };
        tokio::time::timeout(deadline.remaining(&*self.parts.clock), connecting)
            .await
            .unwrap_or(Err(ConnectError::TimedOut))
    }

    /// The first permitted address that answers.
    async fn open(&self, origin: &Origin, reach: Reach) -> Result<Box<dyn Stream>, ConnectError> {
        let network = &*self.parts.network;
        let mut refused = std::io::Error::from(std::io::ErrorKind::NotFound);
        for address in permitted_addresses(network, &origin.host, origin.port, reach).await? {
            match network.connect(address).await {
                Ok(stream) => return Ok(stream),
                Err(error) => refused = error,
            }
        }
        Err(ConnectError::Refused(refused))
    }
}

impl Idle {
    fn is_good(&mut self, now: Duration) -> bool {
        now.saturating_sub(self.since) < IDLE_MAX && !self.connection.is_stale()
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pool({} idle)", self.idle.lock().len())
    }
}
