//! A stream's classifier remembers the shape of its chunks, and tells nothing else for it.

use models::{StreamClassifier, classify};
use proptest::prelude::*;

/// What may stand in a string as written: words that mean something elsewhere among them.
fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-z ,]{0,6}",
        Just("usage".to_owned()),
        Just("delta".to_owned()),
        Just("error".to_owned()),
        Just(r#"\"usage\":{"#.to_owned()),
        Just(r"\\".to_owned()),
        // Not JSON any more: an engine may send anything.
        Just(r#"","usage":{"prompt_tokens":3},"x":""#.to_owned()),
        Just(r#""},"delta":{"content":"b"#.to_owned()),
        Just(r#"":""#.to_owned()),
    ]
}

fn delta() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => text().prop_map(|text| format!(r#"{{"content":"{text}"}}"#)),
        1 => (text(), text())
            .prop_map(|(role, text)| format!(r#"{{"role":"{role}","content":"{text}"}}"#)),
        1 => (text(), text())
            .prop_map(|(one, other)| format!(r#"{{"content":"{one}","reasoning":"{other}"}}"#)),
        1 => text().prop_map(|text| format!(r#"{{"tool_calls":[{{"arguments":"{text}"}}]}}"#)),
        1 => text().prop_map(|text| format!(r#""{text}""#)),
        1 => Just("{}".to_owned()),
        1 => Just("null".to_owned()),
    ]
}

fn chunk() -> impl Strategy<Value = String> {
    let end = prop_oneof![
        6 => Just(""),
        1 => Just(r#","usage":null"#),
        1 => Just(r#","usage":{"completion_tokens":2}"#),
        1 => Just(r#","error":{"message":"no"}"#),
        1 => Just("}"),
    ];
    (prop::collection::vec(delta(), 1..3), end).prop_map(|(deltas, end)| {
        let choices: Vec<_> = deltas
            .iter()
            .map(|delta| format!(r#"{{"index":0,"delta":{delta}}}"#))
            .collect();
        format!(r#"{{"id":"c","choices":[{}]{end}}}"#, choices.join(","))
    })
}

proptest! {
    #[test]
    fn a_memory_changes_nothing(stream in prop::collection::vec(chunk(), 1..24)) {
        let mut classifier = StreamClassifier::default();
        for data in stream {
            prop_assert_eq!(classifier.classify(data.as_bytes()), classify(data.as_bytes()), "{}", data);
        }
    }
}
