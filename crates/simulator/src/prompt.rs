//! Prompts: the bytes that an engine would turn into tokens, and the ways a request gives them.

use serde::Deserialize;

use crate::text::WORDS;
use crate::tokens::{TOKEN_BYTES, digest, tokens_in};

/// Tokens that an image counts. 85: what OpenAI charges for one at low detail.
pub(crate) const IMAGE_TOKENS: usize = 85;

/// What the engine reads, rendered into one run of bytes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Prompt {
    bytes: Vec<u8>,
}

impl Prompt {
    /// An empty prompt with room for so many bytes.
    pub(crate) fn with_capacity(bytes: usize) -> Self {
        Self {
            bytes: Vec::with_capacity(bytes),
        }
    }

    /// Appends text.
    pub(crate) fn push(&mut self, text: &str) {
        self.bytes.extend_from_slice(text.as_bytes());
    }

    /// Appends an image, known by what the request says of it: always [`IMAGE_TOKENS`], and
    /// different bytes for different images.
    pub(crate) fn push_image(&mut self, description: &str) {
        let mark = digest(0, description.as_bytes()).to_le_bytes();
        self.bytes
            .extend(mark.iter().cycle().take(IMAGE_TOKENS * TOKEN_BYTES));
    }

    /// How many tokens it has.
    pub(crate) fn tokens(&self) -> usize {
        tokens_in(self.bytes.len())
    }

    /// How long it is by now, in bytes: where a part of it ends.
    pub(crate) fn end(&self) -> usize {
        self.bytes.len()
    }

    /// The bytes, for the prefix cache.
    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// What texts follow from, together with `seed`.
    pub(crate) fn digest(&self, seed: u64) -> u64 {
        digest(seed, &self.bytes)
    }
}

/// A prompt or an embedding's input as requests give it: a text, token ids, or a list of either.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub(crate) enum Input {
    /// One text.
    Text(String),
    /// One text, as token ids.
    Ids(Vec<u32>),
    /// Several texts.
    Texts(Vec<String>),
    /// Several texts, as token ids.
    IdLists(Vec<Vec<u32>>),
}

/// One of the texts of an [`Input`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum InputItem {
    /// As text.
    Text(String),
    /// As token ids.
    Ids(Vec<u32>),
}

impl Input {
    /// Its texts, in order.
    pub(crate) fn into_items(self) -> Vec<InputItem> {
        match self {
            Self::Text(text) => vec![InputItem::Text(text)],
            // An empty list says nothing at all, not one empty text.
            Self::Ids(ids) if ids.is_empty() => Vec::new(),
            Self::Ids(ids) => vec![InputItem::Ids(ids)],
            Self::Texts(texts) => texts.into_iter().map(InputItem::Text).collect(),
            Self::IdLists(lists) => lists.into_iter().map(InputItem::Ids).collect(),
        }
    }
}

impl InputItem {
    /// As the engine reads it: an id is a token.
    pub(crate) fn to_prompt(&self) -> Prompt {
        match self {
            Self::Text(text) => Prompt {
                bytes: text.as_bytes().to_vec(),
            },
            Self::Ids(ids) => Prompt {
                bytes: ids.iter().flat_map(|id| id.to_le_bytes()).collect(),
            },
        }
    }

    /// As a person reads it. The tokenizer has no vocabulary, so ids stand for some words.
    pub(crate) fn to_text(&self) -> String {
        match self {
            Self::Text(text) => text.clone(),
            Self::Ids(ids) => ids
                .iter()
                .map(|&id| WORDS[id as usize % WORDS.len()])
                .collect::<Vec<_>>()
                .join(" "),
        }
    }

    /// The text in which markers are looked for; ids have none.
    pub(crate) fn marked_text(&self) -> &str {
        match self {
            Self::Text(text) => text,
            Self::Ids(_) => "",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inputs_come_in_four_shapes() {
        let items = |json| -> Vec<usize> {
            let input = serde_json::from_str::<Input>(json);
            let items = input.map(Input::into_items).unwrap_or_default();
            items.iter().map(|item| item.to_prompt().tokens()).collect()
        };
        let none: Vec<usize> = vec![];
        assert_eq!(items(r#""12345""#), [2]);
        assert_eq!(items(r#"["12345","1"]"#), [2, 1]);
        assert_eq!(items("[1,2,3]"), [3]);
        assert_eq!(items("[[1,2,3],[4]]"), [3, 1]);
        assert_eq!(items("[]"), none);
        assert_eq!(items("7"), none);
    }

    #[test]
    fn an_image_counts_its_tokens_whatever_it_shows() {
        let mut one = Prompt::default();
        one.push_image("https://example.com/1.png");
        let mut other = Prompt::default();
        other.push_image("data:image/png;base64,AAAA");
        assert_eq!((one.tokens(), other.tokens()), (IMAGE_TOKENS, IMAGE_TOKENS));
        assert_ne!(one, other);
    }
}
