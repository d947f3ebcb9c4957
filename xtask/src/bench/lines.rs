//! A year of one tenant's history in its ledger: how fast lines go in with their sums, how soon a
//! question about the year is answered, and what a line takes of the disk. No gateway takes part:
//! this is the store alone, on one core, in batches as compaction posts them.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, ensure};
use base::{
    AttemptId, Clock, KeyId, PicoUsd, RequestId, SeededEntropy, SystemClock, TeamId, TenantId,
    Timestamp, UserId,
};
use ledger::{
    AccountId, Consumption, Hop, Intent, LedgerLine, LineState, Lsn, Metering, Outcome,
    PriceVersion,
};
use store::{Dimension, Stores, StoresOptions, TenantStore, UsageFilter, UsageQuery};
use tenancy::{LocalRootKey, PlatformKeys, ServiceIdentity, ServicePurpose, TenantKeys};

use super::report::Report;
use super::{Options, median, percentile};
use crate::command::{disk_folder, tell};

const DAY: i64 = 24 * 3_600 * 1_000_000;
/// A common year from its first of January on: twelve whole months.
const YEAR: i64 = 365 * DAY;
/// 2026-01-01.
const FROM: i64 = 20_454 * DAY;
/// The history that the targets are stated for.
const FULL: u64 = 100_000_000;
/// As many as compaction posts at a time.
const LINES_PER_POST: usize = 8_192;
const TOLD_EVERY: u64 = 10_000_000;
/// 200 times: the tenth slowest is the 95th percentile.
const QUESTIONS: usize = 200;
const QUICK_QUESTIONS: usize = 20;
const QUICK_LINES: u64 = 200_000;

/// Lines a second of one core.
const RATE_MIN: f64 = 200_000.0;
/// A year by feature and model.
const ANSWER_MS_MAX: f64 = 100.0;

const FEATURES: [&str; 5] = ["chat", "search", "digest", "code", "voice"];

/// Measures with lines as close together as 10⁸ a year are, and, where that is no whole year, with
/// lines over the year.
pub(super) fn measure(options: &Options, report: &mut Report) -> anyhow::Result<()> {
    let (lines, questions) = match options.quick {
        true => (options.lines.min(QUICK_LINES), QUICK_QUESTIONS),
        false => (options.lines, QUESTIONS),
    };
    ensure!(lines > 0, "there is nothing to measure without lines");
    let dense = YEAR / FULL as i64;
    let apart = (YEAR / i64::try_from(lines).context("so many lines")?).max(1);
    if apart > dense {
        history("as close as 10⁸ a year", (lines, dense), questions, report)?;
    }
    history("over a year", (lines, apart), questions, report)
}

fn history(
    what: &str,
    (lines, apart): (u64, i64),
    questions: usize,
    report: &mut Report,
) -> anyhow::Result<()> {
    tell(&format!("bench: {lines} lines {what}"));
    let folder = disk_folder()?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let stores = Stores::new(folder.path(), Arc::clone(&clock), StoresOptions::default())?;
    let entropy = SeededEntropy::new(8);
    let root = LocalRootKey::generate(&entropy);
    let (platform, _) = PlatformKeys::generate(&root, &entropy)?;
    let tenant = TenantId::from_bits(8 << 80);
    let (keys, _) = TenantKeys::generate(&root, tenant, &entropy)?;
    let scope = ServiceIdentity::of(&platform).scope(Arc::new(keys), ServicePurpose::Recovery);
    stores.provision(&scope)?;
    let store = stores.open(&scope);

    let (mut busy, mut cost) = (Duration::ZERO, PicoUsd::ZERO);
    for first in (0..lines).step_by(LINES_PER_POST) {
        let last = lines.min(first + LINES_PER_POST as u64);
        let batch: Vec<_> = (first..last)
            .map(|number| line(tenant, number, FROM + number as i64 * apart))
            .collect();
        cost += batch.iter().map(|line| line.cost).sum::<PicoUsd>();
        let before = processor_time()?;
        store.post_lines(&batch)?;
        busy += processor_time()? - before;
        if first / TOLD_EVERY != last / TOLD_EVERY {
            tell(&format!("bench: {last} lines are posted"));
        }
    }
    let rate = |busy: Duration| lines as f64 / busy.as_secs_f64();
    // Few lines over a long time share few sums: what is stated is for many.
    let rate_min = (apart <= YEAR / FULL as i64).then_some(RATE_MIN);
    let said = format!("{lines} lines {what}");
    report.add_rate(
        &format!("{said}: posted with their sums, lines/s"),
        rate(busy),
        rate_min,
    );
    report.add_number(
        &format!("{said}: bytes a line, sums included"),
        bytes_in(&folder.path().join("tenants"))? as f64 / lines as f64,
        None,
    );
    for question in &QUESTIONS_ASKED {
        let times_ms = times_ms(&store, question, &*clock, questions)?;
        let what = question.what;
        report.add_number(
            &format!("{said}: {what}, median ms"),
            median(&times_ms),
            None,
        );
        let p95 = percentile(&times_ms, 95.0);
        report.add_number(&format!("{said}: {what}, p95 ms"), p95, question.ms_max);
    }
    let everything = store.whole_usage(&query(FROM, FROM + YEAR, &[]), 1)?;
    let found = everything.first().context("the year has usage")?;
    ensure!(
        (found.calls, found.cost) == (lines, cost),
        "the sums say {} calls and {}, the lines {lines} and {cost}",
        found.calls,
        found.cost
    );
    let before = processor_time()?;
    let rebuilt = store.rebuild_sums()?;
    let busy = processor_time()? - before;
    ensure!(
        (rebuilt.lines, rebuilt.corrected) == (lines, 0),
        "of {lines} lines {} were added up again, and {} sums were wrong",
        rebuilt.lines,
        rebuilt.corrected
    );
    report.add_rate(
        &format!("{said}: added up again and compared, lines/s"),
        rate(busy),
        rate_min,
    );
    report.add_number(
        &format!("{said}: most memory of the bench so far, MB"),
        memory_most_mb()?,
        None,
    );
    Ok(())
}

/// Something that people ask of a year.
struct Asked {
    what: &'static str,
    from: i64,
    until: i64,
    by: &'static [Dimension],
    ms_max: Option<f64>,
}

const QUESTIONS_ASKED: [Asked; 4] = [
    Asked {
        what: "a year by feature and model",
        from: FROM,
        until: FROM + YEAR,
        by: &[Dimension::Feature, Dimension::Model],
        ms_max: Some(ANSWER_MS_MAX),
    },
    Asked {
        what: "each month by user, feature, model and version",
        from: FROM,
        until: FROM + YEAR,
        by: &[
            Dimension::Month,
            Dimension::User,
            Dimension::Feature,
            Dimension::Model,
            Dimension::Version,
        ],
        ms_max: None,
    },
    Asked {
        what: "30 days by model, each day",
        from: FROM,
        until: FROM + 30 * DAY,
        by: &[Dimension::Day, Dimension::Model],
        ms_max: None,
    },
    Asked {
        what: "31 days from half past one on, by feature",
        from: FROM + DAY / 16,
        until: FROM + 31 * DAY + DAY / 3 + 77,
        by: &[Dimension::Feature],
        ms_max: None,
    },
];

/// How long the answers took.
fn times_ms(
    store: &TenantStore<'_>,
    asked: &Asked,
    clock: &dyn Clock,
    questions: usize,
) -> anyhow::Result<Vec<f64>> {
    let query = query(asked.from, asked.until, asked.by);
    let mut times_ms = Vec::with_capacity(questions);
    for _ in 0..questions {
        let begun = clock.elapsed();
        store.whole_usage(&query, usize::MAX)?;
        times_ms.push((clock.elapsed() - begun).as_secs_f64() * 1e3);
    }
    Ok(times_ms)
}

fn query(from: i64, until: i64, by: &[Dimension]) -> UsageQuery {
    UsageQuery {
        from: Timestamp::from_micros(from),
        until: Timestamp::from_micros(until),
        group_by: by.to_vec(),
        filter: UsageFilter::default(),
    }
}

/// A settled call of a tenant with 20 users, 5 features and 4 models, of which each has had two
/// versions: 800 things to tell apart.
fn line(tenant: TenantId, number: u64, at: i64) -> LedgerLine {
    let dice = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 24;
    let id = u128::from(at.unsigned_abs() / 1_000) << 80 | u128::from(dice) << 32;
    let (model, version) = (dice / 100 % 4, dice / 400 % 2);
    let ended = Timestamp::from_micros(at + 800_000);
    let text = "names of this file are names";
    LedgerLine {
        lsn: Lsn::new(number + 1),
        intent: Intent {
            attempt: AttemptId::from_bits(id | u128::from(number)),
            request: RequestId::from_bits(id ^ 1),
            parent: None,
            prompt: None,
            tenant,
            team: Some(TeamId::from_bits(7 << 80)),
            user: Some(UserId::from_bits(u128::from(dice % 20) << 80)),
            key: KeyId::from_bits(1),
            feature: FEATURES[dice as usize / 20 % FEATURES.len()]
                .parse()
                .expect(text),
            session: Some(format!("conversation-{}", number / 10).parse().expect(text)),
            turn: None,
            hop: Hop::Generate,
            model: format!("model-{model}").parse().expect(text),
            upstream: "up".parse().expect(text),
            price_version: PriceVersion(1),
            amount: PicoUsd::new(2_000_000),
            input_bound: 2_000,
            output_bound: 500,
            accounts: (0..3)
                .map(|number| AccountId::from_bits(u128::MAX - number))
                .collect(),
            at: Timestamp::from_micros(at),
            expires_at: Timestamp::from_micros(at + 600_000_000),
        },
        served: Some(format!("model-{model}-v{version}").parse().expect(text)),
        consumption: Consumption {
            input_tokens: 700 + dice % 613,
            output_tokens: 100 + dice % 97,
            requests: 1,
            ..Consumption::default()
        },
        cost: PicoUsd::new(1_000_000 + i128::from(dice % 977)),
        state: LineState::Settled {
            outcome: Outcome::Completed,
            metering: Metering::Reported,
        },
        at: ended,
    }
}

/// What this thread has had of a processor: others may be busy on the machine.
fn processor_time() -> anyhow::Result<Duration> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat")
        .context("reading what this thread has had of a processor")?;
    let nanos = text.split(' ').next().and_then(|first| first.parse().ok());
    Ok(Duration::from_nanos(nanos.context("it is a number")?))
}

fn memory_most_mb() -> anyhow::Result<f64> {
    let status = std::fs::read_to_string("/proc/self/status").context("reading our memory")?;
    let most = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kilobytes = most.and_then(|rest| rest.trim().split(' ').next()?.parse::<f64>().ok());
    Ok(kilobytes.context("it is a number")? * 1_024.0 / 1e6)
}

/// All files of a folder: a database has others beside it.
fn bytes_in(folder: &Path) -> anyhow::Result<u64> {
    let mut bytes = 0;
    for file in std::fs::read_dir(folder).context("reading the store's folder")? {
        bytes += file?.metadata()?.len();
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_history_is_measured_and_adds_up() {
        let mut report = Report::new(true);
        history("over a year", (500, YEAR / 500), 1, &mut report).unwrap();
        let text = report.to_string();
        assert!(
            text.contains("500 lines over a year: bytes a line"),
            "{text}"
        );
        let last = line(TenantId::from_bits(1), 499, FROM + 499 * (YEAR / 500));
        assert!(last.intent.at < Timestamp::from_micros(FROM + YEAR));
    }
}
