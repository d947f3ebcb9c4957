//! `ledger`: whether the money adds up, and what an upstream's bill says of what is open.

use anyhow::bail;
use base::{AttemptId, Name, PicoUsd};
use clap::{Args, Subcommand};
use control::api::{
    RebuildReply, ReconcileLeaseReply, ReconcileLeaseRequest, ReconcileReply, ReconcileRequest,
    UnsettledRow,
};
use serde_json::json;
use tenancy::catalogue::Kind;

use super::resource::{collection, item, more};
use super::usage::verify_ledger;
use super::{Context, PageArgs, TenantArgs};
use crate::client::{Pages, list};
use crate::terminal::{Form, say, say_json, say_table};

/// The ledger.
#[derive(Debug, Clone, Subcommand)]
pub(crate) enum LedgerCommand {
    /// Check that the money adds up
    Verify,
    /// List what counts as spent though its cost is not known
    Unsettled {
        #[command(flatten)]
        place: TenantArgs,
        #[command(flatten)]
        page: PageArgs,
    },
    /// Say what an unsettled call cost
    Reconcile {
        /// The call: `att_…`
        attempt: AttemptId,
        #[command(flatten)]
        place: TenantArgs,
        /// What its upstream billed, in dollars
        #[arg(long, value_name = "DOLLARS")]
        cost: PicoUsd,
    },
    /// Add up all lines again, and correct sums that differ
    Rebuild {
        /// Only this tenant's; else all tenants', one after the other
        #[arg(long, short, env = "PARTYWALL_TENANT", value_name = "NAME")]
        tenant: Option<Name>,
    },
    /// Say what of a crashed lease was not spent
    ReconcileLease(LeaseArgs),
}

/// Which crashed lease, and how much of it was not spent.
#[derive(Debug, Clone, Args)]
pub(crate) struct LeaseArgs {
    #[command(flatten)]
    place: TenantArgs,
    /// The budget
    #[arg(long, value_name = "NAME")]
    budget: Name,
    /// Whose spending counted, as `ledger unsettled` shows it; needed if there are several
    #[arg(long, value_name = "SUBJECT")]
    subject: Option<String>,
    /// What no upstream billed, in dollars
    #[arg(long, value_name = "DOLLARS", required_unless_present = "all")]
    unspent: Option<PicoUsd>,
    /// Nothing of it was billed
    #[arg(long, conflicts_with = "unspent")]
    all: bool,
}

/// Does it.
///
/// # Errors
///
/// If something is wrong with the ledger, or what the API refuses, in its words.
pub(crate) async fn run(context: &mut Context<'_>, command: LedgerCommand) -> anyhow::Result<()> {
    match command {
        LedgerCommand::Verify => verify_ledger(context).await,
        LedgerCommand::Unsettled { place, page } => unsettled(context, &place, &page).await,
        LedgerCommand::Reconcile {
            attempt,
            place,
            cost,
        } => {
            let tenant = item(Kind::Tenant, None, place.tenant.as_str());
            let path = format!("{tenant}/unsettled/{attempt}/reconcile");
            let body = ReconcileRequest { cost };
            let reply: ReconcileReply = context.client.post(&path, &body).await?;
            match context.form {
                Form::Json => say_json(&reply),
                Form::People => say(format_args!("{} cost {}", reply.attempt, reply.cost)),
            }
        }
        LedgerCommand::Rebuild { tenant } => rebuild(context, tenant).await,
        LedgerCommand::ReconcileLease(args) => reconcile_lease(context, args).await,
    }
}

async fn rebuild(context: &mut Context<'_>, tenant: Option<Name>) -> anyhow::Result<()> {
    let tenants = match tenant {
        Some(tenant) => vec![tenant.to_string()],
        None => {
            let path = collection(Kind::Tenant, None);
            let listed = list(&mut context.client, &path, Pages::All, Vec::new()).await?;
            let names = listed.rows.iter().filter_map(|row| row["name"].as_str());
            names.map(str::to_owned).collect()
        }
    };
    let mut corrected = 0;
    for tenant in tenants {
        let path = format!("{}/ledger/rebuild", item(Kind::Tenant, None, &tenant));
        let reply: RebuildReply = context.client.post(&path, &json!({})).await?;
        corrected += reply.corrected;
        match context.form {
            Form::Json => say_json(&json!({"tenant": tenant, "rebuilt": reply}))?,
            Form::People => say(format_args!(
                "{tenant}: {} lines, {} sums, {} of them corrected",
                reply.lines, reply.sums, reply.corrected
            ))?,
        }
    }
    if corrected > 0 {
        bail!("{corrected} sums differed from their lines, and are corrected now");
    }
    Ok(())
}

async fn unsettled(
    context: &mut Context<'_>,
    place: &TenantArgs,
    page: &PageArgs,
) -> anyhow::Result<()> {
    let tenant = item(Kind::Tenant, None, place.tenant.as_str());
    let path = format!("{tenant}/unsettled");
    let listed = list(&mut context.client, &path, page.pages(), page.parameters()).await?;
    if context.form == Form::Json {
        return say_json(&json!({"data": listed.rows, "next_cursor": listed.next_cursor}));
    }
    let mut rows = Vec::new();
    for row in listed.rows {
        rows.push(match serde_json::from_value(row)? {
            UnsettledRow::Call {
                attempt,
                amount,
                since,
            } => vec![
                "call".to_owned(),
                attempt.to_string(),
                amount.to_string(),
                since.to_string(),
            ],
            UnsettledRow::Lease {
                budget,
                subject,
                amount,
            } => vec![
                "lease".to_owned(),
                format!("{budget} {subject}"),
                amount.to_string(),
                String::new(),
            ],
        });
    }
    say_table(&["what", "which", "counts", "since"], rows)?;
    more(listed.next_cursor.as_deref());
    Ok(())
}

async fn reconcile_lease(context: &mut Context<'_>, args: LeaseArgs) -> anyhow::Result<()> {
    let tenant = item(Kind::Tenant, None, args.place.tenant.as_str());
    let body = ReconcileLeaseRequest {
        budget: args.budget,
        subject: args.subject,
        unspent: args.unspent,
        all: args.all,
    };
    let path = format!("{tenant}/leases/reconcile");
    let reply: ReconcileLeaseReply = context.client.post(&path, &body).await?;
    match context.form {
        Form::Json => say_json(&reply),
        Form::People => say(format_args!(
            "{} of {} given back to budget {} ({}); {} still counts",
            reply.unspent,
            reply.unspent + reply.unreported,
            reply.budget,
            reply.subject,
            reply.unreported
        )),
    }
}
