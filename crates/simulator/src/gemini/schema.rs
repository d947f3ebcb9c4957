//! Google's own schemas: a part of OpenAPI's, and nothing beyond that part.

use serde_json::{Map, Value};

use crate::fields::{Fields, Invalid, Problem, Spelling};

/// Fields that say nothing about which JSON fits, as far as the simulator follows.
const PASSED_OVER: &[&str] = &[
    "title",
    "description",
    "nullable",
    "minProperties",
    "maxProperties",
    "pattern",
    "example",
    "propertyOrdering",
    "default",
];

/// Fields that a sample follows, under the same names in JSON schema.
const FOLLOWED: &[&str] = &[
    "maxItems",
    "minItems",
    "minLength",
    "maxLength",
    "minimum",
    "maximum",
];

/// The deepest schema that is read. 32: deeper than Google reads.
const DEPTH_MAX: usize = 32;

/// Reads a schema, and writes it as a JSON schema.
///
/// # Errors
///
/// A field that Google's schemas do not have, such as `$ref` or `additionalProperties`, and a
/// value that they do not take, such as a list of types.
pub(super) fn read(path: &str, value: &Value) -> Result<Value, Invalid> {
    read_at(path, value, 0)
}

fn read_at(path: &str, value: &Value, depth: usize) -> Result<Value, Invalid> {
    if depth > DEPTH_MAX {
        return Err(Invalid::other(path, "the schema is too deep"));
    }
    let [item] =
        &crate::fields::items(path, std::slice::from_ref(value), Spelling::CamelOrSnake)[..]
    else {
        return Err(Invalid::new(path, Problem::Missing));
    };
    let mut fields = item.fields()?;
    let mut schema = Map::new();
    if let Some(kind) = fields.text("type")? {
        schema.insert("type".into(), kind_of(&fields, kind)?.into());
    }
    if let Some(format) = fields.text("format")? {
        let is_string = schema.get("type").is_some_and(|kind| kind == "string");
        if is_string && !["enum", "date-time"].contains(&format) {
            let words = "only 'enum' and 'date-time' are supported for STRING type";
            return Err(fields.wrong("format", words));
        }
        schema.insert("format".into(), format.into());
    }
    let choices = fields.texts("enum")?;
    if !choices.is_empty() {
        schema.insert("enum".into(), choices.into());
    }
    let required = fields.texts("required")?;
    if let Some(members) = fields.take("properties") {
        let members = members
            .as_object()
            .ok_or_else(|| Invalid::new(fields.path_of("properties"), Problem::NotA("object")))?;
        let read = members.iter().map(|(name, member)| {
            let path = format!("{}.{name}", fields.path_of("properties"));
            Ok((name.clone(), read_at(&path, member, depth + 1)?))
        });
        let members = read.collect::<Result<Map<_, _>, Invalid>>()?;
        if let Some(absent) = required.iter().find(|name| !members.contains_key(**name)) {
            let words = format!("property is not defined: {absent}");
            return Err(fields.wrong("required", words));
        }
        schema.insert("properties".into(), members.into());
    }
    if !required.is_empty() {
        schema.insert("required".into(), required.into());
    }
    if let Some(items) = fields.take("items") {
        let items = read_at(&fields.path_of("items"), items, depth + 1)?;
        schema.insert("items".into(), items);
    }
    let options = fields.list("anyOf")?;
    if !options.is_empty() {
        let options = options
            .iter()
            .map(|option| read_at(&option.path, option.value, depth + 1));
        schema.insert("anyOf".into(), options.collect::<Result<Value, _>>()?);
    }
    for &name in FOLLOWED {
        if let Some(bound) = fields.take(name) {
            // 64-bit numbers may come as texts in proto3's JSON.
            let bound = match bound.as_str().map(str::parse::<u64>) {
                Some(Ok(number)) => number.into(),
                _ => bound.clone(),
            };
            schema.insert(name.into(), bound);
        }
    }
    fields.accept(PASSED_OVER);
    fields.finish()?;
    Ok(schema.into())
}

fn kind_of(fields: &Fields<'_>, kind: &str) -> Result<&'static str, Invalid> {
    match kind.to_ascii_uppercase().as_str() {
        "STRING" => Ok("string"),
        "NUMBER" => Ok("number"),
        "INTEGER" => Ok("integer"),
        "BOOLEAN" => Ok("boolean"),
        "ARRAY" => Ok("array"),
        "OBJECT" => Ok("object"),
        "NULL" => Ok("null"),
        _ => Err(fields.wrong("type", format!("\"{kind}\" is no type"))),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_openapi_has_is_read_and_what_json_schema_adds_is_not() {
        let schema = json!({
            "type": "OBJECT", "required": ["city"], "property_ordering": ["city"],
            "properties": {
                "city": {"type": "STRING", "description": "Where"},
                "days": {"type": "array", "minItems": "1", "items": {"type": "INTEGER"}},
            },
        });
        let read_schema = read("p", &schema).unwrap();
        assert_eq!(read_schema["properties"]["days"]["minItems"], 1);
        assert_eq!(read_schema["type"], "object");
        for wrong in [
            json!({"type": "object", "additionalProperties": false}),
            json!({"$ref": "#/$defs/x"}),
            json!({"type": ["string", "null"]}),
            json!({"type": "string", "format": "email"}),
            json!({"type": "object", "properties": {"a": {"const": 1}}}),
            json!({"type": "object", "properties": {}, "required": ["b"]}),
        ] {
            assert!(read("p", &wrong).is_err(), "{wrong}");
        }
    }
}
