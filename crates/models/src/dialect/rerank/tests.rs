use serde_json::{Value, json};

use super::super::testing::envelope;
use super::{RerankAnswer, RerankDialect, RerankRequest, RerankUsage};
use crate::dialect::AnswerNames;

fn read(mut body: Value) -> RerankRequest {
    body["model"] = "m".into();
    RerankRequest::read(&envelope(&body)).unwrap()
}

fn asked(dialect: RerankDialect, body: Value) -> Value {
    let body = read(body).write(dialect, "rerank-1").unwrap();
    serde_json::from_slice(&body).unwrap()
}

fn three() -> Value {
    json!({"query": "q", "documents": ["a", {"text": "b"}, "c"], "top_n": 2,
        "return_documents": true})
}

#[test]
fn every_provider_is_asked_in_its_own_words() {
    let common =
        json!({"model": "rerank-1", "query": "q", "documents": ["a", "b", "c"], "top_n": 2});
    assert_eq!(asked(RerankDialect::Cohere, three()), common);
    assert_eq!(asked(RerankDialect::Vllm, three()), common);
    let mut jina = common;
    jina["return_documents"] = false.into();
    assert_eq!(asked(RerankDialect::Jina, three()), jina);
    assert_eq!(
        asked(RerankDialect::Tei, three()),
        json!({"query": "q", "texts": ["a", "b", "c"], "raw_scores": false, "return_text": false})
    );
}

#[test]
fn what_cannot_be_said_is_refused_by_name() {
    let refused = |dialect, extra: Value| {
        let mut body = three();
        body.as_object_mut()
            .unwrap()
            .extend(extra.as_object().unwrap().clone());
        read(body).write(dialect, "m").unwrap_err().field
    };
    let image = json!({"documents": ["a", {"image": "https://x.y/a.png"}]});
    assert_eq!(refused(RerankDialect::Cohere, image.clone()), "documents.1");
    assert_eq!(refused(RerankDialect::Tei, image), "documents.1");
    assert_eq!(
        refused(RerankDialect::Cohere, json!({"rank_fields": ["a"]})),
        "rank_fields"
    );
    assert_eq!(
        refused(RerankDialect::Jina, json!({"max_tokens_per_doc": 9})),
        "max_tokens_per_doc"
    );

    let field = |body: Value| RerankRequest::read(&envelope(&body)).unwrap_err().field;
    assert_eq!(field(json!({"documents": ["a"]})), "query");
    assert_eq!(field(json!({"query": "q"})), "documents");
    assert_eq!(
        field(json!({"query": "q", "documents": ["a", 3]})),
        "documents.1"
    );
    assert_eq!(field(json!({"query": "q", "documents": "a"})), "documents");
}

fn check(dialect: RerankDialect, body: &str, usage: RerankUsage) {
    let request = read(three());
    let answer = RerankAnswer::read(dialect, &request, body.as_bytes()).unwrap();
    assert_eq!(answer.usage, usage);
    let names = AnswerNames {
        id: "rerank_7".into(),
        model: "m".into(),
        created: 0,
    };
    let written: Value = serde_json::from_slice(&answer.write(&request, &names)).unwrap();
    assert_eq!(
        written["results"],
        json!([
            {"index": 2, "relevance_score": 0.9, "document": {"text": "c"}},
            {"index": 1, "relevance_score": 0.5, "document": {"text": "b"}},
        ])
    );
    assert_eq!(
        written["usage"]["total_tokens"].as_u64(),
        usage.input_tokens
    );
    assert_eq!(
        written["meta"]["billed_units"]["search_units"].as_u64(),
        usage.search_units
    );
}

#[test]
fn every_providers_ranks_are_read() {
    check(
        RerankDialect::Cohere,
        r#"{"id":"x","results":[{"index":2,"relevance_score":0.9},{"index":1,"relevance_score":0.5}],
            "meta":{"api_version":{"version":"2"},"billed_units":{"search_units":1.0}}}"#,
        RerankUsage {
            input_tokens: None,
            search_units: Some(1),
        },
    );
    let tokens = RerankUsage {
        input_tokens: Some(12),
        search_units: None,
    };
    for dialect in [RerankDialect::Jina, RerankDialect::Vllm] {
        check(
            dialect,
            r#"{"model":"x","usage":{"total_tokens":12},"results":[
                {"index":1,"relevance_score":0.5,"document":{"text":"b"}},
                {"index":2,"relevance_score":0.9}]}"#,
            tokens,
        );
    }
    check(
        RerankDialect::Tei,
        r#"[{"index":0,"score":0.1},{"index":1,"score":0.5},{"index":2,"score":0.9}]"#,
        RerankUsage::default(),
    );
}

#[test]
fn what_is_no_answer_is_not_taken_for_one() {
    let request = read(three());
    for bad in [
        "",
        "{}",
        r#"{"results":[{"index":3,"relevance_score":0.9}]}"#,
        r#"{"results":[{"index":1,"relevance_score":0.9},{"index":1,"relevance_score":0.8}]}"#,
        r#"{"results":[{"index":1}]}"#,
        r#"{"results":[{"index":-1,"relevance_score":0.9}]}"#,
    ] {
        let read = RerankAnswer::read(RerankDialect::Jina, &request, bad.as_bytes());
        assert!(read.is_err(), "{bad}");
    }
}
