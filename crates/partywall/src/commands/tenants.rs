//! What can be done with tenants beside what can be done with everything.

use base::Name;
use clap::{Args, Subcommand};
use control::api::{KeyRequest, OnboardRequest, RotatedReply, WebhookSecretReply};
use serde_json::{Value, json};
use tenancy::Role;
use tenancy::catalogue::Kind;

use super::backups::{self, RestoreArgs};
use super::fields::TenantFields;
use super::moves::{self, MoveArgs};
use super::resource::{Fields as _, ResourceCommand, collection, created, done, item};
use super::{Context, resource};
use crate::terminal::{Form, say_json};

/// Tenants.
#[derive(Debug, Clone, Subcommand)]
pub(crate) enum TenantCommand {
    #[command(flatten)]
    Resource(ResourceCommand<TenantFields>),
    /// Make a tenant and its first key, in one call
    Onboard(OnboardArgs),
    /// Refuse its calls from now on; its data stays
    Suspend {
        /// The tenant
        name: Name,
    },
    /// Serve its calls again
    Resume {
        /// The tenant
        name: Name,
    },
    /// Show the secret by which a receiver of its webhooks verifies them
    WebhookSecret {
        /// The tenant
        name: Name,
    },
    /// Give its prompts new salts: engines find nothing again of what they kept
    RotateSalt {
        /// The tenant
        name: Name,
    },
    /// Move its data to another placement, while it is served
    Move(MoveArgs),
    /// Show how far its move is, or what became of the last one
    MoveStatus {
        /// The tenant
        name: Name,
    },
    /// Take a backup of its data now, while it is served
    Backup {
        /// The tenant
        name: Name,
    },
    /// List its backups
    Backups {
        /// The tenant
        name: Name,
    },
    /// Remove one of its backups
    RemoveBackup {
        /// The tenant
        name: Name,
        /// The backup
        backup: String,
    },
    /// Put a backup of its data back
    Restore(RestoreArgs),
    /// Encrypt its data anew, under a new key, while it is served
    RotateKey {
        /// The tenant
        name: Name,
    },
}

/// A tenant and its first key.
#[derive(Debug, Clone, Args)]
pub(crate) struct OnboardArgs {
    /// The tenant's name
    name: Name,
    #[command(flatten)]
    fields: TenantFields,
    /// The name of its first key
    #[arg(long, default_value = "first", value_name = "NAME")]
    key_name: Name,
    /// The role of its first key: `tenant-admin`, `tenant-member` or `service`
    #[arg(long, default_value = "tenant-admin", value_name = "ROLE")]
    key_role: Role,
}

/// Does it.
///
/// # Errors
///
/// What the API refuses, in its words.
pub(crate) async fn run(context: &mut Context<'_>, command: TenantCommand) -> anyhow::Result<()> {
    match command {
        TenantCommand::Resource(command) => resource::run(context, command).await,
        TenantCommand::Onboard(args) => onboard(context, args).await,
        TenantCommand::Suspend { name } => switch(context, &name, "suspend", "suspended").await,
        TenantCommand::Resume { name } => switch(context, &name, "resume", "resumed").await,
        TenantCommand::WebhookSecret { name } => {
            let tenant = item(Kind::Tenant, None, name.as_str());
            let path = format!("{tenant}/webhook-secret");
            let reply: WebhookSecretReply = context.client.get(&path).await?;
            match context.form {
                Form::Json => say_json(&reply),
                Form::People => crate::terminal::say(&reply.secret),
            }
        }
        TenantCommand::RotateSalt { name } => {
            let verb = ("rotate-salt", "rotated the salts of");
            switch(context, &name, verb.0, verb.1).await
        }
        TenantCommand::Move(args) => moves::move_tenant(context, args).await,
        TenantCommand::MoveStatus { name } => moves::status(context, &name).await,
        TenantCommand::Backup { name } => backups::take(context, &name).await,
        TenantCommand::Backups { name } => backups::list(context, &name).await,
        TenantCommand::RemoveBackup { name, backup } => {
            backups::remove(context, &name, &backup).await
        }
        TenantCommand::Restore(args) => backups::restore(context, args).await,
        TenantCommand::RotateKey { name } => {
            let path = format!("{}/rotate-key", item(Kind::Tenant, None, name.as_str()));
            let reply: RotatedReply = context.client.post(&path, &json!({})).await?;
            rotated(context.form, &reply)
        }
    }
}

async fn onboard(context: &mut Context<'_>, args: OnboardArgs) -> anyhow::Result<()> {
    let mut spec = json!({});
    args.fields.merge_into(&mut spec, context.now())?;
    let body = OnboardRequest {
        name: args.name.clone(),
        spec,
        first_key: Some(KeyRequest {
            name: args.key_name,
            role: Some(args.key_role),
            team: None,
            user: None,
            expires_at: None,
            models: Vec::new(),
            features: Vec::new(),
            default_feature: None,
            networks: Vec::new(),
        }),
    };
    let reply: Value = context
        .client
        .post(&collection(Kind::Tenant, None), &body)
        .await?;
    created(context.form, Kind::Tenant, args.name.as_str(), &reply)
}

async fn switch(
    context: &mut Context<'_>,
    name: &Name,
    verb: &str,
    participle: &str,
) -> anyhow::Result<()> {
    let path = format!("{}/{verb}", item(Kind::Tenant, None, name.as_str()));
    let _: Value = context.client.post(&path, &json!({})).await?;
    done(context.form, &format!("{participle} tenant {name}"))
}

/// Says what a rotation of encryption keys did.
///
/// # Errors
///
/// If standard output cannot be written.
pub(crate) fn rotated(form: Form, reply: &RotatedReply) -> anyhow::Result<()> {
    match form {
        Form::Json => say_json(reply),
        Form::People => crate::terminal::say(format_args!(
            "current from now on: {}; renewed: {}",
            reply.current, reply.renewed
        )),
    }
}
