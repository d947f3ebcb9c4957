//! PostgreSQL is gone for a while, under real processes: established tenants are served, what was
//! acknowledged is there afterwards, and what has to wait says so.

#![expect(clippy::unwrap_used, reason = "a panic in a test is the report")]

use std::time::Duration;

use serde_json::json;

use crate::postgres::new_database;
use crate::product::{Running, exchange, post};
use crate::relay::Relay;
use crate::replicas::{Installation, calls_of, eventually};

/// Has a model answer, and the answer kept: its id, or none if it says that this has to wait.
fn keep_one(replica: &Running, key: &str) -> Option<String> {
    let base = replica.made["base_url"].as_str().unwrap();
    let body = json!({"model": "sim-small", "input": "hello", "store": true});
    let (status, answer) = post(&format!("{base}/responses"), key, &body);
    match status {
        200 => Some(answer["id"].as_str().unwrap().to_owned()),
        503 => None,
        _ => panic!("{status} {answer}"),
    }
}

fn read_one(replica: &Running, key: &str, id: &str) -> u16 {
    let base = replica.made["base_url"].as_str().unwrap();
    exchange("GET", &format!("{base}/responses/{id}"), key, "").0
}

#[test]
fn a_server_that_is_gone_for_a_while_costs_established_tenants_nothing() {
    let address = new_database();
    let relay = Relay::new(&address);
    let installation = Installation::at(relay.address());
    let first = &installation.first;
    let key = first.key_of("acme");
    assert_eq!(first.chat(&key, "hello").0, 200);
    assert!(keep_one(first, &key).is_some());
    relay.cut();
    let mut chats = 2;
    for _ in 0..40 {
        let (status, answer) = first.chat(&key, "hello");
        assert_eq!(status, 200, "{answer}");
        chats += 1;
        std::thread::sleep(Duration::from_millis(50));
    }
    // What has to wait says so, and changes nothing.
    let refused = first.cli(&["feature", "create", "-t", "acme", "later"]);
    assert_ne!(refused.code, Some(0));
    assert!(refused.err.contains("cannot be reached"), "{}", refused.err);
    // Who looks is put on record first: that has to wait, too.
    let admin = first.made["admin_url"].as_str().unwrap();
    let operator = first.made["operator_key"].as_str().unwrap();
    let status = format!("{admin}/admin/v1/tenants/acme/budgets/status");
    let (code, answer) = exchange("GET", &status, operator, "");
    assert_eq!(code, 503, "{answer}");
    assert!(answer.to_string().contains("cannot be reached"), "{answer}");
    relay.mend();
    eventually("budgets are told again", || {
        exchange("GET", &status, operator, "").0 == 200
    });
    eventually("changes are taken again", || {
        let made = first.cli(&["feature", "create", "-t", "acme", "later"]);
        made.code == Some(0)
    });
    eventually("answers are kept again", || {
        let kept = keep_one(first, &key);
        chats += u64::from(kept.is_some());
        kept.is_some_and(|id| read_one(first, &key, &id) == 200)
    });
    eventually("every call is counted", || calls_of(first, "acme") >= chats);
}
