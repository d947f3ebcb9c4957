//! What is put right: amounts added to an invoice before it is final, and given back afterwards.
//! Each is a record of its own, under a reference that whoever asks gives: asking again makes no
//! second one.

use base::PicoUsd;
use serde::de::DeserializeOwned;
use store::BillingDocument;
use tenancy::{Snapshot, TenantEntry};

use super::records::read;
use super::{Books, CURRENCY, Period};
use crate::api::{Adjustment, AdjustmentRequest, CreditNote, CreditRequest};
use crate::error::ApiError;
use crate::publisher::{Act, Publisher};

/// 1,000 of a month: more are a list of their own, which one line sums up.
const OF_PERIOD_MAX: u32 = 1_000;
/// 200 characters: a line of an invoice.
const TEXT_CHARS_MAX: usize = 200;
/// A cent is 10¹⁰ pico-dollars.
const PICO_PER_CENT: i128 = 10_000_000_000;

const ADJUSTMENTS: &str = "adjustment/";
const CREDITS: &str = "credit/";

/// Adds an amount to a month's invoice, by an act that is on record.
pub(crate) fn adjust(
    publisher: &Publisher,
    books: &Books<'_>,
    request: AdjustmentRequest,
    act: &Act,
) -> Result<Adjustment, ApiError> {
    let period: Period =
        request
            .period
            .parse()
            .map_err(|error: super::period::ParsePeriodError| {
                ApiError::of("period", error.to_string())
            })?;
    check_text("description", &request.description)?;
    if request.amount == PicoUsd::ZERO {
        return Err(ApiError::of("amount", "an adjustment of nothing is none"));
    }
    let id = format!("{ADJUSTMENTS}{period}/{}", request.reference);
    if let Some(there) = books.store.billing_document(&id)? {
        let there: Adjustment = read(&there.body)?;
        let is_same = there.amount == request.amount && there.description == request.description;
        return match is_same {
            true => Ok(there),
            false => Err(another("adjustment")),
        };
    }
    if let Some(invoice) = books.final_invoice(period)? {
        let number = invoice.number.unwrap_or_default();
        return Err(ApiError::conflict(format!(
            "{number} is final: adjust a later period, or make a credit note"
        )));
    }
    if adjustments(books, Some(period))?.len() >= OF_PERIOD_MAX as usize {
        return Err(ApiError::conflict(format!(
            "a period has {OF_PERIOD_MAX} adjustments at most"
        )));
    }
    let adjustment = Adjustment {
        period: period.to_string(),
        reference: request.reference,
        amount: request.amount,
        description: request.description,
        made_at: books.now(),
        made_by: act.actor.clone(),
    };
    publisher.record_act(act)?;
    let body = serde_json::to_vec(&adjustment).map_err(ApiError::internal)?;
    books.store.keep_billing_document(&BillingDocument {
        id,
        at: adjustment.made_at,
        body,
    })?;
    Ok(adjustment)
}

/// The adjustments of a month, or of all.
pub(crate) fn adjustments(
    books: &Books<'_>,
    period: Option<Period>,
) -> Result<Vec<Adjustment>, ApiError> {
    let prefix = match period {
        Some(period) => format!("{ADJUSTMENTS}{period}/"),
        None => ADJUSTMENTS.to_owned(),
    };
    all(books, &prefix, |kept| read(&kept.body))
}

/// Gives back an amount of a final invoice, by an act that is on record.
pub(crate) fn credit(
    (publisher, snapshot): (&Publisher, &Snapshot),
    tenant: &TenantEntry,
    books: &Books<'_>,
    (invoice, request): (&str, CreditRequest),
    act: &Act,
) -> Result<CreditNote, ApiError> {
    let invoice = books.invoice_meant(invoice)?.ok_or(ApiError::NotFound)?;
    check_text("reason", &request.reason)?;
    let (period, amount) = (invoice.period, request.amount);
    let id = format!("{CREDITS}{period}/{}", request.reference);
    if let Some(there) = books.numbered::<CreditNote>(&id)? {
        return match there.amount == amount && there.reason == request.reason {
            true => Ok(there),
            false => Err(another("credit note")),
        };
    }
    let is_cents = amount > PicoUsd::ZERO && amount.pico() % PICO_PER_CENT == 0;
    let left = invoice.total - credited(books, &period)?;
    if !is_cents || amount > left {
        return Err(ApiError::of(
            "amount",
            format!("a credit note is for whole cents, and {left} USD of the invoice are left"),
        ));
    }
    let series = match snapshot.price_book_of(tenant) {
        Some((_, book)) => book.credit_series(),
        None => {
            return Err(ApiError::conflict(
                "the tenant has no price book, which says how credit notes are numbered",
            ));
        }
    };
    let now = books.now();
    publisher.record_act(act)?;
    let issued = books.issue(&series, &id, now, |number| CreditNote {
        number,
        invoice: invoice.number.unwrap_or_default(),
        period,
        reference: request.reference,
        tenant: tenant.name.clone(),
        amount,
        currency: CURRENCY.to_owned(),
        reason: request.reason,
        issued_at: now,
        issued_by: act.actor.clone(),
    });
    if let Err(error) = issued {
        publisher.record_failure(act)?;
        return Err(error);
    }
    let missing = || ApiError::internal("a credit note that was kept is not there");
    books.numbered(&id)?.ok_or_else(missing)
}

/// A tenant's credit notes, by period and reference.
pub(crate) fn credits(books: &Books<'_>) -> Result<Vec<CreditNote>, ApiError> {
    all(books, CREDITS, |kept| books.checked(kept))
}

/// What credit notes gave back of a period's invoice.
pub(super) fn credited(books: &Books<'_>, period: &str) -> Result<PicoUsd, ApiError> {
    let notes: Vec<CreditNote> = all(books, &format!("{CREDITS}{period}/"), |kept| {
        books.checked(kept)
    })?;
    Ok(notes.iter().map(|note| note.amount).sum())
}

fn all<T: DeserializeOwned>(
    books: &Books<'_>,
    prefix: &str,
    read: impl Fn(&BillingDocument) -> Result<T, ApiError>,
) -> Result<Vec<T>, ApiError> {
    let (mut found, mut after) = (Vec::new(), String::new());
    loop {
        let page = books
            .store
            .billing_documents(prefix, &after, OF_PERIOD_MAX)?;
        for kept in &page {
            found.push(read(kept)?);
        }
        match page.last() {
            Some(last) if page.len() == OF_PERIOD_MAX as usize => after.clone_from(&last.id),
            _ => return Ok(found),
        }
    }
}

fn check_text(param: &str, text: &str) -> Result<(), ApiError> {
    let is_long = text.chars().count() > TEXT_CHARS_MAX;
    if text.trim().is_empty() || is_long || text.chars().any(char::is_control) {
        let message = format!("this is a line of at most {TEXT_CHARS_MAX} characters");
        return Err(ApiError::of(param, message));
    }
    Ok(())
}

fn another(what: &str) -> ApiError {
    ApiError::conflict(format!(
        "there is another {what} under this reference: it stays as it is, so use another reference"
    ))
}
