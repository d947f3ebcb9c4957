//! A tenant's life: onboarding, suspension, rotation of its key, offboarding.

use std::sync::Arc;

use base::Name;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tenancy::catalogue::{Address, Kind, Resource, TenantSpec};
use tenancy::{Change, Permission};

use super::keys::new_key;
use crate::Control;
use crate::api::{
    ConfirmQuery, KeyReply, OnboardReply, OnboardRequest, PublishedReply, RotatedReply,
    WebhookSecretReply,
};
use crate::endpoint::{Call, Created, Endpoint, Json, Nothing, Reach, Shown, Verb, endpoint};
use crate::error::ApiError;
use crate::given;
use crate::publisher::{Act, Turn, blocking};
use crate::resources;

pub(super) fn endpoints() -> Vec<Endpoint> {
    let write = Reach::Tenant(Permission::WriteCatalogue);
    vec![
        endpoint(
            Verb::Post,
            "/admin/v1/tenants",
            "onboard_tenant",
            "Onboards a tenant: its key, its store, its resources, and a first API key",
            Reach::Platform(Permission::WriteCatalogue),
            onboard,
        ),
        endpoint(
            Verb::Delete,
            "/admin/v1/tenants/{tenant}",
            "offboard_tenant",
            "Offboards a tenant: its key and its data are destroyed",
            write,
            offboard,
        ),
        endpoint(
            Verb::Post,
            "/admin/v1/tenants/{tenant}/suspend",
            "suspend_tenant",
            "Refuses all of a tenant's calls",
            write,
            |control, call| set_suspended(control, call, Suspension::Suspended),
        ),
        endpoint(
            Verb::Post,
            "/admin/v1/tenants/{tenant}/resume",
            "resume_tenant",
            "Serves a suspended tenant again",
            write,
            |control, call| set_suspended(control, call, Suspension::Served),
        ),
        endpoint(
            Verb::Post,
            "/admin/v1/tenants/{tenant}/rotate-key",
            "rotate_tenant_key",
            "Encrypts a tenant's data under a new key, while it is served",
            Reach::Tenant(Permission::RotateKeys),
            rotate_key,
        ),
        endpoint(
            Verb::Post,
            "/admin/v1/tenants/{tenant}/rotate-salt",
            "rotate_tenant_salt",
            "Gives a tenant's prompts new salts: engines find nothing again of what they kept",
            Reach::Tenant(Permission::ManageTenantConfig),
            rotate_salt,
        ),
        endpoint(
            Verb::Get,
            "/admin/v1/tenants/{tenant}/webhook-secret",
            "get_webhook_secret",
            "The secret by which a receiver of the tenant's webhooks verifies them",
            // Whoever may say where they go: an auditor, who reads the rest, may not.
            Reach::Tenant(Permission::ManageTenantConfig),
            webhook_secret,
        ),
    ]
}

async fn onboard(
    control: Arc<Control>,
    call: Call<Nothing, Json<OnboardRequest>>,
) -> Result<Created<OnboardReply>, ApiError> {
    let act = call.act(format!("tenants/{}", call.body.0.name), None)?;
    let Json(request) = call.body;
    let publisher = Arc::clone(&control.publisher);
    publisher
        .in_turn(move |turn| onboard_in_turn(turn, act, &request))
        .await
        .map(Created)
}

fn onboard_in_turn(
    turn: &Turn<'_>,
    act: Act,
    request: &OnboardRequest,
) -> Result<OnboardReply, ApiError> {
    let name = &request.name;
    if turn.current().tenant_named(name.as_str()).is_some() {
        return Err(ApiError::conflict(format!(
            "there is a tenant `{name}` already"
        )));
    }
    let mint = turn.publisher.mint();
    let completed = given::complete(Kind::Tenant, &request.spec, None, mint)
        .map_err(|message| ApiError::of("spec", message))?;
    let Resource::Tenant(spec) = &completed.resource else {
        unreachable!("a tenant's specification was completed");
    };
    let new = turn.publisher.new_tenant(spec.id)?;
    let mut changes = Vec::with_capacity(2);
    let mut first_key = None;
    if let Some(wanted) = &request.first_key {
        let (resource, key) = new_key(wanted, mint)?;
        let shown = resources::show(Some(name), wanted.name.as_str(), &resource);
        first_key = Some((shown, key));
        let address = Address::in_tenant(spec.id, Kind::Key, wanted.name.as_str());
        changes.push(Change {
            address,
            resource: Some(resource),
        });
    }
    let address = Address::platform(Kind::Tenant, name.as_str());
    changes.push(Change {
        address,
        resource: Some(completed.resource),
    });
    let act = act.in_log_of(&new.keys);
    let next = turn.commit(&act, changes, std::slice::from_ref(&new))?;
    let version = next.version();
    let onboarded = next.tenant(new.keys.tenant()).map(|tenant| {
        let resource = Resource::Tenant((*tenant.spec).clone());
        resources::show(None, name.as_str(), &resource)
    });
    let tenant = onboarded.ok_or(ApiError::NotFound)?;
    let first_key = first_key.map(|(resource, key)| KeyReply {
        resource,
        key: key.expose().to_owned(),
        version,
    });
    Ok(OnboardReply {
        tenant,
        first_key,
        version,
    })
}

async fn offboard(
    control: Arc<Control>,
    call: Call<Json<ConfirmQuery>, Nothing>,
) -> Result<Json<PublishedReply>, ApiError> {
    let name = call.tenant().name.clone();
    if call.query.0.confirm != name.as_str() {
        let message = format!(
            "all data of `{name}` will be destroyed and cannot be brought back: \
             say `?confirm={name}` if that is meant"
        );
        return Err(ApiError::of("confirm", message));
    }
    // The tenant's own log goes with it: the record stands in the platform's.
    let act = Act::new(
        call.caller.actor(),
        &call.operation_id,
        format!("tenants/{name} ({})", call.tenant().id()),
        call.reason.as_deref(),
    )?;
    let publisher = Arc::clone(&control.publisher);
    publisher
        .in_turn(move |turn| {
            let current = turn.current();
            let tenant = current
                .tenant_named(name.as_str())
                .ok_or(ApiError::NotFound)?;
            if turn.publisher.is_moving(tenant.id())? {
                return Err(ApiError::conflict(
                    "the tenant is being moved: wait until it is there",
                ));
            }
            // Whatever cannot be removed now is found again.
            let former = tenant.spec.former_placement.as_deref();
            let former = former.map(|former| &former.placement);
            for placement in [Some(tenant.spec.placement()), former]
                .into_iter()
                .flatten()
            {
                turn.publisher.expect_store(tenant.id(), placement)?;
            }
            let address = Address::platform(Kind::Tenant, name.as_str());
            let next = turn.commit(
                &act,
                vec![Change {
                    address,
                    resource: None,
                }],
                &[],
            )?;
            turn.publisher.destroy(&tenant.unlocked)?;
            if let Some(adapters) = &turn.publisher.adapters {
                adapters.forget(tenant.id());
            }
            // An older copy, too; what is not removed now is swept later.
            turn.sweep_stores()?;
            Ok(Json(PublishedReply {
                version: next.version(),
            }))
        })
        .await
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Suspension {
    Suspended,
    Served,
}

async fn set_suspended(
    control: Arc<Control>,
    call: Call<Nothing, Nothing>,
    wanted: Suspension,
) -> Result<Shown<TenantSpec>, ApiError> {
    change(control, call, move |spec| {
        spec.suspended = wanted == Suspension::Suspended;
        Ok(())
    })
    .await
}

/// Changes the tenant, if there is anything to change.
async fn change(
    control: Arc<Control>,
    call: Call<Nothing, Nothing>,
    edit: impl FnOnce(&mut TenantSpec) -> Result<(), ApiError> + Send + 'static,
) -> Result<Shown<TenantSpec>, ApiError> {
    let name: Name = call.tenant().name.clone();
    let act = call.act(format!("tenants/{name}"), None)?;
    let publisher = Arc::clone(&control.publisher);
    publisher
        .in_turn(move |turn| {
            let current = turn.current();
            let tenant = current
                .tenant_named(name.as_str())
                .ok_or(ApiError::NotFound)?;
            let mut spec = (*tenant.spec).clone();
            edit(&mut spec)?;
            let is_changed = spec != *tenant.spec;
            let resource = Resource::Tenant(spec);
            let shown = resources::show(None, name.as_str(), &resource);
            if is_changed {
                let address = Address::platform(Kind::Tenant, name.as_str());
                let change = Change {
                    address,
                    resource: Some(resource),
                };
                turn.commit(&act, vec![change], &[])?;
            }
            Ok(Shown::new(shown))
        })
        .await
}

async fn rotate_key(
    control: Arc<Control>,
    call: Call<Nothing, Nothing>,
) -> Result<Json<RotatedReply>, ApiError> {
    let name = call.tenant().name.clone();
    let act = call.act(format!("tenants/{name}"), None)?;
    let publisher = Arc::clone(&control.publisher);
    publisher
        .in_turn(move |turn| {
            let current = turn.current();
            let tenant = current
                .tenant_named(name.as_str())
                .ok_or(ApiError::NotFound)?;
            let rotated = turn.rotate_tenant_key(&act, tenant)?;
            Ok(Json(RotatedReply {
                current: rotated.current,
                renewed: rotated.renewed,
            }))
        })
        .await
}

async fn rotate_salt(
    control: Arc<Control>,
    call: Call<Nothing, Nothing>,
) -> Result<Shown<TenantSpec>, ApiError> {
    change(control, call, |spec| {
        spec.salt_epoch = spec.salt_epoch.checked_add(1).ok_or_else(|| {
            ApiError::conflict("the salts have been rotated as often as there are numbers")
        })?;
        Ok(())
    })
    .await
}

async fn webhook_secret(
    control: Arc<Control>,
    call: Call<Nothing, Nothing>,
) -> Result<Json<WebhookSecretReply>, ApiError> {
    let (tenant, reason) = (Arc::clone(call.tenant()), call.reason_to_enter());
    let act = call.act(format!("tenants/{}/webhook-secret", tenant.name), None)?;
    let scope = control.enter(call.caller, tenant, reason).await?;
    let publisher = Arc::clone(&control.publisher);
    blocking(move || {
        publisher.record_act(&act)?;
        let secret = publisher.webhook_secret(&scope);
        Ok(Json(WebhookSecretReply {
            secret: format!("whsec_{}", STANDARD.encode(*secret)),
        }))
    })
    .await
}
