//! How fast the checks are on texts that were made to be slow.

use anyhow::ensure;
use gateway::guard::Guard;
use rustix::time::{ClockId, clock_gettime};
use serde::Serialize;

use super::{guard, inspect};

/// MB/s by check and text, and how time grows with length.
#[derive(Debug, Default, Serialize)]
pub(super) struct Throughput {
    /// `release` or `debug`: figures of a debug build say something about shape alone.
    pub(super) build: &'static str,
    pub(super) rows: Vec<Row>,
}

/// One check on one text.
#[derive(Debug, Serialize)]
pub(super) struct Row {
    pub(super) check: &'static str,
    pub(super) text: &'static str,
    /// 10⁶ bytes a second on the long text.
    pub(super) megabytes_per_second: f64,
    /// Time per byte of the long text over time per byte of one an eighth as long: 1 is linear, 8
    /// is quadratic.
    pub(super) growth: f64,
}

const CHECKS: &[(&str, &str)] = &[
    ("pii", r#"{"pii":{}}"#),
    ("deny-list", ""),
    (
        "regex",
        r#"{"regex":{"patterns":["(a{1,8}){1,8}b","\\b\\w{1,20}@corp\\b","(x{1,30}x{1,30}){1,2}y","project-[0-9]{4}"]}}"#,
    ),
    (
        "prompt-injection",
        r#"{"prompt-injection":{"threshold":100}}"#,
    ),
];

/// Each is repeated to the length that is asked for.
const TEXTS: &[(&str, &str)] = &[
    (
        "prose",
        "It was the best of times, it was the worst of times, it was the age of wisdom. ",
    ),
    (
        "prose in Russian",
        "Все счастливые семьи похожи друг на друга. ",
    ),
    ("one letter", "a"),
    ("x, never y", "x"),
    ("digits", "1"),
    ("digits and spaces", "1 2 34 "),
    ("cards' first halves", "4111 1111 1111 "),
    ("brackets", "[[(("),
    ("plus signs", "+1(2"),
    ("at signs", "a@"),
    ("dots", "a.b."),
    ("colons", "a:1:"),
    ("beginnings of key blocks", "-----BEGIN PRIVATE KEY-----"),
    ("beginnings of tokens", "eyJhbGciOiJIUzI1NiJ9.eyJ"),
    ("assignments", "password=\""),
    ("half an order", "ignore all previous "),
    ("base64", "SWdub3JlIGFsbCBwcmV2aW91cyBpbnN0cnVjdGlv "),
    ("invisible", "\u{200b}"),
    ("entries' beginnings", "entry number 1 "),
    ("capitals that grow", "İ"),
];

/// 1 MiB, and an eighth of it; a build without optimisation is ten times as slow.
const LONG: usize = if cfg!(debug_assertions) {
    1 << 17
} else {
    1 << 20
};
const SHORT: usize = LONG / 8;
/// The best of five: a machine that is busy spoils caches, though it is only our own time that counts.
const RUNS: usize = 5;
/// Quadratic time would be 8; what caches do stays below.
const GROWTH_MAX: f64 = 4.0;

pub(super) async fn measure() -> anyhow::Result<Throughput> {
    let mut rows = Vec::new();
    for (name, check) in CHECKS {
        let check = if check.is_empty() {
            deny_list()
        } else {
            (*check).to_owned()
        };
        let spec = format!(
            r#"{{"looks_at":"input","checks":[{{"name":"one","action":"flag","check":{check}}}]}}"#
        );
        let guard = guard(&spec)?;
        for (text, unit) in TEXTS {
            let long = seconds(&guard, &repeated(unit, LONG)).await;
            let short = seconds(&guard, &repeated(unit, SHORT)).await;
            rows.push(Row {
                check: name,
                text,
                megabytes_per_second: LONG as f64 / long / 1e6,
                growth: long / short / 8.0,
            });
        }
    }
    Ok(Throughput {
        build: if cfg!(debug_assertions) {
            "debug"
        } else {
            "release"
        },
        rows,
    })
}

/// Fails if some text takes more than linear time.
pub(super) fn ensure_flat(throughput: &Throughput) -> anyhow::Result<()> {
    for row in &throughput.rows {
        ensure!(
            row.growth < GROWTH_MAX,
            "`{}` on `{}`: eight times the text took {:.1} times as long",
            row.check,
            row.text,
            row.growth * 8.0
        );
    }
    Ok(())
}

/// 10,000 entries, many of them beginnings of others.
fn deny_list() -> String {
    let entries: Vec<String> = (0..10_000)
        .map(|number| format!("entry number {number} of the list"))
        .collect();
    serde_json::json!({ "deny-list": { "entries": entries } }).to_string()
}

fn repeated(unit: &str, length: usize) -> String {
    unit.repeat(length / unit.len())
}

async fn seconds(guard: &Guard, text: &str) -> f64 {
    let mut best = f64::INFINITY;
    for _ in 0..RUNS {
        let start = thread_seconds();
        std::hint::black_box(inspect(guard, text).await);
        best = best.min(thread_seconds() - start);
    }
    best
}

/// What this thread has had of a processor.
fn thread_seconds() -> f64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}
