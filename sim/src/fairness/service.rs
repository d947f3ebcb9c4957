//! What clients got, and VTC's measure of it.

/// A call, as it went.
#[derive(Debug, Clone, Copy)]
pub(super) struct Served {
    pub(super) client: usize,
    pub(super) input: u32,
    pub(super) output: u32,
    /// Seconds: when it came, when its first token was there, and its last.
    pub(super) came: f64,
    pub(super) first: f64,
    pub(super) last: f64,
}

impl Served {
    /// Units of service: input + 2 × output.
    pub(super) fn cost(&self) -> f64 {
        f64::from(self.input) + 2.0 * f64::from(self.output)
    }

    /// Units by then: spread evenly from the first token to the last, as the artifact does.
    fn cost_by(&self, time: f64) -> f64 {
        let part = (time - self.first) / (self.last - self.first).max(1e-9);
        self.cost() * part.clamp(0.0, 1.0)
    }
}

/// Units that a client got in a stretch of seconds.
pub(super) fn service(calls: &[Served], client: usize, from: f64, to: f64) -> f64 {
    let own = calls.iter().filter(|call| call.client == client);
    own.map(|call| call.cost_by(to) - call.cost_by(from)).sum()
}

/// Units that a client asked for in a stretch of seconds.
fn asked(calls: &[Served], client: usize, from: f64, to: f64) -> f64 {
    calls
        .iter()
        .filter(|call| call.client == client && from <= call.came && call.came <= to)
        .map(Served::cost)
        .sum()
}

/// The artifact's figures, `fair_bench/plot/visualize.py` with the settings of
/// `plot_revision.py`: 19 moments, 28.5 s apart, over 600 s; windows of 60 s; 30 s left out.
const MOMENTS: usize = 20;
const HORIZON: f64 = 600.0;
const WINDOW: f64 = 60.0;
const LEFT_OUT: f64 = 30.0;

/// The artifact's "Max Diff" ("largest difference of service" in the paper's tables): at each
/// moment, for each client, how many units a second it got less than the one that got most, or
/// less than it asked for, whichever is smaller; summed over clients; the largest of the moments.
pub(super) fn largest_difference(calls: &[Served], clients: usize) -> f64 {
    let moments = (1..MOMENTS).map(|moment| {
        let middle = (HORIZON - LEFT_OUT) / MOMENTS as f64 * moment as f64 + LEFT_OUT;
        let (from, to) = (middle - WINDOW / 2.0, middle + WINDOW / 2.0);
        let got: Vec<f64> = (0..clients)
            .map(|client| service(calls, client, from, to) / WINDOW)
            .collect();
        let most = got.iter().copied().fold(f64::MIN, f64::max);
        let short = got.iter().enumerate().map(|(client, got)| {
            let asked = asked(calls, client, from, to) / WINDOW;
            (most - got).min((asked - got).abs())
        });
        short.sum::<f64>()
    });
    moments.fold(0.0, f64::max)
}

/// The largest difference between what any two clients got since the start, in units, looked at
/// every second of a stretch in which all wait.
pub(super) fn largest_accumulated(calls: &[Served], clients: usize, from: u32, to: u32) -> f64 {
    let differences = (from..=to).map(|second| {
        let got =
            (0..clients).map(|client| service(calls, client, f64::from(from), f64::from(second)));
        let (least, most) = got.fold((f64::MAX, f64::MIN), |(least, most), got| {
            (least.min(got), most.max(got))
        });
        most - least
    });
    differences.fold(0.0, f64::max)
}

/// Tokens in and out a second, from the start to the end of the last call.
pub(super) fn throughput(calls: &[Served]) -> f64 {
    let tokens: f64 = calls
        .iter()
        .map(|call| f64::from(call.input) + f64::from(call.output))
        .sum();
    let end = calls.iter().map(|call| call.last).fold(0.0, f64::max);
    tokens / end
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(client: usize, first: f64, last: f64) -> Served {
        Served {
            client,
            input: 100,
            output: 250,
            came: 0.0,
            first,
            last,
        }
    }

    #[test]
    fn service_is_spread_from_the_first_token_to_the_last() {
        let calls = [call(0, 10.0, 20.0), call(1, 0.0, 1.0)];
        assert!((service(&calls, 0, 0.0, 15.0) - 300.0).abs() < 1e-6);
        assert!((service(&calls, 0, 12.0, 13.0) - 60.0).abs() < 1e-6);
        assert!((throughput(&calls) - 700.0 / 20.0).abs() < 1e-6);
        assert!((largest_accumulated(&calls, 2, 0, 30) - 600.0).abs() < 1e-6);
    }

    #[test]
    fn who_got_what_it_asked_for_is_not_short() {
        // One client asks for everything and gets it, the other asks for nothing.
        let greedy: Vec<Served> = (0..600)
            .map(|second| Served {
                came: f64::from(second),
                ..call(0, f64::from(second), f64::from(second) + 1.0)
            })
            .collect();
        assert!(largest_difference(&greedy, 2) < 11.0);
        // Both ask for as much, and one gets it: 600 units a second, but for the edges.
        let mut both = greedy.clone();
        both.extend(greedy.iter().map(|call| Served {
            client: 1,
            first: 5_000.0,
            last: 6_000.0,
            ..*call
        }));
        assert!(largest_difference(&both, 2) > 590.0);
    }
}
