//! An upstream that says exactly what it was told to say, whatever it is asked.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use base::Supervisor;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// What comes after the script.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Then {
    Close,
    Hang,
}

/// Answers every connection with `script`. Its address.
pub(crate) async fn upstream(
    supervisor: &Supervisor,
    script: &'static str,
    then: Then,
) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let tasks = supervisor.clone();
    supervisor.spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tasks.spawn(play(stream, script, then));
        }
    });
    address
}

async fn play(mut stream: TcpStream, script: &'static str, then: Then) {
    let mut buffer = [0; 16 << 10];
    // One read has the whole request: tests send little.
    if stream.read(&mut buffer).await.is_err() || stream.write_all(script.as_bytes()).await.is_err()
    {
        return;
    }
    if then == Then::Hang {
        // Until the gateway closes.
        drop(stream.read(&mut buffer).await);
    }
}

/// The head of an event stream without a length, and these events.
macro_rules! event_stream {
    ($($event:literal),* $(,)?) => {
        concat!(
            "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n",
            $("data: ", $event, "\n\n"),*
        )
    };
}
pub(crate) use event_stream;

/// A port where nobody listens.
pub(crate) async fn dead_address() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    listener.local_addr().unwrap()
}

/// A whole answer that used one token each way.
pub(crate) const ANSWER: &str = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\
    connection: close\r\ncontent-length: 70\r\n\r\n\
    {\"usage\":{\"prompt_tokens\":1,\"completion_tokens\":1},\"choices\":[],\"a\":1}";

/// Answers one connection after the other with the next of the scripts, and the last of them from
/// then on. Its address, and how many calls it had.
pub(crate) async fn sequence(
    supervisor: &Supervisor,
    scripts: &'static [&'static str],
) -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let calls = Arc::new(AtomicUsize::new(0));
    let (tasks, count) = (supervisor.clone(), Arc::clone(&calls));
    supervisor.spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let number = count.fetch_add(1, Ordering::Relaxed);
            let script = scripts[number.min(scripts.len() - 1)];
            tasks.spawn(play(stream, script, Then::Close));
        }
    });
    (address, calls)
}
