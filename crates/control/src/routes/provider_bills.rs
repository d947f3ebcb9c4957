//! Providers' bills, compared with the ledger.

use std::sync::Arc;

use tenancy::Permission;

use crate::Control;
use crate::api::{BillImportReply, BillImportRequest, BillRow, ListQuery, Page};
use crate::endpoint::{Call, Created, Endpoint, Json, Nothing, Reach, Verb, endpoint};
use crate::error::ApiError;
use crate::paging::Paging;
use crate::provider_bills;
use crate::publisher::blocking;

pub(super) fn endpoints() -> Vec<Endpoint> {
    vec![
        endpoint(
            Verb::Post,
            "/admin/v1/reconciliations",
            "import_bill",
            "Compares a provider's bill with the ledger, by day and model, and keeps what comes of it",
            Reach::Platform(Permission::WriteCatalogue),
            import,
        )
        .with_large_body(),
        endpoint(
            Verb::Get,
            "/admin/v1/reconciliations",
            "list_reconciliations",
            "The comparisons of providers' bills, the newest first",
            Reach::Platform(Permission::ReadUsage),
            list,
        ),
        endpoint(
            Verb::Get,
            "/admin/v1/reconciliations/{id}",
            "get_reconciliation",
            "A comparison of a provider's bill, as it was made",
            Reach::Platform(Permission::ReadUsage),
            show,
        ),
    ]
}

async fn import(
    control: Arc<Control>,
    call: Call<Nothing, Json<BillImportRequest>>,
) -> Result<Created<BillImportReply>, ApiError> {
    let act = call.act("reconciliations", None)?;
    let (snapshot, Json(request)) = (Arc::clone(&call.snapshot), call.body);
    blocking(move || provider_bills::import(&control, &snapshot, &request, &act).map(Created)).await
}

async fn list(
    control: Arc<Control>,
    call: Call<Json<ListQuery>, Nothing>,
) -> Result<Json<Page<BillRow>>, ApiError> {
    let Json(ListQuery { limit, cursor }) = &call.query;
    let paging = Paging::read(*limit, cursor.as_deref())?;
    let act = call.act("reconciliations", None)?;
    blocking(move || {
        control.publisher.record_act(&act)?;
        provider_bills::list(&control, &paging).map(Json)
    })
    .await
}

async fn show(
    control: Arc<Control>,
    call: Call<Nothing, Nothing>,
) -> Result<Json<BillImportReply>, ApiError> {
    let id = call.number("id")?;
    let act = call.act(format!("reconciliations/{id}"), None)?;
    blocking(move || {
        control.publisher.record_act(&act)?;
        provider_bills::kept(&control, id).map(Json)
    })
    .await
}
