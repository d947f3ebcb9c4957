//! The tenant's calls, one by one; and one request with all that was called on its way.

use std::time::Duration;

use maud::{Markup, html};
use tenancy::Permission;

use super::super::answer::{PageError, Shown};
use super::super::ask::segment;
use super::super::layout::Tab;
use super::super::page::{PageRow, Visit, page};
use super::super::show::{self, count, money, more};
use super::{Verb, api, inside};
use crate::api::{LineView, Page, RequestReply};
use crate::health::seconds;

/// What may be asked for, and how it is called.
const FILTERS: [(&str, &str); 8] = [
    ("from", "From"),
    ("to", "To"),
    ("feature", "Feature"),
    ("model", "Model"),
    ("user", "User"),
    ("key", "Key"),
    ("hop", "Hop"),
    ("outcome", "Ended"),
];

pub(super) fn pages() -> Vec<PageRow> {
    let read = inside(Permission::ReadUsage);
    vec![
        page(Verb::Get, "/dashboard/tenants/{tenant}/calls", read, calls),
        page(
            Verb::Get,
            "/dashboard/tenants/{tenant}/calls/{id}",
            read,
            request,
        ),
    ]
}

async fn calls(visit: Visit) -> Result<Shown, PageError> {
    if !visit.looks_inside() {
        let main = html! { p.empty { "An auditor does not look inside tenants." } };
        return Ok(visit.tenant_page(Tab::Calls, &main));
    }
    let mut asked = String::new();
    for (field, _) in FILTERS {
        if let Some(value) = visit.query.get(field) {
            asked.push_str(&format!("&{field}={}", segment(value)));
        }
    }
    let cursor = visit.at_cursor();
    let path = api(&visit, &format!("/calls?limit=50{asked}{cursor}"));
    let page: Page<LineView> = visit.get(&path).await?;
    let main = html! {
        (filters(&visit))
        @if page.data.is_empty() {
            p.empty { "No such call was found so far." }
        } @else {
            (table(&visit, &page.data))
        }
        (more(page.next_cursor.as_deref(), &asked, "Older calls"))
    };
    Ok(visit.tenant_page(Tab::Calls, &main))
}

fn filters(visit: &Visit) -> Markup {
    html! {
        form.filters method="get" role="search" aria-label="Calls" {
            @for (field, words) in FILTERS {
                label { (words)
                    input name=(field) value=[visit.query.get(field)] spellcheck="false"
                        autocomplete="off" size="12"
                        placeholder=[matches!(field, "from" | "to").then_some("2026-01-31")];
                }
            }
            button type="submit" { "Show" }
        }
    }
}

fn lasted(line: &LineView) -> Duration {
    line.ended_at.since(line.started_at)
}

fn millis(duration: Duration) -> String {
    seconds(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))
}

/// How a call ended, in its own words.
fn ended(line: &LineView) -> &str {
    line.outcome.as_deref().unwrap_or(&line.state)
}

fn table(visit: &Visit, lines: &[LineView]) -> Markup {
    let address = |line: &LineView| {
        let request = line.parent.unwrap_or(line.request);
        format!("{}/{request}", Tab::Calls.of(&visit.tenant().name))
    };
    let columns = [
        "When, UTC",
        "Feature",
        "Hop",
        "Model",
        "Who",
        "Ended",
        "#Took",
        "#In",
        "#Out",
        "#Cost",
    ];
    let rows = html! { @for line in lines {
        @let at = line.started_at.to_string();
        tr {
            th scope="row" {
                a href=(address(line)) { (at.get(..19).unwrap_or(&at).replace('T', " ")) }
            }
            td { (line.feature) }
            td { (line.hop) }
            td { (line.model) }
            td { (line.user.as_deref().unwrap_or(&line.key)) }
            td { (ended(line)) }
            td.number { (millis(lasted(line))) }
            td.number { (count(line.input_tokens)) }
            td.number { (count(line.output_tokens)) }
            td.number { (money(line.cost)) }
        }
    } };
    show::table("Calls", &columns, &rows)
}

async fn request(visit: Visit) -> Result<Shown, PageError> {
    if !visit.looks_inside() {
        let main = html! { p.empty { "An auditor does not look inside tenants." } };
        return Ok(visit.tenant_page(Tab::Calls, &main));
    }
    let id = segment(visit.param("id"));
    let reply: RequestReply = visit.get(&api(&visit, &format!("/requests/{id}"))).await?;
    let main = html! {
        nav.crumbs aria-label="Calls" { a href=(Tab::Calls.of(&visit.tenant().name)) { "Calls" } }
        h2 { code { (visit.param("id")) } }
        (waterfall(&reply.data))
        @for line in &reply.data { (details(line)) }
        (super::bodies::way(&visit, visit.param("id")))
    };
    Ok(visit.tenant_page(Tab::Calls, &main))
}

/// Every call as a bar in the time of the whole.
fn waterfall(lines: &[LineView]) -> Markup {
    let begin = lines.iter().map(|line| line.started_at).min();
    let end = lines.iter().map(|line| line.ended_at).max();
    let (Some(begin), Some(end)) = (begin, end) else {
        return html! {};
    };
    let whole = end.since(begin).as_micros().max(1);
    let permille = |of: Duration| u64::try_from(of.as_micros() * 1_000 / whole).unwrap_or(1_000);
    html! {
        p { "In all " strong { (millis(end.since(begin))) } ", "
            (count(lines.len() as u64)) " calls of models." }
        ol.waterfall { @for line in lines {
            @let words = format!("{} {}, {}", line.hop, line.model, millis(lasted(line)));
            li {
                span { (words) }
                svg viewBox="0 0 1000 12" preserveAspectRatio="none" role="img"
                    aria-label=(format!("{words}, {} after the first began",
                        millis(line.started_at.since(begin)))) {
                    rect.back width="1000" height="12" {}
                    rect.(kind(line)) x=(permille(line.started_at.since(begin)))
                        width=(permille(lasted(line)).max(4)) height="12" {}
                }
            }
        } }
    }
}

fn kind(line: &LineView) -> &'static str {
    match ended(line) {
        "completed" | "cached" => "fill",
        _ => "fill bad",
    }
}

fn details(line: &LineView) -> Markup {
    let or_none = |value: Option<String>| value.unwrap_or_else(|| "–".to_owned());
    let rows = [
        ("Call", line.attempt.to_string()),
        ("Feature", line.feature.to_string()),
        ("Model", line.model.to_string()),
        (
            "Version",
            or_none(line.version.as_ref().map(ToString::to_string)),
        ),
        ("Upstream", line.upstream.to_string()),
        ("Team", or_none(line.team.clone())),
        ("User", or_none(line.user.clone())),
        ("Key", line.key.clone()),
        ("Conversation", or_none(line.session.clone())),
        ("Prompt", or_none(line.prompt.clone())),
        ("State", line.state.clone()),
        ("Ended", ended(line).to_owned()),
        ("Tokens in", count(line.input_tokens)),
        ("Of these cached", count(line.cached_read_tokens)),
        ("Tokens out", count(line.output_tokens)),
        ("Held", format!("${}", line.held)),
        ("Cost", format!("${}", line.cost)),
        ("Price's version", line.price_version.to_string()),
    ];
    html! {
        section.card {
            h3 { (line.hop) }
            dl.pairs { @for (name, value) in rows { div { dt { (name) } dd { (value) } } } }
        }
    }
}
