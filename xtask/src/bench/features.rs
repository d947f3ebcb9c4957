//! What each feature that a tenant may turn on adds to the cost of a call, beside the same gateway
//! without it.

use anyhow::Context;
use serde_json::{Value, json};

use super::cost::SMALL;
use super::load::{Target, closed_loop};
use super::report::Report;
use super::{Bench, Options, median};
use crate::command::tell;
use crate::product::Product;

const CONNECTIONS: usize = 32;

/// A feature, and how a tenant of its own gets it.
struct Feature {
    name: &'static str,
    /// What is put below the tenant, and the specification.
    resources: fn() -> Vec<(&'static str, Value)>,
    /// The model that is called.
    model: &'static str,
    /// A line that its calls have in their heads besides the usual ones.
    header: &'static str,
}

const FEATURES: [Feature; 5] = [
    Feature {
        name: "guards",
        resources: guards,
        model: "bench",
        header: "",
    },
    Feature {
        name: "template",
        resources: template,
        model: "bench",
        header: "",
    },
    Feature {
        name: "salt",
        resources: Vec::new,
        model: SALTED,
        header: "",
    },
    Feature {
        name: "a cache, missed and filled",
        resources: cache,
        model: "bench",
        header: "cache-control: no-cache\r\n",
    },
    Feature {
        name: "a cache, hit",
        resources: cache,
        model: "bench",
        header: "",
    },
];

/// The route of the same engine as one that takes a salt.
const SALTED: &str = "bench-salted";

/// What a careful tenant would look for, in calls and in answers.
fn guards() -> Vec<(&'static str, Value)> {
    let checks = json!([
        {"name": "personal-data", "action": "redact",
         "check": {"pii": {"kinds": ["card", "iban", "email", "phone"]}}},
        {"name": "projects", "action": "block",
         "check": {"deny-list": {"entries": ["blue falcon", "projekt adler"]}}},
        {"name": "orders", "action": "flag", "check": {"prompt-injection": {"threshold": 60}}},
    ]);
    let guardrail = json!({"looks_at": "both", "on_failure": "closed", "checks": checks});
    vec![("guardrails/all", guardrail)]
}

fn template() -> Vec<(&'static str, Value)> {
    let prompt = "You help {{ tenant }} with {{ feature }}. Today is {{ date }}. Be brief.";
    vec![("config", json!({"system_prompt": prompt}))]
}

fn cache() -> Vec<(&'static str, Value)> {
    vec![(
        "config",
        json!({"cache": {"mode": "exact", "requests": "all"}}),
    )]
}

/// Measures each in windows that take turns with the plain gateway's.
pub(super) async fn measure(
    bench: &Bench,
    options: &Options,
    report: &mut Report,
) -> anyhow::Result<()> {
    let Some(arm) = bench.partywall() else {
        return Ok(());
    };
    let product = arm.product().context("the arm is the product")?;
    salt(product).await?;
    let plain = SMALL.target_on(arm);
    for (number, feature) in FEATURES.iter().enumerate() {
        tell(&format!("bench: cost with {}", feature.name));
        let with = feature.target(product, number).await?;
        let mut ratios = Vec::new();
        for _ in 0..options.rounds() {
            let tree = arm.tree()?;
            let without = closed_loop(&plain, CONNECTIONS, options.window(), &tree).await?;
            let with = closed_loop(&with, CONNECTIONS, options.window(), &tree).await?;
            ratios.push(with.ms_per_call() / without.ms_per_call());
        }
        let what = format!("cost of a 1 KB call with {}, against without", feature.name);
        report.add_number(&what, median(&ratios), None);
    }
    Ok(())
}

impl Feature {
    /// Makes its tenant, beside the quickstart's and on the same tier; how it is called.
    async fn target(&self, product: &Product, number: usize) -> anyhow::Result<Target> {
        let acme = product.admin("GET", "/admin/v1/tenants/acme", None).await?;
        let name = format!("bench-{number}");
        let acme = &acme["spec"];
        let spec = json!({
            "tier": acme["tier"], "accepts_shared_cache": acme["accepts_shared_cache"],
        });
        let tenant = json!({"name": name, "spec": spec, "first_key": {"name": "first"}});
        let made = product
            .admin("POST", "/admin/v1/tenants", Some(&tenant))
            .await?;
        let key = made["first_key"]["key"].as_str().context("a first key")?;
        for (below, spec) in (self.resources)() {
            let path = format!("/admin/v1/tenants/{name}/{below}");
            product.admin("PUT", &path, Some(&spec)).await?;
        }
        let mut target = SMALL.of_model(self.model).target_at(product.gateway, key);
        // Behind the first line, which is the request's own.
        let end = target.request.windows(2).position(|pair| pair == b"\r\n");
        let (line, rest) = target
            .request
            .split_at(end.context("a head has lines")? + 2);
        target.request = [line, self.header.as_bytes(), rest].concat().into();
        Ok(target)
    }
}

/// The engine once more, as one that takes a salt, and a route that leads there.
async fn salt(product: &Product) -> anyhow::Result<()> {
    let path = "/admin/v1/upstreams/engine";
    let mut engine = product.admin("GET", path, None).await?["spec"].take();
    engine["engine"] = json!("vllm");
    engine["salting"] = json!("derived");
    let path = "/admin/v1/upstreams/salted";
    product.admin("PUT", path, Some(&engine)).await?;
    let path = "/admin/v1/routes/bench";
    let mut route = product.admin("GET", path, None).await?["spec"].take();
    for target in route["targets"].as_array_mut().into_iter().flatten() {
        target["upstream"] = json!("salted");
    }
    let path = format!("/admin/v1/routes/{SALTED}");
    product.admin("PUT", &path, Some(&route)).await?;
    Ok(())
}
