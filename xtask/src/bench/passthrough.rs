//! The lower bound: hyper in, hyper out, one upstream connection per client connection, nothing
//! looked at.

use std::net::SocketAddr;

use anyhow::Context;
use base::Supervisor;
use hyper::Request;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Mutex;

use crate::product::runtime;

/// Where to listen and where to pass calls on to.
#[derive(clap::Args)]
pub(crate) struct Options {
    #[arg(long)]
    listen: SocketAddr,
    #[arg(long)]
    upstream: SocketAddr,
}

/// Serves until it is killed.
pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    runtime()?.block_on(serve(options))
}

async fn serve(options: &Options) -> anyhow::Result<()> {
    let listener = TcpListener::bind(options.listen)
        .await
        .context("binding the passthrough")?;
    let supervisor = Supervisor::new();
    loop {
        let (client, _) = listener.accept().await.context("accepting")?;
        let connections = supervisor.clone();
        let upstream = options.upstream;
        supervisor.spawn(async move {
            // A client that goes away is no news here, nor is an engine: the bench's own calls
            // fail, and it says so.
            drop(pass(&connections, client, upstream).await);
        });
    }
}

async fn pass(
    supervisor: &Supervisor,
    client: TcpStream,
    upstream: SocketAddr,
) -> anyhow::Result<()> {
    client.set_nodelay(true).context("setting TCP_NODELAY")?;
    let server = TcpStream::connect(upstream).await.context("connecting")?;
    server.set_nodelay(true).context("setting TCP_NODELAY")?;
    let (sender, connection) =
        hyper::client::conn::http1::handshake::<_, Incoming>(TokioIo::new(server)).await?;
    supervisor.spawn(async move { drop(connection.await) });
    // HTTP/1.1 without pipelining: one call at a time, so nobody ever waits for this lock.
    let sender = Mutex::new(sender);
    let service = service_fn(|request: Request<Incoming>| async {
        let mut sender = sender.lock().await;
        sender.ready().await?;
        sender.send_request(request).await
    });
    hyper::server::conn::http1::Builder::new()
        .serve_connection(TokioIo::new(client), service)
        .await?;
    Ok(())
}
