//! One text for all JSON that means the same: what spelling alone tells apart is one.

use crate::envelope::Kind;
use crate::raw::Raw;

/// Writes a body without white space, with the keys of every object in order and every string
/// spelled alike. Fields of the outermost object that `without` names are left out. Numbers stay
/// as they are written: `1` and `1.0` are two.
///
/// The body is one that [`Envelope::parse`](crate::Envelope::parse) has checked, or that was built
/// of such: its depth is bounded.
pub fn canonical_json(body: &[u8], without: &[&str]) -> Vec<u8> {
    let mut out = Vec::with_capacity(body.len());
    write(Raw::new(body), without, &mut out);
    out
}

fn write(value: Raw<'_>, without: &[&str], out: &mut Vec<u8>) {
    match value.kind() {
        Some(Kind::Object) => write_object(value, without, out),
        Some(Kind::Array) => {
            out.push(b'[');
            for (index, element) in value.elements().enumerate() {
                if index > 0 {
                    out.push(b',');
                }
                write(element, &[], out);
            }
            out.push(b']');
        }
        Some(Kind::String) => match value.as_str() {
            Some(text) => write_string(&text, out),
            None => out.extend_from_slice(value.bytes()),
        },
        _ => out.extend_from_slice(value.bytes().trim_ascii()),
    }
}

fn write_object(value: Raw<'_>, without: &[&str], out: &mut Vec<u8>) {
    let mut fields: Vec<_> = value
        .fields()
        .map(|(key, value)| (key.decode(), value))
        .filter(|(key, _)| !without.contains(&&**key))
        .collect();
    // Stable: a key that is said twice means what its engine makes of that order.
    fields.sort_by(|(one, _), (other, _)| one.cmp(other));
    out.push(b'{');
    for (index, (key, value)) in fields.into_iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        write_string(&key, out);
        out.push(b':');
        write(value, &[], out);
    }
    out.push(b'}');
}

fn write_string(text: &str, out: &mut Vec<u8>) {
    serde_json::to_writer(out, text).expect("a text has a JSON form, and memory takes it");
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    fn canonical(text: &str) -> String {
        String::from_utf8(canonical_json(text.as_bytes(), &["stream"])).unwrap()
    }

    #[test]
    fn spelling_is_not_meaning() {
        let one =
            canonical(r#" { "b" : [1, {"y":null,"x":"\u0041\n"}], "stream":true,"a":-1.50 }"#);
        assert_eq!(one, r#"{"a":-1.50,"b":[1,{"x":"A\n","y":null}]}"#);
        assert_eq!(
            one,
            canonical(r#"{"\u0061":-1.50,"b":[1,{"x":"A\u000a","y":null}],"stream":false}"#)
        );
        // Further down the name is the client's own.
        assert_eq!(canonical(r#"{"a":{"stream":1}}"#), r#"{"a":{"stream":1}}"#);
    }

    #[test]
    fn what_means_something_else_stays_another() {
        let texts = [
            r#"{"a":1}"#,
            r#"{"a":"1"}"#,
            r#"{"a":[1]}"#,
            r#"{"a":{"1":1}}"#,
            r#"{"a":[[1]]}"#,
            r#"{"a":1,"b":2}"#,
            r#"{"a":"1,\"b\":2"}"#,
            r#"{"a":1,"a":2}"#,
            r#"{"a":2,"a":1}"#,
            r#"{"a":[2,1]}"#,
            r#"{"a":[1,2]}"#,
        ];
        let seen: std::collections::BTreeSet<String> = texts.map(canonical).into();
        assert_eq!(seen.len(), texts.len());
    }

    fn json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i32>().prop_map(Value::from),
            "[a\"\\\\\n\u{e9}]{0,3}".prop_map(Value::from),
        ];
        leaf.prop_recursive(3, 24, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map("[ab\"]{0,2}", inner, 0..4).prop_map(Value::from_iter),
            ]
        })
    }

    proptest! {
        #[test]
        fn two_texts_are_one_exactly_if_they_mean_the_same(one in json(), two in json()) {
            let of = |value: &Value| canonical_json(value.to_string().as_bytes(), &[]);
            prop_assert_eq!(of(&one) == of(&two), one == two);
            let pretty = serde_json::to_string_pretty(&one).unwrap();
            prop_assert_eq!(canonical_json(pretty.as_bytes(), &[]), of(&one));
            prop_assert_eq!(serde_json::from_slice::<Value>(&of(&one)).unwrap(), one);
        }
    }
}
