//! Conversations: items that a tenant's responses are added to, and that its calls are joined
//! with (`conversation`). Nothing here expires and nothing gives way: what has no room is refused.

use base::Timestamp;

use super::{StoreError, TenantStore};
use crate::database::{Column, Database, DatabaseError, Row, Value, sql};

/// The column of what clients say of conversations.
pub(crate) const METADATA: Column = "conversations.metadata";
/// The column of items.
pub(crate) const ITEM: Column = "conversation_items.body";

/// How much a tenant's conversations may hold.
#[derive(Debug, Clone, Copy)]
pub struct ConversationBounds {
    /// Conversations of one tenant.
    pub count_max: u64,
    /// Bytes of all conversations of one tenant, with their items and metadata.
    pub bytes_max: u64,
    /// Items of one conversation.
    pub items_max: u64,
}

impl Default for ConversationBounds {
    fn default() -> Self {
        Self {
            // As many as responses, and as large.
            count_max: 100_000,
            bytes_max: 1 << 30,
            // Ten times the length of the longest chain of responses.
            items_max: 10_000,
        }
    }
}

/// A conversation, without its items.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredConversation {
    /// Its id.
    pub id: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// What its client says of it, as a JSON object.
    pub metadata: Vec<u8>,
}

/// One item of a conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConversationItem {
    /// Its id, unlike any other of its conversation.
    pub id: String,
    /// The item, as a JSON object that has the same id.
    pub body: Vec<u8>,
}

/// What came of adding to the conversations.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Added {
    /// All of it is there.
    All,
    /// There is no such conversation.
    Absent,
    /// The conversation has an item of this id already. Nothing was added.
    Duplicate(String),
    /// The tenant's conversations have no room for it. Nothing was added.
    NoRoom,
}

/// The items of a conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ConversationItems {
    /// The oldest first.
    Found(Vec<ConversationItem>),
    /// There is no such conversation.
    Absent,
    /// They are more bytes than was asked for at most.
    TooLong,
}

/// Which items of a conversation are asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ItemQuery {
    /// How many at most.
    pub limit: usize,
    /// How many bytes of items at most; one item comes, however large it is.
    pub bytes_max: u64,
    /// The item after which they begin, in the query's own order.
    pub after: Option<String>,
    /// From which end.
    pub order: ItemOrder,
}

/// From which end items are listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ItemOrder {
    /// The oldest first.
    Ascending,
    /// The newest first.
    Descending,
}

/// A page of a conversation's items.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ItemPage {
    /// The items, and whether more follow.
    Found {
        /// In the query's order.
        items: Vec<ConversationItem>,
        /// Whether there are more behind them.
        has_more: bool,
    },
    /// There is no such conversation.
    Absent,
    /// The item after which the page was to begin is not in the conversation.
    NoSuchItem,
}

impl ConversationItem {
    fn bytes(&self) -> u64 {
        (self.id.len() + self.body.len()) as u64
    }
}

impl StoredConversation {
    fn bytes(&self) -> u64 {
        (self.id.len() + self.metadata.len()) as u64
    }
}

impl TenantStore<'_> {
    /// Makes a conversation with its first items. Durable when this returns.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub fn create_conversation(
        &self,
        conversation: &StoredConversation,
        items: &[ConversationItem],
        bounds: &ConversationBounds,
    ) -> Result<Added, StoreError> {
        self.in_transaction(|transaction| {
            let bytes = conversation.bytes();
            if !has_room(transaction, 1, bytes, bounds)? {
                return Ok(Added::NoRoom);
            }
            transaction.execute(
                sql!(
                    "INSERT INTO conversations
                       ([tenant, ]id, created_at, items, next, bytes, metadata)
                     VALUES ([$T, ]$1, $2, 0, 0, $3, $4)"
                ),
                &[
                    Value::Text(&conversation.id),
                    Value::Int(conversation.created_at.as_micros()),
                    Value::Int(signed(bytes)),
                    Value::Sealed(METADATA, &conversation.metadata),
                ],
            )?;
            add_to_total(transaction, 1, signed(bytes))?;
            add(transaction, &conversation.id, items, bounds)
        })
    }

    /// The conversation of this id.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub fn conversation(&self, id: &str) -> Result<Option<StoredConversation>, StoreError> {
        self.with_database(|database| Ok(found(database, id)?))
    }

    /// Says something else of a conversation.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub fn set_conversation_metadata(
        &self,
        id: &str,
        metadata: &[u8],
        bounds: &ConversationBounds,
    ) -> Result<Added, StoreError> {
        self.in_transaction(|transaction| {
            let Some(before) = found(transaction, id)? else {
                return Ok(Added::Absent);
            };
            let (new, old) = (metadata.len() as u64, before.metadata.len() as u64);
            if new > old && !has_room(transaction, 0, new - old, bounds)? {
                return Ok(Added::NoRoom);
            }
            let more = signed(new) - signed(old);
            transaction.execute(
                sql!(
                    "UPDATE conversations SET metadata = $1, bytes = bytes + $2
                     WHERE [tenant = $T AND ]id = $3"
                ),
                &[
                    Value::Sealed(METADATA, metadata),
                    Value::Int(more),
                    Value::Text(id),
                ],
            )?;
            add_to_total(transaction, 0, more)?;
            Ok(Added::All)
        })
    }

    /// Removes a conversation with its items. Returns whether it was there.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub fn remove_conversation(&self, id: &str) -> Result<bool, StoreError> {
        self.with_database(|database| {
            let transaction = database.begin()?;
            let was_there = remove(&transaction, id)?;
            transaction.commit()?;
            Ok(was_there)
        })
    }

    /// Adds items at the end of a conversation: all of them, next to each other, or none.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub fn add_conversation_items(
        &self,
        id: &str,
        items: &[ConversationItem],
        bounds: &ConversationBounds,
    ) -> Result<Added, StoreError> {
        self.in_transaction(|transaction| add(transaction, id, items, bounds))
    }

    /// All items of a conversation, with no more than `bytes_max` in all.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub fn conversation_items(
        &self,
        id: &str,
        bytes_max: u64,
    ) -> Result<ConversationItems, StoreError> {
        self.with_database(|database| {
            let bytes = database.row(
                sql!("SELECT bytes FROM conversations WHERE [tenant = $T AND ]id = $1"),
                &[Value::Text(id)],
                |row| row.int(0),
            )?;
            let Some(bytes) = bytes else {
                return Ok(ConversationItems::Absent);
            };
            if u64::try_from(bytes).unwrap_or(u64::MAX) > bytes_max {
                return Ok(ConversationItems::TooLong);
            }
            let items = database.rows::<_, DatabaseError>(
                sql!(
                    "SELECT id, body FROM conversation_items
                     WHERE [tenant = $T AND ]conversation = $1 ORDER BY position"
                ),
                &[Value::Text(id)],
                item_of,
            )?;
            Ok(ConversationItems::Found(items))
        })
    }

    /// A page of a conversation's items.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub fn conversation_page(&self, id: &str, query: &ItemQuery) -> Result<ItemPage, StoreError> {
        self.with_database(|database| {
            if found(database, id)?.is_none() {
                return Ok(ItemPage::Absent);
            }
            let mut from = match query.order {
                ItemOrder::Ascending => -1,
                ItemOrder::Descending => i64::MAX,
            };
            if let Some(after) = &query.after {
                match position_of(database, id, after)? {
                    Some(position) => from = position,
                    None => return Ok(ItemPage::NoSuchItem),
                }
            }
            let page = match query.order {
                ItemOrder::Ascending => sql!(
                    "SELECT id, body FROM conversation_items
                     WHERE [tenant = $T AND ]conversation = $1 AND position > $2
                     ORDER BY position LIMIT $3"
                ),
                ItemOrder::Descending => sql!(
                    "SELECT id, body FROM conversation_items
                     WHERE [tenant = $T AND ]conversation = $1 AND position < $2
                     ORDER BY position DESC LIMIT $3"
                ),
            };
            let wanted = i64::try_from(query.limit.saturating_add(1)).unwrap_or(i64::MAX);
            let parameters = [Value::Text(id), Value::Int(from), Value::Int(wanted)];
            let found = database.rows::<_, DatabaseError>(page, &parameters, item_of)?;
            let (mut items, mut bytes, mut has_more) = (Vec::new(), 0, false);
            for item in found {
                bytes += item.bytes();
                has_more =
                    items.len() == query.limit || (bytes > query.bytes_max && !items.is_empty());
                if has_more {
                    break;
                }
                items.push(item);
            }
            Ok(ItemPage::Found { items, has_more })
        })
    }

    /// One item of a conversation.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub fn conversation_item(
        &self,
        id: &str,
        item: &str,
    ) -> Result<Option<ConversationItem>, StoreError> {
        self.with_database(|database| {
            let found = database.row(
                sql!(
                    "SELECT id, body FROM conversation_items
                     WHERE [tenant = $T AND ]conversation = $1 AND id = $2"
                ),
                &[Value::Text(id), Value::Text(item)],
                item_of,
            )?;
            Ok(found)
        })
    }

    /// Removes one item of a conversation. Returns whether it was there.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub fn remove_conversation_item(&self, id: &str, item: &str) -> Result<bool, StoreError> {
        self.with_database(|database| {
            let transaction = database.begin()?;
            let removed = transaction.row(
                sql!(
                    "DELETE FROM conversation_items
                     WHERE [tenant = $T AND ]conversation = $1 AND id = $2 RETURNING id, body"
                ),
                &[Value::Text(id), Value::Text(item)],
                item_of,
            )?;
            if let Some(removed) = &removed {
                let bytes = -signed(removed.bytes());
                transaction.execute(
                    sql!(
                        "UPDATE conversations SET items = items - 1, bytes = bytes + $1
                         WHERE [tenant = $T AND ]id = $2"
                    ),
                    &[Value::Int(bytes), Value::Text(id)],
                )?;
                add_to_total(&transaction, 0, bytes)?;
            }
            transaction.commit()?;
            Ok(removed.is_some())
        })
    }

    /// Does something that is there as a whole, or, if it is not [`Added::All`], not at all.
    fn in_transaction(
        &self,
        act: impl Fn(&Database<'_>) -> Result<Added, DatabaseError>,
    ) -> Result<Added, StoreError> {
        self.with_database(|database| {
            let transaction = database.begin()?;
            let added = act(&transaction)?;
            // Dropped, a transaction is rolled back.
            if added == Added::All {
                transaction.commit()?;
            }
            Ok(added)
        })
    }
}

/// Removes a conversation with its items. Whether it was there.
fn remove(database: &Database<'_>, id: &str) -> Result<bool, DatabaseError> {
    let bytes = database.row(
        sql!("DELETE FROM conversations WHERE [tenant = $T AND ]id = $1 RETURNING bytes"),
        &[Value::Text(id)],
        |row| row.int(0),
    )?;
    if let Some(bytes) = bytes {
        database.execute(
            sql!("DELETE FROM conversation_items WHERE [tenant = $T AND ]conversation = $1"),
            &[Value::Text(id)],
        )?;
        add_to_total(database, -1, -bytes)?;
    }
    Ok(bytes.is_some())
}

/// Removes conversations that were made before then: so many at most, the oldest first. How many
/// they were.
pub(super) fn forget(
    database: &Database<'_>,
    made_before: Timestamp,
    count_max: u64,
) -> Result<u64, StoreError> {
    let transaction = database.begin()?;
    let old = transaction.rows(
        sql!(
            "SELECT id FROM conversations WHERE [tenant = $T AND ]created_at < $1
             ORDER BY created_at, id LIMIT $2"
        ),
        &[
            Value::Int(made_before.as_micros()),
            Value::Int(i64::try_from(count_max).unwrap_or(i64::MAX)),
        ],
        |row| Ok::<_, DatabaseError>(row.text(0)?.to_owned()),
    )?;
    for id in &old {
        remove(&transaction, id)?;
    }
    transaction.commit()?;
    Ok(old.len() as u64)
}

fn add(
    database: &Database<'_>,
    id: &str,
    items: &[ConversationItem],
    bounds: &ConversationBounds,
) -> Result<Added, DatabaseError> {
    let place = database.row(
        sql!("SELECT items, next FROM conversations WHERE [tenant = $T AND ]id = $1"),
        &[Value::Text(id)],
        |row| Ok((row.int(0)?, row.int(1)?)),
    )?;
    let Some((count, next)) = place else {
        return Ok(Added::Absent);
    };
    let bytes = items.iter().map(ConversationItem::bytes).sum();
    let count = u64::try_from(count).unwrap_or(0) + items.len() as u64;
    if count > bounds.items_max || !has_room(database, 0, bytes, bounds)? {
        return Ok(Added::NoRoom);
    }
    let insert = sql!(
        "INSERT INTO conversation_items ([tenant, ]conversation, position, id, body)
         VALUES ([$T, ]$1, $2, $3, $4) ON CONFLICT DO NOTHING"
    );
    for (item, position) in items.iter().zip(next..) {
        let row = [
            Value::Text(id),
            Value::Int(position),
            Value::Text(&item.id),
            Value::Sealed(ITEM, &item.body),
        ];
        if database.execute(insert, &row)? == 0 {
            return Ok(Added::Duplicate(item.id.clone()));
        }
    }
    let added = i64::try_from(items.len()).unwrap_or(i64::MAX);
    database.execute(
        sql!(
            "UPDATE conversations SET items = items + $1, next = next + $1, bytes = bytes + $2
             WHERE [tenant = $T AND ]id = $3"
        ),
        &[
            Value::Int(added),
            Value::Int(signed(bytes)),
            Value::Text(id),
        ],
    )?;
    add_to_total(database, 0, signed(bytes))?;
    Ok(Added::All)
}

fn found(database: &Database<'_>, id: &str) -> Result<Option<StoredConversation>, DatabaseError> {
    database.row(
        sql!("SELECT id, created_at, metadata FROM conversations WHERE [tenant = $T AND ]id = $1"),
        &[Value::Text(id)],
        |row| {
            Ok(StoredConversation {
                id: row.text(0)?.to_owned(),
                created_at: Timestamp::from_micros(row.int(1)?),
                metadata: row.sealed(2, METADATA)?.into_owned(),
            })
        },
    )
}

fn item_of(row: &Row<'_>) -> Result<ConversationItem, DatabaseError> {
    Ok(ConversationItem {
        id: row.text(0)?.to_owned(),
        body: row.sealed(1, ITEM)?.into_owned(),
    })
}

fn position_of(
    database: &Database<'_>,
    id: &str,
    item: &str,
) -> Result<Option<i64>, DatabaseError> {
    database.row(
        sql!(
            "SELECT position FROM conversation_items
             WHERE [tenant = $T AND ]conversation = $1 AND id = $2"
        ),
        &[Value::Text(id), Value::Text(item)],
        |row| row.int(0),
    )
}

fn signed(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

fn add_to_total(database: &Database<'_>, count: i64, bytes: i64) -> Result<(), DatabaseError> {
    database.execute(
        sql!(
            "INSERT INTO conversations_total ([tenant, ]single, count, bytes)
             VALUES ([$T, ]1, $1, $2)
             ON CONFLICT ([tenant, ]single) DO UPDATE
             SET count = conversations_total.count + excluded.count,
                 bytes = conversations_total.bytes + excluded.bytes"
        ),
        &[Value::Int(count), Value::Int(bytes)],
    )?;
    Ok(())
}

fn has_room(
    database: &Database<'_>,
    count: u64,
    bytes: u64,
    bounds: &ConversationBounds,
) -> Result<bool, DatabaseError> {
    let total = database.row(
        sql!("SELECT count, bytes FROM conversations_total[ WHERE tenant = $T]"),
        &[],
        |row| Ok((row.int(0)?, row.int(1)?)),
    )?;
    let (kept, kept_bytes) = total.unwrap_or((0, 0));
    let kept = u64::try_from(kept).unwrap_or(0);
    let kept_bytes = u64::try_from(kept_bytes).unwrap_or(0);
    Ok(kept + count <= bounds.count_max && kept_bytes.saturating_add(bytes) <= bounds.bytes_max)
}
