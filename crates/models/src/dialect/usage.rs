//! Tokens as OpenAI and Anthropic tell them.

use super::read::{At, Misread};
use super::write::ObjectWriter;
use crate::usage::Usage;

/// OpenAI's `usage`; `None` if it has no counts.
pub(super) fn read_openai(usage: &At<'_>) -> Option<Usage> {
    Usage::from_object(usage.raw)
}

/// OpenAI's `usage`, with writes to a cache where there were any.
pub(super) fn write_openai(to: &mut ObjectWriter<'_>, usage: &Usage) {
    to.set("prompt_tokens", usage.input_tokens);
    to.set("completion_tokens", usage.output_tokens);
    to.set(
        "total_tokens",
        usage.input_tokens.saturating_add(usage.output_tokens),
    );
    to.object("prompt_tokens_details", |to| {
        to.set("cached_tokens", usage.cached_read_tokens);
        if usage.cached_write_tokens > 0 {
            to.set("cache_write_tokens", usage.cached_write_tokens);
        }
        if usage.cached_write_1h_tokens > 0 {
            to.set("cache_write_1h_tokens", usage.cached_write_1h_tokens);
        }
    });
    to.object("completion_tokens_details", |to| {
        to.set("reasoning_tokens", usage.reasoning_tokens);
    });
}

/// Anthropic's counts as far as they are known. Its input is what no cache had.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct AnthropicUsage {
    input: Option<u64>,
    cache_read: Option<u64>,
    cache_write: Option<u64>,
    cache_write_1h: Option<u64>,
    output: Option<u64>,
    reasoning: Option<u64>,
}

impl AnthropicUsage {
    /// Takes what an event says: its counts replace those before.
    pub(super) fn read(&mut self, usage: &At<'_>) -> Result<(), Misread> {
        usage.object(|name, value| {
            match name {
                "input_tokens" => self.input = Some(value.u64()?),
                "output_tokens" => self.output = Some(value.u64()?),
                "cache_read_input_tokens" => self.cache_read = Some(value.u64()?),
                "cache_creation_input_tokens" => self.cache_write = Some(value.u64()?),
                "cache_creation" => {
                    if let Some(hour) = value.get("ephemeral_1h_input_tokens") {
                        self.cache_write_1h = Some(hour.u64()?);
                    }
                }
                "output_tokens_details" => {
                    if let Some(thinking) = value.get("thinking_tokens") {
                        self.reasoning = Some(thinking.u64()?);
                    }
                }
                _ => {}
            }
            Ok(())
        })
    }

    /// In OpenAI's sense: input includes what was cached. `None` if nothing was said.
    pub(super) fn tokens(&self) -> Option<Usage> {
        self.input.or(self.output)?;
        let count = Option::unwrap_or_default;
        let cached_read_tokens = count(self.cache_read);
        let cached_write_tokens = count(self.cache_write);
        let output_tokens = count(self.output);
        Some(Usage {
            input_tokens: count(self.input)
                .saturating_add(cached_read_tokens)
                .saturating_add(cached_write_tokens),
            cached_read_tokens,
            cached_write_tokens,
            cached_write_1h_tokens: count(self.cache_write_1h).min(cached_write_tokens),
            output_tokens,
            reasoning_tokens: count(self.reasoning).min(output_tokens),
        })
    }
}

/// Anthropic's `usage`.
pub(super) fn write_anthropic(to: &mut ObjectWriter<'_>, usage: &Usage) {
    let cached = usage
        .cached_read_tokens
        .saturating_add(usage.cached_write_tokens);
    let hour = usage.cached_write_1h_tokens;
    to.set("input_tokens", usage.input_tokens.saturating_sub(cached));
    to.set("cache_creation_input_tokens", usage.cached_write_tokens);
    to.set("cache_read_input_tokens", usage.cached_read_tokens);
    to.object("cache_creation", |to| {
        let five_minutes = usage.cached_write_tokens.saturating_sub(hour);
        to.set("ephemeral_5m_input_tokens", five_minutes);
        to.set("ephemeral_1h_input_tokens", hour);
    });
    to.set("output_tokens", usage.output_tokens);
    match usage.reasoning_tokens {
        0 => drop(to.null("output_tokens_details")),
        thinking => to.object("output_tokens_details", |to| {
            to.set("thinking_tokens", thinking);
        }),
    }
    // What no translated answer has; Anthropic always says so.
    to.null("server_tool_use");
    to.null("service_tier").null("inference_geo");
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::dialect::write;
    use crate::raw::Raw;

    prop_compose! {
        fn usages()(
            fresh in 0..1_000_000u64, read in 0..1_000_000u64, five in 0..1_000_000u64,
            hour in 0..1_000_000u64, visible in 0..1_000_000u64, reasoning in 0..1_000_000u64,
        ) -> Usage {
            Usage {
                input_tokens: fresh + read + five + hour,
                cached_read_tokens: read,
                cached_write_tokens: five + hour,
                cached_write_1h_tokens: hour,
                output_tokens: visible + reasoning,
                reasoning_tokens: reasoning,
            }
        }
    }

    proptest! {
        #[test]
        fn counts_survive_both_dialects(usage in usages()) {
            let mut text = Vec::new();
            write::object(&mut text, |to| write_anthropic(to, &usage));
            let mut read = AnthropicUsage::default();
            read.read(&At::root(Raw::new(&text))).unwrap();
            prop_assert_eq!(read.tokens(), Some(usage));

            let mut text = Vec::new();
            write::object(&mut text, |to| write_openai(to, &usage));
            prop_assert_eq!(read_openai(&At::root(Raw::new(&text))), Some(usage));
        }
    }

    #[test]
    fn anthropics_input_excludes_what_was_cached() {
        let text = br#"{"input_tokens":10,"cache_creation_input_tokens":300,
            "cache_read_input_tokens":2000,"output_tokens":5,"service_tier":"standard",
            "cache_creation":{"ephemeral_5m_input_tokens":200,"ephemeral_1h_input_tokens":100}}"#;
        let mut read = AnthropicUsage::default();
        read.read(&At::root(Raw::new(text))).unwrap();
        let usage = read.tokens().unwrap();
        assert_eq!(usage.input_tokens, 2_310);
        assert_eq!(usage.cached_read_tokens, 2_000);
        assert_eq!(usage.cached_write_tokens, 300);
        assert_eq!(usage.cached_write_1h_tokens, 100);
    }
}
