//! The headers of a request that later stages read. The others are given up with its head, the
//! client's credential among them.

use http::header::CACHE_CONTROL;
use http::{HeaderMap, HeaderName, HeaderValue};

use super::idempotency::IDEMPOTENCY_KEY;
use crate::speech::ANTHROPIC_BETA;

const KEPT: [HeaderName; 3] = [CACHE_CONTROL, IDEMPOTENCY_KEY, ANTHROPIC_BETA];

/// Copies of them, since a value refers to the whole buffer that it was read into. Most calls have
/// none.
pub(super) fn kept_headers(headers: &HeaderMap) -> HeaderMap {
    let mut kept = HeaderMap::new();
    for (name, value) in headers {
        if KEPT.contains(name) {
            let copy = HeaderValue::from_bytes(value.as_bytes());
            kept.append(name, copy.unwrap_or_else(|_| value.clone()));
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_later_stages_read_is_kept_and_no_credential() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("authorization", "Bearer of-the-client"),
            ("anthropic-beta", "one"),
            ("x-api-key", "of-the-client"),
            ("anthropic-beta", "another"),
            ("cache-control", "no-store"),
            ("idempotency-key", "k"),
        ] {
            headers.append(name, HeaderValue::from_static(value));
        }
        let kept = kept_headers(&headers);
        assert_eq!(kept.len(), 4);
        let asked: Vec<_> = kept.get_all("anthropic-beta").iter().collect();
        assert_eq!(asked, ["one", "another"]);
        assert_eq!(kept["cache-control"], "no-store");
        assert_eq!(kept["idempotency-key"], "k");
    }
}
