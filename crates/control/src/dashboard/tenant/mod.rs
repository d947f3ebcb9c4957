//! The pages of one tenant: the same ones for operators and for its own administrators.

mod audit;
mod bodies;
mod budgets;
mod calls;
mod configuration;
mod data;
mod health;
mod invoices;
mod keys;
mod life;
mod usage;

use maud::{Markup, html};
use tenancy::Permission;

use super::page::{Door, PageRow, Visit};
use crate::api::KeyReply;
use crate::endpoint::{Reach, Verb};

pub(super) use audit::table as audit_table;

/// All of them.
pub(super) fn pages() -> Vec<PageRow> {
    let groups = [
        health::pages(),
        usage::pages(),
        calls::pages(),
        bodies::pages(),
        budgets::pages(),
        invoices::pages(),
        keys::pages(),
        configuration::pages(),
        audit::pages(),
        data::pages(),
        life::pages(),
    ];
    groups.into_iter().flatten().collect()
}

/// Who may do this inside the tenant in the path.
const fn inside(permission: Permission) -> Door {
    Door::As(Reach::Tenant(permission))
}

/// The admin API's address of something of the tenant.
fn api(visit: &Visit, rest: &str) -> String {
    format!("/admin/v1/tenants/{}{rest}", visit.tenant().name)
}

/// A new key, shown this once; and the way on.
pub(super) fn once(made: &KeyReply, next: &str) -> Markup {
    html! {
        div.card.once role="status" {
            h2 { "The key " (made.resource.name) }
            p { strong { "Copy it now: it is kept nowhere, and shown this once." } }
            div.secret {
                label.hidden for="new-key" { "The key" }
                input #new-key readonly value=(made.key) spellcheck="false" autocomplete="off";
                button type="button" data-copy="#new-key" { "Copy" }
            }
            p { a href=(next) { "I have it" } }
        }
    }
}
