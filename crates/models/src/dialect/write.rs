//! Writing JSON in a fixed order, with whole values spliced in as they were written.

use serde::Serialize;

use crate::json::Json;
use crate::raw::Raw;

/// Writes the fields of one object.
#[derive(Debug)]
pub(crate) struct ObjectWriter<'a> {
    out: &'a mut Vec<u8>,
    any: bool,
}

/// Writes the elements of one array.
#[derive(Debug)]
pub(crate) struct ArrayWriter<'a> {
    out: &'a mut Vec<u8>,
    any: bool,
}

/// One whole object.
pub(crate) fn object<T>(out: &mut Vec<u8>, write: impl FnOnce(&mut ObjectWriter<'_>) -> T) -> T {
    out.push(b'{');
    let result = write(&mut ObjectWriter { out, any: false });
    out.push(b'}');
    result
}

/// One whole array.
pub(crate) fn array<T>(out: &mut Vec<u8>, write: impl FnOnce(&mut ArrayWriter<'_>) -> T) -> T {
    out.push(b'[');
    let result = write(&mut ArrayWriter { out, any: false });
    out.push(b']');
    result
}

fn value(out: &mut Vec<u8>, value: &(impl Serialize + ?Sized)) {
    serde_json::to_writer(out, value).expect("texts and numbers always have a JSON form");
}

impl ObjectWriter<'_> {
    /// A text, number or truth value.
    pub(crate) fn set(&mut self, name: &str, is: impl Serialize) -> &mut Self {
        value(self.key(name), &is);
        self
    }

    /// The same, if there is one.
    pub(crate) fn maybe(&mut self, name: &str, is: Option<impl Serialize>) -> &mut Self {
        if let Some(is) = is {
            self.set(name, is);
        }
        self
    }

    /// `null`
    pub(crate) fn null(&mut self, name: &str) -> &mut Self {
        self.key(name).extend_from_slice(b"null");
        self
    }

    /// A value as it is written.
    pub(crate) fn json(&mut self, name: &str, is: &Json) -> &mut Self {
        self.key(name).extend_from_slice(is.as_bytes());
        self
    }

    /// The same, if there is one.
    pub(crate) fn maybe_json(&mut self, name: &str, is: Option<&Json>) -> &mut Self {
        if let Some(is) = is {
            self.json(name, is);
        }
        self
    }

    /// A value that is known to be valid, as it is written.
    pub(crate) fn raw(&mut self, name: &str, is: Raw<'_>) -> &mut Self {
        self.key(name).extend_from_slice(is.bytes());
        self
    }

    pub(crate) fn object<T>(
        &mut self,
        name: &str,
        write: impl FnOnce(&mut ObjectWriter<'_>) -> T,
    ) -> T {
        object(self.key(name), write)
    }

    pub(crate) fn array<T>(
        &mut self,
        name: &str,
        write: impl FnOnce(&mut ArrayWriter<'_>) -> T,
    ) -> T {
        array(self.key(name), write)
    }

    fn key(&mut self, name: &str) -> &mut Vec<u8> {
        if std::mem::replace(&mut self.any, true) {
            self.out.push(b',');
        }
        value(self.out, name);
        self.out.push(b':');
        self.out
    }
}

impl ArrayWriter<'_> {
    /// A text, number or truth value.
    pub(crate) fn push(&mut self, is: impl Serialize) {
        value(self.next(), &is);
    }

    /// A value as it is written.
    pub(crate) fn json(&mut self, is: &Json) {
        self.next().extend_from_slice(is.as_bytes());
    }

    pub(crate) fn object<T>(&mut self, write: impl FnOnce(&mut ObjectWriter<'_>) -> T) -> T {
        object(self.next(), write)
    }

    fn next(&mut self) -> &mut Vec<u8> {
        if std::mem::replace(&mut self.any, true) {
            self.out.push(b',');
        }
        self.out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_keep_their_order_and_their_spelling() {
        let mut out = Vec::new();
        object(&mut out, |body| {
            body.set("z", "a\"b").maybe("y", None::<u64>).set("x", 1);
            body.json("raw", &Json::parse("[ 1.50 ]".into()).unwrap());
            body.array("list", |list| {
                list.json(&Json::from(true));
                list.object(|inner| inner.null("n").set("m", 2).any);
            });
        });
        let text = String::from_utf8(out).unwrap();
        assert_eq!(
            text,
            r#"{"z":"a\"b","x":1,"raw":[ 1.50 ],"list":[true,{"n":null,"m":2}]}"#
        );
    }
}
