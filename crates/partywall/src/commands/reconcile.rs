//! `reconcile`: what providers billed beside what the ledger has, and the ends of calls that nobody
//! saw.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Context as _, bail};
use base::{AttemptId, Name, PicoUsd, Timestamp};
use clap::{Args, Subcommand, ValueEnum};
use control::api::{
    BillImportReply, BillImportRequest, BillProvider, BillRow, ReconcileReply, ReconcileRequest,
    UnsettledRow, WriteOffRequest,
};
use serde_json::json;
use tenancy::catalogue::Kind;

use super::resource::{item, more};
use super::{API, ConfirmArgs, Context, PageArgs, TenantArgs};
use crate::client::{Pages, list};
use crate::terminal::{Form, confirm, say, say_json, say_table};

/// Providers' bills, and calls whose cost is not known.
#[derive(Debug, Clone, Subcommand)]
pub(crate) enum ReconcileCommand {
    /// Compare a provider's bill with the ledger, by day and model
    Import(ImportArgs),
    /// List the comparisons that were made
    List(PageArgs),
    /// Show one again
    Show {
        /// Its number
        id: u64,
        /// Only days and models that differ by at least so much, in dollars
        #[arg(long, value_name = "DOLLARS", default_value = "0")]
        from: PicoUsd,
    },
    /// Settle a tenant's calls whose end nobody saw, or write them off
    Unsettled(UnsettledArgs),
}

/// A bill.
#[derive(Debug, Clone, Args)]
pub(crate) struct ImportArgs {
    /// The file: CSV
    file: PathBuf,
    /// Whose export it is; `generic` has the columns `day`, `model` and `cost`
    #[arg(long, value_enum)]
    provider: Provider,
    /// An upstream whose calls are on it; may be repeated. By default those of the provider's engine
    #[arg(long = "upstream", value_name = "NAME")]
    upstreams: Vec<Name>,
    /// What the bill calls a model, and what its upstream does; may be repeated
    #[arg(long = "name", value_name = "BILL=UPSTREAM", value_parser = renamed)]
    names: Vec<(String, String)>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Provider {
    Openai,
    Anthropic,
    Generic,
}

fn renamed(text: &str) -> Result<(String, String), String> {
    let (bill, upstream) = text.split_once('=').ok_or("say BILL=UPSTREAM")?;
    Ok((bill.to_owned(), upstream.to_owned()))
}

/// Which calls, and what they cost.
#[derive(Debug, Clone, Args)]
pub(crate) struct UnsettledArgs {
    #[command(flatten)]
    place: TenantArgs,
    /// The call: `att_…`
    #[arg(required_unless_present = "before")]
    attempt: Option<AttemptId>,
    /// All of the tenant's whose cost is not known since before then
    #[arg(long, value_name = "TIME", conflicts_with = "attempt")]
    before: Option<Timestamp>,
    /// What its upstream billed, in dollars
    #[arg(long, value_name = "DOLLARS", required_unless_present = "write_off")]
    cost: Option<PicoUsd>,
    /// No upstream billed it, as far as anybody knows: why
    #[arg(long, value_name = "WHY", conflicts_with = "cost")]
    write_off: Option<String>,
    #[command(flatten)]
    confirm: ConfirmArgs,
}

/// Does it.
///
/// # Errors
///
/// What the API refuses, in its words.
pub(crate) async fn run(
    context: &mut Context<'_>,
    command: ReconcileCommand,
) -> anyhow::Result<()> {
    let root = format!("{API}/reconciliations");
    match command {
        ReconcileCommand::Import(args) => {
            let reply = import(context, &root, args).await?;
            show(context.form, &reply, PicoUsd::ZERO)
        }
        ReconcileCommand::List(page) => {
            let found = list(&mut context.client, &root, page.pages(), page.parameters()).await?;
            if context.form == Form::Json {
                return say_json(&json!({"data": found.rows, "next_cursor": found.next_cursor}));
            }
            let rows = found
                .rows
                .into_iter()
                .map(serde_json::from_value::<BillRow>);
            let rows: Vec<_> = rows
                .map(|row| {
                    let row = row?;
                    Ok(vec![
                        row.id.to_string(),
                        row.provider.as_str().to_owned(),
                        row.from.to_string(),
                        row.until.to_string(),
                        row.billed.to_string(),
                        row.ledger.to_string(),
                        row.difference.to_string(),
                    ])
                })
                .collect::<anyhow::Result<_>>()?;
            let columns = [
                "id",
                "provider",
                "from",
                "until",
                "billed",
                "ledger",
                "difference",
            ];
            say_table(&columns, rows)?;
            more(found.next_cursor.as_deref());
            Ok(())
        }
        ReconcileCommand::Show { id, from } => {
            let reply: BillImportReply = context.client.get(&format!("{root}/{id}")).await?;
            show(context.form, &reply, from)
        }
        ReconcileCommand::Unsettled(args) => unsettled(context, args).await,
    }
}

async fn import(
    context: &mut Context<'_>,
    root: &str,
    args: ImportArgs,
) -> anyhow::Result<BillImportReply> {
    let file = args.file.display();
    let csv = std::fs::read_to_string(&args.file).with_context(|| format!("reading {file}"))?;
    let names: BTreeMap<String, String> = args.names.into_iter().collect();
    let body = BillImportRequest {
        provider: match args.provider {
            Provider::Openai => BillProvider::Openai,
            Provider::Anthropic => BillProvider::Anthropic,
            Provider::Generic => BillProvider::Generic,
        },
        upstreams: args.upstreams,
        names,
        csv,
    };
    Ok(context.client.post(root, &body).await?)
}

fn show(form: Form, reply: &BillImportReply, from: PicoUsd) -> anyhow::Result<()> {
    if form == Form::Json {
        return say_json(reply);
    }
    let differs = reply.differences.iter().filter(|row| {
        let size = row.difference.pico().abs();
        size >= from.pico()
    });
    let rows = differs.map(|row| {
        vec![
            row.day.clone(),
            row.model.clone(),
            row.billed.to_string(),
            row.ledger.to_string(),
            row.difference.to_string(),
        ]
    });
    let columns = ["day", "model", "billed", "ledger", "difference"];
    say_table(&columns, rows.collect())?;
    say(format_args!(
        "{}: billed {}, in the ledger {}, difference {}",
        reply.id, reply.billed, reply.ledger, reply.difference
    ))
}

async fn unsettled(context: &mut Context<'_>, args: UnsettledArgs) -> anyhow::Result<()> {
    let tenant = item(Kind::Tenant, None, args.place.tenant.as_str());
    let attempts = match (args.attempt, args.before) {
        (Some(attempt), _) => vec![attempt],
        (None, Some(before)) => open_before(context, &tenant, before).await?,
        (None, None) => bail!("say which call, or `--before`"),
    };
    let count = attempts.len();
    let question = format!("Settle {count} call(s) of {}?", args.place.tenant);
    if args.before.is_some() && count > 0 && !args.confirm.yes && !confirm(&question)? {
        bail!("nothing was settled");
    }
    for attempt in attempts {
        let path = format!("{tenant}/unsettled/{attempt}");
        let reply: ReconcileReply = match (args.cost, &args.write_off) {
            (Some(cost), _) => {
                let body = ReconcileRequest { cost };
                context
                    .client
                    .post(&format!("{path}/reconcile"), &body)
                    .await?
            }
            (None, Some(reason)) => {
                let body = WriteOffRequest {
                    reason: reason.clone(),
                };
                context
                    .client
                    .post(&format!("{path}/write-off"), &body)
                    .await?
            }
            (None, None) => bail!("say `--cost` or `--write-off`"),
        };
        match context.form {
            Form::Json => say_json(&reply)?,
            Form::People => say(format_args!("{} cost {}", reply.attempt, reply.cost))?,
        }
    }
    Ok(())
}

async fn open_before(
    context: &mut Context<'_>,
    tenant: &str,
    before: Timestamp,
) -> anyhow::Result<Vec<AttemptId>> {
    let path = format!("{tenant}/unsettled");
    let found = list(&mut context.client, &path, Pages::All, Vec::new()).await?;
    let mut attempts = Vec::new();
    for row in found.rows {
        match serde_json::from_value(row)? {
            UnsettledRow::Call { attempt, since, .. } if since < before => attempts.push(attempt),
            UnsettledRow::Call { .. } | UnsettledRow::Lease { .. } => {}
        }
    }
    Ok(attempts)
}
