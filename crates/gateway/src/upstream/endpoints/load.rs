//! What an engine's own figures say of its load, out of Prometheus's text.

/// Calls that an engine works on, as it says itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct EngineLoad {
    pub(super) running: u32,
    pub(super) waiting: u32,
    /// How full the cache of keys and values is, in thousandths; none if it does not say.
    pub(super) kv_permille: Option<u32>,
}

/// What a series is.
#[derive(Clone, Copy)]
enum Figure {
    Running,
    Waiting,
    /// From 0 to 1.
    KvUse,
}

/// The names of vLLM (both of its cache's), SGLang, TGI and llama.cpp.
const NAMES: [(&str, Figure); 12] = [
    ("vllm:num_requests_running", Figure::Running),
    ("vllm:num_requests_waiting", Figure::Waiting),
    ("vllm:kv_cache_usage_perc", Figure::KvUse),
    ("vllm:gpu_cache_usage_perc", Figure::KvUse),
    ("sglang:num_running_reqs", Figure::Running),
    ("sglang:num_queue_reqs", Figure::Waiting),
    ("sglang:token_usage", Figure::KvUse),
    ("tgi_batch_current_size", Figure::Running),
    ("tgi_queue_size", Figure::Waiting),
    ("llamacpp:requests_processing", Figure::Running),
    ("llamacpp:requests_deferred", Figure::Waiting),
    ("llamacpp:kv_cache_usage_ratio", Figure::KvUse),
];

impl EngineLoad {
    /// Reads a page of metrics: series of one name are summed, over models and parallel engines
    /// behind one address; of the caches, the fullest counts. None if no name is known.
    pub(super) fn parse(page: &str) -> Option<Self> {
        let mut load = Self::default();
        let mut is_known = false;
        for line in page.lines().filter(|line| !line.starts_with('#')) {
            let name = line.split(['{', ' ']).next().unwrap_or_default();
            let Some((_, figure)) = NAMES.iter().find(|(known, _)| *known == name) else {
                continue;
            };
            let Some(value) = value_of(line) else {
                continue;
            };
            is_known = true;
            match figure {
                Figure::Running => load.running = load.running.saturating_add(value as u32),
                Figure::Waiting => load.waiting = load.waiting.saturating_add(value as u32),
                Figure::KvUse => {
                    let permille = (value.min(1.0) * 1_000.0) as u32;
                    load.kv_permille = load.kv_permille.max(Some(permille));
                }
            }
        }
        is_known.then_some(load)
    }

    /// Calls that run and wait.
    pub(super) fn calls(&self) -> u32 {
        self.running.saturating_add(self.waiting)
    }
}

/// The value of a series: what follows its labels, before a time stamp. None if it is no number
/// of calls or share: negative, not finite.
fn value_of(line: &str) -> Option<f64> {
    let values = line
        .rsplit_once('}')
        .or_else(|| line.split_once(' '))
        .map(|(_, values)| values)?;
    let value: f64 = values.split_ascii_whitespace().next()?.parse().ok()?;
    (value.is_finite() && value >= 0.0).then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(page: &str, expected: Option<(u32, u32, Option<u32>)>) {
        let load = EngineLoad::parse(page);
        let found = load.map(|load| (load.running, load.waiting, load.kv_permille));
        assert_eq!(found, expected, "{page}");
    }

    #[test]
    fn every_engines_names_are_read() {
        check(
            "# TYPE vllm:num_requests_running gauge\n\
             vllm:num_requests_running{engine=\"0\",model_name=\"a } b\"} 3.0\n\
             vllm:num_requests_running{engine=\"1\",model_name=\"m\"} 2.0\n\
             vllm:num_requests_waiting{engine=\"0\"} 7\n\
             vllm:kv_cache_usage_perc{engine=\"0\"} 0.25\n\
             vllm:kv_cache_usage_perc{engine=\"1\"} 0.915 1700000000000\n",
            Some((5, 7, Some(915))),
        );
        check(
            "sglang:num_running_reqs{tp_rank=\"0\"} 4\nsglang:num_queue_reqs 1\nsglang:token_usage 1.5\n",
            Some((4, 1, Some(1_000))),
        );
        check(
            "tgi_queue_size 2\ntgi_batch_current_size 8\n",
            Some((8, 2, None)),
        );
        check(
            "llamacpp:requests_processing 1\nllamacpp:requests_deferred 0\n",
            Some((1, 0, None)),
        );
    }

    #[test]
    fn what_is_no_figure_is_passed_over() {
        check("", None);
        check("<html>not found</html>", None);
        check("process_cpu_seconds_total 3\n", None);
        check("vllm:num_requests_running NaN\n", None);
        check(
            "vllm:num_requests_running -1\nvllm:num_requests_waiting x\n",
            None,
        );
        check("vllm:num_requests_running_total 4\n", None);
        check(
            "vllm:num_requests_running 1e30\n",
            Some((u32::MAX, 0, None)),
        );
    }
}
