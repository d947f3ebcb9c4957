//! A tenant's hours, compared with its own past.

use std::collections::HashMap;

use base::{PicoUsd, TenantId, Timestamp};
use parking_lot::Mutex;
use store::{PastHour, StoreError};
use tenancy::catalogue::AlertKind;
use tenancy::{ServicePurpose, TenantEntry};

use super::band::{PAST_HOURS, Slack, upper_edge};
use super::condition::{Condition, Severity};
use crate::Control;
use crate::api::HealthFigures;
use crate::health::{percent, seconds};

const HOUR_MICROS: i64 = 3_600 * 1_000_000;
/// Of fewer calls nothing is concluded.
const CALLS_MIN: u64 = 20;
/// So many must have failed or been refused: a few are no rate.
const FAILED_MIN: u64 = 10;
const REFUSED_MIN: u64 = 20;

/// A dollar, and half as much again.
const SPEND: Slack = Slack {
    percent: 50,
    least: 1_000_000,
};
/// Five of a hundred calls more than usual.
const FAILED: Slack = Slack {
    percent: 100,
    least: 50,
};
/// Ten of a hundred.
const REFUSED: Slack = Slack {
    percent: 100,
    least: 100,
};
/// A second, and twice as long as usual.
const LATENCY: Slack = Slack {
    percent: 100,
    least: 1_000,
};

/// What one hour lets expect at most. None where too little is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Edges {
    /// In millionths of a dollar.
    spend: Option<u64>,
    /// In thousandths of the calls.
    failed: Option<u64>,
    refused: Option<u64>,
    p95_ms: Option<u64>,
}

/// What hours let expect, by tenant: computed once an hour.
#[derive(Debug, Default)]
pub(super) struct Edged(Mutex<HashMap<TenantId, (i64, Edges, Edges)>>);

/// The hour's number since 1970, UTC.
pub(super) fn hour_of(at: Timestamp) -> i64 {
    at.as_micros().div_euclid(HOUR_MICROS)
}

impl Control {
    /// Notes how the hour that is over went, for every tenant that called in it.
    pub(super) fn note_hours(&self, over: i64) {
        let snapshot = self.publisher.current();
        for (tenant, hour) in self.health.all().tenants {
            let Some(entry) = snapshot.tenant(tenant) else {
                continue;
            };
            let sum = hour.sum;
            let noted = PastHour {
                hour: over,
                calls: sum.calls,
                failed: sum.failed,
                refused: sum.refused,
                p95_ms: sum.duration.map_or(0, |it| it.p95_ms),
            };
            let scope = (self.publisher).service_scope(&entry.unlocked, ServicePurpose::Watching);
            if let Err(error) = self.publisher.stores.open(&scope).note_hour(&noted) {
                let tenant = &entry.name;
                tracing::warn!(%tenant, error = %crate::chain(&error), "an hour is not noted");
            }
        }
        let known = |tenant: &TenantId| snapshot.tenant(*tenant).is_some();
        self.alerts.edged.0.lock().retain(|tenant, _| known(tenant));
    }

    /// What of a tenant is outside its own band, in the hour under way and in the one before.
    pub(super) fn anomalies_of(
        &self,
        tenant: &TenantEntry,
        sum: &HealthFigures,
        now: Timestamp,
        found: &mut Vec<Condition>,
    ) -> Result<(), StoreError> {
        let hour = hour_of(now);
        let scope = (self.publisher).service_scope(&tenant.unlocked, ServicePurpose::Watching);
        let store = self.publisher.stores.open(&scope);
        let known = self.alerts.edged.0.lock().get(&tenant.id()).copied();
        let (before, under_way, costs) = match known {
            Some((of, before, under_way)) if of == hour => {
                (before, under_way, store.hourly_costs(hour - 1)?)
            }
            _ => {
                let from = hour - 1 - PAST_HOURS;
                let costs = store.hourly_costs(from)?;
                let past = store.past_hours(from)?;
                let (before, under_way) =
                    (edges(&costs, &past, hour - 1), edges(&costs, &past, hour));
                let all = (hour, before, under_way);
                self.alerts.edged.0.lock().insert(tenant.id(), all);
                (before, under_way, costs)
            }
        };
        let spent = |hour| {
            let cost = costs.iter().find(|(of, _)| *of == hour);
            cost.map_or(0, |(_, cost)| micro_usd(*cost))
        };
        of_spend(
            tenant,
            [
                (spent(hour), under_way.spend),
                (spent(hour - 1), before.spend),
            ],
            found,
        );
        of_calls(tenant, sum, &under_way, found);
        Ok(())
    }
}

fn edges(costs: &[(i64, PicoUsd)], past: &[PastHour], hour: i64) -> Edges {
    let enough = past.iter().filter(|past| past.calls >= CALLS_MIN);
    let rates = |of: fn(&PastHour) -> u64| -> Vec<(i64, u64)> {
        let rate = |past: &PastHour| (past.hour, of(past));
        enough.clone().map(rate).collect()
    };
    Edges {
        spend: upper_edge(&filled(costs, hour), hour, SPEND),
        failed: upper_edge(&rates(|it| it.failed * 1_000 / it.calls), hour, FAILED),
        refused: upper_edge(&rates(|it| it.refused * 1_000 / it.calls), hour, REFUSED),
        p95_ms: upper_edge(&rates(|it| it.p95_ms), hour, LATENCY),
    }
}

/// From the first hour that cost something on, hours without a cost cost nothing.
fn filled(costs: &[(i64, PicoUsd)], until: i64) -> Vec<(i64, u64)> {
    let Some((first, _)) = costs.first() else {
        return Vec::new();
    };
    let known: HashMap<i64, PicoUsd> = costs.iter().copied().collect();
    (*first..until)
        .map(|hour| (hour, known.get(&hour).map_or(0, |cost| micro_usd(*cost))))
        .collect()
}

/// Rounded down; nothing of what is below nothing.
fn micro_usd(cost: PicoUsd) -> u64 {
    u64::try_from(cost.pico().max(0) / 1_000_000).unwrap_or(u64::MAX)
}

fn dollars(micro_usd: u64) -> String {
    format!(
        "{}.{:02} USD",
        micro_usd / 1_000_000,
        micro_usd % 1_000_000 / 10_000
    )
}

fn of_spend(tenant: &TenantEntry, hours: [(u64, Option<u64>); 2], found: &mut Vec<Condition>) {
    let outside = hours
        .into_iter()
        .filter_map(|(spent, edge)| Some((spent, edge?)))
        .find(|(spent, edge)| spent > edge);
    if let Some((spent, edge)) = outside {
        let summary = format!(
            "{} spent within an hour; its own past lets expect at most {}",
            dollars(spent),
            dollars(edge)
        );
        found.push(anomaly(
            tenant,
            Severity::Warning,
            "spend",
            summary,
            "/usage",
        ));
    }
}

fn of_calls(tenant: &TenantEntry, sum: &HealthFigures, edges: &Edges, found: &mut Vec<Condition>) {
    if sum.calls < CALLS_MIN {
        return;
    }
    let rates = [
        (
            "failures",
            "fail",
            sum.failed,
            FAILED_MIN,
            edges.failed,
            Severity::Critical,
        ),
        (
            "refusals",
            "are refused",
            sum.refused,
            REFUSED_MIN,
            edges.refused,
            Severity::Warning,
        ),
    ];
    for (subject, words, count, least, edge, severity) in rates {
        let rate = count * 1_000 / sum.calls;
        if let Some(edge) = edge
            && count >= least
            && rate > edge
        {
            let summary = format!(
                "{} of calls {words}; its own past lets expect at most {}",
                percent(rate),
                percent(edge)
            );
            found.push(anomaly(tenant, severity, subject, summary, ""));
        }
    }
    if let (Some(duration), Some(edge)) = (sum.duration, edges.p95_ms)
        && duration.p95_ms > edge
    {
        let summary = format!(
            "5% of calls take longer than {}; its own past lets expect at most {}",
            seconds(duration.p95_ms),
            seconds(edge)
        );
        found.push(anomaly(tenant, Severity::Warning, "latency", summary, ""));
    }
}

fn anomaly(
    tenant: &TenantEntry,
    severity: Severity,
    subject: &str,
    summary: String,
    page: &str,
) -> Condition {
    let kind = (AlertKind::Anomaly, severity);
    Condition::of(tenant, kind, subject.to_owned(), summary, page)
}
