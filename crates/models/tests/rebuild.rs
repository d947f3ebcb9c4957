//! A rebuilt body means what the same edits make of the parsed one.

#![expect(clippy::unwrap_used, reason = "in a test a panic is the report")]

use bytes::Bytes;
use models::{Bounds, Envelope, Json, Rebuild};
use proptest::prelude::*;
use serde_json::{Map, Value, json};

#[derive(Debug, Clone)]
enum Change {
    Set(String, Value),
    Default(String, Value),
    Remove(String),
    Prepend(String, Value),
}

fn name() -> impl Strategy<Value = String> {
    prop_oneof!["[a-f]", Just("é\"".to_owned())]
}

fn value() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        any::<u32>().prop_map(Value::from),
        "\\PC{0,8}".prop_map(Value::from),
        Just(Value::from("long ".repeat(500))),
        prop::collection::vec(any::<bool>(), 0..3).prop_map(Value::from),
        Just(json!({"x": [{}]})),
    ]
}

fn changes() -> impl Strategy<Value = Vec<Change>> {
    let change = prop_oneof![
        (name(), value()).prop_map(|(name, value)| Change::Set(name, value)),
        (name(), value()).prop_map(|(name, value)| Change::Default(name, value)),
        name().prop_map(Change::Remove),
        (name(), value()).prop_map(|(name, value)| Change::Prepend(name, value)),
    ];
    prop::collection::vec(change, 0..8)
}

/// The same edit on the parsed object.
fn apply(object: &mut Map<String, Value>, change: &Change) {
    match change {
        Change::Set(name, value) => drop(object.insert(name.clone(), value.clone())),
        Change::Default(name, value) => {
            if object.get(name).is_none_or(Value::is_null) {
                object.insert(name.clone(), value.clone());
            }
        }
        Change::Remove(name) => drop(object.remove(name)),
        Change::Prepend(name, value) => {
            let array = object.get_mut(name).and_then(Value::as_array_mut);
            array.unwrap().insert(0, value.clone());
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn edits_of_bytes_are_edits_of_values(
        fields in prop::collection::btree_map(name(), value(), 0..6),
        spread in any::<bool>(),
        changes in changes(),
    ) {
        let mut expected: Map<String, Value> = fields.into_iter().collect();
        let text = if spread {
            serde_json::to_string_pretty(&expected).unwrap()
        } else {
            serde_json::to_string(&expected).unwrap()
        };
        let body = Bytes::from(text);
        let envelope = Envelope::parse(body.clone(), &Bounds::default()).unwrap();
        let mut rebuild = Rebuild::from(&envelope);
        for change in &changes {
            match change {
                Change::Set(name, value) => {
                    // A null that the gateway sets is a value to it; the client's is none.
                    let value = if value.is_null() { &json!(0) } else { value };
                    rebuild.set(name, Json::of(value).unwrap());
                    apply(&mut expected, &Change::Set(name.clone(), value.clone()));
                }
                Change::Default(name, value) => {
                    let value = if value.is_null() { &json!(0) } else { value };
                    rebuild.default(name, Json::of(value).unwrap());
                    apply(&mut expected, &Change::Default(name.clone(), value.clone()));
                }
                Change::Remove(name) => {
                    rebuild.remove(name);
                    apply(&mut expected, change);
                }
                Change::Prepend(name, value) => {
                    if rebuild.prepend_to_array(name, Json::of(value).unwrap()).is_ok() {
                        apply(&mut expected, change);
                    }
                }
            }
        }
        let rebuilt = rebuild.finish();
        let whole = rebuilt.to_bytes();
        prop_assert_eq!(whole.len(), rebuilt.len);
        prop_assert!(rebuilt.chunks.iter().all(|chunk| !chunk.is_empty()));
        let read: Map<String, Value> = serde_json::from_slice(&whole).unwrap();
        prop_assert_eq!(read, expected);
        prop_assert!(Envelope::parse(whole.clone(), &Bounds::default()).is_ok());
        if changes.is_empty() {
            prop_assert_eq!(whole, body);
        }
    }
}
