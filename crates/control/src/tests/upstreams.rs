//! How upstreams are, for operators.

use serde_json::json;

use super::House;
use crate::api::UpstreamStatusReply;

#[tokio::test]
async fn an_upstreams_state_is_shown() {
    let house = House::new().await;
    let status = json!({
        "name": "engine", "state": "working", "places": 128, "calls_under_way": 3,
        "waiting": {"interactive": 1, "standard": 0, "background": 2}, "open_breakers": 1,
        "endpoints": [
            {"address": "10.0.0.1:8000", "state": "healthy", "calls_under_way": 3,
             "running": 5, "waiting": 0, "kv_use_permille": 421},
            {"address": "10.0.0.2:8000", "state": "unreachable", "calls_under_way": 0},
        ],
    });
    let row: UpstreamStatusReply = serde_json::from_value(status.clone()).unwrap();
    *house.rest.upstreams.lock() = vec![row];
    let path = "/admin/v1/upstreams/engine/status";
    assert_eq!(house.get(path).await.ok(), status);
    house
        .get("/admin/v1/upstreams/other/status")
        .await
        .refused(404);
}
