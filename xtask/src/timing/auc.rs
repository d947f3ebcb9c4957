//! How well two samples can be told apart: the area under the ROC curve, by Mann and Whitney, with
//! DeLong's interval.

use serde::Serialize;

/// 1.645: five per cent of a normal distribution lie beyond it on either side.
const Z_90: f64 = 1.644_853_626_951_472_2;

/// The chance that a value of one sample is below one of the other, ties counting half, and a 90%
/// interval of it. 0.5: they cannot be told apart.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(super) struct Auc {
    pub(super) auc: f64,
    pub(super) low: f64,
    pub(super) high: f64,
}

impl Auc {
    /// The chance that one of `faster` is below one of `slower`. Each sample has two values at
    /// least.
    ///
    /// The interval is DeLong's (1988): the variance of the two samples' placement values, each
    /// over its size. It assumes nothing of the values' distribution.
    pub(super) fn of(faster: &[f64], slower: &[f64]) -> Self {
        let of_faster: Vec<f64> = placements(faster, slower)
            .into_iter()
            .map(|below| 1.0 - below)
            .collect();
        let of_slower = placements(slower, faster);
        let auc = mean(&of_faster);
        let variance = variance(&of_faster) / of_faster.len() as f64
            + variance(&of_slower) / of_slower.len() as f64;
        let margin = Z_90 * variance.sqrt();
        Self {
            auc,
            low: (auc - margin).max(0.0),
            high: (auc + margin).min(1.0),
        }
    }
}

impl Auc {
    /// Whether the whole interval lies inside a band.
    pub(super) fn is_inside(self, [low, high]: [f64; 2]) -> bool {
        low < self.low && self.high < high
    }

    /// Whether the interval is neither inside nor outside.
    pub(super) fn straddles(self, band: [f64; 2]) -> bool {
        let is_outside = self.high <= band[0] || band[1] <= self.low;
        !is_outside && !self.is_inside(band)
    }
}

/// For each value, the share of `others` below it; an equal one counts half.
fn placements(values: &[f64], others: &[f64]) -> Vec<f64> {
    let mut others = others.to_vec();
    others.sort_by(f64::total_cmp);
    let share = |value: f64| {
        let below = others.partition_point(|other| *other < value);
        let not_above = others.partition_point(|other| *other <= value);
        (below + not_above) as f64 / (2 * others.len()) as f64
    };
    values.iter().map(|value| share(*value)).collect()
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

fn variance(values: &[f64]) -> f64 {
    let mean = mean(values);
    let squares = values.iter().map(|value| (value - mean).powi(2));
    squares.sum::<f64>() / (values.len() - 1) as f64
}

#[cfg(test)]
mod tests {
    use base::{Entropy, SeededEntropy};

    use super::*;

    fn uniform(entropy: &SeededEntropy, count: usize, shift: f64) -> Vec<f64> {
        let one = || (entropy.next_u64() >> 11) as f64 / (1_u64 << 53) as f64;
        (0..count).map(|_| one() + shift).collect()
    }

    #[test]
    fn what_is_apart_is_told_apart_and_what_is_equal_is_not() {
        for (faster, slower, expected) in [
            (&[1.0, 2.0, 3.0][..], &[4.0, 5.0][..], 1.0),
            (&[4.0, 5.0], &[1.0, 2.0], 0.0),
            (&[1.0, 1.0], &[1.0, 1.0], 0.5),
            // Of 1·2, 1·4, 3·2 and 3·4, three are in order.
            (&[1.0, 3.0], &[2.0, 4.0], 0.75),
        ] {
            let Auc { auc, low, high } = Auc::of(faster, slower);
            assert!((auc - expected).abs() < 1e-12, "{auc}, not {expected}");
            assert!((low..=high).contains(&auc) && low >= 0.0 && high <= 1.0);
        }
    }

    #[test]
    fn the_interval_holds_the_truth_nine_times_in_ten() {
        let entropy = SeededEntropy::new(7);
        // Two uniform samples, a half apart: the chance is 1 - 0.5²/2.
        for (shift, truth) in [(0.0, 0.5), (0.5, 0.875)] {
            let held = (0..1_000).filter(|_| {
                let faster = uniform(&entropy, 60, 0.0);
                let slower = uniform(&entropy, 60, shift);
                let Auc { low, high, .. } = Auc::of(&faster, &slower);
                (low..=high).contains(&truth)
            });
            let held = held.count();
            assert!((870..=930).contains(&held), "{shift}: {held} of 1,000");
        }
    }

    #[test]
    fn an_interval_is_inside_outside_or_across_an_edge() {
        let of = |low, high| Auc {
            auc: 0.5,
            low,
            high,
        };
        for (interval, is_inside, straddles) in [
            (of(0.46, 0.54), true, false),
            (of(0.5, 0.56), false, true),
            (of(0.4, 0.6), false, true),
            (of(0.56, 0.6), false, false),
            (of(0.2, 0.3), false, false),
        ] {
            let band = [0.45, 0.55];
            assert_eq!(interval.is_inside(band), is_inside, "{interval:?}");
            assert_eq!(interval.straddles(band), straddles, "{interval:?}");
        }
    }

    #[test]
    fn a_thousand_of_each_are_what_the_band_asks_for() {
        let entropy = SeededEntropy::new(11);
        let width = |count| {
            let of = Auc::of(
                &uniform(&entropy, count, 0.0),
                &uniform(&entropy, count, 0.0),
            );
            of.high - of.low
        };
        assert!(width(1_000) < 0.045);
        assert!(width(150) > 0.1);
    }
}
