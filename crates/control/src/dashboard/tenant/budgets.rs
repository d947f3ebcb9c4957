//! What the tenant may spend, and what is left of it.

use maud::{Markup, html};
use serde_json::json;
use tenancy::Permission;

use super::super::answer::{PageError, Shown};
use super::super::ask::segment;
use super::super::layout::{Tab, hidden};
use super::super::page::{PageRow, Visit, page};
use super::super::show::{meter, money, said, time};
use super::{Verb, api, inside};
use crate::api::{BudgetRow, BudgetStatusReply, Page, ResourceView};
use crate::health::{percent, used_permille};

pub(super) fn pages() -> Vec<PageRow> {
    let read = inside(Permission::ReadUsage);
    // What a tenant may spend is the platform's to say.
    let write = inside(Permission::WriteCatalogue);
    vec![
        page(
            Verb::Get,
            "/dashboard/tenants/{tenant}/budgets",
            read,
            budgets,
        ),
        page(
            Verb::Post,
            "/dashboard/tenants/{tenant}/budgets",
            write,
            save,
        )
        .doing(&["put_budget"]),
        page(
            Verb::Post,
            "/dashboard/tenants/{tenant}/budgets/{name}/remove",
            write,
            remove,
        )
        .doing(&["delete_budget"]),
    ]
}

/// The state of all of the tenant's budgets.
pub(super) async fn read(visit: &Visit) -> Result<Vec<BudgetRow>, PageError> {
    let reply: BudgetStatusReply = visit.get(&api(visit, "/budgets/status")).await?;
    Ok(reply.data)
}

/// Budgets as they stand.
pub(super) fn table(rows: &[BudgetRow]) -> Markup {
    if rows.is_empty() {
        return html! { p.empty { "Nothing has been spent on a budget yet." } };
    }
    html! {
        div.scroll tabindex="0" role="region" aria-label="Budgets" {
            table {
                thead { tr {
                    th scope="col" { "Budget" }
                    th scope="col" { "Of" }
                    th scope="col" { "Used" }
                    th.number scope="col" { "Spent" }
                    th.number scope="col" { "Held" }
                    th.number scope="col" { "Limit" }
                    th scope="col" { "Ends" }
                } }
                tbody { @for row in rows {
                    @let used = used_permille(row);
                    tr {
                        th scope="row" { (row.budget) }
                        td { (row.subject) }
                        td.budget {
                            (meter(used, &percent(used.into())))
                            div.note { (percent(used.into())) }
                        }
                        td.number { (money(row.spent)) }
                        td.number { (money(row.held)) }
                        td.number { (money(row.limit)) }
                        td { @match row.window_ends_at {
                            Some(at) => (time(at)),
                            None => span.note { "never, or by the hour" },
                        } }
                    }
                } }
            }
        }
    }
}

async fn budgets(visit: Visit) -> Result<Shown, PageError> {
    let standing = if visit.looks_inside() {
        table(&read(&visit).await?)
    } else {
        html! { p.empty { "An auditor does not look inside tenants." } }
    };
    let declared: Page<ResourceView> = visit.get(&api(&visit, "/budgets?limit=1000")).await?;
    let writes = visit.may(Permission::WriteCatalogue);
    let main = html! {
        h2 { "As they stand" }
        (standing)
        h2 { "Declared for this tenant" }
        @if declared.data.is_empty() {
            p.empty { "None of its own: those of its tier apply." }
        } @else {
            div.scroll tabindex="0" role="region" aria-label="Declared budgets" {
                table {
                    thead { tr {
                        th scope="col" { "Budget" }
                        th scope="col" { "Of" }
                        th scope="col" { "Window" }
                        th.number scope="col" { "Limit, $" }
                        @if writes { th scope="col" { span.hidden { "What to do" } } }
                    } }
                    tbody { @for budget in &declared.data {
                        tr {
                            th scope="row" { (budget.name) }
                            td { (said(&budget.spec["subject"])) }
                            td { (said(&budget.spec["window"])) }
                            td.number { (said(&budget.spec["limit"])) }
                            @if writes { td { (removal(&visit, budget)) } }
                        }
                    } }
                }
            }
        }
        @if writes { (form(&visit)) }
    };
    Ok(visit.tenant_page(Tab::Budgets, &main))
}

fn removal(visit: &Visit, budget: &ResourceView) -> Markup {
    let tenant = &visit.tenant().name;
    html! {
        details.action {
            summary { "Remove" span.hidden { " " (budget.name) } }
            form method="post"
                action=(format!("/dashboard/tenants/{tenant}/budgets/{}/remove", segment(&budget.name))) {
                (visit.secret())
                (hidden("etag", &budget.etag))
                p { "Calls are no longer bounded by it." }
                button.danger type="submit" { "Remove " (budget.name) }
            }
        }
    }
}

fn form(visit: &Visit) -> Markup {
    html! {
        h2 { "Set a budget" }
        form.card method="post" action=(Tab::Budgets.of(&visit.tenant().name)) {
            (visit.secret())
            label { "Name"
                input name="name" required pattern="[a-z0-9][a-z0-9\\-]*" spellcheck="false";
            }
            label { "Whose spending counts"
                input name="subject" value="tenant" required spellcheck="false"
                    aria-describedby="subject-note";
            }
            p.note #subject-note {
                code { "tenant" } ", one (" code { "team:sales" } ") or each (" code { "each:user" }
                ") of team, user, key, feature, session or turn."
            }
            label { "Window"
                select name="window" {
                    option value="monthly" { "monthly" }
                    option value="daily" { "daily" }
                    option value="total" { "total, for good" }
                }
            }
            label { "Limit in dollars"
                input name="limit" inputmode="decimal" required placeholder="250.00";
            }
            button.primary type="submit" { "Set" }
        }
    }
}

async fn save(visit: Visit) -> Result<Shown, PageError> {
    let name = visit.form.need("name", "the budget's name")?;
    let spec = json!({
        "subject": visit.form.need("subject", "whose spending counts")?,
        "window": visit.form.need("window", "the window")?,
        "limit": visit.form.need("limit", "the limit")?,
    });
    let path = api(&visit, &format!("/budgets/{}", segment(name)));
    visit.put::<ResourceView>(&path, &spec, None).await?;
    done(&visit, "saved")
}

async fn remove(visit: Visit) -> Result<Shown, PageError> {
    let path = api(
        &visit,
        &format!("/budgets/{}", segment(visit.param("name"))),
    );
    visit.delete(&path, visit.form.get("etag")).await?;
    done(&visit, "removed")
}

fn done(visit: &Visit, what: &str) -> Result<Shown, PageError> {
    let address = Tab::Budgets.of(&visit.tenant().name);
    Ok(Shown::Elsewhere(format!("{address}?done={what}")))
}
