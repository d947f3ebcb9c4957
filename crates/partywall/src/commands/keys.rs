//! What can be done with keys beside what can be done with everything: rotate, revoke.

use base::Name;
use clap::Subcommand;
use control::api::{KeyReply, RotateRequest};
use serde_json::json;
use tenancy::catalogue::Kind;

use super::fields::{KeyFields, OperatorFields};
use super::resource::{ResourceCommand, done, item, made};
use super::{Context, TenantArgs, resource};

/// Keys of tenants.
#[derive(Debug, Clone, Subcommand)]
pub(crate) enum KeyCommand {
    #[command(flatten)]
    Resource(ResourceCommand<KeyFields>),
    /// Replace a key by a new one, which is shown once
    Rotate {
        /// Its name
        name: Name,
        #[command(flatten)]
        place: TenantArgs,
        /// How long the old one stays good beside the new one, in seconds; at most 30 days
        #[arg(long, default_value_t = 86_400, value_name = "SECONDS")]
        overlap_seconds: u32,
    },
    /// Refuse a key from now on, for good
    Revoke {
        /// Its name
        name: Name,
        #[command(flatten)]
        place: TenantArgs,
    },
}

/// Operators of the platform.
#[derive(Debug, Clone, Subcommand)]
pub(crate) enum OperatorCommand {
    #[command(flatten)]
    Resource(ResourceCommand<OperatorFields>),
    /// Replace an operator's key by a new one, which is shown once
    Rotate {
        /// The operator's name
        name: Name,
    },
}

/// Does it.
///
/// # Errors
///
/// What the API refuses, in its words.
pub(crate) async fn run(context: &mut Context<'_>, command: KeyCommand) -> anyhow::Result<()> {
    match command {
        KeyCommand::Resource(command) => resource::run(context, command).await,
        KeyCommand::Rotate {
            name,
            place,
            overlap_seconds,
        } => {
            let path = item(Kind::Key, Some(&place.tenant), name.as_str());
            let body = RotateRequest { overlap_seconds };
            rotate(context, Kind::Key, &name, &path, &body).await
        }
        KeyCommand::Revoke { name, place } => {
            let path = item(Kind::Key, Some(&place.tenant), name.as_str());
            let _: serde_json::Value = context
                .client
                .post(&format!("{path}/revoke"), &json!({}))
                .await?;
            done(context.form, &format!("revoked key {name}"))
        }
    }
}

/// Does it.
///
/// # Errors
///
/// What the API refuses, in its words.
pub(crate) async fn run_operator(
    context: &mut Context<'_>,
    command: OperatorCommand,
) -> anyhow::Result<()> {
    match command {
        OperatorCommand::Resource(command) => resource::run(context, command).await,
        OperatorCommand::Rotate { name } => {
            let path = item(Kind::Operator, None, name.as_str());
            rotate(context, Kind::Operator, &name, &path, &json!({})).await
        }
    }
}

async fn rotate(
    context: &mut Context<'_>,
    kind: Kind,
    name: &Name,
    path: &str,
    body: &impl serde::Serialize,
) -> anyhow::Result<()> {
    let reply: KeyReply = context.client.post(&format!("{path}/rotate"), body).await?;
    let reply = serde_json::to_value(reply)?;
    made(context.form, &format!("rotated {kind} {name}"), &reply)
}
