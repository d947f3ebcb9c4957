//! The processes that share the catalogue.

use std::sync::Arc;

use store::{ReplicaId, ReplicaView};
use tenancy::Permission;

use crate::Control;
use crate::api::{ReplicaReply, ReplicasReply};
use crate::endpoint::{Call, Endpoint, Json, Nothing, Reach, Verb, endpoint};
use crate::error::ApiError;
use crate::publisher::blocking;

pub(super) fn endpoints() -> Vec<Endpoint> {
    vec![
        endpoint(
            Verb::Get,
            "/admin/v1/replicas",
            "list_replicas",
            "The processes that share the catalogue, and how they are",
            Reach::Platform(Permission::ReadUsage),
            list,
        ),
        endpoint(
            Verb::Delete,
            "/admin/v1/replicas/{id}",
            "forget_replica",
            "Forgets a replica that will not come back; what it may have spent stays spent",
            Reach::Platform(Permission::WriteCatalogue),
            forget,
        ),
    ]
}

async fn list(
    control: Arc<Control>,
    _: Call<Nothing, Nothing>,
) -> Result<Json<ReplicasReply>, ApiError> {
    let catalogue = Arc::clone(&control.publisher.catalogue);
    blocking(move || {
        let replicas = match catalogue.server() {
            Some(server) => server.replicas().map_err(ApiError::internal)?,
            None => Vec::new(),
        };
        Ok(Json(ReplicasReply {
            data: replicas.iter().map(reply).collect(),
        }))
    })
    .await
}

async fn forget(control: Arc<Control>, call: Call<Nothing, Nothing>) -> Result<Nothing, ApiError> {
    let id: ReplicaId = call.param("id").parse().map_err(|_| ApiError::NotFound)?;
    let act = call.act(format!("replicas/{id}"), None)?;
    blocking(move || {
        let publisher = &control.publisher;
        let server = publisher.catalogue.server().ok_or(ApiError::NotFound)?;
        let replicas = server.replicas().map_err(ApiError::internal)?;
        let found = replicas.iter().find(|replica| replica.id == id);
        let found = found.ok_or(ApiError::NotFound)?;
        if found.is_there() {
            return Err(ApiError::conflict(format!(
                "replica `{}` is running: stop it first",
                found.name
            )));
        }
        publisher.record_act(&act)?;
        server.forget_replica(id).map_err(ApiError::internal)?;
        Ok(Nothing)
    })
    .await
}

fn reply(view: &ReplicaView) -> ReplicaReply {
    let state = match view {
        ReplicaView {
            has_ended: true, ..
        } => "ended",
        view if view.is_there() => "up",
        _ => "silent",
    };
    ReplicaReply {
        id: view.id.to_string(),
        name: view.name.clone(),
        state: state.to_owned(),
        roles: view.roles.split(',').map(str::to_owned).collect(),
        program: view.program.clone(),
        version: view.version,
        started_at: view.started_at,
        seen_ms_ago: u64::try_from(view.seen_ago.as_millis()).unwrap_or(u64::MAX),
    }
}
