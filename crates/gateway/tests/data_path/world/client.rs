//! The plainest client: a connection for each call.

use std::net::SocketAddr;
use std::time::Duration;

use base::{PicoUsd, Supervisor};
use bytes::Bytes;
use http::request::Builder;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::catalogue::secret;

/// Where chats go.
pub(crate) const CHAT: &str = "/v1/chat/completions";

/// A minute: what never comes fails a test, and does not hang it.
const PATIENCE: Duration = Duration::from_secs(60);

/// Calls the gateway.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    pub(crate) address: SocketAddr,
    pub(crate) supervisor: Supervisor,
}

/// A whole answer.
#[derive(Debug, Clone)]
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

/// What came of a stream: its events, and how it ended.
#[derive(Debug, Clone)]
pub(crate) struct Events {
    pub(crate) headers: HeaderMap,
    /// The texts after `data: `, an event each, without `[DONE]`.
    pub(crate) frames: Vec<String>,
    pub(crate) is_done: bool,
    /// The connection closed before the body's end.
    pub(crate) is_broken: bool,
}

/// A chat of one message.
pub(crate) fn chat(model: &str, text: &str) -> Value {
    json!({"model": model, "messages": [{"role": "user", "content": text}]})
}

/// A request with this key.
pub(crate) fn post(owner: &str, path: &str) -> Builder {
    Request::post(path)
        .header("host", "gateway")
        .header("content-type", "application/json")
        .header("authorization", format!("Bearer {}", secret(owner)))
}

/// The body of a request.
pub(crate) fn body(value: &Value) -> Full<Bytes> {
    Full::from(value.to_string())
}

impl Client {
    /// Sends a request on a connection of its own; dropping the answer closes that.
    pub(crate) async fn send(&self, request: Request<Full<Bytes>>) -> Response<Incoming> {
        let stream = TcpStream::connect(self.address).await.unwrap();
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
        self.supervisor.spawn(async move { drop(connection.await) });
        sender.send_request(request).await.unwrap()
    }

    pub(crate) async fn exchange(&self, request: Request<Full<Bytes>>) -> Reply {
        let exchange = async {
            let (head, body) = self.send(request).await.into_parts();
            Reply {
                status: head.status,
                headers: head.headers,
                body: body.collect().await.unwrap().to_bytes(),
            }
        };
        bounded(exchange).await
    }

    pub(crate) async fn post(&self, owner: &str, path: &str, value: &Value) -> Reply {
        self.exchange(post(owner, path).body(body(value)).unwrap())
            .await
    }

    pub(crate) async fn get(&self, owner: &str, path: &str) -> Reply {
        let request = Request::get(path)
            .header("host", "gateway")
            .header("authorization", format!("Bearer {}", secret(owner)));
        self.exchange(request.body(Full::default()).unwrap()).await
    }

    /// A chat with `sim-small`.
    pub(crate) async fn chat(&self, owner: &str, text: &str) -> Reply {
        self.post(owner, CHAT, &chat("sim-small", text)).await
    }

    /// The events of a stream that begins with 200.
    pub(crate) async fn stream(&self, owner: &str, path: &str, value: &Value) -> Events {
        let mut value = value.clone();
        value["stream"] = Value::Bool(true);
        let request = post(owner, path).body(body(&value)).unwrap();
        let reading = async {
            let response = self.send(request).await;
            if response.status() != StatusCode::OK {
                let text = response.into_body().collect().await.unwrap().to_bytes();
                panic!("{}", String::from_utf8_lossy(&text));
            }
            Events::read(response).await
        };
        bounded(reading).await
    }

    /// Sends bytes as they are, and gives what comes back until the connection closes.
    pub(crate) async fn raw(&self, bytes: &[u8]) -> String {
        let talking = async {
            let mut stream = TcpStream::connect(self.address).await.unwrap();
            stream.write_all(bytes).await.unwrap();
            let mut answer = Vec::new();
            // A reset after the answer is an end too.
            drop(stream.read_to_end(&mut answer).await);
            String::from_utf8_lossy(&answer).into_owned()
        };
        bounded(talking).await
    }
}

impl Events {
    pub(crate) async fn read(mut response: Response<Incoming>) -> Self {
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
            .filter_map(|event| event.lines().find_map(|line| line.strip_prefix("data: ")))
            .map(str::to_owned)
            .collect();
        let is_done = frames.last().is_some_and(|last| last == "[DONE]");
        if is_done {
            frames.pop();
        }
        Self {
            headers: response.headers().clone(),
            frames,
            is_done,
            is_broken,
        }
    }

    pub(crate) fn json(&self) -> Vec<Value> {
        self.frames
            .iter()
            .map(|frame| serde_json::from_str(frame).unwrap())
            .collect()
    }

    /// The text of the first choice.
    pub(crate) fn text(&self) -> String {
        self.json()
            .iter()
            .filter_map(|chunk| {
                chunk["choices"][0]["delta"]["content"]
                    .as_str()
                    .map(str::to_owned)
            })
            .collect()
    }

    /// The code of the error that the stream ended with, if it did.
    pub(crate) fn error_code(&self) -> Option<String> {
        let last = self.json().pop()?;
        last["error"]["code"].as_str().map(str::to_owned)
    }
}

impl Reply {
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    /// What it cost, as the answer says.
    pub(crate) fn cost(&self) -> PicoUsd {
        self.header("partywall-cost").unwrap().parse().unwrap()
    }

    /// The answer to a call that was let through.
    #[track_caller]
    pub(crate) fn ok(&self) -> Value {
        assert_eq!(self.status, StatusCode::OK, "{}", self.text());
        self.json()
    }

    /// The text of the first choice.
    #[track_caller]
    pub(crate) fn said(&self) -> String {
        let answer = self.ok();
        answer["choices"][0]["message"]["content"]
            .as_str()
            .unwrap()
            .to_owned()
    }

    /// Asserts that it is an error of OpenAI's form, with this status and code.
    #[track_caller]
    pub(crate) fn refused(&self, status: u16, code: &str) {
        assert_eq!(self.status.as_u16(), status, "{}", self.text());
        let error = &self.json()["error"];
        assert_eq!(error["code"], code, "{}", self.text());
        assert!(error["message"].is_string() && error["type"].is_string());
        assert!(error.as_object().unwrap().contains_key("param"));
        assert!(self.header("x-request-id").unwrap().starts_with("req_"));
    }
}

/// What comes, within a bound that only a test that hangs reaches.
pub(crate) async fn bounded<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future)
        .await
        .expect("it never came")
}

/// Waits until it holds.
pub(crate) async fn until(holds: impl Fn() -> bool) {
    bounded(async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    })
    .await;
}
