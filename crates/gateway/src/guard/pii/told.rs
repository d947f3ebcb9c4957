//! The words before a number that say what it is: all lists of them are looked for in one pass.

use std::cell::OnceCell;
use std::sync::LazyLock;

use aho_corasick::{AhoCorasick, AhoCorasickKind};

use super::contact::PHONE_WORDS;
use super::view::{CONTEXT_BYTES, View};
use super::{cards, national};

/// One list of words, or several: a bit for each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Lists(u64);

impl Lists {
    /// What makes a number one of a telephone.
    pub(super) const PHONE: Self = Self(1);
    const NONE: Self = Self(0);

    /// The list of one row of identifiers, by its place among cards and national ones.
    pub(super) fn of_row(place: usize) -> Self {
        Self(2 << place)
    }
}

/// All words, in lower case, and the lists that each is in.
struct Words {
    automaton: AhoCorasick,
    lists: Vec<Lists>,
}

static WORDS: LazyLock<Words> = LazyLock::new(|| {
    let rows = cards::ROWS.iter().chain(national::ROWS);
    let of_rows = rows
        .enumerate()
        .map(|(place, row)| (Lists::of_row(place), row.words));
    let listed = std::iter::once((Lists::PHONE, PHONE_WORDS)).chain(of_rows);
    let (lists, words): (Vec<_>, Vec<_>) = listed
        .flat_map(|(list, words)| words.iter().map(move |word| (list, *word)))
        .unzip();
    let automaton = AhoCorasick::builder()
        .ascii_case_insensitive(true)
        .kind(Some(AhoCorasickKind::DFA))
        .build(words)
        .expect("a few hundred words fit");
    Words { automaton, lists }
});

/// What the 64 bytes before a place say; looked at once, if anybody asks.
pub(super) struct Told<'v, 't> {
    view: &'v View<'t>,
    start: usize,
    lists: OnceCell<Lists>,
}

impl<'v, 't> Told<'v, 't> {
    pub(super) fn before(view: &'v View<'t>, start: usize) -> Self {
        Self {
            view,
            start,
            lists: OnceCell::new(),
        }
    }

    /// Whether a word of the list stands there.
    pub(super) fn has(&self, list: Lists) -> bool {
        self.lists.get_or_init(|| self.read()).0 & list.0 != 0
    }

    fn read(&self) -> Lists {
        let from = self.start.saturating_sub(CONTEXT_BYTES);
        let before = self.view.slice(from, self.start);
        let words = &*WORDS;
        let mut found = Lists::NONE;
        for word in words.automaton.find_overlapping_iter(before) {
            // Where a word begins, not in the middle of another.
            let begins = word.start() == 0 || !before[word.start() - 1].is_ascii_alphanumeric();
            if begins {
                found.0 |= words.lists[word.pattern().as_usize()].0;
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the lists mean, word by word.
    fn is_told(before: &str, words: &[&str]) -> bool {
        let before = before.as_bytes();
        words.iter().any(|word| {
            let word = word.as_bytes();
            before.windows(word.len()).enumerate().any(|(place, one)| {
                one.eq_ignore_ascii_case(word)
                    && (place == 0 || !before[place - 1].is_ascii_alphanumeric())
            })
        })
    }

    #[test]
    fn every_list_is_found_by_each_of_its_words_alone() {
        let rows = cards::ROWS.iter().chain(national::ROWS);
        let lists: Vec<(Lists, &[&str])> = rows
            .enumerate()
            .map(|(place, row)| (Lists::of_row(place), row.words))
            .chain([(Lists::PHONE, PHONE_WORDS)])
            .collect();
        assert!(lists.len() <= 64, "a bit for each");
        let all = lists.iter().flat_map(|(_, words)| words.iter());
        for word in all {
            for text in [
                format!("my {} is ", word.to_ascii_uppercase()),
                format!("{word}: "),
                format!("x{word} "),
                format!("({word}s "),
            ] {
                let view = View::new(text.as_bytes(), true);
                let told = Told::before(&view, text.len());
                for (list, words) in &lists {
                    assert_eq!(told.has(*list), is_told(&text, words), "{text:?} {list:?}");
                }
            }
        }
    }

    #[test]
    fn what_stands_further_away_says_nothing() {
        for (gap, expected) in [(CONTEXT_BYTES - 3, true), (CONTEXT_BYTES - 2, false)] {
            let text = format!("tel{}", " ".repeat(gap));
            let view = View::new(text.as_bytes(), true);
            let told = Told::before(&view, text.len());
            assert_eq!(told.has(Lists::PHONE), expected, "{gap}");
        }
    }
}
