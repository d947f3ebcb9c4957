//! What an upstream says that it read and wrote.

use std::sync::LazyLock;

use memchr::memmem::Finder;

use crate::raw::{self, Raw};

/// Tokens of one call, in OpenAI's sense: input includes what was cached, output includes
/// reasoning. Parts are never larger than their whole.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// All input tokens.
    pub input_tokens: u64,
    /// Of them, those read from the provider's cache.
    pub cached_read_tokens: u64,
    /// Of them, those written to the provider's cache.
    pub cached_write_tokens: u64,
    /// Of these, those kept for an hour, which cost more.
    pub cached_write_1h_tokens: u64,
    /// All output tokens.
    pub output_tokens: u64,
    /// Of them, those of reasoning.
    pub reasoning_tokens: u64,
}

impl Usage {
    /// The usage in an answer's body. `None` if it has none: absent, null, or without counts.
    /// Only the top level is looked at; all else is passed over, and what stands before a usage
    /// near the end is not even walked.
    pub fn from_response(body: &[u8]) -> Option<Self> {
        let usage = near_the_end(body).or_else(|| Raw::new(body).get("usage"));
        Self::from_object(usage?)
    }

    /// The usage in the value of `usage`.
    pub fn from_object(usage: Raw<'_>) -> Option<Self> {
        let mut input = None;
        let mut output = None;
        let mut cached_read = 0;
        let mut cached_write = 0;
        let mut cached_write_1h = 0;
        let mut reasoning = 0;
        for (key, value) in usage.fields() {
            match &*key.meaning() {
                b"prompt_tokens" => input = value.as_u64(),
                b"completion_tokens" => output = value.as_u64(),
                b"prompt_tokens_details" => {
                    [cached_read, cached_write, cached_write_1h] = details(value, DETAILS);
                }
                b"completion_tokens_details" => [reasoning] = details(value, ["reasoning_tokens"]),
                _ => {}
            }
        }
        if input.is_none() && output.is_none() {
            return None;
        }
        let input_tokens = input.unwrap_or_default();
        let output_tokens = output.unwrap_or_default();
        let cached_read_tokens = cached_read.min(input_tokens);
        let cached_write_tokens = cached_write.min(input_tokens - cached_read_tokens);
        Some(Self {
            input_tokens,
            cached_read_tokens,
            cached_write_tokens,
            cached_write_1h_tokens: cached_write_1h.min(cached_write_tokens),
            output_tokens,
            reasoning_tokens: reasoning.min(output_tokens),
        })
    }
}

/// What is told of input: read from a cache, written to one, and of that what stays for an hour.
const DETAILS: [&str; 3] = [
    "cached_tokens",
    "cache_write_tokens",
    "cache_write_1h_tokens",
];

/// 1 KiB: a usage with all its details, and the fields that engines write behind it.
const NEAR_BYTES: usize = 1024;

static USAGE: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"\"usage\""));

/// The value of the last `usage` in an object's text, if it is found from the end.
///
/// In a JSON text these letters between quotes are a whole string, unless the first quote is
/// escaped; before a colon they are a key; and a key behind whose value only whole fields come, up
/// to the bracket that ends the text, is one of the outermost object. Whatever does not look so is
/// left to a walk from the beginning.
fn near_the_end(body: &[u8]) -> Option<Raw<'_>> {
    let from = body.len().saturating_sub(NEAR_BYTES);
    let key = from + USAGE.find_iter(&body[from..]).last()?;
    if key == 0 || body[key - 1] == b'\\' {
        return None;
    }
    let (usage, mut at) = raw::field_at(body, key)?;
    loop {
        at = raw::white_space_end(body, at);
        match body.get(at)? {
            b',' => (_, at) = raw::field_at(body, raw::white_space_end(body, at + 1))?,
            b'}' => break,
            _ => return None,
        }
    }
    let is_end = raw::white_space_end(body, at + 1) == body.len();
    is_end.then_some(usage)
}

/// The counts of these names, in one walk; 0 where there is none.
fn details<const N: usize>(details: Raw<'_>, names: [&str; N]) -> [u64; N] {
    let mut counts = [0; N];
    for (key, value) in details.fields() {
        if let Some(place) = names.iter().position(|name| key.is(name)) {
            counts[place] = value.as_u64().unwrap_or_default();
        }
    }
    counts
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    fn check(body: &str, expected: Option<[u64; 5]>) {
        let usage = Usage::from_response(body.as_bytes());
        let counts = usage.map(|usage| {
            [
                usage.input_tokens,
                usage.cached_read_tokens,
                usage.cached_write_tokens,
                usage.output_tokens,
                usage.reasoning_tokens,
            ]
        });
        assert_eq!(counts, expected, "{body}");
    }

    #[test]
    fn all_counts_are_read() {
        check(
            r#"{"id":"x","choices":[{"message":{"content":"\"usage\":{\"prompt_tokens\":1}"}}],
                "usage": {"prompt_tokens": 100, "completion_tokens":20, "total_tokens":120,
                "prompt_tokens_details":{"cached_tokens":64,"cache_write_tokens":8},
                "completion_tokens_details":{"reasoning_tokens":5}}}"#,
            Some([100, 64, 8, 20, 5]),
        );
    }

    #[test]
    fn what_is_missing_counts_nothing() {
        check(
            r#"{"data":[{"embedding":[0.1,-2e-3]}],"usage":{"prompt_tokens":8,"total_tokens":8}}"#,
            Some([8, 0, 0, 0, 0]),
        );
        check(
            r#"{"usage":{"prompt_tokens":8,"completion_tokens":1,"prompt_tokens_details":null,
                "completion_tokens_details":{"reasoning_tokens":null}}}"#,
            Some([8, 0, 0, 1, 0]),
        );
        for none in [
            "",
            "[]",
            r#"{"usage":null}"#,
            r#"{"usage":{}}"#,
            r#"{"x":{"usage":{"prompt_tokens":1}}}"#,
            r#"{"usage":{"prompt_tokens":1"#,
        ] {
            check(none, None);
        }
    }

    #[test]
    fn a_part_is_never_more_than_the_whole() {
        check(
            r#"{"usage":{"prompt_tokens":10,"completion_tokens":1,
                "prompt_tokens_details":{"cached_tokens":7,"cache_write_tokens":9},
                "completion_tokens_details":{"reasoning_tokens":50}}}"#,
            Some([10, 7, 3, 1, 1]),
        );
    }

    #[test]
    fn a_usage_is_the_outermost_objects_own() {
        let usage = Some([7, 0, 0, 2, 0]);
        let own = r#"{"usage":{"prompt_tokens":7,"completion_tokens":2}"#;
        check(&format!("{own}}}"), usage);
        check(&format!("{own} , \"x\": [1,{{\"y\":\"}}\"}}] }}\n "), usage);
        check(&format!("{own},\"x\":\"{}\"}}", "long".repeat(400)), usage);
        // Another's, however near to the end.
        check(&format!("{{\"x\":{own}}}}}"), None);
        check(&format!("[{own}}}]"), None);
        check(&format!("{{\"x\":[{own}}}]}}"), None);
        check(r#"{"x":"\"usage\":{\"prompt_tokens\":7}}"}"#, None);
        check(r#"{"x\"usage":{"prompt_tokens":7}}"#, None);
        check(r#"{"x":"usage"}"#, None);
        // The last is the one that readers take, however it is spelled.
        check(
            &format!("{{\"usage\":{{\"prompt_tokens\":1}},{}}}", &own[1..]),
            usage,
        );
        check(
            &format!("{own},\"\\u0075sage\":{{\"prompt_tokens\":9}}}}"),
            Some([9, 0, 0, 0, 0]),
        );
    }

    fn values() -> impl Strategy<Value = Value> {
        let text = prop::sample::select(vec![
            "usage",
            "\"usage\"",
            "\\",
            "x",
            "}",
            "\"usage\":{\"prompt_tokens\":9}}",
            "prompt_tokens",
        ]);
        let leaf = prop_oneof![
            any::<u8>().prop_map(|number| json!(number)),
            text.clone().prop_map(|text| json!(text)),
            Just(json!({"prompt_tokens": 3, "completion_tokens": 4})),
        ];
        leaf.prop_recursive(4, 40, 4, move |inner| {
            let fields = prop::collection::vec((text.clone(), inner.clone()), 0..4);
            prop_oneof![
                prop::collection::vec(inner, 0..4).prop_map(Value::Array),
                fields.prop_map(|fields| {
                    Value::Object(
                        fields
                            .into_iter()
                            .map(|(key, value)| (key.to_owned(), value))
                            .collect(),
                    )
                }),
            ]
        })
    }

    proptest! {
        #[test]
        fn from_the_end_is_found_what_a_walk_finds(value in values(), pretty: bool) {
            let text = if pretty { serde_json::to_string_pretty(&value) } else { serde_json::to_string(&value) };
            let text = text.unwrap();
            let walked = Raw::new(text.as_bytes()).get("usage");
            if let Some(found) = near_the_end(text.as_bytes()) {
                prop_assert_eq!(Some(found), walked);
            }
            prop_assert_eq!(Usage::from_response(text.as_bytes()), walked.and_then(Usage::from_object));
        }
    }
}
