//! Alerts as they are read.

use std::sync::Arc;

use base::TenantId;
use store::{CatalogueError, StoredAlert};

use super::{About, decode};
use crate::Control;
use crate::api::{AlertRow, AlertState};

impl Control {
    /// A tenant's alerts, or with none everybody's: those that are open first, then those that
    /// were resolved lately; each the newest first. Blocks.
    pub(crate) fn alert_rows(
        self: &Arc<Self>,
        tenant: Option<TenantId>,
    ) -> Result<Vec<AlertRow>, CatalogueError> {
        let catalogue = &self.publisher.catalogue;
        let stored = match tenant {
            Some(tenant) => catalogue.alerts_of(&tenant.to_string())?,
            None => catalogue.alerts()?,
        };
        let mut rows: Vec<AlertRow> = stored.into_iter().filter_map(row).collect();
        rows.sort_by_key(|row| row.state);
        Ok(rows)
    }
}

fn row(alert: StoredAlert) -> Option<AlertRow> {
    let about: About = decode(&alert.about)?;
    Some(AlertRow {
        id: alert.id,
        state: match alert.resolved_at {
            None => AlertState::Open,
            Some(_) => AlertState::Resolved,
        },
        kind: about.kind,
        severity: about.severity,
        tenant: about.tenant,
        subject: about.subject,
        summary: about.summary,
        opened_at: alert.opened_at,
        seen_at: alert.seen_at,
        resolved_at: alert.resolved_at,
        page: about.page,
    })
}
