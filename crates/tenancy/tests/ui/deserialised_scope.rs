//! A scope is earned by a credential, never read from bytes.

fn main() {
    let _: tenancy::TenantScope = serde_json::from_str(r#"{"tenant":"tnt_0"}"#).unwrap();
}
