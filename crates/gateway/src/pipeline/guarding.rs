//! The tenant's guardrails of a call. Without any this is one look at a field that is empty.

use std::sync::Arc;
use std::time::Duration;

use base::ModelName;
use models::{Envelope, InvalidRequest, Operation};

use super::hop::Hops;
use super::resolve::Inside;
use super::session::Purpose;
use super::trail::Trail;
use crate::inspect::{GuardSet, Inspector, Queue};
use crate::refusal::Refusal;

/// 10 s: the slowest check looks through tens of megabytes in that time.
const INSPECTION_WAIT_MAX: Duration = Duration::from_secs(10);

impl Inside {
    /// The guardrails that apply to a call, if any does.
    pub(super) fn inspector(
        &self,
        purpose: &Purpose,
        model: &ModelName,
    ) -> Result<Option<Box<Inspector>>, Refusal> {
        let Some(guardrails) = &self.tenant.guardrails else {
            return Ok(None);
        };
        let set = {
            let mut kept = self.runtime.guards.lock();
            match &*kept {
                // What is held here is nobody else's address.
                Some((of, set)) if Arc::ptr_eq(of, guardrails) => Arc::clone(set),
                _ => {
                    let set = Arc::new(GuardSet::compile(guardrails).map_err(|refused| {
                        for (guardrail, error) in refused {
                            tracing::error!(%guardrail, %error, tenant = %self.tenant.name, "a guardrail cannot be used");
                        }
                        broken_guardrail()
                    })?);
                    *kept = Some((Arc::clone(guardrails), Arc::clone(&set)));
                    set
                }
            }
        };
        Ok(set.for_call(&purpose.feature, model).map(Box::new))
    }

    /// Where a call waits before its texts are looked through, for so long at most.
    pub(super) fn inspection_queue(&self, patience: Duration) -> Queue<'_> {
        Queue {
            tenant: &self.runtime.inspecting,
            all: &self.shared.inspecting,
            patience,
        }
    }

    /// Looks through what the client sends. Returns the body that goes on, if it is another.
    pub(super) async fn inspect(
        &self,
        inspector: &mut Inspector,
        call: (Operation, &Envelope),
        hops: Option<&Hops>,
        trail: &mut Trail,
    ) -> Result<Option<bytes::Bytes>, Refusal> {
        let (operation, envelope) = call;
        let queue = self.inspection_queue(INSPECTION_WAIT_MAX);
        let inspected = inspector.request(operation, envelope, hops, &queue).await;
        trail.guarded = inspector.noted;
        inspected
    }
}

/// Publication checks them: it was another version of the gateway that took this one.
fn broken_guardrail() -> Refusal {
    Refusal::Invalid(InvalidRequest::new(
        "one of the tenant's guardrails cannot be used; its administrator has to mend it",
        "guardrail",
        "invalid_configuration",
    ))
}
