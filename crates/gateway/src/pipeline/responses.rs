//! Responses that go on from others: a request is joined with the items of those that it names,
//! and a response is kept in its tenant's own store, so that others can go on from it.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use base::RequestId;
use bytes::Bytes;
use models::{
    Envelope, InvalidRequest, Json, Kind, Raw, ResponseEcho, conversation_of, input_items,
    item_id_prefix, join_items, output_items, shown_item, without_state,
};
use parking_lot::Mutex;
use store::{
    Added, ConversationBounds, ResponseBounds, ResponseChain, StoreError, StoredResponse,
    TenantStore,
};
use tokio::sync::watch;

use super::conversations::{self, duplicate};
use super::resolve::Inside;
use crate::refusal::Refusal;

/// Responses whose items one request may name: each is a look into the store.
const REFERENCES_MAX: usize = 32;

/// What is to be known of a response until it is complete.
#[derive(Debug)]
pub(super) struct ResponseState {
    /// Its id.
    pub(super) id: String,
    /// What of the request it says again.
    pub(super) echo: ResponseEcho,
    previous: String,
    /// The conversation that its items are added to.
    conversation: Option<String>,
    /// The items of its own input, as a JSON array.
    input: Bytes,
}

/// A response that has begun, and the request that is to be answered for it.
pub(super) struct BegunResponse {
    pub(super) state: ResponseState,
    /// The request with the items that it goes on from; none if it stands for itself.
    pub(super) joined: Option<Bytes>,
}

/// The responses of one tenant that are on their way to its store, by their ids and by those of
/// their conversations: whoever asks for one waits until it is there. As many as calls can end at
/// a time.
#[derive(Debug, Default)]
pub(crate) struct PendingResponses(Mutex<HashMap<String, Vec<watch::Receiver<()>>>>);

impl PendingResponses {
    /// Waits for what is on its way to a response or a conversation by now.
    pub(super) async fn wait_for(&self, id: &str) {
        let pending = self.0.lock().get(id).cloned();
        for mut pending in pending.into_iter().flatten() {
            // An error is the end that is waited for: the sender is gone.
            drop(pending.changed().await);
        }
    }

    /// From now on others wait, until the sender goes to [`Self::arrived`].
    fn expect(&self, ids: &[String]) -> watch::Sender<()> {
        let (sender, pending) = watch::channel(());
        let mut all = self.0.lock();
        for id in ids {
            all.entry(id.clone()).or_default().push(pending.clone());
        }
        sender
    }

    fn arrived(&self, ids: &[String], sender: watch::Sender<()>) {
        drop(sender);
        let mut all = self.0.lock();
        for id in ids {
            if let Some(pending) = all.get_mut(id) {
                pending.retain(|pending| pending.has_changed().is_ok());
                if pending.is_empty() {
                    all.remove(id);
                }
            }
        }
    }
}

impl Inside {
    /// Reads what a request says of other responses, and joins their items with its own.
    pub(super) async fn begin_response(
        &self,
        envelope: &Envelope,
        request: RequestId,
    ) -> Result<BegunResponse, Refusal> {
        let is_given = |name: &str| !matches!(envelope.kind(name), None | Some(Kind::Null));
        let conversation = conversation_of(envelope)?;
        if conversation.is_some() && is_given("previous_response_id") {
            return Err(Refusal::Invalid(InvalidRequest::new(
                "Mutually exclusive parameters: 'conversation' and 'previous_response_id'. Provide one of them.",
                "previous_response_id",
                "mutually_exclusive_parameters",
            )));
        }
        if is_given("store") {
            envelope.bool("store").transpose()?;
        }
        let own = input_items(envelope)?;
        let request = request.to_string();
        let digits = request.strip_prefix("req_").unwrap_or(&request);
        let mut state = ResponseState {
            id: format!("resp_{digits}"),
            echo: ResponseEcho::of(envelope),
            previous: String::new(),
            conversation,
            input: array(&own),
        };
        if let Some(conversation) = &state.conversation {
            let before = self.items_of_conversation(conversation).await?;
            let own = self.own_items(&own, &before, digits).await?;
            state.input = array(&own);
            let joined = join_items(&before, &own, |_| None)?;
            let joined = Some(without_state(envelope, joined).to_bytes());
            return Ok(BegunResponse { state, joined });
        }
        if is_given("previous_response_id") {
            let id = envelope.str("previous_response_id").transpose()?;
            state.previous = id.unwrap_or_default().into_owned();
        }
        let chain = match state.previous.is_empty() {
            true => Vec::new(),
            false => self.chain(&state.previous).await?,
        };
        let stored: Vec<Json> = chain.iter().flat_map(items_of).collect();
        let named = self.named_items(&own).await?;
        let joined = (!chain.is_empty() || named.is_some()).then(|| {
            let known = || stored.iter().chain(named.iter().flatten());
            join_items(&stored, &own, |id| {
                known().find(|item| id_of(item) == Some(id)).cloned()
            })
        });
        let joined = joined.transpose()?;
        Ok(BegunResponse {
            state,
            joined: joined.map(|items| without_state(envelope, items).to_bytes()),
        })
    }

    /// The items of a request's own input as its conversation is to have them: whole, and each
    /// with an id that is not there yet.
    async fn own_items(
        &self,
        own: &[Json],
        before: &[Json],
        digits: &str,
    ) -> Result<Vec<Json>, Refusal> {
        let named = self.named_items(own).await?;
        let whole = join_items(&[], own, |id| {
            let known = before.iter().chain(named.iter().flatten());
            known
                .into_iter()
                .find(|item| id_of(item) == Some(id))
                .cloned()
        })?;
        let whole: Vec<Json> = whole.raw().elements().filter_map(owned).collect();
        let own = conversations::named_items(&whole, digits)?;
        let mut ids: HashSet<&str> = before.iter().filter_map(id_of).collect();
        match own.iter().filter_map(id_of).find(|id| !ids.insert(id)) {
            Some(twice) => Err(duplicate(twice, "input").into()),
            None => Ok(own),
        }
    }

    /// A response and all that it goes on from, the oldest first.
    async fn chain(&self, id: &str) -> Result<Vec<StoredResponse>, Refusal> {
        self.runtime.responses.wait_for(id).await;
        let now = self.shared.clock.now();
        let limit = self.tier.body_bytes_max;
        let wanted = id.to_owned();
        let found = self.shared.stores.with(&self.scope, move |store| {
            store.response_chain(&wanted, now, limit, &ResponseBounds::default())
        });
        match found.await.map_err(unreadable)? {
            ResponseChain::Found(chain) if chain.last().is_some_and(is_of_conversation) => {
                Err(Refusal::Invalid(InvalidRequest::new(
                    "the response belongs to a conversation: go on with 'conversation'",
                    "previous_response_id",
                    "invalid_value",
                )))
            }
            ResponseChain::Found(chain) => Ok(chain),
            ResponseChain::TooLong => Err(Refusal::TooLarge { limit }),
            ResponseChain::Absent => Err(Refusal::Invalid(InvalidRequest::new(
                format!("Previous response with id '{}' not found.", shortened(id)),
                "previous_response_id",
                "previous_response_not_found",
            ))),
        }
    }

    /// The items of those responses of which the input names items; none if it names none.
    async fn named_items(&self, own: &[Json]) -> Result<Option<Vec<Json>>, Refusal> {
        let mut responses: Vec<String> = own
            .iter()
            .filter(|item| is_reference(item))
            .map(|item| response_of(id_of(item).unwrap_or_default()))
            .collect();
        if responses.is_empty() {
            return Ok(None);
        }
        responses.sort_unstable();
        responses.dedup();
        if responses.len() > REFERENCES_MAX {
            return Err(Refusal::Invalid(InvalidRequest::new(
                format!("'input' names items of more than {REFERENCES_MAX} responses"),
                "input",
                "invalid_value",
            )));
        }
        let mut items = Vec::new();
        for id in responses {
            if let Some(response) = self.stored_response(&id).await? {
                items.extend(items_of(&response));
            }
        }
        Ok(Some(items))
    }

    /// The response of this id, in the caller's tenant.
    pub(super) async fn stored_response(
        &self,
        id: &str,
    ) -> Result<Option<StoredResponse>, Refusal> {
        self.runtime.responses.wait_for(id).await;
        let now = self.shared.clock.now();
        let id = id.to_owned();
        let found = self
            .shared
            .stores
            .with(&self.scope, move |store| store.response(&id, now));
        found.await.map_err(unreadable)
    }

    /// Removes the response of this id. Returns whether it was there.
    pub(super) async fn remove_response(&self, id: &str) -> Result<bool, Refusal> {
        self.runtime.responses.wait_for(id).await;
        let now = self.shared.clock.now();
        let id = id.to_owned();
        let removed = self
            .shared
            .stores
            .with(&self.scope, move |store| store.remove_response(&id, now));
        removed.await.map_err(unreadable)
    }
}

impl ResponseState {
    /// Keeps a whole response before its client has it. One that cannot be kept says so.
    pub(super) async fn keep(mut self, inside: &Inside, mut body: Bytes) -> Bytes {
        let id = self.id.clone();
        if self.conversation.is_some()
            && let Err(error) = self.add_to_conversation(inside, &body).await
        {
            tracing::error!(%error, id, "a response could not be added to its conversation");
            body = edited(body, |rebuild| {
                rebuild.remove("conversation");
            });
        }
        if !self.echo.is_stored() {
            return body;
        }
        match keep(inside, self.complete(&body)).await {
            Ok(()) => body,
            Err(error) => {
                tracing::error!(%error, id, "a response could not be kept");
                edited(body, |rebuild| {
                    rebuild.set("store", false);
                })
            }
        }
    }

    /// Looks for the whole response in a piece of its stream, and keeps it when it comes. Pieces
    /// are whole events. Whoever asks for it meanwhile waits.
    pub(super) fn see(&mut self, piece: &[u8], inside: &Arc<Inside>) {
        let is_stored = self.echo.is_stored();
        if !is_stored && self.conversation.is_none() {
            return;
        }
        let Some(body) = complete_response(piece) else {
            return;
        };
        let mut response = Self {
            id: self.id.clone(),
            echo: ResponseEcho::default(),
            previous: self.previous.clone(),
            conversation: self.conversation.take(),
            input: self.input.clone(),
        };
        let body = Bytes::copy_from_slice(body);
        let ids: Vec<String> = [Some(self.id.clone()), response.conversation.clone()]
            .into_iter()
            .flatten()
            .collect();
        let kept = inside.runtime.responses.expect(&ids);
        let inside = Arc::clone(inside);
        let supervisor = inside.shared.supervisor.clone();
        supervisor.spawn(async move {
            let id = &ids[0];
            if let Err(error) = response.add_to_conversation(&inside, &body).await {
                tracing::error!(%error, id, "a response could not be added to its conversation");
            }
            if is_stored && let Err(error) = keep(&inside, response.complete(&body)).await {
                tracing::error!(%error, id, "a response could not be kept");
            }
            inside.runtime.responses.arrived(&ids, kept);
        });
    }

    /// Adds the items of the input and of the whole response to the conversation, if there is
    /// one: all of them, or none.
    async fn add_to_conversation(
        &mut self,
        inside: &Inside,
        body: &[u8],
    ) -> Result<(), NotInConversation> {
        let Some(conversation) = self.conversation.take() else {
            return Ok(());
        };
        let input = Raw::new(&self.input).elements().filter_map(owned);
        let mut items = conversations::stored(&input.collect::<Vec<_>>());
        let said = output_items(body).into_iter().enumerate();
        let said = said.map(|(index, item)| match id_of(&item) {
            Some(_) => item,
            None => {
                let digits = self.id.strip_prefix("resp_").unwrap_or(&self.id);
                let id = format!("{}_{digits}_{index}", item_id_prefix(&item));
                shown_item(&item, &id)
            }
        });
        items.extend(conversations::stored(&said.collect::<Vec<_>>()));
        let bounds = ConversationBounds::default();
        let add = move |store: &TenantStore<'_>| {
            store.add_conversation_items(&conversation, &items, &bounds)
        };
        match inside.shared.stores.with(&inside.scope, add).await? {
            Added::All => Ok(()),
            Added::Absent => Err(NotInConversation::Absent),
            Added::Duplicate(_) => Err(NotInConversation::Duplicate),
            Added::NoRoom => Err(NotInConversation::NoRoom),
        }
    }

    fn complete(self, body: &[u8]) -> StoredResponse {
        StoredResponse {
            id: self.id,
            previous: self.previous,
            input: self.input.to_vec(),
            body: body.to_vec(),
        }
    }
}

/// Why a response's items are not in its conversation.
#[derive(Debug, thiserror::Error)]
enum NotInConversation {
    #[error("it was removed meanwhile")]
    Absent,
    #[error("it has an item of the same id")]
    Duplicate,
    #[error("it has no room for them")]
    NoRoom,
    #[error(transparent)]
    Store(#[from] StoreError),
}

async fn keep(inside: &Inside, response: StoredResponse) -> Result<(), StoreError> {
    let now = inside.shared.clock.now();
    let stores = &inside.shared.stores;
    stores
        .with(&inside.scope, move |store| {
            store.keep_response(&response, now, &ResponseBounds::default())
        })
        .await
}

/// A response of which something else is so.
fn edited(body: Bytes, edit: impl FnOnce(&mut models::Rebuild<'_>)) -> Bytes {
    let bounds = models::Bounds::default();
    match Envelope::parse(body.clone(), &bounds) {
        Ok(envelope) => {
            let mut rebuild = models::Rebuild::from(&envelope);
            edit(&mut rebuild);
            rebuild.finish().to_bytes()
        }
        Err(_) => body,
    }
}

/// Whether a response's items are in a conversation: it goes on from more than its own.
fn is_of_conversation(response: &StoredResponse) -> bool {
    let conversation = Raw::new(&response.body).get("conversation");
    conversation.is_some_and(|raw| raw.kind() != Some(Kind::Null))
}

/// The response of the event with which its stream ends as it should.
fn complete_response(piece: &[u8]) -> Option<&[u8]> {
    const ENDS: [&[u8]; 2] = [
        b"event: response.completed\ndata: ",
        b"event: response.incomplete\ndata: ",
    ];
    let begins = |end: &&[u8]| piece.windows(end.len()).rposition(|window| window == *end);
    let data = ENDS
        .iter()
        .find_map(|end| begins(end).map(|at| &piece[at + end.len()..]))?;
    let response = Raw::new(data).get("response")?;
    Some(response.bytes())
}

/// The items of a stored response: its input's, then its own.
fn items_of(response: &StoredResponse) -> Vec<Json> {
    let mut items = input_of(response);
    items.extend(output_items(&response.body));
    items
}

/// The items of a stored response's own input.
pub(super) fn input_of(response: &StoredResponse) -> Vec<Json> {
    let input = Raw::new(&response.input).elements();
    input.filter_map(owned).collect()
}

fn owned(item: Raw<'_>) -> Option<Json> {
    Json::parse(Bytes::copy_from_slice(item.bytes())).ok()
}

fn array(items: &[Json]) -> Bytes {
    let mut text = vec![b'['];
    for (index, item) in items.iter().enumerate() {
        if index > 0 {
            text.push(b',');
        }
        text.extend_from_slice(item.as_bytes());
    }
    text.push(b']');
    text.into()
}

fn is_reference(item: &Json) -> bool {
    let kind = item.raw().get("type").and_then(Raw::as_str);
    match kind.as_deref() {
        Some(kind) => kind == "item_reference",
        None => item.raw().fields().count() == 1 && item.raw().get("id").is_some(),
    }
}

/// The id of an item, as it is written.
pub(super) fn id_of(item: &Json) -> Option<&str> {
    let id = item.raw().get("id")?;
    std::str::from_utf8(id.bytes())
        .ok()?
        .strip_prefix('"')?
        .strip_suffix('"')
}

/// The response that an item is of, by the item's id: `msg_…_0` is of `resp_…`.
fn response_of(item: &str) -> String {
    let rest = item.split_once('_').map_or(item, |(_, rest)| rest);
    let id = rest.rsplit_once('_').map_or(rest, |(id, _)| id);
    format!("resp_{id}")
}

fn shortened(id: &str) -> &str {
    &id[..id.floor_char_boundary(64)]
}

fn unreadable(error: StoreError) -> Refusal {
    tracing::error!(%error, "a tenant's responses cannot be read");
    Refusal::from(&error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_items_id_says_whose_it_is() {
        assert_eq!(response_of("msg_01abc_0"), "resp_01abc");
        assert_eq!(response_of("fc_01abc_12"), "resp_01abc");
        assert_eq!(response_of("x"), "resp_x");
    }

    #[test]
    fn the_last_event_has_the_response() {
        let piece = b"event: response.output_text.done\ndata: {\"text\":\"event: response.completed\\ndata: \"}\n\n\
            event: response.completed\ndata: {\"type\":\"response.completed\",\"response\":{\"id\":\"resp_1\"}}\n\n";
        assert_eq!(complete_response(piece), Some(&br#"{"id":"resp_1"}"#[..]));
        assert_eq!(
            complete_response(b"event: response.failed\ndata: {}\n\n"),
            None
        );
    }
}
