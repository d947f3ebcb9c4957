//! Costs by any cut, and adding them up again.

use std::sync::Arc;

use store::TenantStore;
use tenancy::Permission;

use crate::Control;
use crate::api::{CostsQuery, CostsReply, PlatformCostsQuery, RebuildReply};
use crate::costs;
use crate::endpoint::{Call, Endpoint, Json, Nothing, Reach, Verb, endpoint};
use crate::error::ApiError;
use crate::paging::Paging;
use crate::publisher::blocking;
use crate::usage::{self, Groups, Question};

use super::usage::add_tenant;

pub(super) fn endpoints() -> Vec<Endpoint> {
    vec![
        endpoint(
            Verb::Get,
            "/admin/v1/tenants/{tenant}/costs",
            "tenant_costs",
            "What a tenant spent, by any cut: exact, from sums by hour, day and month",
            Reach::Tenant(Permission::ReadUsage),
            tenant_costs,
        ),
        endpoint(
            Verb::Get,
            "/admin/v1/costs",
            "platform_costs",
            "What all tenants spent, by any cut",
            Reach::Platform(Permission::ReadUsage),
            platform_costs,
        ),
        endpoint(
            Verb::Post,
            "/admin/v1/tenants/{tenant}/ledger/rebuild",
            "rebuild_ledger",
            "Adds up all lines of a tenant's ledger again, and corrects sums that differ",
            Reach::Tenant(Permission::ActForTenant),
            rebuild,
        ),
    ]
}

async fn tenant_costs(
    control: Arc<Control>,
    call: Call<Json<CostsQuery>, Nothing>,
) -> Result<Json<CostsReply>, ApiError> {
    let Json(query) = &call.query;
    let paging = Paging::read(query.limit, query.cursor.as_deref())?;
    let order = query.sort;
    let tenant = Arc::clone(call.tenant());
    let question = Question::of_costs(query, &tenant, control.clock.now())?;
    let reason = call.reason_to_enter();
    let scope = control
        .enter(call.caller, Arc::clone(&tenant), reason)
        .await?;
    let live = Arc::clone(&control.live_usage);
    let adding = move |store: &TenantStore<'_>| {
        live.catch_up();
        let mut groups = Groups::new();
        usage::add(&mut groups, &question, &tenant, store)?;
        Ok::<_, ApiError>(groups)
    };
    let groups = control.publisher.stores.with(&scope, adding).await?;
    costs::reply(groups, order, &paging).map(Json)
}

async fn platform_costs(
    control: Arc<Control>,
    call: Call<Json<PlatformCostsQuery>, Nothing>,
) -> Result<Json<CostsReply>, ApiError> {
    let Json(query) = &call.query;
    let paging = Paging::read(query.limit, query.cursor.as_deref())?;
    let order = query.sort;
    let question = Question::of_all_costs(query, control.clock.now())?;
    // Sums over tenants are the platform's own business; that they were read is on record.
    let act = call.act("costs", None)?;
    let tenants: Vec<_> = call.snapshot.tenants().cloned().collect();
    blocking(move || {
        control.publisher.record_act(&act)?;
        control.live_usage.catch_up();
        let mut groups = Groups::new();
        for tenant in &tenants {
            add_tenant(&control, &mut groups, &question, tenant)?;
        }
        costs::reply(groups, order, &paging).map(Json)
    })
    .await
}

async fn rebuild(
    control: Arc<Control>,
    call: Call<Nothing, Nothing>,
) -> Result<Json<RebuildReply>, ApiError> {
    let (tenant, reason) = (Arc::clone(call.tenant()), call.reason_to_enter());
    let scope = control.enter(call.caller, tenant, reason).await?;
    let live = Arc::clone(&control.live_usage);
    let rebuilding = move |store: &TenantStore<'_>| {
        live.catch_up();
        store.rebuild_sums().map_err(ApiError::from)
    };
    let rebuilt = control.publisher.stores.with(&scope, rebuilding).await?;
    Ok(Json(RebuildReply {
        lines: rebuilt.lines,
        sums: rebuilt.sums,
        corrected: rebuilt.corrected,
    }))
}
