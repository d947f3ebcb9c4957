//! What the simulator's models cost in the demo.

use anyhow::Context as _;
use base::{PicoUsd, Timestamp};
use ledger::{Price, PriceVersion};
use serde_json::{Value, json};

/// Input, input from the prefix cache, output: dollars a token.
const PRICES: [(&str, [&str; 3]); 3] = [
    ("sim-large", ["0.0000025", "0.00000125", "0.00001"]),
    ("sim-small", ["0.00000015", "0.000000075", "0.0000006"]),
    ("sim-embed", ["0.00000002", "0.00000002", "0"]),
];
const VERSION: u32 = 1;

/// A model's price, as the catalogue has it.
pub(super) fn declared(model: &str) -> Option<Value> {
    let (_, [input, cached, output]) = PRICES.iter().find(|(name, _)| *name == model)?;
    Some(json!({
        "input": input, "cached_read": cached, "output": output,
        "source": "demo data: made up",
    }))
}

/// The same, as the ledger has it.
pub(super) fn price(model: &str) -> anyhow::Result<Price> {
    let found = PRICES.iter().find(|(name, _)| *name == model);
    let (_, [input, cached, output]) = found.with_context(|| format!("{model} has a price"))?;
    let money = |text: &str| PicoUsd::from_decimal_text(text).context("the prices are money");
    Ok(Price {
        version: PriceVersion(VERSION),
        effective_from: Timestamp::from_micros(0),
        input: money(input)?,
        output: money(output)?,
        cached_read: Some(money(cached)?),
        cached_write: None,
        cached_write_1h: None,
        image: None,
        request: PicoUsd::ZERO,
        long_prompts: None,
    })
}
