//! The data path: from a client's bytes to an upstream's and back, in seven stages.
//!
//! `pipeline/mod.rs` shows the whole life of a request on one screen. `gateway` contains no SQL;
//! every hop to storage goes through `store`, and nothing on the way asks a database who the
//! caller is, what they may do, what it costs or whether they can pay.

mod access_log;
mod adapter_metrics;
mod adapters;
mod bodies;
mod bounds;
mod calendar;
mod configuration;
mod endpoint;
mod exemplars;
pub mod fairness;
mod fence;
mod flights;
mod gateway;
pub mod guard;
mod health;
mod in_flight;
mod inspect;
mod lines;
mod metrics;
mod notices;
mod pipeline;
mod prompt;
mod refusal;
pub mod resilience;
mod response_cache;
mod route;
mod server;
mod shared;
mod shares;
mod slow_reader;
mod speech;
mod telemetry;
mod tenants;
mod upstream;
mod upstream_metrics;
mod upstream_status;
mod wait;

pub use access_log::{AccessLog, LogFormat};
pub use bounds::GatewayBounds;
pub use configuration::Configuration;
pub use endpoint::{Access, ENDPOINTS, Endpoint, EndpointRow};
pub use fence::Fence;
pub use gateway::{AccountState, Gateway, Parts};
pub use health::{
    Distribution, HealthFigures, HealthHour, MINUTES as HEALTH_MINUTES, MinuteCounts, ToldMinute,
};
pub use metrics::Metrics;
pub use notices::WebhookSecret;
pub use prompt::{PromptTrial, TrialError};
pub use response_cache::CacheFigures;
pub use shares::{
    Answering, Coordinator, CoordinatorError, Exchanged, RatePools, RatePoolsError, RatesAnswering,
};
pub use telemetry::{
    CallRecords, CallersTraces, NamesVersion, ProcessField, ProcessLog, ProcessRecord, SampleRatio,
    Severity, TelemetryOptions,
};
pub use upstream::{CollectorEndpoint, CollectorHeader, CollectorSetupError};
pub use upstream::{
    DeliveryError, Fetch, MailError, MailSecurity, MailServer, Message, NoMail, Postman, Reach,
    Signature, tls_with_authorities,
};
pub use upstream::{EndpointState, EndpointView};
pub use upstream::{google_token, sigv4};
pub use upstream_status::{UpstreamState, UpstreamStatus};
