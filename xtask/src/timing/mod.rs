//! `cargo xtask timing`: whether a tenant can find out by timing what another has sent to an
//! engine that both share (PromptPeek, NDSS 2025). `docs/timing.md` says what each figure means.
//!
//! The real binary stands before the simulator, or before a real engine. A tenant sends a prompt
//! and looks at the time to the first token, in three arms with their turns in one round: it has
//! sent that prompt before, another tenant has, nobody has. If it cannot tell the last two apart,
//! though it can tell the first, the wall holds. The same with salts off shows that the
//! experiment finds a leak where there is one.

mod auc;
mod probe;

use std::fmt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, ensure};
use base::SeededEntropy;
use serde::{Deserialize, Serialize};

use self::auc::Auc;
use self::probe::{Look, Neighbours, Salts, Seen};
use crate::command::{Server, disk_folder, tell};
use crate::product::{self, Product, Start, runtime};

/// What the same tenant's own prompts must be told by; below, the run could not have seen a leak.
const SENSITIVITY_MIN: f64 = 0.95;

/// How far from 0.5 the interval of the other tenant's prompts may reach: with 1,000 calls in
/// each arm it is ±0.02 wide.
const BAND: f64 = 0.05;

/// With 150 calls the interval is ±0.055 wide: chance leaves this band once in 50,000 runs.
const BAND_QUICK: f64 = 0.2;

const CALLS: usize = 1_000;
const CALLS_QUICK: usize = 150;

/// A run in which the machine was too busy to tell anything is made again, twice at most.
const TRIES_MAX: usize = 3;

/// An interval that lies across an edge of the band says neither: as many calls again, four times
/// as many in all. Without that, chance alone would fail every fortieth run.
const EXTENSIONS_MAX: usize = 4;

/// Four bytes are a token in most languages, and in the simulator.
const BYTES_PER_TOKEN: usize = 4;

/// 40 µs a token, 41 ms for 1,024: a large model's prefill, and well above a busy machine's noise.
const PREFILL_MICROS_PER_TOKEN: &str = "40";

/// What to ask, and whom.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Calls in each arm.
    #[arg(long, value_parser = clap::value_parser!(u32).range(20..=100_000))]
    calls: Option<u32>,
    /// 150 calls in each arm and a wider band: finds a leak, and proves no absence.
    #[arg(long)]
    quick: bool,
    /// Tokens of a prompt, about.
    #[arg(long, default_value_t = 1_024, value_parser = clap::value_parser!(u32).range(64..=65_536))]
    prompt_tokens: u32,
    /// Decides the prompts and the order of the arms. The engine must not have seen it before.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// A real engine's API, such as http://10.0.0.5:8000/v1; the simulator if absent.
    #[arg(long, requires = "model")]
    upstream: Option<String>,
    /// Its model.
    #[arg(long)]
    model: Option<String>,
    /// What it is: vllm, sglang or tensorrt-llm.
    #[arg(long, default_value = "vllm")]
    engine: String,
    /// The variable of the environment with its key.
    #[arg(long, value_name = "NAME")]
    upstream_key_env: Option<String>,
    /// Leave out the arm without salts, for an engine that refuses such calls.
    #[arg(long)]
    without_control: bool,
    /// The binary to test; the release build, made anew, if absent.
    #[arg(long)]
    binary: Option<PathBuf>,
    /// Print what came out as JSON.
    #[arg(long)]
    json: bool,
}

impl Options {
    fn calls(&self) -> usize {
        let default = if self.quick { CALLS_QUICK } else { CALLS };
        self.calls.map_or(default, |calls| calls as usize)
    }

    fn band(&self) -> f64 {
        if self.quick { BAND_QUICK } else { BAND }
    }
}

/// The engine, as the gateway is told of it.
struct Target {
    url: String,
    model: String,
    engine: String,
    credential: Option<String>,
    prompt_bytes: usize,
}

/// What the run says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Verdict {
    /// The other tenant's prompts cannot be told from those that nobody sent.
    Isolated,
    /// They can.
    Leaking,
    /// The run could not have told.
    Void,
}

/// A run that says nothing: another exit code than a leak's.
#[derive(Debug, thiserror::Error)]
#[error("void: {0}")]
pub(crate) struct Void(&'static str);

#[derive(Serialize)]
struct Report {
    verdict: Verdict,
    prompt_tokens: u32,
    seed: u64,
    /// The simulator, or the engine's address.
    upstream: String,
    model: String,
    /// The interval of `other_against_unprimed` has to lie in it.
    band: [f64; 2],
    salted: Figures,
    /// Without salts: what the experiment finds where there is a leak.
    control: Option<Figures>,
}

/// What the attacker saw under one way of sharing.
#[derive(Serialize)]
struct Figures {
    calls_per_arm: usize,
    same_against_unprimed: Auc,
    other_against_unprimed: Auc,
    same: Arm,
    other: Arm,
    unprimed: Arm,
    /// Tokens that the engine had of another tenant's prompt, beyond what it has of any: none is
    /// told if the engine does not say.
    cached_across_tenants: Option<u64>,
}

#[derive(Serialize)]
struct Arm {
    first_token_median_ms: f64,
    first_token_p90_ms: f64,
    cached_tokens_median: Option<u64>,
    cached_tokens_max: Option<u64>,
}

/// Runs the experiment. Fails if a leak is found, or nothing could have been.
pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    let binary = match &options.binary {
        Some(binary) => binary.clone(),
        None => product::build()?,
    };
    let folder = disk_folder()?;
    let engine = Simulated::start(&binary)?;
    let start = Start {
        binary: &binary,
        data: &folder.path().join("data"),
        upstream: engine.address,
        core: None,
    };
    let product = start.run()?;
    let report = runtime()?.block_on(measure(options, &product, &engine))?;
    if options.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        println!("{report}");
    }
    match report.verdict {
        Verdict::Isolated => Ok(()),
        Verdict::Leaking => anyhow::bail!("a tenant can tell what another has sent"),
        Verdict::Void => Err(Void(report.why_void()).into()),
    }
}

async fn measure(
    options: &Options,
    product: &Product,
    simulated: &Simulated,
) -> anyhow::Result<Report> {
    let target = Target {
        url: options
            .upstream
            .clone()
            .unwrap_or_else(|| simulated.url.clone()),
        model: options
            .model
            .clone()
            .unwrap_or_else(|| "sim-small".to_owned()),
        engine: options.engine.clone(),
        credential: options
            .upstream_key_env
            .as_ref()
            .map(|name| format!("env:{name}")),
        prompt_bytes: options.prompt_tokens as usize * BYTES_PER_TOKEN,
    };
    let calls = options.calls();
    let band = [0.5 - options.band(), 0.5 + options.band()];
    let look = async |salts, seed| {
        let entropy = SeededEntropy::new(seed);
        let neighbours = Neighbours::move_in(product, &target, salts, entropy).await?;
        figures(neighbours, calls, band).await
    };
    let salted = look(Salts::Derived, options.seed).await?;
    let control = match options.without_control {
        true => None,
        // Other prompts than before, so that nothing of them is warm.
        false => Some(look(Salts::None, !options.seed).await?),
    };
    let mut report = Report {
        verdict: Verdict::Void,
        prompt_tokens: options.prompt_tokens,
        seed: options.seed,
        upstream: options
            .upstream
            .clone()
            .unwrap_or_else(|| "the simulator".to_owned()),
        model: target.model.clone(),
        band,
        salted,
        control,
    };
    report.verdict = report.judge();
    Ok(report)
}

/// Looks until the interval lies on one side of the band's edges.
async fn figures(
    mut neighbours: Neighbours<'_>,
    calls: usize,
    band: [f64; 2],
) -> anyhow::Result<Figures> {
    let mut seen = Seen::default();
    let mut tries = 1;
    loop {
        neighbours.rounds(calls, &mut seen).await?;
        let figures = Figures::of(&seen);
        // Whether the machine was quiet enough does not depend on the other tenant's arm, so that
        // trying again does not choose its outcome.
        if !figures.is_sensitive() && tries < TRIES_MAX {
            tell("the machine was too busy to tell warm prompts from cold ones: once more");
            tries += 1;
            seen = Seen::default();
            continue;
        }
        let is_enough = seen.unprimed.len() >= EXTENSIONS_MAX * calls;
        if is_enough || !figures.other_against_unprimed.straddles(band) {
            return Ok(figures);
        }
        tell("the interval lies across the band's edge: as many calls again");
    }
}

/// The built-in engine, as a process.
struct Simulated {
    _server: Server,
    url: String,
    address: std::net::SocketAddr,
}

impl Simulated {
    fn start(binary: &std::path::Path) -> anyhow::Result<Self> {
        #[derive(Deserialize)]
        struct Greeting {
            base_url: String,
        }
        let mut command = Command::new(binary);
        command
            .args(["simulate", "--json", "--listen", "127.0.0.1:0"])
            .args(["--prefill-micros-per-token", PREFILL_MICROS_PER_TOKEN])
            .stdout(Stdio::piped());
        let mut server = Server::start("the simulator", &mut command)?;
        let output = server.output().context("its output is piped")?;
        let greeting: Greeting = product::read_object(std::io::BufReader::new(output))?;
        let address = product::address(&greeting.base_url)?;
        ensure!(
            address.ip().is_loopback(),
            "the simulator listens at {address}"
        );
        Ok(Self {
            _server: server,
            url: greeting.base_url,
            address,
        })
    }
}

impl Figures {
    fn of(seen: &Seen) -> Self {
        let (same, other, unprimed) =
            (times(&seen.same), times(&seen.other), times(&seen.unprimed));
        let arms = [&seen.same, &seen.other, &seen.unprimed].map(|looks| Arm::of(looks));
        let [same_arm, other_arm, unprimed_arm] = arms;
        // What an engine has of every prompt is its template: no other tenant's.
        let cached_across_tenants = other_arm
            .cached_tokens_max
            .map(|most| most.saturating_sub(unprimed_arm.cached_tokens_max.unwrap_or(0)));
        Self {
            calls_per_arm: unprimed.len(),
            same_against_unprimed: Auc::of(&same, &unprimed),
            other_against_unprimed: Auc::of(&other, &unprimed),
            same: same_arm,
            other: other_arm,
            unprimed: unprimed_arm,
            cached_across_tenants,
        }
    }

    fn is_sensitive(&self) -> bool {
        self.same_against_unprimed.auc >= SENSITIVITY_MIN
    }
}

fn times(looks: &[Look]) -> Vec<f64> {
    let in_ms = |time: Duration| time.as_secs_f64() * 1_000.0;
    looks.iter().map(|look| in_ms(look.first_token)).collect()
}

impl Arm {
    fn of(looks: &[Look]) -> Self {
        let mut times = times(looks);
        times.sort_by(f64::total_cmp);
        let cached: Option<Vec<u64>> = looks.iter().map(|look| look.cached_tokens).collect();
        let mut cached = cached.unwrap_or_default();
        cached.sort_unstable();
        Self {
            first_token_median_ms: times[times.len() / 2],
            first_token_p90_ms: times[times.len() * 9 / 10],
            cached_tokens_median: cached.get(cached.len() / 2).copied(),
            cached_tokens_max: cached.last().copied(),
        }
    }
}

impl Report {
    fn judge(&self) -> Verdict {
        let salted = &self.salted;
        // Whatever the clock says: the engine itself knows.
        if salted
            .cached_across_tenants
            .is_some_and(|tokens| tokens > 0)
        {
            return Verdict::Leaking;
        }
        if !self.why_void().is_empty() {
            return Verdict::Void;
        }
        match salted.other_against_unprimed.is_inside(self.band) {
            true => Verdict::Isolated,
            false => Verdict::Leaking,
        }
    }

    /// Why the run says nothing; empty if it does.
    fn why_void(&self) -> &'static str {
        let finds_leak = |control: &Figures| {
            control.is_sensitive() && control.other_against_unprimed.auc >= SENSITIVITY_MIN
        };
        match &self.control {
            _ if !self.salted.is_sensitive() => {
                "a tenant could not tell its own warm prompts from cold ones: a quieter machine, \
                 or a longer --prompt-tokens, may let it"
            }
            Some(control) if !finds_leak(control) => {
                "without salts no leak was found: does the engine cache prefixes at all?"
            }
            _ => "",
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{} of {}: {} calls in each arm, prompts of {} tokens, seed {}\n",
            self.model, self.upstream, self.salted.calls_per_arm, self.prompt_tokens, self.seed
        )?;
        writeln!(
            f,
            "{:<9} {:<11} {:>10} {:>9} {:>8}   {:<8} 90% interval",
            "salts", "primed by", "median ms", "p90 ms", "cached", "AUC"
        )?;
        let ways = [
            ("derived", Some(&self.salted)),
            ("none", self.control.as_ref()),
        ];
        for (name, figures) in ways {
            let Some(figures) = figures else { continue };
            figures.write_rows(f, name)?;
        }
        let [low, high] = self.band;
        let verdict = match self.verdict {
            Verdict::Isolated => "isolated: what another tenant has sent cannot be told",
            Verdict::Leaking => "LEAKING: what another tenant has sent can be told",
            Verdict::Void => "void: this run could not have told",
        };
        write!(f, "\n{verdict} (band {low:.2} to {high:.2})")
    }
}

impl Figures {
    fn write_rows(&self, f: &mut fmt::Formatter<'_>, salts: &str) -> fmt::Result {
        let rows = [
            ("the same", &self.same, Some(self.same_against_unprimed)),
            ("another", &self.other, Some(self.other_against_unprimed)),
            ("nobody", &self.unprimed, None),
        ];
        for (primed, arm, auc) in rows {
            let cached = arm.cached_tokens_median;
            let cached = cached.map_or_else(|| "-".to_owned(), |tokens| tokens.to_string());
            write!(
                f,
                "{salts:<9} {primed:<11} {:>10.2} {:>9.2} {cached:>8}",
                arm.first_token_median_ms, arm.first_token_p90_ms
            )?;
            match auc {
                None => writeln!(f)?,
                Some(Auc { auc, low, high }) => {
                    writeln!(f, "   {auc:<8.3} {low:.3} to {high:.3}")?;
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is seen when each arm takes so many milliseconds, a little more at each call.
    fn seen(same: u64, other: u64, unprimed: u64, cached: [u64; 3]) -> Figures {
        let looks = |ms: u64, cached_tokens: u64| {
            let look = |number: u64| Look {
                // Some noise, the same in each arm.
                first_token: Duration::from_micros(ms * 1_000 + number * 7_919 % 1_000),
                cached_tokens: Some(cached_tokens),
            };
            (0..1_000).map(look).collect()
        };
        Figures::of(&Seen {
            same: looks(same, cached[0]),
            other: looks(other, cached[1]),
            unprimed: looks(unprimed, cached[2]),
        })
    }

    fn judge(salted: Figures, control: Option<Figures>) -> Verdict {
        let report = Report {
            verdict: Verdict::Void,
            prompt_tokens: 1_024,
            seed: 1,
            upstream: "a test".to_owned(),
            model: "m".to_owned(),
            band: [0.45, 0.55],
            salted,
            control,
        };
        report.judge()
    }

    #[test]
    fn each_verdict_has_its_reason() {
        let leak = || Some(seen(2, 2, 20, [1_024, 1_024, 0]));
        let isolated = || seen(2, 20, 20, [1_024, 0, 0]);
        assert_eq!(judge(isolated(), leak()), Verdict::Isolated);
        assert_eq!(judge(isolated(), None), Verdict::Isolated);
        // A template that is always cached is no leak.
        let template = seen(2, 20, 20, [1_024, 16, 16]);
        assert_eq!(judge(template, leak()), Verdict::Isolated);
        let by_time = seen(2, 2, 20, [1_024, 0, 0]);
        assert_eq!(judge(by_time, leak()), Verdict::Leaking);
        let by_count = seen(2, 20, 20, [1_024, 16, 0]);
        assert_eq!(judge(by_count, leak()), Verdict::Leaking);
        // Slower is as telling as faster.
        let slower = seen(2, 40, 20, [1_024, 0, 0]);
        assert_eq!(judge(slower, leak()), Verdict::Leaking);
        // An engine without a cache, and one that does not share it.
        assert_eq!(judge(seen(20, 20, 20, [0; 3]), leak()), Verdict::Void);
        assert_eq!(judge(isolated(), Some(isolated())), Verdict::Void);
    }
}
