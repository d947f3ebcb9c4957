//! Usage: from the tenants' stores, with what is in the journal alone brought there first; by
//! name, and inside one's own walls.

use axum::http::Method;
use base::{AttemptId, Name, PicoUsd, RequestId, Timestamp};
use ledger::{
    Consumption, Hop, Intent, LedgerLine, LineState, Lsn, Metering, Outcome, PriceVersion,
};
use serde_json::{Value, json};
use tenancy::ServicePurpose;

use super::{House, NOW};
use crate::api::BudgetRow;

pub(super) fn line(house: &House, tenant: &str, number: u64, model: &str) -> LedgerLine {
    let current = house.current();
    let entry = current.tenant_named(tenant).unwrap();
    let at = NOW.plus(std::time::Duration::from_secs(number));
    let millis = u128::try_from(at.as_micros() / 1_000).unwrap();
    LedgerLine {
        lsn: Lsn::new(number + 1),
        intent: Intent {
            attempt: AttemptId::from_bits((millis << 80) | 1),
            request: RequestId::from_bits((millis << 80) | 2),
            parent: None,
            prompt: None,
            tenant: entry.id(),
            team: None,
            user: None,
            key: entry.keys["admin"].id,
            feature: "chat".parse().unwrap(),
            session: None,
            turn: None,
            hop: Hop::Generate,
            model: model.parse().unwrap(),
            upstream: "up".parse().unwrap(),
            price_version: PriceVersion(3),
            amount: PicoUsd::dollars(2),
            input_bound: 100,
            output_bound: 100,
            accounts: Default::default(),
            at,
            expires_at: at,
        },
        served: None,
        consumption: Consumption {
            input_tokens: 10,
            output_tokens: 5,
            ..Consumption::default()
        },
        cost: PicoUsd::dollars(1),
        state: LineState::Settled {
            outcome: Outcome::Completed,
            metering: Metering::Reported,
        },
        at,
    }
}

pub(super) fn post(house: &House, tenant: &str, lines: &[LedgerLine]) {
    posting(house, tenant, lines.to_vec())();
}

/// Leaves these lines in the journal alone, until somebody catches up.
fn journal(house: &House, tenant: &str, lines: &[LedgerLine]) {
    let compact = Box::new(posting(house, tenant, lines.to_vec()));
    *house.rest.compaction.lock() = Some(compact);
}

fn posting(house: &House, tenant: &str, lines: Vec<LedgerLine>) -> impl FnOnce() + Send + use<> {
    let current = house.current();
    let keys = &current.tenant_named(tenant).unwrap().unlocked;
    let publisher = &house.control.publisher;
    let scope = publisher.service_scope(keys, ServicePurpose::Compaction);
    let stores = publisher.stores.clone();
    move || stores.open(&scope).post_lines(&lines).unwrap()
}

async fn furnished() -> (House, String) {
    let house = House::new().await;
    let acme = house.onboard("acme").await;
    house.onboard("globex").await;
    let lines: Vec<_> = (0..3)
        .map(|n| line(&house, "acme", n, ["a", "b"][n as usize % 2]))
        .collect();
    post(&house, "acme", &lines);
    let foreign = line(&house, "globex", 50, "a");
    post(&house, "globex", &[foreign]);
    (house, acme)
}

#[tokio::test]
async fn a_tenant_sees_its_own_usage_by_name_and_nobody_elses() {
    let (house, acme) = furnished().await;
    let path = "/admin/v1/tenants/acme/usage?group_by=key,model,day&from=2026-03-01";
    let page = house.call(&acme, Method::GET, path, Value::Null).await.ok();
    let group = json!({"key": "admin", "model": "a", "day": "2026-03-05"});
    let rows = page["data"].as_array().unwrap();
    assert_eq!(rows.len(), 2);
    assert_eq!(rows[0]["group"], group);
    assert_eq!(
        (&rows[0]["calls"], &rows[0]["cost"]),
        (&json!(2), &json!("2.00"))
    );
    assert_eq!(
        (&rows[1]["input_tokens"], &rows[1]["cost"]),
        (&json!(10), &json!("1.00"))
    );
    let first = house.get(&format!("{path}&limit=1")).await.ok();
    assert_eq!(first["next_cursor"], "1");
    let last = house.get(&format!("{path}&limit=1&cursor=1")).await.ok();
    assert_eq!(
        (&last["data"][0], &last["next_cursor"]),
        (&rows[1], &Value::Null)
    );
}

#[tokio::test]
async fn costs_are_cut_along_several_axes_at_once() {
    let (house, acme) = furnished().await;
    let mut dear = line(&house, "acme", 3, "b");
    dear.served = Some("b-2026-01".parse().unwrap());
    dear.cost = PicoUsd::dollars(5);
    dear.intent.hop = Hop::Guard;
    dear.intent.session = Some("s1".parse().unwrap());
    post(&house, "acme", &[dear]);
    let ask = async |query: &str| {
        let path = format!("/admin/v1/tenants/acme/costs?{query}");
        house.call(&acme, Method::GET, &path, Value::Null).await
    };
    let all = ask("by=model,version&granularity=hour&sort=cost")
        .await
        .ok();
    let row = |row: &Value| (row["group"].clone(), row["cost"].clone());
    assert_eq!(
        row(&all["data"][0]),
        (
            json!({"model": "b", "version": "b-2026-01", "hour": "2026-03-05T10:00:00Z"}),
            json!("5.00")
        )
    );
    let costs: Vec<_> = all["data"].as_array().unwrap().iter().map(row).collect();
    assert_eq!(
        (costs.len(), &costs[1].1, &costs[2].1),
        (3, &json!("2.00"), &json!("1.00"))
    );
    assert_eq!(
        (&all["total"]["cost"], &all["total"]["calls"]),
        (&json!("8.00"), &json!(4))
    );
    // Pages add up, and each says the total of all.
    let first = ask("by=model,version&sort=cost&limit=1").await.ok();
    let second = ask("by=model,version&sort=cost&limit=2&cursor=1")
        .await
        .ok();
    assert_eq!(first["total"], all["total"]);
    assert_eq!(
        (&first["next_cursor"], &second["next_cursor"]),
        (&json!("1"), &Value::Null)
    );
    assert_eq!(second["data"].as_array().unwrap().len(), 2);
    for (only, cost) in [
        ("hop=guard", "5.00"),
        ("key=admin", "8.00"),
        ("model=a", "2.00"),
        ("version=b-2026-01", "5.00"),
        ("upstream=up", "8.00"),
        ("upstream=down", "0.00"),
        ("session=s1&from=2026-03-01", "5.00"),
    ] {
        assert_eq!(ask(only).await.ok()["total"]["cost"], cost, "{only}");
    }
    let month = ask("granularity=month").await.ok();
    assert_eq!(month["data"][0]["group"], json!({"month": "2026-03"}));
    for wrong in [
        "by=moon",
        "by=day",
        "by=tenant",
        "by=session&from=2025-01-01",
        "key=nobody",
        "granularity=minute",
        "from=yesterday",
    ] {
        ask(wrong).await.refused(400);
    }
    // The neighbour's costs are not among them, and its door is not there.
    let path = "/admin/v1/tenants/globex/costs";
    house
        .call(&acme, Method::GET, path, Value::Null)
        .await
        .refused(404);
}

#[tokio::test]
async fn all_tenants_costs_are_the_operators_to_see() {
    let (house, acme) = furnished().await;
    let all = house
        .get("/admin/v1/costs?by=tenant,model&sort=cost")
        .await
        .ok();
    assert_eq!(all["total"]["cost"], "4.00");
    assert_eq!(
        all["data"][0]["group"],
        json!({"tenant": "acme", "model": "a"})
    );
    let some = house.get("/admin/v1/costs?by=tenant&model=b").await.ok();
    assert_eq!(some["data"].as_array().unwrap().len(), 1);
    house.get("/admin/v1/costs?by=session").await.refused(400);
    house
        .call(&acme, Method::GET, "/admin/v1/costs", Value::Null)
        .await
        .refused(404);
    let entry = house.get("/admin/v1/audit?limit=1").await.ok()["data"][0]["entry"].clone();
    assert_eq!(entry["action"], "platform_costs");
}

/// A document of CSV without quotes inside its fields but for the tags', by the header's names.
fn charges(text: &str) -> Vec<std::collections::BTreeMap<String, String>> {
    let mut reader = csv::Reader::from_reader(text.as_bytes());
    reader.deserialize().map(Result::unwrap).collect()
}

#[tokio::test]
async fn an_export_adds_up_to_the_ledger_and_has_ones_own_alone() {
    let (house, acme) = furnished().await;
    let price = json!({"entries": [{"version": 3, "effective_from": "2026-01-01T00:00:00Z",
        "input": "0.01", "output": "0.02"}]});
    house.put("/admin/v1/prices/vllm%2Fm", price).await.ok();
    let upstream =
        json!({"engine": "vllm", "base_url": "http://up.example:8000/v1", "salting": "derived"});
    house.put("/admin/v1/upstreams/up", upstream).await.ok();
    let route = json!({"targets": [{"upstream": "up", "model": "m"}]});
    house.put("/admin/v1/routes/priced", route).await.ok();
    let priced = LedgerLine {
        cost: "0.20".parse().unwrap(),
        ..line(&house, "acme", 4, "priced")
    };
    post(&house, "acme", &[priced]);
    let days = "from=2026-03-01&to=2026-04-01";
    let ask = async |whose: &str, key: Option<&str>, format: &str| {
        let path = format!("/admin/v1/{whose}costs/export?format={format}&{days}");
        match key {
            Some(key) => house.call(key, Method::GET, &path, Value::Null).await,
            None => house.get(&path).await,
        }
    };
    let text = ask("tenants/acme/", Some(&acme), "focus-csv").await.text;
    let own = charges(&text);
    let sum = |rows: &[std::collections::BTreeMap<String, String>]| -> PicoUsd {
        rows.iter()
            .map(|row| row["BilledCost"].parse::<PicoUsd>().unwrap())
            .sum()
    };
    assert_eq!(sum(&own), "3.20".parse().unwrap());
    assert!(own.iter().all(|row| row["SubAccountName"] == "acme"));
    let input = own
        .iter()
        .find(|row| row["SkuMeter"] == "Input Tokens")
        .unwrap();
    assert_eq!(
        [
            "PricingQuantity",
            "ListUnitPrice",
            "BilledCost",
            "ChargePeriodStart",
            "HostProviderName"
        ]
        .map(|column| &*input[column]),
        ["10.00", "0.01", "0.10", "2026-03-05T00:00:00Z", "vllm"]
    );
    let all = charges(&ask("", None, "focus-csv").await.text);
    assert_eq!(sum(&all), "4.20".parse().unwrap());
    // Events: one of each call that is settled, three of each for Stripe.
    let events = ask("tenants/acme/", Some(&acme), "openmeter").await.text;
    let events: Vec<Value> = events
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(events.len(), 4);
    assert_eq!(
        (&events[0]["subject"], &events[0]["data"]["input_tokens"]),
        (&json!("acme"), &json!(10))
    );
    let events = ask("tenants/acme/", Some(&acme), "stripe").await.text;
    assert_eq!(events.lines().count(), 12);
    // Neither the neighbour's nor everybody's.
    ask("tenants/globex/", Some(&acme), "focus-csv")
        .await
        .refused(404);
    ask("", Some(&acme), "focus-csv").await.refused(404);
    ask("", None, "stripe").await.refused(400);
    for wrong in [
        "from=2026-03-01T01:00:00Z&to=2026-04-01",
        "from=2026-03-01&to=2026-03-01",
        "from=2025-01-01&to=2026-03-01",
    ] {
        let path = format!("/admin/v1/tenants/acme/costs/export?format=focus-csv&{wrong}");
        house.get(&path).await.refused(400);
    }
}

#[tokio::test]
async fn a_ledger_is_added_up_again_by_operators() {
    let (house, acme) = furnished().await;
    let path = "/admin/v1/tenants/acme/ledger/rebuild";
    house
        .call(&acme, Method::POST, path, json!({}))
        .await
        .refused(404);
    let rebuilt = house.post(path, json!({})).await.ok();
    assert_eq!(rebuilt, json!({"lines": 3, "sums": 6, "corrected": 0}));
}

#[tokio::test]
async fn what_is_in_the_journal_alone_counts_once() {
    let (house, acme) = furnished().await;
    // One call is stored already, with what was known of it then.
    let known = LedgerLine {
        state: LineState::Unsettled,
        ..line(&house, "acme", 10, "b")
    };
    post(&house, "acme", std::slice::from_ref(&known));
    let settled = LedgerLine {
        lsn: Lsn::new(60),
        cost: PicoUsd::dollars(2),
        ..line(&house, "acme", 10, "b")
    };
    let tail = [settled, line(&house, "acme", 51, "b")];
    let path = "/admin/v1/tenants/acme/usage?group_by=model";
    journal(&house, "acme", &tail);
    let page = house.call(&acme, Method::GET, path, Value::Null).await.ok();
    let sums = |row: &Value| (row["calls"].clone(), row["cost"].clone());
    assert_eq!(sums(&page["data"][1]), (json!(3), json!("4.00")));
    journal(&house, "acme", &tail);
    let again = house.call(&acme, Method::GET, path, Value::Null).await.ok();
    assert_eq!(again, page);
    let later = line(&house, "acme", 52, "b");
    journal(&house, "acme", &[later]);
    let all = house.get("/admin/v1/usage?tenant=acme").await.ok();
    assert_eq!(sums(&all["data"][0]), (json!(6), json!("7.00")));
}

#[tokio::test]
async fn a_call_is_found_as_soon_as_it_has_ended() {
    let (house, acme) = furnished().await;
    let call = line(&house, "acme", 51, "b");
    for id in [
        call.intent.request.to_string(),
        call.intent.attempt.to_string(),
    ] {
        let (house, acme) = (&house, &acme);
        journal(house, "acme", std::slice::from_ref(&call));
        let path = format!("/admin/v1/tenants/acme/requests/{id}");
        let found = house.call(acme, Method::GET, &path, Value::Null).await.ok();
        assert_eq!(found["data"].as_array().unwrap().len(), 1);
        assert_eq!(found["data"][0]["cost"], "1.00");
    }
}

#[tokio::test]
async fn the_platform_sees_sums_over_tenants_on_record() {
    let (house, _) = furnished().await;
    let by_tenant = house.get("/admin/v1/usage?group_by=tenant").await.ok();
    let costs: Vec<(&Value, &Value)> = by_tenant["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| (&row["group"]["tenant"], &row["cost"]))
        .collect();
    assert_eq!(
        costs,
        [
            (&json!("acme"), &json!("3.00")),
            (&json!("globex"), &json!("1.00"))
        ]
    );
    let first = house
        .get("/admin/v1/usage?group_by=tenant&limit=1")
        .await
        .ok();
    assert_eq!(first["next_cursor"], "acme");
    let last = house
        .get("/admin/v1/usage?group_by=tenant&limit=1&cursor=acme")
        .await
        .ok();
    assert_eq!(last["data"], json!([by_tenant["data"][1]]));
    assert_eq!(last["next_cursor"], Value::Null);
    let by_model = house.get("/admin/v1/usage?group_by=model").await.ok();
    assert_eq!(by_model["data"][0]["cost"], "3.00");
    let one = house.get("/admin/v1/usage?tenant=globex").await.ok();
    assert_eq!(
        (one["data"][0]["calls"].clone(), &one["data"][0]["cost"]),
        (json!(1), &json!("1.00"))
    );
    house
        .get("/admin/v1/usage?tenant=nobody")
        .await
        .refused(404);
    house
        .get("/admin/v1/usage?group_by=session")
        .await
        .refused(400);
    let entry = house.get("/admin/v1/audit?limit=1").await.ok()["data"][0]["entry"].clone();
    assert_eq!(entry["action"], "platform_usage");
}

#[tokio::test]
async fn a_request_is_found_by_its_id_or_its_calls_and_only_at_home() {
    let (house, acme) = furnished().await;
    let own = line(&house, "acme", 1, "b");
    for id in [
        own.intent.request.to_string(),
        own.intent.attempt.to_string(),
    ] {
        let path = format!("/admin/v1/tenants/acme/requests/{id}");
        let found = house
            .call(&acme, Method::GET, &path, Value::Null)
            .await
            .ok();
        assert_eq!(found["data"].as_array().unwrap().len(), 1);
        let call = &found["data"][0];
        assert_eq!(
            (&call["key"], &call["state"]),
            (&json!("admin"), &json!("settled"))
        );
        assert_eq!(
            (&call["outcome"], &call["cost"]),
            (&json!("completed"), &json!("1.00"))
        );
        assert_eq!(call["price_version"], json!(3));
    }
    let foreign = line(&house, "globex", 50, "a").intent.request;
    for id in [
        foreign.to_string(),
        "req_00000000000000000000000001".to_owned(),
        "x".to_owned(),
    ] {
        let path = format!("/admin/v1/tenants/acme/requests/{id}");
        house
            .call(&acme, Method::GET, &path, Value::Null)
            .await
            .refused(404);
    }
}

#[tokio::test]
async fn budgets_show_what_is_spent_and_held_of_this_tenant_alone() {
    let (house, acme) = furnished().await;
    let row = |name: &str| BudgetRow {
        budget: name.parse::<Name>().unwrap(),
        subject: "tenant".to_owned(),
        limit: PicoUsd::dollars(10),
        spent: PicoUsd::dollars(3),
        held: PicoUsd::dollars(1),
        window_ends_at: Some(Timestamp::from_micros(0)),
    };
    *house.rest.budgets.lock() = vec![
        (house.tenant_id("acme"), row("mine")),
        (house.tenant_id("globex"), row("theirs")),
    ];
    let path = "/admin/v1/tenants/acme/budgets/status";
    let status = house.call(&acme, Method::GET, path, Value::Null).await.ok();
    let expected = json!({"data": [{"budget": "mine", "subject": "tenant", "limit": "10.00",
        "spent": "3.00", "held": "1.00", "window_ends_at": "1970-01-01T00:00:00Z"}]});
    assert_eq!(status, expected);
}

#[tokio::test]
async fn what_caches_did_is_summed_by_days_and_by_lines() {
    let house = House::new().await;
    house.onboard("acme").await;
    let written = LedgerLine {
        consumption: Consumption {
            input_tokens: 100,
            cached_read_tokens: 10,
            cached_write_tokens: 50,
            cached_write_1h_tokens: 20,
            ..Consumption::default()
        },
        ..line(&house, "acme", 1, "m")
    };
    let given_again = LedgerLine {
        consumption: Consumption::default(),
        state: LineState::Settled {
            outcome: Outcome::Completed,
            metering: Metering::Cached {
                anew: PicoUsd::dollars(1),
            },
        },
        ..line(&house, "acme", 2, "m")
    };
    post(&house, "acme", &[written, given_again]);
    // Whole days are summed beforehand, and a part of one from its lines.
    for from in ["2026-03-05", "2026-03-05T00:00:01Z"] {
        let path = format!("/admin/v1/tenants/acme/usage?from={from}");
        let row = house.get(&path).await.ok()["data"][0].clone();
        let count = |field: &str| row[field].as_u64().unwrap();
        assert_eq!((count("calls"), count("cache_hits")), (2, 1), "{row}");
        assert_eq!(count("cached_tokens"), 10, "{row}");
        assert_eq!(count("cached_write_tokens"), 50, "{row}");
        assert_eq!(count("cached_write_1h_tokens"), 20, "{row}");
    }
}

#[tokio::test]
async fn calls_come_the_newest_first_page_by_page_by_what_is_asked_for() {
    let (house, acme) = furnished().await;
    house.clock.advance(std::time::Duration::from_secs(60));
    // A hop on the way of the newest, and a call of last week's.
    let mut hop = line(&house, "acme", 3, "b");
    hop.intent.hop = Hop::Guard;
    hop.intent.parent = Some(line(&house, "acme", 2, "a").intent.request);
    let mut old = line(&house, "acme", 4, "a");
    let week = std::time::Duration::from_secs(7 * 24 * 3600);
    let millis = u128::try_from(NOW.minus(week).as_micros() / 1_000).unwrap();
    old.intent.at = NOW.minus(week);
    old.intent.attempt = AttemptId::from_bits((millis << 80) | 1);
    post(&house, "acme", &[hop, old]);
    let root = "/admin/v1/tenants/acme/calls";
    let mut query = String::new();
    let mut seen = Vec::new();
    for _ in 0..10 {
        let path = format!("{root}?limit=2{query}");
        let page = house
            .call(&acme, Method::GET, &path, Value::Null)
            .await
            .ok();
        let rows = page["data"].as_array().unwrap();
        let said = |row: &Value| format!("{} {}", row["model"], row["started_at"]);
        seen.extend(rows.iter().map(said));
        match page["next_cursor"].as_str() {
            Some(cursor) => query = format!("&cursor={cursor}"),
            None => break,
        }
    }
    let expected = [
        r#""b" "2026-03-05T10:00:03Z""#,
        r#""a" "2026-03-05T10:00:02Z""#,
        r#""b" "2026-03-05T10:00:01Z""#,
        r#""a" "2026-03-05T10:00:00Z""#,
        r#""a" "2026-02-26T10:00:00Z""#,
    ];
    assert_eq!(seen, expected);
    for (query, expected) in [
        ("model=b", 2),
        ("hop=guard", 1),
        ("model=b&hop=generate", 1),
        ("key=admin&outcome=completed", 5),
        ("outcome=cut", 0),
        ("from=2026-03-05", 4),
        ("to=2026-03-01", 1),
        ("user=ada", 0),
    ] {
        let page = house.get(&format!("{root}?{query}")).await.ok();
        assert_eq!(page["data"].as_array().unwrap().len(), expected, "{query}");
    }
    house.get(&format!("{root}?cursor=soon")).await.refused(400);
    // A request has what was called on its way.
    let newest = line(&house, "acme", 2, "a").intent.request;
    let path = format!("/admin/v1/tenants/acme/requests/{newest}");
    let request = house
        .call(&acme, Method::GET, &path, Value::Null)
        .await
        .ok();
    assert_eq!(request["data"].as_array().unwrap().len(), 2);
    let foreign = "/admin/v1/tenants/globex/calls";
    let refused = house.call(&acme, Method::GET, foreign, Value::Null).await;
    assert_eq!(refused.status, 404);
}
