//! Vectors.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::StatusCode;
use serde_json::{Value, json};

use crate::harness::{Harness, merge};

async fn embed(harness: &Harness, fields: Value) -> Value {
    let mut body = json!({"model": "sim-embed", "input": "the red house"});
    merge(&mut body, fields);
    harness.post("/v1/embeddings", &body).await.json()
}

fn numbers(vector: &Value) -> Vec<f64> {
    vector
        .as_array()
        .unwrap()
        .iter()
        .map(|number| number.as_f64().unwrap())
        .collect()
}

#[tokio::test]
async fn a_vector_has_length_one_and_the_dimensions_that_are_wanted() {
    let harness = Harness::default().await;
    for (fields, dimensions) in [(json!({}), 384), (json!({"dimensions": 5}), 5)] {
        let answer = embed(&harness, fields).await;
        assert_eq!(answer["object"], "list");
        assert_eq!(
            answer["usage"],
            json!({"prompt_tokens": 4, "total_tokens": 4})
        );
        let vector = numbers(&answer["data"][0]["embedding"]);
        assert_eq!(vector.len(), dimensions);
        let length: f64 = vector.iter().map(|number| number * number).sum();
        assert!((length - 1.0).abs() < 1e-4, "{length}");
    }
}

#[tokio::test]
async fn base64_is_the_same_vector() {
    let harness = Harness::default().await;
    let plain = embed(&harness, json!({})).await;
    let packed = embed(&harness, json!({"encoding_format": "base64"})).await;
    let bytes = STANDARD
        .decode(packed["data"][0]["embedding"].as_str().unwrap())
        .unwrap();
    let (words, rest) = bytes.as_chunks::<4>();
    assert!(rest.is_empty());
    let unpacked: Vec<f32> = words.iter().map(|word| f32::from_le_bytes(*word)).collect();
    let plain: Vec<f32> = serde_json::from_value(plain["data"][0]["embedding"].clone()).unwrap();
    assert_eq!(plain, unpacked);
}

#[tokio::test]
async fn inputs_come_in_every_shape() {
    let harness = Harness::default().await;
    let one = embed(&harness, json!({})).await;
    let two = embed(&harness, json!({"input": ["a blue boat", "the red house"]})).await;
    assert_eq!(two["data"][1]["index"], 1);
    assert_eq!(two["data"][1]["embedding"], one["data"][0]["embedding"]);
    assert_ne!(two["data"][0]["embedding"], one["data"][0]["embedding"]);
    let ids = embed(&harness, json!({"input": [[1, 2], [3]]})).await;
    assert_eq!(ids["usage"]["prompt_tokens"], 3);
    assert_eq!(ids["data"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn what_makes_no_sense_is_refused() {
    let harness = Harness::default().await;
    let cases = [
        (json!({"input": ""}), "input"),
        (json!({"input": []}), "input"),
        (json!({"input": ["x", ""]}), "input"),
        (json!({"input": vec!["x"; 2_049]}), "input"),
        (json!({"dimensions": 0}), "dimensions"),
        (json!({"dimensions": 4_097}), "dimensions"),
        (json!({"model": "x"}), "model"),
        (json!({"cache_salt": "a/b"}), "cache_salt"),
    ];
    for (fields, param) in cases {
        let answer = embed(&harness, fields).await;
        assert_eq!(answer["error"]["param"], param);
    }
}

#[tokio::test]
async fn faults_happen_to_vectors_too() {
    let harness = Harness::default().await;
    let body = json!({"model": "sim-embed", "input": "x [[fault:status=503]]"});
    let reply = harness.post("/v1/embeddings", &body).await;
    assert_eq!(reply.status, StatusCode::SERVICE_UNAVAILABLE);
    let answer = embed(&harness, json!({"input": "x [[fault:nousage]]"})).await;
    assert!(answer.get("usage").is_none() && answer["data"].is_array());
}
