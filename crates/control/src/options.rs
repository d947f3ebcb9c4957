//! What the installation decides about the admin API.

/// Who may read `/metrics`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum MetricsAccess {
    /// Operators and auditors.
    #[default]
    Operators,
    /// Anybody who reaches the listener: for scrapers that can send no key.
    Anybody,
}
