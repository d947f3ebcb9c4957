//! Items as a conversation keeps them and as clients are shown them: each with an id, a type and
//! a state, and its text in parts.

use bytes::Bytes;

use super::input::read_input;
use crate::dialect::Untranslatable;
use crate::dialect::read::At;
use crate::dialect::write::{self, ArrayWriter, ObjectWriter};
use crate::envelope::{Envelope, Kind};
use crate::error::InvalidRequest;
use crate::json::Json;
use crate::raw::Raw;

/// The conversation that a request names: by its id, or by an object that has it.
///
/// # Errors
/// It is neither a text nor an object that has an `id` and nothing else.
pub fn conversation_of(request: &Envelope) -> Result<Option<String>, InvalidRequest> {
    let named = request.get("conversation");
    let Some(named) = named.filter(|named| named.kind() != Some(Kind::Null)) else {
        return Ok(None);
    };
    let id = match named.kind() {
        Some(Kind::Object) if named.fields().count() == 1 => named.get("id"),
        _ => Some(named),
    };
    match id.and_then(Raw::as_str) {
        Some(id) => Ok(Some(id.into_owned())),
        None => Err(InvalidRequest::new(
            "Invalid type for 'conversation': expected an id or an object that has one.",
            "conversation",
            "invalid_type",
        )),
    }
}

/// The items of a request that adds them to a conversation, each of which a model can be told.
///
/// # Errors
/// `items` is not an array of such items; what is wrong is named by its place.
pub fn added_items(request: &Envelope) -> Result<Vec<Json>, InvalidRequest> {
    let items = request.get("items");
    let Some(items) = items.filter(|items| items.kind() != Some(Kind::Null)) else {
        return Ok(Vec::new());
    };
    if items.kind() != Some(Kind::Array) {
        return Err(InvalidRequest::new(
            "Invalid type for 'items': expected an array of objects.",
            "items",
            "invalid_type",
        ));
    }
    read_input(&At::field("items", items)).map_err(Untranslatable::from)?;
    let owned = |item: Raw<'_>| Json::valid(Bytes::copy_from_slice(item.bytes()));
    Ok(items.elements().map(owned).collect())
}

/// What the ids of items like this begin with.
pub fn item_id_prefix(item: &Json) -> &'static str {
    match kind_of(item).as_deref() {
        None | Some("message") => "msg",
        Some("function_call") => "fc",
        Some("function_call_output") => "fco",
        Some("reasoning") => "rs",
        Some(_) => "item",
    }
}

/// The item under this id, with what its client may leave out and is shown all the same.
pub fn shown_item(item: &Json, id: &str) -> Json {
    let kind = kind_of(item);
    let kind = kind.as_deref().unwrap_or("message");
    let is_given = |name| item.raw().get(name).is_some_and(|raw| !is_null(raw));
    let mut out = Vec::new();
    write::object(&mut out, |to| {
        to.set("id", id).set("type", kind);
        let has_status = matches!(kind, "message" | "function_call" | "function_call_output");
        if has_status && !is_given("status") {
            to.set("status", "completed");
        }
        if kind == "reasoning" && !is_given("summary") {
            to.array("summary", |_| ());
        }
        let role = item.raw().get("role").and_then(Raw::as_str);
        for (key, value) in item.raw().fields() {
            let name = key.decode();
            match &*name {
                "id" | "type" => {}
                _ if is_null(value) => {}
                "content" if kind == "message" => {
                    write_content(to, value, role.as_deref() == Some("assistant"));
                }
                name => {
                    to.raw(name, value);
                }
            }
        }
    });
    Json::valid(out)
}

fn kind_of(item: &Json) -> Option<String> {
    let kind = item.raw().get("type").and_then(Raw::as_str)?;
    Some(kind.into_owned())
}

fn is_null(value: Raw<'_>) -> bool {
    value.kind() == Some(Kind::Null)
}

/// A message's content: a text is one part.
fn write_content(to: &mut ObjectWriter<'_>, content: Raw<'_>, is_said_by_model: bool) {
    to.array("content", |to| match content.kind() {
        Some(Kind::String) => to.object(|to| {
            if is_said_by_model {
                to.set("type", "output_text");
                write_output_fields(to, |_| false);
            } else {
                to.set("type", "input_text");
            }
            to.raw("text", content);
        }),
        _ => content.elements().for_each(|part| write_part(to, part)),
    });
}

/// A part of a message, with the fields that clients rely on.
fn write_part(to: &mut ArrayWriter<'_>, part: Raw<'_>) {
    let kind = part.get("type").and_then(Raw::as_str);
    let is_given = |name: &str| part.get(name).is_some_and(|raw| !is_null(raw));
    to.object(|to| {
        match kind.as_deref() {
            Some("output_text") => write_output_fields(to, is_given),
            Some("input_image") if !is_given("detail") => {
                to.set("detail", "auto");
            }
            _ => {}
        }
        for (key, value) in part.fields().filter(|(_, value)| !is_null(*value)) {
            to.raw(&key.decode(), value);
        }
    });
}

fn write_output_fields(to: &mut ObjectWriter<'_>, is_given: impl Fn(&str) -> bool) {
    for name in ["annotations", "logprobs"] {
        if !is_given(name) {
            to.array(name, |_| ());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scan::Bounds;

    fn envelope(body: &str) -> Envelope {
        let body = Bytes::copy_from_slice(body.as_bytes());
        Envelope::parse(body, &Bounds::default()).expect("a body")
    }

    fn shown(item: &str) -> String {
        let item = Json::parse(Bytes::copy_from_slice(item.as_bytes())).expect("JSON");
        let shown = shown_item(&item, "x_1");
        String::from_utf8(shown.as_bytes().to_vec()).expect("text")
    }

    #[test]
    fn a_conversation_is_named_in_two_ways() {
        let named = |body: &str| conversation_of(&envelope(body));
        assert_eq!(
            named(r#"{"conversation":"conv_1"}"#),
            Ok(Some("conv_1".to_owned()))
        );
        assert_eq!(
            named(r#"{"conversation":{"id":"conv_1"}}"#),
            Ok(Some("conv_1".to_owned()))
        );
        assert_eq!(named(r#"{"conversation":null}"#), Ok(None));
        assert_eq!(named("{}"), Ok(None));
        for wrong in [
            r#"7"#,
            r#"{}"#,
            r#"{"id":7}"#,
            r#"{"id":"a","x":1}"#,
            r#"["a"]"#,
        ] {
            let error = named(&format!(r#"{{"conversation":{wrong}}}"#)).expect_err(wrong);
            assert_eq!(error.param.as_deref(), Some("conversation"), "{wrong}");
        }
    }

    #[test]
    fn items_are_shown_whole() {
        for (item, expected) in [
            (
                r#"{"role":"user","content":"hi"}"#,
                r#"{"id":"x_1","type":"message","status":"completed","role":"user","content":[{"type":"input_text","text":"hi"}]}"#,
            ),
            (
                r#"{"id":"old","type":"message","role":"assistant","content":"yes","status":null}"#,
                r#"{"id":"x_1","type":"message","status":"completed","role":"assistant","content":[{"type":"output_text","annotations":[],"logprobs":[],"text":"yes"}]}"#,
            ),
            (
                r#"{"role":"user","status":"incomplete","content":[{"type":"input_image","image_url":"u"},{"type":"input_text","text":"a"}]}"#,
                r#"{"id":"x_1","type":"message","role":"user","status":"incomplete","content":[{"detail":"auto","type":"input_image","image_url":"u"},{"type":"input_text","text":"a"}]}"#,
            ),
            (
                r#"{"type":"function_call_output","call_id":"c","output":"4"}"#,
                r#"{"id":"x_1","type":"function_call_output","status":"completed","call_id":"c","output":"4"}"#,
            ),
            (
                r#"{"type":"reasoning","encrypted_content":"e"}"#,
                r#"{"id":"x_1","type":"reasoning","summary":[],"encrypted_content":"e"}"#,
            ),
        ] {
            assert_eq!(shown(item), expected);
            // What is shown can be said to a model again, and is shown the same again.
            assert_eq!(shown(&shown(item)).len(), expected.len());
            let again = format!(r#"{{"items":[{}]}}"#, shown(item));
            assert_eq!(
                added_items(&envelope(&again)).map(|items| items.len()),
                Ok(1)
            );
        }
    }

    #[test]
    fn what_no_model_can_be_told_is_refused_by_its_place() {
        for (items, place) in [
            (r#""hi""#, "items"),
            (r#"["hi"]"#, "items[0]"),
            (
                r#"[{"role":"user","content":"a"},{"role":"user"}]"#,
                "items[1]",
            ),
            (r#"[{"type":"item_reference","id":"msg_1"}]"#, "items[0]"),
            (r#"[{"type":"local_shell_call","id":"x"}]"#, "items[0]"),
        ] {
            let error = added_items(&envelope(&format!(r#"{{"items":{items}}}"#)));
            let error = error.expect_err(items);
            let named = error
                .param
                .clone()
                .unwrap_or_default()
                .replace(".0", "[0]")
                .replace(".1", "[1]");
            assert!(named.starts_with(place), "{items}: {error:?}");
        }
    }
}
