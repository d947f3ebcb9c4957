//! Lines added up by hours, days and months, UTC. All three are kept with the lines, in the same
//! transaction: a year is a dozen rows for each of what calls have in common, and exact.
//!
//! Days and months are kept for good. Hours and lines may be forgotten ([`TenantStore::forget`]):
//! then [`KeptSince`] says from when on they are there.

use std::collections::HashMap;

use base::{PicoUsd, Timestamp};
use foldhash::fast::RandomState;

use super::calendar::{Grain, Piece};
use super::counted::Counted;
use super::{StoreError, TenantStore};
use crate::database::{Database, DatabaseError, Row, Value, sql};

/// An amount is stored as `major · 10⁹ + minor`: then neither half of a sum of 9 · 10⁹ lines, or
/// of 9 · 10¹⁵ dollars, passes 2⁶³.
const MINOR_PER_MAJOR: i128 = 1_000_000_000;
/// 2,048 rows of 150 bytes: what is read at a time.
const ROWS_PER_PAGE: usize = 2_048;
/// What [`KeptSince`] is about, as the column has it.
pub(super) const HOURS: i64 = 1;
pub(super) const LINES: i64 = 2;

/// By number of the hour, day or month, and row of `usage_dims`.
pub(super) type Sums = HashMap<(i64, i64), Counted, RandomState>;

/// From when on a store has more than days and months.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeptSince {
    /// Hours begin here.
    pub hours: Timestamp,
    /// Lines begin here: the beginning of a UTC day.
    pub lines: Timestamp,
}

impl KeptSince {
    pub(super) fn read(database: &Database<'_>) -> Result<Self, StoreError> {
        let known = database.rows(
            sql!("SELECT what, since FROM usage_kept[ WHERE tenant = $T]"),
            &[],
            |row| Ok::<_, DatabaseError>((row.int(0)?, Timestamp::from_micros(row.int(1)?))),
        )?;
        let since = |what| {
            let found = known.iter().find(|(of, _)| *of == what);
            found.map_or(Timestamp::from_micros(i64::MIN), |(_, since)| *since)
        };
        Ok(Self {
            hours: since(HOURS),
            lines: since(LINES),
        })
    }
}

/// Adds changes of hours to them, and to their days and months.
pub(super) fn add(
    database: &Database<'_>,
    hours: &Sums,
    kept_since: KeptSince,
) -> Result<(), StoreError> {
    let days = coarser(hours, Grain::Hour, Grain::Day);
    let months = coarser(&days, Grain::Day, Grain::Month);
    for (grain, sums) in [
        (Grain::Hour, hours),
        (Grain::Day, &days),
        (Grain::Month, &months),
    ] {
        let is_kept = |number| grain != Grain::Hour || grain.begins(number) >= kept_since.hours;
        let kept = sums.iter().filter(|((number, _), _)| is_kept(*number));
        let mut kept: Vec<_> = kept.collect();
        // As they stand in the table, so that each page is looked for and written once.
        kept.sort_unstable_by_key(|(place, _)| **place);
        for (place, change) in kept {
            add_one(database, grain, *place, change)?;
        }
    }
    Ok(())
}

pub(super) fn coarser(sums: &Sums, finer: Grain, grain: Grain) -> Sums {
    let mut found = Sums::default();
    for ((number, dims), counted) in sums {
        let place = (grain.of_finer(finer, *number), *dims);
        found.entry(place).or_default().add(counted);
    }
    found
}

pub(super) fn add_one(
    database: &Database<'_>,
    grain: Grain,
    (number, dims): (i64, i64),
    change: &Counted,
) -> Result<(), StoreError> {
    if *change == Counted::default() {
        return Ok(());
    }
    let add = sql!(
        "INSERT INTO usage_sums
           ([tenant, ]grain, start, dims, requests, calls, unsettled, cache_hits, input_tokens,
            cached_tokens, cached_write_tokens, cached_write_1h_tokens, output_tokens, images,
            billed, cost_major, cost_minor, hit_cost_major, hit_cost_minor, hit_anew_major,
            hit_anew_minor)
         VALUES ([$T, ]$1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16,
                 $17, $18, $19, $20)
         ON CONFLICT ([tenant, ]grain, start, dims) DO UPDATE
         SET requests = usage_sums.requests + excluded.requests,
             calls = usage_sums.calls + excluded.calls,
             unsettled = usage_sums.unsettled + excluded.unsettled,
             cache_hits = usage_sums.cache_hits + excluded.cache_hits,
             input_tokens = usage_sums.input_tokens + excluded.input_tokens,
             cached_tokens = usage_sums.cached_tokens + excluded.cached_tokens,
             cached_write_tokens = usage_sums.cached_write_tokens + excluded.cached_write_tokens,
             cached_write_1h_tokens =
                 usage_sums.cached_write_1h_tokens + excluded.cached_write_1h_tokens,
             output_tokens = usage_sums.output_tokens + excluded.output_tokens,
             images = usage_sums.images + excluded.images,
             billed = usage_sums.billed + excluded.billed,
             cost_major = usage_sums.cost_major + excluded.cost_major,
             cost_minor = usage_sums.cost_minor + excluded.cost_minor,
             hit_cost_major = usage_sums.hit_cost_major + excluded.hit_cost_major,
             hit_cost_minor = usage_sums.hit_cost_minor + excluded.hit_cost_minor,
             hit_anew_major = usage_sums.hit_anew_major + excluded.hit_anew_major,
             hit_anew_minor = usage_sums.hit_anew_minor + excluded.hit_anew_minor",
    );
    let [cost, hit_cost, hit_anew] = change.halves();
    let row = [
        Value::Int(grain.number()),
        Value::Int(number),
        Value::Int(dims),
        Value::Int(change.requests),
        Value::Int(change.calls),
        Value::Int(change.unsettled),
        Value::Int(change.cache_hits),
        Value::Int(change.input_tokens),
        Value::Int(change.cached_tokens),
        Value::Int(change.cached_write_tokens),
        Value::Int(change.cached_write_1h_tokens),
        Value::Int(change.output_tokens),
        Value::Int(change.images),
        Value::Int(change.billed),
        Value::Int(cost.0),
        Value::Int(cost.1),
        Value::Int(hit_cost.0),
        Value::Int(hit_cost.1),
        Value::Int(hit_anew.0),
        Value::Int(hit_anew.1),
    ];
    database.execute(add, &row)?;
    Ok(())
}

/// Hands on the sums of a grain, from the number `from` on and before `until`: the number, the
/// row of `usage_dims`, and the sum.
pub(super) fn each(
    database: &Database<'_>,
    grain: Grain,
    (from, until): (i64, i64),
    mut act: impl FnMut(i64, i64, &Counted) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    let mut after = (from.saturating_sub(1), i64::MAX);
    loop {
        let mut count = 0;
        database.rows(
            sql!(
                "SELECT start, dims, requests, calls, unsettled, cache_hits, input_tokens,
                        cached_tokens, cached_write_tokens, cached_write_1h_tokens,
                        output_tokens, images, billed, cost_major, cost_minor,
                        hit_cost_major, hit_cost_minor, hit_anew_major, hit_anew_minor
                 FROM usage_sums
                 WHERE [tenant = $T AND ]grain = $1 AND (start, dims) > ($2, $3) AND start < $4
                 ORDER BY start, dims LIMIT $5"
            ),
            &[
                Value::Int(grain.number()),
                Value::Int(after.0),
                Value::Int(after.1),
                Value::Int(until),
                Value::Int(ROWS_PER_PAGE as i64),
            ],
            |row| {
                after = (row.int(0)?, row.int(1)?);
                count += 1;
                act(after.0, after.1, &read(row)?)
            },
        )?;
        if count < ROWS_PER_PAGE {
            return Ok(());
        }
    }
}

fn read(row: &Row<'_>) -> Result<Counted, DatabaseError> {
    Ok(Counted {
        requests: row.int(2)?,
        calls: row.int(3)?,
        unsettled: row.int(4)?,
        cache_hits: row.int(5)?,
        input_tokens: row.int(6)?,
        cached_tokens: row.int(7)?,
        cached_write_tokens: row.int(8)?,
        cached_write_1h_tokens: row.int(9)?,
        output_tokens: row.int(10)?,
        images: row.int(11)?,
        billed: row.int(12)?,
        cost: amount(row.int(13)?, row.int(14)?),
        hit_cost: amount(row.int(15)?, row.int(16)?),
        hit_anew: amount(row.int(17)?, row.int(18)?),
    })
}

/// Whole hours before `kept_since` are asked of the lines.
pub(super) fn where_kept(piece: Piece, kept_since: KeptSince) -> Vec<Piece> {
    let Piece::Sums {
        grain: Grain::Hour,
        from,
        until,
    } = piece
    else {
        return vec![piece];
    };
    let split = Grain::Hour.of(kept_since.hours).clamp(from, until);
    let lines = Piece::Lines {
        from: Grain::Hour.begins(from),
        until: Grain::Hour.begins(split),
    };
    let sums = Piece::Sums {
        grain: Grain::Hour,
        from: split,
        until,
    };
    let kept = [
        (split > from).then_some(lines),
        (until > split).then_some(sums),
    ];
    kept.into_iter().flatten().collect()
}

impl TenantStore<'_> {
    /// From when on there is more than days and months.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub fn kept_since(&self) -> Result<KeptSince, StoreError> {
        self.with_database(KeptSince::read)
    }
}

pub(super) fn keep_since(
    database: &Database<'_>,
    what: i64,
    since: Timestamp,
) -> Result<(), StoreError> {
    database.execute(
        sql!(
            "INSERT INTO usage_kept ([tenant, ]what, since) VALUES ([$T, ]$1, $2)
             ON CONFLICT ([tenant, ]what) DO UPDATE SET since = excluded.since"
        ),
        &[Value::Int(what), Value::Int(since.as_micros())],
    )?;
    Ok(())
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

    use super::super::calendar::DAY_MICROS;
    use super::*;

    proptest! {
        #[test]
        fn an_amount_is_its_halves(pico in -(1_i128 << 90)..(1_i128 << 90)) {
            let (major, minor) = halves(PicoUsd::new(pico));
            prop_assert_eq!(amount(major, minor), PicoUsd::new(pico));
            prop_assert!((0..1_000_000_000).contains(&minor));
        }
    }

    #[test]
    fn hours_that_are_forgotten_are_asked_of_the_lines() {
        let since = KeptSince {
            hours: Timestamp::from_micros(DAY_MICROS),
            lines: Timestamp::from_micros(0),
        };
        let hours = |from, until| Piece::Sums {
            grain: Grain::Hour,
            from,
            until,
        };
        assert_eq!(where_kept(hours(24, 30), since), [hours(24, 30)]);
        let lines = |from: i64, until: i64| Piece::Lines {
            from: Grain::Hour.begins(from),
            until: Grain::Hour.begins(until),
        };
        assert_eq!(
            where_kept(hours(20, 30), since),
            [lines(20, 24), hours(24, 30)]
        );
        assert_eq!(where_kept(hours(20, 24), since), [lines(20, 24)]);
    }
}
