//! What the tenant is charged: a month's invoice, and those that are final.

use maud::{Markup, html};
use serde_json::json;
use tenancy::Permission;

use super::super::answer::{PageError, Shown};
use super::super::ask::segment;
use super::super::layout::Tab;
use super::super::page::{PageRow, Visit, page};
use super::super::show::{self, count, money, time};
use super::{Verb, api, inside};
use crate::api::{Invoice, InvoiceRow, InvoiceState, Page};

pub(super) fn pages() -> Vec<PageRow> {
    // What it owes is the platform's to say.
    let (read, write) = (
        inside(Permission::ReadUsage),
        inside(Permission::ActForTenant),
    );
    vec![
        page(
            Verb::Get,
            "/dashboard/tenants/{tenant}/invoices",
            read,
            invoices,
        ),
        page(
            Verb::Post,
            "/dashboard/tenants/{tenant}/invoices/{name}/finalise",
            write,
            finalise,
        )
        .doing(&["finalise_invoice"]),
    ]
}

async fn invoices(visit: Visit) -> Result<Shown, PageError> {
    if !visit.looks_inside() {
        let main = html! { p.empty { "An auditor does not look inside tenants." } };
        return Ok(visit.tenant_page(Tab::Invoices, &main));
    }
    let now = visit.house.control.clock.now().to_string();
    let this_month: String = now.chars().take("2026-10".len()).collect();
    let period = visit.query.get("period").unwrap_or(&this_month);
    let path = api(&visit, &format!("/invoices/{}", segment(period)));
    let found = match visit.get::<Invoice>(&path).await {
        Ok(invoice) => Ok(invoice),
        // There may be no price book, or no such month.
        Err(PageError::Refused { message, .. }) => Err(message),
        Err(PageError::NotFound) => Err("There is no such month or invoice.".to_owned()),
        Err(error) => return Err(error),
    };
    let listed: Page<InvoiceRow> = visit.get(&api(&visit, "/invoices?limit=1000")).await?;
    let main = html! {
        form.filters method="get" action=(Tab::Invoices.of(&visit.tenant().name)) {
            label { "Month"
                input type="month" name="period" value=(period) required;
            }
            button type="submit" { "Show" }
        }
        @match &found {
            Ok(invoice) => (one(&visit, invoice)),
            Err(message) => p.empty { (message) },
        }
        h2 { "Final invoices" }
        (table(&visit, &listed.data))
    };
    Ok(visit.tenant_page(Tab::Invoices, &main))
}

fn one(visit: &Visit, invoice: &Invoice) -> Markup {
    let is_draft = invoice.state == InvoiceState::Draft;
    html! {
        h2 {
            @match &invoice.number {
                Some(number) => { (number) },
                None => { "Draft of " (invoice.period) },
            }
        }
        p.note {
            (time(invoice.from)) " to " (time(invoice.until)) ", by price book " (invoice.price_book)
            @if invoice.unsettled > 0 {
                "; " (count(invoice.unsettled)) " calls are not settled and count at their upper bound"
            }
        }
        div.scroll tabindex="0" role="region" aria-label="Lines of the invoice" {
            table {
                thead { tr {
                    th scope="col" { "For" }
                    th.number scope="col" { "Calls" }
                    th.number scope="col" { "Cost" }
                    th.number scope="col" { "Charged, $" }
                } }
                tbody { @for line in &invoice.lines {
                    tr {
                        th scope="row" { (line.description) }
                        td.number { @if line.calls > 0 { (count(line.calls)) } }
                        td.number { @if let Some(cost) = line.cost { (money(cost)) } }
                        td.number { (line.amount.shown(6)) }
                    }
                } }
                tfoot { tr {
                    th scope="row" colspan="3" { "Total" }
                    td.number { (invoice.total) }
                } }
            }
        }
        @if is_draft && visit.may(Permission::ActForTenant) {
            details.action {
                summary { "Make it final" }
                form method="post" action=(format!(
                    "/dashboard/tenants/{}/invoices/{}/finalise",
                    visit.tenant().name, segment(&invoice.period)
                )) {
                    (visit.secret())
                    p { "It gets its number, and never changes: an hour after its month has ended." }
                    button.primary type="submit" { "Make " (invoice.period) " final" }
                }
            }
        }
    }
}

fn table(visit: &Visit, rows: &[InvoiceRow]) -> Markup {
    if rows.is_empty() {
        return html! { p.empty { "None yet." } };
    }
    let address = Tab::Invoices.of(&visit.tenant().name);
    let columns = [
        "Number",
        "Month",
        "#Total, $",
        "#Given back, $",
        "Final since",
    ];
    let rows = html! { @for row in rows.iter().rev() {
        tr {
            th scope="row" {
                a href=(format!("{address}?period={}", segment(&row.period))) { (row.number) }
            }
            td { (row.period) }
            td.number { (row.total) }
            td.number { (row.credited) }
            td { (time(row.finalised_at)) }
        }
    } };
    show::table("Final invoices", &columns, &rows)
}

async fn finalise(visit: Visit) -> Result<Shown, PageError> {
    let period = visit.param("name").to_owned();
    let path = api(&visit, &format!("/invoices/{}/finalise", segment(&period)));
    visit.post::<Invoice>(&path, &json!({})).await?;
    let address = Tab::Invoices.of(&visit.tenant().name);
    Ok(Shown::Elsewhere(format!(
        "{address}?period={}&done=final",
        segment(&period)
    )))
}
