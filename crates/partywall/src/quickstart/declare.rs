//! What a quickstart declares: two tiers, two tenants, an upstream, its routes and prices.

use base::{Name, Timestamp};
use control::api::Manifest;
use serde_json::{Value, json};
use tenancy::catalogue::Kind;

use super::upstream::Upstream;

/// A demo tenant: its name, its tier, and the name of its key.
pub(super) struct Demo {
    pub(super) name: &'static str,
    pub(super) tier: &'static str,
    pub(super) key: &'static str,
}

/// A paying customer and one who tries it.
pub(super) const DEMOS: [Demo; 2] = [
    Demo {
        name: "acme",
        tier: "team",
        key: "app",
    },
    Demo {
        name: "globex",
        tier: "free",
        key: "app",
    },
];

pub(super) fn manifest(
    kind: Kind,
    tenant: Option<&str>,
    name: impl Into<String>,
    spec: Value,
) -> Manifest {
    let tenant = tenant.map(|name| name.parse::<Name>().expect("the demo's names are names"));
    Manifest {
        kind,
        tenant,
        name: name.into(),
        spec,
    }
}

/// The upstream, with its routes and prices.
pub(super) fn upstream(upstream: &Upstream) -> Vec<Manifest> {
    let provider = upstream.spec["provider"].as_str().unwrap_or_default();
    let mut all = vec![manifest(
        Kind::Upstream,
        None,
        upstream.name,
        upstream.spec.clone(),
    )];
    for model in &upstream.models {
        let mut entry = model.price.clone();
        entry["version"] = json!(1);
        // From the beginning: what is priced today was never free.
        entry["effective_from"] = json!(Timestamp::from_micros(0));
        let price = format!("{provider}/{}", model.there);
        all.push(manifest(
            Kind::Price,
            None,
            price,
            json!({"entries": [entry]}),
        ));
        let route = json!({
            "targets": [{"upstream": upstream.name, "model": model.there}],
            "output_tokens_max": model.output_tokens_max,
            "image_tokens_max": model.image_tokens_max,
        });
        all.push(manifest(Kind::Route, None, model.name.as_str(), route));
    }
    all
}

/// The two tiers.
pub(super) fn tiers() -> Vec<Manifest> {
    let team = json!({
        "description": "for paying customers",
        "limits": {
            "rate": {
                "subject": "tenant",
                "requests_per_minute": 6_000,
                "tokens_per_minute": 4_000_000,
                "concurrency": 256,
            },
        },
        "budgets": {
            "month": {"subject": "tenant", "limit": "100.00", "window": "monthly"},
            // An agent's loop stops by itself.
            "session": {"subject": "each:session", "limit": "5.00", "calls_max": 1_000},
        },
    });
    let free = json!({
        "description": "to try it",
        "limits": {
            "rate": {
                "subject": "tenant",
                "requests_per_minute": 120,
                "tokens_per_minute": 400_000,
                "concurrency": 16,
            },
        },
        "budgets": {
            "month": {"subject": "tenant", "limit": "5.00", "window": "monthly"},
            "day": {"subject": "tenant", "limit": "1.00", "window": "daily"},
        },
    });
    vec![
        manifest(Kind::Tier, None, "team", team),
        manifest(Kind::Tier, None, "free", free),
    ]
}

/// A demo tenant with all that is in it.
pub(super) fn tenant(demo: &Demo, shares_cache: bool) -> Vec<Manifest> {
    let spec = json!({"tier": demo.tier, "accepts_shared_cache": shares_cache});
    let inside = |kind, name: &str, spec| manifest(kind, Some(demo.name), name, spec);
    vec![
        manifest(Kind::Tenant, None, demo.name, spec),
        inside(Kind::Team, "core", json!({})),
        inside(Kind::User, "ada", json!({"team": "core"})),
        inside(
            Kind::Feature,
            "support-chat",
            json!({"description": "answers customers"}),
        ),
        inside(
            Kind::Key,
            demo.key,
            json!({"role": "tenant-admin", "team": "core", "user": "ada"}),
        ),
    ]
}
