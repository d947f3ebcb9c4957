//! `cargo xtask crash`: kills the real binary at random points under load and checks what its
//! ledger says afterwards (invariant 7).
//!
//! Each run starts the gateway over the same data folder, so that a crash is recovered on top of
//! all earlier ones. After the restart:
//!
//! - every call that was answered in full is in the ledger, once;
//! - it is settled, or it ended within the last moments before the kill and stands unsettled at
//!   its upper bound;
//! - the ledger counts at least the calls that were answered and at most those that were sent;
//! - everything that the crash left unknown is reconciled, as an operator would, and then every
//!   budget has spent what the ledger's lines say, to the last unit: nothing is stranded, however
//!   often the process dies.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use base::{Clock, Entropy, PicoUsd, SeededEntropy, SystemClock};
use serde_json::Value;
use tokio::task::JoinSet;

use crate::command::disk_folder;
use crate::product::{self, Product, Start, runtime};
use crate::wire::{Connection, request};

/// 32 calls at a time keep every stage of a call under way somewhere.
const CLIENTS: usize = 32;

/// The tenant that calls.
const TENANT: &str = "acme";

/// A settlement is durable one group commit after the end of its answer. 250 ms is many times
/// that, unless the machine has other work: a call that ended earlier has no excuse if the journal
/// went on, which another call's answer shows that began after its end.
const SETTLING_MAX: Duration = Duration::from_millis(250);

/// Usage is read from the tenants' stores, which wait a tenth of a second at most for the journal's
/// last segment; a disk under load takes longer. Ten seconds, in 40 looks, are many times that.
const USAGE_LOOKS_MAX: u32 = 40;
const USAGE_LOOK: Duration = Duration::from_millis(250);

/// What recovery may take, from start to ready.
const RECOVERY_MAX: Duration = Duration::from_secs(5);

/// How often to kill it.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// How many kills.
    #[arg(long, default_value_t = 20)]
    runs: u32,
    /// The binary to kill; the release build, made anew, if absent.
    #[arg(long)]
    binary: Option<PathBuf>,
    /// Chooses the moments of the kills.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// A call that was answered in full.
struct Answered {
    request_id: String,
    /// How long before the kill its last byte came.
    before_kill: Duration,
    /// Whether another call began after that and was answered.
    is_followed: bool,
}

/// What the clients saw of one run.
#[derive(Default)]
struct Seen {
    /// Ids, and when they began and ended.
    answered: Vec<(String, Duration, Duration)>,
    sent: u64,
}

/// What all runs came to.
#[derive(Default)]
struct Totals {
    sent: u64,
    answered: u64,
    unsettled: u64,
    /// What the crashes left of leases, and how much of that the worst one.
    stranded: PicoUsd,
    stranded_most: PicoUsd,
    slowest_recovery: Duration,
}

/// Kills, restarts and checks.
pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    let binary = match &options.binary {
        Some(binary) => binary.clone(),
        None => product::build()?,
    };
    let (_engine, upstream) = crate::bench::start_upstream()?;
    let entropy = SeededEntropy::new(options.seed);
    let folder = disk_folder()?;
    let start = Start {
        binary: &binary,
        data: &folder.path().join("data"),
        upstream,
        core: None,
    };
    let totals = match kill_repeatedly(options.runs, &entropy, &start) {
        Ok(totals) => totals,
        Err(error) => {
            let kept = folder.keep();
            return Err(error.context(format!(
                "seed {}; the data folder is kept in {}",
                options.seed,
                kept.display()
            )));
        }
    };
    println!(
        "crash: {} kills, {} calls sent, {} answered, {} of them unsettled at their upper bound; \
         ${} of leases stranded and given back (${} at most); slowest recovery {:.3} s",
        options.runs,
        totals.sent,
        totals.answered,
        totals.unsettled,
        totals.stranded,
        totals.stranded_most,
        totals.slowest_recovery.as_secs_f64()
    );
    println!("{} passed, 0 failed", options.runs);
    Ok(())
}

fn kill_repeatedly(
    kills: u32,
    entropy: &SeededEntropy,
    start: &Start<'_>,
) -> anyhow::Result<Totals> {
    let runtime = runtime()?;
    let mut product = start.run()?;
    runtime.block_on(product.lift_limits(TENANT))?;
    let mut totals = Totals::default();
    for number in 1..=kills {
        let moment = Duration::from_micros(5_000 + entropy.next_u64() % 400_000);
        let (answered, sent) = runtime
            .block_on(load_and_kill(&mut product, moment))
            .with_context(|| format!("kill {number}"))?;
        product = start
            .run()
            .with_context(|| format!("recovering from kill {number}"))?;
        totals.slowest_recovery = totals.slowest_recovery.max(product.ready_time);
        ensure!(
            product.ready_time < RECOVERY_MAX,
            "kill {number}: recovery took {:?}",
            product.ready_time
        );
        totals.sent += sent;
        totals.answered += answered.len() as u64;
        totals.unsettled += runtime
            .block_on(check(&product, &answered, &totals))
            .with_context(|| format!("after kill {number}, at {moment:?} of load"))?;
        let stranded = runtime
            .block_on(reconcile(&product))
            .with_context(|| format!("reconciling after kill {number}"))?;
        totals.stranded += stranded;
        totals.stranded_most = totals.stranded_most.max(stranded);
    }
    Ok(totals)
}

/// Says of everything that the kill left unknown what it came to, and checks that the budgets
/// then say what the ledger's lines do. Returns what was stranded of leases.
async fn reconcile(product: &Product) -> anyhow::Result<PicoUsd> {
    let tenant = format!("/admin/v1/tenants/{TENANT}");
    let mut stranded = PicoUsd::ZERO;
    for row in unsettled(product).await? {
        let (path, body) = if row["kind"] == "call" {
            let attempt = row["attempt"].as_str().context("a call has an attempt")?;
            // Half of its bound, as if the upstream's bill said so.
            let cost = PicoUsd::new(dollars(&row["amount"])?.pico() / 2);
            let path = format!("{tenant}/unsettled/{attempt}/reconcile");
            (path, serde_json::json!({"cost": cost}))
        } else {
            let (budget, subject) = (&row["budget"], &row["subject"]);
            stranded += dollars(&row["amount"])?;
            let path = format!("{tenant}/leases/reconcile");
            let body = serde_json::json!({"budget": budget, "subject": subject, "all": true});
            (path, body)
        };
        product.admin("POST", &path, Some(&body)).await?;
    }
    let left = unsettled(product).await?;
    ensure!(left.is_empty(), "still unknown: {left:?}");
    for look in 1.. {
        match check_budgets(product).await {
            Ok(()) => break,
            Err(error) if look == USAGE_LOOKS_MAX => return Err(error),
            Err(_) => tokio::time::sleep(USAGE_LOOK).await,
        }
    }
    Ok(stranded)
}

/// All that counts as spent though its cost is not known.
async fn unsettled(product: &Product) -> anyhow::Result<Vec<Value>> {
    let first = format!("/admin/v1/tenants/{TENANT}/unsettled?limit=1000");
    let mut rows = Vec::new();
    let mut path = first.clone();
    loop {
        let page = product.admin("GET", &path, None).await?;
        rows.extend_from_slice(page["data"].as_array().context("a list of rows")?);
        match page["next_cursor"].as_str() {
            Some(cursor) => path = format!("{first}&cursor={}", cursor.replace(' ', "%20")),
            None => return Ok(rows),
        }
    }
}

/// Whether every budget of the tenant itself has spent what the ledger's lines come to. They do
/// not tell apart by window: all of the run is in one, unless the month ends meanwhile.
async fn check_budgets(product: &Product) -> anyhow::Result<()> {
    let usage = usage(product).await?;
    let costs = usage.iter().map(|row| dollars(&row["cost"]));
    let lines: PicoUsd = costs.sum::<anyhow::Result<PicoUsd>>()?;
    let path = format!("/admin/v1/tenants/{TENANT}/budgets/status");
    let status = product.admin("GET", &path, None).await?;
    let budgets = status["data"].as_array().context("a list of budgets")?;
    let mut own = budgets.iter().filter(|row| row["subject"] == "tenant");
    ensure!(
        own.clone().count() > 0 || lines == PicoUsd::ZERO,
        "no budget of the tenant has been used"
    );
    own.try_for_each(|budget| {
        let (spent, held) = (dollars(&budget["spent"])?, dollars(&budget["held"])?);
        ensure!(
            (spent, held) == (lines, PicoUsd::ZERO),
            "budget {} has {spent} spent and {held} held; the ledger's lines come to {lines}",
            budget["budget"]
        );
        Ok(())
    })
}

fn dollars(value: &Value) -> anyhow::Result<PicoUsd> {
    let text = value.as_str().context("an amount is a string")?;
    text.parse()
        .with_context(|| format!("`{text}` is no amount"))
}

/// Loads it until this `moment`, kills it, and says what was answered and how much was sent.
async fn load_and_kill(
    product: &mut Product,
    moment: Duration,
) -> anyhow::Result<(Vec<Answered>, u64)> {
    let seen = Arc::new(Mutex::new(Seen::default()));
    let clock = Arc::new(SystemClock::new());
    let key = product.key_of(TENANT)?.to_owned();
    let mut clients = JoinSet::new();
    for client in 0..CLIENTS {
        clients.spawn(call_until_it_dies(
            product.gateway,
            requests(product, &key, client),
            seen.clone(),
            clock.clone(),
        ));
    }
    tokio::time::sleep(moment).await;
    product.server.kill();
    let killed = clock.elapsed();
    while let Some(client) = clients.join_next().await {
        client.context("a client panicked")??;
    }
    let seen = std::mem::take(&mut *seen.lock().unwrap_or_else(PoisonError::into_inner));
    let last_begun = seen.answered.iter().map(|(_, began, _)| *began).max();
    let answered = seen
        .answered
        .into_iter()
        .map(|(request_id, _, ended)| Answered {
            request_id,
            before_kill: killed.saturating_sub(ended),
            is_followed: last_begun.is_some_and(|began| began > ended),
        })
        .collect();
    Ok((answered, seen.sent))
}

/// Each client's own mixture: at once, slow, and streamed.
fn requests(product: &Product, key: &str, client: usize) -> Vec<Vec<u8>> {
    ["bench", "bench-20ms", "bench-paced"]
        .iter()
        .cycle()
        .skip(client)
        .take(3)
        .map(|model| {
            let body = serde_json::json!({
                "model": model, "max_tokens": 128, "stream": *model == "bench-paced",
                "messages": [{"role": "user", "content": "Count the calls."}],
            });
            let body = body.to_string();
            request(
                "POST",
                product.gateway,
                "/v1/chat/completions",
                key,
                Some(body.as_bytes()),
            )
        })
        .collect()
}

async fn call_until_it_dies(
    gateway: std::net::SocketAddr,
    requests: Vec<Vec<u8>>,
    seen: Arc<Mutex<Seen>>,
    clock: Arc<SystemClock>,
) -> anyhow::Result<()> {
    // A gateway that was killed before this client connected has answered it nothing.
    let Ok(mut connection) = Connection::open(gateway).await else {
        return Ok(());
    };
    for request in requests.iter().cycle() {
        seen.lock().unwrap_or_else(PoisonError::into_inner).sent += 1;
        let began = clock.elapsed();
        let Ok(answer) = connection.call(&clock, request).await else {
            return Ok(());
        };
        if answer.status != 200 {
            bail!(
                "a call was answered {}: {}",
                answer.status,
                String::from_utf8_lossy(&answer.body)
            );
        }
        let request_id = answer.request_id.context("an answer has x-request-id")?;
        seen.lock()
            .unwrap_or_else(PoisonError::into_inner)
            .answered
            .push((request_id, began, clock.elapsed()));
    }
    Ok(())
}

/// Checks the calls of the last run one by one, and the sum of all runs. Returns how many stand
/// unsettled.
async fn check(product: &Product, answered: &[Answered], totals: &Totals) -> anyhow::Result<u64> {
    let mut unsettled = 0;
    let mut connection = Connection::open(product.admin).await?;
    for call in answered {
        let path = format!("/admin/v1/tenants/{TENANT}/requests/{}", call.request_id);
        let ask = request(
            "GET",
            product.admin,
            &path,
            &product.quickstart.operator_key,
            None,
        );
        let answer = connection.call(&SystemClock::new(), &ask).await?;
        ensure!(
            answer.status == 200,
            "an answered call is not in the ledger: {} ({} before the kill): {}",
            call.request_id,
            shown_ms(call.before_kill),
            String::from_utf8_lossy(&answer.body)
        );
        unsettled += check_lines(call, &answer.json()?)?;
    }
    let counted = counted_calls(product).await?;
    ensure!(
        (totals.answered..=totals.sent).contains(&counted),
        "the ledger counts {counted} calls; {} were answered and {} sent",
        totals.answered,
        totals.sent
    );
    Ok(unsettled)
}

/// Checks the ledger's lines of one call; how many are unsettled (none or one).
fn check_lines(call: &Answered, lines: &Value) -> anyhow::Result<u64> {
    let lines = lines["data"].as_array().context("a list of lines")?;
    ensure!(
        lines.len() == 1,
        "{} is in the ledger {} times",
        call.request_id,
        lines.len()
    );
    match lines[0]["state"].as_str() {
        Some("settled") => Ok(0),
        Some("unsettled") if call.before_kill <= SETTLING_MAX || !call.is_followed => Ok(1),
        other => bail!(
            "{} ended {} before the kill and is {other:?}",
            call.request_id,
            shown_ms(call.before_kill)
        ),
    }
}

fn shown_ms(duration: Duration) -> String {
    format!("{:.1} ms", duration.as_secs_f64() * 1000.0)
}

/// How many calls the tenant's usage counts.
async fn counted_calls(product: &Product) -> anyhow::Result<u64> {
    let rows = usage(product).await?;
    rows.iter()
        .map(|row| row["requests"].as_u64().context("a row counts requests"))
        .sum()
}

/// The tenant's usage, model by model.
async fn usage(product: &Product) -> anyhow::Result<Vec<Value>> {
    let path = format!("/admin/v1/tenants/{TENANT}/usage?group_by=model");
    let usage = product.admin("GET", &path, None).await?;
    let rows = usage["data"].as_array().context("a list of usage")?;
    Ok(rows.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(before_kill_ms: u64, lines: Value) -> Option<u64> {
        check_followed(before_kill_ms, true, lines)
    }

    fn check_followed(before_kill_ms: u64, is_followed: bool, lines: Value) -> Option<u64> {
        let call = Answered {
            request_id: "r".to_owned(),
            before_kill: Duration::from_millis(before_kill_ms),
            is_followed,
        };
        check_lines(&call, &lines).ok()
    }

    #[test]
    fn a_journal_that_stood_still_excuses_what_ended_last() {
        let unsettled = serde_json::json!({"data": [{"state": "unsettled"}]});
        assert_eq!(check_followed(1_000, false, unsettled), Some(1));
    }

    #[test]
    fn a_call_stands_once_and_settled_unless_it_ended_just_before() {
        let settled = serde_json::json!({"state": "settled"});
        let unsettled = serde_json::json!({"state": "unsettled"});
        for (before_kill_ms, lines, expected) in [
            (1_000, serde_json::json!({"data": [settled]}), Some(0)),
            (1, serde_json::json!({"data": [unsettled]}), Some(1)),
            (1_000, serde_json::json!({"data": [unsettled]}), None),
            (1, serde_json::json!({"data": []}), None),
            (1, serde_json::json!({"data": [settled, settled]}), None),
            (
                1,
                serde_json::json!({"data": [{"state": "released"}]}),
                None,
            ),
        ] {
            assert_eq!(check(before_kill_ms, lines.clone()), expected, "{lines}");
        }
    }
}
