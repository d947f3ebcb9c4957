//! `dashboard` and `fleet`: the pages' link, and how tenants are doing.

use base::Name;
use clap::{Args, Subcommand};
use control::api::{
    Concern, FleetReply, FleetRow, HealthFigures, Quantiles, SignInLinkReply, TenantHealthReply,
};
use serde_json::json;
use tenancy::catalogue::Kind;

use super::resource::{item, more};
use super::{API, Context, PageArgs};
use crate::client::{Pages, with_query};
use crate::terminal::{Form, say, say_json, say_table};

/// The dashboard.
#[derive(Debug, Clone, Subcommand)]
pub(crate) enum DashboardCommand {
    /// Make a link that signs you in once, within ten minutes
    Link {
        /// The tenant whose administrator you are; none for operators and auditors
        #[arg(long, short, env = "PARTYWALL_TENANT", value_name = "NAME")]
        tenant: Option<Name>,
    },
}

/// How tenants did in the last hour.
#[derive(Debug, Clone, Args)]
pub(crate) struct FleetArgs {
    /// Only this tenant
    #[arg(long, short, env = "PARTYWALL_TENANT", value_name = "NAME")]
    tenant: Option<Name>,
    /// Only those whose names contain this
    #[arg(long, value_name = "TEXT")]
    name: Option<String>,
    /// Only those of this tier
    #[arg(long, value_name = "NAME")]
    tier: Option<Name>,
    /// Only those that need a look: `watch` or `urgent`
    #[arg(long, value_parser = ["watch", "urgent"], value_name = "CONCERN")]
    concern: Option<String>,
    /// What comes first
    #[arg(long, value_parser = ["concern", "name", "calls", "budget", "failures", "duration"])]
    sort: Option<String>,
    #[command(flatten)]
    page: PageArgs,
}

/// The dashboard's commands.
///
/// # Errors
///
/// What the API refuses, in its words.
pub(crate) async fn run(
    context: &mut Context<'_>,
    command: DashboardCommand,
) -> anyhow::Result<()> {
    let DashboardCommand::Link { tenant } = command;
    let path = match &tenant {
        Some(tenant) => format!(
            "{}/dashboard/links",
            item(Kind::Tenant, None, tenant.as_str())
        ),
        None => format!("{API}/dashboard/links"),
    };
    let reply: SignInLinkReply = context.client.post(&path, &json!({})).await?;
    let url = format!("{}{}", context.client.address(), reply.path);
    match context.form {
        Form::Json => say_json(&json!({"url": url, "expires_at": reply.expires_at})),
        Form::People => say(format_args!(
            "{url}\nIt signs you in once, until {}.",
            reply.expires_at
        )),
    }
}

/// Shows how tenants are doing.
///
/// # Errors
///
/// What the API refuses, in its words.
pub(crate) async fn fleet(context: &mut Context<'_>, args: FleetArgs) -> anyhow::Result<()> {
    if let Some(tenant) = &args.tenant {
        let path = format!("{}/health", item(Kind::Tenant, None, tenant.as_str()));
        let reply: TenantHealthReply = context.client.get(&path).await?;
        return match context.form {
            Form::Json => say_json(&reply),
            Form::People => say_tenant(tenant, &reply),
        };
    }
    let mut parameters = args.page.parameters();
    parameters.push(("name", args.name.clone()));
    parameters.push(("tier", args.tier.as_ref().map(ToString::to_string)));
    parameters.push(("concern", args.concern.clone()));
    parameters.push(("sort", args.sort.clone()));
    let path = format!("{API}/fleet");
    let mut reply: FleetReply = context.client.get(&with_query(&path, &parameters)).await?;
    while let Some(cursor) = reply.next_cursor.take() {
        if args.page.pages() == Pages::First {
            reply.next_cursor = Some(cursor);
            break;
        }
        parameters.retain(|(name, _)| *name != "cursor");
        parameters.push(("cursor", Some(cursor)));
        let page: FleetReply = context.client.get(&with_query(&path, &parameters)).await?;
        reply.data.extend(page.data);
        reply.next_cursor = page.next_cursor;
    }
    if context.form == Form::Json {
        return say_json(&reply);
    }
    let header = [
        "tenant",
        "tier",
        "state",
        "why",
        "budget",
        "calls",
        "failed",
        "refused",
        "p50",
        "p95",
        "first byte",
        "queue",
    ];
    say_table(&header, reply.data.iter().map(row).collect())?;
    say(format_args!(
        "{} tenants: {} urgent, {} to watch, {} suspended; counted since {}",
        reply.tenants, reply.urgent, reply.watch, reply.suspended, reply.since
    ))?;
    for silent in &reply.silent_replicas {
        say(format_args!(
            "replica {} is silent since {}: what it served since then is missing",
            silent.replica, silent.since
        ))?;
    }
    more(reply.next_cursor.as_deref());
    Ok(())
}

fn row(row: &FleetRow) -> Vec<String> {
    let state = match row.concern {
        _ if row.suspended => "suspended",
        concern => word(concern),
    };
    let budget = row.budget.as_ref();
    let health = &row.health;
    vec![
        row.tenant.to_string(),
        row.tier.to_string(),
        state.to_owned(),
        row.reasons.join("; "),
        budget.map_or("-".to_owned(), |it| format!("{}%", it.used_permille / 10)),
        health.calls.to_string(),
        health.failed.to_string(),
        health.refused.to_string(),
        millis(health.duration.map(|it| it.p50_ms)),
        millis(health.duration.map(|it| it.p95_ms)),
        millis(health.first_chunk.map(|it| it.p95_ms)),
        millis(health.queue_wait.map(|it| it.p95_ms)),
    ]
}

const fn word(concern: Concern) -> &'static str {
    match concern {
        Concern::Well => "well",
        Concern::Watch => "watch",
        Concern::Urgent => "urgent",
    }
}

fn millis(value: Option<u64>) -> String {
    value.map_or("-".to_owned(), |millis| format!("{millis} ms"))
}

fn say_tenant(tenant: &Name, reply: &TenantHealthReply) -> anyhow::Result<()> {
    let why = match reply.reasons.as_slice() {
        [] => "nothing needs a look".to_owned(),
        reasons => reasons.join("; "),
    };
    say(format_args!("{tenant}: {}, {why}", word(reply.concern)))?;
    let HealthFigures {
        calls,
        failed,
        refused,
        abandoned,
        ..
    } = reply.health;
    say(format_args!(
        "{calls} calls since {}: {failed} failed, {refused} refused, {abandoned} abandoned",
        reply.since
    ))?;
    if let Some(since) = reply.incomplete_since {
        say(format_args!(
            "some calls since {since} may be missing: a replica is silent"
        ))?;
    }
    let three = |what: &str, of: Option<Quantiles>| {
        let values = [
            of.map(|it| it.p50_ms),
            of.map(|it| it.p95_ms),
            of.map(|it| it.p99_ms),
        ];
        std::iter::once(what.to_owned())
            .chain(values.map(millis))
            .collect()
    };
    let rows = vec![
        three("duration", reply.health.duration),
        three("first byte", reply.health.first_chunk),
        three("queue wait", reply.health.queue_wait),
    ];
    say_table(&["of the last hour", "p50", "p95", "p99"], rows)
}
