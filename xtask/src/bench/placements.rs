//! What a call costs the gateway where everything is on PostgreSQL: the catalogue, and its tenant in the
//! pool; beside the same gateway with the catalogue and the tenant in files.

use anyhow::{Context, ensure};
use tokio::runtime::Runtime;

use super::arms::ARM_CORE;
use super::cost::SMALL;
use super::load::closed_loop;
use super::process::Tree;
use super::report::Report;
use super::{Bench, Options, median};
use crate::command::tell;
use crate::product::Start;
use crate::replicas::start_postgres;

const CONNECTIONS: usize = 32;
/// 10%: nothing on the way asks a database; what is left is posting lines and telling budgets.
const RATIO_MAX: f64 = 1.1;

/// Measures in windows that take turns. PostgreSQL is on the load's core, and is not counted.
pub(super) fn measure(
    bench: &Bench,
    options: &Options,
    runtime: &Runtime,
    report: &mut Report,
) -> anyhow::Result<()> {
    let (Some(embedded), Some(binary)) = (bench.partywall(), &bench.binary) else {
        return Ok(());
    };
    tell("bench: cost on PostgreSQL");
    let (_postgres, address) = start_postgres()?;
    let data = bench.folder().join("on-postgres");
    std::fs::create_dir(&data).context("making a folder")?;
    let url = bench.folder().join("server.url");
    std::fs::write(&url, address).context("writing an address")?;
    let config = format!(
        "[listen]\ngateway = \"127.0.0.1:0\"\nadmin = \"127.0.0.1:0\"\n[storage]\nfolder = \".\"\n\
         [catalogue]\nurl = \"file:{url}\"\nreplica = \"bench\"\n\
         [root_key]\nfile = \"{root_key}\"\n[storage.servers.main]\nurl = \"file:{url}\"\n",
        url = url.display(),
        root_key = data.join("root.key").display(),
    );
    std::fs::write(data.join("partywall.toml"), config).context("writing the configuration")?;
    let on_server = Start {
        binary,
        data: &data,
        upstream: bench.upstream,
        core: Some(ARM_CORE),
    }
    .run()?;
    runtime.block_on(async {
        let acme = on_server
            .admin("GET", "/admin/v1/tenants/acme", None)
            .await?;
        let placement = acme["spec"]["placement"].as_str().unwrap_or("file");
        ensure!(placement == "pool:main", "the tenant is in {placement}");
        on_server.lift_limits("acme").await?;
        let target = SMALL.target_at(on_server.gateway, on_server.key_of("acme")?);
        let tree = Tree::of(on_server.server.id())?;
        let mut ratios = Vec::new();
        for round in 0..options.rounds() {
            let files = SMALL.target_on(embedded);
            let files_tree = embedded.tree()?;
            let in_files = closed_loop(&files, CONNECTIONS, options.window(), &files_tree);
            let on_postgres = closed_loop(&target, CONNECTIONS, options.window(), &tree);
            // Each goes first in its turn.
            let (in_files, on_postgres) = match round % 2 {
                0 => {
                    let first = in_files.await?;
                    (first, on_postgres.await?)
                }
                _ => {
                    let first = on_postgres.await?;
                    (in_files.await?, first)
                }
            };
            ratios.push(on_postgres.ms_per_call() / in_files.ms_per_call());
        }
        let what = "cost of a 1 KB call on PostgreSQL (pool), against files";
        report.add_number(what, median(&ratios), Some(RATIO_MAX));
        Ok(())
    })
}
