//! Prompts, keys and bodies never reach a log.

use std::fmt;

/// A value whose `Debug` and `Display` print nothing of it.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct Redacted<T>(T);

impl<T> Redacted<T> {
    /// Hides `value`.
    pub const fn new(value: T) -> Self {
        Self(value)
    }

    /// The value itself: for use, not for show.
    pub const fn expose(&self) -> &T {
        &self.0
    }

    /// The value itself, by move.
    pub fn into_exposed(self) -> T {
        self.0
    }
}

impl<T> fmt::Debug for Redacted<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

impl<T> fmt::Display for Redacted<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prints_nothing_of_the_value() {
        let key = Redacted::new("pw_secret");
        assert_eq!(format!("{key:?} {key}"), "[redacted] [redacted]");
    }
}
