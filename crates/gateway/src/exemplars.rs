//! Exemplars: of each bucket of a tenant's latencies, one call whose trace is recorded, so that a
//! slow bucket in a graph leads to a slow call.
//!
//! Where no trace is recorded nothing is noted. They are joined into the text when it is asked
//! for, so that the histograms themselves know nothing of them.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::num::NonZeroU128;
use std::sync::Arc;
use std::time::Duration;

use base::Timestamp;
use parking_lot::Mutex;

use crate::metrics::SECONDS_BOUNDS;

/// One for each bound, and one for what is beyond the last.
const BUCKETS: usize = SECONDS_BOUNDS.len() + 1;
const DURATION: &str = "gen_ai_client_inference_duration_seconds_bucket{";
const FIRST_CHUNK: &str = "gen_ai_client_inference_time_to_first_chunk_seconds_bucket{";

/// Those of one tenant.
#[derive(Debug, Default)]
pub(crate) struct TenantExemplars {
    pub(crate) duration: Exemplars,
    pub(crate) first_chunk: Exemplars,
}

/// Those of one histogram, the last of each bucket: 700 bytes once there is one.
#[derive(Debug, Default)]
pub(crate) struct Exemplars(Mutex<Option<Box<[Option<Exemplar>; BUCKETS]>>>);

#[derive(Debug, Clone, Copy)]
struct Exemplar {
    trace: NonZeroU128,
    took: Duration,
    at: Timestamp,
}

impl Exemplars {
    /// Notes a call whose trace is recorded.
    pub(crate) fn note(&self, trace: NonZeroU128, took: Duration, at: Timestamp) {
        let seconds = took.as_secs_f64();
        let bucket = SECONDS_BOUNDS.iter().position(|bound| seconds <= *bound);
        let mut buckets = self.0.lock();
        let buckets = buckets.get_or_insert_default();
        buckets[bucket.unwrap_or(BUCKETS - 1)] = Some(Exemplar { trace, took, at });
    }

    fn of(&self, bucket: usize) -> Option<Exemplar> {
        *self.0.lock().as_ref()?.get(bucket)?
    }
}

/// The text of all metrics, each bucket with its exemplar.
pub(crate) fn join(text: &str, exemplars: &HashMap<String, Arc<TenantExemplars>>) -> String {
    let mut out = String::with_capacity(text.len() + text.len() / 4);
    for line in text.lines() {
        out.push_str(line);
        if let Some(exemplar) = exemplar_of(line, exemplars) {
            let (took, at) = (exemplar.took, exemplar.at.as_micros());
            write!(
                out,
                " # {{trace_id=\"{:032x}\"}} {}.{:06} {}.{:06}",
                exemplar.trace,
                took.as_secs(),
                took.subsec_micros(),
                at.div_euclid(1_000_000),
                at.rem_euclid(1_000_000),
            )
            .expect("writing to memory does not fail");
        }
        out.push('\n');
    }
    out
}

/// That of a bucket's line: `…_bucket{le="0.05",tenant="acme"} 3`.
fn exemplar_of(line: &str, all: &HashMap<String, Arc<TenantExemplars>>) -> Option<Exemplar> {
    let of_duration = line.strip_prefix(DURATION);
    let labels = of_duration.or_else(|| line.strip_prefix(FIRST_CHUNK))?;
    let (le, rest) = labels.strip_prefix("le=\"")?.split_once("\",tenant=\"")?;
    let tenant = all.get(rest.split_once('"')?.0)?;
    let bucket = match le {
        "+Inf" => BUCKETS - 1,
        bound => {
            let bound: f64 = bound.parse().ok()?;
            SECONDS_BOUNDS.iter().position(|known| bound <= *known)?
        }
    };
    if of_duration.is_some() {
        tenant.duration.of(bucket)
    } else {
        tenant.first_chunk.of(bucket)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Metrics;

    #[test]
    fn a_bucket_leads_to_its_last_recorded_call() {
        let metrics = Metrics::new();
        let tenant = metrics.tenant(&"acme".parse().unwrap());
        let at = Timestamp::from_micros(1_700_000_000_000_001);
        for (trace, millis) in [(1, 30), (2, 40), (3, 700_000)] {
            let took = Duration::from_millis(millis);
            tenant.count("completed", took);
            let trace = NonZeroU128::new(trace).unwrap();
            tenant.exemplars.duration.note(trace, took, at);
        }
        let text = metrics.open_metrics();
        let lines: Vec<&str> = text.lines().filter(|line| line.contains(" # ")).collect();
        assert_eq!(
            lines,
            [
                "gen_ai_client_inference_duration_seconds_bucket{le=\"0.05\",tenant=\"acme\"} 2 \
                 # {trace_id=\"00000000000000000000000000000002\"} 0.040000 1700000000.000001",
                "gen_ai_client_inference_duration_seconds_bucket{le=\"+Inf\",tenant=\"acme\"} 3 \
                 # {trace_id=\"00000000000000000000000000000003\"} 700.000000 1700000000.000001",
            ]
        );
        assert!(text.ends_with("# EOF\n"));
        assert!(!metrics.text().contains("trace_id"));
    }
}
