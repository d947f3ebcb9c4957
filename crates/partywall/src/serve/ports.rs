//! What the admin API asks of the process.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use base::TenantId;
use control::api::CacheReply;
use control::{PublishTarget, ResponseCaches, Vitals};
use gateway::Gateway;
use store::Journal;
use tenancy::{Problem, Snapshot};

/// The gateway serves the catalogue.
pub(super) struct Served(pub(super) Gateway);

impl PublishTarget for Served {
    fn check(&self, snapshot: &Snapshot) -> Result<(), Vec<Problem>> {
        self.0.check(&Arc::new(snapshot.clone()))
    }

    fn publish(&self, snapshot: Arc<Snapshot>) {
        if let Err(problems) = self.0.publish(&snapshot) {
            // It was checked a moment before: a file with a credential has gone since then.
            for problem in problems {
                tracing::error!(%problem, "a version is durable, and cannot be served");
            }
        }
    }

    fn current(&self) -> Arc<Snapshot> {
        self.0.snapshot()
    }
}

/// The gateway's kept answers.
pub(super) struct Caches(pub(super) Gateway);

impl ResponseCaches for Caches {
    fn figures(&self, tenant: TenantId) -> CacheReply {
        let figures = self.0.cache_figures(tenant);
        CacheReply {
            entries: figures.entries,
            bytes: figures.bytes,
            hits: figures.hits,
            misses: figures.misses,
        }
    }

    fn clear(&self, tenant: TenantId) {
        self.0.clear_cache(tenant);
    }
}

/// How the process is.
pub(super) struct Health {
    pub(super) gateway: Gateway,
    pub(super) journal: Arc<Journal>,
    pub(super) is_stopping: Arc<AtomicBool>,
}

impl Vitals for Health {
    fn ready(&self) -> Result<(), String> {
        if self.is_stopping.load(Ordering::Relaxed) {
            return Err("it is about to stop".to_owned());
        }
        if !self.journal.is_accepting() {
            return Err("the journal's disk takes nothing".to_owned());
        }
        Ok(())
    }

    fn metrics(&self) -> String {
        self.gateway.metrics().text()
    }
}
