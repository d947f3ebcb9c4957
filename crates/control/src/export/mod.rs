//! Costs and usage in the forms that other programs read, as a stream: day by day, so that a year of a
//! busy tenant takes no more memory than a day of it.

mod events;
mod focus;
mod table;

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use base::Timestamp;
use bytes::Bytes;
use store::{Dimension, LineCursor, StoreError, TenantStore, UsageFilter, UsageQuery};
use tenancy::{Snapshot, TenantEntry, TenantScope};
use tokio::sync::mpsc;

use crate::Control;
use crate::api::ExportFormat;
use crate::error::ApiError;

use events::Events;
use focus::Charges;
use table::Table;

/// 4 pieces of 64 KiB and one that is written: what one export takes of the memory.
const PIECES: usize = 4;
const PIECE_BYTES: usize = 64 << 10;
/// 60 s: whoever takes no piece for so long is gone.
const READER_TIMEOUT: Duration = Duration::from_secs(60);
/// 366 days: a leap year.
const DAYS_MAX: i64 = 366;
/// 100,000 groups of a day: 30 MB.
const GROUPS_MAX: usize = 100_000;
const PAGE_LINES: u32 = 1_000;
const DAY_MICROS: i64 = 24 * 3_600 * 1_000_000;

/// What is exported of whom.
#[derive(Debug, Clone)]
pub(crate) struct Order {
    pub(crate) format: ExportFormat,
    pub(crate) from: Timestamp,
    pub(crate) until: Timestamp,
    /// Who runs the installation: the issuer of its invoices.
    pub(crate) issuer: String,
    /// What a payment service calls the tenant.
    pub(crate) customer: Option<String>,
}

/// Pieces of an export, in their order. One that ends with an error is not whole.
pub(crate) struct Pieces(mpsc::Receiver<io::Result<Bytes>>);

/// Why an export ended early.
#[derive(Debug, thiserror::Error)]
enum ExportError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error(transparent)]
    Csv(#[from] csv::Error),
    #[error(transparent)]
    Parquet(#[from] parquet::errors::ParquetError),
}

impl Order {
    /// Checks that it is whole UTC days, and not too many.
    pub(crate) fn check(&self) -> Result<(), ApiError> {
        let days = |time: Timestamp| time.as_micros().rem_euclid(DAY_MICROS) == 0;
        if !days(self.from) || !days(self.until) {
            return Err(ApiError::of(
                "from",
                "an export is of whole UTC days: say dates",
            ));
        }
        let length = (self.until.as_micros() - self.from.as_micros()) / DAY_MICROS;
        if !(1..=DAYS_MAX).contains(&length) {
            return Err(ApiError::of(
                "to",
                "an export is of 1 to 366 days: say `from` and `to`",
            ));
        }
        Ok(())
    }
}

impl http_body::Body for Pieces {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<io::Result<http_body::Frame<Bytes>>>> {
        let piece = self.0.poll_recv(context);
        piece.map(|piece| piece.map(|piece| piece.map(http_body::Frame::data)))
    }
}

/// Begins to export the tenants whose scopes these are, one after the other, into one document.
/// Holds a place among the exports until it ends.
pub(crate) fn begin(
    control: &Arc<Control>,
    snapshot: Arc<Snapshot>,
    whose: Vec<(Arc<TenantEntry>, TenantScope)>,
    order: Order,
) -> Result<Pieces, ApiError> {
    let place = Arc::clone(&control.exports).try_acquire_owned();
    let place = place.map_err(|_| ApiError::Busy)?;
    let (sender, receiver) = mpsc::channel(PIECES);
    let (stores, live) = (
        control.publisher.stores.clone(),
        Arc::clone(&control.live_usage),
    );
    let runtime = tokio::runtime::Handle::current();
    let work = move || {
        let _place = place;
        live.catch_up();
        let pipe = Pipe {
            runtime,
            sender: sender.clone(),
            piece: Vec::with_capacity(PIECE_BYTES),
        };
        let opened = whose
            .iter()
            .map(|(tenant, scope)| (&**tenant, stores.open(scope)));
        if let Err(error) = write(&snapshot, opened, &order, pipe) {
            tracing::warn!(%error, "an export is not whole");
            let broken = io::Error::other("the export is not whole: try again");
            drop(sender.try_send(Err(broken)));
        }
    };
    // It ends by itself, at the latest when nobody reads it.
    drop(tokio::task::spawn_blocking(work));
    Ok(Pieces(receiver))
}

fn write<'s>(
    snapshot: &Snapshot,
    whose: impl Iterator<Item = (&'s TenantEntry, TenantStore<'s>)>,
    order: &Order,
    pipe: Pipe,
) -> Result<(), ExportError> {
    match order.format {
        ExportFormat::FocusCsv => write_table(snapshot, whose, order, Table::csv(pipe)?),
        ExportFormat::FocusParquet => write_table(snapshot, whose, order, Table::parquet(pipe)?),
        ExportFormat::Openmeter => write_events(whose, order, Events::OpenMeter, pipe),
        ExportFormat::Stripe => write_events(whose, order, Events::Stripe, pipe),
    }
}

fn write_table<'s>(
    snapshot: &Snapshot,
    whose: impl Iterator<Item = (&'s TenantEntry, TenantStore<'s>)>,
    order: &Order,
    mut table: Table<Pipe>,
) -> Result<(), ExportError> {
    for (tenant, store) in whose {
        let charges = Charges::new(snapshot, tenant, &order.issuer);
        for day in order.days() {
            for row in store.whole_usage(&of_day(day), GROUPS_MAX)? {
                for charge in charges.of(&row) {
                    table.push(charge)?;
                }
            }
            table.flush()?;
        }
    }
    table.finish()?.finish()?;
    Ok(())
}

fn of_day(day: Timestamp) -> UsageQuery {
    UsageQuery {
        from: day,
        until: Timestamp::from_micros(day.as_micros() + DAY_MICROS),
        group_by: vec![
            Dimension::Day,
            Dimension::Team,
            Dimension::User,
            Dimension::Key,
            Dimension::Feature,
            Dimension::Model,
            Dimension::Version,
            Dimension::PriceVersion,
            Dimension::Upstream,
            Dimension::Hop,
        ],
        filter: UsageFilter::default(),
    }
}

fn write_events<'s>(
    whose: impl Iterator<Item = (&'s TenantEntry, TenantStore<'s>)>,
    order: &Order,
    events: Events,
    mut pipe: Pipe,
) -> Result<(), ExportError> {
    for (tenant, store) in whose {
        let customer = order.customer.as_deref().unwrap_or(tenant.name.as_str());
        let mut after = None;
        loop {
            let lines = store.lines(order.from, order.until, after, PAGE_LINES)?;
            for line in &lines {
                events.write(&mut pipe, tenant, customer, &order.issuer, line)?;
            }
            after = lines.last().map(LineCursor::after);
            if lines.len() < PAGE_LINES as usize {
                break;
            }
        }
    }
    pipe.finish()?;
    Ok(())
}

impl Order {
    fn days(&self) -> impl Iterator<Item = Timestamp> + use<> {
        let (from, until) = (self.from.as_micros(), self.until.as_micros());
        (from..until)
            .step_by(DAY_MICROS as usize)
            .map(Timestamp::from_micros)
    }
}

/// Where an export is written to: pieces that wait for whoever reads them.
struct Pipe {
    runtime: tokio::runtime::Handle,
    sender: mpsc::Sender<io::Result<Bytes>>,
    piece: Vec<u8>,
}

impl Pipe {
    fn send(&mut self) -> io::Result<()> {
        if self.piece.is_empty() {
            return Ok(());
        }
        let piece = std::mem::replace(&mut self.piece, Vec::with_capacity(PIECE_BYTES));
        let sending = self.sender.send(Ok(piece.into()));
        let sent = self
            .runtime
            .block_on(async { tokio::time::timeout(READER_TIMEOUT, sending).await });
        match sent {
            Ok(Ok(())) => Ok(()),
            _ => Err(io::Error::other("nobody reads it any more")),
        }
    }

    fn finish(mut self) -> io::Result<()> {
        self.send()
    }
}

impl io::Write for Pipe {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.piece.extend_from_slice(bytes);
        if self.piece.len() >= PIECE_BYTES {
            self.send()?;
        }
        Ok(bytes.len())
    }

    /// Pieces are sent when they are full: a row is too small to be one.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
