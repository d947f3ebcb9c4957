//! Three replicas of one installation, their PostgreSQL, and the way between that can be cut.

use std::io::{BufRead as _, BufReader};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, ensure};

use super::relay::Relay;
use crate::command::{Server, root};
use crate::product::{Product, Start};

/// So many processes.
pub(super) const REPLICAS: usize = 3;

/// The replicas, and what they need.
pub(super) struct Fleet {
    /// Ended first.
    pub(super) replicas: Vec<Product>,
    pub(super) relay: Relay,
    binary: PathBuf,
    folder: PathBuf,
    upstream: SocketAddr,
    _postgres: Server,
}

impl Fleet {
    pub(super) fn start(
        binary: &Path,
        folder: &Path,
        upstream: SocketAddr,
    ) -> anyhow::Result<Self> {
        let (postgres, address) = start_postgres()?;
        let relay = Relay::new(&address);
        std::fs::write(folder.join("server.url"), relay.address()).context("writing an address")?;
        let mut fleet = Self {
            replicas: Vec::new(),
            relay,
            binary: binary.to_owned(),
            folder: folder.to_owned(),
            upstream,
            _postgres: postgres,
        };
        for number in 0..REPLICAS {
            fleet.configure(number)?;
            let started = fleet.start_one(number)?;
            fleet.replicas.push(started);
        }
        Ok(fleet)
    }

    /// The first founds the installation; others, and whoever was killed, join it.
    fn start_one(&self, number: usize) -> anyhow::Result<Product> {
        let data = self.data(number);
        let start = Start {
            binary: &self.binary,
            data: &data,
            upstream: self.upstream,
            core: None,
        };
        match self.replicas.first() {
            None => start.run(),
            Some(first) => start.serve(&first.quickstart.operator_key),
        }
    }

    fn data(&self, number: usize) -> PathBuf {
        self.folder.join(format!("replica-{number}"))
    }

    fn configure(&self, number: usize) -> anyhow::Result<()> {
        let data = self.data(number);
        std::fs::create_dir_all(&data).context("making a folder")?;
        let url = self.folder.join("server.url");
        let text = format!(
            "[listen]\ngateway = \"127.0.0.1:0\"\nadmin = \"127.0.0.1:0\"\n\
             [storage]\nfolder = \".\"\n\
             [catalogue]\nurl = \"file:{url}\"\nreplica = \"replica-{number}\"\n\
             [journal]\ncompact_seconds = 1\n\
             [root_key]\nfile = \"{root_key}\"\n\
             [storage.servers.main]\nurl = \"file:{url}\"\n",
            url = url.display(),
            root_key = self.data(0).join("root.key").display(),
        );
        std::fs::write(data.join("partywall.toml"), text).context("writing a configuration")
    }

    pub(super) fn first(&self) -> &Product {
        &self.replicas[0]
    }

    pub(super) fn gateways(&self) -> Vec<SocketAddr> {
        self.replicas
            .iter()
            .map(|replica| replica.gateway)
            .collect()
    }

    /// The process id of the last one: the one that faults befall.
    pub(super) fn last_id(&self) -> u32 {
        self.replicas[REPLICAS - 1].server.id()
    }

    /// Starts the last one anew, in its folder.
    pub(super) fn restart_last(&mut self) -> anyhow::Result<()> {
        self.replicas[REPLICAS - 1].server.kill();
        self.replicas[REPLICAS - 1] = self.start_one(REPLICAS - 1)?;
        Ok(())
    }
}

/// Sends a signal to a process.
pub(super) fn signal(id: u32, name: &str) -> anyhow::Result<()> {
    crate::command::run(Command::new("kill").args([&format!("-{name}"), &id.to_string()]))
}

/// A PostgreSQL server of our own, without durability across power cuts.
pub(crate) fn start_postgres() -> anyhow::Result<(Server, String)> {
    let port = TcpListener::bind("127.0.0.1:0")
        .and_then(|listener| listener.local_addr())
        .context("finding a free port")?
        .port();
    let mut command = Command::new(root().join("tests/postgres.sh"));
    command
        .args(["serve", &port.to_string()])
        .stdout(Stdio::piped());
    let mut server = Server::start("PostgreSQL", &mut command)?;
    let output = server.output().context("its output is piped")?;
    let mut address = String::new();
    BufReader::new(output)
        .read_line(&mut address)
        .context("reading PostgreSQL's address")?;
    ensure!(
        address.starts_with("postgres://"),
        "PostgreSQL did not start: is it installed?"
    );
    Ok((server, address.trim().to_owned()))
}
