//! Where a tenant's data lives.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use base::{Name, Timestamp};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Where a tenant's data lives. As text: `file`, `pool:eu-1`, or `pool` for whichever server of the
/// tenant's region is the emptiest.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub enum Placement {
    /// An encrypted file of its own, under the tenant's key, on this machine.
    #[default]
    File,
    /// On a PostgreSQL server.
    Server {
        /// How its tables are kept apart from other tenants'.
        wall: ServerWall,
        /// Which server. None where one is still to be chosen; a tenant that has been onboarded
        /// has one.
        server: Option<Name>,
    },
}

/// How a tenant's tables are kept apart on a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ServerWall {
    /// `pool`: tables that tenants share, below forced row-level security.
    Pool,
    /// `bridge`: a schema and a role of its own.
    Bridge,
    /// `silo`: a database and a role of its own.
    Silo,
}

/// What a move has left.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FormerPlacement {
    /// Where the old copy is.
    pub placement: Placement,
    /// From when on it is removed.
    pub kept_until: Timestamp,
}

/// A text that is no placement.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{text}` is no placement: `file`, or `pool`, `bridge` or `silo`, with `:SERVER` or without"
)]
pub struct ParsePlacementError {
    text: String,
}

impl Placement {
    /// Whether it is the file of one machine.
    pub fn is_file(&self) -> bool {
        *self == Self::File
    }

    /// The same, on this server.
    #[must_use]
    pub fn on(wall: ServerWall, server: Name) -> Self {
        Self::Server {
            wall,
            server: Some(server),
        }
    }
}

impl ServerWall {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Pool, Self::Bridge, Self::Silo];

    /// `pool`, `bridge` or `silo`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pool => "pool",
            Self::Bridge => "bridge",
            Self::Silo => "silo",
        }
    }
}

impl fmt::Display for Placement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File => f.write_str("file"),
            Self::Server { wall, server: None } => f.write_str(wall.as_str()),
            Self::Server {
                wall,
                server: Some(server),
            } => write!(f, "{}:{server}", wall.as_str()),
        }
    }
}

impl FromStr for Placement {
    type Err = ParsePlacementError;

    fn from_str(text: &str) -> Result<Self, ParsePlacementError> {
        let bad = || ParsePlacementError {
            text: text.to_owned(),
        };
        if text == "file" {
            return Ok(Self::File);
        }
        let (wall, server) = match text.split_once(':') {
            Some((wall, server)) => (wall, Some(server.parse().map_err(|_| bad())?)),
            None => (text, None),
        };
        let wall = ServerWall::ALL.into_iter().find(|one| one.as_str() == wall);
        Ok(Self::Server {
            wall: wall.ok_or_else(bad)?,
            server,
        })
    }
}

impl Serialize for Placement {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Placement {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

impl JsonSchema for Placement {
    fn schema_name() -> Cow<'static, str> {
        "Placement".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "pattern": "^(file|(pool|bridge|silo)(:.+)?)$",
            "description": "`file`, or `pool`, `bridge` or `silo` on a PostgreSQL server: with `:SERVER`, or on the emptiest of the tenant's region.",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_placement_is_its_text() {
        for text in ["file", "pool", "pool:eu-1", "bridge:a", "silo"] {
            assert_eq!(text.parse::<Placement>().unwrap().to_string(), text);
        }
        for text in ["", "files", "pool:", "pool: x", "File", "file:eu"] {
            assert!(text.parse::<Placement>().is_err(), "{text}");
        }
    }
}
