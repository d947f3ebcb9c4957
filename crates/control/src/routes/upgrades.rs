//! Upgrades of tenants' stores, ring by ring.

use std::sync::Arc;

use tenancy::Permission;

use crate::Control;
use crate::api::{UpgradeReply, UpgradeRequest};
use crate::endpoint::{Call, Endpoint, Json, Nothing, Reach, Verb, endpoint};
use crate::error::ApiError;
use crate::publisher::{Act, blocking};
use crate::upgrades::UpgradeCommand;

/// What the record says that it was about.
const TARGET: &str = "upgrade";

pub(super) fn endpoints() -> Vec<Endpoint> {
    let write = Reach::Platform(Permission::WriteCatalogue);
    vec![
        endpoint(
            Verb::Get,
            "/admin/v1/upgrade",
            "get_upgrade",
            "How the upgrade of tenants' stores stands, ring by ring",
            Reach::Platform(Permission::ReadCatalogue),
            show,
        ),
        endpoint(
            Verb::Post,
            "/admin/v1/upgrade",
            "start_upgrade",
            "Begins to bring tenants' stores to the newest step of their schema, while they are served",
            write,
            start,
        ),
        endpoint(
            Verb::Post,
            "/admin/v1/upgrade/advance",
            "advance_upgrade",
            "Goes on with the next ring without watching this one any longer",
            write,
            advance,
        ),
        endpoint(
            Verb::Post,
            "/admin/v1/upgrade/halt",
            "halt_upgrade",
            "Halts the upgrade; stores that are done stay so",
            write,
            halt,
        ),
        endpoint(
            Verb::Post,
            "/admin/v1/upgrade/resume",
            "resume_upgrade",
            "Goes through the ring anew that the upgrade was halted in",
            write,
            resume,
        ),
    ]
}

async fn show(
    control: Arc<Control>,
    _: Call<Nothing, Nothing>,
) -> Result<Json<UpgradeReply>, ApiError> {
    let publisher = Arc::clone(&control.publisher);
    blocking(move || publisher.upgrade_status().map(Json)).await
}

async fn start(
    control: Arc<Control>,
    call: Call<Nothing, Json<UpgradeRequest>>,
) -> Result<Json<UpgradeReply>, ApiError> {
    let act = call.act(TARGET, None)?;
    let Json(request) = call.body;
    command(&control, UpgradeCommand::Start(request), act).await
}

async fn advance(
    control: Arc<Control>,
    call: Call<Nothing, Nothing>,
) -> Result<Json<UpgradeReply>, ApiError> {
    let act = call.act(TARGET, None)?;
    command(&control, UpgradeCommand::Advance, act).await
}

async fn halt(
    control: Arc<Control>,
    call: Call<Nothing, Nothing>,
) -> Result<Json<UpgradeReply>, ApiError> {
    let act = call.act(TARGET, None)?;
    command(&control, UpgradeCommand::Halt, act).await
}

async fn resume(
    control: Arc<Control>,
    call: Call<Nothing, Nothing>,
) -> Result<Json<UpgradeReply>, ApiError> {
    let act = call.act(TARGET, None)?;
    command(&control, UpgradeCommand::Resume, act).await
}

async fn command(
    control: &Control,
    command: UpgradeCommand,
    act: Act,
) -> Result<Json<UpgradeReply>, ApiError> {
    let done = control.publisher.command_upgrade(command, act).await;
    done.map(Json)
}
