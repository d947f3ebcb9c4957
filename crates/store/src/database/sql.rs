//! One text of SQL for all placements.
//!
//! Where tenants share tables, every row and every statement names its tenant; where a tenant has
//! tables of its own, nothing does. The text says both: what stands in brackets is for shared
//! tables alone, and `$T` in it is the tenant. `SELECT a FROM t WHERE [tenant = $T AND ]id = $1`
//! becomes
//!
//! - `SELECT a FROM t WHERE id = $1` where the tables are the tenant's own, and
//! - `SELECT a FROM t WHERE tenant = $1::text::uuid AND id = $2` where they are shared.
//!
//! Both are made when the program is compiled. A statement that forgets its tenant does not run on
//! shared tables at all: PostgreSQL refuses a parameter that a statement does not use.

/// One statement, or one step of a schema, as each kind of placement runs it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Sql {
    own: &'static str,
    shared: &'static str,
}

/// Whose the tables are that a statement runs on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tables {
    /// One tenant's.
    Own,
    /// Several tenants'.
    Shared,
}

/// 4 KiB: twice the longest step of the schema.
pub(crate) const SQL_BYTES_MAX: usize = 4_096;

impl Sql {
    /// What [`sql!`](crate::database::sql!) makes.
    pub(crate) const fn new(own: &'static [u8], shared: &'static [u8]) -> Self {
        match (std::str::from_utf8(own), std::str::from_utf8(shared)) {
            (Ok(own), Ok(shared)) => Self { own, shared },
            _ => panic!("SQL is cut at ASCII characters alone"),
        }
    }

    /// The text for such tables.
    pub(crate) const fn text(&self, tables: Tables) -> &'static str {
        match tables {
            Tables::Own => self.own,
            Tables::Shared => self.shared,
        }
    }

    /// Whether it may change anything.
    pub(crate) fn writes(&self) -> bool {
        !self.own.trim_start().starts_with("SELECT")
    }
}

/// Writes `text` as it is for such tables to `to`, and says how many bytes it is.
pub(crate) const fn expand(text: &str, tables: Tables, to: &mut [u8]) -> usize {
    let shared = matches!(tables, Tables::Shared);
    let text = text.as_bytes();
    let (mut from, mut bytes, mut in_brackets) = (0, 0, false);
    while from < text.len() {
        let byte = text[from];
        from += 1;
        match byte {
            b'[' => in_brackets = true,
            b']' => in_brackets = false,
            _ if in_brackets && !shared => {}
            b'$' if shared && text[from] == b'T' => {
                from += 1;
                bytes = push(b"$1::text::uuid", to, bytes);
            }
            b'$' if shared => {
                let mut number = 1;
                while from < text.len() && text[from].is_ascii_digit() {
                    number = if number == 1 { 0 } else { (number - 1) * 10 };
                    number += (text[from] - b'0') as usize + 1;
                    from += 1;
                }
                bytes = push(b"$", to, bytes);
                if number >= 10 {
                    bytes = push(&[b'0' + (number / 10) as u8], to, bytes);
                }
                bytes = push(&[b'0' + (number % 10) as u8], to, bytes);
            }
            _ => bytes = push(&[byte], to, bytes),
        }
    }
    bytes
}

const fn push(bytes: &[u8], to: &mut [u8], mut at: usize) -> usize {
    let mut from = 0;
    while from < bytes.len() {
        to[at] = bytes[from];
        (from, at) = (from + 1, at + 1);
    }
    at
}

/// The statement that a text is: see [`sql`](mod@crate::database::sql).
macro_rules! sql {
    ($text:expr $(,)?) => {{
        use $crate::database::sql::{SQL_BYTES_MAX, Sql, Tables, expand};
        const TEXT: &str = $text;
        const OWN_BYTES: usize = expand(TEXT, Tables::Own, &mut [0; SQL_BYTES_MAX]);
        const OWN: [u8; OWN_BYTES] = {
            let mut text = [0; OWN_BYTES];
            expand(TEXT, Tables::Own, &mut text);
            text
        };
        const SHARED_BYTES: usize = expand(TEXT, Tables::Shared, &mut [0; SQL_BYTES_MAX]);
        const SHARED: [u8; SHARED_BYTES] = {
            let mut text = [0; SHARED_BYTES];
            expand(TEXT, Tables::Shared, &mut text);
            text
        };
        const SQL: Sql = Sql::new(&OWN, &SHARED);
        &SQL
    }};
}
pub(crate) use sql;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn brackets_are_for_shared_tables_alone() {
        let select: &Sql = sql!(
            "SELECT a FROM t WHERE [tenant = $T AND ]b = $1 AND c = $9 AND d = $10 AND e = $19"
        );
        assert_eq!(
            select.text(Tables::Own),
            "SELECT a FROM t WHERE b = $1 AND c = $9 AND d = $10 AND e = $19"
        );
        assert_eq!(
            select.text(Tables::Shared),
            "SELECT a FROM t WHERE tenant = $1::text::uuid AND b = $2 AND c = $10 AND d = $11 AND e = $20"
        );
        assert!(!select.writes());
        assert!(sql!("DELETE FROM t[ WHERE tenant = $T]").writes());
    }
}
