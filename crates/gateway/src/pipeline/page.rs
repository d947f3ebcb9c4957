//! Lists by pages, as OpenAI has them: `limit`, `order`, `after`.

use bytes::Bytes;
use models::{InvalidRequest, Json};
use serde_json::{Value, json};
use store::ItemOrder;

use super::responses::id_of;
use crate::refusal::Refusal;

/// How many items are listed unless the caller says otherwise, and how many at most.
const LISTED: usize = 20;
const LISTED_MAX: usize = 100;
/// What a client may ask to see more of. Whatever is there is always shown.
const INCLUDABLE: [&str; 8] = [
    "code_interpreter_call.outputs",
    "computer_call_output.output.image_url",
    "file_search_call.results",
    "message.input_image.image_url",
    "message.output_text.logprobs",
    "reasoning.encrypted_content",
    "web_search_call.action.sources",
    "web_search_call.results",
];

/// Which items are asked for.
pub(super) struct PageQuery {
    pub(super) limit: usize,
    pub(super) after: Option<String>,
    /// The newest first, unless `order=asc`.
    pub(super) order: ItemOrder,
}

impl PageQuery {
    pub(super) fn parse(query: &str) -> Result<Self, Refusal> {
        let mut page = Self {
            limit: LISTED,
            after: None,
            order: ItemOrder::Descending,
        };
        for (name, value) in url::form_urlencoded::parse(query.as_bytes()) {
            match (&*name, &*value) {
                ("order", "asc") => page.order = ItemOrder::Ascending,
                ("order", "desc") => page.order = ItemOrder::Descending,
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
                (name, value) => includes(name, value)?,
            }
        }
        Ok(page)
    }
}

/// Checks a query that may say `include` and nothing else.
pub(super) fn check_include(query: &str) -> Result<(), Refusal> {
    url::form_urlencoded::parse(query.as_bytes())
        .try_for_each(|(name, value)| includes(&name, &value))
}

/// Checks that nothing is asked.
pub(super) fn check_no_query(query: &str) -> Result<(), Refusal> {
    match url::form_urlencoded::parse(query.as_bytes()).next() {
        Some((name, _)) => Err(unknown(&name)),
        None => Ok(()),
    }
}

fn includes(name: &str, value: &str) -> Result<(), Refusal> {
    if !matches!(name, "include" | "include[]") {
        return Err(unknown(name));
    }
    if value.split(',').all(|value| INCLUDABLE.contains(&value)) {
        return Ok(());
    }
    Err(Refusal::Invalid(InvalidRequest::new(
        format!("'include' is one of {}", INCLUDABLE.join(", ")),
        "include",
        "invalid_value",
    )))
}

/// A parameter that is not known here.
pub(super) fn unknown(name: &str) -> Refusal {
    let name: String = name.chars().take(64).collect();
    Refusal::Invalid(InvalidRequest::new(
        format!("Unknown parameter: '{name}'."),
        &name,
        "unknown_parameter",
    ))
}

/// `after` names nothing.
pub(super) fn no_such_place() -> Refusal {
    Refusal::Invalid(InvalidRequest::new(
        "'after' names no item of the list",
        "after",
        "invalid_value",
    ))
}

/// A page, in OpenAI's form.
pub(super) fn list_json(items: &[Json], has_more: bool) -> Bytes {
    let id = |item: Option<&Json>| item.and_then(id_of).map_or(Value::Null, Value::from);
    let head = json!({
        "object": "list",
        "first_id": id(items.first()),
        "last_id": id(items.last()),
        "has_more": has_more,
    });
    let mut list = head.to_string().into_bytes();
    list.pop();
    list.extend_from_slice(b",\"data\":[");
    for (index, item) in items.iter().enumerate() {
        if index > 0 {
            list.push(b',');
        }
        list.extend_from_slice(item.as_bytes());
    }
    list.extend_from_slice(b"]}");
    list.into()
}
