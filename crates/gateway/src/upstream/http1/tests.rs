//! One connection against a peer that a test plays by hand.

use tokio::io::{AsyncWriteExt as _, DuplexStream, duplex};

use super::*;
use crate::upstream::UpstreamBody;

fn pair(bytes: usize) -> (Connection, DuplexStream) {
    let (ours, peer) = duplex(bytes);
    (Connection::new(Box::new(ours)), peer)
}

fn request(length: usize) -> http::Request<()> {
    http::Request::post("/v1/x")
        .header("host", "engine")
        .header("content-length", length)
        .body(())
        .expect("it is well formed")
}

fn body(text: &'static str) -> UpstreamBody {
    UpstreamBody::of([Bytes::from_static(text.as_bytes())])
}

/// Sends a request of two bytes to a peer that answers with `answer` and then closes or not.
async fn exchange(answer: &[u8]) -> (Result<AnswerHead, ExchangeError>, Connection, DuplexStream) {
    let (mut connection, mut peer) = pair(1 << 20);
    peer.write_all(answer).await.expect("there is room");
    let head = connection.exchange(&request(2), &body("{}")).await;
    (head, connection, peer)
}

#[tokio::test]
async fn a_request_is_one_write_and_its_connection_serves_the_next() {
    let (mut connection, mut peer) = pair(1 << 20);
    for _ in 0..2 {
        peer.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nyes")
            .await
            .expect("there is room");
        let head = connection.exchange(&request(2), &body("{}")).await;
        assert_eq!(head.expect("it answers").status, 200);
        assert!(!connection.is_reusable(), "its body is still to come");
        assert_eq!(connection.whole_body(3).await.expect("whole"), "yes");
        assert!(connection.is_reusable() && !connection.is_stale());
        let mut sent = BytesMut::with_capacity(1024);
        peer.read_buf(&mut sent).await.expect("it was sent");
        assert!(sent.ends_with(b"content-length: 2\r\n\r\n{}"));
    }
    drop(peer);
    assert!(connection.is_stale());
}

#[tokio::test]
async fn what_one_read_brought_is_one_piece() {
    let (head, mut connection, mut peer) =
        exchange(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\none\r\n3\r\ntwo\r\n")
            .await;
    head.expect("it answers");
    let piece = poll_fn(|context| connection.poll_body(context)).await;
    assert_eq!(piece.expect("more").expect("good"), "onetwo");
    peer.write_all(b"5\r\nthree\r\n0\r\n\r\n")
        .await
        .expect("room");
    let piece = poll_fn(|context| connection.poll_body(context)).await;
    assert_eq!(piece.expect("more").expect("good"), "three");
    assert!(connection.has_ended() && connection.is_reusable());
}

#[tokio::test]
async fn who_waits_for_an_answer_holds_no_buffer() {
    let (mut connection, mut peer) = pair(1 << 20);
    for _ in 0..2 {
        let call = body("{}");
        let request = request(2);
        {
            let mut exchange = pin!(connection.exchange(&request, &call));
            let mut context = Context::from_waker(Waker::noop());
            assert!(exchange.as_mut().poll(&mut context).is_pending());
        }
        assert_eq!(connection.received.capacity(), 0);
        // A large answer has larger reads, and the wait for the next has none of that.
        let large = vec![b'x'; 5 * READ_BYTES_MIN];
        let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", large.len());
        peer.write_all(head.as_bytes()).await.expect("room");
        peer.write_all(&large).await.expect("room");
        let answer = connection.exchange(&request, &call).await;
        answer.expect("it answers");
        let whole = connection.whole_body(large.len()).await;
        assert_eq!(whole.expect("whole"), large);
        assert!(connection.read_bytes > READ_BYTES_MIN);
        connection.rest();
    }
}

#[tokio::test]
async fn a_peer_that_says_more_than_it_was_asked_is_not_asked_again() {
    let (head, mut connection, _peer) =
        exchange(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nokHTTP/1.1 200 OK\r\n\r\n").await;
    head.expect("it answers");
    assert_eq!(connection.whole_body(9).await.expect("whole"), "ok");
    assert!(!connection.is_reusable());
}

#[tokio::test]
async fn an_answer_that_stops_is_an_error_and_one_without_a_length_ends_there() {
    for (answer, is_whole) in [
        (
            b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhello".as_slice(),
            false,
        ),
        (
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n9\r\nhello",
            false,
        ),
        (
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n",
            false,
        ),
        (b"HTTP/1.1 200 OK\r\n\r\nhello", true),
    ] {
        let (head, mut connection, peer) = exchange(answer).await;
        head.expect("it answers");
        drop(peer);
        let body = connection.whole_body(9).await;
        assert_eq!(body.is_ok_and(|body| body == "hello"), is_whole);
        assert!(!connection.is_reusable());
    }
}

#[tokio::test]
async fn interim_answers_are_passed_over_and_switching_is_refused() {
    let (head, ..) = exchange(
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Hints\r\na: b\r\n\r\nHTTP/1.1 204 No\r\n\r\n",
    )
    .await;
    assert_eq!(head.expect("it answers").status, 204);
    let (head, ..) = exchange(b"HTTP/1.1 101 Switching\r\nupgrade: x\r\n\r\n").await;
    assert!(matches!(head, Err(ExchangeError::Broken(_))));
    let endless = b"HTTP/1.1 100 Continue\r\n\r\n".repeat(100);
    let (head, ..) = exchange(&endless).await;
    assert!(matches!(head, Err(ExchangeError::Broken(_))));
}

#[tokio::test]
async fn a_refusal_before_the_body_was_read_is_heard() {
    let (mut connection, mut peer) = pair(64);
    let large = UpstreamBody::of([Bytes::from(vec![b'x'; 4096])]);
    let request = request(4096);
    let (head, ()) = tokio::join!(connection.exchange(&request, &large), async {
        peer.write_all(b"HTTP/1.1 413 Too Large\r\ncontent-length: 0\r\n\r\n")
            .await
            .expect("there is room");
    });
    assert_eq!(head.expect("it answers").status, 413);
    assert!(
        !connection.is_reusable(),
        "the rest of the body was not sent"
    );
}

#[tokio::test]
async fn an_answer_that_begins_early_is_still_sent_the_whole_body() {
    let (mut connection, mut peer) = pair(64);
    let large = UpstreamBody::of([Bytes::from(vec![b'x'; 4096])]);
    let request = request(4096);
    let (head, received) = tokio::join!(connection.exchange(&request, &large), async {
        peer.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
            .await
            .expect("there is room");
        let mut received = BytesMut::new();
        while !received.ends_with(&[b'x'; 4096]) {
            assert_ne!(peer.read_buf(&mut received).await.expect("reads"), 0);
        }
        received.len()
    });
    assert_eq!(head.expect("it answers").status, 200);
    assert!(received > 4096 && connection.is_reusable());
}

#[tokio::test]
async fn what_was_never_sent_is_told_from_what_may_have_been() {
    let (mut connection, peer) = pair(1 << 20);
    drop(peer);
    let head = connection.exchange(&request(2), &body("{}")).await;
    assert!(matches!(head, Err(ExchangeError::NeverSent)));
    let (mut connection, mut peer) = pair(1 << 20);
    let request = request(2);
    let small = body("{}");
    let (head, ()) = tokio::join!(connection.exchange(&request, &small), async {
        let mut received = BytesMut::new();
        peer.read_buf(&mut received).await.expect("reads");
        drop(peer);
    });
    assert!(matches!(
        head,
        Err(ExchangeError::Broken(WireError::Closed))
    ));
}
