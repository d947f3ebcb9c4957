//! What a process and its children use, from `/proc`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::time::Duration;

use anyhow::{Context, ensure};

/// A process and all that descend from it.
#[derive(Debug, Clone)]
pub(crate) struct Tree {
    processes: BTreeSet<u32>,
}

impl Tree {
    /// The tree below this process, as it is now.
    pub(crate) fn of(root: u32) -> anyhow::Result<Self> {
        let mut parents = Vec::new();
        for entry in fs::read_dir("/proc").context("reading /proc")? {
            let name = entry.context("reading /proc")?.file_name();
            let Some(process) = name.to_str().and_then(|name| name.parse::<u32>().ok()) else {
                continue;
            };
            // It may have ended meanwhile.
            if let Ok(stat) = fs::read_to_string(format!("/proc/{process}/stat"))
                && let Some(parent) = stat_field(&stat, 4)
            {
                parents.push((process, parent as u32));
            }
        }
        let mut processes = BTreeSet::from([root]);
        loop {
            let size = processes.len();
            for (process, parent) in &parents {
                if processes.contains(parent) {
                    processes.insert(*process);
                }
            }
            if processes.len() == size {
                return Ok(Self { processes });
            }
        }
    }

    /// The CPU time that it has used, user and system, ended children included.
    ///
    /// The scheduler counts nanoseconds per thread; threads that have ended are only in the
    /// process's total, which is in ticks of 10 ms. Whichever is more is nearer to the truth.
    pub(crate) fn cpu_time(&self) -> anyhow::Result<Duration> {
        let mut total = Duration::ZERO;
        for process in &self.processes {
            let by_thread: Duration = threads_time(*process)?.values().sum();
            let stat = fs::read_to_string(format!("/proc/{process}/stat"))
                .with_context(|| format!("process {process} has ended"))?;
            // utime, stime, cutime, cstime: fields 14 to 17 of proc_pid_stat(5).
            let ticks: u64 = (14..=17).filter_map(|field| stat_field(&stat, field)).sum();
            total += by_thread.max(Duration::from_millis(ticks * 10));
        }
        Ok(total)
    }

    /// The CPU time of the threads that live, by their names.
    pub(crate) fn cpu_time_by_thread(&self) -> anyhow::Result<BTreeMap<String, Duration>> {
        let mut threads = BTreeMap::new();
        for process in &self.processes {
            for (name, time) in threads_time(*process)? {
                *threads.entry(name).or_default() += time;
            }
        }
        Ok(threads)
    }

    /// The memory that it holds: resident set, in bytes.
    pub(crate) fn memory_bytes(&self) -> anyhow::Result<u64> {
        self.status_bytes("VmRSS:")
    }

    /// The most that it has held since [`Tree::forget_peak`], in bytes.
    pub(crate) fn peak_bytes(&self) -> anyhow::Result<u64> {
        self.status_bytes("VmHWM:")
    }

    /// Lets the peak begin again at what is held now.
    pub(crate) fn forget_peak(&self) -> anyhow::Result<()> {
        for process in &self.processes {
            // What the kernel calls this (proc(5)): reset the peak resident set size.
            fs::write(format!("/proc/{process}/clear_refs"), "5")
                .with_context(|| format!("the peak of process {process} cannot be reset"))?;
        }
        Ok(())
    }

    fn status_bytes(&self, field: &str) -> anyhow::Result<u64> {
        let mut total = 0;
        for process in &self.processes {
            let status = fs::read_to_string(format!("/proc/{process}/status"))
                .with_context(|| format!("process {process} has ended"))?;
            let kilobytes: u64 = status
                .lines()
                .find_map(|line| line.strip_prefix(field))
                .and_then(|rest| rest.trim().strip_suffix(" kB"))
                .and_then(|number| number.parse().ok())
                .with_context(|| format!("a status has {field}"))?;
            total += kilobytes * 1024;
        }
        Ok(total)
    }
}

/// Time on a core of the threads that live, summed by name.
fn threads_time(process: u32) -> anyhow::Result<BTreeMap<String, Duration>> {
    let folder = format!("/proc/{process}/task");
    let mut threads: BTreeMap<String, Duration> = BTreeMap::new();
    for entry in fs::read_dir(&folder).with_context(|| format!("reading {folder}"))? {
        let thread = entry.context("reading a folder")?.path();
        // It may have ended meanwhile.
        let Ok(text) = fs::read_to_string(thread.join("schedstat")) else {
            continue;
        };
        let nanos = text
            .split_whitespace()
            .next()
            .and_then(|first| first.parse::<u64>().ok())
            .unwrap_or(0);
        let name = fs::read_to_string(thread.join("comm")).unwrap_or_default();
        *threads.entry(name.trim_end().to_owned()).or_default() += Duration::from_nanos(nanos);
    }
    Ok(threads)
}

/// A field of `/proc/PID/stat`, numbered from one as in its manual. The second is a name in
/// parentheses that may hold spaces.
fn stat_field(stat: &str, number: usize) -> Option<u64> {
    let (_, rest) = stat.rsplit_once(')')?;
    rest.split_whitespace().nth(number - 3)?.parse().ok()
}

/// Puts this process on one core; what it starts inherits that.
pub(crate) fn pin_self(core: u32) -> anyhow::Result<()> {
    let output = std::process::Command::new("taskset")
        .args(["-a", "-p", "-c", &core.to_string()])
        .arg(std::process::id().to_string())
        .output()
        .context("starting taskset (package util-linux)")?;
    ensure!(output.status.success(), "taskset: {output:?}");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_spaces_and_parentheses_is_one_field() {
        let stat = "42 (a) b (c)) S 7 42 42 0 -1 0 0 0 0 0 11 12 13 14 20";
        assert_eq!(stat_field(stat, 4), Some(7));
        assert_eq!(stat_field(stat, 14), Some(11));
        assert_eq!(stat_field(stat, 17), Some(14));
        assert_eq!(stat_field(stat, 99), None);
    }

    #[test]
    fn this_process_has_used_time_and_memory() {
        let tree = Tree::of(std::process::id()).expect("it runs");
        assert!(tree.memory_bytes().expect("it runs") > 100_000);
        assert!(tree.cpu_time().expect("it runs") > Duration::ZERO);
    }
}
