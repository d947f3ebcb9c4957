//! Costs by any cut, and adding them up again.

use std::sync::Arc;

use store::TenantStore;
use tenancy::{Permission, ServicePurpose, Snapshot, TenantEntry, TenantScope};

use crate::Control;
use crate::api::{
    CostsQuery, CostsReply, ExportFormat, ExportQuery, PlatformCostsQuery, PushReply, PushRequest,
    RebuildReply,
};
use crate::costs;
use crate::endpoint::{Call, Endpoint, Json, Nothing, Reach, Streamed, Verb, endpoint};
use crate::error::ApiError;
use crate::export::{self, Order};
use crate::paging::Paging;
use crate::publisher::blocking;
use crate::usage::{self, Groups, Question};

use super::usage::add_tenant;

/// 31 days: a month that finance wants again.
const PUSH_DAYS_MAX: u64 = 31;

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
            Verb::Get,
            "/admin/v1/tenants/{tenant}/costs/export",
            "export_tenant_costs",
            "A tenant's costs or usage events, in a form that other programs read",
            Reach::Tenant(Permission::ReadUsage),
            export_tenant,
        ),
        endpoint(
            Verb::Get,
            "/admin/v1/costs/export",
            "export_costs",
            "All tenants' costs, in a form that other programs read",
            Reach::Platform(Permission::ReadUsage),
            export_all,
        ),
        endpoint(
            Verb::Post,
            "/admin/v1/costs/push",
            "push_costs",
            "Pushes days of all tenants' costs to the configured bucket",
            Reach::Platform(Permission::WriteCatalogue),
            push,
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

async fn export_tenant(
    control: Arc<Control>,
    call: Call<Json<ExportQuery>, Nothing>,
) -> Result<Streamed, ApiError> {
    let order = order(&control, &call.query.0)?;
    let (tenant, reason) = (Arc::clone(call.tenant()), call.reason_to_enter());
    let snapshot = Arc::clone(&call.snapshot);
    let scope = control
        .enter(call.caller, Arc::clone(&tenant), reason)
        .await?;
    streamed(&control, snapshot, vec![(tenant, scope)], order)
}

async fn export_all(
    control: Arc<Control>,
    call: Call<Json<ExportQuery>, Nothing>,
) -> Result<Streamed, ApiError> {
    let order = order(&control, &call.query.0)?;
    if let ExportFormat::Openmeter | ExportFormat::Stripe = order.format {
        let message = "single calls are exported of one tenant at a time";
        return Err(ApiError::of("format", message));
    }
    // Sums over tenants are the platform's own business; that they were read is on record.
    let act = call.act("costs", None)?;
    let snapshot = Arc::clone(&call.snapshot);
    let recording = Arc::clone(&control);
    blocking(move || recording.publisher.record_act(&act)).await?;
    let publisher = &control.publisher;
    let mut whose: Vec<_> = snapshot
        .tenants()
        .map(|tenant| {
            let scope = publisher.service_scope(&tenant.unlocked, ServicePurpose::Export);
            (Arc::clone(tenant), scope)
        })
        .collect();
    whose.sort_unstable_by(|(one, _), (other, _)| one.name.cmp(&other.name));
    streamed(&control, snapshot, whose, order)
}

fn order(control: &Control, query: &ExportQuery) -> Result<Order, ApiError> {
    let issuer = query.issuer.as_deref();
    let order = Order {
        issuer: issuer
            .unwrap_or(control.publisher.installation())
            .to_owned(),
        format: query.format,
        from: usage::time("from", &query.from)?,
        until: usage::time("to", &query.to)?,
        customer: query.customer.clone(),
    };
    order.check()?;
    Ok(order)
}

fn streamed(
    control: &Arc<Control>,
    snapshot: Arc<Snapshot>,
    whose: Vec<(Arc<TenantEntry>, TenantScope)>,
    order: Order,
) -> Result<Streamed, ApiError> {
    let content_type = match order.format {
        ExportFormat::FocusCsv => "text/csv; charset=utf-8",
        ExportFormat::FocusParquet => "application/vnd.apache.parquet",
        ExportFormat::Openmeter | ExportFormat::Stripe => "application/x-ndjson",
    };
    Ok(Streamed {
        content_type,
        pieces: export::begin(control, snapshot, whose, order)?,
    })
}

async fn push(
    control: Arc<Control>,
    call: Call<Nothing, Json<PushRequest>>,
) -> Result<Json<PushReply>, ApiError> {
    let act = call.act("costs", None)?;
    let Json(PushRequest { from, to }) = &call.body;
    let (from, until) = (usage::time("from", from)?, usage::time("to", to)?);
    let length = until.since(from);
    let is_days = length.as_secs() % (24 * 3_600) == 0 && from.as_seconds() % (24 * 3_600) == 0;
    if !is_days || !(1..=PUSH_DAYS_MAX).contains(&(length.as_secs() / (24 * 3_600))) {
        let message = "1 to 31 whole UTC days are pushed: say `from` and `to` as dates";
        return Err(ApiError::of("from", message));
    }
    let recording = Arc::clone(&control);
    blocking(move || recording.publisher.record_act(&act)).await?;
    let days = control.push_days(from, until).await?;
    Ok(Json(PushReply { days }))
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
