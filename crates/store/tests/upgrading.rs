//! Stores of earlier steps of the schema, and of the next: opened, served as they are, brought to
//! the newest step.

#![expect(clippy::unwrap_used, reason = "a panic in a test is the report")]

use store::{NEWEST_STEP, OpenError, ServerError, StoreError, Upgraded};
use tenancy::TenantScope;
use tenancy::catalogue::{Placement, ServerWall};

#[expect(dead_code, reason = "other tests use the rest")]
mod fixture;
#[expect(dead_code, reason = "other tests use the rest")]
#[path = "fixture/postgres.rs"]
mod postgres;
#[path = "fixture/whole.rs"]
mod whole;
use fixture::{FileStores, Hierarchy};
use postgres::{ServerStores, as_superuser, execute};
use whole::{change, everything, placements};

/// Takes back what steps 9 to 6 made. Nothing else is in a store of step 5.
const TO_STEP_5: &str = "
    DROP INDEX conversations_by_age;
    DROP TABLE call_bodies;
    DROP TABLE call_bodies_total;
    DROP TABLE move_changes;
    ALTER TABLE provisioned DROP COLUMN state;
    ALTER TABLE provisioned DROP COLUMN mover;
    ALTER TABLE provisioned DROP COLUMN logged;
    DROP TABLE past_hours;
    DELETE FROM schema_version;
    INSERT INTO schema_version VALUES (5);";
const TO_STEP_8: &str = "
    DROP INDEX conversations_by_age;
    DELETE FROM schema_version;
    INSERT INTO schema_version VALUES (8);";
/// What the next program's expanding step may leave: this one does not know the column.
const TO_NEXT_STEP_EXPANDED: &str = "
    ALTER TABLE conversations ADD COLUMN colour BIGINT NOT NULL DEFAULT 0;
    DELETE FROM schema_version;
    INSERT INTO schema_version VALUES (10);
    INSERT INTO schema_version VALUES (9);";
const TO_NEXT_STEP_CONTRACTED: &str = "
    DELETE FROM schema_version;
    INSERT INTO schema_version VALUES (10);";

const COUNT: u64 = 12;

/// Does something to a tenant's tables that no program of ours does, and says the least and the
/// greatest number in `schema_version`.
fn meddle(
    stores: &ServerStores,
    placement: &Placement,
    scope: &TenantScope,
    statements: &str,
) -> (i64, i64) {
    let id = scope.tenant();
    let Placement::Server { wall, .. } = placement else {
        let path = stores.folder.path().join(format!("tenants/{id}.db"));
        let file = rusqlite::Connection::open(path).unwrap();
        let key = scope.keys().placement_key().sqlcipher_pragma();
        let key = format!("PRAGMA key = \"{}\"", *key);
        file.execute_batch(&format!("{key};{statements}")).unwrap();
        let asked = "SELECT min(version), max(version) FROM schema_version";
        let read = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get(1)?));
        return file.query_row(asked, [], read).unwrap();
    };
    let own = format!("partywall_{}_{:032x}", wall.as_str(), id.bits());
    let address = as_superuser(&stores.address);
    let (schema, address) = match wall {
        ServerWall::Pool => ("partywall".to_owned(), address),
        ServerWall::Bridge => (own, address),
        ServerWall::Silo => {
            let (server, _) = address.rsplit_once('/').unwrap();
            ("partywall".to_owned(), format!("{server}/{own}"))
        }
    };
    let asked = "SELECT min(version) || ',' || max(version) FROM schema_version";
    let found = execute(
        &address,
        &format!("SET search_path = {schema};{statements};{asked}"),
    );
    let found = found.unwrap().pop().unwrap();
    let (least, greatest) = found.split_once(',').unwrap();
    (least.parse().unwrap(), greatest.parse().unwrap())
}

/// What the store says of itself.
fn steps(stores: &ServerStores, placement: &Placement, scope: &TenantScope) -> (i64, i64) {
    meddle(stores, placement, scope, "")
}

/// For each placement: a tenant with some of everything in its store, after the process that made
/// it has ended, and after `statements`.
fn with_stores_at(
    statements: &str,
    mut act: impl FnMut(&ServerStores, &Placement, &Hierarchy, &TenantScope, &str),
) {
    for kind in 0..4 {
        let hierarchy = Hierarchy::new(1);
        let stores = ServerStores::new(ServerWall::Pool);
        let placement = &placements(&stores)[kind];
        let scope = hierarchy.scope(kind as u128 + 1);
        stores.made(&scope);
        stores.stores.assign(scope.tenant(), placement).unwrap();
        stores.stores.provision(&scope).unwrap();
        let store = stores.stores.open(&scope);
        for number in 0..COUNT {
            change(&store, &hierarchy, scope.tenant(), number);
        }
        let before = everything(&store, &hierarchy, scope.tenant());
        drop(store);
        let stores = stores.restart();
        meddle(&stores, placement, &scope, statements);
        stores.stores.assign(scope.tenant(), placement).unwrap();
        act(&stores, placement, &hierarchy, &scope, &before);
    }
}

#[test]
fn a_store_that_is_too_old_is_brought_to_the_newest_step_by_whoever_opens_it() {
    with_stores_at(TO_STEP_5, |stores, placement, hierarchy, scope, before| {
        let store = stores.stores.open(scope);
        let after = everything(&store, hierarchy, scope.tenant());
        // Kept bodies came with a later step, and went with it: all else is there.
        let is_left = |line: &&str| after.lines().any(|left| left == *line);
        let left: Vec<_> = before.lines().filter(is_left).collect();
        assert_eq!(left, after.lines().collect::<Vec<_>>(), "{placement}");
        assert_eq!(before.lines().count() - left.len(), COUNT as usize);
        let newest = i64::from(NEWEST_STEP);
        assert_eq!(
            steps(stores, placement, scope),
            (newest - 1, newest),
            "{placement}"
        );
        change(&store, hierarchy, scope.tenant(), COUNT);
    });
}

#[test]
fn a_store_of_the_step_before_is_served_as_it_is_until_it_is_upgraded() {
    with_stores_at(TO_STEP_8, |stores, placement, hierarchy, scope, before| {
        let store = stores.stores.open(scope);
        assert_eq!(everything(&store, hierarchy, scope.tenant()), before);
        change(&store, hierarchy, scope.tenant(), COUNT);
        store.probe().unwrap();
        assert_eq!(steps(stores, placement, scope), (8, 8), "{placement}");

        let upgrade = || match placement {
            Placement::Server {
                wall: ServerWall::Pool,
                ..
            } => stores.stores.upgrade_pool(&stores.name).unwrap(),
            _ => stores.stores.upgrade(scope).unwrap(),
        };
        let done = upgrade();
        let expected = Upgraded {
            from: 8,
            to: NEWEST_STEP,
        };
        assert_eq!(done, expected, "{placement}");
        assert_eq!(steps(stores, placement, scope), (8, i64::from(NEWEST_STEP)));
        // Whoever has the store open goes on, and again changes nothing.
        change(&store, hierarchy, scope.tenant(), COUNT + 1);
        store.probe().unwrap();
        assert!(!upgrade().is_change(), "{placement}");
    });
}

#[test]
fn a_store_one_step_beyond_is_served_where_it_is_open_to_this_program() {
    with_stores_at(
        TO_NEXT_STEP_EXPANDED,
        |stores, placement, hierarchy, scope, before| {
            let store = stores.stores.open(scope);
            assert_eq!(everything(&store, hierarchy, scope.tenant()), before);
            change(&store, hierarchy, scope.tenant(), COUNT);
            assert_eq!(steps(stores, placement, scope), (9, 10), "{placement}");
        },
    );
}

#[test]
fn a_store_that_is_beyond_this_program_is_refused_and_left_alone() {
    with_stores_at(TO_NEXT_STEP_CONTRACTED, |stores, placement, _, scope, _| {
        let refused = stores.stores.open(scope).probe().unwrap_err();
        let is_refusal = matches!(
            &refused,
            StoreError::Open(OpenError::NewerVersion { found: 10, .. })
                | StoreError::Server(ServerError::NewerVersion { found: 10, .. })
        );
        assert!(is_refusal, "{placement}: {refused}");
        assert_eq!(steps(stores, placement, scope), (10, 10), "{placement}");
    });
}

/// A transaction that uses the tables holds the upgrade up for two seconds; then it is given up,
/// and nothing has changed.
#[test]
fn an_upgrade_does_not_wait_for_those_who_use_the_tables_for_long() {
    let hierarchy = Hierarchy::new(1);
    let stores = ServerStores::new(ServerWall::Bridge);
    let placement = Placement::on(ServerWall::Bridge, stores.name.clone());
    let scope = hierarchy.scope(1);
    stores.assign(&scope);
    stores.stores.provision(&scope).unwrap();
    meddle(&stores, &placement, &scope, TO_STEP_8);
    let schema = format!("partywall_bridge_{:032x}", scope.tenant().bits());
    let holder = as_superuser(&stores.address);
    let (held, is_held) = std::sync::mpsc::sync_channel(1);
    let (release, released) = std::sync::mpsc::sync_channel::<()>(1);
    let holding = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let connecting = tokio_postgres::connect(&holder, tokio_postgres::NoTls);
            let (client, connection) = connecting.await.unwrap();
            let serving = async move {
                let lock =
                    format!("BEGIN; LOCK TABLE {schema}.conversations IN ROW EXCLUSIVE MODE");
                client.batch_execute(&lock).await.unwrap();
                held.send(()).unwrap();
                tokio::task::spawn_blocking(move || released.recv())
                    .await
                    .unwrap()
                    .unwrap();
                client.batch_execute("COMMIT").await.unwrap();
            };
            let (_, ()) = tokio::join!(connection, serving);
        });
    });
    is_held.recv().unwrap();
    let upgraded = stores.stores.upgrade(&scope);
    assert!(upgraded.is_err());
    assert_eq!(steps(&stores, &placement, &scope), (8, 8));
    release.send(()).unwrap();
    holding.join().unwrap();
    assert_eq!(stores.stores.upgrade(&scope).unwrap().to, NEWEST_STEP);
}

/// Another tenant's key opens no store, and an upgrade neither.
#[test]
fn an_upgrade_takes_the_tenants_own_key() {
    let (files, hierarchy) = (FileStores::new(), Hierarchy::new(1));
    let (one, two) = (hierarchy.scope(1), hierarchy.scope(2));
    files.stores.provision(&one).unwrap();
    std::fs::copy(files.path(&one), files.path(&two)).unwrap();
    let refused = files.stores.upgrade(&two).unwrap_err();
    assert!(refused.to_string().contains("does not open"), "{refused}");
}
