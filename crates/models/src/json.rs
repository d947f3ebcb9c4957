//! A JSON value that is valid because it cannot be made otherwise.

use bytes::Bytes;
use serde::Serialize;

use crate::raw::Raw;
use crate::scan::{self, BodyError};

/// The text of one valid JSON value. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Json(Bytes);

impl Json {
    /// Checks a text, which is kept as it is.
    ///
    /// # Errors
    /// It is not one JSON value.
    pub fn parse(text: Bytes) -> Result<Self, BodyError> {
        scan::check_value(&text)?;
        Ok(Self(text))
    }

    /// Writes any value.
    ///
    /// # Errors
    /// The value's own `Serialize` failed, or it has keys that are not strings.
    pub fn of<T: Serialize + ?Sized>(value: &T) -> Result<Self, serde_json::Error> {
        serde_json::to_vec(value).map(|text| Self(text.into()))
    }

    /// The text.
    pub fn as_bytes(&self) -> &Bytes {
        &self.0
    }

    /// The value, to be walked.
    pub fn raw(&self) -> Raw<'_> {
        Raw::new(&self.0)
    }

    /// Text that is known to be valid.
    pub(crate) fn valid(text: impl Into<Bytes>) -> Self {
        Self(text.into())
    }
}

impl From<bool> for Json {
    fn from(value: bool) -> Self {
        Self(Bytes::from_static(if value { b"true" } else { b"false" }))
    }
}

impl From<u64> for Json {
    fn from(value: u64) -> Self {
        Self(value.to_string().into())
    }
}

impl From<&str> for Json {
    fn from(value: &str) -> Self {
        Self::of(value).expect("text always has a JSON form")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_json_is_taken() {
        for good in ["1", " {\"a\":[]} ", "\"x\"", "null"] {
            assert!(Json::parse(Bytes::from_static(good.as_bytes())).is_ok());
        }
        for bad in ["", "1,", "{}{}", "'a'", "nul", "[1"] {
            assert!(Json::parse(Bytes::from_static(bad.as_bytes())).is_err());
        }
        assert_eq!(Json::from("a\"b").as_bytes(), r#""a\"b""#);
        assert_eq!(Json::from(7).as_bytes(), "7");
        assert_eq!(Json::from(true).as_bytes(), "true");
    }
}
