//! An engine on a free port, and the plainest client.

use std::net::SocketAddr;
use std::sync::Arc;

use base::{ManualClock, Supervisor, Timestamp};
use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use simulator::{Engine, EngineConfig};
use tokio::net::{TcpListener, TcpStream};

/// A running engine. Its clock stands at 1,700,000,000 seconds.
pub(crate) struct Harness {
    pub(crate) engine: Engine,
    pub(crate) supervisor: Supervisor,
    pub(crate) address: SocketAddr,
}

/// A whole answer.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

/// What came of a stream: the frames, and how it ended.
#[derive(Debug)]
pub(crate) struct Events {
    /// The texts after `data: `, without `[DONE]`.
    pub(crate) frames: Vec<String>,
    pub(crate) is_done: bool,
    pub(crate) is_broken: bool,
}

impl Harness {
    pub(crate) async fn start(config: EngineConfig) -> Self {
        let engine = new_engine(config);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let supervisor = Supervisor::new();
        let (serving, tasks) = (engine.clone(), supervisor.clone());
        supervisor.spawn(async move { serving.serve(listener, tasks).await });
        Self {
            engine,
            supervisor,
            address,
        }
    }

    pub(crate) async fn default() -> Self {
        Self::start(EngineConfig::default()).await
    }

    /// Sends a request on a connection of its own and returns the answer's beginning.
    pub(crate) async fn send(&self, request: Request<Full<Bytes>>) -> http::Response<Incoming> {
        self.try_send(request).await.unwrap()
    }

    pub(crate) async fn try_send(
        &self,
        request: Request<Full<Bytes>>,
    ) -> hyper::Result<http::Response<Incoming>> {
        let stream = TcpStream::connect(self.address).await.unwrap();
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
        self.supervisor.spawn(async move { drop(connection.await) });
        sender.send_request(request).await
    }

    pub(crate) async fn exchange(&self, request: Request<Full<Bytes>>) -> Reply {
        let response = self.send(request).await;
        let (parts, body) = response.into_parts();
        Reply {
            status: parts.status,
            headers: parts.headers,
            body: body.collect().await.unwrap().to_bytes(),
        }
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> Reply {
        self.exchange(post(path, body)).await
    }

    /// A chat that must be answered with 200.
    pub(crate) async fn chat(&self, body: &Value) -> Value {
        let reply = self.post("/v1/chat/completions", body).await;
        assert_eq!(reply.status, StatusCode::OK, "{}", reply.text());
        reply.json()
    }

    pub(crate) async fn get(&self, path: &str) -> Reply {
        let request = Request::get(path).header("host", "engine");
        self.exchange(request.body(Full::default()).unwrap()).await
    }

    /// The events of a stream that begins with 200.
    pub(crate) async fn stream(&self, path: &str, body: &Value) -> Events {
        let mut response = self.send(post(path, body)).await;
        assert_eq!(response.status(), StatusCode::OK);
        let content_type = response.headers()["content-type"].to_str().unwrap();
        assert_eq!(content_type, "text/event-stream; charset=utf-8");
        let mut bytes = Vec::new();
        let mut is_broken = false;
        while let Some(frame) = response.frame().await {
            match frame {
                Ok(frame) => bytes.extend_from_slice(frame.data_ref().unwrap()),
                Err(_) => {
                    is_broken = true;
                    break;
                }
            }
        }
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let mut frames: Vec<String> = text
            .split("\n\n")
            .filter_map(|event| event.strip_prefix("data: "))
            .map(str::to_owned)
            .collect();
        let is_done = frames.last().is_some_and(|last| last == "[DONE]");
        if is_done {
            frames.pop();
        }
        Events {
            frames,
            is_done,
            is_broken,
        }
    }

    /// The events of a stream that begins with 200: their names, empty where they have none, and
    /// what they say.
    pub(crate) async fn named_events(&self, request: Request<Full<Bytes>>) -> Vec<(String, Value)> {
        let reply = self.exchange(request).await;
        assert_eq!(reply.status, StatusCode::OK, "{}", reply.text());
        let text = reply.text();
        let events = text.split("\n\n").filter(|event| !event.is_empty());
        let parsed = events.map(|event| {
            let (name, data) = match event.split_once('\n') {
                Some((name, data)) => (name.strip_prefix("event: ").unwrap(), data),
                None => ("", event),
            };
            let data = data.strip_prefix("data: ").unwrap();
            (name.to_owned(), serde_json::from_str(data).unwrap())
        });
        parsed.collect()
    }

    /// An answer that must be 200.
    pub(crate) async fn ok(&self, request: Request<Full<Bytes>>) -> Value {
        let reply = self.exchange(request).await;
        assert_eq!(reply.status, StatusCode::OK, "{}", reply.text());
        reply.json()
    }

    /// Waits until `holds`, for ten seconds of tokio's time at most.
    pub(crate) async fn until(&self, holds: impl Fn(&simulator::Observed) -> bool) {
        let waiting = async {
            while !holds(&self.engine.observed()) {
                tokio::time::sleep(std::time::Duration::from_millis(1)).await;
            }
        };
        let patience = std::time::Duration::from_secs(10);
        if tokio::time::timeout(patience, waiting).await.is_err() {
            panic!("it never held: {:?}", self.engine.observed());
        }
    }
}

impl Reply {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

impl Events {
    pub(crate) fn json(&self) -> Vec<Value> {
        let parse = |frame: &String| serde_json::from_str(frame).unwrap();
        self.frames.iter().map(parse).collect()
    }

    /// The values at `pointer` that are texts, joined.
    pub(crate) fn joined(&self, pointer: &str) -> String {
        let frames = self.json();
        let texts = frames
            .iter()
            .filter_map(|frame| frame.pointer(pointer)?.as_str());
        texts.collect()
    }
}

pub(crate) fn new_engine(config: EngineConfig) -> Engine {
    let now = Timestamp::from_micros(1_700_000_000_000_000);
    Engine::new(config, Arc::new(ManualClock::at(now)))
}

pub(crate) fn post(path: &str, body: &Value) -> Request<Full<Bytes>> {
    Request::post(path)
        .header("host", "engine")
        .header("content-type", "application/json")
        .body(Full::from(body.to_string()))
        .unwrap()
}

/// `post`, with more headers.
pub(crate) fn post_with(
    path: &str,
    headers: &[(&str, &str)],
    body: &Value,
) -> Request<Full<Bytes>> {
    let mut request = post(path, body);
    for &(name, value) in headers {
        let name = http::HeaderName::try_from(name).unwrap();
        let value = http::HeaderValue::try_from(value).unwrap();
        request.headers_mut().insert(name, value);
    }
    request
}

/// `base`, with more fields.
pub(crate) fn with(base: &Value, fields: Value) -> Value {
    let mut body = base.clone();
    merge(&mut body, fields);
    body
}

/// A text of so many tokens.
pub(crate) fn long_text(tokens: usize) -> String {
    "abcd".repeat(tokens)
}

/// The values at `pointer` that are texts, joined.
pub(crate) fn joined(events: &[(String, Value)], pointer: &str) -> String {
    let texts = events
        .iter()
        .filter_map(|(_, event)| event.pointer(pointer)?.as_str());
    texts.collect()
}

/// The names of events, repeated ones once.
pub(crate) fn names(events: &[(String, Value)]) -> Vec<&str> {
    let mut names: Vec<&str> = events.iter().map(|(name, _)| name.as_str()).collect();
    names.dedup();
    names
}

/// A chat with one message of the user.
pub(crate) fn chat(text: &str) -> Value {
    json!({"model": "sim-small", "messages": [{"role": "user", "content": text}]})
}

/// `chat`, with more fields.
pub(crate) fn chat_with(text: &str, fields: Value) -> Value {
    let mut body = chat(text);
    merge(&mut body, fields);
    body
}

pub(crate) fn merge(body: &mut Value, fields: Value) {
    let Value::Object(fields) = fields else {
        panic!("fields are an object")
    };
    body.as_object_mut().unwrap().extend(fields);
}
