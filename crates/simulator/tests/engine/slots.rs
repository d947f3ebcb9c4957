//! Time and slots. Time is paused, and the connections are pipes in memory, so that it moves only
//! when everybody waits.

use std::pin::pin;
use std::time::Duration;

use base::Supervisor;
use bytes::Bytes;
use http::StatusCode;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use simulator::{Engine, EngineConfig, Timing};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::harness::{chat_with, new_engine, post};

const CHAT: &str = "/v1/chat/completions";

fn config() -> EngineConfig {
    EngineConfig {
        timing: Timing {
            prefill_micros_per_token: 1_000,
            token_micros: 10_000,
            base_micros: 5_000,
        },
        ..EngineConfig::default()
    }
}

/// A connection to `engine` that lives until `until` is cancelled.
async fn connect(
    engine: &Engine,
    supervisor: &Supervisor,
    until: CancellationToken,
) -> SendRequest<Full<Bytes>> {
    let (near, far) = tokio::io::duplex(64 * 1024);
    let (engine, tasks) = (engine.clone(), supervisor.clone());
    supervisor.spawn(async move { engine.serve_stream(far, tasks).await });
    let (sender, connection) = http1::handshake(TokioIo::new(near)).await.unwrap();
    supervisor.spawn(async move {
        tokio::select! {
            closed = connection => drop(closed),
            () = until.cancelled() => {}
        }
    });
    sender
}

async fn call(engine: &Engine, supervisor: &Supervisor, body: &Value) -> (StatusCode, Bytes) {
    let mut sender = connect(engine, supervisor, CancellationToken::new()).await;
    let response = sender.send_request(post(CHAT, body)).await.unwrap();
    let status = response.status();
    (
        status,
        response.into_body().collect().await.unwrap().to_bytes(),
    )
}

#[tokio::test(start_paused = true)]
async fn time_goes_into_the_prefill_and_into_each_token() {
    let (engine, supervisor) = (new_engine(config()), Supervisor::new());
    let text = "x".repeat(400 - 21);
    let body = chat_with(&text, json!({"max_tokens": 20}));
    let taken = async || {
        let start = Instant::now();
        let (status, _) = call(&engine, &supervisor, &body).await;
        assert_eq!(status, StatusCode::OK);
        start.elapsed().as_millis()
    };
    assert_eq!(taken().await, 5 + 100 + 20 * 10);
    assert_eq!(
        taken().await,
        5 + (100 - 96) + 20 * 10,
        "96 of 100 tokens are cached"
    );
}

#[tokio::test(start_paused = true)]
async fn a_stream_comes_a_token_at_a_time() {
    let (engine, supervisor) = (new_engine(config()), Supervisor::new());
    let mut sender = connect(&engine, &supervisor, CancellationToken::new()).await;
    let body = chat_with(
        &"x".repeat(40 - 21),
        json!({"stream": true, "max_tokens": 3}),
    );
    let start = Instant::now();
    let mut response = sender.send_request(post(CHAT, &body)).await.unwrap();
    let mut arrivals = Vec::new();
    while let Some(frame) = response.frame().await {
        let frame = frame.unwrap();
        assert!(frame.data_ref().unwrap().starts_with(b"data: "));
        arrivals.push(start.elapsed().as_millis());
    }
    arrivals.dedup();
    assert_eq!(arrivals, [15, 25, 35, 45], "the role, then three tokens");
}

#[tokio::test(start_paused = true)]
async fn calls_wait_for_a_slot_in_order_and_one_too_many_is_refused() {
    let config = EngineConfig {
        batch_slots: 2,
        queue_slots: 3,
        ..config()
    };
    let (engine, supervisor) = (new_engine(config), Supervisor::new());
    let (done, mut order) = mpsc::channel(8);
    for number in 0..6 {
        let (engine, tasks, done) = (engine.clone(), supervisor.clone(), done.clone());
        supervisor.spawn(async move {
            tokio::time::sleep(Duration::from_millis(number)).await;
            let body = chat_with("hello", json!({"max_tokens": 10}));
            let (status, _) = call(&engine, &tasks, &body).await;
            done.send((number, status.as_u16())).await.unwrap();
        });
    }
    tokio::time::sleep(Duration::from_millis(50)).await;
    let observed = engine.observed();
    assert_eq!((observed.running, observed.waiting), (2, 3));
    drop(done);
    let mut ended = Vec::new();
    while let Some(end) = order.recv().await {
        ended.push(end);
    }
    assert_eq!(
        ended,
        [(5, 503), (0, 200), (1, 200), (2, 200), (3, 200), (4, 200)]
    );
    let observed = engine.observed();
    assert_eq!((observed.running_max, observed.cancelled), (2, 0));
    assert_eq!((observed.running, observed.waiting), (0, 0));
    assert_eq!(observed.generated_tokens, 50);
}

#[tokio::test(start_paused = true)]
async fn who_goes_away_frees_the_slot_at_once() {
    let config = EngineConfig {
        batch_slots: 1,
        ..config()
    };
    let (engine, supervisor) = (new_engine(config), Supervisor::new());
    // In mid-stream, in the wait for a whole answer, and in the queue.
    let streaming = chat_with("[[tokens:1000]]", json!({"stream": true}));
    let whole = chat_with("[[tokens:1000]]", json!({}));
    for body in [&streaming, &whole] {
        let before = engine.observed().cancelled;
        let (gone, queued) = (CancellationToken::new(), CancellationToken::new());
        let mut first = connect(&engine, &supervisor, gone.clone()).await;
        let mut answer = pin!(first.send_request(post(CHAT, body)));
        let answered = tokio::time::timeout(Duration::from_millis(500), &mut answer).await;
        let mut second = connect(&engine, &supervisor, queued.clone()).await;
        let mut waiting = pin!(second.send_request(post(CHAT, body)));
        let waited = tokio::time::timeout(Duration::from_millis(100), &mut waiting).await;
        assert!(waited.is_err(), "the only slot is taken");
        let observed = engine.observed();
        assert_eq!((observed.running, observed.waiting), (1, 1));
        queued.cancel();
        tokio::time::sleep(Duration::from_millis(1)).await;
        let observed = engine.observed();
        assert_eq!((observed.running, observed.waiting), (1, 0));
        assert_eq!(observed.cancelled, before + 1);
        gone.cancel();
        tokio::time::sleep(Duration::from_millis(1)).await;
        let observed = engine.observed();
        assert_eq!((observed.running, observed.waiting), (0, 0));
        assert_eq!(observed.cancelled, before + 2);
        drop(answered);
    }
    let generated = engine.observed().generated_tokens;
    assert!((1..1_000).contains(&generated), "{generated}");
    let (status, _) = call(&engine, &supervisor, &chat_with("hello", json!({}))).await;
    assert_eq!(status, StatusCode::OK);
}

#[tokio::test(start_paused = true)]
async fn a_stop_lets_calls_finish_and_ends_those_that_hang() {
    let (engine, supervisor) = (new_engine(config()), Supervisor::new());
    let (done, mut ended) = mpsc::channel(2);
    for text in ["[[tokens:100]]", "[[fault:hang]]"] {
        let (engine, tasks, done) = (engine.clone(), supervisor.clone(), done.clone());
        supervisor.spawn(async move {
            let mut sender = connect(&engine, &tasks, CancellationToken::new()).await;
            let result = sender
                .send_request(post(CHAT, &chat_with(text, json!({}))))
                .await;
            let status = result.ok().map(|response| response.status().as_u16());
            done.send(status).await.unwrap();
        });
    }
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(engine.observed().running, 2);
    assert_eq!(supervisor.drain(Duration::from_secs(10)).await, 0);
    assert_eq!(
        ended.recv().await,
        Some(None),
        "the one that hangs gets no answer"
    );
    assert_eq!(ended.recv().await, Some(Some(200)));
    assert_eq!(engine.observed().cancelled, 1);
}
