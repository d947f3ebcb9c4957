//! Budgets as they stand: what the catalogue declares, with what the gateway has on the books.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use base::{Clock, Name, PicoUsd, TenantId, Timestamp};
use control::BudgetReader;
use control::api::BudgetRow;
use gateway::Gateway;
use jiff::ToSpan as _;
use jiff::tz::TimeZone;
use ledger::{AccountId, Subject as LedgerSubject};
use store::BudgetShares;
use tenancy::TenantEntry;
use tenancy::catalogue::{BudgetSpec, Dimension, Subject, WindowSpec};

/// 10,000 rows: a tenant of a thousand users with ten budgets each.
const ROWS_MAX: usize = 10_000;

/// Reads the live state of budgets. Sessions and turns come and go by themselves, and are not
/// listed: no directory has them.
pub(super) struct LiveBudgets {
    pub(super) gateway: Gateway,
    pub(super) clock: Arc<dyn Clock>,
    /// What the other replicas have of the same budgets; none where there are no others.
    pub(super) shares: Option<Arc<BudgetShares>>,
}

/// A budget of one subject, as the catalogue has it.
struct Declared {
    budget: Name,
    subject: String,
    account: AccountId,
    limit: PicoUsd,
    window_ends_at: Option<Timestamp>,
}

impl BudgetReader for LiveBudgets {
    fn budgets(&self, tenant: TenantId) -> Vec<BudgetRow> {
        let snapshot = self.gateway.snapshot();
        let Some(entry) = snapshot.tenant(tenant) else {
            return Vec::new();
        };
        let inherited = snapshot.tier_of(entry).budgets.iter();
        let mut in_force: BTreeMap<&Name, &BudgetSpec> = inherited.collect();
        in_force.extend(entry.budgets.iter().map(|(name, spec)| (name, &**spec)));
        let now = self.clock.now();
        let declared = in_force.into_iter().flat_map(|(name, spec)| {
            let window_ends_at = window_end(spec.window, &entry.spec.zone, now);
            let subjects = subjects(entry, &spec.subject).into_iter();
            subjects.map(move |(text, subject)| Declared {
                budget: name.clone(),
                subject: text,
                account: AccountId::of(tenant, name, &subject),
                limit: spec.limit,
                window_ends_at,
            })
        });
        let declared: Vec<_> = declared.collect();
        let elsewhere = self.spent_elsewhere(&declared);
        let rows = declared.into_iter().filter_map(|declared| {
            let view = self.gateway.account(tenant, declared.account);
            let told = elsewhere.get(&declared.account).copied();
            if view.is_none() && told.is_none() {
                return None;
            }
            let own = view.map_or(PicoUsd::ZERO, |view| view.spent);
            let known = view.map_or(PicoUsd::ZERO, |view| view.spent_elsewhere);
            Some(BudgetRow {
                budget: declared.budget,
                subject: declared.subject,
                limit: declared.limit,
                spent: own + told.unwrap_or(known),
                held: view.map_or(PicoUsd::ZERO, |view| view.held),
                window_ends_at: declared.window_ends_at,
            })
        });
        rows.take(ROWS_MAX).collect()
    }
}

impl LiveBudgets {
    /// What the other replicas have spent. Where they cannot be asked for, what this one last heard
    /// of them is shown instead.
    fn spent_elsewhere(&self, declared: &[Declared]) -> HashMap<AccountId, PicoUsd> {
        let Some(shares) = &self.shares else {
            return HashMap::new();
        };
        let accounts: Vec<_> = declared.iter().map(|budget| budget.account).collect();
        let spent = shares.spent_by_others(&accounts);
        spent.unwrap_or_else(|error| {
            tracing::warn!(%error, "what other replicas have spent is shown as it was last heard");
            HashMap::new()
        })
    }
}

/// Whose accounts a budget has, as people say them and as the ledger does.
fn subjects(entry: &TenantEntry, of: &Subject) -> Vec<(String, LedgerSubject)> {
    match of {
        Subject::Tenant => vec![("tenant".to_owned(), LedgerSubject::Tenant)],
        Subject::One(dimension, name) => one(entry, *dimension, name).into_iter().collect(),
        Subject::Each(dimension) => names(entry, *dimension)
            .into_iter()
            .filter_map(|name| one(entry, *dimension, name))
            .collect(),
    }
}

fn names(entry: &TenantEntry, dimension: Dimension) -> Vec<&Name> {
    match dimension {
        Dimension::Team => entry.teams.keys().collect(),
        Dimension::User => entry.users.keys().collect(),
        Dimension::Key => entry.keys.keys().collect(),
        Dimension::Feature => entry.features.keys().collect(),
        Dimension::Session | Dimension::Turn => Vec::new(),
    }
}

fn one(entry: &TenantEntry, dimension: Dimension, name: &Name) -> Option<(String, LedgerSubject)> {
    let subject = match dimension {
        Dimension::Team => LedgerSubject::Team(entry.team_id(name)?),
        Dimension::User => LedgerSubject::User(entry.user_id(name)?),
        Dimension::Key => LedgerSubject::Key(entry.keys.get(name)?.id),
        Dimension::Feature => LedgerSubject::Feature(name.clone()),
        Dimension::Session | Dimension::Turn => return None,
    };
    Some((format!("{}:{name}", dimension.as_str()), subject))
}

/// When the window that `now` is in ends: for those that end for everybody at one time.
fn window_end(window: WindowSpec, zone: &str, now: Timestamp) -> Option<Timestamp> {
    let zone = TimeZone::get(zone).ok()?;
    let today = jiff::Timestamp::from_microsecond(now.as_micros())
        .ok()?
        .to_zoned(zone.clone())
        .date();
    let next = match window {
        WindowSpec::Total | WindowSpec::Rolling { .. } => return None,
        WindowSpec::Daily => today.checked_add(1.day()).ok()?,
        WindowSpec::Monthly => today.first_of_month().checked_add(1.month()).ok()?,
    };
    let end = next.to_zoned(zone).ok()?.timestamp();
    Some(Timestamp::from_micros(end.as_microsecond()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_end_by_the_tenants_calendar() {
        let now: Timestamp = "2026-03-28T23:30:00Z".parse().unwrap();
        let end = |window, zone| window_end(window, zone, now).map(|end| end.to_string());
        // In Berlin it is the 29th already, and the clocks change that night.
        assert_eq!(
            end(WindowSpec::Daily, "Europe/Berlin").as_deref(),
            Some("2026-03-29T22:00:00Z")
        );
        assert_eq!(
            end(WindowSpec::Daily, "UTC").as_deref(),
            Some("2026-03-29T00:00:00Z")
        );
        assert_eq!(
            end(WindowSpec::Monthly, "America/New_York").as_deref(),
            Some("2026-04-01T04:00:00Z")
        );
        assert_eq!(end(WindowSpec::Total, "UTC"), None);
        assert_eq!(end(WindowSpec::Rolling { hours: 5 }, "UTC"), None);
    }
}
