//! Placements `pool`, `bridge` and `silo`: tenants' tables on PostgreSQL servers.
//!
//! | placement | where a tenant's tables are | as whom its statements run |
//! |---|---|---|
//! | `pool` | in the schema `partywall`, with everybody's | one role for the pool, below forced row-level security |
//! | `bridge` | in a schema of its own | a role of its own |
//! | `silo` | in a database of its own | a role of its own |
//!
//! A tenant's role has a password that derives from the tenant's key: who has no scope cannot even
//! log in. No such role owns a table, makes one, or passes row-level security by; a server whose
//! roles can is refused (`wall.rs`).

mod gate;
mod login;
mod options;
mod provision;
mod server;
mod session;
mod tls;
mod wall;

pub use gate::MoveToken;
pub use options::{AddressError, Capacity, ServerError, ServerOptions, postgres_address};
pub use server::{SESSIONS_MAX, Servers};
pub use tls::AuthorityError;
pub(crate) use tls::client_config;

pub(crate) use gate::{COPY, FENCED, LOGGED, OPEN, Refused, Visitor};
pub(crate) use login::Login;
pub(crate) use provision::{
    CATALOGUE_SCHEMA, catalogue_schema, login_of, standing, tables_of_wall,
};
pub(crate) use server::{Lease, Server, start_runtime};
pub(crate) use session::{OwnerSession, Session};
