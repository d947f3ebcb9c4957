//! Where alerts are told.

use anyhow::bail;
use base::Timestamp;
use clap::Args;
use serde::Serialize;
use serde_json::{Value, json};
use tenancy::catalogue::{AlertKind, Kind};

use crate::commands::TenantArgs;
use crate::commands::patch::merge;
use crate::commands::resource::{Fields, OnPlatform, stated};

/// What both kinds of channels have.
#[derive(Debug, Clone, Args, Serialize)]
struct Told {
    /// For people
    #[arg(long, value_name = "TEXT")]
    description: Option<String>,
    /// A hook that is sent signed JSON
    #[arg(long, value_name = "URL")]
    #[serde(skip)]
    webhook: Option<String>,
    /// An incoming hook of Slack, or of what is like it
    #[arg(long, value_name = "URL")]
    #[serde(skip)]
    slack: Option<String>,
    /// An address that mail is sent to; may be repeated
    #[arg(long = "email", value_name = "ADDRESS")]
    #[serde(skip)]
    emails: Vec<String>,
    /// What it is told; may be repeated; none means everything
    #[arg(long = "alert", value_name = "KIND", value_parser = clap::builder::PossibleValuesParser::new(
        AlertKind::ALL.map(AlertKind::as_str)))]
    alerts: Vec<String>,
    /// An alert that is still open is told again after so many hours; 0 tells it once
    #[arg(long, value_name = "HOURS")]
    remind_hours: Option<u16>,
    /// Whether it is told nothing for now
    #[arg(long, num_args = 0..=1, default_missing_value = "true", value_name = "BOOL")]
    disabled: Option<bool>,
}

impl Told {
    fn merge_into(&self, spec: &mut Value) -> anyhow::Result<()> {
        merge(spec, stated(self)?);
        let hooks = [("webhook", &self.webhook), ("slack", &self.slack)];
        let mut targets: Vec<Value> = hooks
            .into_iter()
            .filter_map(|(kind, url)| Some(json!({ kind: {"url": url.as_ref()?} })))
            .collect();
        if !self.emails.is_empty() {
            targets.push(json!({"email": {"to": self.emails}}));
        }
        if targets.len() > 1 {
            bail!("a channel leads to one place: give one of --webhook, --slack and --email");
        }
        if let Some(target) = targets.pop() {
            spec["to"] = target;
        }
        Ok(())
    }
}

/// Fields of one of the platform's channels.
#[derive(Debug, Clone, Args, Serialize)]
pub(crate) struct PlatformChannelFields {
    #[command(flatten)]
    #[serde(skip)]
    told: Told,
    /// Whether its address may be private or on loopback
    #[arg(long, num_args = 0..=1, default_missing_value = "true", value_name = "BOOL")]
    allow_private_address: Option<bool>,
}

impl Fields for PlatformChannelFields {
    const KIND: Kind = Kind::PlatformChannel;
    const COLUMNS: &'static [&'static str] = &["description", "to", "alerts", "disabled"];
    type Place = OnPlatform;

    fn merge_into(&self, spec: &mut Value, _now: Timestamp) -> anyhow::Result<()> {
        merge(spec, stated(self)?);
        self.told.merge_into(spec)
    }
}

/// Fields of a tenant's channel.
#[derive(Debug, Clone, Args, Serialize)]
pub(crate) struct ChannelFields {
    #[command(flatten)]
    #[serde(skip)]
    told: Told,
}

impl Fields for ChannelFields {
    const KIND: Kind = Kind::Channel;
    const COLUMNS: &'static [&'static str] = &["description", "to", "alerts", "disabled"];
    type Place = TenantArgs;

    fn merge_into(&self, spec: &mut Value, _now: Timestamp) -> anyhow::Result<()> {
        self.told.merge_into(spec)
    }
}
