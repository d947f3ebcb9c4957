//! All limits of one tenant: taken together or not at all.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::rate::{Bucket, NoRoom};
use crate::rate_pool::{Lease, Leases};
use crate::subject::IdMap;
use crate::{LimitId, RateTerms, RateView};

mod leasing;

/// What one limit allows; what is `None` is not limited.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct LimitTerms {
    /// Requests.
    pub requests: Option<RateTerms>,
    /// Tokens, input and output: the bound at admission, what it was once the call has ended.
    pub tokens: Option<RateTerms>,
    /// Calls at the same time.
    pub in_flight_max: Option<u32>,
}

/// A limit that applies to a call.
#[derive(Debug, Clone, Copy)]
pub struct LimitUse<'a> {
    /// What it counts for.
    pub limit: LimitId,
    /// What it allows.
    pub terms: &'a LimitTerms,
}

/// What a limit counts in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RateKind {
    /// Requests per minute.
    Requests,
    /// Tokens per minute.
    Tokens,
}

/// Why a call is beyond its limits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum LimitRefusal {
    RateLimited {
        limit: LimitId,
        kind: RateKind,
        retry_after: Duration,
    },
    NeverFits {
        limit: LimitId,
        kind: RateKind,
    },
    TooManyInFlight {
        limit: LimitId,
        max: u32,
    },
    /// More must be leased first of what replicas have together.
    NeedsRate,
}

/// What is left of the tightest limit of each kind, for the `x-ratelimit-*` headers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RateSnapshot {
    /// Requests per minute, if they are limited.
    pub requests: Option<RateView>,
    /// Tokens per minute, if they are limited.
    pub tokens: Option<RateView>,
    /// What was leased of a rate will run out soon: ask for more now
    /// ([`crate::TenantLedger::rate_asks`]) and nobody has to wait.
    pub runs_low: bool,
}

#[derive(Debug, Default)]
pub(crate) struct Limits {
    states: IdMap<LimitId, LimitState>,
    /// Rates are leased from pools; otherwise each replica has a fixed part.
    is_leasing: bool,
    /// Limits with something to tell their pools, each once.
    news: Vec<LimitId>,
}

#[derive(Debug, Clone, Default)]
struct LimitState {
    requests: Bucket,
    tokens: Bucket,
    in_flight: u32,
    /// Where rates are leased: then the buckets are not used.
    leases: Option<Box<Leases>>,
}

impl LimitState {
    fn bucket(&self, kind: RateKind) -> &Bucket {
        match kind {
            RateKind::Requests => &self.requests,
            RateKind::Tokens => &self.tokens,
        }
    }

    fn lease(&self, kind: RateKind) -> Option<&Lease> {
        self.leases.as_deref().and_then(|leases| leases.of(kind))
    }
}

impl Limits {
    pub(crate) fn len(&self) -> usize {
        self.states.len()
    }

    pub(crate) fn contains(&self, limit: LimitId) -> bool {
        self.states.contains_key(&limit)
    }

    /// Whether a call of `tokens` at most is within all of `uses`, as one of `replicas` that have
    /// a part each. Changes nothing. Of several rates that are used up the one that takes longest to
    /// come back is reported.
    pub(crate) fn check(
        &self,
        uses: &[LimitUse<'_>],
        replicas: u32,
        tokens: u64,
        elapsed: Duration,
    ) -> Result<(), LimitRefusal> {
        let mut longest: Option<(LimitId, RateKind, Duration)> = None;
        let mut crowded = None;
        let mut needs_rate = false;
        let unused = LimitState::default();
        for LimitUse { limit, terms } in uses {
            let state = self.states.get(limit).unwrap_or(&unused);
            let rates = [
                (RateKind::Requests, terms.requests, 1),
                (RateKind::Tokens, terms.tokens, tokens),
            ];
            for (kind, rate, count) in rates {
                let Some(rate) = rate else { continue };
                let limit = *limit;
                let checked = match self.is_leasing {
                    true => Lease::check(state.lease(kind), rate, count, elapsed),
                    false => {
                        let bucket = state.bucket(kind);
                        let checked = bucket.check(rate, replicas, count, elapsed);
                        checked.map(|()| true)
                    }
                };
                match checked {
                    Ok(has_room) => needs_rate |= !has_room,
                    Err(NoRoom::Never) => return Err(LimitRefusal::NeverFits { limit, kind }),
                    Err(NoRoom::Until(wait)) => {
                        if longest.is_none_or(|(_, _, longest)| wait > longest) {
                            longest = Some((limit, kind, wait));
                        }
                    }
                }
            }
            if let Some(max) = terms.in_flight_max
                && state.in_flight >= part_of(max, replicas)
            {
                crowded = Some((*limit, max));
            }
        }
        match (longest, crowded) {
            (Some((limit, kind, retry_after)), _) => Err(LimitRefusal::RateLimited {
                limit,
                kind,
                retry_after,
            }),
            (None, Some((limit, max))) => Err(LimitRefusal::TooManyInFlight { limit, max }),
            (None, None) if needs_rate => Err(LimitRefusal::NeedsRate),
            (None, None) => Ok(()),
        }
    }

    /// Counts a call that was checked.
    pub(crate) fn take(
        &mut self,
        uses: &[LimitUse<'_>],
        replicas: u32,
        tokens: u64,
        elapsed: Duration,
    ) -> RateSnapshot {
        let mut snapshot = RateSnapshot::default();
        for LimitUse { limit, terms } in uses {
            let state = self.states.entry(*limit).or_default();
            state.in_flight += 1;
            if self.is_leasing {
                let leases = state.leases.get_or_insert_default();
                let taken = leases.take(terms, tokens, elapsed);
                if taken.runs_low {
                    snapshot.runs_low = true;
                    leasing::tell(&mut self.news, *limit, leases);
                }
                for (tightest, view) in [
                    (&mut snapshot.requests, taken.requests),
                    (&mut snapshot.tokens, taken.tokens),
                ] {
                    if let Some(view) = view {
                        tighten(tightest, view);
                    }
                }
                continue;
            }
            if let Some(rate) = terms.requests.map(|rate| rate.part(replicas)) {
                state.requests.take(rate, 1, elapsed);
                tighten(&mut snapshot.requests, state.requests.view(rate, elapsed));
            }
            if let Some(rate) = terms.tokens.map(|rate| rate.part(replicas)) {
                state.tokens.take(rate, tokens, elapsed);
                tighten(&mut snapshot.tokens, state.tokens.view(rate, elapsed));
            }
        }
        snapshot
    }

    /// The call no longer runs.
    pub(crate) fn leave(&mut self, limits: &[LimitId]) {
        for limit in limits {
            if let Some(state) = self.states.get_mut(limit) {
                state.in_flight = state.in_flight.saturating_sub(1);
            }
        }
    }

    /// The call, counted with `bound` tokens, had `actual`.
    pub(crate) fn true_up(&mut self, limits: &[LimitId], bound: u64, actual: u64) {
        for limit in limits {
            let Some(state) = self.states.get_mut(limit) else {
                continue;
            };
            let (less, more) = (bound.saturating_sub(actual), actual.saturating_sub(bound));
            match &mut state.leases {
                Some(leases) => {
                    leases.correct(RateKind::Tokens, less, more);
                    leasing::tell(&mut self.news, *limit, leases);
                }
                None => {
                    state.tokens.give_back(less);
                    state.tokens.add(more);
                }
            }
        }
    }

    /// The call, counted with `bound` tokens, did not take place.
    pub(crate) fn undo(&mut self, limits: &[LimitId], bound: u64) {
        for limit in limits {
            let Some(state) = self.states.get_mut(limit) else {
                continue;
            };
            match &mut state.leases {
                Some(leases) => {
                    leases.correct(RateKind::Requests, 1, 0);
                    leases.correct(RateKind::Tokens, bound, 0);
                    leasing::tell(&mut self.news, *limit, leases);
                }
                None => {
                    state.requests.give_back(1);
                    state.tokens.give_back(bound);
                }
            }
        }
    }

    /// Drops what is as good as new.
    pub(crate) fn forget_idle(&mut self, elapsed: Duration) {
        self.states.retain(|_, state| {
            let drained = state.requests.is_drained(elapsed) && state.tokens.is_drained(elapsed);
            let leases = state.leases.as_ref();
            state.in_flight > 0 || !drained || leases.is_some_and(|it| !it.is_idle(elapsed))
        });
        self.states.shrink_to(self.states.len() * 2);
    }
}

/// A replica's part of a number of places: at least one, so that each serves somebody.
fn part_of(max: u32, replicas: u32) -> u32 {
    if replicas <= 1 {
        max
    } else {
        (max / replicas).max(max.min(1))
    }
}

fn tighten(tightest: &mut Option<RateView>, view: RateView) {
    if tightest.is_none_or(|tightest| view.remaining < tightest.remaining) {
        *tightest = Some(view);
    }
}

#[cfg(test)]
mod tests {
    use base::TenantId;

    use super::*;
    use crate::Subject;

    fn terms(requests: u64, tokens: u64, in_flight_max: u32) -> LimitTerms {
        LimitTerms {
            requests: Some(RateTerms::per_minute(requests).unwrap()),
            tokens: Some(RateTerms::per_minute(tokens).unwrap()),
            in_flight_max: Some(in_flight_max),
        }
    }

    fn ids() -> [LimitId; 2] {
        let tenant = TenantId::from_bits(1);
        let model = Subject::Model("m".parse().unwrap());
        [
            LimitId::of(tenant, &[Subject::Tenant]),
            LimitId::of(tenant, &[model]),
        ]
    }

    #[test]
    fn one_full_bucket_refuses_the_call_and_the_others_lose_nothing() {
        let (wide, narrow) = (terms(100, 10_000, 100), terms(2, 500, 100));
        let [tenant, model] = ids();
        let uses = [
            LimitUse {
                limit: tenant,
                terms: &wide,
            },
            LimitUse {
                limit: model,
                terms: &narrow,
            },
        ];
        let mut limits = Limits::default();
        let now = Duration::ZERO;
        for left in [1, 0] {
            limits.check(&uses, 1, 100, now).unwrap();
            let snapshot = limits.take(&uses, 1, 100, now);
            assert_eq!(snapshot.requests.unwrap().remaining, left);
        }
        let refused = limits.check(&uses, 1, 100, now).unwrap_err();
        let expected = LimitRefusal::RateLimited {
            limit: model,
            kind: RateKind::Requests,
            retry_after: Duration::from_secs(30),
        };
        assert_eq!(refused, expected);
        let view = limits.states[&tenant]
            .requests
            .view(wide.requests.unwrap(), now);
        assert_eq!(view.remaining, 98);
    }

    #[test]
    fn tokens_are_trued_up_and_calls_in_flight_leave() {
        let narrow = terms(100, 1_000, 1);
        let [tenant, _] = ids();
        let uses = [LimitUse {
            limit: tenant,
            terms: &narrow,
        }];
        let mut limits = Limits::default();
        limits.take(&uses, 1, 900, Duration::ZERO);
        assert!(matches!(
            limits.check(&uses, 1, 100, Duration::ZERO),
            Err(LimitRefusal::TooManyInFlight { max: 1, .. })
        ));
        limits.leave(&[tenant]);
        limits.true_up(&[tenant], 900, 100);
        assert_eq!(limits.check(&uses, 1, 900, Duration::ZERO), Ok(()));
        assert!(matches!(
            limits.check(&uses, 1, 1_001, Duration::ZERO),
            Err(LimitRefusal::NeverFits {
                kind: RateKind::Tokens,
                ..
            })
        ));
    }

    #[test]
    fn idle_limits_are_forgotten_and_busy_ones_are_not() {
        let narrow = terms(1, 1, 5);
        let [tenant, model] = ids();
        let uses = [tenant, model].map(|limit| LimitUse {
            limit,
            terms: &narrow,
        });
        let mut limits = Limits::default();
        limits.take(&uses, 1, 1, Duration::ZERO);
        limits.leave(&[model]);
        limits.forget_idle(Duration::from_secs(59));
        assert!(limits.contains(tenant) && limits.contains(model));
        limits.forget_idle(Duration::from_secs(60));
        assert!(limits.contains(tenant) && !limits.contains(model));
    }
}
