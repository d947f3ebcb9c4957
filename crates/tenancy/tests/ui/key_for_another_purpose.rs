//! A key for one purpose is not a key for another.

use tenancy::{SealingKey, TenantKeys, purpose};

fn confuse(keys: &TenantKeys) -> SealingKey<purpose::Credential> {
    keys.sealing_key::<purpose::Blob>()
}

fn overreach(keys: &TenantKeys) {
    let _ = keys.sealing_key::<purpose::TokenSigning>();
}

fn main() {
    let _ = (confuse, overreach);
}
