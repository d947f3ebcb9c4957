//! An invoice as a file: JSON, CSV or PDF.

use base::Timestamp;

use super::pdf;
use crate::api::{Invoice, InvoiceFormat, InvoiceLine, InvoiceState};
use crate::error::ApiError;

/// A file.
pub(crate) struct Document {
    pub(crate) content_type: &'static str,
    pub(crate) bytes: Vec<u8>,
}

/// The invoice in a form.
pub(crate) fn written(invoice: &Invoice, format: InvoiceFormat) -> Result<Document, ApiError> {
    Ok(match format {
        InvoiceFormat::Json => Document {
            content_type: "application/json",
            bytes: serde_json::to_vec_pretty(invoice).map_err(ApiError::internal)?,
        },
        InvoiceFormat::Csv => Document {
            content_type: "text/csv; charset=utf-8",
            bytes: csv(invoice).map_err(ApiError::internal)?,
        },
        InvoiceFormat::Pdf => Document {
            content_type: "application/pdf",
            bytes: pdf::write(&pages(invoice)),
        },
    })
}

const COLUMNS: [&str; 20] = [
    "number",
    "tenant",
    "period",
    "kind",
    "description",
    "feature",
    "model",
    "from",
    "until",
    "calls",
    "cache_hits",
    "input_tokens",
    "cached_tokens",
    "cached_write_tokens",
    "output_tokens",
    "cost",
    "discount_basis_points",
    "amount",
    "currency",
    "late_of",
];

fn csv(invoice: &Invoice) -> Result<Vec<u8>, csv::Error> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    writer.write_record(COLUMNS)?;
    for line in &invoice.lines {
        writer.write_record(row(invoice, line))?;
    }
    let mut total = vec![String::new(); COLUMNS.len()];
    for (place, value) in [
        (0, number(invoice)),
        (1, invoice.tenant.to_string()),
        (2, invoice.period.clone()),
        (3, "total".to_owned()),
        (7, invoice.from.to_string()),
        (8, invoice.until.to_string()),
        (17, invoice.total.to_string()),
        (18, invoice.currency.clone()),
    ] {
        total[place] = value;
    }
    writer.write_record(total)?;
    writer
        .into_inner()
        .map_err(|error| error.into_error().into())
}

fn row(invoice: &Invoice, line: &InvoiceLine) -> [String; COLUMNS.len()] {
    let time = |at: Option<Timestamp>| at.map(|at| at.to_string()).unwrap_or_default();
    let named = |name: &Option<String>| no_formula(name.clone().unwrap_or_default());
    [
        number(invoice),
        invoice.tenant.to_string(),
        invoice.period.clone(),
        line.kind.as_str().to_owned(),
        no_formula(line.description.clone()),
        named(&line.feature),
        named(&line.model),
        time(line.from),
        time(line.until),
        line.calls.to_string(),
        line.cache_hits.to_string(),
        line.input_tokens.to_string(),
        line.cached_tokens.to_string(),
        line.cached_write_tokens.to_string(),
        line.output_tokens.to_string(),
        line.cost.map(|cost| cost.to_string()).unwrap_or_default(),
        line.discount_basis_points.to_string(),
        line.amount.to_string(),
        invoice.currency.clone(),
        line.late_of.clone().unwrap_or_default(),
    ]
}

/// Text that a spreadsheet would compute stays text.
fn no_formula(text: String) -> String {
    match text.chars().next() {
        Some('=' | '+' | '-' | '@') => format!("'{text}"),
        _ => text,
    }
}

fn number(invoice: &Invoice) -> String {
    let draft = || "DRAFT".to_owned();
    invoice.number.clone().unwrap_or_else(draft)
}

/// 40 lines on a page: what A4 takes at 16 points a line, below a head.
const LINES_PER_PAGE: usize = 40;

fn pages(invoice: &Invoice) -> Vec<pdf::Page> {
    let count = invoice.lines.len().div_ceil(LINES_PER_PAGE).max(1);
    (0..count)
        .map(|place| {
            let lines = invoice.lines.iter().skip(place * LINES_PER_PAGE);
            let rows = lines.take(LINES_PER_PAGE).map(|line| pdf::Row {
                text: described(line),
                detail: detail(line),
                amount: line.amount.shown(6),
            });
            pdf::Page {
                title: match invoice.state {
                    InvoiceState::Draft => "Draft of an invoice".to_owned(),
                    InvoiceState::Final => format!("Invoice {}", number(invoice)),
                },
                issuer: invoice.issuer.lines().map(ToOwned::to_owned).collect(),
                head: head(invoice),
                rows: rows.collect(),
                total: (place + 1 == count)
                    .then(|| (format!("Total {}", invoice.currency), cents(invoice))),
                foot: format!(
                    "Page {} of {count}. Lines are shown to six places and are exact in the CSV; the total is their sum, rounded once, half to even.",
                    place + 1
                ),
            }
        })
        .collect()
}

fn head(invoice: &Invoice) -> Vec<(String, String)> {
    let mut head = vec![
        ("For".to_owned(), invoice.customer.clone()),
        (
            "Period".to_owned(),
            format!("{} ({})", invoice.period, invoice.zone),
        ),
        (
            "Time".to_owned(),
            format!("{} to {}", invoice.from, invoice.until),
        ),
    ];
    if let Some(at) = invoice.finalised_at {
        let date: String = at.to_string().chars().take("2026-10-31".len()).collect();
        head.push(("Date".to_owned(), date));
    }
    head
}

fn described(line: &InvoiceLine) -> String {
    match (line.from, line.until) {
        (Some(from), Some(_)) => format!("{} (from {from})", line.description),
        _ => line.description.clone(),
    }
}

fn detail(line: &InvoiceLine) -> String {
    match line.calls {
        0 => String::new(),
        1 => "1 call".to_owned(),
        calls => format!("{calls} calls"),
    }
}

/// The total with its two places.
fn cents(invoice: &Invoice) -> String {
    invoice.total.to_string()
}
