//! Bedrock's Converse API, as its documentation shows it, signatures and binary frames included.

use bytes::Bytes;
use http::{HeaderValue, Request, StatusCode};
use http_body_util::Full;
use ring::{digest, hmac};
use serde_json::{Value, json};
use simulator::{AwsKey, EngineConfig};

use crate::harness::{Harness, long_text, post, post_with, with};

const CONVERSE: &str = "/model/sim-small/converse";
const STREAM: &str = "/model/sim-small/converse-stream";
const SECRET: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";
/// The harness's time.
const NOW: &str = "20231114T221320Z";

fn conversation(text: &str) -> Value {
    json!({"messages": [{"role": "user", "content": [{"text": text}]}]})
}

fn weather() -> Value {
    json!({"toolConfig": {"tools": [{"toolSpec": {
        "name": "get_weather",
        "description": "The weather in a city",
        "inputSchema": {"json": {
            "type": "object", "required": ["city"], "properties": {"city": {"type": "string"}},
        }},
    }}]}})
}

/// A frame of an event stream, its checksums verified bit by bit.
#[derive(Debug)]
struct Frame {
    kind: String,
    name: String,
    payload: Value,
}

fn frames(mut bytes: &[u8]) -> Vec<Frame> {
    let mut frames = Vec::new();
    while !bytes.is_empty() {
        let number = |at: usize| u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap());
        let (total, headers) = (number(0) as usize, number(4) as usize);
        assert_eq!(number(8), crc32(&bytes[..8]), "the prelude's checksum");
        assert_eq!(
            number(total - 4),
            crc32(&bytes[..total - 4]),
            "the frame's checksum"
        );
        let mut frame = Frame {
            kind: String::new(),
            name: String::new(),
            payload: serde_json::from_slice(&bytes[12 + headers..total - 4]).unwrap(),
        };
        let mut rest = &bytes[12..12 + headers];
        while let [length, after @ ..] = rest {
            let (name, after) = after.split_at(usize::from(*length));
            assert_eq!(after[0], 7, "a string");
            let length = usize::from(u16::from_be_bytes([after[1], after[2]]));
            let (value, after) = after[3..].split_at(length);
            let value = String::from_utf8(value.to_vec()).unwrap();
            match std::str::from_utf8(name).unwrap() {
                ":message-type" => frame.kind = value,
                ":event-type" | ":exception-type" => frame.name = value,
                name => assert_eq!((name, &*value), (":content-type", "application/json")),
            }
            rest = after;
        }
        frames.push(frame);
        bytes = &bytes[total..];
    }
    frames
}

fn crc32(bytes: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = (crc >> 1) ^ (0xEDB8_8320 & (crc & 1).wrapping_neg());
        }
    }
    !crc
}

async fn stream(harness: &Harness, body: &Value) -> Vec<Frame> {
    let reply = harness.exchange(post(STREAM, body)).await;
    assert_eq!(reply.status, StatusCode::OK, "{}", reply.text());
    assert_eq!(
        reply.headers["content-type"],
        "application/vnd.amazon.eventstream"
    );
    frames(&reply.body)
}

fn joined(frames: &[Frame], pointer: &str) -> String {
    let texts = frames
        .iter()
        .filter_map(|frame| frame.payload.pointer(pointer)?.as_str());
    texts.collect()
}

#[tokio::test]
async fn an_answer_has_the_shape_that_the_sdk_expects() {
    let harness = Harness::default().await;
    let reply = harness
        .exchange(post(CONVERSE, &conversation("[[say:Hello!]]")))
        .await;
    let expected = json!({
        "output": {"message": {"role": "assistant", "content": [{"text": "Hello!"}]}},
        "stopReason": "end_turn",
        "usage": {
            "inputTokens": 9, "outputTokens": 2, "totalTokens": 11,
            "cacheReadInputTokens": 0, "cacheWriteInputTokens": 0,
        },
        "metrics": {"latencyMs": 0},
    });
    assert_eq!(reply.json(), expected);
    assert!(!reply.headers["x-amzn-requestid"].is_empty());
}

#[tokio::test]
async fn a_stream_is_of_checked_frames_and_says_the_same() {
    let harness = Harness::default().await;
    let body = with(&conversation("hello [[call:get_weather]]"), weather());
    let body = with(
        &body,
        json!({"additionalModelRequestFields": {"thinking": {"type": "adaptive"}},
            "inferenceConfig": {"maxTokens": 500, "temperature": 0.5, "topP": 0.9}}),
    );
    let whole = harness.ok(post(CONVERSE, &body)).await;
    let content = &whole["output"]["message"]["content"];
    let thought = &content[0]["reasoningContent"]["reasoningText"];
    let call = &content[1]["toolUse"];
    assert_eq!(
        (&whole["stopReason"], &call["name"]),
        (&json!("tool_use"), &json!("get_weather"))
    );

    let frames = stream(&harness, &body).await;
    assert!(frames.iter().all(|frame| frame.kind == "event"));
    let mut names: Vec<&str> = frames.iter().map(|frame| frame.name.as_str()).collect();
    names.dedup();
    assert_eq!(
        names,
        [
            "messageStart",
            "contentBlockDelta",
            "contentBlockStop",
            "contentBlockStart",
            "contentBlockDelta",
            "contentBlockStop",
            "messageStop",
            "metadata",
        ]
    );
    assert_eq!(
        joined(&frames, "/delta/reasoningContent/text"),
        thought["text"]
    );
    assert_eq!(
        joined(&frames, "/delta/reasoningContent/signature"),
        thought["signature"]
    );
    let arguments: Value = serde_json::from_str(&joined(&frames, "/delta/toolUse/input")).unwrap();
    assert_eq!(arguments, call["input"]);
    let start = frames
        .iter()
        .find(|frame| frame.name == "contentBlockStart")
        .unwrap();
    assert_eq!(
        start.payload["start"]["toolUse"]["toolUseId"],
        call["toolUseId"]
    );
    let last = &frames.last().unwrap().payload;
    assert_eq!(last["usage"], whole["usage"]);

    let mut next = body.clone();
    next["messages"].as_array_mut().unwrap().extend([
        json!({"role": "assistant", "content": content}),
        json!({"role": "user", "content": [{"toolResult": {
            "toolUseId": call["toolUseId"], "content": [{"json": {"sky": "grey"}}],
            "status": "success",
        }}]}),
    ]);
    assert_eq!(
        harness.ok(post(CONVERSE, &next)).await["stopReason"],
        "end_turn"
    );
    next["messages"][1]["content"][0]["reasoningContent"]["reasoningText"]["text"] = json!("no");
    let reply = harness.exchange(post(CONVERSE, &next)).await;
    assert!(
        reply.text().contains("Invalid `signature`"),
        "{}",
        reply.text()
    );
}

#[tokio::test]
async fn images_schemas_and_stops_are_read() {
    let harness = Harness::default().await;
    let schema = r#"{"type":"object","required":["ok"],"properties":{"ok":{"type":"boolean"}}}"#;
    let body = json!({
        "messages": [{"role": "user", "content": [
            {"image": {"format": "png", "source": {"bytes": "AAAA"}}},
            {"document": {"format": "txt", "name": "Notes", "source": {"text": "abcd"}}},
            {"text": "What is this?"},
        ]}],
        "system": [{"text": "Be brief."}],
        "outputConfig": {"textFormat": {"type": "json_schema", "structure": {"jsonSchema": {
            "schema": schema, "name": "x",
        }}}},
    });
    let answer = harness.ok(post(CONVERSE, &body)).await;
    let text = answer["output"]["message"]["content"][0]["text"]
        .as_str()
        .unwrap();
    assert!(serde_json::from_str::<Value>(text).unwrap()["ok"].is_boolean());
    assert_eq!(answer["usage"]["inputTokens"], 97);
    let stops = json!({"inferenceConfig": {"stopSequences": ["END"]}});
    let answer = harness
        .ok(post(
            CONVERSE,
            &with(&conversation("[[say:The END.]]"), stops),
        ))
        .await;
    assert_eq!(answer["stopReason"], "stop_sequence");
    let short = json!({"inferenceConfig": {"maxTokens": 2}});
    let answer = harness
        .ok(post(CONVERSE, &with(&conversation("hello"), short)))
        .await;
    assert_eq!(answer["stopReason"], "max_tokens");
}

#[tokio::test]
async fn prompts_are_kept_at_cache_points_for_each_credential_by_itself() {
    let harness = Harness::default().await;
    let system = json!({"system": [
        {"text": long_text(2_000)},
        {"cachePoint": {"type": "default"}},
    ]});
    let body = with(&conversation("hello"), system);
    let usage = async |key: &str| {
        let key = format!("Bearer {key}");
        let request = post_with(CONVERSE, &[("authorization", &key)], &body);
        let usage = harness.ok(request).await["usage"].clone();
        [
            "inputTokens",
            "cacheReadInputTokens",
            "cacheWriteInputTokens",
        ]
        .map(|name| usage[name].as_u64().unwrap())
    };
    assert_eq!(usage("ours").await, [7, 0, 2_000]);
    assert_eq!(usage("ours").await, [7, 2_000, 0]);
    assert_eq!(usage("theirs").await, [7, 0, 2_000]);
}

#[tokio::test]
async fn requests_that_make_no_sense_are_refused_in_aws_s_words() {
    let harness = Harness::default().await;
    let user = |content: Value| json!({"role": "user", "content": content});
    let assistant = |content: Value| json!({"role": "assistant", "content": content});
    let text = json!([{"text": "x"}]);
    let call = json!([{"toolUse": {"toolUseId": "t1", "name": "f", "input": {}}}]);
    let result = json!([{"toolResult": {"toolUseId": "t1", "content": [{"text": "y"}]}}]);
    let cases: Vec<(Value, &str)> = vec![
        (json!({"max_tokens": 5}), "max_tokens"),
        (
            json!({"messages": [assistant(text.clone())]}),
            "must start with a user message",
        ),
        (
            json!({"messages": [user(text.clone()), user(text.clone())]}),
            "must alternate between user and assistant roles",
        ),
        (
            json!({"messages": [user(json!([{"text": " "}]))]}),
            "is blank",
        ),
        (
            json!({"messages": [user(json!("x"))]}),
            "messages.0.content",
        ),
        (
            json!({"messages": [user(text.clone()), assistant(call.clone()), user(text.clone())]}),
            "Expected toolResult blocks at messages.2.content for the following Ids: t1",
        ),
        (
            json!({"messages": [user(text.clone()), assistant(call), user(result)]}),
            "The toolConfig field must be defined",
        ),
        (
            json!({"messages": [user(json!([{"image": {"format": "jpg", "source": {"bytes": ""}}}]))]}),
            "The format jpg is not one of",
        ),
        (
            json!({"inferenceConfig": {"temperature": 2}}),
            "2 is not from 0 to 1",
        ),
        (
            json!({"toolConfig": {"tools": [{"toolSpec": {"name": "f",
                "inputSchema": {"json": {"type": "string"}}}}]}}),
            "must be one of the following: object",
        ),
    ];
    for (fields, words) in cases {
        let body = with(&conversation("hello"), fields.clone());
        let reply = harness.exchange(post(CONVERSE, &body)).await;
        assert_eq!(reply.status, StatusCode::BAD_REQUEST, "{fields}");
        assert_eq!(reply.headers["x-amzn-errortype"], "ValidationException");
        let message = reply.json()["message"].as_str().unwrap().to_owned();
        assert!(message.contains(words), "{message} does not say {words}");
    }
    let reply = harness
        .exchange(post("/model/absent/converse", &conversation("x")))
        .await;
    assert_eq!(
        reply.json()["message"],
        "The provided model identifier is invalid."
    );
}

#[tokio::test]
async fn faults_have_aws_s_shape() {
    let harness = Harness::default().await;
    let cases = [
        ("status=429", 429, "ThrottlingException"),
        ("overloaded", 503, "ServiceUnavailableException"),
        ("status=500", 500, "InternalServerException"),
        ("status=403", 403, "AccessDeniedException"),
    ];
    for (fault, status, kind) in cases {
        let body = conversation(&format!("[[fault:{fault}]]"));
        let reply = harness.exchange(post(CONVERSE, &body)).await;
        assert_eq!(reply.status.as_u16(), status);
        assert_eq!(reply.headers["x-amzn-errortype"], kind);
        assert!(reply.json()["message"].is_string());
    }
    let frames = stream(&harness, &conversation("[[fault:error=3]]")).await;
    let last = frames.last().unwrap();
    assert_eq!((frames.len(), &*last.kind), (4, "exception"));
    assert_eq!(last.name, "internalServerException");
}

/// What a caller signs, and how a test spoils it.
struct Signing<'a> {
    path: &'a str,
    key_id: &'a str,
    secret: &'a str,
    date: &'a str,
    region: &'a str,
}

/// The documented steps, written down a second time.
fn signed(signing: &Signing<'_>, body: &Value) -> Request<Full<Bytes>> {
    let text = body.to_string();
    let hash = |bytes: &[u8]| hex(digest::digest(&digest::SHA256, bytes).as_ref());
    let path = signing.path.replace('%', "%25").replace(':', "%3A");
    let names = "content-type;host;x-amz-date";
    let canonical = format!(
        "POST\n{path}\n\ncontent-type:application/json\nhost:engine\nx-amz-date:{}\n\n{names}\n{}",
        signing.date,
        hash(text.as_bytes())
    );
    let day = &signing.date[..8];
    let scope = format!("{day}/{}/bedrock/aws4_request", signing.region);
    let to_sign = format!(
        "AWS4-HMAC-SHA256\n{}\n{scope}\n{}",
        signing.date,
        hash(canonical.as_bytes())
    );
    let step = |key: &[u8], text: &str| {
        let key = hmac::Key::new(hmac::HMAC_SHA256, key);
        hmac::sign(&key, text.as_bytes()).as_ref().to_vec()
    };
    let key = step(format!("AWS4{}", signing.secret).as_bytes(), day);
    let key = step(
        &step(&step(&key, signing.region), "bedrock"),
        "aws4_request",
    );
    let signature = hex(&step(&key, &to_sign));
    let authorization = format!(
        "AWS4-HMAC-SHA256 Credential={}/{scope}, SignedHeaders={names}, Signature={signature}",
        signing.key_id
    );
    let headers = [
        ("authorization", &*authorization),
        ("x-amz-date", signing.date),
    ];
    post_with(signing.path, &headers, body)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[tokio::test]
async fn signatures_are_verified() {
    let config = EngineConfig {
        models: vec!["sim-small".into(), "anthropic.claude-v1:0".into()],
        api_key: Some("bedrock-api-key".into()),
        aws_key: Some(AwsKey {
            access_key_id: "AKIDEXAMPLE".into(),
            secret_access_key: SECRET.into(),
            region: "us-east-1".into(),
        }),
        ..EngineConfig::default()
    };
    let harness = Harness::start(config).await;
    let body = conversation("hello");
    let right = Signing {
        path: CONVERSE,
        key_id: "AKIDEXAMPLE",
        secret: SECRET,
        date: NOW,
        region: "us-east-1",
    };
    harness.ok(signed(&right, &body)).await;
    for path in [
        "/model/anthropic.claude-v1%3A0/converse",
        "/model/anthropic.claude-v1:0/converse",
    ] {
        harness.ok(signed(&Signing { path, ..right }, &body)).await;
    }
    let refused = async |request| {
        let reply = harness.exchange(request).await;
        assert_eq!(reply.status, StatusCode::FORBIDDEN);
        reply.headers["x-amzn-errortype"]
            .to_str()
            .unwrap()
            .to_owned()
    };
    let wrong = Signing {
        secret: "another",
        ..right
    };
    assert_eq!(
        refused(signed(&wrong, &body)).await,
        "InvalidSignatureException"
    );
    let late = Signing {
        date: "20231114T220819Z",
        ..right
    };
    assert_eq!(
        refused(signed(&late, &body)).await,
        "InvalidSignatureException"
    );
    let elsewhere = Signing {
        region: "eu-west-1",
        ..right
    };
    assert_eq!(
        refused(signed(&elsewhere, &body)).await,
        "InvalidSignatureException"
    );
    let unknown = Signing {
        key_id: "AKIDOTHER",
        ..right
    };
    assert_eq!(
        refused(signed(&unknown, &body)).await,
        "UnrecognizedClientException"
    );
    let mut changed = signed(&right, &body);
    *changed.body_mut() = Full::from(conversation("changed").to_string());
    assert_eq!(refused(changed).await, "InvalidSignatureException");
    let mut moved = signed(&right, &body);
    *moved.uri_mut() = STREAM.parse().unwrap();
    assert_eq!(refused(moved).await, "InvalidSignatureException");
    let mut retyped = signed(&right, &body);
    let other = HeaderValue::from_static("text/plain");
    retyped.headers_mut().insert("content-type", other);
    assert_eq!(refused(retyped).await, "InvalidSignatureException");

    harness
        .ok(post_with(
            CONVERSE,
            &[("authorization", "Bearer bedrock-api-key")],
            &body,
        ))
        .await;
    let bearer = post_with(CONVERSE, &[("authorization", "Bearer another")], &body);
    assert_eq!(refused(bearer).await, "AccessDeniedException");
    assert_eq!(
        refused(post(CONVERSE, &body)).await,
        "MissingAuthenticationTokenException"
    );
}
