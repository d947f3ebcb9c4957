//! Costs as FOCUS 1.4 has them (the FinOps Foundation's open cost and usage specification): a row
//! for each UTC day, combination of axes and meter. The rows of a day add up to its lines, exactly.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use base::{ModelName, Name, PicoUsd, Timestamp};
use serde_json::json;
use store::UsageRow;
use tenancy::catalogue::PriceEntry;
use tenancy::{Snapshot, TenantEntry};

use crate::usage::Names;

const DAY: Duration = Duration::from_secs(24 * 3600);

/// What a column holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    Text,
    Time,
    /// A decimal number with twelve places.
    Decimal,
}

/// A value of a row; nothing is null.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Cell {
    Nothing,
    Text(String),
    Time(Timestamp),
    /// Dollars, or so many of a unit: see [`count`].
    Decimal(PicoUsd),
}

/// The columns, in their order. All 21 that FOCUS 1.4 makes mandatory, those of its conditional and
/// recommended ones that are known, what FOCUS 1.0's validator asks for besides, and our own
/// (`x_`).
pub(crate) const COLUMNS: [(&str, Form); 56] = [
    ("BilledCost", Form::Decimal),
    ("BillingAccountId", Form::Text),
    ("BillingAccountName", Form::Text),
    ("BillingCurrency", Form::Text),
    ("BillingPeriodEnd", Form::Time),
    ("BillingPeriodStart", Form::Time),
    ("ChargeCategory", Form::Text),
    ("ChargeClass", Form::Text),
    ("ChargeDescription", Form::Text),
    ("ChargeFrequency", Form::Text),
    ("ChargePeriodEnd", Form::Time),
    ("ChargePeriodStart", Form::Time),
    ("CommitmentDiscountCategory", Form::Text),
    ("CommitmentDiscountId", Form::Text),
    ("CommitmentDiscountName", Form::Text),
    ("CommitmentDiscountStatus", Form::Text),
    ("CommitmentDiscountType", Form::Text),
    ("ConsumedQuantity", Form::Decimal),
    ("ConsumedUnit", Form::Text),
    ("ContractedCost", Form::Decimal),
    ("ContractedUnitPrice", Form::Decimal),
    ("EffectiveCost", Form::Decimal),
    ("HostProviderName", Form::Text),
    ("InvoiceId", Form::Text),
    ("InvoiceIssuerName", Form::Text),
    ("ListCost", Form::Decimal),
    ("ListUnitPrice", Form::Decimal),
    ("PricingCategory", Form::Text),
    ("PricingQuantity", Form::Decimal),
    ("PricingUnit", Form::Text),
    ("ProviderName", Form::Text),
    ("PublisherName", Form::Text),
    ("RegionId", Form::Text),
    ("RegionName", Form::Text),
    ("ResourceId", Form::Text),
    ("ResourceName", Form::Text),
    ("ResourceType", Form::Text),
    ("ServiceCategory", Form::Text),
    ("ServiceName", Form::Text),
    ("ServiceProviderName", Form::Text),
    ("ServiceSubcategory", Form::Text),
    ("SkuId", Form::Text),
    ("SkuMeter", Form::Text),
    ("SkuPriceId", Form::Text),
    ("SubAccountId", Form::Text),
    ("SubAccountName", Form::Text),
    ("Tags", Form::Text),
    ("x_Feature", Form::Text),
    ("x_Hop", Form::Text),
    ("x_Key", Form::Text),
    ("x_ModelVersion", Form::Text),
    ("x_PriceVersion", Form::Text),
    ("x_Team", Form::Text),
    ("x_Upstream", Form::Text),
    ("x_User", Form::Text),
    ("x_UnsettledCalls", Form::Decimal),
];

/// A row: a cell for each of [`COLUMNS`].
pub(crate) type Charge = [Cell; COLUMNS.len()];

/// A part of what a group consumed, and what that cost.
#[derive(Debug, PartialEq, Eq)]
struct Metered {
    name: &'static str,
    unit: &'static str,
    quantity: u64,
    unit_price: Option<PicoUsd>,
    cost: PicoUsd,
}

/// What charges of one tenant say of it and of those who serve it.
pub(crate) struct Charges<'a> {
    snapshot: &'a Snapshot,
    tenant: &'a TenantEntry,
    names: Names,
    /// Who runs this installation and writes the invoice.
    issuer: &'a str,
}

impl<'a> Charges<'a> {
    pub(crate) fn new(snapshot: &'a Snapshot, tenant: &'a TenantEntry, issuer: &'a str) -> Self {
        Self {
            snapshot,
            tenant,
            names: Names::of(tenant),
            issuer,
        }
    }

    /// The charges of a group of a day: they add up to its cost.
    pub(crate) fn of(&self, row: &UsageRow) -> Vec<Charge> {
        let price = self.price(row);
        let metered = metered(row, price);
        metered.iter().map(|part| self.charge(row, part)).collect()
    }

    /// The price that a group's calls were charged by: its route says what its upstream calls the
    /// model. None if that is gone, or if the upstream has several of the route's models.
    fn price(&self, row: &UsageRow) -> Option<&PriceEntry> {
        let model: ModelName = row.model.as_deref()?.parse().ok()?;
        let route = self.snapshot.routes().get(&model)?;
        let provider = self.provider(row)?;
        let variants = route.variants.iter().flat_map(|variant| &variant.targets);
        let names: BTreeSet<String> = route
            .targets
            .iter()
            .chain(variants)
            .filter(|target| Some(target.upstream.as_str()) == row.upstream.as_deref())
            .map(|target| format!("{provider}/{}", target.model))
            .collect();
        let name: ModelName = match (names.len(), names.first()) {
            (1, Some(name)) => name.parse().ok()?,
            _ => return None,
        };
        let is_it = |entry: &&PriceEntry| Some(entry.version) == row.price_version;
        self.snapshot
            .prices()
            .get(&name)?
            .entries
            .iter()
            .find(is_it)
    }

    /// Whose prices a group's upstream has; none if it is gone.
    fn provider(&self, row: &UsageRow) -> Option<&str> {
        let name: Name = row.upstream.as_deref()?.parse().ok()?;
        Some(self.snapshot.upstreams().get(&name)?.provider())
    }

    fn charge(&self, row: &UsageRow, part: &Metered) -> Charge {
        let day = row.start.unwrap_or_default();
        let month = Month::of(day);
        let model = row.model.as_deref().unwrap_or_default();
        let upstream = row.upstream.as_deref().unwrap_or_default();
        let provider = self.provider(row).unwrap_or(upstream);
        let named = |id: &Option<String>| match id {
            Some(id) => text(self.names.name(id)),
            None => Cell::Nothing,
        };
        let known = |value: &Option<String>| value.clone().map_or(Cell::Nothing, Cell::Text);
        let meter = part.name.to_lowercase().replace(' ', "-");
        let price_version = row.price_version.map(|version| version.to_string());
        let price_id = format!(
            "{model}@{}/{meter}",
            price_version.as_deref().unwrap_or("0")
        );
        let cost = Cell::Decimal(part.cost);
        let unit_price = part.unit_price.map_or(Cell::Nothing, Cell::Decimal);
        let quantity = Cell::Decimal(count(part.quantity));
        let region = self.tenant_region();
        [
            cost.clone(),
            text(self.issuer),
            text(self.issuer),
            text("USD"),
            Cell::Time(month.end),
            Cell::Time(month.start),
            text("Usage"),
            Cell::Nothing,
            text(format!("{model}: {}", part.name.to_lowercase())),
            text("Usage-Based"),
            Cell::Time(day.plus(DAY)),
            Cell::Time(day),
            Cell::Nothing,
            Cell::Nothing,
            Cell::Nothing,
            Cell::Nothing,
            Cell::Nothing,
            quantity.clone(),
            text(part.unit),
            cost.clone(),
            unit_price.clone(),
            cost.clone(),
            text(provider),
            Cell::Nothing,
            text(self.issuer),
            cost,
            unit_price,
            text("Standard"),
            quantity,
            text(part.unit),
            text(self.issuer),
            text(provider),
            region.clone(),
            region,
            text(model),
            text(model),
            text("Model"),
            text("AI and Machine Learning"),
            text("Model calls"),
            text(self.issuer),
            text("Generative AI"),
            text(format!("{model}/{meter}")),
            text(part.name),
            text(price_id),
            text(self.tenant.id().to_string()),
            text(self.tenant.name.to_string()),
            text(self.tags(row)),
            known(&row.feature),
            known(&row.hop),
            named(&row.key),
            known(&row.version),
            price_version.map_or(Cell::Nothing, Cell::Text),
            named(&row.team),
            known(&row.upstream),
            named(&row.user),
            // With the part that has them, so that they are counted once.
            Cell::Decimal(count(if part.name == OPEN { row.unsettled } else { 0 })),
        ]
    }

    fn tenant_region(&self) -> Cell {
        let region = self.tenant.spec.region.as_ref();
        region.map_or(Cell::Nothing, |region| text(region.to_string()))
    }

    /// A JSON object of strings, as FOCUS wants tags.
    fn tags(&self, row: &UsageRow) -> String {
        let named = |id: &Option<String>| id.as_ref().map(|id| self.names.name(id));
        let tags: BTreeMap<&str, String> = [
            ("team", named(&row.team)),
            ("user", named(&row.user)),
            ("key", named(&row.key)),
            ("feature", row.feature.clone()),
            ("hop", row.hop.clone()),
        ]
        .into_iter()
        .filter_map(|(name, value)| Some((name, value?)))
        .collect();
        json!(tags).to_string()
    }
}

/// What no unit price explains: calls at their upper bound, and costs by a price that is gone.
const OPEN: &str = "Other Calls";
/// Answers that the tenant's own cache gave again: they consume nothing.
const AGAIN: &str = "Cached Answers";
/// What calls cost beyond the usual unit prices, where those of long prompts are higher.
const LONG: &str = "Long Prompt Surcharge";

/// What a group consumed, in parts that add up to its cost.
fn metered(row: &UsageRow, price: Option<&PriceEntry>) -> Vec<Metered> {
    let mut parts = Vec::new();
    if let Some(price) = price {
        let read = row.cached_tokens.min(row.input_tokens);
        let written = row.cached_write_tokens.min(row.input_tokens - read);
        let written_1h = row.cached_write_1h_tokens.min(written);
        let write_price = price.cached_write.unwrap_or(price.input);
        let meters = [
            (
                "Input Tokens",
                "Tokens",
                row.input_tokens - read - written,
                price.input,
            ),
            (
                "Cached Input Tokens",
                "Tokens",
                read,
                price.cached_read.unwrap_or(price.input),
            ),
            (
                "Cache Write Tokens",
                "Tokens",
                written - written_1h,
                write_price,
            ),
            (
                "Cache Write Tokens 1h",
                "Tokens",
                written_1h,
                price.cached_write_1h.unwrap_or(write_price),
            ),
            ("Output Tokens", "Tokens", row.output_tokens, price.output),
            (
                "Images",
                "Images",
                row.images,
                price.image.unwrap_or_default(),
            ),
            (
                "Requests",
                "Requests",
                row.billed_requests,
                price.request.unwrap_or_default(),
            ),
        ];
        for (name, unit, quantity, unit_price) in meters {
            let is_free = unit != "Tokens" && unit_price == PicoUsd::ZERO;
            if quantity > 0 && !is_free {
                parts.push(Metered {
                    name,
                    unit,
                    quantity,
                    unit_price: Some(unit_price),
                    cost: unit_price.times(quantity),
                });
            }
        }
    }
    let answered = row.calls - row.cache_hits.min(row.calls);
    let of_calls = |name, quantity, cost| Metered {
        name,
        unit: "Calls",
        quantity,
        unit_price: None,
        cost,
    };
    if row.hit_cost != PicoUsd::ZERO {
        parts.push(of_calls(AGAIN, row.cache_hits, row.hit_cost));
    }
    let rest = row.cost - parts.iter().map(|part| part.cost).sum::<PicoUsd>();
    let is_long = price.is_some_and(|price| price.long_prompts.is_some());
    // What calls that are not settled cost is known together with the surcharge alone.
    let (name, quantity) = match (price, row.unsettled) {
        (Some(_), 0) if is_long => (LONG, answered),
        (Some(_), unsettled) if !is_long => (OPEN, unsettled),
        _ => (OPEN, answered),
    };
    if rest != PicoUsd::ZERO || row.unsettled > 0 {
        parts.push(of_calls(name, quantity, rest));
    }
    parts
}

/// A UTC month.
struct Month {
    start: Timestamp,
    end: Timestamp,
}

impl Month {
    fn of(day: Timestamp) -> Self {
        let text = day.to_string();
        let (year, month) = (&text[..4], &text[5..7]);
        let next = match (year.parse::<u32>(), month.parse::<u32>()) {
            (Ok(year), Ok(12)) => format!("{:04}-01", year + 1),
            (Ok(year), Ok(month)) => format!("{year:04}-{:02}", month + 1),
            _ => format!("{year}-{month}"),
        };
        let first = |month: &str| format!("{month}-01T00:00:00Z").parse().unwrap_or(day);
        Self {
            start: first(&text[..7]),
            end: first(&next),
        }
    }
}

fn text(text: impl Into<String>) -> Cell {
    Cell::Text(text.into())
}

/// So many, as a decimal with the places of an amount.
fn count(count: u64) -> PicoUsd {
    PicoUsd::dollars(1).times(count)
}

impl Cell {
    /// As CSV has it: a decimal with as many places as it needs.
    pub(crate) fn csv(&self) -> String {
        match self {
            Self::Nothing => String::new(),
            Self::Text(text) => text.clone(),
            Self::Time(time) => time.to_string(),
            Self::Decimal(amount) => amount.to_text().as_str().to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn price() -> PriceEntry {
        serde_json::from_value(json!({
            "version": 3, "effective_from": "2026-01-01T00:00:00Z",
            "input": "0.0000025", "output": "0.00001", "cached_read": "0.00000125",
        }))
        .unwrap()
    }

    #[test]
    fn parts_add_up_and_what_no_price_explains_is_a_part_too() {
        let row = UsageRow {
            calls: 7,
            unsettled: 1,
            cache_hits: 2,
            hit_cost: "0.0001".parse().unwrap(),
            input_tokens: 1_000,
            cached_tokens: 400,
            output_tokens: 50,
            billed_requests: 4,
            cost: "0.02".parse().unwrap(),
            ..UsageRow::default()
        };
        let parts = metered(&row, Some(&price()));
        let told: Vec<_> = parts
            .iter()
            .map(|part| {
                (
                    part.name,
                    part.quantity,
                    part.cost.to_text().as_str().to_owned(),
                )
            })
            .collect();
        let part = |name, quantity, cost: &str| (name, quantity, cost.to_owned());
        assert_eq!(
            told,
            [
                part("Input Tokens", 600, "0.0015"),
                part("Cached Input Tokens", 400, "0.0005"),
                part("Output Tokens", 50, "0.0005"),
                part(AGAIN, 2, "0.0001"),
                part(OPEN, 1, "0.0174"),
            ]
        );
        let without = metered(&row, None);
        let told = without
            .iter()
            .map(|part| (part.name, part.quantity, part.cost));
        let hits: PicoUsd = "0.0001".parse().unwrap();
        assert!(told.eq([(AGAIN, 2, hits), (OPEN, 5, row.cost - hits)]));
        let long = PriceEntry {
            long_prompts: serde_json::from_value(json!({
                "above_tokens": 200, "input": "0.000005", "output": "0.00002",
            }))
            .unwrap(),
            ..price()
        };
        let parts = metered(&row, Some(&long));
        let open = parts.last().unwrap();
        assert_eq!(
            (open.name, open.quantity),
            (OPEN, 5),
            "any of those answered"
        );
        let settled = UsageRow {
            unsettled: 0,
            ..row.clone()
        };
        let parts = metered(&settled, Some(&long));
        let surcharge = parts.last().unwrap();
        assert_eq!((surcharge.name, surcharge.quantity), (LONG, 5));
        assert_eq!(surcharge.cost.to_text().as_str(), "0.0174");
        let sum: PicoUsd = parts.iter().map(|part| part.cost).sum();
        assert_eq!(sum, settled.cost);
        let free = UsageRow {
            calls: 2,
            ..UsageRow::default()
        };
        assert_eq!(metered(&free, None), []);
    }

    #[test]
    fn a_month_ends_where_the_next_begins() {
        for (day, start, end) in [
            (
                "2026-12-31T00:00:00Z",
                "2026-12-01T00:00:00Z",
                "2027-01-01T00:00:00Z",
            ),
            (
                "2026-02-01T00:00:00Z",
                "2026-02-01T00:00:00Z",
                "2026-03-01T00:00:00Z",
            ),
        ] {
            let month = Month::of(day.parse().unwrap());
            assert_eq!(
                (month.start.to_string(), month.end.to_string()),
                (start.into(), end.into())
            );
        }
    }
}
