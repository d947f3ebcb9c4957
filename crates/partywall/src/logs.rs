//! The process's log: lines go into a bounded queue, and one thread writes them to standard
//! error. Nobody waits for it: what does not fit is dropped and counted.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;

use anyhow::Context as _;
use base::{Clock as _, SystemClock};
use gateway::{ProcessField, ProcessLog, ProcessRecord, Severity};
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::filter::EnvFilter;
use tracing_subscriber::layer::{Context, SubscriberExt as _};
use tracing_subscriber::reload;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{Layer, Registry, fmt};

use crate::config::{CallRecords, LogFormat, LogOptions, TelemetryOptions};

/// What the queue holds: a line, or the end.
enum Entry {
    Line(Vec<u8>),
    End,
}

/// The sending side of the queue; a clone for every line.
#[derive(Clone)]
struct Queue {
    lines: SyncSender<Entry>,
    dropped: Arc<AtomicU64>,
}

/// One call of `write` is one line: the formatter writes each event at once.
impl Write for Queue {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        match self.lines.try_send(Entry::Line(line.to_vec())) {
            Ok(()) => {}
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {
                self.dropped.fetch_add(1, Ordering::Relaxed);
            }
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The log of a serving process. Dropping it writes what is left.
pub(crate) struct Logs {
    level: reload::Handle<EnvFilter, Registry>,
    queue: Queue,
    /// The same for the collector, where it is sent there.
    for_collector: Option<Arc<ProcessLog>>,
    thread: Option<JoinHandle<()>>,
}

/// Hands what is logged on to the collector, too.
struct ToCollector {
    log: Arc<ProcessLog>,
    clock: SystemClock,
}

/// What an event says.
#[derive(Default)]
struct Said {
    message: String,
    fields: Vec<(&'static str, ProcessField)>,
}

impl<S: Subscriber> Layer<S> for ToCollector {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut said = Said::default();
        event.record(&mut said);
        let metadata = event.metadata();
        self.log.push(ProcessRecord {
            at: self.clock.now(),
            severity: match *metadata.level() {
                Level::TRACE => Severity::Trace,
                Level::DEBUG => Severity::Debug,
                Level::INFO => Severity::Info,
                Level::WARN => Severity::Warn,
                Level::ERROR => Severity::Error,
            },
            target: metadata.target(),
            message: said.message,
            fields: said.fields,
        });
    }
}

impl Said {
    fn add(&mut self, field: &Field, value: ProcessField) {
        match (field.name(), value) {
            ("message", ProcessField::Text(text)) => self.message = text,
            (name, value) => self.fields.push((name, value)),
        }
    }
}

impl Visit for Said {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        self.add(field, ProcessField::Text(format!("{value:?}")));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.add(field, ProcessField::Text(value.to_owned()));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.add(field, ProcessField::Int(value));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        let value = i64::try_from(value).unwrap_or(i64::MAX);
        self.add(field, ProcessField::Int(value));
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.add(field, ProcessField::Double(value));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.add(field, ProcessField::Bool(value));
    }
}

impl Logs {
    /// Starts the log as the process's own.
    ///
    /// # Errors
    ///
    /// If the level is none, or the process has a log already.
    pub(crate) fn start(
        options: &LogOptions,
        telemetry: &TelemetryOptions,
    ) -> anyhow::Result<Self> {
        let is_sent =
            telemetry.otlp_endpoint.is_some() && telemetry.process_log == CallRecords::Sent;
        let for_collector = is_sent.then(Arc::<ProcessLog>::default);
        let (queue, thread) = start_writer(options, Box::new(io::stderr()))?;
        let (filter, level) = reload::Layer::new(parse_level(&options.level)?);
        let writer = queue.clone();
        let layer = fmt::layer().with_writer(move || writer.clone());
        let layer = match options.format {
            LogFormat::Json => layer.json().flatten_event(true).boxed(),
            LogFormat::Pretty => layer
                .with_ansi(io::IsTerminal::is_terminal(&io::stderr()))
                .boxed(),
        };
        tracing_subscriber::registry()
            .with(filter)
            .with(layer)
            .with(for_collector.clone().map(|log| ToCollector {
                log,
                clock: SystemClock::new(),
            }))
            .try_init()
            .context("the process has a log already")?;
        Ok(Self {
            level,
            queue,
            for_collector,
            thread: Some(thread),
        })
    }

    /// What waits for the collector, where the log is sent there.
    pub(crate) fn for_collector(&self) -> Option<Arc<ProcessLog>> {
        self.for_collector.clone()
    }

    /// Shows more or less from now on.
    ///
    /// # Errors
    ///
    /// If the level is none; then it stays as it was.
    pub(crate) fn set_level(&self, level: &str) -> anyhow::Result<()> {
        let filter = parse_level(level)?;
        self.level.reload(filter).context("the log has ended")
    }
}

impl Drop for Logs {
    fn drop(&mut self) {
        // A writer that has gone needs no telling; one that is behind is waited for.
        drop(self.queue.lines.send(Entry::End));
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

fn parse_level(level: &str) -> anyhow::Result<EnvFilter> {
    EnvFilter::builder()
        .parse(level)
        .with_context(|| format!("`{level}` is no level: write one such as info,gateway=debug"))
}

fn start_writer(
    options: &LogOptions,
    sink: Box<dyn Write + Send>,
) -> anyhow::Result<(Queue, JoinHandle<()>)> {
    let (lines, received) = sync_channel(options.queue_lines_max.get());
    let dropped = Arc::new(AtomicU64::new(0));
    let queue = Queue {
        lines,
        dropped: Arc::clone(&dropped),
    };
    let format = options.format;
    let thread = std::thread::Builder::new()
        .name("log".to_owned())
        .spawn(move || write_lines(&received, &dropped, format, sink))
        .context("cannot start the log's thread")?;
    Ok((queue, thread))
}

fn write_lines(
    received: &Receiver<Entry>,
    dropped: &AtomicU64,
    format: LogFormat,
    mut sink: Box<dyn Write + Send>,
) {
    let mut batch = Vec::new();
    let mut is_open = true;
    while is_open {
        let first = received.recv().ok();
        for entry in first.into_iter().chain(received.try_iter()) {
            match entry {
                Entry::Line(line) => batch.extend_from_slice(&line),
                Entry::End => is_open = false,
            }
        }
        let missing = dropped.swap(0, Ordering::Relaxed);
        if missing > 0 {
            batch.extend_from_slice(notice(format, missing).as_bytes());
        }
        // A log that cannot be written must not stop what it is about.
        drop(sink.write_all(&batch).and_then(|()| sink.flush()));
        batch.clear();
    }
}

fn notice(format: LogFormat, missing: u64) -> String {
    match format {
        LogFormat::Json => format!("{{\"level\":\"WARN\",\"log_lines_dropped\":{missing}}}\n"),
        LogFormat::Pretty => format!("WARN {missing} log lines were dropped\n"),
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroUsize;
    use std::sync::mpsc;

    use parking_lot::Mutex;

    use super::*;

    /// A sink whose first write waits until it may.
    struct Gated {
        written: Arc<Mutex<Vec<u8>>>,
        gate: Option<mpsc::Receiver<()>>,
        reached: SyncSender<()>,
    }

    impl Write for Gated {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            if let Some(gate) = self.gate.take() {
                self.reached.send(()).unwrap();
                gate.recv().unwrap();
            }
            self.written.lock().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_slow_sink_costs_lines_and_never_time() {
        let (open, gate) = sync_channel(1);
        let (reached, is_reached) = sync_channel(1);
        let written = Arc::new(Mutex::new(Vec::new()));
        let sink = Gated {
            written: Arc::clone(&written),
            gate: Some(gate),
            reached,
        };
        let options = LogOptions {
            queue_lines_max: NonZeroUsize::new(2).unwrap(),
            ..LogOptions::default()
        };
        let (mut queue, thread) = start_writer(&options, Box::new(sink)).unwrap();
        queue.write_all(b"first\n").unwrap();
        is_reached.recv().unwrap();
        for line in ["second\n", "third\n", "lost\n", "lost too\n"] {
            queue.write_all(line.as_bytes()).unwrap();
        }
        open.send(()).unwrap();
        queue.lines.send(Entry::End).unwrap();
        thread.join().unwrap();
        let text = String::from_utf8(written.lock().clone()).unwrap();
        assert_eq!(
            text,
            "first\nsecond\nthird\nWARN 2 log lines were dropped\n"
        );
    }

    #[test]
    fn what_is_logged_goes_to_the_collector_with_its_fields() {
        let log = Arc::<ProcessLog>::default();
        let layer = ToCollector {
            log: Arc::clone(&log),
            clock: SystemClock::new(),
        };
        let filter = parse_level("info").unwrap();
        let subscriber = tracing_subscriber::registry().with(filter).with(layer);
        tracing::subscriber::with_default(subscriber, || {
            let error = "disk full";
            tracing::warn!(%error, lost = 3_u64, ratio = 0.5, again = true, "it was not kept");
            tracing::debug!("not at this level");
        });
        let records = log.taken();
        assert_eq!(records.len(), 1);
        let record = &records[0];
        assert_eq!(record.severity, Severity::Warn);
        assert_eq!(record.target, "partywall::logs::tests");
        assert_eq!(record.message, "it was not kept");
        assert_eq!(
            record.fields,
            [
                ("error", ProcessField::Text("disk full".to_owned())),
                ("lost", ProcessField::Int(3)),
                ("ratio", ProcessField::Double(0.5)),
                ("again", ProcessField::Bool(true)),
            ]
        );
    }

    #[test]
    fn a_level_that_is_none_is_refused() {
        assert!(parse_level("info,gateway=debug").is_ok());
        assert!(parse_level("gateway=loud").is_err());
    }
}
