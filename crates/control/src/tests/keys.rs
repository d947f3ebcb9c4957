//! Keys: shown once, rotated with an overlap, revoked for good, and never wider than who makes
//! them.

use std::net::SocketAddr;
use std::time::Duration;

use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::http::{Method, Request};
use serde_json::{Value, json};

use super::House;

const KEYS: &str = "/admin/v1/tenants/acme/keys";

async fn works(house: &House, key: &str) -> bool {
    house
        .call(key, Method::GET, "/admin/v1/tenants/acme", Value::Null)
        .await
        .status
        == 200
}

#[tokio::test]
async fn a_key_is_shown_once_and_kept_as_a_hash_that_is_not_shown() {
    let house = House::new().await;
    house.onboard("acme").await;
    let made = house
        .post(KEYS, json!({"name": "prod", "role": "tenant-admin"}))
        .await
        .ok();
    let key = made["key"].as_str().unwrap();
    assert!(works(&house, key).await);
    for path in [KEYS.to_owned(), format!("{KEYS}/prod")] {
        let text = house.get(&path).await.text;
        assert!(!text.contains(key) && !text.contains("hash"), "{text}");
    }
    house.post(KEYS, json!({"name": "prod"})).await.refused(409);
    house
        .put(&format!("{KEYS}/new"), json!({}))
        .await
        .refused(409);
}

#[tokio::test]
async fn a_rotated_key_stays_good_for_the_overlap() {
    let house = House::new().await;
    let old = house.onboard("acme").await;
    let path = format!("{KEYS}/admin/rotate");
    house
        .post(&path, json!({"overlap_seconds": 2_592_001}))
        .await
        .refused(400);
    let rotated = house.post(&path, json!({"overlap_seconds": 60})).await.ok();
    let new = rotated["key"].as_str().unwrap();
    assert!(works(&house, &old).await && works(&house, new).await);
    house.clock.advance(Duration::from_secs(60));
    assert!(!works(&house, &old).await && works(&house, new).await);
}

#[tokio::test]
async fn a_revoked_key_stays_revoked() {
    let house = House::new().await;
    let key = house.onboard("acme").await;
    house
        .post(&format!("{KEYS}/admin/revoke"), Value::Null)
        .await
        .ok();
    assert!(!works(&house, &key).await);
    house
        .put(
            &format!("{KEYS}/admin"),
            json!({"role": "tenant-admin", "revoked": false}),
        )
        .await
        .refused(400);
    let kept = house
        .put(&format!("{KEYS}/admin"), json!({"role": "tenant-admin"}))
        .await
        .ok();
    assert_eq!(kept["spec"]["revoked"], json!(true));
    house
        .post(&format!("{KEYS}/admin/rotate"), Value::Null)
        .await
        .refused(409);
}

#[tokio::test]
async fn a_tenants_key_makes_no_key_that_may_do_more() {
    let house = House::new().await;
    house.onboard("acme").await;
    let bound = json!({"name": "bound", "role": "tenant-admin", "models": ["m"]});
    let bound = house.post(KEYS, bound).await.ok()["key"]
        .as_str()
        .unwrap()
        .to_owned();
    let as_bound = |method, path: String, body| {
        let (house, bound) = (&house, bound.clone());
        async move { house.call(&bound, method, &path, body).await }
    };
    let wider = [
        json!({"name": "x"}),
        json!({"name": "x", "models": ["m", "n"]}),
    ];
    for wider in wider {
        as_bound(Method::POST, KEYS.to_owned(), wider)
            .await
            .refused(400);
    }
    let operator = json!({"name": "x", "role": "operator", "models": ["m"]});
    as_bound(Method::POST, KEYS.to_owned(), operator)
        .await
        .refused(400);
    // Neither by widening one that is there, nor by taking over one that may do more.
    as_bound(
        Method::POST,
        KEYS.to_owned(),
        json!({"name": "x", "models": ["m"]}),
    )
    .await
    .ok();
    as_bound(Method::PUT, format!("{KEYS}/x"), json!({}))
        .await
        .refused(400);
    as_bound(Method::POST, format!("{KEYS}/admin/rotate"), Value::Null)
        .await
        .refused(400);
    as_bound(Method::POST, format!("{KEYS}/x/rotate"), Value::Null)
        .await
        .ok();
}

#[tokio::test]
async fn operators_come_and_go_but_for_the_last() {
    let house = House::new().await;
    let body = json!({"name": "bob", "role": "operator"});
    let bob = house.post("/admin/v1/operators", body.clone()).await.ok();
    let bob = bob["key"].as_str().unwrap();
    house.post("/admin/v1/operators", body).await.refused(409);
    let read = house.get("/admin/v1/operators/bob").await.ok();
    assert_eq!(read["spec"], json!({"role": "operator", "disabled": false}));
    let rotated = house
        .post("/admin/v1/operators/ada/rotate", Value::Null)
        .await
        .ok();
    house.get("/admin/v1/tiers").await.refused(401);
    let ada = rotated["key"].as_str().unwrap();
    house
        .call(ada, Method::DELETE, "/admin/v1/operators/bob", Value::Null)
        .await
        .ok();
    house
        .call(bob, Method::GET, "/admin/v1/tiers", Value::Null)
        .await
        .refused(401);
    house
        .call(ada, Method::DELETE, "/admin/v1/operators/ada", Value::Null)
        .await
        .refused(422);
    let demoted = json!({"role": "auditor"});
    house
        .call(ada, Method::PUT, "/admin/v1/operators/ada", demoted)
        .await
        .refused(422);
    let role = json!({"name": "max", "role": "service"});
    house
        .call(ada, Method::POST, "/admin/v1/operators", role)
        .await
        .refused(422);
}

#[tokio::test]
async fn a_key_that_is_bound_to_addresses_works_from_there_alone() {
    let house = House::new().await;
    house.onboard("acme").await;
    let body = json!({"name": "near", "role": "tenant-admin", "networks": ["192.0.2.0/24"]});
    let key = house.post(KEYS, body).await.ok()["key"]
        .as_str()
        .unwrap()
        .to_owned();
    for (peer, status) in [
        ("192.0.2.7:1", 200),
        ("[::ffff:192.0.2.7]:1", 200),
        ("198.51.100.7:1", 401),
    ] {
        let peer: SocketAddr = peer.parse().unwrap();
        let request = Request::get("/admin/v1/tenants/acme")
            .header("authorization", format!("Bearer {key}"))
            .extension(ConnectInfo(peer))
            .body(Body::empty())
            .unwrap();
        assert_eq!(house.send(request).await.status.as_u16(), status, "{peer}");
    }
}
