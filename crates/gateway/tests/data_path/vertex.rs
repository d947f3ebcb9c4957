//! Vertex with a service account: its key file is exchanged for a token, which is kept.

use base::Supervisor;
use serde_json::{Value, json};
use tempfile::NamedTempFile;
use tenancy::catalogue::Kind;

use crate::world::catalogue::{ACME, put_in, route};
use crate::world::client::{CHAT, chat};
use crate::world::scripted::{self, Then};
use crate::world::{Setup, World};

/// A key made for tests, of an account that does not exist.
const KEY_FILE: &str = include_str!("../../src/upstream/testdata/google_service_account.json");

const GRANTED: &str = concat!(
    "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 73\r\n\r\n",
    r#"{"access_token":"ya29.for-tests","expires_in":3599,"token_type":"Bearer"}"#
);
const REFUSED: &str = concat!(
    "HTTP/1.1 400 Bad Request\r\ncontent-length: 25\r\n\r\n",
    r#"{"error":"invalid_grant"}"#
);

/// The key file, with its token endpoint there.
fn key_file(token_uri: &str) -> String {
    let mut file: Value = serde_json::from_str(KEY_FILE).unwrap();
    file["token_uri"] = token_uri.into();
    file.to_string()
}

/// A world whose route `m` leads to Vertex, with a token endpoint that says `script`.
async fn world(script: &'static str, credential_of: &str) -> (World, u16, NamedTempFile) {
    let setup = Setup::new().await;
    let supervisor = Supervisor::new();
    let endpoint = scripted::upstream(&supervisor, script, Then::Close).await;
    let file = NamedTempFile::new().unwrap();
    let key = key_file(&format!("http://{endpoint}/token"));
    std::fs::write(file.path(), key).unwrap();
    let origin = setup.engine_url();
    let origin = origin.strip_suffix("/v1").unwrap();
    let spec = json!({
        "engine": "vertex",
        "base_url": format!("{origin}/v1/projects/p/locations/l/publishers/google"),
        "provider": "sim", "salting": "uncached", "allow_private_address": true,
        "credential": format!("file:{}", file.path().display()),
        "credential_of": credential_of,
    });
    let world = setup
        .put(Kind::Upstream, "vertex", spec)
        .put(Kind::Route, "m", route("vertex", "sim-small"))
        .start()
        .await;
    (world, endpoint.port(), file)
}

fn sent_authorizations(world: &World) -> Vec<String> {
    let recorded = world.engine.observed().recorded;
    let header = |headers: &http::HeaderMap| headers["authorization"].to_str().unwrap().to_owned();
    recorded.iter().map(|seen| header(&seen.headers)).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_file_is_exchanged_once_for_many_calls() {
    let (world, endpoint, _key) = world(GRANTED, "installation").await;
    for owner in ["acme", "globex", "acme"] {
        world.client.post(owner, CHAT, &chat("m", "hi")).await.ok();
    }
    assert_eq!(sent_authorizations(&world), ["Bearer ya29.for-tests"; 3]);
    assert_eq!(world.network.connections(endpoint), 1);
    let shown = format!("{:?}", world.gateway);
    assert!(!shown.contains("ya29") && !shown.contains("PRIVATE KEY"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_token_nothing_is_sent_and_nothing_is_charged() {
    let (world, endpoint, _key) = world(REFUSED, "installation").await;
    for _ in 0..3 {
        let answer = world.client.post("acme", CHAT, &chat("m", "hi")).await;
        answer.refused(502, "upstream_failed");
    }
    assert_eq!(world.engine.observed().requests, 0);
    // It is left alone for a second after a failure: three calls do not ask three times.
    assert_eq!(world.network.connections(endpoint), 1);
    world.quiet().await;
    assert!(world.gateway.unsettled(ACME).is_empty());
}

/// A tenant's own key file names the token endpoint: it must not lead inside.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tenants_key_file_leads_to_no_private_address() {
    let (world, endpoint, _key) = world(GRANTED, "tenant-or-installation").await;
    for (scheme, status) in [("http", 403), ("https", 502)] {
        let own = key_file(&format!("{scheme}://127.0.0.1:{endpoint}/token"));
        let own = json!({"upstream": "vertex", "secret": own});
        world.publish(vec![put_in(ACME, Kind::Credential, "own", own)]);
        let answer = world.client.post("acme", CHAT, &chat("m", "hi")).await;
        assert_eq!(answer.status, status, "{scheme}: {}", answer.text());
    }
    assert_eq!(world.network.connections(endpoint), 0);
    assert_eq!(world.engine.observed().requests, 0);
    // An access token of its own needs no exchange.
    let own = json!({"upstream": "vertex", "secret": "ya29.of-acme"});
    world.publish(vec![put_in(ACME, Kind::Credential, "own", own)]);
    world.client.post("acme", CHAT, &chat("m", "hi")).await.ok();
    assert_eq!(sent_authorizations(&world), ["Bearer ya29.of-acme"]);
}
