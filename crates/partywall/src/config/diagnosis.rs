//! What is wrong with a TOML file, where, and what was probably meant.

use std::fmt;
use std::ops::Range;

use toml::de::DeTable;

/// One mistake: `partywall.toml:3:1: unknown key `listn`; did you mean `listen`?`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) struct Diagnosis {
    source_name: String,
    /// Counted from 1, in characters.
    line: usize,
    column: usize,
    message: String,
}

impl fmt::Display for Diagnosis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            source_name,
            line,
            column,
            message,
        } = self;
        write!(f, "{source_name}:{line}:{column}: {message}")
    }
}

impl Diagnosis {
    /// What the TOML reader found wrong with `text`.
    pub(crate) fn of(source_name: &str, text: &str, error: &toml::de::Error) -> Self {
        let offset = error.span().map_or(0, |span| span.start);
        Self::at(source_name, text, offset, explain(error.message()))
    }

    /// A mistake at a byte of `text`.
    pub(crate) fn at(source_name: &str, text: &str, offset: usize, message: String) -> Self {
        let before = &text[..text.floor_char_boundary(offset)];
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        Self {
            source_name: source_name.to_owned(),
            line: before.matches('\n').count() + 1,
            column: before[line_start..].chars().count() + 1,
            message,
        }
    }

    /// A mistake in the value of `[section] key`, written `section.key`; at the beginning of the
    /// file where the key is not said.
    pub(crate) fn at_key(source_name: &str, text: &str, key: &str, message: String) -> Self {
        let offset = locate(text, key).map_or(0, |span| span.start);
        Self::at(source_name, text, offset, message)
    }
}

fn locate(text: &str, dotted: &str) -> Option<Range<usize>> {
    let document = DeTable::parse(text).ok()?;
    let mut table = document.get_ref();
    let mut found = None;
    for part in dotted.split('.') {
        let (key, value) = table.get_key_value(part)?;
        found = Some(key.span());
        match value.get_ref().as_table() {
            Some(inner) => table = inner,
            None => break,
        }
    }
    found
}

/// Serde's words for an unknown field or variant, with the nearest known name in place of the
/// whole list. Its form is stable: ``unknown field `a`, expected one of `b`, `c` ``.
fn explain(message: &str) -> String {
    let noun = if message.starts_with("unknown field `") {
        "key"
    } else if message.starts_with("unknown variant `") {
        "value"
    } else {
        return message.trim_end().replace('\n', "; ");
    };
    let mut quoted = message.split('`').skip(1).step_by(2);
    let Some(unknown) = quoted.next() else {
        return message.to_owned();
    };
    let known: Vec<&str> = quoted.collect();
    match nearest(unknown, known.iter().copied()) {
        Some(near) => format!("unknown {noun} `{unknown}`; did you mean `{near}`?"),
        None if known.is_empty() => format!("unknown {noun} `{unknown}`"),
        None => format!(
            "unknown {noun} `{unknown}`; known here are `{}`",
            known.join("`, `")
        ),
    }
}

/// The known name that `unknown` was probably meant to be.
pub(crate) fn nearest<'a>(
    unknown: &str,
    known: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    // Two thirds alike: one slip in a short word, a wrong ending of a long one.
    const LIKENESS_MIN: f64 = 0.66;
    known
        .into_iter()
        .map(|name| (strsim::normalized_damerau_levenshtein(unknown, name), name))
        .filter(|(likeness, _)| *likeness >= LIKENESS_MIN)
        .max_by(|one, other| one.0.total_cmp(&other.0))
        .map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_counted_in_characters() {
        let text = "a = \"é\"\nüb = 1\n";
        let place = Diagnosis::at("f", text, text.find("= 1").unwrap(), "m".into());
        assert_eq!(place.to_string(), "f:2:4: m");
        assert_eq!(
            Diagnosis::at("f", text, 10_000, "m".into()).to_string(),
            "f:3:1: m"
        );
    }

    #[test]
    fn a_far_name_is_no_guess() {
        assert_eq!(nearest("subjct", ["subject", "limit"]), Some("subject"));
        assert_eq!(nearest("colour", ["subject", "limit"]), None);
    }
}
