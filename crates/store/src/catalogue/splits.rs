//! How costs that tenants share were split, month by month: written once.

use super::{Catalogue, CatalogueError};
use crate::database::{Value, sql};

/// The column of splits.
pub(crate) const BODY: &str = "shared_splits.body";

impl Catalogue {
    /// Keeps how a shared cost of a month is split, unless that is known: what is there stays.
    /// Durable when this returns.
    ///
    /// # Errors
    ///
    /// Database errors.
    pub fn keep_split(&self, name: &str, period: &str, body: &[u8]) -> Result<(), CatalogueError> {
        self.place.with(|database| {
            database.execute(
                sql!(
                    "INSERT INTO shared_splits (name, period, body) VALUES ($1, $2, $3)
                     ON CONFLICT (name, period) DO NOTHING"
                ),
                &[
                    Value::Text(name),
                    Value::Text(period),
                    Value::Sealed(BODY, body),
                ],
            )?;
            Ok(())
        })
    }

    /// How a shared cost of a month was split, if that is fixed.
    ///
    /// # Errors
    ///
    /// Database errors.
    pub fn split(&self, name: &str, period: &str) -> Result<Option<Vec<u8>>, CatalogueError> {
        self.place.with(|database| {
            Ok(database.row(
                sql!("SELECT body FROM shared_splits WHERE name = $1 AND period = $2"),
                &[Value::Text(name), Value::Text(period)],
                |row| Ok(row.sealed(0, BODY)?.into_owned()),
            )?)
        })
    }
}
