//! `config`: a tenant's own behaviour, versioned; and `config check`, the installation's file.

use std::path::PathBuf;

use clap::Subcommand;
use tenancy::catalogue::Kind;

use super::fields::ConfigFields;
use super::patch::Assignment;
use super::resource::{ResourceCommand, item};
use super::versions::{RollbackArgs, rollback, versions};
use super::{Context, PageArgs, TenantArgs, resource};
use crate::config;
use crate::terminal::say;

/// Configuration: the installation's file, and tenants' behaviour.
#[derive(Debug, Clone, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Say what is wrong with a partywall.toml
    Check {
        /// The file
        #[arg(default_value = config::FILE_NAME)]
        file: PathBuf,
    },
    #[command(flatten)]
    OfTenant(TenantConfigCommand),
}

/// A tenant's own behaviour: its prompt, parameters, models and flags.
#[derive(Debug, Clone, Subcommand)]
pub(crate) enum TenantConfigCommand {
    /// Show a tenant's configuration
    Show {
        #[command(flatten)]
        place: TenantArgs,
    },
    /// Change a tenant's configuration: what is not named stays as it is
    Set {
        #[command(flatten)]
        place: TenantArgs,
        #[command(flatten)]
        fields: ConfigFields,
        /// Set any other field: `forced_parameters.temperature=0`; `null` removes it
        #[arg(long = "set", value_name = "PATH=VALUE")]
        assignments: Vec<Assignment>,
    },
    /// List its versions
    Versions {
        #[command(flatten)]
        place: TenantArgs,
        #[command(flatten)]
        page: PageArgs,
    },
    /// Go back to what a version had
    Rollback {
        #[command(flatten)]
        place: TenantArgs,
        #[command(flatten)]
        rollback: RollbackArgs,
    },
}

/// Checks the installation's file.
///
/// # Errors
///
/// What is wrong with it, and where.
pub(crate) fn check(file: &std::path::Path) -> anyhow::Result<()> {
    config::load(file)?;
    say(format_args!("{}: nothing is wrong", file.display()))
}

/// Does it.
///
/// # Errors
///
/// What the API refuses, in its words.
pub(crate) async fn run(
    context: &mut Context<'_>,
    command: TenantConfigCommand,
) -> anyhow::Result<()> {
    let name = || Kind::Config.as_str().to_owned();
    match command {
        TenantConfigCommand::Show { place } => {
            let show = ResourceCommand::<ConfigFields>::Show {
                name: name(),
                place,
            };
            resource::run(context, show).await
        }
        TenantConfigCommand::Set {
            place,
            fields,
            assignments,
        } => {
            let set = ResourceCommand::Set {
                name: name(),
                place,
                fields,
                assignments,
            };
            resource::run(context, set).await
        }
        TenantConfigCommand::Versions { place, page } => {
            versions(context, &path(&place), &page).await
        }
        TenantConfigCommand::Rollback {
            place,
            rollback: args,
        } => rollback(context, &path(&place), args).await,
    }
}

fn path(place: &TenantArgs) -> String {
    format!("{}/config", item(Kind::Tenant, None, place.tenant.as_str()))
}
