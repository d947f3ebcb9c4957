//! The two-client overload of VTC's artifact (OSDI '24; `fair_bench/exp_suite.py`, "overload").
//!
//! As there: client 0 asks for 1.5 calls a second, client 1 for 3, evenly spaced from a random
//! start, for 360 s; 256 tokens in and 256 out; the engine ends about 1.75 calls a second, so both
//! ask for more than half of it and wait for minutes. Admission, batching and the figure are the
//! artifact's own ([`super::engine`], [`super::service`]): its formula, run over its published
//! logs, gives its published 192.88 for VTC, 33.98 for VTC ±50% and 5.87 for VTC with an oracle.
//!
//! What differs: time is virtual, so that a step takes the same time each time; the engine's
//! seconds are a line through the artifact's; what streams is reported every 16 tokens, as the
//! gateway does, and not each; the scheduler is the gateway's, which breaks ties within a quantum
//! by the places held. FCFS, VTC without predictions and VTC with an oracle are run beside it, so
//! that the model can be held against the artifact.

use super::chance::Chance;
use super::gate::{Asked, Client, Prediction, serve};
use super::service::{largest_accumulated, largest_difference, throughput};

/// What came of one overload.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Difference {
    /// The artifact's "Max Diff": units of service a second, in windows of 60 s.
    pub largest: f64,
    /// The largest difference of what both got since the start, in units, while both wait.
    pub accumulated: f64,
    /// Tokens in and out a second.
    pub throughput: f64,
}

/// Calls a second of each client.
const RATES: [f64; 2] = [1.5, 3.0];
const SECONDS: f64 = 360.0;
const INPUT: u32 = 256;
const OUTPUT: u32 = 256;
/// Seconds in which both wait for sure: the first of them has 540 calls, of which 0.875 a second
/// are served.
const BOTH_WAIT: (u32, u32) = (30, 600);

/// Runs the overload once.
pub fn overload(prediction: Prediction, seed: u64) -> Difference {
    let asked = calls(seed);
    let clients = [Client { weight: 1 }; 2];
    let served = serve(&asked, &clients, prediction, seed ^ 0x5eed);
    Difference {
        largest: largest_difference(&served, clients.len()),
        accumulated: largest_accumulated(&served, clients.len(), BOTH_WAIT.0, BOTH_WAIT.1),
        throughput: throughput(&served),
    }
}

fn calls(seed: u64) -> Vec<Asked> {
    let chance = Chance::new(seed);
    let mut asked = Vec::new();
    for (client, rate) in RATES.into_iter().enumerate() {
        let start = chance.unit() / rate;
        let count = (rate * SECONDS) as u32;
        asked.extend((1..=count).map(|call| Asked {
            at: start + f64::from(call) / rate,
            client,
            input: INPUT,
            output: OUTPUT,
        }));
    }
    asked.sort_by(|one, other| one.at.total_cmp(&other.at));
    asked
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The model stands where the artifact does: 447, 192.88 and 5.87 there.
    #[test]
    fn the_model_follows_the_artifact() {
        let first_come = overload(Prediction::FirstCome, 1);
        assert!(
            (400.0..500.0).contains(&first_come.largest),
            "{first_come:?}"
        );
        let blind = overload(Prediction::Nothing, 1);
        assert!((60.0..260.0).contains(&blind.largest), "{blind:?}");
        let oracle = overload(Prediction::Truth, 1);
        assert!(oracle.largest < 15.0, "{oracle:?}");
        assert!((800.0..1_000.0).contains(&oracle.throughput), "{oracle:?}");
    }

    #[test]
    fn a_seed_determines_all() {
        let run = |seed| overload(Prediction::Calibrated(0.5), seed);
        assert_eq!(run(3), run(3));
    }
}
