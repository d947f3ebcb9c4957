//! What an upstream says that it read and wrote.

use crate::raw::Raw;

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
    /// Only the top level is looked at; all else is passed over.
    pub fn from_response(body: &[u8]) -> Option<Self> {
        Self::from_object(Raw::new(body).get("usage")?)
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
            match &*key.decode() {
                "prompt_tokens" => input = value.as_u64(),
                "completion_tokens" => output = value.as_u64(),
                "prompt_tokens_details" => {
                    [cached_read, cached_write, cached_write_1h] = details(value, DETAILS);
                }
                "completion_tokens_details" => [reasoning] = details(value, ["reasoning_tokens"]),
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
}
