use serde_json::{Value, json};

use super::super::testing::envelope;
use super::{EmbeddingAnswer, EmbeddingDialect, EmbeddingRequest, Encoding};

fn read(mut body: Value) -> EmbeddingRequest {
    body["model"] = "m".into();
    EmbeddingRequest::read(&envelope(&body)).unwrap()
}

fn asked(dialect: EmbeddingDialect, body: Value) -> Value {
    let body = read(body).write(dialect, "embed-1").unwrap();
    serde_json::from_slice(&body).unwrap()
}

fn refused(dialect: EmbeddingDialect, body: Value) -> String {
    read(body).write(dialect, "embed-1").unwrap_err().field
}

#[test]
fn every_provider_is_asked_in_its_own_words() {
    let body = json!({"input": ["a", "é"], "dimensions": 256, "encoding_format": "base64",
        "input_type": "search_query", "user": "u"});
    assert_eq!(
        asked(EmbeddingDialect::OpenAi, body.clone()),
        json!({"model": "embed-1", "input": ["a", "é"], "dimensions": 256, "encoding_format": "base64",
            "input_type": "search_query", "user": "u"})
    );
    let cohere = json!({"texts": ["a", "é"], "input_type": "search_query", "embedding_types": ["float"],
        "output_dimension": 256, "truncate": "NONE"});
    assert_eq!(asked(EmbeddingDialect::BedrockCohere, body.clone()), cohere);
    let mut with_model = cohere;
    with_model["model"] = "embed-1".into();
    assert_eq!(asked(EmbeddingDialect::Cohere, body.clone()), with_model);
    let one = |text: &str| {
        json!({"model": "models/embed-1", "content": {"parts": [{"text": text}]},
        "taskType": "RETRIEVAL_QUERY", "outputDimensionality": 256})
    };
    assert_eq!(
        asked(EmbeddingDialect::Gemini, body.clone()),
        json!({"requests": [one("a"), one("é")]})
    );
    let one = |text: &str| json!({"content": text, "task_type": "RETRIEVAL_QUERY"});
    assert_eq!(
        asked(EmbeddingDialect::Vertex, body),
        json!({"instances": [one("a"), one("é")],
            "parameters": {"autoTruncate": false, "outputDimensionality": 256}})
    );
    assert_eq!(
        asked(
            EmbeddingDialect::BedrockTitan,
            json!({"input": "a", "dimensions": 512})
        ),
        json!({"inputText": "a", "dimensions": 512, "normalize": true})
    );
}

#[test]
fn what_cannot_be_said_is_refused_by_name() {
    let many = json!({"input": vec!["x"; 97]});
    assert_eq!(refused(EmbeddingDialect::Cohere, many.clone()), "input");
    assert_eq!(
        asked(EmbeddingDialect::Gemini, many)["requests"]
            .as_array()
            .unwrap()
            .len(),
        97
    );
    assert_eq!(
        refused(EmbeddingDialect::BedrockTitan, json!({"input": ["a", "b"]})),
        "input"
    );
    for ids in [json!([1, 2]), json!([[1, 2], [3]])] {
        assert_eq!(
            refused(EmbeddingDialect::Gemini, json!({"input": ids})),
            "input"
        );
        let openai = asked(EmbeddingDialect::OpenAi, json!({"input": ids}));
        assert!(openai["input"][0].is_array());
    }
    let extra = json!({"input": "a", "add_special_tokens": true});
    assert_eq!(
        refused(EmbeddingDialect::Cohere, extra.clone()),
        "add_special_tokens"
    );
    assert_eq!(
        asked(EmbeddingDialect::OpenAi, extra)["add_special_tokens"],
        true
    );
    let first = json!({"input": "a", "dimensions": 5});
    let error = read(first).write(EmbeddingDialect::BedrockTitan, "amazon.titan-embed-text-v1");
    assert_eq!(error.unwrap_err().field, "dimensions");

    let field = |body: Value| EmbeddingRequest::read(&envelope(&body)).unwrap_err().field;
    assert_eq!(field(json!({"model": "m"})), "input");
    assert_eq!(field(json!({"input": [1, "a"]})), "input.1");
    assert_eq!(field(json!({"input": ["a", 1]})), "input.1");
    assert_eq!(
        field(json!({"input": "a", "encoding_format": "int8"})),
        "encoding_format"
    );
    assert_eq!(
        field(json!({"input": "a", "input_type": "x"})),
        "input_type"
    );
}

fn check(dialect: EmbeddingDialect, body: &str, tokens: Option<u64>) {
    let request = read(json!({"input": ["a", "b"]}));
    let answer = EmbeddingAnswer::read(dialect, &request, body.as_bytes()).unwrap();
    assert_eq!(answer.input_tokens, tokens);
    let written = answer.write("m", Encoding::Float, 9).unwrap();
    // Numbers are as the upstream wrote them.
    let text = std::str::from_utf8(&written).unwrap();
    assert!(text.contains("[1.50, -2e0]"), "{text}");
    let written: Value = serde_json::from_slice(&written).unwrap();
    let count = tokens.unwrap_or(9);
    assert_eq!(
        written["usage"],
        json!({"prompt_tokens": count, "total_tokens": count})
    );
    assert_eq!(
        written["data"][1],
        json!({"object": "embedding", "index": 1, "embedding": [0.0, 3]})
    );

    let base64 = answer.write("m", Encoding::Base64, 9).unwrap();
    let again = EmbeddingAnswer::read(EmbeddingDialect::OpenAi, &request, &base64).unwrap();
    let floats = again.write("m", Encoding::Float, 9).unwrap();
    let floats: Value = serde_json::from_slice(&floats).unwrap();
    assert_eq!(floats["data"][0]["embedding"], json!([1.5, -2.0]));
    assert_eq!(floats["data"][1]["embedding"], json!([0.0, 3.0]));
    let base64: Value = serde_json::from_slice(&base64).unwrap();
    assert_eq!(base64["data"][0]["embedding"], "AADAPwAAAMA=");
}

#[test]
fn every_providers_vectors_are_read() {
    check(
        EmbeddingDialect::OpenAi,
        r#"{"data":[{"index":1,"embedding":[0.0,3]},{"index":0,"embedding":[1.50, -2e0]}],
            "usage":{"prompt_tokens":4,"total_tokens":4}}"#,
        Some(4),
    );
    check(
        EmbeddingDialect::Cohere,
        r#"{"id":"x","embeddings":{"float":[[1.50, -2e0],[0.0,3]]},"texts":["a","b"],
            "meta":{"billed_units":{"input_tokens":2.0}}}"#,
        Some(2),
    );
    check(
        EmbeddingDialect::BedrockCohere,
        r#"{"embeddings":[[1.50, -2e0],[0.0,3]],"response_type":"embeddings_floats"}"#,
        None,
    );
    check(
        EmbeddingDialect::Gemini,
        r#"{"embeddings":[{"values":[1.50, -2e0]},{"values":[0.0,3]}]}"#,
        None,
    );
    check(
        EmbeddingDialect::Vertex,
        r#"{"predictions":[
            {"embeddings":{"values":[1.50, -2e0],"statistics":{"token_count":3,"truncated":false}}},
            {"embeddings":{"values":[0.0,3],"statistics":{"token_count":4}}}]}"#,
        Some(7),
    );
    let one = read(json!({"input": "a"}));
    let titan = br#"{"embedding":[1.5],"inputTextTokenCount":3}"#;
    let titan = EmbeddingAnswer::read(EmbeddingDialect::BedrockTitan, &one, titan).unwrap();
    assert_eq!((titan.vectors.len(), titan.input_tokens), (1, Some(3)));
}

#[test]
fn what_is_no_answer_is_not_taken_for_one() {
    let request = read(json!({"input": ["a", "b"]}));
    let read =
        |body: &str| EmbeddingAnswer::read(EmbeddingDialect::OpenAi, &request, body.as_bytes());
    for bad in [
        "",
        "{}",
        r#"{"data":[{"embedding":[1]}]}"#,
        r#"{"data":[{"embedding":["x"]},{"embedding":[1]}]}"#,
        r#"{"data":[{"embedding":[1]},{"embedding":null}]}"#,
    ] {
        assert!(read(bad).is_err(), "{bad}");
    }
    let odd = read(r#"{"data":[{"embedding":"AAAA"},{"embedding":"AAAAAA=="}]}"#).unwrap();
    assert!(odd.write("m", Encoding::Float, 0).is_err());
}
