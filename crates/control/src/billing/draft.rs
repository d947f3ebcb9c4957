//! A draft of an invoice: the price book of today over the usage of its month.

use base::Timestamp;
use store::{Dimension, StoreError, TenantStore, UsageFilter, UsageQuery, UsageRow};
use tenancy::catalogue::PriceBookSpec;
use tenancy::{Snapshot, TenantEntry};

use super::charges::{period_lines, total, usage_line};
use super::exact::{ExactUsd, TooLarge};
use super::records::Books;
use super::{CURRENCY, Period, late};
use crate::api::{Invoice, InvoiceLine, InvoiceState, LineKind};
use crate::error::ApiError;
use crate::usage::GROUPS_MAX;

/// What a tenant would be charged for a month, as of now. Blocks.
pub(crate) fn draft(
    snapshot: &Snapshot,
    tenant: &TenantEntry,
    books: &Books<'_>,
    period: Period,
) -> Result<Invoice, ApiError> {
    let (name, book) = snapshot.price_book_of(tenant).ok_or_else(|| {
        ApiError::conflict(
            "the tenant has no price book: name one in the tenant's or its tier's `price_book`",
        )
    })?;
    let (from, until) = bounds(tenant, books, period)?;
    let (mut lines, mut unsettled) = usage_lines(book, books.store, (from, until))?;
    // Of a book that begins within the period, the first entry says what is included.
    let terms = book.entry_at(from).or(book.entries.first());
    let terms = terms.expect("publishing checks that a book has an entry");
    lines.extend(period_lines(terms, total(&lines)).map_err(too_large)?);
    let (late, late_unsettled) = late::lines(book, books, period)?;
    lines.extend(late);
    unsettled += late_unsettled;
    for adjustment in super::adjustments(books, Some(period))? {
        let amount = ExactUsd::of(adjustment.amount).map_err(too_large)?;
        lines.push(InvoiceLine {
            description: adjustment.description,
            ..InvoiceLine::of(LineKind::Adjustment, amount)
        });
    }
    lines.extend(books.shared_lines(snapshot, tenant, period)?);
    let subtotal = total(&lines);
    let display_name = &tenant.spec.display_name;
    let customer = match display_name.is_empty() {
        true => tenant.name.to_string(),
        false => display_name.to_string(),
    };
    Ok(Invoice {
        number: None,
        state: InvoiceState::Draft,
        period: period.to_string(),
        from,
        until,
        zone: tenant.spec.zone.to_string(),
        issuer: book.issuer.clone(),
        tenant: tenant.name.clone(),
        customer,
        price_book: name.clone(),
        currency: CURRENCY.to_owned(),
        finalised_at: None,
        unsettled,
        lines,
        subtotal,
        total: subtotal.rounded(),
    })
}

pub(super) fn too_large(error: TooLarge) -> ApiError {
    ApiError::conflict(error.to_string())
}

/// A month's time: where its neighbours are final, from the end of one to the beginning of the
/// other, so that a tenant that changed its time zone pays for each hour once.
fn bounds(
    tenant: &TenantEntry,
    books: &Books<'_>,
    period: Period,
) -> Result<(Timestamp, Timestamp), ApiError> {
    let (from, until) = period
        .bounds(&tenant.spec.zone)
        .map_err(ApiError::internal)?;
    let before = books.final_invoice(period.before())?;
    let after = books.final_invoice(period.after())?;
    Ok((
        before.map_or(from, |invoice| invoice.until),
        after.map_or(until, |invoice| invoice.from),
    ))
}

/// A line for each model and feature, of each part of the period in which one entry is in force;
/// and how many calls in them are not settled.
fn usage_lines(
    book: &PriceBookSpec,
    store: &TenantStore<'_>,
    (from, until): (Timestamp, Timestamp),
) -> Result<(Vec<InvoiceLine>, u64), ApiError> {
    let changes = book.entries.iter().map(|entry| entry.effective_from);
    let mut ends: Vec<Timestamp> = changes.filter(|at| *at > from && *at < until).collect();
    ends.push(until);
    let is_split = ends.len() > 1;
    let (mut lines, mut unsettled, mut begin) = (Vec::new(), 0, from);
    for end in ends {
        let rows = usage(store, (begin, end))?;
        unsettled += rows.iter().map(|row| row.unsettled).sum::<u64>();
        match book.entry_at(begin) {
            Some(entry) => {
                let time = is_split.then_some((begin, end));
                let of_part = rows.iter().map(|row| usage_line(entry, row, time));
                let of_part: Result<Vec<_>, TooLarge> = of_part.collect();
                lines.extend(of_part.map_err(too_large)?);
            }
            None if rows.is_empty() => {}
            None => {
                return Err(ApiError::conflict(format!(
                    "there is usage before {end}, when the price book begins: add an entry that begins by {begin}"
                )));
            }
        }
        begin = end;
    }
    Ok((lines, unsettled))
}

fn usage(store: &TenantStore<'_>, time: (Timestamp, Timestamp)) -> Result<Vec<UsageRow>, ApiError> {
    asked(store, time).map_err(|error| match error {
        StoreError::TooManyGroups { max } => ApiError::conflict(format!(
            "an invoice has {max} lines at most: there are more models and features"
        )),
        StoreError::Forgotten { since } => ApiError::conflict(format!(
            "the hours before {since} are not kept any more, and this period begins or ends within a UTC day: it can be billed no more"
        )),
        error => ApiError::internal(error),
    })
}

/// The same, where it is kept still, and where a bill has room for it.
pub(super) fn usage_kept(
    store: &TenantStore<'_>,
    time: (Timestamp, Timestamp),
) -> Result<Option<Vec<UsageRow>>, ApiError> {
    match asked(store, time) {
        Ok(rows) => Ok(Some(rows)),
        Err(StoreError::TooManyGroups { .. } | StoreError::Forgotten { .. }) => Ok(None),
        Err(error) => Err(ApiError::internal(error)),
    }
}

fn asked(
    store: &TenantStore<'_>,
    (from, until): (Timestamp, Timestamp),
) -> Result<Vec<UsageRow>, StoreError> {
    let query = UsageQuery {
        from,
        until,
        group_by: vec![Dimension::Feature, Dimension::Model],
        filter: UsageFilter::default(),
    };
    store.whole_usage(&query, GROUPS_MAX)
}
