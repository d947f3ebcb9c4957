//! Adding all lines up again: a day at a time, each in a transaction of its own, so that neither the
//! memory that it takes nor how long others wait for the store grows with the history.

use base::Timestamp;

use super::block::{block_number, second_of, second_of_block};
use super::calendar::Grain;
use super::counted::Counted;
use super::lines::each_block;
use super::sums::{KeptSince, Sums, add_one, coarser, each};
use super::{StoreError, TenantStore};
use crate::database::{Database, Value, Walk, sql};

/// What adding all lines up again found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Rebuilt {
    /// So many lines were read.
    pub lines: u64,
    /// So many sums they have.
    pub sums: u64,
    /// So many of these were not what was kept, and are now.
    pub corrected: u64,
}

/// Compares the first day or month that begins at a moment or later and has anything. Where the next
/// one begins; none if there was none.
type Step = fn(&Database<'_>, Timestamp) -> Result<(Rebuilt, Option<Timestamp>), StoreError>;

impl TenantStore<'_> {
    /// Adds up all lines that are kept again, and corrects what differs. Days and months of whose
    /// lines some are forgotten are what their days say.
    ///
    /// # Errors
    ///
    /// [`StoreError`]; then what was corrected before is.
    pub fn rebuild_sums(&self) -> Result<Rebuilt, StoreError> {
        all(|step, from| {
            self.with_database(|database| {
                let transaction = database.begin()?;
                let done = step(&transaction, from)?;
                transaction.commit()?;
                Ok(done)
            })
        })
    }
}

/// All days, and then all months: these are what their days say.
fn all(
    mut take: impl FnMut(Step, Timestamp) -> Result<(Rebuilt, Option<Timestamp>), StoreError>,
) -> Result<Rebuilt, StoreError> {
    let mut rebuilt = Rebuilt::default();
    for step in [day as Step, month] {
        let mut from = Timestamp::from_micros(i64::MIN);
        loop {
            let (part, next) = take(step, from)?;
            rebuilt.lines += part.lines;
            rebuilt.sums += part.sums;
            rebuilt.corrected += part.corrected;
            match next {
                Some(next) => from = next,
                None => break,
            }
        }
    }
    Ok(rebuilt)
}

fn day(
    database: &Database<'_>,
    from: Timestamp,
) -> Result<(Rebuilt, Option<Timestamp>), StoreError> {
    let kept = KeptSince::read(database)?;
    let mut rebuilt = Rebuilt::default();
    let from = from.max(kept.lines);
    let of_lines = database.row(
        sql!("SELECT MIN(id) FROM ledger_lines WHERE [tenant = $T AND ]id >= $1"),
        &[Value::Int(block_number(second_of(from), 0))],
        |row| row.optional_int(0),
    )?;
    let of_lines = of_lines.flatten().map(|block| {
        let micros = second_of_block(block).saturating_mul(1_000_000);
        Grain::Day.of(Timestamp::from_micros(micros))
    });
    let of_hours = first(database, Grain::Hour, from.max(kept.hours))?;
    let of_hours = of_hours.map(|hour| Grain::Day.of_finer(Grain::Hour, hour));
    let of_days = first(database, Grain::Day, from)?;
    let Some(day) = [of_lines, of_hours, of_days].into_iter().flatten().min() else {
        return Ok((rebuilt, None));
    };
    let (begin, end) = (Grain::Day.begins(day), Grain::Day.begins(day + 1));
    let mut hours = Sums::default();
    each_block(database, begin, end, |_, block| {
        for line in &block.lines {
            let at = line.started_at();
            if Grain::Day.of(at) == day {
                let place = (Grain::Hour.of(at), line.dims);
                let counted = Counted::of_packed(line);
                hours.entry(place).or_default().add(&counted);
                rebuilt.lines += 1;
            }
        }
        Ok(Walk::On)
    })?;
    let days = coarser(&hours, Grain::Hour, Grain::Day);
    if begin >= kept.hours {
        let range = (Grain::Hour.of(begin), Grain::Hour.of(end));
        rebuilt.correct(database, Grain::Hour, range, hours)?;
    }
    rebuilt.correct(database, Grain::Day, (day, day + 1), days)?;
    // At the end of what a time can say there is none after it.
    Ok((rebuilt, Some(end).filter(|end| Grain::Day.of(*end) > day)))
}

fn month(
    database: &Database<'_>,
    from: Timestamp,
) -> Result<(Rebuilt, Option<Timestamp>), StoreError> {
    let mut rebuilt = Rebuilt::default();
    let of_days = first(database, Grain::Day, from)?;
    let of_days = of_days.map(|day| Grain::Month.of_finer(Grain::Day, day));
    let of_months = first(database, Grain::Month, from)?;
    let Some(month) = [of_days, of_months].into_iter().flatten().min() else {
        return Ok((rebuilt, None));
    };
    let end = Grain::Month.begins(month + 1);
    let days = (
        Grain::Day.of(Grain::Month.begins(month)),
        Grain::Day.of(end),
    );
    let mut right = Sums::default();
    each(database, Grain::Day, days, |_, dims, counted| {
        if *counted != Counted::default() {
            right.entry((month, dims)).or_default().add(counted);
        }
        Ok(())
    })?;
    rebuilt.correct(database, Grain::Month, (month, month + 1), right)?;
    Ok((
        rebuilt,
        Some(end).filter(|end| Grain::Month.of(*end) > month),
    ))
}

/// The number of the first sum of a grain that begins at a moment or later.
fn first(
    database: &Database<'_>,
    grain: Grain,
    from: Timestamp,
) -> Result<Option<i64>, StoreError> {
    let found = database.row(
        sql!(
            "SELECT MIN(start) FROM usage_sums WHERE [tenant = $T AND ]grain = $1 AND start >= $2"
        ),
        &[Value::Int(grain.number()), Value::Int(grain.of(from))],
        |row| row.optional_int(0),
    )?;
    Ok(found.flatten())
}

impl Rebuilt {
    /// Makes the sums of a grain, from one number on and before another, these.
    fn correct(
        &mut self,
        database: &Database<'_>,
        grain: Grain,
        range: (i64, i64),
        right: Sums,
    ) -> Result<(), StoreError> {
        self.sums += right.len() as u64;
        let mut wrong = right;
        each(database, grain, range, |number, dims, found| {
            let rest = wrong.entry((number, dims)).or_default();
            *rest = rest.minus(found);
            Ok(())
        })?;
        for (place, change) in &wrong {
            if *change != Counted::default() {
                add_one(database, grain, *place, change)?;
                self.corrected += 1;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use base::PicoUsd;
    use rusqlite::Connection;

    use super::super::calendar::GRAINS;
    use super::super::sums;
    use super::*;
    use crate::database::Tables;
    use crate::schema;

    fn whole(database: &Database<'_>) -> Rebuilt {
        all(|step, from| step(database, from)).unwrap()
    }

    #[test]
    fn what_is_wrong_with_the_sums_is_found_and_corrected() {
        let connection = Connection::open_in_memory().unwrap();
        for migration in schema::TENANT.all {
            connection
                .execute_batch(migration.text(Tables::Own))
                .unwrap();
        }
        let database = Database::sqlite(&connection);
        let one = |cost| Counted {
            calls: 1,
            cost: PicoUsd::new(cost),
            ..Counted::default()
        };
        // Hours without lines, the last a year after the others: all of this is wrong, in each grain.
        let far = 29 + 24 * 365;
        let hours: Sums = [((5, 1), one(7)), ((29, 1), one(-3)), ((far, 1), one(1))]
            .into_iter()
            .collect();
        let since = KeptSince::read(&database).unwrap();
        sums::add(&database, &hours, since).unwrap();
        let rebuilt = whole(&database);
        assert_eq!((rebuilt.lines, rebuilt.sums, rebuilt.corrected), (0, 0, 8));
        for grain in GRAINS {
            each(
                &database,
                grain,
                (i64::MIN, i64::MAX),
                |number, _, counted| {
                    assert_eq!(*counted, Counted::default(), "{grain:?} {number}");
                    Ok(())
                },
            )
            .unwrap();
        }
        assert_eq!(whole(&database).corrected, 0);
    }
}
