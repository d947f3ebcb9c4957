//! A tenant's store is had by a scope alone: an id is not enough.

use base::TenantId;
use store::Stores;

fn read(stores: &Stores, tenant: TenantId) {
    drop(stores.open(&tenant));
}

fn main() {}
