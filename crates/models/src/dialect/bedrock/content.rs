//! Messages as Bedrock's.

use crate::conversation::{
    CacheMark, Content, Conversation, Part, Role, Source, ToolCall, ToolResult, Turn,
};
use crate::dialect::ids::fnv_1a;
use crate::dialect::media::{argument_object, type_extension};
use crate::dialect::write::{ArrayWriter, ObjectWriter};
use crate::dialect::{Dialect, Untranslatable};

/// 64: the longest `toolUseId`.
const ID_BYTES_MAX: usize = 64;

/// `system`, if anything is said there.
pub(super) fn write_system(
    to: &mut ObjectWriter<'_>,
    conversation: &Conversation,
) -> Result<(), Untranslatable> {
    let mut parts = conversation.system_parts().peekable();
    if parts.peek().is_none() {
        return Ok(());
    }
    to.array("system", |to| {
        parts.try_for_each(|part| {
            let Content::Text(text) = &part.content else {
                return Err(Untranslatable::new(
                    "messages",
                    "has a system message with more than text, which Bedrock cannot hear",
                ));
            };
            if !text.is_empty() {
                to.object(|to| {
                    to.set("text", text);
                });
            }
            mark(to, part);
            Ok(())
        })
    })
}

/// All turns.
pub(super) fn write_messages(
    to: &mut ArrayWriter<'_>,
    conversation: &Conversation,
) -> Result<(), Untranslatable> {
    // Names of documents must differ within a request.
    let mut documents = 0;
    for turn in conversation.turns() {
        if turn.parts.iter().all(|part| is_left_out(part)) {
            continue;
        }
        to.object(|to| {
            let role = match turn.role {
                Role::Assistant => "assistant",
                _ => "user",
            };
            to.set("role", role);
            to.array("content", |to| write_turn(to, &turn, &mut documents))
        })?;
    }
    Ok(())
}

/// Empty texts, which Bedrock refuses, and thoughts without a signature that it can read.
fn is_left_out(part: &Part) -> bool {
    match &part.content {
        Content::Text(text) | Content::Refusal(text) => text.is_empty() && part.cache.is_none(),
        Content::Reasoning(_) | Content::RedactedReasoning => signature(part).is_none(),
        _ => false,
    }
}

fn signature(part: &Part) -> Option<&str> {
    let own = part.signature_of(Dialect::Bedrock);
    own.or_else(|| part.signature_of(Dialect::Anthropic))
}

fn write_turn(
    to: &mut ArrayWriter<'_>,
    turn: &Turn<'_>,
    documents: &mut u32,
) -> Result<(), Untranslatable> {
    for part in turn.parts.iter().filter(|part| !is_left_out(part)) {
        write_part(to, part, documents)?;
        mark(to, part);
    }
    Ok(())
}

/// What ends with the part is to be cached.
fn mark(to: &mut ArrayWriter<'_>, part: &Part) {
    if let Some(mark) = part.cache {
        to.object(|to| write_cache_point(to, mark));
    }
}

pub(super) fn write_cache_point(to: &mut ObjectWriter<'_>, mark: CacheMark) {
    to.object("cachePoint", |to| {
        to.set("type", "default");
        to.maybe("ttl", mark.ttl.map(|ttl| ttl.as_str()));
    });
}

fn write_part(
    to: &mut ArrayWriter<'_>,
    part: &Part,
    documents: &mut u32,
) -> Result<(), Untranslatable> {
    match &part.content {
        Content::Text(text) | Content::Refusal(text) => {
            if !text.is_empty() {
                to.object(|to| {
                    to.set("text", text);
                });
            }
            Ok(())
        }
        Content::Image { source, .. } => to.object(|to| write_image(to, source)),
        Content::Document { source, title } => {
            *documents += 1;
            let name = document_name(title.as_deref(), *documents);
            to.object(|to| write_document(to, source, &name))
        }
        Content::Audio { .. } => Err(Untranslatable::new(
            "messages",
            "has audio, which Bedrock's Converse cannot hear: send a transcript",
        )),
        Content::Reasoning(text) => {
            to.object(|to| {
                to.object("reasoningContent", |to| {
                    to.object("reasoningText", |to| {
                        to.set("text", text).maybe("signature", signature(part));
                    });
                });
            });
            Ok(())
        }
        Content::RedactedReasoning => {
            to.object(|to| {
                to.object("reasoningContent", |to| {
                    to.maybe("redactedContent", signature(part));
                });
            });
            Ok(())
        }
        Content::ToolCall(call) => to.object(|to| write_call(to, call)),
        Content::ToolResult(result) => to.object(|to| write_result(to, result, documents)),
    }
}

fn write_call(to: &mut ObjectWriter<'_>, call: &ToolCall) -> Result<(), Untranslatable> {
    let input = argument_object(call)?;
    to.object("toolUse", |to| {
        to.set("toolUseId", tool_use_id(&call.id));
        to.set("name", &call.name).json("input", &input);
    });
    Ok(())
}

fn write_result(
    to: &mut ObjectWriter<'_>,
    result: &ToolResult,
    documents: &mut u32,
) -> Result<(), Untranslatable> {
    to.object("toolResult", |to| {
        to.set("toolUseId", tool_use_id(&result.call));
        to.array("content", |to| {
            let parts = result.parts.iter().filter(|part| !is_left_out(part));
            for part in parts {
                write_part(to, part, documents)?;
            }
            Ok::<_, Untranslatable>(())
        })?;
        if result.is_error {
            to.set("status", "error");
        }
        Ok(())
    })
}

/// The id, or one of the letters and the length that Bedrock takes, always the same.
fn tool_use_id(id: &str) -> String {
    let fits = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    if !id.is_empty() && id.len() <= ID_BYTES_MAX && id.bytes().all(|byte| fits(&byte)) {
        return id.to_owned();
    }
    let kept = id.bytes().filter(fits).take(ID_BYTES_MAX - 17);
    let kept: String = kept.map(char::from).collect();
    format!("{kept}-{:016x}", fnv_1a(id.as_bytes()))
}

fn write_image(to: &mut ObjectWriter<'_>, source: &Source) -> Result<(), Untranslatable> {
    let format = match source {
        Source::Base64 { media_type, .. } => type_extension(media_type),
        Source::Url(url) => crate::dialect::media::extension_type(url).and_then(type_extension),
        _ => None,
    };
    let known = format.filter(|format| matches!(*format, "png" | "jpeg" | "gif" | "webp"));
    to.object("image", |to| {
        let Some(format) = known else {
            return Err(Untranslatable::new(
                "messages",
                "has an image that is no PNG, JPEG, GIF or WebP: convert it",
            ));
        };
        to.set("format", format);
        write_source(to, source, "an image")
    })
}

fn write_document(
    to: &mut ObjectWriter<'_>,
    source: &Source,
    name: &str,
) -> Result<(), Untranslatable> {
    let format = match source {
        Source::Base64 { media_type, .. } => type_extension(media_type),
        Source::Url(url) => crate::dialect::media::extension_type(url).and_then(type_extension),
        Source::Text(_) => Some("txt"),
        Source::File(_) => None,
    };
    let known = format.filter(|format| {
        const FORMATS: &[&str] = &[
            "pdf", "csv", "doc", "docx", "xls", "xlsx", "html", "txt", "md",
        ];
        FORMATS.contains(format)
    });
    to.object("document", |to| {
        let Some(format) = known else {
            return Err(Untranslatable::new(
                "messages",
                "has a document of a kind that Bedrock cannot read: send a PDF, inline",
            ));
        };
        to.set("format", format).set("name", name);
        write_source(to, source, "a document")
    })
}

fn write_source(
    to: &mut ObjectWriter<'_>,
    source: &Source,
    what: &str,
) -> Result<(), Untranslatable> {
    match source {
        Source::Base64 { data, .. } => to.object("source", |to| {
            to.set("bytes", data);
        }),
        Source::Text(text) => to.object("source", |to| {
            to.set("text", text);
        }),
        Source::Url(url) if url.starts_with("s3://") => to.object("source", |to| {
            to.object("s3Location", |to| {
                to.set("uri", url);
            });
        }),
        Source::Url(_) | Source::File(_) => {
            return Err(Untranslatable::new(
                "messages",
                format!("has {what} by address, which Bedrock cannot fetch: send it inline"),
            ));
        }
    }
    Ok(())
}

/// A name of the letters that Bedrock takes: letters, digits, single spaces, hyphens, brackets.
fn document_name(title: Option<&str>, number: u32) -> String {
    let letters = title
        .unwrap_or("document")
        .chars()
        .map(|letter| match letter {
            '-' | '(' | ')' | '[' | ']' => letter,
            _ if letter.is_ascii_alphanumeric() => letter,
            _ => ' ',
        });
    let letters: String = letters.take(180).collect();
    let words: Vec<_> = letters.split_ascii_whitespace().collect();
    match (words.is_empty(), number) {
        (true, _) => format!("document {number}"),
        (false, 1) => words.join(" "),
        (false, _) => format!("{} {number}", words.join(" ")),
    }
}
