//! The process's log: lines go into a bounded queue, and one thread writes them to standard
//! error. Nobody waits for it: what does not fit is dropped and counted.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;

use anyhow::Context as _;
use tracing_subscriber::filter::EnvFilter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::reload;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{Layer, Registry, fmt};

use crate::config::{LogFormat, LogOptions};

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
    thread: Option<JoinHandle<()>>,
}

impl Logs {
    /// Starts the log as the process's own.
    ///
    /// # Errors
    ///
    /// If the level is none, or the process has a log already.
    pub(crate) fn start(options: &LogOptions) -> anyhow::Result<Self> {
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
            .try_init()
            .context("the process has a log already")?;
        Ok(Self {
            level,
            queue,
            thread: Some(thread),
        })
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
    fn a_level_that_is_none_is_refused() {
        assert!(parse_level("info,gateway=debug").is_ok());
        assert!(parse_level("gateway=loud").is_err());
    }
}
