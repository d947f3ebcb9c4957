//! The platform's own record: who did what, and the versions of the catalogue, with the way back.

use maud::{Markup, html};
use serde_json::json;
use tenancy::Permission;

use super::answer::{PageError, Shown};
use super::ask::segment;
use super::page::{Door, PageRow, Visit, page};
use super::show::{more, table, time};
use super::tenant::audit_table;
use crate::api::{AuditCheck, AuditRow, Page, RollbackReply, VersionRow};
use crate::endpoint::{Reach, Verb};

pub(super) fn pages() -> Vec<PageRow> {
    let as_platform = |permission| Door::As(Reach::Platform(permission));
    vec![
        page(
            Verb::Get,
            "/dashboard/audit",
            as_platform(Permission::ReadAudit),
            audit,
        ),
        page(
            Verb::Get,
            "/dashboard/versions",
            as_platform(Permission::ReadCatalogue),
            versions,
        ),
        page(
            Verb::Post,
            "/dashboard/versions/{version}/rollback",
            as_platform(Permission::RollBack),
            roll_back,
        )
        .doing(&["roll_back"]),
    ]
}

async fn audit(visit: Visit) -> Result<Shown, PageError> {
    let path = format!("/admin/v1/audit?limit=50{}", visit.at_cursor());
    let log: Page<AuditRow> = visit.get(&path).await?;
    let checked = match visit.query.get("check") {
        Some(_) => Some(visit.get::<AuditCheck>("/admin/v1/audit/verify").await?),
        None => None,
    };
    let main = html! {
        div.heading {
            h1 { "Audit" }
            a.button href="?check=1" { "Verify the log" }
        }
        p.note {
            "What was done on the platform. What was done inside a tenant is in its own log, among its pages."
        }
        @if let Some(check) = &checked {
            @if check.ok {
                p.done role="status" {
                    "All " (check.entries) " entries are as they were signed. Root hash "
                    code { (check.root_hash) } "."
                }
            } @else {
                p.problem role="alert" {
                    "The log is not what was signed: " (check.problem.as_deref().unwrap_or("unknown")) "."
                }
            }
        }
        (audit_table(&log))
    };
    Ok(visit.page("Audit", &main))
}

async fn versions(visit: Visit) -> Result<Shown, PageError> {
    let path = format!("/admin/v1/versions?limit=50{}", visit.at_cursor());
    let rows: Page<VersionRow> = visit.get(&path).await?;
    let served = visit.snapshot.version();
    let listed = html! { @for row in &rows.data { (version(&visit, row, served)) } };
    let columns = ["#No.", "When", "Who", "Why", "Go back"];
    let columns = match visit.may(Permission::RollBack) {
        true => &columns[..],
        false => &columns[..4],
    };
    let main = html! {
        h1 { "Versions of the catalogue" }
        p.note { "Version " (served) " is served. Going back makes a new version, with what the old one had." }
        (table("Versions", columns, &listed))
        (more(rows.next_cursor.as_deref(), "", "Older versions"))
    };
    Ok(visit.page("Versions", &main))
}

fn version(visit: &Visit, row: &VersionRow, served: u64) -> Markup {
    html! {
        tr {
            td.number { (row.version) }
            td { (time(row.at)) }
            td { (row.actor) }
            td { (row.note) }
            @if visit.may(Permission::RollBack) {
                td {
                    @if row.version < served {
                        details.action {
                            summary { "Go back" span.hidden { " to version " (row.version) } }
                            form method="post"
                                action=(format!("/dashboard/versions/{}/rollback", row.version)) {
                                (visit.secret())
                                p { "The whole catalogue becomes what it was then. Revoked keys stay revoked." }
                                label { "Why" input name="note" maxlength="500"; }
                                button.danger type="submit" { "Go back to " (row.version) }
                            }
                        }
                    }
                }
            }
        }
    }
}

async fn roll_back(visit: Visit) -> Result<Shown, PageError> {
    let version = visit.param("version").to_owned();
    let path = format!("/admin/v1/versions/{}/rollback", segment(&version));
    let note = json!({"note": visit.form.get("note")});
    let done: RollbackReply = visit.post(&path, &note).await?;
    let main = html! {
        h1 { "Back to version " (version) }
        p.done role="status" { "Version " (done.version) " is served, with what " (version) " had." }
        @if done.diff.is_empty() { p.empty { "Nothing was different." } }
        @else {
            h2 { "What changed" }
            ul { @for line in &done.diff { li { code { (line.address) } } } }
        }
        @if !done.kept.is_empty() {
            h2 { "What stays as it is" }
            ul { @for kept in &done.kept { li { code { (kept.address) } ": " (kept.reason) } } }
        }
        p { a href="/dashboard/versions" { "To the versions" } }
    };
    Ok(visit.page("Back", &main))
}
