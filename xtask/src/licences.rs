//! `cargo xtask licences`: what `cargo deny check licenses bans sources` would say, from the same
//! `deny.toml`, without a program that takes minutes to install.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, ensure};
use serde::Deserialize;

use crate::command::root;
use crate::metadata::{Metadata, Package};
use crate::spdx;

/// The part of `deny.toml` that this reads. `cargo deny` knows more keys: they may stand there.
#[derive(Deserialize)]
struct Rules {
    licenses: Licences,
    bans: Bans,
}

#[derive(Deserialize)]
struct Licences {
    allow: BTreeSet<String>,
    #[serde(default)]
    exceptions: Vec<Exception>,
}

/// Licences that one crate alone may have.
#[derive(Deserialize)]
struct Exception {
    #[serde(rename = "crate")]
    name: String,
    allow: BTreeSet<String>,
}

#[derive(Deserialize)]
struct Bans {
    #[serde(default)]
    deny: Vec<Reasoned>,
    /// Versions that may stand beside another of the same crate.
    #[serde(default)]
    skip: Vec<Reasoned>,
}

#[derive(Deserialize)]
struct Reasoned {
    /// `name` or `name@version`.
    #[serde(rename = "crate")]
    subject: String,
    reason: String,
}

/// Checks the tree as it is compiled.
pub(crate) fn run() -> anyhow::Result<()> {
    let path = root().join("deny.toml");
    let text = std::fs::read_to_string(&path).context("reading deny.toml")?;
    let rules: Rules = toml::from_str(&text).context("reading deny.toml")?;
    let metadata = Metadata::load()?;
    let foreign = metadata.foreign()?;
    let problems = problems(&rules, &foreign);
    for problem in &problems {
        println!("licences: {problem}");
    }
    ensure!(problems.is_empty(), "{} problems", problems.len());
    println!("licences: {} dependencies are in order", foreign.len());
    Ok(())
}

fn problems(rules: &Rules, foreign: &[&Package]) -> Vec<String> {
    let mut problems = Vec::new();
    for package in foreign {
        let at = format!("{}@{}", package.name, package.version);
        problems
            .extend(licence_problem(&rules.licenses, package).map(|why| format!("{at}: {why}")));
        if !is_from_registry(package) {
            problems.push(format!("{at}: comes from {:?}", package.source));
        }
        if let Some(ban) = rules
            .bans
            .deny
            .iter()
            .find(|ban| ban.subject == package.name)
        {
            problems.push(format!("{at}: is banned: {}", ban.reason));
        }
    }
    problems.extend(duplicate_problems(&rules.bans.skip, foreign));
    problems
}

fn licence_problem(rules: &Licences, package: &Package) -> Option<String> {
    let Some(expression) = &package.license else {
        return Some("states no licence".to_owned());
    };
    let exception = rules.exceptions.iter().find(|one| one.name == package.name);
    let allows = |licence: &str| {
        rules.allow.contains(licence) || exception.is_some_and(|one| one.allow.contains(licence))
    };
    match spdx::is_satisfied(expression, &allows) {
        Ok(true) => None,
        Ok(false) => Some(format!("`{expression}` is not allowed")),
        Err(error) => Some(format!("{error:#}")),
    }
}

/// Registries say `registry+…` or `sparse+…`; git says `git+…`; a path outside says nothing.
fn is_from_registry(package: &Package) -> bool {
    package
        .source
        .as_ref()
        .is_some_and(|source| source.starts_with("registry+") || source.starts_with("sparse+"))
}

/// A crate twice in the tree is compiled twice and its types do not meet, so each needs a reason,
/// and a reason that is needed no more has to go.
fn duplicate_problems(skips: &[Reasoned], foreign: &[&Package]) -> Vec<String> {
    let mut versions: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for package in foreign {
        versions
            .entry(&package.name)
            .or_default()
            .insert(&package.version);
    }
    let mut problems = Vec::new();
    let mut used = BTreeSet::new();
    for (name, versions) in versions.iter().filter(|(_, versions)| versions.len() > 1) {
        let mut unexplained = Vec::new();
        for version in versions {
            let subject = format!("{name}@{version}");
            match skips.iter().find(|skip| skip.subject == subject) {
                Some(skip) => drop(used.insert(&*skip.subject)),
                None => unexplained.push(*version),
            }
        }
        if unexplained.len() > 1 {
            problems.push(format!(
                "{name}: is there {} times without a reason: {}",
                unexplained.len(),
                unexplained.join(", ")
            ));
        }
    }
    for skip in skips {
        if skip.reason.trim().is_empty() {
            problems.push(format!("deny.toml: `{}` has no reason", skip.subject));
        }
        if !used.contains(&*skip.subject) {
            problems.push(format!("deny.toml: `{}` is no duplicate now", skip.subject));
        }
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::*;

    fn package(name: &str, version: &str, license: &str, source: &str) -> Package {
        serde_json::from_value(serde_json::json!({
            "id": format!("{name} {version}"), "name": name, "version": version,
            "license": license, "source": source, "dependencies": [], "manifest_path": "/x",
        }))
        .expect("a package")
    }

    fn check(rules: &str, packages: &[Package]) -> Vec<String> {
        let rules = toml::from_str(rules).expect("rules");
        problems(&rules, &packages.iter().collect::<Vec<_>>())
    }

    const MIT_ONLY: &str = "licenses = { allow = ['MIT'] }\nbans = { }";

    #[test]
    fn a_foreign_licence_and_a_git_source_are_found() {
        let found = check(
            MIT_ONLY,
            &[
                package("good", "1.0.0", "MIT OR GPL-3.0", "registry+x"),
                package("viral", "1.0.0", "GPL-3.0", "registry+x"),
                package("wild", "1.0.0", "MIT", "git+https://example.org"),
            ],
        );
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(found[0].starts_with("viral@1.0.0") && found[1].starts_with("wild@1.0.0"));
    }

    #[test]
    fn a_duplicate_needs_a_reason_and_a_reason_needs_a_duplicate() {
        let twice = [
            package("twice", "1.0.0", "MIT", "registry+x"),
            package("twice", "2.0.0", "MIT", "registry+x"),
        ];
        assert_eq!(check(MIT_ONLY, &twice).len(), 1);
        let reasoned = "licenses = { allow = ['MIT'] }\n\
                        bans = { skip = [{ crate = 'twice@1.0.0', reason = 'old parent' }] }";
        assert_eq!(check(reasoned, &twice), Vec::<String>::new());
        assert_eq!(check(reasoned, &twice[1..]).len(), 1);
    }

    #[test]
    fn a_ban_is_by_name() {
        let rules = "licenses = { allow = ['MIT'] }\n\
                     bans = { deny = [{ crate = 'bad', reason = 'large' }] }";
        let found = check(rules, &[package("bad", "1.0.0", "MIT", "registry+x")]);
        assert_eq!(found, ["bad@1.0.0: is banned: large"]);
    }
}
