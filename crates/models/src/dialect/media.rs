//! Types of media, and arguments of calls, for providers that are particular about them.

use crate::conversation::{Source, ToolCall};
use crate::dialect::Untranslatable;
use crate::envelope::Kind;
use crate::json::Json;

/// The arguments as an object, for dialects in which they are no text. A call without arguments
/// may have an empty text.
pub(super) fn argument_object(call: &ToolCall) -> Result<Json, Untranslatable> {
    if call.arguments.trim().is_empty() {
        return Ok(Json::valid("{}"));
    }
    let arguments = Json::parse(call.arguments.clone().into()).ok();
    let object = arguments.filter(|arguments| arguments.raw().kind() == Some(Kind::Object));
    object.ok_or_else(|| {
        Untranslatable::new(
            "messages",
            "has a tool call whose arguments are no JSON object, which this model's provider \
             needs: leave the call out",
        )
    })
}

/// What an address or a data URL names; `None` if it is a data URL of another form than
/// `data:<type>;base64,<data>`.
pub(super) fn source_of(url: String) -> Option<Source> {
    let Some(inline) = url.strip_prefix("data:") else {
        return Some(Source::Url(url));
    };
    let (media_type, data) = inline.split_once(";base64,")?;
    Some(Source::Base64 {
        media_type: media_type.to_owned(),
        data: data.to_owned(),
    })
}

/// The media type that an address's ending tells.
pub(super) fn extension_type(url: &str) -> Option<&'static str> {
    let path = url.split(['?', '#']).next()?;
    let (_, extension) = path.rsplit_once('.')?;
    let known = EXTENSIONS
        .iter()
        .find(|(known, _)| extension.eq_ignore_ascii_case(known));
    known.map(|(_, media_type)| *media_type)
}

/// The ending that a media type has: the first of [`EXTENSIONS`].
pub(super) fn type_extension(media_type: &str) -> Option<&'static str> {
    let media_type = media_type.split(';').next()?.trim();
    let known = EXTENSIONS
        .iter()
        .find(|(_, known)| media_type.eq_ignore_ascii_case(known));
    known.map(|(extension, _)| *extension)
}

const EXTENSIONS: &[(&str, &str)] = &[
    ("png", "image/png"),
    ("jpeg", "image/jpeg"),
    ("jpg", "image/jpeg"),
    ("jpeg", "image/jpg"),
    ("gif", "image/gif"),
    ("webp", "image/webp"),
    ("heic", "image/heic"),
    ("heif", "image/heif"),
    ("pdf", "application/pdf"),
    ("txt", "text/plain"),
    ("md", "text/markdown"),
    ("html", "text/html"),
    ("csv", "text/csv"),
    ("doc", "application/msword"),
    (
        "docx",
        "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
    ),
    ("xls", "application/vnd.ms-excel"),
    (
        "xlsx",
        "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endings_and_types_belong_together() {
        assert_eq!(
            extension_type("https://x.y/a.JPG?w=1#z"),
            Some("image/jpeg")
        );
        assert_eq!(extension_type("https://x.y/a"), None);
        assert_eq!(extension_type("https://x.y/a.exe"), None);
        assert_eq!(type_extension("image/jpeg"), Some("jpeg"));
        assert_eq!(type_extension("text/plain; charset=utf-8"), Some("txt"));
        assert_eq!(type_extension("video/mp4"), None);
    }

    #[test]
    fn only_an_object_can_be_arguments() {
        let check = |arguments: &str, expected: Option<&str>| {
            let call = ToolCall {
                id: "c".into(),
                name: "f".into(),
                arguments: arguments.into(),
            };
            let object = argument_object(&call).ok();
            let object = object.map(|json| String::from_utf8(json.as_bytes().to_vec()).unwrap());
            assert_eq!(object.as_deref(), expected);
        };
        check("", Some("{}"));
        check(r#"{"a":1}"#, Some(r#"{"a":1}"#));
        check("[1]", None);
        check(r#"{"a":"#, None);
    }
}
