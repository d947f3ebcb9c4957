//! What a call costs the gateway where everything is on PostgreSQL: the catalogue, and its tenant in the
//! pool; beside the same gateway with the catalogue and the tenant in files. And what it costs where
//! two replicas share the calls.

use std::path::Path;

use anyhow::{Context, ensure};
use tokio::runtime::Runtime;

use super::arms::ARM_CORE;
use super::cost::SMALL;
use super::load::{Target, closed_loop};
use super::process::Tree;
use super::report::Report;
use super::{Bench, Options, median};
use crate::command::tell;
use crate::product::{Product, Start};
use crate::replicas::start_postgres;

const CONNECTIONS: usize = 32;
/// 10%: nothing on the way asks a database; what is left is posting lines and telling budgets.
const RATIO_MAX: f64 = 1.1;
/// Two replicas answer 1.8 times what one does, where each has cores of its own, if sharing a
/// tenant's budgets makes a call no dearer than this: 2 / 1.8.
const SHARED_RATIO_MAX: f64 = 1.11;

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
    let url = bench.folder().join("server.url");
    std::fs::write(&url, address).context("writing an address")?;
    let folders = ["one", "two"].map(|name| bench.folder().join(format!("on-postgres-{name}")));
    for folder in &folders {
        configure(folder, &url, &folders[0])?;
    }
    let start = |folder| Start {
        binary,
        data: folder,
        upstream: bench.upstream,
        core: Some(ARM_CORE),
    };
    let on_server = start(&folders[0]).run()?;
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
        Ok::<_, anyhow::Error>(())
    })?;
    tell("bench: cost of two replicas");
    let second = start(&folders[1]).serve(&on_server.quickstart.operator_key)?;
    let [shared, apart] = runtime.block_on(two_replicas([&on_server, &second], options))?;
    let what = "cost of a 1 KB call at two replicas on one core, against one there";
    report.add_number(what, shared, None);
    let what = "cost of a 1 KB call of one tenant at two replicas, against a tenant at each";
    report.add_number(what, shared / apart, Some(SHARED_RATIO_MAX));
    Ok(())
}

/// Writes the configuration of a replica.
fn configure(folder: &Path, url: &Path, founder: &Path) -> anyhow::Result<()> {
    std::fs::create_dir(folder).context("making a folder")?;
    let name = folder.file_name().and_then(|name| name.to_str());
    let config = format!(
        "[listen]\ngateway = \"127.0.0.1:0\"\nadmin = \"127.0.0.1:0\"\n[storage]\nfolder = \".\"\n\
         [catalogue]\nurl = \"file:{url}\"\nreplica = \"{name}\"\n\
         [root_key]\nfile = \"{root_key}\"\n[storage.servers.main]\nurl = \"file:{url}\"\n",
        name = name.context("a folder has a name")?,
        url = url.display(),
        root_key = founder.join("root.key").display(),
    );
    std::fs::write(folder.join("partywall.toml"), config).context("writing the configuration")
}

/// What a call costs at two replicas, both as busy as one alone, against one: of one tenant, whose
/// budgets they share, and of a tenant at each. They are on one core, so what they cost each other's
/// caches is in both, and would not be where each has cores of its own.
async fn two_replicas(replicas: [&Product; 2], options: &Options) -> anyhow::Result<[f64; 2]> {
    let first = replicas[0];
    first.lift_limits("globex").await?;
    let target = |replica: &Product, tenant: &str| {
        anyhow::Ok(SMALL.target_at(replica.gateway, first.key_of(tenant)?))
    };
    let own = target(first, "acme")?;
    let shared = target(replicas[1], "acme")?;
    let apart = target(replicas[1], "globex")?;
    let trees = [
        Tree::of(first.server.id())?,
        Tree::of(replicas[1].server.id())?,
    ];
    let both = async |second: &Target| {
        let window = options.window();
        let (first, second) = tokio::try_join!(
            closed_loop(&own, CONNECTIONS, window, &trees[0]),
            closed_loop(second, CONNECTIONS, window, &trees[1]),
        )?;
        let cpu = (first.cpu + second.cpu).as_secs_f64() * 1e3;
        anyhow::Ok(cpu / (first.calls + second.calls) as f64)
    };
    let mut ratios = [Vec::new(), Vec::new()];
    for round in 0..options.rounds() {
        let alone = closed_loop(&own, CONNECTIONS, options.window(), &trees[0]).await?;
        let mut arms = [(0, &shared), (1, &apart)];
        // Each goes first in its turn.
        arms.rotate_left(round % 2);
        for (arm, second) in arms {
            ratios[arm].push(both(second).await? / alone.ms_per_call());
        }
    }
    Ok(ratios.map(|ratios| median(&ratios)))
}
