//! `demo-data`: what it makes up adds up, is the same for the same seed, and is served.

use std::path::Path;

use serde_json::Value;

use crate::product::{Running, Said, run};

fn demo(folder: &Path, name: &str, seed: &str) -> Said {
    let data = folder.join(name);
    let words = ["--json", "demo-data", "--days", "2", "--seed", seed];
    let until = ["--until", "2026-11-22T12:00:00Z", "--data"];
    let words = [&words[..], &until[..], &[data.to_str().expect("a text")]].concat();
    run(&words)
}

fn total(rows: &Value, field: &str) -> u64 {
    let rows = rows["data"].as_array().expect("rows are a list");
    rows.iter().filter_map(|row| row[field].as_u64()).sum()
}

#[test]
fn a_made_up_month_adds_up_and_is_served() {
    let folder = tempfile::tempdir().expect("a folder");
    let made = demo(folder.path(), "demo", "7");
    assert_eq!(made.code, Some(0), "{}{}", made.out, made.err);
    let made = made.json();
    let calls = made["calls"].as_u64().expect("it counts calls");
    assert_eq!(
        (&made["tenants"], &made["days"]),
        (&20.into(), &2.into()),
        "{made}"
    );
    assert!(calls > 1_000, "{made}");
    // The same seed and end make the same; another seed does not.
    let again = demo(folder.path(), "again", "7").json();
    assert_eq!(again, made);
    let other = demo(folder.path(), "other", "8").json();
    assert_ne!(other["cost"], made["cost"]);
    // What is there already is not overwritten.
    let refused = demo(folder.path(), "demo", "7");
    assert_ne!(refused.code, Some(0), "{}", refused.out);

    let product = Running::quickstart(&folder.path().join("demo"), &[]);
    let period = ["--from", "2026-11-20", "--to", "2026-11-23", "--all"];
    let usage = |by: &str| {
        let words = [&["usage", "--json", "--by", by][..], &period[..]].concat();
        product.done(&words).json()
    };
    // Each cut has all of it, to the last unit.
    let whole = usage("month");
    assert_eq!(total(&whole, "calls"), calls, "{whole}");
    assert_eq!(whole["data"][0]["cost"], made["cost"]);
    for by in ["tenant", "tenant,model", "feature,day", "hour"] {
        assert_eq!(total(&usage(by), "calls"), calls, "by {by}");
    }
    let tenants = usage("tenant");
    let tenants = tenants["data"].as_array().expect("rows are a list");
    assert!(tenants.len() >= 18, "{} of twenty called", tenants.len());
    // The books are sound, and the installation serves.
    product.done(&["ledger", "verify"]);
    product.done(&["audit", "verify"]);
    assert_eq!(product.chat(&product.key_of("acme"), "Hello?").0, 200);
}
