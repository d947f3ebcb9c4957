//! Resources and their versions.

use base::Timestamp;

use super::{
    Catalogue, CatalogueError, CommitError, HistoryEntry, Resource, ResourceChange, Version,
};
use crate::database::{Database, DatabaseError, Row, Sql, Transaction, Value, sql};
use crate::page::Page;

/// 64: below that the pages that a version touches are few.
const BULK_FROM: usize = 64;

impl Catalogue {
    /// The newest version; 0 before the first commit.
    ///
    /// # Errors
    ///
    /// Database errors.
    pub fn current_version(&self) -> Result<u64, CatalogueError> {
        self.place.with(|database| Ok(current_version(database)?))
    }

    /// All resources as they are now, and the version that this is.
    ///
    /// # Errors
    ///
    /// Database errors.
    pub fn load_current(&self) -> Result<(u64, Vec<Resource>), CatalogueError> {
        let mut all = Vec::new();
        let version = self.read_current(usize::MAX, &mut |part| {
            all.extend(part);
            Ok::<_, CatalogueError>(())
        })?;
        Ok((version, all))
    }

    /// Hands on all resources as they are now, in parts of at most `part_max`: first the
    /// platform's own, then the tenants'. Returns the version that this is. For a catalogue that
    /// is too large to be in memory twice; a file is locked meanwhile.
    ///
    /// # Errors
    ///
    /// Database errors, and whatever `take` reports, which ends it.
    pub fn read_current<E: From<CatalogueError>>(
        &self,
        part_max: usize,
        take: &mut dyn FnMut(Vec<Resource>) -> Result<(), E>,
    ) -> Result<u64, E> {
        let part_max = part_max.clamp(1, PART_MAX);
        self.place.with(|database| {
            let of_database = |error| E::from(CatalogueError::from(error));
            database.begin_snapshot().map_err(of_database)?;
            let read = read_all(database, part_max, take);
            database.end_snapshot().map_err(of_database)?;
            read
        })
    }

    /// All resources as they were at `version`.
    ///
    /// # Errors
    ///
    /// Database errors.
    pub fn load_at(&self, version: u64) -> Result<Vec<Resource>, CatalogueError> {
        self.place.with(|database| {
            database.rows(
                sql!(
                    "SELECT kind, tenant, name, version, spec FROM resources
                     WHERE version <= $1 AND (superseded IS NULL OR superseded > $1)
                       AND spec IS NOT NULL"
                ),
                &[Value::Int(number(version))],
                |row| Ok(resource(row)?),
            )
        })
    }

    /// What became of every resource that was changed after `version`, and the newest version.
    ///
    /// # Errors
    ///
    /// Database errors.
    pub fn changes_since(
        &self,
        version: u64,
    ) -> Result<(u64, Vec<ResourceChange>), CatalogueError> {
        self.place.with(|database| {
            let of_database = CatalogueError::from;
            database.begin_snapshot().map_err(of_database)?;
            let read = changes_since(database, version);
            database.end_snapshot().map_err(of_database)?;
            Ok(read?)
        })
    }

    /// Makes `changes` one version, all of them or none. Durable when this returns.
    ///
    /// # Errors
    ///
    /// [`CommitError::Conflict`] if the catalogue is not at `expected` any more.
    pub fn commit(
        &self,
        expected: u64,
        changes: &[ResourceChange],
        actor: &str,
        note: &str,
        at: Timestamp,
    ) -> Result<u64, CommitError> {
        let write = |database: &Database<'_>| -> Result<u64, CommitError> {
            let transaction = database.begin()?;
            let current = current_version(&transaction)?;
            if current != expected {
                return Err(CommitError::Conflict { current });
            }
            let version = current + 1;
            write_version(&transaction, version, (actor, note), at)?;
            for change in changes {
                write_change(&transaction, version, change)?;
            }
            transaction.announce()?;
            transaction.commit()?;
            Ok(version)
        };
        if changes.len() >= BULK_FROM {
            self.place.with_much(write)
        } else {
            self.place.with(write)
        }
    }

    /// The versions, newest first.
    ///
    /// # Errors
    ///
    /// Database errors.
    pub fn versions(&self, page: Page) -> Result<Vec<Version>, CatalogueError> {
        self.place.with(|database| {
            database.rows(
                sql!(
                    "SELECT version, at, actor, note FROM versions
                     ORDER BY version DESC LIMIT $1 OFFSET $2"
                ),
                &[Value::Int(page.limit()), Value::Int(page.offset())],
                |row| {
                    Ok(Version {
                        version: unsigned(row.int(0)?),
                        at: Timestamp::from_micros(row.int(1)?),
                        actor: row.text(2)?.to_owned(),
                        note: row.text(3)?.to_owned(),
                    })
                },
            )
        })
    }

    /// What one resource was, newest first.
    ///
    /// # Errors
    ///
    /// Database errors.
    pub fn history(
        &self,
        kind: &str,
        tenant: &str,
        name: &str,
        page: Page,
    ) -> Result<Vec<HistoryEntry>, CatalogueError> {
        self.place.with(|database| {
            database.rows(
                sql!(
                    "SELECT version, spec FROM resources
                     WHERE kind = $1 AND tenant = $2 AND name = $3
                     ORDER BY version DESC LIMIT $4 OFFSET $5"
                ),
                &[
                    Value::Text(kind),
                    Value::Text(tenant),
                    Value::Text(name),
                    Value::Int(page.limit()),
                    Value::Int(page.offset()),
                ],
                |row| {
                    Ok(HistoryEntry {
                        version: unsigned(row.int(0)?),
                        spec: row.optional_sealed(1, SPEC)?,
                    })
                },
            )
        })
    }
}

/// The column of specifications.
pub(crate) const SPEC: &str = "resources.spec";
/// 10,000: a part of ten megabytes.
const PART_MAX: usize = 10_000;

/// The platform's own resources as they are now, after one of them.
const OWN: &Sql = sql!(
    "SELECT kind, tenant, name, version, spec FROM resources
     WHERE superseded IS NULL AND spec IS NOT NULL AND tenant = ''
       AND (kind, tenant, name) > ($1, $2, $3)
     ORDER BY kind, tenant, name LIMIT $4"
);
/// The tenants' resources as they are now, after one of them.
const OF_TENANTS: &Sql = sql!(
    "SELECT kind, tenant, name, version, spec FROM resources
     WHERE superseded IS NULL AND spec IS NOT NULL AND tenant <> ''
       AND (kind, tenant, name) > ($1, $2, $3)
     ORDER BY kind, tenant, name LIMIT $4"
);

fn read_all<E: From<CatalogueError>>(
    database: &Database<'_>,
    part_max: usize,
    take: &mut dyn FnMut(Vec<Resource>) -> Result<(), E>,
) -> Result<u64, E> {
    let of_database = |error| E::from(CatalogueError::from(error));
    let version = current_version(database).map_err(of_database)?;
    for question in [OWN, OF_TENANTS] {
        let mut last = (String::new(), String::new(), String::new());
        loop {
            let after = [
                Value::Text(&last.0),
                Value::Text(&last.1),
                Value::Text(&last.2),
                Value::Int(i64::try_from(part_max).unwrap_or(i64::MAX)),
            ];
            let part = database
                .rows(question, &after, resource)
                .map_err(of_database)?;
            let Some(newest) = part.last() else {
                break;
            };
            let is_last = part.len() < part_max;
            last = (
                newest.kind.clone(),
                newest.tenant.clone(),
                newest.name.clone(),
            );
            take(part)?;
            if is_last {
                break;
            }
        }
    }
    Ok(version)
}

fn changes_since(
    database: &Database<'_>,
    version: u64,
) -> Result<(u64, Vec<ResourceChange>), DatabaseError> {
    let newest = current_version(database)?;
    let changes = database.rows(
        sql!(
            "SELECT kind, tenant, name, spec FROM resources
             WHERE superseded IS NULL AND version > $1"
        ),
        &[Value::Int(number(version))],
        |row| {
            Ok::<_, DatabaseError>(ResourceChange {
                kind: row.text(0)?.to_owned(),
                tenant: row.text(1)?.to_owned(),
                name: row.text(2)?.to_owned(),
                spec: row.optional_sealed(3, SPEC)?,
            })
        },
    )?;
    Ok((newest, changes))
}

fn write_version(
    transaction: &Transaction<'_, '_>,
    version: u64,
    (actor, note): (&str, &str),
    at: Timestamp,
) -> Result<(), DatabaseError> {
    transaction.execute(
        sql!("INSERT INTO versions (version, at, actor, note) VALUES ($1, $2, $3, $4)"),
        &[
            Value::Int(number(version)),
            Value::Int(at.as_micros()),
            Value::Text(actor),
            Value::Text(note),
        ],
    )?;
    Ok(())
}

fn write_change(
    transaction: &Transaction<'_, '_>,
    version: u64,
    change: &ResourceChange,
) -> Result<(), DatabaseError> {
    let (kind, tenant, name) = (&change.kind, &change.tenant, &change.name);
    transaction.execute(
        sql!(
            "UPDATE resources SET superseded = $1
             WHERE kind = $2 AND tenant = $3 AND name = $4 AND superseded IS NULL"
        ),
        &[
            Value::Int(number(version)),
            Value::Text(kind),
            Value::Text(tenant),
            Value::Text(name),
        ],
    )?;
    let spec = match &change.spec {
        Some(spec) => Value::Sealed(SPEC, spec),
        None => Value::Nothing,
    };
    // The last of several changes to one resource counts.
    transaction.execute(
        sql!(
            "INSERT INTO resources (kind, tenant, name, version, spec)
             VALUES ($1, $2, $3, $4, $5)
             ON CONFLICT (kind, tenant, name, version) DO UPDATE
             SET spec = excluded.spec, superseded = NULL"
        ),
        &[
            Value::Text(kind),
            Value::Text(tenant),
            Value::Text(name),
            Value::Int(number(version)),
            spec,
        ],
    )?;
    Ok(())
}

fn current_version(database: &Database<'_>) -> Result<u64, DatabaseError> {
    let newest = database.row(sql!("SELECT max(version) FROM versions"), &[], |row| {
        row.optional_int(0)
    })?;
    Ok(newest.flatten().map_or(0, unsigned))
}

fn resource(row: &Row<'_>) -> Result<Resource, DatabaseError> {
    Ok(Resource {
        kind: row.text(0)?.to_owned(),
        tenant: row.text(1)?.to_owned(),
        name: row.text(2)?.to_owned(),
        version: unsigned(row.int(3)?),
        spec: row.sealed(4, SPEC)?.into_owned(),
    })
}

/// Databases count in signed numbers; versions never come near the difference.
fn number(version: u64) -> i64 {
    i64::try_from(version).unwrap_or(i64::MAX)
}

fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}
