//! What a tenant used, summed over any of its dimensions. Whole hours, days and months come from
//! sums that are kept with the lines; anything finer from the lines themselves.

use std::collections::BTreeMap;

use base::{PicoUsd, Timestamp};

use super::calendar::{GRAINS, Grain, Piece, pieces};
use super::counted::Counted;
use super::dims::{Dims, KnownDims, hop_text, or_empty};
use super::line_usage::{self, Part, Parts};
use super::sums::{self, KeptSince};
use super::{StoreError, TenantStore};
use crate::database::Database;
use crate::page::Page;

/// 1,000,000 groups of 300 bytes: what one answer may take of the memory, whoever asks.
const GROUPS_MAX: usize = 1_000_000;

/// By what usage is summed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Dimension {
    /// By UTC month.
    Month,
    /// By UTC day.
    Day,
    /// By UTC hour. Of several such the finest counts.
    Hour,
    /// By team.
    Team,
    /// By user.
    User,
    /// By key.
    Key,
    /// By feature.
    Feature,
    /// By model.
    Model,
    /// By what the upstream called the model.
    Version,
    /// By version of the model's price.
    PriceVersion,
    /// By upstream.
    Upstream,
    /// By what the calls were for.
    Hop,
    /// By conversation.
    Session,
}

/// Which usage counts. What is none counts whatever it is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UsageFilter {
    /// One team's, by its id.
    pub team: Option<String>,
    /// One user's, by its id.
    pub user: Option<String>,
    /// One key's, by its id.
    pub key: Option<String>,
    /// One feature's.
    pub feature: Option<String>,
    /// One model's.
    pub model: Option<String>,
    /// One that an upstream called a model.
    pub version: Option<String>,
    /// One upstream's.
    pub upstream: Option<String>,
    /// One purpose's: `generate`, …
    pub hop: Option<String>,
    /// One conversation's.
    pub session: Option<String>,
}

/// A question about usage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UsageQuery {
    /// Calls that were dispatched at this time or later …
    pub from: Timestamp,
    /// … and before this one.
    pub until: Timestamp,
    /// One row for each combination of these; none: one row for everything.
    pub group_by: Vec<Dimension>,
    /// Which usage counts.
    pub filter: UsageFilter,
}

/// What one group used. A dimension that was not asked for, or that its calls do not have, is
/// none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UsageRow {
    /// The beginning of the UTC hour, day or month.
    pub start: Option<Timestamp>,
    /// The team's id.
    pub team: Option<String>,
    /// The user's id.
    pub user: Option<String>,
    /// The key's id.
    pub key: Option<String>,
    /// The feature.
    pub feature: Option<String>,
    /// The model.
    pub model: Option<String>,
    /// What the upstream called the model.
    pub version: Option<String>,
    /// The version of the model's price.
    pub price_version: Option<u32>,
    /// The upstream.
    pub upstream: Option<String>,
    /// What the calls were for.
    pub hop: Option<String>,
    /// The conversation.
    pub session: Option<String>,
    /// Calls that no other call caused: clients' requests, each counted again when it is retried.
    pub requests: u64,
    /// All calls.
    pub calls: u64,
    /// Those of them that stand at their upper bound, until they are reconciled.
    pub unsettled: u64,
    /// Those of them that the tenant's own cache answered.
    pub cache_hits: u64,
    /// Input tokens, cached ones included.
    pub input_tokens: u64,
    /// Input tokens that were read from a provider's cache.
    pub cached_tokens: u64,
    /// Input tokens that were written to a provider's cache.
    pub cached_write_tokens: u64,
    /// Of those written, those that stay for an hour.
    pub cached_write_1h_tokens: u64,
    /// Output tokens.
    pub output_tokens: u64,
    /// Images.
    pub images: u64,
    /// Requests that upstreams bill.
    pub billed_requests: u64,
    /// What it cost: exact.
    pub cost: PicoUsd,
    /// Of that, what answers cost that the tenant's own cache gave again.
    pub hit_cost: PicoUsd,
    /// What these would have cost anew, at an upstream.
    pub hit_anew: PicoUsd,
}

/// What tells rows apart, in the order of the dimensions; `''` where a dimension does not count,
/// or is absent.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Group {
    number: Option<i64>,
    team: String,
    user: String,
    key: String,
    feature: String,
    model: String,
    version: String,
    price_version: Option<u32>,
    upstream: String,
    hop: &'static str,
    session: String,
}

impl UsageQuery {
    pub(super) fn groups_by(&self, dimension: Dimension) -> bool {
        self.group_by.contains(&dimension)
    }

    /// Which time is told apart.
    pub(super) fn grain(&self) -> Option<Grain> {
        let of_time = [
            (Dimension::Hour, Grain::Hour),
            (Dimension::Day, Grain::Day),
            (Dimension::Month, Grain::Month),
        ];
        let finest = of_time
            .into_iter()
            .find(|(dimension, _)| self.groups_by(*dimension));
        finest.map(|(_, grain)| grain)
    }

    /// Where the answer is found. Sums know no conversation.
    fn pieces(&self, kept_since: KeptSince) -> Vec<Piece> {
        let is_by_session = self.groups_by(Dimension::Session) || self.filter.session.is_some();
        let coarsest = self.grain().unwrap_or(Grain::Month);
        let grains = match is_by_session {
            true => &[],
            false => {
                let first = GRAINS.iter().position(|grain| *grain == coarsest);
                &GRAINS[first.unwrap_or(0)..]
            }
        };
        let pieces = pieces(self.from, self.until, grains).into_iter();
        pieces
            .flat_map(|piece| sums::where_kept(piece, kept_since))
            .collect()
    }
}

impl TenantStore<'_> {
    /// What was used, a row for each group that used anything, in the order of the dimensions: a
    /// page of it.
    ///
    /// # Errors
    ///
    /// As [`TenantStore::whole_usage`].
    pub fn usage(&self, query: &UsageQuery, page: Page) -> Result<Vec<UsageRow>, StoreError> {
        let rows = self.whole_usage(query, GROUPS_MAX)?;
        let skipped = usize::try_from(page.offset()).unwrap_or(usize::MAX);
        let limit = usize::try_from(page.limit()).unwrap_or(usize::MAX);
        Ok(rows.into_iter().skip(skipped).take(limit).collect())
    }

    /// All that was used, a row for each group that used anything, in the order of the dimensions.
    ///
    /// # Errors
    ///
    /// [`StoreError::TooManyGroups`] beyond `groups_max`; [`StoreError::Forgotten`] if it takes
    /// lines that are not kept any more.
    pub fn whole_usage(
        &self,
        query: &UsageQuery,
        groups_max: usize,
    ) -> Result<Vec<UsageRow>, StoreError> {
        self.with_database(|database| {
            let parts = parts(database, query)?;
            let mut known = KnownDims::default();
            let mut groups: BTreeMap<Group, Counted> = BTreeMap::new();
            for (part, counted) in parts {
                let dims = known.get(database, part.dims)?;
                if query.filter.matches(dims) {
                    let group = Group::of(query, dims, part);
                    groups.entry(group).or_default().add(&counted);
                    if groups.len() > groups_max {
                        return Err(StoreError::TooManyGroups { max: groups_max });
                    }
                }
            }
            let grain = query.grain();
            let used = groups.into_iter().filter(|(_, counted)| counted.calls > 0);
            Ok(used
                .map(|(group, counted)| group.row(grain, &counted))
                .collect())
        })
    }
}

fn parts(database: &Database<'_>, query: &UsageQuery) -> Result<Parts, StoreError> {
    let kept_since = KeptSince::read(database)?;
    let told_apart = query.grain();
    let mut parts = Parts::default();
    for piece in query.pieces(kept_since) {
        match piece {
            Piece::Lines { from, until } if from >= kept_since.lines => {
                line_usage::add(database, query, (from, until), &mut parts)?;
            }
            Piece::Lines { .. } => {
                return Err(StoreError::Forgotten {
                    since: kept_since.lines.max(kept_since.hours),
                });
            }
            Piece::Sums { grain, from, until } => {
                sums::each(database, grain, (from, until), |number, dims, counted| {
                    let number = told_apart.map(|wanted| match wanted == grain {
                        true => number,
                        false => wanted.of_finer(grain, number),
                    });
                    let part = Part {
                        number,
                        dims,
                        session: None,
                    };
                    parts.entry(part).or_default().add(counted);
                    Ok(())
                })?;
            }
        }
    }
    Ok(parts)
}

impl UsageFilter {
    fn matches(&self, dims: &Dims) -> bool {
        let is = |wanted: &Option<String>, found: &dyn Fn() -> String| {
            wanted
                .as_ref()
                .is_none_or(|wanted| wanted.is_empty() || *wanted == found())
        };
        is(&self.team, &|| or_empty(&dims.team))
            && is(&self.user, &|| or_empty(&dims.user))
            && is(&self.key, &|| dims.key.to_string())
            && is(&self.feature, &|| dims.feature.to_string())
            && is(&self.model, &|| dims.model.to_string())
            && is(&self.version, &|| or_empty(&dims.served))
            && is(&self.upstream, &|| dims.upstream.to_string())
            && is(&self.hop, &|| hop_text(dims.hop).to_owned())
    }
}

impl Group {
    fn of(query: &UsageQuery, dims: &Dims, part: Part) -> Self {
        let only = |dimension, text: &dyn Fn() -> String| match query.groups_by(dimension) {
            true => text(),
            false => String::new(),
        };
        Self {
            number: part.number,
            team: only(Dimension::Team, &|| or_empty(&dims.team)),
            user: only(Dimension::User, &|| or_empty(&dims.user)),
            key: only(Dimension::Key, &|| dims.key.to_string()),
            feature: only(Dimension::Feature, &|| dims.feature.to_string()),
            model: only(Dimension::Model, &|| dims.model.to_string()),
            version: only(Dimension::Version, &|| or_empty(&dims.served)),
            price_version: query
                .groups_by(Dimension::PriceVersion)
                .then_some(dims.price_version.0),
            upstream: only(Dimension::Upstream, &|| dims.upstream.to_string()),
            hop: match query.groups_by(Dimension::Hop) {
                true => hop_text(dims.hop),
                false => "",
            },
            session: or_empty(&part.session),
        }
    }

    fn row(self, grain: Option<Grain>, counted: &Counted) -> UsageRow {
        let text = |text: String| (!text.is_empty()).then_some(text);
        let count = |count: i64| u64::try_from(count).unwrap_or(0);
        UsageRow {
            start: grain
                .zip(self.number)
                .map(|(grain, number)| grain.begins(number)),
            team: text(self.team),
            user: text(self.user),
            key: text(self.key),
            feature: text(self.feature),
            model: text(self.model),
            version: text(self.version),
            price_version: self.price_version,
            upstream: text(self.upstream),
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
            images: count(counted.images),
            billed_requests: count(counted.billed),
            cost: counted.cost,
            hit_cost: counted.hit_cost,
            hit_anew: counted.hit_anew,
        }
    }
}
