//! Who did what inside the tenant.

use maud::{Markup, html};
use tenancy::Permission;

use super::super::answer::{PageError, Shown};
use super::super::layout::Tab;
use super::super::page::{PageRow, Visit, page};
use super::super::show::{self, more, said};
use super::{Verb, api, inside};
use crate::api::{AuditRow, Page};

pub(super) fn pages() -> Vec<PageRow> {
    let read = inside(Permission::ReadAudit);
    vec![page(
        Verb::Get,
        "/dashboard/tenants/{tenant}/audit",
        read,
        audit,
    )]
}

async fn audit(visit: Visit) -> Result<Shown, PageError> {
    if !visit.looks_inside() {
        let main = html! { p.empty { "An auditor reads the platform's log, not a tenant's own." } };
        return Ok(visit.tenant_page(Tab::Audit, &main));
    }
    let path = api(&visit, &format!("/audit?limit=50{}", visit.at_cursor()));
    let log: Page<AuditRow> = visit.get(&path).await?;
    Ok(visit.tenant_page(Tab::Audit, &table(&log)))
}

pub(in crate::dashboard) fn table(log: &Page<AuditRow>) -> Markup {
    let columns = ["#No.", "When", "Who", "What", "To what", "Why", "Outcome"];
    let rows = html! { @for row in &log.data {
        @let field = |name: &str| said(&row.entry[name]);
        @let at = field("at");
        tr {
            td.number { (row.index) }
            td { (at.get(..19).unwrap_or(&at).replace('T', " ")) }
            td { (field("actor")) }
            td { (field("action")) }
            td { (field("target")) }
            td { (field("reason")) }
            td { (field("outcome")) }
        }
    } };
    html! {
        (show::table("Audit log", &columns, &rows))
        (more(log.next_cursor.as_deref(), "", "Older entries"))
    }
}
