//! Invoices, credit notes and adjustments.

use std::collections::BTreeMap;

use base::{Name, PicoUsd, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use crate::billing::ExactUsd;

/// What a tenant is charged for a month.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Invoice {
    /// `INV-000042`; none while it is a draft.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub number: Option<String>,
    /// Whether it may still change.
    pub state: InvoiceState,
    /// The month, in the tenant's calendar: `2026-10`.
    pub period: String,
    /// From then on …
    pub from: Timestamp,
    /// … and before then.
    pub until: Timestamp,
    /// The time zone of the calendar.
    pub zone: String,
    /// Who sends it, line by line.
    pub issuer: String,
    /// Whom it is for.
    pub tenant: Name,
    /// The same, as they are called.
    pub customer: String,
    /// By which book.
    pub price_book: Name,
    /// `USD`.
    pub currency: String,
    /// When it became final.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finalised_at: Option<Timestamp>,
    /// Calls in it that stand at their upper bound; none once it is final.
    pub unsettled: u64,
    /// What it is made of.
    pub lines: Vec<InvoiceLine>,
    /// What the lines add up to: exact.
    pub subtotal: ExactUsd,
    /// What is to be paid: the same in whole cents, half to even.
    pub total: PicoUsd,
}

/// Whether an invoice may still change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum InvoiceState {
    /// It is made anew whenever it is asked for.
    Draft,
    /// It never changes.
    Final,
}

/// A part of an invoice.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct InvoiceLine {
    /// What it is.
    pub kind: LineKind,
    /// For people.
    pub description: String,
    /// The feature, of usage.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub feature: Option<String>,
    /// The model, of usage.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// From when on, where the price book changed within the period.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<Timestamp>,
    /// Until when, likewise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
    /// Calls, of usage.
    #[serde(default)]
    pub calls: u64,
    /// Those of them that the tenant's cache answered.
    #[serde(default)]
    pub cache_hits: u64,
    /// Input tokens, cached ones included.
    #[serde(default)]
    pub input_tokens: u64,
    /// Of these, read from a provider's cache.
    #[serde(default)]
    pub cached_tokens: u64,
    /// Of these, written to a provider's cache.
    #[serde(default)]
    pub cached_write_tokens: u64,
    /// Output tokens.
    #[serde(default)]
    pub output_tokens: u64,
    /// Images.
    #[serde(default)]
    pub images: u64,
    /// Requests that upstreams bill.
    #[serde(default)]
    pub billed_requests: u64,
    /// What the calls cost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost: Option<PicoUsd>,
    /// Of that, what answers cost that the tenant's cache gave again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hit_cost: Option<PicoUsd>,
    /// What these would have cost anew.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hit_anew: Option<PicoUsd>,
    /// Of late usage, the month whose invoice was final before it came.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub late_of: Option<String>,
    /// The discount that is in the amount, in hundredths of a per cent.
    #[serde(default)]
    pub discount_basis_points: u32,
    /// What is charged: exact.
    pub amount: ExactUsd,
}

/// What a line of an invoice is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum LineKind {
    /// Calls of a model for a feature.
    Usage,
    /// Usage that is included.
    Included,
    /// Less for much usage.
    VolumeDiscount,
    /// What is missing to the least that is charged.
    Minimum,
    /// Calls of a month before, which came to the ledger when its invoice was final.
    LateUsage,
    /// What somebody put there, with a reason.
    Adjustment,
    /// A part of what several tenants pay together.
    SharedCost,
}

impl InvoiceLine {
    /// A line that says nothing but its amount.
    pub(crate) const fn of(kind: LineKind, amount: ExactUsd) -> Self {
        Self {
            kind,
            description: String::new(),
            feature: None,
            model: None,
            from: None,
            until: None,
            calls: 0,
            cache_hits: 0,
            input_tokens: 0,
            cached_tokens: 0,
            cached_write_tokens: 0,
            output_tokens: 0,
            images: 0,
            billed_requests: 0,
            cost: None,
            hit_cost: None,
            hit_anew: None,
            late_of: None,
            discount_basis_points: 0,
            amount,
        }
    }
}

impl LineKind {
    /// Its name: `volume-discount`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Usage => "usage",
            Self::Included => "included",
            Self::VolumeDiscount => "volume-discount",
            Self::Minimum => "minimum",
            Self::LateUsage => "late-usage",
            Self::Adjustment => "adjustment",
            Self::SharedCost => "shared-cost",
        }
    }
}

/// A final invoice, in a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct InvoiceRow {
    /// Its number.
    pub number: String,
    /// Its month.
    pub period: String,
    /// What is to be paid.
    pub total: PicoUsd,
    /// What credit notes gave back of that.
    pub credited: PicoUsd,
    /// When it became final.
    pub finalised_at: Timestamp,
}

/// An amount of a final invoice that is given back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CreditNote {
    /// `INV-CREDIT-000007`.
    pub number: String,
    /// The invoice's number.
    pub invoice: String,
    /// The invoice's month.
    pub period: String,
    /// What it was made under.
    pub reference: Name,
    /// Whom it is for.
    pub tenant: Name,
    /// How much: whole cents.
    pub amount: PicoUsd,
    /// `USD`.
    pub currency: String,
    /// Why.
    pub reason: String,
    /// When it was made.
    pub issued_at: Timestamp,
    /// By whom.
    pub issued_by: String,
}

/// What is given back of an invoice.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CreditRequest {
    /// What it is made under, such as a ticket: of one reference and invoice there is one credit
    /// note, however often it is asked for.
    pub reference: Name,
    /// How much: whole cents, and with other credit notes no more than the invoice.
    pub amount: PicoUsd,
    /// Why: it stands on the credit note.
    pub reason: String,
}

/// An amount that is added to an invoice that is not final yet. It never changes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Adjustment {
    /// The month on whose invoice it is.
    pub period: String,
    /// What it was made under.
    pub reference: Name,
    /// How much; less than nothing takes off.
    pub amount: PicoUsd,
    /// What the invoice says.
    pub description: String,
    /// When it was made.
    pub made_at: Timestamp,
    /// By whom.
    pub made_by: String,
}

/// An amount for an invoice that is not final yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AdjustmentRequest {
    /// The month on whose invoice it is to be: `2026-10`.
    pub period: String,
    /// What it is made under, such as a ticket: of one reference and month there is one.
    pub reference: Name,
    /// How much; less than nothing takes off.
    pub amount: PicoUsd,
    /// What the invoice is to say.
    pub description: String,
}

/// How a shared cost of a month is split.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SplitReply {
    /// Which.
    pub name: Name,
    /// The month.
    pub period: String,
    /// How much it is.
    pub amount: PicoUsd,
    /// How it is split: `by-tokens`, `by-cost`, `equal` or `weights`.
    pub method: String,
    /// Whether it never changes: an invoice that it is on is final.
    pub is_fixed: bool,
    /// Each tenant's part: whole cents, together all of it.
    pub parts: BTreeMap<Name, PicoUsd>,
}

/// In which form an invoice is wanted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct InvoiceExportQuery {
    /// The form.
    pub format: InvoiceFormat,
}

/// The form of an invoice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum InvoiceFormat {
    /// As the API has it.
    Json,
    /// A row for each line, and one for the total.
    Csv,
    /// For people.
    Pdf,
}

/// Which numbers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NumbersQuery {
    /// The series: `inv`, or `inv-credit` for its credit notes.
    pub series: String,
    /// The most rows: 1 to 1,000; 100 if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
    /// The `next_cursor` of the page before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
}

/// A number that was given.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct NumberRow {
    /// As it stands on the document.
    pub number: String,
    /// Whose: a tenant's name, or its id once it is gone.
    pub tenant: String,
    /// What it is: `invoice/2026-10`.
    pub document: String,
    /// When it was given.
    pub at: Timestamp,
    /// The SHA-256 of the document, in hexadecimal digits.
    pub digest: String,
}
