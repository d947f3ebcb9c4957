//! An invoice is its price book over the sum of its lines, by a reckoning of its own: one call at a
//! time, with all factors multiplied and nothing divided.

use std::collections::BTreeMap;

use base::PicoUsd;
use proptest::prelude::*;
use store::UsageRow;
use tenancy::catalogue::{CacheHits, DiscountSpec, PriceBookEntry, RateSpec, VolumeTier};

use super::charges::{period_lines, total, usage_line};
use super::exact::ExactUsd;
use crate::api::InvoiceLine;

const FEATURES: [&str; 3] = ["chat", "search", "triage"];
const MODELS: [&str; 4] = ["large", "small", "tiny", "embed"];

/// A call, as the ledger has it.
#[derive(Debug, Clone)]
struct Line {
    feature: usize,
    model: usize,
    input: u64,
    read: u64,
    written: u64,
    output: u64,
    cost: i64,
    /// What it would have cost anew, where the cache gave the answer.
    anew: Option<i64>,
}

#[test]
fn no_more_is_included_than_was_used() {
    let terms = serde_json::json!({
        "effective_from": "2026-01-01T00:00:00Z", "included": "50", "minimum": "3",
    });
    let terms: PriceBookEntry = serde_json::from_value(terms).unwrap();
    let used = ExactUsd::of(PicoUsd::dollars(20)).unwrap();
    let amounts = period_lines(&terms, used).unwrap();
    let amounts: Vec<_> = amounts.iter().map(|line| line.amount.to_string()).collect();
    assert_eq!(amounts, ["-20.00", "3.00"]);
}

fn line() -> impl Strategy<Value = Line> {
    let tokens = (0_u64..5_000, 0_u64..1_000, 0_u64..1_000, 0_u64..5_000);
    let money = (
        0_i64..3_000_000_000_000,
        proptest::option::weighted(0.3, 0_i64..3_000_000_000_000),
    );
    (0..FEATURES.len(), 0..MODELS.len(), tokens, money).prop_map(
        |(feature, model, (rest, read, written, output), (cost, anew))| {
            let is_hit = anew.is_some();
            let tokens = |count| if is_hit { 0 } else { count };
            Line {
                feature,
                model,
                input: tokens(rest + read + written),
                read: tokens(read),
                written: tokens(written),
                output: tokens(output),
                cost,
                anew,
            }
        },
    )
}

fn entry() -> impl Strategy<Value = PriceBookEntry> {
    let discounts =
        proptest::collection::vec((0..=FEATURES.len(), 0..=MODELS.len(), 1_u32..=10_000), 0..4);
    let steps = proptest::collection::btree_map(0_i64..40, 0_u32..=10_000, 0..4);
    let hits = prop_oneof![
        Just(CacheHits::Warmer),
        (1_u8..=100).prop_map(CacheHits::Amortised)
    ];
    let rate = proptest::option::of((0_i64..1_000_000_000, 0_i64..1_000_000_000));
    let of_period = (0_i64..50, 0_i64..200);
    (0_u32..50_000, discounts, steps, hits, rate, of_period).prop_map(
        |(markup_basis_points, discounts, steps, cache_hits, rate, (included, minimum))| {
            let named = |names: &[&str], place: usize| -> Vec<String> {
                names
                    .get(place)
                    .map(|name| (*name).to_owned())
                    .into_iter()
                    .collect()
            };
            let discounts =
                discounts
                    .into_iter()
                    .map(|(feature, model, basis_points)| DiscountSpec {
                        features: named(&FEATURES, feature)
                            .iter()
                            .map(|it| it.parse().unwrap())
                            .collect(),
                        models: named(&MODELS, model)
                            .iter()
                            .map(|it| it.parse().unwrap())
                            .collect(),
                        basis_points,
                    });
            let rates = rate.map(|(input, output)| {
                let rate = RateSpec {
                    input: PicoUsd::new(input.into()),
                    output: PicoUsd::new(output.into()),
                    cached_read: Some(PicoUsd::new(i128::from(input) / 3)),
                    cached_write: None,
                    image: None,
                    request: None,
                };
                (MODELS[1].parse().unwrap(), rate)
            });
            PriceBookEntry {
                effective_from: base::Timestamp::from_micros(0),
                markup_basis_points,
                rates: rates.into_iter().collect(),
                discounts: discounts.collect(),
                cache_hits,
                included: PicoUsd::dollars(included),
                volume_tiers: steps
                    .into_iter()
                    .map(|(above, discount_basis_points)| VolumeTier {
                        above: PicoUsd::dollars(above),
                        discount_basis_points,
                    })
                    .collect(),
                minimum: PicoUsd::dollars(minimum),
            }
        },
    )
}

/// As the store adds them up: by feature and model.
fn rows(lines: &[Line]) -> Vec<UsageRow> {
    let mut rows: BTreeMap<(usize, usize), UsageRow> = BTreeMap::new();
    for line in lines {
        let row = rows.entry((line.feature, line.model)).or_default();
        row.feature = Some(FEATURES[line.feature].to_owned());
        row.model = Some(MODELS[line.model].to_owned());
        row.calls += 1;
        row.input_tokens += line.input;
        row.cached_tokens += line.read;
        row.cached_write_tokens += line.written;
        row.output_tokens += line.output;
        row.cost += PicoUsd::new(line.cost.into());
        if let Some(anew) = line.anew {
            row.cache_hits += 1;
            row.hit_cost += PicoUsd::new(line.cost.into());
            row.hit_anew += PicoUsd::new(anew.into());
        }
    }
    rows.into_values().collect()
}

/// What a call is charged, in 10⁻²² dollars.
fn charged(entry: &PriceBookEntry, line: &Line) -> i128 {
    let (feature, model) = (FEATURES[line.feature], MODELS[line.model]);
    let markup = 10_000 + i128::from(entry.markup_basis_points);
    let rate = entry.rates.iter().find(|(name, _)| name.as_str() == model);
    let gross = match (line.anew, entry.cache_hits, rate) {
        (Some(_), CacheHits::Warmer, _) => 0,
        (Some(anew), CacheHits::Amortised(percent), _) => {
            i128::from(anew) * i128::from(percent) * markup
        }
        (None, _, Some((_, rate))) => {
            let plain = line.input - line.read - line.written;
            let pico = rate.input.pico() * i128::from(plain + line.written)
                + rate.cached_read.unwrap().pico() * i128::from(line.read)
                + rate.output.pico() * i128::from(line.output);
            pico * 100 * 10_000
        }
        (None, _, None) => i128::from(line.cost) * 100 * markup,
    };
    let fits = |it: &&DiscountSpec| {
        it.features
            .first()
            .is_none_or(|name| name.as_str() == feature)
            && it.models.first().is_none_or(|name| name.as_str() == model)
    };
    let discount = entry
        .discounts
        .iter()
        .find(fits)
        .map_or(0, |it| it.basis_points);
    gross * (10_000 - i128::from(discount))
}

/// What a period's charges come to, in 10⁻²⁶ dollars: dollar by dollar of the tiers' amounts.
fn with_terms(entry: &PriceBookEntry, usage: i128) -> i128 {
    const DOLLAR: i128 = 10_i128.pow(22);
    let dollars = |amount: PicoUsd| amount.pico() / 10_i128.pow(12);
    let rest = (usage - dollars(entry.included) * DOLLAR).max(0);
    let mut sum = 0;
    let mut at = 0;
    while at < rest {
        // No tier begins within a dollar, and the last one goes on.
        let step = DOLLAR.min(rest - at);
        let tier = entry
            .volume_tiers
            .iter()
            .rev()
            .find(|tier| dollars(tier.above) * DOLLAR <= at);
        let discount = tier.map_or(0, |tier| tier.discount_basis_points);
        let step = if at > 100 * DOLLAR { rest - at } else { step };
        sum += step * (10_000 - i128::from(discount));
        at += step;
    }
    sum.max(dollars(entry.minimum) * DOLLAR * 10_000)
}

proptest! {
    #[test]
    fn an_invoice_is_its_price_book_over_the_sum_of_its_lines(
        entry in entry(), lines in proptest::collection::vec(line(), 0..60)
    ) {
        let usage: Vec<InvoiceLine> = rows(&lines)
            .iter()
            .map(|row| usage_line(&entry, row, None).unwrap())
            .collect();
        let of_period = period_lines(&entry, total(&usage)).unwrap();
        let exact = total(&usage) + total(&of_period);
        let reckoned: i128 = lines.iter().map(|line| charged(&entry, line)).sum();
        let reckoned = with_terms(&entry, reckoned);
        let text = exact.to_string();
        let (whole, places) = text.split_once('.').unwrap();
        let exact: i128 = format!("{whole}{places:0<26}").parse().unwrap();
        prop_assert_eq!(exact, reckoned);

        let by = |of: fn(&InvoiceLine) -> &Option<String>| {
            let mut sums: BTreeMap<String, super::ExactUsd> = BTreeMap::new();
            for line in &usage {
                let sum = sums.entry(of(line).clone().unwrap()).or_default();
                *sum = *sum + line.amount;
            }
            sums
        };
        let (by_feature, by_model) = (by(|line| &line.feature), by(|line| &line.model));
        let sum = |sums: &BTreeMap<String, super::ExactUsd>| -> super::ExactUsd {
            sums.values().copied().sum()
        };
        prop_assert_eq!(sum(&by_feature), sum(&by_model));
        prop_assert_eq!(sum(&by_feature), total(&usage));
        // And what the lines cost is what was spent, whatever is charged for it.
        let spent: PicoUsd = usage.iter().filter_map(|line| line.cost).sum();
        let cost: i128 = lines.iter().map(|line| i128::from(line.cost)).sum();
        prop_assert_eq!(spent, PicoUsd::new(cost));
    }
}

#[test]
fn tiers_are_graduated_beyond_what_is_included() {
    let entry: PriceBookEntry = serde_json::from_value(serde_json::json!({
        "effective_from": "2026-01-01T00:00:00Z",
        "included": "100",
        "volume_tiers": [
            {"above": "1000", "discount_basis_points": 1_000},
            {"above": "2000", "discount_basis_points": 2_550},
        ],
    }))
    .unwrap();
    let lines = period_lines(&entry, "2300".parse().unwrap()).unwrap();
    let said: Vec<_> = lines
        .iter()
        .map(|line| (line.description.as_str(), line.amount.to_string()))
        .collect();
    let expected = [
        ("Included: up to 100.00 USD", "-100.00"),
        ("Volume discount of 10% above 1000.00 USD", "-100.00"),
        ("Volume discount of 25.50% above 2000.00 USD", "-51.00"),
    ];
    let expected = expected.map(|(text, amount)| (text, amount.to_owned()));
    assert_eq!(said, expected);
}
