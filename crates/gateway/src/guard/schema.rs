//! The part of JSON Schema 2020-12 that structured outputs use, compiled and bounded.
//!
//! Ours rather than a library's: the usual one brings thirty crates, a regex engine that
//! backtracks and a resolver that can go to the network. A keyword that is not here is refused
//! when the guardrail is published, so that none is silently without effect.

use std::collections::{BTreeMap, HashSet};

use regex::{Regex, RegexBuilder};
use serde_json::{Map, Value};

/// 64 levels of schemas within schemas, and of references while validating.
const DEPTH_MAX: usize = 64;
/// A million comparisons of one schema with one value: half a second at the very most.
const STEPS_MAX: u32 = 1_000_000;
/// 32 patterns of 1 MiB each.
const PATTERNS_MAX: usize = 32;
const PATTERN_BYTES_MAX: usize = 1 << 20;

/// A compiled schema.
pub(super) struct Schema {
    nodes: Vec<Node>,
}

/// The place of a node in [`Schema::nodes`]; the first is the whole.
type Place = usize;

/// What a value has to be. What is absent asks for nothing.
#[derive(Default)]
struct Node {
    /// `false` as a schema.
    is_never: bool,
    reference: Option<Place>,
    /// Of [`TYPES`], as bits.
    types: Option<u8>,
    one_of_values: Option<Vec<Value>>,
    properties: BTreeMap<String, Place>,
    required: Vec<String>,
    additional: Option<Place>,
    property_count: Bounds,
    prefix_items: Vec<Place>,
    items: Option<Place>,
    item_count: Bounds,
    has_unique_items: bool,
    length: Bounds,
    pattern: Option<Regex>,
    minimum: Option<f64>,
    maximum: Option<f64>,
    exclusive_minimum: Option<f64>,
    exclusive_maximum: Option<f64>,
    multiple_of: Option<f64>,
    any_of: Vec<Place>,
    one_of: Vec<Place>,
    all_of: Vec<Place>,
    not: Option<Place>,
}

#[derive(Default)]
struct Bounds {
    least: Option<u64>,
    most: Option<u64>,
}

impl Bounds {
    fn allow(&self, count: usize) -> bool {
        let count = count as u64;
        self.least.is_none_or(|least| count >= least) && self.most.is_none_or(|most| count <= most)
    }
}

const TYPES: [&str; 7] = [
    "null", "boolean", "object", "array", "number", "string", "integer",
];

/// Keywords that say something to people and nothing to a validator.
const ANNOTATIONS: [&str; 12] = [
    "$schema",
    "$id",
    "$comment",
    "title",
    "description",
    "default",
    "examples",
    "deprecated",
    "readOnly",
    "writeOnly",
    "format",
    "strict",
];

/// A schema that is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum SchemaError {
    /// It would have no effect.
    #[error("`{keyword}` is not supported in a schema")]
    Keyword {
        /// Which.
        keyword: String,
    },
    /// Its value is not of the kind that it takes.
    #[error("`{keyword}` has a value that it does not take")]
    Malformed {
        /// Which.
        keyword: String,
    },
    /// To anywhere but this document.
    #[error("`$ref` leads to `#` or to what is in `$defs`")]
    Reference,
    /// More than 64 levels.
    #[error("a schema has at most {DEPTH_MAX} levels and {PATTERNS_MAX} patterns")]
    TooLarge,
}

/// Validation took too many steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Exhausted;

impl Schema {
    pub(super) fn compile(schema: &Value) -> Result<Self, SchemaError> {
        let mut compiler = Compiler {
            nodes: Vec::new(),
            definitions: BTreeMap::new(),
            references: Vec::new(),
            pattern_count: 0,
        };
        compiler.node(schema, 0)?;
        for (place, target) in std::mem::take(&mut compiler.references) {
            let target = match target.as_str() {
                "#" => 0,
                path => *compiler
                    .definitions
                    .get(path)
                    .ok_or(SchemaError::Reference)?,
            };
            compiler.nodes[place].reference = Some(target);
        }
        Ok(Self {
            nodes: compiler.nodes,
        })
    }

    /// Whether `text` is JSON of this shape.
    pub(super) fn is_met_by(&self, text: &str) -> Result<bool, Exhausted> {
        let Ok(value) = serde_json::from_str::<Value>(text) else {
            return Ok(false);
        };
        let mut pass = Pass {
            nodes: &self.nodes,
            steps_left: STEPS_MAX,
        };
        pass.is_met(0, &value, 0)
    }
}

struct Compiler {
    nodes: Vec<Node>,
    definitions: BTreeMap<String, Place>,
    references: Vec<(Place, String)>,
    pattern_count: usize,
}

impl Compiler {
    fn node(&mut self, schema: &Value, depth: usize) -> Result<Place, SchemaError> {
        if depth > DEPTH_MAX {
            return Err(SchemaError::TooLarge);
        }
        let place = self.nodes.len();
        self.nodes.push(Node::default());
        match schema {
            Value::Bool(is_any) => self.nodes[place].is_never = !is_any,
            Value::Object(keywords) => {
                for (keyword, value) in keywords {
                    self.keyword(place, keyword, value, depth)?;
                }
            }
            _ => return Err(malformed("a schema")),
        }
        Ok(place)
    }

    fn keyword(
        &mut self,
        place: Place,
        keyword: &str,
        value: &Value,
        depth: usize,
    ) -> Result<(), SchemaError> {
        let wrong = || malformed(keyword);
        match keyword {
            "$defs" | "definitions" => {
                for (name, schema) in value.as_object().ok_or_else(wrong)? {
                    let target = self.node(schema, depth + 1)?;
                    self.definitions
                        .insert(format!("#/{keyword}/{name}"), target);
                }
            }
            "$ref" => {
                let target = value.as_str().ok_or_else(wrong)?.to_owned();
                self.references.push((place, target));
            }
            "properties" => {
                let properties = self.map(value.as_object().ok_or_else(wrong)?, depth)?;
                self.nodes[place].properties = properties;
            }
            "additionalProperties" => {
                self.nodes[place].additional = Some(self.node(value, depth + 1)?)
            }
            "items" => self.nodes[place].items = Some(self.node(value, depth + 1)?),
            "not" => self.nodes[place].not = Some(self.node(value, depth + 1)?),
            "prefixItems" => self.nodes[place].prefix_items = self.list(keyword, value, depth)?,
            "anyOf" => self.nodes[place].any_of = self.list(keyword, value, depth)?,
            "oneOf" => self.nodes[place].one_of = self.list(keyword, value, depth)?,
            "allOf" => self.nodes[place].all_of = self.list(keyword, value, depth)?,
            "pattern" => {
                self.pattern_count += 1;
                if self.pattern_count > PATTERNS_MAX {
                    return Err(SchemaError::TooLarge);
                }
                let pattern = RegexBuilder::new(value.as_str().ok_or_else(wrong)?)
                    .size_limit(PATTERN_BYTES_MAX)
                    .dfa_size_limit(PATTERN_BYTES_MAX)
                    .build()
                    .map_err(|_| wrong())?;
                self.nodes[place].pattern = Some(pattern);
            }
            _ if ANNOTATIONS.contains(&keyword) => {}
            _ => self.nodes[place].set(keyword, value)?,
        }
        Ok(())
    }

    fn map(
        &mut self,
        schemas: &Map<String, Value>,
        depth: usize,
    ) -> Result<BTreeMap<String, Place>, SchemaError> {
        schemas
            .iter()
            .map(|(name, schema)| Ok((name.clone(), self.node(schema, depth + 1)?)))
            .collect()
    }

    fn list(
        &mut self,
        keyword: &str,
        value: &Value,
        depth: usize,
    ) -> Result<Vec<Place>, SchemaError> {
        let schemas = value.as_array().filter(|list| !list.is_empty());
        schemas
            .ok_or_else(|| malformed(keyword))?
            .iter()
            .map(|schema| self.node(schema, depth + 1))
            .collect()
    }
}

impl Node {
    /// A keyword whose value is no schema.
    fn set(&mut self, keyword: &str, value: &Value) -> Result<(), SchemaError> {
        let wrong = || malformed(keyword);
        let count = || value.as_u64().map(Some).ok_or_else(wrong);
        let amount = || value.as_f64().map(Some).ok_or_else(wrong);
        match keyword {
            "type" => self.types = Some(types(value).ok_or_else(wrong)?),
            "enum" => self.one_of_values = Some(value.as_array().ok_or_else(wrong)?.clone()),
            "const" => self.one_of_values = Some(vec![value.clone()]),
            "required" => {
                let names = value.as_array().ok_or_else(wrong)?.iter();
                let names = names.map(|name| name.as_str().map(str::to_owned));
                self.required = names.collect::<Option<_>>().ok_or_else(wrong)?;
            }
            "minProperties" => self.property_count.least = count()?,
            "maxProperties" => self.property_count.most = count()?,
            "minItems" => self.item_count.least = count()?,
            "maxItems" => self.item_count.most = count()?,
            "minLength" => self.length.least = count()?,
            "maxLength" => self.length.most = count()?,
            "uniqueItems" => self.has_unique_items = value.as_bool().ok_or_else(wrong)?,
            "minimum" => self.minimum = amount()?,
            "maximum" => self.maximum = amount()?,
            "exclusiveMinimum" => self.exclusive_minimum = amount()?,
            "exclusiveMaximum" => self.exclusive_maximum = amount()?,
            "multipleOf" => {
                self.multiple_of = amount()?.filter(|amount| *amount > 0.0);
                self.multiple_of.ok_or_else(wrong)?;
            }
            _ => {
                return Err(SchemaError::Keyword {
                    keyword: keyword.chars().take(40).collect(),
                });
            }
        }
        Ok(())
    }
}

fn types(value: &Value) -> Option<u8> {
    let bit = |name: &Value| {
        let place = TYPES.iter().position(|one| name.as_str() == Some(one))?;
        Some(1_u8 << place)
    };
    match value {
        Value::Array(names) => names
            .iter()
            .try_fold(0, |bits, name| Some(bits | bit(name)?)),
        name => bit(name),
    }
}

fn malformed(keyword: &str) -> SchemaError {
    SchemaError::Malformed {
        keyword: keyword.chars().take(40).collect(),
    }
}

/// One validation.
struct Pass<'s> {
    nodes: &'s [Node],
    steps_left: u32,
}

impl Pass<'_> {
    fn is_met(&mut self, place: Place, value: &Value, depth: usize) -> Result<bool, Exhausted> {
        self.steps_left = self.steps_left.checked_sub(1).ok_or(Exhausted)?;
        if depth > DEPTH_MAX * 4 {
            return Err(Exhausted);
        }
        let nodes = self.nodes;
        let node = &nodes[place];
        if node.is_never || !node.fits_alone(value) {
            return Ok(false);
        }
        if let Some(target) = node.reference
            && !self.is_met(target, value, depth + 1)?
        {
            return Ok(false);
        }
        Ok(self.combines(node, value, depth)?
            && match value {
                Value::Object(fields) => self.has_fields(node, fields, depth)?,
                Value::Array(items) => self.has_items(node, items, depth)?,
                _ => true,
            })
    }

    fn count(&mut self, places: &[Place], value: &Value, depth: usize) -> Result<usize, Exhausted> {
        let mut count = 0;
        for place in places {
            count += usize::from(self.is_met(*place, value, depth + 1)?);
        }
        Ok(count)
    }

    fn combines(&mut self, node: &Node, value: &Value, depth: usize) -> Result<bool, Exhausted> {
        Ok(self.count(&node.all_of, value, depth)? == node.all_of.len()
            && (node.any_of.is_empty() || self.count(&node.any_of, value, depth)? > 0)
            && (node.one_of.is_empty() || self.count(&node.one_of, value, depth)? == 1)
            && match node.not {
                Some(not) => !self.is_met(not, value, depth + 1)?,
                None => true,
            })
    }

    fn has_fields(
        &mut self,
        node: &Node,
        fields: &Map<String, Value>,
        depth: usize,
    ) -> Result<bool, Exhausted> {
        let has_all = node.required.iter().all(|name| fields.contains_key(name));
        if !has_all || !node.property_count.allow(fields.len()) {
            return Ok(false);
        }
        for (name, value) in fields {
            let place = node.properties.get(name).copied().or(node.additional);
            if let Some(place) = place
                && !self.is_met(place, value, depth + 1)?
            {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn has_items(&mut self, node: &Node, items: &[Value], depth: usize) -> Result<bool, Exhausted> {
        if !node.item_count.allow(items.len()) {
            return Ok(false);
        }
        if node.has_unique_items {
            let mut seen = HashSet::new();
            if !items.iter().all(|item| seen.insert(item.to_string())) {
                return Ok(false);
            }
        }
        for (number, item) in items.iter().enumerate() {
            let place = node.prefix_items.get(number).copied().or(node.items);
            if let Some(place) = place
                && !self.is_met(place, item, depth + 1)?
            {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

impl Node {
    /// What can be said without looking into the value.
    fn fits_alone(&self, value: &Value) -> bool {
        let is_typed = self.types.is_none_or(|types| types & type_bits(value) != 0);
        let is_listed = self
            .one_of_values
            .as_ref()
            .is_none_or(|values| values.contains(value));
        is_typed
            && is_listed
            && match value {
                Value::String(text) => {
                    self.length.allow(text.chars().count())
                        && self.pattern.as_ref().is_none_or(|one| one.is_match(text))
                }
                Value::Number(number) => self.fits_number(number.as_f64().unwrap_or(f64::NAN)),
                _ => true,
            }
    }

    fn fits_number(&self, number: f64) -> bool {
        let is_multiple = |unit: f64| {
            let quotient = number / unit;
            (quotient - quotient.round()).abs() < 1e-9
        };
        self.minimum.is_none_or(|least| number >= least)
            && self.maximum.is_none_or(|most| number <= most)
            && self.exclusive_minimum.is_none_or(|least| number > least)
            && self.exclusive_maximum.is_none_or(|most| number < most)
            && self.multiple_of.is_none_or(is_multiple)
    }
}

/// The types that a value is of: a whole number is both `number` and `integer`.
fn type_bits(value: &Value) -> u8 {
    match value {
        Value::Null => 1,
        Value::Bool(_) => 2,
        Value::Object(_) => 4,
        Value::Array(_) => 8,
        Value::Number(number) => {
            let is_whole = number
                .as_f64()
                .is_some_and(|one| one.fract().abs() < f64::EPSILON);
            if is_whole { 16 | 64 } else { 16 }
        }
        Value::String(_) => 32,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn values_are_checked() {
        let person = json!({
            "type": "object",
            "properties": {
                "name": {"type": "string", "minLength": 1, "maxLength": 4, "pattern": "^[a-z]+$"},
                "age": {"type": "integer", "minimum": 0, "exclusiveMaximum": 150},
                "tags": {"type": "array", "items": {"enum": ["a", "b"]}, "uniqueItems": true, "maxItems": 2}
            },
            "required": ["name"],
            "additionalProperties": false
        });
        let tree = json!({
            "$defs": {"node": {"type": "object", "properties": {"left": {"$ref": "#/$defs/node"}}, "additionalProperties": false}},
            "$ref": "#/$defs/node"
        });
        let table = [
            (&person, r#"{"name":"ada"}"#, true),
            (
                &person,
                r#"{"name":"ada","age":36.0,"tags":["a","b"]}"#,
                true,
            ),
            (&person, r#"{"name":"ada","age":36.5}"#, false),
            (&person, r#"{"name":"ada","age":150}"#, false),
            (&person, r#"{"name":"ADA"}"#, false),
            (&person, r#"{"name":"adaxx"}"#, false),
            (&person, r#"{"name":"ada","tags":["a","a"]}"#, false),
            (&person, r#"{"name":"ada","tags":["c"]}"#, false),
            (&person, r#"{"name":"ada","colour":1}"#, false),
            (&person, r#"{"age":1}"#, false),
            (&person, "Sure! {\"name\":\"ada\"}", false),
            (&person, "", false),
            (&tree, r#"{"left":{"left":{}}}"#, true),
            (&tree, r#"{"left":{"right":{}}}"#, false),
            (
                &json!({"anyOf": [{"type": "null"}, {"const": 1}]}),
                "1",
                true,
            ),
            (
                &json!({"oneOf": [{"type": "number"}, {"type": "integer"}]}),
                "1",
                false,
            ),
            (
                &json!({"oneOf": [{"type": "number"}, {"type": "integer"}]}),
                "1.5",
                true,
            ),
            (&json!({"not": {"type": "string"}}), "\"x\"", false),
            (&json!({"multipleOf": 0.1}), "0.3", true),
            (
                &json!({"prefixItems": [{"type": "null"}], "items": false}),
                "[null]",
                true,
            ),
            (
                &json!({"prefixItems": [{"type": "null"}], "items": false}),
                "[null,1]",
                false,
            ),
            (&json!(false), "1", false),
        ];
        for (schema, text, wanted) in table {
            let schema = Schema::compile(schema).unwrap();
            assert_eq!(schema.is_met_by(text), Ok(wanted), "{text}");
        }
    }

    #[test]
    fn what_would_have_no_effect_is_refused() {
        let table = [
            (json!({"patternProperties": {}}), "not supported"),
            (json!({"$ref": "https://example.org/schema"}), "$ref"),
            (json!({"$ref": "#/$defs/none"}), "$ref"),
            (json!({"type": "text"}), "does not take"),
            (json!({"pattern": "("}), "does not take"),
            (json!({"properties": {"a": 1}}), "a schema"),
            (json!({"multipleOf": 0}), "does not take"),
        ];
        for (schema, wanted) in table {
            let error = Schema::compile(&schema).err().expect("refused").to_string();
            assert!(error.contains(wanted), "{error}");
        }
    }

    #[test]
    fn a_schema_that_refers_to_itself_ends() {
        let schema = Schema::compile(&json!({"$ref": "#"})).unwrap();
        assert_eq!(schema.is_met_by("1"), Err(Exhausted));
        let doubling = json!({"$defs": {"a": {"allOf": [{"$ref": "#/$defs/a"}, {"$ref": "#/$defs/a"}]}}, "$ref": "#/$defs/a"});
        assert_eq!(
            Schema::compile(&doubling).unwrap().is_met_by("1"),
            Err(Exhausted)
        );
    }
}
