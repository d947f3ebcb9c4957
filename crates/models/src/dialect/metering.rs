//! Metering answers that are passed on as they are.

use super::Dialect;
use super::openai_responses::read_usage as read_responses;
use super::read::At;
use super::usage::{AnthropicUsage, read_openai};
use crate::chunk::{ChunkKind, Delta};
use crate::envelope::Kind;
use crate::raw::Raw;
use crate::usage::Usage;

impl Dialect {
    /// What a whole answer says that it cost. `None` if it says nothing. Only the usage is read:
    /// what else is in the body may be anything.
    pub fn usage_in(self, body: &[u8]) -> Option<Usage> {
        let root = At::root(Raw::new(body));
        match self {
            Self::OpenAiChat => read_openai(&root.get("usage")?),
            Self::OpenAiResponses => read_responses(&root.get("usage")?).ok()?,
            Self::Anthropic => {
                let mut usage = AnthropicUsage::default();
                usage.read(&root.get("usage")?).ok()?;
                usage.tokens()
            }
            Self::Gemini | Self::Bedrock | Self::Cohere => self.read_answer(body).ok()?.usage,
        }
    }
}

/// Tells what an event of a stream of Responses is, by its data, as
/// [`classify`](crate::classify) does for OpenAI's chat. The last event has the usage, as
/// `ContentWithUsage`.
pub fn classify_responses(data: &[u8]) -> ChunkKind {
    let event = Raw::new(data);
    if event.kind() != Some(Kind::Object) {
        return ChunkKind::Other;
    }
    let kind = event.get("type").and_then(Raw::as_str);
    let nothing = ChunkKind::Content(Delta::default());
    match kind.as_deref().unwrap_or_default() {
        "response.completed" | "response.incomplete" => {
            let response = event.get("response");
            let usage = response.and_then(|response| response.get("usage"));
            let usage = usage.filter(|usage| usage.kind() == Some(Kind::Object));
            match usage.and_then(|usage| read_responses(&At::root(usage)).ok()?) {
                Some(usage) => ChunkKind::ContentWithUsage(usage, Delta::default()),
                None => nothing,
            }
        }
        "response.failed" | "error" => ChunkKind::Error,
        // A call's name is output too.
        "response.output_item.added" => {
            let item = event.get("item");
            ChunkKind::Content(said(item.and_then(|item| item.get("name"))))
        }
        kind if kind.ends_with(".delta") => ChunkKind::Content(said(event.get("delta"))),
        _ => nothing,
    }
}

/// The bytes of a text, as written in JSON.
fn said(text: Option<Raw<'_>>) -> Delta {
    let text = text.filter(|text| text.kind() == Some(Kind::String));
    let content_bytes = text.map_or(0, |text| (text.bytes().len() as u64).saturating_sub(2));
    Delta {
        choices: u32::from(content_bytes > 0),
        content_bytes,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::usage::Usage;

    #[test]
    fn each_dialects_usage_is_found() {
        let check = |dialect: Dialect, body: &str, expected: Option<[u64; 3]>| {
            let usage = dialect.usage_in(body.as_bytes());
            let counts = usage.map(|usage| {
                [
                    usage.input_tokens,
                    usage.cached_read_tokens,
                    usage.output_tokens,
                ]
            });
            assert_eq!(counts, expected, "{body}");
        };
        let counts = Some([100, 60, 7]);
        check(
            Dialect::OpenAiChat,
            r#"{"usage":{"prompt_tokens":100,"prompt_tokens_details":{"cached_tokens":60},"completion_tokens":7}}"#,
            counts,
        );
        check(
            Dialect::OpenAiResponses,
            r#"{"output":[{"type":"web_search_call"}],"usage":{"input_tokens":100,
                "input_tokens_details":{"cached_tokens":60},"output_tokens":7}}"#,
            counts,
        );
        check(
            Dialect::Anthropic,
            r#"{"content":7,"usage":{"input_tokens":40,"cache_read_input_tokens":60,"output_tokens":7}}"#,
            counts,
        );
        check(
            Dialect::Gemini,
            r#"{"candidates":[{}],"usageMetadata":{"promptTokenCount":100,
                "cachedContentTokenCount":60,"candidatesTokenCount":7}}"#,
            counts,
        );
        for dialect in Dialect::ALL {
            for none in ["", "{}", r#"{"usage":null}"#, r#"{"usage":7}"#] {
                check(dialect, none, None);
            }
        }
    }

    #[test]
    fn a_stream_of_responses_is_counted_as_it_passes() {
        let content = |choices, content_bytes| {
            ChunkKind::Content(Delta {
                choices,
                content_bytes,
            })
        };
        let used = Usage {
            input_tokens: 9,
            output_tokens: 4,
            reasoning_tokens: 3,
            ..Usage::default()
        };
        for (data, expected) in [
            ("[DONE]", ChunkKind::Other),
            (
                r#"{"type":"response.created","response":{}}"#,
                content(0, 0),
            ),
            (
                r#"{"type":"response.output_text.delta","delta":"Hel"}"#,
                content(1, 3),
            ),
            (
                r#"{"type":"response.output_text.done","text":"Hello"}"#,
                content(0, 0),
            ),
            (
                r#"{"type":"response.function_call_arguments.delta","delta":"{\"a\""}"#,
                content(1, 6),
            ),
            (
                r#"{"type":"response.output_item.added","item":{"type":"function_call","name":"add"}}"#,
                content(1, 3),
            ),
            (
                r#"{"type":"response.completed","response":{"usage":{"input_tokens":9,
                    "output_tokens":4,"output_tokens_details":{"reasoning_tokens":3}}}}"#,
                ChunkKind::ContentWithUsage(used, Delta::default()),
            ),
            (
                r#"{"type":"response.incomplete","response":{"usage":null}}"#,
                content(0, 0),
            ),
            (r#"{"type":"response.failed"}"#, ChunkKind::Error),
            (r#"{"type":"error","code":"x"}"#, ChunkKind::Error),
        ] {
            assert_eq!(classify_responses(data.as_bytes()), expected, "{data}");
        }
    }
}
