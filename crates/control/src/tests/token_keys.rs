//! The keys that sign tokens are rotated while serving, and no token in flight is refused.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use base::SystemEntropy;
use serde_json::Value;
use tenancy::{Authority, Caller, ExchangeRequest, PresentedCredential, TokenError};

use super::House;

const ROTATE: &str = "/admin/v1/token-keys/rotate";

/// A token for five minutes, exchanged for an API key.
fn token(house: &House, key: &str) -> String {
    let publisher = &house.control.publisher;
    let snapshot = house.current();
    let keys = publisher.token_keys.shared().load_full();
    let authority = Authority {
        snapshot: &snapshot,
        hasher: &house.control.hasher,
        tokens: &keys,
    };
    let header = format!("Bearer {key}");
    let presented = PresentedCredential::from_headers(Some(header.as_bytes()), None).unwrap();
    let peer = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let caller = authority.identify(&presented, peer, publisher.clock().now());
    let Caller::Tenant(principal) = caller.unwrap() else {
        panic!("the key is a tenant's");
    };
    let request = ExchangeRequest {
        models: None,
        features: None,
        spend_cap: None,
        lifetime_seconds: 300,
    };
    let issued = keys.exchange(&principal, &request, publisher.clock(), &SystemEntropy);
    issued.unwrap().token
}

fn verify(house: &House, token: &str) -> Result<(), TokenError> {
    let publisher = &house.control.publisher;
    let keys = publisher.token_keys.shared().load_full();
    keys.verify(token, publisher.clock().now()).map(drop)
}

/// The ids of the keys that are published.
fn published(house: &House) -> Vec<String> {
    let keys = house.control.publisher.token_keys.shared().load_full();
    let set: Value = serde_json::from_str(&keys.key_set_json()).unwrap();
    let ids = set["keys"].as_array().unwrap().iter();
    ids.map(|key| key["kid"].as_str().unwrap().to_owned())
        .collect()
}

#[tokio::test]
async fn tokens_outlive_a_rotation_and_a_restart() {
    let house = House::new().await;
    let acme = house.onboard("acme").await;
    let before = published(&house);
    let old = token(&house, &acme);
    let shared = house.control.publisher.token_keys.shared();
    let reply = house.post(ROTATE, Value::Null).await.ok();
    let after = published(&house);
    assert_eq!(after[1..], before);
    assert_eq!(
        (&reply["current"], &reply["previous"]),
        (
            &Value::from(after[0].as_str()),
            &Value::from(before[0].as_str())
        )
    );
    // Whoever took the keys at start has the new ones.
    assert_eq!(shared.load().current_id(), after[0]);
    let new = token(&house, &acme);
    assert_eq!(
        (verify(&house, &old), verify(&house, &new)),
        (Ok(()), Ok(()))
    );

    let root = house.root_key();
    let house = house.restarted(root);
    assert_eq!(published(&house), after);
    assert_eq!(
        (verify(&house, &old), verify(&house, &new)),
        (Ok(()), Ok(()))
    );
    let entry = house.get("/admin/v1/audit?limit=1").await.ok()["data"][0]["entry"].clone();
    assert_eq!(entry["action"], "rotate_token_keys");
}

#[tokio::test]
async fn the_key_before_is_kept_for_as_long_as_its_tokens_live() {
    let house = House::new().await;
    let acme = house.onboard("acme").await;
    let retire = || house.control.publisher.token_keys.retire().unwrap();
    let old = token(&house, &acme);
    house.post(ROTATE, Value::Null).await.ok();
    house.clock.advance(Duration::from_secs(300));
    retire();
    assert_eq!(verify(&house, &old), Ok(()), "clocks may be 5 s apart");
    let refused = house.post(ROTATE, Value::Null).await.refused(409);
    assert!(refused.contains("2026-03-05T10:05:10Z"), "{refused}");
    house.clock.advance(Duration::from_secs(10));
    assert_eq!(verify(&house, &old), Err(TokenError::Expired));
    retire();
    assert_eq!(verify(&house, &old), Err(TokenError::UnknownKey));
    assert_eq!(published(&house).len(), 1);
    let first = published(&house);
    house.post(ROTATE, Value::Null).await.ok();
    assert_eq!(published(&house)[1..], first);
}
