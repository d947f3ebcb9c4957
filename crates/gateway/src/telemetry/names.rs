//! Every name that is exported, in one place. The GenAI conventions are still in development and
//! rename things; this file pins two versions of them.
//!
//! - [`NamesVersion::Current`]: `open-telemetry/semantic-conventions-genai`, main at `024a4f94`
//!   (`docs/gen-ai/client-inference.md` and its migration guide).
//! - [`NamesVersion::V1_41`]: semantic conventions v1.41.0, the last version before that move.
//!
//! What the conventions do not know is in our own namespace, `partywall.`.

/// Which version of the GenAI conventions names spans' attributes and metrics.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum NamesVersion {
    /// The current conventions.
    #[default]
    Current,
    /// Those of v1.41, which many dashboards still expect.
    V1_41,
}

/// The names that differ between the versions.
#[derive(Debug)]
pub(super) struct Names {
    /// The schema's address, where one is published.
    pub(super) schema_url: &'static str,
    /// The duration of chats and completions.
    pub(super) inference_duration: &'static str,
    pub(super) time_to_first_chunk: &'static str,
    pub(super) time_per_output_chunk: &'static str,
    /// The attribute of a span that says the tokens written to the provider's cache.
    pub(super) cache_write: &'static str,
    pub(super) tokens: TokenNames,
}

/// How tokens are told apart.
#[derive(Debug)]
pub(super) enum TokenNames {
    /// A metric for each type: counters, and a distribution by call.
    Metrics {
        input: &'static str,
        output: &'static str,
        cache_read: &'static str,
        cache_write: &'static str,
        reasoning: &'static str,
        input_by_call: &'static str,
        output_by_call: &'static str,
    },
    /// One distribution by call, with the type as an attribute.
    Attribute { by_call: &'static str },
}

impl NamesVersion {
    pub(super) const fn names(self) -> &'static Names {
        match self {
            Self::Current => &CURRENT,
            Self::V1_41 => &V1_41,
        }
    }
}

const CURRENT: Names = Names {
    schema_url: "",
    inference_duration: "gen_ai.client.inference.duration",
    time_to_first_chunk: "gen_ai.client.inference.time_to_first_chunk",
    time_per_output_chunk: "gen_ai.client.inference.time_per_output_chunk",
    cache_write: "gen_ai.usage.cache_write.input_tokens",
    tokens: TokenNames::Metrics {
        input: "gen_ai.client.inference.usage.input_tokens",
        output: "gen_ai.client.inference.usage.output_tokens",
        cache_read: "gen_ai.client.inference.usage.cache_read.input_tokens",
        cache_write: "gen_ai.client.inference.usage.cache_write.input_tokens",
        reasoning: "gen_ai.client.inference.usage.reasoning.output_tokens",
        input_by_call: "gen_ai.client.inference.operation.input_tokens",
        output_by_call: "gen_ai.client.inference.operation.output_tokens",
    },
};

const V1_41: Names = Names {
    schema_url: "https://opentelemetry.io/schemas/1.41.0",
    inference_duration: OPERATION_DURATION,
    time_to_first_chunk: "gen_ai.client.operation.time_to_first_chunk",
    time_per_output_chunk: "gen_ai.client.operation.time_per_output_chunk",
    cache_write: "gen_ai.usage.cache_creation.input_tokens",
    tokens: TokenNames::Attribute {
        by_call: "gen_ai.client.token.usage",
    },
};

/// The duration of what is no inference: embeddings, in both versions.
pub(super) const OPERATION_DURATION: &str = "gen_ai.client.operation.duration";

pub(super) const OPERATION_NAME: &str = "gen_ai.operation.name";
pub(super) const PROVIDER_NAME: &str = "gen_ai.provider.name";
pub(super) const CONVERSATION_ID: &str = "gen_ai.conversation.id";
pub(super) const REQUEST_MODEL: &str = "gen_ai.request.model";
pub(super) const REQUEST_STREAM: &str = "gen_ai.request.stream";
pub(super) const REQUEST_CHOICE_COUNT: &str = "gen_ai.request.choice.count";
pub(super) const REQUEST_MAX_TOKENS: &str = "gen_ai.request.max_tokens";
pub(super) const REQUEST_TEMPERATURE: &str = "gen_ai.request.temperature";
pub(super) const REQUEST_TOP_P: &str = "gen_ai.request.top_p";
pub(super) const REQUEST_FREQUENCY_PENALTY: &str = "gen_ai.request.frequency_penalty";
pub(super) const REQUEST_PRESENCE_PENALTY: &str = "gen_ai.request.presence_penalty";
pub(super) const REQUEST_SEED: &str = "gen_ai.request.seed";
pub(super) const RESPONSE_ID: &str = "gen_ai.response.id";
pub(super) const RESPONSE_MODEL: &str = "gen_ai.response.model";
pub(super) const RESPONSE_FINISH_REASONS: &str = "gen_ai.response.finish_reasons";
pub(super) const RESPONSE_TIME_TO_FIRST_CHUNK: &str = "gen_ai.response.time_to_first_chunk";
pub(super) const USAGE_INPUT: &str = "gen_ai.usage.input_tokens";
pub(super) const USAGE_OUTPUT: &str = "gen_ai.usage.output_tokens";
pub(super) const USAGE_CACHE_READ: &str = "gen_ai.usage.cache_read.input_tokens";
pub(super) const USAGE_REASONING: &str = "gen_ai.usage.reasoning.output_tokens";
pub(super) const TOKEN_TYPE: &str = "gen_ai.token.type";
pub(super) const ERROR_TYPE: &str = "error.type";
/// Marks the series that holds what is beyond the cap (the metrics SDK's specification).
pub(super) const METRIC_OVERFLOW: &str = "otel.metric.overflow";

pub(super) const SERVICE_NAME: &str = "service.name";
pub(super) const SERVICE_VERSION: &str = "service.version";
pub(super) const SERVICE_INSTANCE_ID: &str = "service.instance.id";

pub(super) const TENANT_ID: &str = "partywall.tenant.id";
pub(super) const KEY_ID: &str = "partywall.key.id";
pub(super) const REQUEST_ID: &str = "partywall.request.id";
pub(super) const FEATURE: &str = "partywall.feature";
pub(super) const HOP: &str = "partywall.hop";
pub(super) const PROMPT: &str = "partywall.prompt";
pub(super) const UPSTREAM: &str = "partywall.upstream";
pub(super) const CACHE: &str = "partywall.cache";
/// Of a record: the answer's status, the cost in dollars as text, the time from arrival to end.
pub(super) const STATUS: &str = "http.response.status_code";
pub(super) const COST: &str = "partywall.cost_usd";
pub(super) const DURATION_MS: &str = "partywall.duration_ms";
/// Which part of the program a record of the process is from.
pub(super) const LOG_TARGET: &str = "partywall.log.target";
/// What a record is of.
pub(super) const CALL_EVENT: &str = "partywall.call";
/// Spans that no collector has: a queue was full, or the collector did not take them.
pub(super) const SPANS_DROPPED: &str = "partywall.telemetry.dropped_spans";

/// The instrumentation scope.
pub(super) const SCOPE: &str = "partywall.gateway";
/// The provider of a call that was refused before any upstream was chosen.
pub(super) const OURSELVES: &str = "partywall";
