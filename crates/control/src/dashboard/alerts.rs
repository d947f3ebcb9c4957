//! What somebody should know now, and what lately was so: of all tenants, or of one.

use maud::{Markup, html};
use tenancy::Permission;

use super::answer::{PageError, Shown};
use super::ask::segment;
use super::layout::Tab;
use super::live::{PLATFORM_EVENTS, events_of};
use super::page::{Door, PageRow, Visit, page};
use super::show::time;
use crate::api::{AlertRow, AlertState, Page, Severity};
use crate::endpoint::{Reach, Verb};

pub(super) fn pages() -> Vec<PageRow> {
    let read = Permission::ReadUsage;
    vec![
        page(
            Verb::Get,
            "/dashboard/alerts",
            Door::As(Reach::Platform(read)),
            alerts,
        ),
        page(
            Verb::Get,
            "/dashboard/tenants/{tenant}/alerts",
            Door::As(Reach::Tenant(read)),
            alerts,
        ),
    ]
}

async fn alerts(visit: Visit) -> Result<Shown, PageError> {
    let tenant = visit.tenant_if_any().map(|tenant| tenant.name.clone());
    let cursor = visit.query.get("cursor");
    let cursor = cursor.map_or(String::new(), |cursor| {
        format!("&cursor={}", segment(cursor))
    });
    let root = match &tenant {
        Some(tenant) => format!("/admin/v1/tenants/{tenant}"),
        None => "/admin/v1".to_owned(),
    };
    let rows: Page<AlertRow> = visit
        .get(&format!("{root}/alerts?limit=100{cursor}"))
        .await?;
    let table = table(&rows, tenant.is_none());
    if visit.wants_part {
        return Ok(Shown::Part(table));
    }
    let here = match &tenant {
        Some(tenant) => Tab::Alerts.of(tenant),
        None => "/dashboard/alerts".to_owned(),
    };
    let events = match &tenant {
        Some(tenant) => events_of(tenant),
        None => PLATFORM_EVENTS.to_owned(),
    };
    let channels = match &tenant {
        Some(tenant) => format!("{}/channels", Tab::Resources.of(tenant)),
        None => "/dashboard/resources/platform-channels".to_owned(),
    };
    let main = html! {
        div.heading {
            @if tenant.is_none() { h1 { "Alerts" } } @else { h2 { "Alerts" } }
            a.button href=(channels) { "Channels" }
        }
        div #alerts hx-get=(format!("{here}?{}", cursor.trim_start_matches('&')))
            hx-trigger="every 10s, live" data-live=(events) hx-swap="innerHTML" { (table) }
    };
    Ok(match tenant {
        Some(_) => visit.tenant_page(Tab::Alerts, &main),
        None => visit.page("Alerts", &main),
    })
}

fn table(rows: &Page<AlertRow>, names_tenants: bool) -> Markup {
    let (open, resolved): (Vec<_>, Vec<_>) = rows
        .data
        .iter()
        .partition(|row| row.state == AlertState::Open);
    html! {
        @if open.is_empty() { p.empty { "No alert is open." } }
        @if !open.is_empty() { (part("Open", &open, names_tenants)) }
        @if !resolved.is_empty() {
            h2 { "Resolved in the last 30 days" }
            (part("Resolved", &resolved, names_tenants))
        }
        @if let Some(cursor) = &rows.next_cursor {
            nav.more aria-label="More alerts" {
                a.button href=(format!("?cursor={}", segment(cursor))) { "More alerts" }
            }
        }
    }
}

fn part(label: &str, rows: &[&AlertRow], names_tenants: bool) -> Markup {
    html! {
        div.scroll tabindex="0" role="region" aria-label=(label) {
            table {
                thead { tr {
                    th scope="col" { "State" }
                    @if names_tenants { th scope="col" { "Tenant" } }
                    th scope="col" { "What" }
                    th scope="col" { "Kind" }
                    th scope="col" { "Since" }
                    th scope="col" { "Until" }
                } }
                tbody { @for row in rows { (one(row, names_tenants)) } }
            }
        }
    }
}

fn one(row: &AlertRow, names_tenants: bool) -> Markup {
    let (class, words) = match (row.state, row.severity) {
        (AlertState::Resolved, _) => ("badge off", "resolved"),
        (AlertState::Open, Severity::Warning) => ("badge watch", "warning"),
        (AlertState::Open, Severity::Critical) => ("badge urgent", "critical"),
    };
    html! {
        tr {
            td { span class=(class) { (words) } }
            @if names_tenants {
                td {
                    @match &row.tenant {
                        Some(tenant) => a href=(Tab::Alerts.of(tenant)) { (tenant) },
                        None => span.note { "platform" },
                    }
                }
            }
            td { a href=(row.page) { (row.summary) } }
            td { (row.kind) }
            td { (time(row.opened_at)) }
            td { @match row.resolved_at { Some(at) => (time(at)), None => span.note { "open" } } }
        }
    }
}
