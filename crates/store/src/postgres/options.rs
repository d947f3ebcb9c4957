//! Where a server is, what it may have, and why it is not used.

use std::path::PathBuf;

use base::Name;
use tenancy::DatabaseSecret;
use tenancy::catalogue::ServerWall;
use tokio_postgres::Config;

use super::tls::AuthorityError;
use crate::database::DatabaseError;

/// Where a PostgreSQL server is, and what may be there.
pub struct ServerOptions {
    /// Its name, as tenants' placements say it.
    pub name: Name,
    /// `postgres://user:password@host/database`, of a role that may make roles, schemas and
    /// databases. It owns all tables; tenants' statements never run as it.
    pub address: Config,
    /// As whom a pool's statements run, derived from the platform's key; none where there are to be
    /// no tenants' stores.
    pub pool: Option<DatabaseSecret>,
    /// The region that it stands in, as tenants name theirs.
    pub region: Option<Name>,
    /// How many tenants it may have behind each wall.
    pub capacity: Capacity,
    /// How many connections this process has there at most; two at least.
    pub sessions_max: usize,
    /// A PEM file with the authorities that vouch for its certificate; none for those that
    /// browsers trust.
    pub authorities: Option<PathBuf>,
}

/// Why a text is no server's address. It is not shown: it may hold a password.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// Not of its form.
    #[error("it is not of the form postgres://user:password@host/database")]
    Malformed,
    /// It names a file that this program is told of elsewhere.
    #[error(
        "it says `sslrootcert`, `sslcert` or `sslkey`: name the file of authorities by `ca_file`, beside `url`; certificates of clients are not supported"
    )]
    CertificateFile,
}

/// Reads a server's address, as libpq has it. What it calls `verify-ca` and `verify-full` is what
/// `require` means here: the server's certificate and name are verified wherever there is TLS.
///
/// # Errors
///
/// [`AddressError`].
pub fn postgres_address(text: &str) -> Result<Config, AddressError> {
    let text = text.trim();
    let (server, parameters) = text.split_once('?').unwrap_or((text, ""));
    let parameters = parameters.split('&').map(|parameter| match parameter {
        "sslmode=verify-ca" | "sslmode=verify-full" => Ok("sslmode=require"),
        other => match other.split_once('=') {
            Some(("sslrootcert" | "sslcert" | "sslkey", _)) => Err(AddressError::CertificateFile),
            _ => Ok(other),
        },
    });
    let parameters = parameters.collect::<Result<Vec<_>, _>>()?.join("&");
    let address = match parameters.as_str() {
        "" => server.parse(),
        parameters => format!("{server}?{parameters}").parse(),
    };
    address.map_err(|_| AddressError::Malformed)
}

/// How many tenants a server may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capacity {
    /// In tables that they share.
    pub pool: u32,
    /// In schemas of their own.
    pub bridge: u32,
    /// In databases of their own.
    pub silo: u32,
}

impl Capacity {
    /// Behind this wall.
    pub fn behind(&self, wall: ServerWall) -> u32 {
        match wall {
            ServerWall::Pool => self.pool,
            ServerWall::Bridge => self.bridge,
            ServerWall::Silo => self.silo,
        }
    }
}

impl Default for Capacity {
    fn default() -> Self {
        Self {
            // As many tenants as a directory is built for.
            pool: 10_000,
            // Beyond that a backend's catalogue cache alone takes hundreds of megabytes.
            bridge: 1_000,
            // Each has a database's files, and its own connections.
            silo: 100,
        }
    }
}

/// Why a server is not used.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The catalogue names a server that this installation does not.
    #[error("there is no server `{name}`: describe it in [storage.servers.{name}]")]
    Unknown {
        /// Its name.
        name: Name,
    },
    /// It cannot be reached, or refuses us.
    #[error("the PostgreSQL server `{name}` cannot be used")]
    Unreachable {
        /// Its name.
        name: Name,
        /// What it said.
        #[source]
        source: DatabaseError,
    },
    /// It could not be reached a moment ago, and is not asked again yet.
    #[error("the PostgreSQL server `{name}` cannot be used: it was not there a moment ago")]
    Down {
        /// Its name.
        name: Name,
    },
    /// All connections were in use for too long.
    #[error("all connections to the PostgreSQL server `{name}` are in use")]
    Busy {
        /// Its name.
        name: Name,
    },
    /// The tenant has nothing there.
    #[error("the PostgreSQL server `{name}` does not have this tenant's store")]
    NoStore {
        /// Its name.
        name: Name,
    },
    /// A newer version of the program made the tables.
    #[error(
        "the tables on `{name}` have schema {found}, and this program knows up to {supported}: start the version that made them"
    )]
    NewerVersion {
        /// Its name.
        name: Name,
        /// The schema they have.
        found: u32,
        /// The newest schema that this program knows.
        supported: u32,
    },
    /// Tenants could reach each other there.
    #[error("the PostgreSQL server `{name}` does not keep tenants apart: {why}")]
    NoWall {
        /// Its name.
        name: Name,
        /// What is wrong, and what to do.
        why: String,
    },
    /// Its certificate cannot be verified.
    #[error("the authorities for the PostgreSQL server `{name}` cannot be used")]
    Authority {
        /// Its name.
        name: Name,
        /// Why.
        #[source]
        source: AuthorityError,
    },
    /// No thread can be started for the connections.
    #[error("no thread can be started for the connections to PostgreSQL")]
    NoThread(#[source] std::io::Error),
}

impl ServerError {
    /// Whether it is not there now, rather than refusing: it can be asked again in a moment.
    pub fn is_passing(&self) -> bool {
        matches!(
            self,
            Self::Unreachable { .. } | Self::Down { .. } | Self::Busy { .. }
        )
    }
}

#[cfg(test)]
mod tests {
    use tokio_postgres::config::SslMode;

    use super::*;

    #[test]
    fn addresses_are_read_as_libpq_has_them() {
        let mode = |parameters: &str| {
            let address = format!(" postgres://a:b@db.example.com/d{parameters}\n");
            postgres_address(&address).map(|address| address.get_ssl_mode())
        };
        for (parameters, expected) in [
            ("", SslMode::Prefer),
            ("?", SslMode::Prefer),
            ("?sslmode=disable", SslMode::Disable),
            ("?sslmode=require", SslMode::Require),
            ("?sslmode=verify-ca", SslMode::Require),
            ("?application_name=x&sslmode=verify-full", SslMode::Require),
        ] {
            assert_eq!(mode(parameters), Ok(expected), "{parameters}");
        }
        for parameters in ["?sslrootcert=/ca.pem", "?sslmode=require&sslkey=k"] {
            assert_eq!(mode(parameters), Err(AddressError::CertificateFile));
        }
        for parameters in ["?sslmode=perhaps", "?what=ever"] {
            assert_eq!(mode(parameters), Err(AddressError::Malformed));
        }
        let said = postgres_address("postgres://a:CANARY@h:port/d").unwrap_err();
        assert!(!said.to_string().contains("CANARY"));
    }
}
