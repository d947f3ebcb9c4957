//! Every endpoint refuses every wrong caller. The endpoints come from the route table, so that a
//! new one is in this test before anybody thinks of it.

use std::collections::BTreeSet;

use axum::body::Body;
use axum::http::{Method, Request};
use serde_json::{Value, json};
use tenancy::{Permission, Role};

use super::{Answered, House, unknown_key};
use crate::MetricsAccess;
use crate::endpoint::{Endpoint, Reach, Verb};
use crate::routes::endpoints;

/// Callers, and what they are.
struct Callers {
    /// Credentials that are not good, by what is wrong with them.
    refused: Vec<(&'static str, Option<String>)>,
    auditor: String,
    own_admin: String,
    own_member: String,
    own_service: String,
    other_admin: String,
}

async fn callers(house: &House) -> Callers {
    let own_admin = house.onboard("acme").await;
    let other_admin = house.onboard("globex").await;
    let suspended = house.onboard("initech").await;
    house
        .post("/admin/v1/tenants/initech/suspend", Value::Null)
        .await
        .ok();
    let key = |name: &'static str, fields: Value| async move {
        let mut body = json!({"name": name});
        body.as_object_mut()
            .unwrap()
            .extend(fields.as_object().unwrap().clone());
        let made = house.post("/admin/v1/tenants/acme/keys", body).await.ok();
        made["key"].as_str().unwrap().to_owned()
    };
    let expired = json!({"role": "tenant-admin", "expires_at": "2026-03-05T09:59:59Z"});
    let expired = key("expired", expired).await;
    let revoked = key("revoked", json!({"role": "tenant-admin"})).await;
    house
        .post("/admin/v1/tenants/acme/keys/revoked/revoke", Value::Null)
        .await
        .ok();
    let elsewhere = json!({"role": "tenant-admin", "networks": ["192.0.2.0/24"]});
    let elsewhere = key("elsewhere", elsewhere).await;
    let rotated = key("rotated", json!({"role": "tenant-admin"})).await;
    house
        .post("/admin/v1/tenants/acme/keys/rotated/rotate", Value::Null)
        .await
        .ok();
    let operator = |name: &'static str, role: &'static str| async move {
        let body = json!({"name": name, "role": role});
        let made = house.post("/admin/v1/operators", body).await.ok();
        made["key"].as_str().unwrap().to_owned()
    };
    let disabled = operator("eve", "operator").await;
    let off = json!({"role": "operator", "disabled": true});
    house.put("/admin/v1/operators/eve", off).await.ok();
    let bearer = |key: &str| Some(format!("Bearer {key}"));
    Callers {
        refused: vec![
            ("none", None),
            ("malformed", bearer("pw_short")),
            ("another scheme", Some(format!("Basic {}", house.operator))),
            ("unknown", bearer(&unknown_key())),
            (
                "mistyped",
                bearer(
                    &house
                        .operator
                        .replacen(|c: char| c.is_ascii_digit(), "_", 1),
                ),
            ),
            ("expired", bearer(&expired)),
            ("revoked", bearer(&revoked)),
            ("rotated away", bearer(&rotated)),
            ("from elsewhere", bearer(&elsewhere)),
            ("of a suspended tenant", bearer(&suspended)),
            ("of a disabled operator", bearer(&disabled)),
        ],
        auditor: operator("abe", "auditor").await,
        own_member: key("member", json!({"role": "tenant-member"})).await,
        own_service: key("service", json!({"role": "service"})).await,
        own_admin,
        other_admin,
    }
}

/// A request that does nothing even where it is allowed: bodies are not JSON, and what is to be
/// removed is not in the state that is named.
fn harmless(endpoint: &Endpoint, credential: Option<&str>) -> Request<Body> {
    let path = endpoint
        .path
        .replace("{tenant}", "acme")
        .replace("{name}", "admin")
        .replace("{version}", "1")
        .replace("{id}", "req_00000000000000000000000001");
    let (method, body) = match endpoint.verb {
        Verb::Get => (Method::GET, Body::empty()),
        Verb::Post => (Method::POST, Body::from("[")),
        Verb::Put => (Method::PUT, Body::from("[")),
        Verb::Delete => (Method::DELETE, Body::empty()),
    };
    let mut request = Request::builder()
        .method(method)
        .uri(path)
        .header("if-match", "\"0\"");
    if let Some(credential) = credential {
        request = request.header("authorization", credential);
    }
    request.body(body).unwrap()
}

fn name_of(endpoint: &Endpoint) -> String {
    format!("{} {}", endpoint.verb.as_str(), endpoint.path)
}

async fn ask(house: &House, endpoint: &Endpoint, key: &str) -> Answered {
    house
        .send(harmless(endpoint, Some(&format!("Bearer {key}"))))
        .await
}

#[tokio::test]
async fn every_endpoint_refuses_every_wrong_caller() {
    let house = House::new().await;
    let callers = callers(&house).await;
    let version = house.current().version();
    let absent = house.call(
        &callers.own_admin,
        Method::GET,
        "/admin/v1/nothing",
        Value::Null,
    );
    let absent = absent.await.text;
    let mut unauthenticated = BTreeSet::new();
    for endpoint in endpoints(MetricsAccess::Operators) {
        let name = name_of(&endpoint);
        let (Reach::Platform(permission) | Reach::Tenant(permission)) = endpoint.reach else {
            continue;
        };
        for (what, credential) in &callers.refused {
            let answer = house.send(harmless(&endpoint, credential.as_deref())).await;
            assert_eq!(answer.status, 401, "{name}: {what}: {}", answer.text);
            unauthenticated.insert(answer.text);
        }
        for stranger in [
            &callers.other_admin,
            &callers.own_member,
            &callers.own_service,
        ] {
            let answer = ask(&house, &endpoint, stranger).await;
            assert_eq!(
                (answer.status.as_u16(), &answer.text),
                (404, &absent),
                "{name}"
            );
        }
        let is_own = matches!(endpoint.reach, Reach::Tenant(_));
        let answer = ask(&house, &endpoint, &callers.own_admin).await;
        if is_own && Role::TenantAdmin.allows(permission) {
            assert!(
                ![401, 403].contains(&answer.status.as_u16()),
                "{name}: {}",
                answer.text
            );
        } else {
            assert_eq!(
                (answer.status.as_u16(), &answer.text),
                (404, &absent),
                "{name}"
            );
        }
        let answer = ask(&house, &endpoint, &callers.auditor).await;
        if !Role::Auditor.allows(permission) {
            assert_eq!(answer.status, 403, "{name}: {}", answer.text);
        }
        let answer = ask(&house, &endpoint, &house.operator).await;
        assert!(
            ![401, 403].contains(&answer.status.as_u16()),
            "{name}: {}",
            answer.text
        );
    }
    // Whatever is wrong with a credential, the answer is the same to the byte.
    assert_eq!(unauthenticated.len(), 1, "{unauthenticated:?}");
    assert_eq!(
        house.current().version(),
        version,
        "a refused call changed something"
    );
}

#[test]
fn what_is_public_is_listed_here() {
    let public = |metrics| -> Vec<String> {
        let all = endpoints(metrics);
        all.iter()
            .filter(|e| e.reach == Reach::Public)
            .map(name_of)
            .collect()
    };
    let always = ["GET /healthz", "GET /readyz", "GET /openapi.json"];
    assert_eq!(public(MetricsAccess::Operators), always);
    let opened = [
        "GET /healthz",
        "GET /readyz",
        "GET /openapi.json",
        "GET /metrics",
    ];
    assert_eq!(public(MetricsAccess::Anybody), opened);
}

#[test]
fn what_is_inside_a_tenant_says_so_in_its_path() {
    for endpoint in endpoints(MetricsAccess::Operators) {
        let names_tenant = endpoint.path.starts_with("/admin/v1/tenants/{tenant}");
        let is_of_tenant = matches!(endpoint.reach, Reach::Tenant(_));
        assert_eq!(names_tenant, is_of_tenant, "{}", name_of(&endpoint));
        let reads = endpoint.verb == Verb::Get;
        let permission = match endpoint.reach {
            Reach::Public => continue,
            Reach::Platform(permission) | Reach::Tenant(permission) => permission,
        };
        // An export is every tenant's configuration: auditors do not get it.
        let is_reading = matches!(
            permission,
            Permission::ReadCatalogue
                | Permission::ReadUsage
                | Permission::ReadBodies
                | Permission::ReadAudit
        );
        let is_export = endpoint.operation_id == "export";
        // Nor what would let them sign in a tenant's place, or in the platform's.
        let is_secret = endpoint.operation_id.ends_with("webhook_secret");
        // Whoever reads may sign in to read: a link changes nothing, and gives no more than that.
        if endpoint.operation_id.ends_with("sign_in_link") {
            assert_eq!(permission, Permission::ReadUsage);
            continue;
        }
        assert_eq!(
            reads && !is_export && !is_secret,
            is_reading,
            "{}",
            name_of(&endpoint)
        );
    }
}

#[tokio::test]
async fn an_absent_tenant_and_a_foreign_one_look_the_same() {
    let house = House::new().await;
    let acme = house.onboard("acme").await;
    house.onboard("globex").await;
    let mut answers = BTreeSet::new();
    for path in [
        "/admin/v1/tenants/globex",
        "/admin/v1/tenants/nobody",
        "/admin/v1/tenants/globex/keys/admin",
        "/admin/v1/tenants/acme/keys/nobody",
        "/admin/v1/tenants/%ff",
        "/admin/v1/tenants",
        "/nowhere",
    ] {
        let answer = house.call(&acme, Method::GET, path, Value::Null).await;
        assert_eq!(answer.status, 404, "{path}: {}", answer.text);
        answers.insert(answer.text);
    }
    assert_eq!(answers.len(), 1, "{answers:?}");
}

#[tokio::test]
async fn a_header_that_is_said_twice_is_refused() {
    let house = House::new().await;
    let bearer = format!("Bearer {}", house.operator);
    let request = Request::builder()
        .uri("/admin/v1/tiers")
        .header("authorization", &bearer)
        .header("authorization", &bearer)
        .body(Body::empty())
        .unwrap();
    assert_eq!(house.send(request).await.status, 401);
}

#[tokio::test]
async fn bodies_and_queries_are_bounded_and_strict() {
    let house = House::new().await;
    let long = "x".repeat(2 << 20);
    let refused = house
        .put("/admin/v1/tiers/team", json!({"description": long}))
        .await;
    assert_eq!(
        refused.refused(413),
        "the body is longer than 1048576 bytes"
    );
    let refused = house
        .put("/admin/v1/tiers/team", json!({"colour": "red"}))
        .await
        .refused(400);
    assert!(refused.contains("colour"), "{refused}");
    for query in ["limit=0", "limit=1001", "limit=many", "page=2"] {
        house
            .get(&format!("/admin/v1/tiers?{query}"))
            .await
            .refused(400);
    }
    house.get("/admin/v1/tiers/free?limit=1").await.refused(400);
}
