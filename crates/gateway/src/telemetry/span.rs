//! What is noted of one call while it is under way. Numbers, ids and names: nothing that a prompt
//! or an answer says.

use std::num::NonZeroU128;
use std::sync::{LazyLock, OnceLock};
use std::time::Duration;

use base::{KeyId, ModelName, Name, PicoUsd, RequestId, TenantId, Timestamp};
use http::HeaderValue;
use ledger::{Hop, SessionName};
use memchr::memmem::Finder;
use models::{Call, Envelope, Key, Kind, Operation, Raw, Usage};
use smallvec::SmallVec;

use super::context::{CallersTrace, TraceContext};
use super::histogram::{Histogram, Seconds};

/// 128: what a request may ask for with `n`.
const CHOICES_MAX: usize = 128;
/// 128 bytes: OpenAI's ids have some 40, the longest model names 110.
const RESPONSE_TEXT_BYTES_MAX: usize = 128;

/// A quote within a string has a backslash before it: neither is found in what an answer says.
static REASON: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(br#""finish_reason":"#));
static INDEX: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(br#""index":"#));

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

/// What the upstream says of its answer.
#[derive(Debug, Default)]
pub(super) struct Response {
    pub(super) id: Option<String>,
    pub(super) model: Option<String>,
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
        for field in envelope.fields().filter(|it| it.kind == Kind::Number) {
            self.asked.note(&field.name, field.value);
        }
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

    /// Reads the head of a whole answer; of its content, nothing.
    pub(crate) fn read_answer(&mut self, body: &[u8]) {
        // An answer of vectors is long, and says nothing that is not known.
        if self.context.is_sampled && self.operation != Operation::Embedding {
            self.response.read(body);
        }
    }

    /// Reads one event of a stream, if it says something new.
    pub(crate) fn read_event(&mut self, data: &[u8]) {
        if !self.context.is_sampled {
            return;
        }
        let says_more = REASON.find_iter(data).any(|at| {
            let value = data[at + REASON.needle().len()..].trim_ascii_start();
            value.first() == Some(&b'"')
        });
        if says_more || self.response.id.is_none() {
            self.response.read(data);
        }
    }

    /// It is over.
    pub(crate) fn end(&mut self, ending: Ending) {
        self.ending = ending;
    }
}

impl Asked {
    /// Notes a number.
    fn note(&mut self, name: &str, value: Raw<'_>) {
        let Ok(text) = std::str::from_utf8(value.bytes()) else {
            return;
        };
        let number = || text.parse().ok().filter(|number: &f64| number.is_finite());
        match name {
            "temperature" => self.temperature = number(),
            "top_p" => self.top_p = number(),
            "frequency_penalty" => self.frequency_penalty = number(),
            "presence_penalty" => self.presence_penalty = number(),
            "seed" => self.seed = text.parse().ok(),
            _ => {}
        }
    }
}

impl Response {
    /// What nearly every answer says in its first fields and of its only choice is found without a
    /// walk through the rest.
    fn read(&mut self, object: &[u8]) {
        let answer = Raw::new(object);
        for (key, value) in answer.head() {
            self.read_name(key, value);
        }
        if self.id.is_some() && self.model.is_some() && self.read_only_choice(object) {
            return;
        }
        for (key, value) in answer.fields() {
            self.read_name(key, value);
            if key.is("choices") {
                for (place, choice) in value.elements().take(CHOICES_MAX).enumerate() {
                    self.read_choice(place, choice);
                }
            }
        }
    }

    fn read_name(&mut self, key: Key<'_>, value: Raw<'_>) {
        if key.is("id") {
            self.id = short_text(value);
        } else if key.is("model") {
            self.model = short_text(value);
        }
    }

    /// Whether there is one choice, the first, and one reason, which was read.
    fn read_only_choice(&mut self, object: &[u8]) -> bool {
        let only = |word: &Finder<'_>| {
            let mut found = word.find_iter(object);
            let at = found.next()? + word.needle().len();
            found.next().is_none().then(|| Raw::new(&object[at..]))
        };
        let (Some(index), Some(reason)) = (only(&INDEX), only(&REASON)) else {
            return false;
        };
        let Some(reason) = reason.as_str().filter(|_| index.as_u64() == Some(0)) else {
            return false;
        };
        self.finish(0, Some(&reason));
        true
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
    const KNOWN: [&str; 6] = [
        "stop",
        "length",
        "tool_calls",
        "content_filter",
        "function_call",
        "error",
    ];
    let known = KNOWN.into_iter().find(|known| *known == said);
    known.unwrap_or("_OTHER")
}

/// An id or a name: short, and without spaces.
fn short_text(value: Raw<'_>) -> Option<String> {
    let text = value.as_str()?;
    let is_short = (1..=RESPONSE_TEXT_BYTES_MAX).contains(&text.len());
    (is_short && text.bytes().all(|byte| byte.is_ascii_graphic())).then(|| text.into_owned())
}

pub(super) fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whatever stands where: what the short way finds is what the walk finds.
    #[test]
    fn the_usual_answer_is_read_without_a_walk_and_all_others_with_one() {
        let read = |texts: &[&str]| {
            let mut response = Response::default();
            for text in texts {
                response.read(text.as_bytes());
            }
            let (id, model) = (response.id, response.model);
            (id, model, response.finish_reasons.into_vec())
        };
        let named = |reasons: &[Option<&'static str>]| {
            let (id, model) = (Some("a".to_owned()), Some("m".to_owned()));
            (id, model, reasons.to_vec())
        };
        let stop = Some("stop");
        let says = r#""message":{"content":"\"finish_reason\":\"length\",\"index\":7"}"#;
        let choice = format!(r#"{{"index":0,{says},"finish_reason":"stop"}}"#);
        let usual = format!(r#"{{"id":"a","model":"m","choices":[{choice}]}}"#);
        assert_eq!(read(&[&usual]), named(&[stop]));
        let names_last = format!(r#"{{"choices":[{choice}],"id":"a","model":"m"}}"#);
        assert_eq!(read(&[&names_last]), named(&[stop]));
        let spaced = r#"{"id":"a","model":"m","choices":[{"index" : 0,"finish_reason" : "stop"}]}"#;
        assert_eq!(read(&[spaced]), named(&[stop]));
        // The second choice of a stream ends before the first.
        let event = |index, reason: &str| {
            format!(
                r#"{{"id":"a","model":"m","choices":[{{"index":{index},"finish_reason":{reason}}}]}}"#
            )
        };
        let (second, first) = (event(1, r#""length""#), event(0, r#""stop""#));
        assert_eq!(read(&[&second]), named(&[None, Some("length")]));
        assert_eq!(read(&[&second, &first]), named(&[stop, Some("length")]));
        assert_eq!(read(&[&event(0, "null")]), named(&[None]));
    }

    #[test]
    fn of_an_answer_only_ids_names_and_known_words_are_read() {
        let mut response = Response::default();
        response.read(
            br#"{"id":"chatcmpl-1","model":"gpt-4o-2024-08-06","choices":[
                {"index":1,"message":{"content":"CANARY"},"finish_reason":"length"},
                {"index":0,"finish_reason":"CANARY"},
                {"index":4000000000,"finish_reason":"stop"}]}"#,
        );
        assert_eq!(response.id.as_deref(), Some("chatcmpl-1"));
        assert_eq!(response.model.as_deref(), Some("gpt-4o-2024-08-06"));
        assert_eq!(
            response.finish_reasons[..],
            [Some("_OTHER"), Some("length")]
        );

        let mut response = Response::default();
        let long = format!(r#"{{"id":"{}","model":"the CANARY"}}"#, "x".repeat(129));
        response.read(long.as_bytes());
        assert_eq!((response.id, response.model), (None, None));
    }
}
