//! LiteLLM's price map: an object of models, each an object of fields.
//!
//! A price is imported only if it can be stated whole. A field that looks like an amount and is
//! not known here makes its model skipped: an amount that is silently dropped is money that is
//! silently spent. Three classes are left out on purpose:
//!
//! - amounts of zero;
//! - amounts of a service tier that a call has to ask for (`…_batches`, `…_priority`, …);
//! - fields that the operator lists as never charged.

use std::collections::{BTreeMap, BTreeSet};

use base::{ModelName, Name, PicoUsd};
use serde_json::value::RawValue;
use tenancy::catalogue::LongPrompts;

use super::Amounts;
use crate::api::{IgnoredField, PriceImportRequest, PriceVariants, SkippedPrice};

/// The document as a whole cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("the document is not an object of models")]
pub(crate) struct DocumentError(#[source] serde_json::Error);

/// What a document maps to.
pub(crate) struct Mapped {
    pub(crate) prices: BTreeMap<ModelName, Amounts>,
    pub(crate) skipped: Vec<SkippedPrice>,
    pub(crate) ignored: Vec<IgnoredField>,
}

type Fields<'a> = BTreeMap<String, &'a RawValue>;

/// Not a model: the document's own description of its fields.
const SAMPLE: &str = "sample_spec";
/// What we serve of `mode`.
const MODES: [&str; 4] = ["chat", "responses", "completion", "embedding"];
/// A call is charged so only if it asks for that service tier.
const SERVICE_TIERS: [&str; 6] = [
    "_batches",
    "_priority",
    "_flex",
    "_balanced",
    "_ultrafast",
    "_decisions",
];
/// Amounts that come as a structure: none of them is one amount per token.
const STRUCTURES: [&str; 2] = ["tiered_pricing", "off_peak_pricing"];

pub(crate) fn map(request: &PriceImportRequest) -> Result<Mapped, DocumentError> {
    let models: BTreeMap<String, &RawValue> =
        serde_json::from_str(request.document.get()).map_err(DocumentError)?;
    let mut mapping = Mapping::new(request);
    for (model, fields) in &models {
        if model == SAMPLE {
            continue;
        }
        match serde_json::from_str::<Fields<'_>>(fields.get()) {
            Ok(fields) => mapping.add(model, &fields),
            Err(_) => mapping.skip(model, "it is not an object of fields"),
        }
    }
    Ok(mapping.finish())
}

struct Mapping<'a> {
    request: &'a PriceImportRequest,
    /// By price name; none where two models of the document contradict each other.
    prices: BTreeMap<ModelName, Option<Amounts>>,
    skipped: Vec<SkippedPrice>,
    ignored: BTreeMap<String, u64>,
}

impl<'a> Mapping<'a> {
    fn new(request: &'a PriceImportRequest) -> Self {
        Self {
            request,
            prices: BTreeMap::new(),
            skipped: Vec::new(),
            ignored: BTreeMap::new(),
        }
    }

    fn skip(&mut self, model: &str, reason: impl Into<String>) {
        // A model's name in the document has no bound; ours has.
        let model = model.chars().take(200).collect();
        self.skipped.push(SkippedPrice {
            model,
            reason: reason.into(),
        });
    }

    fn add(&mut self, model: &str, fields: &Fields<'_>) {
        let Some(theirs) = text(fields, "litellm_provider") else {
            return self.skip(model, "it names no provider");
        };
        let Ok(provider) = our_name_of(&theirs).parse::<Name>() else {
            return self.skip(model, "its provider's name is not a name");
        };
        if !self.request.providers.is_empty() && !self.request.providers.contains(&provider) {
            return;
        }
        let prefixes = [theirs.as_str(), provider.as_str()];
        let bare = prefixes
            .iter()
            .find_map(|prefix| model.strip_prefix(prefix)?.strip_prefix('/'))
            .unwrap_or(model);
        let Ok(name) = format!("{provider}/{bare}").parse::<ModelName>() else {
            return self.skip(model, "its name is not a model name");
        };
        match self.amounts(fields) {
            Err(reason) => self.skip(model, reason),
            Ok((amounts, ignored)) => {
                for field in ignored {
                    *self.ignored.entry(field).or_default() += 1;
                }
                self.put(model, name, amounts);
            }
        }
    }

    fn put(&mut self, model: &str, name: ModelName, amounts: Amounts) {
        match self.prices.get(&name) {
            None => drop(self.prices.insert(name, Some(amounts))),
            Some(Some(same)) if *same == amounts => {}
            Some(_) => {
                self.skip(
                    model,
                    format!("the document has two different prices for `{name}`"),
                );
                self.prices.insert(name, None);
            }
        }
    }

    /// The model's amounts and the fields that are in none of them; or why it cannot be stated.
    fn amounts(&self, fields: &Fields<'_>) -> Result<(Amounts, BTreeSet<String>), String> {
        let mode = text(fields, "mode").unwrap_or_default();
        if !MODES.contains(&mode.as_str()) {
            return Err(format!("models of mode `{mode}` are not priced by token"));
        }
        let mut reading = Reading::new(fields);
        let mut ignored = BTreeSet::new();
        for field in fields.keys().filter(|field| is_amount(field)) {
            if self.request.ignore.contains(field)
                || SERVICE_TIERS.iter().any(|tier| field.ends_with(tier))
            {
                ignored.insert(field.clone());
            } else {
                reading.read(field, self.request.variants)?;
            }
        }
        reading.finish(&mode).map(|amounts| (amounts, ignored))
    }

    fn finish(mut self) -> Mapped {
        let contradicted: Vec<String> = self
            .prices
            .iter()
            .filter(|(_, a)| a.is_none())
            .map(|(n, _)| n.to_string())
            .collect();
        for name in contradicted {
            self.skip(&name, "the document contradicts itself about it");
        }
        let prices = self
            .prices
            .into_iter()
            .filter_map(|(name, a)| a.map(|a| (name, a)))
            .collect();
        let ignored = self
            .ignored
            .into_iter()
            .map(|(field, models)| IgnoredField { field, models });
        Mapped {
            prices,
            skipped: self.skipped,
            ignored: ignored.collect(),
        }
    }
}

fn is_amount(field: &str) -> bool {
    // `notes` and the like may contain the word; names of fields with amounts do.
    field.contains("cost") || STRUCTURES.contains(&field)
}

fn text(fields: &Fields<'_>, field: &str) -> Option<String> {
    fields
        .get(field)
        .and_then(|raw| serde_json::from_str(raw.get()).ok())
}

/// One model's amounts, field by field.
struct Reading<'a> {
    fields: &'a Fields<'a>,
    of_all: Slots,
    /// For prompts that are longer than so many tokens.
    of_long: BTreeMap<u64, Slots>,
}

/// The amounts of one length of prompts.
#[derive(Default)]
struct Slots {
    input: Option<PicoUsd>,
    output: Option<PicoUsd>,
    reasoning: Option<PicoUsd>,
    cached_read: Option<PicoUsd>,
    cached_write: Option<PicoUsd>,
    cached_write_1h: Option<PicoUsd>,
    image: Option<PicoUsd>,
    request: Option<PicoUsd>,
}

impl Slots {
    /// Where a field's amount belongs, if a price can state it.
    fn slot(&mut self, named: &Named<'_>) -> Option<&mut Option<PicoUsd>> {
        Some(match named.base {
            "input_cost_per_token" => &mut self.input,
            "output_cost_per_token" => &mut self.output,
            "output_cost_per_reasoning_token" => &mut self.reasoning,
            "cache_read_input_token_cost" | "input_cost_per_token_cache_hit" => {
                &mut self.cached_read
            }
            "cache_creation_input_token_cost" if named.for_an_hour => &mut self.cached_write_1h,
            "cache_creation_input_token_cost" => &mut self.cached_write,
            "input_cost_per_image" => &mut self.image,
            "input_cost_per_request" => &mut self.request,
            _ => return None,
        })
    }
}

impl<'a> Reading<'a> {
    fn new(fields: &'a Fields<'a>) -> Self {
        Self {
            fields,
            of_all: Slots::default(),
            of_long: BTreeMap::new(),
        }
    }

    fn read(&mut self, field: &str, variants: PriceVariants) -> Result<(), String> {
        let literal = self.fields[field].get();
        if literal == "null" {
            return Ok(());
        }
        let named = Named::of(field)
            .ok_or_else(|| format!("`{field}` depends on what a price cannot state"))?;
        let slots = match (named.above_tokens, variants) {
            (Some(tokens), PriceVariants::Exact) => self.of_long.entry(tokens).or_default(),
            _ => &mut self.of_all,
        };
        let Some(slot) = slots.slot(&named) else {
            if is_zero(literal) {
                return Ok(());
            }
            return Err(format!(
                "`{field}` is of a unit that a price cannot state; if it is never charged \
                 here, list it in `ignore`"
            ));
        };
        let amount = PicoUsd::from_decimal_text(literal)
            .ok()
            .filter(|amount| !amount.is_negative())
            .ok_or_else(|| format!("`{field}` is not an amount in dollars, exact to 12 places"))?;
        // Two fields for one amount: its variants, or the two names of a cache's price.
        *slot = Some(slot.map_or(amount, |other| other.max(amount)));
        Ok(())
    }

    /// What long prompts cost: what is not said of them is as for all.
    fn long_prompts(&self, all: &Amounts) -> Result<Option<LongPrompts>, String> {
        let mut lengths = self.of_long.iter();
        let Some((above_tokens, long)) = lengths.next() else {
            return Ok(None);
        };
        if lengths.next().is_some() {
            return Err("its price changes at more than one length of the prompt; \
                        `variants: dearest` imports the dearest amounts"
                .to_owned());
        }
        let output = long.output.unwrap_or(all.output);
        if long.image.is_some() || long.request.is_some() {
            return Err("long prompts change what it costs beside tokens".to_owned());
        }
        if long.reasoning.is_some_and(|reasoning| reasoning != output) {
            return Err("its reasoning tokens have a price of their own".to_owned());
        }
        Ok(Some(LongPrompts {
            above_tokens: *above_tokens,
            input: long.input.unwrap_or(all.input),
            output,
            cached_read: long.cached_read.or(all.cached_read),
            cached_write: long.cached_write.or(all.cached_write),
            cached_write_1h: long.cached_write_1h.or(all.cached_write_1h),
        }))
    }

    fn finish(self, mode: &str) -> Result<Amounts, String> {
        let all = &self.of_all;
        let input = all.input.or(all.request.map(|_| PicoUsd::ZERO));
        let input = input.ok_or("it has no price per input token")?;
        let output = match (all.output, mode) {
            (Some(output), _) => output,
            // An embedding has no output tokens.
            (None, "embedding") => PicoUsd::ZERO,
            (None, _) if all.request.is_some() => PicoUsd::ZERO,
            (None, _) => return Err("it has no price per output token".to_owned()),
        };
        if all.reasoning.is_some_and(|reasoning| reasoning != output) {
            return Err("its reasoning tokens have a price of their own".to_owned());
        }
        let mut amounts = Amounts {
            input,
            output,
            cached_read: all.cached_read,
            cached_write: all.cached_write,
            cached_write_1h: all.cached_write_1h,
            image: all.image.filter(|image| *image != PicoUsd::ZERO),
            request: all.request.filter(|request| *request != PicoUsd::ZERO),
            long_prompts: None,
        };
        amounts.long_prompts = self.long_prompts(&amounts)?;
        let is_free = [amounts.input, amounts.output]
            .iter()
            .all(|a| *a == PicoUsd::ZERO)
            && amounts.request.is_none();
        if is_free {
            return Err("it costs nothing: if that is meant, price it at zero by hand".to_owned());
        }
        Ok(amounts)
    }
}

/// A field's name, taken apart.
struct Named<'a> {
    /// Without `…_above_200k_tokens` and `…_above_1hr`.
    base: &'a str,
    /// It had the first: an amount for prompts of more tokens.
    above_tokens: Option<u64>,
    /// It had the second: an amount for what a cache keeps for an hour.
    for_an_hour: bool,
}

impl<'a> Named<'a> {
    /// None if the field depends on anything else.
    fn of(field: &'a str) -> Option<Self> {
        let mut parts = field.split("_above_");
        let mut named = Self {
            base: parts.next()?,
            above_tokens: None,
            for_an_hour: false,
        };
        for part in parts {
            if part == "1hr" {
                named.for_an_hour = true;
            } else {
                let thousands = part.strip_suffix("k_tokens")?.parse::<u64>().ok()?;
                named.above_tokens = Some(thousands.checked_mul(1_000)?);
            }
        }
        Some(named)
    }
}

fn is_zero(literal: &str) -> bool {
    PicoUsd::from_decimal_text(literal) == Ok(PicoUsd::ZERO)
}

/// The provider as upstreams here are named, where LiteLLM says it in another way.
fn our_name_of(provider: &str) -> &str {
    match provider {
        "together_ai" => "together",
        "fireworks_ai" | "fireworks_ai-embedding-models" => "fireworks",
        "cohere_chat" => "cohere",
        "bedrock_converse" => "bedrock",
        "vertex_ai-language-models" | "vertex_ai-embedding-models" => "vertex",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::PriceSource;

    /// The shapes that the map has, small.
    const DOCUMENT: &str = r#"{
        "sample_spec": {"mode": "one of: chat", "input_cost_per_token": 0.0},
        "plain": {"litellm_provider": "openai", "mode": "chat", "input_cost_per_token": 2.5e-06,
            "output_cost_per_token": 1e-05, "cache_read_input_token_cost": 1.25e-06,
            "input_cost_per_token_batches": 1.25e-06, "input_cost_per_audio_token": 0.0,
            "max_tokens": 16384, "source": "somewhere"},
        "openai/prefixed": {"litellm_provider": "openai", "mode": "chat",
            "input_cost_per_token": 1e-06, "output_cost_per_token": 2e-06},
        "embed": {"litellm_provider": "openai", "mode": "embedding",
            "input_cost_per_token": 2e-08},
        "long": {"litellm_provider": "other", "mode": "chat", "input_cost_per_token": 1e-06,
            "output_cost_per_token": 2e-06, "input_cost_per_token_above_200k_tokens": 3e-06,
            "cache_creation_input_token_cost": 1.25e-06,
            "cache_creation_input_token_cost_above_1hr": 2e-06,
            "cache_creation_input_token_cost_above_1hr_above_200k_tokens": 2.5e-06},
        "longer": {"litellm_provider": "other", "mode": "chat", "input_cost_per_token": 1e-06,
            "output_cost_per_token": 2e-06, "input_cost_per_token_above_128k_tokens": 2e-06,
            "input_cost_per_token_above_200k_tokens": 3e-06},
        "hourly": {"litellm_provider": "openai", "mode": "chat", "input_cost_per_token": 1e-06,
            "output_cost_per_token": 2e-06, "cache_creation_input_token_cost": 1.25e-06,
            "cache_creation_input_token_cost_above_1hr": 2e-06},
        "searching": {"litellm_provider": "other", "mode": "chat", "input_cost_per_token": 1e-06,
            "output_cost_per_token": 2e-06, "search_context_cost_per_query": {"low": 0.03}},
        "gap": {"litellm_provider": "other", "mode": "chat", "input_cost_per_token": 1e-06},
        "free": {"litellm_provider": "other", "mode": "chat", "input_cost_per_token": 0.0,
            "output_cost_per_token": 0.0},
        "fine": {"litellm_provider": "other", "mode": "chat", "input_cost_per_token": 1e-13,
            "output_cost_per_token": 1.0},
        "together_ai/meta/llama": {"litellm_provider": "together_ai", "mode": "chat",
            "input_cost_per_token": 1e-06, "output_cost_per_token": 1e-06},
        "thinking": {"litellm_provider": "other", "mode": "chat", "input_cost_per_token": 1e-06,
            "output_cost_per_token": 2e-06, "output_cost_per_reasoning_token": 4e-06},
        "unit": {"litellm_provider": "other", "mode": "chat", "input_cost_per_token": 1e-06,
            "output_cost_per_token": 2e-06, "cost_per_moon_phase": 1},
        "picture": {"litellm_provider": "openai", "mode": "image_generation",
            "output_cost_per_image": 0.04},
        "twice": {"litellm_provider": "openai", "mode": "chat", "input_cost_per_token": 1e-06,
            "output_cost_per_token": 2e-06},
        "openai/twice": {"litellm_provider": "openai", "mode": "chat",
            "input_cost_per_token": 9e-06, "output_cost_per_token": 2e-06},
        "homeless": {"mode": "chat", "input_cost_per_token": 1e-06},
        "nothing": 7
    }"#;

    fn request(variants: PriceVariants, ignore: &[&str]) -> PriceImportRequest {
        PriceImportRequest {
            source: PriceSource::Litellm,
            document: RawValue::from_string(DOCUMENT.to_owned()).unwrap(),
            effective_from: None,
            providers: Vec::new(),
            variants,
            ignore: ignore.iter().map(ToString::to_string).collect(),
            dry_run: false,
        }
    }

    fn names(mapped: &Mapped) -> Vec<&str> {
        mapped.prices.keys().map(ModelName::as_str).collect()
    }

    #[test]
    fn what_can_be_stated_whole_is_imported_exactly() {
        let mapped = map(&request(PriceVariants::Exact, &[])).unwrap();
        assert_eq!(
            names(&mapped),
            [
                "openai/embed",
                "openai/hourly",
                "openai/plain",
                "openai/prefixed",
                "other/long",
                "together/meta/llama"
            ]
        );
        let plain = &mapped.prices["openai/plain"];
        assert_eq!(plain.input, PicoUsd::new(2_500_000));
        assert_eq!(plain.output, PicoUsd::new(10_000_000));
        assert_eq!(plain.cached_read, Some(PicoUsd::new(1_250_000)));
        assert_eq!(
            (plain.cached_write, plain.image, plain.request),
            (None, None, None)
        );
        let hourly = &mapped.prices["openai/hourly"];
        let written = [hourly.cached_write, hourly.cached_write_1h];
        assert_eq!(
            written,
            [1_250_000, 2_000_000].map(|pico| Some(PicoUsd::new(pico)))
        );
        let long = &mapped.prices["other/long"];
        assert_eq!(long.input, PicoUsd::new(1_000_000));
        let expected = LongPrompts {
            above_tokens: 200_000,
            input: PicoUsd::new(3_000_000),
            output: PicoUsd::new(2_000_000),
            cached_read: None,
            cached_write: Some(PicoUsd::new(1_250_000)),
            cached_write_1h: Some(PicoUsd::new(2_500_000)),
        };
        assert_eq!(long.long_prompts.as_ref(), Some(&expected));
        let field = "input_cost_per_token_batches".to_owned();
        assert_eq!(mapped.ignored, [IgnoredField { field, models: 1 }]);
    }

    #[test]
    fn everything_else_is_skipped_with_a_reason() {
        let mapped = map(&request(PriceVariants::Exact, &[])).unwrap();
        let table: String = mapped
            .skipped
            .iter()
            .map(|s| format!("{}: {:.45}\n", s.model, s.reason))
            .collect();
        let expected = "\
fine: `input_cost_per_token` is not an amount in do
free: it costs nothing: if that is meant, price it 
gap: it has no price per output token
homeless: it names no provider
longer: its price changes at more than one length of 
nothing: it is not an object of fields
picture: models of mode `image_generation` are not pri
searching: `search_context_cost_per_query` is of a unit 
thinking: its reasoning tokens have a price of their ow
twice: the document has two different prices for `op
unit: `cost_per_moon_phase` is of a unit that a pri
openai/twice: the document contradicts itself about it
";
        assert_eq!(table, expected);
    }

    #[test]
    fn an_operator_may_vouch_for_a_field_and_take_the_dearest_variant() {
        let ignored = ["search_context_cost_per_query"];
        let mapped = map(&request(PriceVariants::Dearest, &ignored)).unwrap();
        let long = &mapped.prices["other/long"];
        assert_eq!(
            (long.input, &long.long_prompts),
            (PicoUsd::new(3_000_000), &None)
        );
        assert_eq!(long.cached_write, Some(PicoUsd::new(1_250_000)));
        assert_eq!(long.cached_write_1h, Some(PicoUsd::new(2_500_000)));
        assert!(mapped.prices.contains_key("other/searching"));
        assert!(!mapped.prices.contains_key("other/unit"));
    }

    #[test]
    fn a_document_that_is_no_object_is_refused() {
        let mut request = request(PriceVariants::Exact, &[]);
        request.document = RawValue::from_string("[1]".to_owned()).unwrap();
        assert!(map(&request).is_err());
    }
}
