//! Usage, budgets and single calls.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use base::{AttemptId, RequestId, Timestamp};
use ledger::LedgerLine;
use store::{LineCursor, TenantStore};
use tenancy::{Permission, ServicePurpose, TenantEntry};

use crate::Control;
use crate::api::{BudgetStatusReply, Page, PlatformUsageQuery, RequestReply, UsageQuery, UsageRow};
use crate::endpoint::{Call, Endpoint, Json, Nothing, Reach, Verb, endpoint};
use crate::error::ApiError;
use crate::lines;
use crate::paging::Paging;
use crate::publisher::blocking;
use crate::usage::{self, GROUPS_MAX, Groups, Question};

/// One hour: no request lives longer, its retries included.
const REQUEST_LIFE: Duration = Duration::from_secs(3600);
/// 20 pages of 1,000 lines: what a busy tenant starts in a minute and a half.
const REQUEST_PAGES_MAX: usize = 20;
const PAGE_LINES: u32 = 1_000;

pub(super) fn endpoints() -> Vec<Endpoint> {
    let read = Permission::ReadUsage;
    vec![
        endpoint(
            Verb::Get,
            "/admin/v1/usage",
            "platform_usage",
            "What all tenants used, and what it cost",
            Reach::Platform(read),
            platform_usage,
        ),
        endpoint(
            Verb::Get,
            "/admin/v1/tenants/{tenant}/usage",
            "tenant_usage",
            "What a tenant used, and what it cost",
            Reach::Tenant(read),
            tenant_usage,
        ),
        endpoint(
            Verb::Get,
            "/admin/v1/tenants/{tenant}/budgets/status",
            "budget_status",
            "What is spent and held of each budget, and when its window ends",
            Reach::Tenant(read),
            budget_status,
        ),
        endpoint(
            Verb::Get,
            "/admin/v1/tenants/{tenant}/requests/{id}",
            "get_request",
            "The calls of a request (`req_…`), or one call (`att_…`), as the ledger has them",
            Reach::Tenant(read),
            request,
        ),
    ]
}

async fn tenant_usage(
    control: Arc<Control>,
    call: Call<Json<UsageQuery>, Nothing>,
) -> Result<Json<Page<UsageRow>>, ApiError> {
    let Json(UsageQuery {
        group_by,
        from,
        to,
        limit,
        cursor,
    }) = &call.query;
    let paging = Paging::read(*limit, cursor.as_deref())?;
    let now = control.clock.now();
    let question = Question::read(group_by.as_deref(), from.as_deref(), to.as_deref(), now)?;
    let (tenant, reason) = (Arc::clone(call.tenant()), call.reason_to_enter());
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
    usage::page(groups, &paging).map(Json)
}

async fn platform_usage(
    control: Arc<Control>,
    call: Call<Json<PlatformUsageQuery>, Nothing>,
) -> Result<Json<Page<UsageRow>>, ApiError> {
    let Json(PlatformUsageQuery {
        group_by,
        from,
        to,
        tenant,
        limit,
        cursor,
    }) = &call.query;
    let paging = Paging::read(*limit, cursor.as_deref())?;
    let now = control.clock.now();
    let question = Question::read(group_by.as_deref(), from.as_deref(), to.as_deref(), now)?;
    if question.query.group_by.contains(&store::Dimension::Session) {
        return Err(ApiError::of(
            "group_by",
            "conversations are told apart inside a tenant alone",
        ));
    }
    let only = tenant.clone();
    let tenants = call
        .snapshot
        .tenants()
        .filter(|tenant| only.as_ref().is_none_or(|only| tenant.name == *only));
    let mut tenants: Vec<Arc<TenantEntry>> = tenants.cloned().collect();
    if only.is_some() && tenants.is_empty() {
        return Err(ApiError::NotFound);
    }
    tenants.sort_unstable_by(|one, other| one.name.cmp(&other.name));
    // Sums over tenants are the platform's own business; that they were read is on record.
    let act = call.act("usage", None)?;
    let cursor = cursor.clone();
    blocking(move || {
        control.publisher.record_act(&act)?;
        control.live_usage.catch_up();
        if question.by_tenant {
            by_tenant(
                &control,
                &question,
                &tenants,
                cursor.as_deref(),
                paging.limit,
            )
        } else {
            let mut groups = Groups::new();
            for tenant in &tenants {
                add_tenant(&control, &mut groups, &question, tenant)?;
            }
            usage::page(groups, &paging)
        }
    })
    .await
    .map(Json)
}

/// Whole tenants, by name, until the page is full: the cursor is the last one's name.
fn by_tenant(
    control: &Control,
    question: &Question,
    tenants: &[Arc<TenantEntry>],
    cursor: Option<&str>,
    limit: usize,
) -> Result<Page<UsageRow>, ApiError> {
    let rest = tenants
        .iter()
        .skip_while(|tenant| cursor.is_some_and(|c| tenant.name.as_str() <= c));
    let mut rows: Vec<UsageRow> = Vec::new();
    let mut last = None;
    for tenant in rest {
        if let Some(last) = last.filter(|_| rows.len() >= limit) {
            return Ok(Page {
                data: rows,
                next_cursor: Some(last),
            });
        }
        let mut groups: Groups = BTreeMap::new();
        add_tenant(control, &mut groups, question, tenant)?;
        debug_assert!(groups.len() <= GROUPS_MAX, "adding is bounded");
        rows.extend(
            groups
                .into_iter()
                .map(|(group, row)| UsageRow { group, ..row }),
        );
        last = Some(tenant.name.to_string());
    }
    Ok(Page {
        data: rows,
        next_cursor: None,
    })
}

pub(super) fn add_tenant(
    control: &Control,
    groups: &mut Groups,
    question: &Question,
    tenant: &TenantEntry,
) -> Result<(), ApiError> {
    let publisher = &control.publisher;
    let scope = publisher.service_scope(&tenant.unlocked, ServicePurpose::Export);
    let store = publisher.stores.open(&scope);
    usage::add(groups, question, tenant, &store)
}

async fn budget_status(
    control: Arc<Control>,
    call: Call<Nothing, Nothing>,
) -> Result<Json<BudgetStatusReply>, ApiError> {
    let (tenant, reason) = (Arc::clone(call.tenant()), call.reason_to_enter());
    let scope = control.enter(call.caller, tenant, reason).await?;
    let (budgets, tenant) = (Arc::clone(&control.budgets), scope.tenant());
    // Other replicas' part of them is in a database.
    let data = blocking(move || Ok(budgets.budgets(tenant))).await?;
    Ok(Json(BudgetStatusReply { data }))
}

async fn request(
    control: Arc<Control>,
    call: Call<Nothing, Nothing>,
) -> Result<Json<RequestReply>, ApiError> {
    let id = call.param("id");
    let wanted = match (id.parse::<RequestId>(), id.parse::<AttemptId>()) {
        (Ok(request), _) => LineOf::Request(request),
        (_, Ok(attempt)) => LineOf::Attempt(attempt),
        _ => return Err(ApiError::NotFound),
    };
    let (tenant, reason) = (Arc::clone(call.tenant()), call.reason_to_enter());
    let scope = control
        .enter(call.caller, Arc::clone(&tenant), reason)
        .await?;
    let live = Arc::clone(&control.live_usage);
    let finding = move |store: &TenantStore<'_>| {
        // First, or a call that has just ended would not be there.
        live.catch_up();
        stored_lines(store, wanted)
    };
    let mut lines = control.publisher.stores.with(&scope, finding).await?;
    if lines.is_empty() {
        return Err(ApiError::NotFound);
    }
    lines.sort_by_key(|line| (line.intent.at, line.intent.attempt));
    let names = usage::Names::of(&tenant);
    Ok(Json(RequestReply {
        data: lines.iter().map(|line| lines::view(line, &names)).collect(),
    }))
}

/// Which calls are wanted.
#[derive(Debug, Clone, Copy)]
enum LineOf {
    /// Those of one client request.
    Request(RequestId),
    /// That one.
    Attempt(AttemptId),
}

/// A store has one line of each attempt: the latest.
fn stored_lines(store: &TenantStore<'_>, wanted: LineOf) -> Result<Vec<LedgerLine>, ApiError> {
    match wanted {
        LineOf::Attempt(attempt) => Ok(store.line(attempt)?.into_iter().collect()),
        LineOf::Request(request) => lines_of(store, request),
    }
}

/// Lines are kept by attempt and by time: a request's id says when it came.
fn lines_of(store: &TenantStore<'_>, request: RequestId) -> Result<Vec<LedgerLine>, ApiError> {
    let millis = i64::try_from(request.bits() >> 80).unwrap_or(i64::MAX);
    let from = Timestamp::from_micros(millis.saturating_mul(1_000));
    let until = from.plus(REQUEST_LIFE);
    let mut found = Vec::new();
    let mut after = None;
    for _ in 0..REQUEST_PAGES_MAX {
        let lines = store.lines(from, until, after, PAGE_LINES)?;
        after = lines.last().map(LineCursor::after);
        let is_last = lines.len() < PAGE_LINES as usize;
        found.extend(
            lines
                .into_iter()
                // What was called on its way belongs to it, too.
                .filter(|line| {
                    line.intent.request == request || line.intent.parent == Some(request)
                }),
        );
        if is_last {
            break;
        }
    }
    Ok(found)
}
