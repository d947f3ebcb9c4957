//! Upstreams as they are now.

use std::sync::Arc;

use tenancy::Permission;

use crate::Control;
use crate::api::UpstreamStatusReply;
use crate::endpoint::{Call, Endpoint, Json, Nothing, Reach, Verb, endpoint};
use crate::error::ApiError;

pub(super) fn endpoints() -> Vec<Endpoint> {
    vec![endpoint(
        Verb::Get,
        "/admin/v1/upstreams/{name}/status",
        "upstream_status",
        "How an upstream is now: its line, its breakers, its endpoints and their load",
        Reach::Platform(Permission::ReadUsage),
        status,
    )]
}

async fn status(
    control: Arc<Control>,
    call: Call<Nothing, Nothing>,
) -> Result<Json<UpstreamStatusReply>, ApiError> {
    let found = control.upstreams.upstream(call.param("name"));
    found.map(Json).ok_or(ApiError::NotFound)
}
