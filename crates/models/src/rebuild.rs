//! The upstream's body, made of slices of the client's and of what the gateway adds.

use bytes::{Bytes, BytesMut};
use smallvec::SmallVec;

use crate::envelope::{Envelope, Field, Kind};
use crate::json::Json;

/// Edits of an envelope's top-level fields. What is not edited passes through byte for byte.
#[derive(Debug)]
pub struct Rebuild<'a> {
    envelope: &'a Envelope,
    /// By index into the envelope's fields, at most one each.
    edits: SmallVec<[(usize, Edit); 6]>,
    added: SmallVec<[(String, Json); 6]>,
}

/// A body in pieces, to be written one after the other.
#[derive(Debug, Clone)]
pub struct RebuiltBody {
    /// The pieces, none of them empty.
    pub chunks: SmallVec<[Bytes; 8]>,
    /// Bytes in all.
    pub len: usize,
}

/// Elements can only be put before those of an array.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the field '{name}' is not an array")]
pub struct NotAnArray {
    /// The field's name.
    pub name: String,
}

#[derive(Debug)]
enum Edit {
    Remove,
    Replace(Json),
    /// These elements come before the array's own.
    Prepend(Vec<Json>),
}

impl<'a> Rebuild<'a> {
    /// Begins with no edit.
    pub fn from(envelope: &'a Envelope) -> Self {
        Self {
            envelope,
            edits: SmallVec::new(),
            added: SmallVec::new(),
        }
    }

    /// Gives a field this value, whether it is there or not.
    pub fn set(&mut self, name: &str, value: impl Into<Json>) -> &mut Self {
        let value = value.into();
        if let Some(index) = self.index(name) {
            self.edit(index, Edit::Replace(value));
        } else if let Some((_, added)) = self.added.iter_mut().find(|(added, _)| added == name) {
            *added = value;
        } else {
            self.added.push((name.to_owned(), value));
        }
        self
    }

    /// Gives a field this value if the client gave none; null is none.
    pub fn default(&mut self, name: &str, value: impl Into<Json>) -> &mut Self {
        let given = match self.index(name) {
            Some(index) => match self.edits.iter().find(|(edited, _)| *edited == index) {
                Some((_, edit)) => !matches!(edit, Edit::Remove),
                None => self.envelope.fields[index].kind != Kind::Null,
            },
            None => self.added.iter().any(|(added, _)| added == name),
        };
        if !given {
            self.set(name, value);
        }
        self
    }

    /// Removes a field, if it is there.
    pub fn remove(&mut self, name: &str) -> &mut Self {
        match self.index(name) {
            Some(index) => self.edit(index, Edit::Remove),
            None => self.added.retain(|(added, _)| added != name),
        }
        self
    }

    /// Puts an element before those that an array has.
    ///
    /// # Errors
    /// The client's field is absent, not an array, or was removed or replaced.
    pub fn prepend_to_array(&mut self, name: &str, element: Json) -> Result<&mut Self, NotAnArray> {
        let error = || NotAnArray {
            name: name.to_owned(),
        };
        let index = self.index(name).ok_or_else(error)?;
        if self.envelope.fields[index].kind != Kind::Array {
            return Err(error());
        }
        let edit = self.edits.iter_mut().find(|(edited, _)| *edited == index);
        match edit.map(|(_, edit)| edit) {
            Some(Edit::Prepend(elements)) => elements.insert(0, element),
            Some(Edit::Remove | Edit::Replace(_)) => return Err(error()),
            None => self.edits.push((index, Edit::Prepend(vec![element]))),
        }
        Ok(self)
    }

    /// The body with all edits made, without a copy of what passes through.
    pub fn finish(&self) -> RebuiltBody {
        let envelope = self.envelope;
        let mut pieces = Pieces::new(&envelope.body);
        pieces.keep(envelope.open, envelope.open + 1);
        let mut previous: Option<usize> = None;
        for (index, field) in envelope.fields.iter().enumerate() {
            let edit = self.edits.iter().find(|(edited, _)| *edited == index);
            let edit = edit.map(|(_, edit)| edit);
            if matches!(edit, Some(Edit::Remove)) {
                continue;
            }
            match previous {
                None if index == 0 => pieces.keep(envelope.open + 1, field.key_start - 1),
                None => {}
                Some(before) if before + 1 == index => {
                    // Their comma and white space, so that a run of kept fields is one slice.
                    pieces.keep(envelope.fields[before].value_end, field.key_start - 1);
                }
                Some(_) => pieces.add(b","),
            }
            self.write_field(&mut pieces, field, edit);
            previous = Some(index);
        }
        for (index, (name, value)) in self.added.iter().enumerate() {
            if index > 0 || previous.is_some() {
                pieces.add(b",");
            }
            pieces.add(Json::from(name.as_str()).as_bytes());
            pieces.add(b":");
            pieces.add_bytes(value.as_bytes());
        }
        if self.added.is_empty() {
            // The client's own white space, so that a kept end is one slice too.
            match (previous, envelope.fields.last()) {
                (Some(before), Some(last)) if before + 1 == envelope.fields.len() => {
                    pieces.keep(last.value_end, envelope.close);
                }
                (_, None) => pieces.keep(envelope.open + 1, envelope.close),
                _ => {}
            }
        }
        pieces.keep(envelope.close, envelope.close + 1);
        pieces.finish()
    }

    fn write_field(&self, pieces: &mut Pieces<'_>, field: &Field, edit: Option<&Edit>) {
        pieces.keep(field.key_start - 1, field.value_start);
        match edit {
            None | Some(Edit::Remove) => pieces.keep(field.value_start, field.value_end),
            Some(Edit::Replace(value)) => pieces.add_bytes(value.as_bytes()),
            Some(Edit::Prepend(elements)) => {
                pieces.keep(field.value_start, field.value_start + 1);
                for (index, element) in elements.iter().enumerate() {
                    if index > 0 {
                        pieces.add(b",");
                    }
                    pieces.add_bytes(element.as_bytes());
                }
                if field.tally.items > 0 {
                    pieces.add(b",");
                }
                pieces.keep(field.value_start + 1, field.value_end);
            }
        }
    }

    fn index(&self, name: &str) -> Option<usize> {
        self.envelope.position(name)
    }

    fn edit(&mut self, index: usize, edit: Edit) {
        self.edits.retain(|(edited, _)| *edited != index);
        self.edits.push((index, edit));
    }
}

impl RebuiltBody {
    /// The body in one piece: a copy, unless it is one already.
    pub fn to_bytes(&self) -> Bytes {
        if let [only] = self.chunks.as_slice() {
            return only.clone();
        }
        let mut whole = BytesMut::with_capacity(self.len);
        for chunk in &self.chunks {
            whole.extend_from_slice(chunk);
        }
        whole.freeze()
    }
}

/// Collects slices of the client's body and bytes of the gateway's, as few pieces as possible.
struct Pieces<'a> {
    body: &'a Bytes,
    chunks: SmallVec<[Bytes; 8]>,
    /// The slice being extended; empty while `own` is not.
    kept: (u32, u32),
    own: BytesMut,
}

/// 1,024: below this a copy is cheaper than another piece to write.
const COPY_BYTES_MAX: usize = 1024;

impl<'a> Pieces<'a> {
    fn new(body: &'a Bytes) -> Self {
        Self {
            body,
            chunks: SmallVec::new(),
            kept: (0, 0),
            own: BytesMut::new(),
        }
    }

    fn keep(&mut self, start: u32, end: u32) {
        if start == end {
            return;
        }
        self.flush_own();
        if self.kept.1 != start {
            self.flush_kept();
            self.kept.0 = start;
        }
        self.kept.1 = end;
    }

    fn add(&mut self, bytes: &[u8]) {
        self.flush_kept();
        self.own.extend_from_slice(bytes);
    }

    fn add_bytes(&mut self, bytes: &Bytes) {
        if bytes.len() <= COPY_BYTES_MAX {
            return self.add(bytes);
        }
        self.flush_kept();
        self.flush_own();
        self.chunks.push(bytes.clone());
    }

    fn flush_kept(&mut self) {
        let (start, end) = std::mem::take(&mut self.kept);
        if start < end {
            self.chunks
                .push(self.body.slice(start as usize..end as usize));
        }
    }

    fn flush_own(&mut self) {
        if !self.own.is_empty() {
            self.chunks.push(self.own.split().freeze());
        }
    }

    fn finish(mut self) -> RebuiltBody {
        self.flush_kept();
        self.flush_own();
        RebuiltBody {
            len: self.chunks.iter().map(Bytes::len).sum(),
            chunks: self.chunks,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scan::Bounds;

    fn envelope(text: &'static str) -> Envelope {
        Envelope::parse(Bytes::from_static(text.as_bytes()), &Bounds::default()).unwrap()
    }

    fn check(text: &'static str, edit: impl Fn(&mut Rebuild<'_>), expected: &str) {
        let envelope = envelope(text);
        let mut rebuild = Rebuild::from(&envelope);
        edit(&mut rebuild);
        let rebuilt = rebuild.finish();
        assert_eq!(rebuilt.to_bytes(), expected);
        assert_eq!(rebuilt.len, expected.len());
        assert!(rebuilt.chunks.iter().all(|chunk| !chunk.is_empty()));
    }

    #[test]
    fn fields_are_set_removed_and_added() {
        let text = r#" { "a": 1 , "b":[ ], "c":null } "#;
        check(text, |_| {}, r#"{ "a": 1 , "b":[ ], "c":null }"#);
        let set_a = |rebuild: &mut Rebuild<'_>| {
            rebuild.set("a", "x").set("z", 2).set("z", 3);
        };
        check(text, set_a, r#"{ "a": "x" , "b":[ ], "c":null,"z":3}"#);
        let remove = |rebuild: &mut Rebuild<'_>| {
            rebuild.remove("b").remove("nothing");
        };
        check(text, remove, r#"{ "a": 1,"c":null }"#);
        let remove_all = |rebuild: &mut Rebuild<'_>| {
            rebuild.remove("a").remove("b").remove("c").set("d", true);
        };
        check(text, remove_all, r#"{"d":true}"#);
        check("{}", |_| {}, "{}");
    }

    #[test]
    fn defaults_yield_to_what_is_given() {
        let edit = |rebuild: &mut Rebuild<'_>| {
            rebuild.default("a", 9).default("c", 9).default("z", 9);
            rebuild.remove("a").default("a", 8);
        };
        check(r#"{"a":1,"c":null}"#, edit, r#"{"a":8,"c":9,"z":9}"#);
    }

    #[test]
    fn elements_come_first() {
        let edit = |rebuild: &mut Rebuild<'_>| {
            rebuild.prepend_to_array("m", Json::from(1)).unwrap();
            rebuild.prepend_to_array("m", Json::from(0)).unwrap();
            rebuild.prepend_to_array("e", Json::from(2)).unwrap();
            assert!(rebuild.prepend_to_array("x", Json::from(2)).is_err());
            assert!(rebuild.prepend_to_array("none", Json::from(2)).is_err());
        };
        check(
            r#"{"m":[ 5 ],"e":[ ],"x":1}"#,
            edit,
            r#"{"m":[0,1, 5 ],"e":[2 ],"x":1}"#,
        );
    }

    #[test]
    fn what_passes_through_is_not_copied() {
        let text = r#"{"a":1,"model":"x","b":[1,2,3],"c":"long"}"#;
        let envelope = envelope(text);
        let mut rebuild = Rebuild::from(&envelope);
        rebuild.set("model", "y");
        let rebuilt = rebuild.finish();
        assert_eq!(rebuilt.chunks.len(), 3);
        let body = envelope.body().as_ptr_range();
        let own = rebuilt
            .chunks
            .iter()
            .map(|chunk| body.contains(&chunk.as_ptr()));
        assert_eq!(own.collect::<Vec<_>>(), [true, false, true]);
    }
}
