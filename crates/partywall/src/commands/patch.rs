//! Changing one part of a specification.

use std::str::FromStr;

use serde_json::{Map, Value};

/// `--set path=value`: the value is JSON if it parses as such, and text if not.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Assignment {
    path: Vec<String>,
    value: Value,
}

impl FromStr for Assignment {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (path, value) = text
            .split_once('=')
            .filter(|(path, _)| path.split('.').all(|part| !part.is_empty()))
            .ok_or("write PATH=VALUE, such as timeouts.connect_ms=2000")?;
        Ok(Self {
            path: path.split('.').map(str::to_owned).collect(),
            value: serde_json::from_str(value).unwrap_or_else(|_| Value::String(value.to_owned())),
        })
    }
}

impl Assignment {
    /// Sets the value in `spec`; `null` removes it.
    pub(crate) fn apply(&self, spec: &mut Value) {
        let nested = self
            .path
            .iter()
            .rev()
            .fold(self.value.clone(), |inner, part| {
                Value::Object(Map::from_iter([(part.clone(), inner)]))
            });
        merge(spec, nested);
    }
}

/// Merges as RFC 7396 says: objects field by field, `null` removes, all else replaces.
pub(crate) fn merge(target: &mut Value, patch: Value) {
    let Value::Object(fields) = patch else {
        *target = patch;
        return;
    };
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    let Value::Object(target) = target else {
        unreachable!("it was just made an object")
    };
    for (name, value) in fields {
        if value.is_null() {
            target.remove(&name);
        } else {
            merge(target.entry(name).or_insert(Value::Null), value);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn assignments_reach_into_a_specification() {
        let mut spec = json!({"a": {"b": 1, "c": 2}, "d": [1]});
        for text in [
            "a.b=7",
            "a.c=null",
            "d=[]",
            "e.f=some text",
            "g=\"25.00\"",
            "h=a=b",
        ] {
            text.parse::<Assignment>().expect(text).apply(&mut spec);
        }
        assert_eq!(
            spec,
            json!({"a": {"b": 7}, "d": [], "e": {"f": "some text"}, "g": "25.00", "h": "a=b"})
        );
    }

    #[test]
    fn a_path_has_no_gaps() {
        for text in ["", "a", "=1", "a..b=1", ".a=1"] {
            assert!(text.parse::<Assignment>().is_err(), "{text}");
        }
    }
}
