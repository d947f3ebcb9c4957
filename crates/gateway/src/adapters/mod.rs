//! Tenants' LoRA adapters in an engine's few slots: loaded when a call needs one, unloaded when
//! another does or when it is revoked.
//!
//! [`Slots`] decides, without I/O; [`AdapterShelf`] asks the engine.

mod engine;
mod lease;
mod shelf;
mod slots;

use std::sync::Arc;

use base::{Name, TenantId};
use tenancy::catalogue::{AdapterSpec, Engine};
use tenancy::{AdapterName, Snapshot};

pub(crate) use lease::{AdapterLease, NoAdapter};
pub(crate) use shelf::{AdapterShelf, ShelfView};

/// A tenant's adapter, as one upstream's engine knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct EngineAdapter {
    /// Whose it is.
    pub(crate) tenant: TenantId,
    /// The tenant's own name for it.
    pub(crate) name: Name,
    pub(crate) spec: Arc<AdapterSpec>,
    /// What the engine calls it: no other adapter of anybody has this name.
    pub(crate) engine_name: AdapterName,
}

impl EngineAdapter {
    /// What calls name in the place of the model. LoRAX has no names of its own: there an adapter
    /// is where its weights are.
    pub(crate) fn said_to(&self, engine: Engine) -> &str {
        match engine {
            Engine::Lorax => self.spec.location(),
            _ => self.engine_name.as_str(),
        }
    }

    /// Where LoRAX looks for it.
    pub(crate) fn lorax_source(&self) -> &'static str {
        let location = self.spec.location();
        if location.starts_with('/') {
            "local"
        } else if location.starts_with("s3://") {
            "s3"
        } else {
            "hub"
        }
    }

    /// Whether the tenant still has it as it is.
    pub(crate) fn is_in(&self, snapshot: &Snapshot) -> bool {
        let Some(tenant) = snapshot.tenant(self.tenant) else {
            return false;
        };
        let spec = tenant.adapter(self.name.as_str());
        !tenant.spec.suspended && spec.is_some_and(|(_, spec)| *spec == self.spec)
    }
}
