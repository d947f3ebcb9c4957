//! The figures as tables, for the terminal and for docs/guardrails.md.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use anyhow::Context;

use super::throughput::Row;
use super::{Detection, Report};
use crate::command::root;

/// The tables stand between these lines.
const BEGIN: &str = "<!-- cargo xtask guards --write: begin -->";
const END: &str = "<!-- cargo xtask guards --write: end -->";

/// All tables, in Markdown.
pub(super) fn table(report: &Report) -> String {
    let mut text = String::new();
    // Writing into a string cannot fail.
    let written = write_all(&mut text, report);
    written.expect("a string takes everything");
    text
}

/// Replaces the tables in docs/guardrails.md.
pub(super) fn write(report: &Report) -> anyhow::Result<()> {
    let path = root().join("docs/guardrails.md");
    let text = std::fs::read_to_string(&path).context("reading docs/guardrails.md")?;
    let (before, rest) = text
        .split_once(BEGIN)
        .context("docs/guardrails.md has a line where the tables begin")?;
    let (_, after) = rest
        .split_once(END)
        .context("docs/guardrails.md has a line where the tables end")?;
    let text = format!("{before}{BEGIN}\n\n{}\n{END}{after}", table(report));
    std::fs::write(&path, text).context("writing docs/guardrails.md")
}

fn write_all(text: &mut String, report: &Report) -> std::fmt::Result {
    writeln!(text, "| package | version | licence | used for |")?;
    writeln!(text, "|---|---|---|---|")?;
    for package in &report.packages {
        writeln!(
            text,
            "| {} | {} | {} | {} |",
            package.name, package.version, package.licence, package.what
        )?;
    }
    write_detection(text, &report.detection)?;
    writeln!(
        text,
        "\n| texts with personal data, or none | texts | falsely alarmed | by what |"
    )?;
    writeln!(text, "|---|---:|---:|---|")?;
    for (corpus, alarms) in &report.alarms {
        let labels: Vec<String> = alarms
            .by_label
            .iter()
            .map(|(label, count)| format!("{label} {count}"))
            .collect();
        writeln!(
            text,
            "| {corpus} | {} | {} | {} |",
            alarms.texts,
            share(alarms.alarmed, alarms.texts),
            labels.join(", ")
        )?;
    }
    for (title, corpora) in [
        ("attacks | texts | noticed", &report.attacks),
        ("no attacks | texts | taken for one", &report.harmless),
    ] {
        writeln!(text, "\n| {title} |\n|---|---:|---:|")?;
        for (corpus, judged) in corpora {
            let noticed = share(judged.noticed, judged.texts);
            writeln!(text, "| {corpus} | {} | {noticed} |", judged.texts)?;
        }
    }
    write_throughput(text, report)
}

fn write_detection(
    text: &mut String,
    detection: &BTreeMap<String, BTreeMap<String, Detection>>,
) -> std::fmt::Result {
    writeln!(
        text,
        "\n| personal data | corpus | there | redacted | under its own name |"
    )?;
    writeln!(text, "|---|---|---:|---:|---:|")?;
    for (corpus, labels) in detection {
        for (label, one) in labels {
            writeln!(
                text,
                "| {label} | {corpus} | {} | {} | {} |",
                one.there,
                share(one.found, one.there),
                share(one.named, one.there)
            )?;
        }
    }
    Ok(())
}

fn write_throughput(text: &mut String, report: &Report) -> std::fmt::Result {
    let build = report.throughput.build;
    writeln!(
        text,
        "\n| check ({build} build) | prose MB/s | slowest MB/s | slowest on | worst growth |"
    )?;
    writeln!(text, "|---|---:|---:|---|---:|")?;
    let mut checks: BTreeMap<&str, Vec<&Row>> = BTreeMap::new();
    for row in &report.throughput.rows {
        checks.entry(row.check).or_default().push(row);
    }
    for (check, rows) in checks {
        let by_speed = |one: &&&Row, other: &&&Row| {
            one.megabytes_per_second
                .total_cmp(&other.megabytes_per_second)
        };
        let (Some(slowest), Some(prose)) = (rows.iter().min_by(by_speed), rows.first()) else {
            continue;
        };
        let growth = rows.iter().map(|row| row.growth).fold(0.0, f64::max);
        writeln!(
            text,
            "| {check} | {:.0} | {:.1} | {} | {growth:.2} |",
            prose.megabytes_per_second, slowest.megabytes_per_second, slowest.text
        )?;
    }
    Ok(())
}

fn share(part: u64, whole: u64) -> String {
    if whole == 0 {
        return "–".to_owned();
    }
    format!("{:.1}%", part as f64 * 100.0 / whole as f64)
}
