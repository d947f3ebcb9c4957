//! What many lines have in common, by whom and for what: a row of `usage_dims`.

use std::collections::HashMap;
use std::str::FromStr;

use base::{KeyId, ModelName, Name, TeamId, UserId};
use foldhash::fast::RandomState;
use ledger::{Hop, Intent};
use rusqlite::{Connection, OptionalExtension as _, Row, params};

use super::StoreError;

const BAD_ROW: StoreError = StoreError::BadRow {
    table: "usage_dims",
};

/// A row of `usage_dims`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Dims {
    pub(super) team: Option<TeamId>,
    pub(super) user: Option<UserId>,
    pub(super) key: KeyId,
    pub(super) feature: Name,
    pub(super) model: ModelName,
    pub(super) hop: Hop,
}

/// Rows by their numbers, as far as somebody has asked for them.
#[derive(Debug, Default)]
pub(super) struct KnownDims {
    rows: HashMap<i64, Dims, RandomState>,
}

impl KnownDims {
    /// The row that has this number.
    pub(super) fn get(&mut self, connection: &Connection, id: i64) -> Result<&Dims, StoreError> {
        match self.rows.entry(id) {
            std::collections::hash_map::Entry::Occupied(known) => Ok(known.into_mut()),
            std::collections::hash_map::Entry::Vacant(unknown) => {
                let read = connection
                    .prepare_cached(
                        "SELECT team, user_id, key_id, feature, model, hop FROM usage_dims
                         WHERE id = $1",
                    )?
                    .query_row([id], |row| Ok(read(row)))
                    .optional()?;
                Ok(unknown.insert(read.ok_or(BAD_ROW)??))
            }
        }
    }
}

fn read(row: &Row<'_>) -> Result<Dims, StoreError> {
    let hop: String = row.get(5)?;
    Ok(Dims {
        team: optional(row, 0)?,
        user: optional(row, 1)?,
        key: optional(row, 2)?.ok_or(BAD_ROW)?,
        feature: optional(row, 3)?.ok_or(BAD_ROW)?,
        model: optional(row, 4)?.ok_or(BAD_ROW)?,
        hop: hop_of(&hop).ok_or(BAD_ROW)?,
    })
}

/// None for `''`.
fn optional<T: FromStr>(row: &Row<'_>, column: usize) -> Result<Option<T>, StoreError> {
    match row.get_ref(column)?.as_str().map_err(|_| BAD_ROW)? {
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
}

impl<'a> DimsIds<'a> {
    /// The number of the row for a call, which is made if there is none.
    pub(super) fn of(
        &mut self,
        connection: &Connection,
        intent: &'a Intent,
    ) -> Result<i64, StoreError> {
        let key = DimsKey {
            team: intent.team,
            user: intent.user,
            key: intent.key,
            feature: intent.feature.as_str(),
            model: intent.model.as_str(),
            hop: intent.hop,
        };
        if let Some(id) = self.ids.get(&key) {
            return Ok(*id);
        }
        let id = find_or_insert(connection, &key)?;
        self.ids.insert(key, id);
        Ok(id)
    }
}

fn find_or_insert(connection: &Connection, key: &DimsKey<'_>) -> Result<i64, StoreError> {
    let columns = params![
        or_empty(&key.team),
        or_empty(&key.user),
        key.key.to_string(),
        key.feature,
        key.model,
        hop_text(key.hop),
    ];
    let found = connection
        .prepare_cached(
            "SELECT id FROM usage_dims
             WHERE team = $1 AND user_id = $2 AND key_id = $3 AND feature = $4
               AND model = $5 AND hop = $6",
        )?
        .query_row(columns, |row| row.get(0))
        .optional()?;
    if let Some(id) = found {
        return Ok(id);
    }
    let inserted = connection
        .prepare_cached(
            "INSERT INTO usage_dims (team, user_id, key_id, feature, model, hop)
             VALUES ($1, $2, $3, $4, $5, $6) RETURNING id",
        )?
        .query_row(columns, |row| row.get(0))?;
    Ok(inserted)
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
