//! Whether a server keeps tenants apart by itself: the wall behind the statements' own.

use super::login::{Identifier, SCHEMA};
use super::options::ServerError;
use super::server::Server;
use super::session::Session;
use crate::database::DatabaseError;

/// Proves that the pool's role sees one tenant's rows at a time.
///
/// # Errors
///
/// [`ServerError::NoWall`] says what is wrong.
pub(super) fn check(
    server: &Server,
    owner: &Session,
    role: &Identifier,
) -> Result<(), ServerError> {
    match find_hole(owner, role).map_err(|source| server.unreachable(source))? {
        None => Ok(()),
        Some(why) => Err(ServerError::NoWall {
            name: server.name.clone(),
            why,
        }),
    }
}

fn find_hole(owner: &Session, role: &Identifier) -> Result<Option<String>, DatabaseError> {
    let rows = owner.ask(
        "SELECT rolsuper OR rolbypassrls OR rolcreaterole OR rolreplication
         FROM pg_roles WHERE rolname = $1",
        &[&role.as_str()],
    )?;
    match rows.first() {
        None => return Ok(Some(format!("the role {role} is missing"))),
        Some(row) if row.try_get(0)? => {
            return Ok(Some(format!(
                "the role {role} may pass row-level security by: ALTER ROLE {role} NOSUPERUSER NOBYPASSRLS NOCREATEROLE NOREPLICATION"
            )));
        }
        Some(_) => {}
    }
    let memberships = owner.ask(
        "SELECT other.rolname::text FROM pg_auth_members
         JOIN pg_roles AS other ON other.oid = pg_auth_members.roleid
         JOIN pg_roles AS own ON own.oid = pg_auth_members.member
         WHERE own.rolname = $1 LIMIT 1",
        &[&role.as_str()],
    )?;
    if let Some(row) = memberships.first() {
        let other: String = row.try_get(0)?;
        return Ok(Some(format!(
            "the role {role} is a member of {other}, and has its rights: REVOKE {other} FROM {role}"
        )));
    }
    let open = owner.ask(
        "SELECT relname::text FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace
         WHERE nspname = $1 AND relkind IN ('r', 'p') AND relname <> 'schema_version'
           AND (NOT relrowsecurity OR NOT relforcerowsecurity
                OR relowner = (SELECT oid FROM pg_roles WHERE rolname = $2)
                OR (SELECT count(*) FROM pg_policy WHERE polrelid = pg_class.oid) <> 1)
         LIMIT 1",
        &[&SCHEMA, &role.as_str()],
    )?;
    if let Some(row) = open.first() {
        let table: String = row.try_get(0)?;
        return Ok(Some(format!(
            "the table {SCHEMA}.{table} has no forced row-level security, another policy beside ours, or belongs to {role}"
        )));
    }
    Ok(None)
}
