//! Load: a closed loop for what a call costs, an open loop for what it waits.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, ensure};
use base::{Entropy, SeededEntropy, SystemClock};
use tokio::task::JoinSet;

use super::alarm::Alarm;
use super::process::Tree;
use crate::wire::{Answer, Connection};

/// 200 ms: connections are open, pools filled and code paged in before a window counts.
const WARM_UP: Duration = Duration::from_millis(200);

/// What is sent, and where.
#[derive(Clone)]
pub(crate) struct Target {
    pub(crate) address: SocketAddr,
    /// A whole request, head and body.
    pub(crate) request: Arc<[u8]>,
}

/// One measured window.
pub(crate) struct Window {
    pub(crate) calls: u64,
    pub(crate) cpu: Duration,
    /// The same by the threads' names, without those that ended meanwhile.
    pub(crate) threads: BTreeMap<String, Duration>,
}

impl Window {
    /// CPU milliseconds per call.
    pub(crate) fn ms_per_call(&self) -> f64 {
        self.cpu.as_secs_f64() * 1000.0 / self.calls as f64
    }

    /// CPU milliseconds per call of each thread.
    pub(crate) fn ms_per_call_by_thread(&self) -> BTreeMap<String, f64> {
        self.threads
            .iter()
            .map(|(name, time)| {
                let ms = time.as_secs_f64() * 1000.0 / self.calls as f64;
                (name.clone(), ms)
            })
            .collect()
    }
}

/// Keeps `connections` busy for a warm-up and then a window of this `length`; what `tree` used in
/// the window. A call that fails ends the run: a refusal is cheaper than an answer.
pub(crate) async fn closed_loop(
    target: &Target,
    connections: usize,
    length: Duration,
    tree: &Tree,
) -> anyhow::Result<Window> {
    let completed = Arc::new(AtomicU64::new(0));
    let is_over = Arc::new(AtomicBool::new(false));
    let mut clients = JoinSet::new();
    for _ in 0..connections {
        let (target, completed, is_over) = (target.clone(), completed.clone(), is_over.clone());
        clients.spawn(async move {
            let clock = SystemClock::new();
            let mut connection = Connection::open(target.address).await?;
            while !is_over.load(Ordering::Relaxed) {
                ensure_answered(&connection.call(&clock, &target.request).await?)?;
                completed.fetch_add(1, Ordering::Relaxed);
            }
            anyhow::Ok(())
        });
    }
    tokio::time::sleep(WARM_UP).await;
    let threads_before = tree.cpu_time_by_thread()?;
    let (calls_before, cpu_before) = (completed.load(Ordering::Relaxed), tree.cpu_time()?);
    tokio::time::sleep(length).await;
    let (calls_after, cpu_after) = (completed.load(Ordering::Relaxed), tree.cpu_time()?);
    let mut threads = tree.cpu_time_by_thread()?;
    for (name, time) in &mut threads {
        *time = time.saturating_sub(threads_before.get(name).copied().unwrap_or_default());
    }
    is_over.store(true, Ordering::Relaxed);
    while let Some(client) = clients.join_next().await {
        client.context("a client panicked")??;
    }
    let calls = calls_after - calls_before;
    ensure!(calls > 0, "no call was answered within {length:?}");
    Ok(Window {
        calls,
        cpu: cpu_after.saturating_sub(cpu_before),
        threads,
    })
}

/// How long calls took.
#[derive(Default)]
pub(crate) struct Waits {
    pub(crate) first_byte: Vec<Duration>,
    pub(crate) total: Vec<Duration>,
}

/// Sends calls at random times (Poisson) at `rate` a second, whether or not earlier ones have been
/// answered, for `length`. The same `seed` sends at the same times, so that every arm sees the
/// same arrivals.
pub(crate) async fn open_loop(
    target: &Target,
    rate: f64,
    length: Duration,
    seed: u64,
) -> anyhow::Result<Waits> {
    let alarm = Alarm::start();
    let entropy = SeededEntropy::new(seed);
    let idle = Arc::new(Mutex::new(warm_connections(target).await?));
    let mut calls = JoinSet::new();
    let start = alarm.now();
    let mut at = start;
    let mut waits = Waits::default();
    loop {
        at += gap(&entropy, rate);
        if at - start >= length {
            break;
        }
        alarm.until(at).await;
        let (target, idle) = (target.clone(), idle.clone());
        calls.spawn(async move {
            let clock = SystemClock::new();
            let pooled = idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
            let mut connection = match pooled {
                Some(connection) => connection,
                None => Connection::open(target.address).await?,
            };
            let answer = connection.call(&clock, &target.request).await?;
            ensure_answered(&answer)?;
            idle.lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push(connection);
            anyhow::Ok((answer.first_byte, answer.total))
        });
        while let Some(call) = calls.try_join_next() {
            waits.push(call.context("a call panicked")??);
        }
    }
    while let Some(call) = calls.join_next().await {
        waits.push(call.context("a call panicked")??);
    }
    Ok(waits)
}

impl Waits {
    fn push(&mut self, (first_byte, total): (Duration, Duration)) {
        self.first_byte.push(first_byte);
        self.total.push(total);
    }

    /// Adds another window's.
    pub(crate) fn extend(&mut self, other: Self) {
        self.first_byte.extend(other.first_byte);
        self.total.extend(other.total);
    }
}

/// 16 connections, each warmed by a call: more than are busy at 200 calls/s of 20 ms.
async fn warm_connections(target: &Target) -> anyhow::Result<Vec<Connection>> {
    let mut connections = Vec::new();
    for _ in 0..16 {
        let mut connection = Connection::open(target.address).await?;
        ensure_answered(
            &connection
                .call(&SystemClock::new(), &target.request)
                .await?,
        )?;
        connections.push(connection);
    }
    Ok(connections)
}

pub(super) fn ensure_answered(answer: &Answer) -> anyhow::Result<()> {
    ensure!(
        answer.status == 200,
        "a call was answered {}: {}",
        answer.status,
        String::from_utf8_lossy(&answer.body)
    );
    Ok(())
}

/// The time to the next arrival of a Poisson process.
fn gap(entropy: &dyn Entropy, rate: f64) -> Duration {
    // 53 random bits are a double in [0, 1); one less it is never zero.
    let uniform = (entropy.next_u64() >> 11) as f64 / (1_u64 << 53) as f64;
    Duration::from_secs_f64(-(1.0 - uniform).ln() / rate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gaps_have_the_rate_as_their_mean() {
        let entropy = SeededEntropy::new(7);
        let total: Duration = (0..20_000).map(|_| gap(&entropy, 200.0)).sum();
        let mean_ms = total.as_secs_f64() * 1000.0 / 20_000.0;
        assert!((4.8..5.2).contains(&mean_ms), "{mean_ms}");
    }

    #[tokio::test]
    async fn both_loops_measure_a_real_server() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
            .await
            .expect("a port");
        let address = listener.local_addr().expect("bound");
        let supervisor = base::Supervisor::new();
        supervisor.spawn(async move {
            drop(super::super::upstream::serve(listener).await);
        });
        let body = br#"{"model":"bench-20ms"}"#;
        let request = crate::wire::request("POST", address, "/v1/x", "key", Some(body));
        let target = Target {
            address,
            request: request.into(),
        };
        let tree = Tree::of(std::process::id()).expect("it runs");
        let length = Duration::from_millis(200);
        let window = closed_loop(&target, 2, length, &tree).await.expect("calls");
        assert!(window.ms_per_call() > 0.0);
        let waits = open_loop(&target, 50.0, length, 1).await.expect("calls");
        assert!(waits.total.iter().all(|wait| wait.as_millis() >= 20));
    }
}
