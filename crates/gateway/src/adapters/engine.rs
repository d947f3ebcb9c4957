//! What an engine is told of adapters, as vLLM wants it: with the installation's credential, and
//! never by a client.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use base::Clock;
use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use http_body_util::{BodyExt as _, Limited};
use models::Raw;
use serde_json::json;
use tenancy::AdapterName;

use super::EngineAdapter;
use crate::upstream::{CallError, Upstream, UpstreamBody, UpstreamCall};

/// 1 MiB: a list of 4,096 adapters, with room.
const ANSWER_BYTES_MAX: usize = 1 << 20;
/// Five seconds to list and to unload: nothing is read from a disk for either.
const QUICK: Duration = Duration::from_secs(5);
/// What an engine says is cut in the log.
const SAID_CHARS_MAX: usize = 500;

/// Why an engine did not do as it was told.
#[derive(Debug, thiserror::Error)]
pub(super) enum EngineError {
    /// It was not reached.
    #[error(transparent)]
    Call(#[from] CallError),
    /// It did not answer in time.
    #[error("the engine did not answer in time")]
    TimedOut,
    /// Its answer could not be read.
    #[error("the engine's answer could not be read")]
    Unreadable,
    /// It refused.
    #[error("the engine refused with {status}: {said}")]
    Refused {
        /// Its status.
        status: StatusCode,
        /// Its words, cut.
        said: String,
    },
}

/// Loads an adapter. One that is loaded already is: its name says which weights it has.
pub(super) async fn load(
    upstream: &Arc<Upstream>,
    adapter: &EngineAdapter,
    patience: Duration,
    clock: &dyn Clock,
) -> Result<(), EngineError> {
    let name = adapter.engine_name.as_str();
    let body = json!({"lora_name": name, "lora_path": adapter.spec.location()});
    let told = tell(upstream, "/load_lora_adapter", Some(body), patience, clock).await;
    match told {
        Err(EngineError::Refused { status, said })
            if status == StatusCode::BAD_REQUEST && said.contains("already been loaded") =>
        {
            Ok(())
        }
        told => told.map(drop),
    }
}

/// Unloads an adapter. One that is not there is unloaded.
pub(super) async fn unload(
    upstream: &Arc<Upstream>,
    name: &AdapterName,
    clock: &dyn Clock,
) -> Result<(), EngineError> {
    let body = json!({"lora_name": name.as_str()});
    match tell(upstream, "/unload_lora_adapter", Some(body), QUICK, clock).await {
        Err(EngineError::Refused { status, .. }) if status == StatusCode::NOT_FOUND => Ok(()),
        told => told.map(drop),
    }
}

/// The adapters that the engine has, of those that have names of ours.
pub(super) async fn list(
    upstream: &Arc<Upstream>,
    clock: &dyn Clock,
) -> Result<Vec<AdapterName>, EngineError> {
    let body = tell(upstream, "/models", None, QUICK, clock).await?;
    let models: serde_json::Value =
        serde_json::from_slice(&body).map_err(|_| EngineError::Unreadable)?;
    let models = models["data"].as_array().ok_or(EngineError::Unreadable)?;
    let names = models.iter().filter_map(|model| model["id"].as_str());
    Ok(names.filter_map(AdapterName::listed).collect())
}

async fn tell(
    upstream: &Arc<Upstream>,
    path: &'static str,
    body: Option<serde_json::Value>,
    patience: Duration,
    clock: &dyn Clock,
) -> Result<Bytes, EngineError> {
    let mut call = UpstreamCall {
        path: Cow::Borrowed(path),
        headers: HeaderMap::new(),
        body: UpstreamBody::of(body.map(|body| Bytes::from(body.to_string()))),
        authorization: None,
        traceparent: None,
        at: clock.now(),
        first_byte: patience,
        caller: None,
    };
    let telling = async {
        let answer = upstream.call(&mut call, || {}).await?;
        let body = Limited::new(answer.body, ANSWER_BYTES_MAX).collect().await;
        let body = body.map_err(|_| EngineError::Unreadable)?.to_bytes();
        if answer.status.is_success() {
            return Ok(body);
        }
        Err(EngineError::Refused {
            status: answer.status,
            said: said(&body),
        })
    };
    tokio::time::timeout(patience, telling)
        .await
        .unwrap_or(Err(EngineError::TimedOut))
}

fn said(body: &[u8]) -> String {
    let raw = Raw::new(body);
    let message = raw
        .get("error")
        .and_then(|error| error.get("message"))
        .or_else(|| raw.get("message"))
        .and_then(|message| message.as_str().map(Cow::into_owned));
    let text = message.unwrap_or_else(|| String::from_utf8_lossy(body).into_owned());
    text.chars().take(SAID_CHARS_MAX).collect()
}
