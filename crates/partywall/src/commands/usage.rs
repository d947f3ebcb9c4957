//! `usage`, `budget status` and `ledger verify`: where the money went.

use anyhow::bail;
use base::Name;
use clap::{Args, Subcommand};
use control::api::{BudgetStatusReply, LedgerCheck, UsageRow};
use serde_json::json;
use tenancy::catalogue::Kind;

use super::fields::BudgetFields;
use super::resource::{ResourceCommand, collection, item, more};
use super::{API, Context, PageArgs, TenantArgs, resource};
use crate::client::list;
use crate::terminal::{Form, say, say_json, say_table};

/// What was used, and what it cost.
#[derive(Debug, Clone, Args)]
pub(crate) struct UsageArgs {
    /// What to tell apart: of `tenant`, `team`, `user`, `key`, `feature`, `model`, `version`,
    /// `upstream`, `hop`, one of `month`, `day` and `hour` and, for one tenant, `session`
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
    /// Comma-separated values, for a spreadsheet; follows the pages to the end
    #[arg(long)]
    csv: bool,
    #[command(flatten)]
    page: PageArgs,
}

/// Budgets of tenants.
#[derive(Debug, Clone, Subcommand)]
pub(crate) enum BudgetCommand {
    #[command(flatten)]
    Resource(ResourceCommand<BudgetFields>),
    /// Show what is spent, held and left
    Status {
        #[command(flatten)]
        place: TenantArgs,
    },
}

pub(super) const AMOUNTS: [&str; 8] = [
    "requests",
    "calls",
    "cache_hits",
    "input_tokens",
    "cached_tokens",
    "cached_write_tokens",
    "output_tokens",
    "cost",
];

/// Shows usage.
///
/// # Errors
///
/// What the API refuses, in its words.
pub(crate) async fn usage(context: &mut Context<'_>, args: UsageArgs) -> anyhow::Result<()> {
    let path = match &args.tenant {
        Some(tenant) => format!("{}/usage", item(Kind::Tenant, None, tenant.as_str())),
        None => format!("{API}/usage"),
    };
    let mut parameters = args.page.parameters();
    parameters.push(("group_by", args.by.clone()));
    parameters.push(("from", args.from.clone()));
    parameters.push(("to", args.to.clone()));
    let pages = if args.csv {
        crate::client::Pages::All
    } else {
        args.page.pages()
    };
    let listed = list(&mut context.client, &path, pages, parameters).await?;
    if context.form == Form::Json {
        return say_json(&json!({"data": listed.rows, "next_cursor": listed.next_cursor}));
    }
    let rows: Vec<UsageRow> = listed
        .rows
        .into_iter()
        .map(serde_json::from_value)
        .collect::<Result<_, _>>()?;
    let dimensions: Vec<&str> = args
        .by
        .as_deref()
        .map(|by| by.split(',').collect())
        .unwrap_or_default();
    let header: Vec<&str> = dimensions.iter().copied().chain(AMOUNTS).collect();
    let rows: Vec<Vec<String>> = rows.iter().map(|row| amounts(row, &dimensions)).collect();
    if args.csv {
        let lines = std::iter::once(csv_line(&header)).chain(rows.iter().map(|row| csv_line(row)));
        return say(lines.collect::<Vec<_>>().join("\n"));
    }
    say_table(&header, rows)?;
    more(listed.next_cursor.as_deref());
    Ok(())
}

pub(super) fn amounts(row: &UsageRow, dimensions: &[&str]) -> Vec<String> {
    let group = dimensions
        .iter()
        .map(|dimension| row.group.get(*dimension).cloned().unwrap_or_default());
    let numbers = [
        row.requests.to_string(),
        row.calls.to_string(),
        row.cache_hits.to_string(),
        row.input_tokens.to_string(),
        row.cached_tokens.to_string(),
        row.cached_write_tokens.to_string(),
        row.output_tokens.to_string(),
        row.cost.to_string(),
    ];
    group.chain(numbers).collect()
}

/// A line of RFC 4180. A field that a spreadsheet would take for a formula is quoted as text.
pub(super) fn csv_line<T: AsRef<str>>(fields: &[T]) -> String {
    let field = |text: &str| {
        let is_formula = text.starts_with(['=', '+', '-', '@']) && text.parse::<f64>().is_err();
        let text = if is_formula {
            format!("'{text}")
        } else {
            text.to_owned()
        };
        if text.contains([',', '"', '\n', '\r']) {
            format!("\"{}\"", text.replace('"', "\"\""))
        } else {
            text
        }
    };
    let fields: Vec<String> = fields.iter().map(|text| field(text.as_ref())).collect();
    fields.join(",")
}

/// Budgets: the usual, and their state.
///
/// # Errors
///
/// What the API refuses, in its words.
pub(crate) async fn budget(
    context: &mut Context<'_>,
    command: BudgetCommand,
) -> anyhow::Result<()> {
    let place = match command {
        BudgetCommand::Resource(command) => return resource::run(context, command).await,
        BudgetCommand::Status { place } => place,
    };
    let path = format!("{}/status", collection(Kind::Budget, Some(&place.tenant)));
    let reply: BudgetStatusReply = context.client.get(&path).await?;
    if context.form == Form::Json {
        return say_json(&reply);
    }
    let rows = reply.data.into_iter().map(|row| {
        let left = row.limit.saturating_sub(row.spent + row.held);
        vec![
            row.budget.to_string(),
            row.subject,
            row.limit.to_string(),
            row.spent.to_string(),
            row.held.to_string(),
            left.to_string(),
            row.window_ends_at
                .map(|time| time.to_string())
                .unwrap_or_default(),
        ]
    });
    let header = [
        "budget",
        "subject",
        "limit",
        "spent",
        "held",
        "left",
        "window ends",
    ];
    say_table(&header, rows.collect())
}

/// Checks the ledger; a problem is a failure.
///
/// # Errors
///
/// If something is wrong with it, or what the API refuses.
pub(crate) async fn verify_ledger(context: &mut Context<'_>) -> anyhow::Result<()> {
    let check: LedgerCheck = context.client.get(&format!("{API}/ledger/verify")).await?;
    match context.form {
        Form::Json => say_json(&check)?,
        Form::People => say(format_args!(
            "{} records read: {} calls dispatched, {} settled, {} released, {} reconciled, {} \
             open; {} dollars, {} of them beyond what was held",
            check.records,
            check.attempts,
            check.settled,
            check.released,
            check.reconciled,
            check.open,
            check.cost,
            check.overshoot
        ))?,
    }
    if check.ok {
        return Ok(());
    }
    bail!(
        "{} things are wrong with the ledger:\n  {}",
        check.fault_count,
        check.faults.join("\n  ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_of_csv_is_quoted_when_it_must_be() {
        assert_eq!(
            csv_line(&["a", "b,c", "d\"e", "-1.5"]),
            "a,\"b,c\",\"d\"\"e\",-1.5"
        );
        assert_eq!(csv_line(&["=HYPERLINK(1)"]), "'=HYPERLINK(1)");
    }

    #[test]
    fn a_row_has_its_dimensions_in_the_order_asked_for() {
        let row: UsageRow = serde_json::from_value(json!({
            "group": {"model": "m", "day": "2026-01-31"}, "requests": 2, "calls": 5, "unsettled": 0,
            "cache_hits": 6, "input_tokens": 3, "cached_tokens": 1, "cached_write_tokens": 7,
            "cached_write_1h_tokens": 0, "output_tokens": 4, "cost": "0.000025",
        }))
        .unwrap();
        let cells = amounts(&row, &["day", "model"]);
        assert_eq!(
            cells,
            [
                "2026-01-31",
                "m",
                "2",
                "5",
                "6",
                "3",
                "1",
                "7",
                "4",
                "0.000025"
            ]
        );
    }
}
