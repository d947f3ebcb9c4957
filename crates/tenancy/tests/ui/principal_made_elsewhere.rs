//! A principal is a verified caller: only verification makes one.

use std::sync::Arc;

fn forge(tenant: Arc<tenancy::TenantEntry>, grant: tenancy::Grant) -> tenancy::Principal {
    tenancy::Principal { tenant, grant }
}

fn forge_operator(name: base::Name) -> tenancy::OperatorPrincipal {
    let role = tenancy::Role::Operator;
    tenancy::OperatorPrincipal { name, role }
}

fn main() {
    let _ = (forge, forge_operator);
}
