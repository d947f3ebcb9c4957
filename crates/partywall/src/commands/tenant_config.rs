//! `config`: a tenant's own behaviour, versioned; and `config check`, the installation's file.

use std::path::PathBuf;

use clap::Subcommand;
use control::api::{ConfigVersion, ResourceView};
use serde_json::{Value, json};
use tenancy::catalogue::Kind;

use super::fields::ConfigFields;
use super::patch::Assignment;
use super::resource::{ResourceCommand, item, more, show};
use super::versions::{RollbackArgs, roll_back};
use super::{Context, PageArgs, TenantArgs, resource};
use crate::client::list;
use crate::config;
use crate::terminal::{Form, say, say_json, say_table};

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
    OfTenant(Box<TenantConfigCommand>),
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
        fields: Box<ConfigFields>,
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
                fields: *fields,
                assignments,
            };
            resource::run(context, set).await
        }
        TenantConfigCommand::Versions { place, page } => versions(context, &place, &page).await,
        TenantConfigCommand::Rollback {
            place,
            rollback: args,
        } => {
            let parent = item(Kind::Config, Some(&place.tenant), Kind::Config.as_str());
            let reply: ResourceView = roll_back(context, &parent, args).await?;
            show(context.form, &reply)
        }
    }
}

async fn versions(
    context: &mut Context<'_>,
    place: &TenantArgs,
    page: &PageArgs,
) -> anyhow::Result<()> {
    let config = item(Kind::Config, Some(&place.tenant), Kind::Config.as_str());
    let (path, parameters) = (format!("{config}/versions"), page.parameters());
    let listed = list(&mut context.client, &path, page.pages(), parameters).await?;
    if context.form == Form::Json {
        return say_json(&json!({"data": listed.rows, "next_cursor": listed.next_cursor}));
    }
    let row = |row: Value| -> anyhow::Result<Vec<String>> {
        let row: ConfigVersion = serde_json::from_value(row)?;
        let text = match (row.config, row.unreadable) {
            (Some(config), _) => config.to_string(),
            (None, Some(why)) => format!("cannot be read: {why}"),
            (None, None) => "removed".to_owned(),
        };
        Ok(vec![row.version.to_string(), text])
    };
    let rows = listed.rows.into_iter().map(row).collect::<Result<_, _>>()?;
    say_table(&["version", "configuration"], rows)?;
    more(listed.next_cursor.as_deref());
    Ok(())
}
