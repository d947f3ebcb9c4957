//! Alerts, and tests of the channels that are told of them.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tenancy::Permission;

use crate::Control;
use crate::api::{AlertRow, AlertsQuery, ChannelTestReply, Page, WebhookSecretReply};
use crate::endpoint::{Call, Endpoint, Json, Nothing, Reach, Verb, endpoint};
use crate::error::ApiError;
use crate::paging::Paging;
use crate::publisher::blocking;

pub(super) fn endpoints() -> Vec<Endpoint> {
    let read = Permission::ReadUsage;
    vec![
        endpoint(
            Verb::Get,
            "/admin/v1/alerts",
            "list_alerts",
            "What is so that somebody should know, of all tenants and of the platform",
            Reach::Platform(read),
            list,
        ),
        endpoint(
            Verb::Get,
            "/admin/v1/tenants/{tenant}/alerts",
            "list_tenant_alerts",
            "What is so of a tenant that somebody should know",
            Reach::Tenant(read),
            list,
        ),
        endpoint(
            Verb::Post,
            "/admin/v1/platform-channels/{name}/test",
            "test_platform_channel",
            "Sends a test to one of the platform's channels",
            Reach::Platform(Permission::WriteCatalogue),
            test,
        ),
        endpoint(
            Verb::Post,
            "/admin/v1/tenants/{tenant}/channels/{name}/test",
            "test_channel",
            "Sends a test to one of the tenant's channels",
            Reach::Tenant(Permission::ManageTenantConfig),
            test,
        ),
        endpoint(
            Verb::Get,
            "/admin/v1/webhook-secret",
            "get_platform_webhook_secret",
            "The secret by which a receiver of the platform's own webhooks verifies them",
            Reach::Platform(Permission::WriteCatalogue),
            secret,
        ),
    ]
}

async fn list(
    control: Arc<Control>,
    call: Call<Json<AlertsQuery>, Nothing>,
) -> Result<Json<Page<AlertRow>>, ApiError> {
    let tenant = call.tenant_if_any().map(|tenant| tenant.id());
    let Json(query) = call.query;
    let paging = Paging::read(query.limit, query.cursor.as_deref())?;
    blocking(move || {
        let rows = control.alert_rows(tenant).map_err(ApiError::internal)?;
        let is_asked = |row: &AlertRow| query.state.is_none_or(|state| row.state == state);
        Ok(Json(paging.of_offsets(rows.into_iter().filter(is_asked))?))
    })
    .await
}

async fn test(
    control: Arc<Control>,
    call: Call<Nothing, Nothing>,
) -> Result<Json<ChannelTestReply>, ApiError> {
    let name = call.param("name").to_owned();
    let tenant = call.tenant_if_any().map(Arc::clone);
    let channel = match &tenant {
        Some(tenant) => {
            let own = tenant.own.as_ref();
            own.and_then(|own| Some(own.channels.get(name.as_str())?.0.clone()))
        }
        None => {
            let found = call.snapshot.channels().get(name.as_str());
            found.map(|channel| (**channel).clone())
        }
    };
    let channel = channel.ok_or(ApiError::NotFound)?;
    let target = match &tenant {
        Some(tenant) => format!("{}/channels/{name}", tenant.name),
        None => format!("platform-channels/{name}"),
    };
    let act = call.act(target, None)?;
    let publisher = Arc::clone(&control.publisher);
    blocking(move || publisher.record_act(&act)).await?;
    let sent = control
        .test_channel(&channel, tenant.as_deref(), &name)
        .await;
    Ok(Json(ChannelTestReply {
        delivered: sent.is_ok(),
        problem: sent.err(),
    }))
}

async fn secret(
    control: Arc<Control>,
    call: Call<Nothing, Nothing>,
) -> Result<Json<WebhookSecretReply>, ApiError> {
    let act = call.act("webhook-secret", None)?;
    blocking(move || {
        control.publisher.record_act(&act)?;
        let secret = control.publisher.own_webhook_secret();
        Ok(Json(WebhookSecretReply {
            secret: format!("whsec_{}", STANDARD.encode(*secret)),
        }))
    })
    .await
}
