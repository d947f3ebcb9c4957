use serde_json::{Value, json};

use super::super::testing::{asked, breaks, chat, refused, streamed};
use super::request::knows_levels;
use crate::conversation::{AnswerEvent, Content, Conversation, Message, Part, Role, StopReason};
use crate::dialect::Dialect;

const MODEL: &str = "gemini-2.5-flash";

fn check(body: Value, expected: Value) {
    assert_eq!(
        asked(Dialect::Gemini, MODEL, &chat(body)).unwrap(),
        expected
    );
}

#[test]
fn a_plain_request_has_contents_and_a_bound() {
    check(
        json!({
            "messages": [
                {"role": "system", "content": "Be brief."},
                {"role": "user", "content": "Hi"},
                {"role": "assistant", "content": "Hello"},
                {"role": "user", "content": [
                    {"type": "text", "text": "What is this?"},
                    {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}},
                    {"type": "image_url", "image_url": {"url": "https://x.y/a.webp"}},
                ]},
            ],
            "temperature": 0.5, "top_p": 0.9, "top_k": 40, "stop": ["END"], "seed": 7, "n": 2,
            "presence_penalty": 0.1, "logprobs": true, "top_logprobs": 2,
        }),
        json!({
            "systemInstruction": {"parts": [{"text": "Be brief."}]},
            "contents": [
                {"role": "user", "parts": [{"text": "Hi"}]},
                {"role": "model", "parts": [{"text": "Hello"}]},
                {"role": "user", "parts": [
                    {"text": "What is this?"},
                    {"inlineData": {"mimeType": "image/png", "data": "AAAA"}},
                    {"fileData": {"mimeType": "image/webp", "fileUri": "https://x.y/a.webp"}},
                ]},
            ],
            "generationConfig": {
                "temperature": 0.5, "topP": 0.9, "topK": 40, "candidateCount": 2,
                "stopSequences": ["END"], "presencePenalty": 0.1, "seed": 7,
                "responseLogprobs": true, "logprobs": 2, "maxOutputTokens": 4096,
            },
        }),
    );
}

fn call(id: &str, name: &str, arguments: &str) -> Value {
    json!({"id": id, "type": "function", "function": {"name": name, "arguments": arguments}})
}

#[test]
fn calls_and_results_match_by_name() {
    let body = json!({
        "messages": [
            {"role": "user", "content": "Weather?"},
            {"role": "assistant", "content": null, "tool_calls": [
                call("call_1", "weather", "{\"city\":\"Rome\"}"),
                call("gemini_8f2b", "time", ""),
            ]},
            {"role": "tool", "tool_call_id": "call_1", "content": "{\"c\":30}"},
            {"role": "tool", "tool_call_id": "gemini_8f2b", "content": "noon"},
        ],
        "tools": [{"type": "function", "function": {
            "name": "weather", "description": "d", "strict": true,
            "parameters": {"type": "object", "additionalProperties": false},
        }}],
        "tool_choice": {"type": "function", "function": {"name": "weather"}},
    });
    let expected = json!({
        "contents": [
            {"role": "user", "parts": [{"text": "Weather?"}]},
            {"role": "model", "parts": [
                {"functionCall": {"name": "weather", "args": {"city": "Rome"}}},
                {"functionCall": {"id": "8f2b", "name": "time", "args": {}}},
            ]},
            {"role": "user", "parts": [
                {"functionResponse": {"name": "weather", "response": {"c": 30}}},
                {"functionResponse": {"id": "8f2b", "name": "time",
                    "response": {"output": "noon"}}},
            ]},
        ],
        "tools": [{"functionDeclarations": [{
            "name": "weather", "description": "d",
            "parametersJsonSchema": {"type": "object", "additionalProperties": false},
        }]}],
        "toolConfig": {"functionCallingConfig": {
            "mode": "ANY", "allowedFunctionNames": ["weather"],
        }},
        "generationConfig": {"maxOutputTokens": 4096},
    });
    check(body.clone(), expected);

    let later = asked(Dialect::Gemini, "gemini-3-pro-preview", &chat(body)).unwrap();
    let parts = &later["contents"][1]["parts"];
    assert_eq!(
        parts[0]["thoughtSignature"],
        "skip_thought_signature_validator"
    );
    assert_eq!(parts[1].get("thoughtSignature"), None);
}

#[test]
fn schemas_and_thinking_have_their_places() {
    let ask = |model, body: Value| {
        let mut body = body;
        body["messages"] = json!([{"role": "user", "content": "Hi"}]);
        let asked = asked(Dialect::Gemini, model, &chat(body)).unwrap();
        asked["generationConfig"].clone()
    };
    let schema = json!({"type": "object"});
    let format = json!({"type": "json_schema", "json_schema": {"name": "x", "schema": schema}});
    assert_eq!(
        ask(MODEL, json!({"response_format": format})),
        json!({"maxOutputTokens": 4096, "responseMimeType": "application/json",
            "responseJsonSchema": schema})
    );
    let thinking = |model, effort: &str| {
        ask(model, json!({"reasoning_effort": effort}))["thinkingConfig"].clone()
    };
    let budget = |budget| json!({"includeThoughts": budget > 0, "thinkingBudget": budget});
    assert_eq!(thinking(MODEL, "none"), budget(0));
    assert_eq!(thinking(MODEL, "low"), budget(1024));
    assert_eq!(thinking(MODEL, "high"), budget(3276));
    let level = |level| json!({"includeThoughts": true, "thinkingLevel": level});
    assert_eq!(thinking("gemini-3-pro-preview", "medium"), level("high"));
    assert_eq!(thinking("gemini-3.1-pro", "medium"), level("medium"));
    assert_eq!(thinking("gemini-3-flash", "minimal"), level("minimal"));
    assert!(!knows_levels("gemini-2.5-pro") && !knows_levels("gemma-3-27b"));
}

#[test]
fn what_gemini_cannot_hear_is_refused_by_name() {
    let field = |body: Value| {
        let mut body = body;
        if body.get("messages").is_none() {
            body["messages"] = json!([{"role": "user", "content": "Hi"}]);
        }
        refused(Dialect::Gemini, MODEL, &chat(body))
    };
    assert_eq!(field(json!({"min_p": 0.1})), "min_p");
    assert_eq!(field(json!({"logit_bias": {"1": 2}})), "logit_bias");
    assert_eq!(field(json!({"verbosity": "low"})), "verbosity");
    assert_eq!(field(json!({"service_tier": "flex"})), "service_tier");
    let image = json!({"type": "image_url", "image_url": {"url": "https://x.y/a"}});
    assert_eq!(
        field(json!({"messages": [{"role": "user", "content": [image]}]})),
        "messages"
    );
    let orphan = json!({"role": "tool", "tool_call_id": "x", "content": "y"});
    assert_eq!(field(json!({"messages": [orphan]})), "messages");
}

const WHOLE: &str = r#"{
  "candidates": [{
    "content": {"role": "model", "parts": [
      {"text": "Let me ", "thought": true}, {"text": "think.", "thought": true},
      {"text": "It is "}, {"text": "warm."}, {"text": "", "thoughtSignature": "c2ln"},
      {"functionCall": {"name": "weather", "args": {"city": "Rome"}}, "thoughtSignature": "YWJj"},
      {"functionCall": {"id": "8f2b", "name": "time"}}
    ]},
    "finishReason": "STOP", "index": 0, "avgLogprobs": -0.1,
    "logprobsResult": {"topCandidates": [{"candidates": [{"token": "It", "tokenId": 1, "logProbability": -0.5}]}],
      "chosenCandidates": [{"token": "It", "tokenId": 1, "logProbability": -0.5}]}
  }],
  "usageMetadata": {"promptTokenCount": 100, "cachedContentTokenCount": 40, "candidatesTokenCount": 20,
    "thoughtsTokenCount": 30, "toolUsePromptTokenCount": 5, "totalTokenCount": 155},
  "modelVersion": "gemini-2.5-flash", "responseId": "4xKa-Z_6"
}"#;

const STREAM: &str = concat!(
    "data: {\"candidates\":[{\"content\":{\"role\":\"model\",\"parts\":[{\"text\":\"Let me \",\"thought\":true}]},\"index\":0}],\"usageMetadata\":{\"promptTokenCount\":100,\"thoughtsTokenCount\":4},\"modelVersion\":\"gemini-2.5-flash\",\"responseId\":\"4xKa-Z_6\"}\r\n\r\n",
    "data: {\"candidates\":[{\"content\":{\"role\":\"model\",\"parts\":[{\"text\":\"think.\",\"thought\":true},{\"text\":\"It is \"}]},\"index\":0}],\"responseId\":\"4xKa-Z_6\"}\r\n\r\n",
    "data: {\"candidates\":[{\"content\":{\"role\":\"model\",\"parts\":[{\"text\":\"warm.\"},{\"text\":\"\",\"thoughtSignature\":\"c2ln\"}]},\"index\":0,\"logprobsResult\":{\"topCandidates\":[{\"candidates\":[{\"token\":\"It\",\"logProbability\":-0.5}]}],\"chosenCandidates\":[{\"token\":\"It\",\"logProbability\":-0.5}]}}]}\r\n\r\n",
    "data: {\"candidates\":[{\"content\":{\"role\":\"model\",\"parts\":[{\"functionCall\":{\"name\":\"weather\",\"args\":{\"city\": \"Rome\"}},\"thoughtSignature\":\"YWJj\"}]},\"index\":0}]}\r\n\r\n",
    "data: {\"candidates\":[{\"content\":{\"role\":\"model\",\"parts\":[{\"functionCall\":{\"id\":\"8f2b\",\"name\":\"time\",\"args\":{}}}]},\"index\":0,\"finishReason\":\"STOP\"}],\"usageMetadata\":{\"promptTokenCount\":100,\"cachedContentTokenCount\":40,\"candidatesTokenCount\":20,\"thoughtsTokenCount\":30,\"toolUsePromptTokenCount\":5},\"modelVersion\":\"gemini-2.5-flash\"}\r\n\r\n",
);

#[test]
fn an_answer_is_the_same_whole_and_streamed() {
    let whole = Dialect::Gemini.read_answer(WHOLE.as_bytes()).unwrap();
    let usage = whole.usage.unwrap();
    assert_eq!(
        (
            usage.input_tokens,
            usage.cached_read_tokens,
            usage.output_tokens,
            usage.reasoning_tokens
        ),
        (105, 40, 50, 30)
    );
    let candidate = &whole.candidates[0];
    assert_eq!(candidate.stop, Some(StopReason::ToolCalls));
    let contents: Vec<_> = candidate.parts.iter().map(|part| &part.content).collect();
    assert_eq!(contents[0], &Content::Reasoning("Let me think.".into()));
    assert_eq!(contents[1], &Content::Text("It is warm.".into()));
    let ids: Vec<_> = contents[2..]
        .iter()
        .map(|content| match content {
            Content::ToolCall(call) => call.id.as_str(),
            _ => "",
        })
        .collect();
    assert_eq!(ids, ["call_4xKaZ6_0_0", "gemini_8f2b"]);
    let signatures = candidate.parts.iter();
    let signatures: Vec<_> = signatures
        .map(|part| part.signature_of(Dialect::Gemini))
        .collect();
    assert_eq!(signatures, [None, Some("c2ln"), Some("YWJj"), None]);
    let logprobs = candidate.logprobs.as_ref().unwrap();
    assert_eq!(
        serde_json::from_slice::<Value>(logprobs.as_bytes()).unwrap(),
        json!([{"token": "It", "logprob": -0.5, "bytes": [73, 116],
            "top_logprobs": [{"token": "It", "logprob": -0.5, "bytes": [73, 116]}]}])
    );
    assert_eq!(streamed(Dialect::Gemini, STREAM.as_bytes()), whole);

    // Sent back, each signature stands where it came from.
    let mut conversation = Conversation::new(Dialect::OpenAiChat);
    conversation.messages = vec![
        Message::new(Role::User, vec![Part::text("Weather?")]),
        Message::new(Role::Assistant, candidate.parts.clone()),
    ];
    let again = asked(Dialect::Gemini, MODEL, &conversation).unwrap();
    assert_eq!(
        again["contents"][1]["parts"],
        json!([
            {"text": "It is warm.", "thoughtSignature": "c2ln"},
            {"functionCall": {"name": "weather", "args": {"city": "Rome"}},
                "thoughtSignature": "YWJj"},
            {"functionCall": {"id": "8f2b", "name": "time", "args": {}}},
        ])
    );
}

#[test]
fn blocked_prompts_and_errors_are_told() {
    let blocked = r#"{"promptFeedback":{"blockReason":"SAFETY"},
        "usageMetadata":{"promptTokenCount":4,"totalTokenCount":4}}"#;
    let answer = Dialect::Gemini.read_answer(blocked.as_bytes()).unwrap();
    assert_eq!(answer.candidates[0].stop, Some(StopReason::Refused));
    let stream = format!("data: {}\n\n", blocked.replace('\n', ""));
    assert_eq!(streamed(Dialect::Gemini, stream.as_bytes()), answer);

    let error = r#"data: {"error":{"code":503,"message":"later","status":"UNAVAILABLE"}}"#;
    let events = super::super::testing::events(Dialect::Gemini, &[error.as_bytes(), b"\n\n"]);
    assert!(matches!(&events[..], [AnswerEvent::Error(failure)] if failure.kind == "UNAVAILABLE"));

    for bad in [
        "",
        "{}",
        "[]",
        r#"{"candidates":[]}"#,
        r#"{"candidates":[{"content":{"parts":3}}]}"#,
    ] {
        assert!(
            Dialect::Gemini.read_answer(bad.as_bytes()).is_err(),
            "{bad}"
        );
    }
    let (cut, _) = STREAM.rsplit_once("data: ").unwrap();
    breaks(Dialect::Gemini, cut.as_bytes());
    breaks(
        Dialect::Gemini,
        b"data: {\"candidates\":[{\"index\":9}]}\n\n",
    );
}
