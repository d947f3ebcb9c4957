//! One connection, plain or encrypted.

use std::sync::Arc;
use std::time::Duration;

use base::Supervisor;
use bytes::Bytes;
use http_body_util::Full;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::{ClientError, Target};

/// Sends requests over one connection.
pub(super) type Sender = http1::SendRequest<Full<Bytes>>;

/// Ten seconds: any place on earth, encryption included.
const CONNECT_TIME_MAX: Duration = Duration::from_secs(10);

/// A connection to `target`; its task belongs to `tasks`.
pub(super) async fn open(target: &Target, tasks: &Supervisor) -> Result<Sender, ClientError> {
    let (host, port) = target.host_and_port();
    let unreachable = |cause| ClientError::Unreachable {
        url: target.to_string(),
        cause,
    };
    let connecting = async {
        let stream = TcpStream::connect((host.as_str(), port))
            .await
            .map_err(unreachable)?;
        stream.set_nodelay(true).map_err(unreachable)?;
        if !target.is_encrypted() {
            return speak(stream, target, tasks).await;
        }
        let stream = connector()
            .connect(target.server_name()?, stream)
            .await
            .map_err(unreachable)?;
        speak(stream, target, tasks).await
    };
    match tokio::time::timeout(CONNECT_TIME_MAX, connecting).await {
        Ok(sender) => sender,
        Err(_) => Err(unreachable(std::io::ErrorKind::TimedOut.into())),
    }
}

async fn speak<S>(stream: S, target: &Target, tasks: &Supervisor) -> Result<Sender, ClientError>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (sender, connection) = http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|cause| ClientError::Broken {
            url: target.to_string(),
            cause,
        })?;
    tasks.spawn(async move {
        // A connection's end is noticed by whoever sends next; there is nothing to do here.
        drop(connection.await);
    });
    Ok(sender)
}

/// Trusts the authorities that browsers trust.
fn connector() -> TlsConnector {
    let roots = RootCertStore {
        roots: webpki_roots::TLS_SERVER_ROOTS.to_vec(),
    };
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("ring has the default versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    TlsConnector::from(Arc::new(config))
}
