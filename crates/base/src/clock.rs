//! Time comes through [`Clock`], so that a simulation can own it.

use std::cell::Cell;
use std::fmt;
use std::sync::atomic::{AtomicI64, Ordering};
use std::thread::LocalKey;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Microseconds since 1970-01-01T00:00:00Z. Text and JSON are RFC 3339.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp(i64);

impl Timestamp {
    /// A time in microseconds since 1970.
    pub const fn from_micros(micros: i64) -> Self {
        Self(micros)
    }

    /// Microseconds since 1970.
    pub const fn as_micros(self) -> i64 {
        self.0
    }

    /// Whole seconds since 1970, rounded down.
    pub const fn as_seconds(self) -> i64 {
        self.0.div_euclid(1_000_000)
    }

    /// This time and `duration` more.
    pub fn plus(self, duration: Duration) -> Self {
        Self(
            self.0
                .saturating_add(i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)),
        )
    }

    /// This time less `duration`.
    pub fn minus(self, duration: Duration) -> Self {
        Self(
            self.0
                .saturating_sub(i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)),
        )
    }

    /// How long after `earlier` this is; nothing if it is before.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match jiff::Timestamp::from_microsecond(self.0) {
            Ok(time) => write!(f, "{time}"),
            Err(_) => write!(f, "{}us", self.0),
        }
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::str::FromStr for Timestamp {
    type Err = jiff::Error;

    fn from_str(text: &str) -> Result<Self, jiff::Error> {
        Ok(Self(text.parse::<jiff::Timestamp>()?.as_microsecond()))
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            serializer.collect_str(self)
        } else {
            self.0.serialize(serializer)
        }
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            let text = String::deserialize(deserializer)?;
            text.parse().map_err(serde::de::Error::custom)
        } else {
            i64::deserialize(deserializer).map(Self)
        }
    }
}

impl schemars::JsonSchema for Timestamp {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Timestamp".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({"type": "string", "format": "date-time"})
    }
}

/// What time it is.
pub trait Clock: Send + Sync + fmt::Debug {
    /// The wall clock: may jump, in either direction.
    fn now(&self) -> Timestamp;
    /// Time since this clock was made: never goes back. For durations and deadlines.
    fn elapsed(&self) -> Duration;
}

/// The machine's clocks.
#[derive(Debug)]
pub struct SystemClock {
    start: Instant,
}

impl SystemClock {
    /// A clock whose [`Clock::elapsed`] starts now.
    #[expect(
        clippy::disallowed_methods,
        reason = "this is the one place that reads the clock"
    )]
    pub fn new() -> Self {
        Self {
            start: Instant::now(),
        }
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        held_or_read(&WALL, read_wall)
    }

    fn elapsed(&self) -> Duration {
        let since = |start| read_monotonic().saturating_duration_since(start);
        let read = || (self.start, since(self.start));
        let (start, elapsed) = held_or_read(&ELAPSED, read);
        // Another clock of the process may have been asked before.
        if start == self.start {
            elapsed
        } else {
            since(self.start)
        }
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "with `SystemClock::new` the one place that reads the clock"
)]
fn read_wall() -> Timestamp {
    let since_1970 = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    // 64 bits of microseconds last for 292,000 years.
    Timestamp(since_1970.as_micros() as i64)
}

#[expect(
    clippy::disallowed_methods,
    reason = "with `SystemClock::new` the one place that reads the clock"
)]
fn read_monotonic() -> Instant {
    Instant::now()
}

/// What one of the system's clocks said since a poll began.
#[derive(Debug, Clone, Copy)]
enum Held<T> {
    /// Outside of [`at_one_time`]: nothing is kept.
    Running,
    /// It was not asked yet.
    Unread,
    /// This, and so it goes on.
    At(T),
}

thread_local! {
    static WALL: Cell<Held<Timestamp>> = const { Cell::new(Held::Running) };
    /// Of the first clock that was asked, which has this start.
    static ELAPSED: Cell<Held<(Instant, Duration)>> = const { Cell::new(Held::Running) };
}

/// What was read before in this poll, or what is read now.
#[inline]
fn held_or_read<T: Copy>(held: &'static LocalKey<Cell<Held<T>>>, read: impl FnOnce() -> T) -> T {
    match held.get() {
        Held::At(before) => before,
        Held::Running => read(),
        Held::Unread => {
            let now = read();
            held.set(Held::At(now));
            now
        }
    }
}

/// Runs `poll` with [`SystemClock`]s that stand still meanwhile: a request asks for the time some
/// thirty times, and a poll of it takes some ten microseconds. For what neither blocks nor computes
/// for long; a time that is noted within is early by what the poll took up to then.
pub fn at_one_time<T>(poll: impl FnOnce() -> T) -> T {
    struct Before(Held<Timestamp>, Held<(Instant, Duration)>);
    impl Drop for Before {
        fn drop(&mut self) {
            WALL.set(self.0);
            ELAPSED.set(self.1);
        }
    }

    let _before = Before(WALL.replace(Held::Unread), ELAPSED.replace(Held::Unread));
    poll()
}

/// A clock that a test or a simulation sets.
#[derive(Debug, Default)]
pub struct ManualClock {
    now_micros: AtomicI64,
    elapsed_micros: AtomicI64,
}

impl ManualClock {
    /// A clock that stands at `now`.
    pub fn at(now: Timestamp) -> Self {
        Self {
            now_micros: AtomicI64::new(now.as_micros()),
            elapsed_micros: AtomicI64::new(0),
        }
    }

    /// Lets time pass, on both clocks.
    pub fn advance(&self, duration: Duration) {
        let micros = duration.as_micros() as i64;
        self.now_micros.fetch_add(micros, Ordering::SeqCst);
        self.elapsed_micros.fetch_add(micros, Ordering::SeqCst);
    }

    /// Sets the wall clock alone, as an administrator or NTP would.
    pub fn jump_to(&self, now: Timestamp) {
        self.now_micros.store(now.as_micros(), Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        Timestamp(self.now_micros.load(Ordering::SeqCst))
    }

    fn elapsed(&self) -> Duration {
        Duration::from_micros(self.elapsed_micros.load(Ordering::SeqCst).max(0) as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_rfc_3339() {
        let time = Timestamp::from_micros(1_700_000_000_123_456);
        assert_eq!(time.to_string(), "2023-11-14T22:13:20.123456Z");
        assert_eq!(
            time.to_string().parse::<Timestamp>().expect("own text"),
            time
        );
    }

    #[test]
    fn a_jump_moves_the_wall_clock_alone() {
        let clock = ManualClock::at(Timestamp::from_micros(5));
        clock.jump_to(Timestamp::from_micros(1));
        assert_eq!(
            (clock.now().as_micros(), clock.elapsed()),
            (1, Duration::ZERO)
        );
    }

    #[test]
    fn the_clock_stands_still_at_one_time_and_no_longer() {
        let clock = SystemClock::new();
        let read = || (clock.now(), clock.elapsed());
        let spin = || {
            let since = read_monotonic();
            while since.elapsed() < Duration::from_micros(50) {}
        };
        let twice = || {
            let first = read();
            spin();
            (first, read())
        };
        let (first, second) = at_one_time(twice);
        assert_eq!(first, second);
        let (third, fourth) = at_one_time(|| (at_one_time(twice).0, read()));
        assert!(second.1 < third.1 && third.1 < fourth.1, "each has its own");
        let (fifth, sixth) = twice();
        assert!(fourth.1 < fifth.1 && fifth.1 < sixth.1);
    }
}
