//! `apply` and `export`: the catalogue as a folder.

use std::path::PathBuf;

use anyhow::bail;
use clap::Args;
use control::api::{ApplyReport, ApplyRequest, CreatedKey, ExportReply};
use serde_json::json;

use super::differences::{changes_something, render, summary};
use super::{API, ConfirmArgs, Context};
use crate::folder::{self, Existing};
use crate::terminal::{Form, Paint, confirm, note, say, say_json};

/// Make the catalogue what a folder says.
#[derive(Debug, Clone, Args)]
pub(crate) struct ApplyArgs {
    /// The folder of TOML files; `partywall export` writes such a one
    #[arg(long, short, value_name = "FOLDER")]
    folder: PathBuf,
    /// Remove what the folder does not say (tenants and operators never)
    #[arg(long)]
    prune: bool,
    /// Only show the difference
    #[arg(long)]
    dry_run: bool,
    /// Why, for the list of versions
    #[arg(long, value_name = "TEXT")]
    note: Option<String>,
    #[command(flatten)]
    confirm: ConfirmArgs,
}

/// Write the catalogue into a folder.
#[derive(Debug, Clone, Args)]
pub(crate) struct ExportArgs {
    /// The folder
    #[arg(long, short, value_name = "FOLDER")]
    output: PathBuf,
    /// Replace what is there, and remove files of tenants that are no more
    #[arg(long)]
    force: bool,
}

/// Shows the difference, asks, and applies it as one version.
///
/// # Errors
///
/// Every mistake in the folder with its place; or what the API refuses.
pub(crate) async fn apply(context: &mut Context<'_>, args: ApplyArgs) -> anyhow::Result<()> {
    let mut request = ApplyRequest {
        resources: folder::read(&args.folder)?,
        prune: args.prune,
        dry_run: true,
        note: args.note,
    };
    let path = format!("{API}/apply");
    let preview: ApplyReport = context.client.post(&path, &request).await?;
    if context.form == Form::People {
        let text = render(&preview.diff, Paint::for_stdout());
        say(format_args!("{text}{}", summary(&preview.diff)))?;
    }
    if args.dry_run || !changes_something(&preview.diff) {
        return match context.form {
            Form::Json => say_json(&preview),
            Form::People => Ok(()),
        };
    }
    if !args.confirm.yes && !confirm("Apply this?")? {
        bail!("nothing was changed");
    }
    request.dry_run = false;
    let report: ApplyReport = context.client.post(&path, &request).await?;
    if context.form == Form::Json {
        return say_json(&report);
    }
    say_keys(&report.created_keys)?;
    say(format_args!("applied: version {}", report.version))
}

/// Shows keys that will never be shown again.
fn say_keys(created: &[CreatedKey]) -> anyhow::Result<()> {
    if !created.is_empty() {
        note("Keep these keys: they are shown once, and kept nowhere.");
    }
    for CreatedKey { tenant, name, key } in created {
        match tenant {
            Some(tenant) => say(format_args!("{tenant}/{name}  {key}"))?,
            None => say(format_args!("operator {name}  {key}"))?,
        }
    }
    Ok(())
}

/// Writes the catalogue into a folder, so that applying it changes nothing.
///
/// # Errors
///
/// If the folder is not empty and must be, or cannot be written; or what the API refuses.
pub(crate) async fn export(context: &mut Context<'_>, args: ExportArgs) -> anyhow::Result<()> {
    let reply: ExportReply = context.client.get(&format!("{API}/export")).await?;
    let existing = if args.force {
        Existing::Replace
    } else {
        Existing::Refuse
    };
    let files = folder::write(&args.output, &reply.resources, existing)?;
    match context.form {
        Form::Json => say_json(&json!({"version": reply.version, "files": files})),
        Form::People => say(format_args!(
            "wrote version {}, {} resources, into {files} files in {}",
            reply.version,
            reply.resources.len(),
            args.output.display()
        )),
    }
}
