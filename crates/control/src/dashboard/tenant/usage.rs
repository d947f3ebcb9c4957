//! What the tenant used and what it cost: by hour, day or month, and by whatever is told apart;
//! exact, from the sums that the ledger keeps.

use base::{PicoUsd, Timestamp};
use maud::{Markup, html};
use tenancy::Permission;

use super::super::answer::{PageError, Shown};
use super::super::layout::Tab;
use super::super::page::{PageRow, Visit, page};
use super::super::show::{Chart, Unit, count, figure, micros_of, money, short};
use super::{Verb, api, inside};
use crate::api::{CostsReply, UsageRow};

/// What may be told apart here, and how it is called.
const DIMENSIONS: [(&str, &str); 10] = [
    ("feature", "Feature"),
    ("model", "Model"),
    ("version", "Version of the model"),
    ("upstream", "Upstream"),
    ("price_version", "Price"),
    ("team", "Team"),
    ("user", "User"),
    ("key", "Key"),
    ("hop", "Hop"),
    ("session", "Conversation"),
];
/// Over which time costs are added up, how that is asked for and called, and how many are shown.
const STEPS: [(Step, &str, &str, u32); 4] = [
    (Step::Hour, "hours", "48 hours", 48),
    (Step::Day, "month", "30 days", 30),
    (Step::Day, "quarter", "90 days", 90),
    (Step::Month, "year", "12 months", 12),
];
/// 35 days are what the admin API tells conversations apart over.
const SESSION_TIMES: [&str; 2] = ["hours", "month"];

/// A step of time, UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Hour,
    Day,
    Month,
}

impl Step {
    /// As the admin API asks for it, and names it in a group.
    const fn as_str(self) -> &'static str {
        match self {
            Self::Hour => "hour",
            Self::Day => "day",
            Self::Month => "month",
        }
    }

    /// The `count` steps up to now, by their beginnings.
    fn before(self, now: Timestamp, count: u32) -> Vec<Timestamp> {
        let text = now.to_string();
        if self != Self::Month {
            let seconds = if self == Self::Hour { 3_600 } else { 86_400 };
            let micros = seconds * 1_000_000;
            let last = now.as_micros().div_euclid(micros) * micros;
            let steps = (0..i64::from(count)).rev();
            return steps
                .map(|ago| Timestamp::from_micros(last - ago * micros))
                .collect();
        }
        let number = |range| {
            text.get(range)
                .and_then(|part: &str| part.parse::<u32>().ok())
        };
        let months = number(0..4).unwrap_or(1970) * 12 + number(5..7).unwrap_or(1) - 1;
        let steps = (0..count).rev().map(|ago| months.saturating_sub(ago));
        steps
            .filter_map(|month| {
                let (year, month) = (month / 12, month % 12 + 1);
                format!("{year:04}-{month:02}-01T00:00:00Z").parse().ok()
            })
            .collect()
    }

    /// How the step that begins then is known by its first digits.
    fn name_of(self, begins: Timestamp) -> String {
        begins.to_string().chars().take(self.digits()).collect()
    }

    const fn digits(self) -> usize {
        match self {
            Self::Hour => 13,
            Self::Day => 10,
            Self::Month => 7,
        }
    }
}
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
    step: Step,
    /// How the time is asked for, and called.
    time: (&'static str, &'static str),
    times: Vec<Timestamp>,
}

impl Asked {
    fn read(visit: &Visit) -> Self {
        let by = visit.query.get("by");
        let by = DIMENSIONS.into_iter().find(|(name, _)| by == Some(name));
        let by = by.unwrap_or(DIMENSIONS[0]);
        let asked = visit.query.get("time");
        let is_allowed = |name: &str| by.0 != "session" || SESSION_TIMES.contains(&name);
        let found = STEPS
            .into_iter()
            .find(|(_, name, ..)| asked == Some(name) && is_allowed(name));
        let (step, name, words, count) = found.unwrap_or(STEPS[1]);
        Self {
            by,
            step,
            time: (name, words),
            times: step.before(visit.house.control.clock.now(), count),
        }
    }

    fn from(&self) -> Timestamp {
        let first = self.times.first();
        first.copied().unwrap_or(Timestamp::from_micros(0))
    }
}

async fn usage(visit: Visit) -> Result<Shown, PageError> {
    let asked = Asked::read(&visit);
    let main = if visit.looks_inside() {
        let path = format!(
            "/costs?by={}&granularity={}&limit=1000&from={}",
            asked.by.0,
            asked.step.as_str(),
            asked.from()
        );
        let (rows, total) = all_pages(&visit, &api(&visit, &path)).await?;
        html! { (filters(&asked)) (shown(&asked, &rows, &total)) }
    } else {
        html! {
            p.empty {
                "An auditor does not look inside tenants. What all of them used is in "
                code { "partywall costs --by tenant" } "."
            }
        }
    };
    Ok(visit.tenant_page(Tab::Usage, &main))
}

/// At most ten pages of a thousand: the admin API gives no more groups. The total is of all.
async fn all_pages(visit: &Visit, path: &str) -> Result<(Vec<UsageRow>, UsageRow), PageError> {
    let mut rows = Vec::new();
    let mut cursor = None;
    for _ in 0..10 {
        let at = cursor.map_or(String::new(), |cursor: String| format!("&cursor={cursor}"));
        let page: CostsReply = visit.get(&format!("{path}{at}")).await?;
        rows.extend(page.data);
        cursor = page.next_cursor;
        if cursor.is_none() {
            return Ok((rows, page.total));
        }
    }
    Err(PageError::wrong(
        "There are more than ten thousand groups: ask for a shorter time, or by something else.",
    ))
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
                select name="time" {
                    @for (_, name, words, _) in STEPS {
                        option value=(name) selected[name == asked.time.0] { (words) }
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
    by_step: std::collections::BTreeMap<String, PicoUsd>,
}

fn shown(asked: &Asked, rows: &[UsageRow], total: &UsageRow) -> Markup {
    let mut sums: std::collections::BTreeMap<String, Sum> = std::collections::BTreeMap::new();
    for row in rows {
        let name = row.group.get(asked.by.0).cloned().unwrap_or_default();
        let sum = sums.entry(name.clone()).or_default();
        sum.name = if name.is_empty() {
            "(none)".to_owned()
        } else {
            name
        };
        add(&mut sum.row, row);
        let named = row.group.get(asked.step.as_str());
        let named = named.map_or("", String::as_str);
        let named = named.chars().take(asked.step.digits()).collect();
        *sum.by_step.entry(named).or_insert(PicoUsd::ZERO) += row.cost;
    }
    let mut sums: Vec<Sum> = sums.into_values().collect();
    sums.sort_by(|one, other| {
        let by_cost = other.row.cost.cmp(&one.row.cost);
        by_cost.then_with(|| one.name.cmp(&other.name))
    });
    html! {
        dl.figures {
            (figure("Cost", &money(total.cost), asked.time.1))
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
    let step = asked.step;
    let steps: Vec<String> = asked.times.iter().map(|at| step.name_of(*at)).collect();
    let of = |sum: &Sum| -> Vec<Option<i64>> {
        let cost = |name: &String| sum.by_step.get(name).copied().unwrap_or(PicoUsd::ZERO);
        steps
            .iter()
            .map(|name| Some(micros_of(cost(name))))
            .collect()
    };
    let mut series: Vec<(String, Vec<Option<i64>>)> = sums
        .iter()
        .take(SERIES_MAX)
        .map(|sum| (sum.name.clone(), of(sum)))
        .collect();
    if sums.len() > SERIES_MAX {
        let mut rest = vec![Some(0); steps.len()];
        for sum in &sums[SERIES_MAX..] {
            for (total, more) in rest.iter_mut().zip(of(sum)) {
                *total = Some(total.unwrap_or(0) + more.unwrap_or(0));
            }
        }
        series.push(("others".to_owned(), rest));
    }
    Chart {
        title: match step {
            Step::Hour => "Cost an hour",
            Step::Day => "Cost a day",
            Step::Month => "Cost a month",
        },
        unit: Unit::MicroUsd,
        stacked: true,
        times: asked.times.clone(),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_end_with_the_one_that_is_under_way() {
        let now: Timestamp = "2026-03-05T10:20:30Z".parse().unwrap();
        let names = |step: Step, count| -> Vec<String> {
            let times = step.before(now, count).into_iter();
            times.map(|at| step.name_of(at)).collect()
        };
        assert_eq!(names(Step::Hour, 2), ["2026-03-05T09", "2026-03-05T10"]);
        assert_eq!(names(Step::Day, 2), ["2026-03-04", "2026-03-05"]);
        let months = ["2025-12", "2026-01", "2026-02", "2026-03"];
        assert_eq!(names(Step::Month, 4), months);
    }
}
