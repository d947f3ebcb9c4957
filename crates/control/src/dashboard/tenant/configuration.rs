//! The tenant's configuration: what it was, version by version, and what changed.

use std::collections::BTreeMap;

use maud::{Markup, html};
use serde_json::{Value, json};
use tenancy::Permission;

use super::super::answer::{PageError, Shown};
use super::super::ask::segment;
use super::super::layout::Tab;
use super::super::page::{PageRow, Visit, page};
use super::super::show::{more, pretty, said, table};
use super::{Verb, api, inside};
use crate::api::{ConfigVersion, Page, RollbackReply};

/// 20 versions a page: each may be a page itself.
const VERSIONS: u32 = 20;

pub(super) fn pages() -> Vec<PageRow> {
    vec![
        page(
            Verb::Get,
            "/dashboard/tenants/{tenant}/configuration",
            inside(Permission::ReadCatalogue),
            configuration,
        ),
        page(
            Verb::Post,
            "/dashboard/tenants/{tenant}/configuration/{version}/rollback",
            inside(Permission::RollBack),
            roll_back,
        )
        .doing(&["roll_back_config"]),
    ]
}

async fn configuration(visit: Visit) -> Result<Shown, PageError> {
    if !visit.looks_inside() {
        let main = html! { p.empty { "An auditor does not look inside tenants." } };
        return Ok(visit.tenant_page(Tab::Configuration, &main));
    }
    let cursor = visit.at_cursor();
    let path = format!("/config/versions?limit={VERSIONS}{cursor}");
    let versions: Page<ConfigVersion> = visit.get(&api(&visit, &path)).await?;
    let is_first_page = cursor.is_empty();
    let main = html! {
        @if versions.data.is_empty() {
            p.empty { "Nobody has put a configuration in place: the default applies." }
        }
        @for (place, version) in versions.data.iter().enumerate() {
            @let before = versions.data.get(place + 1);
            (shown(&visit, version, before, is_first_page && place == 0))
        }
        (more(versions.next_cursor.as_deref(), "", "Older versions"))
    };
    Ok(visit.tenant_page(Tab::Configuration, &main))
}

fn shown(
    visit: &Visit,
    version: &ConfigVersion,
    before: Option<&ConfigVersion>,
    is_current: bool,
) -> Markup {
    let changes = before.map(|before| differences(before.config.as_ref(), version.config.as_ref()));
    html! {
        section.card {
            h2 {
                "Version " (version.version)
                @if is_current { " " span.badge.well { "in force" } }
            }
            @if let Some(unreadable) = &version.unreadable {
                p.problem { (unreadable) }
            } @else if version.config.is_none() {
                p { "Removed: the default applies." }
            }
            @match &changes {
                Some(changes) if changes.is_empty() => p.note { "As the version before." },
                Some(changes) => (difference_table(changes)),
                None => p.note { "What was before it is on the next page, or it is the first." },
            }
            @if let Some(config) = &version.config {
                details {
                    summary { "All of version " (version.version) }
                    pre tabindex="0" { (pretty(config)) }
                }
            }
            @if !is_current && version.unreadable.is_none() && visit.may(Permission::RollBack) {
                details.action {
                    summary { "Go back to version " (version.version) }
                    form method="post"
                        action=(format!("{}/{}/rollback", Tab::Configuration.of(&visit.tenant().name), version.version)) {
                        (visit.secret())
                        p { "It is put in force again, as a new version." }
                        button type="submit" { "Go back to " (version.version) }
                    }
                }
            }
        }
    }
}

type Changes = Vec<(String, Option<Value>, Option<Value>)>;

fn difference_table(changes: &Changes) -> Markup {
    let side = |value: &Option<Value>| value.as_ref().map_or("–".to_owned(), said);
    let rows = html! { @for (field, was, is) in changes {
        tr.diff {
            th scope="row" { code { (field) } }
            td { del { (side(was)) } }
            td { ins { (side(is)) } }
        }
    } };
    table("What changed", &["Field", "Was", "Is"], &rows)
}

/// What differs, field by field.
fn differences(was: Option<&Value>, is: Option<&Value>) -> Changes {
    let (mut before, mut after) = (BTreeMap::new(), BTreeMap::new());
    flatten(String::new(), was.unwrap_or(&Value::Null), &mut before);
    flatten(String::new(), is.unwrap_or(&Value::Null), &mut after);
    let fields: std::collections::BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    let changed = fields
        .into_iter()
        .filter(|field| before.get(*field) != after.get(*field));
    changed
        .map(|field| {
            let (was, is) = (before.get(field), after.get(field));
            (field.clone(), was.cloned(), is.cloned())
        })
        .collect()
}

/// Objects become paths; lists stay whole.
fn flatten(path: String, value: &Value, fields: &mut BTreeMap<String, Value>) {
    match value {
        Value::Object(object) if !object.is_empty() => {
            for (name, value) in object {
                let path = match path.as_str() {
                    "" => name.clone(),
                    path => format!("{path}.{name}"),
                };
                flatten(path, value, fields);
            }
        }
        Value::Null => {}
        value => drop(fields.insert(path, value.clone())),
    }
}

async fn roll_back(visit: Visit) -> Result<Shown, PageError> {
    let version = segment(visit.param("version"));
    let path = api(&visit, &format!("/config/versions/{version}/rollback"));
    visit.post::<RollbackReply>(&path, &json!({})).await?;
    let address = Tab::Configuration.of(&visit.tenant().name);
    Ok(Shown::Elsewhere(format!("{address}?done=rolled-back")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_differs_is_said_field_by_field() {
        let was = json!({"system_prompt": "a", "flags": {"beta": true, "old": 1}, "models": ["x"]});
        let is = json!({"system_prompt": "b", "flags": {"beta": true}, "models": ["x", "y"]});
        let changes = differences(Some(&was), Some(&is));
        let expected = vec![
            ("flags.old".to_owned(), Some(json!(1)), None),
            (
                "models".to_owned(),
                Some(json!(["x"])),
                Some(json!(["x", "y"])),
            ),
            (
                "system_prompt".to_owned(),
                Some(json!("a")),
                Some(json!("b")),
            ),
        ];
        assert_eq!(changes, expected);
        assert!(differences(Some(&is), Some(&is)).is_empty());
        assert_eq!(differences(None, Some(&json!({"a": {"b": 1}}))).len(), 1);
    }
}
