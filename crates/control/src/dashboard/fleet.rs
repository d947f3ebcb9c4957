//! All tenants at a glance, the worst first.

use maud::{Markup, html};
use tenancy::Permission;

use super::answer::{PageError, Shown};
use super::ask::segment;
use super::layout::Tab;
use super::live::PLATFORM_EVENTS;
use super::page::{Door, PageRow, Visit, page};
use super::show::{badge, count, duration, health, meter, money, share, sparkline, time};
use crate::api::{FleetReply, FleetRow};
use crate::endpoint::{Reach, Verb};

/// 50: two screens; the rest is a click or a few letters away.
const ROWS: u32 = 50;

const SORTS: [(&str, &str); 6] = [
    ("concern", "worst first"),
    ("budget", "fullest budget"),
    ("failures", "most failures"),
    ("duration", "slowest"),
    ("calls", "most calls"),
    ("name", "name"),
];

pub(super) fn pages() -> Vec<PageRow> {
    let read = Door::As(Reach::Platform(Permission::ReadUsage));
    vec![page(Verb::Get, "/dashboard/fleet", read, fleet)]
}

async fn fleet(visit: Visit) -> Result<Shown, PageError> {
    let mut asked = vec![format!("limit={ROWS}")];
    for field in ["name", "tier", "concern", "sort", "cursor"] {
        if let Some(value) = visit.query.get(field) {
            asked.push(format!("{field}={}", segment(value)));
        }
    }
    let path = format!("/admin/v1/fleet?{}", asked.join("&"));
    let reply: FleetReply = visit.get(&path).await?;
    let table = table(&visit, &reply);
    if visit.wants_part {
        return Ok(Shown::Part(table));
    }
    let main = html! {
        div.heading {
            h1 { "Fleet" }
            @if visit.may(Permission::WriteCatalogue) {
                a.button href="/dashboard/tenants" { "New tenant" }
            }
        }
        (filters(&visit))
        div #fleet hx-get="/dashboard/fleet" hx-trigger="every 10s, live" data-live=(PLATFORM_EVENTS) hx-swap="innerHTML"
            hx-include="#filters, #at" {
            (table)
        }
    };
    Ok(visit.page("Fleet", &main))
}

fn filters(visit: &Visit) -> Markup {
    let is_asked = |field: &str, value: &str| visit.query.get(field) == Some(value);
    html! {
        form.filters #filters method="get" action="/dashboard/fleet" hx-get="/dashboard/fleet"
            hx-target="#fleet" hx-trigger="input changed delay:250ms, change, submit"
            role="search" aria-label="Tenants" {
            label { "Name"
                input type="search" name="name" value=[visit.query.get("name")]
                    autocomplete="off" spellcheck="false";
            }
            label { "Tier"
                select name="tier" {
                    option value="" { "all" }
                    @for tier in visit.snapshot.tiers().keys() {
                        option value=(tier) selected[is_asked("tier", tier.as_str())] { (tier) }
                    }
                }
            }
            label { "Show"
                select name="concern" {
                    option value="" { "all" }
                    option value="watch" selected[is_asked("concern", "watch")] {
                        "what needs a look"
                    }
                    option value="urgent" selected[is_asked("concern", "urgent")] { "urgent" }
                }
            }
            label { "Order"
                select name="sort" {
                    @for (sort, words) in SORTS {
                        option value=(sort) selected[is_asked("sort", sort)] { (words) }
                    }
                }
            }
            button type="submit" { "Show" }
        }
    }
}

fn table(visit: &Visit, reply: &FleetReply) -> Markup {
    html! {
        @if let Some(cursor) = visit.query.get("cursor") {
            input #at type="hidden" name="cursor" value=(cursor);
        }
        p.summary {
            strong { (count(reply.tenants)) } " tenants, "
            strong.urgent { (count(reply.urgent)) } " urgent, "
            strong.watch { (count(reply.watch)) } " to watch, "
            (count(reply.suspended)) " suspended. "
            span.note {
                "Last hour, counted since " (time(reply.since)) "; " (count(reply.matching))
                " match."
            }
        }
        @if let Some(since) = reply.incomplete_since {
            p.note.watch role="status" {
                @if reply.silent_replicas.is_empty() {
                    "This replica has not heard from the others since " (time(since))
                    ": their calls since then are missing."
                } @else {
                    "Silent, so that what they served since then is missing: "
                    @for (number, silent) in reply.silent_replicas.iter().enumerate() {
                        @if number > 0 { ", " }
                        strong { (silent.replica) } " since " (time(silent.since))
                    }
                    "."
                }
            }
        }
        (health(&reply.health))
        @if reply.data.is_empty() {
            p.empty { "No tenant matches. Clear the filters, or onboard one." }
        } @else {
            div.scroll tabindex="0" role="region" aria-label="Tenants" {
                table.fleet {
                    thead { tr {
                        th scope="col" { "Tenant" }
                        th scope="col" { "State" }
                        th scope="col" { "Budget" }
                        th.number scope="col" { "Calls" }
                        th scope="col" { "Trend, 1 h" }
                        th.number scope="col" { "Failed" }
                        th.number scope="col" { "Refused" }
                        th.number scope="col" { "p50" }
                        th.number scope="col" { "p95" }
                        th.number scope="col" { "p99" }
                        th.number scope="col" { abbr title="First byte, 95th percentile" { "TTFT" } }
                        th.number scope="col" { abbr title="Queue wait, 95th percentile" { "Queue" } }
                    } }
                    tbody { @for row in &reply.data { (tenant(row)) } }
                }
            }
            (more(visit, reply))
        }
    }
}

fn tenant(row: &FleetRow) -> Markup {
    let figures = &row.health;
    html! {
        tr {
            th scope="row" {
                a href=(Tab::Health.of(&row.tenant)) { (row.tenant) }
                div.note { (row.tier) }
            }
            td {
                (badge(row.concern, row.suspended))
                @if !row.reasons.is_empty() { div.reasons { (row.reasons.join("; ")) } }
            }
            td.budget {
                @match &row.budget {
                    Some(budget) => {
                        @let words = format!("{} of {}", money(budget.spent), money(budget.limit));
                        (meter(budget.used_permille, &words))
                        div.note { (words) }
                    }
                    None => span.note { "none" },
                }
            }
            td.number { (count(figures.calls)) }
            td { (sparkline(&row.trend, "calls in the last hour")) }
            td.number { (share(figures.failed, figures.calls)) }
            td.number { (share(figures.refused, figures.calls)) }
            td.number { (duration(figures.duration, |it| it.p50_ms)) }
            td.number { (duration(figures.duration, |it| it.p95_ms)) }
            td.number { (duration(figures.duration, |it| it.p99_ms)) }
            td.number { (duration(figures.first_chunk, |it| it.p95_ms)) }
            td.number { (duration(figures.queue_wait, |it| it.p95_ms)) }
        }
    }
}

/// The way to what follows, with the same filters.
fn more(visit: &Visit, reply: &FleetReply) -> Markup {
    let mut kept = String::new();
    for field in ["name", "tier", "concern", "sort"] {
        if let Some(value) = visit.query.get(field) {
            kept.push_str(&format!("&{field}={}", segment(value)));
        }
    }
    html! {
        nav.more aria-label="More tenants" {
            @if visit.query.get("cursor").is_some() {
                a.button href=(format!("/dashboard/fleet?{}", kept.trim_start_matches('&'))) {
                    "First page"
                }
            }
            @if let Some(cursor) = &reply.next_cursor {
                a.button href=(format!("/dashboard/fleet?cursor={}{kept}", segment(cursor))) {
                    "Next page"
                }
            }
        }
    }
}
