//! What a tenant used, summed over any of its dimensions. Whole UTC days come from a table that
//! is kept with the lines, in the same transaction; anything finer from the lines themselves.

use base::{PicoUsd, Timestamp};

use super::{StoreError, TenantStore, line_usage};
use crate::database::{DatabaseError, Row, Sql, Value, sql};
use crate::page::Page;

/// Microseconds of a day.
pub(super) const DAY_MICROS: i64 = 24 * 3600 * 1_000_000;
/// An amount is stored as `major · 10⁹ + minor`: then neither half of a sum of 9 · 10⁹ lines, or
/// of 9 · 10¹⁵ dollars, passes 2⁶³.
pub(super) const MINOR_PER_MAJOR: i128 = 1_000_000_000;

/// By what usage is summed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Dimension {
    /// By UTC day.
    Day,
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
    /// The UTC day's beginning.
    pub day: Option<Timestamp>,
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
    /// What it cost: exact.
    pub cost: PicoUsd,
}

/// Which dimensions count is a parameter, so that the text stays constant.
const FROM_DAYS: &Sql = sql!(
    "
SELECT CASE WHEN $1 THEN day ELSE -1 END, CASE WHEN $2 THEN team ELSE '' END,
       CASE WHEN $3 THEN user_id ELSE '' END, CASE WHEN $4 THEN key_id ELSE '' END,
       CASE WHEN $5 THEN feature ELSE '' END, CASE WHEN $6 THEN model ELSE '' END,
       CASE WHEN $7 THEN hop ELSE '' END, CASE WHEN $8 THEN '' ELSE '' END,
       CAST(SUM(requests) AS BIGINT), CAST(SUM(calls) AS BIGINT),
       CAST(SUM(unsettled) AS BIGINT), CAST(SUM(input_tokens) AS BIGINT),
       CAST(SUM(cached_tokens) AS BIGINT), CAST(SUM(output_tokens) AS BIGINT),
       CAST(SUM(cache_hits) AS BIGINT), CAST(SUM(cached_write_tokens) AS BIGINT),
       CAST(SUM(cached_write_1h_tokens) AS BIGINT),
       CAST(SUM(cost_major) AS BIGINT), CAST(SUM(cost_minor) AS BIGINT)
FROM usage_daily
JOIN usage_dims ON [usage_dims.tenant = usage_daily.tenant AND ]usage_dims.id = usage_daily.dims
WHERE [usage_daily.tenant = $T AND ]day >= $9 / 86400000000 AND day < $10 / 86400000000
  AND ($11 = '' OR team = $11) AND ($12 = '' OR user_id = $12)
  AND ($13 = '' OR key_id = $13) AND ($14 = '' OR feature = $14)
  AND ($15 = '' OR model = $15) AND $16 = ''
GROUP BY 1, 2, 3, 4, 5, 6, 7, 8
HAVING SUM(calls) > 0
ORDER BY 1, 2, 3, 4, 5, 6, 7, 8
LIMIT $17 OFFSET $18"
);

impl UsageQuery {
    pub(super) fn groups_by(&self, dimension: Dimension) -> bool {
        self.group_by.contains(&dimension)
    }

    /// Whether days suffice: they know no conversation, and are whole.
    fn fits_days(&self) -> bool {
        let is_midnight = |time: Timestamp| time.as_micros().rem_euclid(DAY_MICROS) == 0;
        is_midnight(self.from)
            && is_midnight(self.until)
            && !self.groups_by(Dimension::Session)
            && self.filter.session.is_none()
    }
}

impl TenantStore<'_> {
    /// What was used, a row for each group that used anything, in the order of the dimensions.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub fn usage(&self, query: &UsageQuery, page: Page) -> Result<Vec<UsageRow>, StoreError> {
        if !query.fits_days() {
            return self.with_database(|database| line_usage::sum(database, query, page));
        }
        let by = |dimension| Value::Bool(query.groups_by(dimension));
        let filter = &query.filter;
        let parameters = [
            by(Dimension::Day),
            by(Dimension::Team),
            by(Dimension::User),
            by(Dimension::Key),
            by(Dimension::Feature),
            by(Dimension::Model),
            by(Dimension::Hop),
            by(Dimension::Session),
            Value::Int(query.from.as_micros()),
            Value::Int(query.until.as_micros()),
            only(&filter.team),
            only(&filter.user),
            only(&filter.key),
            only(&filter.feature),
            only(&filter.model),
            only(&filter.session),
            Value::Int(page.limit()),
            Value::Int(page.offset()),
        ];
        self.with_database(|database| Ok(database.rows(FROM_DAYS, &parameters, usage_row)?))
    }
}

/// No filter is `''`.
fn only(filter: &Option<String>) -> Value<'_> {
    Value::Text(filter.as_deref().unwrap_or_default())
}

fn usage_row(row: &Row<'_>) -> Result<UsageRow, DatabaseError> {
    let day = row.int(0)?;
    Ok(UsageRow {
        day: (day >= 0).then(|| Timestamp::from_micros(day * DAY_MICROS)),
        team: text(row, 1)?,
        user: text(row, 2)?,
        key: text(row, 3)?,
        feature: text(row, 4)?,
        model: text(row, 5)?,
        hop: text(row, 6)?,
        session: text(row, 7)?,
        requests: count(row, 8)?,
        calls: count(row, 9)?,
        unsettled: count(row, 10)?,
        input_tokens: count(row, 11)?,
        cached_tokens: count(row, 12)?,
        output_tokens: count(row, 13)?,
        cache_hits: count(row, 14)?,
        cached_write_tokens: count(row, 15)?,
        cached_write_1h_tokens: count(row, 16)?,
        cost: amount(row.int(17)?, row.int(18)?),
    })
}

fn text(row: &Row<'_>, column: usize) -> Result<Option<String>, DatabaseError> {
    let text = row.text(column)?;
    Ok((!text.is_empty()).then(|| text.to_owned()))
}

fn count(row: &Row<'_>, column: usize) -> Result<u64, DatabaseError> {
    Ok(u64::try_from(row.int(column)?).unwrap_or(0))
}

/// The amount whose halves these are, or the sum whose halves' sums these are.
pub(super) fn amount(major: i64, minor: i64) -> PicoUsd {
    PicoUsd::new(i128::from(major) * MINOR_PER_MAJOR + i128::from(minor))
}

/// The halves of an amount. An amount that no 64-bit major half holds is beyond any real one.
pub(super) fn halves(amount: PicoUsd) -> (i64, i64) {
    let major = amount.pico().div_euclid(MINOR_PER_MAJOR);
    let minor = amount.pico().rem_euclid(MINOR_PER_MAJOR);
    (
        i64::try_from(major).unwrap_or(i64::MAX),
        i64::try_from(minor).expect("the remainder is below 10⁹"),
    )
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn an_amount_is_its_halves(pico in -(1_i128 << 90)..(1_i128 << 90)) {
            let (major, minor) = halves(PicoUsd::new(pico));
            prop_assert_eq!(amount(major, minor), PicoUsd::new(pico));
            prop_assert!((0..1_000_000_000).contains(&minor));
        }
    }
}
