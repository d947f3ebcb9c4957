//! Usage that came to the ledger after its month's invoice was final: what was in the journal of a
//! replica that was down. Its invoice never changes, so that a later one has a line for it.

use std::collections::BTreeMap;

use std::time::Duration;

use base::PicoUsd;
use store::UsageRow;
use tenancy::catalogue::PriceBookSpec;

use super::Period;
use super::charges::usage_line;
use super::draft::{too_large, usage_kept};
use super::records::Books;
use crate::api::{Invoice, InvoiceLine, LineKind};
use crate::error::ApiError;

/// Three months: a replica that was down for longer has been forgotten.
const MONTHS_BACK: usize = 3;

/// By model and feature.
type Charged = BTreeMap<(String, String), UsageRow>;

/// The lines of a month's invoice for calls of the months before it that no final invoice has; and how
/// many of these calls are not settled.
pub(super) fn lines(
    book: &PriceBookSpec,
    books: &Books<'_>,
    period: Period,
) -> Result<(Vec<InvoiceLine>, u64), ApiError> {
    let before = |period: &Period| Some(period.before());
    let late_of: Vec<Period> = std::iter::successors(before(&period), before)
        .take(MONTHS_BACK)
        .collect();
    let (mut lines, mut unsettled) = (Vec::new(), 0);
    // The oldest first.
    for month in late_of.into_iter().rev() {
        let Some(invoice) = books.final_invoice(month)? else {
            continue;
        };
        let Some(charged) = charged(books, &invoice, month, period)? else {
            continue;
        };
        // Where hours are forgotten that it takes, nobody can say.
        let Some(rows) = usage_kept(books.store, (invoice.from, invoice.until))? else {
            continue;
        };
        let last = invoice.until.minus(Duration::from_micros(1));
        let entry = book.entry_at(last).or(book.entries.first());
        let entry = entry.expect("publishing checks that a book has an entry");
        for row in rows {
            let late = less(&row, charged.get(&key(&row.model, &row.feature)));
            // Only what is new: a store that was put back from before has less.
            if late.calls == 0 {
                continue;
            }
            unsettled += late.unsettled;
            let line = usage_line(entry, &late, None).map_err(too_large)?;
            lines.push(InvoiceLine {
                kind: LineKind::LateUsage,
                description: format!("{}, late of {month}", line.description),
                late_of: Some(month.to_string()),
                ..line
            });
        }
    }
    Ok((lines, unsettled))
}

/// What final invoices have charged of a month: its own, and those after it but the one that is being
/// made. None if an earlier build made it, which noted less.
fn charged(
    books: &Books<'_>,
    invoice: &Invoice,
    month: Period,
    made: Period,
) -> Result<Option<Charged>, ApiError> {
    let mut charged = Charged::new();
    let own = invoice.lines.iter().filter(|it| it.kind == LineKind::Usage);
    for line in own {
        if line.hit_cost.is_none() {
            return Ok(None);
        }
        add(&mut charged, line);
    }
    let text = month.to_string();
    let mut after = month;
    for _ in 0..MONTHS_BACK {
        after = after.after();
        if after == made {
            continue;
        }
        let later = books.final_invoice(after)?;
        let lines = later.iter().flat_map(|invoice| &invoice.lines);
        for line in lines.filter(|line| line.late_of.as_ref() == Some(&text)) {
            add(&mut charged, line);
        }
    }
    Ok(Some(charged))
}

fn key(model: &Option<String>, feature: &Option<String>) -> (String, String) {
    let text = |of: &Option<String>| of.clone().unwrap_or_default();
    (text(model), text(feature))
}

fn add(charged: &mut Charged, line: &InvoiceLine) {
    let sum = charged.entry(key(&line.model, &line.feature)).or_default();
    sum.calls += line.calls;
    sum.cache_hits += line.cache_hits;
    sum.input_tokens += line.input_tokens;
    sum.cached_tokens += line.cached_tokens;
    sum.cached_write_tokens += line.cached_write_tokens;
    sum.output_tokens += line.output_tokens;
    sum.images += line.images;
    sum.billed_requests += line.billed_requests;
    sum.cost += line.cost.unwrap_or_default();
    sum.hit_cost += line.hit_cost.unwrap_or_default();
    sum.hit_anew += line.hit_anew.unwrap_or_default();
}

/// What there is beyond what was charged.
fn less(row: &UsageRow, charged: Option<&UsageRow>) -> UsageRow {
    let Some(charged) = charged else {
        return row.clone();
    };
    let money = |all: PicoUsd, charged: PicoUsd| (all - charged).max(PicoUsd::ZERO);
    UsageRow {
        calls: row.calls.saturating_sub(charged.calls),
        cache_hits: row.cache_hits.saturating_sub(charged.cache_hits),
        input_tokens: row.input_tokens.saturating_sub(charged.input_tokens),
        cached_tokens: row.cached_tokens.saturating_sub(charged.cached_tokens),
        cached_write_tokens: row
            .cached_write_tokens
            .saturating_sub(charged.cached_write_tokens),
        output_tokens: row.output_tokens.saturating_sub(charged.output_tokens),
        images: row.images.saturating_sub(charged.images),
        billed_requests: row.billed_requests.saturating_sub(charged.billed_requests),
        cost: money(row.cost, charged.cost),
        hit_cost: money(row.hit_cost, charged.hit_cost),
        hit_anew: money(row.hit_anew, charged.hit_anew),
        // Of what was charged all calls were settled.
        ..row.clone()
    }
}
