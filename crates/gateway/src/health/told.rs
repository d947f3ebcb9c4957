//! What replicas tell each other of their calls: a minute's counts and buckets of each tenant, not
//! percentiles, so that what is read from their sum is what would be read from all calls.

use std::sync::atomic::Ordering;

use base::{Name, TenantId};

use super::packed::{MinuteCounts, Packed};
use super::{HealthFigures, HealthHour, MINUTES, TenantHealth, minute_at};
use crate::gateway::Gateway;

/// 16,384 tenants of one minute, those that called most: some 1 MB. More call one process in one
/// minute on no machine that was seen; their calls are in the ledger.
const TENANTS_MAX: usize = 16_384;
/// The form in which a minute is told.
const VERSION: u8 = 1;
/// A tenant's id, and where its counts end.
const TENANT_BYTES: usize = 16 + 4;

/// One minute of one process, as it tells the others.
///
/// Every replica keeps an hour of every other one, so a tenant takes 20 bytes here beside its
/// counts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ToldMinute {
    /// In order.
    tenants: Vec<TenantId>,
    /// Where the counts of each end; they begin where those of the one before end.
    ends: Vec<u32>,
    counts: Vec<u8>,
    /// Whose calls are held back where, if the minute is under way.
    breakers: Vec<(Name, Vec<TenantId>)>,
}

impl ToldMinute {
    /// Of these tenants; of those that called most, if there are too many.
    fn of(mut told: Vec<(TenantId, Packed)>, breakers: Vec<(Name, Vec<TenantId>)>) -> Self {
        if told.len() > TENANTS_MAX {
            told.sort_by_key(|(_, counts)| std::cmp::Reverse(MinuteCounts(counts).calls()));
            told.truncate(TENANTS_MAX);
        }
        told.sort_unstable_by_key(|(tenant, _)| *tenant);
        let ends = told.iter().scan(0, |end, (_, counts)| {
            *end += u32::try_from(counts.len()).unwrap_or(0);
            Some(*end)
        });
        Self {
            ends: ends.collect(),
            tenants: told.iter().map(|(tenant, _)| *tenant).collect(),
            counts: told
                .iter()
                .flat_map(|(_, counts)| counts)
                .copied()
                .collect(),
            breakers,
        }
    }

    /// Whether there is nothing to tell.
    pub fn is_empty(&self) -> bool {
        self.tenants.is_empty() && self.breakers.is_empty()
    }

    /// In bytes: the version, the breakers as JSON behind their length, how many tenants, of each
    /// its id and where its counts end, then the counts. Numbers have their lowest byte first.
    pub fn encode(&self) -> Vec<u8> {
        let breakers = serde_json::to_vec(&self.breakers).expect("names and ids have a JSON form");
        let length = |of: usize| u32::try_from(of).unwrap_or(u32::MAX).to_le_bytes();
        let mut bytes = vec![VERSION];
        bytes.extend(length(breakers.len()));
        bytes.extend(breakers);
        bytes.extend(length(self.tenants.len()));
        for (tenant, end) in self.tenants.iter().zip(&self.ends) {
            bytes.extend(tenant.bits().to_le_bytes());
            bytes.extend(end.to_le_bytes());
        }
        bytes.extend(&self.counts);
        bytes
    }

    /// Reads what another process has encoded; none if it is something else.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let (version, rest) = bytes.split_first()?;
        let (length, rest) = rest.split_first_chunk()?;
        let (breakers, rest) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)?;
        let (count, rest) = rest.split_first_chunk()?;
        let count = u32::from_le_bytes(*count) as usize;
        if *version != VERSION || count > TENANTS_MAX {
            return None;
        }
        let (of_tenants, counts) = rest.split_at_checked(count * TENANT_BYTES)?;
        let (of_tenants, _) = of_tenants.as_chunks::<TENANT_BYTES>();
        let (mut tenants, mut ends) = (Vec::with_capacity(count), Vec::with_capacity(count));
        for one in of_tenants {
            let (id, end) = one.split_first_chunk()?;
            tenants.push(TenantId::from_bits(u128::from_le_bytes(*id)));
            ends.push(u32::from_le_bytes(*end.first_chunk()?));
        }
        let is_whole = ends.last().map_or(0, |end| *end as usize) == counts.len();
        (is_whole && ends.is_sorted() && tenants.is_sorted()).then_some(Self {
            tenants,
            ends,
            counts: counts.into(),
            breakers: serde_json::from_slice(breakers).ok()?,
        })
    }

    /// The tenants in it.
    pub fn tenants(&self) -> impl Iterator<Item = TenantId> {
        self.tenants.iter().copied()
    }

    /// The tenants whose calls are held back, by upstream.
    pub fn open_breakers(&self) -> &[(Name, Vec<TenantId>)] {
        &self.breakers
    }

    /// How many calls of a tenant ended in it.
    pub fn calls_of(&self, tenant: TenantId) -> u64 {
        self.counts_of(tenant).map_or(0, MinuteCounts::calls)
    }

    /// The counts of a tenant, if it called.
    pub fn counts_of(&self, tenant: TenantId) -> Option<MinuteCounts<'_>> {
        let place = self.tenants.binary_search(&tenant).ok()?;
        Some(self.counts_at(place))
    }

    /// The same, of one tenant after another in their order: `at` is where the search goes on,
    /// from 0.
    pub fn next_counts_of(&self, tenant: TenantId, at: &mut usize) -> Option<MinuteCounts<'_>> {
        let rest = self.tenants[*at..].iter();
        *at += rest.take_while(|other| **other < tenant).count();
        let is_there = self.tenants.get(*at) == Some(&tenant);
        is_there.then(|| self.counts_at(*at))
    }

    fn counts_at(&self, place: usize) -> MinuteCounts<'_> {
        let begin = place.checked_sub(1).map_or(0, |before| self.ends[before]);
        MinuteCounts(&self.counts[begin as usize..self.ends[place] as usize])
    }
}

impl HealthHour {
    /// An hour without a call.
    pub fn empty() -> Self {
        Self {
            sum: HealthFigures::default(),
            minutes: vec![HealthFigures::default(); MINUTES],
        }
    }

    /// Adds counts of the minute at this place, of whichever process.
    pub fn add(&mut self, place: usize, counts: MinuteCounts<'_>) {
        if let Some(minute) = self.minutes.get_mut(place) {
            counts.add_to(minute);
            counts.add_to(&mut self.sum);
        }
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.sum.is_empty()
    }
}

impl TenantHealth {
    /// What there is of a minute; none if that is nothing.
    fn told(&self, minute: u32, under_way: u32) -> Option<Packed> {
        if minute == under_way {
            let counts = self.packed(|cell| cell.load(Ordering::Relaxed));
            return (!counts.is_empty()).then_some(counts);
        }
        let kept = self.kept.lock();
        let found = kept.iter().find(|kept| kept.minute == minute);
        found.map(|kept| kept.counts.clone())
    }
}

impl Gateway {
    /// Which minute of the process's life is under way.
    pub fn minute_under_way(&self) -> u32 {
        minute_at(self.health_elapsed())
    }

    /// One of the last sixty minutes, for other processes.
    pub fn tell_minute(&self, minute: u32) -> ToldMinute {
        let under_way = self.minute_under_way();
        let mut told = Vec::new();
        self.tenants().for_each_health(|tenant, health| {
            let counts = health.told(minute, under_way);
            told.extend(counts.map(|counts| (tenant, counts)));
        });
        let breakers = match minute == under_way {
            true => self.open_breakers(),
            false => Vec::new(),
        };
        ToldMinute::of(told, breakers)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::super::{Ending, packed};
    use super::*;

    const ACME: TenantId = TenantId::from_bits(7);
    const OTHER: TenantId = TenantId::from_bits(8);

    fn told(health: &TenantHealth, tenant: TenantId) -> ToldMinute {
        let counts = health.told(0, 0).unwrap_or_default();
        let told = ToldMinute::of(vec![(tenant, counts)], Vec::new());
        ToldMinute::decode(&told.encode()).unwrap()
    }

    proptest! {
        /// Whichever replica a call comes to, the sum of what they tell is what one would have
        /// counted, and percentiles are those of all calls within a bucket's width.
        #[test]
        fn the_sum_over_replicas_is_what_one_would_have_counted(
            calls in proptest::collection::vec((0_usize..3, 0_u64..100_000_000, 0_u8..4), 1..200),
        ) {
            let replicas: [TenantHealth; 3] = std::array::from_fn(|_| TenantHealth::default());
            let one = TenantHealth::default();
            let mut truth = Vec::new();
            for (replica, micros, how) in calls {
                let ending = match how {
                    0 => Ending::Answered,
                    1 => Ending::Refused,
                    2 => Ending::Failed,
                    _ => Ending::Abandoned,
                };
                let duration = Duration::from_micros(micros);
                for health in [&replicas[replica], &one] {
                    health.ended(ending, duration);
                    health.first_chunk(duration / 2);
                    health.waited(duration / 3);
                }
                if ending != Ending::Refused {
                    truth.push(micros);
                }
            }
            let mut sum = HealthHour::empty();
            for health in &replicas {
                if let Some(counts) = told(health, ACME).counts_of(ACME) {
                    sum.add(MINUTES - 1, counts);
                }
            }
            let counted = one.hour(0);
            prop_assert_eq!(Some(&sum), counted.as_ref());
            truth.sort_unstable();
            for permille in [500_u64, 950, 990] {
                let found = sum.sum.durations.quantile(permille);
                let rank = (truth.len() as u64 * permille).div_ceil(1_000).max(1);
                let Some(exact) = truth.get(rank as usize - 1) else {
                    prop_assert_eq!(found, None);
                    continue;
                };
                let bucket = super::super::bucket_of(Duration::from_micros(*exact));
                let found = u64::try_from(found.unwrap().as_micros()).unwrap();
                let bounds = super::super::bound(bucket)..=super::super::bound(bucket + 1);
                prop_assert!(bounds.contains(&found), "{} {}", found, exact);
            }
        }
    }

    #[test]
    fn a_tenants_hour_takes_nothing_of_another() {
        let health = TenantHealth::default();
        health.ended(Ending::Answered, Duration::from_millis(5));
        let told = told(&health, OTHER);
        assert!(told.counts_of(ACME).is_none());
        assert_eq!((told.calls_of(ACME), told.calls_of(OTHER)), (0, 1));
        let (mut hour, counts) = (HealthHour::empty(), told.counts_of(OTHER).unwrap());
        hour.add(MINUTES, counts);
        assert!(hour.is_empty(), "no minute is beyond the hour");
        hour.add(0, counts);
        assert_eq!((hour.minutes[0].answered, hour.sum.answered), (1, 1));
    }

    #[test]
    fn a_minute_is_told_again_once_it_is_kept() {
        let health = TenantHealth::default();
        health.ended(Ending::Failed, Duration::from_millis(5));
        let open = health.told(0, 0).unwrap();
        health.turn(0);
        assert_eq!(health.told(0, 1), Some(open));
        assert_eq!(health.told(1, 1), None);
    }

    #[test]
    fn a_minute_is_read_as_it_was_told_and_nothing_else_is() {
        let counts = |calls: u32| packed::pack(|kind, _| if kind == 0 { calls } else { 0 });
        let breakers = vec![("engine".parse().unwrap(), vec![ACME])];
        let told = ToldMinute::of(vec![(OTHER, counts(300)), (ACME, counts(1))], breakers);
        let bytes = told.encode();
        assert_eq!(ToldMinute::decode(&bytes), Some(told.clone()));
        assert_eq!((told.calls_of(ACME), told.calls_of(OTHER)), (4, 1_200));
        assert!(told.tenants().eq([ACME, OTHER]));
        let mut at = 0;
        let in_order = [1, 7, 7, 8, 9].map(|bits| {
            let counts = told.next_counts_of(TenantId::from_bits(bits), &mut at);
            counts.map(MinuteCounts::calls)
        });
        assert_eq!(in_order, [None, Some(4), Some(4), Some(1_200), None]);
        for length in 0..bytes.len() {
            assert_eq!(ToldMinute::decode(&bytes[..length]), None, "{length}");
        }
        for bad in [
            b"{\"tenants\":[]}".as_slice(),
            b"\xff",
            &[&bytes[..], b"x"].concat(),
        ] {
            assert_eq!(ToldMinute::decode(bad), None);
        }
        let empty = ToldMinute::default();
        assert_eq!(ToldMinute::decode(&empty.encode()), Some(empty));
    }

    #[test]
    fn of_too_many_tenants_those_are_told_that_called_most() {
        let counts =
            |calls| packed::pack(|kind, place| if (kind, place) == (0, 0) { calls } else { 0 });
        let all = (0..TENANTS_MAX as u32 + 5).map(|number| {
            (
                TenantId::from_bits(u128::from(number) + 1),
                counts(number + 1),
            )
        });
        let told = ToldMinute::of(all.collect(), Vec::new());
        assert_eq!(told.tenants().count(), TENANTS_MAX);
        assert_eq!(told.tenants().next(), Some(TenantId::from_bits(6)));
        assert_eq!(told.calls_of(TenantId::from_bits(77)), 77);
    }
}
