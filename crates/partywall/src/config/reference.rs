//! `docs/configuration.md`, made from the types.

use std::fmt::Write as _;

use schemars::generate::SchemaSettings;
use serde_json::Value;

use super::InstallationConfig;

const INTRODUCTION: &str = "\
# Configuration reference

<!-- Made by `partywall docs configuration` from the types; a test compares. Do not edit. -->

`partywall.toml` describes one installation: where it listens, where it keeps its data, its root
key, its bounds. Every option has a default, so that an empty file is valid. `partywall config
check FILE` says what is wrong with a file: the line, the column, the key, and the nearest key
that exists. Paths are relative to the file.

Tenants, keys, tiers, upstreams, routes, prices, limits and budgets are not here: they live in the
catalogue and change by the admin API, by `partywall apply` and by the other commands.
";

/// The page: a section per table of the file, an entry per option.
pub(crate) fn reference() -> String {
    let schema = SchemaSettings::draft2020_12()
        .with(|settings| settings.inline_subschemas = true)
        .into_generator()
        .into_root_schema_for::<InstallationConfig>();
    let mut page = INTRODUCTION.to_owned();
    for (section, schema) in properties(schema.as_value()) {
        write_section(&mut page, section, schema);
    }
    page
}

fn properties(schema: &Value) -> impl Iterator<Item = (&String, &Value)> {
    schema["properties"].as_object().into_iter().flatten()
}

fn write_section(page: &mut String, section: &str, schema: &Value) {
    let mut add = |line: std::fmt::Arguments<'_>| {
        page.write_fmt(line)
            .expect("writing to a string cannot fail");
    };
    add(format_args!(
        "\n## `[{section}]`\n\n{}\n",
        description(schema)
    ));
    let mut tables = Vec::new();
    for (option, schema_of_option) in properties(schema) {
        if let Some(of_each) = of_each(schema_of_option) {
            tables.push((format!("{section}.{option}.NAME"), of_each));
        } else if schema_of_option["properties"].is_object() {
            tables.push((format!("{section}.{option}"), schema_of_option));
        }
        add(format_args!(
            "\n### `{section}.{option}`\n\n{}, default {}. {}\n",
            kind(schema_of_option),
            default(&schema["default"][option], &schema_of_option["default"]),
            description(schema_of_option),
        ));
    }
    for (section, schema) in tables {
        write_section(page, &section, schema);
    }
}

/// What each entry of a table of tables is; none for any other option.
fn of_each(schema: &Value) -> Option<&Value> {
    let by_pattern = schema["patternProperties"].as_object();
    let by_pattern = by_pattern.and_then(|patterns| patterns.values().next());
    let of_each = by_pattern.unwrap_or(&schema["additionalProperties"]);
    of_each["properties"].is_object().then_some(of_each)
}

fn description(schema: &Value) -> String {
    schema["description"]
        .as_str()
        .unwrap_or_default()
        .replace('\n', " ")
}

fn default(of_section: &Value, own: &Value) -> String {
    match (of_section, own) {
        (Value::Null, Value::Null) => "none".to_owned(),
        (Value::Null, value) | (value, _) => format!("`{value}`"),
    }
}

fn kind(schema: &Value) -> String {
    if let Some(choices) = choices(schema) {
        return format!("One of `{}`", choices.join("`, `"));
    }
    let first = match &schema["type"] {
        Value::Array(types) => &types[0],
        single => single,
    };
    let name = match first.as_str() {
        Some("string") => "Text",
        Some("integer") => "Whole number",
        Some("object") => "Table",
        Some("boolean") => "`true` or `false`",
        _ => "Value",
    };
    name.to_owned()
}

fn choices(schema: &Value) -> Option<Vec<&str>> {
    let listed = schema["enum"]
        .as_array()
        .map(|values| values.iter().collect::<Vec<_>>());
    let variants = || {
        let arms = schema["oneOf"].as_array()?;
        Some(arms.iter().map(|arm| &arm["const"]).collect())
    };
    listed
        .or_else(variants)?
        .into_iter()
        .map(Value::as_str)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `PARTYWALL_BLESS=1 cargo test -p partywall` writes the page anew.
    #[test]
    fn the_committed_page_is_the_types() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/configuration.md");
        if std::env::var_os("PARTYWALL_BLESS").is_some() {
            std::fs::write(path, reference()).unwrap();
        }
        let committed = std::fs::read_to_string(path).unwrap();
        assert!(
            committed == reference(),
            "docs/configuration.md is out of date: run `PARTYWALL_BLESS=1 cargo test -p partywall`"
        );
    }

    #[test]
    fn every_option_is_described_with_its_default() {
        let page = reference();
        assert!(page.contains("### `listen.gateway`\n\nText, default `\"127.0.0.1:8080\"`. The"));
        assert!(page.contains("### `log.format`\n\nOne of `pretty`, `json`, default `\"pretty\"`"));
        assert!(page.contains("### `root_key.env`\n\nText, default none. The"));
        for entry in page.split("\n### ").skip(1) {
            let text = entry.lines().nth(2).unwrap();
            assert!(text.split(". ").count() > 1, "no description: {entry}");
        }
    }
}
