//! What is stored between responses, as pure functions: the gateway keeps the items.
//!
//! A response is stored as the items of its input ([`input_items`]) and of its output
//! ([`output_items`]). A request that goes on from it is joined with them ([`join_items`]) and
//! freed of what names them ([`without_state`]); what comes out is a request like any other, and
//! is to be checked, bounded and counted as one.

use bytes::Bytes;

use crate::dialect::write;
use crate::envelope::{Envelope, Kind};
use crate::error::InvalidRequest;
use crate::json::Json;
use crate::raw::Raw;
use crate::rebuild::{Rebuild, RebuiltBody};

/// The items of a request's `input`; a text is one message.
///
/// # Errors
/// `input` is neither a text nor an array of objects.
pub fn input_items(request: &Envelope) -> Result<Vec<Json>, InvalidRequest> {
    let input = request.get("input");
    let Some(input) = input.filter(|input| input.kind() != Some(Kind::Null)) else {
        return Ok(Vec::new());
    };
    match input.kind() {
        Some(Kind::String) => Ok(vec![user_message(input)]),
        Some(Kind::Array) => input
            .elements()
            .map(|item| match item.kind() {
                Some(Kind::Object) => Ok(owned(item)),
                _ => Err(wrong_input()),
            })
            .collect(),
        _ => Err(wrong_input()),
    }
}

fn wrong_input() -> InvalidRequest {
    let message = "Invalid type for 'input': expected a string or an array of objects.";
    InvalidRequest::new(message, "input", "invalid_type")
}

fn user_message(text: Raw<'_>) -> Json {
    let mut out = Vec::new();
    write::object(&mut out, |to| {
        to.set("type", "message").set("role", "user");
        to.array("content", |to| {
            to.object(|to| {
                to.set("type", "input_text").json("text", &owned(text));
            });
        });
    });
    Json::valid(out)
}

fn owned(value: Raw<'_>) -> Json {
    Json::valid(Bytes::copy_from_slice(value.bytes()))
}

/// Stored items, then a request's own, as the array that is to be its `input`. An item that
/// names another (`item_reference`) becomes the one that `find` gives for its id.
///
/// # Errors
/// A reference names nothing that `find` knows.
pub fn join_items(
    stored: &[Json],
    own: &[Json],
    find: impl Fn(&str) -> Option<Json>,
) -> Result<Json, InvalidRequest> {
    let mut out = Vec::new();
    write::array(&mut out, |to| {
        stored.iter().for_each(|item| to.json(item));
        for (index, item) in own.iter().enumerate() {
            match referenced(item) {
                None => to.json(item),
                Some(id) => to.json(&find(&id).ok_or_else(|| {
                    InvalidRequest::new(
                        format!("Item with id '{}' not found.", shortened(&id)),
                        &format!("input[{index}].id"),
                        "item_not_found",
                    )
                })?),
            }
        }
        Ok::<_, InvalidRequest>(())
    })?;
    Ok(Json::valid(out))
}

/// The id that a reference names. `{"id"}` alone is one too.
fn referenced(item: &Json) -> Option<String> {
    let kind = item.raw().get("type").and_then(Raw::as_str);
    let id = item.raw().get("id").and_then(Raw::as_str)?;
    match kind.as_deref() {
        Some("item_reference") => Some(id.into_owned()),
        None if item.raw().fields().count() == 1 => Some(id.into_owned()),
        _ => None,
    }
}

fn shortened(id: &str) -> &str {
    &id[..id.floor_char_boundary(64)]
}

/// The request with these items as its input, and without what names stored ones.
pub fn without_state(request: &Envelope, items: Json) -> RebuiltBody {
    let mut rebuild = Rebuild::from(request);
    rebuild
        .set("input", items)
        .remove("previous_response_id")
        .remove("conversation");
    rebuild.finish()
}

/// The items of a response's `output`, each with its id: a client may name them later.
pub fn output_items(response: &[u8]) -> Vec<Json> {
    let output = Raw::new(response).get("output");
    let items = output.into_iter().flat_map(Raw::elements);
    items.map(owned).collect()
}
