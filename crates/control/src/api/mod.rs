//! What the admin API reads and writes, as types: the server and the CLI use the same ones.
//!
//! Unknown fields are refused in what a client sends, and tolerated in what it receives.

mod alerts;
mod audit;
mod backups;
mod billing;
mod bodies;
mod cache;
mod calls;
mod catalogue;
mod costs;
mod health;
mod moves;
mod prices;
mod prompts;
mod provider_bills;
mod publish;
mod reconcile;
mod replicas;
mod tenants;
mod upgrades;
mod upstreams;
mod usage;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use alerts::{AlertRow, AlertState, AlertsQuery, ChannelTestReply, Severity};
pub use audit::{AuditCheck, AuditRow};
pub use backups::{BackupView, RestoreReply, RestoreRequest, RestoreWhat};
pub use billing::{
    Adjustment, AdjustmentRequest, CreditNote, CreditRequest, ExactUsd, Invoice,
    InvoiceExportQuery, InvoiceFormat, InvoiceLine, InvoiceRow, InvoiceState, LineKind, NumberRow,
    NumbersQuery, SplitReply,
};
pub use bodies::BodiesReply;
pub use cache::CacheReply;
pub use calls::CallsQuery;
pub use catalogue::{ListQuery, ResourceView};
pub use costs::{
    CostOrder, CostsQuery, CostsReply, ExportFormat, ExportQuery, Granularity, PlatformCostsQuery,
    PushReply, PushRequest, PushedDay, PushedFile, RebuildReply,
};
pub use health::{
    BudgetUse, Concern, FleetOrder, FleetQuery, FleetReply, FleetRow, HealthFigures, HealthMinute,
    Quantiles, SignInLinkReply, SilentReplica, TenantHealthReply,
};
pub use moves::{MoveReply, MoveRequest, ServerReply, ServersReply, WallReply};
pub use prices::{
    IgnoredField, ImportedPrice, PriceImportReport, PriceImportRequest, PriceSource, PriceVariants,
    SkippedPrice,
};
pub use prompts::{RenderReply, RenderRequest};
pub use provider_bills::{
    BillDifference, BillImportReply, BillImportRequest, BillProvider, BillRow,
};
pub use publish::{
    Action, ApplyReport, ApplyRequest, ConfigVersion, CreatedKey, DiffLine, ExportReply,
    KeptResource, Manifest, PublishedReply, RollbackReply, RollbackRequest, VersionRow,
};
pub use reconcile::{
    ReconcileLeaseReply, ReconcileLeaseRequest, ReconcileReply, ReconcileRequest, UnsettledRow,
    WriteOffRequest,
};
pub use replicas::{ReplicaReply, ReplicasReply};
pub use tenants::{
    ConfirmQuery, KeyReply, KeyRequest, OnboardReply, OnboardRequest, OperatorRequest,
    RootKeyRequest, RotateRequest, RotatedReply, TokenKeysReply, WebhookSecretReply,
};
pub use upgrades::{
    UpgradeFailure, UpgradeReply, UpgradeRequest, UpgradeRing, UpgradeRingReply, UpgradeState,
};
pub use upstreams::{EndpointRow, UpstreamStatusReply, WaitingCalls};
pub use usage::{
    BudgetRow, BudgetStatusReply, LedgerCheck, LineView, PlatformUsageQuery, RequestReply,
    UsageQuery, UsageRow,
};

/// A part of a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Page<T> {
    /// The rows.
    pub data: Vec<T>,
    /// Ask again with `cursor` set to this for what follows; nothing follows if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_cursor: Option<String>,
}

/// Every refusal, in the form that the data path has too.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ErrorReply {
    /// What is wrong.
    pub error: ErrorDetail,
}

/// What is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ErrorDetail {
    /// For people.
    pub message: String,
    /// The class: `invalid_request_error`, `authentication_error`, …
    pub r#type: String,
    /// The field or parameter that is wrong, if it is one.
    pub param: Option<String>,
    /// For programs: `not_found`, `invalid_api_key`, …
    pub code: Option<String>,
    /// Everything that is wrong with a configuration, resource by resource.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub details: Vec<ProblemView>,
}

/// One thing that is wrong with one resource.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ProblemView {
    /// The resource: `tiers/free`, `acme/keys/prod`.
    pub address: String,
    /// What is wrong, and what would be right.
    pub message: String,
}

/// That it was done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Health {
    /// `ok`, or what is missing.
    pub status: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_without_details_has_the_form_of_the_data_path() {
        let detail = ErrorDetail {
            message: "no".to_owned(),
            r#type: "invalid_request_error".to_owned(),
            param: None,
            code: None,
            details: Vec::new(),
        };
        assert_eq!(
            serde_json::to_string(&ErrorReply { error: detail }).unwrap(),
            r#"{"error":{"message":"no","type":"invalid_request_error","param":null,"code":null}}"#
        );
    }
}
