//! What the process itself logs, on its way to the collector. Whoever logs pushes into a bounded queue
//! and goes on; the exporter takes it from there.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};

use base::Timestamp;
use parking_lot::Mutex;

/// 2,048 records of some 300 bytes: a process that is well logs a few a minute.
const WAITING_MAX: usize = 2_048;
/// 4 KiB of a text; beyond that it is cut.
const TEXT_BYTES_MAX: usize = 4 << 10;
/// 32 fields of one record.
const FIELDS_MAX: usize = 32;

/// Records that wait for the collector. One that finds no room is counted.
#[derive(Debug, Default)]
pub struct ProcessLog {
    waiting: Mutex<VecDeque<ProcessRecord>>,
    lost: AtomicU64,
}

/// Something that the process logged.
#[derive(Debug, Clone, PartialEq)]
pub struct ProcessRecord {
    /// When.
    pub at: Timestamp,
    /// How much it matters.
    pub severity: Severity,
    /// Which part of the program says it.
    pub target: &'static str,
    /// What it says.
    pub message: String,
    /// What it says besides.
    pub fields: Vec<(&'static str, ProcessField)>,
}

/// The value of a field.
#[derive(Debug, Clone, PartialEq)]
pub enum ProcessField {
    /// Text.
    Text(String),
    /// A whole number.
    Int(i64),
    /// Any other number.
    Double(f64),
    /// Yes or no.
    Bool(bool),
}

/// How much a record matters, as OpenTelemetry's data model for logs has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    /// Every step.
    Trace,
    /// For whoever looks for a fault.
    Debug,
    /// For the record.
    Info,
    /// Somebody should look.
    Warn,
    /// Something did not work.
    Error,
}

impl Severity {
    /// `SeverityNumber` and `SeverityText`.
    pub(super) const fn parts(self) -> (u32, &'static str) {
        match self {
            Self::Trace => (1, "TRACE"),
            Self::Debug => (5, "DEBUG"),
            Self::Info => (9, "INFO"),
            Self::Warn => (13, "WARN"),
            Self::Error => (17, "ERROR"),
        }
    }
}

impl ProcessLog {
    /// Hands a record in. What telemetry says of itself is left out: a collector that is away would
    /// be told so for ever.
    pub fn push(&self, mut record: ProcessRecord) {
        if record.target.starts_with("gateway::telemetry") {
            return;
        }
        cut(&mut record.message);
        record.fields.truncate(FIELDS_MAX);
        for (_, field) in &mut record.fields {
            if let ProcessField::Text(text) = field {
                cut(text);
            }
        }
        let mut waiting = self.waiting.lock();
        if waiting.len() < WAITING_MAX {
            waiting.push_back(record);
        } else {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// All that wait; they wait no more.
    pub fn taken(&self) -> Vec<ProcessRecord> {
        self.take(usize::MAX)
    }

    /// The oldest, `most` of them.
    pub(super) fn take(&self, most: usize) -> Vec<ProcessRecord> {
        let mut waiting = self.waiting.lock();
        let count = most.min(waiting.len());
        waiting.drain(..count).collect()
    }

    /// How many found no room since this was asked last.
    pub(super) fn take_lost(&self) -> u64 {
        self.lost.swap(0, Ordering::Relaxed)
    }
}

fn cut(text: &mut String) {
    if text.len() > TEXT_BYTES_MAX {
        text.truncate(text.floor_char_boundary(TEXT_BYTES_MAX));
        text.push('…');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(target: &'static str, text: &str) -> ProcessRecord {
        ProcessRecord {
            at: Timestamp::from_micros(1),
            severity: Severity::Info,
            target,
            message: text.to_owned(),
            fields: (0..40)
                .map(|_| ("field", ProcessField::Text(text.to_owned())))
                .collect(),
        }
    }

    #[test]
    fn what_waits_is_bounded_in_number_and_in_size() {
        let log = ProcessLog::default();
        let long = "ä".repeat(TEXT_BYTES_MAX);
        log.push(record("store", &long));
        for _ in 0..WAITING_MAX {
            log.push(record("store", "short"));
        }
        assert_eq!((log.take_lost(), log.take_lost()), (1, 0));
        let first = log.take(1).remove(0);
        assert_eq!(first.fields.len(), FIELDS_MAX);
        let ProcessField::Text(field) = &first.fields[0].1 else {
            panic!("a text stays one");
        };
        for text in [&first.message, field] {
            assert!(
                text.len() <= TEXT_BYTES_MAX + '…'.len_utf8(),
                "{}",
                text.len()
            );
            assert!(text.ends_with('…'));
        }
        assert_eq!(log.take(usize::MAX).len(), WAITING_MAX - 1);
        log.push(record("gateway::telemetry::exporter", "about itself"));
        assert_eq!(log.take(1), []);
    }
}
