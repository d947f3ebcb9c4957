//! Costs that tenants share: split to the last cent, and the same for all of them. The split of a month
//! is fixed when the first of its tenants' invoices becomes final.

use std::collections::BTreeMap;

use base::{Name, PicoUsd};
use store::{TenantStore, UsageFilter, UsageQuery};
use tenancy::catalogue::{SharedCostSpec, SplitMethod};
use tenancy::{ServicePurpose, Snapshot, TenantEntry};

use super::Period;
use super::exact::ExactUsd;
use super::records::GRACE;
use crate::api::{InvoiceLine, LineKind, SplitReply};
use crate::error::ApiError;
use crate::publisher::Publisher;

/// A cent is 10¹⁰ pico-dollars.
const PICO_PER_CENT: i128 = 10_000_000_000;

/// A tenant's parts of what it shares in a month.
pub(super) fn lines(
    publisher: &Publisher,
    snapshot: &Snapshot,
    tenant: &TenantEntry,
    period: Period,
) -> Result<Vec<InvoiceLine>, ApiError> {
    let text = period.to_string();
    let mut lines = Vec::new();
    let own = snapshot.shared_costs().iter();
    for (name, cost) in own.filter(|(_, cost)| cost.is_for(&tenant.name, &text)) {
        let split = split(publisher, snapshot, (name, cost), period)?;
        let part = split.parts.get(&tenant.name).copied().unwrap_or_default();
        if part > PicoUsd::ZERO {
            let amount =
                ExactUsd::of(part).map_err(|error| ApiError::conflict(error.to_string()))?;
            lines.push(InvoiceLine {
                description: format!("{} (shared {})", cost.description, cost.method.as_str()),
                ..InvoiceLine::of(LineKind::SharedCost, amount)
            });
        }
    }
    Ok(lines)
}

/// Fixes the splits that a tenant's invoice of a month has parts of. They are fixed for all its
/// tenants, once the month has ended in UTC.
pub(super) fn fix(
    publisher: &Publisher,
    snapshot: &Snapshot,
    tenant: &TenantEntry,
    period: Period,
) -> Result<(), ApiError> {
    let text = period.to_string();
    let (_, until) = period.bounds("UTC").map_err(ApiError::internal)?;
    for (name, cost) in snapshot.shared_costs() {
        if !cost.is_for(&tenant.name, &text) {
            continue;
        }
        if publisher.clock().now() < until.plus(GRACE) {
            return Err(ApiError::conflict(format!(
                "shared costs are split an hour after {until} at the earliest, when the month has ended in UTC"
            )));
        }
        let mut split = split(publisher, snapshot, (name, cost), period)?;
        if !split.is_fixed {
            split.is_fixed = true;
            let body = serde_json::to_vec(&split).map_err(ApiError::internal)?;
            let catalogue = &publisher.catalogue;
            catalogue.keep_split(name.as_str(), &text, &body)?;
        }
    }
    Ok(())
}

/// How a shared cost of a month is split: as it was fixed, or as it would be now. Blocks.
pub(crate) fn split(
    publisher: &Publisher,
    snapshot: &Snapshot,
    (name, cost): (&Name, &SharedCostSpec),
    period: Period,
) -> Result<SplitReply, ApiError> {
    let text = period.to_string();
    if let Some(fixed) = publisher.catalogue.split(name.as_str(), &text)? {
        return serde_json::from_slice(&fixed).map_err(ApiError::internal);
    }
    let mut weights = BTreeMap::new();
    for member in &cost.tenants {
        if let Some(tenant) = snapshot.tenant_named(member.as_str()) {
            let weight = weight(publisher, tenant, &cost.method, period)?;
            weights.insert(member.clone(), weight);
        }
    }
    Ok(SplitReply {
        name: name.clone(),
        period: text,
        amount: cost.amount,
        method: cost.method.as_str().to_owned(),
        is_fixed: false,
        parts: parts(cost.amount, &weights),
    })
}

fn weight(
    publisher: &Publisher,
    tenant: &TenantEntry,
    method: &SplitMethod,
    period: Period,
) -> Result<u128, ApiError> {
    let used = || -> Result<store::UsageRow, ApiError> {
        let scope = publisher.service_scope(&tenant.unlocked, ServicePurpose::Export);
        let store: TenantStore<'_> = publisher.stores.open(&scope);
        let (from, until) = period.bounds("UTC").map_err(ApiError::internal)?;
        let query = UsageQuery {
            from,
            until,
            group_by: Vec::new(),
            filter: UsageFilter::default(),
        };
        Ok(store.whole_usage(&query, 1)?.pop().unwrap_or_default())
    };
    Ok(match method {
        SplitMethod::Equal => 1,
        SplitMethod::Weights(weights) => weights.get(&tenant.name).copied().unwrap_or(0).into(),
        SplitMethod::ByTokens => {
            let used = used()?;
            u128::from(used.input_tokens) + u128::from(used.output_tokens)
        }
        SplitMethod::ByCost => u128::try_from(used()?.cost.pico()).unwrap_or(0),
    })
}

/// By the method of the largest remainder: each has the whole cents of its part, and the cents that
/// are left go to those who lack most of one; of two who lack the same, to the first by name.
fn parts(amount: PicoUsd, weights: &BTreeMap<Name, u128>) -> BTreeMap<Name, PicoUsd> {
    let cents = u128::try_from(amount.pico() / PICO_PER_CENT).unwrap_or(0);
    let is_nothing = weights.values().all(|weight| *weight == 0);
    // Of amounts up to 10¹¹ cents and weights up to 10²⁷ products fit in 128 bits.
    let most = weights.values().max().copied().unwrap_or(0);
    let shift = (128 - most.leading_zeros()).saturating_sub(88);
    let weight = |weight: u128| if is_nothing { 1 } else { weight >> shift };
    let all: u128 = weights.values().map(|it| weight(*it)).sum();
    let mut rest = cents;
    let mut found: Vec<(&Name, u128, u128)> = Vec::with_capacity(weights.len());
    for (name, of) in weights {
        let share = cents * weight(*of);
        let whole = share.checked_div(all).unwrap_or(0);
        rest -= whole;
        found.push((name, whole, share.checked_rem(all).unwrap_or(0)));
    }
    // Stable: those who lack the same stay in the order of their names.
    found.sort_by_key(|(_, _, lacking)| std::cmp::Reverse(*lacking));
    let with_rest = found
        .into_iter()
        .enumerate()
        .map(|(place, (name, whole, _))| {
            let cent = u128::from((place as u128) < rest);
            let pico = i128::try_from(whole + cent).unwrap_or(0) * PICO_PER_CENT;
            (name.clone(), PicoUsd::new(pico))
        });
    with_rest.collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn split(cents: i128, weights: &[u128]) -> Vec<i128> {
        let named = weights
            .iter()
            .enumerate()
            .map(|(place, weight)| (format!("t{place:03}").parse().unwrap(), *weight));
        let parts = parts(PicoUsd::new(cents * PICO_PER_CENT), &named.collect());
        parts
            .values()
            .map(|part| part.pico() / PICO_PER_CENT)
            .collect()
    }

    #[test]
    fn what_is_left_goes_to_those_who_lack_most() {
        assert_eq!(split(100, &[1, 1, 1]), [34, 33, 33]);
        assert_eq!(split(100, &[0, 0]), [50, 50]);
        assert_eq!(split(100, &[5, 0, 3]), [63, 0, 37]);
        assert_eq!(split(1, &[1, 2]), [0, 1]);
        assert_eq!(split(7, &[]), [0_i128; 0]);
    }

    proptest! {
        #[test]
        fn parts_are_all_of_it_and_nobody_is_a_cent_off(
            cents in 1_i128..100_000_000_000,
            weights in proptest::collection::vec(0_u128..1_000_000_000_000_000_000_000_000, 1..20)
        ) {
            let found = split(cents, &weights);
            prop_assert_eq!(found.iter().sum::<i128>(), cents);
            let all: u128 = weights.iter().sum();
            for (part, weight) in found.iter().zip(&weights) {
                if all > 0 {
                    let share = cents as f64 * (*weight as f64 / all as f64);
                    prop_assert!((*part as f64 - share).abs() <= 1.0 + share * 1e-9);
                }
            }
        }
    }
}
