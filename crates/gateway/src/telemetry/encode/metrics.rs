//! Metrics: sums since the process began.

use base::Timestamp;
use bytes::Bytes;
use models::Operation;
use serde::Serialize;

use super::{
    Attribute, Decimal, Resource, ResourceAttributes, SCOPE, Scope, nanos, operation_name, to_json,
};
use crate::metrics::OVERFLOW;
use crate::telemetry::histogram::{BOUNDS, Histogram, Measure, Seconds, Tokens};
use crate::telemetry::instruments::{Counted, Series, SeriesKey};
use crate::telemetry::names::{self, Names, TokenNames};

/// `AGGREGATION_TEMPORALITY_CUMULATIVE`.
const CUMULATIVE: u8 = 2;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Request<'a> {
    resource_metrics: [ResourceMetrics<'a>; 1],
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ResourceMetrics<'a> {
    resource: ResourceAttributes<'a>,
    scope_metrics: [ScopeMetrics<'a>; 1],
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ScopeMetrics<'a> {
    scope: Scope,
    metrics: Vec<Metric<'a>>,
    #[serde(skip_serializing_if = "str::is_empty")]
    schema_url: &'static str,
}

#[derive(Serialize)]
struct Metric<'a> {
    name: &'static str,
    unit: &'static str,
    #[serde(flatten)]
    data: Data<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
enum Data<'a> {
    #[serde(rename_all = "camelCase")]
    Sum {
        aggregation_temporality: u8,
        is_monotonic: bool,
        data_points: Vec<SumPoint<'a>>,
    },
    #[serde(rename_all = "camelCase")]
    Histogram {
        aggregation_temporality: u8,
        data_points: Vec<HistogramPoint<'a>>,
    },
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct SumPoint<'a> {
    attributes: Vec<Attribute<'a>>,
    start_time_unix_nano: Decimal<u64>,
    time_unix_nano: Decimal<u64>,
    as_int: Decimal<u64>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct HistogramPoint<'a> {
    attributes: Vec<Attribute<'a>>,
    start_time_unix_nano: Decimal<u64>,
    time_unix_nano: Decimal<u64>,
    count: Decimal<u64>,
    sum: f64,
    bucket_counts: [Decimal<u64>; BOUNDS + 1],
    explicit_bounds: [f64; BOUNDS],
}

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
) -> Bytes {
    let mut points = Points {
        names,
        window,
        metrics: Vec::new(),
    };
    for (key, series) in series {
        points.add_series(key.as_ref(), series);
    }
    points.add_sum(names::SPANS_DROPPED, "{span}", Vec::new(), dropped);
    to_json(&Request {
        resource_metrics: [ResourceMetrics {
            resource: resource.attributes(),
            scope_metrics: [ScopeMetrics {
                scope: SCOPE,
                metrics: points.metrics,
                schema_url: names.schema_url,
            }],
        }],
    })
}

struct Points<'a> {
    names: &'static Names,
    window: Window,
    metrics: Vec<Metric<'a>>,
}

impl<'a> Points<'a> {
    fn add_series(&mut self, key: Option<&'a SeriesKey>, series: &Series) {
        let of = || attributes(key);
        let is_embedding = key.is_some_and(|key| key.operation == Operation::Embedding);
        let duration = match is_embedding {
            true => names::OPERATION_DURATION,
            false => self.names.inference_duration,
        };
        for (error, histogram) in &series.durations {
            let error = error.map(|error| Attribute::new(names::ERROR_TYPE, error));
            let attributes = of().into_iter().chain(error).collect();
            self.add_seconds(duration, attributes, histogram);
        }
        self.add_seconds(self.names.time_to_first_chunk, of(), &series.first_chunk);
        self.add_seconds(self.names.time_per_output_chunk, of(), &series.chunk_gaps);
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
                self.add_tokens(input, of(), series.input.sum);
                self.add_tokens(output, of(), series.output.sum);
                self.add_tokens(cache_read, of(), series.cache_read);
                self.add_tokens(cache_write, of(), series.cache_write);
                self.add_tokens(reasoning, of(), series.reasoning);
                self.add_histogram(input_by_call, "{token}", of(), &series.input);
                self.add_histogram(output_by_call, "{token}", of(), &series.output);
            }
            TokenNames::Attribute { by_call } => {
                for (kind, histogram) in [("input", &series.input), ("output", &series.output)] {
                    let mut attributes = of();
                    attributes.push(Attribute::new(names::TOKEN_TYPE, kind));
                    self.add_histogram::<Tokens>(by_call, "{token}", attributes, histogram);
                }
            }
        }
    }

    fn add_seconds(
        &mut self,
        name: &'static str,
        attributes: Vec<Attribute<'a>>,
        histogram: &Histogram<Seconds>,
    ) {
        self.add_histogram(name, "s", attributes, histogram);
    }

    fn add_histogram<M: Measure>(
        &mut self,
        name: &'static str,
        unit: &'static str,
        attributes: Vec<Attribute<'a>>,
        histogram: &Histogram<M>,
    ) {
        if histogram.count() == 0 {
            return;
        }
        let point = HistogramPoint {
            attributes,
            start_time_unix_nano: nanos(self.window.from),
            time_unix_nano: nanos(self.window.to),
            count: Decimal(histogram.count()),
            sum: histogram.exported_sum(),
            bucket_counts: histogram.counts.map(Decimal),
            explicit_bounds: Histogram::<M>::bounds(),
        };
        let empty = || Data::Histogram {
            aggregation_temporality: CUMULATIVE,
            data_points: Vec::new(),
        };
        if let Data::Histogram { data_points, .. } = self.metric(name, unit, empty) {
            data_points.push(point);
        }
    }

    /// Tokens of a type that was never seen are no series.
    fn add_tokens(&mut self, name: &'static str, attributes: Vec<Attribute<'a>>, tokens: u64) {
        if tokens > 0 {
            self.add_sum(name, "{token}", attributes, tokens);
        }
    }

    fn add_sum(
        &mut self,
        name: &'static str,
        unit: &'static str,
        attributes: Vec<Attribute<'a>>,
        sum: u64,
    ) {
        let point = SumPoint {
            attributes,
            start_time_unix_nano: nanos(self.window.from),
            time_unix_nano: nanos(self.window.to),
            as_int: Decimal(sum),
        };
        let empty = || Data::Sum {
            aggregation_temporality: CUMULATIVE,
            is_monotonic: true,
            data_points: Vec::new(),
        };
        if let Data::Sum { data_points, .. } = self.metric(name, unit, empty) {
            data_points.push(point);
        }
    }

    /// The points of a metric; there are at most a dozen metrics.
    fn metric(
        &mut self,
        name: &'static str,
        unit: &'static str,
        empty: impl FnOnce() -> Data<'a>,
    ) -> &mut Data<'a> {
        let place = self.metrics.iter().position(|metric| metric.name == name);
        let place = place.unwrap_or_else(|| {
            let data = empty();
            self.metrics.push(Metric { name, unit, data });
            self.metrics.len() - 1
        });
        &mut self.metrics[place].data
    }
}

fn attributes(key: Option<&SeriesKey>) -> Vec<Attribute<'_>> {
    let Some(key) = key else {
        return vec![Attribute::new(names::METRIC_OVERFLOW, true)];
    };
    let provider = key.provider.as_ref().map(|provider| provider.as_str());
    let model = key.model.as_ref().map(|model| model.as_str());
    let mut list = vec![
        Attribute::new(names::OPERATION_NAME, operation_name(key.operation)),
        Attribute::new(names::PROVIDER_NAME, provider.unwrap_or(names::OURSELVES)),
        match key.tenant {
            Counted::Tenant(tenant) => Attribute::shown(names::TENANT_ID, tenant),
            Counted::Others => Attribute::new(names::TENANT_ID, OVERFLOW),
        },
    ];
    list.extend(model.map(|model| Attribute::new(names::REQUEST_MODEL, model)));
    list
}
