//! Shares by weight, and what can be gained by idling or by splitting calls.

use super::gate::{Asked, Client, Prediction, serve};
use super::service::{Served, service};

/// What came of the three experiments. Clients are told apart by weight or by behaviour alone.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Shares {
    /// Per cent by which a client's service per weight is off the mean, at most, of three clients
    /// with weights 1, 2 and 4 that all wait for five minutes.
    pub weights_off_percent: f64,
    /// Per cent more service that a client gets that idles for a minute and sends a minute's
    /// worth at once, than one that always waits, in the minutes in which both wait.
    pub idling_gain_percent: f64,
    /// Per cent more service that a client gets that sends each call as four of a quarter.
    pub splitting_gain_percent: f64,
}

/// Runs the three experiments with an estimate that is off by up to half.
pub fn shares(seed: u64) -> Shares {
    Shares {
        weights_off_percent: weights(seed),
        idling_gain_percent: idling(seed),
        splitting_gain_percent: splitting(seed),
    }
}

/// 600 s: long enough for a bound in units to be small against the service.
const SECONDS: u32 = 600;
const SIZE: u32 = 256;

fn steady(client: usize, per_second: u32, size: u32) -> impl Iterator<Item = Asked> {
    (0..SECONDS * per_second).map(move |call| Asked {
        at: f64::from(call) / f64::from(per_second),
        client,
        input: size,
        output: size,
    })
}

fn run(mut asked: Vec<Asked>, weights: &[u16], seed: u64) -> Vec<Served> {
    asked.sort_by(|one, other| one.at.total_cmp(&other.at));
    let clients: Vec<Client> = weights.iter().map(|&weight| Client { weight }).collect();
    serve(&asked, &clients, Prediction::Calibrated(0.5), seed)
}

fn weights(seed: u64) -> f64 {
    let weights = [1, 2, 4];
    let asked = (0..3).flat_map(|client| steady(client, 2, SIZE)).collect();
    let served = run(asked, &weights, seed);
    let by_weight: Vec<f64> = weights
        .iter()
        .enumerate()
        .map(|(client, weight)| service(&served, client, 30.0, 330.0) / f64::from(*weight))
        .collect();
    let mean = by_weight.iter().sum::<f64>() / 3.0;
    let off = by_weight.iter().map(|got| (got / mean - 1.0).abs() * 100.0);
    off.fold(0.0, f64::max)
}

fn idling(seed: u64) -> f64 {
    // Every other minute; then all at once, what the engine does in two minutes.
    let bursts = (0..SECONDS / 120).flat_map(|burst| {
        (0..210).map(move |_| Asked {
            at: f64::from(burst * 120 + 60),
            client: 1,
            input: SIZE,
            output: SIZE,
        })
    });
    let asked = steady(0, 3, SIZE).chain(bursts).collect();
    let served = run(asked, &[1, 1], seed);
    let together = |client| -> f64 {
        let minutes = (0..SECONDS / 120).map(|burst| f64::from(burst * 120 + 60));
        minutes
            .map(|start| service(&served, client, start, start + 60.0))
            .sum()
    };
    gain(together(1), together(0))
}

fn splitting(seed: u64) -> f64 {
    let asked = steady(0, 2, SIZE).chain(steady(1, 8, SIZE / 4)).collect();
    let served = run(asked, &[1, 1], seed);
    let got = |client| service(&served, client, 30.0, 530.0);
    gain(got(1), got(0))
}

fn gain(of: f64, over: f64) -> f64 {
    (of / over - 1.0) * 100.0
}
