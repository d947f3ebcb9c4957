//! What tenants are charged.

use anyhow::bail;
use base::{Name, PicoUsd, Timestamp};
use clap::Args;
use serde::Serialize;
use serde_json::{Value, json};
use tenancy::catalogue::Kind;

use crate::commands::patch::merge;
use crate::commands::resource::{Fields, OnPlatform, stated};

/// Fields of a price book. What is charged is one more entry, which begins as a copy of the last.
#[derive(Debug, Clone, Args, Serialize)]
pub(crate) struct PriceBookFields {
    #[command(flatten)]
    #[serde(flatten)]
    book: BookFields,
    #[command(flatten)]
    #[serde(flatten)]
    entry: EntryFields,
}

/// The book itself.
#[derive(Debug, Clone, Args, Serialize)]
struct BookFields {
    /// For people
    #[arg(long, value_name = "TEXT")]
    description: Option<String>,
    /// Who sends the invoices, as it stands on them
    #[arg(long, value_name = "TEXT")]
    issuer: Option<String>,
    /// In which series its invoices are numbered; `inv` by default
    #[arg(long, value_name = "NAME")]
    series: Option<Name>,
}

/// What is charged from a moment on.
#[derive(Debug, Clone, Args, Serialize)]
struct EntryFields {
    /// What is added to the cost of calls, in hundredths of a per cent: 2000 are 20%
    #[arg(long, value_name = "N")]
    markup_basis_points: Option<u32>,
    /// So much of a month's usage, in dollars, is not charged
    #[arg(long, value_name = "DOLLARS")]
    included: Option<PicoUsd>,
    /// The least that is charged for a month's usage, in dollars
    #[arg(long, value_name = "DOLLARS")]
    minimum: Option<PicoUsd>,
    /// Charge an answer that was given again at so many per cent of what it cost; 0: nothing
    #[arg(long, value_name = "PER_CENT", value_parser = clap::value_parser!(u8).range(..=100))]
    #[serde(skip)]
    cache_hits_percent: Option<u8>,
    /// Model's own rates, discounts and volume tiers, as JSON: `{"rates": …, "discounts": …,
    /// "volume_tiers": …}`, as docs/billing.md has them
    #[arg(long, value_name = "JSON")]
    #[serde(skip)]
    terms: Option<String>,
    /// From when on: the beginning of an hour, UTC. By default the next one; of a new book the
    /// beginning of this month
    #[arg(long, value_name = "TIME")]
    #[serde(skip)]
    effective_from: Option<Timestamp>,
}

impl Fields for PriceBookFields {
    const KIND: Kind = Kind::PriceBook;
    const COLUMNS: &'static [&'static str] = &["description", "series", "entries"];
    type Place = OnPlatform;

    /// Appends an entry that begins as a copy of the last one: history is never rewritten.
    fn merge_into(&self, spec: &mut Value, now: Timestamp) -> anyhow::Result<()> {
        merge(spec, stated(&self.book)?);
        let mut entries = spec["entries"].as_array().cloned().unwrap_or_default();
        let change = self.entry.change()?;
        if change == json!({}) && !entries.is_empty() {
            if self.entry.effective_from.is_some() {
                bail!("`--effective-from` says when something changes: say what");
            }
            return Ok(());
        }
        let begins = match (self.entry.effective_from, entries.is_empty()) {
            (Some(at), _) => at,
            (None, true) => this_month(now)?,
            (None, false) => next_hour(now),
        };
        let mut entry = entries.last().cloned().unwrap_or_else(|| json!({}));
        for (field, value) in change.as_object().into_iter().flatten() {
            entry[field] = value.clone();
        }
        entry["effective_from"] = json!(begins);
        entries.push(entry);
        spec["entries"] = Value::Array(entries);
        Ok(())
    }
}

impl EntryFields {
    /// What is to be otherwise.
    fn change(&self) -> anyhow::Result<Value> {
        let mut change = stated(self)?;
        match self.cache_hits_percent {
            None => {}
            Some(0) => change["cache_hits"] = json!("warmer"),
            Some(percent) => change["cache_hits"] = json!({"amortised": percent}),
        }
        if let Some(text) = &self.terms {
            let terms: Value = serde_json::from_str(text)
                .map_err(|error| anyhow::anyhow!("`--terms` is not JSON: {error}"))?;
            let Value::Object(terms) = terms else {
                bail!("`--terms` is a JSON object");
            };
            for (field, value) in terms {
                change[field] = value;
            }
        }
        Ok(change)
    }
}

const HOUR_MICROS: i64 = 3_600 * 1_000_000;

fn next_hour(now: Timestamp) -> Timestamp {
    Timestamp::from_micros((now.as_micros().div_euclid(HOUR_MICROS) + 1) * HOUR_MICROS)
}

/// A day early: no time zone's month begins more than 14 hours before that of UTC.
fn this_month(now: Timestamp) -> anyhow::Result<Timestamp> {
    let month: String = now.to_string().chars().take("2026-10".len()).collect();
    let begins: Timestamp = format!("{month}-01T00:00:00Z").parse()?;
    Ok(begins.minus(std::time::Duration::from_secs(24 * 3_600)))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct With {
        #[command(flatten)]
        fields: PriceBookFields,
    }

    fn merged(words: &[&str], mut spec: Value) -> anyhow::Result<Value> {
        let words = std::iter::once("x").chain(words.iter().copied());
        let parsed = With::try_parse_from(words)?;
        let now = "2026-10-05T10:20:00Z".parse()?;
        parsed.fields.merge_into(&mut spec, now)?;
        Ok(spec)
    }

    #[test]
    fn an_entry_is_appended_and_history_stays() {
        let first = merged(
            &["--issuer", "Example", "--markup-basis-points", "2000"],
            json!({}),
        );
        let first = first.unwrap();
        let entry = json!({"effective_from": "2026-09-30T00:00:00Z", "markup_basis_points": 2000});
        assert_eq!(first, json!({"issuer": "Example", "entries": [entry]}));
        let terms = r#"{"discounts": [{"basis_points": 500}]}"#;
        let words = ["--cache-hits-percent", "50", "--terms", terms];
        let second = merged(&words, first.clone()).unwrap();
        assert_eq!(second["entries"][0], entry);
        let expected = json!({
            "effective_from": "2026-10-05T11:00:00Z", "markup_basis_points": 2000,
            "cache_hits": {"amortised": 50}, "discounts": [{"basis_points": 500}],
        });
        assert_eq!(second["entries"][1], expected);
        let named = merged(&["--description", "d"], first.clone()).unwrap();
        assert_eq!(named["entries"], first["entries"]);
        assert!(merged(&["--terms", "[]"], json!({})).is_err());
        let alone = ["--effective-from", "2027-01-01T00:00:00Z"];
        assert!(merged(&alone, first).is_err());
    }
}
