//! How fast places become free, as measured.

use std::time::Duration;

/// 30 s: half of what is known is older than this. Some three long answers.
const HALF_LIFE: Duration = Duration::from_secs(30);
/// Two releases: one says nothing of a rate. What is older decays below it.
const RELEASES_MIN: f64 = 2.0;

/// Places freed per second while all were taken; before that is known, what the time that calls
/// hold their places suggests.
#[derive(Debug, Default)]
pub(super) struct ServiceRate {
    seen_until: Duration,
    busy_seconds: f64,
    releases: f64,
    hold_seconds: Option<f64>,
}

/// Whether all places were taken since the last event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Load {
    Full,
    Free,
}

impl ServiceRate {
    /// Lets time pass until `now`.
    pub(super) fn advance(&mut self, now: Duration, load: Load) {
        let passed = now.saturating_sub(self.seen_until);
        self.seen_until = self.seen_until.max(now);
        if load == Load::Full && !passed.is_zero() {
            let kept = (-passed.as_secs_f64() / HALF_LIFE.as_secs_f64()).exp2();
            self.releases *= kept;
            self.busy_seconds = self.busy_seconds * kept + passed.as_secs_f64();
        }
    }

    /// A place that was held for so long became free.
    pub(super) fn release(&mut self, held: Duration, load: Load) {
        if load == Load::Full {
            self.releases += 1.0;
        }
        let held = held.as_secs_f64();
        // A sixteenth: follows within some twenty calls.
        let mean = self.hold_seconds.get_or_insert(held);
        *mean += (held - *mean) / 16.0;
    }

    /// Places a second of so many, as of `now`; `None` before any call ended.
    ///
    /// Time that passes without a release counts, so that a stuck upstream looks as slow as it is.
    pub(super) fn per_second(&self, places: u32, now: Duration, load: Load) -> Option<f64> {
        let waited = match load {
            Load::Full => now.saturating_sub(self.seen_until).as_secs_f64(),
            Load::Free => 0.0,
        };
        let busy = self.busy_seconds + waited;
        if self.releases >= RELEASES_MIN && busy > 0.0 {
            return Some(self.releases / busy);
        }
        let hold = self.hold_seconds?;
        // Below a millisecond the measure is noise.
        Some(f64::from(places) / hold.max(0.001))
    }

    /// How long calls hold their places; `None` before any call ended.
    pub(super) fn hold_seconds(&self) -> Option<f64> {
        self.hold_seconds
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_is_measured_while_all_places_are_taken() {
        let mut rate = ServiceRate::default();
        assert_eq!(rate.per_second(4, Duration::ZERO, Load::Full), None);
        for second in 1..=300 {
            rate.advance(Duration::from_secs(second), Load::Full);
            rate.release(Duration::from_secs(2), Load::Full);
            rate.release(Duration::from_secs(2), Load::Full);
        }
        let now = Duration::from_secs(300);
        let measured = rate.per_second(4, now, Load::Full).expect("calls ended");
        assert!((1.9..2.1).contains(&measured), "{measured}");
        let stuck = rate
            .per_second(4, now + Duration::from_secs(60), Load::Full)
            .expect("calls ended");
        assert!(stuck < 1.0, "a minute without an end shows: {stuck}");
    }

    #[test]
    fn before_it_was_busy_the_time_that_places_are_held_says_it() {
        let mut rate = ServiceRate::default();
        rate.release(Duration::from_secs(2), Load::Free);
        assert_eq!(rate.per_second(4, Duration::ZERO, Load::Free), Some(2.0));
    }
}
