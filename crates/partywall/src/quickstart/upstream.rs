//! What serves the models: the built-in simulator, an engine that was named, or the providers whose
//! keys are in the environment.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use base::{ModelName, Redacted, Supervisor};
use serde::Deserialize;
use serde_json::{Value, json};
use simulator::{Engine, EngineConfig};
use tenancy::catalogue::Engine as ProviderKind;
use tokio::net::TcpListener;

use super::QuickstartArgs;
use super::providers;
use crate::client::{Client, Target};
use crate::serve::World;

/// 1,000 models: more than any provider lists.
const MODELS_MAX: usize = 1_000;
/// What the simulator counts an image as, and a bound on what common engines count.
const IMAGE_TOKENS: u32 = 85;
pub(super) const IMAGE_TOKENS_MAX: u32 = 2_000;

/// Which of them.
pub(super) enum Choice {
    Simulator,
    Named {
        url: Target,
        key_variable: Option<String>,
        models: Vec<ModelName>,
    },
    Providers(Vec<ProviderKind>),
}

/// An upstream as the catalogue will have it.
#[derive(Debug, Clone)]
pub(super) struct Upstream {
    pub(super) name: &'static str,
    pub(super) spec: Value,
    pub(super) models: Vec<Model>,
    /// Whether its prompt cache is shared by its users, which tenants must have accepted.
    pub(super) shares_cache: bool,
    /// What it is, for people.
    pub(super) description: String,
}

/// A model as the catalogue will have it.
#[derive(Debug, Clone)]
pub(super) struct Model {
    /// As clients say it.
    pub(super) name: ModelName,
    /// As the upstream says it.
    pub(super) there: ModelName,
    pub(super) price: Value,
    pub(super) output_tokens_max: u32,
    pub(super) image_tokens_max: Option<u32>,
}

/// Upstreams that can be called, and what runs for them.
pub(super) struct Served {
    /// At least one.
    pub(super) upstreams: Vec<Upstream>,
    pub(super) simulator_port: Option<u16>,
    tasks: Supervisor,
}

impl Served {
    /// Ends what runs for it.
    pub(super) async fn stop(self) {
        self.tasks.drain(Duration::from_secs(1)).await;
    }
}

impl Choice {
    /// What the command line and the environment ask for.
    pub(super) fn of(args: &QuickstartArgs) -> anyhow::Result<Self> {
        if let Some(url) = &args.upstream {
            let models = args.models.iter().map(|name| name.parse());
            return Ok(Self::Named {
                url: Target::parse(url).context("--upstream")?,
                key_variable: args.upstream_key_env.clone(),
                models: models.collect::<Result<_, _>>().context("--model")?,
            });
        }
        let providers = providers::with_a_key();
        Ok(if providers.is_empty() {
            Self::Simulator
        } else {
            Self::Providers(providers)
        })
    }

    /// Makes it callable: starts the simulator, or asks the engine for its models.
    pub(super) async fn open(
        self,
        former_port: Option<u16>,
        world: &World,
    ) -> anyhow::Result<Served> {
        match self {
            Self::Simulator => simulator(former_port, world).await,
            Self::Named {
                url,
                key_variable,
                models,
            } => Ok(remote(vec![named(&url, key_variable, models).await?])),
            Self::Providers(engines) => {
                let mut upstreams = Vec::new();
                for engine in engines {
                    upstreams.push(providers::upstream(engine, &upstreams));
                }
                Ok(remote(upstreams))
            }
        }
    }
}

fn remote(upstreams: Vec<Upstream>) -> Served {
    Served {
        upstreams,
        simulator_port: None,
        tasks: Supervisor::new(),
    }
}

async fn simulator(former_port: Option<u16>, world: &World) -> anyhow::Result<Served> {
    let former = match former_port {
        Some(port) => TcpListener::bind(("127.0.0.1", port)).await.ok(),
        None => None,
    };
    let listener = match former {
        Some(listener) => listener,
        None => TcpListener::bind("127.0.0.1:0")
            .await
            .context("the simulator finds no free port on 127.0.0.1")?,
    };
    let address = listener.local_addr()?;
    let config = EngineConfig {
        require_salt: true,
        ..EngineConfig::default()
    };
    let models = config.models.iter().map(|name| Model {
        name: name.parse().expect("the simulator's models have names"),
        there: name.parse().expect("the simulator's models have names"),
        price: placeholder_price("simulator: made up"),
        output_tokens_max: 4_096,
        image_tokens_max: Some(IMAGE_TOKENS),
    });
    let upstream = Upstream {
        name: "simulator",
        spec: json!({
            "base_url": format!("http://{address}/v1"),
            "provider": "simulator",
            "engine": "vllm",
            "salting": "derived",
            "allow_private_address": true,
        }),
        models: models.collect(),
        shares_cache: false,
        description: "the built-in simulator, which computes nothing".to_owned(),
    };
    let tasks = Supervisor::new();
    let engine = Engine::new(config, Arc::clone(&world.clock));
    let supervisor = tasks.clone();
    tasks.spawn(async move { engine.serve(listener, supervisor).await });
    Ok(Served {
        upstreams: vec![upstream],
        simulator_port: Some(address.port()),
        tasks,
    })
}

/// $0.15 and $0.60 per million tokens: a small model's price, so that budgets have something to
/// count until the operator says what it really costs.
fn placeholder_price(source: &str) -> Value {
    json!({"input": "0.00000015", "output": "0.0000006", "source": source})
}

/// The answer of `/models`.
#[derive(Deserialize)]
struct ModelList {
    data: Vec<ListedModel>,
}

#[derive(Deserialize)]
struct ListedModel {
    id: String,
    #[serde(default)]
    owned_by: Option<String>,
}

async fn named(
    url: &Target,
    key_variable: Option<String>,
    models: Vec<ModelName>,
) -> anyhow::Result<Upstream> {
    let key = match &key_variable {
        None => None,
        Some(name) => {
            let value = std::env::var(name)
                .with_context(|| format!("the environment variable {name} is not set"))?;
            Some(Redacted::new(value.trim().to_owned()))
        }
    };
    let listed = Client::new(url.clone(), key)
        .get::<ModelList>("/models")
        .await;
    let (names, is_vllm) = match (listed, models.is_empty()) {
        (Ok(list), names_are_asked) => {
            let is_vllm = list
                .data
                .iter()
                .any(|it| it.owned_by.as_deref() == Some("vllm"));
            let listed = list.data.iter().filter_map(|it| it.id.parse().ok());
            let names = if names_are_asked {
                listed.take(MODELS_MAX).collect()
            } else {
                models
            };
            (names, is_vllm)
        }
        (Err(_), false) => (models, false),
        (Err(error), true) => {
            return Err(error).with_context(|| {
                format!("cannot ask {url}/models which models there are: name them with --model")
            });
        }
    };
    if names.is_empty() {
        bail!("{url}/models lists no model: name one with --model");
    }
    let mut spec = json!({
        "base_url": url.to_string(),
        "provider": "own",
        "allow_private_address": true,
    });
    if is_vllm {
        spec["engine"] = json!("vllm");
        spec["salting"] = json!("derived");
    }
    if let Some(name) = key_variable {
        spec["credential"] = json!(format!("env:{name}"));
    }
    let models = names.into_iter().map(|name: ModelName| Model {
        there: name.clone(),
        name,
        price: placeholder_price("quickstart: a placeholder, not what it really costs"),
        output_tokens_max: 4_096,
        image_tokens_max: Some(IMAGE_TOKENS_MAX),
    });
    Ok(Upstream {
        name: "engine",
        spec,
        models: models.collect(),
        shares_cache: !is_vllm,
        description: format!("{url}, at placeholder prices: `partywall price` sets real ones"),
    })
}
