//! Invoices, credit notes, adjustments, and the register of their numbers.

use std::sync::Arc;

use store::TenantStore;
use tenancy::{Permission, Snapshot, TenantEntry};

use crate::Control;
use crate::api::{
    Adjustment, AdjustmentRequest, CreditNote, CreditRequest, Invoice, InvoiceExportQuery,
    InvoiceRow, ListQuery, NumberRow, NumbersQuery, Page,
};
use crate::billing::{self, Books, Document, Period};
use crate::endpoint::{Call, Created, Endpoint, Json, Nothing, Reach, Verb, endpoint};
use crate::error::ApiError;
use crate::paging::Paging;
use crate::publisher::blocking;

pub(super) fn endpoints() -> Vec<Endpoint> {
    let read = Reach::Tenant(Permission::ReadUsage);
    // What it owes is the platform's to say.
    let write = Reach::Tenant(Permission::ActForTenant);
    let root = "/admin/v1/tenants/{tenant}";
    let path = |rest: &str| format!("{root}/{rest}");
    vec![
        endpoint(
            Verb::Get,
            &path("invoices"),
            "list_invoices",
            "A tenant's final invoices, the oldest first",
            read,
            list,
        ),
        endpoint(
            Verb::Get,
            &path("invoices/{id}"),
            "get_invoice",
            "An invoice, by its month (`2026-10`) or its number; of a month that is not final a draft",
            read,
            show,
        ),
        endpoint(
            Verb::Get,
            &path("invoices/{id}/export"),
            "export_invoice",
            "An invoice as JSON, CSV or PDF",
            read,
            export,
        ),
        endpoint(
            Verb::Post,
            &path("invoices/{id}/finalise"),
            "finalise_invoice",
            "Makes a month's invoice final: it gets the next number of its series, and never changes",
            write,
            finalise,
        ),
        endpoint(
            Verb::Post,
            &path("invoices/{id}/credit-notes"),
            "credit_invoice",
            "Gives back an amount of a final invoice",
            write,
            credit,
        ),
        endpoint(
            Verb::Get,
            &path("credit-notes"),
            "list_credit_notes",
            "A tenant's credit notes, by month and reference",
            read,
            credits,
        ),
        endpoint(
            Verb::Get,
            &path("adjustments"),
            "list_adjustments",
            "What was added to a tenant's invoices, by month and reference",
            read,
            adjustments,
        ),
        endpoint(
            Verb::Post,
            &path("adjustments"),
            "adjust_invoice",
            "Adds an amount to an invoice that is not final yet",
            write,
            adjust,
        ),
        endpoint(
            Verb::Get,
            "/admin/v1/invoice-numbers",
            "list_invoice_numbers",
            "The numbers of a series, of all tenants, without gaps",
            Reach::Platform(Permission::ReadUsage),
            numbers,
        ),
    ]
}

/// What happens inside a tenant's books.
struct Inside<'a> {
    control: &'a Control,
    snapshot: &'a Snapshot,
    tenant: &'a TenantEntry,
    books: Books<'a>,
}

/// Lets the caller into the tenant's books, to read.
async fn reading<Q, B, T: Send + 'static>(
    control: Arc<Control>,
    call: Call<Q, B>,
    read: impl FnOnce(&Inside<'_>) -> Result<T, ApiError> + Send + 'static,
) -> Result<T, ApiError> {
    let (tenant, reason) = (Arc::clone(call.tenant()), call.reason_to_enter());
    let snapshot = Arc::clone(&call.snapshot);
    let scope = control
        .enter(call.caller, Arc::clone(&tenant), reason)
        .await?;
    blocking(move || {
        control.live_usage.catch_up();
        let store = control.publisher.stores.open(&scope);
        let inside = Inside {
            books: Books::open(&control.publisher, &scope, &store)?,
            control: &control,
            snapshot: &snapshot,
            tenant: &tenant,
        };
        read(&inside)
    })
    .await
}

/// The same, to write: by one at a time, among all replicas.
async fn writing<Q, B, T: Send + 'static>(
    control: Arc<Control>,
    call: Call<Q, B>,
    write: impl FnOnce(&Inside<'_>) -> Result<T, ApiError> + Send + 'static,
) -> Result<T, ApiError> {
    let (tenant, reason) = (Arc::clone(call.tenant()), call.reason_to_enter());
    let scope = control
        .enter(call.caller, Arc::clone(&tenant), reason)
        .await?;
    let publisher = Arc::clone(&control.publisher);
    publisher
        .in_turn(move |turn| {
            control.live_usage.catch_up();
            // As it is in this turn: the price book may have changed since the call arrived.
            let snapshot = turn.current();
            let tenant = snapshot.tenant(tenant.id()).ok_or(ApiError::NotFound)?;
            let store: TenantStore<'_> = control.publisher.stores.open(&scope);
            let inside = Inside {
                books: Books::open(&control.publisher, &scope, &store)?,
                control: &control,
                snapshot: &snapshot,
                tenant,
            };
            write(&inside)
        })
        .await
}

impl Inside<'_> {
    /// The final invoice that is meant, or a draft of the month.
    fn invoice(&self, id: &str) -> Result<Invoice, ApiError> {
        if let Some(invoice) = self.books.invoice_meant(id)? {
            return Ok(invoice);
        }
        let period: Period = id.parse().map_err(|_| ApiError::NotFound)?;
        billing::draft(self.snapshot, self.tenant, &self.books, period)
    }
}

async fn list(
    control: Arc<Control>,
    call: Call<Json<ListQuery>, Nothing>,
) -> Result<Json<Page<InvoiceRow>>, ApiError> {
    let Json(ListQuery { limit, cursor }) = &call.query;
    let paging = Paging::read(*limit, cursor.as_deref())?;
    let rows = move |inside: &Inside<'_>| billing::rows(&inside.books, &paging);
    reading(control, call, rows).await.map(Json)
}

async fn show(
    control: Arc<Control>,
    call: Call<Nothing, Nothing>,
) -> Result<Json<Invoice>, ApiError> {
    let id = call.param("id").to_owned();
    let invoice = move |inside: &Inside<'_>| inside.invoice(&id);
    reading(control, call, invoice).await.map(Json)
}

async fn export(
    control: Arc<Control>,
    call: Call<Json<InvoiceExportQuery>, Nothing>,
) -> Result<Document, ApiError> {
    let id = call.param("id").to_owned();
    let format = call.query.0.format;
    let written = move |inside: &Inside<'_>| billing::written(&inside.invoice(&id)?, format);
    reading(control, call, written).await
}

async fn finalise(
    control: Arc<Control>,
    call: Call<Nothing, Nothing>,
) -> Result<Json<Invoice>, ApiError> {
    let period: Period = call.param("id").parse().map_err(|_| ApiError::NotFound)?;
    let act = call.act(format!("invoices/{period}"), None)?;
    let finalised = move |inside: &Inside<'_>| {
        billing::finalise(inside.snapshot, inside.tenant, &inside.books, period, &act)
    };
    writing(control, call, finalised).await.map(Json)
}

async fn credit(
    control: Arc<Control>,
    call: Call<Nothing, Json<CreditRequest>>,
) -> Result<Created<CreditNote>, ApiError> {
    let id = call.param("id").to_owned();
    let request = call.body.0.clone();
    let note = Some(request.reason.as_str());
    let act = call.act(format!("credit-notes/{}", request.reference), note)?;
    let credited = move |inside: &Inside<'_>| {
        let platform = (inside.control.publisher.as_ref(), inside.snapshot);
        billing::credit(platform, inside.tenant, &inside.books, (&id, request), &act)
    };
    writing(control, call, credited).await.map(Created)
}

async fn credits(
    control: Arc<Control>,
    call: Call<Json<ListQuery>, Nothing>,
) -> Result<Json<Page<CreditNote>>, ApiError> {
    let Json(ListQuery { limit, cursor }) = &call.query;
    let paging = Paging::read(*limit, cursor.as_deref())?;
    let all = |inside: &Inside<'_>| billing::credits(&inside.books);
    let all = reading(control, call, all).await?;
    paging.of_offsets(all.into_iter()).map(Json)
}

async fn adjustments(
    control: Arc<Control>,
    call: Call<Json<ListQuery>, Nothing>,
) -> Result<Json<Page<Adjustment>>, ApiError> {
    let Json(ListQuery { limit, cursor }) = &call.query;
    let paging = Paging::read(*limit, cursor.as_deref())?;
    let all = |inside: &Inside<'_>| billing::adjustments(&inside.books, None);
    let all = reading(control, call, all).await?;
    paging.of_offsets(all.into_iter()).map(Json)
}

async fn adjust(
    control: Arc<Control>,
    call: Call<Nothing, Json<AdjustmentRequest>>,
) -> Result<Created<Adjustment>, ApiError> {
    let request = call.body.0.clone();
    let note = Some(request.description.as_str());
    let act = call.act(format!("adjustments/{}", request.reference), note)?;
    let adjusted = move |inside: &Inside<'_>| {
        billing::adjust(&inside.control.publisher, &inside.books, request, &act)
    };
    writing(control, call, adjusted).await.map(Created)
}

async fn numbers(
    control: Arc<Control>,
    call: Call<Json<NumbersQuery>, Nothing>,
) -> Result<Json<Page<NumberRow>>, ApiError> {
    let query = &call.query.0;
    let paging = Paging::read(query.limit, query.cursor.as_deref())?;
    let series = query.series.clone();
    let act = call.act("invoice-numbers", None)?;
    blocking(move || {
        control.publisher.record_act(&act)?;
        billing::numbers(&control.publisher, &call.snapshot, &series, &paging).map(Json)
    })
    .await
}
