//! CPU per call.

use std::collections::{BTreeMap, BTreeSet};

use super::arms::{Arm, ArmKind};
use super::load::{Target, closed_loop};
use super::report::{Cost, Report};
use super::{Bench, Options, median};
use crate::command::tell;
use crate::wire::request;

/// 32 connections keep core 1 busy, and a gateway far from its bounds.
const CONNECTIONS: usize = 32;

/// A kind of call.
pub(crate) struct Workload {
    pub(crate) name: &'static str,
    model: &'static str,
    body_bytes: usize,
    form: Form,
    /// The ratio to nginx that must be reached; none where it is only reported.
    target: Option<f64>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    Whole,
    Stream,
}

/// The call that most other questions are asked with.
pub(crate) const SMALL: Workload = Workload {
    name: "1 KB, whole",
    model: "bench",
    body_bytes: 1024,
    form: Form::Whole,
    target: Some(2.0),
};

/// The same before an engine that takes 20 ms.
pub(crate) const SMALL_SLOW: Workload = Workload {
    name: "1 KB, whole, engine of 20 ms",
    model: "bench-20ms",
    target: None,
    ..SMALL
};

/// A stream before an engine that takes 20 ms to its first chunk.
pub(crate) const STREAM_SLOW: Workload = Workload {
    name: "1 KB, stream, engine of 20 ms",
    form: Form::Stream,
    ..SMALL_SLOW
};

const WORKLOADS: [Workload; 4] = [
    SMALL,
    Workload {
        name: "64-chunk stream",
        form: Form::Stream,
        target: Some(1.3),
        ..SMALL
    },
    Workload {
        name: "64-chunk stream, 2 ms apart",
        model: "bench-paced",
        form: Form::Stream,
        target: Some(1.3),
        ..SMALL
    },
    Workload {
        name: "104 KB, whole",
        body_bytes: 104 * 1024,
        target: Some(3.0),
        ..SMALL
    },
];

/// Measures every workload on every arm.
pub(super) async fn measure(
    bench: &Bench,
    options: &Options,
    report: &mut Report,
) -> anyhow::Result<()> {
    for workload in &WORKLOADS {
        tell(&format!("bench: cost of {}", workload.name));
        let mut rounds: Vec<BTreeMap<ArmKind, f64>> = Vec::new();
        let mut threads: BTreeMap<ArmKind, Vec<BTreeMap<String, f64>>> = BTreeMap::new();
        for round in 0..options.rounds() {
            let mut costs = BTreeMap::new();
            for arm in bench.in_turn(round) {
                let target = workload.target_on(arm);
                let window =
                    closed_loop(&target, CONNECTIONS, options.window(), &arm.tree()?).await?;
                costs.insert(arm.kind, window.ms_per_call());
                let by_thread = window.ms_per_call_by_thread();
                threads.entry(arm.kind).or_default().push(by_thread);
            }
            rounds.push(costs);
        }
        for arm in &bench.arms {
            report.add_cost(Cost {
                threads: medians(&threads[&arm.kind]),
                ..cost_of(workload, arm.kind, &rounds)
            });
        }
    }
    Ok(())
}

fn cost_of(workload: &Workload, arm: ArmKind, rounds: &[BTreeMap<ArmKind, f64>]) -> Cost {
    let absolute: Vec<f64> = rounds.iter().map(|round| round[&arm]).collect();
    let ratios = |to: ArmKind| {
        let ratios: Vec<f64> = rounds
            .iter()
            .filter_map(|round| Some(round[&arm] / round.get(&to)?))
            .collect();
        (!ratios.is_empty()).then(|| median(&ratios))
    };
    Cost {
        workload: workload.name,
        arm,
        cpu_ms_per_call: median(&absolute),
        threads: BTreeMap::new(),
        to_nginx: ratios(ArmKind::Nginx),
        to_nginx_logged: ratios(ArmKind::NginxLogged),
        to_passthrough: ratios(ArmKind::Passthrough),
        to_nginx_max: (arm == ArmKind::Partywall)
            .then_some(workload.target)
            .flatten(),
    }
}

/// The median over rounds of each thread's cost.
fn medians(rounds: &[BTreeMap<String, f64>]) -> BTreeMap<String, f64> {
    let names: BTreeSet<&String> = rounds.iter().flat_map(BTreeMap::keys).collect();
    let of = |name: &String| {
        let costs = rounds.iter().map(|round| round.get(name).copied());
        median(&costs.map(Option::unwrap_or_default).collect::<Vec<_>>())
    };
    names
        .into_iter()
        .map(|name| (name.clone(), of(name)))
        .collect()
}

impl Workload {
    /// The same call of another model.
    pub(crate) const fn of_model(self, model: &'static str) -> Self {
        Self { model, ..self }
    }

    /// The call as this arm is to be asked.
    pub(crate) fn target_on(&self, arm: &Arm) -> Target {
        let address = match self.form {
            Form::Whole => arm.address,
            Form::Stream => arm.stream_address,
        };
        self.target_at(address, &arm.key)
    }

    /// The call at any address.
    pub(crate) fn target_at(&self, address: std::net::SocketAddr, key: &str) -> Target {
        let body = self.body();
        Target {
            address,
            request: request(
                "POST",
                address,
                "/v1/chat/completions",
                key,
                Some(body.as_bytes()),
            )
            .into(),
        }
    }

    /// A chat of exactly `body_bytes`, written as an SDK writes it.
    fn body(&self) -> String {
        let stream = match self.form {
            Form::Whole => "",
            Form::Stream => r#","stream":true,"stream_options":{"include_usage":true}"#,
        };
        let with = |content: &str| {
            format!(
                r#"{{"model":"{}","messages":[{{"role":"system","content":"Be brief."}},{{"role":"user","content":"{content}"}}],"max_tokens":128,"temperature":0.2{stream}}}"#,
                self.model
            )
        };
        let padding = self.body_bytes - with("").len();
        with(&"some words of a user ".repeat(padding / 21 + 1)[..padding])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_are_json_of_the_stated_size() {
        for workload in &WORKLOADS {
            let body = workload.body();
            assert_eq!(body.len(), workload.body_bytes, "{}", workload.name);
            let parsed: serde_json::Value = serde_json::from_str(&body).expect("JSON");
            assert_eq!(parsed["model"], workload.model);
            assert_eq!(parsed["stream"].is_boolean(), workload.form == Form::Stream);
        }
    }

    #[test]
    fn a_ratio_is_taken_within_its_round() {
        // The machine is ten times slower in the second round; the ratio does not notice.
        let round =
            |slow: f64| BTreeMap::from([(ArmKind::Nginx, slow), (ArmKind::Partywall, 1.5 * slow)]);
        let cost = cost_of(&SMALL, ArmKind::Partywall, &[round(1.0), round(10.0)]);
        assert!((cost.to_nginx.expect("nginx took part") - 1.5).abs() < 1e-9);
        assert_eq!(cost.to_passthrough, None);
    }
}
