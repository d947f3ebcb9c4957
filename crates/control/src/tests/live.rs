//! Pages that keep up by themselves: who hears what, and until when.

use std::time::Duration;

use axum::body::Body;
use axum::http::Request;
use axum::http::header::COOKIE;
use http_body_util::BodyExt as _;
use serde_json::Value;
use store::StoredAlert;

use super::House;
use crate::Control;
use crate::api::HealthFigures;
use crate::ports::HealthHour;

const ACME: &str = "/dashboard/tenants/acme/events";

/// A stream that is open.
struct Stream(Body);

impl House {
    async fn listen(&self, path: &str, session: &str) -> Stream {
        use tower_service::Service as _;
        let request = Request::builder()
            .uri(path)
            .header(COOKIE, format!("partywall_session={session}"))
            .body(Body::empty())
            .unwrap();
        let response = self.router.clone().call(request).await.unwrap();
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        assert_eq!(response.headers()["cache-control"], "no-store");
        let mut stream = Stream(response.into_body());
        assert_eq!(stream.next().await.as_deref(), Some("retry: 5000\n\n"));
        stream
    }

    /// A tenant has called so often.
    fn called(&self, tenant: &str, calls: u64) {
        let sum = HealthFigures {
            calls,
            ..HealthFigures::default()
        };
        let hour = HealthHour {
            sum,
            ..HealthHour::default()
        };
        self.rest.hours.lock().push((self.tenant_id(tenant), hour));
    }
}

impl Stream {
    /// What is said next.
    async fn next(&mut self) -> Option<String> {
        let frame = self.0.frame().await?;
        let bytes = frame.unwrap().into_data().unwrap();
        Some(String::from_utf8(bytes.to_vec()).unwrap())
    }

    /// What is said once it must say something.
    async fn after(&mut self, house: &House, seconds: u64) -> Option<String> {
        house.clock.advance(Duration::from_secs(seconds));
        self.next().await
    }
}

const CHANGED: &str = "event: changed\ndata: 1\n\n";
const ENDED: &str = "event: ended\ndata: 1\n\n";
const STILL_HERE: &str = ": \n\n";

/// Attack: an administrator listens for what happens in other tenants.
#[tokio::test(start_paused = true)]
async fn a_tenants_stream_tells_of_its_own_tenant_alone() {
    let house = House::new().await;
    let own = house.onboard("acme").await;
    house.onboard("globex").await;
    let own = house.sign_in(&own).await.unwrap();
    let operator = house.sign_in(&house.operator).await.unwrap();
    let mut stream = house.listen(ACME, &own).await;
    let mut fleet = house.listen("/dashboard/events", &operator).await;

    house.called("globex", 7);
    let team = "/admin/v1/tenants/globex/teams/core";
    house.put(team, serde_json::json!({})).await.ok();
    let heard = stream.after(&house, 21).await;
    assert_eq!(heard.as_deref(), Some(STILL_HERE), "not a word of globex");
    assert_eq!(fleet.next().await.as_deref(), Some(CHANGED));

    house.called("acme", 1);
    assert_eq!(stream.after(&house, 3).await.as_deref(), Some(CHANGED));
    assert_eq!(fleet.next().await.as_deref(), Some(CHANGED));
    let heard = stream.after(&house, 21).await;
    assert_eq!(heard.as_deref(), Some(STILL_HERE), "once for each change");
    let team = "/admin/v1/tenants/acme/teams/core";
    house.put(team, serde_json::json!({})).await.ok();
    assert_eq!(stream.after(&house, 3).await.as_deref(), Some(CHANGED));
}

/// Of several replicas one opens an alert; the pages of all hear of it, and of their own tenant's
/// alone.
#[tokio::test(start_paused = true)]
async fn what_another_replica_opens_and_resolves_is_told_here() {
    let house = House::new().await;
    let own = house.onboard("acme").await;
    house.onboard("globex").await;
    let session = house.sign_in(&own).await.unwrap();
    for turn in [Control::watch, Control::follow_alerts] {
        turn(&house.control);
        let mut stream = house.listen(ACME, &session).await;
        let catalogue = &house.control.publisher.catalogue;
        let now = house.control.clock.now();
        let alert = |tenant: &str| StoredAlert {
            id: format!("breaker-open {tenant}"),
            tenant: house.tenant_id(tenant).to_string(),
            opened_at: now,
            seen_at: now,
            told_at: now,
            resolved_at: None,
            about: Vec::new(),
        };
        assert!(catalogue.open_alert(&alert("globex"), &[]).unwrap());
        turn(&house.control);
        let heard = stream.after(&house, 21).await;
        assert_eq!(heard.as_deref(), Some(STILL_HERE), "not a word of globex");
        assert!(catalogue.open_alert(&alert("acme"), &[]).unwrap());
        turn(&house.control);
        assert_eq!(stream.after(&house, 3).await.as_deref(), Some(CHANGED));
        turn(&house.control);
        let heard = stream.after(&house, 21).await;
        assert_eq!(heard.as_deref(), Some(STILL_HERE), "once for each change");
        for tenant in ["acme", "globex"] {
            assert!(catalogue.resolve_alert(&alert(tenant), &[], now).unwrap());
        }
        turn(&house.control);
        assert_eq!(stream.after(&house, 3).await.as_deref(), Some(CHANGED));
    }
}

#[tokio::test(start_paused = true)]
async fn a_stream_ends_with_its_key_its_session_and_its_time() {
    let house = House::new().await;
    house.onboard("acme").await;
    let key = house.key_of_acme("doomed", "tenant-admin").await;
    let session = house.sign_in(&key).await.unwrap();
    let mut revoked = house.listen(ACME, &session).await;
    let doom = "/admin/v1/tenants/acme/keys/doomed/revoke";
    house.post(doom, Value::Null).await.ok();
    assert_eq!(revoked.next().await.as_deref(), Some(ENDED));
    assert_eq!(revoked.next().await, None);

    let key = house.key_of_acme("leaver", "tenant-admin").await;
    let session = house.sign_in(&key).await.unwrap();
    let mut left = house.listen(ACME, &session).await;
    house.press("/dashboard/sign-out", &session, "").await;
    assert_eq!(left.next().await.as_deref(), Some(ENDED));

    // A right may go while the key stays good.
    let session = house.sign_in(&key).await.unwrap();
    let mut suspended = house.listen(ACME, &session).await;
    let act = |what: &str| format!("/admin/v1/tenants/acme/{what}");
    house.post(&act("suspend"), Value::Null).await.ok();
    assert_eq!(suspended.next().await.as_deref(), Some(ENDED));
    house.post(&act("resume"), Value::Null).await.ok();

    // Listening is no click: the session ends an hour after the last one.
    let session = house.sign_in(&key).await.unwrap();
    let mut idle = house.listen(ACME, &session).await;
    assert_eq!(idle.after(&house, 601).await, None, "ten minutes are over");
    let mut idle = house.listen(ACME, &session).await;
    assert_eq!(idle.after(&house, 3_601).await.as_deref(), Some(ENDED));

    let session = house.sign_in(&key).await.unwrap();
    let mut stopping = house.listen(ACME, &session).await;
    *house.rest.missing.lock() = Some("it is about to stop".to_owned());
    assert_eq!(stopping.next().await, None);
}

#[tokio::test(start_paused = true)]
async fn what_changes_often_is_told_every_two_seconds() {
    let house = House::new().await;
    let own = house.onboard("acme").await;
    let session = house.sign_in(&own).await.unwrap();
    let mut stream = house.listen(ACME, &session).await;
    house.called("acme", 1);
    assert_eq!(stream.after(&house, 3).await.as_deref(), Some(CHANGED));
    house.called("acme", 2);
    house.clock.advance(Duration::from_secs(1));
    // The runtime's time passes by itself; the house's stands.
    let wait = Duration::from_secs(10);
    let early = tokio::time::timeout(wait, stream.next()).await;
    assert!(early.is_err(), "{early:?}");
    assert_eq!(stream.after(&house, 1).await.as_deref(), Some(CHANGED));
}

#[tokio::test(start_paused = true)]
async fn who_opens_too_many_streams_is_told_and_closes_some() {
    let house = House::new().await;
    let own = house.onboard("acme").await;
    let session = house.sign_in(&own).await.unwrap();
    let mut open = Vec::new();
    for _ in 0..16 {
        open.push(house.listen(ACME, &session).await);
    }
    assert_eq!(house.browse(ACME, Some(&session)).await.status, 503);
    open.pop();
    house.listen(ACME, &session).await;
}
