//! What is final. A number is taken in the catalogue together with the sealed document, in one
//! transaction; then the document goes into its tenant's store, and leaves the catalogue, where its
//! hash stays. Whoever asks after a crash in between finds it there, and finishes.

use base::{TenantId, Timestamp};
use ring::digest::{SHA256, digest};
use serde::Serialize;
use serde::de::DeserializeOwned;
use store::{BillingDocument, NumberedDocument, TenantStore};
use tenancy::{SealingKey, Snapshot, TenantEntry, TenantScope, purpose};

use super::{Period, draft, sharing};
use crate::api::{Invoice, InvoiceLine, InvoiceRow, InvoiceState, NumberRow, Page};
use crate::error::ApiError;
use crate::paging::Paging;
use crate::publisher::{Act, Publisher};

/// An hour: by then what was called before is in the store, from every replica.
pub(super) const GRACE: std::time::Duration = std::time::Duration::from_secs(3_600);

/// A tenant's billing documents, within its scope. All methods block.
pub(crate) struct Books<'a> {
    publisher: &'a Publisher,
    tenant: TenantId,
    seal: SealingKey<purpose::Catalogue>,
    pub(crate) store: &'a TenantStore<'a>,
}

impl<'a> Books<'a> {
    /// The scope's tenant's, whole: what a crash has left half done is finished first.
    pub(crate) fn open(
        publisher: &'a Publisher,
        scope: &TenantScope,
        store: &'a TenantStore<'a>,
    ) -> Result<Self, ApiError> {
        let books = Self {
            publisher,
            tenant: scope.tenant(),
            seal: scope.keys().sealing_key(),
            store,
        };
        let pending = publisher.catalogue.pending_documents(books.tenant);
        for document in pending? {
            books.keep(&document)?;
        }
        Ok(books)
    }

    /// The final invoice of a month, if there is one.
    pub(crate) fn final_invoice(&self, period: Period) -> Result<Option<Invoice>, ApiError> {
        self.numbered(&invoice_id(period))
    }

    /// The final invoice that is meant by a month or a number.
    pub(crate) fn invoice_meant(&self, id: &str) -> Result<Option<Invoice>, ApiError> {
        if let Ok(period) = id.parse::<Period>() {
            return self.final_invoice(period);
        }
        let Some((series, number)) = number_of_text(id) else {
            return Ok(None);
        };
        let found = self.publisher.catalogue.numbers(&series, number - 1, 1)?;
        // A number is the installation's: it may be another tenant's.
        let own = found.into_iter().find(|found| {
            found.number == number
                && found.tenant == self.tenant.to_string()
                && found.document.starts_with(INVOICES)
        });
        match own {
            Some(found) => self.numbered(&found.document),
            None => Ok(None),
        }
    }

    /// A document that has a number, once it is seen to be the one that got it.
    ///
    /// # Errors
    ///
    /// [`ApiError::Conflict`] for one that has a number and is not there.
    pub(super) fn numbered<T: DeserializeOwned>(&self, id: &str) -> Result<Option<T>, ApiError> {
        if let Some(kept) = self.store.billing_document(id)? {
            return self.checked(&kept).map(Some);
        }
        match self.publisher.catalogue.number_of(self.tenant, id)? {
            None => Ok(None),
            // Nothing else is made of it, and nothing else gets its number.
            Some(taken) => Err(ApiError::conflict(format!(
                "{} was given to this document, which the tenant's store has not: it was put back from before",
                number_text(&taken.series, taken.number)
            ))),
        }
    }

    /// What a kept document says, once it is seen to be the one that was numbered.
    pub(super) fn checked<T: DeserializeOwned>(
        &self,
        kept: &BillingDocument,
    ) -> Result<T, ApiError> {
        let registered = self.publisher.catalogue.number_of(self.tenant, &kept.id);
        let is_it = registered?.is_some_and(|it| it.digest == digest_of(&kept.body));
        if !is_it {
            let message = format!("{}: the register of numbers has another document", kept.id);
            return Err(ApiError::internal(message));
        }
        read(&kept.body)
    }

    /// Numbers a document and keeps it; one that has a number stays as it is.
    pub(super) fn issue<T: Serialize>(
        &self,
        series: &str,
        id: &str,
        at: Timestamp,
        write: impl FnOnce(String) -> T,
    ) -> Result<(), ApiError> {
        let mint = self.publisher.mint();
        let document = |number: u64| {
            let document = write(number_text(series, number));
            let body = serde_json::to_vec(&document).map_err(ApiError::internal)?;
            let sealed = self.seal.seal(mint.entropy, &[id.as_bytes()], &body);
            Ok::<_, ApiError>((digest_of(&body), sealed))
        };
        let whose = (self.tenant, id);
        let catalogue = &self.publisher.catalogue;
        let taken = catalogue.take_number(whose, series, at, document)?;
        self.keep(&taken)
    }

    /// Brings a numbered document into the tenant's store.
    fn keep(&self, document: &NumberedDocument) -> Result<(), ApiError> {
        let Some(sealed) = &document.pending else {
            return Ok(());
        };
        let context = [document.document.as_bytes()];
        let body = self
            .seal
            .open(&context, sealed)
            .map_err(ApiError::internal)?;
        self.store.keep_billing_document(&BillingDocument {
            id: document.document.clone(),
            at: document.at,
            body: body.to_vec(),
        })?;
        Ok(self.publisher.catalogue.document_is_kept(document)?)
    }

    /// The tenant's parts of what it shares in a month.
    pub(super) fn shared_lines(
        &self,
        snapshot: &Snapshot,
        tenant: &TenantEntry,
        period: Period,
    ) -> Result<Vec<InvoiceLine>, ApiError> {
        sharing::lines(self.publisher, snapshot, tenant, period)
    }

    pub(super) fn now(&self) -> Timestamp {
        self.publisher.clock().now()
    }
}

/// Makes a month's invoice final, by an act that is on record; once, however often it is asked
/// for.
pub(crate) fn finalise(
    snapshot: &Snapshot,
    tenant: &TenantEntry,
    books: &Books<'_>,
    period: Period,
    act: &Act,
) -> Result<Invoice, ApiError> {
    if let Some(invoice) = books.final_invoice(period)? {
        return Ok(invoice);
    }
    let now = books.now();
    check_draft(&draft(snapshot, tenant, books, period)?, now)?;
    // In this turn: nobody else fixes them otherwise before the number is taken.
    sharing::fix(books.publisher, snapshot, tenant, period)?;
    let draft = draft(snapshot, tenant, books, period)?;
    check_draft(&draft, now)?;
    let (_, book) = snapshot
        .price_book_of(tenant)
        .expect("the draft was made by it");
    books.publisher.record_act(act)?;
    let issued = books.issue(book.series.as_str(), &invoice_id(period), now, |number| {
        Invoice {
            number: Some(number),
            state: InvoiceState::Final,
            finalised_at: Some(now),
            ..draft
        }
    });
    if let Err(error) = issued {
        books.publisher.record_failure(act)?;
        return Err(error);
    }
    let missing = || ApiError::internal("an invoice that was kept is not there");
    books.final_invoice(period)?.ok_or_else(missing)
}

/// Whether a draft may become final.
fn check_draft(draft: &Invoice, now: Timestamp) -> Result<(), ApiError> {
    if now < draft.until.plus(GRACE) {
        return Err(ApiError::conflict(format!(
            "the period ends at {}: an invoice becomes final an hour later at the earliest",
            draft.until
        )));
    }
    if draft.unsettled > 0 {
        return Err(ApiError::conflict(format!(
            "{} call(s) of the period are not settled: say what they cost, or write them off (`partywall reconcile unsettled`)",
            draft.unsettled
        )));
    }
    if draft.lines.is_empty() {
        return Err(ApiError::conflict("there is nothing to charge"));
    }
    Ok(())
}

/// A tenant's final invoices, the oldest first.
pub(crate) fn rows(books: &Books<'_>, paging: &Paging) -> Result<Page<InvoiceRow>, ApiError> {
    let after = match paging.after() {
        Some(period) => format!("{INVOICES}{period}"),
        None => String::new(),
    };
    let limit = u32::try_from(paging.limit + 1).unwrap_or(u32::MAX);
    let kept = books.store.billing_documents(INVOICES, &after, limit)?;
    let has_more = kept.len() > paging.limit;
    let mut data = Vec::with_capacity(kept.len());
    for kept in kept.iter().take(paging.limit) {
        let invoice: Invoice = books.checked(kept)?;
        data.push(InvoiceRow {
            credited: super::credits::credited(books, &invoice.period)?,
            number: invoice.number.unwrap_or_default(),
            period: invoice.period,
            total: invoice.total,
            finalised_at: invoice.finalised_at.unwrap_or(kept.at),
        });
    }
    Ok(Page {
        next_cursor: data
            .last()
            .filter(|_| has_more)
            .map(|row| row.period.clone()),
        data,
    })
}

/// The numbers of a series, in their order.
pub(crate) fn numbers(
    publisher: &Publisher,
    snapshot: &Snapshot,
    series: &str,
    paging: &Paging,
) -> Result<Page<NumberRow>, ApiError> {
    let after = paging.offset()?;
    let limit = u32::try_from(paging.limit + 1).unwrap_or(u32::MAX);
    let mut found = publisher.catalogue.numbers(series, after, limit)?;
    let has_more = found.len() > paging.limit;
    found.truncate(paging.limit);
    let next = found.last().filter(|_| has_more);
    let next_cursor = next.map(|last| last.number.to_string());
    let name = |id: String| {
        let known = id.parse().ok().and_then(|id| snapshot.tenant(id));
        known.map_or(id, |tenant| tenant.name.to_string())
    };
    let data = found.into_iter().map(|taken| NumberRow {
        number: number_text(&taken.series, taken.number),
        tenant: name(taken.tenant),
        document: taken.document,
        at: taken.at,
        digest: hexadecimal(&taken.digest),
    });
    Ok(Page {
        data: data.collect(),
        next_cursor,
    })
}

/// How the names of invoices begin.
const INVOICES: &str = "invoice/";

fn invoice_id(period: Period) -> String {
    format!("{INVOICES}{period}")
}

fn number_text(series: &str, number: u64) -> String {
    format!("{}-{number:06}", series.to_uppercase())
}

/// The series and the number that a text says.
fn number_of_text(text: &str) -> Option<(String, u64)> {
    let (series, number) = text.rsplit_once('-')?;
    let number: u64 = number.parse().ok().filter(|number| *number > 0)?;
    Some((series.to_lowercase(), number))
}

pub(super) fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, ApiError> {
    serde_json::from_slice(body).map_err(ApiError::internal)
}

fn digest_of(body: &[u8]) -> Vec<u8> {
    digest(&SHA256, body).as_ref().to_vec()
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
