//! Kept connections of one upstream: last in, first out, so that the others may grow old and go.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use base::{Deadline, Stream};
use hyper::client::conn::http1::SendRequest;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use tokio_rustls::TlsConnector;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{EgressError, Origin, Reach, UpstreamBody, UpstreamParts, permitted_addresses};

/// 30 s: common servers close idle connections after 60 s or later, so ours goes first.
const IDLE_MAX: Duration = Duration::from_secs(30);
/// 64 KiB: room for any answer's head, and a chunk of a stream in one read.
const READ_BUFFER_BYTES: usize = 64 << 10;

/// The idle connections of one upstream.
pub(super) struct Pool {
    parts: UpstreamParts,
    idle: Mutex<Vec<Idle>>,
    idle_max: usize,
}

struct Idle {
    connection: Connection,
    since: Duration,
}

/// A connection that serves one call at a time. Dropping it closes it, whatever is under way.
pub(super) struct Connection {
    pub(super) sender: SendRequest<UpstreamBody>,
    _close_on_drop: DropGuard,
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The host may not or cannot be reached.
    #[error(transparent)]
    Egress(#[from] EgressError),
    /// No address answered.
    #[error("no connection could be made")]
    Refused(#[source] std::io::Error),
    /// The peer does not speak the protocol, or its certificate is not good.
    #[error("the connection could not be set up")]
    Handshake(#[source] Box<dyn std::error::Error + Send + Sync>),
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
        }
    }

    /// A kept connection that is still open.
    pub(super) fn take(&self) -> Option<Connection> {
        let mut idle = self.idle.lock();
        while let Some(Idle { connection, since }) = idle.pop() {
            let age = self.parts.clock.elapsed().saturating_sub(since);
            if !connection.sender.is_closed() && age < IDLE_MAX {
                return Some(connection);
            }
        }
        None
    }

    /// Keeps a connection whose call has ended.
    pub(super) fn put_back(&self, connection: Connection) {
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

    /// Closes what is idle.
    pub(super) fn clear(&self) {
        self.idle.lock().clear();
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
            match &origin.tls {
                None => self.handshake(stream).await,
                Some(name) => {
                    let connector = TlsConnector::from(Arc::clone(&self.parts.tls));
                    let stream = connector
                        .connect(name.clone(), stream)
                        .await
                        .map_err(|error| ConnectError::Handshake(error.into()))?;
                    self.handshake(Box::new(stream)).await
                }
            }
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

    async fn handshake(&self, stream: Box<dyn Stream>) -> Result<Connection, ConnectError> {
        let (sender, connection) = hyper::client::conn::http1::Builder::new()
            .max_buf_size(READ_BUFFER_BYTES)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(|error| ConnectError::Handshake(error.into()))?;
        let close = CancellationToken::new();
        let closed = close.clone();
        self.parts.supervisor.spawn(async move {
            tokio::select! {
                // How a connection ended matters to its call alone, which learns of it itself.
                _ = connection => {}
                () = closed.cancelled() => {}
            }
        });
        Ok(Connection {
            sender,
            _close_on_drop: close.drop_guard(),
        })
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pool({} idle)", self.idle.lock().len())
    }
}
