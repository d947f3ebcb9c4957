//! One replica over a PostgreSQL of its own, and what can be asked of both.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, ensure};
use base::{Clock, SystemClock};
use serde_json::json;

use crate::bench::process::Tree;
use crate::command::Server;
use crate::product::{Product, Start};
use crate::replicas::start_postgres;
use crate::wire::{Connection, request};

/// 30 s: a server ends within its drain, and starts over many tenants.
const ENDING_MAX: std::time::Duration = std::time::Duration::from_secs(30);

/// The replica that is measured.
pub(super) struct Installation {
    /// Ended before PostgreSQL.
    pub(super) product: Product,
    /// One that nobody has onboarded: it is filled and moved.
    pub(super) acme: Tenant,
    /// How many tenants were onboarded.
    pub(super) tenants: u32,
    binary: PathBuf,
    data: PathBuf,
    upstream: SocketAddr,
    address: String,
    tier: String,
    _postgres: Server,
}

/// A tenant, and a key of its own.
pub(super) struct Tenant {
    pub(super) name: String,
    pub(super) key: String,
}

/// Bytes on PostgreSQL's disk.
pub(super) struct Sizes {
    /// The catalogue's tables.
    pub(super) catalogue: u64,
    /// The tables that pooled tenants share.
    pub(super) pool: u64,
    /// PostgreSQL's own catalogue in this database: what each schema's tables are known by.
    pub(super) system: u64,
}

impl Installation {
    pub(super) fn start(
        binary: &Path,
        folder: &Path,
        upstream: SocketAddr,
        connections_max: u32,
    ) -> anyhow::Result<Self> {
        let (postgres, address) = start_postgres()?;
        let data = folder.join("replica");
        std::fs::create_dir_all(&data).context("making a folder")?;
        let url = folder.join("server.url");
        std::fs::write(&url, &address).context("writing an address")?;
        let url = url.display();
        let text = format!(
            "[listen]\ngateway = \"127.0.0.1:0\"\nadmin = \"127.0.0.1:0\"\n\
             [storage]\nfolder = \".\"\n\
             [catalogue]\nurl = \"file:{url}\"\nreplica = \"scale\"\n\
             [root_key]\nfile = \"{}\"\n\
             [storage.servers.main]\nurl = \"file:{url}\"\n\
             pool_tenants_max = 1000000\nbridge_tenants_max = 10000\nsilo_tenants_max = 10000\n\
             connections_max = {connections_max}\n",
            data.join("root.key").display(),
        );
        std::fs::write(data.join("partywall.toml"), text).context("writing a configuration")?;
        let start = Start {
            binary,
            data: &data,
            upstream,
            core: None,
        };
        let product = start.run()?;
        let acme = crate::product::runtime()?.block_on(product.admin(
            "GET",
            "/admin/v1/tenants/acme",
            None,
        ))?;
        let tier = acme["spec"]["tier"].as_str().context("acme has a tier")?;
        let acme = Tenant {
            name: "acme".to_owned(),
            key: product.key_of("acme")?.to_owned(),
        };
        Ok(Self {
            product,
            acme,
            tenants: 0,
            binary: binary.to_owned(),
            tier: tier.to_owned(),
            data,
            upstream,
            address,
            _postgres: postgres,
        })
    }

    /// Ends the replica and starts it over what there is now.
    pub(super) fn restart(&mut self) -> anyhow::Result<()> {
        self.product.server.terminate(ENDING_MAX)?;
        let start = Start {
            binary: &self.binary,
            data: &self.data,
            upstream: self.upstream,
            core: None,
        };
        self.product = start.serve(&self.product.quickstart.operator_key)?;
        Ok(())
    }

    /// Onboards a tenant with a first key; how many milliseconds that took.
    pub(super) async fn onboard(
        &mut self,
        name: &str,
        wall: &str,
    ) -> anyhow::Result<(Tenant, f64)> {
        let body = json!({
            "name": name,
            "spec": {
                "tier": self.tier, "placement": format!("{wall}:main"), "accepts_shared_cache": true,
            },
            "first_key": {"name": "app", "role": "service"},
        });
        let clock = SystemClock::new();
        let path = "/admin/v1/tenants";
        let reply = self.product.admin("POST", path, Some(&body)).await?;
        let ms = clock.elapsed().as_secs_f64() * 1_000.0;
        self.tenants += 1;
        let key = reply["first_key"]["key"].as_str().context("a first key")?;
        let tenant = Tenant {
            name: name.to_owned(),
            key: key.to_owned(),
        };
        Ok((tenant, ms))
    }

    /// What the replica holds in memory.
    pub(super) fn memory_bytes(&self) -> anyhow::Result<u64> {
        Tree::of(self.product.server.id())?.memory_bytes()
    }

    /// How large what PostgreSQL keeps is.
    pub(super) fn sizes(&self) -> anyhow::Result<Sizes> {
        Ok(Sizes {
            catalogue: self.size_of("partywall_catalogue")?,
            pool: self.size_of("partywall")?,
            system: self.size_of("pg_catalog")?,
        })
    }

    /// Bytes of a schema's tables with their indexes.
    fn size_of(&self, schema: &str) -> anyhow::Result<u64> {
        let query = format!(
            "SELECT COALESCE(sum(pg_total_relation_size(c.oid)), 0) FROM pg_class c \
             JOIN pg_namespace n ON n.oid = c.relnamespace \
             WHERE n.nspname = '{schema}' AND c.relkind IN ('r', 'p', 'm')"
        );
        let output = Command::new("psql")
            .args(["-X", "-A", "-t", "-c", &query, &self.address])
            .output()
            .context("starting psql (package postgresql-client)")?;
        ensure!(output.status.success(), "psql: {}", output.status);
        let text = String::from_utf8_lossy(&output.stdout);
        let text = text.trim();
        text.parse().with_context(|| format!("psql said {text:?}"))
    }
}

/// Has a model answer a tenant, and the answer kept; its id.
pub(super) async fn keep(
    gateway: SocketAddr,
    connection: &mut Connection,
    key: &str,
    input: &str,
) -> anyhow::Result<String> {
    let body = json!({
        "model": "sim-small", "input": input, "store": true, "max_output_tokens": 16,
    });
    let body = body.to_string();
    let call = request("POST", gateway, "/v1/responses", key, Some(body.as_bytes()));
    let answer = connection.call(&SystemClock::new(), &call).await?;
    let text = String::from_utf8_lossy(&answer.body);
    ensure!(answer.status == 200, "{}: {text}", answer.status);
    let id = answer.json()?["id"].as_str().map(str::to_owned);
    id.context("an answer has an id")
}
