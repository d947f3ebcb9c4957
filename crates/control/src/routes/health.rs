//! How tenants are doing, and the links that lead to the pages which show it.

use std::cmp::Reverse;
use std::sync::Arc;

use tenancy::{Permission, TenantEntry};

use crate::Control;
use crate::api::{
    Concern, FleetOrder, FleetQuery, FleetReply, FleetRow, HealthMinute, SignInLinkReply,
    TenantHealthReply,
};
use crate::dashboard;
use crate::endpoint::{Call, Created, Endpoint, Json, Nothing, Reach, Verb, endpoint};
use crate::error::ApiError;
use crate::health::{Fleet, fullest, judge};
use crate::paging::Paging;
use crate::publisher::blocking;

pub(super) fn endpoints() -> Vec<Endpoint> {
    let read = Permission::ReadUsage;
    vec![
        endpoint(
            Verb::Get,
            "/admin/v1/fleet",
            "fleet",
            "How all tenants did in the last hour, the worst first",
            Reach::Platform(read),
            fleet,
        ),
        endpoint(
            Verb::Get,
            "/admin/v1/tenants/{tenant}/health",
            "tenant_health",
            "How a tenant did in the last hour, minute by minute",
            Reach::Tenant(read),
            tenant_health,
        ),
        endpoint(
            Verb::Post,
            "/admin/v1/dashboard/links",
            "create_sign_in_link",
            "A link that signs the caller in to the dashboard, once",
            Reach::Platform(read),
            link,
        ),
        endpoint(
            Verb::Post,
            "/admin/v1/tenants/{tenant}/dashboard/links",
            "create_tenant_sign_in_link",
            "A link that signs the tenant's administrator in to the dashboard, once",
            Reach::Tenant(read),
            link,
        ),
    ]
}

async fn fleet(
    control: Arc<Control>,
    call: Call<Json<FleetQuery>, Nothing>,
) -> Result<Json<FleetReply>, ApiError> {
    let Json(query) = call.query;
    let paging = Paging::read(query.limit, query.cursor.as_deref())?;
    let snapshot = call.snapshot;
    blocking(move || {
        let coverage = control.health.coverage();
        let since = control.health_since(&coverage);
        let fleet = control.fleet(&snapshot);
        let rows = chosen(&fleet, &query);
        let matching = rows.len() as u64;
        let page = paging.of_offsets(rows.into_iter().cloned())?;
        let count = |is: fn(&&FleetRow) -> bool| fleet.rows.iter().filter(is).count() as u64;
        Ok(Json(FleetReply {
            data: page.data,
            next_cursor: page.next_cursor,
            matching,
            tenants: fleet.rows.len() as u64,
            urgent: count(|row| !row.suspended && row.concern == Concern::Urgent),
            watch: count(|row| !row.suspended && row.concern == Concern::Watch),
            suspended: count(|row| row.suspended),
            health: fleet.health,
            since,
            incomplete_since: coverage.incomplete_since,
            silent_replicas: coverage.silent,
            as_of: fleet.as_of,
        }))
    })
    .await
}

/// The rows that are asked for, in the order that is asked for.
fn chosen<'a>(fleet: &'a Fleet, query: &FleetQuery) -> Vec<&'a FleetRow> {
    let name = query.name.as_deref().unwrap_or_default().trim();
    let fits = |row: &&FleetRow| {
        row.tenant.as_str().contains(name)
            && query.tier.as_ref().is_none_or(|tier| row.tier == *tier)
            && query.concern.is_none_or(|least| row.concern >= least)
    };
    let mut rows: Vec<&FleetRow> = fleet.rows.iter().filter(fits).collect();
    // Stable: among equals the one that needs somebody to look comes first.
    match query.sort.unwrap_or_default() {
        FleetOrder::Concern => {}
        FleetOrder::Name => rows.sort_by(|one, other| one.tenant.cmp(&other.tenant)),
        FleetOrder::Calls => rows.sort_by_key(|row| Reverse(row.health.calls)),
        FleetOrder::Budget => {
            rows.sort_by_key(|row| Reverse(row.budget.as_ref().map(|it| it.used_permille)));
        }
        FleetOrder::Failures => rows.sort_by_key(|row| {
            let calls = row.health.calls.max(1);
            Reverse(row.health.failed * 1_000_000 / calls)
        }),
        FleetOrder::Duration => {
            rows.sort_by_key(|row| Reverse(row.health.duration.map(|it| it.p95_ms)));
        }
    }
    rows
}

async fn tenant_health(
    control: Arc<Control>,
    call: Call<Nothing, Nothing>,
) -> Result<Json<TenantHealthReply>, ApiError> {
    let tenant = Arc::clone(call.tenant());
    blocking(move || Ok(Json(read_health(&control, &tenant)))).await
}

fn read_health(control: &Control, tenant: &TenantEntry) -> TenantHealthReply {
    let coverage = control.health.coverage();
    let hour = control.health.tenant(tenant.id()).unwrap_or_default();
    let budget = fullest(&control.budgets.budgets(tenant.id()));
    let open_breakers = control.open_breakers_of(tenant.id());
    let judged = judge(&hour.sum, budget.as_ref(), &open_breakers);
    let minutes = hour.minutes.iter().zip(&hour.began);
    TenantHealthReply {
        concern: judged.concern,
        reasons: judged.reasons,
        health: hour.sum,
        minutes: minutes
            .map(|(figures, at)| HealthMinute {
                at: *at,
                figures: *figures,
            })
            .collect(),
        open_breakers,
        since: control.health_since(&coverage),
        incomplete_since: coverage.incomplete_since,
    }
}

/// The link does what its maker's key does: nobody gets rights by it that they had not.
async fn link(
    control: Arc<Control>,
    call: Call<Nothing, Nothing>,
) -> Result<Created<SignInLinkReply>, ApiError> {
    dashboard::link(&control, &call.caller, &call.presented).map(Created)
}
