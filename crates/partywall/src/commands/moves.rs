//! `tenant move` and `server list`: where tenants' data lives.

use std::io::{IsTerminal as _, Write as _};
use std::time::Duration;

use anyhow::bail;
use base::Name;
use clap::{Args, Subcommand};
use control::api::{MoveReply, MoveRequest, ServersReply, WallReply};
use serde_json::Value;
use tenancy::catalogue::{Kind, Placement};

use super::Context;
use super::resource::item;
use crate::terminal::{Form, note, say, say_json, say_table};

/// Five times a second: a bar that moves.
const ASK_EVERY: Duration = Duration::from_millis(200);
/// 30 characters: the line stays below 80.
const BAR_CHARS: u64 = 30;

/// Where to.
#[derive(Debug, Clone, Args)]
pub(crate) struct MoveArgs {
    /// The tenant
    name: Name,
    /// `file`, or `pool`, `bridge` or `silo`: with `:SERVER`, or on the emptiest
    #[arg(long, value_name = "PLACEMENT", required_unless_present = "back")]
    to: Option<Placement>,
    /// Back to where it was before its last move
    #[arg(long, conflicts_with = "to")]
    back: bool,
    /// For how many days the old copy is kept
    #[arg(long, value_name = "DAYS")]
    keep_days: Option<u16>,
    /// Do not wait for its end: `tenant move-status` shows it
    #[arg(long)]
    detach: bool,
}

/// PostgreSQL servers for tenants' data.
#[derive(Debug, Clone, Subcommand)]
pub(crate) enum ServerCommand {
    /// List them, and how full they are
    List,
}

/// Moves a tenant, and shows how far it is.
///
/// # Errors
///
/// What the API refuses, in its words, and a move that fails.
pub(crate) async fn move_tenant(context: &mut Context<'_>, args: MoveArgs) -> anyhow::Result<()> {
    let to = match args.to {
        Some(to) => to,
        None => former_placement(context, &args.name).await?,
    };
    let request = MoveRequest {
        to,
        keep_days: args.keep_days,
    };
    let path = path_of(&args.name);
    let mut reply: MoveReply = context.client.post(&path, &request).await?;
    let watches = context.form == Form::People && std::io::stderr().is_terminal();
    while !args.detach && !is_over(&reply) {
        if watches {
            draw(&reply);
        }
        tokio::time::sleep(ASK_EVERY).await;
        reply = context.client.get(&path).await?;
    }
    if watches {
        draw(&reply);
        note("");
    }
    show(context.form, &args.name, &reply)
}

/// Shows how far a tenant's move is, or what became of the last one.
///
/// # Errors
///
/// What the API refuses, in its words.
pub(crate) async fn status(context: &mut Context<'_>, name: &Name) -> anyhow::Result<()> {
    let reply: MoveReply = context.client.get(&path_of(name)).await?;
    show(context.form, name, &reply)
}

/// Lists the servers.
///
/// # Errors
///
/// What the API refuses, in its words.
pub(crate) async fn server(
    context: &mut Context<'_>,
    command: ServerCommand,
) -> anyhow::Result<()> {
    let ServerCommand::List = command;
    let reply: ServersReply = context.client.get("/admin/v1/servers").await?;
    if context.form == Form::Json {
        return say_json(&reply);
    }
    let fill = |wall: WallReply| format!("{} of {}", wall.tenants, wall.tenants_max);
    let rows = reply.data.into_iter().map(|server| {
        vec![
            server.name.to_string(),
            server
                .region
                .map(|name| name.to_string())
                .unwrap_or_default(),
            fill(server.pool),
            fill(server.bridge),
            fill(server.silo),
        ]
    });
    let header = ["name", "region", "pool", "bridge", "silo"];
    say_table(&header, rows.collect())
}

fn path_of(name: &Name) -> String {
    format!("{}/move", item(Kind::Tenant, None, name.as_str()))
}

async fn former_placement(context: &mut Context<'_>, name: &Name) -> anyhow::Result<Placement> {
    let path = item(Kind::Tenant, None, name.as_str());
    let shown: Value = context.client.get(&path).await?;
    match shown["spec"]["former_placement"]["placement"].as_str() {
        Some(text) => Ok(text.parse()?),
        None => bail!(
            "`{name}` was not moved, or its old copy is gone: say where to with --to PLACEMENT"
        ),
    }
}

fn is_over(reply: &MoveReply) -> bool {
    matches!(reply.state.as_str(), "moved" | "failed")
}

fn show(form: Form, name: &Name, reply: &MoveReply) -> anyhow::Result<()> {
    if form == Form::Json {
        say_json(reply)?;
    } else if reply.state == "moved" {
        say(format_args!(
            "moved {name} from {} to {}: {} rows, {} changes meanwhile, held for {} ms",
            reply.from,
            reply.to,
            reply.rows,
            reply.changes.unwrap_or_default(),
            reply.held_ms.unwrap_or_default(),
        ))?;
    } else if reply.state != "failed" {
        say(format_args!(
            "moving {name} from {} to {}: {}, {} of {} rows",
            reply.from, reply.to, reply.state, reply.rows, reply.rows_total
        ))?;
    }
    match &reply.error {
        Some(error) => bail!("`{name}` is where it was, in {}: {error}", reply.from),
        None => Ok(()),
    }
}

/// One line, over the one before.
fn draw(reply: &MoveReply) {
    let total = reply.rows_total.max(1);
    let done = (reply.rows * BAR_CHARS / total).min(BAR_CHARS) as usize;
    let bar = "█".repeat(done) + &"░".repeat(BAR_CHARS as usize - done);
    let percent = (reply.rows * 100 / total).min(100);
    let mut terminal = std::io::stderr().lock();
    // Whoever closed the terminal does not look at it.
    drop(write!(
        terminal,
        "\r{bar} {percent:>3}% {:<14}",
        reply.state
    ));
    drop(terminal.flush());
}
