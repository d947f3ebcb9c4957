//! The metrics: sums and distributions by tenant, operation, provider and model. Every call counts,
//! whether its trace is recorded or not.

use base::{ModelName, Name, TenantId};
use hashbrown::{HashMap, HashSet};
use models::Operation;

use super::histogram::{Histogram, Seconds, Tokens};
use super::span::{CallSpan, micros};
use crate::metrics::TENANTS_MAX;

/// 4,000 series of about 1 KiB each: 500 tenants with eight models.
const SERIES_MAX: usize = 4_000;

/// Whose calls a series counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Counted {
    /// One tenant's.
    Tenant(TenantId),
    /// Those of all tenants beyond the cap.
    Others,
}

/// What a series is of.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct SeriesKey {
    pub(super) tenant: Counted,
    pub(super) operation: Operation,
    /// None if the call was refused before an upstream was chosen.
    pub(super) provider: Option<Name>,
    pub(super) model: Option<ModelName>,
}

/// The sums of one series since the process began.
#[derive(Debug, Clone, Default)]
pub(super) struct Series {
    /// By the error that the calls ended with; errors are a closed set.
    pub(super) durations: Vec<(Option<&'static str>, Histogram<Seconds>)>,
    pub(super) first_chunk: Histogram<Seconds>,
    pub(super) chunk_gaps: Histogram<Seconds>,
    pub(super) input: Histogram<Tokens>,
    pub(super) output: Histogram<Tokens>,
    pub(super) cache_read: u64,
    pub(super) cache_write: u64,
    pub(super) reasoning: u64,
}

/// All series.
#[derive(Debug, Default)]
pub(super) struct Instruments {
    tenants: HashSet<TenantId>,
    series: HashMap<SeriesKey, Series, foldhash::fast::FixedState>,
    overflow: Option<Box<Series>>,
}

impl Instruments {
    /// Counts a call that has ended.
    pub(super) fn count(&mut self, span: &CallSpan) {
        let key = SeriesKey {
            tenant: self.counted(span.ending.tenant),
            operation: span.operation,
            provider: span.provider.clone(),
            model: span.ending.model.clone(),
        };
        let series = if self.series.len() < SERIES_MAX || self.series.contains_key(&key) {
            self.series.entry(key).or_default()
        } else {
            self.overflow.get_or_insert_default()
        };
        series.count(span);
    }

    fn counted(&mut self, tenant: Option<TenantId>) -> Counted {
        match tenant {
            Some(tenant) if self.tenants.contains(&tenant) => Counted::Tenant(tenant),
            Some(tenant) if self.tenants.len() < TENANTS_MAX => {
                self.tenants.insert(tenant);
                Counted::Tenant(tenant)
            }
            _ => Counted::Others,
        }
    }

    /// A copy of all series; that without a key is of what is beyond the cap.
    pub(super) fn series(&self) -> Vec<(Option<SeriesKey>, Series)> {
        let known = self.series.iter();
        let known = known.map(|(key, series)| (Some(key.clone()), series.clone()));
        let overflow = self
            .overflow
            .iter()
            .map(|series| (None, (**series).clone()));
        known.chain(overflow).collect()
    }
}

impl Series {
    fn count(&mut self, span: &CallSpan) {
        let error = span.ending.error;
        let place = self.durations.iter().position(|(of, _)| *of == error);
        let place = place.unwrap_or_else(|| {
            self.durations.push((error, Histogram::default()));
            self.durations.len() - 1
        });
        self.durations[place].1.add(micros(span.ending.duration));
        if span.asked.stream {
            if let Some(after) = span.first_chunk {
                self.first_chunk.add(micros(after));
            }
            self.chunk_gaps.merge(&span.chunk_gaps);
        }
        if let Some(usage) = &span.usage {
            self.input.add(usage.input_tokens);
            if span.operation != Operation::Embedding {
                self.output.add(usage.output_tokens);
            }
            self.cache_read += usage.cached_read_tokens;
            self.cache_write += usage.cached_write_tokens;
            self.reasoning += usage.reasoning_tokens;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::num::{NonZeroU64, NonZeroU128};

    use base::{RequestId, Timestamp};

    use super::*;
    use crate::telemetry::context::TraceContext;
    use crate::telemetry::span::Ending;

    fn call(tenant: u128, model: &str) -> CallSpan {
        let context = TraceContext {
            trace: NonZeroU128::MAX,
            span: NonZeroU64::MAX,
            parent: None,
            is_sampled: false,
        };
        let request = RequestId::from_bits(1);
        let began = Timestamp::from_micros(1);
        let mut span = CallSpan::new(context, request, Operation::Chat, began);
        span.end(Ending {
            tenant: Some(TenantId::from_bits(tenant)),
            model: Some(model.parse().unwrap()),
            ..Ending::default()
        });
        span
    }

    #[test]
    fn tenants_and_series_are_capped_and_nothing_is_lost() {
        let mut instruments = Instruments::default();
        for tenant in 0..TENANTS_MAX as u128 + 10 {
            for model in 0..10 {
                instruments.count(&call(tenant, &format!("model-{model}")));
            }
        }
        let all = (TENANTS_MAX as u64 + 10) * 10;
        let series = instruments.series();
        let calls = |(_, series): &(_, Series)| series.durations[0].1.count();
        assert_eq!(series.len(), SERIES_MAX + 1);
        assert_eq!(instruments.tenants.len(), TENANTS_MAX);
        assert_eq!(series.iter().map(calls).sum::<u64>(), all);
        let overflow = series.iter().find(|(key, _)| key.is_none());
        assert_eq!(overflow.map(calls), Some(all - SERIES_MAX as u64));
    }
}
