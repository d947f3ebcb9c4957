//! `price import`: somebody else's price list.

use std::path::PathBuf;

use anyhow::Context as _;
use base::{Name, Timestamp};
use clap::{Args, Subcommand};
use control::api::{PriceImportReport, PriceImportRequest, PriceSource, PriceVariants};

use super::fields::PriceFields;
use super::resource::ResourceCommand;
use super::{API, Context, resource};
use crate::terminal::{Form, note, say, say_json};

/// Prices of models.
#[derive(Debug, Clone, Subcommand)]
pub(crate) enum PriceCommand {
    #[command(flatten)]
    Resource(Box<ResourceCommand<PriceFields>>),
    /// Import LiteLLM's price list (`model_prices_and_context_window.json`)
    Import(ImportArgs),
}

/// What of a price list to import.
#[derive(Debug, Clone, Args)]
pub(crate) struct ImportArgs {
    /// The file
    file: PathBuf,
    /// Only the models of this provider; may be repeated
    #[arg(long = "provider", value_name = "NAME")]
    providers: Vec<Name>,
    /// From when on the prices apply; from now on by default
    #[arg(long, value_name = "TIME")]
    effective_from: Option<Timestamp>,
    /// Where a price depends on a prompt's length, charge the dearest whatever the length
    #[arg(long)]
    dearest: bool,
    /// A field of the list that is never charged here; may be repeated
    #[arg(long = "ignore", value_name = "FIELD")]
    ignore: Vec<String>,
    /// Only say what would change
    #[arg(long)]
    dry_run: bool,
}

/// Does it.
///
/// # Errors
///
/// What the API refuses, in its words.
pub(crate) async fn run(context: &mut Context<'_>, command: PriceCommand) -> anyhow::Result<()> {
    match command {
        PriceCommand::Resource(command) => resource::run(context, *command).await,
        PriceCommand::Import(args) => import(context, args).await,
    }
}

async fn import(context: &mut Context<'_>, args: ImportArgs) -> anyhow::Result<()> {
    let file = args.file.display();
    let text =
        std::fs::read_to_string(&args.file).with_context(|| format!("cannot read {file}"))?;
    let request = PriceImportRequest {
        source: PriceSource::Litellm,
        document: serde_json::from_str(&text).with_context(|| format!("{file} is not JSON"))?,
        effective_from: args.effective_from,
        providers: args.providers,
        variants: if args.dearest {
            PriceVariants::Dearest
        } else {
            PriceVariants::Exact
        },
        ignore: args.ignore,
        dry_run: args.dry_run,
    };
    let path = format!("{API}/prices/import");
    let report: PriceImportReport = context.client.post(&path, &request).await?;
    if context.form == Form::Json {
        return say_json(&report);
    }
    for skipped in &report.skipped {
        note(format_args!(
            "skipped {}: {}",
            skipped.model, skipped.reason
        ));
    }
    for ignored in &report.ignored {
        note(format_args!(
            "left out {} of {} models",
            ignored.field, ignored.models
        ));
    }
    say(format_args!(
        "{} imported, {} unchanged, {} skipped: version {}",
        report.imported.len(),
        report.unchanged.len(),
        report.skipped.len(),
        report.version
    ))
}
