//! The pages: who gets in, who sees what, and what a form has to prove. The pages come from
//! their table, so that a new one is in these tests before anybody thinks of it.

use std::collections::BTreeSet;
use std::time::Duration;

use axum::body::Body;
use axum::http::header::{CONTENT_TYPE, COOKIE, HeaderMap, LOCATION, SET_COOKIE};
use axum::http::{Method, Request, StatusCode};
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use tenancy::Role;

use super::House;
use crate::api::{BudgetRow, HealthFigures};
use crate::dashboard::{Door, PageRow, pages};
use crate::endpoint::{Reach, Verb};
use crate::ports::HealthHour;

/// What a browser gets.
pub(super) struct Seen {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) text: String,
}

impl Seen {
    pub(super) fn location(&self) -> &str {
        self.headers
            .get(LOCATION)
            .map_or("", |to| to.to_str().unwrap())
    }

    /// The value of a cookie that is set.
    pub(super) fn cookie(&self, name: &str) -> Option<String> {
        let all = self.headers.get_all(SET_COOKIE).iter();
        let mut texts = all.map(|value| value.to_str().unwrap());
        let found = texts.find_map(|text| text.strip_prefix(&format!("{name}=")));
        found.map(|rest| rest.split(';').next().unwrap().to_owned())
    }

    /// What the page's forms have to repeat.
    pub(super) fn form_secret(&self) -> String {
        let rest = self.text.split(r#"name="form_secret" value=""#).nth(1);
        let rest = rest.unwrap_or_else(|| panic!("no form in {}", self.text));
        rest.split('"').next().unwrap().to_owned()
    }
}

impl House {
    pub(super) async fn look(&self, request: Request<Body>) -> Seen {
        use tower_service::Service as _;
        let response = self.router.clone().call(request).await.unwrap();
        let (parts, mut body) = response.into_parts();
        // A stream of events has no end: its first piece is what a browser gets at once.
        let is_endless = parts
            .headers
            .get(CONTENT_TYPE)
            .is_some_and(|it| it == "text/event-stream");
        let bytes = match is_endless {
            true => body.frame().await.unwrap().unwrap().into_data().unwrap(),
            false => body.collect().await.unwrap().to_bytes(),
        };
        Seen {
            status: parts.status,
            headers: parts.headers,
            text: String::from_utf8(bytes.to_vec()).unwrap(),
        }
    }

    pub(super) async fn browse(&self, path: &str, session: Option<&str>) -> Seen {
        let mut request = Request::builder().uri(path);
        if let Some(session) = session {
            request = request.header(COOKIE, format!("partywall_session={session}"));
        }
        self.look(request.body(Body::empty()).unwrap()).await
    }

    pub(super) async fn submit(&self, path: &str, cookie: String, form: &str) -> Seen {
        let request = Request::builder()
            .method(Method::POST)
            .uri(path)
            .header(COOKIE, cookie)
            .body(Body::from(form.to_owned()))
            .unwrap();
        self.look(request).await
    }

    /// Sends a form of a signed-in visitor, with its secret.
    pub(super) async fn press(&self, path: &str, session: &str, form: &str) -> Seen {
        let secret = self.browse("/dashboard/nowhere", Some(session)).await;
        let form = format!("form_secret={}&{form}", secret.form_secret());
        self.submit(path, format!("partywall_session={session}"), &form)
            .await
    }

    /// Signs in by a key; returns the session's cookie.
    pub(super) async fn sign_in(&self, key: &str) -> Option<String> {
        let form = self.browse("/dashboard/sign-in", None).await;
        let cookie = format!("partywall_form={}", form.cookie("partywall_form").unwrap());
        let fields = format!("form_secret={}&key={key}", form.form_secret());
        let seen = self.submit("/dashboard/sign-in", cookie, &fields).await;
        let session = seen.cookie("partywall_session");
        assert_eq!(session.is_some(), seen.status == 303, "{}", seen.text);
        session
    }

    pub(super) async fn key_of_acme(&self, name: &str, role: &str) -> String {
        let body = json!({"name": name, "role": role});
        let made = self.post("/admin/v1/tenants/acme/keys", body).await.ok();
        made["key"].as_str().unwrap().to_owned()
    }

    pub(super) async fn auditor(&self) -> String {
        let body = json!({"name": "abe", "role": "auditor"});
        let made = self.post("/admin/v1/operators", body).await.ok();
        made["key"].as_str().unwrap().to_owned()
    }
}

fn path_of(row: &PageRow) -> String {
    let operation = match row.path.contains("{tenant}") {
        true => "get_cache",
        false => "list_servers",
    };
    let (kind, name) = match row.path.contains("{tenant}") {
        true if row.path.contains("{kind}") => ("teams", "core"),
        true => ("", "admin"),
        false => ("tiers", "free"),
    };
    row.path
        .replace("{tenant}", "acme")
        .replace("{kind}", kind)
        .replace("{operation}", operation)
        .replace("{name}", name)
        .replace("{version}", "1")
        .replace("{id}", "req_00000000000000000000000001")
}

/// Asks for a page, or sends it a form that proves nothing: whoever may send it is told that, and
/// nothing happens.
async fn ask(house: &House, row: &PageRow, session: &str) -> Seen {
    match row.verb {
        Verb::Get => house.browse(&path_of(row), Some(session)).await,
        _ => {
            let cookie = format!("partywall_session={session}");
            house.submit(&path_of(row), cookie, "").await
        }
    }
}

/// Whether the visitor came through the door.
fn is_inside(row: &PageRow, seen: &Seen) -> bool {
    match row.verb {
        Verb::Get => seen.status == StatusCode::OK,
        _ => seen.status == StatusCode::FORBIDDEN && seen.text.contains("This form is too old"),
    }
}

#[tokio::test]
async fn who_signs_in_is_on_record_stays_here_and_leaves_no_session_behind() {
    let house = House::new().await;
    let own = house.onboard("acme").await;
    let former = house.sign_in(&own).await.unwrap();
    let form = house.browse("/dashboard/sign-in", None).await;
    let given_out = form.cookie("partywall_form").unwrap();
    let cookie = format!("partywall_form={given_out}; partywall_session={former}");
    let fields = format!(
        "form_secret={}&key={own}&next=https://evil.example/dashboard",
        form.form_secret()
    );
    let seen = house.submit("/dashboard/sign-in", cookie, &fields).await;
    assert_eq!((seen.status.as_u16(), seen.location()), (303, "/dashboard"));
    let session = seen.cookie("partywall_session").unwrap();
    let home = "/dashboard/tenants/acme";
    assert_eq!(house.browse(home, Some(&session)).await.status, 200);
    assert_eq!(house.browse(home, Some(&former)).await.status, 303);
    let audit = house.get("/admin/v1/audit").await.text;
    assert_eq!(audit.matches("\"sign_in\"").count(), 2, "{audit}");
}

#[tokio::test]
async fn every_page_refuses_every_wrong_visitor() {
    let house = House::new().await;
    let own = house.onboard("acme").await;
    let other = house.onboard("globex").await;
    let team = "/admin/v1/tenants/acme/teams/core";
    house.put(team, json!({})).await.ok();
    let revoked = house.key_of_acme("doomed", "tenant-admin").await;
    let revoked = house.sign_in(&revoked).await.unwrap();
    let doom = "/admin/v1/tenants/acme/keys/doomed/revoke";
    house.post(doom, Value::Null).await.ok();
    let operator = house.sign_in(&house.operator).await.unwrap();
    let auditor = house.sign_in(&house.auditor().await).await.unwrap();
    let own = house.sign_in(&own).await.unwrap();
    let other = house.sign_in(&other).await.unwrap();
    let absent = house.browse("/dashboard/nowhere", Some(&other)).await;
    assert_eq!(absent.status, 404);
    let version = house.current().version();
    for row in pages() {
        // This one ends the session of whoever may use it.
        if row.path == "/dashboard/sign-out" {
            continue;
        }
        let name = format!("{} {}", row.verb.as_str(), row.path);
        let unknown = "A".repeat(43);
        for session in [None, Some("short"), Some(&unknown), Some(&revoked)] {
            let seen = match row.verb {
                Verb::Get => house.browse(&path_of(&row), session).await,
                _ => {
                    let cookie = format!("partywall_session={}", session.unwrap_or_default());
                    house.submit(&path_of(&row), cookie, "").await
                }
            };
            assert_eq!(seen.status, 303, "{name}: {}", seen.text);
            let to = seen.location();
            assert!(to.starts_with("/dashboard/sign-in"), "{name}: {to}");
        }
        let Door::As(reach) = row.door else {
            continue;
        };
        let seen = ask(&house, &row, &other).await;
        assert_eq!(
            (seen.status, &seen.text),
            (StatusCode::NOT_FOUND, &absent.text),
            "{name}"
        );
        let (Reach::Platform(permission) | Reach::Tenant(permission)) = reach else {
            panic!("{name}: a page behind the sign-in is not public");
        };
        let seen = ask(&house, &row, &auditor).await;
        if !Role::Auditor.allows(permission) {
            assert_eq!(seen.status, 403, "{name}: {}", seen.text);
            assert!(seen.text.contains("Not allowed"), "{name}: {}", seen.text);
        } else {
            assert!(is_inside(&row, &seen), "{name}: {}", seen.text);
        }
        // Nobody has called yet.
        if row.path.ends_with("/calls/{id}") {
            continue;
        }
        let seen = ask(&house, &row, &own).await;
        if matches!(reach, Reach::Tenant(_)) && Role::TenantAdmin.allows(permission) {
            assert!(
                is_inside(&row, &seen),
                "{name}: {} {}",
                seen.status,
                seen.text
            );
        } else {
            let looks_absent = seen.status == 404 && seen.text.contains("There is nothing here");
            assert!(looks_absent, "{name}: {}", seen.text);
        }
        let seen = ask(&house, &row, &operator).await;
        assert!(
            is_inside(&row, &seen),
            "{name}: {} {}",
            seen.status,
            seen.text
        );
    }
    assert_eq!(
        house.current().version(),
        version,
        "a refused form changed something"
    );
}

#[tokio::test]
async fn a_form_that_is_not_the_visitors_own_changes_nothing() {
    let house = House::new().await;
    let own = house.onboard("acme").await;
    let other = house.onboard("globex").await;
    let own = house.sign_in(&own).await.unwrap();
    let other = house.sign_in(&other).await.unwrap();
    let foreign = house.browse("/dashboard/nowhere", Some(&other)).await;
    let own_page = house.browse("/dashboard/nowhere", Some(&own)).await;
    let version = house.current().version();
    for row in pages().iter().filter(|row| row.verb == Verb::Post) {
        let cookie = || format!("partywall_session={own}");
        for form in [
            String::new(),
            "form_secret=".to_owned(),
            format!("form_secret={own}"),
            format!("form_secret={}", foreign.form_secret()),
        ] {
            let seen = house.submit(&path_of(row), cookie(), &form).await;
            assert!(
                [403, 404].contains(&seen.status.as_u16()),
                "{}: {form}",
                row.path
            );
        }
        // The right secret, sent from another site.
        let request = Request::builder()
            .method(Method::POST)
            .uri(path_of(row))
            .header(COOKIE, cookie())
            .header("sec-fetch-site", "cross-site")
            .body(Body::from(format!(
                "form_secret={}",
                own_page.form_secret()
            )));
        let seen = house.look(request.unwrap()).await;
        assert!([403, 404].contains(&seen.status.as_u16()), "{}", row.path);
    }
    assert_eq!(house.current().version(), version);
    assert_eq!(house.browse("/dashboard", Some(&own)).await.status, 303);
}

#[tokio::test]
async fn keys_open_the_door_and_others_do_not() {
    let house = House::new().await;
    let admin = house.onboard("acme").await;
    let member = house.key_of_acme("member", "tenant-member").await;
    let service = house.key_of_acme("service", "service").await;
    for key in [&member, &service, &super::unknown_key(), "", "pw_short"] {
        assert!(house.sign_in(key).await.is_none(), "{key}");
    }
    for (key, home) in [
        (&house.operator, "/dashboard/fleet"),
        (&admin, "/dashboard/tenants/acme"),
    ] {
        let session = house.sign_in(key).await.unwrap();
        let seen = house.browse("/dashboard", Some(&session)).await;
        assert_eq!((seen.status.as_u16(), seen.location()), (303, home));
        let seen = house.browse(home, Some(&session)).await;
        assert_eq!(seen.status, 200, "{}", seen.text);
        assert!(!seen.text.contains(&**key), "a key stands in a page");
        // A key is no session, and a session is no key.
        assert_eq!(house.browse(home, Some(key)).await.status, 303);
        let request = Request::builder()
            .uri(home)
            .header("authorization", format!("Bearer {key}"));
        let seen = house.look(request.body(Body::empty()).unwrap()).await;
        assert_eq!(seen.status, 303);
        let answer = house
            .call(&session, Method::GET, "/admin/v1/tenants/acme", Value::Null)
            .await;
        assert_eq!(answer.status, 401);
        let seen = house.press("/dashboard/sign-out", &session, "").await;
        assert_eq!(seen.location(), "/dashboard/sign-in");
        assert_eq!(seen.cookie("partywall_session").as_deref(), Some(""));
        assert_eq!(house.browse(home, Some(&session)).await.status, 303);
    }
}

#[tokio::test]
async fn a_session_ends_with_its_time_and_with_its_key() {
    let house = House::new().await;
    house.onboard("acme").await;
    let soon = json!({
        "name": "soon", "role": "tenant-admin", "expires_at": "2026-03-05T10:30:00Z",
    });
    let made = house.post("/admin/v1/tenants/acme/keys", soon).await.ok();
    let session = house.sign_in(made["key"].as_str().unwrap()).await.unwrap();
    let home = "/dashboard/tenants/acme";
    assert_eq!(house.browse(home, Some(&session)).await.status, 200);
    house.clock.advance(Duration::from_secs(1_801));
    assert_eq!(house.browse(home, Some(&session)).await.status, 303);
    let operator = house.sign_in(&house.operator).await.unwrap();
    for _ in 0..3 {
        house.clock.advance(Duration::from_secs(3_599));
        assert_eq!(house.browse(home, Some(&operator)).await.status, 200);
    }
    house.clock.advance(Duration::from_secs(3_601));
    assert_eq!(house.browse(home, Some(&operator)).await.status, 303);
}

#[tokio::test]
async fn a_link_signs_its_maker_in_once() {
    let house = House::new().await;
    let admin = house.onboard("acme").await;
    let path = "/admin/v1/tenants/acme/dashboard/links";
    let made = house
        .call(&admin, Method::POST, path, Value::Null)
        .await
        .ok();
    let link = made["path"].as_str().unwrap();
    // Looking at it, as a chat program does, uses nothing up.
    house.browse(link, None).await;
    let mut statuses = Vec::new();
    let mut session = None;
    for _ in 0..2 {
        let form = house.browse(link, None).await;
        let cookie = format!("partywall_form={}", form.cookie("partywall_form").unwrap());
        let token = link.split('=').nth(1).unwrap();
        let fields = format!("form_secret={}&token={token}", form.form_secret());
        let seen = house.submit("/dashboard/link", cookie, &fields).await;
        session = session.or(seen.cookie("partywall_session"));
        statuses.push(seen.status.as_u16());
    }
    assert_eq!(statuses, [303, 401]);
    let seen = house.browse("/dashboard", session.as_deref()).await;
    assert_eq!(seen.location(), "/dashboard/tenants/acme");
    // No more than its maker: not another tenant, not the platform.
    for path in ["/dashboard/fleet", "/dashboard/tenants/globex"] {
        assert_eq!(house.browse(path, session.as_deref()).await.status, 404);
    }
    let path = "/admin/v1/dashboard/links";
    let refused = house.call(&admin, Method::POST, path, Value::Null).await;
    assert_eq!(refused.status, 404);
}

#[tokio::test]
async fn every_answer_is_hardened() {
    let house = House::new().await;
    let session = house.sign_in(&house.operator).await.unwrap();
    for (path, session) in [
        ("/dashboard", None),
        ("/dashboard/sign-in", None),
        ("/dashboard/link?token=x", None),
        ("/dashboard/fleet", Some(&*session)),
        ("/dashboard/nowhere", Some(&*session)),
        ("/dashboard/assets/nothing", None),
    ] {
        let seen = house.browse(path, session).await;
        let header = |name: &str| seen.headers[name].to_str().unwrap().to_owned();
        let policy = header("content-security-policy");
        assert!(
            policy.starts_with("default-src 'none'; script-src 'self';"),
            "{path}"
        );
        assert!(!policy.contains("unsafe"), "{path}");
        assert_eq!(header("x-content-type-options"), "nosniff");
        assert_eq!(header("x-frame-options"), "DENY");
        assert_eq!(header("cache-control"), "no-store", "{path}");
        // Nothing inline for the policy to stop.
        for inline in ["<style", " style=", "<script>", " onclick=", "javascript:"] {
            assert!(!seen.text.contains(inline), "{path}: {inline}");
        }
    }
}

#[tokio::test]
async fn the_fleet_shows_the_worst_first_and_finds_whoever_is_asked_for() {
    let house = House::new().await;
    for name in ["acme", "globex", "initech"] {
        house.onboard(name).await;
    }
    let calls = |calls, failed| HealthHour {
        sum: HealthFigures {
            calls,
            failed,
            ..HealthFigures::default()
        },
        ..HealthHour::default()
    };
    let (acme, globex) = (house.tenant_id("acme"), house.tenant_id("globex"));
    *house.rest.hours.lock() = vec![(acme, calls(1_000, 2)), (globex, calls(100, 50))];
    house.rest.budgets.lock().push((acme, budget("10", "8.5")));
    let fleet = house.get("/admin/v1/fleet").await.ok();
    let rows = fleet["data"].as_array().unwrap();
    let said: Vec<String> = rows
        .iter()
        .map(|row| format!("{} {} {}", row["tenant"], row["concern"], row["reasons"]))
        .collect();
    let expected = [
        r#""globex" "urgent" ["50% of calls fail"]"#,
        r#""acme" "watch" ["85% of budget month"]"#,
        r#""initech" "well" []"#,
    ];
    assert_eq!(said, expected);
    assert_eq!((&fleet["urgent"], &fleet["watch"]), (&json!(1), &json!(1)));
    for (query, expected) in [
        ("sort=name", "acme globex initech"),
        ("sort=calls&limit=1", "acme"),
        ("sort=budget&limit=1", "acme"),
        ("name=x", "globex"),
        ("concern=watch", "globex acme"),
        ("tier=none", ""),
        ("limit=1&cursor=1", "acme"),
    ] {
        let fleet = house.get(&format!("/admin/v1/fleet?{query}")).await.ok();
        let rows = fleet["data"].as_array().unwrap();
        let names: Vec<&str> = rows
            .iter()
            .map(|row| row["tenant"].as_str().unwrap())
            .collect();
        assert_eq!(names.join(" "), expected, "{query}");
    }
    let session = house.sign_in(&house.operator).await.unwrap();
    let page = house
        .browse("/dashboard/fleet?name=o", Some(&session))
        .await;
    let places = ["globex", "50% of calls fail"].map(|text| page.text.find(text));
    assert!(
        places[0] < places[1] && places[0].is_some(),
        "{}",
        page.text
    );
    assert!(!page.text.contains("initech"), "{}", page.text);
}

/// Operators are told whose calls are missing, tenants that some may be.
#[tokio::test]
async fn pages_say_which_replicas_calls_are_missing_and_a_tenants_names_none() {
    let house = House::new().await;
    let key = house.onboard("acme").await;
    let own = "/admin/v1/tenants/acme/health";
    let fleet = house.get("/admin/v1/fleet").await.ok();
    assert!(fleet.get("incomplete_since").is_none(), "{fleet}");
    assert!(fleet.get("silent_replicas").is_none(), "{fleet}");

    let since = base::Timestamp::from_micros(1_767_225_600_000_000);
    *house.rest.coverage.lock() = crate::Coverage {
        since: None,
        incomplete_since: Some(since),
        silent: vec![crate::api::SilentReplica {
            replica: "replica-two".to_owned(),
            since,
        }],
    };
    let fleet = house.get("/admin/v1/fleet").await.ok();
    assert_eq!(fleet["silent_replicas"][0]["replica"], "replica-two");
    assert_eq!(fleet["incomplete_since"], json!(since));
    let reply = house.call(&key, Method::GET, own, Value::Null).await.ok();
    assert_eq!(reply["incomplete_since"], json!(since));
    assert!(!reply.to_string().contains("replica-two"), "{reply}");

    let operator = house.sign_in(&house.operator).await.unwrap();
    let page = house.browse("/dashboard/fleet", Some(&operator)).await;
    assert!(page.text.contains("replica-two"), "{}", page.text);
    let tenant = house.sign_in(&key).await.unwrap();
    let path = "/dashboard/tenants/acme";
    let page = house.browse(path, Some(&tenant)).await;
    assert!(page.text.contains("may be missing"), "{}", page.text);
    assert!(!page.text.contains("replica-two"), "{}", page.text);
}

fn budget(limit: &str, spent: &str) -> BudgetRow {
    let money = |text| base::PicoUsd::from_decimal_text(text).unwrap();
    BudgetRow {
        budget: "month".parse().unwrap(),
        subject: "tenant".to_owned(),
        limit: money(limit),
        spent: money(spent),
        held: base::PicoUsd::ZERO,
        window_ends_at: None,
    }
}

#[tokio::test]
async fn a_key_is_made_shown_once_and_revoked() {
    let house = House::new().await;
    let admin = house.onboard("acme").await;
    let session = house.sign_in(&admin).await.unwrap();
    let keys = "/dashboard/tenants/acme/keys";
    let made = house
        .press(keys, &session, "name=prod&role=service&days=30")
        .await;
    assert_eq!(made.status, 200, "{}", made.text);
    let key = made.text.split("value=\"pw_").nth(1).unwrap();
    let key = format!("pw_{}", key.split('"').next().unwrap());
    let listed = house.browse(keys, Some(&session)).await;
    assert!(listed.text.contains("prod") && !listed.text.contains(&key));
    assert!(
        listed.text.contains("2026-04-04 10:00 UTC"),
        "{}",
        listed.text
    );
    let again = house.press(keys, &session, "name=prod&role=service").await;
    assert_eq!(again.status, 409);
    assert!(again.text.contains("there is a key `prod` already"));
    // Its own administrator cannot raise what it may spend.
    let budgets = "/dashboard/tenants/acme/budgets";
    let form = "name=more&subject=tenant&window=monthly&limit=1000";
    assert_eq!(house.press(budgets, &session, form).await.status, 404);
    let revoked = house
        .press(&format!("{keys}/prod/revoke"), &session, "")
        .await;
    assert_eq!(revoked.location(), format!("{keys}?done=revoked"));
    let find = |key: &tenancy::TenantEntry| key.keys["prod"].revoked;
    assert!(find(house.current().tenant_named("acme").unwrap()));
    // By the same words on the same record as through the API.
    let log = house.get("/admin/v1/tenants/acme/audit").await.ok();
    let acts: BTreeSet<String> = log["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| format!("{} {}", row["entry"]["actor"], row["entry"]["action"]))
        .collect();
    assert!(
        acts.contains(r#""key:acme/admin" "create_key""#),
        "{acts:?}"
    );
    assert!(
        acts.contains(r#""key:acme/admin" "revoke_key""#),
        "{acts:?}"
    );
}

#[tokio::test]
async fn what_tenants_write_stays_text() {
    let house = House::new().await;
    let admin = house.onboard("acme").await;
    for prompt in ["<script>alert(1)</script>", "\" onload=\"alert(2)"] {
        let config = json!({"system_prompt": prompt});
        house
            .put("/admin/v1/tenants/acme/config", config)
            .await
            .ok();
    }
    let session = house.sign_in(&admin).await.unwrap();
    let path = "/dashboard/tenants/acme/configuration";
    let page = house.browse(path, Some(&session)).await;
    assert!(
        page.text.contains("&lt;script&gt;alert(1)"),
        "{}",
        page.text
    );
    assert!(!page.text.contains("<script>alert") && !page.text.contains("\" onload"));
}

#[tokio::test]
async fn an_invoice_is_shown_to_its_tenant_and_made_final_by_an_operator() {
    let house = House::new().await;
    let admin = house.onboard("acme").await;
    house.onboard("globex").await;
    let own = house.sign_in(&admin).await.unwrap();
    let operator = house.sign_in(&house.operator).await.unwrap();
    let page = "/dashboard/tenants/acme/invoices";
    let without = house.browse(page, Some(&own)).await;
    assert!(
        without.text.contains("has no price book"),
        "{}",
        without.text
    );
    let book = json!({"entries": [{"effective_from": "2026-01-01T00:00:00Z", "minimum": "12.50"}]});
    house.put("/admin/v1/price-books/list", book).await.ok();
    house
        .put("/admin/v1/tiers/free", json!({"price_book": "list"}))
        .await
        .ok();
    let draft = house.browse(page, Some(&own)).await;
    assert!(draft.text.contains("Draft of 2026-03"), "{}", draft.text);
    assert!(draft.text.contains("12.500000") && !draft.text.contains("Make it final"));
    let finalise = format!("{page}/2026-03/finalise");
    assert_eq!(house.press(&finalise, &own, "").await.status, 404);
    let early = house.press(&finalise, &operator, "").await;
    assert_eq!(early.status, 409, "{}", early.text);
    house.clock.jump_to("2026-04-01T01:00:00Z".parse().unwrap());
    // A session ends in the meantime.
    let own = house.sign_in(&admin).await.unwrap();
    let operator = house.sign_in(&house.operator).await.unwrap();
    let march = format!("{page}?period=2026-03");
    let draft = house.browse(&march, Some(&operator)).await;
    assert!(draft.text.contains("Make it final"), "{}", draft.text);
    let done = house.press(&finalise, &operator, "").await;
    assert_eq!(done.location(), format!("{march}&done=final"));
    let made = house.browse(&march, Some(&own)).await;
    assert!(made.text.contains("INV-000001"), "{}", made.text);
    let foreign = "/dashboard/tenants/globex/invoices";
    assert_eq!(house.browse(foreign, Some(&own)).await.status, 404);
}
