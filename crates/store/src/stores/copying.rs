//! A tenant's store as rows: how it is read from one placement and written to another, whichever
//! they are.

use ring::digest::{Context, SHA256};

use crate::audit::ENTRY;
use crate::catalogue::{ABOUT, COMPARISON, PENDING, SPEC, SPLIT, TEXT, VALUE};
use crate::database::{Column, Database, DatabaseError, OwnedValue, Row, Sql, sql};
use crate::tenant::{StoreError, columns};

/// One table of a tenant's store.
pub(crate) struct Table {
    pub(crate) name: &'static str,
    /// The step of the schema that made it, as it is.
    pub(crate) since: u32,
    /// Rows after a key, in the order of their keys.
    page: &'static Sql,
    /// Puts a row in place of whatever has its key.
    put: &'static Sql,
    /// Says how many there are.
    count: &'static Sql,
    /// Removes all.
    clear: &'static Sql,
    columns: &'static [Kind],
    /// So many of the columns, from the first on, are the key.
    key_columns: usize,
}

#[derive(Clone, Copy)]
enum Kind {
    Int,
    OptionalInt,
    Text,
    Bytes,
    Sealed(Column),
    OptionalSealed(Column),
}

use Kind::{Bytes, Int, OptionalInt, OptionalSealed, Sealed, Text};

/// Rows of a page, where they are small: at most a block of lines, 30 KB.
macro_rules! small_rows {
    () => {
        "256"
    };
}
/// Where they are what clients have sent: a request's body, 32 MiB.
macro_rules! large_rows {
    () => {
        "8"
    };
}

macro_rules! table {
    (
        $name:literal $(since $since:literal)?, $rows:ident,
        key: $key:literal = $key_marks:literal,
        columns: $columns:literal = $marks:literal,
        set: $set:literal,
        $kinds:expr
    ) => {
        Table {
            name: $name,
            since: 1 $(- 1 + $since)?,
            page: sql!(concat!(
                "SELECT ",
                $columns,
                " FROM ",
                $name,
                " WHERE [tenant = $T AND ](",
                $key,
                ") > (",
                $key_marks,
                ") ORDER BY ",
                $key,
                " LIMIT ",
                $rows!()
            )),
            put: sql!(concat!(
                "INSERT INTO ",
                $name,
                " ([tenant, ]",
                $columns,
                ") VALUES ([$T, ]",
                $marks,
                ") ON CONFLICT ([tenant, ]",
                $key,
                ") DO UPDATE SET ",
                $set
            )),
            count: sql!(concat!(
                "SELECT count(*) FROM ",
                $name,
                "[ WHERE tenant = $T]"
            )),
            clear: sql!(concat!("DELETE FROM ", $name, "[ WHERE tenant = $T]")),
            columns: $kinds,
            key_columns: {
                // `a` has no comma, `a, b` has one.
                let (key, mut at, mut commas) = ($key.as_bytes(), 0, 0);
                while at < key.len() {
                    commas += (key[at] == b',') as usize;
                    at += 1;
                }
                commas + 1
            },
        }
    };
}

/// All tables of [`crate::schema::TENANT`], step by step, as a test says, but for `provisioned` and `move_changes`:
/// those are about the placement.
pub(crate) static TABLES: [Table; 20] = [
    table!("usage_dims", small_rows,
        key: "id" = "$1",
        columns: "id, team, user_id, key_id, feature, model, hop, upstream, version,
                  price_version" = "$1, $2, $3, $4, $5, $6, $7, $8, $9, $10",
        set: "team = excluded.team, user_id = excluded.user_id, key_id = excluded.key_id,
              feature = excluded.feature, model = excluded.model, hop = excluded.hop,
              upstream = excluded.upstream, version = excluded.version,
              price_version = excluded.price_version",
        &[Int, Text, Text, Text, Text, Text, Text, Text, Text, Int]),
    table!("ledger_lines", small_rows,
        key: "id" = "$1", columns: "id, lines" = "$1, $2",
        set: "lines = excluded.lines", &[Int, Sealed(columns::LINES)]),
    table!("ledger_posted", small_rows,
        key: "replica" = "$1", columns: "replica, lsn" = "$1, $2",
        set: "lsn = excluded.lsn", &[Text, Int]),
    table!("unsettled_lines", small_rows,
        key: "attempt" = "$1", columns: "attempt, started_at" = "$1, $2",
        set: "started_at = excluded.started_at", &[Bytes, Int]),
    table!("usage_sums", small_rows,
        key: "grain, start, dims" = "$1, $2, $3",
        columns: "grain, start, dims, requests, calls, unsettled, cache_hits, input_tokens,
                  cached_tokens, cached_write_tokens, cached_write_1h_tokens, output_tokens,
                  images, billed, cost_major, cost_minor, hit_cost_major, hit_cost_minor,
                  hit_anew_major, hit_anew_minor"
            = "$1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18,
               $19, $20",
        set: "requests = excluded.requests, calls = excluded.calls,
              unsettled = excluded.unsettled, cache_hits = excluded.cache_hits,
              input_tokens = excluded.input_tokens, cached_tokens = excluded.cached_tokens,
              cached_write_tokens = excluded.cached_write_tokens,
              cached_write_1h_tokens = excluded.cached_write_1h_tokens,
              output_tokens = excluded.output_tokens, images = excluded.images,
              billed = excluded.billed,
              cost_major = excluded.cost_major, cost_minor = excluded.cost_minor,
              hit_cost_major = excluded.hit_cost_major,
              hit_cost_minor = excluded.hit_cost_minor,
              hit_anew_major = excluded.hit_anew_major,
              hit_anew_minor = excluded.hit_anew_minor",
        &[Int, Int, Int, Int, Int, Int, Int, Int, Int, Int, Int, Int, Int, Int, Int, Int, Int,
          Int, Int, Int]),
    table!("usage_kept", small_rows,
        key: "what" = "$1", columns: "what, since" = "$1, $2",
        set: "since = excluded.since", &[Int, Int]),
    table!("idempotency", large_rows,
        key: "key_hash" = "$1",
        columns: "key_hash, request_hash, state, response, expires_at" = "$1, $2, $3, $4, $5",
        set: "request_hash = excluded.request_hash, state = excluded.state,
              response = excluded.response, expires_at = excluded.expires_at",
        &[Text, Text, Text, OptionalSealed(columns::RESPONSE), Int]),
    table!("responses" since 3, large_rows,
        key: "id" = "$1",
        columns: "id, previous, expires_at, bytes, input, body" = "$1, $2, $3, $4, $5, $6",
        set: "previous = excluded.previous, expires_at = excluded.expires_at,
              bytes = excluded.bytes, input = excluded.input, body = excluded.body",
        &[Text, Text, Int, Int, Sealed(columns::INPUT), Sealed(columns::BODY)]),
    table!("responses_total" since 3, small_rows,
        key: "single" = "$1", columns: "single, count, bytes" = "$1, $2, $3",
        set: "count = excluded.count, bytes = excluded.bytes", &[Int, Int, Int]),
    table!("conversations" since 4, small_rows,
        key: "id" = "$1",
        columns: "id, created_at, items, next, bytes, metadata" = "$1, $2, $3, $4, $5, $6",
        set: "created_at = excluded.created_at, items = excluded.items, next = excluded.next,
              bytes = excluded.bytes, metadata = excluded.metadata",
        &[Text, Int, Int, Int, Int, Sealed(columns::METADATA)]),
    table!("conversation_items" since 4, large_rows,
        key: "conversation, position" = "$1, $2",
        columns: "conversation, position, id, body" = "$1, $2, $3, $4",
        set: "id = excluded.id, body = excluded.body",
        &[Text, Int, Text, Sealed(columns::ITEM)]),
    table!("conversations_total" since 4, small_rows,
        key: "single" = "$1", columns: "single, count, bytes" = "$1, $2, $3",
        set: "count = excluded.count, bytes = excluded.bytes", &[Int, Int, Int]),
    table!("billing_documents" since 5, large_rows,
        key: "id" = "$1", columns: "id, at, body" = "$1, $2, $3",
        set: "at = excluded.at, body = excluded.body",
        &[Text, Int, Sealed(columns::DOCUMENT)]),
    table!("call_bodies" since 8, large_rows,
        key: "request" = "$1",
        columns: "request, at, bytes, marks, asked, answered" = "$1, $2, $3, $4, $5, $6",
        set: "at = excluded.at, bytes = excluded.bytes, marks = excluded.marks,
              asked = excluded.asked, answered = excluded.answered",
        &[Text, Int, Int, Int, Sealed(columns::ASKED), Sealed(columns::ANSWERED)]),
    table!("call_bodies_total" since 8, small_rows,
        key: "single" = "$1", columns: "single, count, bytes" = "$1, $2, $3",
        set: "count = excluded.count, bytes = excluded.bytes", &[Int, Int, Int]),
    table!("past_hours" since 6, small_rows,
        key: "hour, replica" = "$1, $2",
        columns: "hour, replica, calls, failed, refused, p95_ms" = "$1, $2, $3, $4, $5, $6",
        set: "calls = excluded.calls, failed = excluded.failed, refused = excluded.refused,
              p95_ms = excluded.p95_ms",
        &[Int, Text, Int, Int, Int, Int]),
    table!("audit_entries" since 2, small_rows,
        key: "position" = "$1", columns: "position, entry" = "$1, $2",
        set: "entry = excluded.entry", &[Int, Sealed(ENTRY)]),
    table!("audit_nodes" since 2, small_rows,
        key: "level, position" = "$1, $2", columns: "level, position, hash" = "$1, $2, $3",
        set: "hash = excluded.hash", &[Int, Int, Bytes]),
    table!("audit_head" since 2, small_rows,
        key: "single" = "$1", columns: "single, size, checkpoint" = "$1, $2, $3",
        set: "size = excluded.size, checkpoint = excluded.checkpoint", &[Int, Int, Text]),
    table!("audit_checkpoints" since 2, small_rows,
        key: "size" = "$1", columns: "size, checkpoint" = "$1, $2",
        set: "checkpoint = excluded.checkpoint", &[Int, Text]),
];

/// Those of a catalogue that no tenant's store has.
static CATALOGUE_TABLES: [Table; 9] = [
    table!("versions", small_rows,
        key: "version" = "$1", columns: "version, at, actor, note" = "$1, $2, $3, $4",
        set: "at = excluded.at, actor = excluded.actor, note = excluded.note",
        &[Int, Int, Text, Text]),
    table!("resources", small_rows,
        key: "kind, tenant, name, version" = "$1, $2, $3, $4",
        columns: "kind, tenant, name, version, superseded, spec" = "$1, $2, $3, $4, $5, $6",
        set: "superseded = excluded.superseded, spec = excluded.spec",
        &[Text, Text, Text, Int, OptionalInt, OptionalSealed(SPEC)]),
    table!("wrapped_keys", small_rows,
        key: "tenant" = "$1", columns: "tenant, wrapped, generation" = "$1, $2, $3",
        set: "wrapped = excluded.wrapped, generation = excluded.generation",
        &[Text, Bytes, Int]),
    table!("settings", small_rows,
        key: "name" = "$1", columns: "name, value" = "$1, $2",
        set: "value = excluded.value", &[Text, Sealed(VALUE)]),
    table!("billing_numbers", small_rows,
        key: "series, number" = "$1, $2",
        columns: "series, number, tenant, document, at, digest, pending"
            = "$1, $2, $3, $4, $5, $6, $7",
        set: "tenant = excluded.tenant, document = excluded.document, at = excluded.at,
              digest = excluded.digest, pending = excluded.pending",
        &[Text, Int, Text, Text, Int, Bytes, OptionalSealed(PENDING)]),
    table!("reconciliations", large_rows,
        key: "id" = "$1", columns: "id, at, body" = "$1, $2, $3",
        set: "at = excluded.at, body = excluded.body", &[Int, Int, Sealed(COMPARISON)]),
    table!("shared_splits", small_rows,
        key: "name, period" = "$1, $2", columns: "name, period, body" = "$1, $2, $3",
        set: "body = excluded.body", &[Text, Text, Sealed(SPLIT)]),
    table!("alerts", small_rows,
        key: "id" = "$1",
        columns: "id, tenant, opened_at, seen_at, told_at, resolved_at, about"
            = "$1, $2, $3, $4, $5, $6, $7",
        set: "tenant = excluded.tenant, opened_at = excluded.opened_at,
              seen_at = excluded.seen_at, told_at = excluded.told_at,
              resolved_at = excluded.resolved_at, about = excluded.about",
        &[Text, Text, Int, Int, Int, OptionalInt, Sealed(ABOUT)]),
    table!("alert_messages", small_rows,
        key: "id" = "$1",
        columns: "id, tenant, channel, tries, due_at, text" = "$1, $2, $3, $4, $5, $6",
        set: "tenant = excluded.tenant, channel = excluded.channel, tries = excluded.tries,
              due_at = excluded.due_at, text = excluded.text",
        &[Text, Text, Text, Int, Int, Sealed(TEXT)]),
];

/// The tables of [`crate::schema::CATALOGUE`] that go with a catalogue to another place, as a test
/// says: not those about the place and the processes there. An audit log is the same everywhere.
pub(crate) fn catalogue_tables() -> impl Iterator<Item = &'static Table> {
    let is_of_audit = |table: &&Table| table.name.starts_with("audit_");
    CATALOGUE_TABLES
        .iter()
        .chain(TABLES.iter().filter(is_of_audit))
}

/// The sealed column of this name.
pub(crate) fn column_named(name: &str) -> Option<Column> {
    let kinds = TABLES.iter().flat_map(|table| table.columns);
    let sealed = kinds.filter_map(|kind| match kind {
        Sealed(column) | OptionalSealed(column) => Some(*column),
        Int | OptionalInt | Text | Bytes => None,
    });
    sealed.into_iter().find(|column| *column == name)
}

/// What a table holds, told by its rows alone: equal in every placement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Content {
    pub(crate) rows: u64,
    pub(crate) bytes: u64,
    pub(crate) digest: [u8; 32],
}

/// Rows as they are read, added up.
pub(crate) struct Adding {
    rows: u64,
    bytes: u64,
    digest: Context,
}

impl Table {
    /// Whether any of its values is sealed.
    pub(crate) fn is_sealed(&self) -> bool {
        let is_sealed = |kind: &Kind| matches!(kind, Sealed(_) | OptionalSealed(_));
        self.columns.iter().any(is_sealed)
    }

    /// Whether it is small, and says of the large ones how much is in them: a change to any of
    /// those changes one of these.
    pub(crate) fn sums_up(&self) -> bool {
        const SUMS: [&str; 7] = [
            "usage_sums",
            "ledger_posted",
            "unsettled_lines",
            "responses_total",
            "conversations_total",
            "call_bodies_total",
            "audit_head",
        ];
        SUMS.contains(&self.name)
    }

    /// How many rows it has.
    pub(crate) fn count(&self, database: &Database<'_>) -> Result<u64, StoreError> {
        let count = database.row(self.count, &[], |row| row.int(0))?;
        Ok(count
            .and_then(|count| u64::try_from(count).ok())
            .unwrap_or(0))
    }

    /// Hands on all rows, page by page, in the order of their keys.
    pub(crate) fn each_page(
        &self,
        database: &Database<'_>,
        mut act: impl FnMut(&[Vec<OwnedValue>]) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let mut after: Vec<OwnedValue> = self.columns[..self.key_columns]
            .iter()
            .map(|kind| kind.least())
            .collect();
        loop {
            let key: Vec<_> = after.iter().map(OwnedValue::value).collect();
            let rows = database.rows(self.page, &key, |row| self.read(row))?;
            let Some(last) = rows.last() else {
                return Ok(());
            };
            after = last[..self.key_columns].to_vec();
            act(&rows)?;
        }
    }

    /// Puts these rows in place of those that have their keys.
    pub(crate) fn put(
        &self,
        database: &Database<'_>,
        rows: &[Vec<OwnedValue>],
    ) -> Result<(), DatabaseError> {
        for row in rows {
            let values: Vec<_> = row.iter().map(OwnedValue::value).collect();
            database.execute(self.put, &values)?;
        }
        Ok(())
    }

    /// Removes all rows.
    pub(crate) fn clear(&self, database: &Database<'_>) -> Result<(), DatabaseError> {
        database.execute(self.clear, &[]).map(drop)
    }

    /// The values of a row that was written elsewhere, if it is one of this table's.
    pub(crate) fn typed(&self, values: Vec<OwnedValue>) -> Option<Vec<OwnedValue>> {
        if values.len() != self.columns.len() {
            return None;
        }
        let typed = values.into_iter().zip(self.columns);
        typed.map(|(value, kind)| kind.typed(value)).collect()
    }

    /// What is in it.
    pub(crate) fn content(&self, database: &Database<'_>) -> Result<Content, StoreError> {
        let mut adding = Adding::new();
        self.each_page(database, |rows| {
            adding.add(rows);
            Ok(())
        })?;
        Ok(adding.content())
    }

    fn read(&self, row: &Row<'_>) -> Result<Vec<OwnedValue>, StoreError> {
        let mut values = Vec::with_capacity(self.columns.len());
        for (column, kind) in self.columns.iter().enumerate() {
            values.push(match *kind {
                Int => OwnedValue::Int(row.int(column)?),
                OptionalInt => match row.optional_int(column)? {
                    Some(number) => OwnedValue::Int(number),
                    None => OwnedValue::Nothing,
                },
                Text => OwnedValue::Text(row.text(column)?.to_owned()),
                Bytes => OwnedValue::Bytes(row.bytes(column)?.to_owned()),
                Sealed(name) => OwnedValue::Sealed(name, row.sealed(column, name)?.into_owned()),
                OptionalSealed(name) => match row.optional_sealed(column, name)? {
                    Some(value) => OwnedValue::Sealed(name, value),
                    None => OwnedValue::Nothing,
                },
            });
        }
        Ok(values)
    }
}

impl Kind {
    /// The value, if a column of this kind can hold it.
    fn typed(self, value: OwnedValue) -> Option<OwnedValue> {
        match (self, value) {
            (Int | OptionalInt, value @ OwnedValue::Int(_))
            | (Text, value @ OwnedValue::Text(_)) => Some(value),
            (Bytes, value @ OwnedValue::Bytes(_)) => Some(value),
            (Sealed(name) | OptionalSealed(name), OwnedValue::Bytes(value)) => {
                Some(OwnedValue::Sealed(name, value))
            }
            (OptionalInt | OptionalSealed(_), OwnedValue::Nothing) => Some(OwnedValue::Nothing),
            _ => None,
        }
    }

    /// What comes before every key.
    fn least(self) -> OwnedValue {
        match self {
            Int | OptionalInt => OwnedValue::Int(i64::MIN),
            Text => OwnedValue::Text(String::new()),
            Bytes | Sealed(_) | OptionalSealed(_) => OwnedValue::Bytes(Vec::new()),
        }
    }
}

impl Adding {
    pub(crate) fn new() -> Self {
        Self {
            rows: 0,
            bytes: 0,
            digest: Context::new(&SHA256),
        }
    }

    /// Each value with its length, so that no two rows read alike.
    pub(crate) fn add(&mut self, rows: &[Vec<OwnedValue>]) {
        self.rows += rows.len() as u64;
        for value in rows.iter().flatten() {
            match value {
                OwnedValue::Int(number) => self.part(&number.to_be_bytes()),
                OwnedValue::Text(text) => self.part(text.as_bytes()),
                OwnedValue::Bytes(bytes) | OwnedValue::Sealed(_, bytes) => self.part(bytes),
                OwnedValue::Bool(value) => self.part(&[u8::from(*value)]),
                OwnedValue::Nothing => self.digest.update(&u64::MAX.to_be_bytes()),
            }
        }
    }

    fn part(&mut self, bytes: &[u8]) {
        self.digest.update(&(bytes.len() as u64).to_be_bytes());
        self.digest.update(bytes);
        self.bytes += bytes.len() as u64;
    }

    pub(crate) fn content(self) -> Content {
        let mut digest = [0; 32];
        digest.copy_from_slice(self.digest.finish().as_ref());
        Content {
            rows: self.rows,
            bytes: self.bytes,
            digest,
        }
    }
}

/// Seals every sealed value anew, under the keys' current generation.
pub(crate) fn seal_anew(database: &Database<'_>) -> Result<(), StoreError> {
    for table in TABLES.iter().filter(|table| table.is_sealed()) {
        table.each_page(database, |rows| {
            let transaction = database.begin()?;
            table.put(&transaction, rows)?;
            Ok(transaction.commit()?)
        })?;
    }
    Ok(())
}

/// A new database of these steps, and the names of its tables, sorted.
#[cfg(test)]
pub(crate) fn made_by(schema: &[crate::steps::Migration]) -> (rusqlite::Connection, Vec<String>) {
    let connection = rusqlite::Connection::open_in_memory().expect("it is in memory");
    for migration in schema {
        let text = migration.text(crate::database::Tables::Own);
        connection.execute_batch(text).expect("it is a schema");
    }
    let names = connection
        .prepare("SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY name")
        .and_then(|mut all| {
            all.query_map([], |row| row.get(0))?
                .collect::<Result<Vec<String>, _>>()
        });
    (connection, names.expect("SQLite knows its tables"))
}

#[cfg(test)]
impl Table {
    /// Fails unless the table has so many columns in that database.
    pub(crate) fn assert_columns(&self, connection: &rusqlite::Connection) {
        let columns: u32 = connection
            .query_row(
                "SELECT count(*) FROM pragma_table_info($1)",
                [self.name],
                |row| row.get(0),
            )
            .expect("SQLite counts");
        assert_eq!(self.columns.len(), columns as usize, "{}", self.name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema;

    #[test]
    fn every_table_of_every_step_is_copied_with_all_its_columns() {
        for step in 1..=schema::TENANT.newest() {
            let (connection, names) = made_by(&schema::TENANT.all[..step as usize]);
            let known = TABLES.iter().filter(|table| table.since <= step);
            let mut copied: Vec<_> = known.clone().map(|table| table.name.to_owned()).collect();
            let about_the_placement = ["provisioned", "move_changes"].map(str::to_owned);
            copied.extend(
                about_the_placement
                    .into_iter()
                    .filter(|name| names.contains(name)),
            );
            copied.sort();
            assert_eq!(copied, names, "step {step}");
            for table in known {
                table.assert_columns(&connection);
            }
        }
    }

    /// A store that is served as it is is backed up and moved as it is, too.
    #[test]
    fn a_store_that_is_served_as_it_is_has_every_table() {
        for table in &TABLES {
            assert!(table.since <= schema::TENANT.served_from, "{}", table.name);
        }
    }
}
