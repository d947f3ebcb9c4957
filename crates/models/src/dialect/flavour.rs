//! The services and engines that speak OpenAI's chat dialect, each with an accent.

/// Who speaks OpenAI's dialect. Other dialects have one flavour, [`Flavour::OpenAi`], which says
/// nothing about them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Flavour {
    /// OpenAI itself.
    #[default]
    OpenAi,
    /// Azure OpenAI.
    Azure,
    /// Mistral's platform.
    Mistral,
    /// vLLM.
    Vllm,
    /// SGLang.
    Sglang,
    /// Hugging Face's TGI, and LoRAX.
    Tgi,
    /// Ollama.
    Ollama,
    /// llama.cpp's server.
    LlamaCpp,
    /// Groq.
    Groq,
    /// DeepSeek.
    DeepSeek,
    /// xAI.
    Xai,
    /// Together.
    Together,
    /// OpenRouter.
    OpenRouter,
    /// Fireworks.
    Fireworks,
    /// Cerebras.
    Cerebras,
    /// Perplexity.
    Perplexity,
}

/// What a flavour does in its own way, as its documentation says.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Accent {
    /// The field that bounds the output.
    pub(crate) output_limit: &'static str,
    /// Request fields that it refuses or, worse, passes over.
    pub(crate) refuses: &'static [&'static str],
    /// What it calls the seed.
    pub(crate) seed: &'static str,
    /// What it calls the factor against repetition.
    pub(crate) repetition_penalty: &'static str,
    /// Whether a stream must be asked for its usage; Mistral's says it always.
    pub(crate) takes_stream_options: bool,
    /// Whether it knows the role `developer`; else it is `system`.
    pub(crate) knows_developer: bool,
    /// How thoughts of earlier turns go back to it.
    pub(crate) reasoning_back: ReasoningBack,
    /// How it is told how much to think.
    pub(crate) reasoning_ask: ReasoningAsk,
    /// Which images it takes.
    pub(crate) images: Images,
    /// The shape of the ids of calls.
    pub(crate) call_ids: CallIds,
    /// Whether it takes marks of what to cache.
    pub(crate) takes_cache_marks: bool,
    /// The field that takes a tenant's salt.
    pub(crate) salt: Option<&'static str>,
}

/// How thoughts of earlier turns go back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ReasoningBack {
    /// Not at all: the model does not see them.
    Never,
    /// As the message's `reasoning_content`.
    ReasoningContent,
    /// As the message's `reasoning`.
    Reasoning,
    /// As `reasoning_details`, signatures included.
    Details,
}

/// How a model is told how much to think.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ReasoningAsk {
    /// `reasoning_effort`
    Effort,
    /// `reasoning: {effort, max_tokens}`
    Object,
    /// It cannot be told.
    Never,
}

/// Which images an upstream takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Images {
    /// By address and inline.
    Any,
    /// Inline alone.
    Inline,
    /// None.
    Never,
}

/// The shape of the ids of calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CallIds {
    /// Any text.
    Any,
    /// Nine letters and digits.
    NineAlphanumerics,
}

/// OpenAI's own way.
const OPENAI: Accent = Accent {
    output_limit: "max_completion_tokens",
    refuses: &["top_k", "min_p", "repetition_penalty"],
    seed: "seed",
    repetition_penalty: "repetition_penalty",
    takes_stream_options: true,
    knows_developer: true,
    reasoning_back: ReasoningBack::Never,
    reasoning_ask: ReasoningAsk::Effort,
    images: Images::Any,
    call_ids: CallIds::Any,
    takes_cache_marks: false,
    salt: None,
};

/// What engines and most services have in common.
const ENGINE: Accent = Accent {
    output_limit: "max_tokens",
    refuses: &[],
    knows_developer: false,
    reasoning_back: ReasoningBack::ReasoningContent,
    ..OPENAI
};

impl Flavour {
    /// All of them.
    pub const ALL: [Self; 16] = [
        Self::OpenAi,
        Self::Azure,
        Self::Mistral,
        Self::Vllm,
        Self::Sglang,
        Self::Tgi,
        Self::Ollama,
        Self::LlamaCpp,
        Self::Groq,
        Self::DeepSeek,
        Self::Xai,
        Self::Together,
        Self::OpenRouter,
        Self::Fireworks,
        Self::Cerebras,
        Self::Perplexity,
    ];

    /// Its name in configuration and errors.
    pub fn name(self) -> &'static str {
        match self {
            Self::OpenAi => "openai",
            Self::Azure => "azure",
            Self::Mistral => "mistral",
            Self::Vllm => "vllm",
            Self::Sglang => "sglang",
            Self::Tgi => "tgi",
            Self::Ollama => "ollama",
            Self::LlamaCpp => "llama-cpp",
            Self::Groq => "groq",
            Self::DeepSeek => "deepseek",
            Self::Xai => "xai",
            Self::Together => "together",
            Self::OpenRouter => "openrouter",
            Self::Fireworks => "fireworks",
            Self::Cerebras => "cerebras",
            Self::Perplexity => "perplexity",
        }
    }

    /// From its name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|flavour| flavour.name() == name)
    }

    /// The field that takes a tenant's salt; `None` if the engine takes none.
    pub fn salt_field(self) -> Option<&'static str> {
        self.accent().salt
    }

    /// The field that bounds the output of a chat.
    pub fn output_limit_field(self) -> &'static str {
        self.accent().output_limit
    }

    /// Whether there is anything of OpenAI's that it does not take.
    pub(crate) fn refuses_any(self) -> bool {
        !self.accent().refuses.is_empty()
    }

    /// Whether a stream must be asked for its usage; where not, the question may be refused.
    pub fn takes_stream_options(self) -> bool {
        self.accent().takes_stream_options
    }

    /// Whether a chat of OpenAI's may pass as it is written. Mistral refuses whatever it does not
    /// know, and has names and ids of its own for what OpenAI's clients say.
    pub fn takes_chats_as_written(self) -> bool {
        self != Self::Mistral
    }

    pub(crate) fn accent(self) -> Accent {
        match self {
            Self::OpenAi | Self::Azure => OPENAI,
            // Refuses whatever it does not know.
            Self::Mistral => Accent {
                refuses: &[
                    "top_k",
                    "min_p",
                    "repetition_penalty",
                    "logit_bias",
                    "logprobs",
                    "top_logprobs",
                    "user",
                    "service_tier",
                    "reasoning_effort",
                    "messages.name",
                ],
                seed: "random_seed",
                takes_stream_options: false,
                reasoning_back: ReasoningBack::Never,
                reasoning_ask: ReasoningAsk::Never,
                call_ids: CallIds::NineAlphanumerics,
                ..ENGINE
            },
            Self::Vllm => Accent {
                salt: Some("cache_salt"),
                ..ENGINE
            },
            Self::Sglang => Accent {
                salt: Some("extra_key"),
                ..ENGINE
            },
            // Passes over what it does not know.
            Self::Tgi => Accent {
                refuses: &[
                    "top_k",
                    "min_p",
                    "repetition_penalty",
                    "logit_bias",
                    "n",
                    "parallel_tool_calls",
                    "reasoning_effort",
                    "service_tier",
                ],
                reasoning_back: ReasoningBack::Never,
                reasoning_ask: ReasoningAsk::Never,
                ..ENGINE
            },
            // Passes over what it does not know.
            Self::Ollama => Accent {
                refuses: &[
                    "top_k",
                    "min_p",
                    "repetition_penalty",
                    "logit_bias",
                    "n",
                    "parallel_tool_calls",
                    "tool_choice",
                    "service_tier",
                ],
                reasoning_back: ReasoningBack::Reasoning,
                images: Images::Inline,
                ..ENGINE
            },
            Self::LlamaCpp => Accent {
                repetition_penalty: "repeat_penalty",
                refuses: &["service_tier", "reasoning_effort"],
                reasoning_ask: ReasoningAsk::Never,
                ..ENGINE
            },
            Self::Groq => Accent {
                refuses: &[
                    "top_k",
                    "min_p",
                    "repetition_penalty",
                    "logit_bias",
                    "logprobs",
                    "top_logprobs",
                    "n",
                    "messages.name",
                ],
                reasoning_back: ReasoningBack::Reasoning,
                output_limit: "max_completion_tokens",
                ..ENGINE
            },
            Self::DeepSeek => Accent {
                refuses: &[
                    "top_k",
                    "min_p",
                    "repetition_penalty",
                    "logit_bias",
                    "n",
                    "seed",
                    "parallel_tool_calls",
                    "response_format.json_schema",
                    "reasoning_effort",
                    "service_tier",
                ],
                reasoning_ask: ReasoningAsk::Never,
                images: Images::Never,
                ..ENGINE
            },
            Self::Xai => Accent {
                refuses: &["top_k", "min_p", "repetition_penalty", "logit_bias"],
                reasoning_back: ReasoningBack::Never,
                output_limit: "max_completion_tokens",
                ..ENGINE
            },
            Self::Together | Self::Fireworks => Accent {
                refuses: &["service_tier"],
                ..ENGINE
            },
            Self::OpenRouter => Accent {
                knows_developer: true,
                reasoning_back: ReasoningBack::Details,
                reasoning_ask: ReasoningAsk::Object,
                takes_cache_marks: true,
                ..ENGINE
            },
            Self::Cerebras => Accent {
                refuses: &[
                    "top_k",
                    "min_p",
                    "repetition_penalty",
                    "logit_bias",
                    "frequency_penalty",
                    "presence_penalty",
                    "n",
                ],
                reasoning_back: ReasoningBack::Never,
                images: Images::Never,
                output_limit: "max_completion_tokens",
                ..ENGINE
            },
            Self::Perplexity => Accent {
                refuses: &[
                    "min_p",
                    "repetition_penalty",
                    "logit_bias",
                    "logprobs",
                    "top_logprobs",
                    "n",
                    "seed",
                    "stop",
                    "tools",
                    "tool_choice",
                    "parallel_tool_calls",
                    "response_format.json_object",
                    "user",
                    "service_tier",
                ],
                reasoning_back: ReasoningBack::Never,
                takes_stream_options: false,
                ..ENGINE
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_flavour_has_a_name_of_its_own() {
        for flavour in Flavour::ALL {
            assert_eq!(Flavour::from_name(flavour.name()), Some(flavour));
        }
        assert_eq!(Flavour::from_name("nobody"), None);
    }

    #[test]
    fn salts_go_where_engines_take_them() {
        let salted: Vec<_> = Flavour::ALL
            .into_iter()
            .filter_map(|flavour| Some((flavour.name(), flavour.salt_field()?)))
            .collect();
        assert_eq!(salted, [("vllm", "cache_salt"), ("sglang", "extra_key")]);
    }
}
