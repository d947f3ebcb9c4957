//! What a call of OpenAI's Responses can cost, and what one of reranking can.

use crate::content::{Media, note};
use crate::envelope::{Envelope, Field, Kind};
use crate::error::InvalidRequest;
use crate::raw::Raw;
use crate::request::{Call, TOKENS_PER_STRUCTURE};

/// Fields of Responses that never become part of a prompt. All others count, the unknown too.
const NOT_PROMPT: &[&str] = &[
    "background",
    "include",
    "max_output_tokens",
    "max_tool_calls",
    "metadata",
    "model",
    "parallel_tool_calls",
    "prompt_cache_retention",
    "reasoning",
    "safety_identifier",
    "service_tier",
    "store",
    "stream",
    "stream_options",
    "temperature",
    "top_logprobs",
    "top_p",
    "truncation",
    "user",
];

/// Fields that bring what the request does not show: stored items (until they are joined with
/// it), stored templates, and items that the provider makes of others.
const UNBOUNDED_FIELDS: &[&str] = &[
    "context_management",
    "conversation",
    "previous_response_id",
    "prompt",
];

/// Items that cost no more than they are long.
const BOUNDED_ITEMS: &[&str] = &[
    "custom_tool_call",
    "custom_tool_call_output",
    "function_call",
    "function_call_output",
    "message",
    "reasoning",
];

/// Tools that the client runs itself and describes in full.
const BOUNDED_TOOLS: &[&str] = &["custom", "function"];

impl Call {
    /// Adds what one field of Responses can cost.
    pub(crate) fn count_responses_field(
        &mut self,
        envelope: &Envelope,
        field: &Field,
        name: &str,
    ) -> Result<(), InvalidRequest> {
        if NOT_PROMPT.contains(&name) {
            return Ok(());
        }
        if UNBOUNDED_FIELDS.contains(&name) {
            note(&mut self.unbounded, name);
        }
        let length = field.value_length();
        let value = envelope.value(field);
        match (name, field.kind) {
            ("input", Kind::Array) => {
                let media = in_items(value)?;
                self.prompt_bytes += length - media.image_bytes.min(length);
                self.add(media);
            }
            ("input", _) => self.prompt_bytes += length,
            // One message more.
            ("instructions", _) => {
                self.prompt_bytes += length;
                self.message_count = self.message_count.saturating_add(1);
            }
            _ => {
                self.prompt_bytes += length;
                self.structure_tokens += TOKENS_PER_STRUCTURE * u64::from(field.tally.structure);
                if name == "tools" {
                    self.note_tools(value);
                }
            }
        }
        Ok(())
    }

    /// The messages that `input` comes to.
    pub(crate) fn read_items(&mut self, field: &Field) -> Result<(), InvalidRequest> {
        let count = match field.kind {
            Kind::String => 1,
            Kind::Array => field.tally.items,
            kind => {
                let expected = "a string or an array of items";
                return Err(InvalidRequest::wrong_type("input", expected, kind));
            }
        };
        self.message_count = self.message_count.saturating_add(count);
        self.prompt_count = u32::from(count > 0);
        Ok(())
    }

    /// Tools that the provider runs, or of which it alone knows the description.
    fn note_tools(&mut self, tools: Raw<'_>) {
        for tool in tools.elements() {
            let kind = tool.get("type").and_then(Raw::as_str).unwrap_or_default();
            if !BOUNDED_TOOLS.contains(&&*kind) {
                note(&mut self.unbounded, &kind);
            }
        }
    }

    /// Adds what one field of a reranking can cost. A model reads the query with each document.
    pub(crate) fn count_rerank_field(&mut self, envelope: &Envelope, field: &Field, name: &str) {
        const NOT_PROMPT: &[&str] = &[
            "max_chunks_per_doc",
            "max_tokens_per_doc",
            "model",
            "return_documents",
            "top_k",
            "top_n",
            "truncate",
            "truncation",
            "user",
        ];
        if NOT_PROMPT.contains(&name) {
            return;
        }
        let length = field.value_length();
        let times = if name == "documents" {
            1
        } else {
            // Whatever else is read, is read as often as the query.
            let documents = envelope.find("documents");
            documents.map_or(1, |documents| u64::from(documents.tally.items.max(1)))
        };
        self.prompt_bytes = self
            .prompt_bytes
            .saturating_add(length.saturating_mul(times));
        if field.tally.marked {
            self.add(Media::in_value(envelope.value(field)));
        }
    }

    /// Refuses a reranking without a query or documents.
    pub(crate) fn check_rerank(&self, envelope: &Envelope) -> Result<(), InvalidRequest> {
        let query = envelope.str("query");
        let query = query.ok_or_else(|| InvalidRequest::missing("query"))??;
        if query.is_empty() {
            let message = "Invalid 'query': empty string. Say what to rank the documents by.";
            return Err(InvalidRequest::new(message, "query", "empty_string"));
        }
        Ok(())
    }
}

/// Looks through the items of `input`.
fn in_items(items: Raw<'_>) -> Result<Media, InvalidRequest> {
    let mut media = Media::default();
    for item in items.elements() {
        let mut kind = None;
        for (_, value) in item.fields().filter(|(key, _)| key.is("type")) {
            if kind.replace(value).is_some() {
                return Err(InvalidRequest::new(
                    "An item has the field 'type' twice: send it once.",
                    "input",
                    "duplicate_parameter",
                ));
            }
        }
        let kind = kind.map_or("message".into(), |kind| kind.as_str().unwrap_or_default());
        if !BOUNDED_ITEMS.contains(&&*kind) {
            note(&mut media.unbounded, &kind);
        }
        for (key, value) in item.fields() {
            // Thoughts have parts of their own kind, and nothing but text in them.
            if kind != "reasoning" && (key.is("content") || key.is("output")) {
                media.content(value)?;
            } else if !key.is("type") {
                media.anything(value);
            }
        }
    }
    Ok(media)
}
