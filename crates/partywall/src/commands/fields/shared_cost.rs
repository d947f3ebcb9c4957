//! Costs that tenants share.

use std::collections::BTreeMap;

use anyhow::bail;
use base::{Name, PicoUsd, Timestamp};
use clap::Args;
use serde::Serialize;
use serde_json::{Value, json};
use tenancy::catalogue::Kind;

use crate::commands::patch::merge;
use crate::commands::resource::{Fields, OnPlatform, stated};

/// Fields of a shared cost.
#[derive(Debug, Clone, Args, Serialize)]
pub(crate) struct SharedCostFields {
    /// What it is, as it stands on invoices
    #[arg(long, value_name = "TEXT")]
    description: Option<String>,
    /// How much it is a month, in dollars and cents
    #[arg(long, value_name = "DOLLARS")]
    amount: Option<PicoUsd>,
    /// The first month whose invoices it is on: `2026-10`
    #[arg(long, value_name = "MONTH")]
    first_period: Option<String>,
    /// The last one; none ends it by default
    #[arg(long, value_name = "MONTH")]
    last_period: Option<String>,
    /// How it is split: `by-tokens`, `by-cost` or `equal`; `weights` follow from `--weight`
    #[arg(long, value_parser = ["by-tokens", "by-cost", "equal"])]
    method: Option<String>,
    /// A tenant that it is split between; may be repeated
    #[arg(long = "tenant-of", value_name = "TENANT")]
    tenants: Vec<Name>,
    /// A tenant and its weight; may be repeated
    #[arg(long = "weight", value_name = "TENANT=N", value_parser = weight, conflicts_with = "method")]
    #[serde(skip)]
    weights: Vec<(Name, u32)>,
}

fn weight(text: &str) -> Result<(Name, u32), String> {
    let (tenant, weight) = text.split_once('=').ok_or("say TENANT=N")?;
    let tenant = tenant.parse().map_err(|error| format!("{error}"))?;
    let weight = weight.parse().map_err(|error| format!("{error}"))?;
    Ok((tenant, weight))
}

impl Fields for SharedCostFields {
    const KIND: Kind = Kind::SharedCost;
    const COLUMNS: &'static [&'static str] = &[
        "description",
        "amount",
        "method",
        "first_period",
        "last_period",
    ];
    type Place = OnPlatform;

    fn merge_into(&self, spec: &mut Value, _now: Timestamp) -> anyhow::Result<()> {
        merge(spec, stated(self)?);
        if !self.weights.is_empty() {
            let weights: BTreeMap<&Name, u32> =
                self.weights.iter().map(|(name, it)| (name, *it)).collect();
            if weights.len() < self.weights.len() {
                bail!("a tenant has one weight");
            }
            spec["method"] = json!({"weights": weights});
            if self.tenants.is_empty() {
                spec["tenants"] = json!(weights.keys().collect::<Vec<_>>());
            }
        }
        Ok(())
    }
}
