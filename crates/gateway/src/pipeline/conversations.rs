//! `/v1/conversations`: items that responses are added to, in the caller's own tenant. What is
//! absent and what is another tenant's look alike.

use std::sync::Arc;

use bytes::Bytes;
use models::{Envelope, InvalidRequest, Json, Kind, Raw, added_items, item_id_prefix, shown_item};
use serde_json::{Value, json};
use store::{
    Added, ConversationBounds, ConversationItem, ConversationItems, ItemPage, ItemQuery,
    StoreError, StoredConversation, TenantStore,
};

use super::arrive::Arrived;
use super::body::read_body;
use super::page::{PageQuery, check_include, check_no_query, list_json, no_such_place, unknown};
use super::resolve::Inside;
use super::responses::id_of;
use super::trail::Trail;
use crate::refusal::Refusal;

/// As many as OpenAI takes at a time.
const ADDED_MAX: usize = 20;
/// A page of large items is shorter than was asked for: 8 MiB are more than a model reads.
const PAGE_BYTES_MAX: u64 = 8 << 20;
/// OpenAI's bounds on what a client says of a conversation.
const PAIRS_MAX: usize = 16;
const NAME_CHARS_MAX: usize = 64;
const VALUE_CHARS_MAX: usize = 512;
/// The longest id of an item that a client may bring: OpenAI's own have 53 characters.
const ITEM_ID_BYTES_MAX: usize = 128;

/// A request inside its tenant, with its body read.
struct Asked {
    inside: Arc<Inside>,
    envelope: Envelope,
}

impl Arrived {
    /// Makes a conversation.
    pub(super) async fn create_conversation(
        self: Box<Self>,
        trail: &mut Trail,
    ) -> Result<Bytes, Refusal> {
        check_no_query(self.head.uri.query().unwrap_or_default())?;
        let Asked { inside, envelope } = self.read_asked(trail).await?;
        only_fields(&envelope, &["items", "metadata"])?;
        let request = trail.request.to_string();
        let digits = request.strip_prefix("req_").unwrap_or(&request);
        let conversation = StoredConversation {
            id: format!("conv_{digits}"),
            created_at: inside.at,
            metadata: metadata_of(&envelope)?,
        };
        let items = named_items(&read_items(&envelope)?, digits)?;
        let shown = conversation_json(&conversation);
        let bounds = ConversationBounds::default();
        let create = move |store: &TenantStore<'_>| {
            store.create_conversation(&conversation, &stored(&items), &bounds)
        };
        check_added(inside.stores(create).await?, "")?;
        Ok(shown)
    }

    /// A conversation.
    pub(super) async fn conversation(
        self: Box<Self>,
        id: &str,
        trail: &mut Trail,
    ) -> Result<Bytes, Refusal> {
        check_no_query(self.head.uri.query().unwrap_or_default())?;
        let inside = self.authenticate()?.resolve_tenant(trail)?.inside;
        inside.shown_conversation(id).await
    }

    /// Says something else of a conversation.
    pub(super) async fn change_conversation(
        self: Box<Self>,
        id: &str,
        trail: &mut Trail,
    ) -> Result<Bytes, Refusal> {
        check_no_query(self.head.uri.query().unwrap_or_default())?;
        let Asked { inside, envelope } = self.read_asked(trail).await?;
        only_fields(&envelope, &["metadata"])?;
        if envelope.kind("metadata").is_none() {
            return Err(InvalidRequest::missing("metadata").into());
        }
        let metadata = metadata_of(&envelope)?;
        let wanted = id.to_owned();
        let bounds = ConversationBounds::default();
        let change = move |store: &TenantStore<'_>| {
            store.set_conversation_metadata(&wanted, &metadata, &bounds)
        };
        check_added(inside.stores(change).await?, id)?;
        inside.shown_conversation(id).await
    }

    /// Removes a conversation with its items.
    pub(super) async fn delete_conversation(
        self: Box<Self>,
        id: &str,
        trail: &mut Trail,
    ) -> Result<Bytes, Refusal> {
        check_no_query(self.head.uri.query().unwrap_or_default())?;
        let inside = self.authenticate()?.resolve_tenant(trail)?.inside;
        inside.runtime.responses.wait_for(id).await;
        let wanted = id.to_owned();
        let removed = inside.stores(move |store| store.remove_conversation(&wanted));
        if !removed.await? {
            return Err(absent(id));
        }
        let gone = json!({"id": id, "object": "conversation.deleted", "deleted": true});
        Ok(gone.to_string().into())
    }

    /// A page of a conversation's items.
    pub(super) async fn conversation_items(
        self: Box<Self>,
        id: &str,
        trail: &mut Trail,
    ) -> Result<Bytes, Refusal> {
        let page = PageQuery::parse(self.head.uri.query().unwrap_or_default())?;
        let inside = self.authenticate()?.resolve_tenant(trail)?.inside;
        inside.runtime.responses.wait_for(id).await;
        let wanted = id.to_owned();
        let query = ItemQuery {
            limit: page.limit,
            bytes_max: PAGE_BYTES_MAX,
            after: page.after,
            order: page.order,
        };
        let found = inside.stores(move |store| store.conversation_page(&wanted, &query));
        match found.await? {
            ItemPage::Found { items, has_more } => Ok(list_json(&parsed(items), has_more)),
            ItemPage::Absent => Err(absent(id)),
            ItemPage::NoSuchItem => Err(no_such_place()),
        }
    }

    /// Adds items at the end of a conversation.
    pub(super) async fn add_conversation_items(
        self: Box<Self>,
        id: &str,
        trail: &mut Trail,
    ) -> Result<Bytes, Refusal> {
        check_include(self.head.uri.query().unwrap_or_default())?;
        let Asked { inside, envelope } = self.read_asked(trail).await?;
        only_fields(&envelope, &["items"])?;
        if envelope.kind("items").is_none() {
            return Err(InvalidRequest::missing("items").into());
        }
        let request = trail.request.to_string();
        let digits = request.strip_prefix("req_").unwrap_or(&request);
        let items = named_items(&read_items(&envelope)?, digits)?;
        inside.runtime.responses.wait_for(id).await;
        let (wanted, kept) = (id.to_owned(), stored(&items));
        let bounds = ConversationBounds::default();
        let add =
            move |store: &TenantStore<'_>| store.add_conversation_items(&wanted, &kept, &bounds);
        check_added(inside.stores(add).await?, id)?;
        Ok(list_json(&items, false))
    }

    /// One item of a conversation.
    pub(super) async fn conversation_item(
        self: Box<Self>,
        id: &str,
        item: &str,
        trail: &mut Trail,
    ) -> Result<Bytes, Refusal> {
        check_include(self.head.uri.query().unwrap_or_default())?;
        let inside = self.authenticate()?.resolve_tenant(trail)?.inside;
        inside.runtime.responses.wait_for(id).await;
        let (wanted, wanted_item) = (id.to_owned(), item.to_owned());
        let found = inside.stores(move |store| store.conversation_item(&wanted, &wanted_item));
        let found = found.await?;
        found
            .map(|item| item.body.into())
            .ok_or_else(|| absent_item(id, item))
    }

    /// Removes one item of a conversation.
    pub(super) async fn delete_conversation_item(
        self: Box<Self>,
        id: &str,
        item: &str,
        trail: &mut Trail,
    ) -> Result<Bytes, Refusal> {
        check_no_query(self.head.uri.query().unwrap_or_default())?;
        let inside = self.authenticate()?.resolve_tenant(trail)?.inside;
        inside.runtime.responses.wait_for(id).await;
        let (wanted, wanted_item) = (id.to_owned(), item.to_owned());
        let removed =
            inside.stores(move |store| store.remove_conversation_item(&wanted, &wanted_item));
        if !removed.await? {
            return Err(absent_item(id, item));
        }
        inside.shown_conversation(id).await
    }

    /// Reads the body of a caller that is known; none at all says as little as `{}`.
    async fn read_asked(self: Box<Self>, trail: &mut Trail) -> Result<Asked, Refusal> {
        let resolved = self.authenticate()?.resolve_tenant(trail)?;
        let (inside, arrived) = (resolved.inside, resolved.arrived);
        let (body, _bytes, _tenant_bytes) =
            read_body(arrived.body, &arrived.head.headers, &inside).await?;
        let body = match body.is_empty() {
            true => Bytes::from_static(b"{}"),
            false => body,
        };
        // What no request may say, none that is joined with it may either.
        let bounds = inside.body_bounds();
        let envelope = Envelope::parse(body, &bounds)?;
        Ok(Asked { inside, envelope })
    }
}

impl Inside {
    /// All items of a conversation, if they are no more than a body may be.
    pub(super) async fn items_of_conversation(&self, id: &str) -> Result<Vec<Json>, Refusal> {
        self.runtime.responses.wait_for(id).await;
        let limit = self.tier.body_bytes_max;
        let wanted = id.to_owned();
        let found = self.stores(move |store| store.conversation_items(&wanted, limit));
        match found.await? {
            ConversationItems::Found(items) => Ok(parsed(items)),
            ConversationItems::TooLong => Err(Refusal::TooLarge { limit }),
            ConversationItems::Absent => Err(absent(id)),
        }
    }

    async fn shown_conversation(&self, id: &str) -> Result<Bytes, Refusal> {
        let wanted = id.to_owned();
        let found = self
            .stores(move |store| store.conversation(&wanted))
            .await?;
        found
            .map(|conversation| conversation_json(&conversation))
            .ok_or_else(|| absent(id))
    }

    /// Asks the caller's own store.
    async fn stores<T: Send + 'static>(
        &self,
        act: impl FnOnce(&TenantStore<'_>) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, Refusal> {
        let acted = self.shared.stores.with(&self.scope, act).await;
        acted.map_err(|error| {
            tracing::error!(%error, "a tenant's conversations cannot be read or written");
            Refusal::from(&error)
        })
    }
}

/// Items with an id each: their own, or one that is made of the request's digits.
pub(super) fn named_items(items: &[Json], digits: &str) -> Result<Vec<Json>, InvalidRequest> {
    let named = items.iter().enumerate().map(|(index, item)| {
        let given = item.raw().get("id");
        match given.filter(|id| id.kind() != Some(Kind::Null)) {
            None => {
                let id = format!("{}_{digits}_in{index}", item_id_prefix(item));
                Ok(shown_item(item, &id))
            }
            Some(id) => match id.as_str().filter(|id| is_item_id(id)) {
                Some(id) => Ok(shown_item(item, &id)),
                None => Err(InvalidRequest::new(
                    "an item's 'id' has up to 128 letters, digits, '_' and '-'; without one it is given one",
                    "id",
                    "invalid_value",
                )),
            },
        }
    });
    named.collect()
}

fn is_item_id(id: &str) -> bool {
    let is_part = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    (1..=ITEM_ID_BYTES_MAX).contains(&id.len()) && id.bytes().all(is_part)
}

/// Items as they are stored. Each has an id that is written as it is read: see [`named_items`].
pub(super) fn stored(items: &[Json]) -> Vec<ConversationItem> {
    let item = |item: &Json| ConversationItem {
        id: id_of(item).unwrap_or_default().to_owned(),
        body: item.as_bytes().to_vec(),
    };
    items.iter().map(item).collect()
}

fn parsed(items: Vec<ConversationItem>) -> Vec<Json> {
    let items = items.into_iter();
    items
        .filter_map(|item| Json::parse(item.body.into()).ok())
        .collect()
}

fn read_items(envelope: &Envelope) -> Result<Vec<Json>, InvalidRequest> {
    let items = added_items(envelope)?;
    if items.len() > ADDED_MAX {
        return Err(InvalidRequest::new(
            format!("'items' has up to {ADDED_MAX} items at a time"),
            "items",
            "array_above_max_length",
        ));
    }
    Ok(items)
}

fn only_fields(envelope: &Envelope, known: &[&str]) -> Result<(), Refusal> {
    match envelope
        .fields()
        .find(|field| !known.contains(&&*field.name))
    {
        Some(field) => Err(unknown(&field.name)),
        None => Ok(()),
    }
}

/// The metadata of a request, as a JSON object; empty if it says none.
fn metadata_of(envelope: &Envelope) -> Result<Vec<u8>, InvalidRequest> {
    let invalid = |message: String| InvalidRequest::new(message, "metadata", "invalid_metadata");
    let given = envelope.get("metadata");
    let Some(given) = given.filter(|given| given.kind() != Some(Kind::Null)) else {
        return Ok(b"{}".to_vec());
    };
    if given.kind() != Some(Kind::Object) || given.fields().count() > PAIRS_MAX {
        return Err(invalid(format!(
            "'metadata' is an object of up to {PAIRS_MAX} texts"
        )));
    }
    for (key, value) in given.fields() {
        if key.decode().chars().count() > NAME_CHARS_MAX {
            return Err(invalid(format!(
                "a key of 'metadata' has up to {NAME_CHARS_MAX} characters"
            )));
        }
        let is_short = |text: &str| text.chars().count() <= VALUE_CHARS_MAX;
        if !Raw::as_str(value).is_some_and(|text| is_short(&text)) {
            return Err(invalid(format!(
                "a value of 'metadata' is a text of up to {VALUE_CHARS_MAX} characters"
            )));
        }
    }
    Ok(given.bytes().to_vec())
}

fn conversation_json(conversation: &StoredConversation) -> Bytes {
    let metadata: Value = serde_json::from_slice(&conversation.metadata).unwrap_or_default();
    let shown = json!({
        "id": conversation.id,
        "object": "conversation",
        "created_at": conversation.created_at.as_seconds(),
        "metadata": metadata,
    });
    shown.to_string().into()
}

fn check_added(added: Added, id: &str) -> Result<(), Refusal> {
    match added {
        Added::All => Ok(()),
        Added::Absent => Err(absent(id)),
        Added::Duplicate(item) => Err(duplicate(&item, "items").into()),
        Added::NoRoom => Err(Refusal::ConversationsFull),
    }
}

/// An item that a conversation has already.
pub(super) fn duplicate(item: &str, param: &str) -> InvalidRequest {
    let item = shown(item);
    InvalidRequest::new(
        format!(
            "Duplicate item found with id {item}. Remove duplicate items from your input and try again."
        ),
        param,
        "duplicate_item",
    )
}

fn absent(id: &str) -> Refusal {
    Refusal::NoSuchConversation(shown(id))
}

fn absent_item(id: &str, item: &str) -> Refusal {
    Refusal::NoSuchConversationItem {
        conversation: shown(id),
        item: shown(item),
    }
}

fn shown(id: &str) -> String {
    id.chars().take(64).collect()
}
