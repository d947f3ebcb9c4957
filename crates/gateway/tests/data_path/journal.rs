//! What was answered stands in the journal, and adds up to the same (invariants 6 and 7).

use std::sync::Arc;

use base::{MemoryDisk, PicoUsd};
use ledger::{AccountId, Record, Subject};
use serde_json::json;
use tenancy::catalogue::Kind;

use crate::world::catalogue::{ACME, GLOBEX};
use crate::world::client::{CHAT, bounded, chat};
use crate::world::{Setup, World};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn invariant_7_every_answered_call_is_there_and_settled() {
    let setup = Setup::new().await;
    let world = setup
        .put_in(
            ACME,
            Kind::Budget,
            "month",
            json!({"subject": "tenant", "limit": "1000"}),
        )
        .start()
        .await;
    let mut costs = PicoUsd::ZERO;
    for number in 0..30 {
        let owner = if number % 3 == 0 { "globex" } else { "acme" };
        let reply = world.client.post(owner, CHAT, &chat("metered", "hi")).await;
        reply.ok();
        costs += reply.cost();
        if number % 5 == 0 {
            world
                .client
                .stream(owner, CHAT, &chat("metered", "hi"))
                .await;
            world
                .client
                .chat(owner, "[[fault:status=500]]")
                .await
                .refused(502, "upstream_failed");
        }
    }
    world.quiet().await;
    let streamed = reply_cost().times(6);
    let accounts = [
        (ACME, "everything", world.account(ACME, "everything")),
        (ACME, "month", world.account(ACME, "month")),
        (GLOBEX, "everything", world.account(GLOBEX, "everything")),
    ];
    assert_eq!(accounts[0].2.spent + accounts[2].2.spent, costs + streamed);
    let now = world.clock.now();
    let (records, recovered, report) = world.end().await;
    assert_eq!(report.faults, []);
    assert_eq!(
        (report.attempts, report.settled, report.released),
        (42, 36, 6)
    );
    assert_eq!((report.open, report.cost), (0, costs + streamed));
    assert_eq!(recovered.projection.strays(), 0);
    for (tenant, budget, view) in accounts {
        let account = AccountId::of(tenant, &budget.parse().unwrap(), &Subject::Tenant);
        let summary = recovered.projection.account(account, now).unwrap();
        assert_eq!(
            (summary.spent, summary.held),
            (view.spent, PicoUsd::ZERO),
            "{budget}"
        );
    }
    assert!(
        matches!(records.last(), Some(Record::Closed { .. })),
        "a clean end"
    );
    let versions = records.iter().filter_map(|record| match record {
        Record::Intent(intent) => Some((intent.model.as_str(), intent.price_version.0)),
        _ => None,
    });
    for (model, version) in versions {
        assert_eq!(version, if model == "metered" { 1 } else { 7 });
    }
}

fn reply_cost() -> PicoUsd {
    "0.32".parse().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_refuses_paid_work_and_recovers_by_itself() {
    let disk = MemoryDisk::new();
    let mut setup = Setup::new().await;
    setup.disk = Arc::new(disk.clone());
    let world = setup.start().await;
    world.client.chat("acme", "hi").await.ok();
    disk.set_capacity(Some(1));
    // One call finds out; those after it never leave.
    let refused = world.client.chat("acme", "hi").await;
    refused.refused(503, "journal_unavailable");
    let called = world.engine.observed().requests;
    for _ in 0..5 {
        let refused = world.client.chat("acme", "hi").await;
        refused.refused(503, "journal_unavailable");
        assert_eq!(refused.header("retry-after-ms"), Some("1000"));
    }
    assert_eq!(
        world.engine.observed().requests,
        called,
        "no work that nobody may pay for"
    );
    world
        .client
        .get("acme", "/readyz")
        .await
        .refused(503, "journal_unavailable");
    world.client.get("acme", "/v1/models").await.ok();
    assert_eq!(world.gateway.live_holds(), 0);

    disk.set_capacity(None);
    bounded(recovered(&world)).await;
    world.client.get("acme", "/readyz").await.ok();
    let spent = world.account(ACME, "everything").spent;
    let (_, after, report) = world.end().await;
    assert_eq!(report.faults, []);
    let account = AccountId::of(ACME, &"everything".parse().unwrap(), &Subject::Tenant);
    let summary = after
        .projection
        .account(account, base::Timestamp::from_micros(i64::MAX))
        .unwrap();
    assert_eq!(summary.spent, spent);
}

async fn recovered(world: &World) {
    while world.client.chat("acme", "hi").await.status.as_u16() != 200 {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}

/// What the disk does not take it may take later: nothing is answered before it has.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn invariant_7_no_answer_before_its_intent_is_durable() {
    let disk = MemoryDisk::new();
    let mut setup = Setup::new().await;
    setup.disk = Arc::new(disk.clone());
    let world = setup.start().await;
    let mut answered = 0_u64;
    for round in 0..20 {
        disk.set_sync_fails(round % 3 == 1);
        let reply = world
            .client
            .post("acme", CHAT, &chat("metered", "hi"))
            .await;
        answered += u64::from(reply.status.as_u16() == 200);
    }
    // The power goes: only what was synced is left.
    disk.crash(|_| 0);
    let folder = world.journal_folder();
    let (settled, intents) = crate::world::read_after_crash(&disk, &folder);
    assert!(intents >= answered, "{intents} intents, {answered} answers");
    assert!(settled <= intents);
}
