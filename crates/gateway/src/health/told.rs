//! What replicas tell each other of their calls: a minute's counts and buckets of each tenant, not
//! percentiles, so that what is read from their sum is what would be read from all calls.

use base::{Name, TenantId};
use serde::{Deserialize, Serialize};

use super::{BUCKETS, COUNT_BITS, HealthFigures, HealthHour, KeptMinute, MINUTES, TenantHealth};
use super::{Cells, minute_at, packed};
use crate::gateway::Gateway;

/// 16,384 tenants of one minute, those that called most: some 3 MB. More call one process in one
/// minute on no machine that was seen; their calls are in the ledger.
const TENANTS_MAX: usize = 16_384;

/// One minute of one process, as it tells the others.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ToldMinute {
    /// By id.
    tenants: Vec<ToldTenant>,
    /// Whose calls are held back where, if the minute is under way.
    #[serde(default)]
    breakers: Vec<(Name, Vec<TenantId>)>,
}

/// One tenant's part of it. Each word is a bucket's number and count, as in [`KeptMinute`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct ToldTenant {
    tenant: TenantId,
    endings: [u32; 4],
    buckets: [Box<[u32]>; 3],
}

impl ToldMinute {
    /// Whether there is nothing to tell.
    pub fn is_empty(&self) -> bool {
        self.tenants.is_empty() && self.breakers.is_empty()
    }

    /// As JSON.
    pub fn encode(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("numbers and names have a JSON form")
    }

    /// Reads what another process has encoded; none if it is something else.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let mut told: Self = serde_json::from_slice(bytes).ok()?;
        told.tenants.truncate(TENANTS_MAX);
        told.tenants.sort_unstable_by_key(|told| told.tenant);
        Some(told)
    }

    /// The tenants in it.
    pub fn tenants(&self) -> impl Iterator<Item = TenantId> {
        self.tenants.iter().map(|told| told.tenant)
    }

    /// The tenants whose calls are held back, by upstream.
    pub fn open_breakers(&self) -> &[(Name, Vec<TenantId>)] {
        &self.breakers
    }

    /// How many calls of a tenant ended in it.
    pub fn calls_of(&self, tenant: TenantId) -> u64 {
        let told = self.of(tenant);
        told.map_or(0, |told| told.endings.iter().copied().map(u64::from).sum())
    }

    /// How many calls ended in it.
    pub fn calls(&self) -> u64 {
        let endings = self.tenants.iter().flat_map(|told| told.endings);
        endings.map(u64::from).sum()
    }

    fn of(&self, tenant: TenantId) -> Option<&ToldTenant> {
        let place = (self.tenants).binary_search_by_key(&tenant, |told| told.tenant);
        self.tenants.get(place.ok()?)
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

    /// Adds what another process told of the minute at this place.
    pub fn add(&mut self, place: usize, told: &ToldMinute, tenant: TenantId) {
        if let Some(own) = told.of(tenant)
            && let Some(minute) = self.minutes.get_mut(place)
        {
            own.add_to(minute);
            own.add_to(&mut self.sum);
        }
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.sum.is_empty()
    }
}

impl ToldTenant {
    fn add_to(&self, figures: &mut HealthFigures) {
        figures.add_endings(self.endings);
        super::add_packed(&self.buckets, figures);
    }
}

impl TenantHealth {
    /// What there is of a minute; none if that is nothing.
    fn told(&self, tenant: TenantId, minute: u32, under_way: u32) -> Option<ToldTenant> {
        use std::sync::atomic::Ordering::Relaxed;
        let (endings, buckets) = if minute == under_way {
            let read = |cells: &Cells| packed(cells.iter().map(|cell| cell.load(Relaxed)));
            (
                [0, 1, 2, 3].map(|at: usize| self.endings[at].load(Relaxed)),
                [&self.durations, &self.first_chunks, &self.waits].map(read),
            )
        } else {
            let kept = self.kept.lock();
            let found: &KeptMinute = kept.iter().find(|kept| kept.minute == minute)?;
            (found.endings, found.buckets.clone())
        };
        let is_empty = endings == [0; 4] && buckets.iter().all(|words| words.is_empty());
        (!is_empty).then_some(ToldTenant {
            tenant,
            endings,
            buckets,
        })
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
        let mut tenants = Vec::new();
        self.tenants().for_each_health(|tenant, health| {
            tenants.extend(health.told(tenant, minute, under_way));
        });
        if tenants.len() > TENANTS_MAX {
            let calls = |told: &ToldTenant| told.endings.iter().copied().map(u64::from).sum();
            tenants.sort_by_key(|told| std::cmp::Reverse::<u64>(calls(told)));
            tenants.truncate(TENANTS_MAX);
        }
        tenants.sort_unstable_by_key(|told| told.tenant);
        let breakers = match minute == under_way {
            true => self.open_breakers(),
            false => Vec::new(),
        };
        ToldMinute { tenants, breakers }
    }
}

/// Adds words to the distributions that they are of. A bucket that this program does not have is
/// left out.
pub(super) fn add_words(words: &[u32], counts: &mut [u64; BUCKETS]) {
    for word in words {
        if let Some(count) = counts.get_mut((word >> COUNT_BITS) as usize) {
            *count += u64::from(word & ((1 << COUNT_BITS) - 1));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::super::Ending;
    use super::*;

    const ACME: TenantId = TenantId::from_bits(7);
    const OTHER: TenantId = TenantId::from_bits(8);

    fn told(health: &TenantHealth, tenant: TenantId) -> ToldMinute {
        let tenants = health.told(tenant, 0, 0).into_iter().collect();
        let told = ToldMinute {
            tenants,
            breakers: Vec::new(),
        };
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
                sum.add(MINUTES - 1, &told(health, ACME), ACME);
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
        let mut hour = HealthHour::empty();
        hour.add(MINUTES - 1, &told, ACME);
        assert!(hour.is_empty());
        assert_eq!((told.calls_of(ACME), told.calls_of(OTHER)), (0, 1));
        hour.add(MINUTES, &told, OTHER);
        assert!(hour.is_empty(), "no minute is beyond the hour");
        hour.add(0, &told, OTHER);
        assert_eq!((hour.minutes[0].answered, hour.sum.answered), (1, 1));
    }

    #[test]
    fn a_minute_is_told_again_once_it_is_kept() {
        let health = TenantHealth::default();
        health.ended(Ending::Failed, Duration::from_millis(5));
        let open = health.told(ACME, 0, 0).unwrap();
        health.turn(0);
        assert_eq!(health.told(ACME, 0, 1), Some(open));
        assert_eq!(health.told(ACME, 1, 1), None);
    }

    #[test]
    fn what_is_no_minute_is_not_read() {
        assert_eq!(ToldMinute::decode(b"{}"), None);
        assert_eq!(ToldMinute::decode(b"\xff"), None);
        // A bucket that this program does not have.
        let strange = ToldTenant {
            tenant: ACME,
            endings: [1, 0, 0, 0],
            buckets: [Box::from([u32::MAX]), Box::from([]), Box::from([])],
        };
        let mut figures = HealthFigures::default();
        strange.add_to(&mut figures);
        assert_eq!((figures.answered, figures.durations.count()), (1, 0));
    }
}
