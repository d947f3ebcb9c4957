//! OpenAI's common models: an extract of the public price list that `price import` reads (LiteLLM
//! 1.106.2, MIT). For all others and for changes: `partywall price import`.

/// A model and what it costs.
pub(super) struct Model {
    pub(super) name: &'static str,
    /// Dollars per token.
    pub(super) input: &'static str,
    pub(super) output: &'static str,
    pub(super) cached_read: Option<&'static str>,
    /// The most tokens of one answer.
    pub(super) output_tokens_max: u32,
}

const fn model(
    name: &'static str,
    input: &'static str,
    cached_read: Option<&'static str>,
    output: &'static str,
    output_tokens_max: u32,
) -> Model {
    Model {
        name,
        input,
        output,
        cached_read,
        output_tokens_max,
    }
}

/// Where the amounts come from.
pub(super) const SOURCE: &str = "LiteLLM 1.106.2 price list";

/// The models that a quickstart offers. The cheapest that chats comes first: it is the one in the
/// printed example. A call that asks for no number of output tokens is held at the model's most,
/// so that is kept at 16,384 where the provider would allow more.
pub(super) const MODELS: [Model; 14] = [
    model(
        "gpt-4o-mini",
        "0.00000015",
        Some("0.000000075"),
        "0.0000006",
        16_384,
    ),
    model("gpt-4o", "0.0000025", Some("0.00000125"), "0.00001", 16_384),
    model("gpt-4.1", "0.000002", Some("0.0000005"), "0.000008", 16_384),
    model(
        "gpt-4.1-mini",
        "0.0000004",
        Some("0.0000001"),
        "0.0000016",
        16_384,
    ),
    model(
        "gpt-4.1-nano",
        "0.0000001",
        Some("0.000000025"),
        "0.0000004",
        16_384,
    ),
    model(
        "gpt-5",
        "0.00000125",
        Some("0.000000125"),
        "0.00001",
        16_384,
    ),
    model(
        "gpt-5-mini",
        "0.00000025",
        Some("0.000000025"),
        "0.000002",
        16_384,
    ),
    model(
        "gpt-5-nano",
        "0.00000005",
        Some("0.000000005"),
        "0.0000004",
        16_384,
    ),
    model(
        "gpt-5.1",
        "0.00000125",
        Some("0.000000125"),
        "0.00001",
        16_384,
    ),
    model(
        "gpt-5.2",
        "0.00000175",
        Some("0.000000175"),
        "0.000014",
        16_384,
    ),
    model("o3", "0.000002", Some("0.0000005"), "0.000008", 16_384),
    model(
        "o4-mini",
        "0.0000011",
        Some("0.000000275"),
        "0.0000044",
        16_384,
    ),
    model("text-embedding-3-small", "0.00000002", None, "0", 1),
    model("text-embedding-3-large", "0.00000013", None, "0", 1),
];

#[cfg(test)]
mod tests {
    use base::{ModelName, PicoUsd};

    use super::*;

    #[test]
    fn every_price_is_exact_and_every_name_is_one() {
        for model in &MODELS {
            assert!(model.name.parse::<ModelName>().is_ok(), "{}", model.name);
            for amount in [Some(model.input), Some(model.output), model.cached_read] {
                let amount = amount.map(str::parse::<PicoUsd>);
                assert!(matches!(amount, None | Some(Ok(_))), "{}", model.name);
            }
        }
    }
}
