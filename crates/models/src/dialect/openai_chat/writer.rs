//! What an upstream is asked in OpenAI's chat dialect.

use bytes::Bytes;

use super::message_writer::MessageWriter;
use super::takes::refuse_what_it_does;
use crate::conversation::{Conversation, Effort, Format, Reasoning, Tool, ToolChoice};
use crate::dialect::cache_mark::write_cache_mark;
use crate::dialect::flavour::{Accent, Flavour, ReasoningAsk};
use crate::dialect::write::{self, ObjectWriter};
use crate::dialect::{Dialect, Forced, Untranslatable};

/// Writes a request for a flavour.
pub(in crate::dialect) fn write_request(
    flavour: Flavour,
    conversation: &Conversation,
    forced: &Forced<'_>,
) -> Result<Bytes, Untranslatable> {
    let writer = Writer {
        flavour,
        accent: flavour.accent(),
        conversation,
    };
    let mut out = Vec::new();
    write::object(&mut out, |to| writer.write(to, forced))?;
    Ok(out.into())
}

struct Writer<'a> {
    flavour: Flavour,
    accent: Accent,
    conversation: &'a Conversation,
}

impl Writer<'_> {
    fn write(&self, to: &mut ObjectWriter<'_>, forced: &Forced<'_>) -> Result<(), Untranslatable> {
        let conversation = self.conversation;
        refuse_what_it_does(self.flavour, conversation)?;
        to.set("model", forced.model);
        to.array("messages", |to| {
            let messages = MessageWriter {
                accent: self.accent,
            };
            for (index, message) in conversation.messages.iter().enumerate() {
                messages.write(to, message, &format!("messages.{index}"))?;
            }
            Ok::<_, Untranslatable>(())
        })?;
        self.tools(to)?;
        self.sampling(to);
        to.maybe("n", conversation.candidates.filter(|n| *n != 1));
        to.set(self.accent.output_limit, forced.output_tokens);
        self.format(to);
        if let Some(reasoning) = &conversation.reasoning {
            self.reasoning(to, reasoning)?;
        }
        if forced.stream {
            to.set("stream", true);
            if self.accent.takes_stream_options {
                // Always asked for, so that the stream says what it cost.
                to.object("stream_options", |to| {
                    to.set("include_usage", true);
                });
            }
        }
        if self.takes("user") {
            to.maybe("user", conversation.user.as_deref());
        }
        to.maybe_json("metadata", conversation.metadata.as_ref());
        if self.takes("service_tier") {
            to.maybe("service_tier", conversation.service_tier.as_deref());
        }
        self.extras(to)?;
        if let (Some(field), Some(salt)) = (self.accent.salt, forced.salt) {
            to.set(field, salt);
        }
        Ok(())
    }

    /// What it refuses may still be there, where it says what happens anyway: it is left out.
    fn takes(&self, field: &str) -> bool {
        !self.accent.refuses.contains(&field)
    }

    fn tools(&self, to: &mut ObjectWriter<'_>) -> Result<(), Untranslatable> {
        let conversation = self.conversation;
        if !conversation.tools.is_empty() {
            to.array("tools", |to| {
                let mut tools = conversation.tools.iter().enumerate();
                tools.try_for_each(|(index, tool)| match tool {
                    Tool::Function(_) => {
                        to.object(|to| self.tool(to, tool));
                        Ok(())
                    }
                    Tool::Native { definition, .. }
                        if conversation.dialect == Dialect::OpenAiChat =>
                    {
                        to.json(definition);
                        Ok(())
                    }
                    Tool::Native { kind, .. } => Err(Untranslatable::new(
                        format!("tools.{index}"),
                        format!(
                            "is the provider's own tool '{kind}', which no other has: remove it"
                        ),
                    )),
                })
            })?;
        }
        match &conversation.tool_choice {
            None => {}
            Some(_) if !self.takes("tool_choice") => {}
            Some(ToolChoice::Auto) => {
                to.set("tool_choice", "auto");
            }
            Some(ToolChoice::None) => {
                to.set("tool_choice", "none");
            }
            Some(ToolChoice::Required) => {
                to.set("tool_choice", "required");
            }
            Some(ToolChoice::Named(name)) => to.object("tool_choice", |to| {
                to.set("type", "function");
                to.object("function", |to| {
                    to.set("name", name);
                });
            }),
        }
        if self.takes("parallel_tool_calls") {
            to.maybe("parallel_tool_calls", conversation.parallel_tool_calls);
        }
        Ok(())
    }

    fn tool(&self, to: &mut ObjectWriter<'_>, tool: &Tool) {
        let Tool::Function(tool) = tool else {
            return;
        };
        to.set("type", "function");
        to.object("function", |to| {
            to.set("name", &tool.name);
            to.maybe("description", tool.description.as_deref());
            to.maybe_json("parameters", tool.parameters.as_ref());
            to.maybe("strict", tool.strict);
        });
        if self.accent.takes_cache_marks {
            write_cache_mark(to, tool.cache);
        }
    }

    fn sampling(&self, to: &mut ObjectWriter<'_>) {
        let sampling = &self.conversation.sampling;
        let numbers = [
            ("temperature", "temperature", &sampling.temperature),
            ("top_p", "top_p", &sampling.top_p),
            ("top_k", "top_k", &sampling.top_k),
            ("min_p", "min_p", &sampling.min_p),
            (
                "frequency_penalty",
                "frequency_penalty",
                &sampling.frequency_penalty,
            ),
            (
                "presence_penalty",
                "presence_penalty",
                &sampling.presence_penalty,
            ),
            (
                "repetition_penalty",
                self.accent.repetition_penalty,
                &sampling.repetition_penalty,
            ),
            ("seed", self.accent.seed, &sampling.seed),
            ("top_logprobs", "top_logprobs", &sampling.top_logprobs),
        ];
        for (field, name, number) in numbers {
            if self.takes(field) {
                to.maybe(name, number.as_ref());
            }
        }
        if !sampling.stop.is_empty() {
            to.set("stop", &sampling.stop);
        }
        if self.takes("logit_bias") {
            to.maybe_json("logit_bias", sampling.logit_bias.as_ref());
        }
        if self.takes("logprobs") {
            to.maybe("logprobs", sampling.logprobs);
        }
    }

    fn format(&self, to: &mut ObjectWriter<'_>) {
        let Some(format) = &self.conversation.format else {
            return;
        };
        to.object("response_format", |to| match format {
            Format::Text => {
                to.set("type", "text");
            }
            Format::JsonObject => {
                to.set("type", "json_object");
            }
            Format::JsonSchema(schema) => {
                to.set("type", "json_schema");
                to.object("json_schema", |to| {
                    // Required here, and unknown to dialects without names.
                    to.set("name", schema.name.as_deref().unwrap_or("answer"));
                    to.maybe("description", schema.description.as_deref());
                    to.json("schema", &schema.schema);
                    // Dialects without the word always keep to the schema.
                    let always = (self.conversation.dialect != Dialect::OpenAiChat
                        && self.conversation.dialect != Dialect::OpenAiResponses)
                        .then_some(true);
                    to.maybe("strict", schema.strict.or(always));
                });
            }
        });
    }

    fn reasoning(
        &self,
        to: &mut ObjectWriter<'_>,
        reasoning: &Reasoning,
    ) -> Result<(), Untranslatable> {
        match self.accent.reasoning_ask {
            ReasoningAsk::Never => {}
            ReasoningAsk::Effort => {
                let effort = match reasoning.effort_or_of_budget() {
                    // OpenAI's word for all it can.
                    Some(Effort::Max) => Some(Effort::XHigh),
                    effort => effort,
                };
                to.maybe("reasoning_effort", effort.map(Effort::as_str));
            }
            ReasoningAsk::Object => to.object("reasoning", |to| {
                match (reasoning.budget_tokens, reasoning.effort) {
                    (Some(budget), _) => to.set("max_tokens", budget),
                    (None, Some(effort)) => to.set("effort", effort.as_str()),
                    (None, None) => to.set("enabled", true),
                };
            }),
        }
        Ok(())
    }

    /// Fields of the same dialect go on to whoever may know them; others' are refused.
    fn extras(&self, to: &mut ObjectWriter<'_>) -> Result<(), Untranslatable> {
        for extra in &self.conversation.extras {
            let own = match self.conversation.dialect {
                Dialect::OpenAiChat => true,
                Dialect::OpenAiResponses => SHARED.contains(&&*extra.name),
                _ => false,
            };
            if !own {
                return Err(Untranslatable::new(
                    &extra.name,
                    "cannot be said in OpenAI's chat dialect: remove it",
                ));
            }
            to.json(&extra.name, &extra.value);
        }
        Ok(())
    }
}

/// Fields that OpenAI's Responses and its chat have alike.
const SHARED: &[&str] = &["prompt_cache_retention", "safety_identifier", "verbosity"];
