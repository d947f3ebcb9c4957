//! What the owner of a server does there: roles, schemas, databases, tables. Statements that
//! define things take no parameters; the names in them are [`Identifier`]s, the passwords are
//! verifiers, and all else is constant.

use base::TenantId;
use tenancy::catalogue::ServerWall;
use tenancy::{DatabaseSecret, TenantKeys};

use super::login::{Identifier, Login, SCHEMA, verifier};
use super::options::ServerError;
use super::server::Server;
use super::session::{Session, as_uuid};
use super::wall as barrier;
use crate::database::{DatabaseError, Sql, Tables};
use crate::schema;
use crate::sqlite::Migration;

/// Whoever changes what is on a server holds this lock: replicas start at the same time. "PWLS".
const SETUP_LOCK: i64 = 0x5057_4c53;
/// 8 connections of one tenant's role, of all replicas: each uses one at a time.
const ROLE_CONNECTIONS_MAX: u32 = 8;

/// The schema of the catalogue, in the database that its address names.
pub(crate) const CATALOGUE_SCHEMA: &str = "partywall_catalogue";

/// [`CATALOGUE_SCHEMA`], as a name.
pub(crate) fn catalogue_schema() -> Identifier {
    Identifier::of_table(CATALOGUE_SCHEMA.to_owned())
}

/// Whose the tables are behind this wall.
pub(crate) const fn tables_of_wall(wall: ServerWall) -> Tables {
    match wall {
        ServerWall::Pool => Tables::Shared,
        ServerWall::Bridge | ServerWall::Silo => Tables::Own,
    }
}

/// As whom a tenant's statements run there.
pub(crate) fn login_of(wall: ServerWall, server: &Server, tenant: TenantId) -> Login {
    let own = Identifier::of_tenant(wall, tenant);
    match wall {
        ServerWall::Pool => Login {
            role: Identifier::of_pool(server.pool()),
            database: None,
            schema: Identifier::schema(),
        },
        ServerWall::Bridge => Login {
            role: own.clone(),
            database: None,
            schema: own,
        },
        ServerWall::Silo => Login {
            role: own.clone(),
            database: Some(own),
            schema: Identifier::schema(),
        },
    }
}

impl Server {
    /// Makes the pool's schema, tables, policies and role, or brings them up to date, and proves
    /// that they keep tenants apart.
    ///
    /// # Errors
    ///
    /// [`ServerError`].
    pub(crate) fn prepare_pool(&self) -> Result<(), ServerError> {
        let owner = self.administer(None)?;
        let role = Identifier::of_pool(self.pool());
        self.in_setup(&owner, || {
            owner.batch(&format!("CREATE SCHEMA IF NOT EXISTS {SCHEMA}"))?;
            let migrated = migrate(&owner, SCHEMA, schema::TENANT, Tables::Shared)?;
            if let Migrated::Newer { found } = migrated {
                return Ok(Err(self.newer(found, schema::TENANT)));
            }
            for table in open_tables(&owner)? {
                force_row_security(&owner, &table)?;
            }
            self.make_role(&owner, &role, self.pool(), "CONNECTION LIMIT -1")?;
            grant_tables(&owner, SCHEMA, &role)?;
            Ok(Ok(()))
        })?;
        barrier::check(self, &owner, &role)
    }

    /// Makes the catalogue's schema and tables, or brings them up to date. No tenant's role gets
    /// any right to them.
    ///
    /// # Errors
    ///
    /// [`ServerError`].
    pub(crate) fn prepare_catalogue(&self) -> Result<(), ServerError> {
        let owner = self.administer(None)?;
        self.in_setup(&owner, || {
            owner.batch(&format!("CREATE SCHEMA IF NOT EXISTS {CATALOGUE_SCHEMA}"))?;
            let steps = schema::CATALOGUE;
            match migrate(&owner, CATALOGUE_SCHEMA, steps, Tables::Own)? {
                Migrated::UpToDate => Ok(Ok(())),
                Migrated::Newer { found } => Ok(Err(self.newer(found, steps))),
            }
        })
    }

    /// Makes a tenant's role, schema or database, and tables, unless they are there.
    ///
    /// # Errors
    ///
    /// [`ServerError`].
    pub(crate) fn provision(&self, wall: ServerWall, keys: &TenantKeys) -> Result<(), ServerError> {
        let name = Identifier::of_tenant(wall, keys.tenant());
        let secret = keys.database_secret();
        match wall {
            // The tenant itself says that it is there: see `Stores`.
            ServerWall::Pool => Ok(()),
            ServerWall::Bridge => {
                let owner = self.administer(None)?;
                self.in_setup(&owner, || {
                    self.make_tenant_role(&owner, &name, &secret)?;
                    self.make_own_tables(&owner, name.as_str(), &name)
                })
            }
            ServerWall::Silo => {
                let owner = self.administer(None)?;
                self.in_setup(&owner, || {
                    self.make_tenant_role(&owner, &name, &secret)?;
                    Ok(Ok(()))
                })?;
                self.make_database(&owner, &name)?;
                let inside = self.administer(Some(name.clone()))?;
                self.in_setup(&inside, || self.make_own_tables(&inside, SCHEMA, &name))
            }
        }
    }

    /// Removes all that [`Server::provision`] made.
    ///
    /// # Errors
    ///
    /// [`ServerError`].
    pub(crate) fn remove(&self, wall: ServerWall, tenant: TenantId) -> Result<(), ServerError> {
        let name = Identifier::of_tenant(wall, tenant);
        self.close_idle_of(&name);
        let owner = self.administer(None)?;
        let removed = match wall {
            ServerWall::Pool => remove_rows(&owner, tenant),
            ServerWall::Bridge => end_sessions(&owner, &name)
                .and_then(|()| owner.batch(&format!("DROP SCHEMA IF EXISTS {name} CASCADE"))),
            ServerWall::Silo => end_sessions(&owner, &name).and_then(|()| {
                owner.batch(&format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)"))
            }),
        };
        removed
            .and_then(|()| self.drop_role(&owner, wall, &name))
            .map_err(|source| self.unreachable(source))
    }

    /// Gives the tenant's role the password of its keys' current generation.
    ///
    /// # Errors
    ///
    /// [`ServerError`].
    pub(crate) fn renew_password(
        &self,
        wall: ServerWall,
        keys: &TenantKeys,
    ) -> Result<(), ServerError> {
        if wall == ServerWall::Pool {
            return Ok(());
        }
        let name = Identifier::of_tenant(wall, keys.tenant());
        let owner = self.administer(None)?;
        let verifier = verifier(&keys.database_secret());
        owner
            .batch(&format!(
                "ALTER ROLE {name} PASSWORD '{}'",
                verifier.as_str()
            ))
            .map_err(|source| self.unreachable(source))
    }

    /// Runs `act` in a transaction of its own, one setup at a time.
    fn in_setup(
        &self,
        owner: &Session,
        act: impl FnOnce() -> Result<Result<(), ServerError>, DatabaseError>,
    ) -> Result<(), ServerError> {
        let begun = owner.batch(&format!(
            "BEGIN; SELECT pg_advisory_xact_lock({SETUP_LOCK})"
        ));
        let done = match begun.and_then(|()| act()) {
            Ok(Ok(())) => return owner.batch("COMMIT").map_err(|e| self.unreachable(e)),
            Ok(Err(refused)) => refused,
            Err(failed) => self.unreachable(failed),
        };
        if let Err(error) = owner.batch("ROLLBACK") {
            tracing::debug!(server = %self.name, %error, "a setup was rolled back already");
        }
        Err(done)
    }

    fn newer(&self, found: u32, steps: &[Migration]) -> ServerError {
        ServerError::NewerVersion {
            name: self.name.clone(),
            found,
            supported: newest(steps),
        }
    }

    fn make_tenant_role(
        &self,
        owner: &Session,
        role: &Identifier,
        secret: &DatabaseSecret,
    ) -> Result<(), DatabaseError> {
        let limit = format!("CONNECTION LIMIT {ROLE_CONNECTIONS_MAX}");
        self.make_role(owner, role, secret, &limit)
    }

    /// A role that logs in, and may do nothing else.
    fn make_role(
        &self,
        owner: &Session,
        role: &Identifier,
        secret: &DatabaseSecret,
        limit: &str,
    ) -> Result<(), DatabaseError> {
        let found = owner.ask(
            "SELECT 1 FROM pg_roles WHERE rolname = $1",
            &[&role.as_str()],
        )?;
        let verb = if found.is_empty() { "CREATE" } else { "ALTER" };
        let verifier = verifier(secret);
        // All other rights are absent unless somebody gives them, which `wall.rs` looks for. To
        // deny them here would need a superuser.
        owner.batch(&format!(
            "{verb} ROLE {role} LOGIN NOINHERIT {limit} PASSWORD '{}'",
            verifier.as_str()
        ))
    }

    fn make_own_tables(
        &self,
        owner: &Session,
        schema: &str,
        role: &Identifier,
    ) -> Result<Result<(), ServerError>, DatabaseError> {
        owner.batch(&format!("CREATE SCHEMA IF NOT EXISTS {schema}"))?;
        let migrated = migrate(owner, schema, schema::TENANT, Tables::Own)?;
        if let Migrated::Newer { found } = migrated {
            return Ok(Err(self.newer(found, schema::TENANT)));
        }
        grant_tables(owner, schema, role)?;
        Ok(Ok(()))
    }

    /// Not in a transaction: a database is made outside any.
    fn make_database(&self, owner: &Session, name: &Identifier) -> Result<(), ServerError> {
        let make = || {
            let known = "SELECT 1 FROM pg_database WHERE datname = $1";
            if owner.ask(known, &[&name.as_str()])?.is_empty() {
                owner.batch(&format!("CREATE DATABASE {name} TEMPLATE template0"))?;
            }
            owner.batch(&format!(
                "REVOKE ALL ON DATABASE {name} FROM PUBLIC; GRANT CONNECT ON DATABASE {name} TO {name}"
            ))
        };
        make().map_err(|source| self.unreachable(source))
    }

    fn drop_role(
        &self,
        owner: &Session,
        wall: ServerWall,
        name: &Identifier,
    ) -> Result<(), DatabaseError> {
        match wall {
            ServerWall::Pool => Ok(()),
            ServerWall::Bridge | ServerWall::Silo => {
                owner.batch(&format!("DROP ROLE IF EXISTS {name}"))
            }
        }
    }
}

/// What became of a schema.
enum Migrated {
    /// It is the newest.
    UpToDate,
    /// A newer program made it.
    Newer { found: u32 },
}

fn newest(steps: &[Migration]) -> u32 {
    u32::try_from(steps.len()).expect("a schema has few migrations")
}

/// Brings a schema's tables to the newest of `steps`.
fn migrate(
    owner: &Session,
    schema: &str,
    steps: &[Migration],
    tables: Tables,
) -> Result<Migrated, DatabaseError> {
    owner.batch(&format!(
        "SET LOCAL search_path = {schema};
         CREATE TABLE IF NOT EXISTS schema_version (version BIGINT NOT NULL)"
    ))?;
    let rows = owner.ask("SELECT coalesce(max(version), 0) FROM schema_version", &[])?;
    let found: i64 = match rows.first() {
        Some(row) => row.try_get(0)?,
        None => 0,
    };
    let found = u32::try_from(found).unwrap_or(u32::MAX);
    if found > newest(steps) {
        return Ok(Migrated::Newer { found });
    }
    for migration in steps.iter().skip(found as usize) {
        owner.batch(&definition(migration, tables))?;
    }
    if found < newest(steps) {
        owner.batch(&format!(
            "DELETE FROM schema_version; INSERT INTO schema_version VALUES ({})",
            newest(steps)
        ))?;
    }
    Ok(Migrated::UpToDate)
}

/// A step of the schema as PostgreSQL takes it: integers are 64 bits, texts sort by their bytes.
fn definition(migration: &Sql, tables: Tables) -> String {
    migration
        .text(tables)
        .replace(" WITHOUT ROWID", "")
        .replace(" INTEGER", " BIGINT")
        .replace(" TEXT", " TEXT COLLATE \"C\"")
}

/// The tables of tenants in a schema.
fn tables_of(owner: &Session, schema: &str) -> Result<Vec<Identifier>, DatabaseError> {
    let rows = owner.ask(
        "SELECT table_name::text FROM information_schema.tables
         WHERE table_schema = $1 AND table_name <> 'schema_version'",
        &[&schema],
    )?;
    rows.iter()
        .map(|row| Ok(Identifier::of_table(row.try_get(0)?)))
        .collect()
}

/// Ends what is connected as a tenant's role, in any process: a connection outlives its role, and is
/// of no use to a role of the same name that is made later. Who is a member may end them.
fn end_sessions(owner: &Session, role: &Identifier) -> Result<(), DatabaseError> {
    let known = "SELECT 1 FROM pg_roles WHERE rolname = $1";
    if owner.ask(known, &[&role.as_str()])?.is_empty() {
        return Ok(());
    }
    owner.batch(&format!("GRANT {role} TO CURRENT_USER"))?;
    owner.ask(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = $1",
        &[&role.as_str()],
    )?;
    Ok(())
}

/// Removes all rows of one tenant. Also the owner is below the policies.
fn remove_rows(owner: &Session, tenant: TenantId) -> Result<(), DatabaseError> {
    let tenant = as_uuid(tenant);
    let mut removal = format!("BEGIN; SELECT set_config('app.tenant', '{tenant}', true);");
    for table in tables_of(owner, SCHEMA)? {
        removal.push_str(&format!(
            "DELETE FROM {SCHEMA}.{table} WHERE tenant = '{tenant}';"
        ));
    }
    removal.push_str("COMMIT");
    owner.batch(&removal)
}

/// The condition of [`force_row_security`] as PostgreSQL spells it.
const ALONE: &str =
    "(tenant = ( SELECT (current_setting('app.tenant'::text))::uuid AS current_setting))";

/// The tables of the pool that do not have forced row-level security by exactly our policy. Of those
/// that others use now, none is to be locked without need: whoever has a part of them open would wait,
/// or wait for each other.
fn open_tables(owner: &Session) -> Result<Vec<Identifier>, DatabaseError> {
    let rows = owner.ask(
        "SELECT relname::text FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace
         WHERE nspname = $1 AND relkind IN ('r', 'p') AND relname <> 'schema_version'
           AND NOT (relrowsecurity AND relforcerowsecurity AND coalesce((
               SELECT count(*) = 1 AND bool_and(
                   polname = 'tenant_alone' AND polpermissive AND polcmd = '*'
                   AND polroles = '{0}' AND pg_get_expr(polqual, polrelid) = $2
                   AND pg_get_expr(polwithcheck, polrelid) = $2)
               FROM pg_policy WHERE polrelid = pg_class.oid), false))",
        &[&SCHEMA, &ALONE],
    )?;
    let name = |row: &tokio_postgres::Row| Ok(Identifier::of_table(row.try_get(0)?));
    rows.iter().map(name).collect()
}

/// Lets each tenant's rows pass for that tenant alone, whoever asks. The setting is read once for
/// a statement; where nobody has said whose it is, it is an error and not an empty answer.
fn force_row_security(owner: &Session, table: &Identifier) -> Result<(), DatabaseError> {
    owner.batch(&format!(
        "ALTER TABLE {SCHEMA}.{table} ENABLE ROW LEVEL SECURITY;
         ALTER TABLE {SCHEMA}.{table} FORCE ROW LEVEL SECURITY;
         DROP POLICY IF EXISTS tenant_alone ON {SCHEMA}.{table};
         CREATE POLICY tenant_alone ON {SCHEMA}.{table}
             USING (tenant = (SELECT current_setting('app.tenant')::uuid))
             WITH CHECK (tenant = (SELECT current_setting('app.tenant')::uuid))"
    ))
}

fn grant_tables(owner: &Session, schema: &str, role: &Identifier) -> Result<(), DatabaseError> {
    owner.batch(&format!(
        "GRANT USAGE ON SCHEMA {schema} TO {role};
         GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA {schema} TO {role};
         REVOKE INSERT, UPDATE, DELETE ON {schema}.schema_version FROM {role}"
    ))
}
