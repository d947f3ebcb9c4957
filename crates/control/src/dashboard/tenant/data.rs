//! Where a tenant's data is: its placement and moves, its backups, and its end.

use maud::{Markup, html};
use serde_json::json;
use tenancy::Permission;

use super::super::answer::{PageError, Shown};
use super::super::ask::segment;
use super::super::layout::Tab;
use super::super::page::{PageRow, Visit, page};
use super::super::show::{grouped, table, time};
use super::{Verb, api, inside};
use crate::api::{BackupView, MoveReply, Page, RestoreReply, ServersReply};

/// What may come back of a backup, and how that is said.
const WHAT: [(&str, &str); 2] = [
    ("content", "stored responses and conversations"),
    ("everything", "everything: for a store that is lost"),
];

pub(super) fn pages() -> Vec<PageRow> {
    let write = inside(Permission::WriteCatalogue);
    let read = inside(Permission::ReadCatalogue);
    vec![
        page(Verb::Get, "/dashboard/tenants/{tenant}/data", read, data),
        page(Verb::Post, "/dashboard/tenants/{tenant}/move", write, begin).doing(&["move_tenant"]),
        page(
            Verb::Post,
            "/dashboard/tenants/{tenant}/backups",
            write,
            back_up,
        )
        .doing(&["back_up_tenant"]),
        page(
            Verb::Post,
            "/dashboard/tenants/{tenant}/backups/{name}/remove",
            write,
            remove,
        )
        .doing(&["delete_backup"]),
        page(
            Verb::Post,
            "/dashboard/tenants/{tenant}/backups/{name}/restore",
            write,
            restore,
        )
        .doing(&["restore_tenant"]),
        page(
            Verb::Post,
            "/dashboard/tenants/{tenant}/offboard",
            write,
            offboard,
        )
        .doing(&["offboard_tenant"]),
    ]
}

async fn data(visit: Visit) -> Result<Shown, PageError> {
    let last_move = match visit.get::<MoveReply>(&api(&visit, "/move")).await {
        Ok(reply) => Some(reply),
        Err(PageError::NotFound) => None,
        Err(error) => return Err(error),
    };
    let path = api(&visit, "/backups?limit=1000");
    // An installation without a folder for them says so.
    let backups = match visit.get::<Page<BackupView>>(&path).await {
        Ok(page) => Ok(page.data),
        Err(PageError::Refused { message, .. }) => Err(message),
        Err(error) => return Err(error),
    };
    let servers = match visit.sees_platform() {
        true => Some(visit.get::<ServersReply>("/admin/v1/servers").await?),
        false => None,
    };
    let main = html! {
        (place(&visit, last_move.as_ref(), servers.as_ref()))
        h2 { "Backups" }
        @match &backups {
            Ok(backups) => (backups_of(&visit, backups)),
            Err(message) => p.empty { (message) },
        }
        @if visit.may(Permission::WriteCatalogue) { (end(&visit)) }
    };
    Ok(visit.tenant_page(Tab::Data, &main))
}

fn place(visit: &Visit, last: Option<&MoveReply>, servers: Option<&ServersReply>) -> Markup {
    let tenant = visit.tenant();
    html! {
        h2 { "Placement" }
        p { "Its data is in " code { (tenant.spec.placement()) } "." }
        @if let Some(last) = last {
            p role="status" {
                "Move from " code { (last.from) } " to " code { (last.to) } ", begun "
                (time(last.began_at)) ": " strong { (last.state) } ", "
                (grouped(last.rows.into())) " of " (grouped(last.rows_total.into())) " rows"
                @if let Some(held) = last.held_ms { ", held for " (held) " ms" }
                "."
                @if let Some(error) = &last.error { " " (error) }
            }
        }
        @if let Some(servers) = servers.filter(|_| visit.may(Permission::WriteCatalogue)) {
            details.action {
                summary { "Move it" }
                form method="post" action=(format!("/dashboard/tenants/{}/move", tenant.name)) {
                    (visit.secret())
                    p { "It is served meanwhile. The old copy is kept for some days." }
                    label { "To"
                        input name="to" required list="placements" spellcheck="false" placeholder="bridge:main";
                    }
                    datalist #placements {
                        option value="file" {}
                        @for server in &servers.data {
                            @for wall in ["pool", "bridge", "silo"] {
                                option value=(format!("{wall}:{}", server.name)) {}
                            }
                        }
                    }
                    label { "Days that the old copy is kept"
                        input name="keep_days" type="number" min="0" max="365" value="7" required;
                    }
                    button.primary type="submit" { "Move " (tenant.name) }
                }
            }
        }
    }
}

fn backups_of(visit: &Visit, backups: &[BackupView]) -> Markup {
    let writes = visit.may(Permission::WriteCatalogue);
    let columns = ["Name", "Taken", "#Bytes", "#Key", "Do"];
    let columns = match writes {
        true => &columns[..],
        false => &columns[..4],
    };
    let rows = html! { @for backup in backups.iter().rev() {
        tr {
            th scope="row" { (backup.name) }
            td { (time(backup.taken_at)) }
            td.number { (grouped(backup.bytes.into())) }
            td.number { (backup.key_generation) }
            @if writes { td { (backup_acts(visit, backup)) } }
        }
    } };
    html! {
        @if backups.is_empty() { p.empty { "There is none." } }
        @else {
            (table("Backups", columns, &rows))
        }
        @if writes {
            form method="post" action=(format!("/dashboard/tenants/{}/backups", visit.tenant().name)) {
                (visit.secret())
                button type="submit" { "Take a backup now" }
            }
        }
    }
}

fn backup_acts(visit: &Visit, backup: &BackupView) -> Markup {
    let address = |what: &str| {
        let name = &visit.tenant().name;
        format!(
            "/dashboard/tenants/{name}/backups/{}/{what}",
            segment(&backup.name)
        )
    };
    html! {
        details.action {
            summary { "Put back" span.hidden { " " (backup.name) } }
            form method="post" action=(address("restore")) {
                (visit.secret())
                label { "What"
                    select name="what" {
                        @for (what, words) in WHAT { option value=(what) { (words) } }
                    }
                }
                p { "Ledger lines, usage and the audit log are never turned back." }
                button.danger type="submit" { "Put back" }
            }
        }
        details.action {
            summary { "Remove" span.hidden { " " (backup.name) } }
            form method="post" action=(address("remove")) {
                (visit.secret())
                button.danger type="submit" { "Remove" }
            }
        }
    }
}

fn end(visit: &Visit) -> Markup {
    let name = &visit.tenant().name;
    html! {
        h2 { "Offboarding" }
        details.action {
            summary { "Offboard " (name) }
            form method="post" action=(format!("/dashboard/tenants/{name}/offboard")) {
                (visit.secret())
                p {
                    "Its key is destroyed, and with it everything that it has, backups included: nobody \
                     can undo that. Export first what is to stay: "
                    code { "partywall costs export -t " (name) } ", "
                    code { "partywall audit export -t " (name) } "."
                }
                label { "Type the tenant's name"
                    input name="confirm" required autocomplete="off" spellcheck="false";
                }
                button.danger type="submit" { "Destroy it" }
            }
        }
    }
}

fn back(visit: &Visit, done: &str) -> Shown {
    let address = Tab::Data.of(&visit.tenant().name);
    Shown::Elsewhere(format!("{address}?done={done}"))
}

async fn begin(visit: Visit) -> Result<Shown, PageError> {
    let days = visit.form.need("keep_days", "the number of days")?;
    let days: u16 = days
        .parse()
        .map_err(|_| PageError::wrong("the number of days is a number from 0 to 365"))?;
    let to = visit.form.need("to", "where the tenant goes")?;
    let request = json!({"to": to, "keep_days": days});
    visit
        .post::<MoveReply>(&api(&visit, "/move"), &request)
        .await?;
    Ok(back(&visit, "moving"))
}

async fn back_up(visit: Visit) -> Result<Shown, PageError> {
    let path = api(&visit, "/backups");
    visit.post::<BackupView>(&path, &json!({})).await?;
    Ok(back(&visit, "backed-up"))
}

async fn remove(visit: Visit) -> Result<Shown, PageError> {
    let path = api(
        &visit,
        &format!("/backups/{}", segment(visit.param("name"))),
    );
    visit.delete(&path, None).await?;
    Ok(back(&visit, "removed"))
}

async fn restore(visit: Visit) -> Result<Shown, PageError> {
    let what = visit.form.need("what", "what comes back")?;
    let request = json!({"backup": visit.param("name"), "what": what});
    let path = api(&visit, "/restore");
    visit.post::<RestoreReply>(&path, &request).await?;
    Ok(back(&visit, "restored"))
}

async fn offboard(visit: Visit) -> Result<Shown, PageError> {
    let typed = visit.form.need("confirm", "the tenant's name")?;
    let path = api(&visit, &format!("?confirm={}", segment(typed)));
    visit.delete(&path, None).await?;
    Ok(Shown::Elsewhere(
        "/dashboard/fleet?done=offboarded".to_owned(),
    ))
}
