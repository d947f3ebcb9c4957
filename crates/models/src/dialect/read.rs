//! Reading JSON with its place in mind, so that whatever is refused is refused by name.

use std::fmt;

use bytes::Bytes;
use serde_json::Number;

use super::{UnreadableAnswer, Untranslatable};
use crate::envelope::Kind;
use crate::json::Json;
use crate::raw::Raw;

/// A value that is not what it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Misread {
    /// Where: `messages.0.content.1.type`.
    pub(crate) place: String,
    /// What is wrong with it, as half a sentence.
    pub(crate) why: String,
}

/// A value and where it stands. The bytes are known to be valid JSON.
#[derive(Debug, Clone, Copy)]
pub(crate) struct At<'a> {
    pub(crate) raw: Raw<'a>,
    step: Step<'a>,
    parent: Option<&'a At<'a>>,
}

#[derive(Debug, Clone, Copy)]
enum Step<'a> {
    Root,
    Field(&'a str),
    Index(usize),
}

impl<'a> At<'a> {
    /// A whole body.
    pub(crate) fn root(raw: Raw<'a>) -> Self {
        Self {
            raw,
            step: Step::Root,
            parent: None,
        }
    }

    /// A top-level field of a body.
    pub(crate) fn field(name: &'a str, raw: Raw<'a>) -> Self {
        Self {
            step: Step::Field(name),
            ..Self::root(raw)
        }
    }

    /// Calls `read` with each field that is not null: null says nothing. A field that occurs
    /// twice is read twice.
    pub(crate) fn object<E: From<Misread>>(
        &self,
        mut read: impl FnMut(&str, At<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        if self.kind() != Kind::Object {
            return Err(self.wrong("an object").into());
        }
        for (key, raw) in self.raw.fields() {
            if raw.kind() != Some(Kind::Null) {
                let name = key.decode();
                read(
                    &name,
                    At {
                        raw,
                        step: Step::Field(&name),
                        parent: Some(self),
                    },
                )?;
            }
        }
        Ok(())
    }

    /// Calls `read` with each element.
    pub(crate) fn array<E: From<Misread>>(
        &self,
        mut read: impl FnMut(At<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        if self.kind() != Kind::Array {
            return Err(self.wrong("an array").into());
        }
        for (index, raw) in self.raw.elements().enumerate() {
            read(At {
                raw,
                step: Step::Index(index),
                parent: Some(self),
            })?;
        }
        Ok(())
    }

    /// A field, if it is there and not null. Of several the last.
    pub(crate) fn get<'b>(&'b self, name: &'b str) -> Option<At<'b>> {
        let raw = self.raw.get(name)?;
        (raw.kind() != Some(Kind::Null)).then_some(At {
            raw,
            step: Step::Field(name),
            parent: Some(self),
        })
    }

    /// A field that must be there.
    pub(crate) fn need<'b>(&'b self, name: &'b str) -> Result<At<'b>, Misread> {
        self.get(name).ok_or_else(|| Misread {
            place: format!("{self}{}{name}", if self.is_root() { "" } else { "." }),
            why: "is missing".to_owned(),
        })
    }

    pub(crate) fn kind(&self) -> Kind {
        self.raw.kind().unwrap_or(Kind::Null)
    }

    pub(crate) fn text(&self) -> Result<String, Misread> {
        let text = self.raw.as_str().ok_or_else(|| self.wrong("a string"))?;
        Ok(text.into_owned())
    }

    pub(crate) fn bool(&self) -> Result<bool, Misread> {
        self.raw.as_bool().ok_or_else(|| self.wrong("a boolean"))
    }

    /// An integer of 0 or more.
    pub(crate) fn u64(&self) -> Result<u64, Misread> {
        self.raw
            .as_u64()
            .ok_or_else(|| self.wrong("an integer of 0 or more"))
    }

    /// Any number, as written.
    pub(crate) fn number(&self) -> Result<Number, Misread> {
        match self.kind() {
            Kind::Number => serde_json::from_slice(self.raw.bytes())
                .map_err(|_| self.refuse("is a number that no reader can hold")),
            _ => Err(self.wrong("a number")),
        }
    }

    /// The value as it is written.
    pub(crate) fn json(&self) -> Json {
        Json::valid(Bytes::copy_from_slice(self.raw.bytes()))
    }

    /// The value as it is written, if it is an object.
    pub(crate) fn json_object(&self) -> Result<Json, Misread> {
        match self.kind() {
            Kind::Object => Ok(self.json()),
            _ => Err(self.wrong("an object")),
        }
    }

    /// Whether an array, object or string has nothing in it.
    pub(crate) fn is_empty(&self) -> bool {
        match self.kind() {
            Kind::Array => self.raw.elements().next().is_none(),
            Kind::Object => self.raw.fields().next().is_none(),
            Kind::String => self.raw.bytes() == b"\"\"",
            _ => false,
        }
    }

    /// One of these words, by its index.
    pub(crate) fn word<T: Copy>(&self, words: &[(&str, T)]) -> Result<T, Misread> {
        let text = self.text()?;
        let known = words.iter().find(|(word, _)| *word == text);
        known.map(|(_, meaning)| *meaning).ok_or_else(|| {
            let words: Vec<_> = words.iter().map(|(word, _)| format!("'{word}'")).collect();
            self.refuse(format!("must be one of {}", words.join(", ")))
        })
    }

    /// That this value cannot be taken.
    pub(crate) fn refuse(&self, why: impl Into<String>) -> Misread {
        Misread {
            place: self.to_string(),
            why: why.into(),
        }
    }

    /// That this field means nothing here.
    pub(crate) fn unknown(&self) -> Misread {
        self.refuse("is not known and cannot be translated: remove it")
    }

    fn wrong(&self, expected: &str) -> Misread {
        let got = self.kind().with_article();
        self.refuse(format!("must be {expected}, and is {got}"))
    }

    fn is_root(&self) -> bool {
        matches!(self.step, Step::Root)
    }
}

impl fmt::Display for At<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(parent) = self.parent {
            write!(f, "{parent}")?;
            if !parent.is_root() {
                f.write_str(".")?;
            }
        }
        match self.step {
            Step::Root => Ok(()),
            Step::Field(name) => f.write_str(&name[..name.floor_char_boundary(64)]),
            Step::Index(index) => write!(f, "{index}"),
        }
    }
}

impl From<Misread> for Untranslatable {
    fn from(misread: Misread) -> Self {
        Self {
            field: misread.place,
            why: misread.why,
        }
    }
}

impl From<Misread> for UnreadableAnswer {
    fn from(misread: Misread) -> Self {
        Self::new(format!("'{}' {}", misread.place, misread.why))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_misread_value_says_where_it_stands() {
        let body = br#"{"a":[{"b":1,"n":null},{"b":"x"}]}"#;
        let root = At::root(Raw::new(body));
        let mut texts = Vec::new();
        let read = root.object(|_, a| {
            a.array(|element| {
                element.object(|name, value| {
                    assert_eq!(name, "b");
                    texts.push(value.text()?);
                    Ok::<_, Misread>(())
                })
            })
        });
        let misread = read.unwrap_err();
        assert_eq!(misread.place, "a.0.b");
        assert_eq!(misread.why, "must be a string, and is a number");
        assert_eq!(root.need("z").unwrap_err().place, "z");
        let first = root.need("a").unwrap();
        assert_eq!(first.need("y").unwrap_err().place, "a.y");
    }
}
