//! TLS to a server: as whom it must show itself, and when it is asked to.

use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_postgres::config::{Host, SslMode};
use tokio_postgres::tls::{ChannelBinding, MakeTlsConnect, TlsConnect, TlsStream};
use tokio_rustls::TlsConnector;

/// Why no certificate authority is known.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    /// The file cannot be read.
    #[error("the file of certificate authorities cannot be read")]
    Unreadable(#[source] rustls::pki_types::pem::Error),
    /// It holds something else.
    #[error("the file of certificate authorities holds what is no certificate")]
    NoCertificate(#[source] rustls::Error),
    /// It holds nothing.
    #[error("the file of certificate authorities holds no certificate")]
    Empty,
    /// The library refuses.
    #[error("TLS cannot be set up")]
    Setup(#[source] rustls::Error),
}

/// Makes TLS connections that verify the server's name and certificate.
#[derive(Clone)]
pub(super) struct Tls(Arc<ClientConfig>);

impl Tls {
    /// Trusts the authorities in this PEM file, or those that browsers trust.
    pub(super) fn new(authorities: Option<&std::path::Path>) -> Result<Self, AuthorityError> {
        client_config(authorities).map(Self)
    }
}

/// How this side speaks TLS: it trusts the authorities in this PEM file, or those that browsers
/// trust.
pub(crate) fn client_config(
    authorities: Option<&std::path::Path>,
) -> Result<Arc<ClientConfig>, AuthorityError> {
    let roots = match authorities {
        None => RootCertStore {
            roots: webpki_roots::TLS_SERVER_ROOTS.to_vec(),
        },
        Some(path) => {
            let mut roots = RootCertStore::empty();
            let found = CertificateDer::pem_file_iter(path).map_err(AuthorityError::Unreadable)?;
            for certificate in found {
                let certificate = certificate.map_err(AuthorityError::Unreadable)?;
                roots
                    .add(certificate)
                    .map_err(AuthorityError::NoCertificate)?;
            }
            if roots.is_empty() {
                return Err(AuthorityError::Empty);
            }
            roots
        }
    };
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(AuthorityError::Setup)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Arc::new(config))
}

/// The mode of an address: what it says, and, where it says nothing, TLS to every other machine.
pub(super) fn mode_of(address: &tokio_postgres::Config) -> SslMode {
    let is_local = |host: &Host| match host {
        Host::Tcp(name) => {
            name == "localhost"
                || name
                    .parse()
                    .is_ok_and(|address: IpAddr| address.is_loopback())
        }
        Host::Unix(_) => true,
    };
    match address.get_ssl_mode() {
        SslMode::Prefer if address.get_hosts().iter().all(is_local) => SslMode::Disable,
        SslMode::Prefer => SslMode::Require,
        said => said,
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> MakeTlsConnect<S> for Tls {
    type Stream = Encrypted<S>;
    type TlsConnect = Handshake;
    type Error = rustls::pki_types::InvalidDnsNameError;

    fn make_tls_connect(&mut self, host: &str) -> Result<Handshake, Self::Error> {
        Ok(Handshake {
            connector: TlsConnector::from(Arc::clone(&self.0)),
            host: ServerName::try_from(host)?.to_owned(),
        })
    }
}

/// A handshake with one host.
pub(super) struct Handshake {
    connector: TlsConnector,
    host: ServerName<'static>,
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> TlsConnect<S> for Handshake {
    type Stream = Encrypted<S>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Encrypted<S>>> + Send>>;

    fn connect(self, stream: S) -> Self::Future {
        Box::pin(async move { Ok(Encrypted(self.connector.connect(self.host, stream).await?)) })
    }
}

/// An encrypted connection.
pub(crate) struct Encrypted<S>(tokio_rustls::client::TlsStream<S>);

impl<S: AsyncRead + AsyncWrite + Unpin> TlsStream for Encrypted<S> {
    /// None: the certificate is verified already.
    fn channel_binding(&self) -> ChannelBinding {
        ChannelBinding::none()
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Encrypted<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        to: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(context, to)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Encrypted<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_machines_are_spoken_to_in_tls_unless_somebody_says_otherwise() {
        for (address, expected) in [
            ("postgres://a:b@127.0.0.1/d", SslMode::Disable),
            ("postgres://a:b@localhost/d", SslMode::Disable),
            (
                "postgres://a:b@127.0.0.1/d?sslmode=require",
                SslMode::Require,
            ),
            ("postgres://a:b@db.example.com/d", SslMode::Require),
            ("postgres://a:b@10.0.0.1/d", SslMode::Require),
            ("postgres://a:b@127.0.0.1,10.0.0.1/d", SslMode::Require),
            (
                "postgres://a:b@10.0.0.1/d?sslmode=disable",
                SslMode::Disable,
            ),
        ] {
            assert_eq!(mode_of(&address.parse().unwrap()), expected, "{address}");
        }
    }
}
