// What `src/pipeline/mod.rs` declares: the stages, for a case to misuse.

#[path = "../../../src/pipeline/adapted.rs"]
mod adapted;
#[path = "../../../src/pipeline/admit.rs"]
mod admit;
#[path = "../../../src/pipeline/affinity.rs"]
mod affinity;
#[path = "../../../src/pipeline/again.rs"]
mod again;
#[path = "../../../src/pipeline/answer.rs"]
mod answer;
#[path = "../../../src/pipeline/anthropic.rs"]
mod anthropic;
#[path = "../../../src/pipeline/arrive.rs"]
mod arrive;
#[path = "../../../src/pipeline/asking.rs"]
mod asking;
#[path = "../../../src/pipeline/attempt.rs"]
mod attempt;
#[path = "../../../src/pipeline/authenticate.rs"]
mod authenticate;
#[path = "../../../src/pipeline/bodies.rs"]
mod bodies;
#[path = "../../../src/pipeline/body.rs"]
mod body;
#[path = "../../../src/pipeline/caching.rs"]
mod caching;
#[path = "../../../src/pipeline/compile/mod.rs"]
mod compile;
#[path = "../../../src/pipeline/conversations.rs"]
mod conversations;
#[path = "../../../src/pipeline/dispatch.rs"]
mod dispatch;
#[path = "../../../src/pipeline/flow.rs"]
mod flow;
#[path = "../../../src/pipeline/guarding.rs"]
mod guarding;
#[path = "../../../src/pipeline/hop.rs"]
mod hop;
#[path = "../../../src/pipeline/idempotency.rs"]
mod idempotency;
#[path = "../../../src/pipeline/kept_headers.rs"]
mod kept_headers;
#[path = "../../../src/pipeline/meaning.rs"]
mod meaning;
#[path = "../../../src/pipeline/merge.rs"]
mod merge;
#[path = "../../../src/pipeline/meter.rs"]
mod meter;
#[path = "../../../src/pipeline/metered_stream.rs"]
mod metered_stream;
#[path = "../../../src/pipeline/page.rs"]
mod page;
#[path = "../../../src/pipeline/prompting.rs"]
mod prompting;
#[path = "../../../src/pipeline/resolve.rs"]
mod resolve;
#[path = "../../../src/pipeline/responses.rs"]
mod responses;
#[path = "../../../src/pipeline/retrieval.rs"]
mod retrieval;
#[path = "../../../src/pipeline/served.rs"]
mod served;
#[path = "../../../src/pipeline/session.rs"]
mod session;
#[path = "../../../src/pipeline/single_flight.rs"]
mod single_flight;
#[path = "../../../src/pipeline/stored.rs"]
mod stored;
#[path = "../../../src/pipeline/tally.rs"]
mod tally;
#[path = "../../../src/pipeline/terms.rs"]
mod terms;
#[path = "../../../src/pipeline/token.rs"]
mod token;
#[path = "../../../src/pipeline/trail.rs"]
mod trail;
#[path = "../../../src/pipeline/whole_answer.rs"]
mod whole_answer;

use std::convert::Infallible;
use std::sync::Arc;

use http::{Request, Response};
use hyper::body::Incoming;

use crate::server::ClientConnection;
use crate::shared::Shared;
pub use answer::AnswerBody;
pub(crate) use prompting::Compiled as CompiledPrompts;
pub(crate) use bodies::{BODIES_WAITING_MAX, PendingBodies};
pub(crate) use responses::PendingResponses;
pub(crate) use terms::TermsCache;

use admit::Admitted;
use arrive::ArrivedCall;
use attempt::Attempt;
use authenticate::Authenticated;
use compile::Compiled;
use dispatch::Dispatched;
use resolve::ResolvedCall;
use session::Session;
use trail::Trail;

pub(crate) async fn serve(
    _: Arc<Shared>,
    _: Request<Incoming>,
    _: Arc<ClientConnection>,
) -> Result<Response<AnswerBody>, Infallible> {
    std::future::pending().await
}
