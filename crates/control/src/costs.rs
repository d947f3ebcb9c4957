//! Questions about costs: read, answered in their order, and added up.

use std::time::Duration;

use base::{Name, Timestamp};
use store::{Dimension, UsageFilter};
use tenancy::TenantEntry;

use crate::api::{CostOrder, CostsQuery, CostsReply, Granularity, PlatformCostsQuery, UsageRow};
use crate::error::ApiError;
use crate::paging::Paging;
use crate::usage::{Groups, Question};

/// 35 days: conversations are found in the lines themselves, some millions a second.
const SESSION_TIME_MAX: Duration = Duration::from_secs(35 * 24 * 3600);

impl Question {
    /// Reads a question about a tenant's costs.
    pub(crate) fn of_costs(
        query: &CostsQuery,
        tenant: &TenantEntry,
        now: Timestamp,
    ) -> Result<Self, ApiError> {
        let by = query.by.as_deref();
        let mut question =
            Self::read_by("by", by, query.from.as_deref(), query.to.as_deref(), now)?;
        if question.by_tenant {
            return Err(ApiError::of(
                "by",
                "this is one tenant: ask `/admin/v1/costs`",
            ));
        }
        question.tell_time_apart(query.granularity)?;
        question.query.filter = filter(query, tenant)?;
        let asked = &question.query;
        let is_of_session =
            asked.filter.session.is_some() || asked.group_by.contains(&Dimension::Session);
        if is_of_session && asked.until.since(asked.from) > SESSION_TIME_MAX {
            let message = "conversations are told apart over 35 days at most: say `from` and `to`";
            return Err(ApiError::of("from", message));
        }
        Ok(question)
    }

    /// Reads a question about all tenants' costs.
    pub(crate) fn of_all_costs(
        query: &PlatformCostsQuery,
        now: Timestamp,
    ) -> Result<Self, ApiError> {
        let by = query.by.as_deref();
        let mut question =
            Self::read_by("by", by, query.from.as_deref(), query.to.as_deref(), now)?;
        if question.query.group_by.contains(&Dimension::Session) {
            let message = "conversations are told apart inside a tenant alone";
            return Err(ApiError::of("by", message));
        }
        question.tell_time_apart(query.granularity)?;
        question.query.filter = UsageFilter {
            feature: query.feature.clone(),
            model: query.model.clone(),
            version: query.version.clone(),
            upstream: query.upstream.clone(),
            hop: query.hop.clone(),
            ..UsageFilter::default()
        };
        Ok(question)
    }

    /// Adds the time to what is told apart.
    pub(crate) fn tell_time_apart(&mut self, granularity: Granularity) -> Result<(), ApiError> {
        let of_time = [Dimension::Hour, Dimension::Day, Dimension::Month];
        if self.query.group_by.iter().any(|by| of_time.contains(by)) {
            return Err(ApiError::of("by", "time is told apart by `granularity`"));
        }
        self.query.group_by.extend(match granularity {
            Granularity::Total => None,
            Granularity::Month => Some(Dimension::Month),
            Granularity::Day => Some(Dimension::Day),
            Granularity::Hour => Some(Dimension::Hour),
        });
        Ok(())
    }
}

/// Teams, users and keys are said by name, and kept by id. One that is gone is said by its id.
fn filter(query: &CostsQuery, tenant: &TenantEntry) -> Result<UsageFilter, ApiError> {
    let id = |param: &str, name: &Option<Name>, find: &dyn Fn(&Name) -> Option<String>| {
        let Some(name) = name else { return Ok(None) };
        let by_id = name.as_str().contains('_').then(|| name.to_string());
        let found = find(name).or(by_id);
        let unknown = || ApiError::of(param, format!("there is no {param} `{name}`"));
        found.map(Some).ok_or_else(unknown)
    };
    Ok(UsageFilter {
        team: id("team", &query.team, &|name| {
            tenant.teams.get(name).map(|team| team.id.to_string())
        })?,
        user: id("user", &query.user, &|name| {
            tenant.users.get(name).map(|user| user.id.to_string())
        })?,
        key: id("key", &query.key, &|name| {
            tenant.keys.get(name).map(|key| key.id.to_string())
        })?,
        feature: query.feature.clone(),
        model: query.model.clone(),
        version: query.version.clone(),
        upstream: query.upstream.clone(),
        hop: query.hop.clone(),
        session: query.session.clone(),
    })
}

/// A page of the groups, and what all of them add up to.
pub(crate) fn reply(
    groups: Groups,
    order: CostOrder,
    paging: &Paging,
) -> Result<CostsReply, ApiError> {
    let mut total = UsageRow::default();
    let mut rows: Vec<UsageRow> = Vec::with_capacity(groups.len());
    for (group, row) in groups {
        total.add(&row);
        rows.push(UsageRow { group, ..row });
    }
    if order == CostOrder::Cost {
        // Stable: what costs the same stays in the order of the groups.
        rows.sort_by_key(|row| std::cmp::Reverse(row.cost));
    }
    let page = paging.of_offsets(rows.into_iter())?;
    Ok(CostsReply {
        data: page.data,
        total,
        next_cursor: page.next_cursor,
    })
}

impl UsageRow {
    /// Adds what another group used.
    pub(crate) fn add(&mut self, other: &Self) {
        self.requests += other.requests;
        self.calls += other.calls;
        self.unsettled += other.unsettled;
        self.cache_hits += other.cache_hits;
        self.input_tokens += other.input_tokens;
        self.cached_tokens += other.cached_tokens;
        self.cached_write_tokens += other.cached_write_tokens;
        self.cached_write_1h_tokens += other.cached_write_1h_tokens;
        self.output_tokens += other.output_tokens;
        self.cost += other.cost;
    }
}
