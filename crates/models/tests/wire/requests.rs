//! Every input to every provider, and out of every dialect that clients speak.

use std::fmt::Write as _;

use bytes::Bytes;
use models::conversation::Conversation;
use models::{
    Bounds, Call, Dialect, Envelope, Flavour, Forced, Operation, Translation, Untranslatable,
};

use crate::inputs::{self, Input};
use crate::snapshot::{check, pretty};

/// What clients speak.
pub const INBOUND: [Dialect; 3] = [
    Dialect::OpenAiChat,
    Dialect::Anthropic,
    Dialect::OpenAiResponses,
];

/// What upstreams speak beside OpenAI's chat, each with a model of its provider's.
const OUTBOUND: [(Dialect, &str); 5] = [
    (Dialect::OpenAiResponses, "gpt-5"),
    (Dialect::Anthropic, "claude-sonnet-4-5"),
    (Dialect::Gemini, "gemini-2.5-flash"),
    (Dialect::Bedrock, "anthropic.claude-sonnet-4-5-v1:0"),
    (Dialect::Cohere, "command-a-03-2025"),
];

pub fn forced<'a>(model: &'a str, conversation: &Conversation) -> Forced<'a> {
    Forced {
        model,
        output_tokens: 4_096,
        stream: conversation.stream,
        salt: Some("c2FsdA"),
    }
}

type Asked = Result<Bytes, Untranslatable>;

/// Everybody that can be asked, by name.
fn everybody(mut ask: impl FnMut(Dialect, Flavour, &str) -> Asked) -> Vec<(&'static str, Asked)> {
    let chats = Flavour::ALL.into_iter().map(|flavour| {
        let dialect = Dialect::OpenAiChat;
        (flavour.name(), dialect, flavour, "some-model")
    });
    let others = OUTBOUND
        .into_iter()
        .map(|(dialect, model)| (dialect.name(), dialect, Flavour::OpenAi, model));
    chats
        .chain(others)
        .map(|(name, dialect, flavour, model)| (name, ask(dialect, flavour, model)))
        .collect()
}

fn written(conversation: &Conversation) -> Vec<(&'static str, Asked)> {
    everybody(|dialect, flavour, model| {
        dialect.write_request(flavour, conversation, &forced(model, conversation))
    })
}

/// One section for each body, under the names of all who are asked it.
fn show(asked: &[(&str, Asked)]) -> String {
    let shown = |asked: &Asked| match asked {
        Ok(body) => pretty(body),
        Err(refusal) => format!("refused: {refusal}"),
    };
    let mut sections: Vec<(String, Vec<&str>)> = Vec::new();
    for (name, asked) in asked {
        // A server's name in its refusal is not what tells refusals apart.
        let text = shown(asked).replace(&format!("({name})"), "(…)");
        match sections.iter_mut().find(|(known, _)| *known == text) {
            Some((_, names)) => names.push(name),
            None => sections.push((text, vec![name])),
        }
    }
    let mut out = String::new();
    for (text, names) in sections {
        writeln!(out, "== {}\n{text}\n", names.join(", ")).unwrap();
    }
    out
}

#[test]
fn every_input_is_asked_of_every_provider() {
    for Input { name, conversation } in inputs::all() {
        let asked = written(&conversation);
        for (name, body) in &asked {
            if let Ok(body) = body {
                let value: Result<serde_json::Value, _> = serde_json::from_slice(body);
                assert!(value.is_ok(), "{name}: {body:?}");
            }
        }
        check(&format!("requests/{name}"), &show(&asked));
    }
}

pub fn envelope(body: Bytes) -> Envelope {
    Envelope::parse(body, &Bounds::default()).expect("what we write is a request")
}

/// An input as clients of each dialect would say it, where they can.
pub fn said(conversation: &Conversation) -> Vec<(Dialect, Bytes)> {
    let says = |dialect: Dialect| {
        let forced = Forced {
            salt: None,
            ..forced("some-model", conversation)
        };
        let body = dialect.write_request(Flavour::OpenRouter, conversation, &forced);
        Some((dialect, body.ok()?))
    };
    INBOUND.into_iter().filter_map(says).collect()
}

/// What a client of one dialect says is what it says in another, to every provider.
#[test]
fn the_clients_dialect_makes_no_difference() {
    for Input { name, conversation } in inputs::all() {
        for (inbound, body) in said(&conversation) {
            let envelope = envelope(body);
            let read = inbound.read_request(&envelope).unwrap();
            // What this dialect cannot say is not in what it said.
            let expected = written(&read);
            let asked = everybody(|outbound, flavour, model| {
                let translation = Translation::new(inbound, outbound, flavour);
                translation.request(&envelope, &forced(model, &read))
            });
            assert_eq!(asked, expected, "{name} from {}", inbound.name());
            // Said again in the same dialect, it is the same.
            let forced = Forced {
                salt: None,
                ..forced("some-model", &read)
            };
            let again = inbound
                .write_request(Flavour::OpenRouter, &read, &forced)
                .unwrap();
            assert_eq!(
                pretty(&again),
                pretty(envelope.body()),
                "{name} in {}",
                inbound.name()
            );
        }
    }
}

/// The bytes of all texts in a body: no provider reads more tokens than this in it.
fn text_bytes(value: &serde_json::Value) -> u64 {
    match value {
        serde_json::Value::String(text) => text.len() as u64,
        serde_json::Value::Array(values) => values.iter().map(text_bytes).sum(),
        serde_json::Value::Object(fields) => fields.values().map(text_bytes).sum(),
        _ => 0,
    }
}

/// Translating makes no prompt longer than the client's bound: what is reserved is enough.
#[test]
fn no_translation_exceeds_the_bound_on_the_input() {
    for Input { name, conversation } in inputs::all() {
        for (inbound, body) in said(&conversation) {
            let operation = match inbound {
                Dialect::OpenAiChat => Operation::Chat,
                Dialect::Anthropic => Operation::Messages,
                _ => Operation::Responses,
            };
            let envelope = envelope(body);
            let call = Call::parse(operation, &envelope).unwrap();
            if !call.unbounded.is_empty() || call.image_count > 0 {
                continue;
            }
            let asked = everybody(|outbound, flavour, model| {
                let translation = Translation::new(inbound, outbound, flavour);
                translation.request(&envelope, &forced(model, &conversation))
            });
            for (provider, body) in asked {
                let Ok(body) = body else { continue };
                let mut body: serde_json::Value = serde_json::from_slice(&body).unwrap();
                for no_prompt in ["model", "stop", "stop_sequences", "cache_salt", "extra_key"] {
                    body.as_object_mut().unwrap().remove(no_prompt);
                }
                let bound = call.input_tokens_bound();
                let bytes = text_bytes(&body);
                assert!(bytes <= bound, "{name} to {provider}: {bytes} > {bound}");
            }
        }
    }
}
