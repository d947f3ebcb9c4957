//! Events of OpenAI's Responses: deltas, and events that repeat what deltas said.

use bytes::BytesMut;
use models::Raw;
use serde_json::{Value, json};

use super::super::texts::Text;
use super::super::{Counting, texts};
use super::asked::Became;
use super::{Field, InspectedStream, Key, StreamEnd};
use crate::guard::{Remote, Side};

impl<R: Remote> InspectedStream<R> {
    /// Events of OpenAI's Responses: deltas, and events that repeat what deltas said.
    pub(super) async fn of_responses(
        &mut self,
        value: &mut Value,
        data: &[u8],
        out: &mut BytesMut,
    ) -> Result<(), StreamEnd> {
        let kind = value["type"].as_str().unwrap_or_default().to_owned();
        let hides = !self.inspector.output.is_empty();
        if let Some(stem) = kind.strip_suffix(".delta") {
            let key = responses_key(stem, value);
            if let Some(Value::String(text)) = value.get_mut("delta") {
                *text = self.push(key, text).await?;
            }
            if hides && value.get("logprobs").is_some() {
                value["logprobs"] = json!([]);
            }
            self.renumber(value);
            self.template = Some(value.clone());
            return Ok(());
        }
        if let Some(stem) = kind.strip_suffix(".done") {
            let key = responses_key(stem, value);
            let rest = self.flush(key).await?;
            if !rest.is_empty() {
                let mut delta = value.clone();
                if let Value::Object(fields) = &mut delta {
                    for repeated in [
                        "text",
                        "arguments",
                        "refusal",
                        "input",
                        "code",
                        "item",
                        "part",
                    ] {
                        fields.remove(repeated);
                    }
                }
                delta["type"] = json!(format!("{stem}.delta"));
                delta["delta"] = json!(rest);
                self.renumber(&mut delta);
                self.put(&delta, out);
                self.added += 1;
            }
        }
        *value = self.repeated(data).await?;
        self.renumber(value);
        Ok(())
    }

    /// An event that says again what was said, looked through again: the same comes of it.
    async fn repeated(&mut self, data: &[u8]) -> Result<Value, StreamEnd> {
        const ROOTS: [&str; 8] = [
            "text",
            "arguments",
            "refusal",
            "input",
            "code",
            "item",
            "part",
            "logprobs",
        ];
        let whole = Raw::new(data);
        let (mut found, mut blanks) = texts::of_fields(data, whole, &ROOTS);
        if let Some(response) = whole.get("response") {
            let (more, more_blanks) = texts::of_fields(data, response, &["output"]);
            found.extend(more);
            blanks.extend(more_blanks);
        }
        if self.inspector.output.is_empty() {
            blanks.clear();
        }
        let inspected = self.inspector.inspect_answer(&mut found, Counting::Again);
        inspected.await?;
        if self.remote.is_some() {
            self.ask_again(&mut found).await?;
        }
        self.inspector.restore(&mut found);
        let spliced = texts::spliced(data, &found, &blanks);
        let mut value: Value = serde_json::from_slice(spliced.as_deref().unwrap_or(data))
            .map_err(|_| StreamEnd::Unreadable)?;
        if !self.inspector.output.is_empty() && value.get("logprobs").is_some() {
            value["logprobs"] = json!([]);
        }
        Ok(value)
    }

    /// What was asked about piece by piece becomes what it became then; what was not is asked
    /// about now.
    async fn ask_again(&mut self, found: &mut [Text<'_>]) -> Result<(), StreamEnd> {
        let mut unasked = Vec::new();
        for (place, text) in found.iter_mut().enumerate() {
            let channels = self.texts.values().filter_map(|text| text.asked.as_ref());
            let mut known = channels.filter_map(|asked| asked.became(&text.text));
            match known.next() {
                Some(Became::Itself) => {}
                Some(Became::This(released)) => {
                    let released = released.to_owned();
                    text.replace(released);
                }
                None => unasked.push(place),
            }
        }
        let Some(remote) = &self.remote else {
            return Ok(());
        };
        for place in unasked {
            let one = &mut found[place..=place];
            self.inspector.ask_all(Side::Output, one, remote).await?;
        }
        Ok(())
    }

    /// Events that were added move the numbers of those behind them.
    fn renumber(&self, value: &mut Value) {
        if let Some(number) = value["sequence_number"].as_u64() {
            value["sequence_number"] = json!(number + self.added);
        }
    }
}

/// Which text an event of Responses is about.
fn responses_key(stem: &str, value: &Value) -> Key {
    let number = |name: &str| value[name].as_u64();
    let part = number("content_index").or_else(|| number("summary_index"));
    let field = match stem.strip_prefix("response.").unwrap_or(stem) {
        "output_text" => Field::Content,
        "refusal" => Field::Refusal,
        "reasoning_summary_text" => Field::ReasoningContent,
        "function_call_arguments" | "mcp_call_arguments" => Field::Arguments,
        _ => Field::Reasoning,
    };
    Key(
        number("output_index").unwrap_or(0),
        part.unwrap_or(0),
        field,
    )
}
