//! What tenants are charged: drafts that are made from the sums of their usage, and what became
//! final, which stands in the tenant's store and in the catalogue's register of numbers.

mod charges;
mod credits;
mod draft;
mod exact;
mod forms;
mod late;
mod pdf;
mod period;
mod records;
mod sharing;
#[cfg(test)]
mod tests;

pub use exact::ExactUsd;

pub(crate) use credits::{adjust, adjustments, credit, credits};
pub(crate) use draft::draft;
pub(crate) use forms::{Document, written};
pub(crate) use period::Period;
pub(crate) use records::{Books, finalise, numbers, rows};
pub(crate) use sharing::split;

/// What all amounts are in.
const CURRENCY: &str = "USD";
