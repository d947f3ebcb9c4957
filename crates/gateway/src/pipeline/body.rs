//! The body of a request, within its bounds.

use base::Deadline;
use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http::header::CONTENT_LENGTH;
use http_body_util::BodyExt as _;
use hyper::body::{Body as _, Incoming};
use models::InvalidRequest;

use super::resolve::Inside;
use crate::in_flight::HeldBytes;
use crate::refusal::Refusal;
use crate::wait::in_time;

/// The bytes that a body of unknown length reserves at a time.
const GROW_BYTES: u64 = 64 << 10;

/// 4 KiB: what is copied out of hyper's buffer, half of its size.
const COPIED_BYTES_MAX: usize = 4 << 10;

/// Reads a body within the tier's size, the process's and the tenant's bytes in flight, and time.
pub(super) async fn read_body(
    mut body: Incoming,
    headers: &HeaderMap,
    inside: &Inside,
) -> Result<(Bytes, HeldBytes, HeldBytes), Refusal> {
    let tier = &inside.tier;
    let limit = tier.body_bytes_max;
    inside.runtime.in_flight.set_max(tier.in_flight_bytes_max);
    let declared = headers
        .get(CONTENT_LENGTH)
        .and_then(|length| length.to_str().ok()?.parse::<u64>().ok())
        .unwrap_or(0);
    if declared > limit {
        return Err(Refusal::TooLarge { limit });
    }
    let mut held = inside
        .shared
        .in_flight
        .hold(declared)
        .ok_or(Refusal::Overloaded)?;
    let mut tenant_held = inside
        .runtime
        .in_flight
        .hold(declared)
        .ok_or(Refusal::Overloaded)?;
    let mut reserved = declared;

    let clock = &*inside.shared.clock;
    // Counted from the first wait: most bodies come with their head, and never ask for the time.
    let mut by = None;
    let mut deadline = |clock| {
        *by.get_or_insert_with(|| Deadline::after(clock, inside.shared.bounds.body_timeout))
    };
    let mut first: Option<Bytes> = None;
    let mut rest = BytesMut::new();
    let mut length = 0;
    while !body.is_end_stream() {
        let frame = in_time(|| deadline(clock).remaining(clock), body.frame())
            .await
            .map_err(|_| Refusal::BodyTooSlow)?;
        let Some(frame) = frame else { break };
        let frame = frame.map_err(|error| {
            tracing::debug!(%error, "a body could not be read");
            incomplete_body()
        })?;
        let Ok(data) = frame.into_data() else {
            continue;
        };
        length += data.len() as u64;
        if length > limit {
            return Err(Refusal::TooLarge { limit });
        }
        while length > reserved {
            if !(held.grow(GROW_BYTES) && tenant_held.grow(GROW_BYTES)) {
                return Err(Refusal::Overloaded);
            }
            reserved += GROW_BYTES;
        }
        match &first {
            None => first = Some(data),
            Some(begun) => {
                if rest.is_empty() {
                    // Room for all of it at once, so that nothing is copied twice.
                    rest.reserve(usize::try_from(declared.max(length)).unwrap_or(0));
                    rest.extend_from_slice(begun);
                }
                rest.extend_from_slice(&data);
            }
        }
    }
    let whole = match first {
        // Then nothing refers to the connection's buffer while the call waits, and hyper uses it
        // again: else it would take another for each call.
        Some(short) if rest.is_empty() && short.len() <= COPIED_BYTES_MAX => {
            Bytes::copy_from_slice(&short)
        }
        Some(whole) if rest.is_empty() => whole,
        _ => rest.freeze(),
    };
    Ok((whole, held, tenant_held))
}

fn incomplete_body() -> Refusal {
    Refusal::Invalid(InvalidRequest {
        message: "the request body ended early or is not framed as its head says".to_owned(),
        param: None,
        code: "incomplete_body",
    })
}
