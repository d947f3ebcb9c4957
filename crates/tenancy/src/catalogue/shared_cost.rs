//! Costs that tenants share, apart from their calls: an engine's hours, storage, bytes out.

use std::collections::{BTreeMap, BTreeSet};

use base::{Name, PicoUsd};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// 256: each invoice of a member looks into the usage of all of them, once a month.
const MEMBERS_MAX: usize = 256;
/// A million: shares as fine as anybody draws.
const WEIGHT_MAX: u32 = 1_000_000;
/// A cent is 10¹⁰ pico-dollars.
const PICO_PER_CENT: i128 = 10_000_000_000;

/// What some tenants pay together for a month, each a part, to the last cent. Each part is a line of
/// its tenant's invoice.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SharedCostSpec {
    /// What it is, as it stands on invoices: `Dedicated engine, 720 hours`.
    pub description: String,
    /// How much it is a month: dollars and whole cents.
    pub amount: PicoUsd,
    /// The first month whose invoices it is on: `2026-10`.
    pub first_period: String,
    /// The last one; none ends it if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_period: Option<String>,
    /// How it is split.
    pub method: SplitMethod,
    /// Whose it is: 1 to 256 tenants. One that does not exist has no part.
    pub tenants: Vec<Name>,
}

/// How a shared cost is split. Where nobody has anything to go by, it is split equally.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum SplitMethod {
    /// By input and output tokens in the month, UTC.
    ByTokens,
    /// By what calls cost in the month, UTC.
    ByCost,
    /// The same for each.
    Equal,
    /// By these numbers; who has none pays nothing.
    Weights(BTreeMap<Name, u32>),
}

impl SplitMethod {
    /// Its name: `by-tokens`.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::ByTokens => "by-tokens",
            Self::ByCost => "by-cost",
            Self::Equal => "equal",
            Self::Weights(_) => "weights",
        }
    }
}

impl SharedCostSpec {
    /// Whether it is on the invoices of a month, and of this tenant.
    pub fn is_for(&self, tenant: &Name, period: &str) -> bool {
        self.is_of(period) && self.tenants.contains(tenant)
    }

    /// Whether it is on the invoices of a month: years of four digits compare as text.
    pub fn is_of(&self, period: &str) -> bool {
        self.first_period.as_str() <= period
            && self
                .last_period
                .as_deref()
                .is_none_or(|last| period <= last)
    }

    /// Says what is wrong with it.
    pub(crate) fn check(&self, found: &mut Vec<String>) {
        let members: BTreeSet<&Name> = self.tenants.iter().collect();
        if members.len() < self.tenants.len() || !(1..=MEMBERS_MAX).contains(&members.len()) {
            found.push(format!(
                "a shared cost is of 1 to {MEMBERS_MAX} tenants, each named once"
            ));
        }
        let most = PicoUsd::dollars(1_000_000_000);
        let is_cents = self.amount.pico() % PICO_PER_CENT == 0;
        if self.amount <= PicoUsd::ZERO || self.amount > most || !is_cents {
            found.push("`amount` is dollars and whole cents, up to a billion".to_owned());
        }
        let last = self.last_period.as_ref();
        if !is_period(&self.first_period) || last.is_some_and(|last| !is_period(last)) {
            found.push("a period is a month: 2026-10".to_owned());
        } else if last.is_some_and(|last| *last < self.first_period) {
            found.push("`last_period` is not before `first_period`".to_owned());
        }
        let is_line = !self.description.trim().is_empty()
            && self.description.chars().count() <= 150
            && !self.description.chars().any(char::is_control);
        if !is_line {
            found.push("`description` is a line of at most 150 characters".to_owned());
        }
        if let SplitMethod::Weights(weights) = &self.method {
            let is_member = |name: &Name| members.contains(name);
            let is_sound = |weight: &u32| (1..=WEIGHT_MAX).contains(weight);
            if weights.is_empty()
                || !weights.keys().all(is_member)
                || !weights.values().all(is_sound)
            {
                found.push(format!(
                    "`weights` are of its tenants, from 1 to {WEIGHT_MAX}, and one at least"
                ));
            }
        }
    }
}

fn is_period(text: &str) -> bool {
    let bytes = text.as_bytes();
    let digits = |part: &[u8]| part.iter().all(u8::is_ascii_digit);
    bytes.len() == 7
        && digits(&bytes[..4])
        && bytes[4] == b'-'
        && digits(&bytes[5..])
        && ("01"..="12").contains(&&text[5..])
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn spec(fields: Value) -> SharedCostSpec {
        let mut spec = json!({
            "description": "Engine", "amount": "100.00", "first_period": "2026-10",
            "method": "equal", "tenants": ["acme", "globex"],
        });
        let object = spec.as_object_mut().unwrap();
        object.extend(fields.as_object().unwrap().clone());
        serde_json::from_value(spec).unwrap()
    }

    #[test]
    fn what_cannot_be_split_is_refused() {
        let mut found = Vec::new();
        spec(json!({"last_period": "2026-10", "method": {"weights": {"acme": 1}}}))
            .check(&mut found);
        assert!(found.is_empty(), "{found:?}");
        for wrong in [
            json!({"amount": "0"}),
            json!({"amount": "0.001"}),
            json!({"first_period": "2026-13"}),
            json!({"first_period": "2026/10"}),
            json!({"last_period": "2026-09"}),
            json!({"tenants": []}),
            json!({"tenants": ["acme", "acme"]}),
            json!({"description": " "}),
            json!({"method": {"weights": {}}}),
            json!({"method": {"weights": {"acme": 0}}}),
            json!({"method": {"weights": {"initech": 1}}}),
        ] {
            let mut found = Vec::new();
            spec(wrong.clone()).check(&mut found);
            assert_eq!(found.len(), 1, "{wrong}: {found:?}");
        }
    }

    #[test]
    fn it_is_for_its_tenants_in_its_months() {
        let spec = spec(json!({"last_period": "2026-12"}));
        let acme: Name = "acme".parse().unwrap();
        let is_for = |period| spec.is_for(&acme, period);
        assert!(is_for("2026-10") && is_for("2026-12"));
        assert!(!is_for("2026-09") && !is_for("2027-01"));
        assert!(!spec.is_for(&"initech".parse().unwrap(), "2026-10"));
    }
}
