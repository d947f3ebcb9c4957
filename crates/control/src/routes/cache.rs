//! A tenant's kept answers: how many, and none.

use std::sync::Arc;

use tenancy::Permission;

use crate::Control;
use crate::api::CacheReply;
use crate::endpoint::{Call, Endpoint, Json, Nothing, Reach, Verb, endpoint};
use crate::error::ApiError;
use crate::publisher::blocking;

pub(super) fn endpoints() -> Vec<Endpoint> {
    vec![
        endpoint(
            Verb::Get,
            "/admin/v1/tenants/{tenant}/cache",
            "get_cache",
            "How many of a tenant's answers are kept to be given again",
            Reach::Tenant(Permission::ReadUsage),
            figures,
        ),
        endpoint(
            Verb::Delete,
            "/admin/v1/tenants/{tenant}/cache",
            "clear_cache",
            "Forgets a tenant's kept answers, those of calls under way included",
            Reach::Tenant(Permission::ManageTenantConfig),
            clear,
        ),
    ]
}

/// Numbers alone: nobody enters the tenant for them.
async fn figures(
    control: Arc<Control>,
    call: Call<Nothing, Nothing>,
) -> Result<Json<CacheReply>, ApiError> {
    Ok(Json(control.caches.figures(call.tenant().id())))
}

async fn clear(control: Arc<Control>, call: Call<Nothing, Nothing>) -> Result<Nothing, ApiError> {
    let tenant = Arc::clone(call.tenant());
    let act = call.act(format!("tenants/{}/cache", tenant.name), None)?;
    blocking(move || {
        control.publisher.record_act(&act)?;
        control.caches.clear(tenant.id());
        Ok(Nothing)
    })
    .await
}
