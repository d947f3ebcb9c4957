//! Bodies are read within bounds, whatever a client sends (invariant 11).

use std::time::Duration;

use gateway::GatewayBounds;
use serde_json::json;
use tenancy::catalogue::Kind;
use tokio::io::AsyncWriteExt as _;

use crate::world::catalogue::secret;
use crate::world::client::{CHAT, bounded, chat, post, until};
use crate::world::{Setup, World};

fn head(more: &str) -> String {
    format!(
        "POST {CHAT} HTTP/1.1\r\nhost: gateway\r\nauthorization: Bearer {}\r\nconnection: close\r\n{more}\r\n",
        secret("acme")
    )
}

/// At most 10,000 bytes a body, and as many in flight.
async fn small() -> World {
    let setup = Setup::new().await;
    let tier = json!({"body_bytes_max": 10_000, "in_flight_bytes_max": 150_000});
    setup.put(Kind::Tier, "free", tier).start().await
}

async fn send(world: &World, text: String) -> crate::world::client::Reply {
    let request = post("acme", CHAT).body(text.into()).unwrap();
    world.client.exchange(request).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_that_is_too_large_is_refused_by_its_length_and_by_its_bytes() {
    let world = small().await;
    let reply = send(&world, chat("sim-small", &"x".repeat(10_000)).to_string()).await;
    reply.refused(413, "request_too_large");
    // By the length alone, before a byte of it came.
    let answer = world
        .client
        .raw(head("content-length: 300000000\r\n").as_bytes())
        .await;
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
    let mut chunked = head("transfer-encoding: chunked\r\n");
    for _ in 0..12 {
        chunked += &format!("3e8\r\n{}\r\n", "x".repeat(1_000));
    }
    let answer = world
        .client
        .raw(format!("{chunked}0\r\n\r\n").as_bytes())
        .await;
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
    send(&world, chat("sim-small", "hi").to_string()).await.ok();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_chunked_body_is_read() {
    let world = World::new().await;
    let body = chat("sim-small", &"long ".repeat(30_000)).to_string();
    let mut chunked = head("transfer-encoding: chunked\r\n");
    for piece in body.as_bytes().chunks(7_000) {
        chunked += &format!(
            "{:x}\r\n{}\r\n",
            piece.len(),
            std::str::from_utf8(piece).unwrap()
        );
    }
    let answer = world
        .client
        .raw(format!("{chunked}0\r\n\r\n").as_bytes())
        .await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    assert_eq!(
        world.last_body()["messages"][0]["content"]
            .as_str()
            .unwrap()
            .len(),
        150_000
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_request_is_refused_in_words() {
    let world = World::new().await;
    let deep = format!(
        "{{\"model\":\"sim-small\",\"x\":{}1{}}}",
        "[".repeat(100),
        "]".repeat(100)
    );
    for (text, part) in [
        (deep.as_str(), "deeper than 64"),
        ("", "JSON"),
        ("{", "JSON"),
        ("[1]", "object"),
        ("{\"model\":\"sim-small\",}", "JSON"),
        ("{\"model\":\"a\",\"model\":\"b\"}", "again"),
        ("{\"model\":\"sim-small\",\"m\\u006fdel\":\"b\"}", "again"),
        ("{\"messages\":[]}", "model"),
        ("{\"model\":\"sim-small\",\"messages\":[]}", "messages"),
        ("{\"model\":7,\"messages\":[1]}", "model"),
    ] {
        let reply = send(&world, text.to_owned()).await;
        assert_eq!(reply.status.as_u16(), 400, "{text}: {}", reply.text());
        assert!(
            reply.json()["error"]["message"]
                .as_str()
                .unwrap()
                .contains(part),
            "{}",
            reply.text()
        );
    }
    let not_utf8 =
        post("acme", CHAT).body(bytes::Bytes::from_static(b"{\"model\":\"\xff\"}").into());
    let reply = world.client.exchange(not_utf8.unwrap()).await;
    assert_eq!(reply.status.as_u16(), 400);
    assert_eq!(world.engine.observed().requests, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_lengths_are_never_both_believed() {
    let world = World::new().await;
    let body = chat("sim-small", "hi").to_string();
    let length = body.len();
    for lengths in [
        format!("content-length: {length}\r\ncontent-length: 5\r\n"),
        format!("content-length: +{length}\r\n"),
        "transfer-encoding: gzip, identity\r\n".to_owned(),
    ] {
        let answer = world
            .client
            .raw(format!("{}{body}", head(&lengths)).as_bytes())
            .await;
        assert!(answer.starts_with("HTTP/1.1 400 "), "{lengths}: {answer}");
    }
    assert_eq!(world.engine.observed().requests, 0);
}

/// The chunks count, as RFC 9112 has it; and whoever stood between and counted otherwise gets no
/// second request through.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_smuggled_behind_a_request_with_two_lengths() {
    let world = World::new().await;
    let body = chat("sim-small", "hi").to_string();
    for order in [0, 1] {
        let mut lengths = [
            "content-length: 3\r\n".to_owned(),
            "transfer-encoding: chunked\r\n".to_owned(),
        ];
        lengths.rotate_left(order);
        let head = head(&lengths.concat()).replace("connection: close\r\n", "");
        let chunks = format!("{:x}\r\n{body}\r\n0\r\n\r\n", body.len());
        let smuggled = "GET /healthz HTTP/1.1\r\nhost: gateway\r\n\r\n";
        let answer = world
            .client
            .raw(format!("{head}{chunks}{smuggled}").as_bytes())
            .await;
        assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{answer}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn chunks_that_are_none_are_the_clients_fault() {
    let world = World::new().await;
    let broken = format!("{}xyz\r\n", head("transfer-encoding: chunked\r\n"));
    let answer = world.client.raw(broken.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    assert!(answer.contains("incomplete_body"), "{answer}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_head_without_end_is_cut_off() {
    let world = World::new().await;
    let endless = format!(
        "GET /healthz HTTP/1.1\r\nhost: gateway\r\nx: {}\r\n\r\n",
        "x".repeat(200_000)
    );
    let answer = world.client.raw(endless.as_bytes()).await;
    assert!(
        answer.starts_with("HTTP/1.1 431 ") || answer.is_empty(),
        "{answer}"
    );
    let many = (0..200)
        .map(|number| format!("x-{number}: 1\r\n"))
        .collect::<String>();
    let answer = world
        .client
        .raw(format!("GET /healthz HTTP/1.1\r\n{many}\r\n").as_bytes())
        .await;
    assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_body_and_a_slow_head_have_deadlines() {
    let mut setup = Setup::new().await;
    setup.bounds = GatewayBounds {
        body_timeout: Duration::from_millis(100),
        header_timeout: Duration::from_millis(100),
        ..GatewayBounds::default()
    };
    let world = setup.start().await;
    let answer = world
        .client
        .raw(format!("{}{{\"mod", head("content-length: 100\r\n")).as_bytes())
        .await;
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    assert!(answer.contains("request_timeout"));
    let answer = world.client.raw(b"POST /v1/chat/completions HT").await;
    assert!(
        answer.is_empty() || answer.starts_with("HTTP/1.1 408"),
        "{answer}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn invariant_11_bytes_in_flight_are_given_back_however_a_call_ends() {
    let world = small().await;
    let large = "x".repeat(9_000);
    // Were a single one kept, the fifteenth would find no room.
    for _ in 0..10 {
        // Twice, so that failures are less than half of the calls and open no breaker.
        for _ in 0..2 {
            send(&world, chat("sim-small", &large).to_string())
                .await
                .ok();
        }
        send(&world, format!("{large}{{"))
            .await
            .refused(400, "invalid_json");
        send(&world, chat("nothing", &large).to_string())
            .await
            .refused(404, "model_not_found");
        let failing = format!("{large}[[fault:status=500]]");
        send(&world, chat("sim-small", &failing).to_string())
            .await
            .refused(502, "upstream_failed");
        let mut stream = tokio::net::TcpStream::connect(world.client.address)
            .await
            .unwrap();
        let begun = format!("{}{large}", head("content-length: 9500\r\n"));
        stream.write_all(begun.as_bytes()).await.unwrap();
    }
    send(&world, chat("sim-small", &large).to_string())
        .await
        .ok();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn invariant_11_beyond_the_cap_calls_are_refused_and_others_are_not() {
    let setup = Setup::new().await;
    let tier = json!({"body_bytes_max": 10_000, "in_flight_bytes_max": 10_000, "wait_ms_max": 0});
    let world = setup.put(Kind::Tier, "free", tier).start().await;
    let filler = "x".repeat(9_000);
    let slow = send(
        &world,
        chat("sim-small", &format!("{filler}[[fault:delay=1s]]")).to_string(),
    );
    let beside = async {
        until(|| world.engine.observed().running == 1).await;
        let own = send(&world, chat("sim-small", &filler).to_string()).await;
        (own, world.client.chat("globex", &filler).await)
    };
    let (slow, (own, others)) = bounded(Box::pin(async { tokio::join!(slow, beside) })).await;
    slow.ok();
    own.refused(503, "gateway_overloaded");
    assert_eq!(own.header("retry-after-ms"), Some("1000"));
    others.ok();
    send(&world, chat("sim-small", &filler).to_string())
        .await
        .ok();
}
