//! Responses that go on from others: a request is joined with the items of those that it names,
//! and a response is kept in its tenant's own store, so that others can go on from it.

use std::collections::HashMap;
use std::sync::Arc;

use base::RequestId;
use bytes::Bytes;
use models::{
    Envelope, InvalidRequest, Json, Kind, Raw, ResponseEcho, input_items, join_items, output_items,
    without_state,
};
use parking_lot::Mutex;
use store::{ResponseBounds, ResponseChain, StoreError, StoredResponse};
use tokio::sync::watch;

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
    /// The items of its own input, as a JSON array.
    input: Bytes,
}

/// A response that has begun, and the request that is to be answered for it.
pub(super) struct BegunResponse {
    pub(super) state: ResponseState,
    /// The request with the items that it goes on from; none if it stands for itself.
    pub(super) joined: Option<Bytes>,
}

/// The responses of one tenant that are on their way to its store: whoever asks for one waits
/// until it is there.
#[derive(Debug, Default)]
pub(crate) struct PendingResponses(Mutex<HashMap<String, watch::Receiver<()>>>);

impl PendingResponses {
    async fn wait_for(&self, id: &str) {
        let pending = self.0.lock().get(id).cloned();
        if let Some(mut pending) = pending {
            // An error is the end that is waited for: the sender is gone.
            drop(pending.changed().await);
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
        if is_given("conversation") {
            return Err(Refusal::Invalid(InvalidRequest::new(
                "'conversation' is not supported: go on with 'previous_response_id'",
                "conversation",
                "unsupported_parameter",
            )));
        }
        if is_given("store") {
            envelope.bool("store").transpose()?;
        }
        let own = input_items(envelope)?;
        let mut previous = String::new();
        if is_given("previous_response_id") {
            let id = envelope.str("previous_response_id").transpose()?;
            previous = id.unwrap_or_default().into_owned();
        }
        let chain = match previous.is_empty() {
            true => Vec::new(),
            false => self.chain(&previous).await?,
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
        let id = request.to_string();
        Ok(BegunResponse {
            state: ResponseState {
                id: format!("resp_{}", id.strip_prefix("req_").unwrap_or(&id)),
                echo: ResponseEcho::of(envelope),
                previous,
                input: array(&own),
            },
            joined: joined.map(|items| without_state(envelope, items).to_bytes()),
        })
    }

    /// A response and all that it goes on from, the oldest first.
    async fn chain(&self, id: &str) -> Result<Vec<StoredResponse>, Refusal> {
        self.runtime.responses.wait_for(id).await;
        let now = self.shared.clock.now();
        let limit = self
            .configuration
            .snapshot
            .tier_of(&self.tenant)
            .body_bytes_max;
        let wanted = id.to_owned();
        let found = self.shared.stores.with(&self.scope, move |store| {
            store.response_chain(&wanted, now, limit, &ResponseBounds::default())
        });
        match found.await.map_err(unreadable)? {
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
    pub(super) async fn keep(self, inside: &Inside, body: Bytes) -> Bytes {
        if !self.echo.is_stored() {
            return body;
        }
        let id = self.id.clone();
        match keep(inside, self.complete(&body)).await {
            Ok(()) => body,
            Err(error) => {
                tracing::error!(%error, id, "a response could not be kept");
                not_stored(body)
            }
        }
    }

    /// Looks for the whole response in a piece of its stream, and keeps it when it comes. Pieces
    /// are whole events. Whoever asks for it meanwhile waits.
    pub(super) fn see(&mut self, piece: &[u8], inside: &Arc<Inside>) {
        if !self.echo.is_stored() {
            return;
        }
        let Some(body) = complete_response(piece) else {
            return;
        };
        let response = Self {
            id: self.id.clone(),
            echo: ResponseEcho::default(),
            previous: self.previous.clone(),
            input: self.input.clone(),
        };
        let response = response.complete(body);
        let (kept, pending) = watch::channel(());
        let id = self.id.clone();
        inside
            .runtime
            .responses
            .0
            .lock()
            .insert(id.clone(), pending);
        let inside = Arc::clone(inside);
        let supervisor = inside.shared.supervisor.clone();
        supervisor.spawn(async move {
            if let Err(error) = keep(&inside, response).await {
                tracing::error!(%error, id, "a response could not be kept");
            }
            inside.runtime.responses.0.lock().remove(&id);
            drop(kept);
        });
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

async fn keep(inside: &Inside, response: StoredResponse) -> Result<(), StoreError> {
    let now = inside.shared.clock.now();
    let stores = &inside.shared.stores;
    stores
        .with(&inside.scope, move |store| {
            store.keep_response(&response, now, &ResponseBounds::default())
        })
        .await
}

/// The response with `"store": false`.
fn not_stored(body: Bytes) -> Bytes {
    let bounds = models::Bounds::default();
    match Envelope::parse(body.clone(), &bounds) {
        Ok(envelope) => {
            let mut rebuild = models::Rebuild::from(&envelope);
            rebuild.set("store", false);
            rebuild.finish().to_bytes()
        }
        Err(_) => body,
    }
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
    input
        .filter_map(|item| Json::parse(Bytes::copy_from_slice(item.bytes())).ok())
        .collect()
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
    Refusal::Internal
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
