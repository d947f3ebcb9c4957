//! Stage 3, derive session: which feature, conversation and turn the call belongs to. Names mean
//! something inside the tenant alone.

use std::sync::{Arc, LazyLock};

use base::Name;
use http::HeaderMap;
use http::header::HeaderName;
use ledger::SessionName;
use models::{InvalidRequest, Operation};
use tenancy::catalogue::Priority;

use super::arrive::Arrived;
use super::resolve::{Inside, ResolvedCall};
use super::trail::Trail;
use crate::refusal::Refusal;

/// What all headers begin with that a client says something to the gateway by.
const OURS: &str = "partywall-";
const FEATURE: HeaderName = HeaderName::from_static("partywall-feature");
const SESSION: HeaderName = HeaderName::from_static("partywall-session");
const TURN: HeaderName = HeaderName::from_static("partywall-turn");
const PRIORITY: HeaderName = HeaderName::from_static("partywall-priority");

/// The feature of calls that name none, where the key has no default either.
static UNNAMED_FEATURE: LazyLock<Name> =
    LazyLock::new(|| "default".parse().expect("the constant is a name"));

/// A call whose place in the tenant's product is known.
pub(super) struct Session {
    _made_here: (),
    pub(super) arrived: Box<Arrived>,
    pub(super) operation: Operation,
    pub(super) inside: Arc<Inside>,
    pub(super) purpose: Purpose,
}

/// What a call is for.
#[derive(Debug, Clone)]
pub(super) struct Purpose {
    pub(super) feature: Name,
    pub(super) session: Option<SessionName>,
    pub(super) turn: Option<SessionName>,
    /// How urgent it says it is.
    pub(super) priority: Option<Priority>,
    /// Which of the tenant's prompts it has, and which version, once that is found.
    pub(super) prompt: Option<Box<str>>,
}

impl ResolvedCall {
    /// Reads the `partywall-…` headers.
    pub(super) fn derive_session(self, trail: &mut Trail) -> Result<Session, Refusal> {
        let Self {
            arrived,
            target: operation,
            inside,
            ..
        } = self;
        // Most calls have none of these headers, and need not look for each.
        let (headers, none) = (&arrived.head.headers, HeaderMap::new());
        let has_ours = headers.keys().any(|name| name.as_str().starts_with(OURS));
        let headers = if has_ours { headers } else { &none };
        let grant = inside.scope.grant();
        let feature = match header::<Name>(headers, &FEATURE)? {
            Some(named) if grant.may_name(&named) => named,
            Some(_) => return Err(Refusal::Forbidden("the key may not name this feature")),
            None => match grant.default_feature() {
                Some(default) => default.clone(),
                None => UNNAMED_FEATURE.clone(),
            },
        };
        let spec = &inside.tenant.spec;
        if spec.requires_known_feature && !inside.tenant.features.contains_key(&feature) {
            return Err(invalid(
                &FEATURE,
                "name a declared feature in `partywall-feature`",
            ));
        }
        let session = header(headers, &SESSION)?;
        let turn = header(headers, &TURN)?;
        if turn.is_some() && session.is_none() {
            return Err(invalid(&TURN, "`partywall-turn` needs `partywall-session`"));
        }
        let priority = header(headers, &PRIORITY)?;
        trail.feature = Some(feature.clone());
        let purpose = Purpose {
            feature,
            session,
            turn,
            priority,
            prompt: None,
        };
        Ok(Session {
            _made_here: (),
            arrived,
            operation,
            inside,
            purpose,
        })
    }
}

/// The one value of a header, parsed.
fn header<T>(headers: &HeaderMap, name: &HeaderName) -> Result<Option<T>, Refusal>
where
    T: std::str::FromStr<Err: std::fmt::Display>,
{
    let mut values = headers.get_all(name).iter();
    let Some(value) = values.next() else {
        return Ok(None);
    };
    if values.next().is_some() {
        return Err(invalid(name, "the header is sent once"));
    }
    let text = value
        .to_str()
        .map_err(|_| invalid(name, "the header is not ASCII"))?;
    text.parse()
        .map(Some)
        .map_err(|error: T::Err| invalid(name, &error.to_string()))
}

fn invalid(name: &HeaderName, message: &str) -> Refusal {
    InvalidRequest::new(
        format!("{name}: {message}"),
        name.as_str(),
        "invalid_header",
    )
    .into()
}
