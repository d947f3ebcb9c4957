//! Chunks of chats and completions, as OpenAI streams them.

use serde_json::{Value, json};

use super::{Field, InspectedStream, Key, StreamEnd};
use crate::guard::Remote;

impl<R: Remote> InspectedStream<R> {
    /// Chunks of chats and completions.
    pub(super) async fn of_chat(&mut self, chunk: &mut Value) -> Result<(), StreamEnd> {
        let hides = !self.inspector.output.is_empty();
        let mut template = chunk.clone();
        let Some(choices) = chunk["choices"].as_array_mut() else {
            return Ok(());
        };
        for choice in choices.iter_mut().filter(|choice| choice.is_object()) {
            let index = choice["index"].as_u64().unwrap_or(0);
            if hides && choice["logprobs"].is_object() {
                choice["logprobs"] = Value::Null;
            }
            if let Some(Value::String(text)) = choice.get_mut("text") {
                *text = self.push(Key(index, 0, Field::Content), text).await?;
            }
            if let Some(delta) = choice.get_mut("delta") {
                self.delta(index, delta).await?;
            }
            if choice
                .get("finish_reason")
                .is_some_and(|reason| !reason.is_null())
            {
                self.end_choice(index, choice).await?;
            }
        }
        if let Value::Object(fields) = &mut template {
            fields.remove("usage");
            self.template = Some(template);
        }
        Ok(())
    }

    /// What a chunk adds to one choice.
    async fn delta(&mut self, index: u64, delta: &mut Value) -> Result<(), StreamEnd> {
        for (name, field) in [
            ("content", Field::Content),
            ("refusal", Field::Refusal),
            ("reasoning", Field::Reasoning),
            ("reasoning_content", Field::ReasoningContent),
        ] {
            match delta.get_mut(name) {
                Some(Value::String(text)) => *text = self.push(Key(index, 0, field), text).await?,
                Some(Value::Array(parts)) => {
                    for part in parts {
                        if let Some(Value::String(text)) = part.get_mut("text") {
                            *text = self.push(Key(index, 0, field), text).await?;
                        }
                    }
                }
                _ => {}
            }
        }
        if let Some(Value::String(text)) = delta.pointer_mut("/function_call/arguments") {
            *text = self
                .push(Key(index, u64::MAX, Field::Arguments), text)
                .await?;
        }
        for call in delta
            .get_mut("tool_calls")
            .and_then(Value::as_array_mut)
            .into_iter()
            .flatten()
        {
            let place = call["index"].as_u64().unwrap_or(0);
            if let Some(Value::String(text)) = call.pointer_mut("/function/arguments") {
                *text = self.push(Key(index, place, Field::Arguments), text).await?;
            }
        }
        Ok(())
    }

    /// The rest of a choice's texts goes with the chunk that ends it.
    async fn end_choice(&mut self, index: u64, choice: &mut Value) -> Result<(), StreamEnd> {
        let keys: Vec<Key> = self
            .texts
            .keys()
            .filter(|key| key.0 == index)
            .copied()
            .collect();
        for key in keys {
            let rest = self.flush(key).await?;
            if !rest.is_empty() {
                add_rest(choice, key, &rest);
            }
        }
        Ok(())
    }
}

/// Puts the rest of a text behind what the choice of a chunk has of it.
pub(super) fn add_rest(choice: &mut Value, key: Key, rest: &str) {
    let Key(_, place, field) = key;
    if choice.get("text").is_some() {
        append(&mut choice["text"], rest);
        return;
    }
    let delta = object_in(choice, "delta");
    match field {
        Field::Content => append(&mut delta["content"], rest),
        Field::Refusal => append(&mut delta["refusal"], rest),
        Field::Reasoning => append(&mut delta["reasoning"], rest),
        Field::ReasoningContent => append(&mut delta["reasoning_content"], rest),
        Field::Arguments if place == u64::MAX => {
            append(&mut object_in(delta, "function_call")["arguments"], rest);
        }
        Field::Arguments => {
            if !delta["tool_calls"].is_array() {
                delta["tool_calls"] = json!([]);
            }
            let calls = delta["tool_calls"].as_array_mut();
            let calls = calls.expect("it was just made one");
            let is_it = |call: &&mut Value| {
                call.is_object() && call["index"].as_u64().unwrap_or(0) == place
            };
            match calls.iter_mut().find(is_it) {
                Some(call) => append(&mut object_in(call, "function")["arguments"], rest),
                None => calls.push(json!({"index": place, "function": {"arguments": rest}})),
            }
        }
    }
}

/// The object in a field of an object; made if there is none.
fn object_in<'v>(of: &'v mut Value, name: &str) -> &'v mut Value {
    let value = &mut of[name];
    if !value.is_object() {
        *value = json!({});
    }
    value
}

fn append(to: &mut Value, rest: &str) {
    match to {
        Value::String(text) => text.push_str(rest),
        Value::Array(parts) => parts.push(json!({"type": "text", "text": rest})),
        other => *other = json!(rest),
    }
}
