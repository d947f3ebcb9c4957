//! What is checked, signed and kept from others by the real binary.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use serde_json::{Value, json};

use crate::product::{Running, exchange, run};

/// The status and the body of a call of the admin API by the first operator.
fn admin(product: &Running, method: &str, path: &str, body: &Value) -> (u16, Value) {
    let read = |name: &str| std::fs::read_to_string(product.data.join(name)).expect(name);
    let url = format!("{}/admin/v1{path}", read("admin.url").trim());
    exchange(method, &url, read("operator.key").trim(), &body.to_string())
}

#[test]
fn a_configuration_that_no_call_could_use_is_not_published() {
    let folder = tempfile::tempdir().unwrap();
    let product = Running::quickstart(&folder.path().join("data"), &[]);
    let put = |config: Value| admin(&product, "PUT", "/tenants/acme/config", &config);
    let version = || product.done(&["versions", "--json"]).json()["data"][0]["version"].clone();
    let before = version();
    for (config, said) in [
        (json!({"system_prompt": "{% if %}"}), "does not compile"),
        (
            json!({"forced_parameters": {"cache_salt": "mine"}}),
            "a parameter cannot be set",
        ),
        (
            json!({"default_parameters": {"prompt_cache_key": "mine"}}),
            "a parameter cannot be set",
        ),
    ] {
        let (status, refused) = put(config);
        assert_eq!(status, 422, "{refused}");
        let detail = &refused["error"]["details"][0];
        assert_eq!(detail["address"], "acme/configs/config", "{refused}");
        let message = detail["message"].as_str().unwrap();
        assert!(message.contains(said), "{message}");
    }
    assert_eq!(version(), before);
    let words = ["config", "set", "-t", "acme", "--system-prompt", "{% if %}"];
    let refused = product.cli(&words);
    assert_eq!(refused.code, Some(1));
    assert!(refused.err.contains("does not compile"), "{}", refused.err);
    let (status, answer) = put(json!({"system_prompt": "{% if true %}Be brief.{% endif %}"}));
    assert_eq!(status, 200, "{answer}");
    assert_eq!(product.chat(&product.key_of("acme"), "hello").0, 200);
}

#[test]
fn a_tenants_webhook_secret_is_its_own_and_shown_on_record() {
    let folder = tempfile::tempdir().unwrap();
    let product = Running::quickstart(&folder.path().join("data"), &[]);
    let secret = |tenant| product.done(&["tenant", "webhook-secret", tenant]).out;
    let acme = secret("acme");
    let base64 = acme
        .trim()
        .strip_prefix("whsec_")
        .expect("the standard's form");
    assert_eq!(base64.len(), 44, "32 bytes");
    assert_ne!(acme, secret("globex"));
    assert_eq!(acme, secret("acme"));
    let made = product
        .done(&["tenant", "onboard", "initech", "--tier", "team", "--json"])
        .json();
    let own = made["first_key"]["key"].as_str().unwrap();
    let shown = product.done(&["tenant", "webhook-secret", "initech", "--key", own]);
    assert!(shown.out.starts_with("whsec_"), "{}", shown.out);
    let foreign = product.cli(&["tenant", "webhook-secret", "acme", "--key", own]);
    assert_eq!(foreign.code, Some(1));
    assert!(!foreign.out.contains("whsec_"), "{}", foreign.out);
    let log = product
        .done(&["audit", "list", "-t", "initech", "--json"])
        .out;
    assert!(
        log.contains("get_webhook_secret") && !log.contains("whsec_"),
        "{log}"
    );
}

#[test]
fn a_token_outlives_the_rotation_of_the_key_that_signed_it() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let product = Running::quickstart(&data, &[]);
    let key = product.key_of("acme");
    let origin = |product: &Running| {
        let base_url = product.made["base_url"].as_str().expect("a URL is text");
        base_url.strip_suffix("/v1").expect("it ends so").to_owned()
    };
    let key_ids = |product: &Running| -> Vec<String> {
        let url = format!("{}/.well-known/jwks.json", origin(product));
        let (_, set) = exchange("GET", &url, "", "");
        let keys = set["keys"].as_array().expect("a key set").iter();
        keys.map(|key| key["kid"].as_str().expect("text").to_owned())
            .collect()
    };
    let token = |product: &Running| {
        let url = format!("{}/oauth/token", origin(product));
        let form = "grant_type=urn:ietf:params:oauth:grant-type:token-exchange";
        let (status, answer) = exchange("POST", &url, &key, form);
        assert_eq!(status, 200, "{answer}");
        answer["access_token"].as_str().unwrap().to_owned()
    };
    let before = key_ids(&product);
    let old = token(&product);
    let rotated = product.done(&["token-keys", "rotate", "--json"]).json();
    let after = key_ids(&product);
    assert_eq!(
        (after[0].as_str(), &after[1..]),
        (rotated["current"].as_str().unwrap(), &before[..])
    );
    let new = token(&product);
    for token in [&old, &new] {
        assert_eq!(product.chat(token, "hello").0, 200);
    }
    let again = product.cli(&["token-keys", "rotate"]);
    assert_eq!(again.code, Some(1));
    assert!(again.err.contains("rotate again after"), "{}", again.err);

    assert_eq!(product.stop(), Some(0));
    let product = Running::quickstart(&data, &[]);
    assert_eq!(key_ids(&product), after);
    for token in [&old, &new] {
        assert_eq!(product.chat(token, "hello").0, 200);
    }
}

#[test]
fn every_file_of_the_data_folder_is_its_owners_alone() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let product = Running::quickstart(&data, &[]);
    assert_eq!(product.chat(&product.key_of("acme"), "hello").0, 200);
    product.done(&["usage", "-t", "acme"]);
    let other = folder.path().join("other");
    let path = other.to_str().unwrap();
    assert_eq!(run(&["init", "--data", path]).code, Some(0));
    for folder in [&data, &other] {
        let seen = check_private(folder);
        assert!(seen >= 5, "{seen} files in {}", folder.display());
    }
}

/// How many files there are, none of which anybody but its owner may read.
fn check_private(folder: &Path) -> usize {
    let mut seen = 0;
    for entry in std::fs::read_dir(folder).expect("it is a folder") {
        let path = entry.expect("it can be listed").path();
        // A draft may have taken its place meanwhile.
        let Ok(metadata) = std::fs::metadata(&path) else {
            continue;
        };
        let mode = metadata.permissions().mode() & 0o777;
        assert_eq!(mode & 0o077, 0, "{}: {mode:o}", path.display());
        seen += 1;
        if metadata.is_dir() {
            seen += check_private(&path);
        }
    }
    seen
}
