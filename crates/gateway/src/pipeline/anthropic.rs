//! What Anthropic's clients are told in a form of their own: models and limits.

use base::Timestamp;
use bytes::Bytes;
use http::header::HeaderName;
use http::{HeaderMap, HeaderValue};
use ledger::{RateSnapshot, RateView};
use models::{InvalidRequest, ModelEntry};
use serde_json::{Value, json};

use crate::refusal::Refusal;

/// Every SDK of Anthropic's sends it, and nobody else.
pub(super) const ANTHROPIC_VERSION: HeaderName = HeaderName::from_static("anthropic-version");
/// How many models are listed unless the client says otherwise, and how many at most: Anthropic's.
const LISTED: usize = 20;
const LISTED_MAX: usize = 1_000;

/// The body of `GET /v1/models` as Anthropic has it; `query` says which page.
pub(super) fn models_json(entries: &[ModelEntry], query: &str) -> Result<Bytes, Refusal> {
    let (mut limit, mut listed) = (LISTED, entries);
    for (name, value) in url::form_urlencoded::parse(query.as_bytes()) {
        let place = || {
            let place = entries.iter().position(|entry| entry.id.as_str() == value);
            place.ok_or_else(|| invalid(&name, "names no model of the list"))
        };
        match &*name {
            "limit" => {
                let asked = value.parse().ok();
                limit = asked
                    .filter(|asked| (1..=LISTED_MAX).contains(asked))
                    .ok_or_else(|| invalid("limit", "is 1 to 1000"))?;
            }
            "after_id" => listed = &entries[place()? + 1..],
            _ => return Err(invalid(&name, "is not known here")),
        }
    }
    let has_more = listed.len() > limit;
    let data: Vec<Value> = listed.iter().take(limit).map(model).collect();
    let id = |model: Option<&Value>| model.map_or(Value::Null, |model| model["id"].clone());
    let list = json!({
        "first_id": id(data.first()),
        "last_id": id(data.last()),
        "has_more": has_more,
        "data": data,
    });
    Ok(list.to_string().into())
}

/// The body of `GET /v1/models/{id}` as Anthropic has it.
pub(super) fn model_json(entry: &ModelEntry) -> Bytes {
    model(entry).to_string().into()
}

/// When a model was made is not known here: Anthropic has the epoch then.
fn model(entry: &ModelEntry) -> Value {
    json!({
        "type": "model",
        "id": entry.id,
        "display_name": entry.id,
        "created_at": "1970-01-01T00:00:00Z",
        "capabilities": null,
        "max_input_tokens": null,
        "max_tokens": null,
    })
}

fn invalid(name: &str, why: &str) -> Refusal {
    let name: String = name.chars().take(64).collect();
    let message = format!("'{name}' {why}");
    Refusal::Invalid(InvalidRequest::new(message, &name, "invalid_value"))
}

/// `anthropic-ratelimit-{requests,tokens}-{limit,remaining,reset}`. Limits on input and output
/// apart are none here, and nothing is said of them.
pub(super) fn rate_headers(rates: &RateSnapshot, now: Timestamp) -> HeaderMap {
    const REQUESTS: [HeaderName; 3] = [
        HeaderName::from_static("anthropic-ratelimit-requests-limit"),
        HeaderName::from_static("anthropic-ratelimit-requests-remaining"),
        HeaderName::from_static("anthropic-ratelimit-requests-reset"),
    ];
    const TOKENS: [HeaderName; 3] = [
        HeaderName::from_static("anthropic-ratelimit-tokens-limit"),
        HeaderName::from_static("anthropic-ratelimit-tokens-remaining"),
        HeaderName::from_static("anthropic-ratelimit-tokens-reset"),
    ];
    let mut headers = HeaderMap::with_capacity(6);
    let mut add = |[limit, remaining, reset]: [HeaderName; 3], view: &Option<RateView>| {
        let Some(view) = view else { return };
        headers.insert(limit, HeaderValue::from(view.limit));
        headers.insert(remaining, HeaderValue::from(view.remaining));
        let at = now.plus(view.reset).to_string();
        let at = HeaderValue::from_str(&at).expect("a time is ASCII");
        headers.insert(reset, at);
    };
    add(REQUESTS, &rates.requests);
    add(TOKENS, &rates.tokens);
    headers
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn models_are_listed_by_pages() {
        let entries = ["a", "b/c", "d"].map(|id| ModelEntry {
            id: id.parse().expect("a name"),
            created_s: 0,
            owned_by: String::new(),
        });
        let page = |query| -> Value {
            let body = models_json(&entries, query).expect("a page");
            serde_json::from_slice(&body).expect("JSON")
        };
        let all = page("");
        assert_eq!(all["data"][1]["display_name"], "b/c");
        assert_eq!(
            (&all["first_id"], &all["last_id"]),
            (&json!("a"), &json!("d"))
        );
        assert_eq!(page("limit=2")["has_more"], true);
        assert_eq!(page("limit=2&after_id=b%2Fc")["data"][0]["id"], "d");
        assert_eq!(page("after_id=d")["first_id"], Value::Null);
        for wrong in ["limit=0", "after_id=x", "before_id=a"] {
            assert!(models_json(&entries, wrong).is_err(), "{wrong}");
        }
    }
}
