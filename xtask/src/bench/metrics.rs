//! `/metrics` under attack: thousands of tenants and a million model names do not make more of it
//! than its caps allow, and a scrape stays short.

use std::sync::Arc;

use anyhow::{Context, ensure};
use base::{Clock, SystemClock};
use serde_json::json;
use tokio::runtime::Runtime;
use tokio::task::JoinSet;

use super::arms::ARM_CORE;
use super::cost::SMALL;
use super::report::Report;
use super::{Bench, Options, median};
use crate::command::tell;
use crate::product::{Product, Start};
use crate::wire::{Connection, request};

/// 600 tenants: more than have series of their own.
const BEYOND_THE_CAP: u32 = 600;
const CONNECTIONS: u64 = 16;
/// Nine scrapes give a steady median.
const SCRAPES: usize = 9;
/// 200 ms: a fiftieth of what Prometheus waits.
const SCRAPE_MS_MAX: f64 = 200.0;
/// 36,000: 500 tenants and all others with 70 series each, and a thousand besides.
const SERIES_MAX: f64 = 36_000.0;

/// Throws both at a gateway of its own and scrapes it.
pub(super) fn measure(
    bench: &Bench,
    options: &Options,
    runtime: &Runtime,
    report: &mut Report,
) -> anyhow::Result<()> {
    let Some(binary) = &bench.binary else {
        return Ok(());
    };
    let (tenants, names) = match options.quick {
        true => (BEYOND_THE_CAP + 100, 20_000),
        false => (options.tenants.max(BEYOND_THE_CAP + 1), 1_000_000),
    };
    let product = Start {
        binary,
        data: &bench.folder().join("crowded"),
        upstream: bench.upstream,
        core: Some(ARM_CORE),
    }
    .run()?;
    runtime.block_on(async {
        product.lift_limits("acme").await?;
        crowd(&product, 0..BEYOND_THE_CAP).await?;
        let (at_the_cap, _) = scrape(&product).await?;
        crowd(&product, BEYOND_THE_CAP..tenants).await?;
        tell(&format!("bench: {names} names of models"));
        name_models(&product, names).await?;
        let (series, _) = scrape(&product).await?;
        let mut times_ms = Vec::new();
        for _ in 0..SCRAPES {
            times_ms.push(scrape(&product).await?.1);
        }
        let crowd = format!("{tenants} tenants and {names} names of models");
        report.add_number(
            &format!("series of /metrics after {crowd}"),
            series as f64,
            Some(SERIES_MAX),
        );
        report.add_number(
            &format!("the same, against {BEYOND_THE_CAP} tenants and none"),
            series as f64 / at_the_cap as f64,
            // Some ways to end are new, and have a series for each tenant that ended so: one.
            Some(1.01),
        );
        let what = "a scrape of that, median ms";
        report.add_number(what, median(&times_ms), Some(SCRAPE_MS_MAX));
        Ok(())
    })
}

/// Onboards tenants, each of which calls once.
async fn crowd(product: &Product, numbers: std::ops::Range<u32>) -> anyhow::Result<()> {
    let acme = product.admin("GET", "/admin/v1/tenants/acme", None).await?;
    let spec = json!({
        "tier": acme["spec"]["tier"], "accepts_shared_cache": acme["spec"]["accepts_shared_cache"],
    });
    let clock = SystemClock::new();
    let mut connection = Connection::open(product.gateway).await?;
    for number in numbers {
        let tenant = json!({
            "name": format!("crowd-{number}"), "spec": spec, "first_key": {"name": "first"},
        });
        let made = product
            .admin("POST", "/admin/v1/tenants", Some(&tenant))
            .await?;
        let key = made["first_key"]["key"].as_str().context("a first key")?;
        let call = SMALL.target_at(product.gateway, key).request;
        let answer = connection.call(&clock, &call).await?;
        ensure!(
            answer.status == 200,
            "a call was answered {}",
            answer.status
        );
        if number % 1_000 == 999 {
            tell(&format!("bench: {} tenants called", number + 1));
        }
    }
    Ok(())
}

/// Calls so many models that nobody has, each of another name.
async fn name_models(product: &Product, names: u64) -> anyhow::Result<()> {
    let key: Arc<str> = product.key_of("acme")?.into();
    let gateway = product.gateway;
    let mut callers = JoinSet::new();
    for caller in 0..CONNECTIONS {
        let key = Arc::clone(&key);
        callers.spawn(async move {
            let clock = SystemClock::new();
            let mut connection = Connection::open(gateway).await?;
            for number in (caller..names).step_by(CONNECTIONS as usize) {
                let body = format!(
                    r#"{{"model":"name-{number}","messages":[{{"role":"user","content":"?"}}]}}"#
                );
                let path = "/v1/chat/completions";
                let call = request("POST", gateway, path, &key, Some(body.as_bytes()));
                let answer = connection.call(&clock, &call).await?;
                ensure!(
                    answer.status == 404,
                    "a model that nobody has was answered {}",
                    answer.status
                );
            }
            Ok(())
        });
    }
    while let Some(done) = callers.join_next().await {
        done.context("a caller ended")??;
    }
    Ok(())
}

/// How many series there are, and how many milliseconds it took to say so.
async fn scrape(product: &Product) -> anyhow::Result<(usize, f64)> {
    let clock = SystemClock::new();
    let question = request(
        "GET",
        product.admin,
        "/metrics",
        &product.quickstart.operator_key,
        None,
    );
    let mut connection = Connection::open(product.admin).await?;
    let start = clock.elapsed();
    let answer = connection.call(&clock, &question).await?;
    let time_ms = (clock.elapsed() - start).as_secs_f64() * 1000.0;
    ensure!(
        answer.status == 200,
        "/metrics was answered {}",
        answer.status
    );
    let text = String::from_utf8(answer.body).context("/metrics is text")?;
    let series = text
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'));
    Ok((series.count(), time_ms))
}
