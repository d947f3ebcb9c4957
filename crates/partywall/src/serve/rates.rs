//! The rates that replicas have together, as the gateway leases them: from a Valkey server.

use std::sync::Arc;

use anyhow::Context as _;
use gateway::{RatePools, RatePoolsError, RatesAnswering};
use ledger::RateAsk;
use store::{InstallationId, ValkeyAddress, ValkeyOptions, ValkeyRates};
use tenancy::catalogue::SecretRef;

use super::process::World;
use crate::config::{RatesOptions, RatesUrl};

/// A Valkey server as the pools of rates.
#[derive(Debug)]
struct SharedRates(ValkeyRates);

impl RatePools for SharedRates {
    fn exchange(&self, asks: Vec<RateAsk>) -> RatesAnswering<'_> {
        Box::pin(async move {
            let given = self.0.exchange(&asks).await;
            given.map_err(|error| RatePoolsError(Box::new(error)))
        })
    }
}

/// The pools that `partywall.toml` names, if it names any. They need not be there yet.
pub(super) fn rate_pools(
    options: &RatesOptions,
    installation: InstallationId,
    world: &World,
) -> anyhow::Result<Option<Arc<dyn RatePools>>> {
    let Some(url) = &options.url else {
        return Ok(None);
    };
    let option = "`rates.url` in partywall.toml";
    let text = match url {
        RatesUrl::Plain(text) => text.clone(),
        RatesUrl::Secret(reference) => read(reference).context(option)?,
    };
    // What is wrong with it is not shown: it may hold a password.
    let address = ValkeyAddress::parse(&text).context(option)?;
    let id: String = installation
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let options = ValkeyOptions {
        address,
        authorities: options.ca_file.clone(),
        prefix: format!("partywall:{id}"),
    };
    let rates = ValkeyRates::new(options, Arc::clone(&world.network))
        .context("`rates.ca_file` in partywall.toml")?;
    Ok(Some(Arc::new(SharedRates(rates))))
}

/// What a reference leads to.
pub(super) fn read(reference: &SecretRef) -> anyhow::Result<String> {
    match reference {
        SecretRef::Env(name) => std::env::var(name).with_context(|| format!("env:{name}")),
        SecretRef::File(path) => std::fs::read_to_string(path).with_context(|| path.to_string()),
    }
}
