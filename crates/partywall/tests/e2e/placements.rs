//! Tenants on PostgreSQL servers, as an operator has them: described, onboarded, moved, gone.

#![expect(clippy::unwrap_used, reason = "a panic in a test is the report")]

use std::path::Path;

use crate::postgres::{as_superuser, execute, new_database};
use crate::product::{Running, run};

/// An installation with these servers, by name and what else is said of them. The addresses are
/// in files beside it.
fn with_servers(data: &Path, servers: &[(&str, &str, &str)]) -> (Running, Vec<String>) {
    let product = Running::quickstart(data, &[]);
    let keys = ["acme", "globex"].map(|tenant| product.key_of(tenant));
    assert_eq!(product.stop(), Some(0));
    let config = data.join("partywall.toml");
    let mut text = std::fs::read_to_string(&config).unwrap();
    for (name, address, more) in servers {
        let file = data.join(format!("{name}.url"));
        std::fs::write(&file, address).unwrap();
        text += &format!(
            "\n[storage.servers.{name}]\nurl = \"file:{}\"\n{more}\n",
            file.display()
        );
    }
    std::fs::write(&config, text).unwrap();
    (Running::quickstart(data, &[]), keys.to_vec())
}

fn calls_of(product: &Running, tenant: &str) -> u64 {
    let usage = product.done(&["usage", "-t", tenant, "--json"]).json();
    let rows = usage["data"].as_array().unwrap();
    rows.iter().map(|row| row["calls"].as_u64().unwrap()).sum()
}

/// The name of a tenant's role and database.
fn role_of(wall: &str, id: &str) -> String {
    let bits = id.parse::<base::TenantId>().unwrap().bits();
    format!("partywall_{wall}_{bits:032x}")
}

fn placement_of(product: &Running, tenant: &str) -> String {
    let shown = product.done(&["tenant", "show", tenant, "--json"]).json();
    shown["spec"]["placement"]
        .as_str()
        .unwrap_or("file")
        .to_owned()
}

#[test]
fn tenants_live_where_their_tier_or_their_name_says_and_move() {
    let folder = tempfile::tempdir().unwrap();
    let (eu, us) = (new_database(), new_database());
    let (product, keys) = with_servers(
        &folder.path().join("data"),
        &[
            ("eu-1", &eu, "region = \"eu\"\nbridge_tenants_max = 1"),
            ("us-1", &us, "region = \"us\""),
        ],
    );
    let onboard = |words: &[&str]| {
        let words = [&["tenant", "onboard"], words, &["--json"]].concat();
        let made = product.done(&words).json();
        made["first_key"]["key"].as_str().unwrap().to_owned()
    };
    product.done(&["tier", "set", "team", "--placement", "pool"]);
    let pooled = onboard(&["initech", "--tier", "team"]);
    let other = onboard(&["umbrella", "--tier", "team"]);
    let bridged = onboard(&["hooli", "--tier", "free", "--placement", "bridge:eu-1"]);
    onboard(&[
        "stark",
        "--tier",
        "team",
        "--placement",
        "silo",
        "--region",
        "us",
    ]);
    // The emptiest each time; what is pinned to a region stays there.
    let places: Vec<String> = ["initech", "umbrella"]
        .iter()
        .map(|tenant| placement_of(&product, tenant))
        .collect();
    assert!(places.contains(&"pool:eu-1".to_owned()), "{places:?}");
    assert!(places.contains(&"pool:us-1".to_owned()), "{places:?}");
    assert_eq!(placement_of(&product, "hooli"), "bridge:eu-1");
    assert_eq!(placement_of(&product, "stark"), "silo:us-1");
    let listed = product.done(&["server", "list", "--json"]).json();
    assert_eq!(listed["data"][0]["name"], "eu-1");
    assert_eq!(listed["data"][0]["bridge"]["tenants"], 1);
    assert_eq!(listed["data"][1]["silo"]["tenants"], 1);

    for (tenant, key) in [
        ("initech", &pooled),
        ("umbrella", &other),
        ("hooli", &bridged),
        ("acme", &keys[0]),
    ] {
        assert_eq!(product.chat(key, "hello").0, 200, "{tenant}");
        assert_eq!(calls_of(&product, tenant), 1, "{tenant}");
    }
    for (words, expected) in [
        (
            vec!["a", "--placement", "pool:mars"],
            "there is no PostgreSQL server `mars`",
        ),
        (
            vec!["a", "--placement", "bridge:eu-1"],
            "raise bridge_tenants_max",
        ),
        (
            vec!["a", "--placement", "silo:eu-1", "--region", "us"],
            "is not in the tenant's region `us`",
        ),
    ] {
        let words = [vec!["tenant", "onboard"], words, vec!["--tier", "team"]].concat();
        let refused = product.cli(&words);
        assert_eq!(refused.code, Some(1));
        assert!(refused.err.contains(expected), "{}", refused.err);
    }

    // Moving there and back, and into a file; the specification does not move anything.
    let refused = product.cli(&["tenant", "set", "stark", "--placement", "file"]);
    assert!(refused.err.contains("tenant move"), "{}", refused.err);
    let mut expected = 1;
    for to in ["silo:eu-1", "file", "pool:us-1", "pool:eu-1"] {
        let before = placement_of(&product, "initech");
        if before == to {
            continue;
        }
        let moved = product.done(&["tenant", "move", "initech", "--to", to, "--json"]);
        let moved = moved.json();
        assert_eq!(moved["state"], "moved", "{moved}");
        assert!(moved["rows"].as_u64().unwrap() > 0, "{moved}");
        assert_eq!(placement_of(&product, "initech"), to);
        assert_eq!(product.chat(&pooled, "hello").0, 200);
        expected += 1;
        assert_eq!(calls_of(&product, "initech"), expected, "{to}");
    }
    let here = placement_of(&product, "initech");
    let again = product.cli(&["tenant", "move", "initech", "--to", &here]);
    assert!(again.err.contains("already"), "{}", again.err);
    product.done(&["tenant", "move", "initech", "--back"]);
    assert_ne!(placement_of(&product, "initech"), here);
    assert_eq!(calls_of(&product, "initech"), expected);
    product.done(&["audit", "verify", "-t", "initech"]);

    // What was declared is exported and applied without a difference.
    let out = folder.path().join("out");
    let path = out.to_str().unwrap();
    product.done(&["export", "-o", path]);
    let nothing = product.done(&["apply", "-f", path, "--prune"]);
    assert!(
        nothing.out.starts_with("0 new, 0 changed"),
        "{}",
        nothing.out
    );

    // After a restart everything is where it was; and what is offboarded leaves nothing.
    let data = product.data.clone();
    assert_eq!(product.stop(), Some(0));
    let product = Running::quickstart(&data, &[]);
    assert_eq!(calls_of(&product, "initech"), expected);
    let shown = product.done(&["tenant", "show", "stark", "--json"]).json();
    let role = role_of("silo", shown["spec"]["id"].as_str().unwrap());
    let there = "SELECT 1 FROM pg_database WHERE datname = 'ROLE'".replace("ROLE", &role);
    assert_eq!(execute(&us, &there).unwrap(), ["1"]);
    product.done(&["tenant", "delete", "stark", "--yes"]);
    assert_eq!(execute(&us, &there).unwrap(), [""; 0]);
    product.done(&["tenant", "delete", "initech", "--yes"]);
    let roles = "SELECT 1 FROM pg_roles WHERE rolname = 'ROLE'".replace("ROLE", &role);
    assert_eq!(execute(&us, &roles).unwrap(), [""; 0]);
    // Of all that were pooled, one tenant is left.
    let pooled = [&eu, &us].map(|address| {
        let all = "SELECT count(DISTINCT tenant) FROM partywall.provisioned";
        let counted = execute(&as_superuser(address), all).unwrap();
        counted[0].parse::<u32>().unwrap()
    });
    assert_eq!(pooled.iter().sum::<u32>(), 1, "{pooled:?}");
}

#[test]
fn a_server_that_is_gone_delays_nobodys_calls_and_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let (product, keys) = with_servers(&data, &[("main", &new_database(), "")]);
    product.done(&["tenant", "move", "acme", "--to", "pool"]);
    assert_eq!(product.chat(&keys[0], "hello").0, 200);
    assert_eq!(product.stop(), Some(0));
    // The same, with nobody at the address.
    let nowhere = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = nowhere.local_addr().unwrap().port();
    drop(nowhere);
    let address = std::fs::read_to_string(data.join("main.url")).unwrap();
    std::fs::write(
        data.join("main.url"),
        format!("postgres://owner:secret-word@127.0.0.1:{port}/postgres"),
    )
    .unwrap();
    let mut product = Running::quickstart(&data, &[]);
    let log = product.await_log("tenants on it are served without their stores");
    assert!(!log.contains("secret-word"), "{log}");
    assert_eq!(product.chat(&keys[0], "hello").0, 200);
    assert_eq!(product.chat(&keys[1], "hello").0, 200);
    let refused = product.cli(&["usage", "-t", "acme"]);
    assert!(
        refused.err.contains("`main` cannot be used"),
        "{}",
        refused.err
    );
    assert_eq!(calls_of(&product, "globex"), 1);
    assert_eq!(product.stop(), Some(0));
    // It comes back: nothing of what was called meanwhile is lost.
    std::fs::write(data.join("main.url"), address).unwrap();
    let product = Running::quickstart(&data, &[]);
    assert_eq!(calls_of(&product, "acme"), 2);
}

#[test]
fn a_server_that_is_described_badly_keeps_it_from_starting() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let product = Running::quickstart(&data, &[]);
    assert_eq!(product.stop(), Some(0));
    let config = data.join("partywall.toml");
    let text = std::fs::read_to_string(&config).unwrap();
    let url = data.join("main.url");
    std::fs::write(&url, "mysql://owner:secret-word@localhost").unwrap();
    let section = format!(
        "\n[storage.servers.main]\nurl = \"file:{}\"\n",
        url.display()
    );
    // Whoever else is on this machine may have the ports that are the default.
    let text = text.replace("127.0.0.1:8080", "127.0.0.1:0");
    let text = text.replace("127.0.0.1:8081", "127.0.0.1:0");
    std::fs::write(&config, text + &section).unwrap();
    let refused = run(&["serve", "--config", config.to_str().unwrap()]);
    assert_ne!(refused.code, Some(0));
    assert!(
        refused.err.contains("storage.servers.main.url"),
        "{}",
        refused.err
    );
    assert!(!refused.err.contains("secret-word"), "{}", refused.err);
}
