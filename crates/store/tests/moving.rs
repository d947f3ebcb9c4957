//! Tenants move between placements while they are served.

#![expect(clippy::unwrap_used, reason = "a panic in a test is the report")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use store::{MoveError, MoveProgress, Page};
use tenancy::TenantScope;
use tenancy::catalogue::{Placement, ServerWall};

#[expect(dead_code, reason = "other tests use the rest")]
mod fixture;
#[expect(dead_code, reason = "other tests use the rest")]
#[path = "fixture/postgres.rs"]
mod postgres;
#[path = "fixture/whole.rs"]
mod whole;
use fixture::Hierarchy;
use postgres::ServerStores;
use whole::{change, everything, placements};

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
