//! Where the texts of a body are, in any dialect that clients speak.
//!
//! Of a request everything is a text but what is known to be none, so that a field nobody has
//! heard of hides nothing. Places are bytes of the body: what is not rewritten stays as written.

use std::borrow::Cow;
use std::ops::Range;

use bytes::{Bytes, BytesMut};
use models::{Envelope, Kind, Operation, Raw};

/// 128 levels of an answer: the deepest that providers give has a dozen. Requests are bounded by
/// the gateway's own bound before they come here.
const DEPTH_MAX: u32 = 128;

/// What a text is to the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Part {
    /// What is said.
    Said,
    /// What is thought, refused or quoted.
    Aside,
    /// The arguments of a tool's call: JSON inside a string.
    Arguments,
}

/// A text, as it stands in a body or as it has become.
#[derive(Debug)]
pub(super) struct Text<'b> {
    /// The bytes of the whole string, its quotes among them.
    place: Range<usize>,
    pub(super) part: Part,
    pub(super) text: Cow<'b, str>,
    is_rewritten: bool,
}

impl Text<'_> {
    pub(super) fn replace(&mut self, text: String) {
        self.text = Cow::Owned(text);
        self.is_rewritten = true;
    }
}

/// What a request has.
#[derive(Debug, Default)]
pub(super) struct RequestTexts<'b> {
    pub(super) texts: Vec<Text<'b>>,
    /// Some of it is token ids, which nobody can read.
    pub(super) has_tokens: bool,
}

/// Top-level fields whose strings name or set something: no model reads them.
const SETTINGS: [&str; 20] = [
    "model",
    "user",
    "metadata",
    "stop",
    "stop_sequences",
    "safety_identifier",
    "prompt_cache_key",
    "service_tier",
    "tool_choice",
    "function_call",
    "modalities",
    "previous_response_id",
    "conversation",
    "include",
    "truncation",
    "encoding_format",
    "reasoning_effort",
    "verbosity",
    "logit_bias",
    "stream_options",
];

/// Top-level fields of which a model reads the descriptions.
const DESCRIBED: [&str; 5] = [
    "tools",
    "functions",
    "response_format",
    "text",
    "output_config",
];

/// Fields at any depth whose strings are no text.
const STRUCTURE: [&str; 19] = [
    "type",
    "role",
    "id",
    "object",
    "status",
    "tool_call_id",
    "tool_use_id",
    "call_id",
    "item_id",
    "file_id",
    "url",
    "image_url",
    "file_data",
    "media_type",
    "signature",
    "encrypted_content",
    "cache_control",
    "finish_reason",
    "detail",
];

/// The texts of a request.
pub(super) fn of_request(operation: Operation, envelope: &Envelope) -> RequestTexts<'_> {
    let mut read = RequestTexts::default();
    let mut walk = Walk::over(envelope.body());
    for field in envelope.fields() {
        let name = &*field.name;
        if SETTINGS.contains(&name) {
            continue;
        }
        let tokens = matches!(
            (operation, name),
            (Operation::Completion, "prompt")
                | (Operation::Embedding | Operation::Moderation, "input")
        );
        read.has_tokens |= tokens && has_numbers(field.value);
        match DESCRIBED.contains(&name) {
            true => walk.descriptions(field.value, 0),
            false => walk.value(field.value, name, Sort::Said, 0),
        }
    }
    read.texts = walk.texts;
    read
}

fn has_numbers(value: Raw<'_>) -> bool {
    let is_number = |value: Raw<'_>| value.kind() == Some(Kind::Number);
    value
        .elements()
        .any(|one| is_number(one) || one.elements().any(is_number))
}

/// The texts of an answer in the dialect of the operation's clients, and where it has the
/// probabilities of tokens, with what can stand there instead.
pub(super) fn of_answer(
    operation: Operation,
    body: &[u8],
) -> (Vec<Text<'_>>, Vec<(Range<usize>, &'static str)>) {
    let root = match operation {
        Operation::Chat | Operation::Completion => "choices",
        Operation::Messages => "content",
        Operation::Responses => "output",
        // Numbers alone.
        Operation::Embedding | Operation::Moderation | Operation::CountTokens => {
            return Default::default();
        }
        Operation::Rerank => "results",
    };
    of_fields(body, Raw::new(body), &[root])
}

/// The texts below some fields of an object in `body`.
pub(super) fn of_fields<'b>(
    body: &'b [u8],
    object: Raw<'b>,
    roots: &[&str],
) -> (Vec<Text<'b>>, Vec<(Range<usize>, &'static str)>) {
    let mut walk = Walk::over(body);
    for root in roots {
        if let Some(value) = object.get(root) {
            walk.value(value, root, Sort::Said, 0);
        }
    }
    (walk.texts, walk.probabilities)
}

/// How strings below a value count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sort {
    /// By their keys.
    Said,
    /// By their keys, but none is said.
    Aside,
    /// Each is one: a tool's own object.
    Free,
}

struct Walk<'b> {
    body: &'b [u8],
    texts: Vec<Text<'b>>,
    probabilities: Vec<(Range<usize>, &'static str)>,
}

impl<'b> Walk<'b> {
    fn over(body: &'b [u8]) -> Self {
        Self {
            body,
            texts: Vec::new(),
            probabilities: Vec::new(),
        }
    }

    fn value(&mut self, value: Raw<'b>, key: &str, sort: Sort, depth: u32) {
        if depth > DEPTH_MAX {
            return;
        }
        match value.kind() {
            Some(Kind::String) if sort == Sort::Free || !STRUCTURE.contains(&key) => {
                let part = match (sort, key) {
                    (Sort::Free, _) => Part::Aside,
                    (_, "arguments" | "partial_json") => Part::Arguments,
                    (Sort::Said, "text" | "content" | "output_text") => Part::Said,
                    _ => Part::Aside,
                };
                self.string(value, part);
            }
            Some(Kind::Array) => {
                for element in value.elements() {
                    self.value(element, key, sort, depth + 1);
                }
            }
            Some(Kind::Object) => self.object(value, sort, depth + 1),
            _ => {}
        }
    }

    fn object(&mut self, object: Raw<'b>, sort: Sort, depth: u32) {
        let kind = object.get("type").and_then(Raw::as_str);
        let kind = kind.as_deref().unwrap_or_default();
        let below = match (sort, kind) {
            (Sort::Said, "thinking" | "summary_text" | "reasoning_text" | "reasoning") => {
                Sort::Aside
            }
            _ => sort,
        };
        for (key, value) in object.fields() {
            let key = key.decode();
            match (&*key, sort) {
                (_, Sort::Free) => self.value(value, &key, Sort::Free, depth),
                // Bytes in base64, but where the block says that they are a text.
                ("data", _) if kind != "text" => {}
                ("logprobs", _) => self.blank(value),
                ("input", _) if value.kind() == Some(Kind::Object) => {
                    self.value(value, &key, Sort::Free, depth);
                }
                _ => self.value(value, &key, below, depth),
            }
        }
    }

    /// The strings that describe tools and shapes.
    fn descriptions(&mut self, value: Raw<'b>, depth: u32) {
        if depth > DEPTH_MAX {
            return;
        }
        for element in value.elements() {
            self.descriptions(element, depth + 1);
        }
        for (key, value) in value.fields() {
            match value.kind() {
                Some(Kind::String) if key.is("description") => self.string(value, Part::Aside),
                _ => self.descriptions(value, depth + 1),
            }
        }
    }

    fn blank(&mut self, value: Raw<'b>) {
        let instead = match value.kind() {
            Some(Kind::Array) => "[]",
            Some(Kind::Object) => "null",
            _ => return,
        };
        let place = self.place(value);
        self.probabilities.push((place, instead));
    }

    fn string(&mut self, value: Raw<'b>, part: Part) {
        if let Some(text) = value.as_str().filter(|text| !text.is_empty()) {
            let place = self.place(value);
            self.texts.push(Text {
                place,
                part,
                text,
                is_rewritten: false,
            });
        }
    }

    fn place(&self, value: Raw<'b>) -> Range<usize> {
        let written = value.bytes();
        let start = written.as_ptr().addr() - self.body.as_ptr().addr();
        start..start + written.len()
    }
}

/// The body with what was rewritten in its place; none if nothing was.
pub(super) fn spliced(
    body: &[u8],
    texts: &[Text<'_>],
    blanks: &[(Range<usize>, &'static str)],
) -> Option<Bytes> {
    let rewritten = texts.iter().filter(|text| text.is_rewritten).map(|text| {
        let json = serde_json::to_string(&text.text).expect("a string is JSON");
        (text.place.clone(), Cow::Owned(json))
    });
    let blanked = blanks
        .iter()
        .map(|(place, instead)| (place.clone(), Cow::Borrowed(*instead)));
    let mut edits: Vec<(Range<usize>, Cow<'_, str>)> = rewritten.chain(blanked).collect();
    if edits.is_empty() {
        return None;
    }
    edits.sort_by_key(|(place, _)| place.start);
    let mut whole = BytesMut::with_capacity(body.len());
    let mut copied = 0;
    for (place, instead) in edits {
        whole.extend_from_slice(&body[copied..place.start]);
        whole.extend_from_slice(instead.as_bytes());
        copied = place.end;
    }
    whole.extend_from_slice(&body[copied..]);
    Some(whole.freeze())
}

#[cfg(test)]
mod tests {
    use models::Bounds;

    use super::*;

    fn request(operation: Operation, json: &str) -> Vec<(String, Part)> {
        let bounds = Bounds::default();
        let envelope = Envelope::parse(Bytes::from(json.to_owned()), &bounds).expect("sound");
        let read = of_request(operation, &envelope);
        let texts = read.texts.into_iter();
        texts
            .map(|text| {
                let written = &json[text.place.clone()];
                let parsed: String = serde_json::from_str(written).expect("a whole string");
                assert_eq!(parsed, text.text);
                (parsed, text.part)
            })
            .collect()
    }

    fn only(operation: Operation, json: &str) -> Vec<String> {
        let texts = request(operation, json).into_iter();
        texts.map(|(text, _)| text).collect()
    }

    #[test]
    fn every_dialects_texts_are_found_and_nothing_else() {
        let chat = r#"{"model":"m","user":"no","messages":[
            {"role":"system","content":"a"},
            {"role":"user","content":[{"type":"text","text":"b\n\"c\""},
                {"type":"image_url","image_url":{"url":"https://no"}},
                {"type":"input_audio","input_audio":{"data":"no","format":"wav"}}]},
            {"role":"assistant","content":null,"tool_calls":[{"id":"no","type":"function",
                "function":{"name":"f","arguments":"{\"d\":1}"}}]},
            {"role":"tool","tool_call_id":"no","content":"e"}],
            "tools":[{"type":"function","function":{"name":"no","description":"g",
                "parameters":{"properties":{"x":{"description":"h","enum":["no"]}}}}}],
            "documents":[{"title":"i"}]}"#;
        let found = only(Operation::Chat, chat);
        assert_eq!(
            found,
            ["a", "b\n\"c\"", "wav", "f", "{\"d\":1}", "e", "g", "h", "i"]
        );
        let messages = r#"{"model":"m","system":[{"type":"text","text":"a"}],"messages":[
            {"role":"user","content":[{"type":"tool_result","tool_use_id":"no","content":"b"},
              {"type":"document","source":{"type":"text","media_type":"no","data":"c"}},
              {"type":"image","source":{"type":"base64","media_type":"no","data":"no"}}]},
            {"role":"assistant","content":[{"type":"tool_use","id":"no","name":"f",
              "input":{"type":"d","id":["e"]}}]}]}"#;
        assert_eq!(
            only(Operation::Messages, messages),
            ["a", "b", "c", "f", "d", "e"]
        );
        let responses = r#"{"model":"m","instructions":"a","input":[{"type":"message","role":"user",
            "content":[{"type":"input_text","text":"b"}]},
            {"type":"function_call_output","call_id":"no","output":"c"}]}"#;
        assert_eq!(only(Operation::Responses, responses), ["a", "b", "c"]);
        assert_eq!(
            only(Operation::Embedding, r#"{"model":"m","input":["a","b"]}"#),
            ["a", "b"]
        );
        assert_eq!(
            only(
                Operation::Rerank,
                r#"{"model":"m","query":"q","documents":["a",{"text":"b"}]}"#
            ),
            ["q", "a", "b"]
        );
    }

    #[test]
    fn token_ids_are_noticed() {
        for (json, expected) in [
            (r#"{"model":"m","prompt":[1,2]}"#, true),
            (r#"{"model":"m","prompt":[[1]]}"#, true),
            (
                r#"{"model":"m","prompt":["a"],"logit_bias":{"1":2}}"#,
                false,
            ),
        ] {
            let envelope = Envelope::parse(json.into(), &Bounds::default()).expect("sound");
            let read = of_request(Operation::Completion, &envelope);
            assert_eq!(read.has_tokens, expected, "{json}");
        }
    }

    #[test]
    fn an_answer_tells_what_is_said_from_what_is_thought() {
        let body = br#"{"output":[{"type":"reasoning","summary":[{"type":"summary_text","text":"t"}]},
            {"type":"message","content":[{"type":"output_text","text":"s","logprobs":[{"token":"s"}]}]},
            {"type":"function_call","name":"f","arguments":"{}"}]}"#;
        let (mut texts, blanks) = of_answer(Operation::Responses, body);
        let parts: Vec<_> = texts.iter().map(|text| (&*text.text, text.part)).collect();
        let expected = [
            ("t", Part::Aside),
            ("s", Part::Said),
            ("f", Part::Aside),
            ("{}", Part::Arguments),
        ];
        assert_eq!(parts, expected);
        assert!(spliced(body, &texts, &[]).is_none());
        texts[1].replace("\"x\"".to_owned());
        let spliced = spliced(body, &texts, &blanks).expect("something changed");
        let json: serde_json::Value = serde_json::from_slice(&spliced).expect("JSON");
        let content = &json["output"][1]["content"][0];
        assert_eq!(content["text"], "\"x\"");
        assert_eq!(content["logprobs"], serde_json::json!([]));
    }
}
