//! How figures are shown: money, time, counts, small drawings.

use base::{PicoUsd, Timestamp};
use maud::{Markup, html};
use serde_json::{Value, json};

use super::ask::segment;
use crate::api::{Concern, HealthFigures, Quantiles};
use crate::health::{percent, seconds};

/// 10¹² of our units are a dollar.
const PICO_PER_MICRO: i128 = 1_000_000;
const MICRO_PER_DOLLAR: i128 = 1_000_000;

/// Dollars for people: to the cent from a dollar on, to the hundredth of a cent below; rounded
/// half up.
pub(super) fn money(amount: PicoUsd) -> String {
    let pico = amount.pico();
    let sign = if pico < 0 { "−" } else { "" };
    let pico = pico.abs();
    let (digits, unit) = match pico {
        0..1_000_000_000_000 => (4, 100_000_000),
        _ => (2, 10_000_000_000),
    };
    let units = (pico + unit / 2) / unit;
    let per_dollar = 10_i128.pow(digits);
    let (dollars, rest) = (units / per_dollar, units % per_dollar);
    let text = match (dollars, rest, pico) {
        (0, 0, 0) => "0".to_owned(),
        (0, 0, _) => "<0.0001".to_owned(),
        _ => format!(
            "{}.{rest:0width$}",
            grouped(dollars),
            width = digits as usize
        ),
    };
    format!("{sign}${text}")
}

/// Millionths of a dollar, for drawings alone.
pub(super) fn micros_of(amount: PicoUsd) -> i64 {
    i64::try_from(amount.pico() / PICO_PER_MICRO).unwrap_or(i64::MAX)
}

/// A whole number with its thousands apart.
pub(super) fn grouped(number: i128) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3);
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A count: `12,345`.
pub(super) fn count(number: u64) -> String {
    grouped(number.into())
}

/// A large count in a few digits: `1.2 M`.
pub(super) fn short(number: u64) -> String {
    const STEPS: [(u64, &str); 3] = [(1_000_000_000, "G"), (1_000_000, "M"), (10_000, "k")];
    for (from, unit) in STEPS {
        if number >= from {
            let per = if unit == "k" { 1_000 } else { from };
            return match number / per {
                whole @ 100.. => format!("{whole} {unit}"),
                whole => format!("{whole}.{} {unit}", number % per * 10 / per),
            };
        }
    }
    count(number)
}

/// A value of a specification, as people read it.
pub(super) fn said(value: &Value) -> String {
    match value {
        Value::Null => "–".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// JSON, line by line.
pub(super) fn pretty(value: &Value) -> String {
    serde_json::to_string_pretty(value).unwrap_or_default()
}

/// The way to what is older, or comes next; none at the end.
pub(super) fn more(cursor: Option<&str>, asked: &str, words: &str) -> Markup {
    html! {
        @if let Some(cursor) = cursor {
            nav.more aria-label=(words) {
                a.button href=(format!("?cursor={}{asked}", segment(cursor))) { (words) }
            }
        }
    }
}

/// A table that scrolls by itself. A column whose name begins with `#` holds numbers.
pub(super) fn table(label: &str, columns: &[&str], rows: &Markup) -> Markup {
    html! {
        div.scroll tabindex="0" role="region" aria-label=(label) {
            table {
                thead { tr { @for column in columns {
                    @match column.strip_prefix('#') {
                        Some(name) => th.number scope="col" { (name) },
                        None => th scope="col" { (column) },
                    }
                } } }
                tbody { (rows) }
            }
        }
    }
}

/// A time, to the minute, UTC.
pub(super) fn time(at: Timestamp) -> Markup {
    let text = at.to_string();
    let minute = text.get(..16).unwrap_or(&text).replace('T', " ");
    html! { time datetime=(text) { (minute) " UTC" } }
}

/// A part of a whole as a percentage; a dash of nothing.
pub(super) fn share(part: u64, whole: u64) -> String {
    match whole {
        0 => "–".to_owned(),
        _ => percent(part * 1_000 / whole),
    }
}

/// One quantile, or a dash.
pub(super) fn duration(of: Option<Quantiles>, which: fn(Quantiles) -> u64) -> String {
    of.map_or("–".to_owned(), |quantiles| seconds(which(quantiles)))
}

/// What a concern is called, in a word and a colour.
pub(super) fn badge(concern: Concern, suspended: bool) -> Markup {
    match (suspended, concern) {
        (true, _) => html! { span.badge.off { "suspended" } },
        (_, Concern::Urgent) => html! { span.badge.urgent { "urgent" } },
        (_, Concern::Watch) => html! { span.badge.watch { "watch" } },
        (_, Concern::Well) => html! { span.badge.well { "well" } },
    }
}

/// A bar that fills up. The text says it too.
pub(super) fn meter(permille: u32, label: &str) -> Markup {
    let level = match permille {
        990.. => "urgent",
        800.. => "watch",
        _ => "well",
    };
    html! {
        svg.meter.(level) viewBox="0 0 100 6" preserveAspectRatio="none" role="img"
            aria-label=(label) {
            rect.back width="100" height="6" {}
            rect.fill width=(permille.min(1_000) / 10) height="6" {}
        }
    }
}

/// A line of a few values.
pub(super) fn sparkline(values: &[u64], label: &str) -> Markup {
    const HEIGHT: u64 = 20;
    let most = values.iter().copied().max().unwrap_or(0).max(1);
    let points: Vec<String> = values
        .iter()
        .enumerate()
        .map(|(place, value)| format!("{},{}", place * 8, HEIGHT + 1 - value * HEIGHT / most))
        .collect();
    let width = values.len().saturating_sub(1) * 8;
    html! {
        svg.spark viewBox=(format!("0 0 {width} 22")) preserveAspectRatio="none" role="img"
            aria-label=(label) {
            polyline points=(points.join(" ")) {}
        }
    }
}

/// A figure with its name.
pub(super) fn figure(name: &str, value: &str, note: &str) -> Markup {
    html! {
        div.figure {
            dt { (name) }
            dd { strong { (value) } @if !note.is_empty() { " " span.note { (note) } } }
        }
    }
}

/// The figures of the last hour.
pub(super) fn health(figures: &HealthFigures) -> Markup {
    let three = |of: Option<Quantiles>| {
        if of.is_none() {
            return ("–".to_owned(), String::new());
        }
        let (p95, p99) = (duration(of, |q| q.p95_ms), duration(of, |q| q.p99_ms));
        (duration(of, |q| q.p50_ms), format!("p95 {p95}, p99 {p99}"))
    };
    let whole = three(figures.duration);
    let first = three(figures.first_chunk);
    let wait = three(figures.queue_wait);
    let calls = figures.calls;
    html! {
        dl.figures {
            (figure("Calls", &count(calls), ""))
            (figure("Failed", &share(figures.failed, calls), &count(figures.failed)))
            (figure("Refused", &share(figures.refused, calls), &count(figures.refused)))
            (figure("Abandoned", &share(figures.abandoned, calls), &count(figures.abandoned)))
            (figure("Duration, median", &whole.0, &whole.1))
            (figure("First byte, median", &first.0, &first.1))
            (figure("Queue wait, median", &wait.0, &wait.1))
        }
    }
}

/// What a drawing's values are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unit {
    Count,
    Millis,
    /// Millionths of a dollar.
    MicroUsd,
}

/// A drawing in time, and the same as a table for whoever does not see it.
pub(super) struct Chart {
    pub(super) title: &'static str,
    pub(super) unit: Unit,
    /// Whether values are drawn as bars that stand on each other.
    pub(super) stacked: bool,
    pub(super) times: Vec<Timestamp>,
    pub(super) series: Vec<(String, Vec<Option<i64>>)>,
}

impl Chart {
    pub(super) fn show(&self) -> Markup {
        let unit = match self.unit {
            Unit::Count => "count",
            Unit::Millis => "ms",
            Unit::MicroUsd => "usd",
        };
        let series: Vec<Value> = self
            .series
            .iter()
            .map(|(label, values)| json!({"label": label, "values": values}))
            .collect();
        let data = json!({
            "unit": unit,
            "stacked": self.stacked,
            "times": self.times.iter().map(|at| at.as_seconds()).collect::<Vec<_>>(),
            "series": series,
        });
        html! {
            figure.chart {
                figcaption { (self.title) }
                div.plot data-chart=(data) {}
                details {
                    summary { "As a table" }
                    (self.table())
                }
            }
        }
    }

    fn table(&self) -> Markup {
        let value = |value: Option<i64>| match (value, self.unit) {
            (None, _) => "–".to_owned(),
            (Some(value), Unit::Count) => grouped(value.into()),
            (Some(value), Unit::Millis) => seconds(u64::try_from(value).unwrap_or(0)),
            (Some(value), Unit::MicroUsd) => {
                let (dollars, rest) = (
                    i128::from(value) / MICRO_PER_DOLLAR,
                    i128::from(value) % MICRO_PER_DOLLAR,
                );
                format!("${}.{:04}", grouped(dollars), rest / 100)
            }
        };
        html! {
            div.scroll tabindex="0" role="region" aria-label=(self.title) {
                table {
                    thead { tr {
                        th scope="col" { "Time" }
                        @for (label, _) in &self.series { th.number scope="col" { (label) } }
                    } }
                    tbody {
                        @for (place, at) in self.times.iter().enumerate() {
                            tr {
                                th scope="row" { (time(*at)) }
                                @for (_, values) in &self.series {
                                    td.number { (value(values.get(place).copied().flatten())) }
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn money_is_rounded_for_people_and_never_vanishes() {
        let shown = |text: &str| money(PicoUsd::from_decimal_text(text).unwrap());
        for (amount, expected) in [
            ("0", "$0"),
            ("0.000000000001", "<0.0001"),
            ("0.00004", "<0.0001"),
            ("0.00005", "0.0001"),
            ("0.12345", "0.1235"),
            ("1.005", "1.01"),
            ("1234567.894", "1,234,567.89"),
        ] {
            assert_eq!(
                shown(amount).trim_start_matches('$'),
                expected.trim_start_matches('$')
            );
        }
    }

    #[test]
    fn large_counts_are_short() {
        for (number, expected) in [
            (999, "999"),
            (9_999, "9,999"),
            (12_345, "12.3 k"),
            (123_456, "123 k"),
            (1_250_000, "1.2 M"),
            (2_000_000_000, "2.0 G"),
        ] {
            assert_eq!(short(number), expected);
        }
    }
}
