//! What all requests of a process share.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use arc_swap::ArcSwap;
use base::{Clock, Entropy, Supervisor};
use store::{Journal, Stores};
use tenancy::{KeyHasher, SharingSecret, TokenKeys};
use tokio::sync::Semaphore;

use tokio_util::sync::CancellationToken;

use crate::access_log::AccessLog;
use crate::bounds::GatewayBounds;
use crate::configuration::Configuration;
use crate::fence::Fence;
use crate::in_flight::ByteCap;
use crate::inspect::{GuardServices, Turns};
use crate::metrics::Metrics;
use crate::notices::Notices;
use crate::shares::{Clerk, RateClerk};
use crate::telemetry::Telemetry;
use crate::tenants::Tenants;

/// The process's parts, as the data path needs them.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) configuration: ArcSwap<Configuration>,
    pub(crate) tenants: Tenants,
    /// Asks for shares of budgets; none where this process has them to itself.
    pub(crate) clerk: Option<Arc<Clerk>>,
    /// Leases rates from the pools that replicas have together.
    pub(crate) rate_clerk: Option<Arc<RateClerk>>,
    pub(crate) key_hasher: KeyHasher,
    pub(crate) sharing_secret: SharingSecret,
    pub(crate) token_keys: Arc<ArcSwap<TokenKeys>>,
    pub(crate) journal: Arc<Journal>,
    pub(crate) stores: Stores,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) entropy: Arc<dyn Entropy>,
    pub(crate) bounds: GatewayBounds,
    pub(crate) in_flight: Arc<ByteCap>,
    /// All answers that are kept to be given again, over all tenants.
    pub(crate) cached: Arc<ByteCap>,
    /// Bodies that wait until they are kept, over all tenants.
    pub(crate) bodies: Arc<ByteCap>,
    /// Who redacts bodies has this: one at a time, so that it takes one core at most.
    pub(crate) redacting: Semaphore,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) access_log: AccessLog,
    pub(crate) notices: Notices,
    pub(crate) guard_services: GuardServices,
    /// Who looks through long texts.
    pub(crate) inspecting: Turns,
    /// None if nothing is exported: then calls note nothing.
    pub(crate) telemetry: Option<Telemetry>,
    /// Owns what outlives a request: upstream connections, notices, refills.
    pub(crate) supervisor: Supervisor,
    /// Set once draining begins: `/readyz` says so, and load balancers go elsewhere.
    pub(crate) is_draining: AtomicBool,
    /// Of a replica: calls pass while it is open.
    pub(crate) fence: Option<Arc<Fence>>,
    /// Cancelled once draining has taken too long: connections close as they are.
    pub(crate) cut: CancellationToken,
}
