//! Usage that days do not know, summed from the lines themselves: parts of days, conversations.

use std::collections::{BTreeMap, HashMap};

use base::Timestamp;
use foldhash::fast::RandomState;
use ledger::SessionName;

use super::StoreError;
use super::counted::Counted;
use super::dims::{Dims, KnownDims, hop_text, or_empty};
use super::lines::each_block;
use super::usage::{DAY_MICROS, Dimension, UsageFilter, UsageQuery, UsageRow};
use crate::database::{Database, Walk};
use crate::page::Page;

/// What tells rows apart, in the order of the dimensions; `''` where a dimension does not count,
/// or is absent.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Group {
    day: Option<i64>,
    team: String,
    user: String,
    key: String,
    feature: String,
    model: String,
    hop: &'static str,
    session: String,
}

/// As much of a group as a line says without a look at its dimensions.
#[derive(PartialEq, Eq, Hash)]
struct Part {
    day: Option<i64>,
    dims: i64,
    session: Option<SessionName>,
}

/// What lines from `query.from` on and before `query.until` add up to, a row for each group.
pub(super) fn sum(
    database: &Database<'_>,
    query: &UsageQuery,
    page: Page,
) -> Result<Vec<UsageRow>, StoreError> {
    let mut known = KnownDims::default();
    let mut groups: BTreeMap<Group, Counted> = BTreeMap::new();
    for (part, counted) in parts(database, query)? {
        let dims = known.get(database, part.dims)?;
        if matches(&query.filter, dims) {
            let group = Group::of(query, dims, part);
            groups.entry(group).or_default().add(&counted);
        }
    }
    let skipped = usize::try_from(page.offset()).unwrap_or(usize::MAX);
    let rows = groups.into_iter().skip(skipped).take(page.limit() as usize);
    Ok(rows.map(|(group, counted)| group.row(&counted)).collect())
}

fn parts(
    database: &Database<'_>,
    query: &UsageQuery,
) -> Result<HashMap<Part, Counted, RandomState>, StoreError> {
    let mut parts: HashMap<Part, Counted, RandomState> = HashMap::default();
    let (by_day, by_session) = (
        query.groups_by(Dimension::Day),
        query.groups_by(Dimension::Session),
    );
    let wanted = query
        .filter
        .session
        .as_deref()
        .filter(|name| !name.is_empty());
    each_block(database, query.from, query.until, |_, block| {
        for line in &block.lines {
            let at = line.started_at();
            let session = line.session.as_ref().as_ref();
            let is_of_session =
                wanted.is_none_or(|wanted| session.is_some_and(|name| name.as_str() == wanted));
            if at < query.from || at >= query.until || !is_of_session {
                continue;
            }
            let part = Part {
                day: by_day.then(|| at.as_micros().div_euclid(DAY_MICROS)),
                dims: line.dims,
                session: session.filter(|_| by_session).cloned(),
            };
            parts
                .entry(part)
                .or_default()
                .add(&Counted::of_packed(line));
        }
        Ok(Walk::On)
    })?;
    Ok(parts)
}

fn matches(filter: &UsageFilter, dims: &Dims) -> bool {
    let is = |wanted: &Option<String>, found: &str| {
        wanted
            .as_ref()
            .is_none_or(|wanted| wanted.is_empty() || wanted == found)
    };
    is(&filter.team, &or_empty(&dims.team))
        && is(&filter.user, &or_empty(&dims.user))
        && is(&filter.key, &dims.key.to_string())
        && is(&filter.feature, dims.feature.as_str())
        && is(&filter.model, dims.model.as_str())
}

impl Group {
    fn of(query: &UsageQuery, dims: &Dims, part: Part) -> Self {
        let only = |dimension, text: String| match query.groups_by(dimension) {
            true => text,
            false => String::new(),
        };
        Self {
            day: part.day,
            team: only(Dimension::Team, or_empty(&dims.team)),
            user: only(Dimension::User, or_empty(&dims.user)),
            key: only(Dimension::Key, dims.key.to_string()),
            feature: only(Dimension::Feature, dims.feature.to_string()),
            model: only(Dimension::Model, dims.model.to_string()),
            hop: match query.groups_by(Dimension::Hop) {
                true => hop_text(dims.hop),
                false => "",
            },
            session: or_empty(&part.session),
        }
    }

    fn row(self, counted: &Counted) -> UsageRow {
        let text = |text: String| (!text.is_empty()).then_some(text);
        let count = |count: i64| u64::try_from(count).unwrap_or(0);
        UsageRow {
            day: self.day.map(|day| Timestamp::from_micros(day * DAY_MICROS)),
            team: text(self.team),
            user: text(self.user),
            key: text(self.key),
            feature: text(self.feature),
            model: text(self.model),
            hop: text(self.hop.to_owned()),
            session: text(self.session),
            requests: count(counted.requests),
            calls: count(counted.calls),
            unsettled: count(counted.unsettled),
            cache_hits: count(counted.cache_hits),
            input_tokens: count(counted.input_tokens),
            cached_tokens: count(counted.cached_tokens),
            cached_write_tokens: count(counted.cached_write_tokens),
            cached_write_1h_tokens: count(counted.cached_write_1h_tokens),
            output_tokens: count(counted.output_tokens),
            cost: counted.cost,
        }
    }
}
