use std::path::Path;

use serde_json::json;
use tenancy::catalogue::Kind;

use super::*;

const TIERS: &str = r#"
[tier.free]
description = "to try it"
models = ["gpt-4o-mini"]

[tier.free.limits.rate]
subject = "tenant"
requests_per_minute = 60

[tier.free.budgets.month]
subject = "each:user"
limit = "25.00"
window = "monthly"
on_exhausted = { downgrade = "gpt-4o-mini" }
"#;

const PRICES: &str = r#"
[[price."openai/gpt-4o-mini".entries]]
version = 1
effective_from = 2024-07-18T00:00:00Z
input = "0.00000015"
output = "0.0000006"
"#;

const ACME: &str = r#"
[tenant]
tier = "free"
zone = "Europe/Berlin"

[team.core]

[users.ada]
team = "core"

[keys.prod]
role = "service"
expires_at = "2030-01-01T00:00:00Z"

[guardrails.wall]
looks_at = "both"
on_failure = "open"
[[guardrails.wall.checks]]
name = "harm"
action = "block"
check = { moderation = { model = "omni-moderation-latest", threshold = 60 } }

[prompts.support]
active = 2
[prompts.support.versions.1]
template = "Be kind."
[prompts.support.versions.2]
template = "Be kind to {{ name }}."
note = "by name"
variables = { name = { required = true } }

[feature.desk]
prompt = "support"

[config]
system_prompt = """
You are {{ tenant }}'s.
"quoted" """
[config.forced_parameters]
temperature = 0.5
[config.flags]
beta = true
"#;

fn folder_of(files: &[(&str, &str)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join(TENANTS)).unwrap();
    for (name, text) in files {
        std::fs::write(folder.path().join(name), text).unwrap();
    }
    folder
}

fn mistakes(files: &[(&str, &str)]) -> String {
    let folder = folder_of(files);
    let text = read(folder.path()).unwrap_err().to_string();
    text.replace(&format!("{}/", folder.path().display()), "")
}

#[test]
fn files_become_manifests() {
    let files = [
        ("tiers.toml", TIERS),
        ("any.toml", PRICES),
        ("tenants/acme.toml", ACME),
    ];
    let manifests = read(folder_of(&files).path()).unwrap();
    let found = |kind: Kind, name: &str| {
        manifests
            .iter()
            .find(|it| it.kind == kind && it.name == name)
            .expect(name)
    };
    assert_eq!(manifests.len(), 10);
    assert_eq!(found(Kind::Tenant, "acme").tenant, None);
    assert_eq!(
        found(Kind::Config, "config")
            .tenant
            .as_ref()
            .unwrap()
            .as_str(),
        "acme"
    );
    assert_eq!(found(Kind::Team, "core").spec, json!({}));
    let wall = &found(Kind::Guardrail, "wall").spec;
    assert_eq!(
        (&wall["looks_at"], &wall["on_failure"]),
        (&json!("both"), &json!("open"))
    );
    assert_eq!(wall["checks"][0]["check"]["moderation"]["threshold"], 60);
    let support = &found(Kind::Prompt, "support").spec;
    assert_eq!(
        (&support["active"], &support["versions"]["1"]["template"]),
        (&json!(2), &json!("Be kind."))
    );
    assert_eq!(
        support["versions"]["2"]["variables"]["name"],
        json!({"required": true})
    );
    assert_eq!(found(Kind::Feature, "desk").spec["prompt"], "support");
    let key = &found(Kind::Key, "prod").spec;
    assert_eq!(
        (&key["role"], key.get("hash"), key.get("id")),
        (&json!("service"), None, None)
    );
    let budget = &found(Kind::Tier, "free").spec["budgets"]["month"];
    assert_eq!(budget["on_exhausted"], json!({"downgrade": "gpt-4o-mini"}));
    assert_eq!(budget["soft_percent"], 80);
    let price = &found(Kind::Price, "openai/gpt-4o-mini").spec["entries"][0];
    assert_eq!(price["effective_from"], "2024-07-18T00:00:00Z");
}

#[test]
fn what_is_written_reads_back_the_same() {
    let files = [
        ("tiers.toml", TIERS),
        ("prices.toml", PRICES),
        ("tenants/acme.toml", ACME),
    ];
    let mut manifests = read(folder_of(&files).path()).unwrap();
    let copy = tempfile::tempdir().unwrap();
    assert_eq!(write(copy.path(), &manifests, Existing::Refuse).unwrap(), 3);
    let mut again = read(copy.path()).unwrap();
    let by_address = |it: &control::api::Manifest| (it.kind, it.tenant.clone(), it.name.clone());
    manifests.sort_by_key(by_address);
    again.sort_by_key(by_address);
    assert_eq!(manifests, again);
}

#[test]
fn an_export_replaces_only_when_told_to() {
    let manifests = read(folder_of(&[("tenants/acme.toml", ACME)]).path()).unwrap();
    let target = folder_of(&[("tenants/gone.toml", ACME), ("notes.txt", "keep")]);
    let refused = write(target.path(), &manifests, Existing::Refuse).unwrap_err();
    assert!(refused.to_string().contains("--force"), "{refused}");
    write(target.path(), &manifests, Existing::Replace).unwrap();
    let exists = |name: &str| target.path().join(name).exists();
    assert!(exists("tenants/acme.toml") && exists("notes.txt") && !exists("tenants/gone.toml"));
}

#[test]
fn every_mistake_is_named_with_its_place() {
    let table = [
        (
            "tiers.toml",
            "[teir.free]\n",
            "tiers.toml:1:2: unknown key `teir`; did you mean `tier`?",
        ),
        (
            "tiers.toml",
            "[tier.free]\nmodls = []\n",
            "tiers.toml:2:1: unknown key `modls`; did you mean `models`?",
        ),
        (
            "tiers.toml",
            "[tier.free.budgets.month]\nsubject = \"tenant\"\nlimit = \"25,00\"\n",
            "tiers.toml:3:9: `25,00` is not an amount in dollars: write a decimal with at most 12 places, such as \"25.00\"",
        ),
        (
            "keys.toml",
            "[key.prod]\n",
            "keys.toml:1:2: a key is a tenant's: it belongs into tenants/NAME.toml",
        ),
        (
            "tenants/acme.toml",
            "[tier.free]\n",
            "tenants/acme.toml:1:2: a tier is the platform's: it belongs into tiers.toml",
        ),
        (
            "tenants/acme.toml",
            "[key]\nprod = 3\n",
            "tenants/acme.toml:2:8: invalid type: integer `3`, expected struct KeySpec",
        ),
        (
            "tenants/acme.toml",
            "key = 1\n",
            "tenants/acme.toml:1:7: write [key.NAME] and the key below it",
        ),
    ];
    for (file, text, expected) in table {
        assert_eq!(mistakes(&[(file, text)]), expected, "{text}");
    }
}

#[test]
fn mistakes_of_all_files_come_at_once_and_a_secret_is_not_repeated() {
    let upstream =
        "[upstream.a]\nbase_url = \"https://a\"\nprovider = \"a\"\ncredential = \"sk-live-1\"\n";
    let text = mistakes(&[("a.toml", "[tier.x]\ny = 1\n"), ("b.toml", upstream)]);
    assert_eq!(text.lines().count(), 2, "{text}");
    assert!(
        text.contains("b.toml:4:14: a secret is given by reference"),
        "{text}"
    );
    assert!(!text.contains("sk-live"), "{text}");
}

#[test]
fn an_empty_or_absent_folder_is_no_declaration() {
    let folder = tempfile::tempdir().unwrap();
    assert!(matches!(
        read(folder.path()),
        Err(FolderError::Empty { .. })
    ));
    assert!(matches!(
        read(Path::new("/nowhere")),
        Err(FolderError::Read { .. })
    ));
    let misnamed = folder_of(&[("tenants/Acme Inc.toml", ACME)]);
    assert!(matches!(
        read(misnamed.path()),
        Err(FolderError::TenantName { .. })
    ));
}

#[test]
fn a_guardrails_and_a_prompts_mistakes_have_their_place() {
    for (text, expected) in [
        (
            "[prompts.a]\nactive = 1\n[prompts.a.versions.one]\ntemplate = \"x\"\n",
            "a prompt is named",
        ),
        (
            "[guardrails.a]\nlooks_at = \"both\"\nchekcs = []\n",
            "tenants/acme.toml:3:1: unknown key `chekcs`; did you mean `checks`?",
        ),
    ] {
        let said = mistakes(&[("tenants/acme.toml", text)]);
        assert!(said.contains(expected), "{said}");
    }
}
