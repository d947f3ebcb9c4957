//! `tenant backup` and `tenant restore`: copies of a tenant's data that are kept elsewhere.

use anyhow::bail;
use axum::http::{HeaderMap, Method};
use base::{Name, Timestamp};
use clap::Args;
use control::api::{BackupView, RestoreReply, RestoreRequest, RestoreWhat};
use serde_json::json;
use tenancy::catalogue::Kind;

use super::Context;
use super::resource::{done, item};
use crate::client::{Pages, list as list_rows, segment};
use crate::terminal::{Form, confirm, say, say_json, say_table};

/// Which backup, and how much of it.
#[derive(Debug, Clone, Args)]
pub(crate) struct RestoreArgs {
    /// The tenant
    name: Name,
    /// Which backup; the newest unless it is said
    #[arg(long, value_name = "BACKUP", conflicts_with = "before")]
    backup: Option<String>,
    /// The newest that was taken then or earlier: `2026-11-22T03:00:00Z`
    #[arg(long, value_name = "TIME")]
    before: Option<Timestamp>,
    /// Stored responses and conversations are then what they were; ledger lines, usage and the
    /// audit log stay
    #[arg(long, required_unless_present = "everything")]
    content: bool,
    /// All of it, for a store that is lost; one that has more than the backup is left alone
    #[arg(long, conflicts_with = "content")]
    everything: bool,
    /// With `--everything`: remove a store that is there and cannot be read
    #[arg(long, requires = "everything")]
    replace_damaged: bool,
    /// Do not ask
    #[arg(long)]
    yes: bool,
}

/// Takes a backup now.
///
/// # Errors
///
/// What the API refuses, in its words.
pub(crate) async fn take(context: &mut Context<'_>, name: &Name) -> anyhow::Result<()> {
    context.client.wait_for_copies();
    let taken: BackupView = context.client.post(&path_of(name), &json!({})).await?;
    match context.form {
        Form::Json => say_json(&taken),
        Form::People => say(format_args!(
            "backed {name} up as {}: {} bytes, read back",
            taken.name, taken.bytes
        )),
    }
}

/// Lists backups, the oldest first.
///
/// # Errors
///
/// What the API refuses, in its words.
pub(crate) async fn list(context: &mut Context<'_>, name: &Name) -> anyhow::Result<()> {
    let client = &mut context.client;
    let listed = list_rows(client, &path_of(name), Pages::All, Vec::new()).await?;
    if context.form == Form::Json {
        return say_json(&json!({"data": listed.rows}));
    }
    let views: Vec<BackupView> = listed
        .rows
        .into_iter()
        .map(serde_json::from_value)
        .collect::<Result<_, _>>()?;
    let row = |view: BackupView| {
        vec![
            view.name,
            view.taken_at.to_string(),
            view.bytes.to_string(),
            view.key_generation.to_string(),
        ]
    };
    let header = ["name", "taken at", "bytes", "key"];
    say_table(&header, views.into_iter().map(row).collect())
}

/// Removes a backup.
///
/// # Errors
///
/// What the API refuses, in its words.
pub(crate) async fn remove(
    context: &mut Context<'_>,
    name: &Name,
    backup: &str,
) -> anyhow::Result<()> {
    let path = format!("{}/{}", path_of(name), segment(backup));
    let (headers, body) = (HeaderMap::new(), bytes::Bytes::new());
    let client = &mut context.client;
    client.call(Method::DELETE, &path, headers, body).await?;
    done(context.form, &format!("removed backup {backup} of {name}"))
}

/// Puts a backup back.
///
/// # Errors
///
/// What the API refuses, in its words; and a no.
pub(crate) async fn restore(context: &mut Context<'_>, args: RestoreArgs) -> anyhow::Result<()> {
    let name = &args.name;
    let (what, question) = match args.everything {
        true => (
            RestoreWhat::Everything,
            format!("Put all of a backup into {name}'s store?"),
        ),
        false => (
            RestoreWhat::Content,
            format!("Responses and conversations that {name} stored since the backup go. Go on?"),
        ),
    };
    if !args.yes && !confirm(&question)? {
        bail!("nothing was restored");
    }
    let request = RestoreRequest {
        backup: args.backup,
        before: args.before,
        what,
        replace_damaged: args.replace_damaged,
    };
    let path = format!("{}/restore", item(Kind::Tenant, None, name.as_str()));
    context.client.wait_for_copies();
    let reply: RestoreReply = context.client.post(&path, &request).await?;
    match context.form {
        Form::Json => say_json(&reply),
        Form::People => say(format_args!(
            "restored {name} from {}, taken at {}",
            reply.backup, reply.taken_at
        )),
    }
}

fn path_of(name: &Name) -> String {
    format!("{}/backups", item(Kind::Tenant, None, name.as_str()))
}
