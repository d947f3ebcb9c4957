//! Backups of tenants' stores, and putting them back.

use std::sync::Arc;

use tenancy::Permission;

use crate::Control;
use crate::api::{BackupView, ListQuery, Page, RestoreReply, RestoreRequest};
use crate::endpoint::{Call, Endpoint, Json, Nothing, Reach, Verb, endpoint};
use crate::error::ApiError;
use crate::paging::Paging;
use crate::publisher::blocking;

pub(super) fn endpoints() -> Vec<Endpoint> {
    // A tenant sees that it is backed up; it neither fills the platform's disks nor turns its clock
    // back.
    let write = Reach::Tenant(Permission::WriteCatalogue);
    vec![
        endpoint(
            Verb::Get,
            "/admin/v1/tenants/{tenant}/backups",
            "list_backups",
            "The backups of the tenant's store, by name",
            Reach::Tenant(Permission::ReadCatalogue),
            list,
        ),
        endpoint(
            Verb::Post,
            "/admin/v1/tenants/{tenant}/backups",
            "back_up_tenant",
            "Takes a backup of the tenant's store while it is served, and reads it back",
            write,
            back_up,
        ),
        endpoint(
            Verb::Delete,
            "/admin/v1/tenants/{tenant}/backups/{backup}",
            "delete_backup",
            "Removes a backup",
            write,
            remove,
        ),
        endpoint(
            Verb::Post,
            "/admin/v1/tenants/{tenant}/restore",
            "restore_tenant",
            "Puts a backup of the tenant's store back, while other tenants and its own calls go on",
            write,
            restore,
        ),
    ]
}

async fn list(
    control: Arc<Control>,
    call: Call<Json<ListQuery>, Nothing>,
) -> Result<Json<Page<BackupView>>, ApiError> {
    let Json(ListQuery { limit, cursor }) = &call.query;
    let paging = Paging::read(*limit, cursor.as_deref())?;
    let tenant = call.tenant().id();
    blocking(move || {
        let mut all = control.publisher.backups(tenant)?;
        // By name is by time.
        all.sort_by(|a, b| a.name.cmp(&b.name));
        let page = paging.of_names(all.iter().map(|view| view.name.clone()).collect());
        all.retain(|view| page.data.contains(&view.name));
        Ok(Json(Page {
            data: all,
            next_cursor: page.next_cursor,
        }))
    })
    .await
}

async fn back_up(
    control: Arc<Control>,
    call: Call<Nothing, Nothing>,
) -> Result<Json<BackupView>, ApiError> {
    let act = call.act(format!("tenants/{}/backups", call.tenant().name), None)?;
    let tenant = Arc::clone(call.tenant());
    blocking(move || {
        let publisher = &control.publisher;
        publisher.record_act(&act)?;
        match publisher.back_up(&tenant) {
            Ok(taken) => Ok(Json(taken)),
            Err(error) => {
                publisher.record_failure(&act)?;
                Err(error)
            }
        }
    })
    .await
}

async fn remove(control: Arc<Control>, call: Call<Nothing, Nothing>) -> Result<Nothing, ApiError> {
    let name = call.param("backup").to_owned();
    let act = call.act(
        format!("tenants/{}/backups/{name}", call.tenant().name),
        None,
    )?;
    let tenant = call.tenant().id();
    blocking(move || {
        let publisher = &control.publisher;
        let is_there = publisher
            .backups(tenant)?
            .iter()
            .any(|view| view.name == name);
        if !is_there {
            return Err(ApiError::NotFound);
        }
        publisher.record_act(&act)?;
        publisher.remove_backup(tenant, &name)?;
        Ok(Nothing)
    })
    .await
}

async fn restore(
    control: Arc<Control>,
    call: Call<Nothing, Json<RestoreRequest>>,
) -> Result<Json<RestoreReply>, ApiError> {
    let act = call.act(format!("tenants/{}", call.tenant().name), None)?;
    let tenant = Arc::clone(call.tenant());
    let Json(request) = call.body;
    blocking(move || control.publisher.restore(&tenant, &request, &act).map(Json)).await
}
