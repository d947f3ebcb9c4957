//! The same four endpoints for every kind of resource: list, read, put, remove.

use std::sync::Arc;

use tenancy::catalogue::{
    AdapterSpec, Address, BudgetSpec, ChannelSpec, CredentialSpec, FeatureSpec, GuardrailSpec,
    KeySpec, Kind, LimitSpec, OperatorSpec, PriceBookSpec, PriceSpec, PromptSpec, Resource,
    RouteSpec, SharedCostSpec, SharingGroupSpec, Spec, TeamSpec, TenantChannelSpec, TenantConfig,
    TenantSpec, TierSpec, UpstreamSpec, UserSpec,
};
use tenancy::{Change, Permission};

use crate::Control;
use crate::api::{ListQuery, Page, PublishedReply};
use crate::caller::widening;
use crate::declare::existing;
use crate::endpoint::{
    Call, Draft, Endpoint, Json, Nothing, Reach, Shown, ShownPage, Verb, endpoint,
};
use crate::error::ApiError;
use crate::given;
use crate::paging::Paging;
use crate::resources;

pub(super) fn endpoints() -> Vec<Endpoint> {
    use Permission::{ManageKeys, ManageTenantConfig, ReadCatalogue, WriteCatalogue};
    let of_tenants = |write| (Reach::Tenant(ReadCatalogue), Reach::Tenant(write));
    let of_platform = (
        Reach::Platform(ReadCatalogue),
        Reach::Platform(WriteCatalogue),
    );
    let mut all = Vec::new();
    all.extend(of::<TierSpec>(of_platform));
    all.extend(of::<UpstreamSpec>(of_platform));
    all.extend(of::<RouteSpec>(of_platform));
    all.extend(of::<PriceSpec>(of_platform));
    all.extend(of::<OperatorSpec>(of_platform));
    all.extend(of::<SharingGroupSpec>(of_platform));
    all.extend(of::<PriceBookSpec>(of_platform));
    all.extend(of::<ChannelSpec>(of_platform));
    all.extend(of::<SharedCostSpec>(of_platform));
    all.extend(of_tenant_itself());
    all.extend(of::<TeamSpec>(of_tenants(ManageTenantConfig)));
    all.extend(of::<UserSpec>(of_tenants(ManageTenantConfig)));
    all.extend(of::<FeatureSpec>(of_tenants(ManageTenantConfig)));
    all.extend(of::<KeySpec>(of_tenants(ManageKeys)));
    // What a tenant may spend is the platform's to say: a tenant sees it, and cannot raise it.
    all.extend(of::<BudgetSpec>(of_tenants(WriteCatalogue)));
    all.extend(of::<LimitSpec>(of_tenants(WriteCatalogue)));
    all.extend(of::<CredentialSpec>(of_tenants(ManageTenantConfig)));
    all.extend(of::<GuardrailSpec>(of_tenants(ManageTenantConfig)));
    all.extend(of::<AdapterSpec>(of_tenants(ManageTenantConfig)));
    all.extend(of::<PromptSpec>(of_tenants(ManageTenantConfig)));
    all.extend(of::<TenantChannelSpec>(of_tenants(ManageTenantConfig)));
    all.extend(of_config(of_tenants(ManageTenantConfig)));
    all
}

fn of<S: Spec + Send + 'static>((read_reach, write_reach): (Reach, Reach)) -> Vec<Endpoint> {
    let (kind, plural) = (S::KIND, S::KIND.plural());
    let root = if kind.is_in_tenant() {
        "/admin/v1/tenants/{tenant}"
    } else {
        "/admin/v1"
    };
    let list_path = format!("{root}/{plural}");
    let one_path = format!("{list_path}/{{name}}");
    let id = |verb: &str| format!("{verb}_{kind}");
    let id = |verb: &str| id(verb).replace('-', "_");
    let article = match kind {
        Kind::Upstream | Kind::Operator | Kind::Adapter => "an",
        _ => "a",
    };
    let a_kind = format!("{article} {kind}");
    vec![
        endpoint(
            Verb::Get,
            &list_path,
            &format!("list_{plural}").replace('-', "_"),
            &format!("The {plural}, by name"),
            read_reach,
            list::<S>,
        ),
        endpoint(
            Verb::Get,
            &one_path,
            &id("get"),
            &format!("One {kind}"),
            read_reach,
            read::<S>,
        ),
        endpoint(
            Verb::Put,
            &one_path,
            &id("put"),
            &format!("Puts {a_kind} in place, whole"),
            write_reach,
            put::<S>,
        ),
        endpoint(
            Verb::Delete,
            &one_path,
            &id("delete"),
            &format!("Removes {a_kind}"),
            write_reach,
            remove::<S>,
        ),
    ]
}

/// A tenant is made by onboarding and removed by offboarding: see `tenants.rs`.
fn of_tenant_itself() -> Vec<Endpoint> {
    let path = "/admin/v1/tenants/{tenant}";
    vec![
        endpoint(
            Verb::Get,
            "/admin/v1/tenants",
            "list_tenants",
            "The tenants, by name",
            Reach::Platform(Permission::ReadCatalogue),
            list::<TenantSpec>,
        ),
        endpoint(
            Verb::Get,
            path,
            "get_tenant",
            "One tenant",
            Reach::Tenant(Permission::ReadCatalogue),
            read::<TenantSpec>,
        ),
        endpoint(
            Verb::Put,
            path,
            "put_tenant",
            "Changes a tenant",
            Reach::Tenant(Permission::WriteCatalogue),
            put::<TenantSpec>,
        ),
    ]
}

/// A tenant has one configuration.
fn of_config((read_reach, write_reach): (Reach, Reach)) -> Vec<Endpoint> {
    let path = "/admin/v1/tenants/{tenant}/config";
    vec![
        endpoint(
            Verb::Get,
            path,
            "get_config",
            "The tenant's configuration",
            read_reach,
            read::<TenantConfig>,
        ),
        endpoint(
            Verb::Put,
            path,
            "put_config",
            "Puts the tenant's configuration in place, whole",
            write_reach,
            put::<TenantConfig>,
        ),
        endpoint(
            Verb::Delete,
            path,
            "delete_config",
            "Removes the tenant's configuration: the default applies",
            write_reach,
            remove::<TenantConfig>,
        ),
    ]
}

/// The address of the resource that a call is about.
fn address<Q, B>(call: &Call<Q, B>, kind: Kind) -> Address {
    match kind {
        Kind::Tenant => Address::platform(kind, call.param("tenant")),
        Kind::Config => Address::in_tenant(call.tenant().id(), kind, kind.as_str()),
        kind if kind.is_in_tenant() => {
            Address::in_tenant(call.tenant().id(), kind, call.param("name"))
        }
        kind => Address::platform(kind, call.param("name")),
    }
}

/// Whose the resource is, as it is shown.
fn owner<Q, B>(call: &Call<Q, B>, kind: Kind) -> Option<base::Name> {
    call.tenant_if_any()
        .filter(|_| kind.is_in_tenant())
        .map(|tenant| tenant.name.clone())
}

async fn list<S: Spec>(
    _: Arc<Control>,
    call: Call<Json<ListQuery>, Nothing>,
) -> Result<ShownPage<S>, ApiError> {
    let Json(ListQuery { limit, cursor }) = &call.query;
    let paging = Paging::read(*limit, cursor.as_deref())?;
    let tenant = call.tenant_if_any().filter(|_| S::KIND.is_in_tenant());
    let names = resources::names(&call.snapshot, S::KIND, tenant.map(Arc::as_ref));
    let Page { data, next_cursor } = paging.of_names(names);
    let shown = data.iter().map(|name| {
        let address = Address {
            kind: S::KIND,
            tenant: tenant.map(|tenant| tenant.id()),
            name: name.clone(),
        };
        let resource = resources::find(&call.snapshot, &address)
            .expect("the name was listed by this snapshot");
        resources::show(tenant.map(|tenant| &tenant.name), name, &resource)
    });
    Ok(ShownPage::new(Page {
        data: shown.collect(),
        next_cursor,
    }))
}

async fn read<S: Spec>(
    control: Arc<Control>,
    call: Call<Nothing, Nothing>,
) -> Result<Shown<S>, ApiError> {
    let address = address(&call, S::KIND);
    let resource = resources::find(&call.snapshot, &address).ok_or(ApiError::NotFound)?;
    let shown = resources::show(owner(&call, S::KIND).as_ref(), &address.name, &resource);
    if matches!(S::KIND, Kind::Config | Kind::Prompt) {
        // A prompt is the tenant's own text: an operator reads it on record.
        let (tenant, reason) = (Arc::clone(call.tenant()), call.reason_to_enter());
        control.enter(call.caller, tenant, reason).await?;
    }
    Ok(Shown::new(shown))
}

async fn put<S: Spec + Send + 'static>(
    control: Arc<Control>,
    call: Call<Nothing, Draft<S>>,
) -> Result<Shown<S>, ApiError> {
    let address = address(&call, S::KIND);
    let owner = owner(&call, S::KIND);
    let act = call.act(resources::address_text(&call.snapshot, &address), None)?;
    let issuer = call.caller.key();
    let (spec, if_match) = (call.body.0, call.if_match);
    let publisher = Arc::clone(&control.publisher);
    publisher
        .in_turn(move |turn| {
            let current = turn.current();
            // What can be read can be matched: a default configuration that nobody ever put too.
            let state = resources::find(&current, &address);
            if !resources::matches(if_match.as_deref(), state.as_ref()) {
                return Err(ApiError::Changed);
            }
            let before = existing(&current, &address);
            if before.is_none() {
                refuse_if_made_elsewhere(S::KIND)?;
            }
            let mint = turn.publisher.mint();
            let completed = given::complete(S::KIND, &spec, before.as_ref(), mint);
            let resource = completed
                .map_err(|message| ApiError::of("spec", message))?
                .resource;
            if let Some(issuer) = &issuer {
                let touched = before.iter().chain([&resource]);
                touched
                    .filter_map(as_key)
                    .try_for_each(|key| refuse_widening(issuer, key))?;
            }
            let shown = resources::show(owner.as_ref(), &address.name, &resource);
            if before.as_ref() != Some(&resource) {
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

fn as_key(resource: &Resource) -> Option<&KeySpec> {
    match resource {
        Resource::Key(key) => Some(key),
        _ => None,
    }
}

/// A key that a tenant's key makes or changes has no right that the latter lacks.
pub(super) fn refuse_widening(issuer: &KeySpec, key: &KeySpec) -> Result<(), ApiError> {
    match widening(issuer, key) {
        None => Ok(()),
        Some(field) => Err(ApiError::of(field, "this is more than your own key may do")),
    }
}

/// What is shown once, or does more than a resource, is made by an endpoint of its own.
fn refuse_if_made_elsewhere(kind: Kind) -> Result<(), ApiError> {
    match kind {
        Kind::Key => Err(ApiError::conflict(
            "there is no such key: make one with POST …/keys",
        )),
        Kind::Operator => Err(ApiError::conflict(
            "there is no such operator: make one with POST /admin/v1/operators",
        )),
        Kind::Tenant => Err(ApiError::NotFound),
        _ => Ok(()),
    }
}

async fn remove<S: Spec>(
    control: Arc<Control>,
    call: Call<Nothing, Nothing>,
) -> Result<Json<PublishedReply>, ApiError> {
    let address = address(&call, S::KIND);
    let act = call.act(resources::address_text(&call.snapshot, &address), None)?;
    let if_match = call.if_match;
    let publisher = Arc::clone(&control.publisher);
    publisher
        .in_turn(move |turn| {
            let before = existing(&turn.current(), &address).ok_or(ApiError::NotFound)?;
            if !resources::matches(if_match.as_deref(), Some(&before)) {
                return Err(ApiError::Changed);
            }
            let next = turn.commit(
                &act,
                vec![Change {
                    address,
                    resource: None,
                }],
                &[],
            )?;
            Ok(Json(PublishedReply {
                version: next.version(),
            }))
        })
        .await
}
