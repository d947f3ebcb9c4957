//! Uploads of tenants' adapters.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use base::{ModelName, TenantId};
use bytes::Bytes;
use http_body_util::BodyExt as _;
use schemars::JsonSchema;
use serde::Deserialize;
use tenancy::catalogue::{AdapterSource, AdapterSpec, Address, Kind, Resource, UploadedAdapter};
use tenancy::{Change, Permission, Snapshot};
use tokio::sync::mpsc;

use crate::Control;
use crate::endpoint::{Call, Endpoint, Json, Nothing, Reach, Shown, Verb, endpoint};
use crate::error::ApiError;
use crate::publisher::blocking;
use crate::resources;
use crate::uploads::{AdapterFolder, PIECES_MAX, Received};

/// 30 s without a byte: whoever sends has gone.
const PIECE_TIMEOUT: Duration = Duration::from_secs(30);

/// What an upload says beside its files.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct UploadQuery {
    /// The model that the adapter sits on, as clients name it. May be left out where the adapter is
    /// there already.
    base: Option<ModelName>,
}

pub(super) fn endpoints() -> Vec<Endpoint> {
    let upload = endpoint(
        Verb::Put,
        "/admin/v1/tenants/{tenant}/adapters/{name}/files",
        "put_adapter_files",
        "Uploads an adapter's files, a tar archive, and puts the adapter in place",
        Reach::Tenant(Permission::ManageTenantConfig),
        upload,
    );
    vec![upload.with_archive()]
}

async fn upload(
    control: Arc<Control>,
    mut call: Call<Json<UploadQuery>, Nothing>,
) -> Result<Shown<AdapterSpec>, ApiError> {
    let folder = control.publisher.adapters.clone().ok_or_else(|| {
        ApiError::conflict(
            "this installation takes no uploads: set `adapters.folder` in partywall.toml",
        )
    })?;
    let tenant = Arc::clone(call.tenant());
    let tier = call.snapshot.tier_of(&tenant).adapters.as_ref();
    let bytes_max = tier.map_or(0, |adapters| adapters.upload_bytes_max);
    if bytes_max == 0 {
        return Err(ApiError::conflict(format!(
            "the tier `{}` allows no uploads: set its `adapters.upload_bytes_max`",
            tenant.spec.tier
        )));
    }
    let address = Address::in_tenant(tenant.id(), Kind::Adapter, call.param("name"));
    let act = call.act(resources::address_text(&call.snapshot, &address), None)?;
    let base = call.query.0.base.clone();
    let body = call.archive.take().unwrap_or_default();
    let received = receive(&control, &folder, tenant.id(), bytes_max, body).await?;
    let publisher = Arc::clone(&control.publisher);
    publisher
        .in_turn(move |turn| {
            let current = turn.current();
            let former = adapter_at(&current, &address);
            let spec = adapted(former.as_ref(), base, &received)?;
            let resource = Resource::Adapter(spec);
            let shown = resources::show(Some(&tenant.name), &address.name, &resource);
            received.settle()?;
            let change = Change {
                address,
                resource: Some(resource),
            };
            turn.commit(&act, vec![change], &[])?;
            received.keep();
            Ok(Shown::new(shown))
        })
        .await
}

/// Receives the body on a thread that may wait for the disk.
async fn receive(
    control: &Arc<Control>,
    folder: &AdapterFolder,
    tenant: TenantId,
    bytes_max: u64,
    body: Body,
) -> Result<Received, ApiError> {
    let (sender, pieces) = mpsc::channel(PIECES_MAX);
    let (control, folder) = (Arc::clone(control), folder.clone());
    let receiving = blocking(move || {
        let entropy = control.publisher.mint().entropy;
        folder.receive(tenant, bytes_max, entropy, pieces)
    });
    match tokio::join!(receiving, send(body, sender)) {
        (received, Ok(())) => received,
        (_, Err(broken)) => Err(broken),
    }
}

async fn send(mut body: Body, sender: mpsc::Sender<Bytes>) -> Result<(), ApiError> {
    loop {
        let frame = tokio::time::timeout(PIECE_TIMEOUT, body.frame()).await;
        let frame = match frame {
            Ok(Some(Ok(frame))) => frame,
            Ok(None) => return Ok(()),
            Ok(Some(Err(_))) => return Err(ApiError::invalid("the body did not arrive whole")),
            Err(_) => return Err(ApiError::invalid("nothing of the body arrived for 30 s")),
        };
        // Whoever receives has found something wrong, and says so.
        if let Ok(data) = frame.into_data()
            && sender.send(data).await.is_err()
        {
            return Ok(());
        }
    }
}

fn adapter_at(snapshot: &Snapshot, address: &Address) -> Option<AdapterSpec> {
    match resources::find(snapshot, address) {
        Some(Resource::Adapter(spec)) => Some(spec),
        _ => None,
    }
}

/// The adapter with the files that were received.
fn adapted(
    former: Option<&AdapterSpec>,
    base: Option<ModelName>,
    received: &Received,
) -> Result<AdapterSpec, ApiError> {
    let base = base.or_else(|| former.map(|former| former.base.clone()));
    Ok(AdapterSpec {
        description: former
            .map(|former| former.description.clone())
            .unwrap_or_default(),
        base: base.ok_or_else(|| {
            ApiError::of(
                "base",
                "a new adapter needs the model that it sits on: `?base=MODEL`",
            )
        })?,
        source: AdapterSource::Uploaded(UploadedAdapter {
            location: received.location.as_str().into(),
            sha256: received.sha256.as_str().into(),
            bytes: received.bytes,
        }),
        rank: Some(received.rank),
    })
}
