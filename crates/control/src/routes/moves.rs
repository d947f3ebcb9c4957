//! Where tenants' data lives: the servers, and moving from one placement to another.

use std::sync::Arc;
use std::time::Duration;

use tenancy::Permission;
use tenancy::catalogue::ServerWall;

use crate::Control;
use crate::api::{MoveReply, MoveRequest, ServerReply, ServersReply, WallReply};
use crate::endpoint::{Call, Endpoint, Json, Nothing, Reach, Verb, endpoint};
use crate::error::ApiError;
use crate::moves::MoveOrder;
use crate::placing::Taken;
use crate::publisher::blocking;

/// A week: long enough to see a whole billing run on the new side.
const KEEP_DAYS: u16 = 7;
/// A year.
const KEEP_DAYS_MAX: u16 = 365;
const SECONDS_PER_DAY: u64 = 24 * 3600;

pub(super) fn endpoints() -> Vec<Endpoint> {
    vec![
        endpoint(
            Verb::Post,
            "/admin/v1/tenants/{tenant}/move",
            "move_tenant",
            "Begins to move a tenant's data to another placement, while it is served",
            Reach::Tenant(Permission::WriteCatalogue),
            begin,
        ),
        endpoint(
            Verb::Get,
            "/admin/v1/tenants/{tenant}/move",
            "get_tenant_move",
            "How far the tenant's move is, or what became of the last one",
            Reach::Tenant(Permission::ReadCatalogue),
            show,
        ),
        endpoint(
            Verb::Get,
            "/admin/v1/servers",
            "list_servers",
            "The PostgreSQL servers for tenants' data: their regions, and how full they are",
            Reach::Platform(Permission::ReadUsage),
            servers,
        ),
    ]
}

async fn begin(
    control: Arc<Control>,
    call: Call<Nothing, Json<MoveRequest>>,
) -> Result<Json<MoveReply>, ApiError> {
    let tenant = call.tenant().name.clone();
    let act = call.act(format!("tenants/{tenant}"), None)?;
    let Json(request) = call.body;
    let days = request.keep_days.unwrap_or(KEEP_DAYS);
    if days > KEEP_DAYS_MAX {
        let message = format!("an old copy is kept for {KEEP_DAYS_MAX} days at most");
        return Err(ApiError::of("keep_days", message));
    }
    let order = MoveOrder {
        tenant,
        to: request.to,
        kept_for: Duration::from_secs(u64::from(days) * SECONDS_PER_DAY),
        act,
    };
    let publisher = Arc::clone(&control.publisher);
    blocking(move || publisher.begin_move(order).map(Json)).await
}

async fn show(
    control: Arc<Control>,
    call: Call<Nothing, Nothing>,
) -> Result<Json<MoveReply>, ApiError> {
    let tenant = call.tenant().id();
    let own = control.publisher.moves.of(tenant).map(|one| one.reply());
    // Another replica may have moved it since: what is on record of that.
    let publisher = Arc::clone(&control.publisher);
    let on_record = blocking(move || publisher.move_on_record(tenant)).await?;
    let on_record = on_record.map(|one| one.reply);
    let newest = match (own, on_record) {
        (Some(own), Some(other)) if other.began_at > own.began_at => Some(other),
        (Some(own), _) => Some(own),
        (None, other) => other,
    };
    newest.map(Json).ok_or(ApiError::NotFound)
}

async fn servers(
    control: Arc<Control>,
    call: Call<Nothing, Nothing>,
) -> Result<Json<ServersReply>, ApiError> {
    let (stores, taken) = (&control.publisher.stores, Taken::of(&call.snapshot));
    let names = stores.servers().into_iter();
    let data = names.filter_map(|name| {
        let (region, capacity) = stores.room(&name)?;
        let wall = |wall| WallReply {
            tenants: taken.on(&name, wall),
            tenants_max: capacity.behind(wall),
        };
        Some(ServerReply {
            region: region.cloned(),
            pool: wall(ServerWall::Pool),
            bridge: wall(ServerWall::Bridge),
            silo: wall(ServerWall::Silo),
            name: name.clone(),
        })
    });
    Ok(Json(ServersReply {
        data: data.collect(),
    }))
}
