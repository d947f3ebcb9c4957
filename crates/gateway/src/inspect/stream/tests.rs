use super::*;
use crate::inspect::GuardSet;

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

fn run(dialect: Dialect, spec: &str, events: &[Value]) -> (Vec<Value>, Noted) {
    let mut stream = InspectedStream::new(dialect, inspector(spec)).expect("it looks");
    let mut out = BytesMut::new();
    for event in events {
        let kind = event["type"].as_str().expect("a type");
        let text = format!("event: {kind}\ndata: {event}\n\n");
        stream.feed(text.into(), &mut out).expect("it goes on");
    }
    stream.finish(&mut out).expect("it ends");
    let text = String::from_utf8(out.to_vec()).expect("text");
    assert!(!text.contains("1111 1111"), "{text}");
    let data = text.lines().filter_map(|line| line.strip_prefix("data: "));
    let events = data.map(|data| serde_json::from_str(data).expect("JSON"));
    (events.collect(), stream.noted())
}

#[test]
fn what_responses_repeat_is_what_their_deltas_said() {
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
    let (events, noted) = run(Dialect::OpenAiResponses, CARDS, &events);
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

#[test]
fn a_blocks_rest_comes_before_its_end() {
    let delta = |text: &str| {
        json!({"type": "content_block_delta", "index": 1,
        "delta": {"type": "input_json_delta", "partial_json": text}})
    };
    let events = [
        delta("{\"a\":\"4111 1111 11"),
        delta("11 1111"),
        json!({"type": "content_block_stop", "index": 1}),
    ];
    let (events, _) = run(Dialect::Anthropic, CARDS, &events);
    let said = events
        .iter()
        .filter_map(|event| event["delta"]["partial_json"].as_str());
    assert_eq!(said.collect::<String>(), "{\"a\":\"[CARD_1]");
    assert_eq!(
        events.last().expect("the end")["type"],
        "content_block_stop"
    );
}

#[test]
fn what_no_event_ends_is_said_before_the_marker() {
    let mut stream = InspectedStream::new(Dialect::OpenAiChat, inspector(CARDS)).expect("it looks");
    let mut out = BytesMut::new();
    let chunk =
        json!({"id": "c", "choices": [{"index": 0, "text": "a word", "finish_reason": null}]});
    let text = format!("data: {chunk}\n\ndata: [DONE]\n\n");
    stream.feed(text.into(), &mut out).expect("it goes on");
    stream.finish(&mut out).expect("it ends");
    let text = String::from_utf8(out.to_vec()).expect("text");
    assert!(text.ends_with("data: [DONE]\n\n"), "{text}");
    let said: String = text
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line.strip_prefix("data: ")?).ok())
        .filter_map(|chunk| Some(chunk["choices"][0]["text"].as_str()?.to_owned()))
        .collect();
    assert_eq!(said, "a word");
}

#[test]
fn what_is_no_event_of_the_dialect_ends_it() {
    for data in ["[1]", "{", "\"4111 1111 1111 1111\""] {
        let mut stream =
            InspectedStream::new(Dialect::OpenAiChat, inspector(CARDS)).expect("it looks");
        let mut out = BytesMut::new();
        let fed = stream.feed(format!("data: {data}\n\n").into(), &mut out);
        assert_eq!(fed, Err(StreamEnd::Unreadable), "{data}");
        assert!(out.is_empty());
    }
}
