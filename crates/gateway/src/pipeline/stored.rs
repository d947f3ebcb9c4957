//! `GET` and `DELETE /v1/responses/{id}`, and its `input_items`: in the caller's own tenant.
//! What is absent and what is another tenant's look alike.

use bytes::Bytes;
use models::{InvalidRequest, Json};
use serde_json::{Value, json};

use super::arrive::Arrived;
use super::responses::{id_of, input_of};
use super::trail::Trail;
use crate::refusal::Refusal;

/// How many items are listed unless the caller says otherwise, and how many at most.
const LISTED: usize = 20;
const LISTED_MAX: usize = 100;
const INPUT_ITEMS: &str = "/input_items";

impl Arrived {
    /// A stored response, or the items of its input.
    pub(super) async fn stored(self, rest: &str, trail: &mut Trail) -> Result<Bytes, Refusal> {
        let query = self.head.uri.query().unwrap_or_default().to_owned();
        let inside = self.authenticate()?.resolve_tenant(trail)?.inside;
        let id = rest.strip_suffix(INPUT_ITEMS).unwrap_or(rest);
        let found = inside.stored_response(id).await?;
        let response = found.ok_or_else(|| Refusal::NoSuchResponse(shown(id)))?;
        if rest.ends_with(INPUT_ITEMS) {
            let page = Page::parse(&query)?;
            return page.of(&response.id, input_of(&response));
        }
        match url::form_urlencoded::parse(query.as_bytes()).next() {
            Some((name, _)) => Err(unknown(&name)),
            None => Ok(response.body.into()),
        }
    }

    /// Removes a stored response.
    pub(super) async fn unstore(self, id: &str, trail: &mut Trail) -> Result<Bytes, Refusal> {
        let inside = self.authenticate()?.resolve_tenant(trail)?.inside;
        if !inside.remove_response(id).await? {
            return Err(Refusal::NoSuchResponse(shown(id)));
        }
        let gone = json!({"id": id, "object": "response", "deleted": true});
        Ok(gone.to_string().into())
    }
}

/// Which items are asked for.
struct Page {
    limit: usize,
    after: Option<String>,
    /// The newest first, unless `order=asc`.
    is_descending: bool,
}

impl Page {
    fn parse(query: &str) -> Result<Self, Refusal> {
        let mut page = Self {
            limit: LISTED,
            after: None,
            is_descending: true,
        };
        for (name, value) in url::form_urlencoded::parse(query.as_bytes()) {
            match (&*name, &*value) {
                ("order", "asc") => page.is_descending = false,
                ("order", "desc") => page.is_descending = true,
                ("after", _) => page.after = Some(value.into_owned()),
                ("limit", _) => {
                    let limit = value.parse().ok();
                    page.limit = limit
                        .filter(|limit| (1..=LISTED_MAX).contains(limit))
                        .ok_or_else(|| {
                            InvalidRequest::new(
                                "'limit' is 1 to 100",
                                "limit",
                                "integer_out_of_range",
                            )
                        })?;
                }
                (name, _) => return Err(unknown(name)),
            }
        }
        Ok(page)
    }

    /// The list, in OpenAI's form. An item that its client gave no id has one by its place.
    fn of(&self, response: &str, items: Vec<Json>) -> Result<Bytes, Refusal> {
        let response = response.strip_prefix("resp_").unwrap_or(response);
        let named = items.iter().enumerate().map(|(index, item)| {
            let mut value: Value = serde_json::from_slice(item.as_bytes()).unwrap_or_default();
            if id_of(item).is_none() {
                value["id"] = format!("in_{response}_{index}").into();
            }
            value
        });
        let mut items: Vec<Value> = named.collect();
        if self.is_descending {
            items.reverse();
        }
        if let Some(after) = &self.after {
            let place = items.iter().position(|item| item["id"] == after.as_str());
            let place = place.ok_or_else(|| {
                InvalidRequest::new(
                    "'after' names no item of the list",
                    "after",
                    "invalid_value",
                )
            })?;
            items.drain(..=place);
        }
        let has_more = items.len() > self.limit;
        items.truncate(self.limit);
        let id = |item: Option<&Value>| item.map_or(Value::Null, |item| item["id"].clone());
        let list = json!({
            "object": "list",
            "first_id": id(items.first()),
            "last_id": id(items.last()),
            "has_more": has_more,
            "data": items,
        });
        Ok(list.to_string().into())
    }
}

fn unknown(name: &str) -> Refusal {
    let name = shown(name);
    Refusal::Invalid(InvalidRequest::new(
        format!("Unknown parameter: '{name}'."),
        &name,
        "unknown_parameter",
    ))
}

fn shown(id: &str) -> String {
    id.chars().take(64).collect()
}
