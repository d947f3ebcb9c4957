//! `invoice`: what tenants are charged.

use std::path::PathBuf;

use base::{Name, PicoUsd};
use clap::{Args, Subcommand, ValueEnum};
use control::api::{
    Adjustment, AdjustmentRequest, CreditNote, CreditRequest, Invoice, InvoiceRow, InvoiceState,
    NumberRow, SplitReply,
};
use serde::de::DeserializeOwned;
use serde_json::json;
use tenancy::catalogue::Kind;

use super::download::download;
use super::resource::{item, more};
use super::{API, Context, PageArgs, TenantArgs};
use crate::client::{list, segment, with_query};
use crate::terminal::{Form, say, say_json, say_table};

/// What tenants are charged.
#[derive(Debug, Clone, Subcommand)]
pub(crate) enum InvoiceCommand {
    /// List a tenant's final invoices
    List {
        #[command(flatten)]
        place: TenantArgs,
        #[command(flatten)]
        page: PageArgs,
    },
    /// Show an invoice; of a month that is not final a draft
    Show {
        /// The month, `2026-10`, or the invoice's number
        id: String,
        #[command(flatten)]
        place: TenantArgs,
    },
    /// Make a month's invoice final: it gets its number, and never changes
    Finalise {
        /// The month: `2026-10`
        period: String,
        #[command(flatten)]
        place: TenantArgs,
    },
    /// Write an invoice as JSON, CSV or PDF
    Export(ExportArgs),
    /// Give back an amount of a final invoice
    Credit(CreditArgs),
    /// List a tenant's credit notes
    Credits {
        #[command(flatten)]
        place: TenantArgs,
        #[command(flatten)]
        page: PageArgs,
    },
    /// Add an amount to an invoice that is not final yet
    Adjust(AdjustArgs),
    /// List what was added to a tenant's invoices
    Adjustments {
        #[command(flatten)]
        place: TenantArgs,
        #[command(flatten)]
        page: PageArgs,
    },
    /// Show how a shared cost of a month is split
    Split {
        /// The shared cost
        name: Name,
        /// The month: `2026-10`
        period: String,
    },
    /// List the numbers of a series, of all tenants
    Numbers {
        /// The series; credit notes have one that ends in `-credit`
        #[arg(long, default_value = "inv")]
        series: String,
        #[command(flatten)]
        page: PageArgs,
    },
}

/// Which invoice, and how.
#[derive(Debug, Clone, Args)]
pub(crate) struct ExportArgs {
    /// The month, `2026-10`, or the invoice's number
    id: String,
    #[command(flatten)]
    place: TenantArgs,
    /// The form
    #[arg(long, value_enum)]
    format: InvoiceForm,
    /// The file; standard output by default
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum InvoiceForm {
    Json,
    Csv,
    Pdf,
}

/// What is given back.
#[derive(Debug, Clone, Args)]
pub(crate) struct CreditArgs {
    /// The month, `2026-10`, or the invoice's number
    id: String,
    #[command(flatten)]
    place: TenantArgs,
    /// How much, in dollars and cents
    #[arg(long, value_name = "DOLLARS")]
    amount: PicoUsd,
    /// What it is made under, such as a ticket: of one reference there is one credit note
    #[arg(long, value_name = "NAME")]
    reference: Name,
    /// Why: it stands on the credit note
    #[arg(long, value_name = "TEXT")]
    because: String,
}

/// What is added.
#[derive(Debug, Clone, Args)]
pub(crate) struct AdjustArgs {
    /// The month on whose invoice it is to be: `2026-10`
    period: String,
    #[command(flatten)]
    place: TenantArgs,
    /// How much, in dollars; less than nothing takes off
    #[arg(long, value_name = "DOLLARS", allow_negative_numbers = true)]
    amount: PicoUsd,
    /// What it is made under, such as a ticket: of one reference and month there is one
    #[arg(long, value_name = "NAME")]
    reference: Name,
    /// What the invoice is to say
    #[arg(long, value_name = "TEXT")]
    description: String,
}

/// Does it.
///
/// # Errors
///
/// What the API refuses, in its words.
pub(crate) async fn run(context: &mut Context<'_>, command: InvoiceCommand) -> anyhow::Result<()> {
    match command {
        InvoiceCommand::List { place, page } => {
            let columns = ["number", "period", "total", "credited", "final since"];
            let row = |row: InvoiceRow| {
                let at = row.finalised_at.to_string();
                let total = row.total.to_string();
                vec![row.number, row.period, total, row.credited.to_string(), at]
            };
            listed(context, &of(&place, "invoices"), &page, &columns, row).await
        }
        InvoiceCommand::Show { id, place } => {
            let invoice: Invoice = context.client.get(&one(&place, &id)).await?;
            show(context.form, &invoice)
        }
        InvoiceCommand::Finalise { period, place } => {
            let path = format!("{}/finalise", one(&place, &period));
            let invoice: Invoice = context.client.post(&path, &json!({})).await?;
            show(context.form, &invoice)
        }
        InvoiceCommand::Export(args) => export(context, args).await,
        InvoiceCommand::Credit(args) => credit(context, args).await,
        InvoiceCommand::Credits { place, page } => {
            let columns = [
                "number",
                "invoice",
                "period",
                "amount",
                "reference",
                "reason",
            ];
            let row = |note: CreditNote| {
                let (amount, reference) = (note.amount.to_string(), note.reference.to_string());
                vec![
                    note.number,
                    note.invoice,
                    note.period,
                    amount,
                    reference,
                    note.reason,
                ]
            };
            listed(context, &of(&place, "credit-notes"), &page, &columns, row).await
        }
        InvoiceCommand::Adjust(args) => adjust(context, args).await,
        InvoiceCommand::Adjustments { place, page } => {
            let columns = ["period", "reference", "amount", "description", "by"];
            let row = |it: Adjustment| {
                let (amount, reference) = (it.amount.to_string(), it.reference.to_string());
                vec![it.period, reference, amount, it.description, it.made_by]
            };
            listed(context, &of(&place, "adjustments"), &page, &columns, row).await
        }
        InvoiceCommand::Split { name, period } => {
            let path = format!("{API}/shared-costs/{name}/splits/{}", segment(&period));
            let split: SplitReply = context.client.get(&path).await?;
            if context.form == Form::Json {
                return say_json(&split);
            }
            let parts = split.parts.iter();
            let rows = parts.map(|(tenant, part)| vec![tenant.to_string(), part.to_string()]);
            say_table(&["tenant", "part"], rows.collect())?;
            let is_fixed = if split.is_fixed { "fixed" } else { "as of now" };
            say(format_args!(
                "{} {}, {is_fixed}",
                split.amount, split.method
            ))
        }
        InvoiceCommand::Numbers { series, page } => {
            let columns = ["number", "tenant", "document", "at", "sha-256"];
            let row = |it: NumberRow| {
                vec![
                    it.number,
                    it.tenant,
                    it.document,
                    it.at.to_string(),
                    it.digest,
                ]
            };
            let path = format!("{API}/invoice-numbers");
            let mut parameters = page.parameters();
            parameters.push(("series", Some(series)));
            table(context, &path, &page, parameters, &columns, row).await
        }
    }
}

fn of(place: &TenantArgs, what: &str) -> String {
    format!("{}/{what}", item(Kind::Tenant, None, place.tenant.as_str()))
}

fn one(place: &TenantArgs, id: &str) -> String {
    format!("{}/{}", of(place, "invoices"), segment(id))
}

async fn listed<T: DeserializeOwned>(
    context: &mut Context<'_>,
    path: &str,
    page: &PageArgs,
    columns: &[&str],
    row: impl Fn(T) -> Vec<String>,
) -> anyhow::Result<()> {
    table(context, path, page, page.parameters(), columns, row).await
}

async fn table<T: DeserializeOwned>(
    context: &mut Context<'_>,
    path: &str,
    page: &PageArgs,
    parameters: Vec<(&str, Option<String>)>,
    columns: &[&str],
    row: impl Fn(T) -> Vec<String>,
) -> anyhow::Result<()> {
    let found = list(&mut context.client, path, page.pages(), parameters).await?;
    if context.form == Form::Json {
        return say_json(&json!({"data": found.rows, "next_cursor": found.next_cursor}));
    }
    let rows = found.rows.into_iter().map(serde_json::from_value);
    let rows: Vec<T> = rows.collect::<Result<_, _>>()?;
    say_table(columns, rows.into_iter().map(row).collect())?;
    more(found.next_cursor.as_deref());
    Ok(())
}

fn show(form: Form, invoice: &Invoice) -> anyhow::Result<()> {
    if form == Form::Json {
        return say_json(invoice);
    }
    let title = match (invoice.state, &invoice.number) {
        (InvoiceState::Final, Some(number)) => number.as_str(),
        _ => "draft",
    };
    say(format_args!(
        "{title}: {} for {} ({} to {})",
        invoice.customer, invoice.period, invoice.from, invoice.until
    ))?;
    let rows = invoice.lines.iter().map(|line| {
        let from = line.from.map(|from| from.to_string()).unwrap_or_default();
        let cost = line.cost.map(|cost| cost.to_string()).unwrap_or_default();
        let calls = match line.calls {
            0 => String::new(),
            calls => calls.to_string(),
        };
        let kind = line.kind.as_str().to_owned();
        let amount = line.amount.to_string();
        vec![kind, line.description.clone(), from, calls, cost, amount]
    });
    let columns = ["kind", "what", "from", "calls", "cost", "charged"];
    say_table(&columns, rows.collect())?;
    if invoice.unsettled > 0 {
        say(format_args!(
            "{} call(s) are not settled and count at their upper bound",
            invoice.unsettled
        ))?;
    }
    say(format_args!(
        "total: {} {}",
        invoice.total, invoice.currency
    ))
}

async fn export(context: &mut Context<'_>, args: ExportArgs) -> anyhow::Result<()> {
    let format = match args.format {
        InvoiceForm::Json => "json",
        InvoiceForm::Csv => "csv",
        InvoiceForm::Pdf => "pdf",
    };
    let path = format!("{}/export", one(&args.place, &args.id));
    let path = with_query(&path, &[("format", Some(format.to_owned()))]);
    download(context, &path, args.output).await
}

async fn credit(context: &mut Context<'_>, args: CreditArgs) -> anyhow::Result<()> {
    let path = format!("{}/credit-notes", one(&args.place, &args.id));
    let body = CreditRequest {
        reference: args.reference,
        amount: args.amount,
        reason: args.because,
    };
    let note: CreditNote = context.client.post(&path, &body).await?;
    match context.form {
        Form::Json => say_json(&note),
        Form::People => say(format_args!(
            "{}: {} {} of {} given back",
            note.number, note.amount, note.currency, note.invoice
        )),
    }
}

async fn adjust(context: &mut Context<'_>, args: AdjustArgs) -> anyhow::Result<()> {
    let body = AdjustmentRequest {
        period: args.period,
        reference: args.reference,
        amount: args.amount,
        description: args.description,
    };
    let path = of(&args.place, "adjustments");
    let made: Adjustment = context.client.post(&path, &body).await?;
    match context.form {
        Form::Json => say_json(&made),
        Form::People => say(format_args!(
            "{} is on the invoice of {}",
            made.amount, made.period
        )),
    }
}
