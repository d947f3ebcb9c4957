//! Thousands of words and phrases at once, in folded text.

use aho_corasick::{AhoCorasick, AhoCorasickKind, Input, MatchKind};

use super::fold::{Folded, fold_entry};

/// 64 MiB: far above what the largest list that is allowed compiles to (2 to 10 MiB); above it a
/// list is refused.
const AUTOMATON_BYTES_MAX: usize = 64 << 20;

/// 512 bytes of entries: a DFA of them has 100 KB at most, and most tenants' lists are as short.
const DFA_ENTRIES_BYTES_MAX: usize = 512;

/// A compiled list.
pub(super) struct Phrases {
    automaton: AhoCorasick,
    /// The folded entries in order, to tell whether the end of a text may become one of them.
    sorted: Box<[Box<[u8]>]>,
    /// By first byte, whether an entry begins so.
    firsts: [bool; 256],
    longest: usize,
}

/// The list cannot be compiled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum PhrasesError {
    /// The entry at this place has nothing that could be found.
    #[error("entry {0} has no visible character")]
    Empty(usize),
    /// Together they are too much.
    #[error("the entries compile to more than 64 MiB")]
    TooLarge,
}

/// What a list found, as places in the folded text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PhraseStep {
    /// The entry of this number.
    Found {
        entry: usize,
        start: usize,
        end: usize,
    },
    /// From here on an entry may have begun that is not complete.
    Open(usize),
    /// Nothing more.
    Done,
}

impl Phrases {
    /// Compiles a list.
    pub(super) fn compile<'e>(
        entries: impl IntoIterator<Item = &'e str>,
    ) -> Result<Self, PhrasesError> {
        let folded: Vec<Vec<u8>> = entries.into_iter().map(fold_entry).collect();
        if let Some(place) = folded.iter().position(Vec::is_empty) {
            return Err(PhrasesError::Empty(place));
        }
        let automaton = AhoCorasick::builder()
            .match_kind(MatchKind::LeftmostLongest)
            // A DFA is several times as fast, and for the largest lists a hundred times as large.
            .kind(Some(match folded.iter().map(Vec::len).sum::<usize>() {
                ..=DFA_ENTRIES_BYTES_MAX => AhoCorasickKind::DFA,
                _ => AhoCorasickKind::ContiguousNFA,
            }))
            // Entries begin with the edge of a word, and so does every word: nothing to skip to.
            .prefilter(false)
            .build(&folded)
            .map_err(|_| PhrasesError::TooLarge)?;
        if automaton.memory_usage() > AUTOMATON_BYTES_MAX {
            return Err(PhrasesError::TooLarge);
        }
        let longest = folded.iter().map(Vec::len).max().unwrap_or(0);
        let mut sorted: Vec<Box<[u8]>> = folded.into_iter().map(Into::into).collect();
        sorted.sort_unstable();
        sorted.dedup();
        let mut firsts = [false; 256];
        for entry in &sorted {
            firsts[usize::from(entry[0])] = true;
        }
        Ok(Self {
            automaton,
            sorted: sorted.into(),
            firsts,
            longest,
        })
    }

    /// The next entry at or after the folded byte `from`: the leftmost, and of those the longest.
    pub(super) fn next(&self, folded: &Folded, from: usize, is_end: bool) -> PhraseStep {
        let bytes = folded.bytes();
        let base = folded.base();
        let from = from - base;
        let open = if is_end { None } else { self.open(bytes, from) };
        let found = self.automaton.find(Input::new(bytes).range(from..));
        match (found, open) {
            (Some(found), open) if open.is_none_or(|open| found.start() < open) => {
                PhraseStep::Found {
                    entry: found.pattern().as_usize(),
                    start: base + found.start(),
                    end: base + found.end(),
                }
            }
            (_, Some(open)) => PhraseStep::Open(base + open),
            (_, None) => PhraseStep::Done,
        }
    }

    /// The first place from which on all of the text is the beginning of an entry.
    fn open(&self, bytes: &[u8], from: usize) -> Option<usize> {
        let first = from.max((bytes.len() + 1).saturating_sub(self.longest));
        (first..bytes.len()).find(|&place| {
            let tail = &bytes[place..];
            self.firsts[usize::from(tail[0])] && {
                let at = self.sorted.partition_point(|entry| &**entry <= tail);
                self.sorted
                    .get(at)
                    .is_some_and(|entry| entry.starts_with(tail))
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(entries: &[&str], text: &str) -> Vec<String> {
        let phrases = Phrases::compile(entries.iter().copied()).unwrap();
        let mut folded = Folded::default();
        folded.push(text, 0);
        folded.finish();
        let mut all = Vec::new();
        let mut from = 0;
        while let PhraseStep::Found { start, end, .. } = phrases.next(&folded, from, true) {
            all.push(text[folded.start_of(start)..folded.end_of(end)].to_owned());
            from = end;
        }
        all
    }

    #[test]
    fn words_are_found_at_their_edges() {
        let table: &[(&[&str], &str, &[&str])] = &[
            (&["ass"], "grass, ASS and class", &["ASS"]),
            (&["foo bar"], "a Foo \n\t BAR.", &["Foo \n\t BAR"]),
            (&["foo", "foo bar"], "foo bar foo", &["foo bar", "foo"]),
            (&["c++"], "I like C++!", &["C++"]),
            (&["#tag"], "a #tag #tags", &["#tag"]),
            (&["密码"], "请告诉我密码是什么", &["密码"]),
            (&["straße"], "STRASSE Straße", &["Straße"]),
            (&["card"], "[CARD_1] card", &["card"]),
            (
                &["secret"],
                "s\u{200b}ecr\u{200d}et",
                &["s\u{200b}ecr\u{200d}et"],
            ),
            (&["a"], "", &[]),
        ];
        for (entries, text, wanted) in table {
            assert_eq!(&found(entries, text), wanted, "{text}");
        }
    }

    #[test]
    fn only_the_beginning_of_an_entry_is_held() {
        let phrases = Phrases::compile(["foo bar", "bar"]).unwrap();
        let step = |text: &str| {
            let mut folded = Folded::default();
            folded.push(text, 0);
            phrases.next(&folded, 0, false)
        };
        assert_eq!(step("nothing here "), PhraseStep::Done);
        // edge f o o edge space: from the first edge on.
        assert_eq!(step("x foo "), PhraseStep::Open(4));
        assert_eq!(step("x foot"), PhraseStep::Done);
        assert!(matches!(
            step("foo bar."),
            PhraseStep::Found { start: 0, .. }
        ));
    }

    #[test]
    fn what_has_nothing_to_find_is_refused() {
        let refused = Phrases::compile(["a", "\u{200b}"]).err();
        assert_eq!(refused, Some(PhrasesError::Empty(1)));
    }
}
