//! How many calls at once an upstream takes: additive increase, multiplicative decrease.

use std::time::Duration;

use super::fault::{Fault, ProviderFault, TenantFault};

/// Bounds and gains of an [`AdaptiveLimit`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AdaptiveOptions {
    /// Fewest calls at once.
    pub min: u32,
    /// Most calls at once.
    pub max: u32,
    /// Where it starts.
    pub start: u32,
    /// Times the undisturbed time to first token beyond which the upstream counts as full.
    pub tolerance: f64,
    /// What is left of the limit after it was found full by its time to first token.
    pub slow_factor: f64,
    /// What is left of it after the upstream said that it has too much to do.
    pub refused_factor: f64,
    /// How long after a decrease there is no other: what was sent before still comes in.
    pub hold: Duration,
}

impl AdaptiveOptions {
    /// From one call to `max` of them.
    pub fn up_to(max: u32) -> Self {
        Self {
            min: 1,
            max: max.max(1),
            // 16: it doubles with each round of calls until the upstream shows that it is full,
            // so that what an undisturbed call takes is seen first.
            start: max.clamp(1, 16),
            // Twice: half of the time is then spent waiting inside the upstream.
            tolerance: 2.0,
            // A tenth off for a suspicion, three tenths for a refusal.
            slow_factor: 0.9,
            refused_factor: 0.7,
            // 2 s: longer than most first tokens take.
            hold: Duration::from_secs(2),
        }
    }
}

/// What one call says of the load.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Feedback {
    /// Its first token came so long after it was sent.
    FirstToken {
        /// From sending to the first token.
        after: Duration,
        /// Tokens of its input.
        input: u32,
    },
    /// It ended like this before any token.
    Ended(Fault),
}

/// The limit of one upstream.
///
/// The time to first token grows with the input, so each is compared with the least that calls of
/// a similar size took: sizes are kept apart by powers of two. The least of the last half hour and
/// of the one before counts, so that an upstream that became slower for good is not throttled for
/// ever; one that is full for longer than an hour may be given up to `tolerance` times more.
///
/// Until it is first found full, each call raises the limit by one, which doubles it each round;
/// from then on, each round does.
#[derive(Debug)]
pub struct AdaptiveLimit {
    options: AdaptiveOptions,
    limit: f64,
    /// The least seconds to first token, by the power of two of the input.
    least: [Option<f64>; SIZES],
    least_before: [Option<f64>; SIZES],
    epoch_end: Duration,
    was_full: bool,
    /// Seconds to first token over the least, on average.
    slowness: f64,
    no_decrease_before: Duration,
}

/// Powers of two of the input that are kept apart: up to 2²³ tokens.
const SIZES: usize = 24;
/// Half an hour: any upstream has a quiet moment in one.
const EPOCH: Duration = Duration::from_secs(1_800);
/// A millisecond: below it the network says more than the upstream.
const LEAST_SECONDS: f64 = 0.001;
/// Nine tenths of the limit: a limit that is not used proves nothing.
const USED: f64 = 0.9;

impl AdaptiveLimit {
    /// A limit at its start.
    pub fn new(options: AdaptiveOptions) -> Self {
        Self {
            options,
            limit: f64::from(options.start.clamp(options.min, options.max)),
            least: [None; SIZES],
            least_before: [None; SIZES],
            epoch_end: EPOCH,
            was_full: false,
            slowness: 1.0,
            no_decrease_before: Duration::ZERO,
        }
    }

    /// Calls at once.
    pub fn limit(&self) -> u32 {
        // Between the bounds, which are integers.
        self.limit as u32
    }

    /// What a call says, and how many were under way then. Returns the limit, if it changed.
    pub fn observe(&mut self, feedback: Feedback, in_flight: u32, now: Duration) -> Option<u32> {
        let before = self.limit();
        match feedback {
            Feedback::FirstToken { after, input } => self.first_token(after, input, in_flight, now),
            Feedback::Ended(Fault::Provider(ProviderFault::Overloaded)) => {
                self.decrease(self.options.refused_factor, now);
            }
            // A tenant's own quota, bad request or lost connection says nothing of the load.
            Feedback::Ended(
                Fault::None
                | Fault::Unknown
                | Fault::Provider(_)
                | Fault::Tenant(TenantFault::Quota | TenantFault::Credential | TenantFault::Request),
            ) => {}
        }
        (self.limit() != before).then(|| self.limit())
    }

    fn first_token(&mut self, after: Duration, input: u32, in_flight: u32, now: Duration) {
        if now >= self.epoch_end {
            self.epoch_end = now + EPOCH;
            self.least_before = std::mem::replace(&mut self.least, [None; SIZES]);
        }
        let size = (32 - input.max(1).leading_zeros()) as usize;
        let size = size.min(SIZES - 1);
        let seconds = after.as_secs_f64().max(LEAST_SECONDS);
        let least = self.least[size].get_or_insert(seconds);
        *least = least.min(seconds);
        let before = self.least_before[size].unwrap_or(*least);
        let slowness = seconds / least.min(before);
        // An eighth: one slow call is no sign.
        self.slowness += (slowness - self.slowness) / 8.0;
        if self.slowness > self.options.tolerance {
            self.decrease(self.options.slow_factor, now);
        } else if f64::from(in_flight) >= self.limit * USED {
            let step = if self.was_full {
                1.0 / self.limit.max(1.0)
            } else {
                1.0
            };
            let more = self.limit + step;
            self.limit = more.min(f64::from(self.options.max));
        }
    }

    fn decrease(&mut self, factor: f64, now: Duration) {
        if now < self.no_decrease_before {
            return;
        }
        self.was_full = true;
        self.no_decrease_before = now + self.options.hold;
        self.limit = (self.limit * factor).max(f64::from(self.options.min));
        self.slowness = 1.0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs calls of `input` tokens against an engine that takes `room` at once and queues the
    /// rest, and returns the limit after a while.
    fn settled(room: u32, inputs: &[u32], start: u32) -> u32 {
        let options = AdaptiveOptions {
            start,
            ..AdaptiveOptions::up_to(256)
        };
        let mut limit = AdaptiveLimit::new(options);
        for call in 0..10_000_u32 {
            let input = inputs[call as usize % inputs.len()];
            let in_flight = limit.limit();
            let alone = 0.05 + f64::from(input) / 10_000.0;
            // What is above the room waits for those before it.
            let waits = f64::from(in_flight.saturating_sub(room)) / f64::from(room) * 4.0;
            let after = Duration::from_secs_f64(alone * (1.0 + waits));
            let feedback = Feedback::FirstToken { after, input };
            limit.observe(feedback, in_flight, Duration::from_millis(100) * call);
        }
        limit.limit()
    }

    #[test]
    fn it_finds_the_room_whatever_the_inputs() {
        for (room, inputs, start) in [
            (32, &[100][..], 16),
            (32, &[100], 1),
            (100, &[10, 1_000, 30_000], 16),
            (100, &[10, 1_000, 30_000], 4),
        ] {
            let limit = settled(room, inputs, start);
            assert!(
                (room * 8 / 10..=room * 14 / 10).contains(&limit),
                "room {room} from {start}: {limit}"
            );
        }
    }

    #[test]
    fn refusals_take_three_tenths_once_a_hold_and_never_below_the_least() {
        let mut limit = AdaptiveLimit::new(AdaptiveOptions {
            start: 100,
            ..AdaptiveOptions::up_to(100)
        });
        let refused = Feedback::Ended(Fault::Provider(ProviderFault::Overloaded));
        let second = Duration::from_secs(1);
        assert_eq!(limit.observe(refused, 100, second), Some(70));
        assert_eq!(limit.observe(refused, 100, 2 * second), None);
        assert_eq!(limit.observe(refused, 100, 3 * second), Some(49));
        for step in 2..100 {
            limit.observe(refused, 100, 3 * step * second);
        }
        assert_eq!(limit.limit(), 1);
    }

    #[test]
    fn a_tenants_own_quota_does_not_slow_the_others() {
        let mut limit = AdaptiveLimit::new(AdaptiveOptions::up_to(100));
        for fault in [TenantFault::Quota, TenantFault::Credential] {
            let ended = Feedback::Ended(Fault::Tenant(fault));
            assert_eq!(limit.observe(ended, 100, Duration::from_secs(9)), None);
        }
    }
}
