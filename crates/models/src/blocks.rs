//! What Anthropic's content blocks hold beside text: images are counted, what has no bound is
//! named. Blocks of unknown kinds are named too: they may cost what the request does not say.

use crate::content::{Media, note};
use crate::envelope::Kind;
use crate::error::InvalidRequest;
use crate::raw::Raw;

/// Kinds of blocks that cost no more than they are long.
const BOUNDED_KINDS: &[&str] = &["text", "thinking", "redacted_thinking", "tool_use"];

/// Beginnings of the names of tools of Anthropic's that the client runs itself, so that only
/// their descriptions cost, which are Anthropic's: at most 735 tokens each, as documented.
const CLIENT_SIDE_TOOLS: &[&str] = &["bash_", "text_editor_", "computer_", "memory_"];

/// 1,024: more than the longest of those descriptions.
const TOKENS_PER_CLIENT_SIDE_TOOL: u64 = 1_024;

/// Looks through the value of `messages`.
///
/// # Errors
/// A block says twice what it is, so that two readers could see two requests.
pub(crate) fn in_messages(messages: Raw<'_>) -> Result<Media, InvalidRequest> {
    let mut media = Media::default();
    for message in messages.elements() {
        for (_, content) in message.fields().filter(|(key, _)| key.is("content")) {
            add_content(&mut media, content)?;
        }
    }
    Ok(media)
}

/// Looks through the value of `system`, or of any other `content`.
pub(crate) fn in_content(content: Raw<'_>) -> Result<Media, InvalidRequest> {
    let mut media = Media::default();
    add_content(&mut media, content)?;
    Ok(media)
}

/// The names of tools that the provider runs, each noted as unbounded; and the tokens of the
/// descriptions that are the provider's own.
pub(crate) fn in_tools(tools: Raw<'_>, unbounded: &mut smallvec::SmallVec<[String; 1]>) -> u64 {
    let mut tokens = 0;
    for tool in tools.elements() {
        let Some(kind) = tool.get("type").and_then(Raw::as_str) else {
            continue;
        };
        if CLIENT_SIDE_TOOLS
            .iter()
            .any(|known| kind.starts_with(known))
        {
            tokens += TOKENS_PER_CLIENT_SIDE_TOOL;
        } else if kind != "custom" {
            note(unbounded, &kind);
        }
    }
    tokens
}

/// Recursion is bounded by the depth that the scanner admitted.
fn add_content(media: &mut Media, content: Raw<'_>) -> Result<(), InvalidRequest> {
    for block in content.elements() {
        add_block(media, block)?;
    }
    Ok(())
}

fn add_block(media: &mut Media, block: Raw<'_>) -> Result<(), InvalidRequest> {
    let mut kind = None;
    let mut source = None;
    let mut content = None;
    let mut cites = false;
    for (key, value) in block.fields() {
        if key.is("type") {
            once(&mut kind, value, "type")?;
        } else if key.is("source") {
            once(&mut source, value, "source")?;
        } else if key.is("content") {
            once(&mut content, value, "content")?;
        } else if key.is("citations") {
            cites = value.get("enabled").and_then(Raw::as_bool) == Some(true);
        }
    }
    let kind = kind.and_then(Raw::as_str).unwrap_or_default();
    match &*kind {
        "image" => {
            media.images = media.images.saturating_add(1);
            if let Some(source) = source {
                media.image_bytes += image_data_bytes(source)?;
            }
        }
        "tool_result" => {
            if let Some(content) = content {
                add_content(media, content)?;
            }
        }
        "document" => add_document(media, source, cites)?,
        known if BOUNDED_KINDS.contains(&known) => {}
        unknown => note(&mut media.unbounded, unknown),
    }
    Ok(())
}

/// Text costs no more than it is long, and blocks are looked into; what is to be opened by the
/// provider has no bound, nor has what citing adds.
fn add_document(
    media: &mut Media,
    source: Option<Raw<'_>>,
    cites: bool,
) -> Result<(), InvalidRequest> {
    let kind = source.and_then(|source| source.get("type")?.as_str());
    match kind.as_deref() {
        Some("text") if !cites => {}
        Some("content") if !cites => {
            if let Some(content) = source.and_then(|source| source.get("content")) {
                add_content(media, content)?;
            }
        }
        _ => note(&mut media.unbounded, "document"),
    }
    Ok(())
}

/// The bytes of inline image data, which are no prompt text. Only base64 counts: anything else
/// could be text to some engine.
fn image_data_bytes(source: Raw<'_>) -> Result<u64, InvalidRequest> {
    let mut kind = None;
    let mut data = None;
    for (key, value) in source.fields() {
        if key.is("type") {
            once(&mut kind, value, "type")?;
        } else if key.is("data") {
            once(&mut data, value, "data")?;
        }
    }
    let is_base64 = kind.and_then(Raw::as_str).as_deref() == Some("base64");
    let data = data.filter(|data| is_base64 && data.kind() == Some(Kind::String));
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"+/=\"".contains(byte);
    Ok(data
        .filter(|data| data.bytes().iter().all(plain))
        .map_or(0, |data| data.bytes().len() as u64))
}

fn once<'a>(first: &mut Option<Raw<'a>>, value: Raw<'a>, name: &str) -> Result<(), InvalidRequest> {
    if first.replace(value).is_none() {
        return Ok(());
    }
    Err(InvalidRequest::new(
        format!("A content block has the field '{name}' twice: send it once."),
        "messages",
        "duplicate_parameter",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(content: &str, images: u32, image_bytes: u64, unbounded: &[&str]) {
        let messages = format!(r#"[{{"role":"user","content":{content}}}]"#);
        let media = in_messages(Raw::new(messages.as_bytes())).unwrap();
        assert_eq!(media.images, images, "{content}");
        assert_eq!(media.image_bytes, image_bytes, "{content}");
        assert_eq!(media.unbounded.as_slice(), unbounded, "{content}");
    }

    #[test]
    fn images_are_counted_wherever_they_stand() {
        check(r#""image""#, 0, 0, &[]);
        let image =
            r#"{"type":"image","source":{"type":"base64","media_type":"image/png","data":"AAAA"}}"#;
        check(&format!("[{image}]"), 1, 6, &[]);
        check(
            &format!(r#"[{{"type":"tool_result","tool_use_id":"t","content":[{image},{image}]}}]"#),
            2,
            12,
            &[],
        );
        check(
            &format!(
                r#"[{{"type":"document","source":{{"type":"content","content":[{image}]}}}}]"#
            ),
            1,
            6,
            &[],
        );
        check(
            r#"[{"type":"image","source":{"type":"base64","data":"not base64!"}}]"#,
            1,
            0,
            &[],
        );
        check(
            r#"[{"type":"image","source":{"type":"url","url":"https://a/b"}}]"#,
            1,
            0,
            &[],
        );
    }

    #[test]
    fn what_has_no_bound_is_named() {
        check(
            r#"[{"type":"document","source":{"type":"text","data":"x"}},{"type":"tool_use"}]"#,
            0,
            0,
            &[],
        );
        for source in ["base64", "url", "file"] {
            check(
                &format!(r#"[{{"type":"document","source":{{"type":"{source}"}}}}]"#),
                0,
                0,
                &["document"],
            );
        }
        check(
            r#"[{"type":"document","source":{"type":"text"},"citations":{"enabled":true}}]"#,
            0,
            0,
            &["document"],
        );
        check(r#"[{"type":"search_result"}]"#, 0, 0, &["search_result"]);
    }

    #[test]
    fn a_block_of_two_minds_is_refused() {
        for block in [
            r#"{"type":"image","type":"text"}"#,
            r#"{"type":"image","source":{},"source":{}}"#,
            r#"{"type":"image","source":{"type":"base64","data":"A","data":"B"}}"#,
        ] {
            let messages = format!(r#"[{{"content":[{block}]}}]"#);
            assert!(in_messages(Raw::new(messages.as_bytes())).is_err());
        }
    }

    #[test]
    fn tools_that_the_provider_runs_are_named() {
        let tools = br#"[{"name":"f"},{"type":"custom","name":"g"},{"type":"bash_20250124"},
            {"type":"web_search_20250305"}]"#;
        let mut unbounded = smallvec::SmallVec::new();
        assert_eq!(in_tools(Raw::new(tools), &mut unbounded), 1_024);
        assert_eq!(unbounded.as_slice(), ["web_search_20250305"]);
    }
}
