//! Where calls leave their spans: the call path pushes into a bounded queue and goes on. A task
//! empties it a few times a second, so that metrics lose nothing while a collector is away.

use std::collections::VecDeque;

use parking_lot::Mutex;
use prometheus_client::metrics::counter::Counter;

use super::instruments::Instruments;
use super::span::CallSpan;

/// 16,384 spans: at four looks a second, three times what two cores can serve. About 10 MB.
const QUEUE_MAX: usize = 16_384;
/// 8,192 recorded spans wait for a collector that is away; about 5 MB.
const WAITING_MAX: usize = 8_192;

/// Spans, which move by their pointers from the call path to the encoder: one is half a KiB.
pub(super) type Spans = Vec<Box<CallSpan>>;

/// Spans on their way out.
#[derive(Debug)]
pub(super) struct Gathering {
    queue: Mutex<Spans>,
    pub(super) gathered: Mutex<Gathered>,
    pub(super) dropped: Counter,
}

/// What was taken out of the queue.
#[derive(Debug, Default)]
pub(super) struct Gathered {
    pub(super) instruments: Instruments,
    /// Those that are recorded, the oldest first.
    waiting: VecDeque<Box<CallSpan>>,
}

impl Gathering {
    pub(super) fn new(dropped: Counter) -> Self {
        Self {
            queue: Mutex::default(),
            gathered: Mutex::default(),
            dropped,
        }
    }

    /// Hands a span in; one that finds no room is counted.
    pub(super) fn push(&self, span: Box<CallSpan>) {
        let mut queue = self.queue.lock();
        if queue.len() < QUEUE_MAX {
            queue.push(span);
        } else {
            drop(queue);
            self.dropped.inc();
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
            if !span.context.is_sampled {
                continue;
            }
            if gathered.waiting.len() < WAITING_MAX {
                gathered.waiting.push_back(span);
            } else {
                self.dropped.inc();
            }
        }
    }

    /// The oldest recorded spans, `most` of them.
    pub(super) fn take(&self, most: usize) -> Spans {
        let waiting = &mut self.gathered.lock().waiting;
        let count = most.min(waiting.len());
        waiting.drain(..count).collect()
    }

    /// Spans that were taken and not delivered.
    pub(super) fn lose(&self, spans: u64) {
        self.dropped.inc_by(spans);
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
        let gathering = Gathering::new(Counter::default());
        push(&gathering, QUEUE_MAX + 5);
        assert_eq!(gathering.dropped.get(), 5);
        gathering.gather();
        // The spans have less room than the queue; the metrics have all that was queued.
        assert_eq!(
            gathering.dropped.get(),
            5 + (QUEUE_MAX - WAITING_MAX) as u64
        );
        assert_eq!(counted(&gathering), QUEUE_MAX as u64);
    }

    #[test]
    fn metrics_count_on_while_spans_wait() {
        let gathering = Gathering::new(Counter::default());
        push(&gathering, WAITING_MAX);
        gathering.gather();
        push(&gathering, 3);
        gathering.gather();
        assert_eq!(gathering.dropped.get(), 3);
        assert_eq!(counted(&gathering), WAITING_MAX as u64 + 3);
        assert_eq!(gathering.take(512).len(), 512);
        push(&gathering, 3);
        gathering.gather();
        assert_eq!(gathering.dropped.get(), 3);
        assert_eq!(gathering.take(usize::MAX).len(), WAITING_MAX - 512 + 3);
    }
}
