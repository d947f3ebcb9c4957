//! A difference between two versions, for people.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use control::api::{Action, DiffLine};
use serde_json::Value;

use super::resource::flatten;
use crate::terminal::Paint;

/// The lines that say what changes: one per resource, and one per changed field below it.
pub(crate) fn render(diff: &[DiffLine], paint: Paint) -> String {
    let mut text = String::new();
    let mut add = |line: String| {
        writeln!(text, "{line}").expect("writing to a string cannot fail");
    };
    for line in diff {
        match line.action {
            Action::Unchanged => {}
            Action::Create => {
                add(paint.green(&format!("+ {}", line.address)));
                for (path, value) in leaves(line.after.as_ref()) {
                    add(paint.green(&format!("    {path} = {value}")));
                }
            }
            Action::Delete => add(paint.red(&format!("- {}", line.address))),
            Action::Update => {
                add(paint.yellow(&format!("~ {}", line.address)));
                let before = leaves(line.before.as_ref());
                let after = leaves(line.after.as_ref());
                for (path, value) in &after {
                    match before.get(path) {
                        Some(former) if former == value => {}
                        Some(former) => add(format!("    {path}: {former} → {value}")),
                        None => add(paint.green(&format!("    {path} = {value}"))),
                    }
                }
                for path in before.keys().filter(|path| !after.contains_key(*path)) {
                    add(paint.red(&format!("    {path} is removed")));
                }
            }
        }
    }
    text
}

/// `3 new, 1 changed, 0 removed, 12 unchanged`.
pub(crate) fn summary(diff: &[DiffLine]) -> String {
    let count = |action| diff.iter().filter(|line| line.action == action).count();
    format!(
        "{} new, {} changed, {} removed, {} unchanged",
        count(Action::Create),
        count(Action::Update),
        count(Action::Delete),
        count(Action::Unchanged)
    )
}

/// Whether anything changes.
pub(crate) fn changes_something(diff: &[DiffLine]) -> bool {
    diff.iter().any(|line| line.action != Action::Unchanged)
}

fn leaves(value: Option<&Value>) -> BTreeMap<String, String> {
    let mut leaves = Vec::new();
    if let Some(value) = value {
        flatten("", value, &mut leaves);
    }
    leaves.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_difference_names_resources_and_fields() {
        let line = |address: &str, action, before, after| DiffLine {
            address: address.to_owned(),
            action,
            before,
            after,
        };
        let diff = [
            line(
                "tiers/free",
                Action::Unchanged,
                Some(json!({})),
                Some(json!({})),
            ),
            line(
                "acme/teams/core",
                Action::Create,
                None,
                Some(json!({"display_name": "C"})),
            ),
            line(
                "routes/a",
                Action::Delete,
                Some(json!({"targets": []})),
                None,
            ),
            line(
                "acme/budgets/month",
                Action::Update,
                Some(json!({"limit": "25.00", "calls_max": 3, "subject": "tenant"})),
                Some(json!({"limit": "30.00", "subject": "tenant", "window": "daily"})),
            ),
        ];
        let expected = "\
+ acme/teams/core
    display_name = C
- routes/a
~ acme/budgets/month
    limit: 25.00 → 30.00
    window = daily
    calls_max is removed
";
        assert_eq!(render(&diff, Paint::OFF), expected);
        assert_eq!(summary(&diff), "1 new, 1 changed, 1 removed, 1 unchanged");
        assert!(changes_something(&diff) && !changes_something(&diff[..1]));
    }
}
