//! The life of a request, on one screen.
//!
//! Each arrow is a consuming method; what it returns has private fields and is made in that
//! stage's file alone, so that any other order does not compile:
//!
//! ```text
//! Arrived ─authenticate─▶ Authenticated ─resolve_tenant─▶ Resolved ─derive_session─▶ Session
//!         ─compile_context─▶ Compiled ─admit─▶ Admitted ─dispatch─▶ Dispatched ─meter─▶ answer
//! ```

mod adapted;
mod admit;
mod affinity;
mod again;
mod answer;
mod anthropic;
mod arrive;
mod asking;
mod attempt;
mod authenticate;
mod bodies;
mod body;
mod caching;
mod compile;
mod conversations;
mod dispatch;
mod flow;
mod guarding;
mod hop;
mod idempotency;
mod kept_headers;
mod meaning;
mod merge;
mod meter;
mod metered_stream;
mod page;
mod prompting;
mod resolve;
mod responses;
mod retrieval;
mod served;
mod session;
mod single_flight;
mod stored;
mod tally;
mod terms;
mod token;
mod trail;
mod whole_answer;

use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;

use http::{Request, Response};
use hyper::body::Incoming;

use crate::refusal::Refusal;
use crate::server::ClientConnection;
use crate::shared::Shared;

pub use answer::AnswerBody;
pub(crate) use bodies::{BODIES_WAITING_MAX, PendingBodies};
pub(crate) use prompting::Compiled as CompiledPrompts;
pub(crate) use responses::PendingResponses;
pub(crate) use terms::TermsCache;

use arrive::{Arrived, Routed};
use caching::FromCache;
use dispatch::Undispatched;
use trail::Trail;

/// Answers one request. Errors are answers too: nothing is left to the server.
pub(crate) async fn serve(
    shared: Arc<Shared>,
    request: Request<Incoming>,
    connection: Arc<ClientConnection>,
) -> Result<Response<AnswerBody>, Infallible> {
    let mut trail = Trail::begin(&shared);
    let answer = match Arrived::new(shared, request, connection) {
        Ok(arrived) => Box::pin(run(arrived, &mut trail)).await,
        Err(refusal) => Err(refusal),
    };
    Ok(answer.unwrap_or_else(|refusal| trail.refuse(&refusal)))
}

/// The seven stages.
///
/// Futures of kilobytes are pinned where they stand: an `.await` would copy them there first.
async fn run(arrived: Box<Arrived>, trail: &mut Trail) -> Result<Response<AnswerBody>, Refusal> {
    let arrived = match arrived.answer_directly(trail).await? {
        Routed::Answered(answer) => return Ok(answer),
        Routed::Call(call) => call,
    };
    trail.begin_call();
    let authenticated = arrived.authenticate()?;
    let tenant = authenticated.tenant();
    trail.begin_span(authenticated.target, &authenticated.arrived, tenant);
    let resolved = authenticated.resolve_tenant(trail)?;
    let session = resolved.derive_session(trail)?;
    let mut compiled = pin!(session.compile_context(trail)).await?;
    if let Some(replay) = compiled.begin_idempotent(trail).await? {
        return Ok(replay);
    }
    loop {
        let admitted = pin!(compiled.admit(trail)).await?;
        let from_cache = pin!(admitted.answer_kept(trail)).await?;
        let admitted = match from_cache {
            FromCache::Answered(answer) => return Ok(answer),
            FromCache::Missed(admitted) => admitted,
        };
        let dispatched = pin!(admitted.dispatch(trail)).await;
        match dispatched {
            Ok(dispatched) => return pin!(dispatched.meter(trail)).await,
            Err(Undispatched::TryNext(next)) => compiled = next,
            Err(Undispatched::Refused(refusal)) => return Err(refusal),
        }
    }
}
