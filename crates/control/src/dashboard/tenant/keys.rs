//! The tenant's keys: made, rotated, revoked; a key is shown once.

use maud::{Markup, html};
use serde_json::{Value, json};
use tenancy::Permission;
use tenancy::catalogue::Kind;

use super::super::answer::{PageError, Shown};
use super::super::ask::segment;
use super::super::layout::Tab;
use super::super::page::{PageRow, Visit, page};
use super::super::show::{more, said, table};
use super::{Verb, api, inside, once};
use crate::api::{KeyReply, Page, ResourceView};

pub(super) fn pages() -> Vec<PageRow> {
    let manage = inside(Permission::ManageKeys);
    vec![
        page(
            Verb::Get,
            "/dashboard/tenants/{tenant}/keys",
            inside(Permission::ReadCatalogue),
            keys,
        ),
        page(
            Verb::Post,
            "/dashboard/tenants/{tenant}/keys",
            manage,
            create,
        )
        .doing(&["create_key"]),
        page(
            Verb::Post,
            "/dashboard/tenants/{tenant}/keys/{name}/rotate",
            manage,
            rotate,
        )
        .doing(&["rotate_key"]),
        page(
            Verb::Post,
            "/dashboard/tenants/{tenant}/keys/{name}/revoke",
            manage,
            revoke,
        )
        .doing(&["revoke_key"]),
    ]
}

async fn keys(visit: Visit) -> Result<Shown, PageError> {
    let cursor = visit.at_cursor();
    let list: Page<ResourceView> = visit
        .get(&api(&visit, &format!("/keys?limit=100{cursor}")))
        .await?;
    let manages = visit.may(Permission::ManageKeys);
    let columns = ["Key", "Role", "Of", "Good until", "May call", "Do"];
    let columns = match manages {
        true => &columns[..],
        false => &columns[..5],
    };
    let rows = html! { @for key in &list.data { (row(&visit, key, manages)) } };
    let main = html! {
        @if list.data.is_empty() {
            p.empty { "No key yet: whoever calls needs one." }
        } @else {
            (table("Keys", columns, &rows))
        }
        (more(list.next_cursor.as_deref(), "", "Next page"))
        @if manages { (form(&visit)) }
    };
    Ok(visit.tenant_page(Tab::Keys, &main))
}

fn row(visit: &Visit, key: &ResourceView, manages: bool) -> Markup {
    let spec = &key.spec;
    let is_revoked = spec["revoked"] == json!(true);
    let whose: Vec<String> = ["team", "user"]
        .into_iter()
        .filter(|field| spec[*field].is_string())
        .map(|field| format!("{field} {}", said(&spec[field])))
        .collect();
    let until = match (&spec["expires_at"], is_revoked) {
        (_, true) => html! { span.badge.off { "revoked" } },
        (Value::String(at), _) => html! { (at.get(..16).unwrap_or(at).replace('T', " ")) " UTC" },
        _ => html! { "–" },
    };
    html! {
        tr {
            th scope="row" { (key.name) }
            td { (said(&spec["role"])) }
            td { (whose.join(", ")) }
            td { (until) }
            td { (models(&spec["models"])) }
            @if manages { td.actions { @if !is_revoked { (actions(visit, &key.name)) } } }
        }
    }
}

fn models(spec: &Value) -> String {
    let listed = spec.as_array().filter(|models| !models.is_empty());
    listed.map_or("all models".to_owned(), |models| {
        models.iter().map(said).collect::<Vec<_>>().join(", ")
    })
}

fn actions(visit: &Visit, name: &str) -> Markup {
    let address = format!("{}/{}", Tab::Keys.of(&visit.tenant().name), segment(name));
    html! {
        details.action {
            summary { "Rotate" span.hidden { " " (name) } }
            form method="post" action=(format!("{address}/rotate")) {
                (visit.secret())
                label { "The old key stays good for"
                    select name="overlap_seconds" {
                        option value="0" { "no longer" }
                        option value="3600" { "an hour" }
                        option value="86400" { "a day" }
                        option value="604800" { "a week" }
                    }
                }
                button type="submit" { "Rotate " (name) }
            }
        }
        details.action {
            summary { "Revoke" span.hidden { " " (name) } }
            form method="post" action=(format!("{address}/revoke")) {
                (visit.secret())
                p { "It is refused at once, and for good." }
                button.danger type="submit" { "Revoke " (name) }
            }
        }
    }
}

fn form(visit: &Visit) -> Markup {
    let tenant = visit.tenant();
    html! {
        h2 { "Make a key" }
        form.card method="post" action=(Tab::Keys.of(&tenant.name)) {
            (visit.secret())
            label { "Name"
                input name="name" required pattern="[a-z0-9][a-z0-9\\-]*" spellcheck="false"
                    placeholder="production";
            }
            label { "Role"
                select name="role" {
                    option value="service" { "service: a program" }
                    option value="tenant-member" { "member: a person" }
                    option value="tenant-admin" { "administrator of the tenant" }
                }
            }
            (choice("Team", "team", tenant.teams.keys().map(|name| name.as_str())))
            (choice("User", "user", tenant.users.keys().map(|name| name.as_str())))
            label { "Good for"
                select name="days" {
                    option value="" { "as long as it is not revoked" }
                    option value="7" { "7 days" }
                    option value="30" { "30 days" }
                    option value="90" { "90 days" }
                    option value="365" { "a year" }
                }
            }
            label { "Models, with commas; all if empty"
                input name="models" spellcheck="false";
            }
            button.primary type="submit" { "Make the key" }
        }
    }
}

/// A choice of one or none. Nothing is offered of nothing.
fn choice<'a>(label: &str, field: &str, names: impl Iterator<Item = &'a str>) -> Markup {
    let names: Vec<&str> = names.collect();
    html! {
        @if !names.is_empty() {
            label { (label)
                select name=(field) {
                    option value="" { "none" }
                    @for name in names { option value=(name) { (name) } }
                }
            }
        }
    }
}

async fn create(visit: Visit) -> Result<Shown, PageError> {
    let mut request = json!({
        "name": visit.form.need("name", "the key's name")?,
        "role": visit.form.need("role", "the key's role")?,
    });
    for field in ["team", "user"] {
        if let Some(value) = visit.form.get(field) {
            request[field] = json!(value);
        }
    }
    if let Some(days) = visit.form.get("days") {
        let days: u64 = days
            .parse()
            .ok()
            .filter(|days| (1..=3_650).contains(days))
            .ok_or_else(|| PageError::wrong("a key is good for 1 to 3,650 days"))?;
        let life = std::time::Duration::from_secs(days * 24 * 3600);
        let until = visit.house.control.clock.now().plus(life);
        request["expires_at"] = json!(until.to_string());
    }
    if let Some(models) = visit.form.get("models") {
        let models: Vec<&str> = models.split(',').map(str::trim).collect();
        request["models"] = json!(models);
    }
    let made: KeyReply = visit.post(&api(&visit, "/keys"), &request).await?;
    Ok(shown_once(&visit, &made))
}

async fn rotate(visit: Visit) -> Result<Shown, PageError> {
    let overlap = visit.form.get("overlap_seconds").unwrap_or("0");
    let overlap: u32 = overlap
        .parse()
        .map_err(|_| PageError::wrong("the overlap is a number of seconds"))?;
    let path = format!("/keys/{}/rotate", segment(visit.param("name")));
    let request = json!({"overlap_seconds": overlap});
    let made: KeyReply = visit.post(&api(&visit, &path), &request).await?;
    Ok(shown_once(&visit, &made))
}

/// The one page that shows a key. It is the answer to a form: no address leads to it again.
fn shown_once(visit: &Visit, made: &KeyReply) -> Shown {
    let main = once(made, &Tab::Keys.of(&visit.tenant().name));
    visit.tenant_page(Tab::Keys, &main)
}

async fn revoke(visit: Visit) -> Result<Shown, PageError> {
    let path = format!(
        "/{}/{}/revoke",
        Kind::Key.plural(),
        segment(visit.param("name"))
    );
    let request = json!({});
    visit
        .post::<ResourceView>(&api(&visit, &path), &request)
        .await?;
    let address = Tab::Keys.of(&visit.tenant().name);
    Ok(Shown::Elsewhere(format!("{address}?done=revoked")))
}
