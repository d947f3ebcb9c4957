//! Room for thousands of connections in this process and in those that it starts.

use std::os::unix::process::CommandExt as _;
use std::process::Command;

use anyhow::{Context, bail, ensure};

/// 2,000 beside one for each call: the gateway's connections to the engine, and its files.
const BESIDE_CALLS: u64 = 2_000;

/// Makes sure that a process may have a descriptor for each of so many calls. Starts this program
/// anew below a shell that raises the limit if it is too low: children inherit it.
pub(crate) fn ensure_room(calls: u64) -> anyhow::Result<()> {
    let limits = std::fs::read_to_string("/proc/self/limits").context("reading the limits")?;
    let (soft, hard) = open_files(&limits).context("the limits name `Max open files`")?;
    let needed = calls + BESIDE_CALLS;
    if soft >= needed {
        return Ok(());
    }
    ensure!(
        hard >= needed,
        "{calls} connections need {needed} descriptors; `ulimit -Hn` allows {hard}: raise it, or \
         ask for fewer --calls"
    );
    let error = Command::new("sh")
        .args(["-c", "ulimit -n \"$1\" && shift && exec \"$@\"", "sh"])
        .arg(needed.to_string())
        .arg(std::env::current_exe().context("finding this program")?)
        .args(std::env::args_os().skip(1))
        .exec();
    bail!("raising the limit of descriptors by sh: {error}")
}

/// The soft and the hard limit of open files.
fn open_files(limits: &str) -> Option<(u64, u64)> {
    let line = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max open files"))?;
    let mut numbers = line.split_whitespace().map(|word| match word {
        "unlimited" => Some(u64::MAX),
        number => number.parse().ok(),
    });
    Some((numbers.next()??, numbers.next()??))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_read_as_the_kernel_writes_them() {
        let head = "Limit  Soft Limit  Hard Limit  Units\nMax processes 1 2 processes\n";
        for (line, expected) in [
            (
                "Max open files            1024                 524288               files     ",
                Some((1_024, 524_288)),
            ),
            ("Max open files 20 unlimited files", Some((20, u64::MAX))),
            ("Max file size 20 20 bytes", None),
        ] {
            assert_eq!(open_files(&format!("{head}{line}\n")), expected, "{line}");
        }
    }
}
