//! The results, as tables for people and as JSON for programs.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

use super::arms::ArmKind;

/// All that was measured.
#[derive(Serialize)]
pub(crate) struct Report {
    /// Quick runs are for seeing that it works.
    is_quick: bool,
    machine: Machine,
    cost: Vec<Cost>,
    latency: Vec<Latency>,
    memory: Vec<Memory>,
    numbers: Vec<Number>,
    /// How many targets were missed.
    missed: usize,
}

#[derive(Serialize)]
struct Machine {
    cpu: String,
    cores: usize,
    kernel: String,
}

/// What a call of one workload costs on one arm.
#[derive(Serialize)]
pub(crate) struct Cost {
    pub(crate) workload: &'static str,
    pub(crate) arm: ArmKind,
    /// The median over rounds. It depends on the machine; the ratios hardly do.
    pub(crate) cpu_ms_per_call: f64,
    /// The same of each thread, by name.
    pub(crate) threads: BTreeMap<String, f64>,
    pub(crate) to_nginx: Option<f64>,
    pub(crate) to_nginx_logged: Option<f64>,
    pub(crate) to_passthrough: Option<f64>,
    pub(crate) to_nginx_max: Option<f64>,
}

/// What a call of one workload waits on one arm, or directly at the engine.
#[derive(Serialize)]
pub(crate) struct Latency {
    pub(crate) workload: &'static str,
    pub(crate) arm: Option<ArmKind>,
    pub(crate) calls: usize,
    pub(crate) median_ms: f64,
    pub(crate) p99_ms: f64,
    pub(crate) added_median_ms: f64,
    pub(crate) added_p99_ms: f64,
    pub(crate) added_first_byte_ms: f64,
    pub(crate) added_median_ms_max: Option<f64>,
    pub(crate) added_p99_ms_max: Option<f64>,
    pub(crate) added_first_byte_ms_max: Option<f64>,
}

/// Resident memory of an arm's process tree, in millions of bytes.
#[derive(Serialize)]
pub(crate) struct Memory {
    pub(crate) arm: ArmKind,
    pub(crate) when: String,
    pub(crate) megabytes: f64,
    pub(crate) megabytes_max: Option<f64>,
}

/// Anything else.
#[derive(Serialize)]
struct Number {
    what: String,
    measured: f64,
    max: Option<f64>,
    /// Of rates: what is to be reached.
    min: Option<f64>,
}

impl Report {
    /// An empty one.
    pub(crate) fn new(is_quick: bool) -> Self {
        Self {
            is_quick,
            machine: Machine::this(),
            cost: Vec::new(),
            latency: Vec::new(),
            memory: Vec::new(),
            numbers: Vec::new(),
            missed: 0,
        }
    }

    pub(crate) fn add_cost(&mut self, cost: Cost) {
        if let Some(ratio) = cost.to_nginx {
            self.judge(ratio, cost.to_nginx_max);
        }
        self.cost.push(cost);
    }

    pub(crate) fn add_latency(&mut self, latency: Latency) {
        self.judge(latency.added_median_ms, latency.added_median_ms_max);
        self.judge(latency.added_p99_ms, latency.added_p99_ms_max);
        self.judge(latency.added_first_byte_ms, latency.added_first_byte_ms_max);
        self.latency.push(latency);
    }

    pub(crate) fn add_memory(&mut self, memory: Memory) {
        self.judge(memory.megabytes, memory.megabytes_max);
        self.memory.push(memory);
    }

    pub(crate) fn add_number(&mut self, what: &str, measured: f64, max: Option<f64>) {
        self.judge(measured, max);
        self.numbers.push(Number {
            what: what.to_owned(),
            measured,
            max,
            min: None,
        });
    }

    /// A rate, which is to reach `min`, if that is said.
    pub(crate) fn add_rate(&mut self, what: &str, measured: f64, min: Option<f64>) {
        self.missed += usize::from(is_short(measured, min));
        self.numbers.push(Number {
            what: what.to_owned(),
            measured,
            max: None,
            min,
        });
    }

    /// How many targets were missed.
    pub(crate) fn missed(&self) -> usize {
        self.missed
    }

    fn judge(&mut self, measured: f64, max: Option<f64>) {
        self.missed += usize::from(is_missed(measured, max));
    }
}

impl Cost {
    /// Where there are several threads, those with a hundredth of the cost at least.
    fn notable_threads(&self) -> impl Iterator<Item = (&str, f64)> {
        let are_several = self.threads.len() > 1;
        let least = self.cpu_ms_per_call / 100.0;
        self.threads
            .iter()
            .filter(move |(_, ms)| are_several && **ms >= least)
            .map(|(name, ms)| (name.as_str(), *ms))
    }
}

/// The same of what is to be reached.
fn is_short(measured: f64, min: Option<f64>) -> bool {
    min.is_some_and(|min| measured.is_nan() || measured < min)
}

/// What is not a number has not reached its target.
fn is_missed(measured: f64, max: Option<f64>) -> bool {
    max.is_some_and(|max| measured.is_nan() || measured > max)
}

impl Machine {
    fn this() -> Self {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let cpu_info = read("/proc/cpuinfo");
        let cpu = cpu_info
            .lines()
            .find_map(|line| line.strip_prefix("model name"))
            .map_or("", |rest| rest.trim_start_matches([' ', '\t', ':']));
        Self {
            cpu: cpu.to_owned(),
            // Not what this process may use: it is pinned to one.
            cores: cpu_info.matches("processor\t").count(),
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Machine { cpu, kernel, .. } = &self.machine;
        writeln!(
            f,
            "{cpu}, Linux {kernel}; what is measured on core 0, engine and load on core 1"
        )?;
        if self.is_quick {
            writeln!(
                f,
                "A quick run: it shows that the bench works, and is no verdict."
            )?;
        }
        self.write_cost(f)?;
        self.write_latency(f)?;
        for (index, memory) in self.memory.iter().enumerate() {
            if index == 0 {
                writeln!(f, "\n{:<20} {:<44} {:>9}  target", "memory", "", "MB")?;
            }
            let Memory {
                arm,
                when,
                megabytes,
                megabytes_max,
            } = memory;
            let target = target(*megabytes, *megabytes_max);
            writeln!(
                f,
                "{:<20} {when:<44} {megabytes:>9.1}  {target}",
                arm.name()
            )?;
        }
        for (index, number) in self.numbers.iter().enumerate() {
            if index == 0 {
                writeln!(f)?;
            }
            let target = match number.min {
                Some(min) => rate_target(number.measured, min),
                None => target(number.measured, number.max),
            };
            writeln!(f, "{:<65} {:>9.3}  {target}", number.what, number.measured)?;
        }
        writeln!(f, "\n{} targets missed", self.missed)
    }
}

impl Report {
    fn write_cost(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut workload = "";
        for cost in &self.cost {
            if cost.workload != workload {
                workload = cost.workload;
                writeln!(
                    f,
                    "\n{workload:<30} {:>11} {:>8} {:>8} {:>8}  target",
                    "CPU ms/call", "× nginx", "× logged", "× hyper"
                )?;
            }
            let ratio =
                |ratio: Option<f64>| ratio.map_or("–".to_owned(), |one| format!("{one:.2}"));
            let target = cost
                .to_nginx
                .map_or_else(String::new, |ratio| target(ratio, cost.to_nginx_max));
            writeln!(
                f,
                "  {:<28} {:>11.4} {:>8} {:>8} {:>8}  {target}",
                cost.arm.name(),
                cost.cpu_ms_per_call,
                ratio(cost.to_nginx),
                ratio(cost.to_nginx_logged),
                ratio(cost.to_passthrough),
            )?;
            for (name, ms) in cost.notable_threads() {
                writeln!(f, "    {name:<26} {ms:>11.4}")?;
            }
        }
        Ok(())
    }

    fn write_latency(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut workload = "";
        for latency in &self.latency {
            if latency.workload != workload {
                workload = latency.workload;
                writeln!(
                    f,
                    "\n{workload:<30} {:>9} {:>9} {:>9} {:>9} {:>9}  target",
                    "median ms", "p99 ms", "+median", "+p99", "+first"
                )?;
            }
            let targets = [
                target(latency.added_median_ms, latency.added_median_ms_max),
                target(latency.added_p99_ms, latency.added_p99_ms_max),
                target(latency.added_first_byte_ms, latency.added_first_byte_ms_max),
            ];
            writeln!(
                f,
                "  {:<28} {:>9.3} {:>9.3} {:>9.3} {:>9.3} {:>9.3}  {}",
                latency.arm.map_or("direct", ArmKind::name),
                latency.median_ms,
                latency.p99_ms,
                latency.added_median_ms,
                latency.added_p99_ms,
                latency.added_first_byte_ms,
                targets.join(" ").trim(),
            )?;
        }
        Ok(())
    }
}

fn target(measured: f64, max: Option<f64>) -> String {
    match max {
        None => String::new(),
        Some(max) if is_missed(measured, Some(max)) => format!("≤ {max:.2} MISSED"),
        Some(max) => format!("≤ {max:.2} ok"),
    }
}

fn rate_target(measured: f64, min: f64) -> String {
    match is_short(measured, Some(min)) {
        true => format!("≥ {min:.0} MISSED"),
        false => format!("≥ {min:.0} ok"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missed_target_is_counted_and_shown() {
        let mut report = Report::new(false);
        report.add_number("fast", 1.0, Some(2.0));
        report.add_number("slow", 3.0, Some(2.0));
        report.add_number("unknown", f64::NAN, Some(2.0));
        report.add_number("only shown", 9.0, None);
        report.add_rate("many", 3.0, Some(2.0));
        report.add_rate("few", 1.0, Some(2.0));
        assert_eq!(report.missed(), 3);
        let text = report.to_string();
        assert_eq!(text.matches("MISSED").count(), 3, "{text}");
        assert!(text.contains("≥ 2 ok"), "{text}");
        assert!(text.ends_with("3 targets missed\n"));
    }
}
