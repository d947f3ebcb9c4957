//! What is noted of one call while it is under way. Numbers, ids and names: nothing that a prompt
//! or an answer says.

use std::borrow::Cow;
use std::num::NonZeroU128;
use std::sync::{LazyLock, OnceLock};
use std::time::Duration;

use base::{KeyId, ModelName, Name, PicoUsd, RequestId, TenantId, Timestamp};
use http::HeaderValue;
use ledger::{Hop, SessionName};
use memchr::memmem::Finder;
use models::{Call, Envelope, Kind, Operation, Raw, Usage};
use smallvec::SmallVec;

use super::context::{CallersTrace, TraceContext};
use super::histogram::{Histogram, Seconds};

/// 128: what a request may ask for with `n`.
const CHOICES_MAX: usize = 128;
/// 128 bytes: OpenAI's ids have some 40.
const RESPONSE_ID_BYTES_MAX: usize = 128;

/// A quote within a string has a backslash before it: it is not found in what an answer says.
static REASON: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(br#""finish_reason":"#));
/// The same, in Anthropic's answers.
static STOP_REASON: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(br#""stop_reason":"#));

/// One call of a model, as telemetry sees it.
#[derive(Debug)]
pub(crate) struct CallSpan {
    pub(super) context: TraceContext,
    /// The trace that the caller named; joined if it is the context's.
    pub(super) caller: Option<Box<CallersTrace>>,
    pub(super) request: RequestId,
    pub(super) operation: Operation,
    pub(super) began: Timestamp,
    pub(super) key: Option<KeyId>,
    pub(super) conversation: Option<SessionName>,
    /// Of the upstream that was tried last.
    pub(super) provider: Option<Name>,
    pub(super) asked: Asked,
    pub(super) response: Response,
    /// What the upstream itself said; an estimate is not telemetry.
    pub(super) usage: Option<Usage>,
    pub(super) first_chunk: Option<Duration>,
    pub(super) chunk_gaps: Histogram<Seconds>,
    pub(super) ending: Ending,
    /// What is said of it when it has ended, encoded by whoever sends it first.
    pub(super) attributes: OnceLock<Vec<u8>>,
}

/// How a call ended, and what was known of it by then.
#[derive(Debug, Default)]
pub(crate) struct Ending {
    /// Whose it was.
    pub(crate) tenant: Option<TenantId>,
    /// For what.
    pub(crate) feature: Option<Name>,
    /// The route.
    pub(crate) model: Option<ModelName>,
    /// Where it went.
    pub(crate) upstream: Option<Name>,
    /// What the tenant's kept answers had to do with it.
    pub(crate) cache: Option<&'static str>,
    /// What it was for.
    pub(crate) hop: Hop,
    /// Which of the tenant's prompts it had.
    pub(crate) prompt: Option<Box<str>>,
    /// The refusal's code, or `client_gone`; none if it was answered.
    pub(crate) error: Option<&'static str>,
    /// The answer's status.
    pub(crate) status: u16,
    /// What it cost, where something was settled.
    pub(crate) cost: Option<PicoUsd>,
    /// From arrival.
    pub(crate) duration: Duration,
}

/// The parameters that the client set, as far as they are numbers.
#[derive(Debug, Default)]
pub(super) struct Asked {
    pub(super) stream: bool,
    pub(super) choice_count: Option<u32>,
    pub(super) max_tokens: Option<u64>,
    pub(super) temperature: Option<f64>,
    pub(super) top_p: Option<f64>,
    pub(super) frequency_penalty: Option<f64>,
    pub(super) presence_penalty: Option<f64>,
    pub(super) seed: Option<i64>,
}

/// Visible ASCII; 48 bytes are what engines use.
pub(super) type ResponseId = SmallVec<[u8; 48]>;

/// What the upstream says of its answer.
#[derive(Debug, Default)]
pub(super) struct Response {
    pub(super) id: Option<ResponseId>,
    pub(super) model: Option<ModelName>,
    /// In the order of the choices.
    pub(super) finish_reasons: SmallVec<[Option<&'static str>; 1]>,
}

impl CallSpan {
    pub(super) fn new(
        context: TraceContext,
        request: RequestId,
        operation: Operation,
        began: Timestamp,
    ) -> Self {
        Self {
            context,
            caller: None,
            request,
            operation,
            began,
            key: None,
            conversation: None,
            provider: None,
            asked: Asked::default(),
            response: Response::default(),
            usage: None,
            first_chunk: None,
            chunk_gaps: Histogram::default(),
            ending: Ending::default(),
            attributes: OnceLock::new(),
        }
    }

    /// The key that it came with.
    pub(crate) fn identify(&mut self, key: Option<KeyId>) {
        self.key = key;
    }

    /// What the client asked for.
    pub(crate) fn describe(
        &mut self,
        call: &Call,
        envelope: &Envelope,
        conversation: Option<&SessionName>,
    ) {
        self.asked.stream = call.stream;
        if !self.context.is_sampled {
            return;
        }
        self.conversation = conversation.cloned();
        self.asked = Asked {
            stream: call.stream,
            choice_count: Some(call.n).filter(|n| *n != 1),
            max_tokens: call.output_tokens_asked.map(|(asked, _)| asked),
            ..Asked::default()
        };
        self.asked.read_numbers(envelope);
    }

    /// It goes to an upstream.
    pub(crate) fn dispatch(&mut self, provider: &Name) {
        self.provider = Some(provider.clone());
    }

    /// What an upstream is told of the trace.
    pub(crate) fn header(&self) -> HeaderValue {
        self.context.to_header()
    }

    /// Its place in the trace, for its hops.
    pub(crate) fn context(&self) -> TraceContext {
        self.context
    }

    /// Its trace.
    pub(crate) fn trace(&self) -> NonZeroU128 {
        self.context.trace
    }

    /// Its trace, if that is recorded: what leads to it finds something.
    pub(crate) fn recorded_trace(&self) -> Option<NonZeroU128> {
        self.context.is_sampled.then_some(self.context.trace)
    }

    /// The first piece of the answer came.
    pub(crate) fn first_chunk(&mut self, after: Duration) {
        self.first_chunk = Some(after);
    }

    /// A further piece came, so long after the one before.
    pub(crate) fn next_chunk(&mut self, gap: Duration) {
        self.chunk_gaps.add(micros(gap));
    }

    /// What the upstream says that the call consumed.
    pub(crate) fn consume(&mut self, usage: &Usage) {
        self.usage = Some(*usage);
    }

    /// What the upstream calls the model that answers.
    pub(crate) fn name_model(&mut self, served: Option<&ModelName>) {
        self.response.model = served.cloned();
    }

    /// Reads the head of a whole answer; of its content, nothing.
    pub(crate) fn read_answer(&mut self, body: &[u8]) {
        // An answer of vectors is long, and says nothing that is not known.
        if self.context.is_sampled && self.operation != Operation::Embedding {
            let word = self.reason_word();
            self.response.read(body, word, self.is_one_choice());
        }
    }

    fn is_one_choice(&self) -> bool {
        self.asked.choice_count.is_none()
    }

    /// What stands before the reason for an answer's end.
    fn reason_word(&self) -> &'static Finder<'static> {
        match self.operation {
            Operation::Messages => &STOP_REASON,
            _ => &REASON,
        }
    }

    /// Reads one event of a stream, if it says something new.
    pub(crate) fn read_event(&mut self, data: &[u8]) {
        if !self.context.is_sampled {
            return;
        }
        let word = self.reason_word();
        let says_more = word.find_iter(data).any(|at| {
            let value = data[at + word.needle().len()..].trim_ascii_start();
            value.first() == Some(&b'"')
        });
        if says_more || self.response.id.is_none() {
            self.response.read(data, word, self.is_one_choice());
        }
    }

    /// It is over.
    pub(crate) fn end(&mut self, ending: Ending) {
        self.ending = ending;
    }
}

impl Asked {
    /// Notes the numbers among a request's parameters.
    fn read_numbers(&mut self, envelope: &Envelope) {
        let text = |name| {
            let value = envelope.get(name)?;
            let is_number = value.kind() == Some(Kind::Number);
            is_number.then(|| std::str::from_utf8(value.bytes()).ok())?
        };
        let number = |name| text(name)?.parse().ok();
        self.temperature = number("temperature");
        self.top_p = number("top_p");
        self.frequency_penalty = number("frequency_penalty");
        self.presence_penalty = number("presence_penalty");
        self.seed = text("seed").and_then(|text| text.parse().ok());
    }
}

impl Response {
    /// What nearly every answer says in its first field and of its only choice is found without a
    /// walk through the rest.
    fn read(&mut self, object: &[u8], word: &Finder<'_>, is_one_choice: bool) {
        let only_reason = || is_one_choice.then(|| only_reason(object, word))?;
        match (leading_id(object), only_reason()) {
            (Some(id), Some(reason)) => {
                self.id = Some(id.into());
                self.finish(0, Some(&reason));
            }
            _ => self.walk(Raw::new(object)),
        }
    }

    fn walk(&mut self, object: Raw<'_>) {
        for (key, value) in object.fields() {
            if key.is("id") {
                self.id = id_of(value);
            } else if key.is("choices") {
                for (place, choice) in value.elements().take(CHOICES_MAX).enumerate() {
                    self.read_choice(place, choice);
                }
            } else if key.is("stop_reason") {
                self.finish(0, value.as_str().as_deref());
            } else if ["message", "response", "delta"]
                .into_iter()
                .any(|inner| key.is(inner))
            {
                // What an event of a stream says of the whole answer.
                self.walk_inner(value);
            }
        }
    }

    /// Of an object in another: what it says of the answer, and nothing deeper.
    fn walk_inner(&mut self, object: Raw<'_>) {
        for (key, value) in object.fields() {
            if key.is("id") {
                self.id = id_of(value).or(self.id.take());
            } else if key.is("stop_reason") {
                self.finish(0, value.as_str().as_deref());
            }
        }
    }

    fn read_choice(&mut self, place: usize, choice: Raw<'_>) {
        let (mut index, mut reason) = (None, None);
        for (key, value) in choice.fields() {
            if key.is("index") {
                index = value.as_u64();
            } else if key.is("finish_reason") {
                reason = value.as_str();
            }
        }
        let index = index.map_or(place, |index| usize::try_from(index).unwrap_or(CHOICES_MAX));
        if index < CHOICES_MAX {
            self.finish(index, reason.as_deref());
        }
    }

    fn finish(&mut self, index: usize, reason: Option<&str>) {
        // A choice that began and never finished has its place too.
        if self.finish_reasons.len() <= index {
            self.finish_reasons.resize(index + 1, None);
        }
        if let Some(reason) = reason {
            self.finish_reasons[index] = Some(finish_reason(reason));
        }
    }
}

/// Of a closed set, whatever the upstream says.
fn finish_reason(said: &str) -> &'static str {
    const KNOWN: [&str; 13] = [
        "stop",
        "length",
        "tool_calls",
        "content_filter",
        "function_call",
        "error",
        // Anthropic's.
        "end_turn",
        "max_tokens",
        "stop_sequence",
        "tool_use",
        "pause_turn",
        "refusal",
        "model_context_window_exceeded",
    ];
    let known = KNOWN.into_iter().find(|known| *known == said);
    known.unwrap_or("_OTHER")
}

/// The id of an answer that begins with it, if there is no escape in it.
fn leading_id(object: &[u8]) -> Option<&[u8]> {
    let rest = object.strip_prefix(br#"{"id":"#)?.trim_ascii_start();
    let rest = rest.strip_prefix(b"\"")?;
    let id = &rest[..memchr::memchr2(b'"', b'\\', rest)?];
    (rest[id.len()] == b'"' && is_id(id)).then_some(id)
}

/// Why the answer's only choice ended, if the word is in the text once.
fn only_reason<'a>(object: &'a [u8], word: &Finder<'_>) -> Option<Cow<'a, str>> {
    let at = word.find(object)? + word.needle().len();
    let rest = &object[at..];
    word.find(rest).is_none().then(|| Raw::new(rest).as_str())?
}

/// The id that this value is, if it is one.
fn id_of(value: Raw<'_>) -> Option<ResponseId> {
    let text = value.as_str()?;
    is_id(text.as_bytes()).then(|| text.as_bytes().into())
}

/// Short, and without spaces.
fn is_id(text: &[u8]) -> bool {
    let is_visible = |all, byte: &u8| all & byte.is_ascii_graphic();
    (1..=RESPONSE_ID_BYTES_MAX).contains(&text.len()) && text.iter().fold(true, is_visible)
}

pub(super) fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of the answers to a call that asked for this many choices.
    fn read(choices: usize, texts: &[&str]) -> (Option<String>, Vec<Option<&'static str>>) {
        let mut response = Response::default();
        for text in texts {
            response.read(text.as_bytes(), &REASON, choices == 1);
        }
        let id = response
            .id
            .map(|id| String::from_utf8(id.to_vec()).unwrap());
        (id, response.finish_reasons.into_vec())
    }

    /// Whatever stands where: what the short way finds is what the walk finds.
    #[test]
    fn the_usual_answer_is_read_without_a_walk_and_all_others_with_one() {
        let named = |reasons: &[Option<&'static str>]| (Some("a".to_owned()), reasons.to_vec());
        let stop = Some("stop");
        let says = r#""message":{"content":"\"finish_reason\":\"length\",\"index\":7"}"#;
        let choice = format!(r#"{{"index":0,{says},"finish_reason":"stop"}}"#);
        for usual in [
            format!(r#"{{"id":"a","model":"m","choices":[{choice}]}}"#),
            format!(r#"{{"choices":[{choice}],"id":"a","model":"m"}}"#),
            format!(r#"{{"id": "a", "choices": [{choice}]}}"#),
            format!(r#"{{"id":"\u0061","choices":[{choice}]}}"#),
            r#"{"id":"a","choices":[{"index" : 0,"finish_reason" : "stop"}]}"#.to_owned(),
        ] {
            for choices in [1, 2] {
                assert_eq!(read(choices, &[&usual]), named(&[stop]), "{usual}");
            }
        }
        // The second choice of a stream ends before the first.
        let event = |index, reason: &str| {
            format!(r#"{{"id":"a","choices":[{{"index":{index},"finish_reason":{reason}}}]}}"#)
        };
        let (second, first) = (event(1, r#""length""#), event(0, r#""stop""#));
        assert_eq!(read(2, &[&second]), named(&[None, Some("length")]));
        assert_eq!(read(2, &[&second, &first]), named(&[stop, Some("length")]));
        assert_eq!(read(1, &[&event(0, "null")]), named(&[None]));
        // Two, though one was asked for.
        let two = format!(r#"{{"id":"a","choices":[{choice},{choice}]}}"#);
        assert_eq!(read(1, &[&two.replacen('0', "1", 1)]), named(&[stop, stop]));
    }

    #[test]
    fn of_an_answer_only_ids_and_known_words_are_read() {
        let (id, reasons) = read(
            2,
            &[
                r#"{"id":"chatcmpl-1","model":"gpt-4o-2024-08-06","choices":[
                {"index":1,"message":{"content":"CANARY"},"finish_reason":"length"},
                {"index":0,"finish_reason":"CANARY"},
                {"index":4000000000,"finish_reason":"stop"}]}"#,
            ],
        );
        assert_eq!(id.as_deref(), Some("chatcmpl-1"));
        assert_eq!(reasons, [Some("_OTHER"), Some("length")]);

        for bad in [&*"x".repeat(129), "", "the CANARY", "caf\u{e9}"] {
            let answer = format!(r#"{{"id":"{bad}","choices":[{{"finish_reason":"stop"}}]}}"#);
            assert_eq!(read(1, &[&answer]), (None, vec![Some("stop")]), "{bad}");
        }
    }

    #[test]
    fn anthropics_answers_say_the_same_in_other_words() {
        let whole = r#"{"id":"msg_1","type":"message","content":[{"type":"text","text":
            "\"stop_reason\":\"refusal\""}],"stop_reason":"end_turn"}"#;
        let stream = [
            r#"{"type":"message_start","message":{"id":"msg_1","content":[],"stop_reason":null}}"#,
            r#"{"type":"content_block_delta","index":0,"delta":{"text":"CANARY"}}"#,
            r#"{"type":"message_delta","delta":{"stop_reason":"end_turn","id":7}}"#,
        ];
        for texts in [&[whole][..], &stream] {
            let mut response = Response::default();
            for text in texts {
                response.read(text.as_bytes(), &STOP_REASON, true);
            }
            assert_eq!(response.finish_reasons[..], [Some("end_turn")], "{texts:?}");
            assert_eq!(response.id.as_deref(), Some(&b"msg_1"[..]), "{texts:?}");
        }
    }

    #[test]
    fn the_numbers_of_a_request_are_noted() {
        let body = r#"{"temperature":0.5,"seed":7,"top_p":"0.5","presence_penalty":null}"#;
        let envelope = Envelope::parse(body.into(), &models::Bounds::default()).unwrap();
        let mut asked = Asked::default();
        asked.read_numbers(&envelope);
        assert_eq!((asked.temperature, asked.seed), (Some(0.5), Some(7)));
        assert_eq!((asked.top_p, asked.presence_penalty), (None, None));
    }
}
