//! What the owner of a server does there: roles, schemas, databases, tables. Statements that
//! define things take no parameters; the names in them are [`Identifier`]s, the passwords are
//! verifiers, and all else is constant.

use base::TenantId;
use tenancy::catalogue::ServerWall;
use tenancy::{DatabaseSecret, TenantKeys};
use tokio_postgres::error::SqlState;

use super::login::{Identifier, Login, SCHEMA, verifier};
use super::options::ServerError;
use super::server::Server;
use super::session::{Session, as_uuid};
use super::wall as barrier;
use crate::database::{DatabaseError, Sql, Tables};
use crate::schema;
use crate::steps::{Bring, Found, Standing, Steps, Upgraded};

/// Whoever changes what is on a server holds this lock: replicas start at the same time. "PWLS".
const SETUP_LOCK: i64 = 0x5057_4c53;
/// 2 s: whoever changes a table waits so long for those who use it, and others wait behind it.
const TABLE_LOCK_MS: u32 = 2_000;
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
    /// Makes the pool's schema, tables, policies and role, or brings them as far as is said, and
    /// proves that they keep tenants apart.
    ///
    /// # Errors
    ///
    /// [`ServerError`].
    pub(crate) fn prepare_pool(&self, bring: Bring) -> Result<Upgraded, ServerError> {
        let owner = self.administer(None)?;
        let role = Identifier::of_pool(self.pool());
        let upgraded = self.in_setup(&owner, || {
            owner.batch(&format!("CREATE SCHEMA IF NOT EXISTS {SCHEMA}"))?;
            let schema = (&schema::TENANT, bring);
            let Ok(upgraded) = migrate(&owner, SCHEMA, schema, Tables::Shared)? else {
                return Ok(Err(self.newer(&owner, &schema::TENANT)?));
            };
            for table in open_tables(&owner)? {
                force_row_security(&owner, &table)?;
            }
            self.make_role(&owner, &role, self.pool(), "CONNECTION LIMIT -1")?;
            grant_tables(&owner, SCHEMA, &role)?;
            Ok(Ok(upgraded))
        })?;
        barrier::check(self, &owner, &role)?;
        Ok(upgraded)
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
            let schema = (&schema::CATALOGUE, Bring::ToNewest);
            match migrate(&owner, CATALOGUE_SCHEMA, schema, Tables::Own)? {
                Ok(_) => Ok(Ok(())),
                Err(TooNew) => Ok(Err(self.newer(&owner, &schema::CATALOGUE)?)),
            }
        })
    }

    /// Makes a tenant's role, schema or database, and tables, unless they are there. Tables that
    /// are there and cannot be served as they are come to the newest step.
    ///
    /// # Errors
    ///
    /// [`ServerError`].
    pub(crate) fn provision(&self, wall: ServerWall, keys: &TenantKeys) -> Result<(), ServerError> {
        self.provision_to(wall, keys, Bring::WhereServed).map(drop)
    }

    /// Brings the tables of a tenant that has its own to the newest step.
    ///
    /// # Errors
    ///
    /// [`ServerError`].
    pub(crate) fn upgrade(
        &self,
        wall: ServerWall,
        keys: &TenantKeys,
    ) -> Result<Upgraded, ServerError> {
        self.provision_to(wall, keys, Bring::ToNewest)
    }

    fn provision_to(
        &self,
        wall: ServerWall,
        keys: &TenantKeys,
        bring: Bring,
    ) -> Result<Upgraded, ServerError> {
        let name = Identifier::of_tenant(wall, keys.tenant());
        let secret = keys.database_secret();
        match wall {
            // The tenant itself says that it is there: see `Stores`.
            ServerWall::Pool => Ok(Upgraded { from: 0, to: 0 }),
            ServerWall::Bridge => {
                let owner = self.administer(None)?;
                self.in_setup(&owner, || {
                    self.make_tenant_role(&owner, &name, &secret)?;
                    self.make_own_tables(&owner, name.as_str(), &name, bring)
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
                self.in_setup(&inside, || {
                    self.make_own_tables(&inside, SCHEMA, &name, bring)
                })
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
            ServerWall::Silo => {
                end_sessions(&owner, &name).and_then(|()| drop_database(&owner, &name))
            }
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
    fn in_setup<T>(
        &self,
        owner: &Session,
        act: impl FnOnce() -> Result<Result<T, ServerError>, DatabaseError>,
    ) -> Result<T, ServerError> {
        let begun = owner.batch(&format!(
            "BEGIN; SELECT pg_advisory_xact_lock({SETUP_LOCK})"
        ));
        let done = match begun.and_then(|()| act()) {
            Ok(Ok(done)) => {
                let committed = owner.batch("COMMIT").map_err(|e| self.unreachable(e));
                return committed.map(|()| done);
            }
            Ok(Err(refused)) => refused,
            Err(failed) => self.unreachable(failed),
        };
        if let Err(error) = owner.batch("ROLLBACK") {
            tracing::debug!(server = %self.name, %error, "a setup was rolled back already");
        }
        Err(done)
    }

    /// In a setup, whose schema is the one that it is about.
    fn newer(&self, owner: &Session, steps: &Steps) -> Result<ServerError, DatabaseError> {
        Ok(ServerError::NewerVersion {
            name: self.name.clone(),
            found: found(owner)?.step,
            supported: steps.newest(),
        })
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
        bring: Bring,
    ) -> Result<Result<Upgraded, ServerError>, DatabaseError> {
        owner.batch(&format!("CREATE SCHEMA IF NOT EXISTS {schema}"))?;
        let steps = (&schema::TENANT, bring);
        let Ok(upgraded) = migrate(owner, schema, steps, Tables::Own)? else {
            return Ok(Err(self.newer(owner, &schema::TENANT)?));
        };
        grant_tables(owner, schema, role)?;
        Ok(Ok(upgraded))
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

/// A newer program made the tables, and they are not open to this one.
struct TooNew;

/// Asks a connection which step the schema has come to that it sees.
const ASK_STEP: &str =
    "SELECT coalesce(max(version), 0), coalesce(min(version), 0) FROM schema_version";

/// What a schema says of itself.
fn found(session: &Session) -> Result<Found, DatabaseError> {
    let rows = session.ask(ASK_STEP, &[])?;
    let row = rows.first();
    let number = |column: usize| -> Result<u32, DatabaseError> {
        let number: Option<i64> = row.map(|row| row.try_get(column)).transpose()?;
        Ok(u32::try_from(number.unwrap_or(0)).unwrap_or(u32::MAX))
    };
    Ok(Found {
        step: number(0)?,
        open_to: number(1)?,
    })
}

/// How the tables that a connection sees stand to this program.
pub(crate) fn standing(session: &Session) -> Result<Standing, DatabaseError> {
    Ok(schema::TENANT.standing(found(session)?))
}

/// Brings a schema's tables as far as is said.
fn migrate(
    owner: &Session,
    schema: &str,
    (steps, bring): (&Steps, Bring),
    tables: Tables,
) -> Result<Result<Upgraded, TooNew>, DatabaseError> {
    owner.batch(&format!(
        "SET LOCAL search_path = {schema};
         CREATE TABLE IF NOT EXISTS schema_version (version BIGINT NOT NULL)"
    ))?;
    let found = found(owner)?;
    if steps.standing(found) == Standing::TooNew {
        return Ok(Err(TooNew));
    }
    let missing = steps.missing(found, bring);
    if !missing.is_empty() {
        owner.batch(&format!("SET LOCAL lock_timeout = {TABLE_LOCK_MS}"))?;
    }
    for migration in missing {
        owner.batch(&definition(migration, tables))?;
    }
    let mut to = found.step;
    if !missing.is_empty() {
        owner.batch("DELETE FROM schema_version")?;
        for row in steps.rows() {
            owner.batch(&format!("INSERT INTO schema_version VALUES ({row})"))?;
        }
        to = steps.newest();
    }
    Ok(Ok(Upgraded {
        from: found.step,
        to,
    }))
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

/// Drops a database with what is connected to it. Where an autovacuum looks through it, PostgreSQL lets
/// a superuser alone do so by force (42501); without force it ends the autovacuum by itself, and
/// waits some seconds for sessions that are ending.
fn drop_database(owner: &Session, name: &Identifier) -> Result<(), DatabaseError> {
    let drop = format!("DROP DATABASE IF EXISTS {name}");
    let refused = Some(&SqlState::INSUFFICIENT_PRIVILEGE);
    match owner.batch(&format!("{drop} WITH (FORCE)")) {
        Err(DatabaseError::Postgres(error)) if error.code() == refused => owner.batch(&drop),
        done => done,
    }
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
