//! `quickstart`: from nothing to a served call by one command. A second start finds what the
//! first one made, and changes nothing that was changed in between.

mod declare;
mod demo;
mod greeting;
mod providers;
mod record;
mod setup;
mod upstream;

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use base::Redacted;
use clap::Args;
use control::api::SignInLinkReply;

use crate::client::{Client, OPERATOR_KEY_FILE, Target};
use crate::commands::API;
use crate::config::{self, InstallationConfig};
use crate::installation::{self, Installation, ensure_operator, write_config};
use crate::logs::Logs;
use crate::serve::{Process, Roles, World, blocking, until_stopped};
use crate::signals::Signals;
use crate::terminal::Form;
pub(crate) use demo::{DemoDataArgs, run as run_demo_data};
use record::Record;
use upstream::Choice;

/// What to serve, and where.
#[derive(Debug, Clone, Args)]
pub(crate) struct QuickstartArgs {
    /// The gateway's port on this machine; 0 lets the system choose. 8080 by default
    #[arg(long, value_name = "PORT")]
    port: Option<u16>,
    /// The admin API's port on this machine; 0 lets the system choose. 8081 by default
    #[arg(long, value_name = "PORT")]
    admin_port: Option<u16>,
    /// An OpenAI-compatible engine or provider, its version included: http://127.0.0.1:8000/v1
    #[arg(long, value_name = "URL")]
    upstream: Option<String>,
    /// The environment variable that holds the upstream's key
    #[arg(long, value_name = "NAME", requires = "upstream")]
    upstream_key_env: Option<String>,
    /// A model of the upstream; may be repeated; by default the upstream is asked
    #[arg(long = "model", value_name = "NAME", requires = "upstream")]
    models: Vec<String>,
}

/// Makes what is missing, serves, and says how to use it.
///
/// # Errors
///
/// Whatever keeps it from serving, and what to do.
pub(crate) async fn run(args: QuickstartArgs, data: &Path, form: Form) -> anyhow::Result<()> {
    let (file, config) = configuration(&args, data)?;
    let logs = Logs::start(&config.log, &config.telemetry)?;
    let world = World {
        process_log: logs.for_collector(),
        ..World::of_this_machine()
    };
    let choice = Choice::of(&args)?;
    let mut record = Record::read(data)?;
    let served = choice.open(record.simulator_port, &world).await?;
    let installation = open(&config, &world).await?;
    let process = Process::start(&config, installation, world, &Roles::of(&[])).await?;
    let operator_key = operator_key(data)?;
    let target = Target::parse(&process.admin_url())?;
    let key = Redacted::new(operator_key.clone());
    let mut client = Client::new(target, Some(key));
    setup::set_up(&mut client, &served.upstreams, &mut record).await?;
    let link: SignInLinkReply = client
        .post(&format!("{API}/dashboard/links"), &serde_json::json!({}))
        .await?;
    record.simulator_port = served.simulator_port;
    record.write(data)?;
    let signals = Signals::receive()?;
    greeting::say(
        &greeting::Greeting {
            base_url: process.base_url(),
            admin_url: process.admin_url(),
            sign_in_path: link.path,
            operator_key,
            upstreams: &served.upstreams,
            tenants: &record.tenants,
            data,
        },
        form,
    )?;
    until_stopped(process, signals, file.map(|path| (path, config)), &logs).await?;
    served.stop().await;
    Ok(())
}

/// The data folder's own configuration if it has one, with what the command line says instead.
fn configuration(
    args: &QuickstartArgs,
    data: &Path,
) -> anyhow::Result<(Option<PathBuf>, InstallationConfig)> {
    let path = data.join(config::FILE_NAME);
    let file = path.exists().then_some(path);
    let mut config = match &file {
        Some(path) => config::load(path)?,
        None => InstallationConfig::default(),
    };
    data.clone_into(&mut config.storage.folder);
    if let Some(port) = args.port {
        config.listen.gateway.set_port(port);
    }
    if let Some(port) = args.admin_port {
        config.listen.admin.set_port(port);
    }
    Ok((file, config))
}

async fn open(config: &InstallationConfig, world: &World) -> anyhow::Result<Installation> {
    let (config, world) = (config.clone(), world.clone());
    blocking(move || {
        let installation = installation::open_or_create(&config, &world.clock, &world.entropy)?;
        ensure_operator(&installation, &*world.clock, &*world.entropy)?;
        let mut written = config;
        // A port that the system chose is no port for next time.
        let defaults = InstallationConfig::default().listen;
        if written.listen.gateway.port() == 0 {
            written.listen.gateway = defaults.gateway;
        }
        if written.listen.admin.port() == 0 {
            written.listen.admin = defaults.admin;
        }
        write_config(&written)?;
        Ok(installation)
    })
    .await
}

fn operator_key(data: &Path) -> anyhow::Result<String> {
    let path = data.join(OPERATOR_KEY_FILE);
    let text = std::fs::read_to_string(&path).with_context(|| {
        format!(
            "{} is gone, and keys are kept nowhere else: put it back, or start over with another \
             data folder",
            path.display()
        )
    })?;
    Ok(text.trim().to_owned())
}
