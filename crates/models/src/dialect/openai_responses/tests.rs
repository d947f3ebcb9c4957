use serde_json::{Value, json};

use super::super::testing::{asked, breaks, chat, envelope, events, refused, streamed};
use super::{ResponseEcho, input_items, join_items, output_items, without_state};
use crate::conversation::{
    Answer, AnswerEvent, Content, Conversation, Message, Part, Role, Signature, StopReason,
};
use crate::dialect::stream::StreamWriter;
use crate::dialect::{AnswerNames, Dialect};
use crate::json::Json;

const RESPONSES: Dialect = Dialect::OpenAiResponses;

fn read(mut body: Value) -> Conversation {
    body["model"] = "m".into();
    RESPONSES.read_request(&envelope(&body)).unwrap()
}

fn parsed(body: &[u8]) -> Value {
    serde_json::from_slice(body).unwrap()
}

fn items() -> Value {
    json!([
        {"role": "user", "content": "Weather?"},
        {"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": "Hm."}],
            "encrypted_content": "gAAA"},
        {"type": "function_call", "id": "fc_1", "call_id": "c1", "name": "weather",
            "arguments": "{\"city\":\"Rome\"}", "status": "completed", "signature": "gemini:c2ln"},
        {"type": "function_call", "call_id": "c2", "name": "time", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c1", "output": "30"},
        {"type": "function_call_output", "call_id": "c2",
            "output": [{"type": "input_text", "text": "noon"}]},
        {"type": "message", "role": "assistant", "id": "msg_1", "status": "completed",
            "content": [{"type": "output_text", "text": "Warm.", "annotations": []}]},
        {"role": "user", "content": [
            {"type": "input_text", "text": "And here?"},
            {"type": "input_image", "image_url": "data:image/png;base64,AAAA", "detail": "low"},
            {"type": "input_file", "filename": "a.pdf", "file_data": "data:application/pdf;base64,BBBB"},
        ]},
    ])
}

#[test]
fn items_of_one_turn_are_one_message() {
    let conversation = read(json!({
        "instructions": "Be brief.", "input": items(), "max_output_tokens": 9,
        "tools": [{"type": "function", "name": "weather", "parameters": {"type": "object"}}],
        "tool_choice": {"type": "function", "name": "weather"},
        "text": {"format": {"type": "json_schema", "name": "x", "schema": {}}, "verbosity": "low"},
        "reasoning": {"effort": "low", "summary": "auto"}, "include": ["reasoning.encrypted_content"],
        "store": false, "truncation": "disabled", "max_tool_calls": 3,
    }));
    let roles: Vec<_> = conversation
        .messages
        .iter()
        .map(|message| message.role)
        .collect();
    assert_eq!(
        roles,
        [
            Role::System,
            Role::User,
            Role::Assistant,
            Role::User,
            Role::Assistant,
            Role::User
        ]
    );
    let turn = &conversation.messages[2].parts;
    assert_eq!(turn.len(), 3);
    assert_eq!(turn[0].signature_of(RESPONSES), Some("gAAA"));
    assert_eq!(turn[1].signature_of(Dialect::Gemini), Some("c2ln"));
    assert_eq!(conversation.messages[3].parts.len(), 2);
    let extras: Vec<_> = conversation
        .extras
        .iter()
        .map(|extra| &*extra.name)
        .collect();
    assert_eq!(extras, ["max_tool_calls", "verbosity"]);
    assert_eq!(conversation.output_tokens_max, Some(9));

    let gemini = read(json!({"input": items()}));
    let asked = asked(Dialect::Gemini, "gemini-3-flash", &gemini).unwrap();
    assert_eq!(
        asked["contents"][1]["parts"],
        json!([
            {"functionCall": {"name": "weather", "args": {"city": "Rome"}}, "thoughtSignature": "c2ln"},
            {"functionCall": {"name": "time", "args": {}}},
        ])
    );
}

#[test]
fn what_was_read_is_written_again() {
    let body = json!({
        "instructions": "Be brief.", "input": items(), "temperature": 0.5, "stream": true,
        "tools": [{"type": "function", "name": "weather", "parameters": {"type": "object"}},
            {"type": "web_search"}],
        "text": {"verbosity": "low"}, "reasoning": {"effort": "max"}, "max_tool_calls": 3,
    });
    let asked = asked(RESPONSES, "gpt-5", &read(body)).unwrap();
    assert_eq!(
        asked,
        json!({
            "model": "gpt-5",
            "input": [
                {"type": "message", "role": "system", "content": "Be brief."},
                {"type": "message", "role": "user", "content": "Weather?"},
                {"type": "reasoning", "summary": [{"type": "summary_text", "text": "Hm."}],
                    "encrypted_content": "gAAA"},
                {"type": "function_call", "call_id": "c1", "name": "weather",
                    "arguments": "{\"city\":\"Rome\"}"},
                {"type": "function_call", "call_id": "c2", "name": "time", "arguments": "{}"},
                {"type": "function_call_output", "call_id": "c1", "output": "30"},
                {"type": "function_call_output", "call_id": "c2", "output": "noon"},
                {"type": "message", "role": "assistant", "content": "Warm."},
                {"type": "message", "role": "user", "content": [
                    {"type": "input_text", "text": "And here?"},
                    {"type": "input_image", "image_url": "data:image/png;base64,AAAA", "detail": "low"},
                    {"type": "input_file", "filename": "a.pdf",
                        "file_data": "data:application/pdf;base64,BBBB"},
                ]},
            ],
            "tools": [{"type": "function", "name": "weather", "parameters": {"type": "object"}},
                {"type": "web_search"}],
            "temperature": 0.5, "max_output_tokens": 4096, "text": {"verbosity": "low"},
            "reasoning": {"effort": "xhigh"}, "include": ["reasoning.encrypted_content"],
            "stream": true, "store": false, "max_tool_calls": 3,
        })
    );
}

#[test]
fn chat_can_be_said_in_responses() {
    let tool = json!({"type": "function", "function": {"name": "f"}});
    let asked = asked(
        RESPONSES,
        "gpt-5",
        &chat(json!({
            "messages": [{"role": "developer", "content": "x"}, {"role": "user", "content": "y"}],
            "tools": [tool], "tool_choice": "auto", "verbosity": "low",
            "response_format": {"type": "json_object"}, "logprobs": true, "top_logprobs": 2,
            "safety_identifier": "s", "user": "u", "service_tier": "flex",
        })),
    );
    assert_eq!(
        asked.unwrap(),
        json!({
            "model": "gpt-5",
            "input": [
                {"type": "message", "role": "developer", "content": "x"},
                {"type": "message", "role": "user", "content": "y"},
            ],
            "tools": [{"type": "function", "name": "f", "parameters": null, "strict": false}],
            "tool_choice": "auto", "top_logprobs": 2, "max_output_tokens": 4096,
            "text": {"format": {"type": "json_object"}, "verbosity": "low"},
            "include": ["message.output_text.logprobs"], "store": false,
            "user": "u", "service_tier": "flex", "safety_identifier": "s",
        })
    );
    let field = |extra: Value| {
        let mut body = json!({"messages": [{"role": "user", "content": "Hi"}]});
        body.as_object_mut()
            .unwrap()
            .extend(extra.as_object().unwrap().clone());
        refused(RESPONSES, "gpt-5", &chat(body))
    };
    assert_eq!(field(json!({"stop": "x"})), "stop");
    assert_eq!(field(json!({"n": 2})), "n");
    assert_eq!(field(json!({"guided_regex": "x"})), "guided_regex");
}

#[test]
fn what_cannot_be_translated_is_refused_by_name() {
    let field = |mut body: Value| {
        body["model"] = "m".into();
        RESPONSES.read_request(&envelope(&body)).unwrap_err().field
    };
    assert_eq!(field(json!({})), "input");
    assert_eq!(field(json!({"input": 3})), "input");
    assert_eq!(
        field(json!({"input": "x", "previous_response_id": "r"})),
        "previous_response_id"
    );
    assert_eq!(
        field(json!({"input": [{"type": "web_search_call", "id": "x"}]})),
        "input.0"
    );
    assert_eq!(
        field(json!({"input": [{"type": "item_reference", "id": "x"}]})),
        "input.0"
    );
    assert_eq!(
        field(json!({"input": "x", "include": ["file_search_call.results"]})),
        "include.0"
    );
    let part = json!({"type": "input_text", "text": "x", "wrong": 1});
    assert_eq!(
        field(json!({"input": [{"role": "user", "content": [part]}]})),
        "input.0.content.0.wrong"
    );
    let native = read(json!({"input": "x", "tools": [{"type": "web_search"}]}));
    assert_eq!(refused(Dialect::Gemini, "gemini", &native), "tools.0");
    let background = read(json!({"input": "x", "background": true}));
    assert_eq!(
        refused(Dialect::Anthropic, "claude", &background),
        "background"
    );
}

fn names() -> AnswerNames {
    AnswerNames {
        id: "resp_7".into(),
        model: "m".into(),
        created: 1_700_000_000,
    }
}

const WHOLE: &str = r#"{"id":"resp_7","object":"response","created_at":1700000000,"status":"completed",
  "error":null,"incomplete_details":null,"model":"gpt-5","output":[
    {"id":"rs_1","type":"reasoning","summary":[{"type":"summary_text","text":"A."},{"type":"summary_text","text":"B."}],"encrypted_content":"gAAA"},
    {"id":"rs_2","type":"reasoning","summary":[],"encrypted_content":"anthropic:cmVk"},
    {"id":"msg_1","type":"message","status":"completed","role":"assistant","content":[
      {"type":"output_text","annotations":[],"logprobs":[{"token":"Hi","logprob":-0.1,"bytes":[72,105],"top_logprobs":[]}],"text":"Hi there","signature":"gemini:c2ln"}]},
    {"id":"fc_1","type":"function_call","status":"completed","arguments":"{\"a\":1}","call_id":"c1","name":"f","signature":"gemini:YWJj"}],
  "service_tier":"default",
  "usage":{"input_tokens":50,"input_tokens_details":{"cached_tokens":20,"cache_write_tokens":8,"cache_write_1h_tokens":3},"output_tokens":30,
    "output_tokens_details":{"reasoning_tokens":10},"total_tokens":80}}"#;

fn whole() -> Answer {
    RESPONSES.read_answer(WHOLE.as_bytes()).unwrap()
}

#[test]
fn answers_are_read_and_written_again() {
    let answer = whole();
    let candidate = &answer.candidates[0];
    assert_eq!(candidate.stop, Some(StopReason::ToolCalls));
    assert_eq!(
        candidate.parts[0].content,
        Content::Reasoning("A.\n\nB.".into())
    );
    assert_eq!(candidate.parts[1].content, Content::RedactedReasoning);
    assert_eq!(
        candidate.parts[1].signature_of(Dialect::Anthropic),
        Some("cmVk")
    );
    assert_eq!(
        candidate.parts[2].signature_of(Dialect::Gemini),
        Some("c2ln")
    );
    let usage = answer.usage.unwrap();
    assert_eq!(
        (usage.cached_write_tokens, usage.cached_write_1h_tokens),
        (8, 3)
    );

    let again = RESPONSES.write_answer(&answer, &names()).unwrap();
    assert_eq!(RESPONSES.read_answer(&again).unwrap(), answer);
    let body = parsed(&again);
    assert_eq!(body["output"][3]["id"], "fc_7_3");
    assert_eq!(body["tools"], json!([]));
    assert_eq!(body["service_tier"], "default");
    for required in [
        "error",
        "incomplete_details",
        "instructions",
        "metadata",
        "tool_choice",
    ] {
        assert!(body.get(required).is_some(), "{required}");
    }
    for bad in [
        "",
        "{}",
        "[]",
        r#"{"output":3}"#,
        r#"{"error":{"code":"x"},"output":[]}"#,
    ] {
        assert!(RESPONSES.read_answer(bad.as_bytes()).is_err(), "{bad}");
    }
}

/// The events of [`WHOLE`], as another upstream would have streamed them.
fn whole_events() -> Vec<AnswerEvent> {
    let answer = whole();
    let mut events = vec![AnswerEvent::Begin {
        id: answer.id,
        model: answer.model,
        created: answer.created,
        service_tier: answer.service_tier,
    }];
    let parts = &answer.candidates[0].parts;
    for (index, part) in parts.iter().enumerate() {
        events.extend(part_events(index as u32, part));
    }
    events.push(AnswerEvent::Logprobs {
        candidate: 0,
        content: answer.candidates[0].logprobs.clone().unwrap(),
    });
    events.push(AnswerEvent::Stop {
        candidate: 0,
        reason: StopReason::ToolCalls,
    });
    events.extend(answer.usage.map(AnswerEvent::Usage));
    events.push(AnswerEvent::End);
    events
}

fn part_events(part: u32, of: &Part) -> Vec<AnswerEvent> {
    use crate::conversation::{PartDelta, PartStart};
    let candidate = 0;
    let (start, deltas) = match &of.content {
        Content::Text(text) => (PartStart::Text, halves(text).map(PartDelta::Text).to_vec()),
        Content::Reasoning(text) => (
            PartStart::Reasoning,
            halves(text).map(PartDelta::Text).to_vec(),
        ),
        Content::ToolCall(call) => {
            let start = PartStart::ToolCall {
                id: call.id.clone(),
                name: call.name.clone(),
            };
            (
                start,
                halves(&call.arguments).map(PartDelta::Arguments).to_vec(),
            )
        }
        _ => (PartStart::RedactedReasoning, Vec::new()),
    };
    let signature = of.signature.clone().map(PartDelta::Signature);
    let deltas = deltas.into_iter().chain(signature);
    let deltas = deltas.map(|delta| AnswerEvent::Delta {
        candidate,
        part,
        delta,
    });
    let begin = AnswerEvent::PartBegin {
        candidate,
        part,
        start,
    };
    let end = AnswerEvent::PartEnd { candidate, part };
    [begin].into_iter().chain(deltas).chain([end]).collect()
}

fn halves(text: &str) -> [String; 2] {
    let (first, second) = text.split_at(text.len() / 2);
    [first.to_owned(), second.to_owned()]
}

fn written(events: &[AnswerEvent]) -> Vec<u8> {
    let mut writer = super::ResponsesStreamWriter::new(names(), ResponseEcho::default());
    let mut out = Vec::new();
    events
        .iter()
        .for_each(|event| writer.write(event, &mut out));
    out
}

#[test]
fn a_stream_is_numbered_and_reads_as_the_whole_answer() {
    let out = written(&whole_events());
    let text = String::from_utf8(out.clone()).unwrap();
    let mut kinds = Vec::new();
    for (number, frame) in text.trim_end().split("\n\n").enumerate() {
        let (name, data) = frame.split_once('\n').unwrap();
        let data = parsed(data.strip_prefix("data: ").unwrap().as_bytes());
        assert_eq!(data["sequence_number"], number);
        assert_eq!(name.strip_prefix("event: "), data["type"].as_str());
        kinds.push(data["type"].as_str().unwrap().to_owned());
    }
    assert_eq!(
        kinds[..9],
        [
            "response.created",
            "response.in_progress",
            "response.output_item.added",
            "response.reasoning_summary_part.added",
            "response.reasoning_summary_text.delta",
            "response.reasoning_summary_text.delta",
            "response.reasoning_summary_text.done",
            "response.reasoning_summary_part.done",
            "response.output_item.done",
        ]
    );
    assert_eq!(kinds.last().unwrap(), "response.completed");
    let (_, last) = text.trim_end().rsplit_once("\"response\":").unwrap();
    let response = last.strip_suffix('}').unwrap();
    assert_eq!(RESPONSES.read_answer(response.as_bytes()).unwrap(), whole());

    let mut read = streamed(RESPONSES, &out);
    // They came after the text had ended, so that only the whole response has them.
    read.candidates[0].logprobs = whole().candidates[0].logprobs.clone();
    assert_eq!(read, whole());
}

#[test]
fn cut_and_failed_streams_are_told() {
    let events_of = |count: usize| written(&whole_events()[..count]);
    for count in [0, 1, 4, 10] {
        breaks(RESPONSES, &events_of(count));
    }
    let mut failed = whole_events();
    failed.truncate(5);
    failed.push(AnswerEvent::Error(crate::conversation::StreamFailure {
        kind: "overloaded".into(),
        message: "later".into(),
    }));
    let out = written(&failed);
    let text = String::from_utf8(out.clone()).unwrap();
    assert!(text.contains("event: error\n") && text.contains("event: response.failed\n"));
    let read = events(RESPONSES, &[&out]);
    assert!(
        matches!(read.last(), Some(AnswerEvent::Error(failure)) if failure.kind == "overloaded")
    );

    let mut short = whole();
    short.candidates[0].stop = Some(StopReason::Length);
    let body = parsed(&RESPONSES.write_answer(&short, &names()).unwrap());
    assert_eq!(body["status"], "incomplete");
    assert_eq!(body["incomplete_details"]["reason"], "max_output_tokens");
    assert_eq!(body["output"][3]["status"], "incomplete");
    assert_eq!(body["output"][2]["status"], "completed");
}

#[test]
fn a_response_says_its_request_again() {
    let request = envelope(
        &json!({"model": "m", "input": "x", "conversation": "conv_1",
        "text": {"verbosity": "low"}, "store": false, "temperature": 0.25, "user": null}),
    );
    let echo = ResponseEcho::of(&request);
    assert!(!echo.is_stored() && ResponseEcho::default().is_stored());
    let body = parsed(&super::write_answer(&whole(), &names(), &echo));
    assert_eq!(body["conversation"], json!({"id": "conv_1"}));
    assert_eq!(
        body["text"],
        json!({"format": {"type": "text"}, "verbosity": "low"})
    );
    assert_eq!(body["store"], false);
    assert_eq!(body["temperature"], 0.25);
    assert_eq!(body["user"], Value::Null);
    assert_eq!(body["top_p"], 1.0);
}

#[test]
fn a_native_response_is_ours_to_store() {
    let request = envelope(&json!({"model": "m", "input": "x", "previous_response_id": "resp_6"}));
    let echo = ResponseEcho::of(&request);
    let theirs =
        br#"{"id":"resp_theirs","store":false,"previous_response_id":null, "cache_salt":1.50}"#;
    let theirs = bytes::Bytes::from_static(theirs);
    let ours = echo.restore(&theirs, "resp_7").unwrap();
    assert_eq!(
        ours,
        r#"{"id":"resp_7","store":true,"previous_response_id":"resp_6", "cache_salt":1.50}"#
    );
    let event = [
        br#"{"type":"response.created","response":"#,
        &theirs[..],
        b"}",
    ]
    .concat();
    let event = echo.restore_event(&event.into(), "resp_7").unwrap();
    let expected = [
        br#"{"type":"response.created","response":"#,
        &ours[..],
        b"}",
    ]
    .concat();
    assert_eq!(event, expected);
    let delta = bytes::Bytes::from_static(br#"{"type":"response.output_text.delta","delta":"x"}"#);
    assert_eq!(echo.restore_event(&delta, "resp_7").unwrap(), delta);
    assert_eq!(
        echo.restore(&bytes::Bytes::from_static(b"[DONE]"), "resp_7"),
        None
    );
}

#[test]
fn stored_items_come_before_a_requests_own() {
    let first = envelope(&json!({"model": "m", "input": "Hi"}));
    let mut stored = input_items(&first).unwrap();
    let answer = RESPONSES.write_answer(&whole(), &names()).unwrap();
    stored.extend(output_items(&answer));
    assert_eq!(stored.len(), 5);

    let next = envelope(
        &json!({"previous_response_id": "resp_7", "model": "m", "store": true,
        "input": [{"type": "function_call_output", "call_id": "c1", "output": "2"},
            {"type": "item_reference", "id": "msg_9"}, {"id": "msg_9"}]}),
    );
    let own = input_items(&next).unwrap();
    let find = |id: &str| {
        (id == "msg_9").then(|| Json::of(&json!({"role": "user", "content": "Nine"})).unwrap())
    };
    let joined = join_items(&stored, &own, find).unwrap();
    let body = without_state(&next, joined).to_bytes();
    let body = parsed(&body);
    assert_eq!(body.get("previous_response_id"), None);
    assert_eq!(body["store"], true);
    let conversation = read(body);
    let roles: Vec<_> = conversation
        .messages
        .iter()
        .map(|message| message.role)
        .collect();
    assert_eq!(
        roles,
        [
            Role::User,
            Role::Assistant,
            Role::User,
            Role::User,
            Role::User
        ]
    );

    let error = join_items(&stored, &own, |_| None).unwrap_err();
    assert_eq!(error.param.as_deref(), Some("input[1].id"));
    let wrong = envelope(&json!({"input": ["x"]}));
    assert!(input_items(&wrong).is_err());
    assert!(output_items(b"{\"output\": 3").is_empty());
}

#[test]
fn foreign_thoughts_are_not_said_to_openai() {
    let mut conversation = chat(json!({"messages": [{"role": "user", "content": "Hi"}]}));
    let mut thought = Part::from(Content::Reasoning("Hm.".into()));
    thought.signature = Some(Signature {
        origin: Dialect::Anthropic,
        data: "c2ln".into(),
    });
    let parts = vec![thought, Part::text("Yes.")];
    conversation
        .messages
        .push(Message::new(Role::Assistant, parts));
    let asked = asked(RESPONSES, "gpt-4o", &conversation).unwrap();
    assert_eq!(
        asked["input"][1],
        json!({"type": "message", "role": "assistant", "content": "Yes."})
    );
    assert_eq!(asked.get("include"), None);
}
