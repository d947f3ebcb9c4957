//! Which part of a list.

use crate::api::Page;
use crate::error::ApiError;

/// 100: a screen or two.
const LIMIT: usize = 100;
/// 1,000: a page of the widest rows stays below a few megabytes.
const LIMIT_MAX: usize = 1_000;

/// A part of a list, as a client asks for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Paging {
    pub(crate) limit: usize,
    cursor: Option<String>,
}

impl Paging {
    /// Reads what a client asks for.
    pub(crate) fn read(limit: Option<u32>, cursor: Option<&str>) -> Result<Self, ApiError> {
        let limit = limit.map_or(LIMIT, |limit| limit as usize);
        if !(1..=LIMIT_MAX).contains(&limit) {
            return Err(ApiError::of("limit", "a limit is from 1 to 1,000"));
        }
        Ok(Self {
            limit,
            cursor: cursor.map(ToOwned::to_owned),
        })
    }

    /// The page of sorted names that follow the cursor, which is the last name of the page
    /// before: what comes and goes meanwhile shifts nothing.
    pub(crate) fn of_names(&self, names: Vec<String>) -> Page<String> {
        let cursor = self.cursor.as_deref();
        let rest = names
            .into_iter()
            .skip_while(|name| cursor.is_some_and(|last| &**name <= last));
        let mut data: Vec<String> = rest.take(self.limit + 1).collect();
        let has_more = data.len() > self.limit;
        data.truncate(self.limit);
        Page {
            next_cursor: data.last().filter(|_| has_more).cloned(),
            data,
        }
    }

    /// The page of rows that have no key: the cursor is how many there were before.
    pub(crate) fn of_offsets<T>(&self, rows: impl Iterator<Item = T>) -> Result<Page<T>, ApiError> {
        let offset = usize::try_from(self.offset()?).unwrap_or(usize::MAX);
        let mut data: Vec<T> = rows.skip(offset).take(self.limit + 1).collect();
        let has_more = data.len() > self.limit;
        data.truncate(self.limit);
        let next_cursor = has_more.then(|| (offset + self.limit).to_string());
        Ok(Page { data, next_cursor })
    }

    /// The name of the last row before, for lists whose cursor says that.
    pub(crate) fn after(&self) -> Option<&str> {
        self.cursor.as_deref()
    }

    /// How many rows there were before, for lists whose cursor says that.
    pub(crate) fn offset(&self) -> Result<u64, ApiError> {
        match &self.cursor {
            None => Ok(0),
            Some(cursor) => cursor
                .parse()
                .map_err(|_| ApiError::of("cursor", "a cursor is the `next_cursor` of a page")),
        }
    }

    /// The page that a store gave, of `limit` rows after an offset.
    pub(crate) fn of_page<T>(&self, offset: u64, data: Vec<T>) -> Page<T> {
        let is_full = data.len() == self.limit;
        let next_cursor = is_full.then(|| (offset + self.limit as u64).to_string());
        Page { data, next_cursor }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_of_names_follow_each_other_and_end() {
        let names = || ["a", "b", "c", "d"].map(str::to_owned).to_vec();
        let first = Paging::read(Some(2), None).unwrap().of_names(names());
        assert_eq!(
            (first.data, first.next_cursor.as_deref()),
            (names()[..2].to_vec(), Some("b"))
        );
        let last = Paging::read(Some(2), Some("b")).unwrap().of_names(names());
        assert_eq!((last.data, last.next_cursor), (names()[2..].to_vec(), None));
        assert!(Paging::read(Some(0), None).is_err() && Paging::read(Some(1_001), None).is_err());
    }

    #[test]
    fn pages_of_rows_follow_each_other_and_end() {
        let first = Paging::read(Some(2), None)
            .unwrap()
            .of_offsets(0..3)
            .unwrap();
        assert_eq!(
            (first.data, first.next_cursor.as_deref()),
            (vec![0, 1], Some("2"))
        );
        let last = Paging::read(Some(2), Some("2"))
            .unwrap()
            .of_offsets(0..3)
            .unwrap();
        assert_eq!((last.data, last.next_cursor), (vec![2], None));
    }
}
