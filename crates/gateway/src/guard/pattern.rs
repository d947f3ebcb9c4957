//! A tenant's own patterns: one automaton, linear time, bounded memory, bounded matches.

use regex::{Regex, RegexBuilder};
use regex_syntax::ParserBuilder;
use regex_syntax::hir::Hir;
use tenancy::catalogue::RegexSpec;

/// 256 bytes of one match: what a stream holds back for it. A bound is also what makes finding all
/// matches linear, and not the first alone: each byte is read by at most so many attempts.
pub(super) const MATCH_BYTES_MAX: usize = 256;
/// 4 MiB of the compiled patterns of one check: `\w{60}` in full Unicode has about half.
const AUTOMATON_BYTES_MAX: usize = 4 << 20;
/// 2 MiB of states that are made while matching.
const STATES_BYTES_MAX: usize = 2 << 20;
/// 250: the crate's own default, against the parser's recursion.
const NESTING_MAX: u32 = 250;
/// `\b` and `$` look at the character behind a match: four bytes at most.
const LOOK_AHEAD: usize = 4;

/// A compiled `regex` check.
pub(super) struct Patterns {
    regex: Regex,
    /// How many bytes from its beginning decide a match.
    reach: usize,
}

/// A pattern that is refused, by its place in the list.
#[derive(Debug, thiserror::Error)]
pub(super) enum PatternError {
    /// Not a pattern of the `regex` crate.
    #[error("pattern {place}: {source}")]
    Syntax {
        /// Which.
        place: usize,
        /// What the parser says.
        source: Box<regex_syntax::Error>,
    },
    /// It matches the empty text.
    #[error("pattern {place} matches nothing at all, and so everywhere")]
    Empty {
        /// Which.
        place: usize,
    },
    /// A match could be longer than 256 bytes.
    #[error(
        "pattern {place}: a match may be longer than {MATCH_BYTES_MAX} bytes; write `x{{1,40}}` in place of `x+` or `x*`"
    )]
    TooLong {
        /// Which.
        place: usize,
    },
    /// The automaton has no room.
    #[error("the patterns compile to more than 4 MiB; `(?-u:\\w)` is smaller than `\\w`")]
    TooLarge,
}

impl Patterns {
    pub(super) fn compile(spec: &RegexSpec) -> Result<Self, PatternError> {
        let mut parsed = Vec::with_capacity(spec.patterns.len());
        let mut longest = 0;
        for (place, pattern) in spec.patterns.iter().enumerate() {
            let mut parser = ParserBuilder::new()
                .case_insensitive(spec.ignore_case)
                .nest_limit(NESTING_MAX)
                .build();
            let hir = parser
                .parse(pattern)
                .map_err(|source| PatternError::Syntax {
                    place,
                    source: Box::new(source),
                })?;
            let properties = hir.properties();
            if properties.minimum_len().is_none_or(|length| length == 0) {
                return Err(PatternError::Empty { place });
            }
            match properties.maximum_len() {
                Some(length) if length <= MATCH_BYTES_MAX => longest = longest.max(length),
                _ => return Err(PatternError::TooLong { place }),
            }
            parsed.push(hir);
        }
        // Printed from its syntax tree, a pattern has its flags resolved and closes what it opens.
        let together = Hir::alternation(parsed).to_string();
        let regex = RegexBuilder::new(&together)
            .size_limit(AUTOMATON_BYTES_MAX)
            .dfa_size_limit(STATES_BYTES_MAX)
            .build()
            .map_err(|_| PatternError::TooLarge)?;
        Ok(Self {
            regex,
            reach: longest + LOOK_AHEAD,
        })
    }

    /// The first match at or after `from`, or the place from which on there may be one that more
    /// text decides; none of both if there is nothing.
    pub(super) fn next(&self, text: &str, from: usize, is_end: bool) -> PatternStep {
        let found = self.regex.find_at(text, from);
        if let Some(found) = found
            && (is_end || found.start() + self.reach <= text.len())
        {
            return PatternStep::Found {
                start: found.start(),
                end: found.end(),
            };
        }
        let undecided = (text.len() + 1).saturating_sub(self.reach).max(from);
        let undecided = text.floor_char_boundary(undecided);
        if is_end || undecided >= text.len() {
            PatternStep::Done
        } else {
            PatternStep::Open(undecided)
        }
    }
}

/// What a look at the text came to. Places are bytes of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PatternStep {
    Found { start: usize, end: usize },
    Open(usize),
    Done,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compiled(patterns: &[&str]) -> Result<Patterns, PatternError> {
        Patterns::compile(&RegexSpec {
            patterns: patterns.iter().map(|one| (*one).to_owned()).collect(),
            ignore_case: true,
        })
    }

    #[test]
    fn what_has_no_bound_is_refused() {
        let table: &[(&[&str], Option<&str>)] = &[
            (&["project-[0-9]{4}", "(?x) falcon # the bird"], None),
            (&[r"\b\w{1,40}@corp\b"], None),
            (&["(a|ab)(c|bcd)"], None),
            (&["a", "x+"], Some("pattern 1: a match may be longer")),
            (&["(a*)*b"], Some("longer")),
            (&["a{0,3}"], Some("everywhere")),
            (&["a|"], Some("everywhere")),
            (&["("], Some("pattern 0")),
            (&[r"(a)\1"], Some("pattern 0")),
            (&["(?=a)b"], Some("pattern 0")),
            (&[r"\w{60}", r"(?-u:\w{1,250})"], None),
            (&[r"\w{60}", r"\pL{60}"], Some("4 MiB")),
        ];
        for (patterns, wanted) in table {
            let result = compiled(patterns)
                .map(|_| ())
                .map_err(|error| error.to_string());
            match wanted {
                None => assert_eq!(result, Ok(()), "{patterns:?}"),
                Some(wanted) => {
                    let error = result.expect_err(&format!("{patterns:?}"));
                    assert!(error.contains(wanted), "{patterns:?}: {error}");
                }
            }
        }
    }

    #[test]
    fn what_is_undecided_is_open() {
        let one = compiled(&["ab{1,4}"]).unwrap();
        assert_eq!(one.next("xxxxxxxxxxxx", 0, false), PatternStep::Open(4));
        assert_eq!(
            one.next("ABBxxxxxxxxxxxx", 0, false),
            PatternStep::Found { start: 0, end: 3 }
        );
        assert_eq!(one.next("xxxxabb", 0, false), PatternStep::Open(0));
        assert_eq!(
            one.next("xxxxabb", 0, true),
            PatternStep::Found { start: 4, end: 7 }
        );
        assert_eq!(one.next("xxxx", 0, true), PatternStep::Done);
    }
}
