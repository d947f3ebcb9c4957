//! JSON that fits a JSON schema: simple, deterministic, bounded.
//!
//! It follows `type`, `properties`, `required`, `items`, `prefixItems`, `enum`, `const`, `$ref`
//! into the same document, `anyOf`, `oneOf`, `allOf`, the bounds of numbers, lengths and counts,
//! and the common `format`s. It does not follow `pattern`, `not` and `if`.

use serde_json::{Map, Value, json};

use crate::text::phrase;
use crate::tokens::Draw;

/// Below this depth only what is required is written, and the first way out of a choice that ends.
/// 8: deeper than schemas that people write by hand.
const DEPTH_OPTIONAL_MAX: usize = 8;

/// Nothing is written deeper: a schema that requires itself has no finite example.
const DEPTH_MAX: usize = 32;

/// Values in one document at most.
const VALUES_MAX: usize = 4_096;

/// Characters of one string at most.
const STRING_CHARS_MAX: u64 = 4_096;

/// Writes JSON that fits `schema`, as far as this module follows it.
pub(crate) fn sample(schema: &Value, draw: &mut Draw) -> Value {
    let mut sampler = Sampler {
        root: schema,
        draw,
        values_left: VALUES_MAX,
    };
    sampler.value(schema, 0)
}

/// JSON for a request that wants an object and gives no schema.
pub(crate) fn sample_object(draw: &mut Draw) -> Value {
    json!({"answer": phrase(draw, 4), "count": draw.below(100)})
}

struct Sampler<'a> {
    root: &'a Value,
    draw: &'a mut Draw,
    values_left: usize,
}

impl<'a> Sampler<'a> {
    fn value(&mut self, schema: &'a Value, depth: usize) -> Value {
        if depth > DEPTH_MAX || self.values_left == 0 {
            return Value::Null;
        }
        self.values_left -= 1;
        if let Some(value) = schema.get("const") {
            return value.clone();
        }
        if let Some(values) = schema.get("enum").and_then(Value::as_array)
            && !values.is_empty()
        {
            return values[self.draw.below(values.len())].clone();
        }
        if let Some(target) = self.target(schema) {
            return self.value(target, depth + 1);
        }
        for choice in ["anyOf", "oneOf"] {
            if let Some(options) = schema.get(choice).and_then(Value::as_array)
                && let Some(option) = Self::option(options, depth)
            {
                return self.value(option, depth + 1);
            }
        }
        if let Some(parts) = schema.get("allOf").and_then(Value::as_array) {
            return self.all_of(schema, parts, depth);
        }
        match kind(schema) {
            Some("object") => self.object(schema, depth),
            Some("array") => self.array(schema, depth),
            Some("integer") => self.integer(schema),
            Some("number") => self.number(schema),
            Some("boolean") => Value::Bool(self.draw.below(2) == 1),
            Some("null") => Value::Null,
            _ => Value::String(self.string(schema)),
        }
    }

    /// What a `$ref` inside the document points at.
    fn target(&self, schema: &Value) -> Option<&'a Value> {
        let pointer = schema.get("$ref")?.as_str()?.strip_prefix('#')?;
        self.root.pointer(pointer)
    }

    /// The first option; far down the first that ends there, so that a recursive schema does.
    fn option(options: &'a [Value], depth: usize) -> Option<&'a Value> {
        let ends = |option: &&Value| matches!(kind(option), Some(kind) if kind != "object");
        let ending = options.iter().find(ends);
        ending
            .filter(|_| depth > DEPTH_OPTIONAL_MAX)
            .or(options.first())
    }

    /// The parts' properties together; if they are no objects, the first part.
    fn all_of(&mut self, schema: &'a Value, parts: &'a [Value], depth: usize) -> Value {
        let mut merged = match self.object(schema, depth) {
            Value::Object(own) => own,
            _ => Map::new(),
        };
        for part in parts {
            match self.value(part, depth + 1) {
                Value::Object(more) => merged.extend(more),
                other if merged.is_empty() => return other,
                _ => {}
            }
        }
        Value::Object(merged)
    }

    fn object(&mut self, schema: &'a Value, depth: usize) -> Value {
        let required: Vec<&str> = schema
            .get("required")
            .and_then(Value::as_array)
            .map(|names| names.iter().filter_map(Value::as_str).collect())
            .unwrap_or_default();
        let mut members = Map::new();
        if let Some(properties) = schema.get("properties").and_then(Value::as_object) {
            for (name, property) in properties {
                if depth < DEPTH_OPTIONAL_MAX || required.contains(&name.as_str()) {
                    members.insert(name.clone(), self.value(property, depth + 1));
                }
            }
        }
        for name in required {
            if !members.contains_key(name) && self.values_left > 0 {
                self.values_left -= 1;
                members.insert(name.to_owned(), Value::String(phrase(self.draw, 2)));
            }
        }
        Value::Object(members)
    }

    fn array(&mut self, schema: &'a Value, depth: usize) -> Value {
        let least = count(schema, "minItems").unwrap_or(0);
        let most = count(schema, "maxItems").unwrap_or(u64::MAX);
        let usual = if depth < DEPTH_OPTIONAL_MAX { 2 } else { 0 };
        let first: &[Value] = schema
            .get("prefixItems")
            .and_then(Value::as_array)
            .map_or(&[], Vec::as_slice);
        let wanted = usual.max(least).max(first.len() as u64).min(most);
        let length = usize::try_from(wanted).map_or(VALUES_MAX, |wanted| wanted.min(VALUES_MAX));
        let items = schema.get("items");
        let values = (0..length).map_while(|at| match first.get(at).or(items) {
            Some(item) => Some(self.value(item, depth + 1)),
            // Nothing is said about the items: any will do, and as few as may be.
            None if (at as u64) < least && self.values_left > 0 => {
                self.values_left -= 1;
                Some(Value::String(phrase(self.draw, 1)))
            }
            None => None,
        });
        Value::Array(values.collect())
    }

    fn integer(&mut self, schema: &Value) -> Value {
        let integer = |name| schema.get(name).and_then(Value::as_f64);
        let least = [
            integer("minimum").map(f64::ceil),
            integer("exclusiveMinimum").map(|bound| bound.floor() + 1.0),
        ];
        let most = [
            integer("maximum").map(f64::floor),
            integer("exclusiveMaximum").map(|bound| bound.ceil() - 1.0),
        ];
        // `as` saturates, so a bound beyond 64 bits is the end of the range.
        let least = least.into_iter().flatten().map(|bound| bound as i64).max();
        let most = most.into_iter().flatten().map(|bound| bound as i64).min();
        let (least, most) = match (least, most) {
            (None, None) => (0, 99),
            (Some(least), None) => (least, least.saturating_add(99)),
            (None, Some(most)) => (most.saturating_sub(99), most),
            (Some(least), Some(most)) => (least, most.max(least)),
        };
        let step = integer("multipleOf").map_or(1, |step| step.max(1.0) as i64);
        let width = most.abs_diff(least).min(99);
        let drawn = least.saturating_add(self.draw.below(width as usize + 1) as i64);
        let below = drawn - drawn.rem_euclid(step);
        let fitting = if below < least {
            below.saturating_add(step)
        } else {
            below
        };
        Value::from(fitting)
    }

    fn number(&mut self, schema: &Value) -> Value {
        let bound = |name| schema.get(name).and_then(Value::as_f64);
        if let Some(step) = bound("multipleOf").filter(|step| *step > 0.0) {
            let least = bound("minimum")
                .or(bound("exclusiveMinimum"))
                .unwrap_or(0.0);
            return Value::from((least / step).floor() * step + step);
        }
        let least = bound("minimum").or(bound("exclusiveMinimum"));
        let most = bound("maximum").or(bound("exclusiveMaximum"));
        let (least, most) = match (least, most) {
            (None, None) => (0.0, 100.0),
            (Some(least), None) => (least, least + 100.0),
            (None, Some(most)) => (most - 100.0, most),
            (Some(least), Some(most)) => (least, most),
        };
        // In quarters of the inside, so that exclusive bounds hold too.
        let part = (1 + self.draw.below(3)) as f64 / 4.0;
        Value::from(least + (most - least) * part)
    }

    fn string(&mut self, schema: &Value) -> String {
        let text = match schema.get("format").and_then(Value::as_str) {
            Some("date-time") => format!("2025-0{}-11T08:30:00Z", 1 + self.draw.below(9)),
            Some("date") => format!("2025-0{}-11", 1 + self.draw.below(9)),
            Some("time") => "08:30:00Z".into(),
            Some("duration") => "PT30M".into(),
            Some("email") => format!("{}@example.com", phrase(self.draw, 1)),
            Some("uri") => format!("https://example.com/{}", phrase(self.draw, 1)),
            Some("hostname") => "example.com".into(),
            Some("ipv4") => "192.0.2.1".into(),
            Some("ipv6") => "2001:db8::1".into(),
            Some("uuid") => {
                let low = self.draw.next() & 0xffff_ffff_ffff;
                format!("6ba7b810-9dad-41d1-80b4-{low:012x}")
            }
            _ => phrase(self.draw, 2),
        };
        let least = count(schema, "minLength")
            .unwrap_or(0)
            .min(STRING_CHARS_MAX);
        let most = count(schema, "maxLength").unwrap_or(u64::MAX);
        let padding = least.saturating_sub(text.len() as u64) as usize;
        // All of it is ASCII, so bytes are characters.
        let mut text = text + &"x".repeat(padding);
        text.truncate(usize::try_from(most).unwrap_or(usize::MAX));
        text
    }
}

/// The schema's type: of several the first that is not null; without any, what its words imply.
fn kind(schema: &Value) -> Option<&str> {
    match schema.get("type") {
        Some(Value::String(kind)) => Some(kind),
        Some(Value::Array(kinds)) => {
            let mut names = kinds.iter().filter_map(Value::as_str);
            names.find(|&name| name != "null").or(Some("null"))
        }
        _ if schema.get("properties").is_some() => Some("object"),
        _ if schema.get("items").is_some() => Some("array"),
        _ => None,
    }
}

fn count(schema: &Value, name: &str) -> Option<u64> {
    schema.get(name).and_then(Value::as_u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether `value` fits `schema`: the few words that the tests use.
    fn fits(value: &Value, schema: &Value, root: &Value) -> bool {
        if let Some(pointer) = schema.get("$ref").and_then(Value::as_str) {
            return fits(value, root.pointer(&pointer[1..]).unwrap(), root);
        }
        if let Some(options) = schema.get("anyOf").and_then(Value::as_array) {
            return options.iter().any(|option| fits(value, option, root));
        }
        let of_type = match schema["type"].as_str() {
            Some("object") => value.is_object(),
            Some("array") => value.is_array(),
            Some("integer") => value.is_i64(),
            Some("number") => value.is_number(),
            Some("boolean") => value.is_boolean(),
            Some("null") => value.is_null(),
            Some("string") => value.is_string(),
            _ => true,
        };
        if !of_type {
            return false;
        }
        let empty = Vec::new();
        let listed = schema
            .get("enum")
            .is_none_or(|values| values.as_array().unwrap().contains(value));
        let required = schema["required"].as_array().unwrap_or(&empty);
        let complete = required
            .iter()
            .all(|name| value.get(name.as_str().unwrap()).is_some());
        let members = schema["properties"].as_object().is_none_or(|properties| {
            value
                .as_object()
                .unwrap()
                .iter()
                .all(|(name, member)| fits(member, &properties[name], root))
        });
        let items = schema.get("items").is_none_or(|item| {
            value
                .as_array()
                .unwrap()
                .iter()
                .all(|value| fits(value, item, root))
        });
        let number = value.as_f64().unwrap_or_default();
        let inside = schema["minimum"]
            .as_f64()
            .is_none_or(|least| number >= least)
            && schema["maximum"].as_f64().is_none_or(|most| number <= most)
            && schema["exclusiveMinimum"]
                .as_f64()
                .is_none_or(|least| number > least);
        let chars = value.as_str().unwrap_or_default().len() as u64;
        let long = count(schema, "minLength").is_none_or(|least| chars >= least)
            && count(schema, "maxLength").is_none_or(|most| chars <= most);
        let length = value.as_array().map_or(0, Vec::len) as u64;
        let many = count(schema, "minItems").is_none_or(|least| length >= least)
            && count(schema, "maxItems").is_none_or(|most| length <= most);
        listed && complete && members && items && inside && long && many
    }

    #[test]
    fn samples_fit_their_schema() {
        let schema = json!({
            "type": "object",
            "required": ["name", "age", "tags", "kind", "tree", "maybe", "far"],
            "properties": {
                "name": {"type": "string", "minLength": 30, "maxLength": 31},
                "short": {"type": "string", "maxLength": 2},
                "age": {"type": "integer", "minimum": 18, "maximum": 20},
                "low": {"type": "integer", "maximum": -5},
                "odd": {"type": "integer", "minimum": 7, "multipleOf": 5},
                "share": {"type": "number", "exclusiveMinimum": 0, "maximum": 1},
                "ok": {"type": "boolean"},
                "tags": {"type": "array", "items": {"type": "string"}, "minItems": 3, "maxItems": 4},
                "kind": {"enum": ["a", "b", 3]},
                "tree": {"$ref": "#/$defs/node"},
                "maybe": {"anyOf": [{"type": "null"}, {"type": "string"}]},
                "far": {"type": "integer", "minimum": 9_000_000_000_000_000_000_u64},
            },
            "$defs": {"node": {
                "type": "object",
                "required": ["next", "children"],
                "properties": {
                    "next": {"anyOf": [{"$ref": "#/$defs/node"}, {"type": "null"}]},
                    "children": {"type": "array", "items": {"$ref": "#/$defs/node"}},
                },
            }},
        });
        for seed in 0..200 {
            let value = sample(&schema, &mut Draw::new(seed));
            assert!(fits(&value, &schema, &schema), "{seed}: {value}");
            assert_eq!(value["odd"].as_i64().unwrap() % 5, 0);
        }
        let same = |seed| sample(&schema, &mut Draw::new(seed));
        assert_eq!(same(5), same(5));
        assert_ne!(same(5), same(6));
    }

    #[test]
    fn a_hostile_schema_ends() {
        let endless = json!({"$ref": "#"});
        assert_eq!(sample(&endless, &mut Draw::new(1)), Value::Null);
        let wide = json!({"type": "array", "minItems": u64::MAX, "items": {
            "type": "array", "minItems": u64::MAX, "items": {"type": "string", "minLength": 9}}});
        let text = sample(&wide, &mut Draw::new(1)).to_string();
        assert!(text.len() < 10 * VALUES_MAX * VALUES_MAX);
    }
}
