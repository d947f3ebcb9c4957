//! `versions` and `rollback`.

use anyhow::bail;
use clap::Args;
use control::api::{RollbackReply, RollbackRequest, VersionRow};
use serde::de::DeserializeOwned;
use serde_json::json;

use super::differences::{render, summary};
use super::resource::more;
use super::{API, ConfirmArgs, Context, PageArgs};
use crate::client::list;
use crate::terminal::{Form, Paint, confirm, say, say_json, say_table};

/// Go back to what a version had, as a new version.
#[derive(Debug, Clone, Args)]
pub(crate) struct RollbackArgs {
    /// The version whose resources come back
    #[arg(id = "to_version", value_name = "VERSION")]
    version: u64,
    /// Why, for the list of versions
    #[arg(long, value_name = "TEXT")]
    note: Option<String>,
    #[command(flatten)]
    confirm: ConfirmArgs,
}

/// Lists the catalogue's versions.
///
/// # Errors
///
/// What the API refuses, in its words.
pub(crate) async fn versions(context: &mut Context<'_>, page: &PageArgs) -> anyhow::Result<()> {
    let path = format!("{API}/versions");
    let listed = list(&mut context.client, &path, page.pages(), page.parameters()).await?;
    if context.form == Form::Json {
        return say_json(&json!({"data": listed.rows, "next_cursor": listed.next_cursor}));
    }
    let rows: Vec<VersionRow> = listed
        .rows
        .into_iter()
        .map(serde_json::from_value)
        .collect::<Result<_, _>>()?;
    let row = |row: VersionRow| {
        vec![
            row.version.to_string(),
            row.at.to_string(),
            row.actor,
            row.note,
        ]
    };
    let rows = rows.into_iter().map(row).collect();
    say_table(&["version", "at", "by", "note"], rows)?;
    more(listed.next_cursor.as_deref());
    Ok(())
}

/// Goes back, and says what did not.
///
/// # Errors
///
/// What the API refuses, in its words.
pub(crate) async fn rollback(context: &mut Context<'_>, args: RollbackArgs) -> anyhow::Result<()> {
    let version = args.version;
    let reply: RollbackReply = roll_back(context, API, args).await?;
    if context.form == Form::Json {
        return say_json(&reply);
    }
    let text = render(&reply.diff, Paint::for_stdout());
    say(format_args!("{text}{}", summary(&reply.diff)))?;
    for kept in &reply.kept {
        say(format_args!("stays: {}: {}", kept.address, kept.reason))?;
    }
    say(format_args!(
        "went back to {version}: version {}",
        reply.version
    ))
}

/// Asks, and lets the server go back, of the catalogue or of a tenant's configuration.
pub(super) async fn roll_back<T: DeserializeOwned>(
    context: &mut Context<'_>,
    parent: &str,
    args: RollbackArgs,
) -> anyhow::Result<T> {
    let RollbackArgs {
        version,
        note,
        confirm: asking,
    } = args;
    let question = format!("Go back to what version {version} had?");
    if !asking.yes && !confirm(&question)? {
        bail!("nothing was changed");
    }
    let path = format!("{parent}/versions/{version}/rollback");
    let reply = context
        .client
        .post(&path, &RollbackRequest { note })
        .await?;
    Ok(reply)
}
