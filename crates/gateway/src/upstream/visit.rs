//! One call at an upstream, as its gate sees it: a place that is held, a permit of the breakers,
//! and what became of them.

use std::sync::Arc;
use std::time::Duration;

use base::{Entropy, ModelName, TenantId};
use http::StatusCode;

use super::gate::Gate;
use crate::adapters::AdapterLease;
use crate::fairness::{
    Band, EnterError, Entry, Place, PlaceInLine, Refused, TenantTerms, Ticket, Tokens, Waiting,
};
use crate::resilience::{CallEnd, Credential, Fault, Feedback, Guarded, Open, classify};

/// Who calls, and what for.
#[derive(Debug, Clone)]
pub(crate) struct Visitor {
    pub(crate) tenant: TenantId,
    pub(crate) terms: TenantTerms,
    pub(crate) band: Band,
    /// With whose credential.
    pub(crate) credential: Credential,
    pub(crate) model: ModelName,
    /// Tokens of the request, about.
    pub(crate) input: u32,
    /// Tokens that the answer may have.
    pub(crate) output_max: u32,
    /// How long it can wait for a place.
    pub(crate) patience: Duration,
}

/// A call at the gate of an upstream.
#[derive(Debug)]
pub(crate) enum AtGate {
    /// It has a place.
    In(Visit),
    /// It waits.
    InLine(Queued),
}

/// A call that waits for a place.
#[derive(Debug)]
pub(crate) struct Queued {
    gate: Arc<Gate>,
    visitor: Visitor,
    waiting: Waiting,
    entropy: Arc<dyn Entropy>,
}

/// Why a call is not let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NoVisit {
    /// No place, and none in time.
    #[error(transparent)]
    Busy(#[from] EnterError),
    /// A breaker is open.
    #[error(transparent)]
    Open(#[from] Open),
}

impl From<Refused> for NoVisit {
    fn from(refused: Refused) -> Self {
        Self::Busy(refused.into())
    }
}

impl Gate {
    /// Takes a place, or a position in the line.
    ///
    /// # Errors
    ///
    /// [`NoVisit`].
    pub(crate) fn come(
        self: &Arc<Self>,
        visitor: Visitor,
        entropy: &Arc<dyn Entropy>,
    ) -> Result<AtGate, NoVisit> {
        let predicted_output = self.predict(visitor.tenant, &visitor.model, visitor.output_max);
        let ticket = Ticket {
            tenant: visitor.tenant,
            terms: visitor.terms,
            band: visitor.band,
            input: visitor.input,
            predicted_output,
            prefix: None,
            patience: visitor.patience,
        };
        let entropy = Arc::clone(entropy);
        match self.turnstile.begin(&ticket)? {
            Entry::Placed(place) => self.let_in(visitor, place, entropy).map(AtGate::In),
            Entry::Waiting(waiting) => Ok(AtGate::InLine(Queued {
                gate: Arc::clone(self),
                visitor,
                waiting,
                entropy,
            })),
        }
    }

    /// Asks the breakers last: they may have opened while the call waited.
    fn let_in(
        self: &Arc<Self>,
        visitor: Visitor,
        place: Place,
        entropy: Arc<dyn Entropy>,
    ) -> Result<Visit, NoVisit> {
        let now = self.clock.elapsed();
        let guarded = self.breakers.lock().ask(visitor.tenant, now)?;
        Ok(Visit {
            gate: Arc::clone(self),
            visitor,
            place,
            guarded: Some(guarded),
            sent_at: now,
            has_begun: false,
            entropy,
            adapter: None,
        })
    }
}

impl Queued {
    /// Where it stands.
    pub(crate) fn place_in_line(&self) -> Option<PlaceInLine> {
        self.waiting.place_in_line()
    }

    /// Waits for the place, for as long as its patience lasts.
    ///
    /// # Errors
    ///
    /// [`NoVisit`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves the line.
    pub(crate) async fn placed(self) -> Result<Visit, NoVisit> {
        let place = self.waiting.placed().await?;
        self.gate.let_in(self.visitor, place, self.entropy)
    }
}

/// A call that was let in. Dropping it frees its place, charges what it was last said to have
/// taken, and tells the breakers that nothing is known of it unless something was said.
#[derive(Debug)]
pub(crate) struct Visit {
    gate: Arc<Gate>,
    visitor: Visitor,
    place: Place,
    /// None once the breakers have heard of the call.
    guarded: Option<Guarded>,
    sent_at: Duration,
    has_begun: bool,
    entropy: Arc<dyn Entropy>,
    /// The tenant's adapter that it is for, loaded while it lasts.
    adapter: Option<AdapterLease>,
}

impl Visit {
    /// Keeps its adapter loaded to its end.
    pub(crate) fn keeps(&mut self, adapter: Option<AdapterLease>) {
        self.adapter = adapter;
    }

    /// The engine did nothing for it: it no longer knows the adapter.
    pub(crate) fn lost_adapter(mut self) {
        self.place.report(Tokens::default());
        if let Some(adapter) = self.adapter.take() {
            adapter.lost();
        }
    }

    /// The call is sent: its input counts from now on.
    pub(crate) fn sent(&mut self) {
        self.sent_at = self.gate.clock.elapsed();
        self.place.report(self.tokens(0));
    }

    /// The upstream refused it, and asked to be left alone for so long, if it did.
    pub(crate) fn refused(mut self, status: StatusCode, retry_after: Option<Duration>) -> Fault {
        // It did nothing for it.
        self.place.report(Tokens::default());
        let fault = self.fault(CallEnd::Answered(status));
        self.tell(fault, retry_after);
        fault
    }

    /// It was not answered.
    pub(crate) fn failed(mut self, end: CallEnd) {
        if end == CallEnd::NoConnection {
            self.place.report(Tokens::default());
        }
        self.tell(self.fault(end), None);
    }

    /// The upstream has taken it on.
    pub(crate) fn accepted(&mut self) {
        self.tell(Fault::None, None);
    }

    /// A piece of its stream came, and so many tokens of output by now.
    pub(crate) fn streamed(&mut self, output: u64) {
        if !std::mem::replace(&mut self.has_begun, true) {
            let after = self.gate.clock.elapsed().saturating_sub(self.sent_at);
            let input = self.visitor.input;
            self.gate.learn(Feedback::FirstToken { after, input });
        }
        let output = u32::try_from(output).unwrap_or(u32::MAX);
        self.place.report(self.tokens(output));
    }

    /// Its answer broke off after it was accepted.
    pub(crate) fn broke(&mut self, end: CallEnd) {
        if self.guarded.is_none() {
            let now = self.gate.clock.elapsed();
            let asked = self.gate.breakers.lock().ask(self.visitor.tenant, now);
            self.guarded = asked.ok();
        }
        self.tell(self.fault(end), None);
    }

    /// It took so many tokens: charged exactly.
    pub(crate) fn took(&mut self, input: u64, output: u64) {
        self.place.report(Tokens {
            input: u32::try_from(input).unwrap_or(u32::MAX),
            output: u32::try_from(output).unwrap_or(u32::MAX),
        });
    }

    /// Its answer is whole and had so many tokens, by the upstream's own count: others like it
    /// will.
    pub(crate) fn teach(&self, output: u64) {
        let output = u32::try_from(output).unwrap_or(u32::MAX);
        let Visitor { tenant, model, .. } = &self.visitor;
        let mut predictor = self.gate.predictor.lock();
        predictor.learn(*tenant, model, None, output);
    }

    fn tokens(&self, output: u32) -> Tokens {
        let input = self.visitor.input;
        Tokens { input, output }
    }

    fn fault(&self, end: CallEnd) -> Fault {
        classify(end, self.visitor.credential)
    }

    fn tell(&mut self, fault: Fault, retry_after: Option<Duration>) {
        let Some(guarded) = self.guarded.take() else {
            return;
        };
        let now = self.gate.clock.elapsed();
        let chance = match fault.will_recur() {
            true => self.entropy.next_u64(),
            false => 0,
        };
        let mut breakers = self.gate.breakers.lock();
        breakers.report(guarded, fault, retry_after, now, chance);
        drop(breakers);
        if fault != Fault::None {
            self.gate.learn(Feedback::Ended(fault));
        }
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        self.tell(Fault::Unknown, None);
    }
}
