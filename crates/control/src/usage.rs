//! Usage: what the tenants' stores have, added up and named.

use std::collections::BTreeMap;

use base::Timestamp;
use store::{Dimension, StoreError, TenantStore, UsageFilter};
use store::{UsageQuery as StoreQuery, UsageRow as StoreRow};
use tenancy::TenantEntry;

use crate::api::{Page, UsageRow};
use crate::error::ApiError;
use crate::paging::Paging;

/// 10,000: a month of 300 groups; what is finer is asked for by narrower times.
pub(crate) const GROUPS_MAX: usize = 10_000;

/// A question about usage, read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Question {
    pub(crate) query: StoreQuery,
    /// Whether tenants are told apart.
    pub(crate) by_tenant: bool,
}

/// Usage by group: the names and values of what is told apart.
pub(crate) type Groups = BTreeMap<BTreeMap<String, String>, UsageRow>;

impl Question {
    /// Reads a question. `now` ends a time that has no end.
    pub(crate) fn read(
        group_by: Option<&str>,
        from: Option<&str>,
        to: Option<&str>,
        now: Timestamp,
    ) -> Result<Self, ApiError> {
        Self::read_by("group_by", group_by, from, to, now)
    }

    /// The same, where `param` says what to tell apart.
    pub(crate) fn read_by(
        param: &str,
        group_by: Option<&str>,
        from: Option<&str>,
        to: Option<&str>,
        now: Timestamp,
    ) -> Result<Self, ApiError> {
        let mut by_tenant = false;
        let mut dimensions = Vec::new();
        for name in group_by
            .unwrap_or_default()
            .split(',')
            .filter(|name| !name.is_empty())
        {
            if name == "tenant" {
                by_tenant = true;
                continue;
            }
            let dimension = dimension(name).ok_or_else(|| {
                let known = "tenant, team, user, key, feature, model, version, price_version, \
                             upstream, hop, month, day, hour, session";
                ApiError::of(param, format!("`{name:.40}` is none of {known}"))
            })?;
            dimensions.push(dimension);
        }
        let query = StoreQuery {
            from: from.map_or(Ok(Timestamp::from_micros(0)), |text| time("from", text))?,
            until: to.map_or(Ok(next_midnight(now)), |text| time("to", text))?,
            group_by: dimensions,
            filter: UsageFilter::default(),
        };
        Ok(Self { query, by_tenant })
    }
}

fn dimension(name: &str) -> Option<Dimension> {
    Some(match name {
        "month" => Dimension::Month,
        "day" => Dimension::Day,
        "hour" => Dimension::Hour,
        "team" => Dimension::Team,
        "user" => Dimension::User,
        "key" => Dimension::Key,
        "feature" => Dimension::Feature,
        "model" => Dimension::Model,
        "version" => Dimension::Version,
        "price_version" => Dimension::PriceVersion,
        "upstream" => Dimension::Upstream,
        "hop" => Dimension::Hop,
        "session" => Dimension::Session,
        _ => return None,
    })
}

/// A date is its beginning, UTC.
pub(crate) fn time(param: &str, text: &str) -> Result<Timestamp, ApiError> {
    let is_date = text.len() == "2026-01-31".len();
    let whole = if is_date {
        format!("{text}T00:00:00Z")
    } else {
        text.to_owned()
    };
    whole.parse().map_err(|_| {
        ApiError::of(
            param,
            "a time is RFC 3339 or a date: 2026-01-31T12:00:00Z, 2026-01-31",
        )
    })
}

/// Whole days are answered from sums, and the day that has begun counts.
fn next_midnight(now: Timestamp) -> Timestamp {
    const DAY_MICROS: i64 = 24 * 3600 * 1_000_000;
    Timestamp::from_micros((now.as_micros().div_euclid(DAY_MICROS) + 1) * DAY_MICROS)
}

/// Adds what a tenant's store has of its usage to `groups`. Blocks.
pub(crate) fn add(
    groups: &mut Groups,
    question: &Question,
    tenant: &TenantEntry,
    store: &TenantStore<'_>,
) -> Result<(), ApiError> {
    let names = Names::of(tenant);
    let rows = match store.whole_usage(&question.query, GROUPS_MAX) {
        Err(StoreError::TooManyGroups { .. }) => return Err(too_many_groups()),
        Err(StoreError::Forgotten { since }) => {
            let message = format!("before {since} whole UTC days alone are kept: ask for such");
            return Err(ApiError::of("from", message));
        }
        answered => answered.map_err(ApiError::internal)?,
    };
    for row in &rows {
        put(groups, question, tenant, &names, row)?;
    }
    Ok(())
}

fn put(
    groups: &mut Groups,
    question: &Question,
    tenant: &TenantEntry,
    names: &Names,
    row: &StoreRow,
) -> Result<(), ApiError> {
    let mut group = BTreeMap::new();
    let mut say = |name: &str, value: String| drop(group.insert(name.to_owned(), value));
    if question.by_tenant {
        say("tenant", tenant.name.to_string());
    }
    for dimension in &question.query.group_by {
        match dimension {
            Dimension::Month => say("month", start(row, "2026-01".len())),
            Dimension::Day => say("day", start(row, "2026-01-31".len())),
            Dimension::Hour => say("hour", start(row, "2026-01-31T23:00:00Z".len())),
            Dimension::Team => say("team", names.name(row.team.as_deref().unwrap_or_default())),
            Dimension::User => say("user", names.name(row.user.as_deref().unwrap_or_default())),
            Dimension::Key => say("key", names.name(row.key.as_deref().unwrap_or_default())),
            Dimension::Feature => say("feature", row.feature.clone().unwrap_or_default()),
            Dimension::Model => say("model", row.model.clone().unwrap_or_default()),
            Dimension::Version => say("version", row.version.clone().unwrap_or_default()),
            Dimension::PriceVersion => {
                let version = row.price_version.map(|version| version.to_string());
                say("price_version", version.unwrap_or_default());
            }
            Dimension::Upstream => say("upstream", row.upstream.clone().unwrap_or_default()),
            Dimension::Hop => say("hop", row.hop.clone().unwrap_or_default()),
            Dimension::Session => say("session", row.session.clone().unwrap_or_default()),
        }
    }
    if groups.len() >= GROUPS_MAX && !groups.contains_key(&group) {
        return Err(too_many_groups());
    }
    let sum = groups.entry(group).or_default();
    sum.requests += row.requests;
    sum.calls += row.calls;
    sum.unsettled += row.unsettled;
    sum.cache_hits += row.cache_hits;
    sum.input_tokens += row.input_tokens;
    sum.cached_tokens += row.cached_tokens;
    sum.cached_write_tokens += row.cached_write_tokens;
    sum.cached_write_1h_tokens += row.cached_write_1h_tokens;
    sum.output_tokens += row.output_tokens;
    sum.cost += row.cost;
    Ok(())
}

fn too_many_groups() -> ApiError {
    ApiError::invalid(
        "this has more than 10,000 groups: ask for a shorter time, or tell less apart",
    )
}

/// The beginning of a row's time, as far as it says something.
fn start(row: &StoreRow, letters: usize) -> String {
    let text = row.start.map(|start| start.to_string());
    text.unwrap_or_default().chars().take(letters).collect()
}

/// A tenant's teams, users and keys by id, since usage is kept by id and read by name. What is
/// gone keeps its id.
pub(crate) struct Names(BTreeMap<String, String>);

impl Names {
    pub(crate) fn of(tenant: &TenantEntry) -> Self {
        let teams = tenant
            .teams
            .iter()
            .map(|(name, team)| (team.id.to_string(), name));
        let users = tenant
            .users
            .iter()
            .map(|(name, user)| (user.id.to_string(), name));
        let keys = tenant
            .keys
            .iter()
            .map(|(name, key)| (key.id.to_string(), name));
        let all = teams.chain(users).chain(keys);
        Self(all.map(|(id, name)| (id, name.to_string())).collect())
    }

    pub(crate) fn name(&self, id: &str) -> String {
        self.0.get(id).cloned().unwrap_or_else(|| id.to_owned())
    }
}

/// A page of the groups, in their order.
pub(crate) fn page(groups: Groups, paging: &Paging) -> Result<Page<UsageRow>, ApiError> {
    let rows = groups
        .into_iter()
        .map(|(group, row)| UsageRow { group, ..row });
    paging.of_offsets(rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_is_read_and_days_stay_whole() {
        let now: Timestamp = "2026-03-05T10:00:00Z".parse().unwrap();
        let question = Question::read(Some("model,tenant,day"), Some("2026-03-01"), None, now);
        let question = question.unwrap();
        assert!(question.by_tenant);
        assert_eq!(question.query.group_by, [Dimension::Model, Dimension::Day]);
        assert_eq!(question.query.from.to_string(), "2026-03-01T00:00:00Z");
        assert_eq!(question.query.until.to_string(), "2026-03-06T00:00:00Z");
        for (group_by, from) in [(Some("moon"), None), (None, Some("yesterday"))] {
            assert!(Question::read(group_by, from, None, now).is_err());
        }
    }
}
