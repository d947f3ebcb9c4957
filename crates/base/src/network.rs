//! The network comes through [`Network`], so that a simulation can cut and delay it.

use std::fmt;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

/// A connection's two directions.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// A future of the network.
pub type NetworkFuture<'a, T> = Pin<Box<dyn Future<Output = io::Result<T>> + Send + 'a>>;

/// Names and connections. Neither call has a deadline of its own: the caller puts one around it.
pub trait Network: Send + Sync + fmt::Debug {
    /// The addresses of `host` (a name or a literal), each with `port`.
    ///
    /// # Errors
    ///
    /// Whatever the resolver reports.
    fn resolve<'a>(&'a self, host: &'a str, port: u16) -> NetworkFuture<'a, Vec<SocketAddr>>;

    /// A connection to `address`, with `TCP_NODELAY` (a reply sent as head, then body, costs
    /// 40 ms without it).
    ///
    /// # Errors
    ///
    /// Whatever connecting reports.
    fn connect(&self, address: SocketAddr) -> NetworkFuture<'_, Box<dyn Stream>>;
}

/// The machine's network.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemNetwork;

impl Network for SystemNetwork {
    fn resolve<'a>(&'a self, host: &'a str, port: u16) -> NetworkFuture<'a, Vec<SocketAddr>> {
        Box::pin(async move { Ok(tokio::net::lookup_host((host, port)).await?.collect()) })
    }

    fn connect(&self, address: SocketAddr) -> NetworkFuture<'_, Box<dyn Stream>> {
        Box::pin(async move {
            let stream = TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            Ok(Box::new(stream) as Box<dyn Stream>)
        })
    }
}
