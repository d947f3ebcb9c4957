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

/// What goes wrong at one replica is seen, and warned of, at another.
#[test]
fn a_breaker_that_opens_at_one_replica_is_shown_and_warned_of_at_all() {
    let installation = Installation::new();
    let first = &installation.first;
    let two = installation.replica("two");
    let key = first.key_of("acme");
    for _ in 0..8 {
        let (status, body) = two.chat(&key, "[[fault:status=500]]");
        assert!(status >= 500, "{status} {body}");
    }
    let operator = std::fs::read_to_string(first.data.join("operator.key")).unwrap();
    let ask = |replica: &Running, path: &str| {
        let admin = replica.made["admin_url"].as_str().unwrap();
        let (status, body) = exchange("GET", &format!("{admin}{path}"), operator.trim(), "");
        assert_eq!(status, 200, "{path}: {body}");
        body
    };
    for replica in [&two, first] {
        eventually("the breaker is shown", || {
            let own = ask(replica, "/admin/v1/tenants/acme/health");
            own["open_breakers"]
                .as_array()
                .is_some_and(|open| !open.is_empty())
        });
        let fleet = ask(replica, "/admin/v1/fleet");
        let rows = fleet["data"].as_array().unwrap();
        assert_eq!(
            (&rows[0]["tenant"], &rows[0]["concern"]),
            (&"acme".into(), &"urgent".into())
        );
        let other = rows.iter().find(|row| row["tenant"] == "globex").unwrap();
        assert_eq!(other["open_breakers"], serde_json::json!([]), "{other}");
        eventually("it is warned of", || {
            let alerts = ask(replica, "/admin/v1/alerts?state=open");
            let alerts = alerts["data"].as_array().unwrap();
            let is_it =
                |alert: &&Value| alert["kind"] == "breaker-open" && alert["tenant"] == "acme";
            alerts.iter().filter(is_it).count() == 1
        });
    }
}
