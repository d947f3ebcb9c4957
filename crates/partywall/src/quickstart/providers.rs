//! Providers whose keys are in the environment, and what of theirs a quickstart offers.

use base::ModelName;
use serde_json::{Value, json};
use tenancy::catalogue::Engine;

use super::upstream::{IMAGE_TOKENS_MAX, Model, Upstream};

const TABLE: &str = include_str!("models.csv");
/// Where the amounts come from.
const SOURCE: &str = "LiteLLM 1.106.2 price list";

/// A row of the table.
struct Row<'a> {
    engine: &'a str,
    model: &'a str,
    input: &'a str,
    output: &'a str,
    cached_read: Option<&'a str>,
    cached_write: Option<&'a str>,
    cached_write_1h: Option<&'a str>,
    output_tokens_max: u32,
    takes_images: bool,
}

/// The rows that the table has.
fn rows() -> impl Iterator<Item = Row<'static>> {
    TABLE
        .lines()
        .filter(|line| !line.starts_with('#'))
        .map(|line| row(line).expect("a test reads every row"))
}

fn row(line: &str) -> Option<Row<'_>> {
    let mut cells = line.split(',');
    let mut cell = || cells.next();
    Some(Row {
        engine: cell()?,
        model: cell()?,
        input: cell()?,
        output: cell()?,
        cached_read: cell().filter(|text| !text.is_empty()),
        cached_write: cell().filter(|text| !text.is_empty()),
        cached_write_1h: cell().filter(|text| !text.is_empty()),
        output_tokens_max: cell()?.parse().ok()?,
        takes_images: cell()? == "yes",
    })
}

/// The providers that have models here and whose key is set.
pub(super) fn with_a_key() -> Vec<Engine> {
    let has_models = |engine: &Engine| rows().any(|row| row.engine == engine.as_str());
    let has_key = |engine: &Engine| {
        let variable = engine.key_variable();
        variable.is_some_and(|name| std::env::var(name).is_ok_and(|key| !key.trim().is_empty()))
    };
    Engine::ALL
        .into_iter()
        .filter(has_models)
        .filter(has_key)
        .collect()
}

/// The provider as an upstream. A model's name that another provider of `before` has too gets the
/// provider's name in front of it.
pub(super) fn upstream(engine: Engine, before: &[Upstream]) -> Upstream {
    let variable = engine.key_variable().unwrap_or_default();
    let models = rows()
        .filter(|row| row.engine == engine.as_str())
        .map(|row| {
            let taken = before.iter().flat_map(|upstream| &upstream.models);
            let is_taken = taken
                .into_iter()
                .any(|other| other.name.as_str() == row.model);
            model(&row, engine, is_taken)
        });
    Upstream {
        name: engine.provider(),
        spec: json!({
            "provider": engine.provider(),
            "engine": engine.as_str(),
            "credential": format!("env:{variable}"),
        }),
        models: models.collect(),
        shares_cache: true,
        description: format!(
            "{}, with the key in {variable}: calls cost money",
            engine.as_str()
        ),
    }
}

fn model(row: &Row<'_>, engine: Engine, is_taken: bool) -> Model {
    let there: ModelName = row.model.parse().expect("a test parses every name");
    let name = if is_taken {
        let longer = format!("{}/{there}", engine.as_str());
        longer.parse().expect("a test parses every name")
    } else {
        there.clone()
    };
    let mut price: Value = json!({
        "input": row.input,
        "output": row.output,
        "source": SOURCE,
    });
    for (field, amount) in [
        ("cached_read", row.cached_read),
        ("cached_write", row.cached_write),
        ("cached_write_1h", row.cached_write_1h),
    ] {
        if let Some(amount) = amount {
            price[field] = json!(amount);
        }
    }
    Model {
        name,
        there,
        price,
        output_tokens_max: row.output_tokens_max,
        image_tokens_max: row.takes_images.then_some(IMAGE_TOKENS_MAX),
    }
}

#[cfg(test)]
mod tests {
    use base::PicoUsd;

    use super::*;

    #[test]
    fn every_row_is_one_with_exact_prices_and_a_provider_that_has_a_key() {
        let lines = TABLE.lines().filter(|line| !line.starts_with('#'));
        for line in lines {
            let row = row(line).unwrap_or_else(|| panic!("{line}"));
            let engine = Engine::ALL.into_iter().find(|it| it.as_str() == row.engine);
            let engine = engine.unwrap_or_else(|| panic!("{line}"));
            assert!(engine.key_variable().is_some() && engine.base_url().is_some());
            assert!(model(&row, engine, true).name.as_str().contains('/'));
            let amounts = [
                Some(row.input),
                Some(row.output),
                row.cached_read,
                row.cached_write,
                row.cached_write_1h,
            ];
            for amount in amounts.into_iter().flatten() {
                assert!(amount.parse::<PicoUsd>().is_ok(), "{line}");
            }
        }
    }

    #[test]
    fn two_providers_may_have_a_model_of_one_name() {
        let together = upstream(Engine::Together, &[]);
        let groq = upstream(Engine::Groq, &[together]);
        let names: Vec<&str> = groq
            .models
            .iter()
            .map(|model| model.name.as_str())
            .collect();
        assert!(names.contains(&"groq/openai/gpt-oss-120b"), "{names:?}");
        assert!(names.contains(&"openai/gpt-oss-20b"), "{names:?}");
        let twin = &groq.models[1];
        assert_eq!(twin.there.as_str(), "openai/gpt-oss-120b");
    }
}
