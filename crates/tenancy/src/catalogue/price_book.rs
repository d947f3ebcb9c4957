//! What tenants are charged, apart from what their calls cost.

use std::collections::BTreeMap;

use base::{ModelName, Name, PicoUsd, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// 120: ten years of monthly changes.
pub const PRICE_BOOK_ENTRIES_MAX: usize = 120;
/// 1,000 models with rates of their own: as many as a large price list has.
pub const RATES_MAX: usize = 1_000;
/// 100: each usage is held against all of them.
pub const DISCOUNTS_MAX: usize = 100;
/// 32 steps: nobody's price list has more.
pub const VOLUME_TIERS_MAX: usize = 32;
/// 1,000,000: a hundred times the cost. More is a slip of the pen.
pub const MARKUP_BASIS_POINTS_MAX: u32 = 1_000_000;
/// All of it.
pub const BASIS_POINTS: u32 = 10_000;
/// 1,000 characters: a name, an address, a number of the tax office.
pub const ISSUER_CHARS_MAX: usize = 1_000;

/// What tenants are charged for their usage, in US dollars. A tenant's book is the one that the
/// tenant or else its tier names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PriceBookSpec {
    /// For people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// Who sends the invoices, as it stands on them; lines are kept.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub issuer: String,
    /// In which series its invoices are numbered, without gaps; credit notes have one beside it.
    /// `inv` if absent. It does not end in `-credit`.
    #[serde(default = "default_series")]
    pub series: Name,
    /// In order of `effective_from`; at least one.
    pub entries: Vec<PriceBookEntry>,
}

fn default_series() -> Name {
    "inv".parse().expect("three letters are a name")
}

/// What is charged from a moment on. Mark-up, rates, discounts and cache hits are those in force
/// when a call was made; what is included, volume tiers and the minimum are those in force when
/// the period begins.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PriceBookEntry {
    /// From when on it applies: the beginning of an hour, UTC.
    pub effective_from: Timestamp,
    /// What is added to the cost of calls, in hundredths of a per cent: 2,000 are 20%.
    #[serde(default)]
    pub markup_basis_points: u32,
    /// Models that are charged by what they consume, whatever it cost, by the names that clients
    /// say.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub rates: BTreeMap<ModelName, RateSpec>,
    /// Of those that fit a usage, the first counts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub discounts: Vec<DiscountSpec>,
    /// What an answer is charged that a tenant's own cache gave again.
    #[serde(default)]
    pub cache_hits: CacheHits,
    /// So much of a period's usage, in dollars, is not charged.
    #[serde(default)]
    pub included: PicoUsd,
    /// Graduated: of usage beyond `included`, the part above each amount has that tier's discount.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub volume_tiers: Vec<VolumeTier>,
    /// The least that is charged for a period's usage, in dollars.
    #[serde(default)]
    pub minimum: PicoUsd,
}

/// What a model is charged. Amounts are US dollars as decimal strings.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RateSpec {
    /// Per input token.
    pub input: PicoUsd,
    /// Per output token.
    pub output: PicoUsd,
    /// Per input token read from the provider's prompt cache; `input` if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cached_read: Option<PicoUsd>,
    /// Per input token written to the provider's prompt cache; `input` if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cached_write: Option<PicoUsd>,
    /// Per image in the input, beside its tokens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<PicoUsd>,
    /// Per request that the upstream answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<PicoUsd>,
}

/// Less for some usage.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DiscountSpec {
    /// The models that it is for, as clients name them; empty means all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub models: Vec<ModelName>,
    /// The features that it is for; empty means all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub features: Vec<Name>,
    /// How much less, in hundredths of a per cent: 1 to 10,000.
    pub basis_points: u32,
}

impl DiscountSpec {
    /// Whether it is for usage of this model and feature.
    pub fn fits(&self, model: &str, feature: &str) -> bool {
        let is_model = |name: &ModelName| name.as_str() == model;
        let is_feature = |name: &Name| name.as_str() == feature;
        (self.models.is_empty() || self.models.iter().any(is_model))
            && (self.features.is_empty() || self.features.iter().any(is_feature))
    }
}

/// A step of graduated discounts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct VolumeTier {
    /// The part of a period's usage above this amount, in dollars, up to the next tier's.
    pub above: PicoUsd,
    /// How much less that part is, in hundredths of a per cent: 0 to 10,000.
    pub discount_basis_points: u32,
}

/// Who pays for an answer that is given again.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum CacheHits {
    /// Whoever asked first has paid for it: a hit is free.
    #[default]
    Warmer,
    /// All who have it: a hit is charged at so many per cent, 1 to 100, of what the same answer
    /// cost anew; mark-up and discounts come on top.
    Amortised(u8),
}

impl PriceBookSpec {
    /// The entry in force at a moment; none before the first.
    pub fn entry_at(&self, at: Timestamp) -> Option<&PriceBookEntry> {
        let mut begun = self.entries.iter().rev();
        begun.find(|entry| entry.effective_from <= at)
    }

    /// Says what is wrong with it.
    pub(crate) fn check(&self, found: &mut Vec<String>) {
        if self.entries.is_empty() || self.entries.len() > PRICE_BOOK_ENTRIES_MAX {
            found.push(format!(
                "a price book has from 1 to {PRICE_BOOK_ENTRIES_MAX} entries"
            ));
        }
        let begins: Vec<Timestamp> = self.entries.iter().map(|it| it.effective_from).collect();
        if !begins.is_sorted_by(|one, next| one < next) {
            found.push("entries are in order of `effective_from`, and no two have the same".into());
        }
        if self.series.as_str().ends_with(CREDIT_SUFFIX) {
            found.push("`series` does not end in `-credit`: credit notes have that one".into());
        }
        let is_strange = |letter: char| letter.is_control() && letter != '\n';
        if self.issuer.chars().count() > ISSUER_CHARS_MAX || self.issuer.chars().any(is_strange) {
            found.push(format!(
                "`issuer` is text of at most {ISSUER_CHARS_MAX} characters"
            ));
        }
        for entry in &self.entries {
            entry.check(found);
        }
    }

    /// The series of the credit notes that belong to its invoices.
    pub fn credit_series(&self) -> String {
        format!("{}{CREDIT_SUFFIX}", self.series)
    }
}

const CREDIT_SUFFIX: &str = "-credit";

impl PriceBookEntry {
    fn check(&self, found: &mut Vec<String>) {
        const HOUR_MICROS: i64 = 3_600 * 1_000_000;
        if self.effective_from.as_micros() % HOUR_MICROS != 0 {
            found.push("`effective_from` is the beginning of an hour, UTC".into());
        }
        if self.markup_basis_points > MARKUP_BASIS_POINTS_MAX {
            found.push(format!(
                "`markup_basis_points` is {MARKUP_BASIS_POINTS_MAX} at most"
            ));
        }
        if self.rates.len() > RATES_MAX || self.discounts.len() > DISCOUNTS_MAX {
            found.push(format!(
                "an entry has {RATES_MAX} rates and {DISCOUNTS_MAX} discounts at most"
            ));
        }
        let discounts = self.discounts.iter().map(|it| it.basis_points);
        if discounts
            .into_iter()
            .any(|points| !(1..=BASIS_POINTS).contains(&points))
        {
            found.push("a discount's `basis_points` are from 1 to 10000".into());
        }
        if matches!(self.cache_hits, CacheHits::Amortised(percent) if !(1..=100).contains(&percent))
        {
            found.push("`cache_hits.amortised` is from 1 to 100; `warmer` charges nothing".into());
        }
        let steps = &self.volume_tiers;
        let is_graduated = steps.is_sorted_by(|one, next| one.above < next.above)
            && steps
                .iter()
                .all(|step| step.discount_basis_points <= BASIS_POINTS);
        if steps.len() > VOLUME_TIERS_MAX || !is_graduated {
            found.push(format!(
                "`volume_tiers` are {VOLUME_TIERS_MAX} at most, each above the one before, with a discount of 10000 at most"
            ));
        }
        let of_rates = self.rates.values().flat_map(|rate| {
            let optional = [
                rate.cached_read,
                rate.cached_write,
                rate.image,
                rate.request,
            ];
            [rate.input, rate.output]
                .into_iter()
                .chain(optional.into_iter().flatten())
        });
        let of_period = [self.included, self.minimum].into_iter();
        let of_steps = steps.iter().map(|step| step.above);
        let most = PicoUsd::dollars(AMOUNT_DOLLARS_MAX);
        if of_rates
            .chain(of_period)
            .chain(of_steps)
            .any(|amount| amount.is_negative() || amount > most)
        {
            found.push(format!(
                "amounts are from 0 to {AMOUNT_DOLLARS_MAX} dollars"
            ));
        }
    }
}

/// A billion dollars: more than any period's usage, and sums of it are exact.
const AMOUNT_DOLLARS_MAX: i64 = 1_000_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    fn book(json: serde_json::Value) -> PriceBookSpec {
        serde_json::from_value(json).unwrap()
    }

    #[test]
    fn an_entry_is_in_force_until_the_next() {
        let spec = book(serde_json::json!({"entries": [
            {"effective_from": "2026-01-01T00:00:00Z", "markup_basis_points": 1},
            {"effective_from": "2026-02-01T00:00:00Z", "markup_basis_points": 2},
        ]}));
        let at = |text: &str| {
            let entry = spec.entry_at(text.parse().unwrap());
            entry.map(|entry| entry.markup_basis_points)
        };
        assert_eq!(at("2025-12-31T23:00:00Z"), None);
        assert_eq!(at("2026-01-31T23:59:59Z"), Some(1));
        assert_eq!(at("2026-02-01T00:00:00Z"), Some(2));
        let mut found = Vec::new();
        spec.check(&mut found);
        assert!(found.is_empty(), "{found:?}");
    }

    #[test]
    fn what_cannot_be_charged_is_refused() {
        let entry = |fields: serde_json::Value| {
            let mut entry = serde_json::json!({"effective_from": "2026-01-01T00:00:00Z"});
            let object = entry.as_object_mut().unwrap();
            object.extend(fields.as_object().unwrap().clone());
            serde_json::json!({"entries": [entry]})
        };
        for wrong in [
            serde_json::json!({"entries": []}),
            serde_json::json!({"series": "a-credit", "entries": entry(serde_json::json!({}))["entries"]}),
            entry(serde_json::json!({"effective_from": "2026-01-01T00:30:00Z"})),
            entry(serde_json::json!({"markup_basis_points": 1_000_001})),
            entry(serde_json::json!({"discounts": [{"basis_points": 0}]})),
            entry(serde_json::json!({"discounts": [{"basis_points": 10_001}]})),
            entry(serde_json::json!({"cache_hits": {"amortised": 0}})),
            entry(serde_json::json!({"included": "-1"})),
            entry(serde_json::json!({"minimum": "1000000001"})),
            entry(serde_json::json!({"rates": {"m": {"input": "-0.1", "output": "0"}}})),
            entry(serde_json::json!({"volume_tiers": [
                {"above": "10", "discount_basis_points": 1},
                {"above": "10", "discount_basis_points": 2},
            ]})),
        ] {
            let mut found = Vec::new();
            book(wrong.clone()).check(&mut found);
            assert_eq!(found.len(), 1, "{wrong}: {found:?}");
        }
    }

    #[test]
    fn a_discount_is_for_what_it_names() {
        let spec: DiscountSpec =
            serde_json::from_value(serde_json::json!({"models": ["m"], "basis_points": 5}))
                .unwrap();
        assert!(spec.fits("m", "chat") && !spec.fits("n", "chat"));
    }
}
