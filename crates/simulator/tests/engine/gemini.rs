//! Google's API, with a key and in a project, as its documentation shows it.

use http::{Request, StatusCode};
use http_body_util::Full;
use serde_json::{Value, json};
use simulator::EngineConfig;

use crate::harness::{Harness, joined, long_text, post, post_with, with};

const GENERATE: &str = "/v1beta/models/sim-small:generateContent";
const STREAM: &str = "/v1beta/models/sim-small:streamGenerateContent?alt=sse";
const VERTEX: &str =
    "/v1/projects/p1/locations/us-central1/publishers/google/models/sim-small:generateContent";

fn contents(text: &str) -> Value {
    json!({"contents": [{"role": "user", "parts": [{"text": text}]}]})
}

fn weather() -> Value {
    json!({"tools": [{"functionDeclarations": [{
        "name": "get_weather",
        "description": "The weather in a city",
        "parameters": {
            "type": "OBJECT", "required": ["city"],
            "properties": {"city": {"type": "STRING"}, "days": {"type": "INTEGER"}},
        },
    }]}]})
}

#[tokio::test]
async fn an_answer_has_the_shape_that_the_sdk_expects() {
    let harness = Harness::default().await;
    // `<|user|>[[say:Hello!]]<|model|>` has 31 bytes.
    let expected = json!({
        "candidates": [{
            "content": {"parts": [{"text": "Hello!"}], "role": "model"},
            "finishReason": "STOP",
            "index": 0,
        }],
        "usageMetadata": {
            "promptTokenCount": 8, "candidatesTokenCount": 2, "totalTokenCount": 10,
            "promptTokensDetails": [{"modality": "TEXT", "tokenCount": 8}],
        },
        "modelVersion": "sim-small",
        "responseId": "sim-1",
    });
    let body = contents("[[say:Hello!]]");
    assert_eq!(harness.ok(post(GENERATE, &body)).await, expected);
    let vertex = harness.ok(post(VERTEX, &body)).await;
    assert_eq!(vertex["candidates"], expected["candidates"]);
}

#[tokio::test]
async fn a_stream_is_of_chunks_as_events_or_as_one_array() {
    let harness = Harness::default().await;
    let body = contents("hello");
    let whole = harness.ok(post(GENERATE, &body)).await;
    let text = &whole["candidates"][0]["content"]["parts"][0]["text"];
    let events = harness.named_events(post(STREAM, &body)).await;
    assert_eq!(&joined(&events, "/candidates/0/content/parts/0/text"), text);
    let last = &events.last().unwrap().1;
    assert_eq!(last["candidates"][0]["finishReason"], "STOP");
    assert_eq!(last["usageMetadata"], whole["usageMetadata"]);
    assert!(events[0].1["candidates"][0].get("finishReason").is_none());
    let so_far = |at: usize| &events[at].1["usageMetadata"]["candidatesTokenCount"];
    assert_eq!(
        (so_far(0), so_far(9)),
        (&json!(1), &json!(10)),
        "counted as it goes"
    );

    let array = harness
        .ok(post(STREAM.strip_suffix("?alt=sse").unwrap(), &body))
        .await;
    let chunks = array.as_array().unwrap().iter();
    let chunks: Vec<_> = chunks.map(|chunk| (String::new(), chunk.clone())).collect();
    assert_eq!(&joined(&chunks, "/candidates/0/content/parts/0/text"), text);
}

#[tokio::test]
async fn functions_are_called_and_answered() {
    let harness = Harness::default().await;
    let asked = with(
        &contents(r#"[[call:get_weather {"city":"Ulm"}]]"#),
        weather(),
    );
    let answer = harness.ok(post(GENERATE, &asked)).await;
    let call = json!({"functionCall": {"name": "get_weather", "args": {"city": "Ulm"}}});
    assert_eq!(answer["candidates"][0]["content"]["parts"], json!([call]));
    assert_eq!(answer["candidates"][0]["finishReason"], "STOP");
    let events = harness.named_events(post(STREAM, &asked)).await;
    assert_eq!(
        events[0].1["candidates"][0]["content"]["parts"],
        json!([call])
    );

    let mut next = asked.clone();
    let contents = next["contents"].as_array_mut().unwrap();
    contents.push(answer["candidates"][0]["content"].clone());
    let unanswered = next.clone();
    let contents = next["contents"].as_array_mut().unwrap();
    contents.push(json!({"role": "user", "parts": [
        {"functionResponse": {"name": "get_weather", "response": {"result": "rain"}}},
    ]}));
    let end = harness.ok(post(GENERATE, &next)).await;
    assert!(end["candidates"][0]["content"]["parts"][0]["text"].is_string());
    let reply = harness.exchange(post(GENERATE, &unanswered)).await;
    assert_eq!(reply.status, StatusCode::BAD_REQUEST);

    let any = json!({"toolConfig": {"functionCallingConfig": {
        "mode": "ANY", "allowedFunctionNames": ["get_weather"],
    }}});
    let forced = with(&with(&crate::gemini::contents("hello"), weather()), any);
    let answer = harness.ok(post(GENERATE, &forced)).await;
    let args = &answer["candidates"][0]["content"]["parts"][0]["functionCall"]["args"];
    assert!(args["city"].is_string() && args["days"].is_i64());
}

#[tokio::test]
async fn thoughts_are_counted_apart_and_their_signatures_verified() {
    let config = EngineConfig {
        models: vec!["sim-small".into(), "gemini-3-pro".into()],
        ..EngineConfig::default()
    };
    let harness = Harness::start(config).await;
    let thinking = |shown: bool| {
        let config = json!({"includeThoughts": shown, "thinkingBudget": 1_024});
        json!({"generationConfig": {"thinkingConfig": config}})
    };
    let asked = with(&contents("[[think:7]][[say:Hello!]]"), thinking(true));
    let answer = harness.ok(post(GENERATE, &asked)).await;
    let parts = &answer["candidates"][0]["content"]["parts"];
    assert_eq!(parts[0]["thought"], true);
    assert_eq!(parts[1]["text"], "Hello!");
    let usage = &answer["usageMetadata"];
    assert_eq!(
        (&usage["thoughtsTokenCount"], &usage["candidatesTokenCount"]),
        (&json!(7), &json!(2))
    );
    let hidden = with(&contents("[[think:7]][[say:Hello!]]"), thinking(false));
    let answer = harness.ok(post(GENERATE, &hidden)).await;
    assert_eq!(
        answer["candidates"][0]["content"]["parts"]
            .as_array()
            .unwrap()
            .len(),
        1
    );
    assert_eq!(answer["usageMetadata"]["thoughtsTokenCount"], 7);

    let path = GENERATE.replace("sim-small", "gemini-3-pro");
    let asked = with(&contents("[[think:3]][[call:get_weather]]"), weather());
    let answer = harness.ok(post(&path, &asked)).await;
    let content = &answer["candidates"][0]["content"];
    assert!(content["parts"][0]["thoughtSignature"].is_string());
    let status = async |signature: Option<Value>| {
        let mut next = asked.clone();
        let mut content = content.clone();
        match signature {
            Some(signature) => content["parts"][0]["thoughtSignature"] = signature,
            None => drop(
                content["parts"][0]
                    .as_object_mut()
                    .unwrap()
                    .remove("thoughtSignature"),
            ),
        }
        let response = json!({"name": "get_weather", "response": {}});
        let answered = json!({"role": "user", "parts": [{"functionResponse": response}]});
        next["contents"]
            .as_array_mut()
            .unwrap()
            .extend([content, answered]);
        harness.exchange(post(&path, &next)).await.status.as_u16()
    };
    let signature = content["parts"][0]["thoughtSignature"].clone();
    assert_eq!(status(Some(signature)).await, 200);
    assert_eq!(
        status(Some(json!("skip_thought_signature_validator"))).await,
        200
    );
    assert_eq!(status(Some(json!("AAAA"))).await, 400);
    assert_eq!(status(None).await, 400);
}

#[tokio::test]
async fn terms_of_an_answer_are_kept_in_either_spelling() {
    let harness = Harness::default().await;
    let body = json!({
        "system_instruction": {"parts": [{"text": "Be brief."}]},
        "contents": [{"parts": [
            {"text": "hello"},
            {"inline_data": {"mime_type": "image/png", "data": "AAAA"}},
        ]}],
        "generation_config": {
            "max_output_tokens": 3, "temperature": 1.5, "top_p": 0.9, "top_k": 40,
            "candidate_count": 2,
        },
        "safety_settings": [],
    });
    let answer = harness.ok(post(GENERATE, &body)).await;
    assert_eq!(answer["candidates"][1]["index"], 1);
    assert_eq!(answer["candidates"][1]["finishReason"], "MAX_TOKENS");
    assert_eq!(answer["usageMetadata"]["candidatesTokenCount"], 6);
    let schema = json!({"type": "OBJECT", "properties": {"ok": {"type": "BOOLEAN"}}});
    for name in ["responseSchema", "responseJsonSchema"] {
        let schema = match name {
            "responseSchema" => schema.clone(),
            _ => json!({"type": "object", "properties": {"ok": {"type": "boolean"}},
                "additionalProperties": false}),
        };
        let config = json!({"responseMimeType": "application/json", name: schema});
        let body = with(&contents("hello"), json!({"generationConfig": config}));
        let answer = harness.ok(post(GENERATE, &body)).await;
        let text = answer["candidates"][0]["content"]["parts"][0]["text"]
            .as_str()
            .unwrap();
        assert!(
            serde_json::from_str::<Value>(text).unwrap()["ok"].is_boolean(),
            "{name}"
        );
    }
    let filtered = harness.ok(post(GENERATE, &contents("[[filter]]"))).await;
    assert_eq!(filtered["candidates"][0]["finishReason"], "SAFETY");
}

#[tokio::test]
async fn requests_that_make_no_sense_are_refused_in_google_s_words() {
    let harness = Harness::default().await;
    let declared = |parameters: Value| {
        let function = json!({"name": "f", "parameters": parameters});
        json!({"tools": [{"functionDeclarations": [function]}]})
    };
    let config = |config: Value| json!({"generationConfig": config});
    let cases: Vec<(Value, &str)> = vec![
        (json!({"contents": []}), "contents is not specified"),
        (
            json!({"messages": []}),
            "Unknown name \"messages\": Cannot find field.",
        ),
        (
            config(json!({"max_tokens": 5})),
            "Unknown name \"max_tokens\" at 'generationConfig'",
        ),
        (config(json!({"temperature": 3.0})), "temperature: 3 is not"),
        (config(json!({"candidateCount": 9})), "candidateCount"),
        (
            config(json!({"responseSchema": {"type": "STRING"}})),
            "responseSchema",
        ),
        (
            json!({"contents": [{"role": "assistant", "parts": [{"text": "x"}]}]}),
            "Please use a valid role: user, model.",
        ),
        (json!({"contents": [{"parts": []}]}), "contents.0.parts"),
        (
            json!({"contents": [{"parts": [{"text": "x", "functionCall": {"name": "f"}}]}]}),
            "only a model calls functions",
        ),
        (
            json!({"contents": [{"parts": [{}]}]}),
            "required oneof field 'data'",
        ),
        (
            declared(json!({"type": "object", "additionalProperties": false})),
            "Unknown name \"additionalProperties\"",
        ),
        (declared(json!({"type": ["string", "null"]})), "type"),
        (
            with(
                &declared(json!({"type": "object"})),
                config(json!({"responseMimeType": "application/json"})),
            ),
            "Function calling with a response mime type",
        ),
    ];
    for (fields, words) in cases {
        let reply = harness
            .exchange(post(GENERATE, &with(&contents("hello"), fields.clone())))
            .await;
        let error = &reply.json()["error"];
        assert_eq!(reply.status, StatusCode::BAD_REQUEST, "{fields}");
        assert_eq!(
            (&error["code"], &error["status"]),
            (&json!(400), &json!("INVALID_ARGUMENT"))
        );
        let message = error["message"].as_str().unwrap();
        assert!(message.contains(words), "{message} does not say {words}");
    }
    let cached = with(
        &contents("x"),
        json!({"cachedContent": "cachedContents/abc"}),
    );
    assert_eq!(
        harness.exchange(post(GENERATE, &cached)).await.status,
        StatusCode::FORBIDDEN
    );
    let absent = GENERATE.replace("sim-small", "absent");
    let reply = harness.exchange(post(&absent, &contents("x"))).await;
    assert_eq!(reply.json()["error"]["status"], "NOT_FOUND");
}

#[tokio::test]
async fn keys_come_in_a_header_or_the_query_and_caches_are_theirs() {
    let config = EngineConfig {
        api_key: Some("AIza1".into()),
        ..EngineConfig::default()
    };
    let harness = Harness::start(config).await;
    let body = contents("hello");
    harness
        .ok(post_with(GENERATE, &[("x-goog-api-key", "AIza1")], &body))
        .await;
    harness
        .ok(post(&format!("{GENERATE}?key=AIza1"), &body))
        .await;
    let reply = harness
        .exchange(post_with(GENERATE, &[("x-goog-api-key", "no")], &body))
        .await;
    assert_eq!(reply.status, StatusCode::BAD_REQUEST);
    assert_eq!(
        reply.json()["error"]["details"][0]["reason"],
        "API_KEY_INVALID"
    );
    assert_eq!(
        harness.exchange(post(GENERATE, &body)).await.status,
        StatusCode::FORBIDDEN
    );
    harness
        .ok(post_with(
            VERTEX,
            &[("authorization", "Bearer AIza1")],
            &body,
        ))
        .await;
    let reply = harness.exchange(post(VERTEX, &body)).await;
    assert_eq!(reply.json()["error"]["status"], "UNAUTHENTICATED");

    let harness = Harness::default().await;
    let long = contents(&long_text(3_000));
    let cached = async |key: &str| {
        let request = post_with(GENERATE, &[("x-goog-api-key", key)], &long);
        harness.ok(request).await["usageMetadata"]["cachedContentTokenCount"].as_u64()
    };
    assert_eq!(cached("ours").await, None);
    assert!(cached("ours").await.unwrap() >= 2_944);
    assert_eq!(cached("theirs").await, None);
}

#[tokio::test]
async fn tokens_are_counted_and_texts_embedded() {
    let harness = Harness::default().await;
    let base = "/v1beta/models/sim-embed";
    let count = harness
        .ok(post(&format!("{base}:countTokens"), &contents("hello")))
        .await;
    assert_eq!(count["totalTokens"], 6);
    let inner = with(&contents("hello"), json!({"model": "models/sim-embed"}));
    let body = json!({"generateContentRequest": inner});
    let count = harness
        .ok(post(&format!("{base}:countTokens"), &body))
        .await;
    assert_eq!(count["totalTokens"], 6);

    let content = json!({"parts": [{"text": "red house"}]});
    let body =
        json!({"content": content, "outputDimensionality": 8, "taskType": "RETRIEVAL_QUERY"});
    let one = harness
        .ok(post(&format!("{base}:embedContent"), &body))
        .await;
    assert_eq!(one["embedding"]["values"].as_array().unwrap().len(), 8);
    let request =
        json!({"model": "models/sim-embed", "content": content, "outputDimensionality": 8});
    let body = json!({"requests": [request, request]});
    let both = harness
        .ok(post(&format!("{base}:batchEmbedContents"), &body))
        .await;
    assert_eq!(
        both["embeddings"],
        json!([one["embedding"], one["embedding"]])
    );
    let unnamed = json!({"requests": [{"content": content}]});
    let reply = harness
        .exchange(post(&format!("{base}:batchEmbedContents"), &unnamed))
        .await;
    assert_eq!(reply.status, StatusCode::BAD_REQUEST);

    let predict = VERTEX.replace("sim-small:generateContent", "sim-embed:predict");
    let body = json!({"instances": [{"content": "red house"}],
        "parameters": {"outputDimensionality": 8}});
    let predicted = harness.ok(post(&predict, &body)).await;
    let embedding = &predicted["predictions"][0]["embeddings"];
    assert_eq!(embedding["values"], one["embedding"]["values"]);
    assert_eq!(embedding["statistics"]["token_count"], 3);
}

#[tokio::test]
async fn models_are_listed_and_faults_are_google_s() {
    let harness = Harness::default().await;
    let get = |path: &str| {
        let request = Request::get(path).header("host", "engine");
        request.body(Full::default()).unwrap()
    };
    let list = harness.ok(get("/v1beta/models")).await;
    assert_eq!(list["models"][0]["name"], "models/sim-small");
    assert_eq!(
        harness.ok(get("/v1beta/models/sim-large")).await["displayName"],
        "sim-large"
    );
    let cases = [
        ("status=429;retry-after=2", 429, "RESOURCE_EXHAUSTED"),
        ("overloaded", 503, "UNAVAILABLE"),
        ("status=500", 500, "INTERNAL"),
    ];
    for (fault, status, name) in cases {
        let body = contents(&format!("[[fault:{fault}]]"));
        let reply = harness.exchange(post(GENERATE, &body)).await;
        let error = &reply.json()["error"];
        assert_eq!(
            (&error["code"], &error["status"]),
            (&json!(status), &json!(name))
        );
        if status == 429 {
            assert_eq!(error["details"][0]["retryDelay"], "2s");
        }
    }
    let events = harness
        .named_events(post(STREAM, &contents("[[fault:error=2]]")))
        .await;
    assert_eq!(
        (events.len(), &events[2].1["error"]["code"]),
        (3, &json!(500))
    );
}
