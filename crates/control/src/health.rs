//! Which tenants need somebody to look, and why: the rules, without I/O; and all tenants at one
//! time, read at most once in two seconds.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use base::{Name, PicoUsd, TenantId, Timestamp};
use parking_lot::Mutex;
use tenancy::Snapshot;

use crate::Control;
use crate::api::{BudgetRow, BudgetUse, Concern, FleetRow, HealthFigures};
use crate::ports::{Coverage, HourOfFleet};

/// 2 s: what is shown may be so old, and ten people who look cost as much as one.
const FRESH: Duration = Duration::from_secs(2);
/// An hour in steps of five minutes.
pub(crate) const TREND_STEPS: usize = 12;
/// Of fewer calls nothing is concluded: one that fails is not yet a rate.
const CALLS_MIN: u64 = 10;
/// 80%: where budgets warn, too. 99%: a call is held at its upper bound, and what is left has no
/// room for that any more.
const BUDGET_WATCH: u32 = 800;
const BUDGET_URGENT: u32 = 990;
/// 1% and 5% of the calls: what an objective of 99% does not and surely does not allow.
const FAILED_WATCH: u64 = 10;
const FAILED_URGENT: u64 = 50;
/// A fifth of the calls: a client that does not slow down, or a wall that is too low.
const REFUSED_WATCH: u64 = 200;
/// 2 s: longer than most wait for a first word.
const WAIT_WATCH_MS: u64 = 2_000;

/// Something about a tenant that somebody should look at.
struct Finding {
    concern: Concern,
    /// Among findings of one concern, the larger comes first.
    weight: u64,
    words: String,
}

/// What is to be said of a tenant: how urgent, how much, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Judged {
    pub(crate) concern: Concern,
    weight: u64,
    pub(crate) reasons: Vec<String>,
}

/// Looks at what is known of a tenant.
pub(crate) fn judge(
    health: &HealthFigures,
    budget: Option<&BudgetUse>,
    open_breakers: &[Name],
) -> Judged {
    let mut findings: Vec<Finding> = open_breakers
        .iter()
        .map(|upstream| Finding {
            concern: Concern::Urgent,
            weight: 1_000,
            words: format!("calls of {upstream} fail and are held back"),
        })
        .collect();
    findings.extend(budget.and_then(of_budget));
    findings.extend(of_calls(health));
    if let Some(wait) = health
        .queue_wait
        .filter(|wait| wait.p95_ms >= WAIT_WATCH_MS)
    {
        findings.push(Finding {
            concern: Concern::Watch,
            weight: wait.p95_ms / 100,
            words: format!("waits {} for a place", seconds(wait.p95_ms)),
        });
    }
    findings.sort_by_key(|finding| std::cmp::Reverse((finding.concern, finding.weight)));
    let first = findings.first();
    Judged {
        concern: first.map_or(Concern::Well, |finding| finding.concern),
        weight: first.map_or(0, |finding| finding.weight),
        reasons: findings.into_iter().map(|finding| finding.words).collect(),
    }
}

fn of_budget(budget: &BudgetUse) -> Option<Finding> {
    let concern = match budget.used_permille {
        BUDGET_URGENT.. => Concern::Urgent,
        BUDGET_WATCH.. => Concern::Watch,
        _ => return None,
    };
    Some(Finding {
        concern,
        weight: budget.used_permille.into(),
        words: format!("{}% of budget {}", budget.used_permille / 10, budget.budget),
    })
}

fn of_calls(health: &HealthFigures) -> Vec<Finding> {
    if health.calls < CALLS_MIN {
        return Vec::new();
    }
    let permille = |count: u64| count * 1_000 / health.calls;
    let mut findings = Vec::new();
    let failed = permille(health.failed);
    if failed >= FAILED_WATCH {
        let concern = match failed {
            FAILED_URGENT.. => Concern::Urgent,
            _ => Concern::Watch,
        };
        findings.push(Finding {
            concern,
            weight: failed,
            words: format!("{} of calls fail", percent(failed)),
        });
    }
    let refused = permille(health.refused);
    if refused >= REFUSED_WATCH {
        findings.push(Finding {
            concern: Concern::Watch,
            weight: refused,
            words: format!("{} of calls are refused", percent(refused)),
        });
    }
    findings
}

/// Thousandths as a percentage: `1.5%`, `12%`.
pub(crate) fn percent(permille: u64) -> String {
    match permille {
        0..100 if !permille.is_multiple_of(10) => format!("{}.{}%", permille / 10, permille % 10),
        _ => format!("{}%", permille / 10),
    }
}

/// Milliseconds as people say them: `840 ms`, `1.2 s`.
pub(crate) fn seconds(millis: u64) -> String {
    match millis {
        0..1_000 => format!("{millis} ms"),
        1_000..10_000 => format!("{}.{} s", millis / 1_000, millis % 1_000 / 100),
        10_000..600_000 => format!("{} s", millis / 1_000),
        _ => format!("{} min", millis / 60_000),
    }
}

/// The fullest budget that counts all that the tenant spends.
pub(crate) fn fullest(budgets: &[BudgetRow]) -> Option<BudgetUse> {
    let of_all = budgets.iter().filter(|row| row.subject == "tenant");
    let used = of_all.map(|row| BudgetUse {
        budget: row.budget.clone(),
        limit: row.limit,
        spent: row.spent,
        held: row.held,
        used_permille: used_permille(row),
    });
    used.max_by_key(|budget| budget.used_permille)
}

/// Rounded down: 1,000 means that nothing is left.
pub(crate) fn used_permille(row: &BudgetRow) -> u32 {
    let used = (row.spent + row.held).pico();
    match row.limit {
        // A budget of nothing is used up.
        PicoUsd::ZERO => 1_000,
        limit => u32::try_from(used.saturating_mul(1_000) / limit.pico()).unwrap_or(u32::MAX),
    }
}

/// All tenants, as they were at one time.
#[derive(Debug)]
pub(crate) struct Fleet {
    /// In the order of concern.
    pub(crate) rows: Vec<FleetRow>,
    pub(crate) health: HealthFigures,
    pub(crate) as_of: Timestamp,
    /// The version that names and tiers are of.
    version: u64,
    read_at: Duration,
}

/// The fleet as it was last read.
#[derive(Debug, Default)]
pub(crate) struct FleetCache(Mutex<Option<Arc<Fleet>>>);

impl Control {
    /// All tenants: as of now, or of a moment ago. Whoever comes while somebody reads them waits
    /// for that. Blocks.
    pub(crate) fn fleet(&self, snapshot: &Snapshot) -> Arc<Fleet> {
        let mut cache = self.fleet_cache.0.lock();
        let now = self.clock.elapsed();
        let is_fresh = |fleet: &&Arc<Fleet>| {
            fleet.version == snapshot.version() && now.saturating_sub(fleet.read_at) < FRESH
        };
        if let Some(fleet) = cache.as_ref().filter(is_fresh) {
            return Arc::clone(fleet);
        }
        let fleet = Arc::new(self.read_fleet(snapshot, now));
        *cache = Some(Arc::clone(&fleet));
        fleet
    }

    fn read_fleet(&self, snapshot: &Snapshot, now: Duration) -> Fleet {
        let hours = self.health.all();
        let breakers = by_tenant(self.health.open_breakers());
        let none = HourOfFleet::default();
        let mut rows: Vec<(u64, FleetRow)> = snapshot
            .tenants()
            .map(|tenant| {
                let hour = hours.tenants.get(&tenant.id()).unwrap_or(&none);
                let budget = fullest(&self.budgets.budgets(tenant.id()));
                let open = breakers.get(&tenant.id()).cloned().unwrap_or_default();
                let judged = judge(&hour.sum, budget.as_ref(), &open);
                let row = FleetRow {
                    tenant: tenant.name.clone(),
                    tier: tenant.spec.tier.clone(),
                    suspended: tenant.spec.suspended,
                    concern: judged.concern,
                    reasons: judged.reasons,
                    budget,
                    health: hour.sum,
                    trend: trend(hour),
                    open_breakers: open,
                };
                (judged.weight, row)
            })
            .collect();
        let order = |(weight, row): &(u64, FleetRow)| {
            // Whoever is suspended on purpose comes last.
            std::cmp::Reverse((!row.suspended, row.concern, *weight, row.health.calls))
        };
        rows.sort_by(|one, other| {
            let by_concern = order(one).cmp(&order(other));
            by_concern.then_with(|| one.1.tenant.cmp(&other.1.tenant))
        });
        Fleet {
            rows: rows.into_iter().map(|(_, row)| row).collect(),
            health: hours.sum,
            as_of: self.clock.now(),
            version: snapshot.version(),
            read_at: now,
        }
    }

    /// The upstreams at which a tenant's own calls fail.
    pub(crate) fn open_breakers_of(&self, tenant: TenantId) -> Vec<Name> {
        let open = self.health.open_breakers().into_iter();
        open.filter(|(_, tenants)| tenants.contains(&tenant))
            .map(|(upstream, _)| upstream)
            .collect()
    }

    /// Since when the last hour is counted: it begins with this process, or with what other
    /// replicas told.
    pub(crate) fn health_since(&self, coverage: &Coverage) -> Timestamp {
        let (hour, now) = (Duration::from_secs(3_600), self.clock.now());
        let own = now.minus(self.clock.elapsed().min(hour));
        coverage
            .since
            .map_or(own, |told| own.min(told.max(now.minus(hour))))
    }
}

fn by_tenant(open: Vec<(Name, Vec<TenantId>)>) -> HashMap<TenantId, Vec<Name>> {
    let mut all: HashMap<TenantId, Vec<Name>> = HashMap::new();
    for (upstream, tenants) in open {
        for tenant in tenants {
            all.entry(tenant).or_default().push(upstream.clone());
        }
    }
    all
}

fn trend(hour: &HourOfFleet) -> Vec<u64> {
    if hour.minutes.is_empty() {
        return vec![0; TREND_STEPS];
    }
    let step = hour.minutes.len().div_ceil(TREND_STEPS);
    let steps = hour.minutes.chunks(step);
    steps
        .map(|minutes| minutes.iter().map(|minute| minute.calls).sum())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::Quantiles;

    fn figures(calls: u64, failed: u64, refused: u64) -> HealthFigures {
        HealthFigures {
            calls,
            failed,
            refused,
            ..HealthFigures::default()
        }
    }

    fn budget(limit: &str, spent: &str) -> BudgetUse {
        let row = BudgetRow {
            budget: "month".parse().unwrap(),
            subject: "tenant".to_owned(),
            limit: PicoUsd::from_decimal_text(limit).unwrap(),
            spent: PicoUsd::from_decimal_text(spent).unwrap(),
            held: PicoUsd::ZERO,
            window_ends_at: None,
        };
        fullest(&[row]).unwrap()
    }

    #[test]
    fn what_is_wrong_is_said_with_the_gravest_first() {
        let waiting = HealthFigures {
            queue_wait: Some(Quantiles {
                p50_ms: 10,
                p95_ms: 2_500,
                p99_ms: 9_000,
            }),
            ..figures(1_000, 15, 250)
        };
        let judged = judge(&waiting, Some(&budget("10", "9.85")), &[]);
        assert_eq!(judged.concern, Concern::Watch);
        let expected = [
            "98% of budget month",
            "25% of calls are refused",
            "waits 2.5 s for a place",
            "1.5% of calls fail",
        ];
        assert_eq!(judged.reasons, expected);
        let open = ["vllm".parse().unwrap()];
        let judged = judge(&figures(1_000, 60, 0), Some(&budget("0", "0")), &open);
        assert_eq!(judged.concern, Concern::Urgent);
        assert_eq!(judged.reasons.len(), 3);
    }

    #[test]
    fn little_is_no_rate_and_enough_is_well() {
        for (calls, failed) in [(9, 9), (1_000, 9)] {
            let judged = judge(&figures(calls, failed, 0), Some(&budget("10", "7.99")), &[]);
            assert_eq!(judged.concern, Concern::Well, "{calls} {failed}");
            assert!(judged.reasons.is_empty());
        }
        assert_eq!(
            judge(&figures(10, 1, 0), None, &[]).concern,
            Concern::Urgent
        );
    }
}
