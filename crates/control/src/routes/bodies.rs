//! What a request asked and was answered: for whom the tenant lets read it, on record.

use std::sync::Arc;
use std::time::Duration;

use base::RequestId;
use serde_json::Value;
use store::{CallBodies, TenantStore};
use tenancy::catalogue::BodiesSpec;
use tenancy::{Permission, TenantEntry};

use crate::Control;
use crate::api::BodiesReply;
use crate::caller::Caller;
use crate::endpoint::{Call, Endpoint, Json, Nothing, Reach, Verb, endpoint};
use crate::error::ApiError;
use crate::publisher::blocking;

const DAY: Duration = Duration::from_secs(24 * 3_600);

pub(super) fn endpoints() -> Vec<Endpoint> {
    let path = "/admin/v1/tenants/{tenant}/requests/{id}/bodies";
    vec![
        endpoint(
            Verb::Get,
            path,
            "get_request_bodies",
            "What a request asked and was answered, redacted, where its tenant has that kept; each reading is on record",
            Reach::Tenant(Permission::ReadBodies),
            read,
        ),
        endpoint(
            Verb::Delete,
            path,
            "delete_request_bodies",
            "Forgets what a request asked and was answered",
            Reach::Tenant(Permission::ManageTenantConfig),
            forget,
        ),
    ]
}

fn request_of<Q, B>(call: &Call<Q, B>) -> Result<RequestId, ApiError> {
    call.param("id").parse().map_err(|_| ApiError::NotFound)
}

/// The tenant's word, if it lets this caller read.
fn word<'t>(tenant: &'t TenantEntry, caller: &Caller) -> Result<&'t BodiesSpec, ApiError> {
    let Some(spec) = &tenant.config.bodies else {
        return Err(ApiError::conflict(format!(
            "{} has no bodies kept: its administrator switches that on by `bodies` in its configuration",
            tenant.name
        )));
    };
    if matches!(caller, Caller::Operator(_)) && !spec.operators {
        return Err(ApiError::conflict(format!(
            "{} lets no operator read bodies: its administrator allows it by `bodies.operators` in its configuration",
            tenant.name
        )));
    }
    Ok(spec)
}

async fn read(
    control: Arc<Control>,
    call: Call<Nothing, Nothing>,
) -> Result<Json<BodiesReply>, ApiError> {
    let request = request_of(&call)?;
    let tenant = Arc::clone(call.tenant());
    let life = DAY * u32::from(word(&tenant, &call.caller)?.days);
    let reason = call.reason_to_enter();
    let act = call.act(target(&tenant, request), Some(&reason))?;
    let scope = control.enter(call.caller, tenant, reason).await?;
    let recording = Arc::clone(&control);
    // On record first, also what is not there.
    blocking(move || recording.publisher.record_act(&act)).await?;
    let since = control.clock.now().minus(life);
    let finding = move |store: &TenantStore<'_>| {
        let found = store.bodies(request, since)?;
        found.ok_or(ApiError::NotFound)
    };
    let found = control.publisher.stores.with(&scope, finding).await?;
    shown(&found, life).map(Json)
}

fn target(tenant: &TenantEntry, request: RequestId) -> String {
    format!("tenants/{}/requests/{request}/bodies", tenant.name)
}

fn shown(found: &CallBodies, life: Duration) -> Result<BodiesReply, ApiError> {
    let json = |bytes: &[u8]| serde_json::from_slice::<Value>(bytes).map_err(ApiError::internal);
    let answered = match found.answered.is_empty() {
        true => None,
        false => Some(json(&found.answered)?),
    };
    Ok(BodiesReply {
        request: found.request,
        at: found.at,
        kept_until: found.at.plus(life),
        asked: json(&found.asked)?,
        asked_cut: found.marks.asked_cut,
        answered,
        answered_cut: found.marks.answered_cut,
        incomplete: found.marks.incomplete,
    })
}

async fn forget(control: Arc<Control>, call: Call<Nothing, Nothing>) -> Result<Nothing, ApiError> {
    let request = request_of(&call)?;
    let tenant = Arc::clone(call.tenant());
    let reason = call.reason_to_enter();
    let act = call.act(target(&tenant, request), Some(&reason))?;
    let scope = control.enter(call.caller, tenant, reason).await?;
    let recording = Arc::clone(&control);
    blocking(move || recording.publisher.record_act(&act)).await?;
    let removing = move |store: &TenantStore<'_>| match store.remove_bodies(request)? {
        true => Ok(Nothing),
        false => Err(ApiError::NotFound),
    };
    control.publisher.stores.with(&scope, removing).await
}
