//! Tenants move between placements while they are served.

#![expect(clippy::unwrap_used, reason = "a panic in a test is the report")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use base::Timestamp;
use store::{
    AuditEntry, AuditSigner, ConversationBounds, ConversationItem, ItemOrder, ItemPage, ItemQuery,
    LineCursor, MoveError, MoveProgress, Page, ResponseBounds, StoredConversation, StoredResponse,
    TenantStore, UsageFilter, UsageQuery,
};
use tenancy::TenantScope;
use tenancy::catalogue::{Placement, ServerWall};

#[expect(dead_code, reason = "other tests use the rest")]
mod fixture;
#[expect(dead_code, reason = "other tests use the rest")]
#[path = "fixture/postgres.rs"]
mod postgres;
use fixture::{DAY, Hierarchy, line};
use postgres::ServerStores;

/// One of everything that a tenant's store keeps.
fn change(store: &TenantStore<'_>, hierarchy: &Hierarchy, tenant: base::TenantId, number: u64) {
    let at = DAY + number as i64 * 1_000;
    let mut made = line(tenant, u128::from(number), number + 1, at);
    if number.is_multiple_of(3) {
        made.state = ledger::LineState::Unsettled;
    }
    store.post_lines(&[made]).unwrap();
    if number.is_multiple_of(6) {
        let settled = line(tenant, u128::from(number), number + 1_000_000, at);
        store.post_lines(&[settled]).unwrap();
    }
    let now = Timestamp::from_micros(at);
    let response = StoredResponse {
        id: format!("resp_{number}"),
        previous: String::new(),
        input: vec![number as u8; 300],
        body: b"{}".to_vec(),
    };
    let bounds = ResponseBounds::default();
    store.keep_response(&response, now, &bounds).unwrap();
    if number.is_multiple_of(5) {
        assert!(store.remove_response(&response.id, now).unwrap());
    }
    let key = store::IdempotencyKey {
        key_hash: [number as u8; 32],
        request_hash: [1; 32],
    };
    let bounds = store::IdempotencyBounds::default();
    if store.begin_idempotent(&key, now, &bounds).unwrap() == store::Begun::Fresh {
        match number % 4 {
            0 => store.abandon_idempotent(&key).unwrap(),
            1 => {}
            _ => store
                .finish_idempotent(&key, &[number as u8], now, &bounds)
                .unwrap(),
        }
    }
    let conversation = StoredConversation {
        id: "conv".to_owned(),
        created_at: now,
        metadata: b"{}".to_vec(),
    };
    let item = ConversationItem {
        id: format!("item_{number}"),
        body: format!("{{\"n\":{number}}}").into_bytes(),
    };
    let bounds = ConversationBounds::default();
    if number == 0 {
        store
            .create_conversation(&conversation, &[item], &bounds)
            .unwrap();
    } else {
        let metadata = format!("{{\"at\":{number}}}");
        store
            .set_conversation_metadata("conv", metadata.as_bytes(), &bounds)
            .unwrap();
        store
            .add_conversation_items("conv", &[item], &bounds)
            .unwrap();
    }
    let signing = hierarchy.platform.audit_signing_key();
    let signer = AuditSigner::tenant("inst", tenant, &signing);
    let entry = AuditEntry::done(now, "ops", "act", number.to_string());
    store.with_audit(&signer, |log| log.append(&entry)).unwrap();
}

/// All that can be read of a store.
fn everything(store: &TenantStore<'_>, hierarchy: &Hierarchy, tenant: base::TenantId) -> String {
    let (from, until) = (Timestamp::from_micros(0), Timestamp::from_micros(9 * DAY));
    let usage = UsageQuery {
        from,
        until,
        group_by: vec![store::Dimension::Day, store::Dimension::Model],
        filter: UsageFilter::default(),
    };
    let mut text = format!("{:?}\n", store.usage(&usage, Page::first()).unwrap());
    let mut after = None;
    loop {
        let lines = store.lines(from, until, after, 1_000).unwrap();
        let Some(last) = lines.last() else { break };
        after = Some(LineCursor::after(last));
        text += &format!("{lines:?}\n");
    }
    text += &format!("{:?}\n", store.unsettled_lines(Page::first()).unwrap());
    for number in 0..256_u64 {
        let found = store.response(&format!("resp_{number}"), Timestamp::from_micros(DAY));
        text += &format!("{:?}\n", found.unwrap());
    }
    let query = ItemQuery {
        limit: 10_000,
        bytes_max: u64::MAX,
        after: None,
        order: ItemOrder::Descending,
    };
    match store.conversation_page("conv", &query).unwrap() {
        ItemPage::Found { items, .. } => text += &format!("{items:?}\n"),
        other => panic!("{other:?}"),
    }
    text += &format!("{:?}\n", store.conversation("conv").unwrap());
    let signing = hierarchy.platform.audit_signing_key();
    let signer = AuditSigner::tenant("inst", tenant, &signing);
    let log = store.with_audit(&signer, |log| {
        let head = log.head()?;
        Ok(format!("{head:?} {:?}", log.entries(Page::first())?))
    });
    text + &log.unwrap()
}

fn placements(stores: &ServerStores) -> [Placement; 4] {
    let on = |wall| Placement::on(wall, stores.name.clone());
    [
        Placement::File,
        on(ServerWall::Pool),
        on(ServerWall::Bridge),
        on(ServerWall::Silo),
    ]
}

#[test]
fn a_tenant_moves_between_any_two_placements_while_it_is_served() {
    let (stores, hierarchy) = (ServerStores::new(ServerWall::Pool), Hierarchy::new(1));
    let scope = hierarchy.scope(1);
    stores.made(&scope);
    let tenant = scope.tenant();
    stores.stores.provision(&scope).unwrap();
    let number = AtomicU64::new(0);
    // A route over all twelve ordered pairs.
    let route = [1, 0, 2, 0, 3, 1, 2, 1, 3, 2, 3, 0];
    for target in route {
        let target = &placements(&stores)[target];
        let is_moving = AtomicBool::new(true);
        let moved = std::thread::scope(|threads| {
            let (stores, scope, hierarchy) = (&stores.stores, &scope, &hierarchy);
            let (number, is_moving) = (&number, &is_moving);
            threads.spawn(move || {
                // The writer stops when a change of its own was made after the move.
                loop {
                    let was_moving = is_moving.load(Ordering::Relaxed);
                    let next = number.fetch_add(1, Ordering::Relaxed);
                    change(&stores.open(scope), hierarchy, tenant, next);
                    // Some tens of changes for each move: they are all made again below.
                    std::thread::sleep(Duration::from_millis(80));
                    if !was_moving {
                        return;
                    }
                }
            });
            let progress = Arc::new(MoveProgress::default());
            let moved = (|| {
                let mut moving = stores.begin_move(scope, target, &progress)?;
                moving.copy()?;
                moving.cut_over(|| Ok::<_, MoveError>(()))
            })();
            is_moving.store(false, Ordering::Relaxed);
            moved
        });
        let moved = moved.unwrap_or_else(|error| panic!("to {target}: {error}"));
        assert!(moved.rows > 0 || number.load(Ordering::Relaxed) < 4);
        let count = number.load(Ordering::Relaxed);
        let seen = everything(&stores.stores.open(&scope), &hierarchy, tenant);
        // All that was changed is there, once.
        for number in 0..count {
            assert!(
                seen.contains(&format!("item_{number}\"")),
                "{number} at {target}"
            );
        }
    }
    let count = number.into_inner();
    let seen = everything(&stores.stores.open(&scope), &hierarchy, tenant);
    assert_eq!(seen, expected(&hierarchy, &scope, count));
}

/// The same changes, one after the other, in a store that never moves.
fn expected(hierarchy: &Hierarchy, scope: &TenantScope, count: u64) -> String {
    let files = fixture::FileStores::new();
    files.stores.provision(scope).unwrap();
    let store = files.stores.open(scope);
    for number in 0..count {
        change(&store, hierarchy, scope.tenant(), number);
    }
    everything(&store, hierarchy, scope.tenant())
}

#[test]
fn a_move_that_fails_or_is_given_up_changes_nothing() {
    let (stores, hierarchy) = (ServerStores::new(ServerWall::Pool), Hierarchy::new(1));
    let scope = hierarchy.scope(1);
    stores.made(&scope);
    stores.stores.provision(&scope).unwrap();
    let store = stores.stores.open(&scope);
    for number in 0..5 {
        change(&store, &hierarchy, scope.tenant(), number);
    }
    let before = everything(&store, &hierarchy, scope.tenant());
    for target in &placements(&stores)[1..] {
        let progress = Arc::new(MoveProgress::default());
        let begin = || stores.stores.begin_move(&scope, target, &progress);
        // Given up after the copy; a second one at the same time is refused.
        let mut moving = begin().unwrap();
        moving.copy().unwrap();
        assert!(matches!(begin(), Err(MoveError::UnderWay)));
        assert!(matches!(
            stores.stores.rotate(&scope),
            Err(store::StoreError::BeingMoved)
        ));
        drop(moving);
        // Refused where it would have been put on record.
        let mut moving = begin().unwrap();
        moving.copy().unwrap();
        let refused = moving.cut_over(|| Err::<(), _>(MoveError::TooBusy));
        assert!(matches!(refused, Err(MoveError::TooBusy)));
        assert_eq!(everything(&store, &hierarchy, scope.tenant()), before);
        // And nothing of the copy is left.
        stores.stores.assign(scope.tenant(), target).unwrap();
        let left = stores.stores.open(&scope).unsettled_lines(Page::first());
        assert!(left.is_err(), "{target}: {left:?}");
        stores
            .stores
            .assign(scope.tenant(), &Placement::File)
            .unwrap();
    }
    let same = stores
        .stores
        .begin_move(&scope, &Placement::File, &Default::default());
    assert!(matches!(same, Err(MoveError::AlreadyThere)));
}

#[test]
fn what_a_move_has_left_behind_is_removed_and_never_the_store_itself() {
    let (stores, hierarchy) = (ServerStores::new(ServerWall::Pool), Hierarchy::new(1));
    let scope = hierarchy.scope(1);
    stores.made(&scope);
    stores.stores.provision(&scope).unwrap();
    change(&stores.stores.open(&scope), &hierarchy, scope.tenant(), 0);
    let [file, pool, ..] = placements(&stores);
    let mut moving = stores
        .stores
        .begin_move(&scope, &pool, &Default::default())
        .unwrap();
    moving.copy().unwrap();
    moving.cut_over(|| Ok::<_, MoveError>(())).unwrap();
    let old = stores
        .folder
        .path()
        .join(format!("tenants/{}.db", scope.tenant()));
    assert!(old.exists(), "the old copy is kept");
    assert!(matches!(
        stores.stores.remove_copy(&scope, &pool),
        Err(MoveError::AlreadyThere)
    ));
    stores.stores.remove_copy(&scope, &file).unwrap();
    assert!(!old.exists());
    let seen = stores.stores.open(&scope).conversation("conv").unwrap();
    assert!(seen.is_some());
}
