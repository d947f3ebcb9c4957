//! Whatever is published can be loaded: for each kind of reference between resources, what it names
//! is taken away. Either that is refused, with a sentence, or the next start finds a sound
//! catalogue.

use axum::http::Method;
use serde_json::{Value, json};

use super::House;

/// What happens when the target of a reference is taken away.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Outcome {
    /// It is refused, and the refusal names who refers to it.
    Refused,
    /// It is done: nothing that starts looks the name up, or calls are refused by it.
    Done,
}
use Outcome::{Done, Refused};

struct Case {
    /// The resource that refers, and what it is.
    from: (&'static str, Value),
    /// What takes away that which it names: a resource that is removed, or put otherwise.
    away: (&'static str, Value),
    outcome: Outcome,
}

fn case(from: (&'static str, Value), away: (&'static str, Value), outcome: Outcome) -> Case {
    Case {
        from,
        away,
        outcome,
    }
}

const CONFIG: &str = "tenants/acme/config";

/// What every house of these has: something of each kind that can be named.
async fn house() -> House {
    let house = House::new().await;
    house.onboard("acme").await;
    let chat = json!({"targets": [{"upstream": "vllm", "model": "m"}], "output_tokens_max": 64});
    let adapters = json!({"count_max": 2, "references": ["/adapters/"]});
    for (path, spec) in [
        ("tiers/free", json!({"adapters": adapters})),
        ("tiers/spare", json!({})),
        (
            "upstreams/own",
            json!({"engine": "anthropic", "credential_of": "tenant"}),
        ),
        (
            "upstreams/vllm",
            json!({
                "engine": "vllm", "base_url": "http://e.example", "adapters": {"slots": 2},
                "salting": "derived",
            }),
        ),
        ("routes/chat", chat.clone()),
        (
            "routes/cheap",
            json!({
                "targets": [{"upstream": "own", "model": "m"}], "output_tokens_max": 64,
            }),
        ),
        (
            "sharing-groups/owner",
            json!({"members": ["acme", "globex"]}),
        ),
        ("tenants/acme/teams/core", json!({})),
        ("tenants/acme/users/ada", json!({})),
        ("tenants/acme/features/chat", json!({})),
        (
            "tenants/acme/prompts/support",
            json!({"active": 1, "versions": {"1": {"template": "Be brief."}}}),
        ),
    ] {
        house.put(&format!("/admin/v1/{path}"), spec).await.ok();
    }
    let key = json!({"name": "prod"});
    house.post("/admin/v1/tenants/acme/keys", key).await.ok();
    house
}

fn cases() -> Vec<Case> {
    let budget = |subject: &str| json!({"subject": subject, "limit": "5"});
    let downgrade =
        || json!({"subject": "tenant", "limit": "5", "on_exhausted": {"downgrade": "cheap"}});
    let limit = |subject: &str| json!({"subject": subject, "requests_per_minute": 5});
    let guard = |check: Value| json!({"looks_at": "input", "checks": [{"name": "c", "action": "flag", "check": check}]});
    let semantic = json!({"mode": "semantic", "ttl_seconds": 60, "embedding_model": "cheap"});
    let gone = Value::Null;
    let topic = json!([{"name": "law", "examples": ["May I sue?"]}]);
    let adapter = json!({"base": "chat", "source": {"reference": {"location": "/adapters/a"}}});
    let tier = |part: Value| ("tiers/free", part);
    let platform = vec![
        case(
            (
                "routes/m",
                json!({"targets": [{"upstream": "own", "model": "m"}], "output_tokens_max": 9}),
            ),
            ("upstreams/own", gone.clone()),
            Refused,
        ),
        case(
            (
                "routes/m",
                json!({"targets": [{"upstream": "own", "model": "m"}], "output_tokens_max": 9, "tiers": ["spare"]}),
            ),
            ("tiers/spare", gone.clone()),
            Refused,
        ),
        case(
            (
                "routes/m",
                json!({"targets": [{"upstream": "own", "model": "m"}], "output_tokens_max": 9,
            "variants": [{"tiers": ["spare"], "targets": [{"upstream": "own", "model": "n"}]}]}),
            ),
            ("tiers/spare", gone.clone()),
            Refused,
        ),
        case(
            (
                "routes/m",
                json!({"targets": [{"upstream": "own", "model": "m"}], "output_tokens_max": 9,
            "variants": [{"tenants": ["acme"], "targets": [{"upstream": "own", "model": "n"}]}]}),
            ),
            ("tenants/acme?confirm=acme", gone.clone()),
            Done,
        ),
        case(
            ("tiers/other", json!({"budgets": {"b": downgrade()}})),
            ("routes/cheap", gone.clone()),
            Refused,
        ),
        case(
            (
                "upstreams/mine",
                json!({"engine": "open-ai", "salting": "exclusive", "exclusive_to": "acme"}),
            ),
            ("tenants/acme?confirm=acme", gone.clone()),
            Done,
        ),
        case(
            (
                "sharing-groups/owner",
                json!({"members": ["acme", "globex"]}),
            ),
            ("tenants/acme?confirm=acme", gone.clone()),
            Done,
        ),
    ];
    let secret = "sk-acme-0123456789";
    let credential = || {
        (
            "tenants/acme/credentials/own",
            json!({"upstream": "own", "secret": secret}),
        )
    };
    let tenants = vec![
        case(
            ("tenants/acme", json!({"tier": "spare"})),
            ("tiers/spare", gone.clone()),
            Refused,
        ),
        case(credential(), ("upstreams/own", gone.clone()), Refused),
        case(
            credential(),
            ("upstreams/own", json!({"engine": "anthropic"})),
            Refused,
        ),
        case(
            ("tenants/acme/adapters/a", adapter.clone()),
            ("routes/chat", gone.clone()),
            Refused,
        ),
        case(
            ("tenants/acme/adapters/a", adapter.clone()),
            (
                "upstreams/vllm",
                json!({"engine": "vllm", "base_url": "http://e.example"}),
            ),
            Refused,
        ),
        case(
            ("tenants/acme/adapters/a", adapter.clone()),
            tier(json!({})),
            Refused,
        ),
        case(
            ("tenants/acme/adapters/a", adapter),
            ("tenants/acme", json!({"tier": "spare"})),
            Refused,
        ),
        case(
            ("tenants/acme/budgets/b", downgrade()),
            ("routes/cheap", gone.clone()),
            Refused,
        ),
        case(
            (CONFIG, json!({"cache": semantic})),
            ("routes/cheap", gone.clone()),
            Refused,
        ),
        case(
            (CONFIG, json!({"sharing_group": "owner"})),
            ("sharing-groups/owner", gone.clone()),
            Refused,
        ),
        case(
            (CONFIG, json!({"models": ["cheap"]})),
            ("routes/cheap", gone.clone()),
            Done,
        ),
        case(
            (CONFIG, json!({"prompt": "support"})),
            ("tenants/acme/prompts/support", gone.clone()),
            Refused,
        ),
        case(
            (
                CONFIG,
                json!({"cache": {"ttl_seconds": 60, "features": ["nobody-declared"]}}),
            ),
            (
                "tenants/acme",
                json!({"tier": "free", "requires_known_feature": true}),
            ),
            Refused,
        ),
        case(
            (
                "tenants/acme/limits/l",
                json!({"subject": "tenant", "model": "cheap", "requests_per_minute": 5}),
            ),
            ("routes/cheap", gone.clone()),
            Done,
        ),
        case(
            ("tenants/acme/features/chat", json!({"prompt": "support@1"})),
            ("tenants/acme/prompts/support", gone.clone()),
            Refused,
        ),
    ];
    let checks = [
        json!({"judge": {"model": "cheap", "question": "Is it?"}}),
        json!({"moderation": {"model": "cheap"}}),
        json!({"topics": {"model": "cheap", "denied": topic}}),
    ];
    let guards = checks.map(|check| {
        case(
            ("tenants/acme/guardrails/g", guard(check)),
            ("routes/cheap", gone.clone()),
            Refused,
        )
    });
    let subjects = [
        ("team:core", "tenants/acme/teams/core"),
        ("user:ada", "tenants/acme/users/ada"),
        ("key:prod", "tenants/acme/keys/prod"),
        ("feature:chat", "tenants/acme/features/chat"),
    ];
    let subjects = subjects.into_iter().flat_map(|(subject, path)| {
        [
            case(
                ("tenants/acme/budgets/b", budget(subject)),
                (path, gone.clone()),
                Refused,
            ),
            case(
                ("tenants/acme/limits/l", limit(subject)),
                (path, gone.clone()),
                Refused,
            ),
        ]
    });
    // Whoever removes a team or a user shuts out all that belongs to it, in one act.
    let belonging = [
        (
            "tenants/acme/users/bob",
            json!({"team": "core"}),
            "tenants/acme/teams/core",
        ),
        (
            "tenants/acme/keys/prod",
            json!({"team": "core"}),
            "tenants/acme/teams/core",
        ),
        (
            "tenants/acme/keys/prod",
            json!({"user": "ada"}),
            "tenants/acme/users/ada",
        ),
        (
            "tenants/acme/keys/prod",
            json!({"default_feature": "chat"}),
            "tenants/acme/features/chat",
        ),
    ];
    let belonging =
        belonging.map(|(from, spec, path)| case((from, spec), (path, gone.clone()), Done));
    let all = platform.into_iter().chain(tenants).chain(guards);
    all.chain(subjects).chain(belonging).collect()
}

#[tokio::test]
async fn what_a_reference_names_cannot_go_so_that_the_next_start_fails() {
    for case in cases() {
        let house = house().await;
        let ((from, spec), (away, instead)) = (case.from, case.away);
        let told = format!("{from} {spec}, {away} {instead}");
        let put = house.put(&format!("/admin/v1/{from}"), spec).await;
        assert!(put.status.is_success(), "{told}: {}", put.text);
        let method = if instead.is_null() {
            Method::DELETE
        } else {
            Method::PUT
        };
        let path = format!("/admin/v1/{away}");
        let answer = house.call(&house.operator, method, &path, instead).await;
        match case.outcome {
            Refused => {
                assert_eq!(answer.status, 422, "{told}: {}", answer.text);
                let referring = from.rsplit('/').next().expect("a name");
                assert!(answer.text.contains(referring), "{told}: {}", answer.text);
            }
            Done => assert!(answer.status.is_success(), "{told}: {}", answer.text),
        }
        let version = house.current().version();
        let root = house.root_key();
        let house = house.restarted(root);
        assert_eq!(house.current().version(), version, "{told}");
    }
}

#[tokio::test]
async fn a_reference_and_what_it_names_go_in_one_version() {
    let house = house().await;
    let credential = json!({"upstream": "own", "secret": "sk-acme-0123456789"});
    let path = "/admin/v1/tenants/acme/credentials/own";
    house.put(path, credential).await.ok();
    let refused = house.delete("/admin/v1/upstreams/own").await;
    assert!(refused.text.contains("remove it first"), "{}", refused.text);
    house.delete(path).await.ok();
    house.delete("/admin/v1/routes/cheap").await.ok();
    house.delete("/admin/v1/upstreams/own").await.ok();
}
