//! A tenant moves while several processes serve it: what they write goes along, and a process that is
//! killed in the middle leaves nothing half moved.

#![expect(clippy::unwrap_used, reason = "a panic in a test is the report")]

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use serde_json::{Value, json};

use crate::product::{Running, exchange, post};
use crate::replicas::{Installation, at, calls_of, eventually};

/// Has a model answer, and the answer kept in the tenant's store. Its id.
fn keep_one(replica: &Running, key: &str) -> String {
    let base = replica.made["base_url"].as_str().unwrap();
    let body = json!({"model": "sim-small", "input": "hello", "store": true});
    let (status, answer) = post(&format!("{base}/responses"), key, &body);
    assert_eq!(status, 200, "{answer}");
    answer["id"].as_str().unwrap().to_owned()
}

fn is_kept(replica: &Running, key: &str, id: &str) -> bool {
    let base = replica.made["base_url"].as_str().unwrap();
    let (status, answer) = exchange("GET", &format!("{base}/responses/{id}"), key, "");
    assert!(status == 200 || status == 404, "{status} {answer}");
    status == 200
}

/// What a replica says of the tenant's last move.
fn move_of(replica: &Running, first: &Running, tenant: &str) -> Value {
    let key = std::fs::read_to_string(first.data.join("operator.key")).unwrap();
    let admin = replica.made["admin_url"].as_str().unwrap();
    let url = format!("{admin}/admin/v1/tenants/{tenant}/move");
    exchange("GET", &url, key.trim(), "").1
}

#[test]
fn a_tenant_moves_while_two_replicas_write_to_it() {
    let installation = Installation::new();
    let first = &installation.first;
    let two = installation.replica("two");
    let key = first.key_of("acme");
    eventually("both serve", || two.chat(&key, "hello").0 == 200);
    assert_eq!(first.chat(&key, "hello").0, 200);
    let (kept, is_over) = (Mutex::new(Vec::new()), AtomicBool::new(false));
    let calls = AtomicU64::new(2);
    std::thread::scope(|threads| {
        for replica in [first, &two] {
            let (key, kept, is_over, calls) = (&key, &kept, &is_over, &calls);
            threads.spawn(move || {
                while !is_over.load(Ordering::Acquire) {
                    let id = keep_one(replica, key);
                    calls.fetch_add(1, Ordering::Relaxed);
                    // What one has answered is there for whoever asks the same one.
                    assert!(is_kept(replica, key, &id), "{id}");
                    kept.lock().unwrap().push(id);
                    std::thread::sleep(Duration::from_millis(20));
                }
            });
        }
        let ending = Ending(&is_over);
        // Through either of them, and back.
        for (replica, words) in [
            (&two, ["--to", "bridge:main"].as_slice()),
            (first, &["--to", "silo:main"]),
            (&two, &["--back"]),
            (first, &["--to", "pool:main"]),
        ] {
            let words = [&["tenant", "move", "acme", "--json"], words].concat();
            let moved = at(replica, first, &words);
            assert_eq!(moved.code, Some(0), "{words:?}: {}{}", moved.out, moved.err);
            let moved = moved.json();
            assert_eq!(moved["state"], "moved", "{moved}");
            println!("{words:?}: held for {} ms", moved["held_ms"]);
            // The other one knows, too.
            let other = if std::ptr::eq(replica, first) {
                &two
            } else {
                first
            };
            eventually("the other one says so", || {
                let said = move_of(other, first, "acme");
                said["state"] == "moved" && said["to"] == moved["to"]
            });
            std::thread::sleep(Duration::from_millis(300));
        }
        drop(ending);
    });
    let kept = kept.into_inner().unwrap();
    println!("{} answers were kept meanwhile", kept.len());
    for replica in [first, &two] {
        for id in &kept {
            assert!(is_kept(replica, &key, id), "{id}");
        }
    }
    let calls = calls.into_inner();
    eventually("every call is counted once", || {
        calls_of(first, "acme") == calls
    });
    first.done(&["audit", "verify", "-t", "acme"]);
}

struct Ending<'a>(&'a AtomicBool);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

#[test]
fn a_replica_that_is_killed_in_a_move_leaves_the_tenant_in_one_place() {
    const PHASES: [&str; 5] = [
        "preparing",
        "copying",
        "verifying",
        "catching-up",
        "cutting-over",
    ];
    let installation = Installation::new();
    let first = &installation.first;
    let mut two = installation.replica("two");
    let key = first.key_of("acme");
    let mut kept = Vec::new();
    for _ in 0..20 {
        kept.push(keep_one(first, &key));
    }
    for round in 0..PHASES.len() {
        let here = first.done(&["tenant", "show", "acme", "--json"]).json();
        let here = here["spec"]["placement"].as_str().unwrap().to_owned();
        let to = if here == "pool:main" {
            "bridge:main"
        } else {
            "pool:main"
        };
        eventually("it is its turn", || {
            let begun = at(
                &two,
                first,
                &["tenant", "move", "acme", "--to", to, "--detach"],
            );
            begun.code == Some(0)
        });
        loop {
            let state = move_of(&two, first, "acme")["state"].clone();
            let reached = PHASES.iter().position(|one| state == *one);
            if reached.is_none_or(|reached| reached >= round) {
                println!("killed while it is {state}");
                break;
            }
        }
        two.signal("KILL");
        let data = two.data.clone();
        drop(two);
        // The other one settles it, or the process that comes back.
        if round % 2 == 0 {
            eventually("another replica settles it", || {
                let state = move_of(first, first, "acme")["state"].clone();
                state == "moved" || state == "failed"
            });
        }
        kept.push(keep_one(first, &key));
        two = Running::serve(&data);
        eventually("it is settled", || {
            let state = move_of(&two, first, "acme")["state"].clone();
            state == "moved" || state == "failed"
        });
        kept.push(keep_one(&two, &key));
        for id in &kept {
            assert!(is_kept(first, &key, id) && is_kept(&two, &key, id), "{id}");
        }
    }
    first.done(&["audit", "verify", "-t", "acme"]);
    let calls = kept.len() as u64;
    eventually("every call is counted once", || {
        calls_of(first, "acme") == calls
    });
}
