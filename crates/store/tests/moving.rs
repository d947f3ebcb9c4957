//! Tenants move between placements while they are served.

#![expect(clippy::unwrap_used, reason = "a panic in a test is the report")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use base::Entropy as _;
use store::{MoveError, MoveProgress, MoveToken, Page, Settled, StoreError, Stores};
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
                let mut moving = stores.begin_move(scope, target, token(), &progress)?;
                moving.prepare()?;
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
        let begin = || stores.stores.begin_move(&scope, target, token(), &progress);
        // Given up after the copy; a second one at the same time is refused.
        let mut moving = begin().unwrap();
        moving.prepare().unwrap();
        moving.copy().unwrap();
        assert!(matches!(begin(), Err(MoveError::UnderWay)));
        assert!(matches!(
            stores.stores.rotate(&scope),
            Err(store::StoreError::BeingMoved)
        ));
        drop(moving);
        // Refused where it would have been put on record.
        let mut moving = begin().unwrap();
        moving.prepare().unwrap();
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
        .begin_move(&scope, &Placement::File, token(), &Default::default());
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
        .begin_move(&scope, &pool, token(), &Default::default())
        .unwrap();
    moving.prepare().unwrap();
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

/// A token of nobody else's.
fn token() -> MoveToken {
    MoveToken::from_bits(fixture::tenant_id(0).bits() ^ u128::from(base::SystemEntropy.next_u64()))
}

/// Two processes that share a tenant on a server.
struct Pair {
    here: ServerStores,
    there: Stores,
    hierarchy: Hierarchy,
    scope: TenantScope,
}

impl Pair {
    /// The tenant is behind this wall, with `count` changes.
    fn new(wall: ServerWall, count: u64) -> Self {
        // Names of roles and databases are the whole server's: no two of a test have the same tenant.
        static NUMBER: AtomicU64 = AtomicU64::new(1);
        let (here, hierarchy) = (ServerStores::new(wall), Hierarchy::new(1));
        let scope = hierarchy.scope(NUMBER.fetch_add(1, Ordering::Relaxed).into());
        here.assign(&scope);
        here.stores.provision(&scope).unwrap();
        let there = postgres::open(&here.address, &here.name, here.folder.path());
        there
            .assign(scope.tenant(), &Placement::on(wall, here.name.clone()))
            .unwrap();
        for number in 0..count {
            change(
                &here.stores.open(&scope),
                &hierarchy,
                scope.tenant(),
                number,
            );
        }
        Self {
            here,
            there,
            hierarchy,
            scope,
        }
    }

    fn on(&self, wall: ServerWall) -> Placement {
        Placement::on(wall, self.here.name.clone())
    }

    fn change(&self, stores: &Stores, number: u64) {
        let tenant = self.scope.tenant();
        change(&stores.open(&self.scope), &self.hierarchy, tenant, number);
    }

    fn everything(&self, stores: &Stores) -> String {
        let tenant = self.scope.tenant();
        everything(&stores.open(&self.scope), &self.hierarchy, tenant)
    }

    /// A move that has copied.
    fn copied(&self, to: &Placement, token: MoveToken) -> store::Moving {
        let progress = Arc::default();
        let mut moving = self
            .here
            .stores
            .begin_move(&self.scope, to, token, &progress)
            .unwrap();
        moving.prepare().unwrap();
        moving.copy().unwrap();
        moving
    }

    /// As whoever finds the move settles it.
    fn settle(&self, of: (&Placement, &Placement), now: &Placement, token: MoveToken) -> Settled {
        let settling = self.there.settle_move(&self.scope, of, now, token);
        settling.unwrap()
    }
}

struct Ending<'a>(&'a AtomicBool);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

#[test]
fn what_another_process_changes_meanwhile_goes_along() {
    let walls = [ServerWall::Pool, ServerWall::Bridge, ServerWall::Silo];
    for (from, to) in walls
        .into_iter()
        .flat_map(|from| walls.map(|to| (from, to)))
        .filter(|(from, to)| from != to)
    {
        let pair = Pair::new(from, 3);
        let (number, is_moving) = (AtomicU64::new(3), AtomicBool::new(true));
        let target = pair.on(to);
        let turn = std::sync::Mutex::new(());
        let moved = std::thread::scope(|threads| {
            let turn = &turn;
            // Each process writes as itself; whose change comes first they settle between them,
            // so that the same can be done one after the other elsewhere.
            for stores in [&pair.here.stores, &pair.there] {
                let (pair, number, is_moving) = (&pair, &number, &is_moving);
                threads.spawn(move || {
                    loop {
                        let was_moving = is_moving.load(Ordering::Acquire);
                        {
                            let _turn = turn.lock().unwrap();
                            pair.change(stores, number.fetch_add(1, Ordering::Relaxed));
                        }
                        std::thread::sleep(Duration::from_millis(30));
                        if !was_moving {
                            return;
                        }
                    }
                });
            }
            // Whatever happens, the writers end.
            let ending = Ending(&is_moving);
            let moving = pair.copied(&target, token());
            let moved = moving.cut_over(|| {
                // The other process hears of it late: its writer waits at the old store's gate.
                std::thread::sleep(Duration::from_millis(50));
                pair.there.assign(pair.scope.tenant(), &target).unwrap();
                Ok::<_, MoveError>(())
            });
            drop(ending);
            moved.unwrap()
        });
        assert!(moved.rows > 0);
        let count = number.into_inner();
        let seen = pair.everything(&pair.there);
        assert_eq!(seen, pair.everything(&pair.here.stores), "{from:?} {to:?}");
        let expected = expected(&pair.hierarchy, &pair.scope, count);
        assert_eq!(seen, expected, "{from:?} to {to:?}");
    }
}

#[test]
fn who_has_not_heard_of_a_move_neither_writes_nor_reads_where_the_tenant_was() {
    for (from, to) in [
        (ServerWall::Pool, ServerWall::Silo),
        (ServerWall::Bridge, ServerWall::Pool),
        (ServerWall::Silo, ServerWall::Bridge),
    ] {
        let pair = Pair::new(from, 4);
        let target = pair.on(to);
        let moving = pair.copied(&target, token());
        moving.cut_over(|| Ok::<_, MoveError>(())).unwrap();
        let before = pair.everything(&pair.here.stores);
        // Wherever it is asked, and however an operation begins: it waits, and then says so.
        let late = pair.there.open(&pair.scope);
        let key = store::IdempotencyKey {
            key_hash: [99; 32],
            request_hash: [1; 32],
        };
        let now = base::Timestamp::from_micros(fixture::DAY);
        let wrote = std::thread::scope(|threads| {
            let reads = threads.spawn(|| pair.there.open(&pair.scope).conversation("conv").err());
            let bounds = store::IdempotencyBounds::default();
            let wrote = late.begin_idempotent(&key, now, &bounds).err();
            (wrote, reads.join().unwrap())
        });
        assert!(
            matches!(wrote.1, Some(StoreError::Held)),
            "{from:?}: {wrote:?}"
        );
        assert!(wrote.0.is_some(), "{from:?}");
        // It hears of it: the same goes on.
        pair.there.assign(pair.scope.tenant(), &target).unwrap();
        assert_eq!(pair.everything(&pair.there), before);
        pair.change(&pair.there, 4);
        assert_eq!(
            pair.everything(&pair.here.stores),
            expected(&pair.hierarchy, &pair.scope, 5)
        );
    }
}

#[test]
fn a_move_that_is_cut_short_anywhere_is_settled_by_another_process() {
    for (from, to) in [
        (ServerWall::Pool, ServerWall::Bridge),
        (ServerWall::Silo, ServerWall::Pool),
        (ServerWall::Bridge, ServerWall::Silo),
    ] {
        let pair = Pair::new(from, 3);
        let (source, target) = (pair.on(from), pair.on(to));
        let both = (&source, &target);
        let mut number = 3;
        let mut goes_on = |pair: &Pair| {
            for stores in [&pair.here.stores, &pair.there] {
                pair.change(stores, number);
                number += 1;
            }
            let expected = expected(&pair.hierarchy, &pair.scope, number);
            assert_eq!(pair.everything(&pair.there), expected);
        };
        // Before anything is made; once it is made; once it is copied.
        let begun = token();
        assert_eq!(pair.settle(both, &source, begun), Settled::Undone);
        let prepared = token();
        let mut moving = pair
            .here
            .stores
            .begin_move(&pair.scope, &target, prepared, &Arc::default())
            .unwrap();
        moving.prepare().unwrap();
        assert_eq!(pair.settle(both, &source, prepared), Settled::Undone);
        // The mover goes on after all, late: it fills nothing, and is settled again.
        assert!(moving.copy().is_err());
        drop(moving);
        assert_eq!(pair.settle(both, &source, prepared), Settled::Undone);
        goes_on(&pair);
        let copied = token();
        let moving = pair.copied(&target, copied);
        goes_on(&pair);
        assert_eq!(pair.settle(both, &source, copied), Settled::Undone);
        goes_on(&pair);
        let late = moving.cut_over(|| -> Result<(), MoveError> { panic!("it was called off") });
        assert!(matches!(late, Err(MoveError::CalledOff)), "{late:?}");
        goes_on(&pair);

        // Held, and not published.
        let held = token();
        let moving = pair.copied(&target, held);
        let failed = moving.cut_over(|| Err::<(), _>(MoveError::TooBusy));
        assert!(failed.is_err());
        assert!(pair.there.is_held(&pair.scope, &source, held).unwrap());
        assert!(!pair.there.is_held(&pair.scope, &source, copied).unwrap());
        // Another move's token lets go of nothing.
        assert_eq!(pair.settle(both, &source, copied), Settled::Undone);
        assert!(pair.there.is_held(&pair.scope, &source, held).unwrap());
        assert_eq!(pair.settle(both, &source, held), Settled::Undone);
        goes_on(&pair);
        // And a new one gets there, though what went before was cut short. Published, and not
        // opened: the process that published is gone.
        let last = token();
        let moving = pair.copied(&target, last);
        let published = moving.cut_over(|| Err::<(), _>(MoveError::TooBusy));
        assert!(published.is_err());
        assert_eq!(pair.settle(both, &target, last), Settled::Finished);
        for stores in [&pair.here.stores, &pair.there] {
            stores.assign(pair.scope.tenant(), &target).unwrap();
        }
        goes_on(&pair);
    }
}

#[test]
fn changes_beyond_the_bound_call_the_move_off_and_are_kept() {
    let pair = Pair::new(ServerWall::Pool, 1);
    let target = pair.on(ServerWall::Bridge);
    let moving = pair.copied(&target, token());
    let now = base::Timestamp::from_micros(fixture::DAY);
    let large = |number: u32| store::StoredResponse {
        id: format!("large_{number}"),
        previous: String::new(),
        input: vec![7; 8 << 20],
        body: b"{}".to_vec(),
    };
    let bounds = store::ResponseBounds {
        bytes_max: 1 << 30,
        ..store::ResponseBounds::default()
    };
    for number in 0..9 {
        let late = pair.there.open(&pair.scope);
        late.keep_response(&large(number), now, &bounds).unwrap();
    }
    let late = moving.cut_over(|| Ok::<_, MoveError>(()));
    assert!(matches!(late, Err(MoveError::CalledOff)), "{late:?}");
    for number in 0..9 {
        let kept = pair.here.stores.open(&pair.scope);
        let kept = kept.response(&large(number).id, now).unwrap();
        assert!(kept.is_some(), "{number}");
    }
}
