//! Services of a tenant's that are asked about answers, and cannot say anything: behind a public name
//! stands somebody who has no certificate for it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};
use tenancy::catalogue::Kind;
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpListener;

use crate::hops::{guardrail, settled};
use crate::hops_on_answers::{saying, streamed, whole};
use crate::world::catalogue::{ACME, put_in};
use crate::world::client::{CHAT, chat};
use crate::world::{Setup, World};

/// A public address: nobody of this test goes to the real one.
const PUBLIC: &str = "8.8.8.8";
const SAID: &str = "The wall is two feet thick. ";

fn webhook(on_failure: &str) -> Value {
    let mut spec = guardrail(
        "output",
        json!({"webhook": {"url": "https://guard.example/look", "timeout_ms": 2_000}}),
    );
    spec["on_failure"] = json!(on_failure);
    spec
}

/// Starts the world with somebody behind the service's name; counts who began to encrypt.
async fn started(setup: Setup) -> (World, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    setup.network.name("guard.example", &[PUBLIC]);
    setup.network.lead(PUBLIC, listener.local_addr().unwrap());
    let greeted = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&greeted);
    let world = setup.start().await;
    base::Supervisor::new().spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            // A handshake's first byte; nothing of an answer's text can come before it.
            let first = stream.read_u8().await;
            counted.fetch_add(
                usize::from(first.is_ok_and(|it| it == 0x16)),
                Ordering::SeqCst,
            );
        }
    });
    (world, greeted)
}

fn failures(world: &World) -> String {
    let metrics = world.gateway.metrics().text();
    let series = "partywall_guardrail_findings_total{tenant=\"acme\",what=\"failed\"} ";
    let found = metrics.lines().find_map(|line| line.strip_prefix(series));
    found.unwrap_or("0").to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_whole_answer_is_withheld_or_given_as_the_tenant_chose() {
    let setup = saying(whole(SAID), webhook("closed")).await;
    let (world, greeted) = started(setup).await;
    let call = chat("scripted", "How thick is it?");
    let refused = world.client.post("acme", CHAT, &call).await;
    refused.refused(503, "guardrail_failed");
    assert!(!refused.text().contains("thick"), "{}", refused.text());
    assert_eq!(greeted.load(Ordering::SeqCst), 1, "it was asked, encrypted");
    // Nobody else has this guardrail.
    assert_eq!(world.client.post("globex", CHAT, &call).await.said(), SAID);
    assert_eq!(greeted.load(Ordering::SeqCst), 1);
    world.publish(vec![put_in(ACME, Kind::Guardrail, "wall", webhook("open"))]);
    assert_eq!(world.client.post("acme", CHAT, &call).await.said(), SAID);
    assert_eq!(greeted.load(Ordering::SeqCst), 2);
    assert_eq!(failures(&world), "2");
    world.quiet().await;
    let (records, _, report) = world.end().await;
    assert_eq!(report.faults, []);
    assert_eq!(
        settled(&records).len(),
        3,
        "what the model said is paid for"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_is_cut_before_its_first_word_or_given_whole() {
    let pieces = [SAID, SAID, "And old."];
    let setup = saying(streamed(&pieces), webhook("closed")).await;
    let (world, greeted) = started(setup).await;
    let call = chat("scripted", "How thick is it?");
    let cut = world.client.stream("acme", CHAT, &call).await;
    assert!(!cut.is_done);
    assert_eq!(cut.error_code().as_deref(), Some("guardrail_failed"));
    assert_eq!(cut.text(), "", "nothing of it leaves");
    assert!(greeted.load(Ordering::SeqCst) > 0);
    world.publish(vec![put_in(ACME, Kind::Guardrail, "wall", webhook("open"))]);
    let given = world.client.stream("acme", CHAT, &call).await;
    assert!(given.is_done && !given.is_broken);
    assert_eq!(given.text(), pieces.concat());
}
