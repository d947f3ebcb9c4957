//! Keys are exchanged for short-lived tokens with fewer rights (RFC 8693; invariant 13).

use base::PicoUsd;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::Request;
use http_body_util::Full;
use serde_json::{Value, json};
use tenancy::catalogue::Kind;

use crate::world::catalogue::{ACME, key, put_in, secret, with};
use crate::world::client::{CHAT, Reply, chat};
use crate::world::{Setup, World};

const GRANT: &str = "grant_type=urn:ietf:params:oauth:grant-type:token-exchange";

async fn exchange(world: &World, owner: &str, more: &str) -> Reply {
    let request = Request::post("/oauth/token")
        .header("host", "gateway")
        .header("content-type", "application/x-www-form-urlencoded")
        .header("authorization", format!("Bearer {}", secret(owner)));
    let form = Full::from(format!("{GRANT}{more}"));
    world.client.exchange(request.body(form).unwrap()).await
}

async fn token(world: &World, owner: &str, more: &str) -> String {
    let answer = exchange(world, owner, more).await.ok();
    answer["access_token"].as_str().unwrap().to_owned()
}

async fn call(world: &World, token: &str, path: &str, value: &Value) -> Reply {
    let request = Request::post(path)
        .header("host", "gateway")
        .header("authorization", format!("Bearer {token}"));
    world
        .client
        .exchange(request.body(Full::from(value.to_string())).unwrap())
        .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_works_and_names_its_issuer() {
    let world = World::new().await;
    let answer = exchange(&world, "acme", "&expires_in=60").await.ok();
    assert_eq!(answer["token_type"], "Bearer");
    assert_eq!(answer["expires_in"], 60);
    assert_eq!(
        answer["issued_token_type"],
        "urn:ietf:params:oauth:token-type:access_token"
    );
    let token = answer["access_token"].as_str().unwrap();
    call(&world, token, CHAT, &chat("sim-small", "hi"))
        .await
        .ok();

    let keys = world
        .client
        .get("nobody", "/.well-known/jwks.json")
        .await
        .ok();
    let header = URL_SAFE_NO_PAD
        .decode(token.split('.').next().unwrap())
        .unwrap();
    let header: Value = serde_json::from_slice(&header).unwrap();
    assert_eq!(header["typ"], "at+jwt");
    assert_eq!(keys["keys"][0]["kid"], header["kid"]);
    assert!(keys["keys"][0].get("d").is_none(), "the public half alone");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_key_may_stand_in_the_form() {
    let world = World::new().await;
    let send = async |form: String| {
        let request = Request::post("/oauth/token").header("host", "gateway");
        world
            .client
            .exchange(request.body(Full::from(form)).unwrap())
            .await
    };
    send(format!("{GRANT}&subject_token={}", secret("acme")))
        .await
        .ok();
    send(format!("{GRANT}&subject_token={}", secret("nobody")))
        .await
        .refused(401, "invalid_api_key");
    let wrong = send("grant_type=password&username=a".into()).await;
    assert_eq!(
        (wrong.status.as_u16(), &wrong.json()["error"]),
        (400, &json!("unsupported_grant_type"))
    );
    let huge = send(format!("{GRANT}&x={}", "x".repeat(20_000))).await;
    huge.refused(413, "request_too_large");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn invariant_13_a_token_has_no_right_that_its_key_lacks() {
    let narrow = json!({"models": ["sim-small", "metered"], "features": ["chat"]});
    let setup = Setup::new()
        .await
        .put_in(ACME, Kind::Feature, "chat", json!({}));
    let world = setup
        .put_in(ACME, Kind::Key, "narrow", key("narrow", narrow))
        .start()
        .await;
    for more in [
        "&models=vendor/sim-large",
        "&models=sim-small+vendor/sim-large",
        "&features=billing",
        "&spend_cap=0",
        "&expires_in=301",
        "&expires_in=0",
    ] {
        let refused = exchange(&world, "narrow", more).await;
        assert_eq!(refused.status.as_u16(), 400, "{more}: {}", refused.text());
        assert_eq!(refused.json()["error"], "invalid_scope", "{more}");
        assert!(refused.json()["error_description"].is_string());
    }
    let token = token(&world, "narrow", "&models=sim-small").await;
    call(&world, &token, CHAT, &chat("sim-small", "hi"))
        .await
        .ok();
    for model in ["metered", "vendor/sim-large", "nothing"] {
        call(&world, &token, CHAT, &chat(model, "hi"))
            .await
            .refused(404, "model_not_found");
    }
    // No chain of tokens outlives the key.
    let request = Request::post("/oauth/token")
        .header("host", "gateway")
        .header("authorization", format!("Bearer {token}"));
    let again = world
        .client
        .exchange(request.body(Full::from(GRANT)).unwrap())
        .await;
    assert_eq!(again.json()["error"], "invalid_scope");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_spending_cap_counts_over_all_calls_of_the_token() {
    let world = World::new().await;
    let capped = token(&world, "acme", "&spend_cap=2.5").await;
    let mut spent = PicoUsd::ZERO;
    let refused = loop {
        let reply = call(&world, &capped, CHAT, &chat("metered", "hi")).await;
        if reply.status.as_u16() != 200 {
            break reply;
        }
        spent += reply.cost();
        assert!(spent <= "2.5".parse().unwrap());
    };
    refused.refused(429, "insufficient_quota");
    assert_eq!(spent, "0.64".parse().unwrap(), "1.92 more would not fit");
    let other = token(&world, "acme", "&spend_cap=2.5").await;
    call(&world, &other, CHAT, &chat("metered", "hi"))
        .await
        .ok();
    world
        .client
        .post("acme", CHAT, &chat("metered", "hi"))
        .await
        .ok();
}

/// With a session beside: the cap is the token's all the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cap_is_no_ones_session() {
    let setup = Setup::new().await;
    let each = json!({"subject": "each:session", "limit": "100", "calls_max": 1});
    let world = setup
        .put_in(ACME, Kind::Budget, "session", each)
        .start()
        .await;
    let capped = token(&world, "acme", "&spend_cap=50").await;
    for session in ["a", "b"] {
        let request = Request::post(CHAT)
            .header("host", "gateway")
            .header("partywall-session", session)
            .header("authorization", format!("Bearer {capped}"));
        let value = Full::from(chat("metered", "hi").to_string());
        world
            .client
            .exchange(request.body(value).unwrap())
            .await
            .ok();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_ends_with_its_key() {
    let world = World::new().await;
    let token = token(&world, "acme", "").await;
    call(&world, &token, CHAT, &chat("sim-small", "hi"))
        .await
        .ok();
    let revoked = with(key("acme", json!({})), json!({"revoked": true}));
    world.publish(vec![put_in(ACME, Kind::Key, "main", revoked)]);
    let refused = call(&world, &token, CHAT, &chat("sim-small", "hi")).await;
    refused.refused(401, "invalid_api_key");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_forged_token_is_refused() {
    let world = World::new().await;
    let good = token(&world, "acme", "&models=sim-small").await;
    let [header, claims, signature]: [&str; 3] =
        good.split('.').collect::<Vec<_>>().try_into().unwrap();
    let mut wider: Value =
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims).unwrap()).unwrap();
    wider["models"] = json!(["metered"]);
    let wider = URL_SAFE_NO_PAD.encode(wider.to_string());
    let none = URL_SAFE_NO_PAD.encode(r#"{"typ":"at+jwt","alg":"none"}"#);
    for forged in [
        format!("{header}.{wider}.{signature}"),
        format!("{none}.{wider}."),
        format!("{header}.{claims}."),
    ] {
        let refused = call(&world, &forged, CHAT, &chat("metered", "hi")).await;
        refused.refused(401, "invalid_api_key");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_calls_of_models_count_as_calls() {
    let world = World::new().await;
    token(&world, "acme", "").await;
    world.client.get("acme", "/v1/models").await.ok();
    world.client.get("acme", "/v1/models/none").await;
    let text = world.gateway.metrics().text();
    for series in [
        "partywall_refused_before_tenant_total{",
        "partywall_calls_total{tenant=\"acme\",outcome=\"model_not_found\"}",
        "partywall_calls_total{tenant=\"acme\",outcome=\"completed\"} 1",
        "gen_ai_client_inference_duration_seconds_count{tenant=\"acme\"} 1",
    ] {
        assert!(!text.contains(series), "{series}: {text}");
    }
    world.client.chat("acme", "hello").await.ok();
    world.client.get("nobody", "/v1/models").await;
    let text = world.gateway.metrics().text();
    for series in [
        "partywall_refused_before_tenant_total{code=\"invalid_api_key\"} 1",
        "partywall_calls_total{tenant=\"acme\",outcome=\"completed\"} 1",
        "gen_ai_client_inference_duration_seconds_count{tenant=\"acme\"} 1",
    ] {
        assert!(text.contains(series), "{series}: {text}");
    }
}
