//! The record of every change: durable before it is acknowledged.

use std::sync::Arc;

use base::TenantId;
use store::{AuditEntry, AuditError, AuditKey, AuditLog, AuditOutcome, AuditSigner};
use tenancy::{ActForAudit, AuditUnavailable, ServicePurpose, TenantKeys, TenantScope};

use super::Publisher;
use crate::error::ApiError;

/// 500 characters: a few sentences; longer reasons belong into a ticket that the reason names.
const REASON_CHARS_MAX: usize = 500;

/// Who does what, to what, and why.
#[derive(Clone)]
pub(crate) struct Act {
    pub(crate) actor: String,
    action: String,
    target: String,
    reason: String,
    /// The tenant in whose own log it stands too.
    pub(crate) tenant: Option<Arc<TenantKeys>>,
}

impl Act {
    /// An act of `actor`.
    ///
    /// # Errors
    ///
    /// [`ApiError::Invalid`] for a reason that nobody could read.
    pub(crate) fn new(
        actor: String,
        action: &str,
        target: impl Into<String>,
        reason: Option<&str>,
    ) -> Result<Self, ApiError> {
        let reason = reason.unwrap_or_default().trim();
        if reason.chars().count() > REASON_CHARS_MAX || reason.chars().any(char::is_control) {
            return Err(ApiError::of(
                "note",
                "a reason has at most 500 characters, and no control characters",
            ));
        }
        Ok(Self {
            actor,
            action: action.to_owned(),
            target: target.into(),
            reason: reason.to_owned(),
            tenant: None,
        })
    }

    /// An act of the platform itself.
    pub(crate) fn of_platform(action: &str, target: String) -> Self {
        Self {
            actor: "platform".to_owned(),
            action: action.to_owned(),
            target,
            reason: String::new(),
            tenant: None,
        }
    }

    /// For this reason, as far as a record has room for it.
    pub(crate) fn because(mut self, reason: &str) -> Self {
        self.reason = reason.chars().take(REASON_CHARS_MAX).collect();
        self
    }

    /// That also stands in this tenant's own log.
    pub(crate) fn in_log_of(mut self, keys: &Arc<TenantKeys>) -> Self {
        self.tenant = Some(Arc::clone(keys));
        self
    }

    /// That stands in the platform's log alone.
    pub(crate) fn in_no_tenants_log(self) -> Self {
        Self {
            tenant: None,
            ..self
        }
    }

    /// What a version's note says.
    pub(super) fn note(&self) -> String {
        if self.reason.is_empty() {
            format!("{} {}", self.action, self.target)
        } else {
            self.reason.clone()
        }
    }

    pub(super) fn done(&self) -> Entry {
        Entry {
            act: self.clone(),
            outcome: AuditOutcome::Done,
            version: None,
            changes: None,
        }
    }

    pub(super) fn done_at(&self, version: u64, changes: usize) -> Entry {
        Entry {
            version: Some(version),
            changes: Some(changes),
            ..self.done()
        }
    }

    pub(super) fn failed(&self) -> Entry {
        Entry {
            outcome: AuditOutcome::Failed,
            ..self.done()
        }
    }
}

/// An act, and what became of it.
pub(super) struct Entry {
    act: Act,
    outcome: AuditOutcome,
    version: Option<u64>,
    changes: Option<usize>,
}

impl Publisher {
    /// The installation's id, as text.
    pub(crate) fn installation(&self) -> &str {
        &self.installation
    }

    /// Puts an act on record, in the platform's log and, if it is given, in a tenant's own.
    pub(super) fn record(
        &self,
        entry: &Entry,
        tenant: Option<&Arc<TenantKeys>>,
    ) -> Result<(), ApiError> {
        let Act {
            actor,
            action,
            target,
            reason,
            ..
        } = &entry.act;
        let mut record = AuditEntry::done(
            self.clock.now(),
            actor.as_str(),
            action.as_str(),
            target.as_str(),
        )
        .with_outcome(entry.outcome)
        .with_reason(reason.as_str());
        if let Some(version) = entry.version {
            record = record.with_detail("version", version);
        }
        if let Some(changes) = entry.changes {
            record = record.with_detail("changes", changes);
        }
        self.with_platform_log(|log| log.append(&record))
            .map_err(ApiError::internal)?;
        let Some(keys) = tenant else { return Ok(()) };
        let scope = self.service_scope(keys, ServicePurpose::Onboarding);
        let in_own_log = self.with_tenant_log(&scope, |log| log.append(&record));
        if let Err(error) = in_own_log {
            // One log says that it was done, and it will not be: that log has to say so too.
            let undone = record.with_outcome(AuditOutcome::Failed);
            self.with_platform_log(|log| log.append(&undone))
                .map_err(ApiError::internal)?;
            return Err(ApiError::internal(error));
        }
        Ok(())
    }

    /// Puts an act on record that changes no configuration.
    pub(crate) fn record_act(&self, act: &Act) -> Result<(), ApiError> {
        self.record(&act.done(), act.tenant.as_ref())
    }

    /// Puts on record that an act, which is on record as done, was not.
    pub(crate) fn record_failure(&self, act: &Act) -> Result<(), ApiError> {
        self.record(&act.failed(), act.tenant.as_ref())
    }

    /// The public key of the platform's log, or of a tenant's.
    pub(crate) fn audit_key(&self, tenant: Option<TenantId>) -> AuditKey {
        match tenant {
            Some(id) => AuditSigner::tenant(&self.installation, id, &self.audit_key).public_key(),
            None => AuditSigner::platform(&self.installation, &self.audit_key).public_key(),
        }
    }

    /// Does something with the platform's audit log. Blocks.
    pub(crate) fn with_platform_log<T>(
        &self,
        act: impl FnMut(&mut AuditLog<'_>) -> Result<T, AuditError>,
    ) -> Result<T, AuditError> {
        let signer = AuditSigner::platform(&self.installation, &self.audit_key);
        self.catalogue.with_audit(&signer, act)
    }

    /// Does something with a tenant's audit log. Blocks.
    pub(crate) fn with_tenant_log<T>(
        &self,
        scope: &TenantScope,
        act: impl FnMut(&mut AuditLog<'_>) -> Result<T, AuditError>,
    ) -> Result<T, AuditError> {
        let signer = AuditSigner::tenant(&self.installation, scope.tenant(), &self.audit_key);
        self.stores.open(scope).with_audit(&signer, act)
    }
}

/// An operator's act for a tenant stands in the platform's log before it happens.
impl ActForAudit for Publisher {
    fn record(
        &self,
        operator: &str,
        tenant: TenantId,
        reason: &str,
    ) -> Result<(), AuditUnavailable> {
        let actor = format!("operator:{operator}");
        let entry = AuditEntry::done(
            self.clock.now(),
            actor,
            "act_for_tenant",
            tenant.to_string(),
        )
        .with_reason(reason);
        self.with_platform_log(|log| log.append(&entry))
            .map(drop)
            .map_err(|source| AuditUnavailable {
                source: Box::new(source),
            })
    }
}
