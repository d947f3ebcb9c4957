//! API keys of tenants and operators: made, rotated, revoked. A key is shown once.

use std::sync::Arc;
use std::time::Duration;

use base::Name;
use tenancy::catalogue::{Address, KeySpec, Kind, OperatorSpec, Resource, RetiringHash};
use tenancy::{ApiKey, Change, Permission};

use super::crud::refuse_widening;
use crate::Control;
use crate::api::{KeyReply, KeyRequest, OperatorRequest, RotateRequest};
use crate::endpoint::{Call, Created, Endpoint, Json, Nothing, Reach, Shown, Verb, endpoint};
use crate::error::ApiError;
use crate::given::{self, Mint};
use crate::resources;

/// 30 days: longer than any release train; what needs longer is two keys.
const OVERLAP_SECONDS_MAX: u32 = 30 * 24 * 3600;

pub(super) fn endpoints() -> Vec<Endpoint> {
    let manage = Reach::Tenant(Permission::ManageKeys);
    let operators = Reach::Platform(Permission::WriteCatalogue);
    vec![
        endpoint(
            Verb::Post,
            "/admin/v1/tenants/{tenant}/keys",
            "create_key",
            "Makes a key, and shows it once",
            manage,
            create,
        ),
        endpoint(
            Verb::Post,
            "/admin/v1/tenants/{tenant}/keys/{name}/rotate",
            "rotate_key",
            "Replaces a key, and shows the new one once; the old one may stay good for a while",
            manage,
            rotate,
        ),
        endpoint(
            Verb::Post,
            "/admin/v1/tenants/{tenant}/keys/{name}/revoke",
            "revoke_key",
            "Revokes a key, for good",
            manage,
            revoke,
        ),
        endpoint(
            Verb::Post,
            "/admin/v1/operators",
            "create_operator",
            "Makes an operator or auditor, and shows the key once",
            operators,
            create_operator,
        ),
        endpoint(
            Verb::Post,
            "/admin/v1/operators/{name}/rotate",
            "rotate_operator",
            "Replaces an operator's key, and shows the new one once; the old one is refused",
            operators,
            rotate_operator,
        ),
    ]
}

/// A new key's record, and the key.
pub(super) fn new_key(wanted: &KeyRequest, mint: Mint<'_>) -> Result<(Resource, ApiKey), ApiError> {
    let mut spec = serde_json::to_value(wanted).map_err(ApiError::internal)?;
    if let Some(fields) = spec.as_object_mut() {
        fields.remove("name");
    }
    let completed = given::complete(Kind::Key, &spec, None, mint)
        .map_err(|message| ApiError::of("key", message))?;
    let key = completed.key.expect("what is new gets a key");
    Ok((completed.resource, key))
}

async fn create(
    control: Arc<Control>,
    call: Call<Nothing, Json<KeyRequest>>,
) -> Result<Created<KeyReply>, ApiError> {
    let tenant = Arc::clone(call.tenant());
    let name = call.body.0.name.clone();
    let act = call.act(format!("{}/keys/{name}", tenant.name), None)?;
    let issuer = call.caller.key();
    let Json(request) = call.body;
    let publisher = Arc::clone(&control.publisher);
    publisher
        .in_turn(move |turn| {
            let address = Address::in_tenant(tenant.id(), Kind::Key, name.as_str());
            if resources::find(&turn.current(), &address).is_some() {
                return Err(ApiError::conflict(format!(
                    "there is a key `{name}` already"
                )));
            }
            let (resource, key) = new_key(&request, turn.publisher.mint())?;
            if let (Some(issuer), Resource::Key(spec)) = (&issuer, &resource) {
                refuse_widening(issuer, spec)?;
            }
            let shown = resources::show(Some(&tenant.name), name.as_str(), &resource);
            let change = Change {
                address,
                resource: Some(resource),
            };
            let version = turn.commit(&act, vec![change], &[])?.version();
            Ok(Created(KeyReply {
                resource: shown,
                key: key.expose().to_owned(),
                version,
            }))
        })
        .await
}

/// The key of this name, as it is now.
fn find_key(snapshot: &tenancy::Snapshot, address: &Address) -> Result<KeySpec, ApiError> {
    match resources::find(snapshot, address) {
        Some(Resource::Key(spec)) => Ok(spec),
        _ => Err(ApiError::NotFound),
    }
}

async fn rotate(
    control: Arc<Control>,
    call: Call<Nothing, Json<RotateRequest>>,
) -> Result<Json<KeyReply>, ApiError> {
    let overlap_seconds = call.body.0.overlap_seconds;
    if overlap_seconds > OVERLAP_SECONDS_MAX {
        return Err(ApiError::of(
            "overlap_seconds",
            "an overlap is at most 2,592,000 s (30 days)",
        ));
    }
    let tenant = Arc::clone(call.tenant());
    let name = call.param("name").to_owned();
    let act = call.act(format!("{}/keys/{name}", tenant.name), None)?;
    let issuer = call.caller.key();
    let publisher = Arc::clone(&control.publisher);
    publisher
        .in_turn(move |turn| {
            let address = Address::in_tenant(tenant.id(), Kind::Key, name.as_str());
            let former = find_key(&turn.current(), &address)?;
            if former.revoked {
                return Err(ApiError::conflict(
                    "a revoked key stays revoked: make another",
                ));
            }
            // Who rotates a key holds it afterwards.
            if let Some(issuer) = &issuer {
                refuse_widening(issuer, &former)?;
            }
            let mint = turn.publisher.mint();
            let key = ApiKey::generate(mint.entropy);
            let overlap = Duration::from_secs(overlap_seconds.into());
            let retiring = (overlap_seconds > 0).then(|| {
                Box::new(RetiringHash {
                    hash: former.hash,
                    until: mint.clock.now().plus(overlap),
                })
            });
            let hash = mint.hasher.hash(&key);
            let resource = Resource::Key(KeySpec {
                hash,
                retiring,
                ..former
            });
            let shown = resources::show(Some(&tenant.name), &name, &resource);
            let change = Change {
                address,
                resource: Some(resource),
            };
            let version = turn.commit(&act, vec![change], &[])?.version();
            Ok(Json(KeyReply {
                resource: shown,
                key: key.expose().to_owned(),
                version,
            }))
        })
        .await
}

async fn revoke(
    control: Arc<Control>,
    call: Call<Nothing, Nothing>,
) -> Result<Shown<KeySpec>, ApiError> {
    let tenant = Arc::clone(call.tenant());
    let name = call.param("name").to_owned();
    let act = call.act(format!("{}/keys/{name}", tenant.name), None)?;
    let publisher = Arc::clone(&control.publisher);
    publisher
        .in_turn(move |turn| {
            let address = Address::in_tenant(tenant.id(), Kind::Key, name.as_str());
            let former = find_key(&turn.current(), &address)?;
            let was_revoked = former.revoked;
            let revoked = KeySpec {
                revoked: true,
                retiring: None,
                ..former
            };
            let resource = Resource::Key(revoked);
            let shown = resources::show(Some(&tenant.name), &name, &resource);
            if !was_revoked {
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

async fn create_operator(
    control: Arc<Control>,
    call: Call<Nothing, Json<OperatorRequest>>,
) -> Result<Created<KeyReply>, ApiError> {
    let act = call.act(format!("operators/{}", call.body.0.name), None)?;
    let Json(OperatorRequest { name, role }) = call.body;
    let publisher = Arc::clone(&control.publisher);
    publisher
        .in_turn(move |turn| {
            if turn.current().operators().contains_key(&name) {
                return Err(ApiError::conflict(format!(
                    "there is an operator `{name}` already"
                )));
            }
            let mint = turn.publisher.mint();
            let key = ApiKey::generate(mint.entropy);
            let hash = mint.hasher.hash(&key);
            let spec = OperatorSpec {
                role,
                hash,
                disabled: false,
            };
            put_operator(turn, &act, &name, spec, &key).map(Created)
        })
        .await
}

async fn rotate_operator(
    control: Arc<Control>,
    call: Call<Nothing, Nothing>,
) -> Result<Json<KeyReply>, ApiError> {
    let name: Name = call.param("name").parse().map_err(|_| ApiError::NotFound)?;
    let act = call.act(format!("operators/{name}"), None)?;
    let publisher = Arc::clone(&control.publisher);
    publisher
        .in_turn(move |turn| {
            let current = turn.current();
            let former = current.operators().get(&name).ok_or(ApiError::NotFound)?;
            let mint = turn.publisher.mint();
            let key = ApiKey::generate(mint.entropy);
            let hash = mint.hasher.hash(&key);
            let spec = OperatorSpec {
                hash,
                ..(**former).clone()
            };
            put_operator(turn, &act, &name, spec, &key).map(Json)
        })
        .await
}

fn put_operator(
    turn: &crate::publisher::Turn<'_>,
    act: &crate::publisher::Act,
    name: &Name,
    spec: OperatorSpec,
    key: &ApiKey,
) -> Result<KeyReply, ApiError> {
    let resource = Resource::Operator(spec);
    let shown = resources::show(None, name.as_str(), &resource);
    let address = Address::platform(Kind::Operator, name.as_str());
    let version = turn
        .commit(
            act,
            vec![Change {
                address,
                resource: Some(resource),
            }],
            &[],
        )?
        .version();
    Ok(KeyReply {
        resource: shown,
        key: key.expose().to_owned(),
        version,
    })
}
