//! Services that the operator named, asked by the gateway's connections.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use axum::http::{HeaderMap, Method, StatusCode};
use bytes::Bytes;

/// What is asked of a service.
#[derive(Debug, Clone)]
pub struct WebRequest {
    /// How.
    pub method: Method,
    /// Where: `http://` or `https://`.
    pub url: String,
    /// What it carries besides.
    pub headers: HeaderMap,
    /// With what.
    pub body: Bytes,
    /// The longest answer that is read.
    pub answer_bytes_max: usize,
}

/// What it answered.
#[derive(Debug, Clone)]
pub struct WebAnswer {
    /// The status: a redirect is not followed.
    pub status: StatusCode,
    /// The whole body.
    pub body: Bytes,
}

/// An answer on its way; what kept it from coming, in a sentence without secrets.
pub type Asking<'a> = Pin<Box<dyn Future<Output = Result<WebAnswer, String>> + Send + 'a>>;

/// The way to services that the operator named.
pub trait Web: Send + Sync + 'static {
    /// Asks once.
    fn ask(&self, request: WebRequest) -> Asking<'_>;
}

/// Asks, and waits no longer than that.
pub(crate) async fn ask_within(
    web: &dyn Web,
    request: WebRequest,
    patience: Duration,
) -> Result<WebAnswer, String> {
    let answer = tokio::time::timeout(patience, web.ask(request)).await;
    answer.unwrap_or_else(|_| Err(format!("no answer in {} s", patience.as_secs())))
}
