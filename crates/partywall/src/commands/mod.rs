//! The commands that administer an installation by its admin API.

pub(crate) mod adapters;
pub(crate) mod alerts;
pub(crate) mod apply;
pub(crate) mod audit;
pub(crate) mod backups;
pub(crate) mod cache;
pub(crate) mod costs;
pub(crate) mod dashboard;
mod differences;
mod download;
pub(crate) mod fields;
pub(crate) mod invoices;
pub(crate) mod keys;
pub(crate) mod ledger;
pub(crate) mod moves;
mod patch;
pub(crate) mod prices;
pub(crate) mod prompts;
pub(crate) mod reconcile;
pub(crate) mod replicas;
pub(crate) mod requests;
pub(crate) mod resource;
pub(crate) mod tenant_config;
pub(crate) mod tenants;
pub(crate) mod upgrades;
pub(crate) mod upstreams;
pub(crate) mod usage;
pub(crate) mod versions;

use base::{Clock, Name, Timestamp};
use clap::Args;

use crate::client::{Client, Pages};
use crate::terminal::Form;

/// Where every path of the admin API begins.
pub(crate) const API: &str = "/admin/v1";

/// What every such command works with.
pub(crate) struct Context<'a> {
    pub(crate) client: Client,
    pub(crate) form: Form,
    pub(crate) clock: &'a dyn Clock,
}

impl Context<'_> {
    /// What time it is.
    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }
}

/// Which tenant's.
#[derive(Debug, Clone, Args)]
pub(crate) struct TenantArgs {
    /// The tenant
    #[arg(long, short, env = "PARTYWALL_TENANT", value_name = "NAME")]
    pub(crate) tenant: Name,
}

/// Which part of a list.
#[derive(Debug, Clone, Args)]
pub(crate) struct PageArgs {
    /// Follow the pages to the end
    #[arg(long)]
    all: bool,
    /// Rows of a page
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1000), value_name = "N")]
    page_size: u32,
    /// Begin where an earlier page ended: its `next_cursor`
    #[arg(long)]
    cursor: Option<String>,
}

impl PageArgs {
    pub(crate) fn pages(&self) -> Pages {
        if self.all { Pages::All } else { Pages::First }
    }

    pub(crate) fn parameters(&self) -> Vec<(&'static str, Option<String>)> {
        vec![
            ("limit", Some(self.page_size.to_string())),
            ("cursor", self.cursor.clone()),
        ]
    }
}

/// Whether to ask before something that cannot be taken back.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct ConfirmArgs {
    /// Do not ask
    #[arg(long, short)]
    pub(crate) yes: bool,
}
