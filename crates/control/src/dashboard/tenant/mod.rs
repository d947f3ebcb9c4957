//! The pages of one tenant: the same ones for operators and for its own administrators.

mod audit;
mod budgets;
mod configuration;
mod health;
mod keys;
mod life;
mod usage;

use tenancy::Permission;

use super::page::{Door, PageRow, Visit};
use crate::endpoint::{Reach, Verb};

/// All of them.
pub(super) fn pages() -> Vec<PageRow> {
    let groups = [
        health::pages(),
        usage::pages(),
        budgets::pages(),
        keys::pages(),
        configuration::pages(),
        audit::pages(),
        life::pages(),
    ];
    groups.into_iter().flatten().collect()
}

/// Who may do this inside the tenant in the path.
const fn inside(permission: Permission) -> Door {
    Door::As(Reach::Tenant(permission))
}

/// The admin API's address of something of the tenant.
fn api(visit: &Visit, rest: &str) -> String {
    format!("/admin/v1/tenants/{}{rest}", visit.tenant().name)
}
