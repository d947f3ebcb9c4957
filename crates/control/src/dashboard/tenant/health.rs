//! How the tenant is: the last hour, minute by minute.

use maud::{Markup, html};
use tenancy::Permission;

use super::super::answer::{PageError, Shown};
use super::super::layout::Tab;
use super::super::live::events_of;
use super::super::page::{PageRow, Visit, page};
use super::super::show::{self, Chart, Unit, badge, time};
use super::budgets::{read as read_budgets, table as budget_table};
use super::{Verb, api, inside};
use crate::api::{HealthFigures, HealthMinute, Quantiles, TenantHealthReply};

pub(super) fn pages() -> Vec<PageRow> {
    let read = inside(Permission::ReadUsage);
    vec![page(
        Verb::Get,
        "/dashboard/tenants/{tenant}",
        read,
        overview,
    )]
}

async fn overview(visit: Visit) -> Result<Shown, PageError> {
    let reply: TenantHealthReply = visit.get(&api(&visit, "/health")).await?;
    let figures = figures(&visit, &reply);
    if visit.wants_part {
        return Ok(Shown::Part(figures));
    }
    let address = Tab::Health.of(&visit.tenant().name);
    let budgets = if visit.looks_inside() {
        let rows = read_budgets(&visit).await?;
        html! { h2 { "Budgets" } (budget_table(&rows)) }
    } else {
        html! {}
    };
    let main = html! {
        div hx-get=(address) hx-trigger="every 10s, live" hx-swap="innerHTML"
            data-live=(events_of(&visit.tenant().name)) { (figures) }
        (budgets)
        (charts(&reply))
    };
    Ok(visit.tenant_page(Tab::Health, &main))
}

fn figures(visit: &Visit, reply: &TenantHealthReply) -> Markup {
    html! {
        p.summary {
            (badge(reply.concern, visit.tenant().spec.suspended)) " "
            @if reply.reasons.is_empty() { "Nothing needs a look." }
            @else { (reply.reasons.join("; ")) "." }
            " " span.note { "Last hour, counted since " (time(reply.since)) "." }
        }
        @if let Some(since) = reply.incomplete_since {
            p.note.watch role="status" { "Some calls since " (time(since)) " may be missing." }
        }
        (show::health(&reply.health))
    }
}

fn charts(reply: &TenantHealthReply) -> Markup {
    if reply.minutes.is_empty() {
        return html! {
            p.empty { "No call in the last hour. What was before it is under Usage." }
        };
    }
    let times = || reply.minutes.iter().map(|minute| minute.at).collect();
    let counts = |label: &str, which: fn(&HealthFigures) -> u64| {
        let of = |minute: &HealthMinute| i64::try_from(which(&minute.figures)).ok();
        (label.to_owned(), reply.minutes.iter().map(of).collect())
    };
    type Which = fn(&HealthFigures) -> Option<Quantiles>;
    let millis = |label: &str, which: Which, quantile: fn(Quantiles) -> u64| {
        let of = |minute: &HealthMinute| i64::try_from(which(&minute.figures).map(quantile)?).ok();
        (label.to_owned(), reply.minutes.iter().map(of).collect())
    };
    let all = [
        Chart {
            title: "Calls a minute, by how they ended",
            unit: Unit::Count,
            stacked: true,
            times: times(),
            series: vec![
                counts("answered", |it| {
                    it.calls - it.failed - it.refused - it.abandoned
                }),
                counts("refused", |it| it.refused),
                counts("failed", |it| it.failed),
                counts("abandoned", |it| it.abandoned),
            ],
        },
        Chart {
            title: "Duration of calls",
            unit: Unit::Millis,
            stacked: false,
            times: times(),
            series: vec![
                millis("p50", |it| it.duration, |it| it.p50_ms),
                millis("p95", |it| it.duration, |it| it.p95_ms),
                millis("p99", |it| it.duration, |it| it.p99_ms),
            ],
        },
        Chart {
            title: "Time to the first byte, and wait for a place",
            unit: Unit::Millis,
            stacked: false,
            times: times(),
            series: vec![
                millis("first byte p50", |it| it.first_chunk, |it| it.p50_ms),
                millis("first byte p95", |it| it.first_chunk, |it| it.p95_ms),
                millis("queue p95", |it| it.queue_wait, |it| it.p95_ms),
            ],
        },
    ];
    html! { div.charts { @for chart in &all { (chart.show()) } } }
}
