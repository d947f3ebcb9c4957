//! Usage that sums do not know, added up from the lines themselves: parts of hours, conversations.

use std::collections::HashMap;

use base::Timestamp;
use foldhash::fast::RandomState;
use ledger::SessionName;

use super::StoreError;
use super::calendar::Grain;
use super::counted::Counted;
use super::lines::each_block;
use super::usage::{Dimension, UsageQuery};
use crate::database::{Database, Walk};

/// As much of a group as sums and lines say without a look at what calls have in common.
#[derive(PartialEq, Eq, Hash)]
pub(super) struct Part {
    /// The number of the hour, day or month that is told apart.
    pub(super) number: Option<i64>,
    pub(super) dims: i64,
    pub(super) session: Option<SessionName>,
}

pub(super) type Parts = HashMap<Part, Counted, RandomState>;

/// Adds the lines from `from` on and before `until` to `parts`.
pub(super) fn add(
    database: &Database<'_>,
    query: &UsageQuery,
    (from, until): (Timestamp, Timestamp),
    parts: &mut Parts,
) -> Result<(), StoreError> {
    let grain: Option<Grain> = query.grain();
    let by_session = query.groups_by(Dimension::Session);
    let wanted = query
        .filter
        .session
        .as_deref()
        .filter(|name| !name.is_empty());
    each_block(database, from, until, |_, block| {
        for line in &block.lines {
            let at = line.started_at();
            let session = line.session.as_ref().as_ref();
            let is_of_session =
                wanted.is_none_or(|wanted| session.is_some_and(|name| name.as_str() == wanted));
            if at < from || at >= until || !is_of_session {
                continue;
            }
            let part = Part {
                number: grain.map(|grain| grain.of(at)),
                dims: line.dims,
                session: session.filter(|_| by_session).cloned(),
            };
            let counted = Counted::of_packed(line);
            parts.entry(part).or_default().add(&counted);
        }
        Ok(Walk::On)
    })
}
