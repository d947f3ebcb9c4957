//! A tenant's own behaviour by the command line: prompts and guardrails.

use serde_json::{Value, json};

use crate::product::{Running, post};

const OF: [&str; 2] = ["-t", "acme"];

fn with<'w>(words: &[&'w str]) -> Vec<&'w str> {
    [words, &OF].concat()
}

fn refused(product: &Running, words: &[&str]) -> String {
    let said = product.cli(&with(words));
    assert_eq!(said.code, Some(1), "{}", said.out);
    said.err
}

#[test]
fn a_prompt_gets_versions_is_compared_and_goes_back() {
    let folder = tempfile::tempdir().unwrap();
    let product = Running::quickstart(&folder.path().join("data"), &[]);
    let done = |words: &[&str]| product.done(&with(words));
    let first = "Help {{ name }}.\nBe brief.";
    let added = done(&[
        "prompt",
        "add",
        "desk",
        "--template",
        first,
        "--variable",
        "name",
    ]);
    assert!(added.out.contains("version 1 is active"), "{}", added.out);
    let second = "Help {{ name }} with {{ product }}.\nBe brief.";
    let words = [
        "prompt",
        "add",
        "desk",
        "--template",
        second,
        "--variable",
        "name",
        "--variable",
        "product:64=the house",
        "--note",
        "what for",
        "--activate",
    ];
    let added = done(&words);
    assert!(added.out.contains("version 2 is active"), "{}", added.out);
    let told = done(&["prompt", "render", "desk", "--var", "name=Ada"]);
    assert_eq!(told.out, "Help Ada with the house.\nBe brief.\n");
    let told = done(&[
        "prompt",
        "render",
        "desk",
        "--number",
        "1",
        "--var",
        "name={{ 7 }}",
    ]);
    assert_eq!(told.out, "Help {{ 7 }}.\nBe brief.\n");
    let missing = refused(&product, &["prompt", "render", "desk"]);
    assert!(missing.contains("`name`"), "{missing}");
    let compared = done(&["prompt", "diff", "desk", "1", "2"]);
    assert!(
        compared.out.contains("- Help {{ name }}.\n"),
        "{}",
        compared.out
    );
    assert!(compared.out.contains("  Be brief."), "{}", compared.out);
    let wrong = ["prompt", "add", "desk", "--template", "{{ who }}"];
    assert!(refused(&product, &wrong).contains("`who`"));

    done(&["feature", "create", "helpdesk", "--prompt", "desk"]);
    let key = product.key_of("acme");
    let call = |variables: Value| {
        let mut call =
            json!({"model": "sim-small", "messages": [{"role": "user", "content": "hi"}]});
        call["partywall"] = json!({"prompt": "desk", "variables": variables});
        post(&product.chat_url(), &key, &call)
    };
    assert_eq!(call(json!({"name": "Ada"})).0, 200);
    assert_eq!(call(json!({})).0, 400);
    done(&["prompt", "rollback", "desk"]);
    let shown = product
        .done(&with(&["prompt", "show", "desk", "--json"]))
        .json();
    assert_eq!(shown["spec"]["active"], 1);
    assert_eq!(call(json!({"name": "Ada", "product": "x"})).0, 400);
    assert!(refused(&product, &["prompt", "rollback", "desk"]).contains("no version before"));
    done(&["prompt", "activate", "desk", "2"]);
    assert_eq!(call(json!({"name": "Ada", "product": "x"})).0, 200);
    let kept = refused(&product, &["prompt", "delete", "desk", "--yes"]);
    assert!(kept.contains("helpdesk"), "{kept}");
    let other = product
        .done(&["prompt", "list", "-t", "globex", "--json"])
        .json();
    assert_eq!(other["data"], json!([]));
}

#[test]
fn a_guardrail_is_written_by_flags_and_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let product = Running::quickstart(&folder.path().join("data"), &[]);
    let checks = folder.path().join("checks.json");
    let list = r#"[{"name": "birds", "action": "block", "check": {"deny-list": {"entries": ["falcon"]}}}]"#;
    std::fs::write(&checks, list).unwrap();
    let file = format!("@{}", checks.display());
    let words = [
        "guardrail",
        "create",
        "wall",
        "--looks-at",
        "input",
        "--checks",
        &file,
    ];
    product.done(&with(&words));
    let key = product.key_of("acme");
    let (status, said) = product.chat(&key, "a falcon");
    assert_eq!(
        (status, &said["error"]["code"]),
        (400, &json!("content_blocked"))
    );
    assert_eq!(product.chat(&key, "a hawk").0, 200);
    product.done(&with(&["guardrail", "set", "wall", "--on-failure", "open"]));
    let listed = product.done(&with(&["guardrail", "list", "--json"])).json();
    assert_eq!(listed["data"][0]["spec"]["on_failure"], "open");
    let wrong = ["guardrail", "set", "wall", "--looks-at", "everything"];
    assert!(refused(&product, &wrong).contains("everything"));
    product.done(&with(&["guardrail", "delete", "wall", "--yes"]));
    assert_eq!(product.chat(&key, "a falcon").0, 200);
}
