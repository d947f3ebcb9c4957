//! The scanner takes what serde_json takes, and nothing else.

#![expect(clippy::unwrap_used, reason = "in a test a panic is the report")]

use std::collections::BTreeMap;
use std::fmt;

use bytes::Bytes;
use models::{BodyError, Bounds, Envelope, Json, Raw};
use proptest::prelude::*;
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::Value;

/// A JSON object with its repeated keys, which `Value` would hide.
struct Pairs(Vec<(String, Value)>);

impl<'de> Deserialize<'de> for Pairs {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct PairsVisitor;
        impl<'de> Visitor<'de> for PairsVisitor {
            type Value = Pairs;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Pairs, M::Error> {
                let mut pairs = Vec::new();
                while let Some(pair) = map.next_entry()? {
                    pairs.push(pair);
                }
                Ok(Pairs(pairs))
            }
        }
        deserializer.deserialize_map(PairsVisitor)
    }
}

/// Any value, up to six levels deep; keys are often the refused ones' neighbours.
fn value() -> impl Strategy<Value = Value> {
    let key = prop_oneof!["[a-c]{1,2}", "\\PC{0,4}", Just("type".to_owned())];
    let scalar = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "[ -~]{0,40}".prop_map(Value::from),
        ".{0,12}".prop_map(Value::from),
        any::<String>().prop_map(Value::from),
    ];
    scalar.prop_recursive(6, 48, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::btree_map(key.clone(), inner, 0..6)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

fn object() -> impl Strategy<Value = Value> {
    prop::collection::btree_map("[a-d]{1,3}", value(), 0..6)
        .prop_map(|map| Value::Object(map.into_iter().collect()))
}

/// As serde_json writes it, tight or spread, with some letters as escapes.
fn text() -> impl Strategy<Value = Vec<u8>> {
    (object(), any::<bool>(), any::<bool>()).prop_map(|(value, spread, escaped)| {
        let text = if spread {
            serde_json::to_string_pretty(&value).unwrap()
        } else {
            value.to_string()
        };
        // Where there is no escape yet: any 'b' then stands in a string, since no literal has one.
        let text = if escaped && !text.contains('\\') {
            text.replace('b', r"\u0062")
        } else {
            text
        };
        text.into_bytes()
    })
}

/// Valid text with a few bytes cut, put in or replaced by what is likely to matter.
fn mutated() -> impl Strategy<Value = Vec<u8>> {
    let byte = prop_oneof![
        4 => prop::sample::select(b"{}[]\",:\\/ \n\t0123456789eE+-.utrfnabcdD8\x00\x1f\x7f".as_slice()),
        1 => any::<u8>(),
    ];
    let change = (any::<prop::sample::Index>(), byte, 0..3u8);
    (text(), prop::collection::vec(change, 0..4)).prop_map(|(mut text, changes)| {
        for (index, byte, way) in changes {
            let at = index.index(text.len() + 1);
            match way {
                0 => text.insert(at, byte),
                1 if at < text.len() => text[at] = byte,
                _ if at < text.len() => drop(text.remove(at)),
                _ => text.push(byte),
            }
        }
        text
    })
}

/// Compares the verdicts, and what was read where both agree.
fn agree(text: &[u8]) {
    let theirs = serde_json::from_slice::<Pairs>(text);
    let ours = Envelope::parse(Bytes::copy_from_slice(text), &Bounds::default());
    let shown = String::from_utf8_lossy(text);
    match (ours, theirs) {
        (Ok(envelope), Ok(Pairs(pairs))) => {
            let fields: Vec<(String, Value)> = envelope
                .fields()
                .map(|field| {
                    let value = serde_json::from_slice(field.value.bytes()).unwrap();
                    (field.name.into_owned(), value)
                })
                .collect();
            assert_eq!(fields, pairs, "{shown}");
        }
        (Err(BodyError::DuplicateField { name, .. }), Ok(Pairs(pairs))) => {
            let times = pairs.iter().filter(|(key, _)| *key == name).count();
            assert!(times > 1, "{shown}");
        }
        (Err(BodyError::NotAnObject), Err(_)) => {
            let value: Value = serde_json::from_slice(text).unwrap();
            assert!(!value.is_object(), "{shown}");
        }
        (Err(BodyError::DuplicateField { .. }), Err(_)) => {}
        (Err(_), Err(_)) => assert!(
            serde_json::from_slice::<Value>(text).is_err(),
            "refused only by us: {shown}"
        ),
        (ours, theirs) => panic!(
            "{shown}: we say {:?}, serde_json says {:?}",
            ours.err(),
            theirs.err()
        ),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn valid_text_is_read_as_serde_json_reads_it(text in text()) {
        prop_assert!(Envelope::parse(text.clone().into(), &Bounds::default()).is_ok());
        agree(&text);
    }

    #[test]
    fn mutated_text_is_judged_as_serde_json_judges_it(text in mutated()) {
        agree(&text);
    }

    #[test]
    fn any_value_is_judged_as_serde_json_judges_it(mut text in mutated()) {
        if text.len() > 2 {
            text.remove(0);
            text.pop();
        }
        let theirs = serde_json::from_slice::<Value>(&text);
        prop_assert_eq!(Json::parse(text.into()).is_ok(), theirs.is_ok());
    }

    #[test]
    fn any_bytes_are_judged_without_a_panic(text in prop::collection::vec(any::<u8>(), 0..64)) {
        agree(&text);
    }

    #[test]
    fn a_walk_finds_what_serde_json_finds(text in text()) {
        fn read(raw: Raw<'_>) -> Value {
            match raw.bytes().first() {
                Some(b'[') => Value::Array(raw.elements().map(read).collect()),
                Some(b'{') => {
                    let fields = raw.fields();
                    fields.map(|(key, value)| (key.decode().into_owned(), read(value))).collect()
                }
                Some(b'"') => Value::from(raw.as_str().unwrap().into_owned()),
                _ => serde_json::from_slice(raw.bytes()).unwrap(),
            }
        }
        let expected: Value = serde_json::from_slice(&text).unwrap();
        prop_assert_eq!(read(Raw::new(&text)), expected);
    }

    #[test]
    fn a_refused_key_is_found_wherever_it_is(
        value in object(),
        path in prop::collection::vec(any::<bool>(), 0..5),
        refused in prop::sample::select(models::REFUSED_FIELDS),
        escape in prop::option::of(0usize..8),
    ) {
        let spelled = match escape {
            Some(at) => {
                let code = u32::from(refused.as_bytes()[at]);
                format!("{}\\u{code:04X}{}", &refused[..at], &refused[at + 1..])
            }
            None => refused.to_owned(),
        };
        let mut text = format!("{{\"x\":{value},\"{spelled}\":1}}");
        for in_array in path {
            text = if in_array { format!("[0,{text}]") } else { format!("{{\"y\":{text}}}") };
        }
        let text = format!("{{\"z\":{text}}}");
        let error = Envelope::parse(text.into(), &Bounds::default()).unwrap_err();
        let found = matches!(error, BodyError::RefusedField { name, .. } if name == refused);
        prop_assert!(found);
    }
}

#[test]
fn the_grammar_is_kept_to_the_letter() {
    let good = [
        r#"{}"#,
        " \t\r\n{ } \n",
        r#"{"":-0,"a":0.5e-7,"b":1E+2,"c":1e308,"d":0e999}"#,
        r#"{"a":"\"\\\/\b\f\n\r\t\u00e9\uD83D\ude00"}"#,
        "{\"a\":\"\u{7f}\u{2028}é😀\"}",
        r#"{"a":[[],{},[{}]],"b":null}"#,
    ];
    for text in good {
        agree(text.as_bytes());
        assert!(
            Envelope::parse(text.into(), &Bounds::default()).is_ok(),
            "{text}"
        );
    }
    let bad: [&[u8]; 29] = [
        b"",
        b"{",
        b"{}x",
        b"{}{}",
        b"{,}",
        b"{\"a\":1,}",
        b"{\"a\" 1}",
        b"{a:1}",
        b"{'a':1}",
        b"{\"a\":[1,]}",
        b"{\"a\":[1}",
        b"{\"a\":{]}",
        b"{\"a\":01}",
        b"{\"a\":1.}",
        b"{\"a\":.5}",
        b"{\"a\":+1}",
        b"{\"a\":-}",
        b"{\"a\":1e}",
        b"{\"a\":1e999}",
        b"{\"a\":NaN}",
        b"{\"a\":tru}",
        b"{\"a\":\"\n\"}",
        b"{\"a\":\"\\x\"}",
        b"{\"a\":\"\\u12g4\"}",
        br#"{"a":"\ud800"}"#,
        br#"{"a":"\ud800\u0041"}"#,
        br#"{"a":"\udc00"}"#,
        b"{\"a\":\"\xff\"}",
        b"\xef\xbb\xbf{}",
    ];
    for text in bad {
        agree(text);
        let verdict = Envelope::parse(Bytes::from_static(text), &Bounds::default());
        assert!(verdict.is_err(), "{}", String::from_utf8_lossy(text));
    }
}

#[test]
fn bounds_hold_exactly() {
    let bounds = Bounds {
        depth_max: 3,
        fields_max: 2,
        refused_keys: &[],
    };
    let parse = |text: &str| Envelope::parse(text.to_owned().into(), &bounds);
    assert!(parse(r#"{"a":[[]],"b":{"c":{}}}"#).is_ok());
    assert_eq!(
        parse(r#"{"a":[[[]]]}"#).unwrap_err(),
        BodyError::TooDeep {
            offset: 7,
            depth_max: 3
        }
    );
    assert_eq!(
        parse(r#"{"a":1,"b":2,"c":3}"#).unwrap_err(),
        BodyError::TooManyFields { fields_max: 2 }
    );
    let deep = "[".repeat(1 << 20);
    let error = parse(&format!("{{\"a\":{deep}")).unwrap_err();
    assert!(matches!(error, BodyError::TooDeep { .. }));
}

#[test]
fn a_repeated_field_is_refused_however_it_is_spelled() {
    let text = r#"{"model":"a","mod\u0065l":"b"}"#;
    let error = Envelope::parse(text.into(), &Bounds::default()).unwrap_err();
    assert_eq!(
        error,
        BodyError::DuplicateField {
            name: "model".to_owned(),
            offset: 13
        }
    );
}

#[test]
fn values_are_slices_of_the_body() {
    let body = Bytes::from_static(br#"{"a":"text"}"#);
    let envelope = Envelope::parse(body.clone(), &Bounds::default()).unwrap();
    let value = envelope.raw("a").unwrap();
    assert_eq!(value.as_ptr(), body[5..].as_ptr());
    let names: BTreeMap<_, _> = envelope.fields().map(|f| (f.name, f.kind)).collect();
    assert_eq!(names.len(), 1);
}
