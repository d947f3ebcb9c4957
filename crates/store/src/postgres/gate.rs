//! What a store on a server says of itself to whoever comes to use it: whether it is the store, is
//! being copied, or is left for another. It is read in the transaction that uses the store, and
//! under the lock that writers hold, so that nobody writes to a store that has been left, however
//! late they hear of it.

use std::fmt;
use std::str::FromStr;

use tokio_postgres::SimpleQueryMessage;

use crate::database::{DatabaseError, Tables};

/// A column `state` of `provisioned`: this is the tenant's store.
pub(crate) const OPEN: i64 = 0;
/// It is, and what is changed is logged beside it, since somebody copies it.
pub(crate) const LOGGED: i64 = 1;
/// It is not any more, or not until a move is settled: nobody reads or writes it.
pub(crate) const FENCED: i64 = 2;
/// It is not yet: a move is filling it.
pub(crate) const COPY: i64 = 3;

/// Which move it is: of two that have the same tenant in hand, a store lets one go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MoveToken(u128);

impl MoveToken {
    /// The token with these bits, which are random.
    pub const fn from_bits(bits: u128) -> Self {
        Self(bits)
    }
}

impl fmt::Display for MoveToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl FromStr for MoveToken {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        u128::from_str_radix(text, 16).map(Self)
    }
}

/// On whose behalf an owner's tables are used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Visitor {
    /// The platform, in its own tables: nobody moves those.
    Platform,
    /// The tenant's operations: in its store alone, wherever that is now.
    Tenant,
    /// A move, as long as it is this one. What it reads it may read anyway.
    Move(MoveToken),
    /// Whoever makes a store or settles what became of it.
    Setup,
}

/// What a visitor found who was not let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refused {
    /// There is no store.
    Missing,
    /// The store is about to be elsewhere, or is.
    Elsewhere,
    /// The connection is of a role or to tables that were made anew since.
    Stale,
}

/// What a visitor found who was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Passed {
    /// How many bytes of changes are logged; none where nothing is to be.
    pub(super) logged: Option<i64>,
}

/// Asks for it. Always one row. `tenant` is 32 hexadecimal digits.
pub(super) fn question(tables: Tables, tenant: &str) -> String {
    let whose = match tables {
        Tables::Own => String::new(),
        Tables::Shared => format!(" AND tenant = '{tenant}'"),
    };
    format!(
        "SELECT state, mover, logged FROM (SELECT 1) AS one \
         LEFT JOIN provisioned ON single = 1{whose}"
    )
}

/// Whether the visitor may go on, by the last row of these answers.
pub(super) fn verdict(
    visitor: Visitor,
    answers: &[SimpleQueryMessage],
) -> Result<Result<Passed, Refused>, DatabaseError> {
    let row = answers.iter().rev().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => Some(row),
        _ => None,
    });
    let row = row.ok_or(DatabaseError::BadColumn { column: 0 })?;
    let number = |column: usize| -> Result<Option<i64>, DatabaseError> {
        let text = row.try_get(column)?;
        let parsed = text.map(str::parse).transpose();
        parsed.map_err(|_| DatabaseError::BadColumn { column })
    };
    let Some(state) = number(0)? else {
        return Ok(Err(Refused::Missing));
    };
    let mover = row.try_get(1)?.unwrap_or_default();
    Ok(match visitor {
        Visitor::Platform | Visitor::Setup => Ok(Passed { logged: None }),
        Visitor::Tenant => match state {
            OPEN => Ok(Passed { logged: None }),
            LOGGED => Ok(Passed {
                logged: Some(number(2)?.unwrap_or(0)),
            }),
            _ => Err(Refused::Elsewhere),
        },
        Visitor::Move(token) if mover == token.to_string() => Ok(Passed { logged: None }),
        Visitor::Move(_) => Err(Refused::Elsewhere),
    })
}
