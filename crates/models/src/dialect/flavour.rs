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
