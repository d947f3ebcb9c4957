//! Faults on request.

use std::time::Duration;

use http::{HeaderValue, StatusCode};
use http_body_util::BodyExt;
use serde_json::{Value, json};

use crate::harness::{Harness, chat, chat_with, post};

const CHAT: &str = "/v1/chat/completions";

fn streaming(text: &str) -> Value {
    chat_with(
        text,
        json!({"stream": true, "stream_options": {"include_usage": true}}),
    )
}

#[tokio::test]
async fn a_status_with_its_patience() {
    let harness = Harness::default().await;
    let reply = harness
        .post(CHAT, &chat("[[fault:status=429;retry-after=2]]"))
        .await;
    assert_eq!(reply.status, StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(reply.headers["retry-after"], "2");
    assert_eq!(reply.json()["error"]["code"], "rate_limit_exceeded");
    let reply = harness.post(CHAT, &chat("[[fault:status=500]]")).await;
    assert_eq!(reply.json()["error"]["type"], "server_error");
    assert_eq!(harness.engine.observed().cancelled, 0);
}

#[tokio::test]
async fn a_header_asks_as_well_as_a_marker() {
    let harness = Harness::default().await;
    let mut request = post(CHAT, &chat("hello"));
    let fault = HeaderValue::from_static("status=418");
    request.headers_mut().insert("x-sim-fault", fault);
    assert_eq!(
        harness.exchange(request).await.status,
        StatusCode::IM_A_TEAPOT
    );
    let reply = harness.post(CHAT, &chat("[[fault:stauts=418]]")).await;
    assert_eq!(
        reply.status,
        StatusCode::BAD_REQUEST,
        "a misspelt fault is no success"
    );
}

#[tokio::test(start_paused = true)]
async fn a_delay_comes_before_the_first_byte() {
    let harness = Harness::default().await;
    let start = tokio::time::Instant::now();
    let response = harness
        .send(post(CHAT, &streaming("[[fault:delay=500ms]]")))
        .await;
    assert_eq!(response.status(), StatusCode::OK);
    assert!(start.elapsed() >= Duration::from_millis(500));
}

#[tokio::test]
async fn a_call_that_hangs_holds_its_slot_until_its_client_goes() {
    let harness = Harness::default().await;
    {
        let request = harness.try_send(post(CHAT, &chat("[[fault:hang]]")));
        tokio::select! {
            answer = request => panic!("it answered: {answer:?}"),
            () = harness.until(|observed| observed.running == 1) => {}
        }
    }
    // Dropping the sender closes the connection.
    harness
        .until(|observed| observed.running == 0 && observed.cancelled == 1)
        .await;
}

#[tokio::test]
async fn a_cut_breaks_the_connection_after_so_many_chunks() {
    let harness = Harness::default().await;
    for chunks in [0, 1, 5] {
        let body = streaming(&format!("[[fault:cut={chunks}]]"));
        let events = harness.stream(CHAT, &body).await;
        assert!(events.is_broken && !events.is_done);
        assert_eq!(events.json().len(), chunks);
    }
    let response = harness.send(post(CHAT, &chat("[[fault:cut=5]]"))).await;
    assert_eq!(response.status(), StatusCode::OK);
    let announced: usize = response.headers()["content-length"]
        .to_str()
        .unwrap()
        .parse()
        .unwrap();
    let mut body = response.into_body();
    let first = body.frame().await.unwrap().unwrap().into_data().unwrap();
    assert_eq!(first.len(), announced / 2);
    assert!(body.frame().await.unwrap().is_err());
    assert_eq!(
        harness.engine.observed().cancelled,
        0,
        "the engine went, not the client"
    );
}

#[tokio::test]
async fn garbage_is_no_json() {
    let harness = Harness::default().await;
    let reply = harness.post(CHAT, &chat("[[fault:garbage]]")).await;
    assert_eq!(reply.status, StatusCode::OK);
    assert!(serde_json::from_slice::<Value>(&reply.body).is_err());
    let events = harness.stream(CHAT, &streaming("[[fault:garbage]]")).await;
    let good = events
        .frames
        .iter()
        .filter(|frame| serde_json::from_str::<Value>(frame).is_ok());
    assert_eq!((good.count(), events.frames.len()), (2, 3));
    assert!(!events.is_done && !events.is_broken);
}

#[tokio::test]
async fn an_error_frame_ends_a_stream() {
    let harness = Harness::default().await;
    let events = harness.stream(CHAT, &streaming("[[fault:error=5]]")).await;
    let frames = events.json();
    assert_eq!(frames.len(), 6);
    assert!(frames[..5].iter().all(|frame| frame["choices"].is_array()));
    assert_eq!(frames[5]["error"]["code"], "sim_error");
    assert!(events.is_done);
    let reply = harness.post(CHAT, &chat("[[fault:error=5]]")).await;
    assert_eq!(reply.status, StatusCode::INTERNAL_SERVER_ERROR);
    assert_eq!(reply.json()["error"]["code"], "sim_error");
}

#[tokio::test]
async fn usage_is_left_out() {
    let harness = Harness::default().await;
    let answer = harness.chat(&chat("[[fault:nousage]]")).await;
    assert!(answer.get("usage").is_none() && answer["choices"].is_array());
    let events = harness.stream(CHAT, &streaming("[[fault:nousage]]")).await;
    assert!(events.is_done);
    assert!(events.json().iter().all(|frame| frame["usage"].is_null()));
}

#[tokio::test]
async fn an_overrun_ignores_the_maximum_and_says_so() {
    let harness = Harness::default().await;
    let body = chat_with("[[fault:overrun=100]]", json!({"max_tokens": 10}));
    let answer = harness.chat(&body).await;
    assert_eq!(answer["usage"]["completion_tokens"], 110);
    let text = answer["choices"][0]["message"]["content"].as_str().unwrap();
    assert_eq!(text.split(' ').count(), 110);
}

#[tokio::test]
async fn faults_combine() {
    let harness = Harness::default().await;
    let body = streaming("[[fault:nousage,error=3]] and [[fault:delay=1ms]]");
    let events = harness.stream(CHAT, &body).await;
    assert_eq!(events.json().len(), 4);
}
