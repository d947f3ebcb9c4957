//! What a request asked and was answered, where the tenant has that kept.

use maud::{Markup, html};
use serde_json::Value;
use tenancy::Permission;

use super::super::answer::{PageError, Shown};
use super::super::ask::segment;
use super::super::layout::Tab;
use super::super::page::{PageRow, Visit, page};
use super::super::show::time;
use super::{Verb, api, inside};
use crate::api::BodiesReply;

pub(super) fn pages() -> Vec<PageRow> {
    vec![
        page(
            Verb::Get,
            "/dashboard/tenants/{tenant}/calls/{id}/bodies",
            inside(Permission::ReadBodies),
            bodies,
        ),
        page(
            Verb::Post,
            "/dashboard/tenants/{tenant}/calls/{id}/bodies",
            inside(Permission::ManageTenantConfig),
            forget,
        )
        .doing(&["delete_request_bodies"]),
    ]
}

/// What a request's page says of its bodies.
pub(super) fn way(visit: &Visit, request: &str) -> Markup {
    let Some(spec) = &visit.tenant().config.bodies else {
        return html! {
            p.note {
                "What was asked and answered is not kept. The tenant's administrator switches that on: "
                code { "bodies" } " in its configuration."
            }
        };
    };
    if visit.sees_platform() && !(spec.operators && visit.may(Permission::ReadBodies)) {
        return html! {
            p.note { "What was asked and answered is for the tenant's own administrators." }
        };
    }
    let address = address(visit, request);
    html! {
        p {
            a.button href=(address) { "What was asked and answered" }
            " " span.note { "Kept for " (spec.days) " days, redacted; that you look is put on record." }
        }
    }
}

fn address(visit: &Visit, request: &str) -> String {
    let calls = Tab::Calls.of(&visit.tenant().name);
    format!("{calls}/{}/bodies", segment(request))
}

async fn bodies(visit: Visit) -> Result<Shown, PageError> {
    let id = visit.param("id").to_owned();
    let path = api(&visit, &format!("/requests/{}/bodies", segment(&id)));
    let found = match visit.get::<BodiesReply>(&path).await {
        Ok(found) => Ok(found),
        Err(PageError::NotFound) => Err(
            "Nothing is kept of this request: it was made before that was switched on, or for another \
             feature, or is too old by now, or had no room."
                .to_owned(),
        ),
        // The tenant has none kept, or not for this visitor.
        Err(PageError::Refused { message, .. }) => Err(message),
        Err(error) => return Err(error),
    };
    let calls = Tab::Calls.of(&visit.tenant().name);
    let main = html! {
        nav.crumbs aria-label="Calls" {
            a href=(calls) { "Calls" } " / "
            a href=(format!("{calls}/{}", segment(&id))) { (id) }
        }
        h2 { "What was asked and answered" }
        @match &found {
            Ok(found) => (shown(&visit, &id, found)),
            Err(message) => p.empty { (message) },
        }
    };
    Ok(visit.tenant_page(Tab::Calls, &main))
}

fn shown(visit: &Visit, id: &str, found: &BodiesReply) -> Markup {
    html! {
        p.note {
            (time(found.at)) ", kept until " (time(found.kept_until)) ". Placeholders such as "
            code { "[CARD_1]" } " stand for what is kept nowhere."
        }
        (body("Asked", Some(&found.asked), found.asked_cut))
        (body("Answered", found.answered.as_ref(), found.answered_cut))
        @if found.incomplete { p.note { "The answer broke off before its end." } }
        @if visit.may(Permission::ManageTenantConfig) {
            details.action {
                summary { "Forget it" }
                form method="post" action=(address(visit, id)) {
                    (visit.secret())
                    p { "Both go for good. The call stays in the ledger." }
                    button.danger type="submit" { "Forget" }
                }
            }
        }
    }
}

fn body(title: &str, body: Option<&Value>, is_cut: bool) -> Markup {
    html! {
        section.card {
            h3 { (title) }
            @match body {
                Some(body) => pre tabindex="0" { (serde_json::to_string_pretty(body).unwrap_or_default()) },
                None => p.empty { "Nothing is kept." },
            }
            @if is_cut { p.note { "It goes on: the first 64 KiB are kept." } }
        }
    }
}

async fn forget(visit: Visit) -> Result<Shown, PageError> {
    let id = visit.param("id").to_owned();
    let path = api(&visit, &format!("/requests/{}/bodies", segment(&id)));
    visit.delete(&path, None).await?;
    let calls = Tab::Calls.of(&visit.tenant().name);
    Ok(Shown::Elsewhere(format!(
        "{calls}/{}?done=forgotten",
        segment(&id)
    )))
}
