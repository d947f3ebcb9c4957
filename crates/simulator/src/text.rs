//! The texts that the engine answers: words that a seed draws, or a given text, cut into tokens.

use memchr::memmem;

use crate::tokens::{Draw, digest, token_ends};

/// Tokens of one choice at most. 65,536: as long as the longest answers that providers give.
pub(crate) const OUTPUT_TOKENS_MAX: u32 = 65_536;

/// The text of one choice and how it came to its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Output {
    /// All that a client sees.
    pub(crate) text: String,
    /// Where each visible token ends in `text`.
    ends: Vec<u32>,
    /// Tokens that were made, those hidden by a stop sequence included.
    pub(crate) tokens: u32,
    /// Why it ended.
    pub(crate) finish: Finish,
    /// What it is.
    kind: Kind,
    /// What this choice's ids and probabilities follow from.
    pub(crate) seed: u64,
}

/// What an output is.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Kind {
    Thought,
    Said,
    /// The arguments of this tool's call.
    Call(String),
}

/// Why an output ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Finish {
    /// It had said all.
    Stop,
    /// It met this stop sequence.
    Sequence(String),
    /// It met the maximum of tokens.
    Length,
    /// It calls a tool.
    ToolCalls,
    /// The provider's filter ended it.
    Filtered,
}

/// What an output shall say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Script {
    /// So many words.
    Words(u32),
    /// This text.
    Text(String),
    /// So many words, thought and not said.
    Thought(u32),
    /// A call of `tool` with `arguments`.
    Call {
        /// The tool's name.
        tool: String,
        /// JSON.
        arguments: String,
    },
}

/// Where an output ends at the latest.
#[derive(Debug, Clone, Default)]
pub(crate) struct Bounds {
    /// The request's maximum of tokens.
    pub(crate) limit: Option<u32>,
    /// Tokens to go beyond it, by the fault `overrun`.
    pub(crate) overrun_tokens: u32,
    /// Texts before which it ends.
    pub(crate) stops: Vec<String>,
}

impl Output {
    /// Writes what `script` says, within `bounds`.
    pub(crate) fn write(script: Script, bounds: &Bounds, seed: u64) -> Self {
        let mut output = Self {
            text: String::new(),
            ends: Vec::new(),
            tokens: 0,
            finish: Finish::Stop,
            kind: Kind::Said,
            seed,
        };
        let natural = match script {
            Script::Words(count) => count,
            Script::Text(text) => output.set_text(text),
            Script::Thought(count) => {
                output.kind = Kind::Thought;
                count
            }
            Script::Call { tool, arguments } => {
                output.kind = Kind::Call(tool);
                output.finish = Finish::ToolCalls;
                output.set_text(arguments)
            }
        };
        let mut length = natural.min(OUTPUT_TOKENS_MAX);
        if let Some(limit) = bounds.limit.filter(|&limit| limit < length) {
            length = limit;
            output.finish = Finish::Length;
        }
        if bounds.overrun_tokens > 0 {
            let base = bounds.limit.unwrap_or(length);
            length = base.saturating_add(bounds.overrun_tokens);
            length = length.min(OUTPUT_TOKENS_MAX);
            output.finish = Finish::Length;
        }
        output.set_tokens(length as usize);
        output.stop_before(&bounds.stops);
        output
    }

    /// The tool whose arguments the text is, if it is a call's.
    pub(crate) fn tool(&self) -> Option<&str> {
        match &self.kind {
            Kind::Call(tool) => Some(tool),
            Kind::Thought | Kind::Said => None,
        }
    }

    /// Whether the text is thought.
    pub(crate) fn is_thought(&self) -> bool {
        self.kind == Kind::Thought
    }

    /// Whether the text is said.
    pub(crate) fn is_said(&self) -> bool {
        self.kind == Kind::Said
    }

    /// How many tokens a client sees.
    pub(crate) fn visible_tokens(&self) -> usize {
        self.ends.len()
    }

    /// Where in the text a visible token begins.
    pub(crate) fn offset(&self, token: usize) -> usize {
        token
            .checked_sub(1)
            .map_or(0, |before| self.ends[before] as usize)
    }

    /// The text of a visible token.
    pub(crate) fn token(&self, token: usize) -> &str {
        &self.text[self.offset(token)..self.ends[token] as usize]
    }

    /// The log probability of a visible token, and the `count` most likely words in its place,
    /// itself first.
    pub(crate) fn log_probabilities(&self, token: usize, count: usize) -> (f64, Vec<(&str, f64)>) {
        let mut draw = Draw::new(digest(self.seed, &token.to_le_bytes()));
        let mut next_loss = || (draw.below(1_000) + 1) as f64 / 1_000.0;
        let chosen = -next_loss();
        let mut likely = vec![(self.token(token), chosen)];
        let mut log_probability = chosen;
        let first = digest(self.seed, &token.to_be_bytes()) as usize % WORDS.len();
        for word in WORDS.iter().cycle().skip(first) {
            if likely.len() >= count {
                break;
            }
            if *word != likely[0].0.trim() {
                log_probability -= next_loss();
                likely.push((word, log_probability));
            }
        }
        likely.truncate(count);
        (chosen, likely)
    }

    fn set_text(&mut self, text: String) -> u32 {
        self.ends = token_ends(&text);
        self.text = text;
        u32::try_from(self.ends.len()).unwrap_or(u32::MAX)
    }

    /// Cuts what is longer than `count` tokens, and fills with words what is shorter.
    fn set_tokens(&mut self, count: usize) {
        self.ends.truncate(count);
        self.text.truncate(self.offset(self.ends.len()));
        self.tokens = count as u32;
        let missing = count - self.ends.len();
        // Seven letters, a space and now and then a stop.
        self.text.reserve(missing * 8);
        self.ends.reserve(missing);
        let mut words = Words::new(self.seed);
        for _ in 0..missing {
            words.write_next(&mut self.text);
            self.ends.push(self.text.len() as u32);
        }
    }

    /// Ends the text before the first of `stops`. The tokens up to the stop's end were made.
    fn stop_before(&mut self, stops: &[String]) {
        let first = stops
            .iter()
            .filter_map(|stop| {
                let start = memmem::find(self.text.as_bytes(), stop.as_bytes())?;
                Some((start, start + stop.len(), stop))
            })
            .min();
        let Some((start, end, stop)) = first else {
            return;
        };
        let made = self.ends.partition_point(|&before| (before as usize) < end) + 1;
        self.tokens = made as u32;
        self.text.truncate(start);
        let whole = self
            .ends
            .partition_point(|&before| before as usize <= start);
        self.ends.truncate(whole);
        if self.offset(whole) < start {
            self.ends.push(start as u32);
        }
        self.finish = Finish::Sequence(stop.clone());
    }
}

/// Words without end, in sentences.
struct Words {
    draw: Draw,
    left_in_sentence: usize,
    is_first: bool,
}

impl Words {
    fn new(seed: u64) -> Self {
        Self {
            draw: Draw::new(seed),
            left_in_sentence: 0,
            is_first: true,
        }
    }

    /// Appends one word, with the space before it and the stop after a sentence's last.
    fn write_next(&mut self, text: &mut String) {
        let word = WORDS[self.draw.below(WORDS.len())];
        if !self.is_first {
            text.push(' ');
        }
        self.is_first = false;
        if self.left_in_sentence == 0 {
            self.left_in_sentence = 5 + self.draw.below(8);
            let (initial, rest) = word.split_at(1);
            text.push_str(&initial.to_ascii_uppercase());
            text.push_str(rest);
        } else {
            text.push_str(word);
        }
        self.left_in_sentence -= 1;
        if self.left_in_sentence == 0 {
            text.push('.');
        }
    }
}

/// A few words that a seed draws, as one text: for the strings inside JSON.
pub(crate) fn phrase(draw: &mut Draw, words: usize) -> String {
    let mut text = String::new();
    for at in 0..words {
        if at > 0 {
            text.push(' ');
        }
        text.push_str(WORDS[draw.below(WORDS.len())]);
    }
    text
}

/// The words of all texts: ASCII, lower case.
#[rustfmt::skip]
pub(crate) const WORDS: [&str; 96] = [
    "the", "a", "wall", "house", "river", "stone", "quiet", "garden", "morning", "letter", "window",
    "bridge", "market", "harbour", "lantern", "paper", "answer", "question", "number", "shadow",
    "winter", "summer", "and", "or", "but", "with", "under", "over", "between", "behind", "beside",
    "through", "carries", "holds", "opens", "closes", "keeps", "finds", "follows", "measures",
    "counts", "builds", "divides", "shares", "small", "large", "bright", "narrow", "steady",
    "careful", "plain", "early", "late", "slowly", "often", "never", "again", "always", "this",
    "that", "each", "every", "one", "two", "three", "many", "few", "road", "field", "forest",
    "island", "signal", "engine", "copper", "silver", "timber", "cloud", "rain", "wind", "light",
    "time", "hour", "night", "day", "people", "neighbour", "visitor", "keeper", "writer", "reader",
    "table", "door", "roof", "floor", "corner", "key",
];

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn bounds(limit: Option<u32>, overrun_tokens: u32, stops: &[&str]) -> Bounds {
        Bounds {
            limit,
            overrun_tokens,
            stops: stops.iter().map(|&stop| stop.to_owned()).collect(),
        }
    }

    #[test]
    fn a_limit_cuts_and_an_overrun_ignores_it() {
        let cut = Output::write(Script::Words(10), &bounds(Some(4), 0, &[]), 1);
        assert_eq!((cut.tokens, cut.finish), (4, Finish::Length));
        let exact = Output::write(Script::Words(4), &bounds(Some(4), 0, &[]), 1);
        assert_eq!((exact.tokens, exact.finish), (4, Finish::Stop));
        let over = Output::write(Script::Words(2), &bounds(Some(4), 100, &[]), 1);
        assert_eq!((over.tokens, over.finish), (104, Finish::Length));
        assert_eq!(over.text.split(' ').count(), 104);
    }

    #[test]
    fn a_stop_hides_the_rest_but_its_tokens_were_made() {
        let script = Script::Text("one two three".into());
        let output = Output::write(script, &bounds(None, 0, &["e", "o t"]), 1);
        // Tokens are "one ", "two ", "thre", "e": "e" comes first, in the first token.
        assert_eq!((output.text.as_str(), output.tokens), ("on", 1));
        assert_eq!(output.finish, Finish::Sequence("e".into()));
        let script = Script::Text("one two three".into());
        let output = Output::write(script, &bounds(None, 0, &["o t"]), 1);
        assert_eq!((output.text.as_str(), output.tokens), ("one tw", 3));
        assert_eq!((output.token(0), output.token(1)), ("one ", "tw"));
    }

    #[test]
    fn log_probabilities_fall() {
        let output = Output::write(Script::Words(3), &Bounds::default(), 9);
        let (chosen, likely) = output.log_probabilities(1, 5);
        assert_eq!(likely.len(), 5);
        assert_eq!(likely[0].0, output.token(1));
        assert!(chosen < 0.0 && likely.windows(2).all(|pair| pair[0].1 > pair[1].1));
        assert!(output.log_probabilities(1, 0).1.is_empty());
    }

    proptest! {
        #[test]
        fn tokens_make_up_the_text(
            words in 0_u32..60, limit in prop::option::of(0_u32..80), seed: u64, stop in "[a-z]{0,2}",
        ) {
            let stops: Vec<&str> = Some(stop.as_str()).filter(|stop| !stop.is_empty()).into_iter().collect();
            let output = Output::write(Script::Words(words), &bounds(limit, 0, &stops), seed);
            let joined: String = (0..output.visible_tokens()).map(|at| output.token(at)).collect();
            prop_assert_eq!(&joined, &output.text);
            prop_assert!(output.visible_tokens() <= output.tokens as usize);
            prop_assert!(output.tokens <= words);
            prop_assert!(stops.iter().all(|stop| !joined.contains(stop)));
        }
    }
}
