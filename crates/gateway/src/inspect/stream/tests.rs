use models::{Bounds, Envelope, Operation};

use super::*;
use std::time::Duration;

use crate::guard::{Moderated, RemoteFailure};
use crate::inspect::{GuardSet, Queue, TenantTurn, Turns};

fn inspector(spec: &str) -> Inspector {
    let spec = serde_json::from_str(spec).expect("a guardrail");
    let name: base::Name = "wall".parse().expect("a name");
    let all = [(name.clone(), std::sync::Arc::new(spec))].into();
    let set = GuardSet::compile(&all).expect("sound");
    let model = "m".parse().expect("a model's name");
    set.for_call(&name, &model).expect("it applies")
}

const CARDS: &str = r#"{"looks_at":"output","checks":[
    {"name":"it","action":"redact","check":{"pii":{"kinds":["card"]}}}]}"#;

/// Answers with the words of a service: a finding wherever it is shown `falcon`.
struct Service {
    asked: parking_lot::Mutex<Vec<String>>,
}

impl Service {
    fn new() -> Self {
        Self {
            asked: parking_lot::Mutex::default(),
        }
    }
}

impl Remote for &Service {
    async fn embed(&self, _: &base::ModelName, _: &[&str]) -> Result<Vec<Vec<f32>>, RemoteFailure> {
        Err(RemoteFailure::Unreachable)
    }

    async fn moderate(
        &self,
        _: &base::ModelName,
        _: &[&str],
    ) -> Result<Vec<Moderated>, RemoteFailure> {
        Err(RemoteFailure::Unreachable)
    }

    async fn complete(
        &self,
        _: &base::ModelName,
        _: &str,
        _: &str,
        _: u32,
    ) -> Result<String, RemoteFailure> {
        Err(RemoteFailure::Unreachable)
    }

    async fn post(&self, _: &str, _: Duration, body: Vec<u8>) -> Result<Vec<u8>, RemoteFailure> {
        let body: Value = serde_json::from_slice(&body).expect("JSON");
        let text = body["texts"][0].as_str().expect("a text").to_owned();
        let places = text.match_indices("falcon").map(
            |(start, _)| json!({"text": 0, "start": start, "end": start + 6, "label": "bird"}),
        );
        let findings: Vec<Value> = places.collect();
        self.asked.lock().push(text);
        Ok(json!({"findings": findings}).to_string().into_bytes())
    }
}

type Stream<'s> = InspectedStream<&'s Service>;

fn stream<'s>(dialect: Dialect, spec: &str, service: Option<&'s Service>) -> Box<Stream<'s>> {
    Box::new(InspectedStream::new(dialect, inspector(spec), service).expect("it looks"))
}

/// What goes on of these events, and of the end.
async fn looked(
    mut stream: Box<Stream<'_>>,
    events: &[String],
) -> (String, Noted, Result<(), StreamEnd>) {
    let mut out = String::new();
    for event in events {
        let looked = stream.look(event.clone().into(), Reached::Middle).await;
        out.push_str(std::str::from_utf8(&looked.out).expect("text"));
        stream = looked.stream;
        if looked.end.is_err() {
            return (out, stream.noted(), looked.end);
        }
    }
    let looked = stream.look(Bytes::new(), Reached::End).await;
    out.push_str(std::str::from_utf8(&looked.out).expect("text"));
    (out, looked.stream.noted(), looked.end)
}

fn named(event: &Value) -> String {
    let kind = event["type"].as_str().expect("a type");
    format!("event: {kind}\ndata: {event}\n\n")
}

async fn run(dialect: Dialect, spec: &str, events: &[Value]) -> (Vec<Value>, Noted) {
    let events: Vec<String> = events.iter().map(named).collect();
    let (text, noted, end) = looked(stream(dialect, spec, None), &events).await;
    end.expect("it ends");
    assert!(!text.contains("1111 1111"), "{text}");
    let data = text.lines().filter_map(|line| line.strip_prefix("data: "));
    let events = data.map(|data| serde_json::from_str(data).expect("JSON"));
    (events.collect(), noted)
}

#[tokio::test]
async fn what_responses_repeat_is_what_their_deltas_said() {
    let text = "It is 4111 1111 1111 1111";
    let place = |kind: &str, number: u64, more: Value| {
        let mut event = json!({
            "type": kind, "sequence_number": number, "output_index": 0, "content_index": 0,
        });
        let fields = event.as_object_mut().expect("an object");
        fields.extend(more.as_object().expect("an object").clone());
        event
    };
    let part = json!({"type": "output_text", "text": text});
    let item = json!({"type": "message", "content": [part]});
    let events = [
        place(
            "response.output_text.delta",
            1,
            json!({"delta": "It is 4111 11", "logprobs": [1]}),
        ),
        place(
            "response.output_text.delta",
            2,
            json!({"delta": "11 1111 1111"}),
        ),
        place("response.output_text.done", 3, json!({"text": text})),
        place("response.content_part.done", 4, json!({"part": part})),
        place("response.output_item.done", 5, json!({"item": item})),
        place(
            "response.completed",
            6,
            json!({"response": {"output": [item]}}),
        ),
    ];
    let (events, noted) = run(Dialect::OpenAiResponses, CARDS, &events).await;
    let said: String = events
        .iter()
        .filter(|event| event["type"] == "response.output_text.delta")
        .filter_map(|event| event["delta"].as_str())
        .collect();
    assert_eq!(said, "It is [CARD_1]");
    assert_eq!(events[0]["logprobs"], json!([]));
    let last = events.last().expect("the end");
    let repeated = &last["response"]["output"][0]["content"][0]["text"];
    assert_eq!(repeated, "It is [CARD_1]");
    let numbers: Vec<_> = events
        .iter()
        .map(|event| &event["sequence_number"])
        .collect();
    assert_eq!(numbers, [1, 2, 3, 4, 5, 6, 7]);
    assert_eq!(noted.redacted, 1, "what is repeated is counted once");
}

#[tokio::test]
async fn a_blocks_rest_comes_before_its_end() {
    let delta = |text: &str| {
        json!({"type": "content_block_delta", "index": 1,
        "delta": {"type": "input_json_delta", "partial_json": text}})
    };
    let events = [
        delta("{\"a\":\"4111 1111 11"),
        delta("11 1111"),
        json!({"type": "content_block_stop", "index": 1}),
    ];
    let (events, _) = run(Dialect::Anthropic, CARDS, &events).await;
    let said = events
        .iter()
        .filter_map(|event| event["delta"]["partial_json"].as_str());
    assert_eq!(said.collect::<String>(), "{\"a\":\"[CARD_1]");
    assert_eq!(
        events.last().expect("the end")["type"],
        "content_block_stop"
    );
}

#[tokio::test]
async fn what_no_event_ends_is_said_before_the_marker() {
    let chunk =
        json!({"id": "c", "choices": [{"index": 0, "text": "a word", "finish_reason": null}]});
    let text = format!("data: {chunk}\n\ndata: [DONE]\n\n");
    let (text, _, end) = looked(stream(Dialect::OpenAiChat, CARDS, None), &[text]).await;
    assert_eq!(end, Ok(()));
    assert!(text.ends_with("data: [DONE]\n\n"), "{text}");
    let said: String = text
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line.strip_prefix("data: ")?).ok())
        .filter_map(|chunk| Some(chunk["choices"][0]["text"].as_str()?.to_owned()))
        .collect();
    assert_eq!(said, "a word");
}

#[tokio::test]
async fn what_is_no_event_of_the_dialect_ends_it() {
    for data in ["[1]", "{", "\"4111 1111 1111 1111\""] {
        let events = [format!("data: {data}\n\n")];
        let (out, _, end) = looked(stream(Dialect::OpenAiChat, CARDS, None), &events).await;
        assert_eq!(end, Err(StreamEnd::Unreadable), "{data}");
        assert!(out.is_empty());
    }
}

fn asking(action: &str) -> String {
    format!(
        r#"{{"looks_at":"output","checks":[{{"name":"far","action":"{action}",
        "check":{{"webhook":{{"url":"https://guard.example/x"}}}}}}]}}"#
    )
}

fn chunks(pieces: &[&str]) -> Vec<String> {
    let chunk = |piece: &&str| json!({"choices": [{"index": 0, "delta": {"content": piece}}]});
    let mut events: Vec<String> = pieces
        .iter()
        .map(chunk)
        .map(|chunk| format!("data: {chunk}\n\n"))
        .collect();
    events.push("data: [DONE]\n\n".to_owned());
    events
}

fn said(text: &str) -> String {
    text.lines()
        .filter_map(|line| serde_json::from_str::<Value>(line.strip_prefix("data: ")?).ok())
        .filter_map(|chunk| Some(chunk["choices"][0]["delta"]["content"].as_str()?.to_owned()))
        .collect()
}

#[tokio::test]
async fn nothing_goes_on_before_somebody_has_looked_at_it() {
    let service = Service::new();
    let first = "word ".repeat(60);
    let pieces = [first.as_str(), "and a fal", "con flies", " away"];
    let chat = stream(Dialect::OpenAiChat, &asking("block"), Some(&service));
    let (text, _, end) = looked(chat, &chunks(&pieces)).await;
    assert!(matches!(end, Err(StreamEnd::Refused(_))), "{end:?}");
    assert_eq!(
        said(&text),
        first,
        "what was asked about goes on, and no more"
    );
    let asked = service.asked.lock();
    assert_eq!(asked.len(), 2, "{asked:?}");
    assert!(asked[1].ends_with("and a falcon flies away"));
    assert!(asked[1].starts_with("word "), "with what came before");
}

#[tokio::test]
async fn what_is_replaced_is_where_it_was_and_stays_so_where_it_is_repeated() {
    let service = Service::new();
    let chat = stream(Dialect::OpenAiChat, &asking("redact"), Some(&service));
    let long = "word ".repeat(60);
    let pieces = [long.as_str(), "falcon, ", "falcon"];
    let (text, noted, end) = looked(chat, &chunks(&pieces)).await;
    assert_eq!(end, Ok(()));
    assert_eq!(said(&text), format!("{long}[BIRD_1], [BIRD_1]"));
    assert_eq!(noted.redacted, 2);

    let place = |kind: &str, more: Value| {
        let mut event = json!({"type": kind, "output_index": 0, "content_index": 0});
        let fields = event.as_object_mut().expect("an object");
        fields.extend(more.as_object().expect("an object").clone());
        named(&event)
    };
    let whole = "A falcon flies.";
    let other = json!({"content": [{"type": "output_text", "text": "Another falcon"}]});
    let events = [
        place("response.output_text.delta", json!({"delta": "A fal"})),
        place("response.output_text.delta", json!({"delta": "con flies."})),
        place("response.output_text.done", json!({"text": whole})),
        place("response.output_item.done", json!({"item": other})),
    ];
    let service = Service::new();
    let responses = stream(Dialect::OpenAiResponses, &asking("redact"), Some(&service));
    let (text, _, end) = looked(responses, &events).await;
    assert_eq!(end, Ok(()));
    assert!(text.contains(r#""text":"A [BIRD_1] flies.""#), "{text}");
    assert!(text.contains("Another [BIRD_1]"), "{text}");
    assert!(!text.contains("falcon"));
    let asked = service.asked.lock();
    assert_eq!(
        *asked,
        [whole, "Another falcon"],
        "what is known is not asked again"
    );
}

#[tokio::test]
async fn pieces_grow_and_end_with_words() {
    let service = Service::new();
    let text = "seven77 ".repeat(4_000);
    let pieces: Vec<&str> = text
        .as_bytes()
        .chunks(8)
        .map(|piece| std::str::from_utf8(piece).expect("ASCII"))
        .collect();
    let chat = stream(Dialect::OpenAiChat, &asking("block"), Some(&service));
    let (out, _, end) = looked(chat, &chunks(&pieces)).await;
    assert_eq!((end, said(&out) == text), (Ok(()), true));
    let asked = service.asked.lock();
    assert_eq!(asked[0].len(), 256);
    assert!(
        asked
            .iter()
            .all(|one| one.len() <= (4 << 10) + 512 && one.ends_with(' '))
    );
    assert!(asked.len() < 16, "{}", asked.len());
}

/// Both sides of a call stand in line where they are long, and neither where it is short.
#[tokio::test(start_paused = true)]
async fn whole_texts_that_are_long_wait_for_their_tenants_place() {
    let check = r#"{"looks_at":"both","checks":[
        {"name":"it","action":"block","check":{"deny-list":{"entries":["falcon"]}}}]}"#;
    let (tenant, all) = (TenantTurn::default(), Turns::of_this_machine());
    let queue = Queue {
        tenant: &tenant,
        all: &all,
        patience: Duration::from_secs(1),
    };
    let _held = queue.place(1 << 20).await.expect("it is free");
    for (bytes, is_long) in [(100 << 10, true), (100, false)] {
        let text = "x".repeat(bytes);
        let asked = json!({"model": "m", "messages": [{"role": "user", "content": text}]});
        let asked = Envelope::parse(asked.to_string().into(), &Bounds::default());
        let asked = asked.expect("an object");
        let answer = json!({"choices": [{"message": {"role": "assistant", "content": text}}]});
        let answer = Bytes::from(answer.to_string());
        let mut inspector = inspector(check);
        let nobody = None::<&&Service>;
        let is_refused = |said| matches!(said, Err(Refusal::Overloaded));
        let asked = inspector.request(Operation::Chat, &asked, nobody, &queue);
        assert_eq!(is_refused(asked.await), is_long);
        let answered = inspector.answer(Operation::Chat, &answer, nobody, &queue);
        assert_eq!(is_refused(answered.await), is_long);
    }
}
