//! `upstream`: the usual, and how one is now.

use base::Name;
use clap::Subcommand;
use control::api::{EndpointRow, UpstreamStatusReply};
use tenancy::catalogue::Kind;

use super::Context;
use super::fields::UpstreamFields;
use super::resource::{self, ResourceCommand, item};
use crate::terminal::{Form, say, say_json, say_table};

/// Places that serve models.
#[derive(Debug, Clone, Subcommand)]
#[expect(
    clippy::large_enum_variant,
    reason = "a process reads one command, and clap needs the fields as they are"
)]
pub(crate) enum UpstreamCommand {
    #[command(flatten)]
    Resource(ResourceCommand<UpstreamFields>),
    /// Show how it is now: its line, its breakers, its endpoints and their load
    Status {
        /// The upstream's name
        name: Name,
    },
}

/// Upstreams: the usual, and their state.
///
/// # Errors
///
/// What the API refuses, in its words.
pub(crate) async fn upstream(
    context: &mut Context<'_>,
    command: UpstreamCommand,
) -> anyhow::Result<()> {
    let name = match command {
        UpstreamCommand::Resource(command) => return resource::run(context, command).await,
        UpstreamCommand::Status { name } => name,
    };
    let path = format!("{}/status", item(Kind::Upstream, None, name.as_str()));
    let status: UpstreamStatusReply = context.client.get(&path).await?;
    if context.form == Form::Json {
        return say_json(&status);
    }
    let waiting = status.waiting;
    say(format_args!(
        "{} is {}: {} of {} places taken; waiting: {} interactive, {} standard, {} background; \
         tenants held back: {}",
        status.name,
        status.state,
        status.calls_under_way,
        status.places,
        waiting.interactive,
        waiting.standard,
        waiting.background,
        status.open_breakers,
    ))?;
    let rows = status.endpoints.into_iter().map(row);
    let header = [
        "endpoint", "state", "calls", "running", "waiting", "kv use %",
    ];
    say_table(&header, rows.collect())
}

fn row(endpoint: EndpointRow) -> Vec<String> {
    let shown = |figure: Option<u32>| figure.map(|it| it.to_string()).unwrap_or_default();
    let percent = endpoint.kv_use_permille;
    vec![
        endpoint.address,
        endpoint.state,
        endpoint.calls_under_way.to_string(),
        shown(endpoint.running),
        shown(endpoint.waiting),
        percent.map_or_else(String::new, |it| format!("{}.{}", it / 10, it % 10)),
    ]
}
