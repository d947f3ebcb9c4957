//! `simulate`: the built-in engine, for capacity tests and for trying things out.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Context as _;
use base::{Clock, Supervisor, SystemClock};
use clap::{Args, ValueEnum};
use serde_json::json;
use simulator::{AwsKey, Engine, EngineConfig, Provider, Scheduling, Timing};
use tokio::net::TcpListener;

use crate::signals::Signals;
use crate::terminal::{Form, say, say_json};

/// An engine that behaves like a real one and computes nothing.
#[derive(Debug, Clone, Args)]
pub(crate) struct SimulateArgs {
    /// Where it listens; port 0 lets the system choose
    #[arg(long, default_value = "127.0.0.1:8090", value_name = "ADDRESS")]
    listen: SocketAddr,
    /// A model that it serves; may be repeated
    #[arg(long = "model", value_name = "NAME")]
    models: Vec<String>,
    /// Whose manners the paths have that OpenAI's API and its imitations share; the other
    /// providers' paths are always there
    #[arg(long, value_enum, default_value_t = Manners::Vllm, value_name = "PROVIDER")]
    provider: Manners,
    /// The key that calls need, in the header where each provider has it; none by default
    #[arg(
        long,
        env = "PARTYWALL_SIMULATOR_KEY",
        hide_env_values = true,
        value_name = "KEY"
    )]
    api_key: Option<String>,
    /// Decides every text, together with the prompt
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Calls that are worked on at once
    #[arg(long, value_name = "N")]
    batch_slots: Option<usize>,
    /// Microseconds for each prompt token that the prefix cache does not have
    #[arg(long, default_value_t = 0, value_name = "MICROS")]
    prefill_micros_per_token: u64,
    /// Microseconds for each output token
    #[arg(long, default_value_t = 0, value_name = "MICROS")]
    token_micros: u64,
    /// Microseconds for each call, before the prefill
    #[arg(long, default_value_t = 0, value_name = "MICROS")]
    base_micros: u64,
    /// Tokens of an answer that is not told how many
    #[arg(long, value_name = "N")]
    output_tokens: Option<u32>,
    /// Blocks that the prefix cache holds; 0 turns it off
    #[arg(long, value_name = "N")]
    prefix_cache_blocks: Option<usize>,
    /// Refuse calls without a `cache_salt`
    #[arg(long)]
    require_salt: bool,
    /// Tokens that a prompt needs before a provider's cache keeps it
    #[arg(long, value_name = "N")]
    cache_tokens_min: Option<usize>,
    /// LoRA adapters that are loaded at once; without any, there is nothing to load them with
    #[arg(long, default_value_t = 0, value_name = "N")]
    lora_slots: usize,
    /// Load adapters when calls name them, as LoRAX does
    #[arg(long)]
    lora_by_call: bool,
    /// Look for a loaded adapter's files at its path, as a real engine does
    #[arg(long)]
    lora_files: bool,
    /// Serve calls that wait by their `priority`, lower first
    #[arg(long)]
    priority_scheduling: bool,
    /// Verify the signatures of Bedrock's calls against this key
    #[arg(long, requires = "aws_secret_access_key", value_name = "ID")]
    aws_access_key_id: Option<String>,
    /// Its secret
    #[arg(
        long,
        env = "PARTYWALL_SIMULATOR_AWS_SECRET",
        hide_env_values = true,
        value_name = "SECRET"
    )]
    aws_secret_access_key: Option<String>,
    /// The region that Bedrock's calls are signed for
    #[arg(long, default_value = "us-east-1", value_name = "REGION")]
    aws_region: String,
}

/// A provider whose API others share.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Manners {
    /// An engine of one's own, which takes salts
    Vllm,
    /// Refuses what it does not know; caches by credential
    Openai,
    /// Refuses with a 422; wants its own ids of tools
    Mistral,
}

impl From<Manners> for Provider {
    fn from(manners: Manners) -> Self {
        match manners {
            Manners::Vllm => Self::Vllm,
            Manners::Openai => Self::OpenAi,
            Manners::Mistral => Self::Mistral,
        }
    }
}

impl SimulateArgs {
    fn config(&self) -> EngineConfig {
        let defaults = EngineConfig::default();
        EngineConfig {
            models: if self.models.is_empty() {
                defaults.models
            } else {
                self.models.clone()
            },
            api_key: self.api_key.clone(),
            seed: self.seed,
            timing: Timing {
                prefill_micros_per_token: self.prefill_micros_per_token,
                token_micros: self.token_micros,
                base_micros: self.base_micros,
            },
            batch_slots: self.batch_slots.unwrap_or(defaults.batch_slots),
            output_tokens: self.output_tokens.unwrap_or(defaults.output_tokens),
            prefix_cache_blocks: self
                .prefix_cache_blocks
                .unwrap_or(defaults.prefix_cache_blocks),
            require_salt: self.require_salt,
            provider: self.provider.into(),
            provider_cache_tokens_min: self
                .cache_tokens_min
                .unwrap_or(defaults.provider_cache_tokens_min),
            lora_slots: self.lora_slots,
            lora_by_call: self.lora_by_call,
            lora_files: self.lora_files,
            scheduling: if self.priority_scheduling {
                Scheduling::Priority
            } else {
                Scheduling::Arrival
            },
            aws_key: self.aws_key(),
            ..defaults
        }
    }
}

impl SimulateArgs {
    fn aws_key(&self) -> Option<AwsKey> {
        Some(AwsKey {
            access_key_id: self.aws_access_key_id.clone()?,
            secret_access_key: self.aws_secret_access_key.clone()?,
            region: self.aws_region.clone(),
        })
    }
}

/// Serves until it is told to stop.
///
/// # Errors
///
/// If the address cannot be listened on.
pub(crate) async fn run(args: SimulateArgs, form: Form) -> anyhow::Result<()> {
    let listener = TcpListener::bind(args.listen).await.with_context(|| {
        format!(
            "cannot listen on {}: choose another with --listen",
            args.listen
        )
    })?;
    let config = args.config();
    let base_url = format!("http://{}/v1", listener.local_addr()?);
    let mut signals = Signals::receive()?;
    match form {
        Form::Json => say_json(&json!({"base_url": base_url, "models": config.models}))?,
        Form::People => say(format_args!(
            "the simulator serves {base_url} ({})",
            config.models.join(", ")
        ))?,
    }
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let supervisor = Supervisor::new();
    let engine = Engine::new(config, clock);
    tokio::select! {
        () = engine.serve(listener, supervisor.clone()) => {}
        () = signals.stop() => {}
    }
    supervisor.drain(std::time::Duration::from_secs(1)).await;
    Ok(())
}
