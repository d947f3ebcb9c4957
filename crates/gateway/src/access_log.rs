//! One line for each call, written by a thread of its own: the data path formats it into a
//! bounded buffer and never waits for a disk or a terminal. Lines that do not fit are counted.

use std::io::Write;
use std::num::NonZeroU128;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use base::{ModelName, Name, PicoUsd, RequestId, TenantId, Timestamp};
use ledger::Hop;
use parking_lot::{Condvar, Mutex};

use crate::inspect::Noted;
use crate::telemetry::trace_digits;

/// 4 MiB: some ten thousand lines, a second of the highest load.
const BUFFER_BYTES_MAX: usize = 4 << 20;
/// How long a line may wait to be written.
const FLUSH_AFTER: Duration = Duration::from_millis(100);
/// 128 KiB: some three hundred lines. As many are written at once, however many there are a second.
const FLUSH_BYTES: usize = 128 << 10;

/// How lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// A JSON object a line, for machines.
    Json,
    /// `key=value`, for people.
    Pretty,
}

/// What is said of a call. Nothing of its content.
#[derive(Debug)]
pub struct CallLine<'a> {
    /// When it ended.
    pub at: Timestamp,
    /// Which it was.
    pub request: RequestId,
    /// Its trace, where telemetry is on.
    pub(crate) trace: Option<NonZeroU128>,
    /// Whose it was, once that was known.
    pub tenant: Option<(TenantId, &'a Name)>,
    /// With which key.
    pub key: Option<&'a Name>,
    /// For what.
    pub feature: Option<&'a Name>,
    /// By the name that the client said, if the tenant has such a route.
    pub model: Option<&'a ModelName>,
    /// Where it went.
    pub upstream: Option<&'a Name>,
    /// What it is for.
    pub hop: Hop,
    /// The request on whose way it was made, if it is a hop.
    pub parent: Option<RequestId>,
    /// Which of the tenant's prompts it had: a name and a number.
    pub prompt: Option<&'a str>,
    /// The answer's status.
    pub status: u16,
    /// How it ended: `completed`, `client_gone`, or a refusal's code.
    pub outcome: &'static str,
    /// Tokens in and out.
    pub tokens: Option<(u64, u64)>,
    /// What it cost.
    pub cost: Option<PicoUsd>,
    /// What the tenant's guardrails found: numbers alone.
    pub(crate) guarded: Noted,
    /// What the tenant's kept answers had to do with it: `hit`, `miss`, `bypass`.
    pub(crate) cache: Option<&'static str>,
    /// From arrival to the end.
    pub duration: Duration,
}

/// Where lines go.
#[derive(Debug)]
pub struct AccessLog {
    format: LogFormat,
    shared: Arc<Shared>,
    writer: Mutex<Option<std::thread::JoinHandle<()>>>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    dropped: AtomicU64,
}

#[derive(Debug, Default)]
struct State {
    lines: Vec<u8>,
    second: Second,
    /// Whether the writer knows that there is enough to write.
    is_told: bool,
    is_closing: bool,
}

/// The second that was written last, since a calendar is slow and most lines share one.
#[derive(Debug, Default)]
struct Second {
    /// Since 1970.
    number: i64,
    /// `2026-11-22T06:25:14`; nothing before the first line.
    text: String,
}

impl Second {
    /// Writes `2026-11-22T06:25:14.012345Z`.
    fn put(&mut self, out: &mut Vec<u8>, at: Timestamp) {
        let micros = at.as_micros();
        let number = micros.div_euclid(1_000_000);
        if self.text.is_empty() || self.number != number {
            self.number = number;
            self.text = Timestamp::from_micros(number * 1_000_000).to_string();
            self.text.truncate(self.text.trim_end_matches('Z').len());
        }
        out.extend_from_slice(self.text.as_bytes());
        put_places(out, micros.rem_euclid(1_000_000).unsigned_abs() + 1_000_000);
        out.push(b'Z');
    }
}

impl AccessLog {
    /// A log that writes to `sink`.
    pub fn new(format: LogFormat, sink: Box<dyn Write + Send>) -> Self {
        Self::with_patience(format, sink, FLUSH_AFTER)
    }

    fn with_patience(format: LogFormat, sink: Box<dyn Write + Send>, patience: Duration) -> Self {
        let shared = Arc::new(Shared::default());
        let writer = Arc::clone(&shared);
        let thread = std::thread::Builder::new()
            .name("access-log".to_owned())
            .spawn(move || write_lines(&writer, sink, patience))
            .expect("the process can start its threads");
        Self {
            format,
            shared,
            writer: Mutex::new(Some(thread)),
        }
    }

    /// Adds a line, or counts it as dropped if the writer is too far behind.
    pub fn write(&self, line: &CallLine<'_>) {
        let mut state = self.shared.state.lock();
        if state.lines.len() > BUFFER_BYTES_MAX {
            self.shared.dropped.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let State { lines, second, .. } = &mut *state;
        let written = match self.format {
            LogFormat::Json => line.write_json(second, lines),
            LogFormat::Pretty => line.write_pretty(second, lines),
        };
        written.expect("writing to memory does not fail");
        let (is_enough, is_told) = (lines.len() >= FLUSH_BYTES, state.is_told);
        state.is_told = is_enough;
        drop(state);
        if is_enough && !is_told {
            self.shared.changed.notify_one();
        }
    }

    /// Lines that did not fit.
    pub fn dropped(&self) -> u64 {
        self.shared.dropped.load(Ordering::Relaxed)
    }

    /// Writes what is left.
    pub fn close(&self) {
        self.shared.state.lock().is_closing = true;
        self.shared.changed.notify_all();
        if let Some(thread) = self.writer.lock().take() {
            // A writer that panicked has nothing left to say.
            drop(thread.join());
        }
    }
}

impl Drop for AccessLog {
    fn drop(&mut self) {
        self.close();
    }
}

fn write_lines(shared: &Shared, mut sink: Box<dyn Write + Send>, patience: Duration) {
    let mut lines = Vec::new();
    loop {
        let is_closing = {
            let mut state = shared.state.lock();
            if !state.is_closing && state.lines.len() < FLUSH_BYTES {
                shared.changed.wait_for(&mut state, patience);
            }
            std::mem::swap(&mut lines, &mut state.lines);
            state.is_told = false;
            state.is_closing
        };
        // A log that cannot be written must not stop the calls that it is about.
        if !lines.is_empty() && sink.write_all(&lines).and_then(|()| sink.flush()).is_err() {
            shared.dropped.fetch_add(1, Ordering::Relaxed);
        }
        lines.clear();
        // A sink that was slow once has no claim on memory for good.
        lines.shrink_to(2 * FLUSH_BYTES);
        if is_closing {
            return;
        }
    }
}

impl CallLine<'_> {
    /// Every value is a number, an id or a name without quotes or control characters, but for
    /// the model, which is escaped.
    fn write_json(&self, second: &mut Second, out: &mut Vec<u8>) -> std::io::Result<()> {
        out.extend_from_slice(br#"{"timestamp":""#);
        second.put(out, self.at);
        out.extend_from_slice(br#"","level":"INFO","message":"call","request_id":""#);
        out.extend_from_slice(&self.request.to_ascii());
        out.push(b'"');
        if let Some(trace) = self.trace {
            out.extend_from_slice(br#","trace_id":""#);
            out.extend_from_slice(&trace_digits(trace));
            out.push(b'"');
        }
        if let Some(parent) = self.parent {
            write!(out, r#","parent":"{parent}""#)?;
        }
        if let Some(prompt) = self.prompt {
            put(out, [r#","prompt":""#, prompt, "\""]);
        }
        if let Some((id, name)) = self.tenant {
            put(out, [r#","tenant":""#, name.as_str(), r#"","tenant_id":""#]);
            out.extend_from_slice(&id.to_ascii());
            out.push(b'"');
        }
        for (field, name) in [
            (r#","key":""#, self.key),
            (r#","feature":""#, self.feature),
            (r#","upstream":""#, self.upstream),
        ] {
            if let Some(name) = name {
                put(out, [field, name.as_str(), "\""]);
            }
        }
        if let Some(model) = self.model {
            out.extend_from_slice(b",\"model\":");
            serde_json::to_writer(&mut *out, model.as_str())?;
        }
        if let Some((input, output)) = self.tokens {
            put(out, [r#","hop":""#, self.hop.as_str(), "\""]);
            put_number(out, r#","input_tokens":"#, input);
            put_number(out, r#","output_tokens":"#, output);
        }
        if let Some(cost) = self.cost {
            put(out, [r#","cost":""#, cost.to_text().as_str(), "\""]);
        }
        for (what, count) in self.guarded.counts() {
            if count > 0 {
                write!(out, r#","guardrails_{what}":{count}"#)?;
            }
        }
        if let Some(result) = self.cache {
            put(out, [r#","cache":""#, result, "\""]);
        }
        put_number(out, r#","status":"#, self.status.into());
        put(out, [r#","outcome":""#, self.outcome, "\""]);
        put_millis(out, r#","duration_ms":"#, self.duration);
        out.extend_from_slice(b"}\n");
        Ok(())
    }

    fn write_pretty(&self, second: &mut Second, out: &mut Vec<u8>) -> std::io::Result<()> {
        second.put(out, self.at);
        put_number(out, " call ", self.status.into());
        put(out, [" ", self.outcome, ""]);
        for (field, name) in [
            (" tenant=", self.tenant.map(|(_, name)| name)),
            (" key=", self.key),
            (" feature=", self.feature),
            (" upstream=", self.upstream),
        ] {
            if let Some(name) = name {
                put(out, [field, name.as_str(), ""]);
            }
        }
        if let Some(model) = self.model {
            put(out, [" model=", model.as_str(), ""]);
        }
        if let Some(prompt) = self.prompt {
            write!(out, " prompt={prompt}")?;
        }
        if let Some((input, output)) = self.tokens {
            put_number(out, " tokens=", input);
            put_number(out, "+", output);
        }
        if let Some(cost) = self.cost {
            put(out, [" cost=$", cost.to_text().as_str(), ""]);
        }
        for (what, count) in self.guarded.counts() {
            if count > 0 {
                write!(out, " guardrails_{what}={count}")?;
            }
        }
        if let Some(parent) = self.parent {
            write!(out, " hop={} parent={parent}", self.hop.as_str())?;
        }
        if let Some(result) = self.cache {
            put(out, [" cache=", result, ""]);
        }
        if let Some(trace) = self.trace {
            out.extend_from_slice(b" trace=");
            out.extend_from_slice(&trace_digits(trace));
        }
        put_millis(out, " ", self.duration);
        out.extend_from_slice(b"ms ");
        out.extend_from_slice(&self.request.to_ascii());
        out.push(b'\n');
        Ok(())
    }
}

/// Texts as they are: the machinery of formatting costs more than the copy.
fn put(out: &mut Vec<u8>, texts: [&str; 3]) {
    for text in texts {
        out.extend_from_slice(text.as_bytes());
    }
}

fn put_number(out: &mut Vec<u8>, field: &str, number: u64) {
    let mut digits = itoa::Buffer::new();
    put(out, [field, digits.format(number), ""]);
}

/// Milliseconds with three places, by integers.
fn put_millis(out: &mut Vec<u8>, field: &str, duration: Duration) {
    // A Duration's microseconds in 64 bits last for half a million years.
    let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
    put_number(out, field, micros / 1_000);
    put_places(out, micros % 1_000 + 1_000);
}

/// A point, and the digits of the number but for its first: a one before them keeps the zeros.
fn put_places(out: &mut Vec<u8>, after_one: u64) {
    let mut digits = itoa::Buffer::new();
    put(out, [".", &digits.format(after_one)[1..], ""]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone, Default)]
    struct Sink(Arc<Mutex<Vec<u8>>>);

    impl Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn line<'a>(name: &'a Name, model: &'a ModelName) -> CallLine<'a> {
        CallLine {
            at: Timestamp::from_micros(1_700_000_000_000_000),
            request: RequestId::from_bits(7),
            trace: NonZeroU128::new(0xab),
            tenant: Some((TenantId::from_bits(1), name)),
            key: Some(name),
            feature: None,
            model: Some(model),
            upstream: None,
            hop: Hop::Generate,
            parent: None,
            prompt: Some("support@3"),
            status: 200,
            outcome: "completed",
            tokens: Some((3, 4)),
            cost: Some(PicoUsd::new(1_500_000)),
            guarded: Noted::default(),
            cache: Some("miss"),
            duration: Duration::from_micros(1_234),
        }
    }

    #[test]
    fn a_line_is_json_whatever_the_model_is_called() {
        let name = "acme".parse().expect("a name");
        let model = r#"a"b\c"#.parse().expect("a model");
        let mut out = Vec::new();
        line(&name, &model)
            .write_json(&mut Second::default(), &mut out)
            .expect("writes");
        let value: serde_json::Value = serde_json::from_slice(&out).expect("JSON");
        assert_eq!(value["model"], r#"a"b\c"#);
        assert_eq!(value["timestamp"], "2023-11-14T22:13:20.000000Z");
        assert_eq!(value["trace_id"], "000000000000000000000000000000ab");
        assert_eq!(value["prompt"], "support@3");
        assert_eq!(value["cost"], "0.0000015");
        assert_eq!(value["cache"], "miss");
        assert_eq!(value["duration_ms"].to_string(), "1.234");
    }

    #[test]
    fn times_are_those_of_the_calendar() {
        let mut second = Second::default();
        for micros in [
            0,
            1,
            999_999,
            1_000_000,
            1_700_000_000_012_345,
            7,
            -1,
            -1_000_001,
        ] {
            let at = Timestamp::from_micros(micros);
            let mut text = Vec::new();
            second.put(&mut text, at);
            let text = String::from_utf8(text).expect("text");
            assert_eq!(text.parse::<Timestamp>().expect("a time"), at, "{text}");
        }
    }

    #[test]
    fn closing_writes_what_is_left() {
        let sink = Sink::default();
        let log = AccessLog::new(LogFormat::Pretty, Box::new(sink.clone()));
        let name = "acme".parse().expect("a name");
        log.write(&line(&name, &"m".parse().expect("a model")));
        log.close();
        let text = String::from_utf8(sink.0.lock().clone()).expect("text");
        assert!(
            text.contains(" call 200 completed tenant=acme key=acme model=m"),
            "{text}"
        );
    }

    #[test]
    fn as_much_as_is_enough_is_written_at_once() {
        const LINES: usize = 3_000;
        const HOUR: Duration = Duration::from_secs(3_600);
        let sink = Sink::default();
        let log = AccessLog::with_patience(LogFormat::Pretty, Box::new(sink.clone()), HOUR);
        let (name, model) = ("acme".parse().expect("a name"), "m".parse().expect("one"));
        for _ in 0..LINES {
            log.write(&line(&name, &model));
        }
        // Were nobody told that there is enough, this would take an hour.
        while sink.0.lock().len() < FLUSH_BYTES {
            std::thread::yield_now();
        }
        log.close();
        let text = String::from_utf8(sink.0.lock().clone()).expect("text");
        assert_eq!(text.lines().count(), LINES);
        assert_eq!(log.dropped(), 0);
    }
}
