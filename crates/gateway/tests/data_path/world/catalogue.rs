//! The catalogue of the fixture: two tenants on one tier, one engine, a handful of routes.

use base::{KeyId, SeededEntropy, TenantId};
use serde_json::{Value, json};
use tenancy::catalogue::{Address, Kind, Resource};
use tenancy::{ApiKey, Change, LocalRootKey, PlatformKeys};

pub(crate) const ACME: TenantId = TenantId::from_bits(1);
pub(crate) const GLOBEX: TenantId = TenantId::from_bits(2);

/// What a token costs on `sim-small`, in pico-dollars; `price_of_small` says the same.
pub(crate) const INPUT: i128 = 1_000_000;
pub(crate) const CACHED: i128 = 100_000;
pub(crate) const OUTPUT: i128 = 4_000_000;
pub(crate) const REQUEST: i128 = 10_000_000;

/// The key hierarchy of every world: the same each time.
pub(crate) fn hierarchy() -> (LocalRootKey, PlatformKeys) {
    let entropy = SeededEntropy::new(1);
    let root = LocalRootKey::generate(&entropy);
    let (platform, _) = PlatformKeys::generate(&root, &entropy).unwrap();
    (root, platform)
}

/// The API key of this name; its record may or may not be in the catalogue.
pub(crate) fn secret(owner: &str) -> String {
    ApiKey::generate(&SeededEntropy::new(seed(owner)))
        .expose()
        .to_owned()
}

/// The record of the API key of this name, with these fields besides.
pub(crate) fn key(owner: &str, more: Value) -> Value {
    let hasher = hierarchy().1.key_hasher();
    let hash = hasher.hash(&ApiKey::parse(&secret(owner)).unwrap());
    let id = KeyId::from_bits(u128::from(seed(owner)));
    with(json!({"id": id, "hash": hash.to_string()}), more)
}

fn seed(owner: &str) -> u64 {
    owner.bytes().fold(17_u64, |seed, byte| {
        seed.wrapping_mul(131).wrapping_add(u64::from(byte))
    })
}

/// One object with the fields of both; the second one's count.
pub(crate) fn with(mut base: Value, more: Value) -> Value {
    let fields = base.as_object_mut().unwrap();
    fields.extend(more.as_object().unwrap().clone());
    base
}

/// Puts a resource that all tenants share.
pub(crate) fn put(kind: Kind, name: &str, spec: Value) -> Change {
    change(Address::platform(kind, name), kind, &spec)
}

/// Puts a resource of one tenant.
pub(crate) fn put_in(tenant: TenantId, kind: Kind, name: &str, spec: Value) -> Change {
    change(Address::in_tenant(tenant, kind, name), kind, &spec)
}

/// Removes a resource of one tenant.
pub(crate) fn remove_in(tenant: TenantId, kind: Kind, name: &str) -> Change {
    let address = Address::in_tenant(tenant, kind, name);
    let resource = None;
    Change { address, resource }
}

/// Removes a resource that all tenants share.
pub(crate) fn remove(kind: Kind, name: &str) -> Change {
    let address = Address::platform(kind, name);
    let resource = None;
    Change { address, resource }
}

fn change(address: Address, kind: Kind, spec: &Value) -> Change {
    let resource = Resource::from_json(kind, spec.to_string().as_bytes());
    let resource = Some(resource.unwrap_or_else(|error| panic!("{address}: {error}")));
    Change { address, resource }
}

/// An engine of one's own behind a route, which honours salts.
pub(crate) fn upstream(url: &str, provider: &str) -> Value {
    json!({
        "base_url": url,
        "provider": provider,
        "engine": "vllm",
        "salting": "derived",
        "allow_private_address": true,
    })
}

/// A route to one model of one upstream.
pub(crate) fn route(upstream: &str, model: &str) -> Value {
    json!({
        "targets": [{"upstream": upstream, "model": model}],
        "output_tokens_max": 64,
    })
}

/// A price that is only for output, in dollars a token.
pub(crate) fn output_price(dollars: &str) -> Value {
    json!({"entries": [{
        "version": 1, "effective_from": "2020-01-01T00:00:00Z", "input": "0", "output": dollars,
    }]})
}

fn price_of_small() -> Value {
    json!({"entries": [{
        "version": 7, "effective_from": "2020-01-01T00:00:00Z",
        "input": "0.000001", "output": "0.000004",
        "cached_read": "0.0000001", "request": "0.00001",
    }]})
}

/// The fixture's own catalogue. The route `metered` costs a cent for each token of output, and
/// holds six times what the engine's answers have.
pub(crate) fn base(engine: &str) -> Vec<Change> {
    vec![
        put(Kind::Tier, "free", json!({"wait_ms_max": 3_000})),
        put(Kind::Upstream, "engine", upstream(engine, "sim")),
        put(Kind::Upstream, "meter", upstream(engine, "metered")),
        put(Kind::Route, "sim-small", route("engine", "sim-small")),
        put(
            Kind::Route,
            "vendor/sim-large",
            route("engine", "sim-large"),
        ),
        put(Kind::Route, "sim-embed", route("engine", "sim-embed")),
        put(
            Kind::Route,
            "metered",
            with(
                route("meter", "sim-small"),
                json!({"output_tokens_max": 192}),
            ),
        ),
        put(Kind::Price, "sim/sim-small", price_of_small()),
        put(Kind::Price, "sim/sim-large", price_of_small()),
        put(Kind::Price, "sim/sim-embed", price_of_small()),
        put(Kind::Price, "metered/sim-small", output_price("0.01")),
        put(Kind::Tenant, "acme", json!({"id": ACME, "tier": "free"})),
        put(
            Kind::Tenant,
            "globex",
            json!({"id": GLOBEX, "tier": "free"}),
        ),
        put_in(ACME, Kind::Key, "main", key("acme", json!({}))),
        put_in(GLOBEX, Kind::Key, "main", key("globex", json!({}))),
    ]
}
