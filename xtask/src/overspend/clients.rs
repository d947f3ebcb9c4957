//! Ten thousand clients: each has one connection and makes one call, all at the same time.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, ensure};
use serde_json::Value;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::wire::{Connection, Head, request};

/// 256 connections are made at a time: well below any listener's backlog.
const CONNECTING_MAX: usize = 256;

/// Five minutes: a run takes half a minute, and one that hangs must end too.
const PATIENCE: Duration = Duration::from_secs(300);

/// The real output of a call that is answered in full.
const OUTPUT_TOKENS: u32 = 20;

/// What a client says that it may have: six times what it gets.
const OUTPUT_TOKENS_ASKED: u32 = 6 * OUTPUT_TOKENS;

/// What becomes of a call, as its client and the engine have arranged it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Plan {
    /// A whole answer.
    Whole,
    /// A whole answer, a while later.
    Late,
    /// A stream that ends by itself.
    Stream,
    /// A stream that the engine cuts after a few frames.
    CutByEngine,
    /// A stream whose client goes once it has read some of it.
    CutByClient,
    /// The engine answers 500.
    EngineFails,
    /// The engine never answers; the client goes after so many milliseconds.
    EngineHangs { patience_ms: u64 },
}

/// What a client saw.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    /// A 200, whatever became of its body.
    Answered { request_id: String },
    /// A 429 of the budget's: why.
    Refused { code: String },
    /// A 502 that the plan provoked.
    EngineFailed,
    /// Nothing: the client went before an answer came.
    Left,
    /// The gateway went in the middle, or said that it cannot reach the budget.
    Unreachable,
}

/// What befalls the gateways while they are called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Faults {
    None,
    /// One is killed or paused, or their database is gone: a call may come to nothing.
    Some,
}

/// A gateway that cannot reach the budget said so.
#[derive(Debug, thiserror::Error)]
#[error("the budget cannot be reached: {0}")]
struct BudgetUnreachable(String);

/// Whether a call came to nothing because its gateway, or the gateway's budget, was not there. An answer
/// that is wrong is no such thing, nor is one that nobody has waited for.
fn is_out_of_reach(error: &anyhow::Error) -> bool {
    use std::io::ErrorKind;
    let gone = |error: &std::io::Error| {
        matches!(
            error.kind(),
            ErrorKind::ConnectionRefused
                | ErrorKind::ConnectionReset
                | ErrorKind::ConnectionAborted
                | ErrorKind::BrokenPipe
                | ErrorKind::NotConnected
                | ErrorKind::UnexpectedEof
        )
    };
    error.is::<BudgetUnreachable>()
        || error
            .chain()
            .any(|cause| cause.downcast_ref().is_some_and(gone))
}

impl Plan {
    fn is_stream(self) -> bool {
        matches!(self, Self::Stream | Self::CutByEngine | Self::CutByClient)
    }

    /// The request's body, for `partywall simulate`.
    fn body(self) -> String {
        let fault = match self {
            Self::Whole | Self::Stream | Self::CutByClient => "",
            Self::Late => "[[fault:delay=250ms]]",
            Self::CutByEngine => "[[fault:cut=5]]",
            Self::EngineFails => "[[fault:status=500]]",
            Self::EngineHangs { .. } => "[[fault:hang]]",
        };
        let content = format!("Count. [[tokens:{OUTPUT_TOKENS}]]{fault}");
        serde_json::json!({
            "model": "sim-small", "max_tokens": OUTPUT_TOKENS_ASKED, "stream": self.is_stream(),
            "messages": [{"role": "user", "content": content}],
        })
        .to_string()
    }

    /// Makes the call.
    pub(crate) async fn call(
        self,
        mut connection: Connection,
        request: &[u8],
    ) -> anyhow::Result<Seen> {
        let head = match self {
            Self::EngineHangs { patience_ms } => {
                let patience = Duration::from_millis(patience_ms);
                match tokio::time::timeout(patience, connection.begin(request)).await {
                    Err(_) => return Ok(Seen::Left),
                    Ok(head) => head?,
                }
            }
            _ => connection.begin(request).await?,
        };
        if head.status != 200 {
            return self.refused(connection, head).await;
        }
        let request_id = head
            .request_id
            .clone()
            .context("an answer has no x-request-id")?;
        match self {
            Self::CutByClient => connection.wait_for_body(&head).await?,
            // What comes of a cut stream is the engine's doing: it may end in mid-chunk.
            Self::CutByEngine => drop(connection.finish(head).await),
            _ => {
                let body = connection.finish(head).await?;
                self.ensure_whole(&body)
                    .with_context(|| String::from_utf8_lossy(&body).into_owned())?;
            }
        }
        Ok(Seen::Answered { request_id })
    }

    async fn refused(self, mut connection: Connection, head: Head) -> anyhow::Result<Seen> {
        let status = head.status;
        let body = connection.finish(head).await?;
        let text = String::from_utf8_lossy(&body);
        let error: Value =
            serde_json::from_slice(&body).with_context(|| format!("{status}: {text}"))?;
        match (status, error["error"]["code"].as_str()) {
            (429, Some(code @ ("insufficient_quota" | "budget_held_by_live_calls"))) => {
                Ok(Seen::Refused {
                    code: code.to_owned(),
                })
            }
            (502, _) if self == Self::EngineFails => Ok(Seen::EngineFailed),
            (503, Some("budget_unreachable")) => Err(BudgetUnreachable(text.into_owned()).into()),
            _ => anyhow::bail!("{self:?} was answered {status}: {text}"),
        }
    }

    /// Whether an answer has its end and the output that was asked for.
    fn ensure_whole(self, body: &[u8]) -> anyhow::Result<()> {
        if self.is_stream() {
            ensure!(
                body.ends_with(b"data: [DONE]\n\n"),
                "a stream has no end of its own"
            );
            return Ok(());
        }
        let answer: Value = serde_json::from_slice(body).context("an answer is JSON")?;
        let tokens = &answer["usage"]["completion_tokens"];
        ensure!(*tokens == OUTPUT_TOKENS, "an answer has {tokens} tokens");
        Ok(())
    }
}

/// Opens a connection for each plan, to one gateway after another, and then makes all calls at
/// once; what each client saw.
pub(crate) async fn call_all(
    gateways: &[SocketAddr],
    key: &str,
    plans: Vec<Plan>,
    faults: Faults,
) -> anyhow::Result<Vec<(Plan, Seen)>> {
    let clients = open_all(gateways, plans.len(), faults).await?;
    call_with(clients, key, plans, faults).await
}

/// A gateway, and the connection to it if there is one.
pub(crate) type Client = (SocketAddr, Option<Connection>);

/// Makes all calls at once, each on its connection; what each client saw.
pub(crate) async fn call_with(
    clients: Vec<Client>,
    key: &str,
    plans: Vec<Plan>,
    faults: Faults,
) -> anyhow::Result<Vec<(Plan, Seen)>> {
    let mut calls = JoinSet::new();
    for (plan, (gateway, connection)) in plans.into_iter().zip(clients) {
        let body = plan.body();
        let path = "/v1/chat/completions";
        let request = request("POST", gateway, path, key, Some(body.as_bytes()));
        calls.spawn(async move {
            let Some(connection) = connection else {
                return Ok((plan, Seen::Unreachable));
            };
            let seen = match plan.call(connection, &request).await {
                Err(error) if faults == Faults::Some && is_out_of_reach(&error) => {
                    Seen::Unreachable
                }
                seen => seen.with_context(|| format!("{plan:?}"))?,
            };
            anyhow::Ok((plan, seen))
        });
    }
    let ending = async {
        let mut all = Vec::with_capacity(calls.len());
        while let Some(call) = calls.join_next().await {
            all.push(call.context("a client panicked")??);
        }
        Ok(all)
    };
    tokio::time::timeout(PATIENCE, ending)
        .await
        .with_context(|| format!("calls were still under way after {PATIENCE:?}"))?
}

/// So many connections, to one gateway after another; none to those that `faults` have taken away.
pub(crate) async fn open_all(
    gateways: &[SocketAddr],
    count: usize,
    faults: Faults,
) -> anyhow::Result<Vec<Client>> {
    let places = Arc::new(Semaphore::new(CONNECTING_MAX));
    let mut opening = JoinSet::new();
    for gateway in gateways.iter().copied().cycle().take(count) {
        let places = Arc::clone(&places);
        opening.spawn(async move {
            let _place = places.acquire().await.context("it is never closed")?;
            let connection = match Connection::open(gateway).await {
                Err(error) if faults == Faults::Some && is_out_of_reach(&error) => None,
                opened => Some(opened?),
            };
            anyhow::Ok((gateway, connection))
        });
    }
    let mut connections = Vec::with_capacity(opening.len());
    while let Some(opened) = opening.join_next().await {
        connections.push(opened.context("a client panicked")??);
    }
    Ok(connections)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A gateway that says this to whoever calls, and goes; none at all if there is nothing to say.
    async fn called(says: &'static str, faults: Faults) -> anyhow::Result<Vec<(Plan, Seen)>> {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        let gateways = [listener.local_addr()?];
        let serving = async {
            if says.is_empty() {
                drop(listener);
                return;
            }
            let (mut stream, _) = listener.accept().await.expect("a client");
            let mut request = [0; 4_096];
            assert!(stream.read(&mut request).await.expect("a request") > 0);
            stream.write_all(says.as_bytes()).await.expect("it reads");
        };
        let calling = async {
            tokio::task::yield_now().await;
            call_all(&gateways, "key", vec![Plan::Whole], faults).await
        };
        tokio::join!(serving, calling).1
    }

    #[tokio::test]
    async fn only_a_gateway_that_is_gone_excuses_a_call() {
        let cut = "HTTP/1.1 200 OK\r\nx-request-id: r\r\ncontent-length: 99\r\n\r\n{";
        for says in ["", "HTTP/1.1 200 OK\r\n", cut] {
            let seen = called(says, Faults::Some).await.expect(says);
            assert_eq!(seen, [(Plan::Whole, Seen::Unreachable)], "{says}");
            assert!(called(says, Faults::None).await.is_err(), "{says}");
        }
        for says in [
            "no HTTP at all\r\n\r\n",
            "HTTP/1.1 200 OK\r\nx-request-id: r\r\ncontent-length: 2\r\n\r\n{}",
            "HTTP/1.1 500 No\r\ncontent-length: 2\r\n\r\n{}",
        ] {
            assert!(called(says, Faults::Some).await.is_err(), "{says}");
        }
    }

    #[test]
    fn an_answer_that_lacks_its_end_is_not_whole() {
        let whole = br#"{"usage":{"completion_tokens":20}}"#;
        let short = br#"{"usage":{"completion_tokens":19}}"#;
        for (plan, body, expected) in [
            (Plan::Whole, &whole[..], true),
            (Plan::Whole, short, false),
            (Plan::Whole, b"", false),
            (Plan::Stream, b"data: {}\n\ndata: [DONE]\n\n", true),
            (Plan::Stream, b"data: {}\n\n", false),
        ] {
            assert_eq!(plan.ensure_whole(body).is_ok(), expected, "{plan:?}");
        }
    }
}
