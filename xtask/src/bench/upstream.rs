//! The bench's engine: a hyper server that answers fixed OpenAI-shaped bodies. What it does is
//! chosen by the model's name, so that one address serves every workload through any gateway:
//! `bench` answers at once, `bench-20ms` after 20 ms, `bench-paced` with 2 ms before each chunk.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context as TaskContext, Poll};
use std::time::Duration;

use anyhow::Context;
use base::Supervisor;
use bytes::Bytes;
use http_body_util::{BodyExt, Either, Full};
use hyper::body::{Body, Frame, Incoming};
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use memchr::memmem;
use tokio::net::TcpListener;

use super::alarm::Alarm;
use crate::product::runtime;

/// 64 chunks: the stream that the targets are stated for.
const STREAM_CHUNKS: usize = 64;

/// 20 ms: faster than real engines, slow enough to hide a group commit.
const SLOW: Duration = Duration::from_millis(20);

/// 2 ms between chunks: an engine at 500 tokens/s.
const PACE: Duration = Duration::from_millis(2);

/// The models it serves.
pub(crate) const MODELS: [&str; 3] = ["bench", "bench-20ms", "bench-paced"];

/// Where to listen.
#[derive(clap::Args)]
pub(crate) struct Options {
    #[arg(long)]
    listen: SocketAddr,
}

/// Serves until it is killed.
pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    runtime()?.block_on(async {
        let listener = TcpListener::bind(options.listen)
            .await
            .context("binding the engine")?;
        serve(listener).await
    })
}

/// Serves on this listener until it is dropped.
pub(crate) async fn serve(listener: TcpListener) -> anyhow::Result<()> {
    let answers = Arc::new(Answers::new());
    let supervisor = Supervisor::new();
    loop {
        let (stream, _) = listener.accept().await.context("accepting")?;
        stream.set_nodelay(true).context("setting TCP_NODELAY")?;
        let answers = answers.clone();
        supervisor.spawn(async move {
            let service = service_fn(|request| answer(answers.clone(), request));
            let served = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service)
                .await;
            // A client that goes away is no news here.
            drop(served);
        });
    }
}

/// Where it says how many requests with traces, metrics and logs it had: it is a collector, too.
pub(crate) const SIGNALS: &str = "/signals";

/// Which signal of OTLP is sent to this path.
fn signal_of(path: &str) -> Option<usize> {
    let paths = ["/v1/traces", "/v1/metrics", "/v1/logs"];
    paths.iter().position(|one| *one == path)
}

/// What is answered, made once.
struct Answers {
    signals: [AtomicU64; 3],
    models: Bytes,
    whole: Bytes,
    events: Arc<[Bytes]>,
    alarm: Alarm,
}

type AnswerBody = Either<Full<Bytes>, Events>;

async fn answer(
    answers: Arc<Answers>,
    request: Request<Incoming>,
) -> Result<Response<AnswerBody>, Infallible> {
    let is_call = request.method() == hyper::Method::POST;
    let signal = is_call.then(|| signal_of(request.uri().path())).flatten();
    let is_question = request.uri().path() == SIGNALS;
    let Ok(body) = request.into_body().collect().await else {
        return Ok(Response::new(Either::Left(Full::default())));
    };
    let body = body.to_bytes();
    if let Some(signal) = signal {
        answers.signals[signal].fetch_add(1, Ordering::Relaxed);
        return Ok(Response::new(Either::Left(Full::default())));
    }
    if is_question {
        let counts = answers.signals.each_ref();
        let counts = counts.map(|count| count.load(Ordering::Relaxed));
        let told = serde_json::to_vec(&counts).expect("numbers are JSON");
        return Ok(json(told.into()));
    }
    if !is_call {
        return Ok(json(answers.models.clone()));
    }
    // The model's name stands in the first kilobyte, whoever wrote the body.
    let start = &body[..body.len().min(1024)];
    if memmem::find(start, b"bench-20ms").is_some() {
        answers.alarm.after(SLOW).await;
    }
    let is_stream = [&b"\"stream\":true"[..], b"\"stream\": true"]
        .iter()
        .any(|needle| memmem::find(&body, needle).is_some());
    if !is_stream {
        return Ok(json(answers.whole.clone()));
    }
    let pace = memmem::find(start, b"bench-paced").map(|_| PACE);
    let events = Events {
        events: answers.events.clone(),
        next: 0,
        wait: Wait::new(pace),
    };
    let mut response = Response::new(Either::Right(events));
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    Ok(response)
}

fn json(body: Bytes) -> Response<AnswerBody> {
    let mut response = Response::new(Either::Left(Full::new(body)));
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// A stream whose every event is a write of its own, as an engine's is.
struct Events {
    events: Arc<[Bytes]>,
    next: usize,
    wait: Wait,
}

/// What stands between two events.
struct Wait {
    pace: Option<Duration>,
    sleep: Option<Pin<Box<tokio::time::Sleep>>>,
    has_yielded: bool,
}

impl Wait {
    fn new(pace: Option<Duration>) -> Self {
        Self {
            pace,
            sleep: None,
            has_yielded: true,
        }
    }

    /// Ready once per event. Without a pace it yields once, so that hyper writes out what it has.
    fn poll(&mut self, task: &mut TaskContext<'_>) -> Poll<()> {
        if let Some(pace) = self.pace {
            let sleep = self
                .sleep
                .get_or_insert_with(|| Box::pin(tokio::time::sleep(pace)));
            if sleep.as_mut().poll(task).is_pending() {
                return Poll::Pending;
            }
            self.sleep = None;
            return Poll::Ready(());
        }
        self.has_yielded = !self.has_yielded;
        if self.has_yielded {
            return Poll::Ready(());
        }
        task.waker().wake_by_ref();
        Poll::Pending
    }
}

impl Body for Events {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        task: &mut TaskContext<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.next == self.events.len() {
            return Poll::Ready(None);
        }
        if self.wait.poll(task).is_pending() {
            return Poll::Pending;
        }
        self.next += 1;
        let event = self.events[self.next - 1].clone();
        Poll::Ready(Some(Ok(Frame::data(event))))
    }
}

impl Answers {
    fn new() -> Self {
        let models: Vec<_> = MODELS
            .iter()
            .map(|id| serde_json::json!({"id": id, "object": "model", "owned_by": "bench"}))
            .collect();
        Self {
            models: serde_json::json!({"object": "list", "data": models})
                .to_string()
                .into(),
            whole: whole_answer(),
            events: stream_events(),
            alarm: Alarm::start(),
            signals: Default::default(),
        }
    }
}

/// An answer of one kilobyte, its fields in the order in which OpenAI writes them.
fn whole_answer() -> Bytes {
    let answer = |content: &str| {
        format!(
            r#"{{"id":"chatcmpl-bench","object":"chat.completion","created":1700000000,"model":"bench","choices":[{{"index":0,"message":{{"role":"assistant","content":"{content}","refusal":null}},"logprobs":null,"finish_reason":"stop"}}],"usage":{USAGE},"system_fingerprint":"fp_bench"}}"#
        )
    };
    let padding = 1024 - answer("").len();
    answer(&"word ".repeat(205)[..padding]).into()
}

const USAGE: &str = r#"{"prompt_tokens":20,"completion_tokens":64,"total_tokens":84}"#;

/// A role, 64 tokens, an end, the usage and `[DONE]`.
fn stream_events() -> Arc<[Bytes]> {
    let event = |choices: &str, usage: &str| {
        let chunk = format!(
            r#"{{"id":"chatcmpl-bench","object":"chat.completion.chunk","created":1700000000,"model":"bench","choices":[{choices}],"usage":{usage}}}"#
        );
        Bytes::from(format!("data: {chunk}\n\n"))
    };
    let delta = |delta: &str, finish: &str| {
        let choice = format!(r#"{{"index":0,"delta":{delta},"finish_reason":{finish}}}"#);
        event(&choice, "null")
    };
    std::iter::once(delta(r#"{"role":"assistant","content":""}"#, "null"))
        .chain((0..STREAM_CHUNKS).map(|_| delta(r#"{"content":"word "}"#, "null")))
        .chain([
            delta("{}", r#""stop""#),
            event("", USAGE),
            Bytes::from_static(b"data: [DONE]\n\n"),
        ])
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_is_a_kilobyte_and_the_stream_has_its_chunks() {
        assert_eq!(whole_answer().len(), 1024);
        let contents = stream_events()
            .iter()
            .filter(|event| memmem::find(event, b"\"word \"").is_some())
            .count();
        assert_eq!(contents, STREAM_CHUNKS);
    }
}
