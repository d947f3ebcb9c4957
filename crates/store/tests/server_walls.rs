//! The second wall of the placements on servers, tested by going around the first: whoever gets a
//! connection of a tenant's role still reaches that tenant's rows alone. And the other way round.

#![expect(clippy::unwrap_used, reason = "a panic in a test is the report")]

use base::Timestamp;
use store::{
    IdempotencyBounds, IdempotencyKey, ServerError, StoreError, StoredResponse, UsageFilter,
    UsageQuery,
};
use tenancy::TenantScope;
use tenancy::catalogue::ServerWall;

#[expect(dead_code, reason = "other tests use the rest")]
mod fixture;
#[path = "fixture/postgres.rs"]
mod postgres;
use fixture::{DAY, Hierarchy, line};
use postgres::{ServerStores, as_superuser, execute};

const CANARY: &str = "canary-of-a-tenant";

/// Two tenants with everything that a tenant has, under equal names.
struct Twins {
    placement: ServerStores,
    hierarchy: Hierarchy,
    one: TenantScope,
    two: TenantScope,
}

impl Twins {
    fn new(wall: ServerWall) -> Self {
        let (placement, hierarchy) = (ServerStores::new(wall), Hierarchy::new(1));
        let (one, two) = (hierarchy.scope(1), hierarchy.scope(2));
        for scope in [&one, &two] {
            placement.assign(scope);
            placement.stores.provision(scope).unwrap();
            let store = placement.stores.open(scope);
            store
                .post_lines(&[line(scope.tenant(), 1, 1, DAY)])
                .unwrap();
            let response = StoredResponse {
                id: "same".to_owned(),
                previous: String::new(),
                input: CANARY.into(),
                body: format!("{CANARY} {}", scope.tenant()).into(),
            };
            let now = Timestamp::from_micros(DAY);
            store
                .keep_response(&response, now, &Default::default())
                .unwrap();
            let bodies = store::CallBodies {
                request: base::RequestId::from_bits(1),
                at: now,
                asked: format!("\"{CANARY}\"").into(),
                answered: format!("\"{CANARY} {}\"", scope.tenant()).into(),
                marks: Default::default(),
            };
            store.keep_bodies(&[bodies], &Default::default()).unwrap();
        }
        Self {
            placement,
            hierarchy,
            one,
            two,
        }
    }

    /// Statements as the pool's role.
    fn as_pool(&self, statements: &str) -> Result<Vec<String>, String> {
        let (role, secret) = self.placement.pool();
        let address = self.placement.address_of(&role, &secret, "");
        execute(
            &address,
            &format!("SET search_path = partywall; {statements}"),
        )
    }

    /// Statements as the first tenant's own role.
    fn as_one(&self, statements: &str) -> Result<Vec<String>, String> {
        let name = name_of(self.placement.wall, &self.one);
        let database = match self.placement.wall {
            ServerWall::Silo => name.as_str(),
            ServerWall::Pool | ServerWall::Bridge => "",
        };
        let secret = self.one.keys().database_secret();
        let address = self.placement.address_of(&name, &secret, database);
        execute(&address, statements)
    }

    /// Statements as whoever may do anything.
    fn as_superuser(&self, statements: &str) -> Vec<String> {
        execute(&as_superuser(&self.placement.address), statements).unwrap()
    }

    fn body_of(&self, scope: &TenantScope) -> Result<Option<String>, StoreError> {
        let store = self.placement.stores.open(scope);
        let found = store.response("same", Timestamp::from_micros(DAY))?;
        Ok(found.map(|response| String::from_utf8(response.body).unwrap()))
    }
}

fn name_of(wall: ServerWall, scope: &TenantScope) -> String {
    format!("partywall_{}_{:032x}", wall.as_str(), scope.tenant().bits())
}

fn uuid_of(scope: &TenantScope) -> String {
    format!("{:032x}", scope.tenant().bits())
}

#[test]
fn invariant_1_a_pool_shows_nothing_until_somebody_says_whose() {
    let twins = Twins::new(ServerWall::Pool);
    let refused = twins.as_pool("SELECT id FROM responses").unwrap_err();
    assert!(refused.contains("app.tenant"), "{refused}");
    // Also after a transaction that had said so: what is left of the setting is no tenant.
    let setting = format!(
        "SELECT set_config('app.tenant', '{}', true)",
        uuid_of(&twins.one)
    );
    let refused = twins
        .as_pool(&format!(
            "BEGIN; {setting}; COMMIT; SELECT id FROM responses"
        ))
        .unwrap_err();
    assert!(refused.contains("uuid"), "{refused}");
}

#[test]
fn invariant_1_raw_statements_in_a_pool_reach_one_tenant() {
    let twins = Twins::new(ServerWall::Pool);
    let as_one = format!("SET app.tenant = '{}'", uuid_of(&twins.one));
    let seen = |statement: &str| twins.as_pool(&format!("{as_one}; {statement}"));
    assert_eq!(
        seen("SELECT DISTINCT tenant FROM responses").unwrap(),
        [uuid_with_dashes(&twins.one)]
    );
    assert_eq!(seen("SELECT id FROM responses").unwrap(), ["same"]);
    // Nor is there a way to ask for, change, remove or plant the other's.
    let two = uuid_of(&twins.two);
    let none: [String; 0] = [];
    for statement in [
        format!("SELECT id FROM responses WHERE tenant = '{two}'"),
        format!("UPDATE responses SET id = 'x' WHERE tenant = '{two}' RETURNING id"),
        format!("DELETE FROM responses WHERE tenant = '{two}' RETURNING id"),
    ] {
        assert_eq!(seen(&statement).unwrap(), none, "{statement}");
    }
    for statement in [
        format!("INSERT INTO provisioned (tenant, single) VALUES ('{two}', 2)"),
        format!("UPDATE provisioned SET tenant = '{two}'"),
        "SET row_security = off; SELECT id FROM responses".to_owned(),
        "ALTER TABLE responses DISABLE ROW LEVEL SECURITY".to_owned(),
        "DROP POLICY tenant_alone ON responses".to_owned(),
        "TRUNCATE responses".to_owned(),
        "CREATE TABLE mine (a int)".to_owned(),
        "SET ROLE owner".to_owned(),
        "UPDATE schema_version SET version = 0".to_owned(),
    ] {
        assert!(seen(&statement).is_err(), "{statement}");
    }
    assert!(twins.body_of(&twins.two).unwrap().is_some());
}

fn uuid_with_dashes(scope: &TenantScope) -> String {
    let hex = uuid_of(scope);
    let parts = [
        &hex[..8],
        &hex[8..12],
        &hex[12..16],
        &hex[16..20],
        &hex[20..],
    ];
    parts.join("-")
}

#[test]
fn invariant_1_statements_name_their_tenant_even_where_no_policy_does() {
    let twins = Twins::new(ServerWall::Pool);
    for table in twins.as_superuser(
        "SELECT table_name FROM information_schema.tables
         WHERE table_schema = 'partywall' AND table_name <> 'schema_version'",
    ) {
        twins.as_superuser(&format!(
            "ALTER TABLE partywall.{table} DISABLE ROW LEVEL SECURITY"
        ));
    }
    let both = twins.as_pool("SELECT id FROM responses").unwrap();
    assert_eq!(both.len(), 2, "the second wall is down");
    for scope in [&twins.one, &twins.two] {
        let store = twins.placement.stores.open(scope);
        let usage = UsageQuery {
            from: Timestamp::from_micros(0),
            until: Timestamp::from_micros(1_000 * DAY),
            group_by: Vec::new(),
            filter: UsageFilter::default(),
        };
        let rows = store.usage(&usage, store::Page::first()).unwrap();
        assert_eq!(rows[0].calls, 1);
        let body = twins.body_of(scope).unwrap().unwrap();
        assert_eq!(body, format!("{CANARY} {}", scope.tenant()));
        let key = IdempotencyKey {
            key_hash: [1; 32],
            request_hash: [2; 32],
        };
        let (bounds, now) = (IdempotencyBounds::default(), Timestamp::from_micros(DAY));
        let begun = store.begin_idempotent(&key, now, &bounds).unwrap();
        assert_eq!(begun, store::Begun::Fresh);
    }
    twins.placement.stores.remove(&twins.one).unwrap();
    assert!(twins.body_of(&twins.one).is_err());
    assert!(twins.body_of(&twins.two).unwrap().is_some());
}

#[test]
fn a_server_that_does_not_keep_tenants_apart_is_refused() {
    let mut twins = Twins::new(ServerWall::Pool);
    let (role, _) = twins.placement.pool();
    let (_, owner) = twins.placement.address.split_once("//").unwrap();
    let owner = owner.split(':').next().unwrap().to_owned();
    let holes = [
        format!("ALTER ROLE {} BYPASSRLS", role),
        "ALTER TABLE partywall.responses NO FORCE ROW LEVEL SECURITY".to_owned(),
        "CREATE POLICY open ON partywall.responses USING (true)".to_owned(),
        format!("ALTER TABLE partywall.responses OWNER TO {}", role),
        format!("GRANT pg_read_all_data TO {}", role),
        "ALTER POLICY tenant_alone ON partywall.responses USING (true)".to_owned(),
    ];
    for (number, hole) in holes.into_iter().enumerate() {
        twins.as_superuser(&hole);
        twins.placement = twins.placement.restart();
        let scope = twins.hierarchy.scope(10 + number as u128);
        twins.placement.assign(&scope);
        let opened = twins.placement.stores.open(&twins.one);
        twins.placement.assign(&twins.one);
        let outcome = opened.response("same", Timestamp::from_micros(DAY));
        match number {
            // A start puts the policies right by itself.
            1 | 5 => {
                assert!(outcome.unwrap().is_some());
                assert!(policies(&twins)[0].contains("app.tenant"), "{hole}");
            }
            // The owner cannot even set up what is not its own any more.
            3 => assert!(matches!(outcome, Err(StoreError::Server(_))), "{outcome:?}"),
            _ => assert!(
                matches!(outcome, Err(StoreError::Server(ServerError::NoWall { .. }))),
                "{hole}: {outcome:?}"
            ),
        }
        twins.as_superuser(&format!(
            "DROP POLICY IF EXISTS open ON partywall.responses;
             ALTER TABLE partywall.responses OWNER TO {owner};
             REVOKE pg_read_all_data FROM {role};
             ALTER ROLE {role} NOBYPASSRLS"
        ));
    }
}

/// The policies of the pool's tables: what each says, and which it is.
fn policies(twins: &Twins) -> Vec<String> {
    twins.as_superuser(
        "SELECT pg_get_expr(polqual, polrelid) || ' ' || oid FROM pg_policy
         WHERE polrelid IN ('partywall.responses'::regclass, 'partywall.call_bodies'::regclass)
         ORDER BY polrelid::regclass::text DESC",
    )
}

/// Other processes use the tables meanwhile.
#[test]
fn what_is_right_on_a_server_is_left_as_it_is() {
    let mut twins = Twins::new(ServerWall::Pool);
    let before = policies(&twins);
    assert_eq!(before.len(), 2);
    twins.placement = twins.placement.restart();
    twins.placement.assign(&twins.one);
    assert!(twins.body_of(&twins.one).unwrap().is_some());
    assert_eq!(policies(&twins), before);
}

#[test]
fn invariant_1_a_tenants_role_reaches_its_own_schema_or_database_alone() {
    for wall in [ServerWall::Bridge, ServerWall::Silo] {
        let twins = Twins::new(wall);
        let own = match wall {
            ServerWall::Bridge => name_of(wall, &twins.one),
            ServerWall::Silo | ServerWall::Pool => "partywall".to_owned(),
        };
        let seen = twins.as_one(&format!("SELECT id FROM {own}.responses"));
        assert_eq!(seen.unwrap(), ["same"]);
        let other = name_of(wall, &twins.two);
        for statement in [
            format!("SELECT id FROM {other}.responses"),
            format!("SET ROLE {other}"),
            format!("CREATE TABLE {own}.mine (a int)"),
            format!("DROP TABLE {own}.responses"),
            "CREATE SCHEMA mine".to_owned(),
        ] {
            assert!(twins.as_one(&statement).is_err(), "{wall:?}: {statement}");
        }
        // Another's password, and another's database.
        let secret = twins.one.keys().database_secret();
        for (role, database) in [(&other, ""), (&name_of(wall, &twins.one), &other)] {
            let address = twins.placement.address_of(role, &secret, database);
            assert!(execute(&address, "SELECT 1").is_err(), "{wall:?}");
        }
    }
}

#[test]
fn invariant_3_a_tenants_keys_are_what_opens_its_store() {
    for wall in ServerWall::ALL {
        let twins = Twins::new(wall);
        // The same tenant's id with other keys: a stranger who knows the id.
        let stranger = Hierarchy::new(2).scope(1);
        assert_eq!(stranger.tenant(), twins.one.tenant());
        let found = twins.body_of(&stranger);
        assert!(found.is_err(), "{wall:?}: {found:?}");
    }
}

#[test]
fn invariant_3_no_server_holds_what_clients_said_in_plaintext() {
    for wall in ServerWall::ALL {
        let twins = Twins::new(wall);
        let schema = match wall {
            ServerWall::Bridge => name_of(wall, &twins.one),
            ServerWall::Silo | ServerWall::Pool => "partywall".to_owned(),
        };
        let dump = format!(
            "SELECT encode(body, 'escape') || encode(input, 'escape') FROM {schema}.responses"
        );
        let rows = match wall {
            ServerWall::Silo => twins.as_one(&dump).unwrap(),
            ServerWall::Pool | ServerWall::Bridge => twins.as_superuser(&dump),
        };
        assert!(!rows.is_empty());
        for row in rows {
            assert!(!row.contains("canary"), "{wall:?}");
        }
    }
}

#[test]
fn invariant_3_rows_that_are_swapped_between_tenants_do_not_open() {
    let twins = Twins::new(ServerWall::Pool);
    twins.as_superuser(&format!(
        "UPDATE partywall.responses SET body =
           (SELECT body FROM partywall.responses WHERE tenant = '{}')
         WHERE tenant = '{}'",
        uuid_of(&twins.two),
        uuid_of(&twins.one)
    ));
    assert!(twins.body_of(&twins.one).is_err());
    // Nor do a tenant's own values in another column's place.
    twins.as_superuser("UPDATE partywall.responses SET body = input");
    assert!(twins.body_of(&twins.two).is_err());
}

#[test]
fn a_tenants_key_rotates_on_every_server() {
    for wall in ServerWall::ALL {
        let twins = Twins::new(wall);
        let hierarchy = &twins.hierarchy;
        let (next, wrapped) = twins
            .one
            .keys()
            .next_generation(&hierarchy.root, &hierarchy.entropy)
            .unwrap();
        let rotating = hierarchy.scope_of(&std::sync::Arc::new(next));
        // Under both generations it is readable before, meanwhile and after.
        assert!(twins.body_of(&rotating).unwrap().is_some());
        let stores = &twins.placement.stores;
        assert_eq!(stores.rotate(&rotating).unwrap(), store::Rotated::Encrypted);
        assert_eq!(stores.rotate(&rotating).unwrap(), store::Rotated::Encrypted);
        let current = tenancy::TenantKeys::unwrap(&hierarchy.root, twins.one.tenant(), &wrapped);
        let after = hierarchy.scope_of(&std::sync::Arc::new(current.unwrap()));
        assert!(twins.body_of(&after).unwrap().is_some(), "{wall:?}");
        assert!(twins.body_of(&twins.one).is_err(), "{wall:?}: the old key");
        assert_eq!(
            stores.rotate(&after).unwrap(),
            store::Rotated::AlreadyCurrent
        );
    }
}
