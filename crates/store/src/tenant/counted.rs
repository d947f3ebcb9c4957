//! What lines add to a sum.

use base::{PicoUsd, RequestId};
use ledger::{Consumption, LedgerLine, LineState, Metering};

use super::block::Packed;
use super::sums::halves;

/// What lines add to an hour, or to a row of usage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Counted {
    pub(super) requests: i64,
    pub(super) calls: i64,
    pub(super) unsettled: i64,
    pub(super) cache_hits: i64,
    pub(super) input_tokens: i64,
    pub(super) cached_tokens: i64,
    pub(super) cached_write_tokens: i64,
    pub(super) cached_write_1h_tokens: i64,
    pub(super) output_tokens: i64,
    pub(super) images: i64,
    /// Requests that upstreams bill.
    pub(super) billed: i64,
    pub(super) cost: PicoUsd,
    /// Of the cost, what answers cost that were given again.
    pub(super) hit_cost: PicoUsd,
    /// What these would have cost anew.
    pub(super) hit_anew: PicoUsd,
}

impl Counted {
    /// What a line adds.
    pub(super) fn of(line: &LedgerLine) -> Self {
        Self::one(line.intent.parent, line.state, &line.consumption, line.cost)
    }

    /// What a stored line added.
    pub(super) fn of_packed(line: &Packed<'_>) -> Self {
        Self::one(line.parent, line.state, &line.consumption, line.cost)
    }

    fn one(
        parent: Option<RequestId>,
        state: LineState,
        consumption: &Consumption,
        cost: PicoUsd,
    ) -> Self {
        let hit_anew = match state {
            LineState::Settled {
                metering: Metering::Cached { anew },
                ..
            } => Some(anew),
            _ => None,
        };
        Self {
            requests: i64::from(parent.is_none()),
            calls: 1,
            unsettled: i64::from(state == LineState::Unsettled),
            cache_hits: i64::from(hit_anew.is_some()),
            input_tokens: signed(consumption.input_tokens),
            cached_tokens: signed(consumption.cached_read_tokens),
            cached_write_tokens: signed(consumption.cached_write_tokens),
            cached_write_1h_tokens: signed(consumption.cached_write_1h_tokens),
            output_tokens: signed(consumption.output_tokens),
            images: i64::from(consumption.images),
            billed: i64::from(consumption.requests),
            cost,
            hit_cost: hit_anew.map_or(PicoUsd::ZERO, |_| cost),
            hit_anew: hit_anew.unwrap_or_default(),
        }
    }

    pub(super) fn add(&mut self, other: &Self) {
        self.requests += other.requests;
        self.calls += other.calls;
        self.unsettled += other.unsettled;
        self.cache_hits += other.cache_hits;
        // One line may hold the most that a column can: no real one does.
        self.input_tokens = self.input_tokens.saturating_add(other.input_tokens);
        self.cached_tokens = self.cached_tokens.saturating_add(other.cached_tokens);
        self.cached_write_tokens = self
            .cached_write_tokens
            .saturating_add(other.cached_write_tokens);
        self.cached_write_1h_tokens = self
            .cached_write_1h_tokens
            .saturating_add(other.cached_write_1h_tokens);
        self.output_tokens = self.output_tokens.saturating_add(other.output_tokens);
        self.images += other.images;
        self.billed += other.billed;
        self.cost += other.cost;
        self.hit_cost += other.hit_cost;
        self.hit_anew += other.hit_anew;
    }

    /// What replacing `other` by this adds.
    pub(super) fn minus(&self, other: &Self) -> Self {
        Self {
            requests: self.requests - other.requests,
            calls: self.calls - other.calls,
            unsettled: self.unsettled - other.unsettled,
            cache_hits: self.cache_hits - other.cache_hits,
            input_tokens: self.input_tokens - other.input_tokens,
            cached_tokens: self.cached_tokens - other.cached_tokens,
            cached_write_tokens: self.cached_write_tokens - other.cached_write_tokens,
            cached_write_1h_tokens: self.cached_write_1h_tokens - other.cached_write_1h_tokens,
            output_tokens: self.output_tokens - other.output_tokens,
            images: self.images - other.images,
            billed: self.billed - other.billed,
            cost: self.cost - other.cost,
            hit_cost: self.hit_cost - other.hit_cost,
            hit_anew: self.hit_anew - other.hit_anew,
        }
    }

    /// The amounts as two columns each.
    pub(super) fn halves(&self) -> [(i64, i64); 3] {
        [self.cost, self.hit_cost, self.hit_anew].map(halves)
    }
}

/// As a column holds it.
pub(super) fn signed(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
