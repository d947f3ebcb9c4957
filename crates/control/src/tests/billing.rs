//! Invoices: made from the sums, final once, numbered without gaps, and each tenant's own.

use axum::http::Method;
use base::{PicoUsd, Timestamp};
use ledger::{LedgerLine, LineState, Metering, Outcome};
use serde_json::{Value, json};
use store::BillingDocument;
use tenancy::ServicePurpose;

use super::usage::{line, post};
use super::{Answered, House, NOW};

const ACME: &str = "/admin/v1/tenants/acme";

/// A house whose tenants are charged their cost and a quarter.
async fn furnished() -> (House, String) {
    let house = House::new().await;
    let book = json!({
        "issuer": "Example Ltd\n1 High Street",
        "entries": [{"effective_from": "2026-01-01T00:00:00Z", "markup_basis_points": 2_500}],
    });
    house.put("/admin/v1/price-books/list", book).await.ok();
    house
        .put("/admin/v1/tiers/free", json!({"price_book": "list"}))
        .await
        .ok();
    let acme = house.onboard("acme").await;
    house.onboard("globex").await;
    let lines: Vec<LedgerLine> = (0..3)
        .map(|n| line(&house, "acme", n, ["a", "b"][n as usize % 2]))
        .collect();
    post(&house, "acme", &lines);
    let foreign = line(&house, "globex", 50, "a");
    post(&house, "globex", &[foreign]);
    (house, acme)
}

fn at(house: &House, text: &str) {
    let time: Timestamp = text.parse().unwrap();
    house.clock.jump_to(time);
}

/// An hour after March, in UTC.
fn april(house: &House) {
    at(house, "2026-04-01T01:00:00Z");
}

async fn finalise(house: &House, tenant: &str) -> Answered {
    let path = format!("/admin/v1/tenants/{tenant}/invoices/2026-03/finalise");
    house.post(&path, Value::Null).await
}

async fn march(house: &House) -> Value {
    house.get(&format!("{ACME}/invoices/2026-03")).await.ok()
}

#[tokio::test]
async fn a_draft_becomes_final_once_and_never_changes() {
    let (house, acme) = furnished().await;
    let draft = march(&house).await;
    assert_eq!(
        (&draft["state"], &draft["number"]),
        (&json!("draft"), &Value::Null)
    );
    assert_eq!(
        (&draft["subtotal"], &draft["total"]),
        (&json!("3.75"), &json!("3.75"))
    );
    let lines = draft["lines"].as_array().unwrap();
    assert_eq!(
        (
            lines.len(),
            &lines[0]["description"],
            &lines[0]["amount"],
            &lines[0]["cost"]
        ),
        (2, &json!("a for chat"), &json!("2.50"), &json!("2.00"))
    );
    let early = finalise(&house, "acme").await.refused(409);
    assert!(early.contains("an hour later"), "{early}");
    april(&house);
    let made = finalise(&house, "acme").await.ok();
    assert_eq!(
        (&made["state"], &made["number"]),
        (&json!("final"), &json!("INV-000001"))
    );
    assert_eq!(made["issuer"], "Example Ltd\n1 High Street");
    // Neither another price nor late usage changes it, nor being asked again.
    let dear =
        json!({"entries": [{"effective_from": "2026-01-01T00:00:00Z", "markup_basis_points": 9}]});
    house.put("/admin/v1/price-books/list", dear).await.ok();
    post(&house, "acme", &[line(&house, "acme", 9, "a")]);
    assert_eq!(finalise(&house, "acme").await.ok(), made);
    assert_eq!(march(&house).await, made);
    // By its number too, and for the tenant's own administrator.
    let path = format!("{ACME}/invoices/INV-000001");
    let own = house
        .call(&acme, Method::GET, &path, Value::Null)
        .await
        .ok();
    assert_eq!(own, made);
    let listed = house.get(&format!("{ACME}/invoices")).await.ok();
    let row = json!({"number": "INV-000001", "period": "2026-03", "total": "3.75",
                     "credited": "0.00", "finalised_at": "2026-04-01T01:00:00Z"});
    assert_eq!(listed["data"], json!([row]));
    // It is on record, in the tenant's own log too.
    let log = house
        .call(&acme, Method::GET, &format!("{ACME}/audit"), Value::Null)
        .await
        .ok();
    assert!(log.to_string().contains("finalise_invoice"), "{log}");
}

#[tokio::test]
async fn numbers_have_no_gaps_and_are_nobody_elses() {
    let (house, acme) = furnished().await;
    april(&house);
    finalise(&house, "globex").await.ok();
    // What is refused takes no number.
    house
        .post(&format!("{ACME}/invoices/2026-02/finalise"), Value::Null)
        .await
        .refused(409);
    finalise(&house, "acme").await.ok();
    let all = house.get("/admin/v1/invoice-numbers?series=inv").await.ok();
    let numbers: Vec<_> = all["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| {
            (
                row["number"].as_str().unwrap(),
                row["tenant"].as_str().unwrap(),
            )
        })
        .collect();
    assert_eq!(numbers, [("INV-000001", "globex"), ("INV-000002", "acme")]);
    let first = house
        .get("/admin/v1/invoice-numbers?series=inv&limit=1")
        .await
        .ok();
    let second = house
        .get("/admin/v1/invoice-numbers?series=inv&limit=1&cursor=1")
        .await
        .ok();
    assert_eq!(first["next_cursor"], "1");
    assert_eq!(second["data"], json!([all["data"][1]]));
    // The neighbour's number says nothing, to anybody who asks within acme.
    for path in [
        "invoices/INV-000001",
        "invoices/INV-000003",
        "invoices/INV-0",
        "invoices/x",
    ] {
        let path = format!("{ACME}/{path}");
        house
            .call(&acme, Method::GET, &path, Value::Null)
            .await
            .refused(404);
        house.get(&path).await.refused(404);
    }
    let credit = json!({"reference": "r", "amount": "0.01", "reason": "r"});
    house
        .post(&format!("{ACME}/invoices/INV-000001/credit-notes"), credit)
        .await
        .refused(404);
    let path = "/admin/v1/tenants/globex/invoices/2026-03";
    house
        .call(&acme, Method::GET, path, Value::Null)
        .await
        .refused(404);
    // A tenant finalises nothing.
    let path = format!("{ACME}/invoices/2026-02/finalise");
    house
        .call(&acme, Method::POST, &path, Value::Null)
        .await
        .refused(404);
}

#[tokio::test]
async fn a_crash_after_the_number_loses_neither_it_nor_the_document() {
    let (house, _) = furnished().await;
    april(&house);
    let draft = march(&house).await;
    let (tenant, keys) = {
        let current = house.current();
        let entry = current.tenant_named("acme").unwrap();
        (entry.id(), std::sync::Arc::clone(&entry.unlocked))
    };
    // As far as the process came: the number is taken, the tenant's store knows nothing.
    let mut document = draft.clone();
    document["number"] = json!("INV-000001");
    document["state"] = json!("final");
    document["finalised_at"] = json!("2026-04-01T01:00:00Z");
    let body = serde_json::to_vec(&document).unwrap();
    let id = "invoice/2026-03";
    let sealed = keys.sealing_key::<tenancy::purpose::Catalogue>().seal(
        &base::SystemEntropy,
        &[id.as_bytes()],
        &body,
    );
    let digest = ring::digest::digest(&ring::digest::SHA256, &body)
        .as_ref()
        .to_vec();
    let catalogue = &house.control.publisher.catalogue;
    let taken = catalogue.take_number((tenant, id), "inv", NOW, |number| {
        assert_eq!(number, 1);
        Ok::<_, store::CatalogueError>((digest, sealed))
    });
    assert!(taken.unwrap().pending.is_some());
    let root = house.root_key();
    let house = house.restarted(root);
    april(&house);
    let found = march(&house).await;
    assert_eq!(
        (&found["number"], &found["total"]),
        (&json!("INV-000001"), &json!("3.75"))
    );
    assert_eq!(finalise(&house, "acme").await.ok(), found);
    let catalogue = &house.control.publisher.catalogue;
    assert_eq!(catalogue.pending_documents(tenant).unwrap(), []);
    let next = finalise(&house, "globex").await.ok();
    assert_eq!(next["number"], "INV-000002");
}

#[tokio::test]
async fn a_number_whose_document_is_lost_is_given_to_nothing_else() {
    let (house, _) = furnished().await;
    april(&house);
    let tenant = house.tenant_id("acme");
    let catalogue = &house.control.publisher.catalogue;
    let write = |_| Ok::<_, store::CatalogueError>((vec![1], vec![2]));
    let taken = catalogue.take_number((tenant, "invoice/2026-03"), "inv", NOW, write);
    catalogue.document_is_kept(&taken.unwrap()).unwrap();
    let shown = house.get(&format!("{ACME}/invoices/2026-03")).await;
    for refused in [finalise(&house, "acme").await, shown] {
        let refused = refused.refused(409);
        assert!(refused.contains("INV-000001 was given"), "{refused}");
    }
}

#[tokio::test]
async fn what_the_register_does_not_know_is_no_invoice() {
    let (house, _) = furnished().await;
    let mut forged = march(&house).await;
    forged["state"] = json!("final");
    forged["number"] = json!("INV-000001");
    let current = house.current();
    let keys = &current.tenant_named("acme").unwrap().unlocked;
    let publisher = &house.control.publisher;
    let scope = publisher.service_scope(keys, ServicePurpose::Compaction);
    let document = BillingDocument {
        id: "invoice/2026-03".to_owned(),
        at: NOW,
        body: serde_json::to_vec(&forged).unwrap(),
    };
    // A number was given to another document.
    let write = |_| Ok::<_, store::CatalogueError>((vec![1], vec![2]));
    let whose = (house.tenant_id("globex"), "invoice/2026-03");
    let taken = publisher.catalogue.take_number(whose, "inv", NOW, write);
    publisher
        .catalogue
        .document_is_kept(&taken.unwrap())
        .unwrap();
    let keys = &current.tenant_named("globex").unwrap().unlocked;
    let globex = publisher.service_scope(keys, ServicePurpose::Compaction);
    let (forged, stores) = (document.clone(), publisher.stores.clone());
    let kept = tokio::task::spawn_blocking(move || {
        let globex = stores.open(&globex);
        globex.keep_billing_document(&forged).unwrap()
    });
    assert!(kept.await.unwrap());
    let path = "/admin/v1/tenants/globex/invoices/2026-03";
    house.get(path).await.refused(500);
    let stores = publisher.stores.clone();
    let kept = tokio::task::spawn_blocking(move || {
        stores
            .open(&scope)
            .keep_billing_document(&document)
            .unwrap()
    });
    assert!(kept.await.unwrap());
    house
        .get(&format!("{ACME}/invoices/2026-03"))
        .await
        .refused(500);
}

#[tokio::test]
async fn an_invoice_waits_for_prices_usage_and_the_ends_of_calls() {
    let (house, _) = furnished().await;
    april(&house);
    let nothing = house
        .post(&format!("{ACME}/invoices/2026-02/finalise"), Value::Null)
        .await;
    assert_eq!(nothing.refused(409), "there is nothing to charge");
    let open = LedgerLine {
        state: LineState::Unsettled,
        ..line(&house, "acme", 7, "a")
    };
    post(&house, "acme", std::slice::from_ref(&open));
    let refused = finalise(&house, "acme").await.refused(409);
    assert!(refused.contains("1 call(s)"), "{refused}");
    assert_eq!(march(&house).await["unsettled"], 1);
    let settled = LedgerLine {
        lsn: ledger::Lsn::new(100),
        cost: PicoUsd::ZERO,
        state: LineState::Reconciled,
        ..open
    };
    post(&house, "acme", &[settled]);
    assert_eq!(finalise(&house, "acme").await.ok()["total"], "3.75");
    // Usage before the first entry has no price.
    let late = json!({"entries": [{"effective_from": "2026-03-05T11:00:00Z"}]});
    house.put("/admin/v1/price-books/late", late).await.ok();
    house
        .put(
            "/admin/v1/tenants/globex",
            json!({"tier": "free", "price_book": "late"}),
        )
        .await
        .ok();
    let refused = finalise(&house, "globex").await.refused(409);
    assert!(
        refused.contains("add an entry that begins by 2026-03-01T00:00:00Z"),
        "{refused}"
    );
    house
        .put("/admin/v1/tenants/globex", json!({"tier": "free"}))
        .await
        .ok();
    house.put("/admin/v1/tiers/free", json!({})).await.ok();
    let refused = finalise(&house, "globex").await.refused(409);
    assert!(refused.contains("no price book"), "{refused}");
}

#[tokio::test]
async fn adjustments_and_credit_notes_are_records_of_their_own() {
    let (house, acme) = furnished().await;
    let adjust = async |reference: &str, amount: &str, text: &str| {
        let body = json!({"period": "2026-03", "reference": reference, "amount": amount, "description": text});
        house.post(&format!("{ACME}/adjustments"), body).await
    };
    let one = adjust("t-1", "-1.255", "Outage of 3 March").await.ok();
    assert_eq!(adjust("t-1", "-1.255", "Outage of 3 March").await.ok(), one);
    adjust("t-1", "-2", "Outage of 3 March").await.refused(409);
    adjust("t-2", "0", "Nothing").await.refused(400);
    adjust("t-2", "1", " ").await.refused(400);
    april(&house);
    let made = finalise(&house, "acme").await.ok();
    // 2.495 is half a cent below an even one.
    assert_eq!(
        (&made["subtotal"], &made["total"]),
        (&json!("2.495"), &json!("2.50"))
    );
    let refused = adjust("t-3", "1", "Too late").await.refused(409);
    assert!(refused.contains("INV-000001 is final"), "{refused}");
    assert_eq!(adjust("t-1", "-1.255", "Outage of 3 March").await.ok(), one);

    let credit = async |reference: &str, amount: &str| {
        let body = json!({"reference": reference, "amount": amount, "reason": "Overcharged"});
        house
            .post(&format!("{ACME}/invoices/2026-03/credit-notes"), body)
            .await
    };
    let note = credit("c-1", "1.50").await.ok();
    assert_eq!(
        (&note["number"], &note["invoice"]),
        (&json!("INV-CREDIT-000001"), &json!("INV-000001"))
    );
    assert_eq!(credit("c-1", "1.50").await.ok(), note);
    credit("c-1", "1.00").await.refused(409);
    for wrong in ["1.01", "0", "-1", "0.001"] {
        let refused = credit("c-2", wrong).await.refused(400);
        assert!(
            refused.contains("1.00 USD of the invoice are left"),
            "{refused}"
        );
    }
    assert_eq!(credit("c-2", "1").await.ok()["number"], "INV-CREDIT-000002");
    let path = format!("{ACME}/invoices/INV-CREDIT-000001");
    house.get(&path).await.refused(404);
    let row = &house.get(&format!("{ACME}/invoices")).await.ok()["data"][0];
    assert_eq!(row["credited"], "2.50");
    let path = format!("{ACME}/credit-notes");
    let own = house
        .call(&acme, Method::GET, &path, Value::Null)
        .await
        .ok();
    assert_eq!(
        (own["data"].as_array().unwrap().len(), &own["data"][0]),
        (2, &note)
    );
    let path = format!("{ACME}/adjustments");
    let own = house
        .call(&acme, Method::GET, &path, Value::Null)
        .await
        .ok();
    assert_eq!(own["data"], json!([one]));
    // The invoice is what it was.
    assert_eq!(march(&house).await, made);
}

#[tokio::test]
async fn the_price_book_of_the_day_counts_and_hits_are_shared() {
    let (house, _) = furnished().await;
    let hit = LedgerLine {
        consumption: ledger::Consumption::default(),
        cost: PicoUsd::new(1),
        state: LineState::Settled {
            outcome: Outcome::Completed,
            metering: Metering::Cached {
                anew: PicoUsd::dollars(4),
            },
        },
        ..line(&house, "acme", 3_600, "a")
    };
    post(&house, "acme", &[hit, line(&house, "acme", 3_601, "b")]);
    let book = json!({"entries": [
        {"effective_from": "2026-01-01T00:00:00Z", "markup_basis_points": 2_500},
        {
            "effective_from": "2026-03-05T11:00:00Z",
            "cache_hits": {"amortised": 50},
            "rates": {"b": {"input": "0.01", "output": "0.1"}},
            "discounts": [{"features": ["chat"], "basis_points": 1_000}],
        },
    ]});
    house.put("/admin/v1/price-books/list", book).await.ok();
    let draft = march(&house).await;
    let amounts: Vec<_> = draft["lines"]
        .as_array()
        .unwrap()
        .iter()
        .map(|line| {
            let text = |name: &str| line[name].as_str().unwrap_or_default().to_owned();
            (text("model"), text("from"), text("amount"))
        })
        .collect();
    let line = |model: &str, from: &str, amount: &str| {
        (model.to_owned(), from.to_owned(), amount.to_owned())
    };
    assert_eq!(
        amounts,
        [
            line("a", "2026-03-01T00:00:00Z", "2.50"),
            line("b", "2026-03-01T00:00:00Z", "1.25"),
            // Half of four dollars, less a tenth; and 10 · 0.01 + 5 · 0.1, likewise.
            line("a", "2026-03-05T11:00:00Z", "1.80"),
            line("b", "2026-03-05T11:00:00Z", "0.54"),
        ]
    );
    assert_eq!(draft["total"], "6.09");
}

#[tokio::test]
async fn a_month_is_the_tenants_and_no_hour_is_charged_twice() {
    let (house, _) = furnished().await;
    let zone = |zone: &'static str| json!({"tier": "free", "zone": zone});
    house.put(ACME, zone("Asia/Kolkata")).await.ok();
    // 18:20 and 18:40 on the last day, UTC: one belongs to March there, the other to April.
    let seconds = |text: &str| {
        let time: Timestamp = text.parse().unwrap();
        time.since(NOW).as_secs()
    };
    let edge = ["2026-03-31T18:20:00Z", "2026-03-31T18:40:00Z"];
    let lines: Vec<_> = edge
        .iter()
        .map(|at| line(&house, "acme", seconds(at), "a"))
        .collect();
    post(&house, "acme", &lines);
    at(&house, "2026-03-31T19:30:00Z");
    assert_eq!(march(&house).await["total"], "5.00");
    let april = house.get(&format!("{ACME}/invoices/2026-04")).await.ok();
    assert_eq!(
        (&april["total"], &april["from"]),
        (&json!("1.25"), &json!("2026-03-31T18:30:00Z"))
    );
    finalise(&house, "acme").await.ok();
    // It moves west: April begins where March has ended.
    house.put(ACME, zone("UTC")).await.ok();
    let april = house.get(&format!("{ACME}/invoices/2026-04")).await.ok();
    assert_eq!(
        (&april["total"], &april["from"]),
        (&json!("1.25"), &json!("2026-03-31T18:30:00Z"))
    );
    assert_eq!(april["until"], "2026-05-01T00:00:00Z");
}

#[tokio::test]
async fn a_month_ends_where_the_final_one_after_it_begins() {
    let (house, _) = furnished().await;
    let in_april: Timestamp = "2026-04-01T02:00:00Z".parse().unwrap();
    let late = line(&house, "acme", in_april.since(NOW).as_secs(), "a");
    post(&house, "acme", &[late]);
    at(&house, "2026-05-01T01:00:00Z");
    let path = format!("{ACME}/invoices/2026-04/finalise");
    let april = house.post(&path, Value::Null).await.ok();
    assert_eq!(april["from"], "2026-04-01T00:00:00Z");
    // In New York March goes on for four hours, which April has charged.
    let zone = json!({"tier": "free", "zone": "America/New_York"});
    house.put(ACME, zone).await.ok();
    let march = march(&house).await;
    assert_eq!(
        (&march["until"], &march["total"]),
        (&json!("2026-04-01T00:00:00Z"), &json!("3.75"))
    );
}

/// A replica was down with calls of March in its journal.
#[tokio::test]
async fn calls_that_come_late_are_on_the_next_invoice_and_once() {
    let (house, _) = furnished().await;
    let month = async |month: &str| {
        let path = format!("{ACME}/invoices/{month}");
        house.get(&path).await.ok()
    };
    let told = |invoice: &Value| -> Vec<String> {
        let lines = invoice["lines"].as_array().unwrap().iter();
        lines
            .map(|line| {
                let text = |name: &str| line[name].as_str().unwrap_or("-").to_owned();
                let (kind, model) = (text("kind"), text("model"));
                let (calls, late_of) = (&line["calls"], text("late_of"));
                format!("{kind} {model} {calls} {} {late_of}", text("amount"))
            })
            .collect()
    };
    april(&house);
    let march = finalise(&house, "acme").await.ok();
    let in_april: Timestamp = "2026-04-10T00:00:00Z".parse().unwrap();
    let in_april = line(&house, "acme", in_april.since(NOW).as_secs(), "a");
    let late = |number| line(&house, "acme", number, "a");
    post(
        &house,
        "acme",
        &[late(9), line(&house, "acme", 10, "c"), in_april],
    );
    let due = [
        "usage a 1 1.25 -",
        "late-usage a 1 1.25 2026-03",
        "late-usage c 1 1.25 2026-03",
    ];
    assert_eq!(told(&month("2026-04").await), due);
    assert_eq!(month("2026-03").await, march, "what is final stays");
    at(&house, "2026-05-01T01:00:00Z");
    let path = format!("{ACME}/invoices/2026-04/finalise");
    let made = house.post(&path, Value::Null).await.ok();
    assert_eq!(
        (told(&made), &made["total"]),
        (due.map(str::to_owned).to_vec(), &json!("3.75"))
    );
    // Not again in May; what comes later still is.
    assert_eq!(told(&month("2026-05").await), [""; 0]);
    post(&house, "acme", &[late(11)]);
    assert_eq!(
        told(&month("2026-05").await),
        ["late-usage a 1 1.25 2026-03"]
    );
    // One whose end nobody saw holds the invoice up.
    let open = LedgerLine {
        state: LineState::Unsettled,
        ..late(12)
    };
    post(&house, "acme", &[open]);
    assert_eq!(month("2026-05").await["unsettled"], 1);
    // After three months it is on none.
    assert_eq!(told(&month("2026-07").await), [""; 0]);
    // A neighbour has none of it.
    let path = "/admin/v1/tenants/globex/invoices/2026-05";
    assert_eq!(told(&house.get(path).await.ok()), [""; 0]);
}

#[tokio::test]
async fn an_invoice_is_written_in_three_forms() {
    let (house, _) = furnished().await;
    let text = json!({"period": "2026-03", "reference": "t", "amount": "0.005",
                      "description": "=1+1 (storage)"});
    house.post(&format!("{ACME}/adjustments"), text).await.ok();
    let export = async |format: &str| {
        house
            .get(&format!("{ACME}/invoices/2026-03/export?format={format}"))
            .await
    };
    assert_eq!(export("json").await.ok(), march(&house).await);
    let csv = export("csv").await.text;
    let rows: Vec<Vec<&str>> = csv.lines().map(|row| row.split(',').collect()).collect();
    assert_eq!(
        (rows.len(), rows[0][17], rows[1][17]),
        (5, "amount", "2.50")
    );
    assert_eq!((rows[3][4], rows[3][17]), ("'=1+1 (storage)", "0.005"));
    assert_eq!(
        (rows[4][0], rows[4][3], rows[4][17]),
        ("DRAFT", "total", "3.76")
    );
    house
        .get(&format!("{ACME}/invoices/2026-03/export?format=doc"))
        .await
        .refused(400);
    house
        .get(&format!("{ACME}/invoices/2026-03/export"))
        .await
        .refused(400);
}

#[tokio::test]
async fn a_price_book_that_somebody_is_charged_by_stays() {
    let (house, _) = furnished().await;
    let refused = house.delete("/admin/v1/price-books/list").await;
    assert!(refused.text.contains("tier free"), "{}", refused.text);
    refused.refused(422);
    house
        .put(ACME, json!({"tier": "free", "price_book": "none"}))
        .await
        .refused(422);
    house.put("/admin/v1/tiers/free", json!({})).await.ok();
    house
        .put(ACME, json!({"tier": "free", "price_book": "list"}))
        .await
        .ok();
    let refused = house.delete("/admin/v1/price-books/list").await;
    assert!(
        refused.text.contains("these name it: acme"),
        "{}",
        refused.text
    );
    house.put(ACME, json!({"tier": "free"})).await.ok();
    house.delete("/admin/v1/price-books/list").await.ok();
}

#[tokio::test]
async fn a_shared_cost_is_split_once_and_for_all_its_tenants() {
    let (house, acme) = furnished().await;
    let cost = json!({
        "description": "Dedicated engine, 744 hours", "amount": "100.00",
        "first_period": "2026-03", "method": "by-cost", "tenants": ["acme", "globex", "nobody"],
    });
    house
        .put("/admin/v1/shared-costs/gpu", cost.clone())
        .await
        .ok();
    let shared = |invoice: &Value| {
        let lines = invoice["lines"].as_array().unwrap();
        let line = lines.iter().find(|line| line["kind"] == "shared-cost");
        line.map(|line| line["amount"].as_str().unwrap().to_owned())
    };
    // Three calls of a dollar, and one.
    let draft = march(&house).await;
    assert_eq!(
        (shared(&draft).as_deref(), &draft["total"]),
        (Some("75.00"), &json!("78.75"))
    );
    let path = "/admin/v1/shared-costs/gpu/splits/2026-03";
    let split = house.get(path).await.ok();
    assert_eq!(split["parts"], json!({"acme": "75.00", "globex": "25.00"}));
    assert_eq!(split["is_fixed"], false);
    april(&house);
    let made = finalise(&house, "acme").await.ok();
    assert_eq!(shared(&made).as_deref(), Some("75.00"));
    // What is used later, or said otherwise, moves nobody's part.
    post(&house, "globex", &[line(&house, "globex", 60, "a")]);
    let equal = json!({"description": "Another", "amount": "7.00", "first_period": "2026-03",
                       "method": "equal", "tenants": ["acme", "globex"]});
    house.put("/admin/v1/shared-costs/gpu", equal).await.ok();
    let split = house.get(path).await.ok();
    assert_eq!(
        (&split["is_fixed"], &split["amount"]),
        (&json!(true), &json!("100.00"))
    );
    let other = finalise(&house, "globex").await.ok();
    assert_eq!(shared(&other).as_deref(), Some("25.00"));
    // The next month is split anew; months before it begins, and strangers, have no part.
    let next = house
        .get("/admin/v1/shared-costs/gpu/splits/2026-04")
        .await
        .ok();
    assert_eq!(next["parts"], json!({"acme": "3.50", "globex": "3.50"}));
    house
        .get("/admin/v1/shared-costs/gpu/splits/2026-02")
        .await
        .refused(404);
    house
        .get("/admin/v1/shared-costs/none/splits/2026-03")
        .await
        .refused(404);
    house
        .call(&acme, Method::GET, path, Value::Null)
        .await
        .refused(404);
    house
        .put("/admin/v1/shared-costs/bad", json!({"amount": "1"}))
        .await
        .refused(400);
    let wrong = json!({"description": "x", "amount": "0.001", "first_period": "2026-03",
                       "method": "equal", "tenants": ["acme"]});
    house
        .put("/admin/v1/shared-costs/bad", wrong)
        .await
        .refused(422);
}

#[tokio::test]
async fn shared_costs_wait_for_the_month_of_all() {
    let (house, _) = furnished().await;
    let cost = json!({"description": "Storage", "amount": "1.00", "first_period": "2026-03",
                      "method": {"weights": {"acme": 2, "globex": 1}}, "tenants": ["acme", "globex"]});
    house.put("/admin/v1/shared-costs/disk", cost).await.ok();
    house
        .put(ACME, json!({"tier": "free", "zone": "Asia/Kolkata"}))
        .await
        .ok();
    at(&house, "2026-03-31T20:00:00Z");
    let refused = finalise(&house, "acme").await.refused(409);
    assert!(
        refused.contains("when the month has ended in UTC"),
        "{refused}"
    );
    let split = house
        .get("/admin/v1/shared-costs/disk/splits/2026-03")
        .await
        .ok();
    assert_eq!(
        (&split["is_fixed"], &split["parts"]["acme"]),
        (&json!(false), &json!("0.67"))
    );
    april(&house);
    assert_eq!(finalise(&house, "acme").await.ok()["total"], "4.42");
}

#[tokio::test]
async fn a_providers_bill_is_compared_by_day_and_model_and_kept() {
    let (house, acme) = furnished().await;
    let upstream = json!({"engine": "open-ai", "base_url": "https://api.example/v1"});
    for name in ["up", "elsewhere"] {
        house
            .put(&format!("/admin/v1/upstreams/{name}"), upstream.clone())
            .await
            .ok();
    }
    let mut dated = line(&house, "globex", 90_000, "a");
    dated.served = Some("a-2026-01-15".parse().unwrap());
    let mut hit = line(&house, "acme", 70, "a");
    hit.state = LineState::Settled {
        outcome: Outcome::Completed,
        metering: Metering::Cached {
            anew: PicoUsd::dollars(9),
        },
    };
    let mut other = line(&house, "acme", 71, "a");
    other.intent.upstream = "own".parse().unwrap();
    post(&house, "acme", &[hit, other]);
    post(&house, "globex", &[dated]);
    let csv = "start_time_iso,amount_value,amount_currency,line_item\n\
        2026-03-05T00:00:00+00:00,2.5,usd,\"a-2026-01-15, input\"\n\
        2026-03-05T00:00:00+00:00,0.75,usd,\"a-2026-01-15, output\"\n\
        2026-03-06T00:00:00+00:00,1,usd,\"A, input\"\n\
        2026-03-06T00:00:00+00:00,0.5,usd,\"web search, calls\"\n";
    let import = async |body: Value| house.post("/admin/v1/reconciliations", body).await;
    let bill = json!({"provider": "openai", "csv": csv});
    let made = import(bill.clone()).await.ok();
    let row = |day: &str, model: &str, billed: &str, ledger: &str, difference: &str| json!({"day": day, "model": model, "billed": billed, "ledger": ledger, "difference": difference});
    // Of both tenants; without the answer from a cache, and without another upstream's call.
    assert_eq!(
        made["differences"],
        json!([
            row("2026-03-05", "a", "3.25", "3.00", "0.25"),
            row("2026-03-05", "b", "0.00", "1.00", "-1.00"),
            row("2026-03-06", "a", "1.00", "1.00", "0.00"),
            row("2026-03-06", "web-search", "0.50", "0.00", "0.50"),
        ])
    );
    assert_eq!(
        (
            &made["id"],
            &made["billed"],
            &made["ledger"],
            &made["difference"]
        ),
        (&json!(1), &json!("4.75"), &json!("5.00"), &json!("-0.25"))
    );
    assert_eq!(made["imported_by"], "operator:ada");
    let named = json!({"provider": "openai", "csv": csv, "names": {"web search": "a"}, "upstreams": ["elsewhere"]});
    let second = import(named).await.ok();
    assert_eq!(
        (&second["id"], &second["ledger"]),
        (&json!(2), &json!("0.00"))
    );
    assert_eq!(second["differences"][1]["billed"], "1.50");
    assert_eq!(house.get("/admin/v1/reconciliations/1").await.ok(), made);
    let first = house.get("/admin/v1/reconciliations?limit=1").await.ok();
    assert_eq!(
        (&first["data"][0]["id"], &first["next_cursor"]),
        (&json!(2), &json!("2"))
    );
    let last = house
        .get("/admin/v1/reconciliations?limit=1&cursor=2")
        .await
        .ok();
    assert_eq!(
        (&last["data"][0]["id"], &last["next_cursor"]),
        (&json!(1), &Value::Null)
    );
    house.get("/admin/v1/reconciliations/3").await.refused(404);
    // It is of all tenants: none of them sees it.
    let path = "/admin/v1/reconciliations/1";
    house
        .call(&acme, Method::GET, path, Value::Null)
        .await
        .refused(404);
    for wrong in [
        json!({"provider": "anthropic", "csv": csv}),
        json!({"provider": "generic", "csv": "day,model,cost\n2026-03-05,a,1\n"}),
        json!({"provider": "openai", "csv": csv, "upstreams": ["none"]}),
        json!({"provider": "generic", "upstreams": ["up"],
               "csv": "day,model,cost\n2020-03-05,a,1\n2026-03-05,a,1\n"}),
    ] {
        import(wrong).await.refused(400);
    }
}
