//! Administering by the command line.

use std::path::Path;

use crate::product::{Running, post, run};

fn edit(file: &Path, from: &str, to: &str) {
    let text = std::fs::read_to_string(file).expect("it was exported");
    assert!(text.contains(from), "{text}");
    std::fs::write(file, text.replace(from, to)).expect("it can be written");
}

#[test]
fn the_catalogue_is_a_folder() {
    let folder = tempfile::tempdir().unwrap();
    let product = Running::quickstart(&folder.path().join("data"), &[]);
    let out = folder.path().join("out");
    let path = out.to_str().unwrap();
    product.done(&["export", "-o", path]);
    let before = product.done(&["versions", "--json"]).json()["data"][0]["version"].clone();
    let nothing = product.done(&["apply", "-f", path, "--prune"]);
    assert!(
        nothing.out.starts_with("0 new, 0 changed, 0 removed"),
        "{}",
        nothing.out
    );

    let tiers = out.join("tiers.toml");
    edit(
        &tiers,
        "requests_per_minute = 120",
        "requests_per_minute = 7",
    );
    let shown = product.done(&["apply", "-f", path, "--dry-run"]);
    assert!(
        shown
            .out
            .contains("limits.rate.requests_per_minute: 120 → 7"),
        "{}",
        shown.out
    );
    let nobody = product.cli(&["apply", "-f", path]);
    assert_eq!(nobody.code, Some(1));
    assert!(nobody.err.contains("repeat with --yes"), "{}", nobody.err);
    let unchanged = product.done(&["versions", "--json"]).json()["data"][0]["version"].clone();
    assert_eq!(unchanged, before);
    let applied = product
        .done(&["apply", "-f", path, "--yes", "--json"])
        .json();
    assert_eq!(applied["version"], before.as_u64().unwrap() + 1);

    std::fs::write(
        out.join("tenants/initech.toml"),
        "[tenant]\ntier = \"free\"\n[key.app]\nrole = \"service\"\n",
    )
    .unwrap();
    let applied = product
        .done(&["apply", "-f", path, "--yes", "--json"])
        .json();
    let key = applied["created_keys"][0]["key"].as_str().unwrap();
    assert_eq!(product.chat(key, "hello").0, 200);

    edit(&tiers, "models = []", "modles = []");
    let refused = product.cli(&["apply", "-f", path, "--yes"]);
    assert_eq!(refused.code, Some(1));
    assert!(
        refused
            .err
            .contains("unknown key `modles`; did you mean `models`?"),
        "{}",
        refused.err
    );
    edit(&tiers, "modles = []", "models = []");
    edit(&out.join("tenants/initech.toml"), "\"free\"", "\"gold\"");
    let refused = product.cli(&["apply", "-f", path, "--yes"]);
    assert!(
        refused.err.contains("there is no tier `gold`"),
        "{}",
        refused.err
    );
}

#[test]
fn a_tenant_lives_from_onboarding_to_its_end() {
    let folder = tempfile::tempdir().unwrap();
    let product = Running::quickstart(&folder.path().join("data"), &[]);
    let made = product
        .done(&["tenant", "onboard", "initech", "--tier", "team", "--json"])
        .json();
    let admin = made["first_key"]["key"].as_str().unwrap().to_owned();
    assert_eq!(product.chat(&admin, "hello").0, 200);

    let made = product
        .done(&[
            "key",
            "create",
            "small",
            "-t",
            "initech",
            "--model",
            "sim-large",
            "--json",
        ])
        .json();
    let key = made["key"].as_str().unwrap().to_owned();
    assert_ne!(product.chat(&key, "hello").0, 200);
    product.done(&[
        "key",
        "set",
        "small",
        "-t",
        "initech",
        "--model",
        "sim-small",
    ]);
    assert_eq!(product.chat(&key, "hello").0, 200);
    let rotated = product
        .done(&[
            "key",
            "rotate",
            "small",
            "-t",
            "initech",
            "--overlap-seconds",
            "0",
            "--json",
        ])
        .json();
    assert_eq!(product.chat(&key, "hello").0, 401);
    let key = rotated["key"].as_str().unwrap().to_owned();
    assert_eq!(product.chat(&key, "hello").0, 200);
    product.done(&["key", "revoke", "small", "-t", "initech"]);
    assert_eq!(product.chat(&key, "hello").0, 401);

    product.done(&["tenant", "rotate-key", "initech"]);
    assert_eq!(product.chat(&admin, "hello").0, 200);
    // Its own administrator reaches its own, and nothing else is there.
    let own = [
        "team",
        "create",
        "core",
        "-t",
        "initech",
        "--key",
        admin.as_str(),
    ];
    product.done(&own);
    let other = product.cli(&["team", "list", "-t", "acme", "--key", &admin]);
    assert_eq!(other.code, Some(1));
    assert!(other.err.contains("there is nothing here"), "{}", other.err);

    let missing = product.cli(&["team", "set", "nobody", "-t", "acme", "--set", "a=1"]);
    assert_eq!(missing.code, Some(1));
    assert!(
        missing.err.contains("`create` makes one"),
        "{}",
        missing.err
    );

    product.done(&["config", "set", "-t", "initech", "--set", "flags.beta=true"]);
    product.done(&[
        "config",
        "set",
        "-t",
        "initech",
        "--set",
        "flags.beta=false",
    ]);
    let versions = product
        .done(&["config", "versions", "-t", "initech", "--json"])
        .json();
    let first = versions["data"][1]["version"].to_string();
    let back = product
        .done(&[
            "config", "rollback", &first, "-t", "initech", "--yes", "--json",
        ])
        .json();
    assert_eq!(back["spec"]["flags"]["beta"], true);

    product.done(&["tenant", "suspend", "initech"]);
    assert_ne!(product.chat(&admin, "hello").0, 200);
    product.done(&["tenant", "resume", "initech"]);
    assert_eq!(product.chat(&admin, "hello").0, 200);
    product.done(&["tenant", "delete", "initech", "--yes"]);
    assert_eq!(product.chat(&admin, "hello").0, 401);
}

#[test]
fn money_and_acts_are_on_record() {
    let folder = tempfile::tempdir().unwrap();
    let product = Running::quickstart(&folder.path().join("data"), &[]);
    let key = product.key_of("acme");
    product.done(&[
        "budget",
        "create",
        "tiny",
        "-t",
        "acme",
        "--subject",
        "key:app",
        "--limit",
        "0.01",
    ]);
    for _ in 0..3 {
        assert_eq!(product.chat(&key, "[[tokens:8]]").0, 200);
    }
    let usage = product
        .done(&["usage", "-t", "acme", "--by", "model", "--json"])
        .json();
    let row = &usage["data"][0];
    assert_eq!(
        (&row["requests"], &row["output_tokens"]),
        (&3.into(), &24.into())
    );
    let csv = product
        .done(&["usage", "-t", "acme", "--by", "model,key", "--csv"])
        .out;
    assert!(csv.starts_with("model,key,requests,"), "{csv}");
    assert!(
        csv.lines().nth(1).unwrap().starts_with("sim-small,app,3,"),
        "{csv}"
    );
    let budgets = product
        .done(&["budget", "status", "-t", "acme", "--json"])
        .json();
    let rows = budgets["data"].as_array().unwrap();
    let tiny = rows.iter().find(|row| row["budget"] == "tiny").unwrap();
    assert_eq!(
        (&tiny["spent"], &tiny["held"]),
        (&row["cost"], &"0.00".into())
    );
    let ledger = product.done(&["ledger", "verify", "--json"]).json();
    assert_eq!(
        (&ledger["ok"], &ledger["fault_count"]),
        (&true.into(), &0.into())
    );

    product.done(&["audit", "verify"]);
    product.done(&["audit", "verify", "-t", "acme"]);
    let list = product
        .done(&["audit", "list", "--json", "--all", "--page-size", "2"])
        .json();
    let acts = list["data"].as_array().unwrap();
    assert!(
        acts.iter()
            .any(|row| row["entry"]["action"] == "put_budget"),
        "{list}"
    );
    let export = folder.path().join("log.jsonl");
    let path = export.to_str().unwrap();
    product.done(&["audit", "export", "-o", path]);
    let public = product.done(&["audit", "key"]).out;
    // What is refused leaves no file, and no part of one.
    let invoice = folder.path().join("invoice.pdf");
    let (month, output) = ("2026-01", invoice.to_str().unwrap());
    let words = [
        "invoice", "export", month, "-t", "acme", "--format", "pdf", "-o", output,
    ];
    let refused = product.cli(&words);
    assert!(refused.err.contains("no price book"), "{}", refused.err);
    let files = std::fs::read_dir(folder.path()).unwrap();
    let names = files.map(|file| file.unwrap().file_name().into_string().unwrap());
    assert!(names.filter(|name| name.starts_with("invoice")).count() == 0);
    drop(product);

    let verify = |key: &str| run(&["audit", "verify-file", path, "--public-key", key]);
    assert_eq!(verify(public.trim()).code, Some(0));
    let text = std::fs::read_to_string(&export).unwrap();
    std::fs::write(&export, text.replace("put_budget", "get_budget")).unwrap();
    let changed = verify(public.trim());
    assert_eq!(changed.code, Some(1));
    assert!(changed.err.contains("does not hold"), "{}", changed.err);
}

#[test]
fn the_root_key_is_rotated_while_serving() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let product = Running::quickstart(&data, &[]);
    let key = product.key_of("acme");
    let other = folder.path().join("other");
    assert_eq!(
        run(&["init", "--data", other.to_str().unwrap()]).code,
        Some(0)
    );
    let reference = format!("file:{}", other.join("root.key").display());
    product.done(&["root-key", "rotate", "--to", &reference]);
    assert_eq!(product.chat(&key, "hello").0, 200);
    assert_eq!(product.stop(), Some(0));

    let path = data.to_str().unwrap();
    let refused = run(&[
        "quickstart",
        "--data",
        path,
        "--port",
        "0",
        "--admin-port",
        "0",
    ]);
    assert_eq!(refused.code, Some(1));
    assert!(
        refused.err.contains("does not open with this root key"),
        "{}",
        refused.err
    );
    std::fs::copy(other.join("root.key"), data.join("root.key")).unwrap();
    let product = Running::quickstart(&data, &[]);
    assert_eq!(product.chat(&key, "hello").0, 200);
}

#[test]
fn usage_errors_are_two_and_failures_are_one() {
    assert_eq!(run(&["tenant", "frobnicate"]).code, Some(2));
    assert_eq!(run(&["key", "create", "x"]).code, Some(2));
    let nobody = run(&[
        "tenant",
        "list",
        "--url",
        "http://127.0.0.1:1",
        "--key",
        "pw_x",
    ]);
    assert_eq!(nobody.code, Some(1));
    assert!(
        nobody.err.contains("Is `partywall serve`"),
        "{}",
        nobody.err
    );
    let completions = run(&["completions", "bash"]);
    assert!(completions.out.contains("_partywall") && completions.code == Some(0));
}

#[test]
fn what_a_crash_left_unknown_is_reconciled() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let product = Running::quickstart(&data, &[]);
    let key = product.key_of("acme");
    product.done(&[
        "budget",
        "create",
        "month",
        "-t",
        "acme",
        "--subject",
        "tenant",
        "--limit",
        "5",
    ]);
    let base_url = product.made["base_url"].as_str().unwrap().to_owned();
    let body = serde_json::json!({
        "model": "sim-small",
        "messages": [{"role": "user", "content": "[[fault:hang]]"}],
    });
    let call = std::thread::spawn(move || {
        // It ends with the process that would have answered.
        let url = format!("{base_url}/chat/completions");
        drop(std::panic::catch_unwind(|| post(&url, &key, &body)));
    });
    // The call is under way, and the disk knows it.
    while product.done(&["ledger", "verify", "--json"]).json()["open"] != 1 {}
    product.signal("KILL");
    call.join().unwrap();
    drop(product);

    let product = Running::quickstart(&data, &[]);
    let month = || {
        let status = product.done(&["budget", "status", "-t", "acme", "--json"]);
        let rows = status.json()["data"].as_array().unwrap().clone();
        rows.into_iter()
            .find(|row| row["budget"] == "month")
            .unwrap()
    };
    let unsettled = || {
        let listed = product.done(&["ledger", "unsettled", "-t", "acme", "--json"]);
        listed.json()["data"].as_array().unwrap().clone()
    };
    let rows = unsettled();
    let call = rows.iter().find(|row| row["kind"] == "call").unwrap();
    let lease = rows.iter().find(|row| row["budget"] == "month").unwrap();
    assert_eq!(lease["subject"], "tenant");
    let amount = |row: &serde_json::Value, field: &str| -> base::PicoUsd {
        row[field].as_str().unwrap().parse().unwrap()
    };
    let counted = amount(call, "amount") + amount(lease, "amount");
    assert_eq!(amount(&month(), "spent"), counted);

    let attempt = call["attempt"].as_str().unwrap();
    product.done(&[
        "ledger",
        "reconcile",
        attempt,
        "-t",
        "acme",
        "--cost",
        "0.01",
    ]);
    let args = [
        "ledger",
        "reconcile-lease",
        "-t",
        "acme",
        "--budget",
        "month",
    ];
    product.done(&[&args[..], &["--all"]].concat());
    assert_eq!(month()["spent"], "0.01");
    let is_month = |row: &serde_json::Value| row["budget"] == "month" || row["kind"] == "call";
    assert!(!unsettled().iter().any(is_month));
    assert_eq!(product.stop(), Some(0));

    // The next start knows it too.
    let product = Running::quickstart(&data, &[]);
    let status = product.done(&["budget", "status", "-t", "acme", "--json"]);
    let rows = status.json()["data"].as_array().unwrap().clone();
    let month = rows.iter().find(|row| row["budget"] == "month").unwrap();
    assert_eq!(month["spent"], "0.01");
    let ledger = product.done(&["ledger", "verify", "--json"]).json();
    assert_eq!(ledger["fault_count"], 0);
}
