//! `upgrade`: tenants' stores come to the newest step of their schema, ring by ring.

use anyhow::bail;
use base::Name;
use clap::{Args, Subcommand};
use control::api::{UpgradeReply, UpgradeRequest, UpgradeRing, UpgradeState};
use serde_json::json;

use super::{API, Context};
use crate::terminal::{Form, say, say_json, say_table};

/// Stores that a new version of the program finds.
#[derive(Debug, Clone, Subcommand)]
pub(crate) enum UpgradeCommand {
    /// Show how far it is, ring by ring. Ends with 1 where it is halted
    Status,
    /// Begin to bring tenants' stores to the newest step of their schema, a few tenants first
    Start(StartArgs),
    /// Go on with the next ring now
    Advance,
    /// Halt it: stores that are done stay so, and the others are served as they are
    Halt,
    /// Go through the ring anew that it was halted in
    Resume,
}

/// How it goes on.
#[derive(Debug, Clone, Args)]
pub(crate) struct StartArgs {
    /// Tenants of this tier come first; may be repeated
    #[arg(long, value_name = "TIER")]
    internal_tier: Vec<Name>,
    /// This tenant comes first; may be repeated
    #[arg(long, value_name = "TENANT")]
    internal: Vec<Name>,
    /// For how long a ring is watched before the next begins
    #[arg(long, value_name = "SECONDS", default_value_t = UpgradeRequest::default().watch_seconds)]
    watch_seconds: u32,
    /// Of a thousand stores, or calls above those that failed before, at most so many may fail
    #[arg(long, value_name = "COUNT", default_value_t = UpgradeRequest::default().failed_permille_max)]
    failed_permille_max: u16,
    /// By so many percent stores may be slower than before
    #[arg(long, value_name = "PERCENT", default_value_t = UpgradeRequest::default().slower_percent_max)]
    slower_percent_max: u16,
    /// Wait for `upgrade advance` after each ring
    #[arg(long)]
    by_hand: bool,
}

/// Shows an upgrade, or changes its course.
///
/// # Errors
///
/// What the API refuses, in its words.
pub(crate) async fn run(context: &mut Context<'_>, command: UpgradeCommand) -> anyhow::Result<()> {
    let path = format!("{API}/upgrade");
    let reply: UpgradeReply = match command {
        UpgradeCommand::Status => {
            let reply: UpgradeReply = context.client.get(&path).await?;
            show(context.form, &reply)?;
            return match (reply.state, reply.reason) {
                (UpgradeState::Halted, Some(reason)) => bail!("the upgrade is halted: {reason}"),
                _ => Ok(()),
            };
        }
        UpgradeCommand::Start(args) => {
            let request = UpgradeRequest {
                internal_tiers: args.internal_tier,
                internal_tenants: args.internal,
                watch_seconds: args.watch_seconds,
                failed_permille_max: args.failed_permille_max,
                slower_percent_max: args.slower_percent_max,
                by_hand: args.by_hand,
            };
            context.client.post(&path, &request).await?
        }
        UpgradeCommand::Advance => post(context, "advance").await?,
        UpgradeCommand::Halt => post(context, "halt").await?,
        UpgradeCommand::Resume => post(context, "resume").await?,
    };
    show(context.form, &reply)
}

async fn post(context: &mut Context<'_>, verb: &str) -> anyhow::Result<UpgradeReply> {
    let path = format!("{API}/upgrade/{verb}");
    Ok(context.client.post(&path, &json!({})).await?)
}

fn show(form: Form, reply: &UpgradeReply) -> anyhow::Result<()> {
    if form == Form::Json {
        return say_json(reply);
    }
    say(format_args!("{}", summary(reply)))?;
    if !reply.rings.is_empty() {
        let rows = reply.rings.iter().map(|ring| {
            vec![
                ring.ring.as_str().to_owned(),
                ring.stores.to_string(),
                ring.upgraded.to_string(),
                ring.current.to_string(),
                ring.moving.to_string(),
                ring.failed.to_string(),
                millis(ring.before_p95_us),
                millis(ring.after_p95_us),
                format!("{}‰", ring.calls_failed_permille_before),
                format!("{}‰", ring.calls_failed_permille_after),
            ]
        });
        let header = [
            "ring",
            "stores",
            "upgraded",
            "current",
            "moving",
            "failed",
            "p95 before",
            "p95 after",
            "calls failed",
            "since",
        ];
        say_table(&header, rows.collect())?;
    }
    for failure in &reply.failures {
        say(format_args!("{}: {}", failure.store, failure.why))?;
    }
    Ok(())
}

fn summary(reply: &UpgradeReply) -> String {
    let ring = reply.ring.map_or("", UpgradeRing::as_str);
    let to = reply.to;
    match reply.state {
        UpgradeState::None => format!(
            "no upgrade was begun; new stores have step {to}, and `partywall upgrade start` brings the others there"
        ),
        UpgradeState::Running => format!("stores come to step {to}: ring {ring}"),
        UpgradeState::Watching => match reply.watched_until {
            Some(until) => {
                format!("stores come to step {to}: ring {ring} is done, and watched until {until}")
            }
            None => format!("stores come to step {to}: ring {ring} is done, and watched"),
        },
        UpgradeState::Waiting => format!(
            "stores come to step {to}: ring {ring} is done, and `partywall upgrade advance` begins the next"
        ),
        UpgradeState::Halted => format!("halted on the way to step {to}, in ring {ring}"),
        UpgradeState::Done => match to < reply.newest {
            true => format!(
                "all stores have step {to}; this program has {}: `partywall upgrade start`",
                reply.newest
            ),
            false => format!("all stores have step {to}"),
        },
    }
}

/// Microseconds as milliseconds with one digit, rounded to the nearest.
fn millis(micros: u64) -> String {
    let tenths = (micros + 50) / 100;
    format!("{}.{} ms", tenths / 10, tenths % 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn microseconds_read_as_milliseconds() {
        for (micros, expected) in [(0, "0.0 ms"), (1_249, "1.2 ms"), (1_250, "1.3 ms")] {
            assert_eq!(millis(micros), expected);
        }
    }
}
