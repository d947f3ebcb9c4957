//! What is taken out of bodies, and what stays.

use serde_json::{Value, json};

use super::*;

const CARD: &str = "4111 1111 1111 1111";

fn guardrails(spec: Value) -> Guardrails {
    let spec: GuardrailSpec = serde_json::from_value(spec).unwrap();
    Guardrails::from([("own".parse().unwrap(), Arc::new(spec))])
}

async fn redacted_by(redactor: &Redactor, hidden: &Hidden, body: &[u8]) -> (Value, bool) {
    let (feature, model) = ("chat".parse().unwrap(), "m".parse().unwrap());
    let mut redaction = redactor.of_call(&feature, &model, hidden).unwrap();
    let redacted = redaction.redact(body).await.unwrap();
    let json = serde_json::from_slice(&redacted.json).expect("it stays JSON");
    (json, redacted.is_cut)
}

async fn redacted(body: &Value) -> Value {
    let redactor = Redactor::compile(None).unwrap();
    let body = body.to_string();
    let (json, is_cut) = redacted_by(&redactor, &Hidden::default(), body.as_bytes()).await;
    assert!(!is_cut);
    json
}

#[tokio::test]
async fn cards_secrets_and_persons_are_taken_out_wherever_they_stand() {
    let key = format!("sk-ant-api03-{}", "Ab3".repeat(31));
    let body = json!({
        "model": "m", "temperature": 0.5, "n": 1, "seed": 12345678, "stream": false, "user": null,
        "metadata": {"card": 4111111111111111_u64, "mary@example.com": true},
        "messages": [
            {"role": "user", "content": format!("pay with {CARD}\nor\n{CARD}")},
            {"role": "user", "content": [{"type": "text", "text": format!("key {key}")}]},
            {"role": "assistant", "tool_calls": [{"function": {"name": "f",
                "arguments": format!("{{\"to\": \"mary@example.com\", \"card\": \"{CARD}\"}}")}}]},
        ],
        "tools": [{"api_key": "hunter two", "X-Client-Secret": "short", "password": ""}],
    });
    let found = redacted(&body).await;
    let text = found.to_string();
    for secret in [CARD, "4111111111111111", "mary@", &key, "hunter", "short"] {
        assert!(!text.contains(secret), "{secret}: {text}");
    }
    assert_eq!(
        found["messages"][0]["content"],
        "pay with [CARD_1]\nor\n[CARD_1]"
    );
    assert_eq!(found["tools"][0]["password"], "");
    // The rest is as it was.
    for field in ["model", "temperature", "n", "seed", "stream", "user"] {
        assert_eq!(found[field], body[field]);
    }
    assert_eq!(
        found["messages"][2]["tool_calls"][0]["function"]["name"],
        "f"
    );
}

#[tokio::test]
async fn what_escapes_hide_is_found() {
    let redactor = Redactor::compile(None).unwrap();
    let body = br#"{"content":"\u0034111 1111 1111 1111","\u006dary@example.com":1}"#;
    let (json, _) = redacted_by(&redactor, &Hidden::default(), body).await;
    assert_eq!(json["content"], "[CARD_1]");
    assert!(!json.to_string().contains("mary"), "{json}");
}

#[tokio::test]
async fn what_the_tenants_guardrails_look_for_is_taken_out_whatever_they_do_about_it() {
    for action in ["block", "redact", "flag"] {
        let own = guardrails(json!({"looks_at": "input", "models": ["m"], "checks": [
            {"name": "project", "action": action, "check": {"regex": {"patterns": ["Blue[a-z]{4}"]}}}]}));
        let redactor = Redactor::compile(Some(&own)).unwrap();
        let body = br#"{"content":"about Bluebird"}"#;
        let (json, _) = redacted_by(&redactor, &Hidden::default(), body).await;
        assert_eq!(json["content"], "about [PROJECT_1]", "{action}");
    }
    // One that is for other models has nothing to say here.
    let own = guardrails(json!({"looks_at": "input", "models": ["other"], "checks": [
        {"name": "project", "action": "redact", "check": {"regex": {"patterns": ["Blue[a-z]{4}"]}}}]}));
    let redactor = Redactor::compile(Some(&own)).unwrap();
    let (json, _) = redacted_by(&redactor, &Hidden::default(), br#"{"a":"Bluebird"}"#).await;
    assert_eq!(json["a"], "Bluebird");
}

/// What a service has taken out of a request comes back in the answer: it is taken out again.
#[tokio::test]
async fn what_was_given_back_to_the_client_is_not_kept() {
    let redactor = Redactor::compile(None).unwrap();
    let mut hidden = Hidden::default();
    hidden.add("Jane \"JJ\" Doe", "[PERSON_1]");
    hidden.add("Jane", "[PERSON_2]");
    let body = json!({"a": "Dear Jane \"JJ\" Doe, and Jane",
        "arguments": json!({"to": "Jane \"JJ\" Doe"}).to_string()});
    let (json, _) = redacted_by(&redactor, &hidden, body.to_string().as_bytes()).await;
    assert_eq!(json["a"], "Dear [PERSON_1], and [PERSON_2]");
    assert_eq!(json["arguments"], r#"{"to":"[PERSON_1]"}"#);
    assert_eq!(format!("{hidden:?}"), "Hidden(3)");
}

#[tokio::test]
async fn what_is_too_much_is_left_out_and_it_stays_json() {
    let redactor = Redactor::compile(None).unwrap();
    // A card across the cut is a card.
    let before = "x ".repeat((BODY_BYTES_MAX - 20) / 2);
    for shift in [0, 13, 19, 26, 39] {
        let text = format!(
            "{}{before}{CARD} and more {}",
            " ".repeat(shift),
            "y".repeat(900)
        );
        let body = json!({"a": text, "b": ["c", "d"]}).to_string();
        let (json, is_cut) = redacted_by(&redactor, &Hidden::default(), body.as_bytes()).await;
        assert!(is_cut);
        let kept = json["a"].as_str().unwrap();
        assert!(!kept.contains("411"), "{}", &kept[kept.len() - 40..]);
        assert!(json.to_string().len() <= BODY_BYTES_MAX + 64);
    }
    let many = json!(vec!["z"; 100_000]).to_string();
    let (json, is_cut) = redacted_by(&redactor, &Hidden::default(), many.as_bytes()).await;
    assert!(is_cut && json.to_string().len() <= BODY_BYTES_MAX + 64);
    let deep = format!("{}1{}", "[".repeat(5_000), "]".repeat(5_000));
    let (_, is_cut) = redacted_by(&redactor, &Hidden::default(), deep.as_bytes()).await;
    assert!(is_cut);
}

#[tokio::test]
async fn bytes_are_told_by_their_length() {
    let picture = format!("data:image/png;base64,{}", "A".repeat(100_000));
    let body = json!({"image_url": {"url": picture}, "source": {"data": "B".repeat(300)},
        "text": {"data": "short"}});
    let found = redacted(&body).await;
    assert_eq!(found["image_url"]["url"], "[100022 bytes]");
    assert_eq!(found["source"]["data"], "[300 bytes]");
    assert_eq!(found["text"]["data"], "short");
}

fn names() -> models::AnswerNames {
    models::AnswerNames {
        id: "req_1".to_owned(),
        model: "m".to_owned(),
        created: 1,
    }
}

fn of_stream(operation: models::Operation, events: &[Value], is_complete: bool) -> Value {
    let events = events.iter().map(|event| format!("data: {event}\n\n"));
    let stream: String = events.collect::<Vec<_>>().concat() + "data: [DONE]\n\n";
    let whole = whole_of_stream(operation, stream.into(), &names(), is_complete);
    serde_json::from_slice(&whole).unwrap()
}

#[test]
fn a_stream_becomes_one_body_so_that_nothing_hides_between_its_pieces() {
    let piece = |text: &str| {
        json!({"id": "a", "object": "chat.completion.chunk", "created": 1, "model": "m",
            "choices": [{"index": 0, "delta": {"content": text}, "finish_reason": null}]})
    };
    let end = json!({"id": "a", "object": "chat.completion.chunk", "created": 1, "model": "m",
        "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]});
    let events = [piece("4111 1111"), piece(" 1111 "), piece("1111"), end];
    let whole = of_stream(models::Operation::Chat, &events, true);
    assert_eq!(whole["choices"][0]["message"]["content"], CARD);
    let part = of_stream(models::Operation::Chat, &events[..2], false);
    let expected = json!([{"index": 0, "field": "content", "text": "4111 1111 1111 "}]);
    assert_eq!(part["parts"], expected);
}

#[test]
fn every_dialects_stream_can_break_off() {
    let messages = [
        json!({"type": "message_start", "message": {}}),
        json!({"type": "content_block_delta", "index": 1, "delta": {"type": "text_delta", "text": "a"}}),
        json!({"type": "content_block_delta", "index": 1, "delta": {"type": "text_delta", "text": "b"}}),
    ];
    let part = of_stream(models::Operation::Messages, &messages, false);
    assert_eq!(
        part["parts"],
        json!([{"index": 1, "field": "text", "text": "ab"}])
    );
    let responses = [
        json!({"type": "response.output_text.delta", "output_index": 2, "delta": "c"}),
        json!({"type": "response.completed", "response": {"id": "resp_1"}}),
    ];
    let part = of_stream(models::Operation::Responses, &responses[..1], false);
    assert_eq!(part["parts"][0]["text"], "c");
    let whole = of_stream(models::Operation::Responses, &responses, true);
    assert_eq!(whole, json!({"id": "resp_1"}));
    let completions = [json!({"choices": [{"index": 0, "text": "d"}]})];
    let part = of_stream(models::Operation::Completion, &completions, true);
    assert_eq!(part["parts"][0]["text"], "d");
    let calls = [json!({"choices": [{"index": 0, "delta": {"tool_calls": [
        {"index": 3, "function": {"name": "f", "arguments": "{}"}}]}}]})];
    let part = of_stream(models::Operation::Chat, &calls, false);
    assert_eq!(part["parts"][0]["field"], "tool_calls.3.arguments");
}
