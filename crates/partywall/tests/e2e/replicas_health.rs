//! How tenants are doing, over several replicas: each shows the calls of all.

#![expect(clippy::unwrap_used, reason = "a panic in a test is the report")]

use serde_json::Value;

use crate::product::{Running, exchange};
use crate::replicas::{Installation, at, eventually};

fn fleet(replica: &Running, first: &Running) -> Value {
    let said = at(replica, first, &["fleet", "--json"]);
    assert_eq!(said.code, Some(0), "{}", said.err);
    said.json()
}

fn calls_in(replica: &Running, first: &Running, tenant: &str) -> u64 {
    let shown = fleet(replica, first);
    let rows = shown["data"].as_array().unwrap();
    let row = rows.iter().find(|row| row["tenant"] == tenant).unwrap();
    row["health"]["calls"].as_u64().unwrap()
}

#[test]
fn every_replica_shows_the_calls_of_all_and_says_who_is_silent() {
    let installation = Installation::new();
    let first = &installation.first;
    let (two, three) = (installation.replica("two"), installation.replica("three"));
    let key = first.key_of("acme");
    for (replica, calls) in [(first, 1), (&two, 2), (&three, 4)] {
        for _ in 0..calls {
            assert_eq!(replica.chat(&key, "hello").0, 200);
        }
    }
    for replica in [first, &two, &three] {
        eventually("all calls are shown", || {
            calls_in(replica, first, "acme") == 7
        });
        let shown = fleet(replica, first);
        assert_eq!(shown["incomplete_since"], Value::Null, "{shown}");
        assert!(shown["health"]["duration"]["p99_ms"].is_u64(), "{shown}");
        let own = at(replica, first, &["fleet", "-t", "acme", "--json"]).json();
        assert_eq!(own["health"]["calls"], 7, "{own}");
        let minutes = own["minutes"].as_array().unwrap().iter();
        let sum: u64 = minutes.map(|it| it["calls"].as_u64().unwrap()).sum();
        assert_eq!(sum, 7, "{own}");
    }
    // A tenant that has not called has none of these, and its key reads nobody else's.
    assert_eq!(calls_in(&two, first, "globex"), 0);
    let admin = two.made["admin_url"].as_str().unwrap();
    let path = format!("{admin}/admin/v1/tenants/acme/health");
    let (status, _) = exchange("GET", &path, &first.key_of("globex"), "");
    assert!([401, 403, 404].contains(&status), "{status}");

    // One that ends has told all; one that is killed is said to be silent. Their calls stay.
    assert_eq!(two.chat(&key, "the last word").0, 200);
    assert_eq!(two.stop(), Some(0));
    eventually("the last call is shown", || {
        calls_in(first, first, "acme") == 8
    });
    three.signal("KILL");
    eventually("the silent one is named", || {
        let shown = fleet(first, first);
        let silent = shown["silent_replicas"].as_array();
        silent.is_some_and(|it| it.len() == 1 && it[0]["replica"] == "three")
    });
    assert_eq!(calls_in(first, first, "acme"), 8);
    let own = first.done(&["fleet", "-t", "acme", "--json"]).json();
    assert!(!own["incomplete_since"].is_null(), "{own}");
    assert!(own.get("silent_replicas").is_none(), "{own}");
}
