//! What somebody should know, as it is now: read again at every turn, so that an alert is open
//! while its condition holds, however often it is seen.

use std::collections::HashMap;
use std::time::Duration;

use base::{Name, TenantId, Timestamp};
use ring::digest::{Context, SHA256};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use store::ReplicaView;
use tenancy::catalogue::{AlertKind, BudgetSpec};
use tenancy::{Snapshot, TenantEntry};

use crate::api::{BudgetRow, UpgradeReply, UpgradeState};

/// 200 of one tenant: a budget for each of its users may be spent at one time, and nobody reads
/// more.
pub(super) const OF_TENANT_MAX: usize = 200;
/// 99%: a call is held at its upper bound, and what is left has no room for that any more.
const EXHAUSTED_PERMILLE: i128 = 990;

/// How much it matters.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
    /// Somebody should look soon.
    Warning,
    /// Calls fail or are refused, or will be.
    Critical,
}

impl Severity {
    /// Its name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Warning => "warning",
            Self::Critical => "critical",
        }
    }
}

/// Something that is so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Condition {
    /// Whose it is; none for the platform's own.
    pub(super) tenant: Option<TenantId>,
    pub(super) about: About,
}

/// What is said of an alert: what the catalogue keeps of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct About {
    pub(crate) kind: AlertKind,
    pub(crate) severity: Severity,
    /// The tenant's name when it was opened.
    pub(crate) tenant: Option<Name>,
    /// What tells it from others of its kind: a budget and its subject, an upstream, a key.
    pub(crate) subject: String,
    pub(crate) summary: String,
    /// The dashboard's page that shows it.
    pub(crate) page: String,
}

impl Condition {
    /// Of a tenant.
    pub(super) fn of(
        tenant: &TenantEntry,
        (kind, severity): (AlertKind, Severity),
        subject: String,
        summary: String,
        page: &str,
    ) -> Self {
        Self {
            tenant: Some(tenant.id()),
            about: About {
                kind,
                severity,
                tenant: Some(tenant.name.clone()),
                subject,
                summary,
                page: format!("/dashboard/tenants/{}{page}", tenant.name),
            },
        }
    }

    /// Tells it from all others: tenants' ids are part of it, and no two of its parts run into
    /// each other.
    pub(super) fn id(&self) -> String {
        let mut context = Context::new(&SHA256);
        let tenant = self.tenant.map(|id| id.to_string()).unwrap_or_default();
        for part in [&tenant, self.about.kind.as_str(), &self.about.subject] {
            context.update(&(part.len() as u64).to_be_bytes());
            context.update(part.as_bytes());
        }
        let hash = context.finish();
        let digits = hash.as_ref()[..16].iter();
        digits.map(|byte| format!("{byte:02x}")).collect()
    }
}

/// Budgets that are nearly or wholly spent.
pub(super) fn of_budgets(
    snapshot: &Snapshot,
    tenant: &TenantEntry,
    rows: &[BudgetRow],
    found: &mut Vec<Condition>,
) {
    for row in rows {
        let spec: Option<&BudgetSpec> = match tenant.budgets.get(&row.budget) {
            Some(own) => Some(own),
            None => snapshot.tier_of(tenant).budgets.get(&row.budget),
        };
        let Some(spec) = spec else { continue };
        let used = match row.limit.pico() {
            0 => 1_000,
            limit => row.spent.pico().saturating_mul(1_000) / limit,
        };
        let subject = format!("{}/{}", row.budget, row.subject);
        let of = match row.subject.as_str() {
            "tenant" => format!("budget {}", row.budget),
            subject => format!("budget {} of {subject}", row.budget),
        };
        let amounts = format!("{} of {} USD", row.spent, row.limit);
        if used >= i128::from(spec.soft_percent) * 10 {
            found.push(Condition::of(
                tenant,
                (AlertKind::BudgetSoft, Severity::Warning),
                subject.clone(),
                format!("{of} has passed {}%: {amounts} spent", spec.soft_percent),
                "/budgets",
            ));
        }
        if used >= EXHAUSTED_PERMILLE {
            found.push(Condition::of(
                tenant,
                (AlertKind::BudgetExhausted, Severity::Critical),
                subject,
                format!("{of} is used up: {amounts} spent"),
                "/budgets",
            ));
        }
    }
}

/// Keys that end within `within`.
pub(super) fn of_keys(
    tenant: &TenantEntry,
    now: Timestamp,
    within: Duration,
    found: &mut Vec<Condition>,
) {
    for (name, key) in tenant.keys.iter().filter(|(_, key)| !key.revoked) {
        let Some(ends) = key.expires_at() else {
            continue;
        };
        if ends > now && ends.since(now) <= within {
            found.push(Condition::of(
                tenant,
                (AlertKind::KeyExpiring, Severity::Warning),
                name.to_string(),
                format!("key {name} ends at {ends}"),
                "/keys",
            ));
        }
    }
}

/// Upstreams at which a tenant's own calls fail.
pub(super) fn of_breakers(
    tenant: &TenantEntry,
    open: &HashMap<TenantId, Vec<Name>>,
    found: &mut Vec<Condition>,
) {
    for upstream in open.get(&tenant.id()).into_iter().flatten() {
        found.push(Condition::of(
            tenant,
            (AlertKind::BreakerOpen, Severity::Critical),
            upstream.to_string(),
            format!("calls to upstream {upstream} fail and are held back"),
            "",
        ));
    }
}

/// Replicas that fell silent.
pub(super) fn of_replicas(replicas: &[ReplicaView], found: &mut Vec<Condition>) {
    let silent = replicas
        .iter()
        .filter(|replica| !replica.is_there() && !replica.has_ended);
    found.extend(silent.map(|replica| Condition {
        tenant: None,
        about: About {
            kind: AlertKind::ReplicaSilent,
            severity: Severity::Critical,
            tenant: None,
            subject: replica.id.to_string(),
            summary: format!(
                "replica {} ({}) was last heard of {} s ago",
                replica.name,
                replica.roles,
                replica.seen_ago.as_secs()
            ),
            page: "/dashboard/alerts".to_owned(),
        },
    }));
}

/// An upgrade that has halted, since when it began and where it stands.
pub(super) fn of_upgrade(upgrade: &UpgradeReply, found: &mut Vec<Condition>) {
    let (UpgradeState::Halted, Some(ring)) = (upgrade.state, upgrade.ring) else {
        return;
    };
    let began = upgrade.began_at.map(|at| at.to_string());
    let ring = ring.as_str();
    found.push(Condition {
        tenant: None,
        about: About {
            kind: AlertKind::UpgradeHalted,
            severity: Severity::Critical,
            tenant: None,
            // Another upgrade, or another ring of the same one, is told anew.
            subject: format!("{ring}/{}", began.unwrap_or_default()),
            summary: format!(
                "the upgrade of stores to step {} has halted in ring {ring}: {}",
                upgrade.to,
                upgrade.reason.as_deref().unwrap_or("the log says why")
            ),
            page: "/dashboard/upgrade".to_owned(),
        },
    });
}
