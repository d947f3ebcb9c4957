//! The admin API, asked from inside the process by the visitor's own credential.

use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::http::header::{AUTHORIZATION, CONTENT_DISPOSITION, IF_MATCH};
use axum::http::{HeaderValue, Method, Request, StatusCode};
use axum::response::Response;
use bytes::Bytes;
use http_body_util::BodyExt as _;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::net::SocketAddr;
use tower_service::Service as _;

use super::answer::{PageError, Shown};
use super::page::Visit;
use crate::api::ErrorReply;
use crate::endpoint::Verb;

/// On record, this is why an operator looked into a tenant.
const REASON: &str = "dashboard";

impl Visit {
    /// Reads something.
    pub(super) async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, PageError> {
        self.ask(Method::GET, path, None, None).await
    }

    /// Does something.
    pub(super) async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, PageError> {
        self.ask(Method::POST, path, Some(to_json(body)?), None)
            .await
    }

    /// Puts a resource in place, if it is as the visitor saw it.
    pub(super) async fn put<T: DeserializeOwned>(
        &self,
        path: &str,
        spec: &Value,
        etag: Option<&str>,
    ) -> Result<T, PageError> {
        self.ask(Method::PUT, path, Some(spec.clone()), etag).await
    }

    /// Removes something.
    pub(super) async fn delete(&self, path: &str, etag: Option<&str>) -> Result<Value, PageError> {
        self.ask(Method::DELETE, path, None, etag).await
    }

    /// Does whatever it is, with the body that it takes.
    pub(super) async fn send(
        &self,
        verb: Verb,
        path: &str,
        body: Option<Value>,
    ) -> Result<Value, PageError> {
        let method = match verb {
            Verb::Get => Method::GET,
            Verb::Post => Method::POST,
            Verb::Put => Method::PUT,
            Verb::Delete => Method::DELETE,
        };
        self.ask(method, path, body, None).await
    }

    /// Hands an answer on as it comes, as a file of this name.
    pub(super) async fn download(&self, path: &str, name: &str) -> Result<Shown, PageError> {
        let mut response = self.call(Method::GET, path, None, None).await?;
        let status = response.status();
        if !status.is_success() {
            return Err(refused(status, &read(response).await?));
        }
        let disposition = format!("attachment; filename=\"{name}\"");
        let disposition = HeaderValue::try_from(disposition).map_err(|_| PageError::NotFound)?;
        response
            .headers_mut()
            .insert(CONTENT_DISPOSITION, disposition);
        Ok(Shown::File(response))
    }

    async fn ask<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<Value>,
        etag: Option<&str>,
    ) -> Result<T, PageError> {
        let response = self.call(method, path, body, etag).await?;
        let status = response.status();
        let bytes = read(response).await?;
        if status.is_success() {
            let bytes: &[u8] = if bytes.is_empty() { b"null" } else { &bytes };
            return serde_json::from_slice(bytes).map_err(|error| {
                tracing::error!(%error, path, "the dashboard cannot read the admin API");
                unreadable()
            });
        }
        Err(refused(status, &bytes))
    }

    async fn call(
        &self,
        method: Method,
        path: &str,
        body: Option<Value>,
        etag: Option<&str>,
    ) -> Result<Response, PageError> {
        let body = body.map_or_else(Body::empty, |body| Body::from(body.to_string()));
        let mut request = Request::new(body);
        *request.method_mut() = method;
        *request.uri_mut() = path.parse().map_err(|_| PageError::NotFound)?;
        let headers = request.headers_mut();
        if let Some(credential) = self.parts.headers.get(AUTHORIZATION) {
            headers.insert(AUTHORIZATION, credential.clone());
        }
        headers.insert("partywall-reason", HeaderValue::from_static(REASON));
        if let Some(etag) = etag {
            let etag = HeaderValue::try_from(format!("\"{etag}\""));
            headers.insert(IF_MATCH, etag.map_err(|_| PageError::NotFound)?);
        }
        if let Some(peer) = self.parts.extensions.get::<ConnectInfo<SocketAddr>>() {
            request.extensions_mut().insert(*peer);
        }
        let mut api = self.house.api.clone();
        let Ok(response) = api.call(request).await;
        Ok(response)
    }
}

/// What the admin API answers with is bounded by the admin API.
async fn read(response: Response) -> Result<Bytes, PageError> {
    let read = response.into_body().collect().await;
    Ok(read.map_err(|_| unreadable())?.to_bytes())
}

fn to_json(body: &impl Serialize) -> Result<Value, PageError> {
    serde_json::to_value(body).map_err(|error| {
        tracing::error!(%error, "the dashboard cannot say what it wants");
        unreadable()
    })
}

fn unreadable() -> PageError {
    PageError::Refused {
        status: StatusCode::INTERNAL_SERVER_ERROR,
        message: "something went wrong here: the log says what".to_owned(),
        details: Vec::new(),
    }
}

fn refused(status: StatusCode, body: &[u8]) -> PageError {
    match status {
        StatusCode::UNAUTHORIZED => return PageError::SignedOut,
        StatusCode::NOT_FOUND => return PageError::NotFound,
        StatusCode::FORBIDDEN => return PageError::Forbidden,
        _ => {}
    }
    match serde_json::from_slice::<ErrorReply>(body) {
        Ok(ErrorReply { error }) => PageError::Refused {
            status,
            message: match error.param {
                Some(param) => format!("{param}: {}", error.message),
                None => error.message,
            },
            details: error.details,
        },
        Err(_) => unreadable(),
    }
}

/// A part of a path or a value in a query, so that it stays one.
pub(super) fn segment(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_segment_stays_one() {
        assert_eq!(segment("openai/gpt-4o?x=1"), "openai%2Fgpt-4o%3Fx%3D1");
        assert_eq!(segment("../é"), "..%2F%C3%A9");
    }
}
