//! Whatever clients and upstreams send, nothing panics and everything ends.

use bytes::Bytes;
use models::{
    AnswerNames, Bounds, Call, Dialect, Envelope, Flavour, Forced, Operation, StreamUsage,
    Translation,
};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::answers;
use crate::inputs;
use crate::requests::{INBOUND, said};

const OUTBOUND: [Dialect; 6] = [
    Dialect::OpenAiChat,
    Dialect::OpenAiResponses,
    Dialect::Anthropic,
    Dialect::Gemini,
    Dialect::Bedrock,
    Dialect::Cohere,
];

/// Any JSON, of the words that dialects use.
fn values() -> impl Strategy<Value = Value> {
    let words = [
        "type",
        "text",
        "content",
        "role",
        "user",
        "assistant",
        "tool",
        "image_url",
        "url",
        "data:image/png;base64,AA",
        "id",
        "name",
        "",
        "function",
        "arguments",
        "{\"a\":",
        "\u{0}",
    ];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(|number| json!(number)),
        prop::sample::select(words.to_vec()).prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 24, 4, move |inner| {
        let key = prop::sample::select(words.to_vec());
        let fields = prop::collection::btree_map(key, inner.clone(), 0..4);
        prop_oneof![
            prop::collection::vec(inner, 0..4).prop_map(Value::from),
            fields.prop_map(|fields| {
                let fields = fields
                    .into_iter()
                    .map(|(key, value)| (key.to_owned(), value));
                Value::Object(fields.collect())
            }),
        ]
    })
}

/// Puts a value in the place of the `at`th one, in the order of their text.
fn replace(value: &mut Value, at: &mut usize, by: &Value) -> bool {
    if *at == 0 {
        *value = by.clone();
        return true;
    }
    *at -= 1;
    match value {
        Value::Array(values) => values.iter_mut().any(|value| replace(value, at, by)),
        Value::Object(fields) => fields.values_mut().any(|value| replace(value, at, by)),
        _ => false,
    }
}

fn ask_everybody(body: &Value) {
    let envelope = Envelope::parse(Bytes::from(body.to_string()), &Bounds::default());
    let Ok(envelope) = envelope else { return };
    for operation in [
        Operation::Chat,
        Operation::Completion,
        Operation::Embedding,
        Operation::Messages,
        Operation::CountTokens,
        Operation::Responses,
        Operation::Rerank,
    ] {
        drop(Call::parse(operation, &envelope));
    }
    for inbound in INBOUND {
        let Ok(conversation) = inbound.read_request(&envelope) else {
            continue;
        };
        let forced = Forced {
            model: "claude-sonnet-4-5",
            output_tokens: 9,
            stream: true,
            salt: Some("x"),
        };
        for outbound in OUTBOUND {
            if let Ok(body) = outbound.write_request(Flavour::Vllm, &conversation, &forced) {
                let value: Result<Value, _> = serde_json::from_slice(&body);
                assert!(value.is_ok(), "{body:?}");
            }
        }
        for flavour in Flavour::ALL {
            drop(Dialect::OpenAiChat.write_request(flavour, &conversation, &forced));
        }
    }
}

fn names() -> AnswerNames {
    answers::names()
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(400) })]

    #[test]
    fn any_json_is_read_or_refused(body in values()) {
        ask_everybody(&body);
        let text = body.to_string();
        for outbound in OUTBOUND {
            for inbound in INBOUND {
                let translation = Translation::new(inbound, outbound, Flavour::OpenAi);
                drop(translation.answer(text.as_bytes(), &names()));
            }
        }
    }

    #[test]
    fn a_request_with_anything_in_it_is_read_or_refused(
        input in any::<prop::sample::Index>(), at in 0..60usize, by in values(),
    ) {
        let inputs = inputs::all();
        let conversation = &inputs[input.index(inputs.len())].conversation;
        for (_, body) in said(conversation) {
            let mut body: Value = serde_json::from_slice(&body).unwrap();
            replace(&mut body, &mut { at }, &by);
            ask_everybody(&body);
        }
    }

    #[test]
    fn an_answer_with_anything_in_it_is_read_or_refused(
        case in any::<prop::sample::Index>(), at in 0..60usize, by in values(),
    ) {
        let cases = answers::all();
        let case = &cases[case.index(cases.len())];
        if let Some(whole) = &case.whole {
            let mut body: Value = serde_json::from_slice(whole).unwrap();
            replace(&mut body, &mut { at }, &by);
            for inbound in INBOUND {
                let translation = Translation::new(inbound, case.dialect, Flavour::OpenAi);
                drop(translation.answer(body.to_string().as_bytes(), &names()));
            }
        }
    }

    #[test]
    fn a_stream_with_anything_in_it_ends(
        case in any::<prop::sample::Index>(), at in any::<prop::sample::Index>(),
        by in prop::collection::vec(any::<u8>(), 0..20), gone in 0..200usize,
    ) {
        let cases = answers::all();
        let case = &cases[case.index(cases.len())];
        if let Some(stream) = &case.stream {
            let mut bytes = stream.to_vec();
            let start = at.index(bytes.len());
            let end = (start + gone).min(bytes.len());
            bytes.splice(start..end, by);
            for inbound in INBOUND {
                let translation = Translation::new(inbound, case.dialect, Flavour::OpenAi);
                let mut stream = translation.stream(names(), StreamUsage::Unwanted).unwrap();
                drop(stream.feed(bytes.clone().into()));
                drop(stream.finish());
            }
        }
    }

    /// Events of a stream, in any order and number.
    #[test]
    fn a_stream_in_any_order_ends(
        case in any::<prop::sample::Index>(),
        order in prop::collection::vec(any::<prop::sample::Index>(), 0..12),
    ) {
        let cases = answers::all();
        let case = &cases[case.index(cases.len())];
        let stream = case.stream.clone().unwrap_or_default();
        let Ok(text) = std::str::from_utf8(&stream) else { return Ok(()) };
        let events: Vec<_> = text.split_inclusive("\n\n").collect();
        if events.is_empty() {
            return Ok(());
        }
        let shuffled = order.iter().map(|index| events[index.index(events.len())]);
        let shuffled: String = shuffled.collect();
        // What is read is in order, whatever came: the assembler would say so.
        if let Err(error) = case.dialect.read_stream(shuffled.into()) {
            prop_assert!(!error.to_string().contains("out of order"), "{}", error);
        }
    }
}
