//! The end of the process: short calls finish, long ones are cut, all settle.

use std::time::Duration;

use http_body_util::BodyExt as _;
use serde_json::json;
use simulator::Timing;

use crate::world::Setup;
use crate::world::catalogue::with;
use crate::world::client::{CHAT, Events, body, bounded, chat, post, until};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn short_calls_finish_and_long_ones_are_cut_and_settled() {
    let mut setup = Setup::new().await;
    setup.engine.timing = Timing {
        token_micros: 50_000,
        ..Timing::default()
    };
    let world = setup.start().await;
    let long = with(chat("metered", "[[tokens:190]]"), json!({"stream": true}));
    let request = post("acme", CHAT).body(body(&long)).unwrap();
    let mut long = world.client.send(request).await;
    bounded(long.frame()).await.unwrap().unwrap();
    let client = world.client.clone();
    let gateway = world.gateway.clone();
    let short = async {
        client
            .post("acme", CHAT, &chat("metered", "[[tokens:4]]"))
            .await
    };
    let drain = async {
        until(|| world.engine.observed().running == 2).await;
        gateway.drain(Duration::from_secs(3)).await
    };
    let (short, cut) = bounded(async { tokio::join!(short, drain) }).await;
    short.ok();
    assert_eq!(cut, 1);
    let events = bounded(Events::read(long)).await;
    assert!(!events.is_done);
    assert_eq!(world.gateway.live_holds(), 0);
    until(|| world.engine.observed().running == 0).await;
    assert!(
        tokio::net::TcpStream::connect(world.client.address)
            .await
            .is_err(),
        "nobody listens"
    );
    let (records, _, report) = world.end().await;
    assert_eq!(
        (report.faults.len(), report.settled, report.open),
        (0, 2, 0)
    );
    assert!(
        records
            .iter()
            .any(|record| matches!(record, ledger::Record::Closed { .. }))
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_nothing_under_way_it_ends_at_once() {
    let world = Setup::new().await.start().await;
    world.client.chat("acme", "hi").await.ok();
    assert_eq!(
        bounded(world.gateway.drain(Duration::from_secs(60))).await,
        0
    );
}
