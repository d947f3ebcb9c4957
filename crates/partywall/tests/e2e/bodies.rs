//! What was asked and answered, from the tenant's word to its last copy, by the command line.

use std::path::Path;

use serde_json::json;

use crate::product::{Running, exchange, post};

const CANARY: &str = "canary-91b2e0";

fn files_with(folder: &Path, needle: &str) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).expect("a folder").flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(files_with(&path, needle));
        } else if let Ok(bytes) = std::fs::read(&path) {
            let needle = needle.as_bytes();
            if bytes.windows(needle.len()).any(|window| window == needle) {
                found.push(path.display().to_string());
            }
        }
    }
    found
}

#[test]
fn a_tenant_has_its_calls_kept_and_reads_them() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("data");
    let product = Running::quickstart(&data, &[]);
    // The quickstart's first key calls models alone: the tenant's administrator has another.
    let made = product.done(&[
        "key",
        "create",
        "boss",
        "--tenant",
        "acme",
        "--role",
        "tenant-admin",
        "--json",
    ]);
    let boss = made.json()["key"].as_str().expect("a key").to_owned();
    let by_operator = product.cli(&["config", "set", "-t", "acme", "--bodies", "on"]);
    assert_ne!(by_operator.code, Some(0), "{}", by_operator.out);
    assert!(
        by_operator.err.contains("own administrators"),
        "{}",
        by_operator.err
    );
    product.done(&[
        "config", "set", "-t", "acme", "--bodies", "on", "--key", &boss,
    ]);

    let body = json!({"model": "sim-small", "messages": [{"role": "user",
        "content": format!("{CANARY}: my card is 4111 1111 1111 1111")}]});
    let call = || {
        let (status, answer) = post(&product.chat_url(), &product.key_of("acme"), &body);
        assert_eq!(status, 200, "{answer}");
    };
    call();
    let admin = product.made["admin_url"].as_str().expect("an address");
    let calls = format!("{admin}/admin/v1/tenants/acme/calls?limit=1");
    // The ledger has it once its settlement is on disk.
    let find = || {
        let (status, listed) = exchange("GET", &calls, &boss, "");
        assert_eq!(status, 200, "{listed}");
        listed["data"][0]["request"].as_str().map(str::to_owned)
    };
    let request = (0..100).find_map(|_| find()).expect("a request");
    let request = request.as_str();
    let read = [
        "request", request, "-t", "acme", "--bodies", "--json", "--key", &boss,
    ];
    // It is written behind the call.
    let mut tries = 0;
    let kept = loop {
        let said = product.cli(&read);
        if said.code == Some(0) {
            break said.json();
        }
        tries += 1;
        assert!(tries < 100, "{}", said.err);
    };
    let asked = kept["asked"]["messages"][0]["content"]
        .as_str()
        .expect("a text");
    assert_eq!(asked, format!("{CANARY}: my card is [CARD_1]"));
    let by_operator = product.cli(&["request", request, "-t", "acme", "--bodies"]);
    assert_ne!(by_operator.code, Some(0), "{}", by_operator.out);
    // Neither a file nor the log says what was said.
    for needle in [CANARY, "4111 1111 1111 1111"] {
        assert_eq!(files_with(folder.path(), needle), [""; 0]);
    }
    product.done(&[
        "request",
        request,
        "-t",
        "acme",
        "--forget-bodies",
        "--key",
        &boss,
    ]);
    assert_ne!(product.cli(&read).code, Some(0));
}
