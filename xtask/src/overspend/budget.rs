//! An arm's tenant and its budget, over the admin API.

use std::time::Duration;

use anyhow::{Context, ensure};
use base::{Clock, PicoUsd, SystemClock};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::product::Product;

/// The tier of all arms' tenants.
const TIER: &str = "overspend";

/// The budget's name.
const BUDGET: &str = "all";

/// A minute: how long a call waits for others to settle before it is refused.
const WAIT_MS: u64 = 60_000;

/// 4,096 places at the engine: more calls than a budget's holds let through at one time.
const ENGINE_PLACES: u32 = 4_096;

/// 100 ms between two looks at the budget, so that looking does not load what is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// 30 s: holds end with their calls, and a disconnect is noticed in milliseconds.
const SETTLING_MAX: Duration = Duration::from_secs(30);

/// A tenant and what stands in its one budget.
pub(crate) struct Budget<'a> {
    product: &'a Product,
    tenant: &'static str,
    pub(crate) key: String,
    pub(crate) limit: PicoUsd,
}

/// What stands in a budget.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
pub(crate) struct Standing {
    pub(crate) spent: PicoUsd,
    pub(crate) held: PicoUsd,
}

/// What was seen of a budget while calls were under way.
#[derive(Debug, Default)]
pub(crate) struct Watched {
    pub(crate) looks: u64,
    /// The most that was spent and held together.
    pub(crate) most: PicoUsd,
}

/// Declares the tier and lets the engine have as many calls as come, however many of them fail: the
/// budget is to decide, and no breaker.
pub(crate) async fn prepare(product: &Product) -> anyhow::Result<()> {
    let path = "/admin/v1/upstreams";
    let list = product.admin("GET", path, None).await?;
    let upstream = &list["data"][0];
    let name = upstream["name"].as_str().context("there is an upstream")?;
    let mut spec = upstream["spec"].clone();
    spec["concurrency_max"] = json!(ENGINE_PLACES);
    spec["breaker"] = json!({"failures_in_a_row": 0, "failure_percent": 0});
    product
        .admin("PUT", &format!("{path}/{name}"), Some(&spec))
        .await?;
    let tier = json!({"description": "no limit but the budget", "wait_ms_max": WAIT_MS});
    let tier = json!({"kind": "tier", "name": TIER, "spec": tier});
    apply(product, &[tier]).await.map(drop)
}

async fn apply(product: &Product, resources: &[Value]) -> anyhow::Result<Value> {
    let body = json!({"resources": resources});
    product.admin("POST", "/admin/v1/apply", Some(&body)).await
}

impl<'a> Budget<'a> {
    /// Declares a new tenant that may spend so much.
    pub(crate) async fn declare(
        product: &'a Product,
        tenant: &'static str,
        limit: PicoUsd,
    ) -> anyhow::Result<Self> {
        let spec = json!({"tier": TIER, "accepts_shared_cache": true});
        let budget = json!({"subject": "tenant", "limit": limit, "window": "total"});
        let report = apply(
            product,
            &[
                json!({"kind": "tenant", "name": tenant, "spec": spec}),
                json!({"kind": "key", "tenant": tenant, "name": "app", "spec": {"role": "service"}}),
                json!({"kind": "budget", "tenant": tenant, "name": BUDGET, "spec": budget}),
            ],
        )
        .await?;
        let key = report["created_keys"][0]["key"]
            .as_str()
            .context("a key was made")?;
        Ok(Self {
            product,
            tenant,
            key: key.to_owned(),
            limit,
        })
    }

    /// What stands in it now; nothing before the first call.
    pub(crate) async fn standing(&self) -> anyhow::Result<Standing> {
        standing_of(self.product, self.tenant).await
    }

    /// Looks at it again and again while `calls` are under way: spent and held together never
    /// pass the limit.
    pub(crate) async fn watch<T>(
        &self,
        calls: impl Future<Output = anyhow::Result<T>>,
    ) -> anyhow::Result<(T, Watched)> {
        let mut calls = std::pin::pin!(calls);
        let mut watched = Watched::default();
        loop {
            tokio::select! {
                ended = &mut calls => return Ok((ended?, watched)),
                looked = self.look_once() => watched.add(looked?),
            }
        }
    }

    async fn look_once(&self) -> anyhow::Result<PicoUsd> {
        let Standing { spent, held } = self.standing().await?;
        ensure!(
            spent + held <= self.limit,
            "of {} dollars {spent} are spent and {held} held",
            self.limit
        );
        tokio::time::sleep(LOOK_EVERY).await;
        Ok(spent + held)
    }

    /// Waits until nothing is held any more; what is spent then.
    pub(crate) async fn settled(&self) -> anyhow::Result<PicoUsd> {
        let clock = SystemClock::new();
        loop {
            let Standing { spent, held } = self.standing().await?;
            if held == PicoUsd::ZERO {
                ensure!(
                    spent <= self.limit,
                    "of {} dollars {spent} are spent",
                    self.limit
                );
                return Ok(spent);
            }
            ensure!(
                clock.elapsed() < SETTLING_MAX,
                "{held} dollars are still held {SETTLING_MAX:?} after the last call"
            );
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Ensures that each of these requests is in the ledger once.
    pub(crate) async fn ensure_recorded(&self, request_ids: &[&str]) -> anyhow::Result<()> {
        for id in request_ids {
            let path = format!("/admin/v1/tenants/{}/requests/{id}", self.tenant);
            let lines = self.product.admin("GET", &path, None).await?;
            let count = lines["data"].as_array().context("a list of lines")?.len();
            ensure!(count == 1, "{id} is in the ledger {count} times");
        }
        Ok(())
    }

    /// How many calls the ledger has of it.
    pub(crate) async fn recorded_calls(&self) -> anyhow::Result<u64> {
        recorded_of(self.product, self.tenant).await
    }
}

/// What stands in a tenant's budget, as a process says it; nothing before the first call.
pub(crate) async fn standing_of(product: &Product, tenant: &str) -> anyhow::Result<Standing> {
    let path = format!("/admin/v1/tenants/{tenant}/budgets/status");
    let status = product.admin("GET", &path, None).await?;
    let rows = status["data"].as_array().context("a list of budgets")?;
    let row = rows.iter().find(|row| row["budget"] == BUDGET);
    row.map_or(Ok(Standing::default()), |row| {
        serde_json::from_value(row.clone()).context("a budget's row")
    })
}

/// How many calls the ledger has of a tenant.
pub(crate) async fn recorded_of(product: &Product, tenant: &str) -> anyhow::Result<u64> {
    let path = format!("/admin/v1/tenants/{tenant}/usage?group_by=model");
    let usage = product.admin("GET", &path, None).await?;
    let rows = usage["data"].as_array().context("a list of usage")?;
    rows.iter()
        .map(|row| row["calls"].as_u64().context("a row counts calls"))
        .sum()
}

impl Watched {
    fn add(&mut self, spent_and_held: PicoUsd) {
        self.looks += 1;
        self.most = self.most.max(spent_and_held);
    }
}

/// Ensures that the whole journal adds up and that no call cost more than was held for it.
pub(crate) async fn verify_ledger(product: &Product) -> anyhow::Result<()> {
    let check = product
        .admin("GET", "/admin/v1/ledger/verify", None)
        .await?;
    let overshoot: PicoUsd =
        serde_json::from_value(check["overshoot"].clone()).context("`overshoot` is money")?;
    ensure!(
        check["ok"] == true && overshoot == PicoUsd::ZERO,
        "the ledger does not add up: {check}"
    );
    Ok(())
}
