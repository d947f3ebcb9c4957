//! Counting the tokens of a message that would be sent. Clients ask as Anthropic's do
//! (`/v1/messages/count_tokens`: a message without `max_tokens`), upstreams hear their own words,
//! where they have any for it.
//!
//! What is counted is what the upstream would be asked: the same writer writes it, and what the
//! provider's counting does not take is left out.

use bytes::Bytes;

use super::{Dialect, Flavour, Forced, Untranslatable};
use crate::envelope::Envelope;
use crate::json::Json;
use crate::raw::Raw;
use crate::translation::Translation;

/// How an upstream of another dialect than Anthropic's is asked to count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CountDialect {
    /// OpenAI's `/responses/input_tokens`.
    OpenAi,
    /// Gemini's `countTokens`, by API key.
    Gemini,
    /// Vertex: `countTokens`.
    Vertex,
    /// AWS Bedrock's `CountTokens`, of a conversation.
    Bedrock,
    /// vLLM's `/tokenize`, of a chat. Nothing of it reaches a cache of prompts.
    Vllm,
}

impl CountDialect {
    /// What the upstream is asked.
    ///
    /// # Errors
    /// The message has what the upstream's dialect cannot say.
    pub fn write(self, envelope: &Envelope, forced: &Forced<'_>) -> Result<Bytes, Untranslatable> {
        let (outbound, flavour) = match self {
            Self::OpenAi => (Dialect::OpenAiResponses, Flavour::OpenAi),
            Self::Gemini | Self::Vertex => (Dialect::Gemini, Flavour::OpenAi),
            Self::Bedrock => (Dialect::Bedrock, Flavour::OpenAi),
            Self::Vllm => (Dialect::OpenAiChat, Flavour::Vllm),
        };
        let translation = Translation::new(Dialect::Anthropic, outbound, flavour);
        let asked = translation.request(envelope, forced)?;
        let mut counted = self.only_counted(&asked);
        if self == Self::Gemini {
            // It wants the name that the path has once more, in full.
            let name = Json::of(&format!("models/{}", forced.model));
            let name = name.expect("a string is JSON");
            let first = [b"{\"model\":".as_slice(), name.as_bytes().as_ref(), b","].concat();
            counted.splice(..1, first);
        }
        Ok(match self {
            Self::Gemini => [b"{\"generateContentRequest\":".as_slice(), &counted, b"}"]
                .concat()
                .into(),
            Self::Bedrock => [b"{\"input\":{\"converse\":".as_slice(), &counted, b"}}"]
                .concat()
                .into(),
            Self::OpenAi | Self::Vertex | Self::Vllm => counted.into(),
        })
    }

    /// What is counted of what a model would be asked.
    fn only_counted(self, asked: &[u8]) -> Vec<u8> {
        let names: &[&str] = match self {
            Self::OpenAi => &[
                "model",
                "input",
                "instructions",
                "tools",
                "tool_choice",
                "text",
                "reasoning",
                "parallel_tool_calls",
            ],
            Self::Gemini | Self::Vertex => &["contents", "systemInstruction", "tools"],
            Self::Bedrock => &[
                "messages",
                "system",
                "toolConfig",
                "additionalModelRequestFields",
            ],
            Self::Vllm => &["model", "messages", "tools", "chat_template_kwargs"],
        };
        let mut out = vec![b'{'];
        let fields = Raw::new(asked).fields();
        for (name, value) in fields.filter(|(name, _)| names.iter().any(|it| name.is(it))) {
            if out.len() > 1 {
                out.push(b',');
            }
            out.push(b'"');
            out.extend_from_slice(name.decode().as_bytes());
            out.extend_from_slice(b"\":");
            out.extend_from_slice(value.bytes());
        }
        out.push(b'}');
        out
    }

    /// The count in the upstream's answer; `None` if it has none.
    pub fn read(self, body: &[u8]) -> Option<u64> {
        let name = match self {
            Self::OpenAi => "input_tokens",
            Self::Gemini | Self::Vertex => "totalTokens",
            Self::Bedrock => "inputTokens",
            Self::Vllm => "count",
        };
        Raw::new(body).get(name)?.as_u64()
    }
}

/// `{"input_tokens": n}`, as Anthropic's clients read it.
pub fn count_tokens_json(input_tokens: u64) -> Bytes {
    format!(r#"{{"input_tokens":{input_tokens}}}"#).into()
}

/// The count in an answer of Anthropic's; `None` if it has none.
pub fn read_count_tokens(body: &[u8]) -> Option<u64> {
    Raw::new(body).get("input_tokens")?.as_u64()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::testing::envelope;
    use super::*;

    fn asked(dialect: CountDialect, message: &Value) -> Result<Value, Untranslatable> {
        let forced = Forced {
            model: "there",
            output_tokens: 4_096,
            stream: false,
            salt: None,
        };
        let body = dialect.write(&envelope(message), &forced)?;
        Ok(serde_json::from_slice(&body).expect("it is JSON"))
    }

    fn message() -> Value {
        json!({
            "model": "here", "system": "Be brief.",
            "messages": [{"role": "user", "content": "How long is a wall?"}],
            "tools": [{"name": "measure", "input_schema": {"type": "object", "properties": {}}}],
        })
    }

    fn names(value: &Value) -> Vec<&str> {
        let object = value.as_object().expect("an object");
        object.keys().map(String::as_str).collect()
    }

    #[test]
    fn each_upstream_is_asked_what_its_counting_takes() {
        let of = |dialect| asked(dialect, &message()).expect("it can be said");
        let openai = of(CountDialect::OpenAi);
        assert_eq!(openai["model"], "there");
        assert!(openai.get("max_output_tokens").is_none(), "{openai}");
        assert!(openai.to_string().contains("How long is a wall?"));
        let gemini = of(CountDialect::Gemini);
        let inner = &gemini["generateContentRequest"];
        assert_eq!(inner["model"], "models/there");
        assert_eq!(
            names(inner),
            ["contents", "model", "systemInstruction", "tools"]
        );
        let vertex = of(CountDialect::Vertex);
        assert_eq!(names(&vertex), ["contents", "systemInstruction", "tools"]);
        let bedrock = of(CountDialect::Bedrock);
        let inner = &bedrock["input"]["converse"];
        assert_eq!(names(inner), ["messages", "system", "toolConfig"]);
        let vllm = of(CountDialect::Vllm);
        assert_eq!(names(&vllm), ["messages", "model", "tools"]);
        assert_eq!(vllm["messages"][0]["role"], "system");
    }

    #[test]
    fn what_cannot_be_asked_cannot_be_counted() {
        let mut message = message();
        message["messages"] = json!([{"role": "user", "content": [
            {"type": "container_upload", "file_id": "f"}]}]);
        for dialect in [CountDialect::Vllm, CountDialect::Gemini] {
            assert!(asked(dialect, &message).is_err(), "{dialect:?}");
        }
    }

    #[test]
    fn counts_are_written_and_read() {
        for (dialect, body) in [
            (
                CountDialect::OpenAi,
                r#"{"object":"response.input_tokens","input_tokens":7}"#,
            ),
            (CountDialect::Gemini, r#"{"totalTokens":7}"#),
            (
                CountDialect::Vertex,
                r#"{"totalTokens":7,"totalBillableCharacters":9}"#,
            ),
            (CountDialect::Bedrock, r#"{"inputTokens":7}"#),
            (
                CountDialect::Vllm,
                r#"{"count":7,"max_model_len":4096,"tokens":[1,2]}"#,
            ),
        ] {
            assert_eq!(dialect.read(body.as_bytes()), Some(7), "{dialect:?}");
            assert_eq!(dialect.read(b"{}"), None);
        }
        let body = count_tokens_json(2_095);
        assert_eq!(body, r#"{"input_tokens":2095}"#);
        assert_eq!(read_count_tokens(&body), Some(2_095));
        assert_eq!(read_count_tokens(b"{}"), None);
    }
}
