//! An operator acts for a tenant only once the platform's log says so.

use base::{Clock, TenantId};
use tenancy::{ActForAudit, AuditUnavailable};

use super::{AuditEntry, AuditSigner};
use crate::catalogue::Catalogue;

/// Puts on record, in the platform's log, that operators act for tenants.
#[derive(Debug)]
pub struct ActForLog<'a> {
    /// Where the platform's log is.
    pub catalogue: &'a Catalogue,
    /// Who signs it.
    pub signer: &'a AuditSigner<'a>,
    /// When it is.
    pub clock: &'a dyn Clock,
}

impl ActForAudit for ActForLog<'_> {
    fn record(
        &self,
        operator: &str,
        tenant: TenantId,
        reason: &str,
    ) -> Result<(), AuditUnavailable> {
        let now = self.clock.now();
        let entry = AuditEntry::done(now, operator, "tenant.act-for", tenant.to_string())
            .with_reason(reason);
        self.catalogue
            .with_audit(self.signer, |log| log.append(&entry))
            .map(drop)
            .map_err(|source| AuditUnavailable {
                source: Box::new(source),
            })
    }
}
