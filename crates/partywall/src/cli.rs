//! The command line: what can be asked for, and who does it.

use std::num::NonZeroUsize;
use std::sync::Arc;

use base::{Clock, SystemClock};
use clap::{CommandFactory as _, Parser, Subcommand};
use control::api::{RootKeyRequest, RotatedReply, TokenKeysReply};
use tenancy::catalogue::SecretRef;

use crate::client::ConnectArgs;
use crate::commands::adapters::AdapterCommand;
use crate::commands::alerts::AlertCommand;
use crate::commands::apply::{ApplyArgs, ExportArgs};
use crate::commands::audit::AuditCommand;
use crate::commands::cache::CacheCommand;
use crate::commands::costs::CostsArgs;
use crate::commands::dashboard::{DashboardCommand, FleetArgs};
use crate::commands::fields::{
    ChannelFields, CredentialFields, FeatureFields, GuardrailFields, LimitFields,
    PlatformChannelFields, PriceBookFields, RouteFields, SharedCostFields, SharingGroupFields,
    TeamFields, TierFields, UserFields,
};
use crate::commands::invoices::InvoiceCommand;
use crate::commands::keys::{KeyCommand, OperatorCommand};
use crate::commands::ledger::LedgerCommand;
use crate::commands::moves::ServerCommand;
use crate::commands::prices::PriceCommand;
use crate::commands::prompts::PromptCommand;
use crate::commands::reconcile::ReconcileCommand;
use crate::commands::replicas::ReplicaCommand;
use crate::commands::requests::RequestArgs;
use crate::commands::resource::ResourceCommand;
use crate::commands::tenant_config::ConfigCommand;
use crate::commands::tenants::TenantCommand;
use crate::commands::upgrades::UpgradeCommand;
use crate::commands::upstreams::UpstreamCommand;
use crate::commands::usage::{BudgetCommand, UsageArgs};
use crate::commands::versions::RollbackArgs;
use crate::commands::{self, API, Context, PageArgs};
use crate::installation::{CatalogueCommand, InitArgs, init, move_catalogue};
use crate::quickstart::{DemoDataArgs, QuickstartArgs};
use crate::serve::ServeArgs;
use crate::simulate::SimulateArgs;
use crate::terminal::{Form, say, say_json, write_out};
use crate::{config, quickstart, serve, simulate};

/// The multi-tenant AI gateway and platform
#[derive(Debug, Parser)]
#[command(
    name = "partywall",
    version,
    propagate_version = true,
    max_term_width = 100
)]
pub(crate) struct Cli {
    #[command(flatten)]
    connect: ConnectArgs,
    /// JSON instead of tables and sentences
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make an installation to try, with two tenants, and serve it
    Quickstart(QuickstartArgs),
    /// Make an installation with a month of made-up traffic of twenty tenants, to look at
    DemoData(DemoDataArgs),
    /// Serve an installation
    Serve(ServeArgs),
    /// Make a data folder for real use: keys, the first operator, a configuration
    Init(InitArgs),
    /// Run the built-in engine alone
    Simulate(SimulateArgs),

    /// Customers: the unit of isolation
    #[command(subcommand)]
    Tenant(TenantCommand),
    /// Teams of a tenant
    #[command(subcommand)]
    Team(ResourceCommand<TeamFields>),
    /// Users of a tenant
    #[command(subcommand)]
    User(ResourceCommand<UserFields>),
    /// API keys of a tenant
    #[command(subcommand)]
    Key(KeyCommand),
    /// What a tenant's product does when it calls
    #[command(subcommand)]
    Feature(ResourceCommand<FeatureFields>),
    /// Budgets of a tenant
    #[command(subcommand)]
    Budget(BudgetCommand),
    /// Limits of a tenant on rates and concurrency
    #[command(subcommand)]
    Limit(ResourceCommand<LimitFields>),
    /// A tenant's own credentials for upstreams: written, never shown
    #[command(subcommand)]
    Credential(ResourceCommand<CredentialFields>),
    /// What a tenant's calls and answers are looked through for
    #[command(subcommand)]
    Guardrail(ResourceCommand<GuardrailFields>),
    /// A tenant's answers that are kept to be given again
    #[command(subcommand)]
    Cache(CacheCommand),
    /// A tenant's LoRA adapters
    #[command(subcommand)]
    Adapter(AdapterCommand),
    /// Versioned prompts of a tenant, with variables
    #[command(subcommand)]
    Prompt(PromptCommand),
    /// Where a tenant's own alerts are told
    #[command(subcommand)]
    Channel(ResourceCommand<ChannelFields>),
    /// A tenant's prompt and parameters; and the check of partywall.toml
    #[command(subcommand)]
    Config(ConfigCommand),

    /// Named sets of limits, budgets and models that tenants share
    #[command(subcommand)]
    Tier(ResourceCommand<TierFields>),
    /// PostgreSQL servers for tenants' data
    #[command(subcommand)]
    Server(ServerCommand),
    /// Where the catalogue is: a file, or a server that replicas share
    #[command(subcommand)]
    Catalogue(CatalogueCommand),
    /// The processes that share a catalogue
    #[command(subcommand)]
    Replica(ReplicaCommand),
    /// Tenants' stores after a new version of the program: ring by ring, while they are served
    #[command(subcommand)]
    Upgrade(UpgradeCommand),
    /// Places that serve models
    #[command(subcommand)]
    Upstream(UpstreamCommand),
    /// From the model names that clients say to upstreams
    #[command(subcommand)]
    Route(ResourceCommand<RouteFields>),
    /// What models cost
    #[command(subcommand)]
    Price(PriceCommand),
    /// What tenants are charged
    #[command(subcommand)]
    PriceBook(ResourceCommand<PriceBookFields>),
    /// Costs that tenants share, apart from their calls
    #[command(subcommand)]
    SharedCost(ResourceCommand<SharedCostFields>),
    /// Tenants of one owner that may share what engines keep of their prompts
    #[command(subcommand)]
    SharingGroup(ResourceCommand<SharingGroupFields>),
    /// Where the alerts of all tenants and of the platform are told
    #[command(subcommand)]
    PlatformChannel(ResourceCommand<PlatformChannelFields>),
    /// Who runs the platform
    #[command(subcommand)]
    Operator(OperatorCommand),

    /// Make the catalogue what a folder says, as one version
    Apply(ApplyArgs),
    /// Write the catalogue into a folder
    Export(ExportArgs),
    /// List the catalogue's versions
    Versions(PageArgs),
    /// Go back to what a version had, as a new version
    Rollback(RollbackArgs),
    /// Read secrets and configuration again
    Reload,

    /// What is so that somebody should know
    #[command(subcommand)]
    Alert(AlertCommand),
    /// How tenants did in the last hour, the worst first
    Fleet(FleetArgs),
    /// The pages for people
    #[command(subcommand)]
    Dashboard(DashboardCommand),
    /// What was used, and what it cost
    Usage(UsageArgs),
    /// Where the money went, by any cut
    Costs(CostsArgs),
    /// Invoices, credit notes and adjustments
    #[command(subcommand)]
    Invoice(InvoiceCommand),
    /// Providers' bills, and calls whose cost is not known
    #[command(subcommand)]
    Reconcile(ReconcileCommand),
    /// The calls that one request made
    Request(RequestArgs),
    /// The ledger
    #[command(subcommand)]
    Ledger(LedgerCommand),
    /// Who did what, and the proof that nobody changed the record
    #[command(subcommand)]
    Audit(AuditCommand),
    /// The key that wraps every other key
    #[command(subcommand)]
    RootKey(RootKeyCommand),
    /// The keys that sign short-lived tokens
    #[command(subcommand)]
    TokenKeys(TokenKeysCommand),

    /// Print completions for a shell
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Pages that are made from the program itself
    #[command(subcommand, hide = true)]
    Docs(DocsCommand),
}

#[derive(Debug, Clone, Subcommand)]
enum RootKeyCommand {
    /// Wrap all keys under another root key, while serving
    Rotate {
        /// Where the new root key is, for the serving process: `file:/path` or `env:NAME`
        #[arg(long, value_name = "REFERENCE")]
        to: SecretRef,
    },
}

#[derive(Debug, Clone, Copy, Subcommand)]
enum TokenKeysCommand {
    /// Sign with a new key, while serving; tokens of the one before stay good for their time
    Rotate,
}

#[derive(Debug, Clone, Copy, Subcommand)]
enum DocsCommand {
    /// The reference of partywall.toml
    Configuration,
}

/// How many threads a command wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Threads {
    One,
    /// So many, or as many as there are processors.
    Many(Option<NonZeroUsize>),
}

impl Cli {
    /// How many threads it wants: as many as there are processors to serve, unless the
    /// configuration says otherwise; one for everything else.
    pub(crate) fn threads(&self) -> Threads {
        match &self.command {
            Command::Serve(args) => Threads::Many(args.workers()),
            Command::Quickstart(_) | Command::DemoData(_) | Command::Simulate(_) => {
                Threads::Many(None)
            }
            _ => Threads::One,
        }
    }

    /// Does what is asked.
    ///
    /// # Errors
    ///
    /// Whatever goes wrong, in words for whoever asked.
    pub(crate) async fn run(self) -> anyhow::Result<()> {
        let form = if self.json { Form::Json } else { Form::People };
        match self.command {
            Command::Simulate(args) => simulate::run(args, form).await,
            Command::Quickstart(args) => quickstart::run(args, &self.connect.data, form).await,
            Command::DemoData(args) => {
                Box::pin(quickstart::run_demo_data(args, &self.connect.data, form)).await
            }
            Command::Serve(args) => serve::run(args, form).await,
            Command::Init(args) => {
                let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
                init(&self.connect.data, args, &clock, form)
            }
            Command::Catalogue(CatalogueCommand::Move(args)) => {
                let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
                move_catalogue(args, &clock, form)
            }
            Command::Completions { shell } => completions(shell),
            Command::Docs(DocsCommand::Configuration) => write_out(config::reference().as_bytes()),
            Command::Config(ConfigCommand::Check { file }) => commands::tenant_config::check(&file),
            Command::Audit(AuditCommand::VerifyFile(args)) => {
                commands::audit::verify_file(form, &args)
            }
            command => {
                let clock = SystemClock::new();
                let mut context = Context {
                    client: self.connect.client()?,
                    form,
                    clock: &clock,
                };
                Box::pin(administer(&mut context, command)).await
            }
        }
    }
}

/// The commands that speak to an admin API.
async fn administer(context: &mut Context<'_>, command: Command) -> anyhow::Result<()> {
    match command {
        Command::Tenant(command) => commands::tenants::run(context, command).await,
        Command::Team(command) => commands::resource::run(context, command).await,
        Command::User(command) => commands::resource::run(context, command).await,
        Command::Key(command) => commands::keys::run(context, command).await,
        Command::Feature(command) => commands::resource::run(context, command).await,
        Command::Budget(command) => commands::usage::budget(context, command).await,
        Command::Limit(command) => commands::resource::run(context, command).await,
        Command::Credential(command) => commands::resource::run(context, command).await,
        Command::Guardrail(command) => commands::resource::run(context, command).await,
        Command::Cache(command) => commands::cache::run(context, command).await,
        Command::Adapter(command) => commands::adapters::run(context, command).await,
        Command::Channel(command) => commands::resource::run(context, command).await,
        Command::PlatformChannel(command) => commands::resource::run(context, command).await,
        Command::Alert(command) => commands::alerts::run(context, command).await,
        Command::Prompt(command) => commands::prompts::run(context, command).await,
        Command::Config(ConfigCommand::OfTenant(command)) => {
            commands::tenant_config::run(context, *command).await
        }
        Command::Tier(command) => commands::resource::run(context, command).await,
        Command::Server(command) => commands::moves::server(context, command).await,
        Command::Replica(command) => commands::replicas::run(context, command).await,
        Command::Upgrade(command) => commands::upgrades::run(context, command).await,
        Command::Upstream(command) => commands::upstreams::upstream(context, command).await,
        Command::Route(command) => commands::resource::run(context, command).await,
        Command::Price(command) => commands::prices::run(context, command).await,
        Command::PriceBook(command) => commands::resource::run(context, command).await,
        Command::SharedCost(command) => commands::resource::run(context, command).await,
        Command::Reconcile(command) => commands::reconcile::run(context, command).await,
        Command::Invoice(command) => commands::invoices::run(context, command).await,
        Command::SharingGroup(command) => commands::resource::run(context, command).await,
        Command::Operator(command) => commands::keys::run_operator(context, command).await,
        Command::Apply(args) => commands::apply::apply(context, args).await,
        Command::Export(args) => commands::apply::export(context, args).await,
        Command::Versions(page) => commands::versions::versions(context, &page).await,
        Command::Rollback(args) => commands::versions::rollback(context, args).await,
        Command::Reload => reload(context).await,
        Command::Costs(args) => commands::costs::run(context, args).await,
        Command::Fleet(args) => commands::dashboard::fleet(context, args).await,
        Command::Dashboard(command) => commands::dashboard::run(context, command).await,
        Command::Usage(args) => commands::usage::usage(context, args).await,
        Command::Request(args) => commands::requests::run(context, &args).await,
        Command::Ledger(command) => commands::ledger::run(context, command).await,
        Command::Audit(command) => commands::audit::run(context, command).await,
        Command::RootKey(RootKeyCommand::Rotate { to }) => rotate_root_key(context, to).await,
        Command::TokenKeys(TokenKeysCommand::Rotate) => rotate_token_keys(context).await,
        Command::Init(_)
        | Command::Catalogue(_)
        | Command::Serve(_)
        | Command::Quickstart(_)
        | Command::DemoData(_)
        | Command::Simulate(_)
        | Command::Completions { .. }
        | Command::Docs(_)
        | Command::Config(ConfigCommand::Check { .. }) => {
            unreachable!("these need no admin API: the caller does them")
        }
    }
}

async fn reload(context: &mut Context<'_>) -> anyhow::Result<()> {
    let path = format!("{API}/reload");
    let reply: control::api::PublishedReply =
        context.client.post(&path, &serde_json::json!({})).await?;
    commands::resource::done(
        context.form,
        &format!("reloaded: version {}", reply.version),
    )
}

async fn rotate_root_key(context: &mut Context<'_>, to: SecretRef) -> anyhow::Result<()> {
    let path = format!("{API}/root-key/rotate");
    let body = RootKeyRequest { root_key: to };
    let reply: RotatedReply = context.client.post(&path, &body).await?;
    commands::tenants::rotated(context.form, &reply)?;
    if context.form == Form::People {
        say("Now name the new root key in partywall.toml: the next start needs it.")?;
    }
    Ok(())
}

async fn rotate_token_keys(context: &mut Context<'_>) -> anyhow::Result<()> {
    let path = format!("{API}/token-keys/rotate");
    let reply: TokenKeysReply = context.client.post(&path, &serde_json::json!({})).await?;
    match context.form {
        Form::Json => say_json(&reply),
        Form::People => say(format_args!(
            "signing with {} from now on; tokens signed with {} are good until {}",
            reply.current, reply.previous, reply.previous_until
        )),
    }
}

fn completions(shell: clap_complete::Shell) -> anyhow::Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "partywall", &mut script);
    write_out(&script)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn what_the_documentation_shows_is_understood() {
        for line in [
            "init --data /srv/partywall --root-key /etc/partywall/root.key",
            "demo-data --days 7 --seed 3 --until 2026-11-01T00:00:00Z",
            "simulate --listen 127.0.0.1:0 --model a --model b --token-micros 20000",
            "tenant list --all --json",
            "tenant onboard acme --tier team --zone Europe/Berlin --key-name first",
            "tenant create acme --tier team --requires-known-feature",
            "tenant suspend acme --reason abuse",
            "tenant rotate-key acme",
            "tenant webhook-secret acme --reason onboarding",
            "key create prod --tenant acme --model gpt-4o --expires 30d --role service",
            "key rotate prod --tenant acme --overlap-seconds 3600",
            "key revoke prod -t acme --url https://partywall.example --key pw_x",
            "budget create month -t acme --subject each:user --limit 25.00 --window monthly",
            "budget status -t acme",
            "limit set rate -t acme --requests-per-minute 600",
            "upstream create vllm --base-url http://10.0.0.5:8000/v1 --provider own --engine vllm \
             --salting derived --allow-private-address --set timeouts.connect_ms=2000",
            "upstream create sglang --base-url http://engine:30000/v1 --engine sglang \
             --set endpoints.dns.name=engine:30000 --set engine_metrics.path=/metrics",
            "upstream status sglang --json",
            "route create openai/gpt-4o --target openai=gpt-4o --output-tokens-max 16384",
            "price import prices.json --provider openai --dry-run",
            "price create own/llama --input-per-million 0.10 --output-per-million 0.40",
            "operator create eve --role auditor",
            "operator rotate eve",
            "adapter create tone -t acme --base llama --location /adapters/acme/tone --revision 2",
            "adapter list -t acme",
            "adapter upload tone -t acme --folder out --base llama",
            "config check partywall.toml",
            "config set -t acme --system-prompt @/dev/null --set flags.beta=true",
            "config set -t acme --cache exact --cache-ttl-seconds 600 --cache-requests all",
            "config set -t acme --bodies on --bodies-days 3 --bodies-feature chat",
            "config set -t acme --bodies on --bodies-operators",
            "config set -t acme --bodies off",
            "request req_1 -t acme --bodies --reason ticket-7",
            "request req_1 -t acme --forget-bodies",
            "tier set team --cache-bytes-max 33554432 --cache-price-percent 10",
            "cache show -t acme",
            "sharing-group create owner --member acme --member acme-eu --description one-owner",
            "config set -t acme --sharing-group owner",
            "tier set team --salt-days-max 30",
            "tenant rotate-salt acme --reason incident",
            "cache clear -t acme --reason stale",
            "config rollback 3 -t acme --yes",
            "apply -f folder --prune --dry-run",
            "export -o folder --force",
            "versions --page-size 5",
            "rollback 7 --yes --note mistake",
            "usage --by model,day --from 2026-01-01 --to 2026-02-01 --csv",
            "costs -t acme --by feature,model --granularity month --sort cost --only hop=guard --csv",
            "costs export --format focus-parquet --from 2026-01-01 --to 2026-02-01 -o costs.parquet",
            "costs export -t acme --format stripe --from 2026-01-01 --to 2026-02-01 --customer cus_1",
            "costs --by tenant --from 2026-01-01",
            "ledger rebuild",
            "ledger rebuild -t acme",
            "price-book create list --issuer Example --markup-basis-points 2000 --minimum 10",
            "price-book set list --cache-hits-percent 50 --effective-from 2026-11-01T00:00:00Z",
            "tier set team --price-book list",
            "tenant set acme --price-book list",
            "invoice list -t acme",
            "invoice show 2026-10 -t acme",
            "invoice finalise 2026-10 -t acme",
            "invoice export INV-000001 -t acme --format pdf -o invoice.pdf",
            "invoice credit INV-000001 -t acme --amount 5.00 --reference t-1 --because outage",
            "invoice credits -t acme",
            "invoice adjust 2026-10 -t acme --amount -5 --reference t-2 --description goodwill",
            "invoice adjustments -t acme",
            "invoice numbers --series inv-credit",
            "platform-channel create ops --webhook https://hooks.example/in --alert breaker-open",
            "channel create mail -t acme --email ada@acme.example --email bob@acme.example",
            "channel set mail -t acme --remind-hours 4",
            "platform-channel create chat --slack file:/etc/partywall/slack.url",
            "alert list --open",
            "alert list -t acme --json",
            "alert test mail -t acme",
            "alert webhook-secret",
            "shared-cost create gpu --description Engine --amount 720.00 --first-period 2026-10 \
             --method by-tokens --tenant-of acme --tenant-of globex",
            "shared-cost set gpu --weight acme=3 --weight globex=1",
            "invoice split gpu 2026-10",
            "reconcile import costs.csv --provider openai --name gpt-4o=gpt-4o-2024-08-06",
            "reconcile list",
            "reconcile show 3 --from 0.01",
            "reconcile unsettled att_00000000000000000000000001 -t acme --cost 0.01",
            "reconcile unsettled -t acme --before 2026-11-01T00:00:00Z --write-off lost --yes",
            "fleet --concern watch --sort budget --page-size 20",
            "fleet -t acme --json",
            "dashboard link",
            "dashboard link -t acme",
            "request req_00000000000000000000000000 -t acme",
            "ledger verify",
            "audit list -t acme",
            "audit export -o log.jsonl",
            "audit verify-file log.jsonl --public-key log.pub --witness old.checkpoint",
            "root-key rotate --to file:/etc/partywall/root-2.key",
            "token-keys rotate --json",
            "ledger unsettled -t acme --all",
            "ledger reconcile att_00000000000000000000000001 -t acme --cost 0.01",
            "ledger reconcile-lease -t acme --budget month --subject user:ada --unspent 1.50",
            "ledger reconcile-lease -t acme --budget month --all",
            "completions zsh",
        ] {
            let words = std::iter::once("partywall").chain(line.split_whitespace());
            if let Err(error) = Cli::try_parse_from(words) {
                panic!("{line}: {error}");
            }
        }
    }

    #[test]
    fn nonsense_is_a_matter_of_usage() {
        for line in [
            "",
            "tenant",
            "tenant show",
            "key create prod",
            "budget create b -t acme --limit lots",
            "audit verify-file log.jsonl",
            "root-key rotate --to sk-secret",
            "ledger reconcile-lease -t acme --budget month",
            "ledger reconcile-lease -t acme --budget month --all --unspent 1",
            "versions --page-size 0",
            "upstream create u --credential sk-live-1234",
        ] {
            let words = std::iter::once("partywall").chain(line.split_whitespace());
            let error = Cli::try_parse_from(words).expect_err(line);
            assert_eq!(error.exit_code(), 2, "{line}");
        }
    }
}
