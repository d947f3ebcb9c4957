//! How a tenant's calls went, hour by hour: what its next hours are compared with.

use std::time::Duration;

use base::PicoUsd;

use super::calendar::Grain;
use super::sums::amount;
use super::{StoreError, TenantStore};
use crate::database::{DatabaseError, Value, sql};

/// 35 days: five weeks.
const KEPT: Duration = Duration::from_secs(35 * 24 * 3600);

/// How the calls of one hour went, UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PastHour {
    /// The hour's number since 1970.
    pub hour: i64,
    /// Calls that ended.
    pub calls: u64,
    /// Of these, those that should have been answered and were not.
    pub failed: u64,
    /// Those that were refused.
    pub refused: u64,
    /// What 95% of the durations did not exceed; of several replicas the longest.
    pub p95_ms: u64,
}

impl TenantStore<'_> {
    /// Notes how an hour went, as this replica saw it, and forgets those that are too old. The
    /// same hour told again is put in place.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub fn note_hour(&self, hour: &PastHour) -> Result<(), StoreError> {
        let number = |count: u64| Value::Int(i64::try_from(count).unwrap_or(i64::MAX));
        let replica = self.stores.replica().to_string();
        let oldest = Grain::Hour.of(Grain::Hour.begins(hour.hour).minus(KEPT));
        self.with_database(|database| {
            let transaction = database.begin()?;
            transaction.execute(
                sql!(
                    "INSERT INTO past_hours
                       ([tenant, ]hour, replica, calls, failed, refused, p95_ms)
                     VALUES ([$T, ]$1, $2, $3, $4, $5, $6)
                     ON CONFLICT ([tenant, ]hour, replica) DO UPDATE
                     SET calls = excluded.calls, failed = excluded.failed,
                         refused = excluded.refused, p95_ms = excluded.p95_ms"
                ),
                &[
                    Value::Int(hour.hour),
                    Value::Text(&replica),
                    number(hour.calls),
                    number(hour.failed),
                    number(hour.refused),
                    number(hour.p95_ms),
                ],
            )?;
            transaction.execute(
                sql!("DELETE FROM past_hours WHERE [tenant = $T AND ]hour < $1"),
                &[Value::Int(oldest)],
            )?;
            transaction.commit()?;
            Ok(())
        })
    }

    /// The hours that are known, from this number on, of all replicas together.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub fn past_hours(&self, from: i64) -> Result<Vec<PastHour>, StoreError> {
        let count = |number: i64| u64::try_from(number).unwrap_or(0);
        self.with_database(|database| {
            database.rows(
                sql!(
                    "SELECT hour, CAST(sum(calls) AS BIGINT), CAST(sum(failed) AS BIGINT),
                            CAST(sum(refused) AS BIGINT), max(p95_ms)
                     FROM past_hours WHERE [tenant = $T AND ]hour >= $1
                     GROUP BY hour ORDER BY hour"
                ),
                &[Value::Int(from)],
                |row| {
                    Ok::<_, StoreError>(PastHour {
                        hour: row.int(0)?,
                        calls: count(row.int(1)?),
                        failed: count(row.int(2)?),
                        refused: count(row.int(3)?),
                        p95_ms: count(row.int(4)?),
                    })
                },
            )
        })
    }

    /// What each hour cost that has a cost, from this number on, in the order of time.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub fn hourly_costs(&self, from: i64) -> Result<Vec<(i64, PicoUsd)>, StoreError> {
        self.with_database(|database| {
            database.rows(
                sql!(
                    "SELECT start, CAST(sum(cost_major) AS BIGINT), CAST(sum(cost_minor) AS BIGINT)
                     FROM usage_sums WHERE [tenant = $T AND ]grain = $1 AND start >= $2
                     GROUP BY start ORDER BY start"
                ),
                &[Value::Int(Grain::Hour.number()), Value::Int(from)],
                |row| {
                    let cost = amount(row.int(1)?, row.int(2)?);
                    Ok::<_, DatabaseError>((row.int(0)?, cost)).map_err(StoreError::from)
                },
            )
        })
    }
}
