//! Messages in OpenAI's chat dialect, for upstreams and for clients.

use super::{OF_CONTENT, format_of};
use crate::conversation::{
    CacheMark, Content, Message, Part, Role, Signature, Source, ToolCall, ToolResult,
};
use crate::dialect::Untranslatable;
use crate::dialect::cache_mark::write_cache_mark;
use crate::dialect::flavour::{Accent, CallIds, Images, ReasoningBack};
use crate::dialect::ids::nine_alphanumerics;
use crate::dialect::write::{ArrayWriter, ObjectWriter};

/// Writes messages for an upstream of one accent.
pub(super) struct MessageWriter {
    pub(super) accent: Accent,
}

impl MessageWriter {
    /// One message; results of tools become messages of their own before it.
    pub(super) fn write(
        &self,
        to: &mut ArrayWriter<'_>,
        message: &Message,
        place: &str,
    ) -> Result<(), Untranslatable> {
        if message.name.is_some() && self.accent.refuses.contains(&"messages.name") {
            return Err(Untranslatable::new(
                format!("{place}.name"),
                "cannot be said to this model's server: put the name into the text",
            ));
        }
        for part in &message.parts {
            if let Content::ToolResult(result) = &part.content {
                to.object(|to| self.result(to, result, part.cache, place))?;
            }
        }
        if message.role == Role::Assistant {
            return to.object(|to| self.assistant(to, message, place));
        }
        let rest = || message.parts.iter().filter(|part| !is_result(part));
        if rest().next().is_none() && !message.parts.is_empty() {
            return Ok(());
        }
        to.object(|to| {
            to.set("role", self.role(message.role));
            to.maybe("name", message.name.as_deref());
            self.content(to, rest(), place)
        })
    }

    fn role(&self, role: Role) -> &'static str {
        match role {
            Role::Developer if self.accent.knows_developer => "developer",
            Role::System | Role::Developer => "system",
            Role::User => "user",
            Role::Assistant => "assistant",
        }
    }

    fn result(
        &self,
        to: &mut ObjectWriter<'_>,
        result: &ToolResult,
        cache: Option<CacheMark>,
        place: &str,
    ) -> Result<(), Untranslatable> {
        to.set("role", "tool");
        to.set("tool_call_id", self.call_id(&result.call));
        if !self.accent.refuses.contains(&"messages.name") {
            to.maybe("name", result.name.as_deref());
        }
        if self.accent.takes_cache_marks {
            write_cache_mark(to, cache);
        }
        if result.is_error {
            // The dialect has no field for it, and the model must not take it for a result.
            return to.array("content", |to| {
                to.object(|to| {
                    to.set("type", "text").set("text", "Error:");
                });
                self.parts(to, result.parts.iter(), place)
            });
        }
        self.content(to, result.parts.iter(), place)
    }

    fn assistant(
        &self,
        to: &mut ObjectWriter<'_>,
        message: &Message,
        place: &str,
    ) -> Result<(), Untranslatable> {
        to.set("role", "assistant");
        to.maybe("name", message.name.as_deref());
        let spoken = || message.parts.iter().filter(|part| is_spoken(part));
        if spoken().next().is_some() {
            self.content(to, spoken(), place)?;
        } else {
            to.null("content");
        }
        write_refusal(to, &message.parts);
        match self.accent.reasoning_back {
            ReasoningBack::Never => {}
            ReasoningBack::ReasoningContent => {
                to.maybe("reasoning_content", thoughts(&message.parts));
            }
            ReasoningBack::Reasoning => {
                to.maybe("reasoning", thoughts(&message.parts));
            }
            ReasoningBack::Details => write_details(to, &message.parts),
        }
        write_calls(to, &message.parts, |id| self.call_id(id));
        Ok(())
    }

    fn call_id(&self, id: &str) -> String {
        match self.accent.call_ids {
            CallIds::Any => id.to_owned(),
            CallIds::NineAlphanumerics => nine_alphanumerics(id),
        }
    }

    /// A single text as a text, and all else as an array of parts.
    fn content<'p>(
        &self,
        to: &mut ObjectWriter<'_>,
        parts: impl Iterator<Item = &'p Part> + Clone,
        place: &str,
    ) -> Result<(), Untranslatable> {
        let mut first_two = parts.clone();
        match (first_two.next(), first_two.next()) {
            (None, _) => {
                to.set("content", "");
                Ok(())
            }
            (Some(only), None) if only.cache.is_none() || !self.accent.takes_cache_marks => {
                if let Content::Text(text) = &only.content {
                    to.set("content", text);
                    return Ok(());
                }
                to.array("content", |to| self.parts(to, parts, place))
            }
            _ => to.array("content", |to| self.parts(to, parts, place)),
        }
    }

    fn parts<'p>(
        &self,
        to: &mut ArrayWriter<'_>,
        mut parts: impl Iterator<Item = &'p Part>,
        place: &str,
    ) -> Result<(), Untranslatable> {
        parts.try_for_each(|part| {
            to.object(|to| {
                self.part(to, &part.content, place)?;
                if self.accent.takes_cache_marks {
                    write_cache_mark(to, part.cache);
                }
                Ok(())
            })
        })
    }

    fn part(
        &self,
        to: &mut ObjectWriter<'_>,
        content: &Content,
        place: &str,
    ) -> Result<(), Untranslatable> {
        let refuse = |why: &str| Err(Untranslatable::new(format!("{place}.content"), why));
        match content {
            Content::Text(text) => {
                to.set("type", "text").set("text", text);
            }
            Content::Image { source, detail } => {
                let url = match (source, self.accent.images) {
                    (_, Images::Never) => {
                        return refuse("has an image, which this model's server does not take");
                    }
                    (Source::Url(_), Images::Inline) => {
                        return refuse(
                            "has an image by address: this model's server takes 'data:' URLs alone",
                        );
                    }
                    (Source::Url(url), _) => url.clone(),
                    (Source::Base64 { media_type, data }, _) => data_url(media_type, data),
                    (Source::File(_) | Source::Text(_), _) => {
                        return refuse("has an image that another provider keeps: send it inline");
                    }
                };
                to.set("type", "image_url");
                to.object("image_url", |to| {
                    to.set("url", url).maybe("detail", detail.as_deref());
                });
            }
            Content::Document {
                source: Source::Text(text),
                title,
            } => {
                let titled = title.as_ref().map(|title| format!("{title}\n\n{text}"));
                to.set("type", "text");
                to.set("text", titled.as_ref().unwrap_or(text));
            }
            Content::Document { source, title } => {
                to.set("type", "file");
                match source {
                    Source::Base64 { media_type, data } => to.object("file", |to| {
                        to.set("filename", title.as_deref().unwrap_or("document"));
                        to.set("file_data", data_url(media_type, data));
                    }),
                    Source::File(id) => to.object("file", |to| {
                        to.set("file_id", id).maybe("filename", title.as_deref());
                    }),
                    Source::Url(_) | Source::Text(_) => {
                        return refuse(
                            "has a document by address, which OpenAI's chat cannot say: send it \
                             inline",
                        );
                    }
                }
            }
            Content::Audio { data, format } => {
                to.set("type", "input_audio");
                to.object("input_audio", |to| {
                    to.set("data", data).set("format", format);
                });
            }
            Content::Reasoning(_)
            | Content::RedactedReasoning
            | Content::ToolCall(_)
            | Content::ToolResult(_)
            | Content::Refusal(_) => {
                return refuse("has a part that its role cannot have");
            }
        }
        Ok(())
    }
}

/// Whether a part stands in an assistant's `content`.
fn is_spoken(part: &Part) -> bool {
    !matches!(
        part.content,
        Content::Reasoning(_)
            | Content::RedactedReasoning
            | Content::ToolCall(_)
            | Content::Refusal(_)
            | Content::ToolResult(_)
    )
}

fn is_result(part: &Part) -> bool {
    matches!(part.content, Content::ToolResult(_))
}

fn data_url(media_type: &str, data: &str) -> String {
    format!("data:{media_type};base64,{data}")
}

/// All that the model thought, as one text.
pub(super) fn thoughts(parts: &[Part]) -> Option<String> {
    let texts = parts.iter().filter_map(|part| match &part.content {
        Content::Reasoning(text) => Some(text.as_str()),
        _ => None,
    });
    let texts: Vec<_> = texts.collect();
    (!texts.is_empty()).then(|| texts.join("\n"))
}

pub(super) fn write_refusal(to: &mut ObjectWriter<'_>, parts: &[Part]) {
    let refusal = parts.iter().find_map(|part| match &part.content {
        Content::Refusal(text) => Some(text),
        _ => None,
    });
    to.maybe("refusal", refusal);
}

pub(super) fn write_calls(to: &mut ObjectWriter<'_>, parts: &[Part], id: impl Fn(&str) -> String) {
    let mut calls = parts.iter().filter_map(|part| match &part.content {
        Content::ToolCall(call) => Some(call),
        _ => None,
    });
    let Some(first) = calls.next() else {
        return;
    };
    to.array("tool_calls", |to| {
        for call in std::iter::once(first).chain(calls) {
            to.object(|to| write_call(to, call, id(&call.id)));
        }
    });
}

fn write_call(to: &mut ObjectWriter<'_>, call: &ToolCall, id: String) {
    to.set("id", id).set("type", "function");
    to.object("function", |to| {
        // A call without arguments has "{}" everywhere else.
        let arguments = match &*call.arguments {
            "" => "{}",
            arguments => arguments,
        };
        to.set("name", &call.name).set("arguments", arguments);
    });
}

/// `reasoning_details`, if any part is signed or thought.
pub(super) fn write_details(to: &mut ObjectWriter<'_>, parts: &[Part]) {
    let told =
        |part: &&Part| part.signature.is_some() || matches!(part.content, Content::Reasoning(_));
    if !parts.iter().any(|part| told(&part)) {
        return;
    }
    to.array("reasoning_details", |to| {
        for (index, part) in parts.iter().filter(told).enumerate() {
            to.object(|to| write_detail(to, &part.content, part.signature.as_ref(), index));
        }
    });
}

pub(super) fn write_detail(
    to: &mut ObjectWriter<'_>,
    content: &Content,
    signature: Option<&Signature>,
    index: usize,
) {
    let data = signature.map(|signature| &signature.data);
    if let Content::Reasoning(text) = content {
        to.set("type", "reasoning.text").set("text", text);
        to.maybe("signature", data);
    } else {
        to.set("type", "reasoning.encrypted").maybe("data", data);
        match content {
            Content::ToolCall(call) => to.set("id", &call.id),
            Content::RedactedReasoning => to,
            _ => to.set("id", OF_CONTENT),
        };
    }
    to.maybe(
        "format",
        signature.and_then(|signature| format_of(signature.origin)),
    );
    to.set("index", index);
}

/// Whether any part is signed: then a client has to send `reasoning_details` back.
pub(super) fn any_signed(parts: &[Part]) -> bool {
    parts.iter().any(|part| part.signature.is_some())
}
