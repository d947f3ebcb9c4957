//! How long an answer will probably be, from the tenant's recent ones.

use base::{ModelName, TenantId};
use hashbrown::HashMap;

/// Bounds of an [`OutputPredictor`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PredictorOptions {
    /// Pairs of tenant and model that are remembered, up to twice as many for a while.
    pub pairs_max: usize,
    /// Tokens that are expected of a pair nothing is known of.
    pub unknown: u32,
}

impl Default for PredictorOptions {
    fn default() -> Self {
        Self {
            // 8,192 pairs, up to 16,384: about 2 MB.
            pairs_max: 8_192,
            // 256: between the means of public traces of chat (some 200 to 350 tokens out).
            unknown: 256,
        }
    }
}

/// Predicts the tokens of an answer by tenant and model: the mean of the recent ones, weighed
/// against the caller's own estimate where there is one, each by how wrong it has been.
///
/// An estimate that is off by half is thus hardly listened to where answers are all alike, and
/// leads where they are not. One tenant's answers never tell anything of another's.
#[derive(Debug)]
pub struct OutputPredictor {
    options: PredictorOptions,
    /// Two generations: what was not asked for while the younger one filled up is forgotten.
    young: HashMap<(TenantId, ModelName), Seen>,
    old: HashMap<(TenantId, ModelName), Seen>,
}

/// What is known of one pair.
#[derive(Debug, Clone, Copy)]
struct Seen {
    answers: u32,
    mean: f64,
    /// Mean squares of the errors, in tokens: of the mean, and of the caller's estimate.
    mean_error: f64,
    estimate_error: f64,
    estimates: u32,
}

/// 16: what is remembered of a pair is some twenty answers, so that a change of prompt shows soon.
const MEMORY: u32 = 16;
/// 4 estimates: before that nobody can say how good they are.
const ESTIMATES_MIN: u32 = 4;

impl OutputPredictor {
    /// A predictor that knows nothing.
    pub fn new(options: PredictorOptions) -> Self {
        Self {
            options,
            young: HashMap::new(),
            old: HashMap::new(),
        }
    }

    /// The tokens to expect of an answer that may have `output_max`, at least one.
    pub fn predict(
        &self,
        tenant: TenantId,
        model: &ModelName,
        estimate: Option<u32>,
        output_max: u32,
    ) -> u32 {
        let key = (tenant, model.clone());
        let seen = self.young.get(&key).or_else(|| self.old.get(&key));
        let predicted = match (seen, estimate) {
            (Some(seen), Some(estimate)) => seen.blend(estimate),
            (Some(seen), None) => seen.mean,
            (None, estimate) => f64::from(estimate.unwrap_or(self.options.unknown)),
        };
        // A float to an integer saturates, and here it is small.
        (predicted.round() as u32).clamp(1, output_max.max(1))
    }

    /// What an answer really had, and what the caller had estimated.
    pub fn learn(
        &mut self,
        tenant: TenantId,
        model: &ModelName,
        estimate: Option<u32>,
        output: u32,
    ) {
        let key = (tenant, model.clone());
        if !self.young.contains_key(&key) {
            if self.young.len() >= self.options.pairs_max {
                self.old = std::mem::take(&mut self.young);
            }
            let seen = self.old.remove(&key).unwrap_or(Seen::nothing(output));
            self.young.insert(key.clone(), seen);
        }
        if let Some(seen) = self.young.get_mut(&key) {
            seen.learn(estimate, output);
        }
    }

    /// Pairs that are remembered.
    pub fn pairs(&self) -> usize {
        self.young.len() + self.old.len()
    }
}

impl Seen {
    fn nothing(first: u32) -> Self {
        Self {
            answers: 0,
            mean: f64::from(first),
            mean_error: 0.0,
            estimate_error: 0.0,
            estimates: 0,
        }
    }

    fn learn(&mut self, estimate: Option<u32>, output: u32) {
        let output = f64::from(output);
        self.answers = (self.answers + 1).min(MEMORY);
        let part = 1.0 / f64::from(self.answers);
        let error = output - self.mean;
        self.mean_error += (error * error - self.mean_error) * part;
        self.mean += error * part;
        if let Some(estimate) = estimate {
            self.estimates = (self.estimates + 1).min(MEMORY);
            let error = output - f64::from(estimate);
            self.estimate_error +=
                (error * error - self.estimate_error) / f64::from(self.estimates);
        }
    }

    /// Each by the inverse of its mean squared error: the best that two independent guesses give.
    fn blend(&self, estimate: u32) -> f64 {
        let estimate = f64::from(estimate);
        let errors = self.mean_error + self.estimate_error;
        if self.estimates < ESTIMATES_MIN {
            return estimate;
        }
        if errors <= f64::EPSILON {
            return self.mean;
        }
        (self.mean * self.estimate_error + estimate * self.mean_error) / errors
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ACME: TenantId = TenantId::from_bits(1);

    fn model() -> ModelName {
        "m".parse().expect("a name")
    }

    fn taught(outputs: &[(Option<u32>, u32)]) -> OutputPredictor {
        let mut predictor = OutputPredictor::new(PredictorOptions::default());
        for (estimate, output) in outputs {
            predictor.learn(ACME, &model(), *estimate, *output);
        }
        predictor
    }

    #[test]
    fn what_is_unknown_is_ordinary() {
        let predictor = taught(&[]);
        assert_eq!(predictor.predict(ACME, &model(), None, 4_096), 256);
        assert_eq!(predictor.predict(ACME, &model(), None, 100), 100);
        assert_eq!(predictor.predict(ACME, &model(), Some(900), 4_096), 900);
        assert_eq!(predictor.predict(ACME, &model(), Some(0), 0), 1);
    }

    #[test]
    fn the_recent_mean_is_expected_and_follows_a_change() {
        let mut predictor = taught(&[(None, 100), (None, 200), (None, 300)]);
        assert_eq!(predictor.predict(ACME, &model(), None, 4_096), 200);
        for _ in 0..100 {
            predictor.learn(ACME, &model(), None, 1_000);
        }
        let after = predictor.predict(ACME, &model(), None, 4_096);
        assert!((990..=1_000).contains(&after), "{after}");
    }

    #[test]
    fn a_bad_estimate_is_not_listened_to_and_a_good_one_is() {
        let alike: Vec<_> = (0..20).map(|n| (Some(128 + 256 * (n % 2)), 256)).collect();
        assert_eq!(
            taught(&alike).predict(ACME, &model(), Some(384), 4_096),
            256
        );
        let foreseen: Vec<_> = (0..20).map(|n| (Some(100 * n), 100 * n)).collect();
        assert_eq!(
            taught(&foreseen).predict(ACME, &model(), Some(50), 4_096),
            50
        );
    }

    #[test]
    fn tenants_do_not_learn_from_each_other_and_memory_is_bounded() {
        let mut predictor = taught(&[(None, 1_000)]);
        let other = TenantId::from_bits(2);
        assert_eq!(predictor.predict(other, &model(), None, 4_096), 256);
        for tenant in 10..100_000 {
            predictor.learn(TenantId::from_bits(tenant), &model(), None, 1);
            predictor.learn(ACME, &model(), None, 1_000);
        }
        assert!(predictor.pairs() <= 2 * 8_192, "{}", predictor.pairs());
        assert_eq!(predictor.predict(ACME, &model(), None, 4_096), 1_000);
    }
}
