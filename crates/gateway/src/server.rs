//! Connections of clients: accepted within a bound, served one call after another, drained.

use std::convert::Infallible;
use std::future::{Future as _, poll_fn};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use base::{Supervisor, at_one_time};
use http::header::{CONNECTION, TRANSFER_ENCODING};
use http::{HeaderValue, Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use store::Journal;
use tenancy::RememberedKey;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use crate::pipeline::{self, AnswerBody};
use crate::shared::Shared;
use crate::slow_reader::SlowReaderGuard;

/// 10 ms: after an accept that failed (no descriptors are left), long enough not to spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(10);

/// The headers that hyper takes at most unless it is told otherwise.
const HYPER_HEADERS_MAX: usize = 100;

/// What is known of a client's connection.
#[derive(Debug)]
pub(crate) struct ClientConnection {
    /// Its address.
    pub(crate) peer: IpAddr,
    /// The key that its calls came with.
    pub(crate) key: RememberedKey,
}

/// Accepts connections until the supervisor stops; returns once none is open.
pub(crate) async fn serve(shared: Arc<Shared>, listener: TcpListener, supervisor: Supervisor) {
    let places = Arc::new(Semaphore::new(shared.bounds.connections_max));
    loop {
        let place = Arc::clone(&places)
            .acquire_owned()
            .await
            .expect("it is never closed");
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = supervisor.stopping() => return,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let connection = connection(Arc::clone(&shared), stream, peer.ip(), supervisor.clone());
        supervisor.spawn(async move {
            connection.await;
            drop(place);
        });
    }
}

/// Where a request has two lengths hyper goes by the chunks, and does not say that there was
/// another. So a chunked body is the last thing that is read of a connection (RFC 9112, section
/// 6.1): nothing can be smuggled behind it.
async fn answer(
    shared: Arc<Shared>,
    request: Request<Incoming>,
    connection: Arc<ClientConnection>,
) -> Result<Response<AnswerBody>, Infallible> {
    let is_chunked = request.headers().contains_key(TRANSFER_ENCODING);
    let mut answer = pipeline::serve(shared, request, connection).await?;
    if is_chunked {
        let close = HeaderValue::from_static("close");
        answer.headers_mut().insert(CONNECTION, close);
    }
    Ok(answer)
}

/// Calls append to the journal quietly: its writer is told when a poll of their connection is over
/// and what it had to send is sent, or when the connection is dropped with the calls on it.
struct Announces<'a>(&'a Journal);

impl Drop for Announces<'_> {
    fn drop(&mut self) {
        self.0.announce();
    }
}

async fn connection(shared: Arc<Shared>, stream: TcpStream, peer: IpAddr, supervisor: Supervisor) {
    if stream.set_nodelay(true).is_err() {
        return; // It is gone already.
    }
    shared.metrics.connections.inc();
    let bounds = &shared.bounds;
    let from = Arc::new(ClientConnection {
        peer,
        key: RememberedKey::default(),
    });
    let service = service_fn(|request| answer(Arc::clone(&shared), request, Arc::clone(&from)));
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(bounds.header_timeout)
        .max_buf_size(bounds.header_bytes_max);
    // Told its own number, hyper would still clear as much memory twice for each request.
    if bounds.headers_max != HYPER_HEADERS_MAX {
        http.max_headers(bounds.headers_max);
    }
    let _last_words = Announces(&shared.journal);
    let connection = http.serve_connection(
        TokioIo::new(SlowReaderGuard::new(stream, bounds.write_timeout)),
        service,
    );
    let mut connection = std::pin::pin!(connection);
    let mut serving = poll_fn(|context| {
        let _told = Announces(&shared.journal);
        at_one_time(|| connection.as_mut().poll(context))
    });
    let ended = tokio::select! {
        biased;
        ended = &mut serving => ended,
        () = supervisor.stopping() => {
            connection.as_mut().graceful_shutdown();
            let mut ending = poll_fn(|context| {
                let _told = Announces(&shared.journal);
                connection.as_mut().poll(context)
            });
            tokio::select! {
                ended = &mut ending => ended,
                () = shared.cut.cancelled() => Ok(()),
            }
        }
    };
    if let Err(error) = ended {
        // Clients come and go; what went wrong in a call is logged with the call.
        tracing::debug!(%error, "a connection ended early");
    }
    shared.metrics.connections.dec();
}
