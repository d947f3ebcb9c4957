// What `src/lib.rs` declares, but for the pipeline: each case brings one of its own.

#[path = "../../../src/access_log.rs"]
mod access_log;
#[path = "../../../src/adapter_metrics.rs"]
mod adapter_metrics;
#[path = "../../../src/adapters/mod.rs"]
mod adapters;
#[path = "../../../src/bodies/mod.rs"]
mod bodies;
#[path = "../../../src/bounds.rs"]
mod bounds;
#[path = "../../../src/calendar.rs"]
mod calendar;
#[path = "../../../src/configuration.rs"]
mod configuration;
#[path = "../../../src/endpoint.rs"]
mod endpoint;
#[path = "../../../src/exemplars.rs"]
mod exemplars;
#[path = "../../../src/fairness/mod.rs"]
mod fairness;
#[path = "../../../src/fence.rs"]
mod fence;
#[path = "../../../src/flights.rs"]
mod flights;
#[path = "../../../src/gateway.rs"]
mod gateway;
#[path = "../../../src/health/mod.rs"]
mod health;
#[path = "../../../src/guard/mod.rs"]
mod guard;
#[path = "../../../src/in_flight.rs"]
mod in_flight;
#[path = "../../../src/inspect/mod.rs"]
mod inspect;
#[path = "../../../src/lines.rs"]
mod lines;
#[path = "../../../src/metrics.rs"]
mod metrics;
#[path = "../../../src/notices.rs"]
mod notices;
#[path = "../../../src/prompt.rs"]
mod prompt;
#[path = "../../../src/refusal.rs"]
mod refusal;
#[path = "../../../src/resilience/mod.rs"]
mod resilience;
#[path = "../../../src/response_cache.rs"]
mod response_cache;
#[path = "../../../src/route.rs"]
mod route;
#[path = "../../../src/server.rs"]
mod server;
#[path = "../../../src/shared.rs"]
mod shared;
#[path = "../../../src/shares/mod.rs"]
mod shares;
#[path = "../../../src/slow_reader.rs"]
mod slow_reader;
#[path = "../../../src/speech.rs"]
mod speech;
#[path = "../../../src/telemetry/mod.rs"]
mod telemetry;
#[path = "../../../src/tenants.rs"]
mod tenants;
#[path = "../../../src/upstream/mod.rs"]
mod upstream;
#[path = "../../../src/upstream_metrics.rs"]
mod upstream_metrics;
#[path = "../../../src/upstream_status.rs"]
mod upstream_status;
#[path = "../../../src/wait.rs"]
mod wait;

pub use access_log::{AccessLog, LogFormat};
pub use bounds::GatewayBounds;
pub use configuration::Configuration;
pub use endpoint::{Access, ENDPOINTS, Endpoint, EndpointRow};
pub use fence::Fence;
pub use gateway::{AccountState, Gateway, Parts};
pub use health::{
    Distribution, HealthFigures, HealthHour, MINUTES as HEALTH_MINUTES, ToldMinute,
};
pub use metrics::Metrics;
pub use notices::WebhookSecret;
pub use prompt::{PromptTrial, TrialError};
pub use response_cache::CacheFigures;
pub use telemetry::{NamesVersion, SampleRatio, TelemetryOptions};
pub use upstream::{CollectorEndpoint, CollectorHeader, CollectorSetupError};
pub use upstream::{EndpointState, EndpointView};
pub use upstream_status::{UpstreamState, UpstreamStatus};
