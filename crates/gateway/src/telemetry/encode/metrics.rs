//! Metrics: sums since the process began.

use base::Timestamp;
use models::Operation;

use super::protobuf::{self, Message};
use super::{Attributes, Resource, Value, nanos, operation_name, request};
use crate::metrics::OVERFLOW;
use crate::telemetry::histogram::{Histogram, Measure, Seconds, Tokens};
use crate::telemetry::instruments::{Counted, Series, SeriesKey};
use crate::telemetry::names::{self, Names, TokenNames};

/// `AGGREGATION_TEMPORALITY_CUMULATIVE`.
const CUMULATIVE: u32 = 2;
/// 4 KiB: a series has some eight points of 300 to 600 bytes.
const ROOM: usize = 4 << 10;

/// Since when the sums are, and when they were taken.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Window {
    pub(crate) from: Timestamp,
    pub(crate) to: Timestamp,
}

/// The body of a request to `/v1/metrics`.
pub(crate) fn metrics_request(
    resource: &Resource,
    names: &'static Names,
    window: Window,
    series: &[(Option<SeriesKey>, Series)],
    dropped: u64,
) -> Vec<u8> {
    let mut points = Points {
        names,
        window,
        metrics: Vec::new(),
    };
    for (key, series) in series {
        points.add_series(key.as_ref(), series);
    }
    points.add_sum(names::SPANS_DROPPED, "{span}", None, dropped);
    request(
        resource,
        names.schema_url,
        series.len() * ROOM,
        |of_scope| {
            for metric in &points.metrics {
                of_scope.message(2, |message| metric.write(message));
            }
        },
    )
}

/// A metric whose points are being gathered.
struct Metric {
    name: &'static str,
    unit: &'static str,
    kind: Kind,
    /// Written, one after the other.
    points: Vec<u8>,
}

#[derive(Debug, Clone, Copy)]
enum Kind {
    Sum,
    Histogram,
}

impl Metric {
    fn write(&self, message: &mut Message<'_>) {
        message.text(1, self.name);
        message.text(3, self.unit);
        let field = match self.kind {
            Kind::Sum => 7,
            Kind::Histogram => 9,
        };
        message.message(field, |data| {
            data.written(&self.points);
            data.number(2, CUMULATIVE);
            if matches!(self.kind, Kind::Sum) {
                // `is_monotonic`
                data.number(3, 1);
            }
        });
    }
}

/// What a point is of: a series, and one more attribute.
#[derive(Clone, Copy)]
struct Of<'a> {
    /// None for the series of all that is beyond the cap.
    key: Option<&'a SeriesKey>,
    more: Option<(&'static str, &'static str)>,
}

impl<'a> Of<'a> {
    const fn with(self, key: &'static str, value: &'static str) -> Of<'a> {
        Of {
            more: Some((key, value)),
            ..self
        }
    }

    fn write(self, point: &mut Message<'_>, field: u32) {
        let mut attributes = Attributes { of: point, field };
        match self.key {
            None => attributes.add(names::METRIC_OVERFLOW, true),
            Some(key) => {
                attributes.add(names::OPERATION_NAME, operation_name(key.operation));
                let provider = key.provider.as_ref().map(|provider| provider.as_str());
                attributes.add(names::PROVIDER_NAME, provider.unwrap_or(names::OURSELVES));
                match key.tenant {
                    Counted::Tenant(tenant) => attributes.add_id(names::TENANT_ID, tenant),
                    Counted::Others => attributes.add(names::TENANT_ID, OVERFLOW),
                }
                let model = key.model.as_ref().map(|model| model.as_str());
                attributes.add_known(names::REQUEST_MODEL, model);
            }
        }
        if let Some((key, value)) = self.more {
            attributes.add(key, Value::Text(value));
        }
    }
}

/// The points of all metrics.
struct Points {
    names: &'static Names,
    window: Window,
    metrics: Vec<Metric>,
}

impl Points {
    fn add_series(&mut self, key: Option<&SeriesKey>, series: &Series) {
        let of = Of { key, more: None };
        let is_embedding = key.is_some_and(|key| key.operation == Operation::Embedding);
        let duration = match is_embedding {
            true => names::OPERATION_DURATION,
            false => self.names.inference_duration,
        };
        for (error, histogram) in &series.durations {
            let of = error.map_or(of, |error| of.with(names::ERROR_TYPE, error));
            self.add_seconds(duration, of, histogram);
        }
        self.add_seconds(self.names.time_to_first_chunk, of, &series.first_chunk);
        self.add_seconds(self.names.time_per_output_chunk, of, &series.chunk_gaps);
        match &self.names.tokens {
            // These are of inferences; what embeddings read is on their spans and in the ledger.
            TokenNames::Metrics { .. } if is_embedding => {}
            TokenNames::Metrics {
                input,
                output,
                cache_read,
                cache_write,
                reasoning,
                input_by_call,
                output_by_call,
            } => {
                self.add_tokens(input, of, series.input.sum);
                self.add_tokens(output, of, series.output.sum);
                self.add_tokens(cache_read, of, series.cache_read);
                self.add_tokens(cache_write, of, series.cache_write);
                self.add_tokens(reasoning, of, series.reasoning);
                self.add_histogram(input_by_call, "{token}", of, &series.input);
                self.add_histogram(output_by_call, "{token}", of, &series.output);
            }
            TokenNames::Attribute { by_call } => {
                for (kind, histogram) in [("input", &series.input), ("output", &series.output)] {
                    let of = of.with(names::TOKEN_TYPE, kind);
                    self.add_histogram::<Tokens>(by_call, "{token}", of, histogram);
                }
            }
        }
    }

    fn add_seconds(&mut self, name: &'static str, of: Of<'_>, histogram: &Histogram<Seconds>) {
        self.add_histogram(name, "s", of, histogram);
    }

    fn add_histogram<M: Measure>(
        &mut self,
        name: &'static str,
        unit: &'static str,
        of: Of<'_>,
        histogram: &Histogram<M>,
    ) {
        if histogram.count() == 0 {
            return;
        }
        self.add_point(name, unit, Kind::Histogram, |point| {
            point.fixed64(4, histogram.count());
            point.double(5, histogram.exported_sum());
            point.packed(6, histogram.counts.into_iter());
            let bounds = Histogram::<M>::bounds().map(f64::to_bits);
            point.packed(7, bounds.into_iter());
            of.write(point, 9);
        });
    }

    /// Tokens of a type that was never seen are no series.
    fn add_tokens(&mut self, name: &'static str, of: Of<'_>, tokens: u64) {
        if tokens > 0 {
            self.add_sum(name, "{token}", Some(of), tokens);
        }
    }

    fn add_sum(&mut self, name: &'static str, unit: &'static str, of: Option<Of<'_>>, sum: u64) {
        self.add_point(name, unit, Kind::Sum, |point| {
            // `as_int`
            point.fixed64(6, sum);
            if let Some(of) = of {
                of.write(point, 7);
            }
        });
    }

    /// Adds a point with its times to its metric; there are at most a dozen metrics.
    fn add_point(
        &mut self,
        name: &'static str,
        unit: &'static str,
        kind: Kind,
        write: impl FnOnce(&mut Message<'_>),
    ) {
        let place = self.metrics.iter().position(|metric| metric.name == name);
        let place = place.unwrap_or_else(|| {
            self.metrics.push(Metric {
                name,
                unit,
                kind,
                points: Vec::new(),
            });
            self.metrics.len() - 1
        });
        let Window { from, to } = self.window;
        protobuf::append(&mut self.metrics[place].points, |data| {
            data.message(1, |point| {
                point.fixed64(2, nanos(from));
                point.fixed64(3, nanos(to));
                write(point);
            });
        });
    }
}
