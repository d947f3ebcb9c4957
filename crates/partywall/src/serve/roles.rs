//! What a process does: all of it by default, or a part, where replicas share the work.

use clap::ValueEnum;

/// A part of the work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Role {
    /// Serves tenants' calls.
    Gateway,
    /// Serves the admin API.
    Control,
    /// Looks after what is left over: stores and keys that nobody has any more.
    Worker,
}

/// What one process does. Health and metrics are served by every one, and each brings its own
/// journal into the tenants' stores.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Roles(Vec<Role>);

impl Roles {
    /// These, or all if there are none.
    pub(crate) fn of(roles: &[Role]) -> Self {
        if roles.is_empty() {
            Self(Role::value_variants().to_vec())
        } else {
            Self(roles.to_vec())
        }
    }

    pub(crate) fn has(&self, role: Role) -> bool {
        self.0.contains(&role)
    }
}

impl std::fmt::Display for Roles {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names = Role::value_variants()
            .iter()
            .filter(|role| self.has(**role))
            .filter_map(|role| role.to_possible_value());
        let names: Vec<_> = names.map(|name| name.get_name().to_owned()).collect();
        f.write_str(&names.join(","))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_unless_some_are_named() {
        assert_eq!(Roles::of(&[]).to_string(), "gateway,control,worker");
        let some = Roles::of(&[Role::Worker, Role::Gateway]);
        assert_eq!(some.to_string(), "gateway,worker");
        assert!(!some.has(Role::Control));
    }
}
