//! What an engine is told when it starts.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// An engine's settings. Every one has a default, which answers at once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct EngineConfig {
    /// The models that it serves; each can chat, complete and embed. Another name is a 404.
    pub models: Vec<String>,
    /// Who speaks at the paths that OpenAI's API and its imitations share. The other providers
    /// have paths of their own, and are always there.
    pub provider: Provider,
    /// The key that calls need, in the header where each provider has it. Without one, anybody
    /// may call.
    pub api_key: Option<String>,
    /// The pair by which Bedrock's signed calls are verified. Without one, signatures are not.
    pub aws_key: Option<AwsKey>,
    /// Decides every text and every vector, together with the model and the prompt.
    pub seed: u64,
    /// How long the work takes.
    pub timing: Timing,
    /// Calls that are worked on at once. 64: a common batch of one GPU.
    pub batch_slots: usize,
    /// Calls that may wait for a slot, first come, first served; one more is a 503. 16,384: a
    /// load test of 10,000 concurrent calls waits, and a runaway one is refused.
    pub queue_slots: usize,
    /// Connections at once; further ones wait to be accepted. 32,768: the queue, the slots, and
    /// as much again for those that rest.
    pub connections_max: usize,
    /// Blocks that the prefix cache holds, the least recently used going first; 0 turns the cache
    /// off. 65,536: a million tokens at 16 a block, in about 3 MiB.
    pub prefix_cache_blocks: usize,
    /// Tokens in a block of the prefix cache. 16: vLLM's default.
    pub block_tokens: usize,
    /// Tokens that a prompt needs before a provider's cache keeps it. 1,024: OpenAI's, and that of
    /// most of Anthropic's models. The engine's own prefix cache has no such bound.
    pub provider_cache_tokens_min: usize,
    /// LoRA adapters that are loaded at once; 0 serves none, and the endpoints to load them are
    /// not there.
    pub lora_slots: usize,
    /// Adapters are loaded when a call names one, as LoRAX does, the one that was loaded
    /// first making room; there are no endpoints to load them.
    pub lora_by_call: bool,
    /// Whether an adapter that is loaded has to have its files at its path, as with a real engine.
    pub lora_files: bool,
    /// In which order calls that wait get their slots.
    pub scheduling: Scheduling,
    /// Tokens of an answer whose request does not say otherwise with `[[tokens:…]]`.
    pub output_tokens: u32,
    /// Numbers in an embedding whose request does not name `dimensions`. 384: a common small
    /// model's.
    pub embedding_dimensions: usize,
    /// Refuse chats and completions without a `cache_salt`, as an engine shared by tenants should.
    pub require_salt: bool,
    /// Bytes of a request's body at most; more is a 413. 64 MiB: twice what the gateway lets
    /// through.
    pub body_bytes_max: usize,
    /// How many of the last requests [`crate::Engine::observed`] shows whole. Off by default,
    /// since they are other people's prompts.
    pub record_requests: usize,
}

/// Whose manners the shared paths (`/v1/chat/completions` and the like) have.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Provider {
    /// An engine of one's own, such as vLLM or SGLang: takes salts, passes over what it does not
    /// know, and shares its prefix cache among all who send no salt.
    #[default]
    Vllm,
    /// OpenAI: refuses what it does not know, salts among it, and caches prompts by credential.
    OpenAi,
    /// Mistral: refuses what it does not know with a 422, and wants ids of tools to be nine
    /// letters and digits.
    Mistral,
}

/// In which order calls that wait get their slots.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Scheduling {
    /// First come, first served. A request that names a `priority` other than 0 is refused.
    #[default]
    Arrival,
    /// By the request's `priority`, lower first, then by arrival.
    Priority,
}

/// A pair of keys as AWS gives them out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AwsKey {
    /// Its public part, such as `AKIAIOSFODNN7EXAMPLE`.
    pub access_key_id: String,
    /// Its secret part.
    pub secret_access_key: String,
    /// The region that calls are signed for, such as `us-east-1`.
    pub region: String,
}

/// How long the work of a call takes, in microseconds. A timer's grain is one millisecond; what
/// is finer holds on average.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Timing {
    /// For each prompt token that the prefix cache did not have. 0: at once.
    pub prefill_micros_per_token: u64,
    /// For each step of the output, in which every choice of a call grows by a token. 0: at once.
    pub token_micros: u64,
    /// For each call, before the prefill. 0: at once.
    pub base_micros: u64,
}

impl Default for EngineConfig {
    fn default() -> Self {
        Self {
            models: ["sim-small", "sim-large", "sim-embed"]
                .map(String::from)
                .to_vec(),
            provider: Provider::default(),
            api_key: None,
            aws_key: None,
            seed: 0,
            timing: Timing::default(),
            batch_slots: 64,
            queue_slots: 16_384,
            connections_max: 32_768,
            prefix_cache_blocks: 65_536,
            block_tokens: 16,
            provider_cache_tokens_min: 1_024,
            lora_slots: 0,
            lora_by_call: false,
            lora_files: false,
            scheduling: Scheduling::default(),
            output_tokens: 32,
            embedding_dimensions: 384,
            require_salt: false,
            body_bytes_max: 64 * 1024 * 1024,
            record_requests: 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_setting_has_a_default_and_no_other_is_taken() {
        let parsed: EngineConfig = serde_json::from_str("{}").unwrap();
        assert_eq!(parsed, EngineConfig::default());
        let partial: EngineConfig =
            serde_json::from_str(r#"{"timing":{"token_micros":7},"seed":3}"#).unwrap();
        assert_eq!((partial.timing.token_micros, partial.seed), (7, 3));
        assert!(serde_json::from_str::<EngineConfig>(r#"{"sed":3}"#).is_err());
    }
}
