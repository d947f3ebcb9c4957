//! Events of Anthropic's Messages.

use bytes::BytesMut;
use serde_json::{Value, json};

use super::{Field, InspectedStream, Key, StreamEnd};
use crate::guard::Remote;

impl<R: Remote> InspectedStream<R> {
    /// Events of Anthropic's.
    pub(super) async fn of_messages(
        &mut self,
        value: &mut Value,
        out: &mut BytesMut,
    ) -> Result<(), StreamEnd> {
        let index = value["index"].as_u64().unwrap_or(0);
        let of = |name: &str| match name {
            "text" => Field::Content,
            "partial_json" => Field::Arguments,
            _ => Field::Reasoning,
        };
        match value["type"].as_str().unwrap_or_default() {
            kind @ ("content_block_start" | "content_block_delta") => {
                let place = match kind {
                    "content_block_start" => "content_block",
                    _ => "delta",
                };
                for name in ["text", "partial_json", "thinking"] {
                    let key = Key(index, 0, of(name));
                    let block = value.get_mut(place).and_then(|block| block.get_mut(name));
                    if let Some(Value::String(text)) = block {
                        *text = self.push(key, text).await?;
                    }
                }
            }
            "content_block_stop" => {
                let keys = self.texts.keys().filter(|key| key.0 == index);
                for key in keys.copied().collect::<Vec<_>>() {
                    let rest = self.flush(key).await?;
                    if !rest.is_empty() {
                        self.put(&messages_delta(key, &rest), out);
                    }
                }
            }
            _ => {}
        }
        Ok(())
    }
}

pub(super) fn messages_delta(key: Key, rest: &str) -> Value {
    let delta = match key.2 {
        Field::Arguments => json!({"type": "input_json_delta", "partial_json": rest}),
        Field::Reasoning | Field::ReasoningContent => {
            json!({"type": "thinking_delta", "thinking": rest})
        }
        Field::Content | Field::Refusal => json!({"type": "text_delta", "text": rest}),
    };
    json!({"type": "content_block_delta", "index": key.0, "delta": delta})
}
