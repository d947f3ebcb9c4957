//! What many lines have in common, by whom and for what: a row of `usage_dims`.

use std::collections::HashMap;
use std::str::FromStr;

use base::{KeyId, ModelName, Name, TeamId, UserId};
use foldhash::fast::RandomState;
use ledger::{Hop, LedgerLine, PriceVersion};

use super::StoreError;
use crate::database::{Database, Row, Value, sql};

const BAD_ROW: StoreError = StoreError::BadRow {
    table: "usage_dims",
};

/// 256: what a model's upstream calls it changes some times a year. What a broken one says beyond
/// that is counted under [`OTHER_VERSION`].
const VERSIONS_MAX: i64 = 256;
const OTHER_VERSION: &str = "other";

/// A row of `usage_dims`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Dims {
    pub(super) team: Option<TeamId>,
    pub(super) user: Option<UserId>,
    pub(super) key: KeyId,
    pub(super) feature: Name,
    pub(super) model: ModelName,
    pub(super) hop: Hop,
    pub(super) upstream: Name,
    /// What the upstream called the model.
    pub(super) served: Option<ModelName>,
    pub(super) price_version: PriceVersion,
}

/// Rows by their numbers, as far as somebody has asked for them.
#[derive(Debug, Default)]
pub(super) struct KnownDims {
    rows: HashMap<i64, Dims, RandomState>,
}

impl KnownDims {
    /// The row that has this number.
    pub(super) fn get(&mut self, database: &Database<'_>, id: i64) -> Result<&Dims, StoreError> {
        match self.rows.entry(id) {
            std::collections::hash_map::Entry::Occupied(known) => Ok(known.into_mut()),
            std::collections::hash_map::Entry::Vacant(unknown) => {
                let found = database.rows(
                    sql!(
                        "SELECT team, user_id, key_id, feature, model, hop, upstream, version,
                                price_version
                         FROM usage_dims WHERE [tenant = $T AND ]id = $1"
                    ),
                    &[Value::Int(id)],
                    read,
                )?;
                Ok(unknown.insert(found.into_iter().next().ok_or(BAD_ROW)?))
            }
        }
    }
}

fn read(row: &Row<'_>) -> Result<Dims, StoreError> {
    Ok(Dims {
        team: optional(row, 0)?,
        user: optional(row, 1)?,
        key: optional(row, 2)?.ok_or(BAD_ROW)?,
        feature: optional(row, 3)?.ok_or(BAD_ROW)?,
        model: optional(row, 4)?.ok_or(BAD_ROW)?,
        hop: hop_of(row.text(5)?).ok_or(BAD_ROW)?,
        upstream: optional(row, 6)?.ok_or(BAD_ROW)?,
        served: optional(row, 7)?,
        price_version: PriceVersion(u32::try_from(row.int(8)?).map_err(|_| BAD_ROW)?),
    })
}

/// None for `''`.
fn optional<T: FromStr>(row: &Row<'_>, column: usize) -> Result<Option<T>, StoreError> {
    match row.text(column)? {
        "" => Ok(None),
        text => text.parse().map(Some).map_err(|_| BAD_ROW),
    }
}

/// The numbers of what lines have in common, as far as it has been looked up.
#[derive(Default)]
pub(super) struct DimsIds<'a> {
    ids: HashMap<DimsKey<'a>, i64, RandomState>,
}

#[derive(PartialEq, Eq, Hash)]
struct DimsKey<'a> {
    team: Option<TeamId>,
    user: Option<UserId>,
    key: KeyId,
    feature: &'a str,
    model: &'a str,
    hop: Hop,
    upstream: &'a str,
    version: &'a str,
    price_version: PriceVersion,
}

impl<'a> DimsIds<'a> {
    /// The number of the row for a call, which is made if there is none.
    pub(super) fn of(
        &mut self,
        database: &Database<'_>,
        line: &'a LedgerLine,
    ) -> Result<i64, StoreError> {
        let intent = &line.intent;
        let key = DimsKey {
            team: intent.team,
            user: intent.user,
            key: intent.key,
            feature: intent.feature.as_str(),
            model: intent.model.as_str(),
            hop: intent.hop,
            upstream: intent.upstream.as_str(),
            version: line.served.as_ref().map_or("", ModelName::as_str),
            price_version: intent.price_version,
        };
        if let Some(id) = self.ids.get(&key) {
            return Ok(*id);
        }
        let id = find_or_insert(database, &key)?;
        self.ids.insert(key, id);
        Ok(id)
    }
}

fn find_or_insert(database: &Database<'_>, key: &DimsKey<'_>) -> Result<i64, StoreError> {
    if let Some(id) = find(database, key, key.version)? {
        return Ok(id);
    }
    if is_one_version_more(database, key.version)? {
        return match find(database, key, OTHER_VERSION)? {
            Some(id) => Ok(id),
            None => insert(database, key, OTHER_VERSION),
        };
    }
    insert(database, key, key.version)
}

/// Whether a tenant has all the versions that it may have, and not this one.
fn is_one_version_more(database: &Database<'_>, version: &str) -> Result<bool, StoreError> {
    if version.is_empty() {
        return Ok(false);
    }
    let others = database.row(
        sql!(
            "SELECT count(*) FROM (SELECT DISTINCT version FROM usage_dims
                                   WHERE [tenant = $T AND ]version <> '' AND version <> $1) AS others"
        ),
        &[Value::Text(version)],
        |row| row.int(0),
    )?;
    if others.unwrap_or(0) < VERSIONS_MAX {
        return Ok(false);
    }
    let known = database.row(
        sql!("SELECT 1 FROM usage_dims WHERE [tenant = $T AND ]version = $1 LIMIT 1"),
        &[Value::Text(version)],
        |_| Ok(()),
    )?;
    Ok(known.is_none())
}

/// The columns of a row, but for its number.
struct Columns<'k> {
    team: String,
    user: String,
    id: String,
    key: &'k DimsKey<'k>,
    version: &'k str,
}

impl<'k> Columns<'k> {
    fn of(key: &'k DimsKey<'k>, version: &'k str) -> Self {
        Self {
            team: or_empty(&key.team),
            user: or_empty(&key.user),
            id: key.key.to_string(),
            key,
            version,
        }
    }

    fn values(&self) -> [Value<'_>; 9] {
        [
            Value::Text(&self.team),
            Value::Text(&self.user),
            Value::Text(&self.id),
            Value::Text(self.key.feature),
            Value::Text(self.key.model),
            Value::Text(hop_text(self.key.hop)),
            Value::Text(self.key.upstream),
            Value::Text(self.version),
            Value::Int(i64::from(self.key.price_version.0)),
        ]
    }
}

fn find(
    database: &Database<'_>,
    key: &DimsKey<'_>,
    version: &str,
) -> Result<Option<i64>, StoreError> {
    Ok(database.row(
        sql!(
            "SELECT id FROM usage_dims
             WHERE [tenant = $T AND ]team = $1 AND user_id = $2 AND key_id = $3
               AND feature = $4 AND model = $5 AND hop = $6 AND upstream = $7 AND version = $8
               AND price_version = $9"
        ),
        &Columns::of(key, version).values(),
        |row| row.int(0),
    )?)
}

fn insert(database: &Database<'_>, key: &DimsKey<'_>, version: &str) -> Result<i64, StoreError> {
    // One at a time writes: the number is still free when it is used.
    let inserted = database.row(
        sql!(
            "INSERT INTO usage_dims ([tenant, ]id, team, user_id, key_id, feature, model, hop,
                                     upstream, version, price_version)
             VALUES ([$T, ](SELECT coalesce(max(id), 0) + 1 FROM usage_dims[ WHERE tenant = $T]),
                     $1, $2, $3, $4, $5, $6, $7, $8, $9)
             RETURNING id"
        ),
        &Columns::of(key, version).values(),
        |row| row.int(0),
    )?;
    inserted.ok_or(BAD_ROW)
}

pub(super) fn or_empty<T: ToString>(value: &Option<T>) -> String {
    value.as_ref().map(T::to_string).unwrap_or_default()
}

const HOPS: [Hop; 5] = [
    Hop::Embed,
    Hop::Rerank,
    Hop::Generate,
    Hop::Guard,
    Hop::Judge,
];

pub(super) const fn hop_text(hop: Hop) -> &'static str {
    match hop {
        Hop::Embed => "embed",
        Hop::Rerank => "rerank",
        Hop::Generate => "generate",
        Hop::Guard => "guard",
        Hop::Judge => "judge",
    }
}

fn hop_of(text: &str) -> Option<Hop> {
    HOPS.into_iter().find(|hop| hop_text(*hop) == text)
}
