//! What a page is answered with, and the headers that every answer has.

use axum::body::Body;
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderName, LOCATION, REFERRER_POLICY,
    SET_COOKIE, STRICT_TRANSPORT_SECURITY, X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use maud::Markup;

use super::cookies::Transport;
use super::live::Events;
use crate::api::ProblemView;

/// Nothing from elsewhere, nothing inline, nobody around it.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; \
    connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'";
/// A year, once somebody came by TLS.
const STRICT_TRANSPORT: &str = "max-age=31536000";

/// What a handler gives back.
#[derive(Debug)]
pub(super) enum Shown {
    /// A page, whole.
    Page(Markup),
    /// A part of a page, for a script that puts it in place.
    Part(Markup),
    /// What changes, as it does.
    Events(Events),
    /// What the admin API answers, to be kept as a file.
    File(Response),
    /// Elsewhere: what was asked for is done.
    Elsewhere(String),
}

/// Why a page is not shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum PageError {
    /// Nobody is signed in, or not any more.
    SignedOut,
    /// Absent, or somebody else's.
    NotFound,
    /// The visitor's role does not allow it.
    Forbidden,
    /// The form is not one that was given to this visitor.
    ForeignForm,
    /// It is wrong, or does not fit: what the admin API says of it.
    Refused {
        /// With which status.
        status: StatusCode,
        /// What is wrong, and what would be right.
        message: String,
        /// Of a configuration, everything that is wrong.
        details: Vec<ProblemView>,
    },
}

impl PageError {
    /// What was sent is wrong.
    pub(super) fn wrong(message: impl Into<String>) -> Self {
        Self::Refused {
            status: StatusCode::BAD_REQUEST,
            message: message.into(),
            details: Vec::new(),
        }
    }

    pub(super) const fn status(&self) -> StatusCode {
        match self {
            Self::SignedOut => StatusCode::UNAUTHORIZED,
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::Forbidden | Self::ForeignForm => StatusCode::FORBIDDEN,
            Self::Refused { status, .. } => *status,
        }
    }

    /// What it is called, and what to do.
    pub(super) fn texts(&self) -> (&'static str, String) {
        match self {
            Self::SignedOut => ("Signed out", "Sign in to go on.".to_owned()),
            Self::NotFound => (
                "There is nothing here",
                "What you look for is not here, or not yours.".to_owned(),
            ),
            Self::Forbidden => (
                "Not allowed",
                "Your role does not allow this. An operator's does.".to_owned(),
            ),
            Self::ForeignForm => (
                "Nothing was changed",
                "This form is too old, or comes from elsewhere. Go back, load the page anew and \
                 try again."
                    .to_owned(),
            ),
            Self::Refused { message, .. } => ("Nothing was changed", message.clone()),
        }
    }
}

/// A page with this status.
pub(super) fn html(status: StatusCode, markup: Markup) -> Response {
    let kind = HeaderValue::from_static("text/html; charset=utf-8");
    (status, [(CONTENT_TYPE, kind)], markup.into_string()).into_response()
}

/// A stream of server-sent events. Proxies that gather answers are asked not to.
pub(super) fn events(events: Events) -> Response {
    let kind = HeaderValue::from_static("text/event-stream");
    let unbuffered = (
        HeaderName::from_static("x-accel-buffering"),
        HeaderValue::from_static("no"),
    );
    ([(CONTENT_TYPE, kind), unbuffered], Body::new(events)).into_response()
}

/// To another page, by a GET.
pub(super) fn redirect(to: &str) -> Response {
    let Ok(to) = HeaderValue::try_from(to) else {
        return StatusCode::NOT_FOUND.into_response();
    };
    (StatusCode::SEE_OTHER, [(LOCATION, to)]).into_response()
}

/// Adds a cookie's header.
pub(super) fn with_cookie(mut response: Response, cookie: HeaderValue) -> Response {
    response.headers_mut().append(SET_COOKIE, cookie);
    response
}

/// Adds what every answer has. A page is kept nowhere; what never changes may be.
pub(super) fn harden(response: &mut Response, transport: Transport) {
    let headers: &mut HeaderMap = response.headers_mut();
    let fixed = [
        (CONTENT_SECURITY_POLICY, POLICY),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (X_FRAME_OPTIONS, "DENY"),
        (REFERRER_POLICY, "same-origin"),
        (
            HeaderName::from_static("cross-origin-opener-policy"),
            "same-origin",
        ),
        (
            HeaderName::from_static("cross-origin-resource-policy"),
            "same-origin",
        ),
        (
            HeaderName::from_static("permissions-policy"),
            "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
        ),
    ];
    for (name, value) in fixed {
        headers.insert(name, HeaderValue::from_static(value));
    }
    if transport == Transport::Tls {
        let strict = HeaderValue::from_static(STRICT_TRANSPORT);
        headers.insert(STRICT_TRANSPORT_SECURITY, strict);
    }
    headers
        .entry(CACHE_CONTROL)
        .or_insert(HeaderValue::from_static("no-store"));
}
