//! A catalogue goes from a file to a server: when an installation of one process becomes one of
//! replicas.

use crate::database::DatabaseError;
use crate::stores::copying::catalogue_tables;
use crate::tenant::StoreError;

use super::{Catalogue, CatalogueError, CatalogueServer, ReplicaId};

/// Why a catalogue was not copied. The other place is as it was.
#[derive(Debug, thiserror::Error)]
pub enum CopyCatalogueError {
    /// Either side.
    #[error(transparent)]
    Catalogue(#[from] CatalogueError),
    /// A row cannot be read.
    #[error(transparent)]
    Row(#[from] StoreError),
    /// The copy is not what it was copied from.
    #[error("the copy of {table} is not what it was copied from")]
    Different {
        /// The table.
        table: &'static str,
    },
}

impl From<DatabaseError> for CopyCatalogueError {
    fn from(error: DatabaseError) -> Self {
        Self::Catalogue(error.into())
    }
}

impl Catalogue {
    /// Puts all of this catalogue in place of what is in another one, in one transaction; both sides
    /// are compared before it is committed. Says how many rows there are. Blocks.
    ///
    /// # Errors
    ///
    /// [`CopyCatalogueError`].
    pub fn copy_to(&self, other: &Self) -> Result<u64, CopyCatalogueError> {
        self.place.with_much(|source| {
            other.place.with(|target| {
                let transaction = target.begin()?;
                let mut rows = 0;
                for table in catalogue_tables() {
                    table.clear(&transaction)?;
                    table.each_page(source, |page| {
                        rows += page.len() as u64;
                        Ok(table.put(&transaction, page)?)
                    })?;
                    if table.content(source)? != table.content(&transaction)? {
                        return Err(CopyCatalogueError::Different { table: table.name });
                    }
                }
                transaction.commit()?;
                Ok(rows)
            })
        })
    }
}

impl CatalogueServer {
    /// The catalogue came here from the folder of a process that was alone: until that has said what
    /// it has spent, nobody else may spend.
    ///
    /// # Errors
    ///
    /// Database errors.
    pub fn await_first(&self) -> Result<(), CatalogueError> {
        self.ask(
            "INSERT INTO replicas
                 (id, name, roles, program, epoch, version, started_at, seen_at, ended)
             VALUES ($1, 'not started yet', '', '', 0, 0, 0, 0, true)
             ON CONFLICT (id) DO NOTHING",
            &[&ReplicaId::ALONE.to_string()],
        )?;
        Ok(())
    }

    /// Whether any replica has ever started.
    ///
    /// # Errors
    ///
    /// Database errors.
    pub fn was_served(&self) -> Result<bool, CatalogueError> {
        let rows = self.ask("SELECT id FROM replicas WHERE epoch > 0 LIMIT 1", &[])?;
        Ok(!rows.is_empty())
    }

    /// Whether [`CatalogueServer::await_first`] was said, and the folder has not spoken yet.
    ///
    /// # Errors
    ///
    /// Database errors.
    pub fn awaits_first(&self) -> Result<bool, CatalogueError> {
        let rows = self.ask(
            "SELECT id FROM replicas
             WHERE id = $1 AND id NOT IN (SELECT replica FROM share_turns)",
            &[&ReplicaId::ALONE.to_string()],
        )?;
        Ok(!rows.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use crate::schema;
    use crate::stores::copying::{catalogue_tables, made_by};

    /// About the place, and the processes there.
    const STAY: [&str; 6] = [
        "budget_shares",
        "feed",
        "installation",
        "replica_minutes",
        "replicas",
        "share_turns",
    ];

    #[test]
    fn every_other_table_goes_with_all_its_columns() {
        let (connection, names) = made_by(schema::CATALOGUE.all);
        let mut known: Vec<&str> = catalogue_tables().map(|table| table.name).collect();
        known.extend(STAY);
        known.sort_unstable();
        assert_eq!(known, names);
        for table in catalogue_tables() {
            table.assert_columns(&connection);
        }
    }
}
