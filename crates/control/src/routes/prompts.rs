//! Trying a prompt out: what a model would be told.

use std::sync::Arc;

use tenancy::Permission;

use crate::Control;
use crate::api::{RenderReply, RenderRequest};
use crate::endpoint::{Call, Endpoint, Json, Nothing, Reach, Verb, endpoint};
use crate::error::ApiError;

pub(super) fn endpoints() -> Vec<Endpoint> {
    vec![endpoint(
        Verb::Post,
        "/admin/v1/tenants/{tenant}/prompts/{name}/render",
        "render_prompt",
        "Says what a model would be told by a version of a prompt; nothing is called",
        Reach::Tenant(Permission::ManageTenantConfig),
        render,
    )]
}

async fn render(
    control: Arc<Control>,
    call: Call<Nothing, Json<RenderRequest>>,
) -> Result<Json<RenderReply>, ApiError> {
    let name = call.param("name").parse().map_err(|_| ApiError::NotFound)?;
    let tenant = Arc::clone(call.tenant());
    let spec = tenant.prompt(&name).ok_or(ApiError::NotFound)?;
    let reason = call.reason_to_enter();
    let Json(request) = call.body;
    let found = spec.version(request.version);
    let (version, text) =
        found.ok_or_else(|| ApiError::of("version", "there is no such version"))?;
    let rendered = control.publisher.render(&tenant, text, request);
    let text = rendered.map_err(|error| ApiError::of("variables", error))?;
    // It is the tenant's own text: an operator reads it on record.
    control
        .enter(call.caller, Arc::clone(&tenant), reason)
        .await?;
    Ok(Json(RenderReply {
        prompt: format!("{name}@{version}"),
        text,
    }))
}
