//! Which part of a list is wanted.

/// 1,000: a page of the widest rows stays below a megabyte.
const LIMIT_MAX: u32 = 1_000;

/// A part of a list: so many rows, after so many others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Page {
    offset: u64,
    limit: u32,
}

impl Page {
    /// `limit` rows (1,000 at most) after the first `offset`.
    pub fn new(offset: u64, limit: u32) -> Self {
        Self {
            offset,
            limit: limit.clamp(1, LIMIT_MAX),
        }
    }

    /// The first 1,000 rows.
    pub const fn first() -> Self {
        Self {
            offset: 0,
            limit: LIMIT_MAX,
        }
    }

    /// The page after this one.
    pub fn next(self) -> Self {
        Self {
            offset: self.offset.saturating_add(u64::from(self.limit)),
            limit: self.limit,
        }
    }

    pub(crate) fn limit(self) -> i64 {
        i64::from(self.limit)
    }

    pub(crate) fn offset(self) -> i64 {
        i64::try_from(self.offset).unwrap_or(i64::MAX)
    }
}
