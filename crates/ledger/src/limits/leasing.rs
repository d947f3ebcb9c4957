//! Rates that are leased from pools ([`crate::RatePool`]), for all limits of one tenant.

use std::time::Duration;

use base::TenantId;

use super::{LimitTerms, LimitUse, Limits, RateKind};
use crate::rate::Bucket;
use crate::rate_pool::{Lease, Leases};
use crate::{LimitId, RateAsk, RateGiven, RateTerms, RateView, TenantLedger};

/// What came of taking from leases.
#[derive(Debug, Default)]
pub(super) struct Taken {
    pub(super) runs_low: bool,
    pub(super) requests: Option<RateView>,
    pub(super) tokens: Option<RateView>,
}

impl TenantLedger {
    /// From here on rates are leased from pools that all replicas have together, or, without,
    /// each replica has a fixed part of each.
    pub fn lease_rates(&mut self, is_leasing: bool, elapsed: Duration) {
        let replicas = self.replicas();
        self.limits.lease(is_leasing, replicas, elapsed);
    }

    /// What is to be told to pools and asked of them, `count_max` rates at most, and whether
    /// there is more. With `is_due` those that nobody uses are looked at too: once a second. Each
    /// is to be [answered](Self::apply_rate), or said to be [unanswered](Self::rate_unanswered).
    pub fn rate_asks(
        &mut self,
        is_due: bool,
        count_max: usize,
        elapsed: Duration,
    ) -> (Vec<RateAsk>, bool) {
        let (tenant, replicas) = (self.tenant(), self.replicas());
        self.limits
            .asks((tenant, replicas), is_due, count_max, elapsed)
    }

    /// Applies a pool's answer.
    pub fn apply_rate(&mut self, ask: &RateAsk, given: RateGiven, elapsed: Duration) {
        if let Some(lease) = self.limits.asked(ask) {
            lease.apply(given, elapsed);
        }
    }

    /// The pool did not answer.
    pub fn rate_unanswered(&mut self, ask: &RateAsk) {
        if let Some(lease) = self.limits.asked(ask) {
            lease.unanswered(ask);
        }
    }
}

impl Leases {
    /// Counts a call that was checked.
    pub(super) fn take(&mut self, terms: &LimitTerms, tokens: u64, elapsed: Duration) -> Taken {
        let mut taken = Taken::default();
        for (kind, rate, count) in rates(terms, tokens) {
            let lease = self.of_mut(kind);
            let Some(rate) = rate else {
                *lease = None;
                continue;
            };
            let lease = lease.get_or_insert_with(|| Lease::new(rate, None, elapsed));
            taken.runs_low |= lease.take(rate, count, elapsed);
            let view = Some(lease.view(rate, elapsed));
            match kind {
                RateKind::Requests => taken.requests = view,
                RateKind::Tokens => taken.tokens = view,
            }
        }
        taken
    }

    /// A call had `less` than it was counted with, or `more`.
    pub(super) fn correct(&mut self, kind: RateKind, less: u64, more: u64) {
        if let Some(lease) = self.of_mut(kind) {
            lease.give_back(less);
            lease.add(more);
        }
    }

    /// Whether nothing would be lost with them.
    pub(super) fn is_idle(&self, elapsed: Duration) -> bool {
        let leases = [&self.requests, &self.tokens];
        leases
            .into_iter()
            .flatten()
            .all(|lease| lease.is_idle(elapsed))
    }
}

impl Limits {
    fn lease(&mut self, is_leasing: bool, replicas: u32, elapsed: Duration) {
        if std::mem::replace(&mut self.is_leasing, is_leasing) == is_leasing {
            return;
        }
        self.news.clear();
        for (limit, state) in &mut self.states {
            if !is_leasing {
                // What others took stays counted, in its part; what was leased is given up.
                let leases = state.leases.take().unwrap_or_default();
                let part = |lease: Option<Lease>| lease.map(|it| it.part(replicas));
                state.requests = part(leases.requests).unwrap_or_default();
                state.tokens = part(leases.tokens).unwrap_or_default();
                continue;
            }
            // What this replica let through by itself the pools hear of.
            let lease = |bucket: &mut Bucket| {
                let bucket = std::mem::take(bucket);
                Some(Lease::new(bucket.terms(replicas)?, Some(bucket), elapsed))
            };
            let mut leases = Leases {
                requests: lease(&mut state.requests),
                tokens: lease(&mut state.tokens),
                is_news: false,
            };
            tell(&mut self.news, *limit, &mut leases);
            state.leases = Some(Box::new(leases));
        }
    }

    /// Notes what a call waits for.
    pub(crate) fn need(&mut self, uses: &[LimitUse<'_>], tokens: u64, elapsed: Duration) {
        for LimitUse { limit, terms } in uses {
            let state = self.states.entry(*limit).or_default();
            let leases = state.leases.get_or_insert_default();
            for (kind, rate, count) in rates(terms, tokens) {
                let Some(rate) = rate else { continue };
                let lease = leases.of_mut(kind);
                let lease = lease.get_or_insert_with(|| Lease::new(rate, None, elapsed));
                lease.need(rate, count, elapsed);
            }
            tell(&mut self.news, *limit, leases);
        }
    }

    fn asks(
        &mut self,
        (tenant, replicas): (TenantId, u32),
        is_due: bool,
        count_max: usize,
        elapsed: Duration,
    ) -> (Vec<RateAsk>, bool) {
        if is_due {
            for (limit, state) in &mut self.states {
                if let Some(leases) = &mut state.leases {
                    tell(&mut self.news, *limit, leases);
                }
            }
        }
        let mut asks = Vec::new();
        while let Some(limit) = self.news.pop() {
            // A limit has two rates.
            if asks.len() + 2 > count_max {
                self.news.push(limit);
                return (asks, true);
            }
            let state = self.states.get_mut(&limit);
            let Some(leases) = state.and_then(|state| state.leases.as_mut()) else {
                continue;
            };
            leases.is_news = false;
            for kind in [RateKind::Requests, RateKind::Tokens] {
                let lease = leases.of_mut(kind).as_mut();
                asks.extend(lease.and_then(|it| it.ask((tenant, limit, kind), replicas, elapsed)));
            }
        }
        (asks, false)
    }

    /// The lease that asked; it may tell more from now on.
    fn asked(&mut self, ask: &RateAsk) -> Option<&mut Lease> {
        let leases = self.states.get_mut(&ask.limit)?.leases.as_mut()?;
        tell(&mut self.news, ask.limit, leases);
        leases.of_mut(ask.kind).as_mut()
    }
}

fn rates(terms: &LimitTerms, tokens: u64) -> [(RateKind, Option<RateTerms>, u64); 2] {
    [
        (RateKind::Requests, terms.requests, 1),
        (RateKind::Tokens, terms.tokens, tokens),
    ]
}

/// Has a limit looked at by the next exchange.
pub(super) fn tell(news: &mut Vec<LimitId>, limit: LimitId, leases: &mut Leases) {
    if !leases.is_news {
        leases.is_news = true;
        news.push(limit);
    }
}
