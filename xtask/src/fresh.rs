//! `cargo xtask fresh`: a stranger's first minute. Clones HEAD into an empty folder and runs the
//! README's first command there.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, ensure};
use base::{Clock, SystemClock};

use crate::command::{Server, root};
use crate::product::runtime;
use crate::wire::{Connection, request};

/// Half an hour: a cold release build on two cores takes about eight minutes.
const PATIENCE: Duration = Duration::from_secs(30 * 60);

/// How to build.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Build into this folder instead of an empty one.
    #[arg(long)]
    target: Option<std::path::PathBuf>,
}

/// Clones, builds, starts and asks for the models.
pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    let folder = tempfile::tempdir().context("making a folder")?;
    let clone = folder.path().join("partywall");
    crate::command::run(
        Command::new("git")
            .args(["clone", "--quiet", "--no-local"])
            .arg(root())
            .arg(&clone),
    )?;
    let readme = std::fs::read_to_string(clone.join("README.md")).context("reading the README")?;
    let first = first_command(&readme).context("the README has a command")?;
    println!("fresh: {first}");
    start(&clone, first, options)
}

fn start(clone: &Path, first: &str, options: &Options) -> anyhow::Result<()> {
    let target = options
        .target
        .clone()
        .unwrap_or_else(|| clone.join("target"));
    let words: Vec<&str> = first.split_whitespace().collect();
    let (program, arguments) = words.split_first().context("a command has words")?;
    let mut command = Command::new(program);
    command
        .args(arguments)
        .args(["--json", "--port", "0", "--admin-port", "0"])
        .current_dir(clone)
        .env("CARGO_TARGET_DIR", target)
        .env_remove("OPENAI_API_KEY")
        .stdout(Stdio::piped());
    let clock = SystemClock::new();
    let mut server = Server::start("the first command", &mut command)?;
    let output = server.output().context("its output is piped")?;
    let quickstart = crate::product::read_quickstart(std::io::BufReader::new(output))?;
    ensure!(
        clock.elapsed() < PATIENCE,
        "it took longer than {PATIENCE:?}"
    );
    let gateway = crate::product::address(&quickstart.base_url)?;
    let key = &quickstart.tenants.first().context("it made a tenant")?.key;
    let ask = request("GET", gateway, "/v1/models", key, None);
    let answer =
        runtime()?.block_on(async { Connection::open(gateway).await?.call(&clock, &ask).await })?;
    ensure!(
        answer.status == 200,
        "/v1/models answered {}",
        answer.status
    );
    let models = answer.json()?["data"].as_array().map_or(0, Vec::len);
    ensure!(models > 0, "it serves no model");
    println!(
        "fresh: ready after {:.0} s, serving {models} models",
        clock.elapsed().as_secs_f64()
    );
    Ok(())
}

/// The first line of the first shell block.
fn first_command(readme: &str) -> Option<&str> {
    let mut lines = readme.lines();
    lines.find(|line| ["```sh", "```bash", "```console"].contains(&line.trim()))?;
    lines
        .map(|line| line.trim().trim_start_matches("$ "))
        .find(|line| !line.is_empty() && !line.starts_with('#'))
        .filter(|line| !line.starts_with("```"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_command_is_the_first_line_of_the_first_block() {
        let readme =
            "# X\n\n```toml\na = 1\n```\n```sh\n# start it\n$ cargo run -- quickstart\nmore\n```\n";
        assert_eq!(first_command(readme), Some("cargo run -- quickstart"));
        assert_eq!(first_command("no block"), None);
        assert_eq!(first_command("```sh\n```\n"), None);
    }
}
