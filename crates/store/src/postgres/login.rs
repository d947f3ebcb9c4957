//! As whom one logs in to a server, and how names get into statements that take no parameter.

use std::fmt::Write as _;

use base::TenantId;
use tenancy::DatabaseSecret;
use tenancy::catalogue::ServerWall;
use zeroize::Zeroizing;

/// The schema of the tables that tenants share, and of a silo's.
pub(crate) const SCHEMA: &str = "partywall";

/// A role, the database that it works in, and the schema that it sees there.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Login {
    pub(crate) role: Identifier,
    /// None: the one that the server's address names.
    pub(crate) database: Option<Identifier>,
    pub(crate) schema: Identifier,
}

/// A name that is safe to stand in SQL, because it is made of `a-z`, `0-9` and `_` alone.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Identifier(String);

impl Identifier {
    /// The schema `partywall`.
    pub(crate) fn schema() -> Self {
        Self(SCHEMA.to_owned())
    }

    /// Of a tenant's role behind this wall, and of its schema or database. Each wall has a role
    /// of its own, since a tenant that moves is behind both for a while.
    pub(crate) fn of_tenant(wall: ServerWall, tenant: TenantId) -> Self {
        Self(format!(
            "partywall_{}_{:032x}",
            wall.as_str(),
            tenant.bits()
        ))
    }

    /// Of the role that a pool's tenants share. Installations that share a server have a role
    /// each.
    pub(crate) fn of_pool(secret: &DatabaseSecret) -> Self {
        let mut name = "partywall_pool_".to_owned();
        for byte in secret.public_part() {
            write!(name, "{byte:02x}").expect("a string takes all that is written to it");
        }
        Self(name)
    }

    /// Of a table that is there.
    ///
    /// # Panics
    ///
    /// If its name is none of ours: there is nothing to do with such a table.
    pub(crate) fn of_table(name: String) -> Self {
        let is_safe = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_');
        assert!(name.bytes().all(is_safe), "our tables' names are plain");
        Self(name)
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Display for Identifier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a server keeps of a password (RFC 5803): it never sees the password itself, and neither
/// does its log. Made of base64, `$`, `:`, `=` and `-`, so that it is safe between quotes.
pub(crate) fn verifier(secret: &DatabaseSecret) -> Zeroizing<String> {
    Zeroizing::new(postgres_protocol::password::scram_sha_256(
        secret.password().as_bytes(),
    ))
}
