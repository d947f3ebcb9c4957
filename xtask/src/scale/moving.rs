//! A large tenant is moved from the pool to a database of its own while it is called.

use std::time::Duration;

use anyhow::{Context, ensure};
use base::{Clock, SystemClock};
use serde::Serialize;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::installation::{Installation, Tenant, keep};
use crate::command::tell;
use crate::wire::{Connection, request};

/// 200 KB: a long conversation. What is kept of it is about as large.
const PIECE_BYTES: usize = 200_000;
/// 16 at a time: two cores are busy.
const FILLING_CALLS: u64 = 16;
/// A call each 50 ms, and a look each 50 ms: what the tenant's clients do while it is moved.
const PACE: Duration = Duration::from_millis(50);
/// Five seconds of the same load before the move, to compare with.
const BEFORE: Duration = Duration::from_secs(5);
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// Ten minutes: fifty times what a gigabyte takes.
const MOVING_MAX: Duration = Duration::from_secs(600);

/// What came of it.
#[derive(Debug, Default, Serialize)]
pub(super) struct Moved {
    pub(super) bytes: u64,
    pub(super) rows: u64,
    /// Made meanwhile, and made again on the new side.
    pub(super) changes: u64,
    pub(super) seconds: f64,
    pub(super) held_ms: u64,
    /// Calls of a model, and looks at a kept answer, while it was moved.
    pub(super) calls: u64,
    pub(super) looks: u64,
    pub(super) failed: u64,
    pub(super) call_ms_max: f64,
    pub(super) look_ms_max: f64,
    /// The longest of five seconds of the same load before.
    pub(super) call_ms_max_before: f64,
    pub(super) look_ms_max_before: f64,
}

/// What a client saw: how many answers, the longest wait, and how many were none.
#[derive(Debug, Default, Clone, Copy)]
struct Seen {
    answers: u64,
    failed: u64,
    ms_max: f64,
}

/// Fills a tenant, moves it under load, and reads some of what it had.
pub(super) async fn measure(installation: &Installation, bytes: u64) -> anyhow::Result<Moved> {
    let (product, tenant) = (&installation.product, &installation.acme);
    tell("scale: filling a tenant");
    let kept = fill(installation, tenant, bytes).await?;
    let id = kept.first().context("something was kept")?;
    let gateway = product.gateway;
    let body = json!({
        "model": "sim-small", "max_tokens": 16, "messages": [{"role": "user", "content": "hello"}],
    });
    let body = body.to_string();
    let path = "/v1/chat/completions";
    let call = request("POST", gateway, path, &tenant.key, Some(body.as_bytes()));
    let look = request(
        "GET",
        gateway,
        &format!("/v1/responses/{id}"),
        &tenant.key,
        None,
    );

    let (calls_before, looks_before) = {
        let (stop, stopping) = watch::channel(false);
        let waiting = async {
            tokio::time::sleep(BEFORE).await;
            stop.send_replace(true);
            anyhow::Ok(())
        };
        let calls = client(installation, &call, stopping.clone());
        let looks = client(installation, &look, stopping);
        let (calls, looks, ()) = tokio::try_join!(calls, looks, waiting)?;
        (calls, looks)
    };
    tell("scale: moving it");
    let (stop, stopping) = watch::channel(false);
    let clock = SystemClock::new();
    let moving = async {
        let moved = until_moved(installation, &tenant.name).await;
        stop.send_replace(true);
        moved
    };
    let calls = client(installation, &call, stopping.clone());
    let looks = client(installation, &look, stopping);
    let (reply, calls, looks) = tokio::try_join!(moving, calls, looks)?;
    let seconds = clock.elapsed().as_secs_f64();
    ensure_kept(installation, tenant, &kept).await?;
    let number = |name: &str| reply[name].as_u64().unwrap_or_default();
    let moved = Moved {
        bytes: number("bytes"),
        rows: number("rows"),
        changes: number("changes"),
        seconds,
        held_ms: number("held_ms"),
        calls: calls.answers,
        looks: looks.answers,
        failed: calls.failed + looks.failed,
        call_ms_max: calls.ms_max,
        look_ms_max: looks.ms_max,
        call_ms_max_before: calls_before.ms_max,
        look_ms_max_before: looks_before.ms_max,
    };
    ensure!(moved.failed == 0, "a request failed: {moved:?}");
    Ok(moved)
}

/// Has answers kept until they are so many bytes; their ids.
async fn fill(
    installation: &Installation,
    tenant: &Tenant,
    bytes: u64,
) -> anyhow::Result<Vec<String>> {
    let count = bytes.div_ceil(PIECE_BYTES as u64);
    let each = count.div_ceil(FILLING_CALLS);
    let gateway = installation.product.gateway;
    let mut filling = JoinSet::new();
    for client in 0..FILLING_CALLS {
        let key = tenant.key.clone();
        filling.spawn(async move {
            let mut connection = Connection::open(gateway).await?;
            let mut ids = Vec::new();
            for piece in 0..each {
                // No two are alike, so that nothing can keep one for both.
                let mut input = format!("{client} {piece} ");
                input.push_str(&"words of a user ".repeat(PIECE_BYTES / 16));
                ids.push(keep(gateway, &mut connection, &key, &input).await?);
            }
            anyhow::Ok(ids)
        });
    }
    let mut ids = Vec::new();
    while let Some(kept) = filling.join_next().await {
        ids.extend(kept.context("a client panicked")??);
    }
    Ok(ids)
}

/// Sends the same at its pace until it is told to stop.
async fn client(
    installation: &Installation,
    request: &[u8],
    stopping: watch::Receiver<bool>,
) -> anyhow::Result<Seen> {
    let clock = SystemClock::new();
    let mut seen = Seen::default();
    let mut connection = Connection::open(installation.product.gateway).await?;
    while !*stopping.borrow() {
        let answer = connection.call(&clock, request).await?;
        seen.answers += 1;
        seen.failed += u64::from(answer.status != 200);
        seen.ms_max = seen.ms_max.max(answer.total.as_secs_f64() * 1_000.0);
        tokio::time::sleep(PACE).await;
    }
    Ok(seen)
}

/// Moves it, and waits until that has ended well: both sides' sums were the same.
async fn until_moved(installation: &Installation, name: &str) -> anyhow::Result<Value> {
    let path = format!("/admin/v1/tenants/{name}/move");
    let product = &installation.product;
    let body = json!({"to": "silo:main"});
    product.admin("POST", &path, Some(&body)).await?;
    let clock = SystemClock::new();
    loop {
        let reply = product.admin("GET", &path, None).await?;
        match reply["state"].as_str() {
            Some("moved") => return Ok(reply),
            Some("failed") => anyhow::bail!("the move failed: {reply}"),
            _ => {}
        }
        ensure!(clock.elapsed() < MOVING_MAX, "it is still moved: {reply}");
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// What was kept before is there afterwards.
async fn ensure_kept(
    installation: &Installation,
    tenant: &Tenant,
    ids: &[String],
) -> anyhow::Result<()> {
    let gateway = installation.product.gateway;
    let mut connection = Connection::open(gateway).await?;
    let clock = SystemClock::new();
    for id in ids {
        let path = format!("/v1/responses/{id}");
        let look = request("GET", gateway, &path, &tenant.key, None);
        let answer = connection.call(&clock, &look).await?;
        ensure!(answer.status == 200, "{id} is gone: {}", answer.status);
    }
    Ok(())
}
