//! How costs that tenants share are split.

use std::sync::Arc;

use tenancy::Permission;

use crate::Control;
use crate::api::SplitReply;
use crate::billing::{self, Period};
use crate::endpoint::{Call, Endpoint, Json, Nothing, Reach, Verb, endpoint};
use crate::error::ApiError;
use crate::publisher::blocking;

pub(super) fn endpoints() -> Vec<Endpoint> {
    vec![endpoint(
        Verb::Get,
        "/admin/v1/shared-costs/{name}/splits/{id}",
        "get_split",
        "How a shared cost of a month (`2026-10`) is split: as it is fixed, or as it would be now",
        Reach::Platform(Permission::ReadUsage),
        split,
    )]
}

async fn split(
    control: Arc<Control>,
    call: Call<Nothing, Nothing>,
) -> Result<Json<SplitReply>, ApiError> {
    let period: Period = call.param("id").parse().map_err(|_| ApiError::NotFound)?;
    let known = call.snapshot.shared_costs();
    let name = call.param("name").parse().map_err(|_| ApiError::NotFound)?;
    let cost = known.get(&name).ok_or(ApiError::NotFound)?;
    if !cost.is_of(&period.to_string()) {
        return Err(ApiError::NotFound);
    }
    // Sums over tenants are the platform's own business; that they were read is on record.
    let act = call.act(format!("shared-costs/{name}"), None)?;
    let (cost, snapshot) = (Arc::clone(cost), Arc::clone(&call.snapshot));
    blocking(move || {
        control.publisher.record_act(&act)?;
        control.live_usage.catch_up();
        billing::split(&control.publisher, &snapshot, (&name, &cost), period).map(Json)
    })
    .await
}
