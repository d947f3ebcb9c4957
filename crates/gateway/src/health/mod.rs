//! How each tenant's calls went in the last hour: counts and distributions by the minute, in
//! memory. It begins with the process; what must outlive it is in the ledger. Replicas tell each
//! other of it ([`told`]).
//!
//! The data path adds to the minute under way, a counter or two at a time. Once a minute what it
//! holds is moved to the minutes that are kept, of which there are sixty.

mod packed;
mod told;

use std::collections::{BTreeSet, VecDeque};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use base::{Name, TenantId};
use http::StatusCode;
use parking_lot::Mutex;

use crate::gateway::Gateway;
use packed::{ENDINGS, Packed};

pub use packed::MinuteCounts;
pub use told::ToldMinute;

/// An hour: what somebody who looks in the morning wants to see at a glance.
pub const MINUTES: usize = 60;
/// Two for each doubling from 1 ms on, up to 134 s, which few clients wait for.
const BUCKETS: usize = 36;

/// How a call ended, as its tenant sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    /// It was answered.
    Answered,
    /// It was refused for what it was, or for a limit or budget.
    Refused,
    /// It should have been answered, and was not.
    Failed,
    /// Its client went away.
    Abandoned,
}

impl Ending {
    /// Reads how a call ended. A stream that was cut has an outcome without a status.
    pub(crate) fn of(status: StatusCode, outcome: &str) -> Self {
        match outcome {
            "completed" | "replayed" | "cached" => Self::Answered,
            "client_gone" => Self::Abandoned,
            "content_blocked" => Self::Refused,
            _ if status.is_client_error() => Self::Refused,
            _ => Self::Failed,
        }
    }
}

type Cells = [AtomicU32; BUCKETS];

/// One tenant's.
#[derive(Debug)]
pub(crate) struct TenantHealth {
    endings: [AtomicU32; ENDINGS],
    durations: Cells,
    first_chunks: Cells,
    waits: Cells,
    kept: Mutex<VecDeque<KeptMinute>>,
}

/// A minute that has passed.
#[derive(Debug)]
struct KeptMinute {
    /// Minutes of the process's life before it.
    minute: u32,
    counts: Packed,
}

/// A distribution of durations.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Distribution([u64; BUCKETS]);

/// The counts and distributions of some time.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HealthFigures {
    /// Calls that were answered.
    pub answered: u64,
    /// Calls that were refused: for what they were, for a limit, for a budget.
    pub refused: u64,
    /// Calls that should have been answered and were not.
    pub failed: u64,
    /// Calls whose clients went away.
    pub abandoned: u64,
    /// From arrival to end, of all calls but those that were refused.
    pub durations: Distribution,
    /// From arrival to the first byte of the answer.
    pub first_chunks: Distribution,
    /// How long those waited for a place at an upstream that had to.
    pub waits: Distribution,
}

/// The last hour of one tenant.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HealthHour {
    /// All of it.
    pub sum: HealthFigures,
    /// Minute by minute, the oldest first; the last one is under way.
    pub minutes: Vec<HealthFigures>,
}

impl Default for TenantHealth {
    fn default() -> Self {
        Self {
            endings: [const { AtomicU32::new(0) }; 4],
            durations: [const { AtomicU32::new(0) }; BUCKETS],
            first_chunks: [const { AtomicU32::new(0) }; BUCKETS],
            waits: [const { AtomicU32::new(0) }; BUCKETS],
            kept: Mutex::default(),
        }
    }
}

impl TenantHealth {
    /// A call ended. What a refusal takes says nothing about the models.
    pub(crate) fn ended(&self, ending: Ending, duration: Duration) {
        self.endings[ending as usize].fetch_add(1, Ordering::Relaxed);
        if ending != Ending::Refused {
            add(&self.durations, duration);
        }
    }

    /// The first byte of an answer went out.
    pub(crate) fn first_chunk(&self, after: Duration) {
        add(&self.first_chunks, after);
    }

    /// A call had to wait for a place at an upstream.
    pub(crate) fn waited(&self, waited: Duration) {
        add(&self.waits, waited);
    }

    /// How many calls ended in the minute under way.
    fn pulse(&self) -> u64 {
        let endings = self.endings.iter();
        endings
            .map(|count| u64::from(count.load(Ordering::Relaxed)))
            .sum()
    }

    /// The minute is over: what it had is kept, and what is older than an hour is not.
    pub(crate) fn turn(&self, minute: u32) {
        let drain = |cell: &AtomicU32| match cell.load(Ordering::Relaxed) {
            0 => 0,
            _ => cell.swap(0, Ordering::Relaxed),
        };
        let counts = self.packed(drain);
        let mut kept = self.kept.lock();
        // The minute under way is one of the sixty.
        while kept
            .front()
            .is_some_and(|oldest| oldest.minute + MINUTES as u32 <= minute + 1)
        {
            kept.pop_front();
        }
        if counts.is_empty() {
            if kept.is_empty() {
                kept.shrink_to_fit();
            }
            return;
        }
        kept.push_back(KeptMinute { minute, counts });
    }

    fn packed(&self, read: impl Fn(&AtomicU32) -> u32) -> Packed {
        let distributions = [&self.durations, &self.first_chunks, &self.waits];
        packed::pack(|kind, place| match kind.checked_sub(1) {
            None => read(&self.endings[place]),
            Some(distribution) => read(&distributions[distribution][place]),
        })
    }

    /// The minutes of the last hour with a call in them, if `minute` is under way: which of the
    /// sixty each is, and its counts.
    fn each_minute(&self, minute: u32, mut visit: impl FnMut(usize, MinuteCounts<'_>)) {
        let first = i64::from(minute) + 1 - MINUTES as i64;
        for kept in &*self.kept.lock() {
            let place = usize::try_from(i64::from(kept.minute) - first);
            if let Ok(place) = place
                && place < MINUTES
            {
                visit(place, MinuteCounts(&kept.counts));
            }
        }
        let under_way = self.packed(|cell| cell.load(Ordering::Relaxed));
        if !under_way.is_empty() {
            visit(MINUTES - 1, MinuteCounts(&under_way));
        }
    }

    /// The last hour, if `minute` is under way. None without a call in it.
    fn hour(&self, minute: u32) -> Option<HealthHour> {
        let mut hour = HealthHour::empty();
        self.each_minute(minute, |place, counts| hour.add(place, counts));
        (!hour.is_empty()).then_some(hour)
    }
}

fn add(cells: &Cells, duration: Duration) {
    cells[bucket_of(duration)].fetch_add(1, Ordering::Relaxed);
}

/// Below 1 ms the first; then two halves of each doubling.
fn bucket_of(duration: Duration) -> usize {
    let half_millis = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX) >> 9;
    if half_millis < 2 {
        return 0;
    }
    let octave = half_millis.ilog2();
    let half = usize::from((half_millis >> (octave - 1)) & 1 == 1);
    (2 * (octave as usize - 1) + half + 1).min(BUCKETS - 1)
}

/// Where a bucket begins, in microseconds.
fn bound(bucket: usize) -> u64 {
    match bucket.checked_sub(1) {
        None => 0,
        Some(from_one_ms) => (2 + from_one_ms as u64 % 2) << (9 + from_one_ms / 2),
    }
}

impl Default for Distribution {
    fn default() -> Self {
        Self([0; BUCKETS])
    }
}

impl Distribution {
    /// How many there are.
    pub fn count(&self) -> u64 {
        self.0.iter().sum()
    }

    /// What `permille` of them do not exceed; none of nothing. Between the bounds of a bucket,
    /// which are a third apart or less, it is as if its values lay evenly.
    pub fn quantile(&self, permille: u64) -> Option<Duration> {
        let count = self.count();
        let rank = (count * permille.min(1_000)).div_ceil(1_000).max(1);
        let mut below = 0;
        for (bucket, within) in self.0.iter().enumerate() {
            if *within > 0 && below + within >= rank {
                let (from, to) = (bound(bucket), bound(bucket + 1));
                let micros = from + (to - from) * (rank - below) / within;
                return Some(Duration::from_micros(micros));
            }
            below += within;
        }
        None
    }

    fn add(&mut self, other: &Self) {
        for (count, more) in self.0.iter_mut().zip(other.0) {
            *count += more;
        }
    }
}

impl HealthFigures {
    /// All calls.
    pub fn calls(&self) -> u64 {
        self.answered + self.refused + self.failed + self.abandoned
    }

    /// Whether nothing is counted.
    pub fn is_empty(&self) -> bool {
        self.calls() == 0 && self.waits.count() == 0 && self.first_chunks.count() == 0
    }

    /// Adds those of another time, or of another tenant.
    pub fn add(&mut self, other: &Self) {
        self.answered += other.answered;
        self.refused += other.refused;
        self.failed += other.failed;
        self.abandoned += other.abandoned;
        self.durations.add(&other.durations);
        self.first_chunks.add(&other.first_chunks);
        self.waits.add(&other.waits);
    }
}

/// The minute of the process's life that is under way `elapsed` after it began.
fn minute_at(elapsed: Duration) -> u32 {
    u32::try_from(elapsed.as_secs() / 60).unwrap_or(u32::MAX)
}

impl Gateway {
    /// The last hour of one tenant; none if it has not called in it.
    pub fn health(&self, tenant: TenantId) -> Option<HealthHour> {
        let minute = minute_at(self.health_elapsed());
        self.tenants()
            .with_health(tenant, |health| health.hour(minute))?
    }

    /// Every tenant that has called since the process began, in order.
    pub fn tenants_that_called(&self) -> BTreeSet<TenantId> {
        let mut tenants = BTreeSet::new();
        self.tenants().for_each_health(|tenant, _| {
            tenants.insert(tenant);
        });
        tenants
    }

    /// The minutes of the last hour in which a tenant has called: which of the sixty each is, and
    /// its counts.
    pub fn each_minute_of(&self, tenant: TenantId, visit: impl FnMut(usize, MinuteCounts<'_>)) {
        let minute = minute_at(self.health_elapsed());
        self.tenants()
            .with_health(tenant, |health| health.each_minute(minute, visit));
    }

    /// A number that changes whenever a call ends: a sum over all tenants, some 20 ns of each.
    pub fn pulse(&self) -> u64 {
        let mut sum = u64::from(minute_at(self.health_elapsed()));
        self.tenants()
            .for_each_health(|_, health| sum = sum.wrapping_add(health.pulse()));
        sum
    }

    /// The same of one tenant's calls.
    pub fn pulse_of(&self, tenant: TenantId) -> u64 {
        let own = self.tenants().with_health(tenant, TenantHealth::pulse);
        let minute = u64::from(minute_at(self.health_elapsed()));
        own.map_or(0, |own| own.wrapping_add(minute))
    }

    /// Keeps the minute that was under way, if it is over; returns the one that is.
    pub(crate) fn turn_minute(&self, under_way: u32) -> u32 {
        let minute = minute_at(self.health_elapsed());
        if minute != under_way {
            self.tenants()
                .for_each_health(|_, health| health.turn(minute - 1));
        }
        minute
    }

    /// The tenants whose own calls fail at an upstream, so that they are held back there.
    pub fn open_breakers(&self) -> Vec<(Name, Vec<TenantId>)> {
        let configuration = self.configuration();
        let upstreams = configuration.upstreams();
        let open = upstreams.map(|upstream| (upstream.name.clone(), upstream.gate.open_tenants()));
        open.filter(|(_, tenants)| !tenants.is_empty()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_duration_is_between_its_buckets_bounds() {
        assert_eq!(bound(1), 1_024);
        for micros in (0..40)
            .map(|bits| 1_u64 << bits)
            .flat_map(|n| [n - 1, n, n + n / 2])
        {
            let bucket = bucket_of(Duration::from_micros(micros));
            assert!(bound(bucket) <= micros, "{micros} {bucket}");
            let is_last = bucket == BUCKETS - 1;
            assert!(is_last || micros < bound(bucket + 1), "{micros} {bucket}");
        }
    }

    #[test]
    fn quantiles_are_near_the_truth() {
        let health = TenantHealth::default();
        for millis in 1..=1_000 {
            health.ended(Ending::Answered, Duration::from_millis(millis));
        }
        let hour = health.hour(0).unwrap();
        for (permille, expected) in [(500, 500), (950, 950), (990, 990)] {
            let found = hour.sum.durations.quantile(permille).unwrap().as_millis();
            assert!(
                found.abs_diff(expected) * 5 < expected,
                "{permille}: {found}"
            );
        }
        assert_eq!(Distribution::default().quantile(500), None);
    }

    #[test]
    fn minutes_pass_and_an_hour_is_kept() {
        let health = TenantHealth::default();
        let second = Duration::from_secs(1);
        for minute in 0..70 {
            health.ended(Ending::Answered, second);
            if minute == 65 {
                health.ended(Ending::Failed, second);
                health.waited(second);
            }
            health.turn(minute);
        }
        health.ended(Ending::Refused, second);
        let hour = health.hour(70).unwrap();
        let calls: Vec<u64> = hour.minutes.iter().map(HealthFigures::calls).collect();
        assert_eq!(calls.len(), MINUTES);
        assert_eq!((calls[53], calls[54], calls[55], calls[59]), (1, 2, 1, 1));
        assert_eq!((hour.sum.answered, hour.sum.failed), (59, 1));
        assert_eq!(hour.sum.refused, 1);
        // A refusal has no duration that says anything of the models.
        assert_eq!(hour.sum.durations.count(), 60);
        assert_eq!(hour.sum.waits.count(), 1);
        for minute in 70..140 {
            health.turn(minute);
        }
        assert_eq!(health.hour(140), None);
        assert_eq!(health.kept.lock().capacity(), 0);
    }

    #[test]
    fn endings_are_told_apart() {
        for (status, outcome, expected) in [
            (200, "completed", Ending::Answered),
            (200, "upstream_failed", Ending::Failed),
            (200, "content_blocked", Ending::Refused),
            (429, "insufficient_quota", Ending::Refused),
            (503, "upstream_down", Ending::Failed),
            (499, "client_gone", Ending::Abandoned),
        ] {
            let status = StatusCode::from_u16(status).unwrap();
            assert_eq!(Ending::of(status, outcome), expected, "{outcome}");
        }
    }
}
