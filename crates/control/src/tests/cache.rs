//! A tenant's kept answers, over the admin API.

use axum::http::Method;
use serde_json::{Value, json};

use super::House;

const CACHE: &str = "/admin/v1/tenants/acme/cache";

#[tokio::test]
async fn a_tenants_cache_is_seen_and_emptied_on_record() {
    let house = House::new().await;
    let acme = house.onboard("acme").await;
    house.onboard("globex").await;
    for (tenant, entries) in [("acme", 3), ("globex", 5)] {
        let figures = crate::api::CacheReply {
            entries,
            bytes: 100,
            hits: 7,
            misses: 9,
        };
        let id = house.tenant_id(tenant);
        house.rest.caches.lock().push((id, figures));
    }
    let seen = house
        .call(&acme, Method::GET, CACHE, Value::Null)
        .await
        .ok();
    let expected = json!({"entries": 3, "bytes": 100, "hits": 7, "misses": 9});
    assert_eq!(seen, expected);
    let other = "/admin/v1/tenants/globex/cache";
    let foreign = house.call(&acme, Method::DELETE, other, Value::Null).await;
    foreign.refused(404);
    let emptied = house.call(&acme, Method::DELETE, CACHE, Value::Null).await;
    assert_eq!(emptied.status, 204);
    assert_eq!(house.get(CACHE).await.ok()["entries"], 0);
    assert_eq!(house.get(other).await.ok()["entries"], 5);
    let log = house.get("/admin/v1/tenants/acme/audit").await.ok();
    let acts = log["data"].as_array().unwrap().iter();
    let cleared = acts
        .map(|act| &act["entry"])
        .filter(|act| act["action"] == "clear_cache" && act["target"] == "tenants/acme/cache");
    assert_eq!(cleared.count(), 1);
}

#[tokio::test]
async fn what_no_cache_can_be_is_refused() {
    let house = House::new().await;
    house.onboard("acme").await;
    let config = "/admin/v1/tenants/acme/config";
    for (cache, status, says) in [
        (json!({"ttl_seconds": 0}), 422, "ttl_seconds"),
        (json!({"ttl_seconds": 2_592_001}), 422, "30 days"),
        (json!({"mode": "guess"}), 400, "guess"),
        (json!({"bytes_max": 1}), 400, "bytes_max"),
    ] {
        let refused = house.put(config, json!({"cache": cache})).await;
        assert_eq!(refused.status, status, "{}", refused.text);
        assert!(refused.text.contains(says), "{}", refused.text);
    }
    let good = json!({"cache": {"mode": "exact", "features": ["search"]}});
    house.put(config, good).await.ok();
    let percent = json!({"cache_price_percent": 101});
    let refused = house.put("/admin/v1/tiers/free", percent).await;
    assert_eq!(refused.status, 422, "{}", refused.text);
    assert!(refused.text.contains("0 to 100"), "{}", refused.text);
}
