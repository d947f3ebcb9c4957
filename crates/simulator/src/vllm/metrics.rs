//! `GET /metrics`, with the names that vLLM gives its own. Loaded adapters count as running.

use std::fmt::Write as _;

use crate::engine::EngineState;

/// The Prometheus text. Counters end in `_total`, as vLLM's do in this format.
pub(crate) fn render(state: &EngineState) -> String {
    let observed = state.observed();
    let (blocks, capacity) = state.cache_fill();
    let usage = blocks as f64 / capacity.max(1) as f64;
    let model = state.config.models.first().map_or("", String::as_str);
    let mut page = Page {
        text: String::with_capacity(2_048),
        model: escaped(model),
    };
    page.add_adapters(state);
    page.add("num_requests_running", "gauge", observed.running as f64);
    page.add("num_requests_waiting", "gauge", observed.waiting as f64);
    page.add("kv_cache_usage_perc", "gauge", usage);
    page.add(
        "prefix_cache_queries_total",
        "counter",
        observed.prompt_tokens as f64,
    );
    page.add(
        "prefix_cache_hits_total",
        "counter",
        observed.cached_tokens as f64,
    );
    page.add(
        "prompt_tokens_total",
        "counter",
        observed.prompt_tokens as f64,
    );
    page.add(
        "generation_tokens_total",
        "counter",
        observed.generated_tokens as f64,
    );
    page.text
}

struct Page {
    text: String,
    model: String,
}

impl Page {
    /// vLLM's `lora_requests_info`: the adapters in one label, the time as the value.
    fn add_adapters(&mut self, state: &EngineState) {
        if state.config.lora_slots == 0 {
            return;
        }
        let names: Vec<String> = {
            let adapters = state.adapters.lock();
            adapters.list().map(|(name, _)| escaped(name)).collect()
        };
        writeln!(
            self.text,
            "# TYPE vllm:lora_requests_info gauge\n\
             vllm:lora_requests_info{{max_lora=\"{}\",running_lora_adapters=\"{}\",\
             waiting_lora_adapters=\"\"}} {}",
            state.config.lora_slots,
            names.join(","),
            state.created(),
        )
        .expect("a String takes every write");
    }

    fn add(&mut self, name: &str, kind: &str, value: f64) {
        let Self { text, model } = self;
        write!(
            text,
            "# TYPE vllm:{name} {kind}\n\
             vllm:{name}{{engine=\"0\",model_name=\"{model}\"}} {value}\n"
        )
        .expect("a String takes every write");
    }
}

/// A label's value, as the format quotes it.
fn escaped(value: &str) -> String {
    value
        .replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n")
}
