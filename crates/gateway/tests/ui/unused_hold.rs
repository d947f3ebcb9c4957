//! Money that is held and forgotten is an error, by the lint that the workspace denies.

#![deny(unused_must_use)]

use ledger::{AdmitError, Reservation, TenantLedger};

fn admit(ledger: &mut TenantLedger, call: &Reservation<'_>) -> Result<(), AdmitError> {
    ledger.admit(call)?;
    Ok(())
}

fn main() {}
