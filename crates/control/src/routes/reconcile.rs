//! What crashes left unknown, and how it is put right when the upstream's bill says more.

use std::collections::BTreeMap;
use std::sync::Arc;

use base::{AttemptId, PicoUsd, TenantId};
use ledger::{ReconcileError, Subject};
use tenancy::{Permission, TenantEntry};

use crate::Control;
use crate::api::{
    ListQuery, Page, ReconcileLeaseReply, ReconcileLeaseRequest, ReconcileReply, ReconcileRequest,
    UnsettledRow, WriteOffRequest,
};
use crate::endpoint::{Call, Endpoint, Json, Nothing, Reach, Verb, endpoint};
use crate::error::ApiError;
use crate::paging::Paging;
use crate::ports::Unreported;
use crate::publisher::{Act, blocking};
use crate::usage::Names;

pub(super) fn endpoints() -> Vec<Endpoint> {
    // What a tenant owes is the platform's to say: a tenant sees what is open, and cannot end it.
    let write = Reach::Tenant(Permission::ActForTenant);
    vec![
        endpoint(
            Verb::Get,
            "/admin/v1/tenants/{tenant}/unsettled",
            "list_unsettled",
            "What counts as spent though its cost is not known: calls, and crashed leases",
            Reach::Tenant(Permission::ReadUsage),
            list,
        ),
        endpoint(
            Verb::Post,
            "/admin/v1/tenants/{tenant}/unsettled/{id}/reconcile",
            "reconcile_call",
            "Says what an unsettled call (`att_…`) cost",
            write,
            reconcile_call,
        ),
        endpoint(
            Verb::Post,
            "/admin/v1/tenants/{tenant}/unsettled/{id}/write-off",
            "write_off_call",
            "Says that nobody bills an unsettled call (`att_…`), and why",
            write,
            write_off_call,
        ),
        endpoint(
            Verb::Post,
            "/admin/v1/tenants/{tenant}/leases/reconcile",
            "reconcile_lease",
            "Says what of a crashed lease was not spent",
            write,
            reconcile_lease,
        ),
    ]
}

async fn list(
    control: Arc<Control>,
    call: Call<Json<ListQuery>, Nothing>,
) -> Result<Json<Page<UnsettledRow>>, ApiError> {
    let Json(ListQuery { limit, cursor }) = &call.query;
    let paging = Paging::read(*limit, cursor.as_deref())?;
    let (tenant, reason) = (Arc::clone(call.tenant()), call.reason_to_enter());
    let scope = control
        .enter(call.caller, Arc::clone(&tenant), reason)
        .await?;
    blocking(move || {
        let mut rows = rows(&control, &tenant, scope.tenant());
        let page = paging.of_names(rows.keys().cloned().collect());
        let data = page.data.iter().filter_map(|key| rows.remove(key));
        Ok(Json(Page {
            data: data.collect(),
            next_cursor: page.next_cursor,
        }))
    })
    .await
}

/// By a key that stays the same while others are reconciled: whoever does so page by page misses
/// none.
fn rows(
    control: &Control,
    tenant: &TenantEntry,
    id: base::TenantId,
) -> BTreeMap<String, UnsettledRow> {
    let calls = control.reconciler.unsettled(id).into_iter().map(|call| {
        let row = UnsettledRow::Call {
            attempt: call.attempt,
            amount: call.amount,
            since: call.since,
        };
        (call.attempt.to_string(), row)
    });
    let names = Names::of(tenant);
    let leases = control.reconciler.unreported(id).into_iter().map(|lease| {
        let subject = subject_text(&lease.subject, &names);
        let key = format!("lease {} {subject}", lease.budget);
        let row = UnsettledRow::Lease {
            budget: lease.budget,
            subject,
            amount: lease.amount,
        };
        (key, row)
    });
    calls.chain(leases).collect()
}

/// A subject as people say it; by id, once its name is gone.
fn subject_text(subject: &Subject, names: &Names) -> String {
    match subject {
        Subject::Tenant => "tenant".to_owned(),
        Subject::Team(id) => format!("team:{}", names.name(&id.to_string())),
        Subject::User(id) => format!("user:{}", names.name(&id.to_string())),
        Subject::Key(id) => format!("key:{}", names.name(&id.to_string())),
        Subject::Feature(name) => format!("feature:{name}"),
        Subject::Session(session) => format!("session:{}", session.as_str()),
        Subject::Turn { session, turn } => {
            format!("turn:{}/{}", session.as_str(), turn.as_str())
        }
        Subject::Model(model) => format!("model:{model}"),
    }
}

async fn reconcile_call(
    control: Arc<Control>,
    call: Call<Nothing, Json<ReconcileRequest>>,
) -> Result<Json<ReconcileReply>, ApiError> {
    let attempt: AttemptId = call.param("id").parse().map_err(|_| ApiError::NotFound)?;
    let tenant = call.tenant().id();
    let act = call.act(format!("unsettled/{attempt}"), None)?;
    settle(control, (tenant, attempt), call.body.0.cost, act).await
}

async fn write_off_call(
    control: Arc<Control>,
    call: Call<Nothing, Json<WriteOffRequest>>,
) -> Result<Json<ReconcileReply>, ApiError> {
    let attempt: AttemptId = call.param("id").parse().map_err(|_| ApiError::NotFound)?;
    let tenant = call.tenant().id();
    let reason = call.body.0.reason.trim();
    if reason.is_empty() {
        return Err(ApiError::of("reason", "say why nobody bills it"));
    }
    let act = call.act(format!("unsettled/{attempt}"), Some(reason))?;
    settle(control, (tenant, attempt), PicoUsd::ZERO, act).await
}

/// Says what a call cost, on record.
async fn settle(
    control: Arc<Control>,
    (tenant, attempt): (TenantId, AttemptId),
    cost: PicoUsd,
    act: Act,
) -> Result<Json<ReconcileReply>, ApiError> {
    blocking(move || {
        let open = control.reconciler.unsettled(tenant);
        if !open.iter().any(|call| call.attempt == attempt) {
            return Err(ApiError::NotFound);
        }
        control.publisher.record_act(&act)?;
        if let Err(error) = control.reconciler.reconcile(tenant, attempt, cost) {
            // Somebody else did it in this moment.
            control.publisher.record_failure(&act)?;
            return Err(match error {
                ReconcileError::Unknown => ApiError::NotFound,
                ReconcileError::StillLive => ApiError::conflict(error.to_string()),
            });
        }
        Ok(Json(ReconcileReply { attempt, cost }))
    })
    .await
}

async fn reconcile_lease(
    control: Arc<Control>,
    call: Call<Nothing, Json<ReconcileLeaseRequest>>,
) -> Result<Json<ReconcileLeaseReply>, ApiError> {
    let tenant = Arc::clone(call.tenant());
    let act = call.act(format!("leases/{}", call.body.0.budget), None)?;
    let Json(request) = call.body;
    let unspent = unspent(&request)?;
    blocking(move || {
        let names = Names::of(&tenant);
        let open = control.reconciler.unreported(tenant.id());
        let lease = the_lease(open, &request, &names)?;
        control.publisher.record_act(&act)?;
        let unspent = unspent.unwrap_or(lease.amount);
        let given_back = control
            .reconciler
            .reconcile_lease(tenant.id(), &lease, unspent);
        Ok(Json(ReconcileLeaseReply {
            subject: subject_text(&lease.subject, &names),
            budget: lease.budget,
            unspent: given_back,
            unreported: lease.amount.saturating_sub(given_back),
        }))
    })
    .await
}

/// What was not spent; none for all of it.
fn unspent(request: &ReconcileLeaseRequest) -> Result<Option<PicoUsd>, ApiError> {
    match (request.unspent, request.all) {
        (Some(unspent), false) => Ok(Some(unspent)),
        (None, true) => Ok(None),
        _ => Err(ApiError::of(
            "unspent",
            "say either what was not spent by `unspent`, or `all`",
        )),
    }
}

/// The one that is meant.
fn the_lease(
    open: Vec<Unreported>,
    request: &ReconcileLeaseRequest,
    names: &Names,
) -> Result<Unreported, ApiError> {
    let is_meant = |lease: &Unreported| {
        lease.budget == request.budget
            && request
                .subject
                .as_ref()
                .is_none_or(|subject| *subject == subject_text(&lease.subject, names))
    };
    let mut meant = open.into_iter().filter(is_meant);
    let lease = meant.next().ok_or(ApiError::NotFound)?;
    if meant.next().is_some() {
        return Err(ApiError::of(
            "subject",
            "more than one subject of the budget has a crashed lease: say which",
        ));
    }
    Ok(lease)
}
