//! One page: its path, who may see it, and its handler, together; and the way to it. As with the
//! admin API, authentication and authorisation are part of the matched route, and no handler is
//! reached without them. A handler then asks the admin API, as its visitor, for whatever it shows
//! and does: a page can do nothing that its visitor's key could not.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::Response;
use http_body_util::{BodyExt as _, Limited};
use subtle::ConstantTimeEq as _;
use tenancy::{Permission, Role, Snapshot, TenantEntry};
use zeroize::Zeroizing;

use super::answer::{PageError, Shown, events, harden, html, redirect, with_cookie};
use super::ask::segment;
use super::cookies::{Cookie, Transport};
use super::layout;
use super::lockers::Token;
use crate::Control;
use crate::caller::{Visitor, admit, recognise};
use crate::endpoint::{Reach, Verb};
use crate::error::ApiError;

/// 256 KiB: a form with a long prompt in it.
pub(super) const FORM_BYTES_MAX: usize = 256 << 10;
/// 10 s: a form comes in one piece.
const FORM_TIMEOUT: Duration = Duration::from_secs(10);
/// 100: the longest form has some twenty fields.
const FIELDS_MAX: usize = 100;
/// The field in which a form proves that we gave it to this visitor.
pub(super) const FORM_SECRET: &str = "form_secret";

/// What a part says that asks for itself anew.
const BY_ITSELF: &str = "partywall-by-itself";

/// Who may see a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Door {
    /// Whoever is signed in.
    SignedIn,
    /// As an endpoint of the admin API with this reach.
    As(Reach),
}

/// A row of the table of pages.
pub(crate) struct PageRow {
    pub(crate) verb: Verb,
    pub(crate) path: &'static str,
    pub(crate) door: Door,
    /// The operations of the admin API that it does, of those that change something.
    #[cfg_attr(
        not(test),
        expect(dead_code, reason = "a test compares them with the API")
    )]
    pub(crate) does: &'static [&'static str],
    form_bytes_max: usize,
    handler: Handler,
}

impl PageRow {
    /// The same, and what it does.
    pub(super) fn doing(self, does: &'static [&'static str]) -> Self {
        Self { does, ..self }
    }

    /// The same, with forms of so many bytes.
    pub(super) fn with_form_of(self, form_bytes_max: usize) -> Self {
        Self {
            form_bytes_max,
            ..self
        }
    }
}

type Showing = Pin<Box<dyn Future<Output = Result<Shown, PageError>> + Send>>;
type Handler = Box<dyn Fn(Visit) -> Showing + Send + Sync>;

/// What all pages share.
pub(super) struct House {
    pub(super) control: Arc<Control>,
    /// The admin API.
    pub(super) api: Router,
}

/// A visit of a page by somebody who may see it.
pub(crate) struct Visit {
    pub(super) house: Arc<House>,
    pub(super) visitor: Visitor,
    /// The catalogue as it was when the visitor came.
    pub(super) snapshot: Arc<Snapshot>,
    tenant: Option<Arc<TenantEntry>>,
    pub(super) form_secret: String,
    params: Vec<(String, String)>,
    pub(super) query: Fields,
    pub(super) form: Fields,
    /// Whether a script asks for a part of the page.
    pub(super) wants_part: bool,
    /// With the visitor's credential in it.
    pub(super) parts: Parts,
    token: Token,
}

/// The fields of a query or of a form.
#[derive(Debug, Clone, Default)]
pub(super) struct Fields(Vec<(String, String)>);

impl Fields {
    pub(super) fn parse(encoded: &[u8]) -> Self {
        let pairs = url::form_urlencoded::parse(encoded).into_owned();
        Self(pairs.take(FIELDS_MAX).collect())
    }

    /// The value of a field; nothing, if it is absent or blank.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        let value = self.0.iter().find(|(key, _)| key == name);
        let value = value.map(|(_, value)| value.trim());
        value.filter(|value| !value.is_empty())
    }

    /// The same, or a sentence that says what is missing.
    pub(super) fn need(&self, name: &str, what: &str) -> Result<&str, PageError> {
        self.get(name)
            .ok_or_else(|| PageError::wrong(format!("{what} is missing: say it and send again")))
    }
}

/// A page, from its handler.
pub(super) fn page<F, S>(verb: Verb, path: &'static str, door: Door, handler: F) -> PageRow
where
    F: Fn(Visit) -> S + Send + Sync + 'static,
    S: Future<Output = Result<Shown, PageError>> + Send + 'static,
{
    PageRow {
        verb,
        path,
        door,
        does: &[],
        form_bytes_max: FORM_BYTES_MAX,
        handler: Box::new(move |visit| Box::pin(handler(visit))),
    }
}

impl Visit {
    /// The tenant in the path: it exists, and the visitor may see it.
    pub(super) fn tenant(&self) -> &Arc<TenantEntry> {
        self.tenant
            .as_ref()
            .expect("only pages with `{tenant}` in their path ask")
    }

    /// The tenant in the path, if the path has one.
    pub(super) fn tenant_if_any(&self) -> Option<&Arc<TenantEntry>> {
        self.tenant.as_ref()
    }

    /// A part of the path, decoded.
    pub(super) fn param(&self, name: &str) -> &str {
        let found = self.params.iter().find(|(key, _)| key == name);
        found
            .map(|(_, value)| value.as_str())
            .expect("the page's path has this part")
    }

    /// The cursor in the query, as the admin API takes it behind other parameters; nothing at the
    /// beginning.
    pub(super) fn at_cursor(&self) -> String {
        let cursor = self.query.get("cursor");
        cursor.map_or(String::new(), |cursor| {
            format!("&cursor={}", segment(cursor))
        })
    }

    /// Whether the visitor's role allows it: what it does not, is not offered.
    pub(super) fn may(&self, permission: Permission) -> bool {
        self.role().allows(permission)
    }

    pub(super) fn role(&self) -> Role {
        match &self.visitor {
            Visitor::Platform(_, role) => *role,
            Visitor::TenantAdmin(..) => Role::TenantAdmin,
        }
    }

    /// What listens on its own from now on.
    pub(super) fn into_listener(self) -> (Arc<House>, Token, Parts) {
        (self.house, self.token, self.parts)
    }

    /// Ends the visitor's session.
    pub(super) fn sign_out(&self) {
        self.house.control.dashboard.sessions.remove(&self.token);
    }
}

/// The parts of a path, decoded, by their names.
pub(super) type Params = Vec<(String, String)>;

/// Answers a request for a page. A path without parameters is not text.
pub(super) async fn answer(
    house: Arc<House>,
    row: Arc<PageRow>,
    params: Option<Params>,
    request: Request,
) -> Response {
    let transport = Transport::of(request.headers());
    let (parts, body) = request.into_parts();
    let came = Came {
        wants_part: parts.headers.contains_key("hx-request"),
        is_reading: row.verb == Verb::Get,
        address: parts
            .uri
            .path_and_query()
            .map(|it| it.as_str().to_owned())
            .unwrap_or_default(),
    };
    let mut response = match Box::pin(visit(house, &row, params, parts, body)).await {
        Ok(Shown::Page(markup) | Shown::Part(markup)) => html(StatusCode::OK, markup),
        Ok(Shown::Events(stream)) => events(stream),
        Ok(Shown::Elsewhere(to)) => redirect(&to),
        Ok(Shown::File(file)) => file,
        Err((PageError::SignedOut, _)) => came.sign_in(transport),
        Err((error, visitor)) => html(error.status(), layout::refused(&error, visitor.as_ref())),
    };
    harden(&mut response, transport);
    response
}

/// How somebody came who is not signed in.
struct Came {
    wants_part: bool,
    is_reading: bool,
    address: String,
}

impl Came {
    /// To the sign-in page, and back to where they wanted to be.
    fn sign_in(&self, transport: Transport) -> Response {
        let to = super::sign_in::address(self.is_reading.then_some(&self.address));
        let response = if self.wants_part {
            // A script would put the sign-in page inside this one.
            let mut response = html(
                StatusCode::UNAUTHORIZED,
                layout::refused(&PageError::SignedOut, None),
            );
            if let Ok(to) = HeaderValue::try_from(super::sign_in::address(None)) {
                response.headers_mut().insert("hx-redirect", to);
            }
            response
        } else {
            redirect(&to)
        };
        with_cookie(response, Cookie::Session.remove(transport))
    }
}

/// For pages that say no: who is told.
pub(super) struct Told {
    pub(super) visitor: Visitor,
    pub(super) form_secret: String,
}

type Refused = (PageError, Option<Told>);

async fn visit(
    house: Arc<House>,
    row: &PageRow,
    params: Option<Params>,
    mut parts: Parts,
    body: Body,
) -> Result<Shown, Refused> {
    let control = Arc::clone(&house.control);
    let token = Cookie::Session
        .read(&parts.headers)
        .ok_or((PageError::SignedOut, None))?;
    let snapshot = control.publisher.current();
    let visitor =
        enter(&control, &snapshot, &token, &mut parts).ok_or((PageError::SignedOut, None))?;
    let form_secret = token.form_secret();
    let told = |error: PageError| {
        let told = Told {
            visitor: visitor.clone(),
            form_secret: form_secret.clone(),
        };
        (error, Some(told))
    };
    // A path that is not text names nothing.
    let params = params.ok_or_else(|| told(PageError::NotFound))?;
    let tenant = match row.door {
        Door::SignedIn => None,
        Door::As(reach) => {
            let name = params.iter().find(|(name, _)| name == "tenant");
            let name = name.map(|(_, value)| &**value);
            let admitted = admit(&control, &snapshot, reach, name, &parts);
            admitted.map_err(|error| told(of_api(&error)))?.1
        }
    };
    let form = match row.verb {
        Verb::Get => Fields::default(),
        _ => read_form(&parts.headers, body, &form_secret, row.form_bytes_max)
            .await
            .map_err(told)?,
    };
    let visit = Visit {
        house,
        visitor: visitor.clone(),
        snapshot,
        tenant,
        form_secret: form_secret.clone(),
        params,
        query: Fields::parse(parts.uri.query().unwrap_or_default().as_bytes()),
        form,
        wants_part: parts.headers.contains_key("hx-request"),
        parts,
        token,
    };
    (row.handler)(visit).await.map_err(told)
}

/// Puts the credential that the cookie opens in place of whatever came with the request, and says
/// whose it is. One that is not good any more ends the session.
fn enter(
    control: &Control,
    snapshot: &Snapshot,
    token: &Token,
    parts: &mut Parts,
) -> Option<Visitor> {
    let sessions = &control.dashboard.sessions;
    let now = control.clock.elapsed();
    // A page that asks for its part anew by itself is nobody's click.
    let asks_itself = parts.headers.contains_key(BY_ITSELF);
    let credential = match asks_itself {
        true => sessions.peek(token, now)?,
        false => sessions.look(token, now)?,
    };
    present(parts, &credential)?;
    let visitor = recognise(control, snapshot, parts);
    if visitor.is_none() {
        sessions.remove(token);
    }
    visitor
}

/// Makes the request one with this credential, and no other.
pub(super) fn present(parts: &mut Parts, credential: &str) -> Option<()> {
    let text = Zeroizing::new(format!("Bearer {credential}"));
    let mut value = HeaderValue::try_from(&*text).ok()?;
    value.set_sensitive(true);
    parts.headers.remove("x-api-key");
    parts.headers.insert(AUTHORIZATION, value);
    Some(())
}

fn of_api(error: &ApiError) -> PageError {
    match error {
        ApiError::Unauthenticated => PageError::SignedOut,
        ApiError::Forbidden => PageError::Forbidden,
        _ => PageError::NotFound,
    }
}

/// Reads a form that repeats the secret which it was given out with.
pub(super) async fn read_form(
    headers: &HeaderMap,
    body: Body,
    form_secret: &str,
    bytes_max: usize,
) -> Result<Fields, PageError> {
    // Browsers say where a form comes from, and no page can make them lie.
    let site = headers.get("sec-fetch-site");
    if site.is_some_and(|site| site != "same-origin" && site != "none") {
        return Err(PageError::ForeignForm);
    }
    let collecting = Limited::new(body, bytes_max).collect();
    let collected = tokio::time::timeout(FORM_TIMEOUT, collecting).await;
    let Ok(Ok(collected)) = collected else {
        return Err(PageError::wrong("the form did not arrive, or is too long"));
    };
    let form = Fields::parse(&collected.to_bytes());
    let said = form.get(FORM_SECRET).unwrap_or_default();
    if bool::from(said.as_bytes().ct_eq(form_secret.as_bytes())) {
        Ok(form)
    } else {
        Err(PageError::ForeignForm)
    }
}
