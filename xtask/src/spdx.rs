//! SPDX licence expressions: whether an allow list satisfies one.

use anyhow::{bail, ensure};

/// Whether what `allows` accepts satisfies `expression`. `AND` binds closer than `OR`; the old
/// form `MIT/Apache-2.0` means `OR`. An exception is part of its licence's name:
/// `Apache-2.0 WITH LLVM-exception`.
///
/// # Errors
///
/// The expression is no SPDX expression.
pub(crate) fn is_satisfied(
    expression: &str,
    allows: &dyn Fn(&str) -> bool,
) -> anyhow::Result<bool> {
    let spaced = expression
        .replace('(', " ( ")
        .replace(')', " ) ")
        .replace('/', " OR ");
    let mut words = Words {
        words: spaced.split_whitespace().collect(),
        next: 0,
    };
    let satisfied = words.any_of(allows)?;
    ensure!(
        words.peek().is_none(),
        "`{expression}` goes on after its end"
    );
    Ok(satisfied)
}

struct Words<'a> {
    words: Vec<&'a str>,
    next: usize,
}

impl<'a> Words<'a> {
    fn peek(&self) -> Option<&'a str> {
        self.words.get(self.next).copied()
    }

    fn take(&mut self) -> Option<&'a str> {
        let word = self.peek();
        self.next += 1;
        word
    }

    fn takes(&mut self, wanted: &str) -> bool {
        let is_next = self.peek() == Some(wanted);
        self.next += usize::from(is_next);
        is_next
    }

    fn any_of(&mut self, allows: &dyn Fn(&str) -> bool) -> anyhow::Result<bool> {
        let mut satisfied = self.all_of(allows)?;
        while self.takes("OR") {
            satisfied |= self.all_of(allows)?;
        }
        Ok(satisfied)
    }

    fn all_of(&mut self, allows: &dyn Fn(&str) -> bool) -> anyhow::Result<bool> {
        let mut satisfied = self.one(allows)?;
        while self.takes("AND") {
            satisfied &= self.one(allows)?;
        }
        Ok(satisfied)
    }

    fn one(&mut self, allows: &dyn Fn(&str) -> bool) -> anyhow::Result<bool> {
        match self.take() {
            Some("(") => {
                let satisfied = self.any_of(allows)?;
                ensure!(self.takes(")"), "a parenthesis is not closed");
                Ok(satisfied)
            }
            None | Some(")" | "AND" | "OR" | "WITH") => bail!("a licence's name is missing"),
            Some(licence) if self.takes("WITH") => match self.take() {
                Some(exception) => Ok(allows(&format!("{licence} WITH {exception}"))),
                None => bail!("an exception's name is missing"),
            },
            Some(licence) => Ok(allows(licence)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(expression: &str) -> Option<bool> {
        is_satisfied(expression, &|name| {
            ["MIT", "Apache-2.0", "Apache-2.0 WITH LLVM-exception"].contains(&name)
        })
        .ok()
    }

    #[test]
    fn expressions_are_judged_by_their_structure() {
        for (expression, expected) in [
            ("MIT", Some(true)),
            ("GPL-3.0", Some(false)),
            ("GPL-3.0 OR MIT", Some(true)),
            ("GPL-3.0 AND MIT", Some(false)),
            ("MIT AND (GPL-3.0 OR Apache-2.0)", Some(true)),
            ("GPL-3.0 OR MIT AND GPL-2.0", Some(false)),
            ("(GPL-3.0 OR MIT) AND Apache-2.0", Some(true)),
            ("MIT/GPL-3.0", Some(true)),
            ("Apache-2.0 WITH LLVM-exception", Some(true)),
            ("MIT WITH LLVM-exception", Some(false)),
            ("", None),
            ("MIT OR", None),
            ("(MIT", None),
            ("MIT GPL-3.0", None),
        ] {
            assert_eq!(check(expression), expected, "{expression}");
        }
    }
}
