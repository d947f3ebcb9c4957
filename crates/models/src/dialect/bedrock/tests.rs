use bytes::Bytes;
use serde_json::{Value, json};

use super::super::testing::{asked, breaks, chat, events, refused, streamed};
use crate::conversation::{
    AnswerEvent, CacheMark, CacheTtl, Content, Conversation, Effort, Message, Part, Reasoning,
    Role, Signature, Source, StopReason,
};
use crate::dialect::Dialect;
use crate::event_stream::EventMessage;

const CLAUDE: &str = "eu.anthropic.claude-sonnet-4-20250514-v1:0";

fn check(model: &str, body: Value, expected: Value) {
    assert_eq!(
        asked(Dialect::Bedrock, model, &chat(body)).unwrap(),
        expected
    );
}

#[test]
fn a_request_has_blocks_tools_and_a_bound() {
    let call = json!({"id": "call_1", "type": "function",
        "function": {"name": "f", "arguments": "{\"a\": 1}"}});
    check(
        CLAUDE,
        json!({
            "messages": [
                {"role": "system", "content": "Be brief."},
                {"role": "user", "content": [
                    {"type": "text", "text": "Hi"},
                    {"type": "image_url", "image_url": {"url": "data:image/jpeg;base64,AAAA"}},
                ]},
                {"role": "assistant", "content": "", "tool_calls": [call]},
                {"role": "tool", "tool_call_id": "call_1", "content": "2"},
                {"role": "user", "content": "Go on"},
            ],
            "tools": [{"type": "function", "function": {"name": "f", "strict": true}}],
            "tool_choice": "required",
            "temperature": 0.5, "top_k": 5, "stop": "END", "service_tier": "flex",
            "response_format": {"type": "json_schema",
                "json_schema": {"name": "x", "schema": {"type": "object"}}},
        }),
        json!({
            "system": [{"text": "Be brief."}],
            "messages": [
                {"role": "user", "content": [
                    {"text": "Hi"},
                    {"image": {"format": "jpeg", "source": {"bytes": "AAAA"}}},
                ]},
                {"role": "assistant", "content": [
                    {"toolUse": {"toolUseId": "call_1", "name": "f", "input": {"a": 1}}},
                ]},
                {"role": "user", "content": [
                    {"toolResult": {"toolUseId": "call_1", "content": [{"text": "2"}]}},
                    {"text": "Go on"},
                ]},
            ],
            "inferenceConfig": {"maxTokens": 4096, "temperature": 0.5, "stopSequences": ["END"]},
            "toolConfig": {
                "tools": [{"toolSpec": {"name": "f", "strict": true,
                    "inputSchema": {"json": {"type": "object"}}}}],
                "toolChoice": {"any": {}},
            },
            "outputConfig": {"textFormat": {"type": "json_schema", "structure": {
                "jsonSchema": {"schema": "{\"type\":\"object\"}", "name": "x"}}}},
            "additionalModelRequestFields": {"top_k": 5},
            "serviceTier": {"type": "flex"},
        }),
    );
}

fn hello() -> Conversation {
    chat(json!({"messages": [{"role": "user", "content": "Hi"}]}))
}

#[test]
fn thinking_is_said_in_the_makers_words() {
    let think = |model: &str, effort| {
        let mut conversation = hello();
        conversation.reasoning = Some(Reasoning {
            effort: Some(effort),
            ..Reasoning::default()
        });
        let asked = asked(Dialect::Bedrock, model, &conversation);
        asked.map(|asked| asked["additionalModelRequestFields"].clone())
    };
    let budget = |tokens| json!({"thinking": {"type": "enabled", "budget_tokens": tokens}});
    assert_eq!(think(CLAUDE, Effort::Medium).unwrap(), budget(2048));
    assert_eq!(think(CLAUDE, Effort::Minimal).unwrap(), budget(1024));
    assert_eq!(think(CLAUDE, Effort::None).unwrap(), Value::Null);
    assert_eq!(
        think("us.amazon.nova-2-lite-v1:0", Effort::Low).unwrap(),
        json!({"reasoningConfig": {"type": "enabled", "maxReasoningEffort": "low"}})
    );
    assert_eq!(
        think("openai.gpt-oss-120b-1:0", Effort::XHigh).unwrap(),
        json!({"reasoning_effort": "high"})
    );
    assert!(think("meta.llama3-70b", Effort::High).is_err());
}

#[test]
fn marks_documents_and_signatures_have_their_blocks() {
    let mut marked = Part::text("Long.");
    marked.cache = Some(CacheMark {
        ttl: Some(CacheTtl::OneHour),
    });
    let document = |title: &str| {
        Part::from(Content::Document {
            source: Source::Base64 {
                media_type: "application/pdf".into(),
                data: "AAAA".into(),
            },
            title: Some(title.into()),
        })
    };
    let mut thought = Part::from(Content::Reasoning("Hm.".into()));
    thought.signature = Some(Signature {
        origin: Dialect::Anthropic,
        data: "c2ln".into(),
    });
    let foreign = Part {
        signature: Some(Signature {
            origin: Dialect::Gemini,
            data: "eHl6".into(),
        }),
        ..thought.clone()
    };
    let mut conversation = hello();
    conversation.messages = vec![
        Message::new(Role::System, vec![marked.clone()]),
        Message::new(
            Role::User,
            vec![marked, document("a_b  c.pdf"), document("a_b  c.pdf")],
        ),
        Message::new(Role::Assistant, vec![thought, foreign, Part::text("Yes.")]),
    ];
    let asked = asked(Dialect::Bedrock, CLAUDE, &conversation).unwrap();
    let point = json!({"cachePoint": {"type": "default", "ttl": "1h"}});
    assert_eq!(asked["system"], json!([{"text": "Long."}, point]));
    let pdf =
        |name| json!({"document": {"format": "pdf", "name": name, "source": {"bytes": "AAAA"}}});
    assert_eq!(
        asked["messages"],
        json!([
            {"role": "user", "content": [
                {"text": "Long."}, point, pdf("a b c pdf"), pdf("a b c pdf 2"),
            ]},
            {"role": "assistant", "content": [
                {"reasoningContent": {"reasoningText": {"text": "Hm.", "signature": "c2ln"}}},
                {"text": "Yes."},
            ]},
        ])
    );
}

#[test]
fn what_bedrock_cannot_hear_is_refused_by_name() {
    let field = |body: Value| {
        let mut body = body;
        if body.get("messages").is_none() {
            body["messages"] = json!([{"role": "user", "content": "Hi"}]);
        }
        refused(Dialect::Bedrock, "meta.llama3", &chat(body))
    };
    assert_eq!(field(json!({"n": 2})), "n");
    assert_eq!(field(json!({"seed": 2})), "seed");
    assert_eq!(field(json!({"top_k": 2})), "top_k");
    assert_eq!(
        field(json!({"response_format": {"type": "json_object"}})),
        "response_format"
    );
    let image = json!({"type": "image_url", "image_url": {"url": "https://x.y/a.png"}});
    assert_eq!(
        field(json!({"messages": [{"role": "user", "content": [image]}]})),
        "messages"
    );
}

#[test]
fn ids_take_bedrocks_shape() {
    let call = |id: &str| {
        json!({"id": id, "type": "function",
        "function": {"name": "f", "arguments": "{}"}})
    };
    let id = "fc.1:x/".repeat(20);
    let body = json!({"messages": [
        {"role": "assistant", "tool_calls": [call(&id)]},
        {"role": "tool", "tool_call_id": id, "content": "2"},
    ]});
    let asked = asked(Dialect::Bedrock, CLAUDE, &chat(body)).unwrap();
    let called = &asked["messages"][0]["content"][0]["toolUse"]["toolUseId"];
    let answered = &asked["messages"][1]["content"][0]["toolResult"]["toolUseId"];
    assert_eq!(called, answered);
    assert_eq!(called.as_str().unwrap().len(), 64);
}

const WHOLE: &str = r#"{
  "output": {"message": {"role": "assistant", "content": [
    {"reasoningContent": {"reasoningText": {"text": "Hm, so.", "signature": "c2ln"}}},
    {"reasoningContent": {"redactedContent": "cmVk"}},
    {"text": "It is."},
    {"toolUse": {"toolUseId": "tooluse_1", "name": "f", "input": {"a":1}}}
  ]}},
  "stopReason": "tool_use",
  "usage": {"inputTokens": 10, "outputTokens": 20, "totalTokens": 130, "cacheReadInputTokens": 60,
    "cacheWriteInputTokens": 40, "cacheDetails": [{"ttl": "1h", "inputTokens": 30}, {"ttl": "5m", "inputTokens": 10}]},
  "metrics": {"latencyMs": 551}
}"#;

fn stream(events: &[(&str, &str)]) -> Vec<u8> {
    let messages = events.iter().map(|(kind, payload)| {
        let payload = Bytes::copy_from_slice(payload.as_bytes());
        EventMessage::event(kind, payload).encode().unwrap()
    });
    messages.flatten().collect()
}

const EVENTS: &[(&str, &str)] = &[
    ("messageStart", r#"{"p":"abc","role":"assistant"}"#),
    (
        "contentBlockDelta",
        r#"{"contentBlockIndex":0,"delta":{"reasoningContent":{"text":"Hm, "}}}"#,
    ),
    (
        "contentBlockDelta",
        r#"{"contentBlockIndex":0,"delta":{"reasoningContent":{"text":"so."}}}"#,
    ),
    (
        "contentBlockDelta",
        r#"{"contentBlockIndex":0,"delta":{"reasoningContent":{"signature":"c2ln"}}}"#,
    ),
    ("contentBlockStop", r#"{"contentBlockIndex":0}"#),
    (
        "contentBlockDelta",
        r#"{"contentBlockIndex":1,"delta":{"reasoningContent":{"redactedContent":"cmVk"}}}"#,
    ),
    ("contentBlockStop", r#"{"contentBlockIndex":1}"#),
    (
        "contentBlockDelta",
        r#"{"contentBlockIndex":2,"delta":{"text":"It "}}"#,
    ),
    (
        "contentBlockDelta",
        r#"{"contentBlockIndex":2,"delta":{"text":"is."},"p":"abcdef"}"#,
    ),
    ("contentBlockStop", r#"{"contentBlockIndex":2}"#),
    (
        "contentBlockStart",
        r#"{"contentBlockIndex":3,"start":{"toolUse":{"toolUseId":"tooluse_1","name":"f"}}}"#,
    ),
    (
        "contentBlockDelta",
        r#"{"contentBlockIndex":3,"delta":{"toolUse":{"input":"{\"a\""}}}"#,
    ),
    (
        "contentBlockDelta",
        r#"{"contentBlockIndex":3,"delta":{"toolUse":{"input":":1}"}}}"#,
    ),
    ("contentBlockStop", r#"{"contentBlockIndex":3}"#),
    ("messageStop", r#"{"stopReason":"tool_use"}"#),
    (
        "metadata",
        r#"{"usage":{"inputTokens":10,"outputTokens":20,"totalTokens":130,"cacheReadInputTokens":60,
        "cacheWriteInputTokens":40,"cacheDetails":[{"ttl":"1h","inputTokens":30}]},"metrics":{"latencyMs":1}}"#,
    ),
];

#[test]
fn an_answer_is_the_same_whole_and_streamed() {
    let whole = Dialect::Bedrock.read_answer(WHOLE.as_bytes()).unwrap();
    let usage = whole.usage.unwrap();
    assert_eq!(
        (
            usage.input_tokens,
            usage.cached_read_tokens,
            usage.cached_write_tokens
        ),
        (110, 60, 40)
    );
    assert_eq!(
        (usage.output_tokens, usage.cached_write_1h_tokens),
        (20, 30)
    );
    let candidate = &whole.candidates[0];
    assert_eq!(candidate.stop, Some(StopReason::ToolCalls));
    assert_eq!(candidate.parts.len(), 4);
    assert_eq!(
        candidate.parts[1].signature_of(Dialect::Bedrock),
        Some("cmVk")
    );
    assert_eq!(streamed(Dialect::Bedrock, &stream(EVENTS)), whole);
    for count in [0, 3, EVENTS.len() - 2] {
        breaks(Dialect::Bedrock, &stream(&EVENTS[..count]));
    }
}

#[test]
fn failures_in_mid_stream_are_told() {
    let mut bytes = stream(&EVENTS[..2]);
    let payload = Bytes::from_static(br#"{"message":"Too many requests"}"#);
    let exception = EventMessage::exception("throttlingException", payload);
    bytes.extend_from_slice(&exception.encode().unwrap());
    let events = events(Dialect::Bedrock, &[&bytes]);
    let Some(AnswerEvent::Error(failure)) = events.last() else {
        panic!("{events:?}");
    };
    assert_eq!(failure.kind, "throttlingException");
    assert_eq!(failure.message, "Too many requests");
    breaks(Dialect::Bedrock, b"data: {}\n\n____________________");
}
