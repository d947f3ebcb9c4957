//! Roles and what each may do. Whatever is not listed is refused.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What somebody is. The first two are the platform's; the others are inside one tenant, and
/// whatever they are allowed ends at that tenant's wall.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// Runs the platform. Not a tenant: reaches a tenant's data only by an act on record.
    Operator,
    /// Reads the platform's catalogue, usage and audit log.
    Auditor,
    /// Runs one tenant.
    TenantAdmin,
    /// Uses one tenant.
    TenantMember,
    /// A program of one tenant.
    Service,
}

/// Something that a route or command asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Permission {
    /// See the resources within reach.
    ReadCatalogue,
    /// Change tiers, upstreams, routes, prices, operators and tenants.
    WriteCatalogue,
    /// See usage and cost within reach.
    ReadUsage,
    /// Read what a tenant's calls asked and were answered, where the tenant has it kept.
    ReadBodies,
    /// See and verify the audit log within reach.
    ReadAudit,
    /// Make, rotate and revoke API keys.
    ManageKeys,
    /// Change a tenant's teams, users, features, budgets, limits and behaviour.
    ManageTenantConfig,
    /// Go back to an earlier version of what one may change.
    RollBack,
    /// Rotate encryption and signing keys.
    RotateKeys,
    /// Act inside a tenant, for a reason that is put on record first.
    ActForTenant,
    /// Call models.
    CallModels,
    /// Exchange a credential for a short-lived token with fewer rights.
    ExchangeToken,
}

impl Role {
    /// Every role.
    pub const ALL: [Self; 5] = [
        Self::Operator,
        Self::Auditor,
        Self::TenantAdmin,
        Self::TenantMember,
        Self::Service,
    ];

    /// Whether this role has that permission.
    pub const fn allows(self, permission: Permission) -> bool {
        use Permission::{
            ActForTenant, CallModels, ExchangeToken, ManageKeys, ManageTenantConfig, ReadAudit,
            ReadBodies, ReadCatalogue, ReadUsage, RollBack, RotateKeys, WriteCatalogue,
        };
        match self {
            Self::Operator => matches!(
                permission,
                ReadCatalogue
                    | WriteCatalogue
                    | ReadUsage
                    | ReadBodies
                    | ReadAudit
                    | ManageKeys
                    | ManageTenantConfig
                    | RollBack
                    | RotateKeys
                    | ActForTenant
            ),
            Self::Auditor => matches!(permission, ReadCatalogue | ReadUsage | ReadAudit),
            Self::TenantAdmin => matches!(
                permission,
                ReadCatalogue
                    | ReadUsage
                    | ReadBodies
                    | ReadAudit
                    | ManageKeys
                    | ManageTenantConfig
                    | RollBack
                    | CallModels
                    | ExchangeToken
            ),
            Self::TenantMember => matches!(permission, ReadUsage | CallModels | ExchangeToken),
            Self::Service => matches!(permission, CallModels | ExchangeToken),
        }
    }

    /// Whether this role is inside a tenant, so that a tenant's key may have it.
    pub const fn is_in_tenant(self) -> bool {
        matches!(self, Self::TenantAdmin | Self::TenantMember | Self::Service)
    }

    /// The role's name: `tenant-admin`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Operator => "operator",
            Self::Auditor => "auditor",
            Self::TenantAdmin => "tenant-admin",
            Self::TenantMember => "tenant-member",
            Self::Service => "service",
        }
    }
}

impl Permission {
    /// Every permission.
    pub const ALL: [Self; 12] = [
        Self::ReadCatalogue,
        Self::WriteCatalogue,
        Self::ReadUsage,
        Self::ReadBodies,
        Self::ReadAudit,
        Self::ManageKeys,
        Self::ManageTenantConfig,
        Self::RollBack,
        Self::RotateKeys,
        Self::ActForTenant,
        Self::CallModels,
        Self::ExchangeToken,
    ];
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The text is no role.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a role is `operator`, `auditor`, `tenant-admin`, `tenant-member` or `service`")]
pub struct ParseRoleError;

impl FromStr for Role {
    type Err = ParseRoleError;

    fn from_str(text: &str) -> Result<Self, ParseRoleError> {
        Self::ALL
            .into_iter()
            .find(|role| role.as_str() == text)
            .ok_or(ParseRoleError)
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use super::*;

    /// To change who may do what, change this table first.
    const TABLE: &str = "
                     operator  auditor  tenant-admin  tenant-member  service
ReadCatalogue        yes       yes      yes           -              -
WriteCatalogue       yes       -        -             -              -
ReadUsage            yes       yes      yes           yes            -
ReadBodies           yes       -        yes           -              -
ReadAudit            yes       yes      yes           -              -
ManageKeys           yes       -        yes           -              -
ManageTenantConfig   yes       -        yes           -              -
RollBack             yes       -        yes           -              -
RotateKeys           yes       -        -             -              -
ActForTenant         yes       -        -             -              -
CallModels           -         -        yes           yes            yes
ExchangeToken        -         -        yes           yes            yes
";

    #[test]
    fn the_table_says_who_may_do_what() {
        let mut table = format!("\n{:21}", "");
        let columns = Role::ALL.map(|role| format!("{role}  "));
        for column in &columns {
            table.push_str(column);
        }
        for permission in Permission::ALL {
            write!(
                table.truncate_blanks(),
                "\n{:21}",
                format!("{permission:?}")
            )
            .unwrap();
            for (role, column) in Role::ALL.into_iter().zip(&columns) {
                let cell = if role.allows(permission) { "yes" } else { "-" };
                write!(table, "{cell:0$}", column.len()).unwrap();
            }
        }
        table.truncate_blanks().push('\n');
        assert_eq!(table, TABLE);
    }

    trait TruncateBlanks {
        fn truncate_blanks(&mut self) -> &mut Self;
    }

    impl TruncateBlanks for String {
        fn truncate_blanks(&mut self) -> &mut Self {
            self.truncate(self.trim_end_matches(' ').len());
            self
        }
    }

    #[test]
    fn roles_inside_a_tenant_are_a_chain_and_operators_call_no_models() {
        let held = |role: Role| Permission::ALL.map(|permission| role.allows(permission));
        let contains = |greater, lesser| {
            held(greater)
                .into_iter()
                .zip(held(lesser))
                .all(|(greater, lesser)| greater || !lesser)
        };
        assert!(contains(Role::Operator, Role::Auditor));
        assert!(contains(Role::TenantAdmin, Role::TenantMember));
        assert!(contains(Role::TenantMember, Role::Service));
        assert!(!contains(Role::Operator, Role::Service));
        assert!(!contains(Role::TenantAdmin, Role::Operator));
    }

    #[test]
    fn names_are_the_same_in_text_and_json() {
        for role in Role::ALL {
            assert_eq!(role.as_str().parse(), Ok(role));
            assert_eq!(serde_json::to_string(&role).unwrap(), format!("\"{role}\""));
        }
        assert!("root".parse::<Role>().is_err());
    }
}
