//! W3C Trace Context: whose trace a call belongs to, and whether it is recorded.

use std::num::{NonZeroU64, NonZeroU128};

use base::{Entropy, RequestId};
use http::header::HeaderName;
use http::{HeaderMap, HeaderValue};

pub(crate) const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// The flag of a trace that is recorded.
const SAMPLED: u8 = 1;

/// Which part of the calls that begin a trace is recorded. A caller's own decision goes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SampleRatio {
    /// A trace is recorded if the last 56 bits of its id are no less than this, as OpenTelemetry's
    /// consistent sampling has it: whoever samples the same trace decides the same.
    threshold: u64,
}

impl SampleRatio {
    /// Every call.
    pub const ALL: Self = Self { threshold: 0 };

    /// So many of a thousand calls; more than a thousand are all.
    pub const fn per_mille(recorded: u16) -> Self {
        let refused = 1_000_u16.saturating_sub(recorded) as u128;
        Self {
            threshold: (refused * (1 << 56) / 1_000) as u64,
        }
    }

    fn records(self, trace: NonZeroU128) -> bool {
        let random = (trace.get() as u64) & ((1 << 56) - 1);
        random >= self.threshold
    }
}

/// A call's place in its trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TraceContext {
    pub(super) trace: NonZeroU128,
    /// Ours: the parent of whatever the upstream records.
    pub(super) span: NonZeroU64,
    /// The caller's.
    pub(super) parent: Option<NonZeroU64>,
    pub(super) is_sampled: bool,
}

impl TraceContext {
    /// Goes on with the caller's trace, or begins one: its id is then the request's, so that
    /// `x-request-id` leads to it.
    pub(super) fn begin(
        headers: &HeaderMap,
        request: RequestId,
        ratio: SampleRatio,
        entropy: &dyn Entropy,
    ) -> Self {
        let span = NonZeroU64::new(entropy.next_u64()).unwrap_or(NonZeroU64::MAX);
        match caller(headers) {
            Some((trace, parent, flags)) => Self {
                trace,
                span,
                parent: Some(parent),
                is_sampled: flags & SAMPLED != 0,
            },
            None => {
                let trace = NonZeroU128::new(request.bits()).unwrap_or(NonZeroU128::MAX);
                Self {
                    trace,
                    span,
                    parent: None,
                    is_sampled: ratio.records(trace),
                }
            }
        }
    }

    /// What the upstream is told. `tracestate` stays here: it is between the caller and us.
    pub(super) fn to_header(self) -> HeaderValue {
        let flags = u8::from(self.is_sampled);
        let text = format!("00-{:032x}-{:016x}-{flags:02x}", self.trace, self.span);
        HeaderValue::from_str(&text).expect("digits and dashes are a header's value")
    }
}

/// The caller's `traceparent`. One that is malformed, or sent twice, counts as none.
fn caller(headers: &HeaderMap) -> Option<(NonZeroU128, NonZeroU64, u8)> {
    let mut values = headers.get_all(TRACEPARENT).iter();
    let value = values.next()?.to_str().ok()?;
    if values.next().is_some() {
        return None;
    }
    parse(value)
}

/// `00-<trace>-<parent>-<flags>`, lowercase. Of later versions what we know is read.
fn parse(text: &str) -> Option<(NonZeroU128, NonZeroU64, u8)> {
    let mut parts = text.split('-');
    let version = parts.next().filter(|part| is_hex(part, 2))?;
    let trace = parts.next().filter(|part| is_hex(part, 32))?;
    let parent = parts.next().filter(|part| is_hex(part, 16))?;
    let flags = parts.next().filter(|part| is_hex(part, 2))?;
    let is_known = version == "00";
    if version == "ff" || (is_known && parts.next().is_some()) {
        return None;
    }
    let trace = NonZeroU128::new(u128::from_str_radix(trace, 16).ok()?)?;
    let parent = NonZeroU64::new(u64::from_str_radix(parent, 16).ok()?)?;
    Some((trace, parent, u8::from_str_radix(flags, 16).ok()?))
}

fn is_hex(text: &str, digits: usize) -> bool {
    text.len() == digits && text.bytes().all(|byte| b"0123456789abcdef".contains(&byte))
}

#[cfg(test)]
mod tests {
    use base::SeededEntropy;

    use super::*;

    const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
    const PARENT: &str = "00f067aa0ba902b7";

    fn begin(traceparents: &[&str], ratio: SampleRatio) -> TraceContext {
        let mut headers = HeaderMap::new();
        for value in traceparents {
            headers.append(TRACEPARENT, HeaderValue::from_str(value).unwrap());
        }
        let request = RequestId::from_bits(7 << 80 | 9);
        TraceContext::begin(&headers, request, ratio, &SeededEntropy::new(1))
    }

    #[test]
    fn a_callers_trace_and_decision_are_kept() {
        for (flags, ratio, sampled) in [
            ("01", SampleRatio::per_mille(0), true),
            ("03", SampleRatio::per_mille(0), true),
            ("00", SampleRatio::ALL, false),
        ] {
            let context = begin(&[&format!("00-{TRACE}-{PARENT}-{flags}")], ratio);
            assert_eq!(format!("{:032x}", context.trace), TRACE);
            assert_eq!(format!("{:016x}", context.parent.unwrap()), PARENT);
            assert_eq!(context.is_sampled, sampled);
            let told = context.to_header();
            let span = format!("{:016x}", context.span);
            assert_ne!(span, PARENT);
            let expected = format!("00-{TRACE}-{span}-{:02x}", u8::from(sampled));
            assert_eq!(told.to_str().unwrap(), expected);
        }
        let later = begin(&[&format!("01-{TRACE}-{PARENT}-01-more")], SampleRatio::ALL);
        assert!(later.parent.is_some());
    }

    #[test]
    fn what_is_malformed_begins_a_trace_under_the_requests_id() {
        let good = format!("00-{TRACE}-{PARENT}-01");
        for bad in [
            vec![],
            vec![good.as_str(), good.as_str()],
            vec![&format!("00-{TRACE}-{PARENT}-01-more")],
            vec![&format!("ff-{TRACE}-{PARENT}-01")],
            vec![&format!("00-{}-{PARENT}-01", TRACE.to_uppercase())],
            vec![&format!("00-{}-{PARENT}-01", "0".repeat(32))],
            vec![&format!("00-{TRACE}-{}-01", "0".repeat(16))],
            vec![&format!("00-{TRACE}-{PARENT}")],
            vec!["é"],
        ] {
            let context = begin(&bad, SampleRatio::ALL);
            assert_eq!(context.parent, None, "{bad:?}");
            assert_eq!(context.trace.get(), 7 << 80 | 9);
            assert!(context.is_sampled);
        }
    }

    #[test]
    fn the_ratio_is_that_of_the_recorded_traces() {
        let entropy = SeededEntropy::new(7);
        let count = |ratio: SampleRatio| {
            let ids =
                (0..10_000).map(|_| NonZeroU128::new(u128::from(entropy.next_u64()) | 1 << 90));
            ids.filter(|id| ratio.records(id.unwrap())).count()
        };
        assert_eq!(count(SampleRatio::ALL), 10_000);
        assert_eq!(count(SampleRatio::per_mille(1_000)), 10_000);
        assert_eq!(count(SampleRatio::per_mille(0)), 0);
        let tenth = count(SampleRatio::per_mille(100));
        assert!((900..1_100).contains(&tenth), "{tenth}");
    }
}
