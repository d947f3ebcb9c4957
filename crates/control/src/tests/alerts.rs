//! Alerts: told once to whoever hears of them, again while they last, and when they are over; to
//! a tenant its own alone.

use std::time::Duration;

use axum::http::Method;
use base::{PicoUsd, Supervisor};
use serde_json::{Value, json};
use store::PastHour;
use tenancy::ServicePurpose;

use super::{House, NOW};
use crate::api::{BudgetRow, HealthFigures, Quantiles};
use crate::{AddressScope, HealthHour};

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3_600);

/// A hook of this name.
fn hook(name: &str) -> Value {
    json!({"to": {"webhook": {"url": format!("https://{name}.example/in")}}})
}

async fn furnished() -> (House, String) {
    let house = House::new().await;
    let acme = house.onboard("acme").await;
    house.onboard("globex").await;
    for tenant in ["acme", "globex"] {
        let budget = json!({"subject": "tenant", "limit": "10.00", "window": "monthly"});
        let path = format!("/admin/v1/tenants/{tenant}/budgets/month");
        house.put(&path, budget).await.ok();
        let path = format!("/admin/v1/tenants/{tenant}/channels/own");
        house.put(&path, hook(tenant)).await.ok();
    }
    let path = "/admin/v1/platform-channels/ops";
    house.put(path, hook("ops")).await.ok();
    (house, acme)
}

impl House {
    fn spend(&self, tenant: &str, dollars: i64) {
        let id = self.tenant_id(tenant);
        let mut budgets = self.rest.budgets.lock();
        budgets.retain(|(whose, _)| *whose != id);
        budgets.push((
            id,
            BudgetRow {
                budget: "month".parse().unwrap(),
                subject: "tenant".to_owned(),
                limit: PicoUsd::dollars(10),
                spent: PicoUsd::dollars(dollars),
                held: PicoUsd::ZERO,
                window_ends_at: None,
            },
        ));
    }

    /// A turn, and everything sent that is due.
    async fn turn(&self) {
        self.control.watch();
        let tasks = Supervisor::new();
        self.control.deliver_alerts(&tasks).await;
        while tasks.running() > 0 {
            tokio::task::yield_now().await;
        }
    }

    /// What was posted since the last time: whose hook, and the message's type and summary.
    fn heard(&self) -> Vec<(String, String, String)> {
        let posted = std::mem::take(&mut *self.rest.posted.lock());
        let mut heard: Vec<_> = posted
            .iter()
            .map(|hook| {
                let said: Value = serde_json::from_slice(&hook.body).unwrap();
                let text = |value: &Value| value.as_str().unwrap().to_owned();
                let host = hook.url.split(['/', '.']).nth(2).unwrap().to_owned();
                (host, text(&said["type"]), text(&said["data"]["summary"]))
            })
            .collect();
        heard.sort();
        heard
    }

    fn events(&self) -> Vec<(String, String)> {
        let heard = self.heard().into_iter();
        heard.map(|(host, event, _)| (host, event)).collect()
    }
}

fn to(hosts: &[&str], event: &str) -> Vec<(String, String)> {
    let to = |host: &&str| ((*host).to_owned(), event.to_owned());
    hosts.iter().map(to).collect()
}

#[tokio::test]
async fn a_budget_is_told_of_once_again_after_a_day_and_when_it_is_over() {
    let (house, acme) = furnished().await;
    house.turn().await;
    assert_eq!(house.events(), []);
    house.spend("acme", 8);
    house.turn().await;
    let heard = house.heard();
    assert_eq!(heard.len(), 2);
    assert_eq!((&*heard[0].0, &*heard[1].0), ("acme", "ops"));
    assert_eq!(heard[0].1, "alert.opened");
    assert_eq!(
        heard[0].2,
        "budget month has passed 80%: 8.00 of 10.00 spent USD".replace(" spent USD", " USD spent")
    );
    for _ in 0..20 {
        house.clock.advance(MINUTE);
        house.turn().await;
    }
    assert_eq!(house.events(), [], "it is told once");
    house.spend("acme", 10);
    house.turn().await;
    let heard = house.heard();
    assert_eq!(heard.len(), 2, "used up is another alert");
    assert!(heard[0].2.contains("used up"), "{}", heard[0].2);
    let path = "/admin/v1/tenants/acme/alerts?state=open";
    let open = house.call(&acme, Method::GET, path, Value::Null).await.ok();
    assert_eq!(open["data"].as_array().unwrap().len(), 2);
    // Just short of a day after it was opened, and a day.
    house.clock.advance(24 * HOUR - 21 * MINUTE);
    house.turn().await;
    assert_eq!(house.events(), []);
    house.clock.advance(MINUTE);
    house.turn().await;
    assert_eq!(house.events(), to(&["acme", "ops"], "alert.reminder"));
    house.turn().await;
    assert_eq!(house.events(), [], "a reminder is told once");
    // A new month: the other alert was opened twenty minutes later, and is never reminded of.
    house.spend("acme", 0);
    house.clock.advance(5 * MINUTE);
    house.turn().await;
    assert_eq!(house.events(), [], "it may be back in a moment");
    house.clock.advance(2 * MINUTE);
    house.turn().await;
    assert_eq!(
        house.events(),
        to(&["acme", "acme", "ops", "ops"], "alert.resolved")
    );
    let rows = house.get("/admin/v1/alerts").await.ok();
    assert_eq!(rows["data"][0]["state"], "resolved");
    // The same again is opened again.
    house.spend("acme", 8);
    house.turn().await;
    assert_eq!(house.events(), to(&["acme", "ops"], "alert.opened"));
}

#[tokio::test]
async fn a_tenants_channels_hear_that_tenants_alerts_alone() {
    let (house, acme) = furnished().await;
    house.spend("globex", 10);
    house.turn().await;
    let heard = house.heard();
    let hosts: Vec<_> = heard.iter().map(|(host, ..)| host.as_str()).collect();
    assert_eq!(hosts, ["globex", "globex", "ops", "ops"]);
    let own = |path: &'static str| house.call(&acme, Method::GET, path, Value::Null);
    let rows = own("/admin/v1/tenants/acme/alerts").await.ok();
    assert_eq!(rows["data"], json!([]));
    for path in [
        "/admin/v1/tenants/globex/alerts",
        "/admin/v1/alerts",
        "/admin/v1/platform-channels/ops",
        "/admin/v1/webhook-secret",
        "/admin/v1/tenants/globex/channels/own",
    ] {
        own(path).await.refused(404);
    }
    for path in [
        "/admin/v1/tenants/globex/channels/own/test",
        "/admin/v1/platform-channels/ops/test",
    ] {
        let tried = house.call(&acme, Method::POST, path, Value::Null).await;
        tried.refused(404);
    }
    assert_eq!(house.events(), []);
    // What the platform alone may say, a tenant may not.
    for spec in [
        json!({"to": {"slack": {"url": "env:HOME"}}}),
        json!({"to": {"webhook": {"url": "https://x.example"}}, "allow_private_address": true}),
        json!({"to": {"webhook": {"url": "http://x.example"}}}),
    ] {
        let path = "/admin/v1/tenants/acme/channels/more";
        let refused = house.call(&acme, Method::PUT, path, spec).await;
        assert_eq!(refused.status.as_u16(), 422, "{}", refused.text);
    }
}

#[tokio::test]
async fn each_owner_signs_with_its_own_secret_and_reaches_what_it_may() {
    let (house, _) = furnished().await;
    let private = json!({
        "to": {"webhook": {"url": "http://10.0.0.1/in"}}, "allow_private_address": true,
    });
    house
        .put("/admin/v1/platform-channels/inside", private)
        .await
        .ok();
    house.spend("acme", 8);
    house.turn().await;
    let posted = std::mem::take(&mut *house.rest.posted.lock());
    let hook = |part: &str| posted.iter().find(|hook| hook.url.contains(part)).unwrap();
    assert_eq!(hook("acme").scope, AddressScope::Public);
    assert_eq!(hook("ops").scope, AddressScope::Public);
    assert_eq!(hook("10.0.0.1").scope, AddressScope::Anywhere);
    for (part, secret) in [
        ("acme", "/admin/v1/tenants/acme/webhook-secret"),
        ("ops", "/admin/v1/webhook-secret"),
    ] {
        let secret = house.get(secret).await.ok()["secret"].clone();
        let secret = secret.as_str().unwrap().strip_prefix("whsec_").unwrap();
        use base64::Engine as _;
        let decode = |text: &str| base64::engine::general_purpose::STANDARD.decode(text);
        let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, &decode(secret).unwrap());
        let signed = hook(part).signed.as_ref().unwrap();
        let mut message = format!("{}.{}.", signed.id, signed.timestamp).into_bytes();
        message.extend_from_slice(&hook(part).body);
        let signature = decode(signed.signature.strip_prefix("v1,").unwrap()).unwrap();
        ring::hmac::verify(&key, &message, &signature).unwrap();
    }
}

#[tokio::test]
async fn what_does_not_arrive_waits_survives_a_restart_and_is_given_up_at_last() {
    let (house, _) = furnished().await;
    house.delete("/admin/v1/platform-channels/ops").await.ok();
    *house.rest.postmans_answer.lock() = Some("it is down".to_owned());
    house.spend("acme", 8);
    house.turn().await;
    let first = house.rest.posted.lock()[0].signed.clone().unwrap();
    house.heard();
    house.turn().await;
    assert_eq!(house.events(), [], "not before its time");
    let key = house.root_key();
    let house = house.restarted(key);
    house.clock.advance(MINUTE);
    *house.rest.postmans_answer.lock() = Some("it is down still".to_owned());
    house.spend("acme", 8);
    house.turn().await;
    let again = house.rest.posted.lock()[0].signed.clone().unwrap();
    assert_eq!(again.id, first.id, "receivers can tell it from another");
    assert_ne!(again.signature, first.signature);
    let mut tries = 2;
    for _ in 0..40 {
        house.heard();
        house.clock.advance(10 * MINUTE);
        house.turn().await;
        tries += house.rest.posted.lock().len();
    }
    assert_eq!(tries, 6);
}

#[tokio::test]
async fn mail_and_chat_have_their_own_forms_and_a_test_says_how_it_went() {
    let (house, acme) = furnished().await;
    let mail = json!({"to": {"email": {"to": ["ada@acme.example"]}}, "alerts": ["budget-soft"]});
    let path = "/admin/v1/tenants/acme/channels/mail";
    house.call(&acme, Method::PUT, path, mail).await.ok();
    let chat = json!({"to": {"slack": {"url": "https://chat.example/in"}}});
    let path = "/admin/v1/tenants/acme/channels/chat";
    house.call(&acme, Method::PUT, path, chat).await.ok();
    house.spend("acme", 10);
    house.turn().await;
    let mailed = std::mem::take(&mut *house.rest.mailed.lock());
    assert_eq!(mailed.len(), 1, "it hears of one kind alone");
    assert_eq!(mailed[0].to, ["ada@acme.example"]);
    assert_eq!(
        mailed[0].subject,
        "Partywall warning: acme: budget month has passed 80%: 10.00 of 10.00 USD spent"
    );
    assert!(
        mailed[0]
            .text
            .contains("Page: /dashboard/tenants/acme/budgets\n")
    );
    let posted = std::mem::take(&mut *house.rest.posted.lock());
    let chat = posted
        .iter()
        .find(|hook| hook.url.contains("chat"))
        .unwrap();
    assert!(chat.signed.is_none());
    let said: Value = serde_json::from_slice(&chat.body).unwrap();
    assert!(said["text"].as_str().unwrap().starts_with("Partywall "));
    let test = "/admin/v1/tenants/acme/channels/chat/test";
    let post = || house.call(&acme, Method::POST, test, Value::Null);
    assert_eq!(post().await.ok(), json!({"delivered": true}));
    *house.rest.postmans_answer.lock() = Some("status 404".to_owned());
    let expected = json!({"delivered": false, "problem": "status 404"});
    assert_eq!(post().await.ok(), expected);
}

#[tokio::test]
async fn keys_that_end_and_breakers_that_are_open_are_told_of() {
    let (house, acme) = furnished().await;
    for (name, expires) in [
        ("soon", "2026-03-10T10:00:00Z"),
        ("late", "2026-04-05T10:00:00Z"),
    ] {
        let key = json!({"name": name, "role": "service", "expires_at": expires});
        house.post("/admin/v1/tenants/acme/keys", key).await.ok();
    }
    house
        .rest
        .open_breakers
        .lock()
        .push(("up".parse().unwrap(), vec![house.tenant_id("acme")]));
    house.turn().await;
    let own: Vec<String> = house
        .heard()
        .into_iter()
        .filter(|(host, ..)| host == "acme")
        .map(|(.., summary)| summary)
        .collect();
    let expected = [
        "calls to upstream up fail and are held back",
        "key soon ends at 2026-03-10T10:00:00Z",
    ];
    assert_eq!(own, expected);
    let pages = house.call(
        &acme,
        Method::GET,
        "/admin/v1/tenants/acme/alerts",
        Value::Null,
    );
    let pages = pages.await.ok();
    assert_eq!(pages["data"].as_array().unwrap().len(), 2);
    // Who is gone has no alerts, and is told none.
    house.delete("/admin/v1/tenants/acme?confirm=acme").await;
    house.turn().await;
    assert_eq!(house.get("/admin/v1/alerts").await.ok()["data"], json!([]));
}

#[tokio::test]
async fn an_hour_unlike_a_tenants_own_past_is_told_of() {
    let (house, _) = furnished().await;
    let acme = house.tenant_id("acme");
    let now = NOW.as_micros() / 3_600_000_000;
    {
        let current = house.current();
        let keys = &current.tenant_named("acme").unwrap().unlocked;
        let publisher = &house.control.publisher;
        let scope = publisher.service_scope(keys, ServicePurpose::Watching);
        let store = publisher.stores.open(&scope);
        for hour in now - 28 * 24..now {
            let usual = PastHour {
                hour,
                calls: 1_000,
                failed: 10,
                refused: 5,
                p95_ms: 800 + u64::try_from(hour % 7).unwrap() * 10,
            };
            store.note_hour(&usual).unwrap();
        }
    }
    let hour = |failed, p95_ms| HealthHour {
        sum: HealthFigures {
            calls: 500,
            failed,
            refused: 2,
            duration: Some(Quantiles {
                p50_ms: 300,
                p95_ms,
                p99_ms: p95_ms,
            }),
            ..HealthFigures::default()
        },
        ..HealthHour::default()
    };
    // As ever for acme; globex fails wholly, and nothing is known of its past.
    let globex = house.tenant_id("globex");
    *house.rest.hours.lock() = vec![(acme, hour(6, 900)), (globex, hour(500, 9_000))];
    house.turn().await;
    assert_eq!(house.events(), []);
    *house.rest.hours.lock() = vec![(acme, hour(60, 3_000))];
    house.turn().await;
    assert_eq!(house.events(), [], "looked for every five minutes");
    house.clock.advance(5 * MINUTE);
    house.turn().await;
    let own: Vec<_> = house
        .heard()
        .into_iter()
        .filter(|it| it.0 == "acme")
        .collect();
    assert_eq!(own.len(), 2);
    assert_eq!(
        own[0].2,
        "12% of calls fail; its own past lets expect at most 6%"
    );
    assert_eq!(
        own[1].2,
        "5% of calls take longer than 3.0 s; its own past lets expect at most 1.8 s"
    );
    // When the hour is over it is past itself.
    house.clock.advance(HOUR);
    house.turn().await;
    let current = house.current();
    let keys = &current.tenant_named("acme").unwrap().unlocked;
    let publisher = &house.control.publisher;
    let scope = publisher.service_scope(keys, ServicePurpose::Watching);
    let noted = publisher.stores.open(&scope).past_hours(now).unwrap();
    assert_eq!((noted[0].hour, noted[0].failed), (now, 60));
}
