//! Answers of `/v1/messages/count_tokens`. Its request is read as any other; it has no
//! `max_tokens`.

use bytes::Bytes;

use crate::raw::Raw;

/// `{"input_tokens": n}`
pub fn count_tokens_json(input_tokens: u64) -> Bytes {
    format!(r#"{{"input_tokens":{input_tokens}}}"#).into()
}

/// The count in an upstream's answer; `None` if it has none.
pub fn read_count_tokens(body: &[u8]) -> Option<u64> {
    Raw::new(body).get("input_tokens")?.as_u64()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_written_and_read() {
        let body = count_tokens_json(2_095);
        assert_eq!(body, r#"{"input_tokens":2095}"#);
        assert_eq!(read_count_tokens(&body), Some(2_095));
        assert_eq!(read_count_tokens(b"{}"), None);
    }
}
