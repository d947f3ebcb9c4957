//! The steps of a schema: which one a store has come to, and which programs can use it.
//!
//! Two programs serve at the same time while a new one is rolled out, and stores are brought to its
//! newest step one after another. So each program says from which step on it serves a store as it
//! is, and each store says which programs it is open to: an expanding step adds what the program
//! before it does not miss, a contracting one takes away what nobody uses any more.

use crate::database::Sql;

/// One step of a schema. Its number is its place in the list, from 1.
pub(crate) type Migration = &'static Sql;

/// The steps that a program knows.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Steps {
    pub(crate) all: &'static [Migration],
    /// The oldest step whose stores this program serves as they are.
    pub(crate) served_from: u32,
    /// The oldest step whose programs can use a store that has come to the newest.
    pub(crate) open_to: u32,
}

/// What a store says of itself: in `schema_version`, the greatest number is its step, the least
/// the oldest step whose programs can use it. One row is both.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Found {
    /// 0 where there are no tables yet.
    pub(crate) step: u32,
    pub(crate) open_to: u32,
}

/// How a store stands to a program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    /// It has come to the newest step, or one beyond it that is open to this program.
    Current,
    /// It is behind, and is served as it is.
    Behind,
    /// It is new, or too far behind: it is brought to the newest step before it is used.
    TooOld,
    /// It is beyond what this program can use.
    TooNew,
}

/// How far a store is brought when it is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Bring {
    /// To the newest step, if it could not be served as it is.
    WhereServed,
    /// To the newest step.
    ToNewest,
}

/// A store that a program came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Upgraded {
    /// The step of its schema before; 0 where there were no tables.
    pub from: u32,
    /// The step that it has.
    pub to: u32,
}

impl Upgraded {
    /// Whether anything was done.
    pub fn is_change(self) -> bool {
        self.from != self.to
    }
}

impl Steps {
    pub(crate) const fn newest(&self) -> u32 {
        // A schema has few steps.
        self.all.len() as u32
    }

    pub(crate) fn standing(&self, found: Found) -> Standing {
        if found.step > self.newest() {
            return match found.open_to <= self.newest() {
                true => Standing::Current,
                false => Standing::TooNew,
            };
        }
        if found.step == self.newest() {
            Standing::Current
        } else if found.step > 0 && found.step >= self.served_from {
            Standing::Behind
        } else {
            Standing::TooOld
        }
    }

    /// The steps that are to be done to a store.
    pub(crate) fn missing(&self, found: Found, bring: Bring) -> &'static [Migration] {
        match (self.standing(found), bring) {
            (Standing::TooOld, _) | (Standing::Behind, Bring::ToNewest) => {
                &self.all[found.step as usize..]
            }
            (Standing::Current | Standing::TooNew, _) | (Standing::Behind, Bring::WhereServed) => {
                &[]
            }
        }
    }

    /// The rows of `schema_version` of a store that has come to the newest step.
    pub(crate) fn rows(&self) -> Vec<u32> {
        let mut rows = vec![self.newest()];
        if self.open_to < self.newest() {
            rows.push(self.open_to);
        }
        rows
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema;

    fn found(step: u32, open_to: u32) -> Found {
        Found { step, open_to }
    }

    #[test]
    fn a_program_serves_the_step_before_its_own_and_one_beyond_it_that_is_open() {
        let newest = schema::TENANT.newest();
        for (store, expected) in [
            (found(0, 0), Standing::TooOld),
            (found(schema::TENANT.served_from - 1, 1), Standing::TooOld),
            (found(schema::TENANT.served_from, 1), Standing::Behind),
            (found(newest, newest), Standing::Current),
            // The next one, expanded and contracted.
            (found(newest + 1, newest), Standing::Current),
            (found(newest + 1, newest + 1), Standing::TooNew),
        ] {
            assert_eq!(schema::TENANT.standing(store), expected, "{store:?}");
        }
    }

    #[test]
    fn a_store_that_is_served_as_it_is_is_left_until_somebody_says_so() {
        let (all, newest) = (schema::TENANT, schema::TENANT.newest());
        let behind = found(all.served_from, all.served_from);
        assert!(all.missing(behind, Bring::WhereServed).is_empty());
        let missing = (newest - all.served_from) as usize;
        assert_eq!(all.missing(behind, Bring::ToNewest).len(), missing);
        assert_eq!(
            all.missing(found(0, 0), Bring::WhereServed).len(),
            newest as usize
        );
        let beyond = found(newest + 1, newest);
        assert!(all.missing(beyond, Bring::ToNewest).is_empty());
    }

    #[test]
    fn the_rows_say_both_and_one_row_is_both() {
        let expanded = Steps {
            open_to: schema::TENANT.newest() - 1,
            ..schema::TENANT
        };
        let newest = schema::TENANT.newest();
        assert_eq!(expanded.rows(), [newest, newest - 1]);
        let contracted = Steps {
            open_to: newest,
            ..schema::TENANT
        };
        assert_eq!(contracted.rows(), [newest]);
    }
}
