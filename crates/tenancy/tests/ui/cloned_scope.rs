//! A scope belongs to one request: it cannot be cloned.

fn twice(scope: &tenancy::TenantScope) -> (tenancy::TenantScope, tenancy::TenantScope) {
    (scope.clone(), scope.clone())
}

fn main() {
    let _ = twice;
}
