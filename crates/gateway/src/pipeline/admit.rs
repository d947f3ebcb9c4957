//! Stage 5, admit: limits and budgets, all or none, under the tenant's own lock. What would fit
//! but for others waits its turn, for a bounded time.

use std::sync::Arc;
use std::time::Duration;

use base::{AttemptId, Deadline, Timestamp};
use bytes::{BufMut as _, BytesMut};
use http::header::HeaderName;
use http::{HeaderMap, HeaderValue};
use ledger::{
    Admission, AdmitError, ConsumptionBound, Intent, LeaseRequest, Lsn, Price, RateKind,
    RateSnapshot, RateView, Record, Reservation, TenantLedger, upper_bound,
};
use models::Dialect;
use tenancy::catalogue::OnExhausted;

use super::anthropic;
use super::attempt::Attempt;
use super::compile::Compiled;
use super::terms::patience;
use super::trail::Trail;
use crate::lines::Bottleneck;
use crate::refusal::Refusal;

/// A minute beyond the call's own deadline: the hold of a call that never ended expires then.
const HOLD_GRACE: Duration = Duration::from_secs(60);
/// A lease is granted after one commit, and others may have used it up by then: after so many
/// times a call stands in line for the next.
const LEASE_ROUNDS_MAX: u32 = 8;
/// A tenth of a second: as often the first of a line asks what other replicas have given back.
const SHARE_POLL: Duration = Duration::from_millis(100);

/// A call that was let through: money is held for it and its intent is being written.
pub(super) struct Admitted {
    _made_here: (),
    pub(super) compiled: Box<Compiled>,
    pub(super) attempt: Attempt,
}

/// What comes of asking once.
enum Asked {
    Admitted(Admission, Lsn),
    NeedsLease(LeaseRequest, Lsn),
    NeedsShare,
    NeedsRate,
    Refused(AdmitError),
}

impl Compiled {
    /// Takes from every limit and budget, or from none.
    pub(super) async fn admit(mut self: Box<Self>, trail: &mut Trail) -> Result<Admitted, Refusal> {
        // The journal takes the ends of calls while its disk fails, and no new ones.
        if !self.inside.shared.journal.is_accepting() {
            return Err(Refusal::NotDurable);
        }
        loop {
            self.look_up(trail).await;
            self.refuse_if_down()?;
            let (price, bound) = self.held_for()?;
            match self.ask_patiently(&price, &bound, trail).await {
                Ok((admission, intent)) => {
                    trail.rate_headers = match trail.dialect {
                        Dialect::Anthropic => {
                            anthropic::rate_headers(&admission.rates, self.inside.at)
                        }
                        _ => rate_headers(&admission.rates),
                    };
                    trail.upstream = Some(self.target().upstream.name.clone());
                    trail.hop = self.hop();
                    let terms = Arc::clone(&self.terms);
                    let attempt =
                        Attempt::begun(&self.inside, terms, admission.hold, intent, price, bound);
                    return Ok(Admitted {
                        _made_here: (),
                        compiled: self,
                        attempt,
                    });
                }
                Err(error) => match self.cheaper(&error) {
                    Some(model) => {
                        self = self.downgrade(&model)?;
                        trail.model = Some(model);
                    }
                    None => return Err(self.refusal(&error)),
                },
            }
        }
    }

    /// Asks, and where time or others' ends would help, waits and asks again.
    async fn ask_patiently(
        &self,
        price: &Price,
        bound: &ConsumptionBound,
        trail: &Trail,
    ) -> Result<(Admission, Lsn), AdmitError> {
        match self.ask_with_leases(price, bound, trail).await {
            Ok(admitted) => Ok(admitted),
            Err(error) => Box::pin(self.ask_again(error, price, bound, trail)).await,
        }
    }

    async fn ask_again(
        &self,
        mut error: AdmitError,
        price: &Price,
        bound: &ConsumptionBound,
        trail: &Trail,
    ) -> Result<(Admission, Lsn), AdmitError> {
        let clock = &*self.inside.shared.clock;
        let tier = &self.inside.tier;
        let deadline = Deadline::after(clock, patience(tier));
        let mut waiting = None;
        loop {
            let Some(wait) = Wait::after(&error) else {
                return Err(error);
            };
            waiting.get_or_insert_with(|| Waiting::count(trail));
            let left = deadline.remaining(clock);
            let asked = match wait {
                // An honest wait: until the rate has room again.
                Wait::Pause(pause) if pause < left => {
                    tokio::time::sleep(pause).await;
                    self.ask_with_leases(price, bound, trail).await
                }
                Wait::InLine(bottleneck) if !left.is_zero() => {
                    let line = self.inside.runtime.lines.line(bottleneck);
                    let Ok(_place) = tokio::time::timeout(left, line.first()).await else {
                        return Err(error);
                    };
                    self.ask_as_first(bottleneck, price, bound, trail, deadline)
                        .await
                }
                _ => return Err(error),
            };
            match asked {
                Ok(admitted) => return Ok(admitted),
                Err(again) => error = again,
            }
        }
    }

    /// Asks whenever a call of the tenant has ended, until something else than this bottleneck
    /// is in the way or the time is over. One of each line does, the others sleep.
    async fn ask_as_first(
        &self,
        bottleneck: Bottleneck,
        price: &Price,
        bound: &ConsumptionBound,
        trail: &Trail,
        deadline: Deadline,
    ) -> Result<(Admission, Lsn), AdmitError> {
        let clock = &*self.inside.shared.clock;
        loop {
            let changed = self.inside.runtime.lines.changed();
            let error = match self.ask_with_leases(price, bound, trail).await {
                Ok(admitted) => return Ok(admitted),
                Err(error) => error,
            };
            let left = deadline.remaining(clock);
            if left.is_zero() || Wait::after(&error) != Some(Wait::InLine(bottleneck)) {
                return Err(error);
            }
            // A question about a lease has waited for the disk already.
            if bottleneck != Bottleneck::Lease {
                let left = match self.inside.shared.clerk {
                    // What ends on another replica wakes nobody here.
                    Some(_) => left.min(SHARE_POLL),
                    None => left,
                };
                // Whether it changed or the time is over, the next question tells.
                drop(tokio::time::timeout(left, changed).await);
            }
        }
    }

    /// Asks; a lease that is missing is made durable first, and a share asked for.
    async fn ask_with_leases(
        &self,
        price: &Price,
        bound: &ConsumptionBound,
        trail: &Trail,
    ) -> Result<(Admission, Lsn), AdmitError> {
        let mut rounds = 0;
        loop {
            match self.ask(price, bound, trail) {
                Asked::Admitted(admission, intent) => return Ok((admission, intent)),
                Asked::Refused(error) => return Err(error),
                Asked::NeedsLease(request, lsn) => {
                    rounds += 1;
                    if let Err(error) = self.inside.shared.journal.durable(lsn).await {
                        tracing::warn!(%error, "a lease could not be made durable");
                        return Err(AdmitError::TooManyHolds);
                    }
                    self.inside.runtime.ledger.lock().grant(&request);
                    if rounds > LEASE_ROUNDS_MAX {
                        return Err(AdmitError::NeedsLease(request));
                    }
                }
                Asked::NeedsShare => {
                    rounds += 1;
                    let clerk = self.inside.shared.clerk.as_ref();
                    let clerk = clerk.expect("shares are needed where there is a coordinator");
                    self.inside.shared.metrics.share_awaited();
                    let answered = clerk.answer(self.inside.tenant.id()).await;
                    if answered.is_err() || rounds > LEASE_ROUNDS_MAX {
                        return Err(AdmitError::NeedsShare);
                    }
                }
                Asked::NeedsRate => {
                    rounds += 1;
                    let clerk = self.inside.shared.rate_clerk.as_ref();
                    let clerk = clerk.expect("rates are leased where there are pools");
                    self.inside.shared.metrics.rate_awaited();
                    // Without an answer rates are no longer leased: the next question tells.
                    let _answered = clerk.answer(self.inside.tenant.id()).await;
                    if rounds > LEASE_ROUNDS_MAX {
                        return Err(AdmitError::NeedsRate);
                    }
                }
            }
        }
    }

    /// Asks once. The ledger and the journal change under one lock, so that the journal tells
    /// the facts in their order.
    fn ask(&self, price: &Price, bound: &ConsumptionBound, trail: &Trail) -> Asked {
        let shared = &self.inside.shared;
        let now = shared.clock.now();
        let attempt = AttemptId::generate(&*shared.clock, &*shared.entropy);
        let expires_at = now.plus(self.time_limit() + HOLD_GRACE);
        let amount = upper_bound(price, bound);
        let accounts = self.terms.accounts();
        let limits = self.terms.limits();
        let reservation = Reservation {
            attempt,
            // A second target pays anew: releasing the first attempt gave its share back.
            limits: &limits,
            accounts: &accounts,
            amount,
            tokens: bound.input_tokens.saturating_add(bound.output_tokens),
            now,
            elapsed: shared.clock.elapsed(),
            expires_at,
        };
        let mut ledger = self.inside.runtime.ledger.lock();
        match ledger.admit(&reservation) {
            Ok(admission) => {
                if let Some(refill) = &admission.refill {
                    self.refill(&mut ledger, refill);
                }
                if admission.shares_run_low
                    && let Some(clerk) = &shared.clerk
                {
                    clerk.ask(self.inside.tenant.id());
                }
                if admission.rates.runs_low
                    && let Some(clerk) = &shared.rate_clerk
                {
                    clerk.ask(self.inside.tenant.id());
                }
                let intent = self.intent(attempt, price, bound, now, expires_at, trail);
                match shared
                    .journal
                    .append_quietly(&Record::Intent(Box::new(intent)))
                {
                    Ok(lsn) => Asked::Admitted(admission, lsn),
                    Err(error) => {
                        tracing::warn!(%error, "an intent could not be journaled");
                        let _undone = ledger.cancel(admission.hold, now);
                        Asked::Refused(AdmitError::TooManyHolds)
                    }
                }
            }
            Err(AdmitError::NeedsLease(request)) => {
                match shared.journal.append_all(request.records()) {
                    Ok(lsn) => Asked::NeedsLease(request, lsn),
                    Err(error) => {
                        tracing::warn!(%error, "a lease could not be journaled");
                        ledger.not_journaled(&request);
                        Asked::Refused(AdmitError::TooManyHolds)
                    }
                }
            }
            Err(AdmitError::NeedsShare) => Asked::NeedsShare,
            Err(AdmitError::NeedsRate) => Asked::NeedsRate,
            Err(error) => Asked::Refused(error),
        }
    }

    /// Raises leases before they run out; granted by a task once durable, so nobody waits.
    fn refill(&self, ledger: &mut TenantLedger, request: &LeaseRequest) {
        let shared = Arc::clone(&self.inside.shared);
        let runtime = Arc::clone(&self.inside.runtime);
        let Ok(lsn) = shared.journal.append_all(request.records()) else {
            ledger.not_journaled(request);
            return;
        };
        let request = request.clone();
        let supervisor = shared.supervisor.clone();
        supervisor.spawn(async move {
            if shared.journal.durable(lsn).await.is_ok() {
                runtime.ledger.lock().grant(&request);
            }
        });
    }

    fn intent(
        &self,
        attempt: AttemptId,
        price: &Price,
        bound: &ConsumptionBound,
        at: Timestamp,
        expires_at: Timestamp,
        trail: &Trail,
    ) -> Intent {
        let grant = self.inside.scope.grant();
        Intent {
            attempt,
            request: trail.request,
            parent: self.origin.as_ref().map(|origin| origin.parent),
            tenant: self.inside.tenant.id(),
            team: grant.team(),
            user: grant.user(),
            key: grant.key_id().expect("calls of models are made with keys"),
            feature: self.purpose.feature.clone(),
            session: self.purpose.session.clone(),
            turn: self.purpose.turn.clone(),
            hop: self.hop(),
            prompt: self.purpose.prompt.clone(),
            model: self.route.model.clone(),
            upstream: self.target().upstream.name.clone(),
            price_version: price.version,
            amount: upper_bound(price, bound),
            input_bound: bound.input_tokens,
            output_bound: bound.output_tokens,
            accounts: self
                .terms
                .budgets
                .iter()
                .map(|budget| budget.account)
                .collect(),
            at,
            expires_at,
        }
    }

    /// How long the whole call may take.
    pub(super) fn time_limit(&self) -> Duration {
        let most = Duration::from_millis(self.target().upstream.spec.timeouts.total_ms);
        match &self.origin {
            Some(origin) => most.min(origin.until.remaining(&*self.inside.shared.clock)),
            None => most,
        }
    }

    /// The cheaper model that the exhausted budget names, unless it is the one that was asked.
    fn cheaper(&self, error: &AdmitError) -> Option<base::ModelName> {
        let AdmitError::OverBudget { account, .. } = error else {
            return None;
        };
        match &self.terms.budget(*account)?.on_exhausted {
            // A chain of downgrades that comes back to where it was ends.
            OnExhausted::Downgrade(model) => (*model != self.route.model
                && !self.given_up.contains(model))
            .then(|| model.clone()),
            OnExhausted::Reject => None,
        }
    }

    fn coordinator_is_down(&self) -> bool {
        let clerk = self.inside.shared.clerk.as_ref();
        clerk.is_some_and(|clerk| clerk.is_down())
    }

    fn refusal(&self, error: &AdmitError) -> Refusal {
        let over = |account, calls| match self.terms.budget(account) {
            Some(budget) => Refusal::OverBudget {
                budget: budget.budget.to_string(),
                subject: budget.subject_text.to_string(),
                calls,
            },
            None => Refusal::Internal,
        };
        let noun = |kind: &RateKind| match kind {
            RateKind::Requests => "requests",
            RateKind::Tokens => "tokens",
        };
        match error {
            AdmitError::OverBudget { account, .. } => over(*account, false),
            AdmitError::TooManyCalls { account, .. } => over(*account, true),
            AdmitError::NeedsShare if self.coordinator_is_down() => Refusal::BudgetUnreachable,
            AdmitError::HeldByOthers { .. }
            | AdmitError::NeedsLease(_)
            | AdmitError::NeedsShare => Refusal::BudgetBusy,
            AdmitError::TooManyHolds => Refusal::NotDurable,
            AdmitError::RateLimited {
                kind, retry_after, ..
            } => Refusal::RateLimited {
                what: noun(kind),
                retry_after: Some(*retry_after),
            },
            // Others took what was leased, again and again.
            AdmitError::NeedsRate => Refusal::RateLimited {
                what: "requests",
                retry_after: Some(SHARE_POLL),
            },
            AdmitError::NeverFits { kind, .. } => Refusal::RateLimited {
                what: noun(kind),
                retry_after: None,
            },
            AdmitError::TooManyInFlight { .. } => Refusal::RateLimited {
                what: "concurrency",
                retry_after: Some(Duration::from_secs(1)),
            },
            AdmitError::TooManySubjects => Refusal::Overloaded,
            AdmitError::Duplicate => Refusal::Internal,
        }
    }
}

/// How waiting helps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wait {
    /// For so long, and nobody else's end makes it shorter.
    Pause(Duration),
    /// Until others have ended.
    InLine(Bottleneck),
}

impl Wait {
    fn after(error: &AdmitError) -> Option<Self> {
        match error {
            AdmitError::HeldByOthers { account } => {
                Some(Self::InLine(Bottleneck::Account(*account)))
            }
            AdmitError::TooManyInFlight { limit, .. } => {
                Some(Self::InLine(Bottleneck::Limit(*limit)))
            }
            AdmitError::NeedsLease(_) => Some(Self::InLine(Bottleneck::Lease)),
            AdmitError::NeedsShare => Some(Self::InLine(Bottleneck::Share)),
            AdmitError::RateLimited { retry_after, .. } => Some(Self::Pause(*retry_after)),
            AdmitError::NeedsRate => Some(Self::Pause(SHARE_POLL)),
            _ => None,
        }
    }
}

/// Counts a waiting call in the tenant's metrics, until it is dropped.
pub(super) struct Waiting(Option<prometheus_client::metrics::gauge::Gauge>);

impl Waiting {
    pub(super) fn count(trail: &Trail) -> Self {
        let gauge = trail
            .metrics
            .as_ref()
            .map(|metrics| metrics.waiting.clone());
        if let Some(gauge) = &gauge {
            gauge.inc();
        }
        Self(gauge)
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if let Some(gauge) = &self.0 {
            gauge.dec();
        }
    }
}

/// 12: these six, and what the answer's head gets later, without growing twice on the way.
const HEADERS_USUAL: usize = 12;

/// 132: six numbers of twenty digits, which 64 bits have, and of units of two letters.
const NUMBERS_BYTES_MAX: usize = 6 * 22;

/// `120` or, with its unit, `120ms`: a piece of what others are pieces of too.
fn number(texts: &mut BytesMut, number: u64, unit: &'static str) -> HeaderValue {
    texts.put_slice(itoa::Buffer::new().format(number).as_bytes());
    texts.put_slice(unit.as_bytes());
    HeaderValue::from_maybe_shared(texts.split().freeze()).expect("digits are a header's value")
}

/// `x-ratelimit-{limit,remaining,reset}-{requests,tokens}`, as OpenAI writes them.
fn rate_headers(rates: &RateSnapshot) -> HeaderMap {
    const REQUESTS: [HeaderName; 3] = [
        HeaderName::from_static("x-ratelimit-limit-requests"),
        HeaderName::from_static("x-ratelimit-remaining-requests"),
        HeaderName::from_static("x-ratelimit-reset-requests"),
    ];
    const TOKENS: [HeaderName; 3] = [
        HeaderName::from_static("x-ratelimit-limit-tokens"),
        HeaderName::from_static("x-ratelimit-remaining-tokens"),
        HeaderName::from_static("x-ratelimit-reset-tokens"),
    ];
    let mut headers = HeaderMap::with_capacity(HEADERS_USUAL);
    let mut texts = BytesMut::with_capacity(NUMBERS_BYTES_MAX);
    let mut add = |[limit, remaining, reset]: [HeaderName; 3], view: &Option<RateView>| {
        let Some(view) = view else { return };
        headers.insert(limit, number(&mut texts, view.limit, ""));
        headers.insert(remaining, number(&mut texts, view.remaining, ""));
        let millis = u64::try_from(view.reset.as_millis()).unwrap_or(u64::MAX);
        headers.insert(reset, number(&mut texts, millis, "ms"));
    };
    add(REQUESTS, &rates.requests);
    add(TOKENS, &rates.tokens);
    headers
}
