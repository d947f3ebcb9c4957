//! A provider's bill beside the ledger: differences by day and model, kept on record.

mod compare;
mod csv;

pub(crate) use compare::{import, kept, list};
