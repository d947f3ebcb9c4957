//! `cargo xtask fairness`: how fair the scheduler is and how far failures reach, in virtual time,
//! against the targets. `docs/fairness.md` says what each figure means.

use anyhow::ensure;
use serde_json::{Value, json};
use sim::fairness::{Crowd, Difference, Neighbour, Prediction, crowd, overload, shares};

/// How much to run.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Runs of each experiment; the worst one counts.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=1_000))]
    seeds: u64,
    /// The first seed.
    #[arg(long, default_value_t = 0)]
    from: u64,
    /// Print what came out as JSON.
    #[arg(long)]
    json: bool,
}

/// One figure: of the worst run.
struct Figure {
    name: &'static str,
    what: &'static str,
    value: f64,
    target: Target,
}

/// What a figure has to be.
#[derive(Clone, Copy)]
enum Target {
    AtMost(f64),
    AtLeast(f64),
    /// It is there to be compared with.
    None,
}

impl Figure {
    fn holds(&self) -> bool {
        match self.target {
            Target::AtMost(most) => self.value <= most,
            Target::AtLeast(least) => self.value >= least,
            Target::None => true,
        }
    }
}

/// Runs the experiments. Fails if a target is missed.
pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    let seeds: Vec<u64> = (options.from..options.from + options.seeds).collect();
    let mut figures = overload_figures(&seeds);
    figures.extend(share_figures(&seeds));
    figures.extend(crowd_figures(&seeds));
    if options.json {
        println!("{:#}", as_json(&figures, options));
    } else {
        print_table(&figures, options);
    }
    let missed: Vec<&str> = figures
        .iter()
        .filter(|figure| !figure.holds())
        .map(|figure| figure.name)
        .collect();
    ensure!(missed.is_empty(), "missed: {}", missed.join(", "));
    Ok(())
}

fn worst(values: impl Iterator<Item = f64>) -> f64 {
    values.fold(f64::MIN, f64::max)
}

fn overload_figures(seeds: &[u64]) -> Vec<Figure> {
    let run = |prediction| -> Vec<Difference> {
        seeds
            .iter()
            .map(|seed| overload(prediction, *seed))
            .collect()
    };
    let largest = |runs: &[Difference]| worst(runs.iter().map(|run| run.largest));
    let first_come = run(Prediction::FirstCome);
    let estimate = run(Prediction::Estimate(0.5));
    let throughput = estimate.iter().zip(&first_come);
    let throughput = throughput.map(|(fair, first_come)| fair.throughput / first_come.throughput);
    vec![
        Figure {
            name: "largest_difference",
            what: "two-client overload, ±50% predictor: units/s (artifact: 33.98)",
            value: largest(&estimate),
            target: Target::AtMost(34.0),
        },
        Figure {
            name: "throughput_vs_fcfs",
            what: "its throughput against first come, first served",
            value: throughput.fold(f64::MAX, f64::min),
            target: Target::AtLeast(0.99),
        },
        Figure {
            name: "largest_difference_calibrated",
            what: "the same through the product's own predictor",
            value: largest(&run(Prediction::Calibrated(0.5))),
            target: Target::AtMost(34.0),
        },
        Figure {
            name: "largest_difference_oracle",
            what: "with true predictions (artifact: 5.87)",
            value: largest(&run(Prediction::Truth)),
            target: Target::AtMost(34.0),
        },
        Figure {
            name: "largest_difference_unpredicted",
            what: "without predictions (artifact: 192.88)",
            value: largest(&run(Prediction::Nothing)),
            target: Target::AtMost(193.0),
        },
        Figure {
            name: "largest_difference_fcfs",
            what: "first come, first served (artifact's logs: 447.37)",
            value: largest(&first_come),
            target: Target::None,
        },
        Figure {
            name: "largest_accumulated_difference",
            what: "±50%: units in all, every second (a call is 768)",
            value: worst(estimate.iter().map(|run| run.accumulated)),
            target: Target::None,
        },
    ]
}

fn share_figures(seeds: &[u64]) -> Vec<Figure> {
    let runs: Vec<_> = seeds.iter().map(|seed| shares(*seed)).collect();
    vec![
        Figure {
            name: "weights_off_percent",
            what: "weights 1:2:4, off their shares by",
            value: worst(runs.iter().map(|run| run.weights_off_percent)),
            target: Target::AtMost(5.0),
        },
        Figure {
            name: "idling_gain_percent",
            what: "gained by idling and bursting",
            value: worst(runs.iter().map(|run| run.idling_gain_percent)),
            target: Target::AtMost(1.0),
        },
        Figure {
            name: "splitting_gain_percent",
            what: "gained by splitting each call into four",
            value: worst(runs.iter().map(|run| run.splitting_gain_percent)),
            target: Target::AtMost(1.0),
        },
    ]
}

fn crowd_figures(seeds: &[u64]) -> Vec<Figure> {
    let run =
        |neighbour| -> Vec<Crowd> { seeds.iter().map(|seed| crowd(neighbour, *seed)).collect() };
    let quiet = run(Neighbour::Quiet);
    let [ten, uncapped, revoked, dead, flaky] = [
        Neighbour::TenTimes,
        Neighbour::TenTimesUncapped,
        Neighbour::Revoked,
        Neighbour::Dead,
        Neighbour::Flaky,
    ]
    .map(run);
    let slower = |runs: &[Crowd]| {
        let both = runs.iter().zip(&quiet);
        worst(both.map(|(run, quiet)| (run.others.p99 / quiet.others.p99 - 1.0) * 100.0))
    };
    let errors = |runs: &[Crowd]| {
        let both = runs.iter().zip(&quiet);
        worst(both.map(|(run, quiet)| run.others.errors as f64 - quiet.others.errors as f64))
    };
    let failing = || revoked.iter().chain(&dead).chain(&flaky);
    vec![
        Figure {
            name: "neighbour_p99_percent",
            what: "a tenant at 10x its share, capped at a quarter: others' p99",
            value: slower(&ten),
            target: Target::AtMost(5.0),
        },
        Figure {
            name: "neighbour_errors",
            what: "and errors of the others",
            value: errors(&ten),
            target: Target::AtMost(0.0),
        },
        Figure {
            name: "neighbour_uncapped_p99_percent",
            what: "the same without a cap: others' p99",
            value: slower(&uncapped),
            target: Target::AtMost(5.0),
        },
        Figure {
            name: "neighbour_uncapped_errors",
            what: "and errors of the others",
            value: errors(&uncapped),
            target: Target::AtMost(0.0),
        },
        Figure {
            name: "neighbour_first_token_p99_seconds",
            what: "others' p99 to the first token, capped",
            value: worst(ten.iter().map(|run| run.others.first_token_p99)),
            target: Target::None,
        },
        Figure {
            name: "storm_p99_percent",
            what: "retry storm on a dead upstream or credential: others' p99",
            value: slower(&revoked).max(slower(&dead)),
            target: Target::AtMost(5.0),
        },
        Figure {
            name: "storm_errors",
            what: "and errors of the others",
            value: errors(&revoked).max(errors(&dead)).max(errors(&flaky)),
            target: Target::AtMost(0.0),
        },
        Figure {
            name: "storm_breakers_opened",
            what: "breakers of others, or of all, that opened",
            value: worst(failing().map(|run| run.others_breakers_opened as f64)),
            target: Target::AtMost(0.0),
        },
        Figure {
            name: "amplification",
            what: "upstream calls for each of the failing tenant's",
            value: worst(failing().map(Crowd::amplification)),
            target: Target::AtMost(1.1),
        },
        Figure {
            name: "amplification_of_sent",
            what: "of those sent to an upstream that fails 3 of 10",
            value: worst(
                flaky
                    .iter()
                    .map(|run| run.own_attempts as f64 / run.own_sent.max(1) as f64),
            ),
            target: Target::AtMost(1.1),
        },
    ]
}

fn as_json(figures: &[Figure], options: &Options) -> Value {
    let mut all = serde_json::Map::new();
    for figure in figures {
        all.insert(figure.name.to_owned(), json!(figure.value));
    }
    let targets: serde_json::Map<String, Value> = figures
        .iter()
        .filter_map(|figure| {
            let target = match figure.target {
                Target::AtMost(most) => json!({ "at_most": most }),
                Target::AtLeast(least) => json!({ "at_least": least }),
                Target::None => return None,
            };
            Some((figure.name.to_owned(), target))
        })
        .collect();
    all.insert("targets".to_owned(), Value::Object(targets));
    all.insert("seeds".to_owned(), json!(options.seeds));
    let holds = figures.iter().all(Figure::holds);
    all.insert("holds".to_owned(), json!(holds));
    Value::Object(all)
}

fn print_table(figures: &[Figure], options: &Options) {
    println!(
        "the worst of {} seeds from {}, in virtual time\n",
        options.seeds, options.from
    );
    for figure in figures {
        let target = match figure.target {
            Target::AtMost(most) => format!("<= {most}"),
            Target::AtLeast(least) => format!(">= {least}"),
            Target::None => String::new(),
        };
        let mark = if figure.holds() { ' ' } else { '!' };
        println!(
            "{mark} {:<34} {:>9.3}  {target:<8} {}",
            figure.name, figure.value, figure.what
        );
    }
}
