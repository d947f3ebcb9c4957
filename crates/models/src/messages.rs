//! What a call of Anthropic's Messages can cost.

use crate::blocks;
use crate::content::note;
use crate::envelope::{Envelope, Field, Kind};
use crate::error::InvalidRequest;
use crate::request::{Call, TOKENS_PER_STRUCTURE};

/// Fields that never become part of a prompt. All others count, the unknown too.
const NOT_PROMPT: &[&str] = &[
    "cache_control",
    "max_tokens",
    "metadata",
    "model",
    "service_tier",
    "stop_sequences",
    "stream",
    "temperature",
    "thinking",
    "top_k",
    "top_p",
];

/// Fields that make the provider read or write more tokens than the request bounds, or charge
/// more for each: `speed` and `inference_geo` multiply its prices.
const UNBOUNDED_FIELDS: &[&str] = &[
    "container",
    "context_management",
    "inference_geo",
    "mcp_servers",
    "speed",
];

impl Call {
    /// Adds what one field can cost.
    pub(crate) fn count_messages_field(
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
        let media = match name {
            "messages" => blocks::in_messages(value)?,
            "system" => blocks::in_content(value)?,
            _ => {
                self.prompt_bytes += length;
                self.structure_tokens += TOKENS_PER_STRUCTURE * u64::from(field.tally.structure);
                if name == "tools" {
                    self.structure_tokens += blocks::in_tools(value, &mut self.unbounded);
                }
                return Ok(());
            }
        };
        self.prompt_bytes += length - media.image_bytes.min(length);
        self.add(media);
        Ok(())
    }

    /// `metadata.user_id`
    pub(crate) fn read_messages_user(
        &mut self,
        envelope: &Envelope,
        field: &Field,
    ) -> Result<(), InvalidRequest> {
        let value = envelope.value(field);
        let Some(user) = value.get("user_id") else {
            return Ok(());
        };
        let kind = user.kind().unwrap_or(Kind::Null);
        if kind != Kind::Null {
            let wrong = || InvalidRequest::wrong_type("metadata.user_id", "a string", kind);
            self.user = Some(user.as_str().ok_or_else(wrong)?.into_owned());
        }
        Ok(())
    }
}
