//! What an upstream calls the model that answered: `gpt-4o-2024-08-06` where `gpt-4o` was asked.
//!
//! It is looked for in the text, near its beginning or its end, and not in the parsed answer: a
//! label for the ledger is not worth a walk through a long one.

use std::sync::LazyLock;

use base::ModelName;
use memchr::memmem::Finder;

/// 1 KiB: what engines write before the content, and Gemini behind it.
const NEAR_BYTES: usize = 1024;
/// So many pieces of a stream are looked through: the first event says it, or none does.
pub(super) const PIECES_MAX: u8 = 4;

static MODEL: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(br#""model"#));

/// The name in an answer, or in a piece of a stream.
pub(super) fn served_as(answer: &[u8]) -> Option<ModelName> {
    let near = answer.len().min(NEAR_BYTES);
    first_name(&answer[..near]).or_else(|| first_name(&answer[answer.len() - near..]))
}

fn first_name(text: &[u8]) -> Option<ModelName> {
    MODEL.find_iter(text).find_map(|at| {
        // Behind a backslash these letters are somebody's words.
        if at > 0 && text[at - 1] == b'\\' {
            return None;
        }
        let rest = &text[at + MODEL.needle().len()..];
        let rest = rest.strip_prefix(b"Version").unwrap_or(rest);
        let rest = rest.strip_prefix(b"\"")?.trim_ascii_start();
        let rest = rest.strip_prefix(b":")?.trim_ascii_start();
        let rest = rest.strip_prefix(b"\"")?;
        let name = &rest[..memchr::memchr(b'"', rest)?];
        // A name with an escape in it is none of ours.
        let name = std::str::from_utf8(name)
            .ok()
            .filter(|name| !name.contains('\\'))?;
        name.parse().ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(answer: &str, name: Option<&str>) {
        let found = served_as(answer.as_bytes());
        assert_eq!(found.as_ref().map(ModelName::as_str), name, "{answer:.80}");
    }

    #[test]
    fn the_name_is_found_where_engines_write_it() {
        check(
            r#"{"id":"c","model":"gpt-4o-2024-08-06","choices":[]}"#,
            Some("gpt-4o-2024-08-06"),
        );
        check(
            "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"model\" : \"claude-x\"}}",
            Some("claude-x"),
        );
        let long = "x".repeat(5_000);
        check(
            &format!(r#"{{"candidates":["{long}"],"modelVersion":"gemini-2.5"}}"#),
            Some("gemini-2.5"),
        );
    }

    #[test]
    fn what_is_no_name_is_none() {
        let middle = "x".repeat(2_000);
        for answer in [
            "".to_owned(),
            r#"{"content":"\"model\":\"mine\""}"#.to_owned(),
            r#"{"model":null}"#.to_owned(),
            r#"{"model":"a b"}"#.to_owned(),
            r#"{"model":"a\u0062"}"#.to_owned(),
            r#"{"model":"cut"#.to_owned(),
            format!(r#"{{"a":"{middle}","model":"far","b":"{middle}"}}"#),
            format!(r#"{{"model":"{}"}}"#, "m".repeat(201)),
        ] {
            check(&answer, None);
        }
        check(r#"{"model_family":"f","model":"m"}"#, Some("m"));
    }
}
