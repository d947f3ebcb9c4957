//! Moderations, as OpenAI's documentation shows them.

use http::StatusCode;
use serde_json::json;

use crate::harness::{Harness, post};

const PATH: &str = "/v1/moderations";

#[tokio::test]
async fn what_a_marker_names_is_flagged() {
    let harness = Harness::default().await;
    let body = json!({"input": ["hello", "[[flag:violence]] [[flag:self-harm/intent]]"]});
    let answer = harness.ok(post(PATH, &body)).await;
    assert_eq!(answer["model"], "omni-moderation-latest");
    let (clean, flagged) = (&answer["results"][0], &answer["results"][1]);
    assert_eq!(
        (&clean["flagged"], &flagged["flagged"]),
        (&json!(false), &json!(true))
    );
    assert_eq!(clean["categories"].as_object().unwrap().len(), 13);
    assert_eq!(flagged["categories"]["violence"], true);
    assert_eq!(flagged["categories"]["self-harm/intent"], true);
    assert_eq!(flagged["categories"]["hate"], false);
    assert!(flagged["category_scores"]["violence"].as_f64().unwrap() > 0.9);
    assert!(flagged["category_scores"]["hate"].as_f64().unwrap() < 0.1);
}

#[tokio::test]
async fn parts_are_one_input_and_mistakes_are_refused() {
    let harness = Harness::default().await;
    let body = json!({"model": "omni-moderation-latest", "input": [
        {"type": "text", "text": "[[flag:hate]]"},
        {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}},
    ]});
    let answer = harness.ok(post(PATH, &body)).await;
    assert_eq!(answer["results"].as_array().unwrap().len(), 1);
    let kinds = &answer["results"][0]["category_applied_input_types"]["hate"];
    assert_eq!(kinds, &json!(["text", "image"]));
    for body in [
        json!({}),
        json!({"input": []}),
        json!({"input": 7}),
        json!({"input": "x", "threshold": 1}),
        json!({"input": "[[flag:rudeness]]"}),
    ] {
        let reply = harness.exchange(post(PATH, &body)).await;
        assert_eq!(reply.status, StatusCode::BAD_REQUEST, "{body}");
    }
    let reply = harness
        .exchange(post(PATH, &json!({"input": "[[fault:status=500]]"})))
        .await;
    assert_eq!(reply.status, StatusCode::INTERNAL_SERVER_ERROR);
}
