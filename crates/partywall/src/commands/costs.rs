//! `costs`: where the money went, by any cut.

use std::path::PathBuf;

use base::Name;
use clap::{Args, Subcommand, ValueEnum};
use control::api::{PushReply, UsageRow};
use serde_json::json;
use tenancy::catalogue::Kind;

use super::download::download;
use super::resource::{item, more};
use super::usage::{AMOUNTS, amounts, csv_line};
use super::{API, Context, PageArgs};
use crate::client::{Pages, list, with_query};
use crate::terminal::{Form, say, say_json, say_table};

/// Where the money went.
#[derive(Debug, Clone, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct CostsArgs {
    #[command(subcommand)]
    command: Option<CostsCommand>,
    #[command(flatten)]
    asked: Asked,
}

/// What else is done with costs.
#[derive(Debug, Clone, Subcommand)]
enum CostsCommand {
    /// Write costs or usage events in a form that other programs read
    Export(ExportArgs),
    /// Push days of all tenants' costs to the configured bucket, whatever was pushed before
    Push(PushArgs),
}

/// What is pushed.
#[derive(Debug, Clone, Args)]
struct PushArgs {
    /// From this UTC day on
    #[arg(long, value_name = "DAY")]
    from: String,
    /// Up to this UTC day, itself not included: 31 days at most
    #[arg(long, value_name = "DAY")]
    to: String,
}

/// What is exported.
#[derive(Debug, Clone, Args)]
struct ExportArgs {
    /// In which form: FOCUS 1.4 as CSV or Parquet; a tenant's calls as events for OpenMeter or Stripe
    #[arg(long, value_enum)]
    format: ExportFormat,
    /// From this UTC day on
    #[arg(long, value_name = "DAY")]
    from: String,
    /// Up to this UTC day, itself not included
    #[arg(long, value_name = "DAY")]
    to: String,
    /// Only this tenant's; else all tenants', in one file
    #[arg(long, short, env = "PARTYWALL_TENANT", value_name = "NAME")]
    tenant: Option<Name>,
    /// Who issues the invoices, as FOCUS says it; the installation's id by default
    #[arg(long, value_name = "TEXT")]
    issuer: Option<String>,
    /// What the service that bills calls the customer (`cus_…`), in events; the tenant's name by default
    #[arg(long, value_name = "ID")]
    customer: Option<String>,
    /// The file; standard output by default
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum ExportFormat {
    FocusCsv,
    FocusParquet,
    Openmeter,
    Stripe,
}

/// Which costs are shown.
#[derive(Debug, Clone, Args)]
struct Asked {
    /// What to tell apart: of `team`, `user`, `key`, `feature`, `model`, `version`,
    /// `price_version`, `upstream`, `hop`, `session`, and `tenant` where it is all of them
    #[arg(long, value_name = "A,B,…")]
    by: Option<String>,
    /// Only this tenant's
    #[arg(long, short, env = "PARTYWALL_TENANT", value_name = "NAME")]
    tenant: Option<Name>,
    /// From this time or day on (UTC)
    #[arg(long, value_name = "TIME")]
    from: Option<String>,
    /// Up to this time or day, itself not included
    #[arg(long, value_name = "TIME")]
    to: Option<String>,
    /// Over which time costs are added up, UTC
    #[arg(long, value_enum, default_value_t)]
    granularity: Granularity,
    /// In which order rows come
    #[arg(long, value_enum, default_value_t)]
    sort: Order,
    /// Only these: `feature=chat`, `model=gpt-4o`, `hop=guard`, …
    #[arg(long = "only", value_name = "AXIS=VALUE", value_parser = only)]
    only: Vec<(&'static str, String)>,
    /// Comma-separated values, for a spreadsheet; follows the pages to the end
    #[arg(long)]
    csv: bool,
    #[command(flatten)]
    page: PageArgs,
}

#[derive(Debug, Clone, Copy, Default, ValueEnum)]
enum Granularity {
    #[default]
    Total,
    Month,
    Day,
    Hour,
}

#[derive(Debug, Clone, Copy, Default, ValueEnum)]
enum Order {
    /// By what tells rows apart, time first
    #[default]
    Group,
    /// The dearest first
    Cost,
}

/// The axes that can be narrowed; the API says which of them it takes.
const AXES: [&str; 9] = [
    "team", "user", "key", "feature", "model", "version", "upstream", "hop", "session",
];

fn only(text: &str) -> Result<(&'static str, String), String> {
    let (axis, value) = text
        .split_once('=')
        .ok_or("say AXIS=VALUE: `model=gpt-4o`")?;
    let known = AXES.into_iter().find(|known| *known == axis);
    let unknown = || format!("`{axis}` is none of {}", AXES.join(", "));
    Ok((known.ok_or_else(unknown)?, value.to_owned()))
}

/// Shows costs.
///
/// # Errors
///
/// What the API refuses, in its words.
pub(crate) async fn run(context: &mut Context<'_>, args: CostsArgs) -> anyhow::Result<()> {
    match args.command {
        Some(CostsCommand::Export(export)) => run_export(context, export).await,
        Some(CostsCommand::Push(push)) => run_push(context, push).await,
        None => show(context, args.asked).await,
    }
}

async fn run_export(context: &mut Context<'_>, args: ExportArgs) -> anyhow::Result<()> {
    let path = match &args.tenant {
        Some(tenant) => format!("{}/costs/export", item(Kind::Tenant, None, tenant.as_str())),
        None => format!("{API}/costs/export"),
    };
    let format = match args.format {
        ExportFormat::FocusCsv => "focus-csv",
        ExportFormat::FocusParquet => "focus-parquet",
        ExportFormat::Openmeter => "openmeter",
        ExportFormat::Stripe => "stripe",
    };
    let parameters = [
        ("format", Some(format.to_owned())),
        ("from", Some(args.from)),
        ("to", Some(args.to)),
        ("issuer", args.issuer),
        ("customer", args.customer),
    ];
    let path = with_query(&path, &parameters);
    download(context, &path, args.output).await
}

async fn run_push(context: &mut Context<'_>, args: PushArgs) -> anyhow::Result<()> {
    let body = json!({"from": args.from, "to": args.to});
    let path = format!("{API}/costs/push");
    let reply = context.client.post(&path, &body).await?;
    if context.form == Form::Json {
        return say_json(&reply);
    }
    let reply: PushReply = serde_json::from_value(reply)?;
    let rows = reply.days.iter().flat_map(|day| {
        let files = day.files.iter();
        files.map(|file| vec![day.day.clone(), file.key.clone(), file.bytes.to_string()])
    });
    say_table(&["day", "key", "bytes"], rows.collect::<Vec<_>>())
}

async fn show(context: &mut Context<'_>, args: Asked) -> anyhow::Result<()> {
    let path = match &args.tenant {
        Some(tenant) => format!("{}/costs", item(Kind::Tenant, None, tenant.as_str())),
        None => format!("{API}/costs"),
    };
    let (granularity, time) = match args.granularity {
        Granularity::Total => ("total", None),
        Granularity::Month => ("month", Some("month")),
        Granularity::Day => ("day", Some("day")),
        Granularity::Hour => ("hour", Some("hour")),
    };
    let sort = match args.sort {
        Order::Group => "group",
        Order::Cost => "cost",
    };
    let mut parameters = args.page.parameters();
    parameters.push(("by", args.by.clone()));
    parameters.push(("from", args.from.clone()));
    parameters.push(("to", args.to.clone()));
    parameters.push(("granularity", Some(granularity.to_owned())));
    parameters.push(("sort", Some(sort.to_owned())));
    parameters.extend(
        args.only
            .iter()
            .map(|(axis, value)| (*axis, Some(value.clone()))),
    );
    let pages = if args.csv {
        Pages::All
    } else {
        args.page.pages()
    };
    let listed = list(&mut context.client, &path, pages, parameters).await?;
    if context.form == Form::Json {
        return say_json(&json!({"data": listed.rows, "next_cursor": listed.next_cursor}));
    }
    let rows = listed.rows.into_iter().map(serde_json::from_value);
    let rows: Vec<UsageRow> = rows.collect::<Result<_, _>>()?;
    let by = args.by.as_deref().unwrap_or_default();
    let axes = by.split(',').filter(|axis| !axis.is_empty());
    let axes: Vec<&str> = time.into_iter().chain(axes).collect();
    let header: Vec<&str> = axes.iter().copied().chain(AMOUNTS).collect();
    let rows: Vec<Vec<String>> = rows.iter().map(|row| amounts(row, &axes)).collect();
    if args.csv {
        let lines = std::iter::once(csv_line(&header)).chain(rows.iter().map(|row| csv_line(row)));
        return say(lines.collect::<Vec<_>>().join("\n"));
    }
    say_table(&header, rows)?;
    more(listed.next_cursor.as_deref());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wanted_alone_is_an_axis_and_its_value() {
        assert_eq!(only("model=a=b"), Ok(("model", "a=b".to_owned())));
        assert!(only("moon=1").is_err() && only("model").is_err());
    }
}
