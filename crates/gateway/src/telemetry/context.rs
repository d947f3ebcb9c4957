//! W3C Trace Context: whose trace a call belongs to, and whether it is recorded.
//!
//! A caller's `traceparent` is a claim of a stranger. It names no tenant and no rights, it cannot
//! have more calls recorded than the operator's share of them, and it never leads into a trace
//! that another tenant's calls are in.

use std::num::{NonZeroU64, NonZeroU128};

use base::{Entropy, RequestId, TenantId};
use http::header::HeaderName;
use http::{HeaderMap, HeaderValue};

use super::owners::TraceOwners;

pub(crate) const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// The flag of a trace that is recorded.
const SAMPLED: u8 = 1;
/// 512 bytes and 32 members: what the recommendation has everybody carry.
const STATE_BYTES_MAX: usize = 512;
const STATE_MEMBERS_MAX: usize = 32;

/// What becomes of the trace that a caller names.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum CallersTraces {
    /// The call begins a trace of its own, which has a link to the caller's.
    #[default]
    Linked,
    /// The call goes on with the caller's trace, unless another tenant's calls are in it.
    Joined,
}

/// Which part of the calls is recorded. A caller can have its own calls left out, and no more of
/// them recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SampleRatio {
    /// A trace is recorded if 56 random bits are no less than this. Of a trace that begins here
    /// they are the last of its id, as OpenTelemetry's consistent sampling has it.
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

    fn records(self, random: u64) -> bool {
        random & ((1 << 56) - 1) >= self.threshold
    }
}

/// A call's place in its trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TraceContext {
    pub(super) trace: NonZeroU128,
    /// Ours: the parent of whatever the upstream records.
    pub(super) span: NonZeroU64,
    /// The caller's, in a trace that is joined; or that of the call whose hop this is.
    pub(super) parent: Option<NonZeroU64>,
    pub(super) is_sampled: bool,
}

/// The trace that a caller named.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct CallersTrace {
    pub(super) trace: NonZeroU128,
    pub(super) span: NonZeroU64,
    pub(super) flags: u8,
    /// `tracestate`, if it is one. It stays between the caller and the operator's collector.
    pub(super) state: Box<str>,
}

/// What decides about a caller's trace.
#[derive(Debug)]
pub(super) struct Tracing {
    pub(super) ratio: SampleRatio,
    pub(super) callers: CallersTraces,
    pub(super) owners: TraceOwners,
}

impl Tracing {
    pub(super) fn new(ratio: SampleRatio, callers: CallersTraces) -> Self {
        Self {
            ratio,
            callers,
            owners: TraceOwners::default(),
        }
    }

    /// The trace of a call of this tenant, and the one that its caller named.
    pub(super) fn begin(
        &self,
        headers: &HeaderMap,
        tenant: TenantId,
        request: RequestId,
        entropy: &dyn Entropy,
    ) -> (TraceContext, Option<Box<CallersTrace>>) {
        let Some(caller) = CallersTrace::read(headers) else {
            return (self.root(request, entropy), None);
        };
        let is_joined =
            self.callers == CallersTraces::Joined && self.owners.is_owner(caller.trace, tenant);
        let context = if is_joined {
            let span = span_id(entropy);
            TraceContext {
                trace: caller.trace,
                span,
                parent: Some(caller.span),
                // By our own bits: those of its trace the caller may choose.
                is_sampled: caller.flags & SAMPLED != 0 && self.ratio.records(span.get()),
            }
        } else {
            self.root(request, entropy)
        };
        (context, Some(Box::new(caller)))
    }

    /// A trace that begins here. Its id is the request's, so that `x-request-id` leads to it.
    pub(super) fn root(&self, request: RequestId, entropy: &dyn Entropy) -> TraceContext {
        let trace = NonZeroU128::new(request.bits()).unwrap_or(NonZeroU128::MAX);
        TraceContext {
            trace,
            span: span_id(entropy),
            parent: None,
            is_sampled: self.ratio.records(trace.get() as u64),
        }
    }
}

fn span_id(entropy: &dyn Entropy) -> NonZeroU64 {
    NonZeroU64::new(entropy.next_u64()).unwrap_or(NonZeroU64::MAX)
}

impl TraceContext {
    /// That of a hop of this call: in its trace, below its span.
    pub(super) fn below(self, entropy: &dyn Entropy) -> Self {
        Self {
            span: span_id(entropy),
            parent: Some(self.span),
            ..self
        }
    }

    /// What the upstream is told. `tracestate` stays here: it is between the caller and us.
    pub(super) fn to_header(self) -> HeaderValue {
        let mut text = *b"00-00000000000000000000000000000000-0000000000000000-00";
        text[3..35].copy_from_slice(&trace_digits(self.trace));
        text[36..52].copy_from_slice(&hex(self.span.get()));
        text[54] += u8::from(self.is_sampled);
        HeaderValue::from_bytes(&text).expect("digits and dashes are a header's value")
    }
}

/// A trace's 32 digits.
pub(crate) fn trace_digits(trace: NonZeroU128) -> [u8; 32] {
    let (high, low) = ((trace.get() >> 64) as u64, trace.get() as u64);
    let mut digits = [0; 32];
    digits[..16].copy_from_slice(&hex(high));
    digits[16..].copy_from_slice(&hex(low));
    digits
}

/// All 16 digits. On every call: a formatter takes thirty times as long.
fn hex(number: u64) -> [u8; 16] {
    let mut digits = [0; 16];
    digits[..8].copy_from_slice(&half_hex((number >> 32) as u32));
    digits[8..].copy_from_slice(&half_hex(number as u32));
    digits
}

/// Eight digits at once, one in each byte of a word.
fn half_hex(number: u32) -> [u8; 8] {
    const ONES: u64 = 0x0101_0101_0101_0101;
    let number = u64::from(number);
    let number = (number | number << 16) & 0x0000_ffff_0000_ffff;
    let number = (number | number << 8) & 0x00ff_00ff_00ff_00ff;
    let values = (number | number << 4) & (0xf * ONES);
    // Six more than a digit from ten on reaches the bit above.
    let letters = (values + 6 * ONES) >> 4 & ONES;
    let digits = values + u64::from(b'0') * ONES + u64::from(b'a' - b'0' - 10) * letters;
    digits.to_be_bytes()
}

impl CallersTrace {
    /// The caller's `traceparent`. One that is malformed, or sent twice, counts as none.
    fn read(headers: &HeaderMap) -> Option<Self> {
        let mut values = headers.get_all(TRACEPARENT).iter();
        let value = values.next()?.to_str().ok()?;
        if values.next().is_some() {
            return None;
        }
        let (trace, span, flags) = parse(value)?;
        Some(Self {
            trace,
            span,
            flags,
            state: state(headers),
        })
    }
}

/// The caller's `tracestate`; nothing if it is too long or malformed.
fn state(headers: &HeaderMap) -> Box<str> {
    let mut all = String::new();
    for value in headers.get_all(TRACESTATE) {
        let Ok(text) = value.to_str() else {
            return Box::default();
        };
        if all.len() + text.len() >= STATE_BYTES_MAX {
            return Box::default();
        }
        if !all.is_empty() {
            all.push(',');
        }
        all.push_str(text);
    }
    let members = all.split(',').map(str::trim).filter(|it| !it.is_empty());
    let is_state = members.clone().count() <= STATE_MEMBERS_MAX && members.clone().all(is_member);
    if is_state { all.into() } else { Box::default() }
}

/// `key=value`, by the recommendation's grammar.
fn is_member(member: &str) -> bool {
    let Some((key, value)) = member.split_once('=') else {
        return false;
    };
    let is_key =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_-*/@".contains(&byte);
    let is_value = |byte: u8| (0x20..0x7f).contains(&byte) && !b",=".contains(&byte);
    (1..=256).contains(&key.len())
        && key.bytes().all(is_key)
        && (1..=256).contains(&value.len())
        && value.bytes().all(is_value)
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
    const REQUEST: u128 = 7 << 80 | 9;

    fn acme() -> TenantId {
        TenantId::from_bits(1)
    }

    fn headers(traceparents: &[&str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for value in traceparents {
            headers.append(TRACEPARENT, HeaderValue::from_str(value).unwrap());
        }
        headers
    }

    fn begin(tracing: &Tracing, tenant: TenantId, traceparents: &[&str]) -> TraceContext {
        let request = RequestId::from_bits(REQUEST);
        let headers = headers(traceparents);
        let begun = tracing.begin(&headers, tenant, request, &SeededEntropy::new(1));
        begun.0
    }

    fn joining(ratio: SampleRatio) -> Tracing {
        Tracing::new(ratio, CallersTraces::Joined)
    }

    #[test]
    fn digits_are_those_of_a_formatter() {
        let entropy = SeededEntropy::new(3);
        let numbers = (0..1_000).map(|place| entropy.next_u64() >> (place % 64));
        for number in numbers.chain([0, u64::MAX, 0x0123_4567_89ab_cdef]) {
            let formatted = format!("{number:016x}");
            assert_eq!(hex(number), *formatted.as_bytes());
        }
    }

    #[test]
    fn a_callers_trace_is_linked_and_says_nothing_of_what_is_recorded() {
        for (flags, ratio, sampled) in [
            ("01", SampleRatio::per_mille(0), false),
            ("00", SampleRatio::ALL, true),
        ] {
            let tracing = Tracing::new(ratio, CallersTraces::Linked);
            let mut headers = headers(&[&format!("00-{TRACE}-{PARENT}-{flags}")]);
            headers.append(TRACESTATE, HeaderValue::from_static("a=1"));
            headers.append(TRACESTATE, HeaderValue::from_static("b@c=2 3"));
            let request = RequestId::from_bits(REQUEST);
            let (context, caller) =
                tracing.begin(&headers, acme(), request, &SeededEntropy::new(1));
            assert_eq!((context.trace.get(), context.parent), (REQUEST, None));
            assert_eq!(context.is_sampled, sampled);
            let caller = caller.unwrap();
            assert_eq!(format!("{:032x}", caller.trace), TRACE);
            assert_eq!(format!("{:016x}", caller.span), PARENT);
            assert_eq!(&*caller.state, "a=1,b@c=2 3");
        }
    }

    #[test]
    fn a_joined_trace_goes_on_and_its_decision_is_kept() {
        for (flags, sampled) in [("01", true), ("03", true), ("00", false)] {
            let tracing = joining(SampleRatio::ALL);
            let context = begin(&tracing, acme(), &[&format!("00-{TRACE}-{PARENT}-{flags}")]);
            assert_eq!(format!("{:032x}", context.trace), TRACE);
            assert_eq!(format!("{:016x}", context.parent.unwrap()), PARENT);
            assert_eq!(context.is_sampled, sampled);
            let told = context.to_header();
            let span = format!("{:016x}", context.span);
            assert_ne!(span, PARENT);
            let expected = format!("00-{TRACE}-{span}-{:02x}", u8::from(sampled));
            assert_eq!(told.to_str().unwrap(), expected);
        }
        let later = format!("01-{TRACE}-{PARENT}-01-more");
        let later = begin(&joining(SampleRatio::ALL), acme(), &[&later]);
        assert!(later.parent.is_some());
    }

    #[test]
    fn no_caller_has_more_recorded_than_the_share() {
        // The best id that a caller can choose: all its bits are set.
        let best = format!("00-{}-{PARENT}-01", "f".repeat(32));
        let entropy = SeededEntropy::new(7);
        for callers in [CallersTraces::Linked, CallersTraces::Joined] {
            let tracing = Tracing::new(SampleRatio::per_mille(100), callers);
            let headers = headers(&[&best]);
            let calls = (0..10_000).map(|_| {
                let request = RequestId::from_bits(u128::from(entropy.next_u64()) | 1 << 90);
                tracing.begin(&headers, acme(), request, &entropy).0
            });
            let recorded = calls.filter(|context| context.is_sampled).count();
            assert!((900..1_100).contains(&recorded), "{callers:?}: {recorded}");
        }
    }

    #[test]
    fn nobody_joins_a_trace_of_another_tenant() {
        let tracing = joining(SampleRatio::ALL);
        let traceparent = format!("00-{TRACE}-{PARENT}-01");
        let theirs = begin(&tracing, acme(), &[&traceparent]);
        assert_eq!(format!("{:032x}", theirs.trace), TRACE);
        let other = begin(&tracing, TenantId::from_bits(2), &[&traceparent]);
        assert_eq!((other.trace.get(), other.parent), (REQUEST, None));
        let again = begin(&tracing, acme(), &[&traceparent]);
        assert_eq!(again.trace, theirs.trace);
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
            let context = begin(&joining(SampleRatio::ALL), acme(), &bad);
            assert_eq!(context.parent, None, "{bad:?}");
            assert_eq!(context.trace.get(), REQUEST);
            assert!(context.is_sampled);
        }
    }

    #[test]
    fn a_state_that_is_none_is_left_out() {
        let long = format!("a={}", "x".repeat(300));
        let many = vec!["a=1"; STATE_MEMBERS_MAX + 1].join(",");
        let huge = vec![format!("a={}", "x".repeat(200)); 3].join(",");
        for bad in [
            "A=1", "a", "a=", "=1", "a=1=2", "a=\u{e9}", &long, &many, &huge,
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(TRACESTATE, HeaderValue::from_bytes(bad.as_bytes()).unwrap());
            assert_eq!(&*state(&headers), "", "{bad}");
        }
    }

    #[test]
    fn the_ratio_is_that_of_the_recorded_traces() {
        let entropy = SeededEntropy::new(7);
        let count = |ratio: SampleRatio| {
            let draws = (0..10_000).map(|_| entropy.next_u64());
            draws.filter(|random| ratio.records(*random)).count()
        };
        assert_eq!(count(SampleRatio::ALL), 10_000);
        assert_eq!(count(SampleRatio::per_mille(1_000)), 10_000);
        assert_eq!(count(SampleRatio::per_mille(0)), 0);
        let tenth = count(SampleRatio::per_mille(100));
        assert!((900..1_100).contains(&tenth), "{tenth}");
    }
}
