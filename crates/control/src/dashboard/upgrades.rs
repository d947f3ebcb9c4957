//! The upgrade of tenants' stores, ring by ring.

use maud::{Markup, html};
use serde_json::{Value, json};
use tenancy::Permission;

use super::answer::{PageError, Shown};
use super::page::{Door, PageRow, Visit, page};
use super::show::time;
use crate::api::{UpgradeReply, UpgradeRing, UpgradeState};
use crate::endpoint::{Reach, Verb};

const PAGE: &str = "/dashboard/upgrade";
const API: &str = "/admin/v1/upgrade";

pub(super) fn pages() -> Vec<PageRow> {
    let write = || Door::As(Reach::Platform(Permission::WriteCatalogue));
    let read = Door::As(Reach::Platform(Permission::ReadCatalogue));
    vec![
        page(Verb::Get, PAGE, read, show),
        page(Verb::Post, "/dashboard/upgrade/start", write(), start).doing(&["start_upgrade"]),
        page(Verb::Post, "/dashboard/upgrade/advance", write(), advance)
            .doing(&["advance_upgrade"]),
        page(Verb::Post, "/dashboard/upgrade/halt", write(), halt).doing(&["halt_upgrade"]),
        page(Verb::Post, "/dashboard/upgrade/resume", write(), resume).doing(&["resume_upgrade"]),
    ]
}

async fn show(visit: Visit) -> Result<Shown, PageError> {
    let reply: UpgradeReply = visit.get(API).await?;
    let part = html! {
        (state(&reply))
        (rings(&reply))
        (failures(&reply))
        @if visit.may(Permission::WriteCatalogue) { (actions(&visit, &reply)) }
    };
    if visit.wants_part {
        return Ok(Shown::Part(part));
    }
    let main = html! {
        h1 { "Upgrade of stores" }
        p.note {
            "After a new version of the program, tenants' stores come to the newest step of their schema: a few first, then more, then all. A ring that does worse than before halts the upgrade."
        }
        div #upgrade hx-get=(PAGE) hx-trigger="every 5s" hx-swap="innerHTML" { (part) }
    };
    Ok(visit.page("Upgrade", &main))
}

fn state(reply: &UpgradeReply) -> Markup {
    let ring = reply.ring.map_or("", UpgradeRing::as_str);
    html! {
        @match reply.state {
            UpgradeState::None => p.empty { "No upgrade was begun. New stores have step " (reply.to) "." },
            UpgradeState::Running => p role="status" {
                span.badge { "running" } " Stores come to step " (reply.to) ": ring " (ring) "."
            },
            UpgradeState::Watching => p role="status" {
                span.badge { "watching" } " Ring " (ring) " has step " (reply.to)
                @if let Some(until) = reply.watched_until { ", and is watched until " (time(until)) }
                "."
            },
            UpgradeState::Waiting => p role="status" {
                span.badge.watch { "waiting" } " Ring " (ring) " is well. Somebody has to begin the next."
            },
            UpgradeState::Halted => p.problem role="alert" {
                "Halted in ring " (ring) ": " (reply.reason.as_deref().unwrap_or("unknown")) "."
            },
            UpgradeState::Done => p.done role="status" {
                "All stores have step " (reply.to) "."
                @if reply.to < reply.newest { " This program has step " (reply.newest) "." }
            },
        }
    }
}

fn rings(reply: &UpgradeReply) -> Markup {
    html! {
        @if !reply.rings.is_empty() {
            div.scroll tabindex="0" role="region" aria-label="Rings" {
                table {
                    thead { tr {
                        th scope="col" { "Ring" }
                        th.number scope="col" { "Stores" }
                        th.number scope="col" { "Upgraded" }
                        th.number scope="col" { "Had it" }
                        th.number scope="col" { "Moving" }
                        th.number scope="col" { "Failed" }
                        th.number scope="col" { "p95 before, µs" }
                        th.number scope="col" { "p95 since, µs" }
                        th.number scope="col" { "Calls failed before, ‰" }
                        th.number scope="col" { "Since, ‰" }
                    } }
                    tbody {
                        @for ring in &reply.rings {
                            tr {
                                td { (ring.ring.as_str()) }
                                td.number { (ring.stores) }
                                td.number { (ring.upgraded) }
                                td.number { (ring.current) }
                                td.number { (ring.moving) }
                                td.number { (ring.failed) }
                                td.number { (ring.before_p95_us) }
                                td.number { (ring.after_p95_us) }
                                td.number { (ring.calls_failed_permille_before) }
                                td.number { (ring.calls_failed_permille_after) }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn failures(reply: &UpgradeReply) -> Markup {
    html! {
        @if !reply.failures.is_empty() {
            h2 { "Stores that stayed as they were" }
            ul { @for failure in &reply.failures { li { code { (failure.store) } ": " (failure.why) } } }
        }
    }
}

fn actions(visit: &Visit, reply: &UpgradeReply) -> Markup {
    let button = |verb: &str, words: &str| {
        html! {
            form.inline method="post" action=(format!("{PAGE}/{verb}")) {
                (visit.secret())
                button type="submit" { (words) }
            }
        }
    };
    html! {
        @match reply.state {
            UpgradeState::None | UpgradeState::Done => details.action {
                summary { "Begin an upgrade" }
                form method="post" action=(format!("{PAGE}/start")) {
                    (visit.secret())
                    p { "One tenant in a hundred comes first, and after ten minutes without trouble ten in a hundred, then all. The command `partywall upgrade start` has more to choose from." }
                    label { "Begin each ring by hand " input type="checkbox" name="by_hand" value="yes"; }
                    button type="submit" { "Begin" }
                }
            },
            UpgradeState::Running => { (button("halt", "Halt")) },
            UpgradeState::Watching | UpgradeState::Waiting => {
                (button("advance", "Begin the next ring"))
                (button("halt", "Halt"))
            },
            UpgradeState::Halted => { (button("resume", "Resume")) },
        }
    }
}

async fn start(visit: Visit) -> Result<Shown, PageError> {
    let by_hand = visit
        .form
        .get("by_hand")
        .is_some_and(|value| value == "yes");
    tell(&visit, "", json!({"by_hand": by_hand})).await
}

async fn advance(visit: Visit) -> Result<Shown, PageError> {
    tell(&visit, "/advance", json!({})).await
}

async fn halt(visit: Visit) -> Result<Shown, PageError> {
    tell(&visit, "/halt", json!({})).await
}

async fn resume(visit: Visit) -> Result<Shown, PageError> {
    tell(&visit, "/resume", json!({})).await
}

async fn tell(visit: &Visit, verb: &str, body: Value) -> Result<Shown, PageError> {
    let _: UpgradeReply = visit.post(&format!("{API}{verb}"), &body).await?;
    Ok(Shown::Elsewhere(PAGE.to_owned()))
}
