//! `GET` and `DELETE /v1/responses/{id}`, and its `input_items`: in the caller's own tenant.
//! What is absent and what is another tenant's look alike.

use bytes::Bytes;
use models::{Json, shown_item};
use serde_json::json;
use store::ItemOrder;

use super::arrive::Arrived;
use super::page::{PageQuery, check_no_query, list_json, no_such_place};
use super::responses::{id_of, input_of};
use super::trail::Trail;
use crate::refusal::Refusal;

const INPUT_ITEMS: &str = "/input_items";

impl Arrived {
    /// A stored response, or the items of its input.
    pub(super) async fn stored(
        self: Box<Self>,
        rest: &str,
        trail: &mut Trail,
    ) -> Result<Bytes, Refusal> {
        let query = self.head.uri.query().unwrap_or_default().to_owned();
        let inside = self.authenticate()?.resolve_tenant(trail)?.inside;
        let id = rest.strip_suffix(INPUT_ITEMS).unwrap_or(rest);
        let found = inside.stored_response(id).await?;
        let response = found.ok_or_else(|| Refusal::NoSuchResponse(shown(id)))?;
        if rest.ends_with(INPUT_ITEMS) {
            let query = PageQuery::parse(&query)?;
            return page(query, &response.id, input_of(&response));
        }
        check_no_query(&query)?;
        Ok(response.body.into())
    }

    /// Removes a stored response.
    pub(super) async fn unstore(
        self: Box<Self>,
        id: &str,
        trail: &mut Trail,
    ) -> Result<Bytes, Refusal> {
        let inside = self.authenticate()?.resolve_tenant(trail)?.inside;
        if !inside.remove_response(id).await? {
            return Err(Refusal::NoSuchResponse(shown(id)));
        }
        let gone = json!({"id": id, "object": "response", "deleted": true});
        Ok(gone.to_string().into())
    }
}

/// A page of the items of a response's input. An item that its client gave no id has one by its
/// place.
fn page(query: PageQuery, response: &str, items: Vec<Json>) -> Result<Bytes, Refusal> {
    let response = response.strip_prefix("resp_").unwrap_or(response);
    let named = items.iter().enumerate().map(|(index, item)| {
        let assigned = format!("in_{response}_{index}");
        shown_item(item, id_of(item).unwrap_or(&assigned))
    });
    let mut items: Vec<Json> = named.collect();
    if query.order == ItemOrder::Descending {
        items.reverse();
    }
    if let Some(after) = &query.after {
        let place = items.iter().position(|item| id_of(item) == Some(after));
        items.drain(..=place.ok_or_else(no_such_place)?);
    }
    let has_more = items.len() > query.limit;
    items.truncate(query.limit);
    Ok(list_json(&items, has_more))
}

fn shown(id: &str) -> String {
    id.chars().take(64).collect()
}
