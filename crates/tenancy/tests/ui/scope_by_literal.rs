//! A scope is made in one file.

use std::sync::Arc;

fn forge(keys: Arc<tenancy::TenantKeys>, grant: tenancy::Grant) -> tenancy::TenantScope {
    tenancy::TenantScope { keys, grant }
}

fn main() {
    let _ = forge;
}
