//! The process itself: health, metrics, the ledger, the root key, this API's own document.

use std::sync::Arc;

use axum::http::header::{ACCEPT, CONTENT_TYPE};
use axum::response::{IntoResponse as _, Response};
use schemars::{Schema, SchemaGenerator};
use serde_json::Value;
use tenancy::Permission;

use super::endpoints as all_endpoints;
use crate::Control;
use crate::api::{Health, LedgerCheck, RootKeyRequest, RotatedReply, TokenKeysReply};
use crate::endpoint::{Answer, Call, Endpoint, Json, Nothing, Reach, Verb, endpoint};
use crate::error::ApiError;
use crate::openapi;
use crate::options::MetricsAccess;
use crate::publisher::{blocking, root_key_at};

/// All metrics.
enum Metrics {
    /// In Prometheus' own text form.
    Plain(String),
    /// By OpenMetrics.
    Open(String),
}

impl Answer for Metrics {
    fn schema(_: &mut SchemaGenerator) -> Option<(&'static str, Schema)> {
        Some((
            "text/plain; charset=utf-8",
            schemars::json_schema!({"type": "string"}),
        ))
    }

    fn into_response(self) -> Response {
        let (content_type, text) = match self {
            Self::Plain(text) => ("text/plain; charset=utf-8", text),
            Self::Open(text) => (
                "application/openmetrics-text; version=1.0.0; charset=utf-8",
                text,
            ),
        };
        ([(CONTENT_TYPE, content_type)], text).into_response()
    }
}

pub(super) fn endpoints(metrics: MetricsAccess) -> Vec<Endpoint> {
    let metrics_reach = match metrics {
        MetricsAccess::Operators => Reach::Platform(Permission::ReadUsage),
        MetricsAccess::Anybody => Reach::Public,
    };
    vec![
        endpoint(
            Verb::Get,
            "/healthz",
            "healthz",
            "Whether the process runs",
            Reach::Public,
            live,
        ),
        endpoint(
            Verb::Get,
            "/readyz",
            "readyz",
            "Whether it can serve",
            Reach::Public,
            ready,
        ),
        endpoint(
            Verb::Get,
            "/openapi.json",
            "openapi",
            "This document",
            Reach::Public,
            document,
        ),
        endpoint(
            Verb::Get,
            "/metrics",
            "metrics",
            "All metrics, in Prometheus' text form; with exemplars for who accepts OpenMetrics",
            metrics_reach,
            metrics_text,
        ),
        endpoint(
            Verb::Get,
            "/admin/v1/ledger/verify",
            "verify_ledger",
            "Whether the ledger adds up",
            Reach::Platform(Permission::ReadAudit),
            verify_ledger,
        ),
        endpoint(
            Verb::Post,
            "/admin/v1/root-key/rotate",
            "rotate_root_key",
            "Wraps every key under another root key, while serving",
            Reach::Platform(Permission::RotateKeys),
            rotate_root_key,
        ),
        endpoint(
            Verb::Post,
            "/admin/v1/token-keys/rotate",
            "rotate_token_keys",
            "Signs tokens with a new key; those of the key before stay good for their time",
            Reach::Platform(Permission::RotateKeys),
            rotate_token_keys,
        ),
    ]
}

async fn live(_: Arc<Control>, _: Call<Nothing, Nothing>) -> Result<Json<Health>, ApiError> {
    Ok(Json(Health {
        status: "ok".to_owned(),
    }))
}

async fn ready(control: Arc<Control>, _: Call<Nothing, Nothing>) -> Result<Json<Health>, ApiError> {
    match control.vitals.ready() {
        Ok(()) => Ok(Json(Health {
            status: "ok".to_owned(),
        })),
        Err(missing) => Err(ApiError::NotReady { missing }),
    }
}

async fn document(
    control: Arc<Control>,
    _: Call<Nothing, Nothing>,
) -> Result<Json<Value>, ApiError> {
    Ok(Json(openapi::document(&all_endpoints(
        control.metrics_access,
    ))))
}

async fn metrics_text(
    control: Arc<Control>,
    call: Call<Nothing, Nothing>,
) -> Result<Metrics, ApiError> {
    let mut accepted = call.presented.get_all(ACCEPT).iter();
    let reads_open = accepted.any(|accept| {
        let accept = accept.to_str().unwrap_or_default();
        accept.contains("application/openmetrics-text")
    });
    Ok(if reads_open {
        Metrics::Open(control.vitals.open_metrics())
    } else {
        Metrics::Plain(control.vitals.metrics())
    })
}

async fn verify_ledger(
    control: Arc<Control>,
    _: Call<Nothing, Nothing>,
) -> Result<Json<LedgerCheck>, ApiError> {
    let report = blocking(move || control.ledger.verify().map_err(ApiError::internal)).await?;
    Ok(Json(LedgerCheck {
        ok: report.fault_count == 0,
        records: report.records,
        attempts: report.attempts,
        settled: report.settled,
        released: report.released,
        reconciled: report.reconciled,
        open: report.open,
        cost: report.cost,
        overshoot: report.overshoot,
        fault_count: report.fault_count,
        faults: report.faults.iter().map(ToString::to_string).collect(),
    }))
}

async fn rotate_root_key(
    control: Arc<Control>,
    call: Call<Nothing, Json<RootKeyRequest>>,
) -> Result<Json<RotatedReply>, ApiError> {
    let act = call.act("root-key", None)?;
    let Json(RootKeyRequest { root_key }) = call.body;
    let publisher = Arc::clone(&control.publisher);
    publisher
        .in_turn(move |turn| {
            let rotated = turn.rotate_root_key(&act, root_key_at(&root_key)?)?;
            Ok(Json(RotatedReply {
                current: rotated.current,
                renewed: rotated.renewed,
            }))
        })
        .await
}

async fn rotate_token_keys(
    control: Arc<Control>,
    call: Call<Nothing, Nothing>,
) -> Result<Json<TokenKeysReply>, ApiError> {
    let act = call.act("token-keys", None)?;
    let publisher = Arc::clone(&control.publisher);
    publisher
        .in_turn(move |turn| {
            let rotated = turn.rotate_token_keys(&act)?;
            Ok(Json(TokenKeysReply {
                current: rotated.current,
                previous: rotated.previous,
                previous_until: rotated.previous_until,
            }))
        })
        .await
}
