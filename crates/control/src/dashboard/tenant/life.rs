//! Tenants are onboarded, suspended and served again.

use maud::{Markup, html};
use serde_json::json;
use tenancy::Permission;

use super::super::answer::{PageError, Shown};
use super::super::layout::Tab;
use super::super::page::{Door, PageRow, Visit, page};
use super::{Verb, api, inside, once};
use crate::api::{OnboardReply, ResourceView};
use crate::endpoint::Reach;

pub(super) fn pages() -> Vec<PageRow> {
    let onboards = Door::As(Reach::Platform(Permission::WriteCatalogue));
    let write = inside(Permission::WriteCatalogue);
    vec![
        page(Verb::Get, "/dashboard/tenants", onboards, form),
        page(Verb::Post, "/dashboard/tenants", onboards, onboard).doing(&["onboard_tenant"]),
        page(
            Verb::Get,
            "/dashboard/tenants/{tenant}/life",
            write,
            choices,
        ),
        page(
            Verb::Post,
            "/dashboard/tenants/{tenant}/suspend",
            write,
            |visit| set(visit, "suspend", "suspended"),
        )
        .doing(&["suspend_tenant"]),
        page(
            Verb::Post,
            "/dashboard/tenants/{tenant}/resume",
            write,
            |visit| set(visit, "resume", "resumed"),
        )
        .doing(&["resume_tenant"]),
    ]
}

async fn form(visit: Visit) -> Result<Shown, PageError> {
    let main = html! {
        h1 { "New tenant" }
        form.card method="post" action="/dashboard/tenants" {
            (visit.secret())
            label { "Name"
                input name="name" required pattern="[a-z0-9][a-z0-9\\-]*" spellcheck="false"
                    placeholder="acme";
            }
            label { "Tier"
                select name="tier" required {
                    @for tier in visit.snapshot.tiers().keys() { option value=(tier) { (tier) } }
                }
            }
            label { "Time zone, by which days and months end"
                input name="zone" value="UTC" required spellcheck="false";
            }
            label { "First key's name; none if empty"
                input name="key" value="admin" pattern="[a-z0-9][a-z0-9\\-]*" spellcheck="false";
            }
            button.primary type="submit" { "Onboard" }
        }
    };
    Ok(visit.page("New tenant", &main))
}

async fn onboard(visit: Visit) -> Result<Shown, PageError> {
    let mut request = json!({
        "name": visit.form.need("name", "the tenant's name")?,
        "spec": {
            "tier": visit.form.need("tier", "the tier")?,
            "zone": visit.form.need("zone", "the time zone")?,
        },
    });
    if let Some(key) = visit.form.get("key") {
        request["first_key"] = json!({"name": key, "role": "tenant-admin"});
    }
    let made: OnboardReply = visit.post("/admin/v1/tenants", &request).await?;
    let name = &made.tenant.name;
    let main = html! {
        h1 { "The tenant " (name) " is onboarded" }
        @if let Some(first) = &made.first_key {
            (once(first, &format!("/dashboard/tenants/{name}")))
        } @else {
            p { a href=(format!("/dashboard/tenants/{name}")) { "To the tenant" } }
        }
    };
    Ok(visit.page("Onboarded", &main))
}

async fn choices(visit: Visit) -> Result<Shown, PageError> {
    let tenant = visit.tenant();
    let address = |what: &str| format!("/dashboard/tenants/{}/{what}", tenant.name);
    let ask = |what: &str, words: &str, class: &str, button: &str| -> Markup {
        html! {
            form.card method="post" action=(address(what)) {
                (visit.secret())
                p { (words) }
                button class=(class) type="submit" { (button) }
            }
        }
    };
    let main = if tenant.spec.suspended {
        ask(
            "resume",
            "All its calls are refused.",
            "primary",
            "Serve it again",
        )
    } else {
        ask(
            "suspend",
            "All its calls and keys are refused until it is served again. Nothing is lost.",
            "danger",
            "Suspend it",
        )
    };
    Ok(visit.tenant_page(Tab::Life, &main))
}

async fn set(visit: Visit, act: &str, done: &str) -> Result<Shown, PageError> {
    let path = api(&visit, &format!("/{act}"));
    visit.post::<ResourceView>(&path, &json!({})).await?;
    let address = Tab::Life.of(&visit.tenant().name);
    Ok(Shown::Elsewhere(format!("{address}?done={done}")))
}
