//! From the route table to an axum router: authentication and authorisation are part of the
//! matched route, and no handler is reached without them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::rejection::RawPathParamsRejection;
use axum::extract::{RawPathParams, Request};
use axum::http::HeaderMap;
use axum::http::header::{CONTENT_LENGTH, IF_MATCH};
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodFilter, MethodRouter};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};

use crate::Control;
use crate::caller::admit;
use crate::endpoint::{Endpoint, RawCall, Reach, Reading, Verb};
use crate::error::ApiError;

/// 30 s: 16 MiB arrive in that over 5 Mbit/s.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);
/// 5 s: a person waits no longer; a program is told to come back.
const QUEUE_TIMEOUT: Duration = Duration::from_secs(5);
/// 300 s: re-encrypting the largest tenant's file, or verifying a long ledger.
const CALL_TIMEOUT: Duration = Duration::from_secs(300);
/// The header in which an operator says why, for the record.
const REASON: &str = "partywall-reason";

/// The router of these endpoints.
pub(crate) fn router(control: &Arc<Control>, endpoints: Vec<Endpoint>) -> Router {
    let mut by_path: BTreeMap<String, MethodRouter> = BTreeMap::new();
    for endpoint in endpoints {
        let (path, filter) = (endpoint.path.clone(), filter(endpoint.verb));
        let (control, endpoint) = (Arc::clone(control), Arc::new(endpoint));
        let handler = move |params: Result<RawPathParams, RawPathParamsRejection>,
                            request: Request| {
            answer(Arc::clone(&control), Arc::clone(&endpoint), params, request)
        };
        let methods = by_path.remove(&path).unwrap_or_default();
        by_path.insert(path, methods.on(filter, handler));
    }
    let router = by_path
        .into_iter()
        .fold(Router::new(), |router, (path, methods)| {
            router.route(&path, methods.fallback(|| async { ApiError::NotFound }))
        });
    router.fallback(|| async { ApiError::NotFound })
}

fn filter(verb: Verb) -> MethodFilter {
    match verb {
        Verb::Get => MethodFilter::GET,
        Verb::Post => MethodFilter::POST,
        Verb::Put => MethodFilter::PUT,
        Verb::Delete => MethodFilter::DELETE,
    }
}

async fn answer(
    control: Arc<Control>,
    endpoint: Arc<Endpoint>,
    params: Result<RawPathParams, RawPathParamsRejection>,
    request: Request,
) -> Response {
    let answering = Box::pin(call(control, endpoint, params, request));
    match tokio::time::timeout(CALL_TIMEOUT, answering).await {
        Ok(Ok(response)) => response,
        Ok(Err(refused)) => refused.into_response(),
        Err(_) => ApiError::Busy.into_response(),
    }
}

async fn call(
    control: Arc<Control>,
    endpoint: Arc<Endpoint>,
    params: Result<RawPathParams, RawPathParamsRejection>,
    request: Request,
) -> Result<Response, ApiError> {
    let (parts, body) = request.into_parts();
    // A path that is not text names nothing.
    let params = params.map_err(|_| ApiError::NotFound)?;
    let params: Vec<(String, String)> = params
        .iter()
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    let tenant_name = params
        .iter()
        .find(|(name, _)| name == "tenant")
        .map(|(_, value)| &**value);
    let snapshot = control.publisher.current();
    let (caller, tenant) = admit(&control, &snapshot, endpoint.reach, tenant_name, &parts)?;
    // Probes must answer also when everything else waits.
    let _place = match endpoint.reach {
        Reach::Public => None,
        _ => Some(control.gates.enter(endpoint.load(), QUEUE_TIMEOUT).await?),
    };
    let (body, archive) = match endpoint.reading {
        Reading::Whole => {
            let whole = read_body(&parts.headers, body, endpoint.body_bytes_max).await?;
            (whole, None)
        }
        Reading::Archive => (Bytes::new(), Some(body)),
    };
    let raw = RawCall {
        caller,
        snapshot,
        tenant,
        operation_id: endpoint.operation_id.as_str().into(),
        query: parts.uri.query().unwrap_or_default().to_owned(),
        if_match: header(&parts, IF_MATCH.as_str())?,
        reason: header(&parts, REASON)?,
        params,
        presented: parts.headers,
        body,
        archive,
    };
    (endpoint.handler)(Arc::clone(&control), raw).await
}

fn header(parts: &Parts, name: &str) -> Result<Option<String>, ApiError> {
    let Some(value) = parts.headers.get(name) else {
        return Ok(None);
    };
    let text = value
        .to_str()
        .map_err(|_| ApiError::of(name, "the header is not plain ASCII"))?;
    Ok(Some(text.to_owned()))
}

async fn read_body(headers: &HeaderMap, body: Body, bytes_max: usize) -> Result<Bytes, ApiError> {
    let announced = headers
        .get(CONTENT_LENGTH)
        .and_then(|length| length.to_str().ok()?.parse().ok());
    if announced.is_some_and(|announced: usize| announced > bytes_max) {
        return Err(ApiError::TooLarge { bytes_max });
    }
    let collecting = Limited::new(body, bytes_max).collect();
    match tokio::time::timeout(BODY_TIMEOUT, collecting).await {
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(ApiError::TooLarge { bytes_max }),
        Ok(Err(_)) => Err(ApiError::invalid("the body did not arrive whole")),
        Err(_) => Err(ApiError::invalid(
            "the body took longer than 30 s to arrive",
        )),
    }
}
