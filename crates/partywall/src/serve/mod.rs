//! `serve`: one process, from its configuration to a clean end.

mod alerts;
mod books;
mod bucket;
mod budgets;
mod compaction;
mod listen;
mod ports;
mod process;
mod rates;
mod replica;
mod retention;
mod roles;
mod shares;
mod sign_in;
mod tenants_health;
mod told_calls;
mod upkeep;
mod verification;
mod workers;

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context as _, bail};
use clap::Args;
use serde_json::json;

pub(crate) use process::{Process, World};
pub(crate) use roles::{Role, Roles};

use crate::config::{self, InstallationConfig};
use crate::installation::{self, Installation};
use crate::logs::Logs;
use crate::signals::{Asked, Signals};
use crate::terminal::{Form, say, say_json};

/// Which installation to serve.
#[derive(Debug, Clone, Args)]
pub(crate) struct ServeArgs {
    /// The installation's configuration
    #[arg(long, short, default_value = config::FILE_NAME, value_name = "FILE")]
    config: PathBuf,
    /// What this process does, of what several replicas do: all by default
    #[arg(long = "role", value_delimiter = ',', value_name = "ROLE")]
    roles: Vec<Role>,
}

impl ServeArgs {
    /// How many threads the configuration wants. A file that cannot be read is refused later.
    pub(crate) fn workers(&self) -> Option<NonZeroUsize> {
        config::load(&self.config).ok()?.bounds.workers
    }
}

/// Serves until it is told to stop, then drains.
///
/// # Errors
///
/// Whatever keeps it from serving, or from ending cleanly.
pub(crate) async fn run(args: ServeArgs, form: Form) -> anyhow::Result<()> {
    let config = config::load(&args.config)?;
    let logs = Logs::start(&config.log, &config.telemetry)?;
    let world = World {
        process_log: logs.for_collector(),
        ..World::of_this_machine()
    };
    let opening = config.clone();
    let of_world = world.clone();
    let installation = blocking(move || {
        Ok(installation::open(
            &opening,
            &of_world.clock,
            &of_world.entropy,
        )?)
    })
    .await?;
    let roles = Roles::of(&args.roles);
    let process = Process::start(&config, installation, world, &roles).await?;
    let signals = Signals::receive()?;
    announce(&process, form)?;
    until_stopped(process, signals, Some((args.config, config)), &logs).await
}

fn announce(process: &Process, form: Form) -> anyhow::Result<()> {
    let base_url = process.base_url();
    let admin_url = process.admin_url();
    match form {
        Form::Json => say_json(&json!({"base_url": base_url, "admin_url": admin_url})),
        Form::People => say(format_args!(
            "serving {base_url}, administered at {admin_url}"
        )),
    }
}

/// Serves until SIGTERM or SIGINT; reads the configuration again on SIGHUP.
///
/// # Errors
///
/// If the process does not end cleanly.
pub(crate) async fn until_stopped(
    process: Process,
    mut signals: Signals,
    mut file: Option<(PathBuf, InstallationConfig)>,
    logs: &Logs,
) -> anyhow::Result<()> {
    let is_replaced = loop {
        tokio::select! {
            asked = signals.next() => match asked {
                Asked::Reload => reload(&process, file.as_mut(), logs).await,
                Asked::Stop => break false,
            },
            () = process.replaced() => break true,
        }
    };
    process.stop().await?;
    if is_replaced {
        bail!(
            "another process has taken over this replica's place: it serves a copy of the same data folder"
        );
    }
    Ok(())
}

/// Takes over what can change while serving. What is wrong is refused whole, and logged.
async fn reload(process: &Process, file: Option<&mut (PathBuf, InstallationConfig)>, logs: &Logs) {
    if let Some((path, current)) = file {
        let outcome = config::load(path)
            .map_err(anyhow::Error::from)
            .and_then(|next| take_over(current, next, logs));
        if let Err(error) = outcome {
            let error = format!("{error:#}");
            tracing::error!(%error, "the new configuration is refused, and the old one stays");
            return;
        }
    }
    match process.reload().await {
        Ok(version) => tracing::info!(version, "the configuration was read again"),
        Err(error) => {
            let error = format!("{error:#}");
            tracing::error!(%error, "the catalogue is refused, and the old version stays");
        }
    }
}

fn take_over(
    current: &mut InstallationConfig,
    next: InstallationConfig,
    logs: &Logs,
) -> anyhow::Result<()> {
    logs.set_level(&next.log.level)?;
    let mut fixed = next.clone();
    fixed.log.level.clone_from(&current.log.level);
    if fixed != *current {
        tracing::warn!("only `log.level` changes while serving: the rest needs a restart");
    }
    current.log.level = next.log.level;
    Ok(())
}

/// Does `work` on a thread that may block.
///
/// # Errors
///
/// Whatever `work` reports.
///
/// # Cancel safety
///
/// What has begun is finished, whether or not anybody waits for it.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> anyhow::Result<T> + Send + 'static,
) -> anyhow::Result<T> {
    let done = tokio::task::spawn_blocking(work).await;
    done.context("a blocking task was cut off")?
}

/// The installation's parts that outlive its opening.
pub(crate) type Opened = Arc<Installation>;
