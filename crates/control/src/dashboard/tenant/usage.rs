//! What the tenant used and what it cost: by day, and by whatever is told apart.

use base::{PicoUsd, Timestamp};
use maud::{Markup, html};
use tenancy::Permission;

use super::super::answer::{PageError, Shown};
use super::super::layout::Tab;
use super::super::page::{PageRow, Visit, page};
use super::super::show::{Chart, Unit, count, figure, micros_of, money, short};
use super::{Verb, api, inside};
use crate::api::{Page, UsageRow};

/// What may be told apart here, and how it is called.
const DIMENSIONS: [(&str, &str); 6] = [
    ("feature", "Feature"),
    ("model", "Model"),
    ("team", "Team"),
    ("user", "User"),
    ("key", "Key"),
    ("hop", "Hop"),
];
const DAYS: [u32; 4] = [7, 30, 90, 365];
/// Lines of one drawing: more cannot be told apart.
const SERIES_MAX: usize = 6;
/// Rows of a table: what is smaller is in the export.
const ROWS_MAX: usize = 100;

pub(super) fn pages() -> Vec<PageRow> {
    let read = inside(Permission::ReadUsage);
    vec![page(
        Verb::Get,
        "/dashboard/tenants/{tenant}/usage",
        read,
        usage,
    )]
}

/// What is asked for.
struct Asked {
    by: (&'static str, &'static str),
    days: u32,
    from: Timestamp,
}

impl Asked {
    fn read(visit: &Visit) -> Self {
        let by = visit.query.get("by");
        let by = DIMENSIONS.into_iter().find(|(name, _)| by == Some(name));
        let days = visit.query.get("days").and_then(|days| days.parse().ok());
        let days = DAYS.into_iter().find(|known| days == Some(*known));
        let days = days.unwrap_or(30);
        let now = visit.house.control.clock.now();
        let before = std::time::Duration::from_secs(u64::from(days - 1) * 24 * 3600);
        Self {
            by: by.unwrap_or(DIMENSIONS[0]),
            days,
            from: now.minus(before),
        }
    }

    /// The first day, whole.
    fn first_day(&self) -> String {
        self.from.to_string().chars().take(10).collect()
    }
}

async fn usage(visit: Visit) -> Result<Shown, PageError> {
    let asked = Asked::read(&visit);
    let main = if visit.looks_inside() {
        let by = asked.by.0;
        let path = format!(
            "/usage?group_by=day,{by}&limit=1000&from={}",
            asked.first_day()
        );
        let rows = all_pages(&visit, &api(&visit, &path)).await?;
        html! { (filters(&asked)) (shown(&asked, &rows)) }
    } else {
        html! {
            p.empty {
                "An auditor does not look inside tenants. What all of them used is in "
                code { "partywall usage --by tenant" } "."
            }
        }
    };
    Ok(visit.tenant_page(Tab::Usage, &main))
}

/// At most ten pages of a thousand: the admin API gives no more groups.
async fn all_pages(visit: &Visit, path: &str) -> Result<Vec<UsageRow>, PageError> {
    let mut rows = Vec::new();
    let mut cursor = None;
    for _ in 0..10 {
        let at = cursor.map_or(String::new(), |cursor: String| format!("&cursor={cursor}"));
        let page: Page<UsageRow> = visit.get(&format!("{path}{at}")).await?;
        rows.extend(page.data);
        cursor = page.next_cursor;
        if cursor.is_none() {
            break;
        }
    }
    Ok(rows)
}

fn filters(asked: &Asked) -> Markup {
    html! {
        form.filters method="get" aria-label="What to show" {
            label { "Told apart by"
                select name="by" {
                    @for (name, words) in DIMENSIONS {
                        option value=(name) selected[name == asked.by.0] { (words) }
                    }
                }
            }
            label { "Time"
                select name="days" {
                    @for days in DAYS {
                        option value=(days) selected[days == asked.days] { (days) " days" }
                    }
                }
            }
            button type="submit" { "Show" }
        }
    }
}

/// Sums of one value of what is told apart.
#[derive(Default)]
struct Sum {
    name: String,
    row: UsageRow,
    by_day: std::collections::BTreeMap<String, PicoUsd>,
}

fn shown(asked: &Asked, rows: &[UsageRow]) -> Markup {
    let mut sums: std::collections::BTreeMap<String, Sum> = std::collections::BTreeMap::new();
    let mut total = UsageRow::default();
    for row in rows {
        let name = row.group.get(asked.by.0).cloned().unwrap_or_default();
        let sum = sums.entry(name.clone()).or_default();
        sum.name = if name.is_empty() {
            "(none)".to_owned()
        } else {
            name
        };
        add(&mut sum.row, row);
        add(&mut total, row);
        let day = row.group.get("day").cloned().unwrap_or_default();
        *sum.by_day.entry(day).or_insert(PicoUsd::ZERO) += row.cost;
    }
    let mut sums: Vec<Sum> = sums.into_values().collect();
    sums.sort_by(|one, other| {
        let by_cost = other.row.cost.cmp(&one.row.cost);
        by_cost.then_with(|| one.name.cmp(&other.name))
    });
    html! {
        dl.figures {
            (figure("Cost", &money(total.cost), &format!("{} days", asked.days)))
            (figure("Requests", &short(total.requests), ""))
            (figure("Calls of models", &short(total.calls), ""))
            (figure("Tokens in", &short(total.input_tokens), &format!("{} cached", short(total.cached_tokens))))
            (figure("Tokens out", &short(total.output_tokens), ""))
            (figure("Answers from cache", &short(total.cache_hits), ""))
        }
        @if sums.is_empty() {
            p.empty { "Nothing was used in this time." }
        } @else {
            div.charts { (chart(asked, &sums).show()) }
            (table(asked, &sums, total.cost))
        }
    }
}

fn add(sum: &mut UsageRow, row: &UsageRow) {
    sum.requests += row.requests;
    sum.calls += row.calls;
    sum.unsettled += row.unsettled;
    sum.cache_hits += row.cache_hits;
    sum.input_tokens += row.input_tokens;
    sum.cached_tokens += row.cached_tokens;
    sum.output_tokens += row.output_tokens;
    sum.cost += row.cost;
}

fn chart(asked: &Asked, sums: &[Sum]) -> Chart {
    let day = |ahead: u32| {
        let ahead = std::time::Duration::from_secs(u64::from(ahead) * 24 * 3600);
        let text = asked.from.plus(ahead).to_string();
        text.chars().take(10).collect::<String>()
    };
    let days: Vec<String> = (0..asked.days).map(day).collect();
    let of = |sum: &Sum| -> Vec<Option<i64>> {
        let cost = |day: &String| sum.by_day.get(day).copied().unwrap_or(PicoUsd::ZERO);
        days.iter().map(|day| Some(micros_of(cost(day)))).collect()
    };
    let mut series: Vec<(String, Vec<Option<i64>>)> = sums
        .iter()
        .take(SERIES_MAX)
        .map(|sum| (sum.name.clone(), of(sum)))
        .collect();
    if sums.len() > SERIES_MAX {
        let mut rest = vec![Some(0); days.len()];
        for sum in &sums[SERIES_MAX..] {
            for (total, more) in rest.iter_mut().zip(of(sum)) {
                *total = Some(total.unwrap_or(0) + more.unwrap_or(0));
            }
        }
        series.push(("others".to_owned(), rest));
    }
    let time = |day: &String| format!("{day}T00:00:00Z").parse().unwrap_or(asked.from);
    Chart {
        title: "Cost a day",
        unit: Unit::MicroUsd,
        stacked: true,
        times: days.iter().map(time).collect(),
        series,
    }
}

fn table(asked: &Asked, sums: &[Sum], total: PicoUsd) -> Markup {
    let part = |cost: PicoUsd| match total {
        PicoUsd::ZERO => "–".to_owned(),
        total => {
            let permille = cost.pico().saturating_mul(1_000) / total.pico();
            crate::health::percent(u64::try_from(permille).unwrap_or(0))
        }
    };
    html! {
        div.scroll tabindex="0" role="region" aria-label="Usage" {
            table {
                thead { tr {
                    th scope="col" { (asked.by.1) }
                    th.number scope="col" { "Cost" }
                    th.number scope="col" { "Part" }
                    th.number scope="col" { "Requests" }
                    th.number scope="col" { "Calls" }
                    th.number scope="col" { "Tokens in" }
                    th.number scope="col" { "Cached" }
                    th.number scope="col" { "Tokens out" }
                } }
                tbody { @for sum in sums.iter().take(ROWS_MAX) {
                    tr {
                        th scope="row" { (sum.name) }
                        td.number { (money(sum.row.cost)) }
                        td.number { (part(sum.row.cost)) }
                        td.number { (count(sum.row.requests)) }
                        td.number { (count(sum.row.calls)) }
                        td.number { (count(sum.row.input_tokens)) }
                        td.number { (count(sum.row.cached_tokens)) }
                        td.number { (count(sum.row.output_tokens)) }
                    }
                } }
            }
        }
        @if sums.len() > ROWS_MAX {
            p.note { (sums.len() - ROWS_MAX) " smaller ones are not shown." }
        }
    }
}
