//! What is compared: each arm is a server on core 0 in front of the same engine on core 1.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, bail};
use base::{Clock, SystemClock};
use clap::ValueEnum;
use serde::Serialize;

use super::process::Tree;
use crate::command::{Server, is_installed};
use crate::product::{Product, Start};

/// The core of what is measured; the engine and the load are on [`LOAD_CORE`].
pub(crate) const ARM_CORE: u32 = 0;
pub(crate) const LOAD_CORE: u32 = 1;

/// What can be compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum ArmKind {
    /// A plain reverse proxy with kept-alive connections to the engine, without a log.
    Nginx,
    /// The same with an access log, since a gateway logs too.
    NginxLogged,
    /// hyper in, hyper out.
    Passthrough,
    /// The gateway with everything on.
    Partywall,
}

impl ArmKind {
    /// The arm's name in a table.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Nginx => "nginx",
            Self::NginxLogged => "nginx + access log",
            Self::Passthrough => "hyper passthrough",
            Self::Partywall => "partywall",
        }
    }
}

/// A running arm.
pub(crate) struct Arm {
    pub(crate) kind: ArmKind,
    /// Where whole answers are asked for.
    pub(crate) address: SocketAddr,
    /// Where streams are asked for: nginx has to be told not to buffer them.
    pub(crate) stream_address: SocketAddr,
    pub(crate) key: String,
    server: Running,
}

enum Running {
    Plain(Server),
    Product(Box<Product>),
}

impl Arm {
    /// Starts it in front of `upstream` with its files in `folder`.
    pub(crate) fn start(
        kind: ArmKind,
        upstream: SocketAddr,
        folder: &Path,
        binary: Option<&Path>,
    ) -> anyhow::Result<Self> {
        match kind {
            ArmKind::Nginx | ArmKind::NginxLogged => Self::nginx(kind, upstream, folder),
            ArmKind::Passthrough => Self::passthrough(upstream),
            ArmKind::Partywall => {
                let binary = binary.context("the product has been built")?;
                Self::partywall(upstream, &folder.join("data"), binary)
            }
        }
    }

    fn nginx(kind: ArmKind, upstream: SocketAddr, folder: &Path) -> anyhow::Result<Self> {
        let (address, stream_address) = (free_address()?, free_address()?);
        let log = match kind {
            ArmKind::NginxLogged => format!("{}/access.log", folder.display()),
            _ => "off".to_owned(),
        };
        let config = nginx_config(upstream, address, stream_address, &log, folder);
        let path = folder.join("nginx.conf");
        std::fs::write(&path, config).context("writing nginx.conf")?;
        let mut command = pinned(Path::new("/usr/sbin/nginx"));
        command.arg("-p").arg(folder).arg("-c").arg(&path);
        command.arg("-e").arg(folder.join("error.log"));
        Self::plain(kind, address, stream_address, &mut command)
    }

    fn passthrough(upstream: SocketAddr) -> anyhow::Result<Self> {
        let address = free_address()?;
        let mut command = pinned(&std::env::current_exe().context("finding this program")?);
        command
            .args(["passthrough", "--listen", &address.to_string()])
            .args(["--upstream", &upstream.to_string()]);
        Self::plain(ArmKind::Passthrough, address, address, &mut command)
    }

    fn plain(
        kind: ArmKind,
        address: SocketAddr,
        stream_address: SocketAddr,
        command: &mut Command,
    ) -> anyhow::Result<Self> {
        let mut server = Server::start(kind.name(), command.stdout(Stdio::null()))?;
        wait_for(&mut server, address)?;
        Ok(Self {
            kind,
            address,
            stream_address,
            key: "unused".to_owned(),
            server: Running::Plain(server),
        })
    }

    fn partywall(upstream: SocketAddr, data: &Path, binary: &Path) -> anyhow::Result<Self> {
        let product = Start {
            binary,
            data,
            upstream,
            core: Some(ARM_CORE),
        }
        .run()?;
        Ok(Self {
            kind: ArmKind::Partywall,
            address: product.gateway,
            stream_address: product.gateway,
            key: product.key_of("acme")?.to_owned(),
            server: Running::Product(Box::new(product)),
        })
    }

    /// The gateway behind this arm, if it is one.
    pub(crate) fn product(&self) -> Option<&Product> {
        match &self.server {
            Running::Plain(_) => None,
            Running::Product(product) => Some(product),
        }
    }

    /// The process and its children.
    pub(crate) fn tree(&self) -> anyhow::Result<Tree> {
        Tree::of(match &self.server {
            Running::Plain(server) => server.id(),
            Running::Product(product) => product.server.id(),
        })
    }
}

/// Starts the engine on the load's core.
pub(crate) fn start_upstream() -> anyhow::Result<(Server, SocketAddr)> {
    let address = free_address()?;
    let mut command = Command::new(std::env::current_exe().context("finding this program")?);
    command.args(["upstream", "--listen", &address.to_string()]);
    let mut server = Server::start("the engine", &mut command)?;
    wait_for(&mut server, address)?;
    Ok((server, address))
}

/// Whether this machine can run the arm; if not, why.
pub(crate) fn missing(kind: ArmKind) -> Option<&'static str> {
    match kind {
        ArmKind::Nginx | ArmKind::NginxLogged if !is_installed("nginx") => {
            Some("nginx is not installed: apt-get install nginx-light")
        }
        _ => None,
    }
}

/// An address that nobody listens on now.
fn free_address() -> anyhow::Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("finding a free port")?;
    listener.local_addr().context("finding a free port")
}

fn pinned(program: &Path) -> Command {
    let mut command = Command::new("taskset");
    command.args(["-c", &ARM_CORE.to_string()]).arg(program);
    command
}

fn wait_for(server: &mut Server, address: SocketAddr) -> anyhow::Result<()> {
    let clock = SystemClock::new();
    while clock.elapsed() < Duration::from_secs(5) {
        server.ensure_running()?;
        if TcpStream::connect(address).is_ok() {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    bail!("nobody listens on {address} after five seconds")
}

/// One worker; connections live as long as the run; bodies stay in memory, since a body that goes
/// through a file would flatter everybody else.
fn nginx_config(
    upstream: SocketAddr,
    address: SocketAddr,
    stream_address: SocketAddr,
    access_log: &str,
    folder: &Path,
) -> String {
    let folder = folder.display();
    let proxy = "proxy_pass http://engine; proxy_http_version 1.1; \
                 proxy_set_header Connection \"\"; proxy_set_header Host $host;";
    format!(
        "daemon off;
user root;
worker_processes 1;
pid {folder}/nginx.pid;
events {{ worker_connections 4096; }}
http {{
    access_log {access_log};
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    scgi_temp_path {folder}/scgi;
    uwsgi_temp_path {folder}/uwsgi;
    client_max_body_size 64m;
    client_body_buffer_size 512k;
    keepalive_requests 100000000;
    tcp_nodelay on;
    upstream engine {{
        server {upstream};
        keepalive 1024;
        keepalive_requests 100000000;
    }}
    server {{ listen {address}; location / {{ {proxy} }} }}
    server {{ listen {stream_address}; location / {{ {proxy} proxy_buffering off; }} }}
}}
"
    )
}
