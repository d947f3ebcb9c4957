//! Who is refused: every row of the table of endpoints, for every way of not being allowed.

use std::collections::BTreeSet;

use base::{TeamId, UserId};
use gateway::{Access, ENDPOINTS, Endpoint, EndpointRow};
use http::{Method, Request};
use http_body_util::Full;
use models::Operation;
use serde_json::json;
use tenancy::catalogue::Kind;

use crate::world::catalogue::{
    ACME, GLOBEX, hierarchy, key, put, put_in, remove_in, route, secret, upstream, with,
};
use crate::world::client::{CHAT, Client, Reply, chat};
use crate::world::{Setup, World};

/// A caller that no row with [`Access::Credential`] may answer.
struct Refused {
    what: &'static str,
    /// The values of the credential's headers.
    headers: Vec<(&'static str, String)>,
}

fn refused(what: &'static str, header: &'static str, value: String) -> Refused {
    let headers = vec![(header, value)];
    Refused { what, headers }
}

fn bearer(what: &'static str, owner: &str) -> Refused {
    refused(what, "authorization", format!("Bearer {}", secret(owner)))
}

fn callers() -> Vec<Refused> {
    let good = format!("Bearer {}", secret("acme"));
    let mut bad_checksum = secret("acme");
    let last = bad_checksum.pop().unwrap();
    bad_checksum.push(if last == 'A' { 'B' } else { 'A' });
    vec![
        Refused {
            what: "no credential",
            headers: Vec::new(),
        },
        refused("an empty one", "authorization", "Bearer ".into()),
        refused(
            "another scheme",
            "authorization",
            "Basic YWxhZGRpbg==".into(),
        ),
        refused("malformed", "authorization", "Bearer sk-1234".into()),
        refused("no token", "authorization", "Bearer a.b.c".into()),
        refused(
            "bad checksum",
            "authorization",
            format!("Bearer {bad_checksum}"),
        ),
        refused("bad checksum", "x-api-key", bad_checksum),
        bearer("unknown", "nobody"),
        refused("unknown", "x-api-key", secret("nobody")),
        bearer("expired", "expired"),
        bearer("revoked", "revoked"),
        bearer("suspended tenant", "suspended"),
        bearer("disabled user", "disabled-user"),
        bearer("removed user", "removed-user"),
        bearer("removed team", "removed-team"),
        bearer("wrong network", "elsewhere"),
        bearer("an operator's", "operator"),
        Refused {
            what: "repeated",
            headers: vec![
                ("authorization", good.clone()),
                ("authorization", good.clone()),
            ],
        },
        Refused {
            what: "two that differ",
            headers: vec![("authorization", good), ("x-api-key", secret("globex"))],
        },
    ]
}

async fn world() -> World {
    let operator = key("operator", json!({}));
    let hash = operator["hash"].clone();
    let suspended = base::TenantId::from_bits(3);
    let user = |bits, disabled| json!({"id": UserId::from_bits(bits), "disabled": disabled});
    let setup = Setup::new().await;
    let claude = with(
        upstream(&setup.engine_url(), "sim"),
        json!({"engine": "anthropic", "salting": "uncached"}),
    );
    let world = setup
        .put(Kind::Upstream, "claude", claude)
        .put(Kind::Route, "claude", route("claude", "sim-small"))
        .put(
            Kind::Operator,
            "root",
            json!({"role": "operator", "hash": hash}),
        )
        .put(
            Kind::Tenant,
            "suspended",
            json!({"id": suspended, "tier": "free", "suspended": true}),
        )
        .put_in(suspended, Kind::Key, "main", key("suspended", json!({})))
        .put_in(
            ACME,
            Kind::Team,
            "core",
            json!({"id": TeamId::from_bits(1)}),
        )
        .put_in(ACME, Kind::User, "ada", user(1, true))
        .put_in(ACME, Kind::User, "bob", user(2, false))
        .put_in(
            ACME,
            Kind::Key,
            "expired",
            key("expired", json!({"expires_at": "2020-01-01T00:00:00Z"})),
        )
        .put_in(
            ACME,
            Kind::Key,
            "revoked",
            key("revoked", json!({"revoked": true})),
        )
        .put_in(
            ACME,
            Kind::Key,
            "disabled-user",
            key("disabled-user", json!({"user": "ada"})),
        )
        .put_in(
            ACME,
            Kind::Key,
            "removed-user",
            key("removed-user", json!({"user": "bob"})),
        )
        .put_in(
            ACME,
            Kind::Key,
            "removed-team",
            key("removed-team", json!({"team": "core"})),
        )
        .put_in(
            ACME,
            Kind::Key,
            "elsewhere",
            key("elsewhere", json!({"networks": ["203.0.113.0/24"]})),
        )
        .start()
        .await;
    world.publish(vec![
        remove_in(ACME, Kind::User, "bob"),
        remove_in(ACME, Kind::Team, "core"),
    ]);
    world
}

/// What the good caller stored, once it has.
#[derive(Default)]
struct Stored {
    response: String,
    conversation: String,
}

/// A request of this row that is good in all but who sends it. A row that is not covered here
/// does not compile.
fn sample(row: &EndpointRow, stored: &Stored) -> (String, String) {
    let path = || row.path.replacen('*', &stored.conversation, 1);
    match row.endpoint {
        Endpoint::Call(Operation::Chat) => (row.path.into(), chat("sim-small", "hi").to_string()),
        Endpoint::Call(Operation::Completion) => (
            row.path.into(),
            json!({"model": "sim-small", "prompt": "hi"}).to_string(),
        ),
        Endpoint::Call(Operation::Embedding) => (
            row.path.into(),
            json!({"model": "sim-embed", "input": "hi"}).to_string(),
        ),
        Endpoint::Call(Operation::Messages) => (
            row.path.into(),
            json!({
                "model": "sim-small", "max_tokens": 16,
                "messages": [{"role": "user", "content": "hi"}],
            })
            .to_string(),
        ),
        Endpoint::Call(Operation::CountTokens) => (
            row.path.into(),
            json!({"model": "claude", "messages": [{"role": "user", "content": "hi"}]}).to_string(),
        ),
        Endpoint::Call(Operation::Responses) => (
            row.path.into(),
            json!({"model": "sim-small", "input": "hi"}).to_string(),
        ),
        Endpoint::Call(Operation::Moderation) => (
            row.path.into(),
            json!({"model": "sim-small", "input": "hi"}).to_string(),
        ),
        Endpoint::Call(Operation::Rerank) => (
            row.path.into(),
            json!({"model": "sim-small", "query": "hi", "documents": ["a"]}).to_string(),
        ),
        Endpoint::Response | Endpoint::DeleteResponse => {
            (row.path.replace('*', &stored.response), String::new())
        }
        Endpoint::CreateConversation => {
            let item = |id| json!({"id": id, "role": "user", "content": "hi"});
            let items = json!({"items": [item("msg_1"), item("msg_2")]});
            (row.path.into(), items.to_string())
        }
        Endpoint::AddConversationItems => {
            let items = json!({"items": [{"role": "user", "content": "hi"}]});
            (path(), items.to_string())
        }
        Endpoint::ChangeConversation => (path(), json!({"metadata": {}}).to_string()),
        Endpoint::Conversation | Endpoint::DeleteConversation | Endpoint::ConversationItems => {
            (path(), String::new())
        }
        Endpoint::ConversationItem => (path().replace('*', "msg_1"), String::new()),
        Endpoint::DeleteConversationItem => (path().replace('*', "msg_2"), String::new()),
        Endpoint::Model => ("/v1/models/sim-small".into(), String::new()),
        Endpoint::Token => (
            row.path.into(),
            "grant_type=urn:ietf:params:oauth:grant-type:token-exchange".into(),
        ),
        Endpoint::Models | Endpoint::KeySet | Endpoint::Health | Endpoint::Ready => {
            (row.path.into(), String::new())
        }
    }
}

async fn call(
    client: &Client,
    row: &EndpointRow,
    stored: &Stored,
    headers: &[(&'static str, String)],
) -> Reply {
    let (path, body) = sample(row, stored);
    let mut request = Request::builder()
        .method(row.method.clone())
        .uri(path)
        .header("host", "gateway");
    for (name, value) in headers {
        request = request.header(*name, value);
    }
    client
        .exchange(request.body(Full::from(body)).unwrap())
        .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_endpoint_refuses_every_wrong_caller() {
    let world = world().await;
    let good = [("authorization", format!("Bearer {}", secret("acme")))];
    let mut checked = 0;
    let mut stored = Stored::default();
    for row in ENDPOINTS {
        let reply = call(&world.client, row, &stored, &good).await;
        let id = || reply.json()["id"].as_str().unwrap().to_owned();
        match row.endpoint {
            Endpoint::Call(Operation::Responses) => stored.response = id(),
            Endpoint::CreateConversation => stored.conversation = id(),
            _ => {}
        }
        assert_eq!(reply.status.as_u16(), 200, "{}: {}", row.path, reply.text());
        for caller in callers() {
            let reply = call(&world.client, row, &stored, &caller.headers).await;
            let case = format!(
                "{} {} with {}: {}",
                row.method,
                row.path,
                caller.what,
                reply.text()
            );
            match row.access {
                Access::Public => assert_eq!(reply.status.as_u16(), 200, "{case}"),
                Access::Credential => {
                    assert!(matches!(reply.status.as_u16(), 401 | 403), "{case}");
                    match row.endpoint {
                        Endpoint::Call(operation) if operation.is_messages() => {
                            let error = reply.json()["error"]["type"].clone();
                            assert_eq!(error, "authentication_error", "{case}");
                        }
                        _ => reply.refused(401, "invalid_api_key"),
                    }
                    checked += 1;
                }
            }
        }
    }
    let closed = ENDPOINTS
        .iter()
        .filter(|row| row.access == Access::Credential)
        .count();
    assert_eq!(checked, closed * callers().len());
    let calls = |row: &&EndpointRow| matches!(row.endpoint, Endpoint::Call(_));
    let good = ENDPOINTS.iter().filter(calls).count() as u64;
    let observed = world.engine.observed().requests;
    assert_eq!(observed, good, "the good ones alone");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_guesses_cannot_tell_why_a_key_is_refused() {
    let world = world().await;
    let mut texts = BTreeSet::new();
    for owner in [
        "nobody",
        "revoked",
        "suspended",
        "disabled-user",
        "removed-team",
        "elsewhere",
        "operator",
    ] {
        texts.insert(world.client.chat(owner, "hi").await.text());
    }
    assert_eq!(texts.len(), 1, "{texts:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn absent_and_forbidden_models_look_alike() {
    let narrow = key("narrow", json!({"models": ["vendor/sim-large"]}));
    let setup = Setup::new()
        .await
        .put(Kind::Tier, "gold", json!({}))
        .put(
            Kind::Route,
            "gold-only",
            json!({
                "targets": [{"upstream": "engine", "model": "sim-small"}], "tiers": ["gold"],
            }),
        )
        .put_in(
            GLOBEX,
            Kind::Config,
            "config",
            json!({"models": ["metered"]}),
        )
        .put_in(ACME, Kind::Key, "narrow", narrow);
    let world = setup.start().await;
    for (owner, model) in [
        ("acme", "no-such-model"),
        ("acme", "gold-only"),
        ("globex", "sim-small"),
        ("narrow", "sim-small"),
    ] {
        let reply = world.client.post(owner, CHAT, &chat(model, "hi")).await;
        reply.refused(404, "model_not_found");
        let expected =
            format!("the model `{model}` does not exist or you do not have access to it");
        assert_eq!(reply.json()["error"]["message"], expected);
        assert_eq!(reply.json()["error"]["param"], "model");
        let found = world
            .client
            .get(owner, &format!("/v1/models/{model}"))
            .await;
        assert_eq!((found.status, found.text()), (reply.status, reply.text()));
    }
    let list = world.client.get("narrow", "/v1/models").await.ok();
    assert_eq!(list["data"].as_array().unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn other_paths_and_methods_lead_nowhere() {
    let world = World::new().await;
    for (method, path) in [
        (Method::GET, "/"),
        (Method::GET, CHAT),
        (Method::PUT, CHAT),
        (Method::POST, "/v1/models"),
        (Method::POST, "/v1/chat/completions/"),
        (Method::POST, "//v1/chat/completions"),
        (Method::POST, "/v1/chat%2Fcompletions"),
        (Method::GET, "/metrics"),
        (Method::GET, "/v1/models/"),
        (Method::POST, "/v1/load_lora_adapter"),
    ] {
        let request = Request::builder()
            .method(&method)
            .uri(path)
            .header("host", "gateway")
            .header("authorization", format!("Bearer {}", secret("acme")));
        let reply = world
            .client
            .exchange(request.body(Full::default()).unwrap())
            .await;
        reply.refused(404, "unknown_url");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_former_key_is_good_until_its_overlap_ends() {
    let hasher = hierarchy().1.key_hasher();
    let old = tenancy::ApiKey::parse(&secret("acme")).unwrap();
    let old = hasher.hash(&old).to_string();
    let world = World::new().await;
    let rotated = |until| key("next", json!({"retiring": {"hash": old, "until": until}}));
    world.publish(vec![put_in(
        ACME,
        Kind::Key,
        "main",
        rotated("2099-01-01T00:00:00Z"),
    )]);
    world.client.chat("acme", "hi").await.ok();
    world.client.chat("next", "hi").await.ok();
    world.publish(vec![put_in(
        ACME,
        Kind::Key,
        "main",
        rotated("2020-01-01T00:00:00Z"),
    )]);
    world
        .client
        .chat("acme", "hi")
        .await
        .refused(401, "invalid_api_key");
    world.client.chat("next", "hi").await.ok();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_suspended_tenant_is_refused_at_once() {
    let world = World::new().await;
    world.client.chat("acme", "hi").await.ok();
    let suspended = json!({"id": ACME, "tier": "free", "suspended": true});
    world.publish(vec![put(Kind::Tenant, "acme", suspended)]);
    world
        .client
        .chat("acme", "hi")
        .await
        .refused(401, "invalid_api_key");
    world.client.chat("globex", "hi").await.ok();
}
