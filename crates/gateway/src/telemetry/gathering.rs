//! Where calls leave their spans: the call path pushes into a bounded queue and goes on. A task
//! empties it a few times a second, so that metrics lose nothing while a collector is away.

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::Mutex;
use prometheus_client::metrics::counter::Counter;

use super::CallRecords;
use super::instruments::Instruments;
use super::span::CallSpan;

/// 16,384 spans: at four looks a second, three times what two cores can serve. About 10 MB.
const QUEUE_MAX: usize = 16_384;
/// 8,192 recorded spans wait for a collector that is away; about 5 MB, and 8 MB more of what was
/// written for one signal and waits for the other.
const WAITING_MAX: usize = 8_192;

/// Spans on their way to the encoder; one is half a KiB, and may wait as a record, too.
pub(super) type Spans = Vec<Arc<CallSpan>>;

/// What no collector has.
#[derive(Debug, Clone, Default)]
pub(crate) struct Dropped {
    pub(crate) spans: Counter,
    pub(crate) records: Counter,
}

/// Spans on their way out.
#[derive(Debug)]
#[expect(
    clippy::vec_box,
    reason = "the call path moves a pointer, and no half KiB"
)]
pub(super) struct Gathering {
    queue: Mutex<Vec<Box<CallSpan>>>,
    pub(super) gathered: Mutex<Gathered>,
    pub(super) dropped: Dropped,
    records: CallRecords,
}

/// What was taken out of the queue.
#[derive(Debug, Default)]
pub(super) struct Gathered {
    pub(super) instruments: Instruments,
    /// Those that are recorded, the oldest first.
    waiting: VecDeque<Arc<CallSpan>>,
    /// All, as records, where those are sent.
    records: VecDeque<Arc<CallSpan>>,
}

impl Gathering {
    pub(super) fn new(dropped: Dropped, records: CallRecords) -> Self {
        Self {
            queue: Mutex::default(),
            gathered: Mutex::default(),
            dropped,
            records,
        }
    }

    /// Hands a span in; one that finds no room is counted.
    pub(super) fn push(&self, span: Box<CallSpan>) {
        let mut queue = self.queue.lock();
        if queue.len() < QUEUE_MAX {
            queue.push(span);
        } else {
            drop(queue);
            self.dropped.spans.inc();
            if self.records == CallRecords::Sent {
                self.dropped.records.inc();
            }
        }
    }

    /// Empties the queue into the metrics and the spans that wait to be sent.
    pub(super) fn gather(&self) {
        let spans = {
            let mut queue = self.queue.lock();
            if queue.is_empty() {
                return;
            }
            // As much room as was needed: the call path does not grow it again.
            let room = Vec::with_capacity(queue.len());
            std::mem::replace(&mut *queue, room)
        };
        let mut gathered = self.gathered.lock();
        for span in spans {
            gathered.instruments.count(&span);
            let is_recorded = span.context.is_sampled;
            if !is_recorded && self.records == CallRecords::Kept {
                continue;
            }
            let span = Arc::from(span);
            let Gathered {
                waiting, records, ..
            } = &mut *gathered;
            if self.records == CallRecords::Sent {
                queue_up(records, &span, &self.dropped.records);
            }
            if is_recorded {
                queue_up(waiting, &span, &self.dropped.spans);
            }
        }
    }

    /// The oldest records, `most` of them.
    pub(super) fn take_records(&self, most: usize) -> Spans {
        let waiting = &mut self.gathered.lock().records;
        let count = most.min(waiting.len());
        waiting.drain(..count).collect()
    }

    /// The oldest recorded spans, `most` of them.
    pub(super) fn take(&self, most: usize) -> Spans {
        let waiting = &mut self.gathered.lock().waiting;
        let count = most.min(waiting.len());
        waiting.drain(..count).collect()
    }
}

/// One that finds no room is counted.
fn queue_up(queue: &mut VecDeque<Arc<CallSpan>>, span: &Arc<CallSpan>, dropped: &Counter) {
    if queue.len() < WAITING_MAX {
        queue.push_back(Arc::clone(span));
    } else {
        dropped.inc();
    }
}

#[cfg(test)]
mod tests {
    use std::num::{NonZeroU64, NonZeroU128};

    use base::{RequestId, Timestamp};
    use models::Operation;

    use super::*;
    use crate::telemetry::context::TraceContext;

    fn push(gathering: &Gathering, count: usize) {
        for _ in 0..count {
            let context = TraceContext {
                trace: NonZeroU128::MAX,
                span: NonZeroU64::MAX,
                parent: None,
                is_sampled: true,
            };
            let request = RequestId::from_bits(1);
            let began = Timestamp::from_micros(1);
            let span = CallSpan::new(context, request, Operation::Chat, began);
            gathering.push(Box::new(span));
        }
    }

    fn counted(gathering: &Gathering) -> u64 {
        let gathered = gathering.gathered.lock();
        let series = gathered.instruments.series();
        let calls = series
            .iter()
            .map(|(_, series)| series.durations[0].1.count());
        calls.sum()
    }

    #[test]
    fn a_full_queue_drops_and_counts() {
        let gathering = Gathering::new(Dropped::default(), CallRecords::Kept);
        push(&gathering, QUEUE_MAX + 5);
        assert_eq!(gathering.dropped.spans.get(), 5);
        gathering.gather();
        // The spans have less room than the queue; the metrics have all that was queued.
        assert_eq!(
            gathering.dropped.spans.get(),
            5 + (QUEUE_MAX - WAITING_MAX) as u64
        );
        assert_eq!(counted(&gathering), QUEUE_MAX as u64);
    }

    #[test]
    fn metrics_count_on_while_spans_wait() {
        let gathering = Gathering::new(Dropped::default(), CallRecords::Kept);
        push(&gathering, WAITING_MAX);
        gathering.gather();
        push(&gathering, 3);
        gathering.gather();
        assert_eq!(gathering.dropped.spans.get(), 3);
        assert_eq!(counted(&gathering), WAITING_MAX as u64 + 3);
        assert_eq!(gathering.take(512).len(), 512);
        push(&gathering, 3);
        gathering.gather();
        assert_eq!(gathering.dropped.spans.get(), 3);
        assert_eq!(gathering.take(usize::MAX).len(), WAITING_MAX - 512 + 3);
    }

    #[test]
    fn records_wait_beside_spans_and_have_a_bound_of_their_own() {
        let gathering = Gathering::new(Dropped::default(), CallRecords::Sent);
        push(&gathering, WAITING_MAX);
        gathering.gather();
        assert_eq!(gathering.take(usize::MAX).len(), WAITING_MAX);
        push(&gathering, 2);
        gathering.gather();
        assert_eq!(gathering.dropped.records.get(), 2);
        assert_eq!(gathering.dropped.spans.get(), 0);
        assert_eq!(gathering.take_records(usize::MAX).len(), WAITING_MAX);
    }
}
