//! The part of `cargo metadata` that the checks read.

use std::collections::HashSet;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, ensure};
use serde::Deserialize;

use crate::command::root;

/// The workspace and everything that it depends on.
#[derive(Deserialize)]
pub(crate) struct Metadata {
    packages: Vec<Package>,
    workspace_members: HashSet<String>,
}

/// One package, of ours or of others.
#[derive(Deserialize)]
pub(crate) struct Package {
    id: String,
    pub(crate) name: String,
    pub(crate) version: String,
    /// An SPDX expression.
    pub(crate) license: Option<String>,
    /// `None` for what lies in this repository.
    pub(crate) source: Option<String>,
    pub(crate) dependencies: Vec<Dependency>,
    pub(crate) manifest_path: PathBuf,
}

/// What a manifest asks for.
#[derive(Deserialize)]
pub(crate) struct Dependency {
    pub(crate) name: String,
    /// `None` for a normal dependency, else `dev` or `build`.
    pub(crate) kind: Option<String>,
}

impl Metadata {
    /// What the manifests say.
    pub(crate) fn load() -> anyhow::Result<Self> {
        let output = cargo(&["metadata", "--format-version=1", "--locked"])?;
        serde_json::from_str(&output).context("reading cargo metadata")
    }

    /// The workspace's own packages.
    pub(crate) fn own(&self) -> impl Iterator<Item = &Package> {
        self.packages
            .iter()
            .filter(|package| self.workspace_members.contains(&package.id))
    }

    /// The packages of others that are compiled, for the product or its tests. The manifests name
    /// more: what stands behind a feature that nobody asked for is not in the tree.
    pub(crate) fn foreign(&self) -> anyhow::Result<Vec<&Package>> {
        let tree = cargo(&[
            "tree",
            "--workspace",
            "--locked",
            "--edges=all",
            "--target=x86_64-unknown-linux-gnu",
            "--prefix=none",
            "--format={p}",
        ])?;
        let compiled: HashSet<(&str, &str)> = tree.lines().filter_map(name_and_version).collect();
        Ok(self
            .packages
            .iter()
            .filter(|package| compiled.contains(&(&*package.name, &*package.version)))
            .filter(|package| !self.workspace_members.contains(&package.id))
            .collect())
    }
}

/// Of a line like `syn v2.0.1 (proc-macro) (*)`.
fn name_and_version(line: &str) -> Option<(&str, &str)> {
    let mut words = line.split_whitespace();
    let name = words.next()?;
    Some((name, words.next()?.strip_prefix('v')?))
}

fn cargo(arguments: &[&str]) -> anyhow::Result<String> {
    let output = Command::new(env!("CARGO"))
        .args(arguments)
        .current_dir(root())
        .stderr(Stdio::inherit())
        .output()
        .context("starting cargo")?;
    ensure!(output.status.success(), "cargo {} failed", arguments[0]);
    String::from_utf8(output.stdout).context("cargo writes UTF-8")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_the_tree_names_a_package() {
        let parsed = name_and_version("syn v2.0.1 (proc-macro) (*)");
        assert_eq!(parsed, Some(("syn", "2.0.1")));
        assert_eq!(name_and_version(""), None);
        assert_eq!(name_and_version("ring feature \"std\""), None);
    }
}
