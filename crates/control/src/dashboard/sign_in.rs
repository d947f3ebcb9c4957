//! The ways in, by a key or by a link, and the way out.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::response::Response;
use maud::{Markup, html};
use zeroize::Zeroizing;

use super::answer::{self, PageError, Shown, harden, redirect, with_cookie};
use super::ask::segment;
use super::cookies::{Cookie, Transport};
use super::layout::{self, hidden};
use super::lockers::Token;
use super::page::{FORM_BYTES_MAX, FORM_SECRET, Fields, House, Visit, present, read_form};
use crate::caller::{Visitor, recognise};
use crate::gates::Load;
use crate::publisher::{Act, blocking};

/// 5 s: a person waits no longer.
const PATIENCE: Duration = Duration::from_secs(5);

/// A page that is open to everybody.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// The form for a key.
    KeyForm,
    /// The key.
    Key,
    /// The form of a link: whatever looks at links does not use them up.
    LinkForm,
    /// The link.
    Link,
}

/// The sign-in page, and where to go on afterwards.
pub(super) fn address(next: Option<&str>) -> String {
    match next.filter(|next| is_ours(next) && *next != "/dashboard") {
        Some(next) => format!("/dashboard/sign-in?next={}", segment(next)),
        None => "/dashboard/sign-in".to_owned(),
    }
}

/// Whether an address is one of our pages: nobody is sent elsewhere.
pub(super) fn is_ours(address: &str) -> bool {
    let rest = address.strip_prefix("/dashboard");
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['/', '?']))
        && address
            .bytes()
            .all(|byte| byte.is_ascii_graphic() && byte != b'\\')
        && !address.contains("//")
}

/// Answers one of the open pages.
pub(super) async fn answer(house: Arc<House>, way: Way, request: Request) -> Response {
    let transport = Transport::of(request.headers());
    let (parts, body) = request.into_parts();
    let query = Fields::parse(parts.uri.query().unwrap_or_default().as_bytes());
    let mut response = match way {
        Way::KeyForm => {
            let next = query.get("next").filter(|next| is_ours(next));
            form(&house, transport, StatusCode::OK, None, |secret| {
                key_page(&house, secret, next)
            })
        }
        Way::LinkForm => {
            let token = query.get("token").unwrap_or_default();
            form(&house, transport, StatusCode::OK, None, |secret| {
                link_form(secret, token)
            })
        }
        Way::Key | Way::Link => match enter(&house, way, parts, body).await {
            Ok((token, next)) => {
                let response = redirect(&next);
                let response = with_cookie(response, Cookie::Form.remove(transport));
                with_cookie(response, Cookie::Session.set(&token, transport))
            }
            Err(error) => refused_sign_in(&house, transport, &error),
        },
    };
    harden(&mut response, transport);
    response
}

/// The sign-in page, and why it did not work.
pub(super) fn refused_sign_in(house: &House, transport: Transport, error: &PageError) -> Response {
    let (_, message) = error.texts();
    form(house, transport, error.status(), Some(&message), |secret| {
        key_page(house, secret, None)
    })
}

/// A page with a form that this browser alone can send.
fn form(
    house: &House,
    transport: Transport,
    status: StatusCode,
    problem: Option<&str>,
    form: impl FnOnce(&str) -> Markup,
) -> Response {
    let token = Token::generate(house.control.publisher.mint().entropy);
    let main = html! {
        h1 { "Partywall" }
        @if let Some(problem) = problem {
            p.problem role="alert" { (problem) }
        }
        (form(&token.form_secret()))
    };
    let response = answer::html(status, layout::outside("Sign in", &main));
    with_cookie(response, Cookie::Form.set(&token, transport))
}

/// The form for a key, and the way to the identity provider, if there is one.
fn key_page(house: &House, secret: &str, next: Option<&str>) -> Markup {
    let start = next.map_or("/dashboard/oidc/start".to_owned(), |next| {
        format!("/dashboard/oidc/start?next={}", segment(next))
    });
    html! {
        @if house.control.dashboard.oidc.is_some() {
            div.card {
                a.button.primary href=(start) { "Sign in with your identity provider" }
                p.note {
                    "Signed out here? " a href="/dashboard/oidc/out" { "Sign out there, too" } "."
                }
            }
        }
        (key_form(secret, next))
    }
}

fn key_form(secret: &str, next: Option<&str>) -> Markup {
    html! {
        form.card method="post" action="/dashboard/sign-in" {
            (hidden(FORM_SECRET, secret))
            @if let Some(next) = next { (hidden("next", next)) }
            label for="key" { "Key" }
            input #key name="key" type="password" required autocomplete="current-password"
                autofocus spellcheck="false" aria-describedby="key-note";
            p.note #key-note {
                "The key of an operator, or of a tenant's administrator. It stays in this \
                 browser's session: for twelve hours at most, and for one without a click."
            }
            button.primary type="submit" { "Sign in" }
        }
        p.note {
            "Or have a link made that works once: " code { "partywall dashboard link" }
        }
    }
}

fn link_form(secret: &str, token: &str) -> Markup {
    html! {
        form.card method="post" action="/dashboard/link" {
            (hidden(FORM_SECRET, secret))
            (hidden("token", token))
            p { "This link signs you in, once." }
            button.primary type="submit" autofocus { "Sign in" }
        }
    }
}

/// Lets somebody in, by a key or by a link.
async fn enter(
    house: &House,
    way: Way,
    mut parts: Parts,
    body: Body,
) -> Result<(Token, String), PageError> {
    let control = &house.control;
    let busy = || PageError::wrong("too many sign in at one time: try again");
    let place = control.gates.enter(Load::Small, PATIENCE).await;
    let _place = place.map_err(|_| busy())?;
    let given_out = Cookie::Form.read(&parts.headers);
    let given_out = given_out.ok_or(PageError::ForeignForm)?;
    let form = read_form(
        &parts.headers,
        body,
        &given_out.form_secret(),
        FORM_BYTES_MAX,
    )
    .await?;
    let now = control.clock.elapsed();
    let credential = match way {
        Way::Link | Way::LinkForm => {
            let token = form.get("token").and_then(Token::parse);
            token.and_then(|token| control.dashboard.links.take(&token, now))
        }
        Way::Key | Way::KeyForm => form.get("key").map(|key| Zeroizing::new(key.to_owned())),
    };
    // One answer for all: it is no oracle.
    let stranger = || PageError::Refused {
        status: StatusCode::UNAUTHORIZED,
        message: match way {
            Way::Link | Way::LinkForm => "This link is used up, too old, or not good any more.",
            Way::Key | Way::KeyForm => {
                "This does not sign in. It takes a good key of an operator, or of a tenant's \
                 administrator."
            }
        }
        .to_owned(),
        details: Vec::new(),
    };
    let credential = credential.ok_or_else(stranger)?;
    present(&mut parts, &credential).ok_or_else(stranger)?;
    let snapshot = control.publisher.current();
    let visitor = recognise(control, &snapshot, &parts).ok_or_else(stranger)?;
    let token = admitted(house, &visitor, &credential, &parts).await?;
    let next = form.get("next").filter(|next| is_ours(next));
    Ok((token, next.unwrap_or("/dashboard").to_owned()))
}

/// Puts on record who comes in, and begins the session, in place of one that the browser has.
pub(super) async fn admitted(
    house: &House,
    visitor: &Visitor,
    credential: &str,
    parts: &Parts,
) -> Result<Token, PageError> {
    record(house, visitor).await?;
    let control = &house.control;
    let sessions = &control.dashboard.sessions;
    if let Some(former) = Cookie::Session.read(&parts.headers) {
        sessions.remove(&former);
    }
    let entropy = control.publisher.mint().entropy;
    let now = control.clock.elapsed();
    Ok(sessions.put(visitor, credential, entropy, now))
}

/// Who came in is on record before the door opens.
async fn record(house: &House, visitor: &Visitor) -> Result<(), PageError> {
    let actor = match visitor {
        Visitor::Platform(name, _) => format!("operator:{name}"),
        Visitor::TenantAdmin(tenant, _, key) => format!("key:{tenant}/{key}"),
    };
    let act = Act::new(actor, "sign_in", "dashboard", None);
    let publisher = Arc::clone(&house.control.publisher);
    let recorded = match act {
        Ok(act) => blocking(move || publisher.record_act(&act)).await,
        Err(error) => Err(error),
    };
    recorded.map_err(|error| {
        tracing::error!(%error, "a sign-in could not be put on record");
        PageError::Refused {
            status: StatusCode::SERVICE_UNAVAILABLE,
            message: "Signing in cannot be put on record now: try again.".to_owned(),
            details: Vec::new(),
        }
    })
}

/// Ends the session.
pub(super) async fn sign_out(visit: Visit) -> Result<Shown, PageError> {
    visit.sign_out();
    Err(PageError::SignedOut)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_is_sent_elsewhere() {
        for ours in ["/dashboard", "/dashboard/fleet?name=a", "/dashboard?x"] {
            assert!(is_ours(ours), "{ours}");
        }
        for theirs in [
            "https://evil.example",
            "//evil.example",
            "/dashboardx",
            "/dashboard//evil.example",
            "/dashboard/\\evil.example",
            "/dashboard/\r\nset-cookie: x",
            "/admin/v1/tenants",
            "",
        ] {
            assert!(!is_ours(theirs), "{theirs}");
            assert_eq!(address(Some(theirs)), "/dashboard/sign-in");
        }
        let to = address(Some("/dashboard/fleet?name=a&tier=b"));
        assert_eq!(
            to,
            "/dashboard/sign-in?next=%2Fdashboard%2Ffleet%3Fname%3Da%26tier%3Db"
        );
    }
}
