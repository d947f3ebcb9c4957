//! Declarative configuration: apply, export, versions, rollback, reload.

use std::sync::Arc;

use serde_json::Value;
use store::Page as StorePage;
use tenancy::catalogue::{Address, Kind, Resource, TenantConfig};
use tenancy::{Change, Permission};

use crate::Control;
use crate::api::{
    ApplyReport, ApplyRequest, ConfigVersion, CreatedKey, ExportReply, ListQuery, Manifest, Page,
    PublishedReply, RollbackReply, RollbackRequest, VersionRow,
};
use crate::declare::{Plan, plan};
use crate::endpoint::{Call, Endpoint, Json, Nothing, Reach, Shown, Verb, endpoint};
use crate::error::ApiError;
use crate::given;
use crate::paging::Paging;
use crate::publisher::{Act, Turn, blocking, decode};
use crate::resources;
use crate::rollback;

pub(super) fn endpoints() -> Vec<Endpoint> {
    use Permission::{ReadCatalogue, RollBack, WriteCatalogue};
    vec![
        endpoint(
            Verb::Post,
            "/admin/v1/apply",
            "apply",
            "Puts what is declared in place, as one version; or says what would change",
            Reach::Platform(WriteCatalogue),
            apply,
        )
        .with_large_body(),
        endpoint(
            Verb::Get,
            "/admin/v1/export",
            "export",
            "The whole catalogue, in the form that apply takes",
            Reach::Platform(WriteCatalogue),
            export,
        ),
        endpoint(
            Verb::Get,
            "/admin/v1/versions",
            "list_versions",
            "The catalogue's versions, the newest first",
            Reach::Platform(ReadCatalogue),
            versions,
        ),
        endpoint(
            Verb::Post,
            "/admin/v1/versions/{version}/rollback",
            "roll_back",
            "Goes back to an earlier version, by a new one",
            Reach::Platform(RollBack),
            roll_back,
        ),
        endpoint(
            Verb::Post,
            "/admin/v1/reload",
            "reload",
            "Reads the catalogue and the secrets that it refers to anew",
            Reach::Platform(WriteCatalogue),
            reload,
        ),
        endpoint(
            Verb::Get,
            "/admin/v1/tenants/{tenant}/config/versions",
            "list_config_versions",
            "What the tenant's configuration was, the newest first",
            Reach::Tenant(ReadCatalogue),
            config_versions,
        ),
        endpoint(
            Verb::Post,
            "/admin/v1/tenants/{tenant}/config/versions/{version}/rollback",
            "roll_back_config",
            "Goes back to what the tenant's configuration was at a version of the catalogue",
            Reach::Tenant(RollBack),
            roll_back_config,
        ),
    ]
}

async fn apply(
    control: Arc<Control>,
    call: Call<Nothing, Json<ApplyRequest>>,
) -> Result<Json<ApplyReport>, ApiError> {
    let act = call.act("catalogue", call.body.0.note.as_deref())?;
    let Json(request) = call.body;
    let publisher = Arc::clone(&control.publisher);
    publisher
        .in_turn(move |turn| apply_in_turn(turn, &act, &request))
        .await
        .map(Json)
}

fn apply_in_turn(
    turn: &Turn<'_>,
    act: &Act,
    request: &ApplyRequest,
) -> Result<ApplyReport, ApiError> {
    let current = turn.current();
    let Plan {
        changes,
        diff,
        new_tenants,
        new_keys,
    } = plan(&current, request, turn.publisher.mint())?;
    let new_tenants: Vec<_> = new_tenants
        .into_iter()
        .map(|id| turn.publisher.new_tenant(id))
        .collect::<Result<_, _>>()?;
    if request.dry_run {
        turn.check_consent(act, &changes)?;
        turn.check(changes, &new_tenants)?;
        return Ok(ApplyReport {
            version: current.version(),
            diff,
            created_keys: Vec::new(),
        });
    }
    let version = match changes.is_empty() {
        true => current.version(),
        false => turn.commit(act, changes, &new_tenants)?.version(),
    };
    let created_keys = new_keys.into_iter().map(|(tenant, name, key)| CreatedKey {
        tenant,
        name,
        key: key.expose().to_owned(),
    });
    Ok(ApplyReport {
        version,
        diff,
        created_keys: created_keys.collect(),
    })
}

async fn export(
    control: Arc<Control>,
    call: Call<Nothing, Nothing>,
) -> Result<Json<ExportReply>, ApiError> {
    // It holds every tenant's configuration: reading it is on record.
    let act = call.act("catalogue", None)?;
    let snapshot = Arc::clone(&call.snapshot);
    let publisher = Arc::clone(&control.publisher);
    blocking(move || {
        publisher.record_act(&act)?;
        let resources = resources::all(&snapshot).map(|(address, resource)| Manifest {
            kind: address.kind,
            tenant: address
                .tenant
                .and_then(|id| snapshot.tenant(id))
                .map(|t| t.name.clone()),
            name: address.name,
            spec: Value::Object(given::exported(&resource)),
        });
        Ok(Json(ExportReply {
            version: snapshot.version(),
            resources: resources.collect(),
        }))
    })
    .await
}

async fn versions(
    control: Arc<Control>,
    call: Call<Json<ListQuery>, Nothing>,
) -> Result<Json<Page<VersionRow>>, ApiError> {
    let Json(ListQuery { limit, cursor }) = &call.query;
    let paging = Paging::read(*limit, cursor.as_deref())?;
    let offset = paging.offset()?;
    let publisher = Arc::clone(&control.publisher);
    blocking(move || {
        let page = StorePage::new(offset, paging.limit as u32);
        let versions = publisher
            .catalogue
            .versions(page)
            .map_err(ApiError::internal)?;
        let rows = versions.into_iter().map(|version| VersionRow {
            version: version.version,
            at: version.at,
            actor: version.actor,
            note: version.note,
        });
        Ok(Json(paging.of_page(offset, rows.collect())))
    })
    .await
}

async fn roll_back(
    control: Arc<Control>,
    call: Call<Nothing, Json<RollbackRequest>>,
) -> Result<Json<RollbackReply>, ApiError> {
    let version = call.number("version")?;
    let act = call.act(format!("versions/{version}"), call.body.0.note.as_deref())?;
    let publisher = Arc::clone(&control.publisher);
    publisher
        .in_turn(move |turn| {
            let current = turn.current();
            if !(1..=current.version()).contains(&version) {
                return Err(ApiError::NotFound);
            }
            let rows = turn
                .publisher
                .catalogue
                .load_at(version)
                .map_err(ApiError::internal)?;
            let rollback::Rollback { plan, kept } =
                rollback::rollback(&current, &rows, &|address, resource| {
                    turn.has_files(address, resource)
                });
            let version = match plan.changes.is_empty() {
                true => current.version(),
                false => turn.commit(&act, plan.changes, &[])?.version(),
            };
            Ok(Json(RollbackReply {
                version,
                diff: plan.diff,
                kept,
            }))
        })
        .await
}

async fn reload(
    control: Arc<Control>,
    call: Call<Nothing, Nothing>,
) -> Result<Json<PublishedReply>, ApiError> {
    let act = call.act("catalogue", None)?;
    let publisher = Arc::clone(&control.publisher);
    publisher
        .in_turn(move |turn| {
            turn.publisher.record_act(&act)?;
            turn.reload()
                .map(|version| Json(PublishedReply { version }))
        })
        .await
}

/// The rows of a tenant's configuration, the newest first.
fn config_history(
    control: &Control,
    tenant: base::TenantId,
    page: StorePage,
) -> Result<Vec<(u64, Option<store::Resource>)>, ApiError> {
    let (kind, name) = (Kind::Config.as_str(), Kind::Config.as_str());
    let tenant = tenant.to_string();
    let history = control
        .publisher
        .catalogue
        .history(kind, &tenant, name, page);
    let rows = history
        .map_err(ApiError::internal)?
        .into_iter()
        .map(|entry| {
            let row = entry.spec.map(|spec| store::Resource {
                kind: kind.to_owned(),
                tenant: tenant.clone(),
                name: name.to_owned(),
                version: entry.version,
                spec,
            });
            (entry.version, row)
        });
    Ok(rows.collect())
}

async fn config_versions(
    control: Arc<Control>,
    call: Call<Json<ListQuery>, Nothing>,
) -> Result<Json<Page<ConfigVersion>>, ApiError> {
    let Json(ListQuery { limit, cursor }) = &call.query;
    let paging = Paging::read(*limit, cursor.as_deref())?;
    let offset = paging.offset()?;
    let snapshot = Arc::clone(&call.snapshot);
    let (tenant, reason) = (Arc::clone(call.tenant()), call.reason_to_enter());
    let id = control.enter(call.caller, tenant, reason).await?.tenant();
    blocking(move || {
        let page = StorePage::new(offset, paging.limit as u32);
        let history = config_history(&control, id, page)?;
        let versions = history.into_iter().map(|(version, row)| {
            let decoded = row
                .and_then(|row| decode(&[row], &snapshot).pop())
                .transpose();
            let (config, unreadable) = match decoded {
                Ok(decoded) => (decoded.map(|(_, resource)| resource.to_json()), None),
                Err(error) => (None, Some(error.to_string())),
            };
            ConfigVersion {
                version,
                config,
                unreadable,
            }
        });
        Ok(Json(paging.of_page(offset, versions.collect())))
    })
    .await
}

async fn roll_back_config(
    control: Arc<Control>,
    call: Call<Nothing, Json<RollbackRequest>>,
) -> Result<Shown<TenantConfig>, ApiError> {
    let wanted = call.number("version")?;
    let tenant = Arc::clone(call.tenant());
    let note = call.body.0.note.as_deref();
    let act = call.act(format!("{}/config/versions/{wanted}", tenant.name), note)?;
    let publisher = Arc::clone(&control.publisher);
    publisher
        .in_turn(move |turn| {
            let current = turn.current();
            let former = config_at(&control, &current, tenant.id(), wanted)?;
            let now = current.tenant(tenant.id()).ok_or(ApiError::NotFound)?;
            // What the tenant says of its bodies is not said by going back.
            let resource = Resource::Config(TenantConfig {
                bodies: now.config.bodies.clone(),
                ..former
            });
            let address = Address::in_tenant(tenant.id(), Kind::Config, Kind::Config.as_str());
            let shown = resources::show(Some(&tenant.name), &address.name, &resource);
            if resources::find(&current, &address).as_ref() != Some(&resource) {
                turn.commit(
                    &act,
                    vec![Change {
                        address,
                        resource: Some(resource),
                    }],
                    &[],
                )?;
            }
            Ok(Shown::new(shown))
        })
        .await
}

/// A tenant's configuration as it was at a version of the catalogue; the default before the
/// first.
fn config_at(
    control: &Control,
    current: &tenancy::Snapshot,
    tenant: base::TenantId,
    wanted: u64,
) -> Result<TenantConfig, ApiError> {
    if !(1..=current.version()).contains(&wanted) {
        return Err(ApiError::NotFound);
    }
    let mut page = StorePage::first();
    loop {
        let history = config_history(control, tenant, page)?;
        let Some((oldest, _)) = history.last() else {
            return Ok(TenantConfig::default());
        };
        if *oldest > wanted {
            page = page.next();
            continue;
        }
        let found = history.into_iter().find(|(version, _)| *version <= wanted);
        let row = found.and_then(|(_, row)| row);
        return match row.and_then(|row| decode(&[row], current).pop()) {
            Some(Ok((_, Resource::Config(config)))) => Ok(config),
            Some(Err(error)) => Err(ApiError::conflict(error.to_string())),
            _ => Ok(TenantConfig::default()),
        };
    }
}
