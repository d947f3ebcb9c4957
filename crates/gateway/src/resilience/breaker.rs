//! One breaker: closed, open, half open.

use std::time::Duration;

use super::fault::RETRY_AFTER_MAX;

/// When a breaker opens, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BreakerOptions {
    /// Failures in a row that open it; 0: no number of them does.
    pub consecutive_failures: u32,
    /// Per cent of failures in the window that open it; 0: no share of them does.
    pub failure_percent: u8,
    /// Calls in the window below which the rate says nothing.
    pub calls_min: u32,
    /// How far back the rate looks.
    pub window: Duration,
    /// How long it stays open the first time; twice as long each time that a probe fails.
    pub open_min: Duration,
    /// How long it stays open at most, unless the upstream asks for longer.
    pub open_max: Duration,
    /// Calls that have to succeed, one after the other, before it closes.
    pub probes: u32,
}

impl Default for BreakerOptions {
    fn default() -> Self {
        Self {
            // 5: a single lost connection or a rolling restart is no outage.
            consecutive_failures: 5,
            // Half, of 20 calls: three standard errors above one in six.
            failure_percent: 50,
            calls_min: 20,
            // 30 s: a few answers' time.
            window: Duration::from_secs(30),
            // 1 s to a minute: what restarts take, and what a client waits for at most.
            open_min: Duration::from_secs(1),
            open_max: Duration::from_secs(60),
            // 2: one success may be luck.
            probes: 2,
        }
    }
}

/// What a breaker does with calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BreakerState {
    /// Lets them through.
    Closed,
    /// Refuses them until then.
    Open {
        /// When a probe may go.
        until: Duration,
    },
    /// Lets one through at a time, to see.
    HalfOpen,
}

/// That a call may go. Give it back with what became of the call.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "a probe that is not given back keeps the breaker half open until it times out"]
pub struct Permit {
    /// The period of the breaker's life in which the call began.
    period: u64,
    is_probe: bool,
}

/// A breaker.
#[derive(Debug)]
pub struct Breaker {
    options: BreakerOptions,
    state: BreakerState,
    /// Counts changes of state: what began in an earlier one has no say.
    period: u64,
    consecutive: u32,
    /// Successes and failures in each tenth of the window, by the number of the tenth.
    tenths: [Tenth; TENTHS],
    /// Times that it opened since it last closed.
    openings: u32,
    /// The probe under way: since when.
    probe: Option<Duration>,
    probes_passed: u32,
}

#[derive(Debug, Clone, Copy, Default)]
struct Tenth {
    number: u64,
    succeeded: u32,
    failed: u32,
}

const TENTHS: usize = 10;
/// 60 s: a probe whose end nobody reported is taken for lost, so that another may go.
const PROBE_PATIENCE: Duration = Duration::from_secs(60);

impl Breaker {
    /// A closed breaker.
    pub fn new(options: BreakerOptions) -> Self {
        Self {
            options,
            state: BreakerState::Closed,
            period: 0,
            consecutive: 0,
            tenths: [Tenth::default(); TENTHS],
            openings: 0,
            probe: None,
            probes_passed: 0,
        }
    }

    /// What it does with calls now.
    pub fn state(&self) -> BreakerState {
        self.state
    }

    /// Whether it has nothing to remember.
    pub fn is_at_rest(&self, now: Duration) -> bool {
        let (succeeded, failed) = self.counts(now);
        self.state == BreakerState::Closed && self.consecutive == 0 && succeeded + failed == 0
    }

    /// Asks whether a call may go.
    ///
    /// # Errors
    ///
    /// How long to wait before asking again.
    pub fn ask(&mut self, now: Duration) -> Result<Permit, Duration> {
        if let BreakerState::Open { until } = self.state {
            if now < until {
                return Err(until - now);
            }
            self.enter(BreakerState::HalfOpen);
            self.probes_passed = 0;
        }
        let is_probe = self.state == BreakerState::HalfOpen;
        if is_probe {
            if let Some(since) = self.probe
                && now.saturating_sub(since) < PROBE_PATIENCE
            {
                return Err(self.options.open_min);
            }
            self.probe = Some(now);
        }
        Ok(Permit {
            period: self.period,
            is_probe,
        })
    }

    /// Whether [`Breaker::ask`] would let a call go, and if not, how long to wait.
    ///
    /// # Errors
    ///
    /// How long to wait before asking again.
    pub fn peek(&self, now: Duration) -> Result<(), Duration> {
        match self.state {
            BreakerState::Open { until } if now < until => Err(until - now),
            BreakerState::HalfOpen
                if self
                    .probe
                    .is_some_and(|since| now.saturating_sub(since) < PROBE_PATIENCE) =>
            {
                Err(self.options.open_min)
            }
            _ => Ok(()),
        }
    }

    /// The call succeeded.
    pub fn succeeded(&mut self, permit: &Permit, now: Duration) {
        if permit.period != self.period {
            return;
        }
        if permit.is_probe {
            self.probe = None;
            self.probes_passed += 1;
            if self.probes_passed >= self.options.probes {
                self.openings = 0;
                self.tenths = Default::default();
                self.enter(BreakerState::Closed);
            }
            return;
        }
        self.consecutive = 0;
        self.tenth(now).succeeded += 1;
    }

    /// The call failed; the upstream asked for so much patience, if it did. `chance` is random
    /// over all of `u64`: it spreads the reopening, so that breakers do not try all at once.
    pub fn failed(
        &mut self,
        permit: &Permit,
        now: Duration,
        retry_after: Option<Duration>,
        chance: u64,
    ) {
        if permit.period != self.period {
            return;
        }
        if permit.is_probe {
            self.open(now, retry_after, chance);
            return;
        }
        self.consecutive += 1;
        self.tenth(now).failed += 1;
        if self.is_row_passed() || self.is_rate_passed(now) {
            self.open(now, retry_after, chance);
        }
    }

    /// Nothing can be said of the call.
    pub fn unknown(&mut self, permit: &Permit) {
        if permit.period == self.period && permit.is_probe {
            self.probe = None;
        }
    }

    /// Opens it by what is known from elsewhere: a quota that the upstream says is used up until
    /// then, or a probe.
    pub fn open(&mut self, now: Duration, retry_after: Option<Duration>, chance: u64) {
        let doubled = self.options.open_min * 2_u32.saturating_pow(self.openings.min(16));
        let open = doubled.min(self.options.open_max);
        // Up to a half more.
        let jitter = open.mul_f64(0.5 * (chance >> 11) as f64 / (1_u64 << 53) as f64);
        let asked = retry_after.unwrap_or_default().min(RETRY_AFTER_MAX);
        let until = now + (open + jitter).max(asked);
        self.openings = self.openings.saturating_add(1);
        self.enter(BreakerState::Open { until });
    }

    fn enter(&mut self, state: BreakerState) {
        self.state = state;
        self.period += 1;
        self.consecutive = 0;
        self.probe = None;
    }

    fn is_row_passed(&self) -> bool {
        let most = self.options.consecutive_failures;
        most > 0 && self.consecutive >= most
    }

    fn is_rate_passed(&self, now: Duration) -> bool {
        if self.options.failure_percent == 0 {
            return false;
        }
        let (succeeded, failed) = self.counts(now);
        let calls = succeeded + failed;
        calls >= u64::from(self.options.calls_min)
            && failed * 100 >= calls * u64::from(self.options.failure_percent)
    }

    fn number(&self, now: Duration) -> u64 {
        let tenth = (self.options.window / TENTHS as u32).max(Duration::from_millis(1));
        (now.as_nanos() / tenth.as_nanos()) as u64
    }

    fn tenth(&mut self, now: Duration) -> &mut Tenth {
        let number = self.number(now);
        let tenth = &mut self.tenths[(number % TENTHS as u64) as usize];
        if tenth.number != number {
            *tenth = Tenth {
                number,
                ..Tenth::default()
            };
        }
        tenth
    }

    fn counts(&self, now: Duration) -> (u64, u64) {
        let number = self.number(now);
        let recent = self
            .tenths
            .iter()
            .filter(|tenth| tenth.number + TENTHS as u64 > number);
        recent.fold((0, 0), |(succeeded, failed), tenth| {
            (
                succeeded + u64::from(tenth.succeeded),
                failed + u64::from(tenth.failed),
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn fail(breaker: &mut Breaker, now: Duration) {
        let permit = breaker.ask(now).expect("it lets calls through");
        breaker.failed(&permit, now, None, 0);
    }

    fn succeed(breaker: &mut Breaker, now: Duration) {
        let permit = breaker.ask(now).expect("it lets calls through");
        breaker.succeeded(&permit, now);
    }

    #[test]
    fn five_failures_in_a_row_open_it_and_two_probes_close_it() {
        let mut breaker = Breaker::new(BreakerOptions::default());
        for _ in 0..4 {
            fail(&mut breaker, SECOND);
        }
        succeed(&mut breaker, SECOND);
        for _ in 0..5 {
            fail(&mut breaker, SECOND);
        }
        assert_eq!(breaker.ask(SECOND), Err(SECOND));
        let probe = breaker.ask(2 * SECOND).expect("a probe may go");
        assert!(breaker.ask(2 * SECOND).is_err(), "one at a time");
        breaker.succeeded(&probe, 2 * SECOND);
        succeed(&mut breaker, 2 * SECOND);
        assert_eq!(breaker.state(), BreakerState::Closed);
    }

    #[test]
    fn what_is_zero_opens_nothing() {
        let usual = BreakerOptions::default();
        let none = BreakerOptions {
            consecutive_failures: 0,
            failure_percent: 0,
            ..usual
        };
        let by_row = BreakerOptions {
            failure_percent: 0,
            ..usual
        };
        for (options, opens) in [(none, false), (by_row, true)] {
            let mut breaker = Breaker::new(options);
            for _ in 0..100 {
                if breaker.state() == BreakerState::Closed {
                    fail(&mut breaker, SECOND);
                }
            }
            assert_eq!(breaker.state() != BreakerState::Closed, opens);
        }
    }

    #[test]
    fn half_of_twenty_open_it() {
        let mut breaker = Breaker::new(BreakerOptions::default());
        for _ in 0..9 {
            succeed(&mut breaker, SECOND);
            fail(&mut breaker, SECOND);
        }
        assert_eq!(breaker.state(), BreakerState::Closed);
        succeed(&mut breaker, SECOND);
        fail(&mut breaker, SECOND);
        assert!(matches!(breaker.state(), BreakerState::Open { .. }));
    }

    #[test]
    fn what_is_long_ago_does_not_count() {
        let mut slow = Breaker::new(BreakerOptions::default());
        for step in 0..1_000 {
            let now = step * 4 * SECOND;
            succeed(&mut slow, now);
            fail(&mut slow, now);
        }
        assert_eq!(slow.state(), BreakerState::Closed, "15 calls in 30 s");
    }

    #[test]
    fn it_stays_open_twice_as_long_each_time_and_as_long_as_it_is_asked_to() {
        let mut breaker = Breaker::new(BreakerOptions::default());
        let mut now = Duration::ZERO;
        let mut waits = Vec::new();
        for _ in 0..5 {
            fail(&mut breaker, now);
        }
        for _ in 0..8 {
            let wait = breaker.ask(now).expect_err("it is open");
            waits.push(wait.as_secs());
            now += wait;
            fail(&mut breaker, now);
        }
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 60, 60]);
        let wait = breaker.ask(now).expect_err("it is open");
        let probe = breaker.ask(now + wait).expect("a probe may go");
        breaker.failed(&probe, now, Some(300 * SECOND), u64::MAX);
        assert_eq!(breaker.ask(now), Err(300 * SECOND));
    }

    #[test]
    fn chance_spreads_reopening_by_up_to_a_half() {
        for (chance, expected) in [(0, 1_000), (1 << 63, 1_250), (u64::MAX, 1_500)] {
            let mut breaker = Breaker::new(BreakerOptions::default());
            breaker.open(Duration::ZERO, None, chance);
            let wait = breaker.ask(Duration::ZERO).expect_err("it is open");
            assert_eq!(wait.as_millis(), expected);
        }
    }

    #[test]
    fn late_news_of_an_earlier_period_does_not_count() {
        let mut breaker = Breaker::new(BreakerOptions::default());
        let slow = breaker.ask(Duration::ZERO).expect("closed");
        for _ in 0..5 {
            fail(&mut breaker, Duration::ZERO);
        }
        let before = breaker.state();
        breaker.succeeded(&slow, SECOND);
        breaker.failed(&slow, SECOND, Some(60 * SECOND), 0);
        assert_eq!(breaker.state(), before);
        // Nor does it once the breaker has closed again.
        let mut closed = Breaker::new(BreakerOptions::default());
        let slow: Vec<Permit> = (0..10)
            .map(|_| closed.ask(Duration::ZERO).expect("closed"))
            .collect();
        closed.open(Duration::ZERO, None, 0);
        for _ in 0..2 {
            succeed(&mut closed, 2 * SECOND);
        }
        for permit in &slow {
            closed.failed(permit, 3 * SECOND, None, 0);
        }
        assert_eq!(closed.state(), BreakerState::Closed);
        // A probe that nobody reports on does not hold it half open for ever.
        let lost = breaker.ask(SECOND).expect("a probe may go");
        assert!(breaker.ask(2 * SECOND).is_err());
        let next = breaker.ask(SECOND + PROBE_PATIENCE).expect("another one");
        breaker.unknown(&lost);
        breaker.unknown(&next);
    }
}
