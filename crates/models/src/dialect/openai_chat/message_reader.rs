//! Messages of OpenAI's chat dialect, of clients and of upstreams.

use super::{OF_CONTENT, dialect_of};
use crate::conversation::{
    CacheMark, Content, Message, Part, Role, Signature, Source, ToolCall, ToolResult,
};
use crate::dialect::Dialect;
use crate::dialect::cache_mark::read_cache_mark;
use crate::dialect::read::{At, Misread};
use crate::envelope::Kind;

/// What becomes of unknown fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Strictness {
    /// A client's: refused, so that nothing is lost in silence.
    Request,
    /// An upstream's: passed over, since nobody can be told.
    Answer,
}

/// What one message holds, before its parts are in order.
#[derive(Default)]
struct Draft {
    name: Option<String>,
    content: Vec<Part>,
    refusal: Option<String>,
    calls: Vec<Part>,
    call: Option<String>,
    /// `reasoning_content` or `reasoning`.
    thoughts: Option<String>,
    /// `reasoning_details`.
    details: Vec<Detail>,
    cache: Option<CacheMark>,
}

/// One of `reasoning_details`.
pub(super) struct Detail {
    pub(super) text: Option<String>,
    pub(super) signature: Option<Signature>,
    /// Whom it belongs to, if it is no thought of its own.
    pub(super) id: Option<String>,
}

/// Reads a message; `None` if it says nothing that another dialect could say.
pub(super) fn read_message(
    message: &At<'_>,
    strictness: Strictness,
) -> Result<Option<Message>, Misread> {
    let mut draft = Draft::default();
    message.object(|name, value| draft.read(name, &value, strictness))?;
    let role = match (message.get("role"), strictness) {
        (Some(role), _) => role.text()?,
        (None, Strictness::Answer) => "assistant".to_owned(),
        (None, Strictness::Request) => message.need("role")?.text()?,
    };
    let role = match &*role {
        "system" => Role::System,
        "developer" => Role::Developer,
        "user" => Role::User,
        "assistant" => Role::Assistant,
        "tool" => return draft.into_result(message).map(Some),
        _ => {
            return Err(message
                .need("role")?
                .refuse("must be 'system', 'developer', 'user', 'assistant' or 'tool'"));
        }
    };
    if draft.call.is_some() {
        return Err(message
            .need("tool_call_id")?
            .refuse("belongs to the role 'tool'"));
    }
    if role != Role::Assistant && (!draft.calls.is_empty() || draft.refusal.is_some()) {
        return Err(message.refuse("calls or refuses, which is the role 'assistant' alone's"));
    }
    let name = draft.name.take();
    let parts = draft.into_parts();
    if parts.is_empty() && role != Role::Assistant {
        return Err(message.refuse("says nothing: give it a 'content'"));
    }
    Ok((!parts.is_empty()).then_some(Message { role, name, parts }))
}

impl Draft {
    fn read(&mut self, name: &str, value: &At<'_>, strictness: Strictness) -> Result<(), Misread> {
        match name {
            "role" => {}
            "content" => self.content = read_content(value, strictness)?,
            "name" => self.name = Some(value.text()?),
            "refusal" => self.refusal = Some(value.text()?),
            "tool_call_id" => self.call = Some(value.text()?),
            "tool_calls" => value.array(|call| {
                self.calls.push(read_call(&call, strictness)?);
                Ok::<_, Misread>(())
            })?,
            "reasoning_content" | "reasoning" if value.kind() == Kind::String => {
                self.thoughts = Some(value.text()?);
            }
            "reasoning_details" => value.array(|detail| {
                self.details.extend(read_detail(&detail)?);
                Ok::<_, Misread>(())
            })?,
            "cache_control" => self.cache = Some(read_cache_mark(value)?),
            // What an upstream said of its own words: no model reads it again.
            "annotations" => {}
            _ if strictness == Strictness::Answer || value.is_empty() => {}
            "function_call" => return Err(value.refuse("is deprecated: use 'tool_calls'")),
            "audio" => {
                return Err(value.refuse("names audio that another provider keeps: remove it"));
            }
            _ => return Err(value.unknown()),
        }
        Ok(())
    }

    /// The parts in the order in which models write them: thoughts, text, refusal, calls.
    fn into_parts(mut self) -> Vec<Part> {
        let mut parts = Vec::new();
        if self.details.is_empty() {
            let thoughts = self.thoughts.filter(|thoughts| !thoughts.is_empty());
            parts.extend(thoughts.map(|text| Part::from(Content::Reasoning(text))));
        }
        for detail in self.details {
            let owner = match detail.id.as_deref() {
                Some(OF_CONTENT) => self.content.last_mut(),
                Some(id) => self.calls.iter_mut().find(|call| is_call(call, id)),
                None => None,
            };
            match owner {
                Some(owner) => owner.signature = detail.signature,
                None => parts.push(detail.into_part()),
            }
        }
        if !self.calls.is_empty() {
            // Clients write "" where a model only called.
            let empty =
                |part: &Part| matches!(&part.content, Content::Text(text) if text.is_empty());
            self.content.retain(|part| !empty(part));
        }
        parts.append(&mut self.content);
        parts.extend(self.refusal.map(|text| Part::from(Content::Refusal(text))));
        parts.append(&mut self.calls);
        if let (Some(mark), Some(last)) = (self.cache, parts.last_mut()) {
            last.cache = Some(mark);
        }
        parts
    }

    fn into_result(self, message: &At<'_>) -> Result<Message, Misread> {
        let Some(call) = self.call else {
            return Err(message
                .need("tool_call_id")
                .err()
                .unwrap_or_else(|| message.unknown()));
        };
        let result = Content::ToolResult(ToolResult {
            call,
            name: self.name,
            parts: self.content,
            is_error: false,
        });
        let mut part = Part::from(result);
        part.cache = self.cache;
        Ok(Message::new(Role::User, vec![part]))
    }
}

impl Detail {
    pub(super) fn into_part(self) -> Part {
        let content = match self.text {
            Some(text) => Content::Reasoning(text),
            None => Content::RedactedReasoning,
        };
        let mut part = Part::from(content);
        part.signature = self.signature;
        part
    }
}

fn is_call(part: &Part, id: &str) -> bool {
    matches!(&part.content, Content::ToolCall(call) if call.id == id)
}

/// A text or an array of parts.
fn read_content(content: &At<'_>, strictness: Strictness) -> Result<Vec<Part>, Misread> {
    let mut parts = Vec::new();
    if content.kind() == Kind::String {
        let text = content.text()?;
        // A model that only calls says "".
        if !text.is_empty() || strictness == Strictness::Request {
            parts.push(Part::text(text));
        }
        return Ok(parts);
    }
    content.array(|part| {
        parts.extend(read_part(&part, strictness)?);
        Ok::<_, Misread>(())
    })?;
    Ok(parts)
}

fn read_part(part: &At<'_>, strictness: Strictness) -> Result<Option<Part>, Misread> {
    let kind = part.need("type")?;
    let kind = kind.text()?;
    let mut read = Part::from(match &*kind {
        "text" | "input_text" | "output_text" => Content::Text(part.need("text")?.text()?),
        "refusal" => Content::Refusal(part.need("refusal")?.text()?),
        "image_url" => read_image(&part.need("image_url")?)?,
        "input_audio" => {
            let audio = part.need("input_audio")?;
            Content::Audio {
                data: audio.need("data")?.text()?,
                format: audio.need("format")?.text()?,
            }
        }
        "file" => read_file(&part.need("file")?)?,
        // Mistral's thoughts.
        "thinking" => Content::Reasoning(thinking_text(&part.need("thinking")?)?),
        _ if strictness == Strictness::Answer => return Ok(None),
        _ => return Err(part.need("type")?.unknown()),
    });
    part.object(|name, value| {
        match name {
            "cache_control" => read.cache = Some(read_cache_mark(&value)?),
            "type" => {}
            _ if name == kind || strictness == Strictness::Answer || value.is_empty() => {}
            "text" if kind.ends_with("_text") => {}
            _ => return Err(value.unknown()),
        }
        Ok(())
    })?;
    Ok(Some(read))
}

/// `{"url", "detail"}`, or the address alone, as Mistral takes it.
fn read_image(image: &At<'_>) -> Result<Content, Misread> {
    let mut detail = None;
    let url = match image.kind() {
        Kind::String => image.text()?,
        _ => {
            image.object(|name, value| {
                match name {
                    "url" => {}
                    "detail" => detail = Some(value.text()?),
                    _ => return Err(value.unknown()),
                }
                Ok(())
            })?;
            image.need("url")?.text()?
        }
    };
    let source = match url.strip_prefix("data:") {
        Some(data) => inline(data).ok_or_else(|| {
            image.refuse("is a data URL of another form than 'data:<type>;base64,<data>'")
        })?,
        None => Source::Url(url),
    };
    Ok(Content::Image { source, detail })
}

/// What follows `data:`.
pub(in crate::dialect) fn inline(data: &str) -> Option<Source> {
    let (media_type, data) = data.split_once(";base64,")?;
    Some(Source::Base64 {
        media_type: media_type.to_owned(),
        data: data.to_owned(),
    })
}

fn read_file(file: &At<'_>) -> Result<Content, Misread> {
    let mut title = None;
    let mut source = None;
    file.object(|name, value| {
        match name {
            "filename" => title = Some(value.text()?),
            "file_id" => source = Some(Source::File(value.text()?)),
            "file_data" => {
                let text = value.text()?;
                let known = text.strip_prefix("data:").and_then(inline);
                source = Some(known.ok_or_else(|| {
                    value.refuse("must be 'data:application/pdf;base64,<data>' or alike")
                })?);
            }
            _ => return Err(value.unknown()),
        }
        Ok(())
    })?;
    match source {
        Some(source) => Ok(Content::Document { source, title }),
        None => Err(file.refuse("must have 'file_data' or 'file_id'")),
    }
}

fn thinking_text(thinking: &At<'_>) -> Result<String, Misread> {
    if thinking.kind() == Kind::String {
        return thinking.text();
    }
    let mut text = String::new();
    thinking.array(|chunk| {
        if let Some(more) = chunk.get("text") {
            text.push_str(&more.text()?);
        }
        Ok::<_, Misread>(())
    })?;
    Ok(text)
}

fn read_call(call: &At<'_>, strictness: Strictness) -> Result<Part, Misread> {
    if let Some(kind) = call.get("type") {
        kind.word(&[("function", ())])?;
    }
    let function = call.need("function")?;
    let id = match (call.get("id"), strictness) {
        (Some(id), _) => id.text()?,
        (None, Strictness::Request) => call.need("id")?.text()?,
        // Some engines give none: whoever knows the answer's id derives it.
        (None, Strictness::Answer) => String::new(),
    };
    let arguments = match function.get("arguments") {
        // Some engines write the object itself.
        Some(value) if value.kind() == Kind::Object => {
            String::from_utf8_lossy(value.raw.bytes()).into_owned()
        }
        Some(value) => value.text()?,
        None => String::new(),
    };
    let mut part = Part::from(Content::ToolCall(ToolCall {
        id,
        name: function.need("name")?.text()?,
        arguments,
    }));
    call.object(|name, value| {
        match name {
            "id" | "type" | "function" | "index" => {}
            // Google's own place for it.
            "extra_content" => {
                let google = value.need("google")?;
                part.signature = Some(Signature {
                    origin: Dialect::Gemini,
                    data: google.need("thought_signature")?.text()?,
                });
            }
            "cache_control" => part.cache = Some(read_cache_mark(&value)?),
            _ if strictness == Strictness::Answer => {}
            _ => return Err(value.unknown()),
        }
        Ok(())
    })?;
    Ok(part)
}

/// One of `reasoning_details`; `None` if it is of a kind that nobody needs again.
pub(super) fn read_detail(detail: &At<'_>) -> Result<Option<Detail>, Misread> {
    let optional = |name: &str| detail.get(name).map(|value| value.text()).transpose();
    let kind = detail.need("type")?;
    let (text, data) = match &*kind.text()? {
        "reasoning.text" => (
            Some(optional("text")?.unwrap_or_default()),
            optional("signature")?,
        ),
        "reasoning.encrypted" => (None, Some(detail.need("data")?.text()?)),
        "reasoning.summary" => (Some(detail.need("summary")?.text()?), None),
        _ => return Ok(None),
    };
    let origin = optional("format")?.map_or(Dialect::OpenAiChat, |format| dialect_of(&format));
    // Ids of thoughts themselves, as OpenRouter gives them, own nothing here.
    let id = if text.is_none() {
        optional("id")?
    } else {
        None
    };
    Ok(Some(Detail {
        text,
        signature: data.map(|data| Signature { origin, data }),
        id,
    }))
}
