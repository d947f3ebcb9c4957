//! `cargo xtask layers`: a crate is a wall, and this is the plan that the walls are checked by.

use std::collections::BTreeMap;

use anyhow::ensure;

use crate::metadata::{Metadata, Package};
use crate::source;

/// What a crate of ours may depend on.
struct Layer {
    name: &'static str,
    /// Crates of ours, in the product.
    may_use: &'static [&'static str],
    /// Crates of ours, in its tests besides.
    tests_may_use: &'static [&'static str],
}

const CORE: &[&str] = &["base", "tenancy", "ledger", "models", "store"];

/// The table of ARCHITECTURE.md, "Crates". To add a crate, add its row here and there.
const LAYERS: &[Layer] = &[
    Layer {
        name: "base",
        may_use: &[],
        tests_may_use: &[],
    },
    Layer {
        name: "tenancy",
        may_use: &["base"],
        tests_may_use: &[],
    },
    Layer {
        name: "ledger",
        may_use: &["base", "tenancy"],
        tests_may_use: &[],
    },
    Layer {
        name: "models",
        may_use: &["base"],
        tests_may_use: &[],
    },
    Layer {
        name: "store",
        may_use: &["base", "tenancy", "ledger"],
        tests_may_use: &[],
    },
    Layer {
        name: "gateway",
        may_use: CORE,
        tests_may_use: &["simulator"],
    },
    Layer {
        name: "control",
        may_use: &["base", "tenancy", "ledger", "models", "store", "gateway"],
        tests_may_use: &["simulator"],
    },
    Layer {
        name: "simulator",
        may_use: &["base"],
        tests_may_use: &[],
    },
    Layer {
        name: "partywall",
        may_use: &[
            "base",
            "tenancy",
            "ledger",
            "models",
            "store",
            "gateway",
            "control",
            "simulator",
        ],
        tests_may_use: &[],
    },
    Layer {
        name: "sim",
        may_use: &[
            "base",
            "tenancy",
            "ledger",
            "models",
            "store",
            "gateway",
            "simulator",
        ],
        tests_may_use: &[],
    },
    Layer {
        name: "xtask",
        may_use: &[
            "base", "tenancy", "ledger", "store", "control", "gateway", "sim",
        ],
        tests_may_use: &[],
    },
];

/// Crates of others that only these crates of ours may name, and why.
const RESERVED: &[(&str, &[&str], &str)] = &[
    (
        "rusqlite",
        &["store"],
        "nobody else can obtain a connection",
    ),
    (
        "anyhow",
        &["partywall", "xtask"],
        "a library's errors are typed",
    ),
    (
        "clap",
        &["partywall", "xtask"],
        "libraries have no command line",
    ),
    ("axum", &["control", "partywall"], "the data path is hyper"),
    (
        "tokio-rustls",
        &["gateway", "partywall", "store"],
        "TLS ends at the edge, and where PostgreSQL begins",
    ),
];

/// Crates that stay free of input and output, and what would bring it in.
const PURE: &[(&str, &[&str])] = &[
    (
        "models",
        &[
            "tokio",
            "tokio-util",
            "hyper",
            "hyper-util",
            "socket2",
            "rusqlite",
        ],
    ),
    (
        "ledger",
        &[
            "tokio",
            "tokio-util",
            "hyper",
            "hyper-util",
            "socket2",
            "rusqlite",
        ],
    ),
];

/// Checks manifests and sources.
pub(crate) fn run() -> anyhow::Result<()> {
    let metadata = Metadata::load()?;
    let own: Vec<&Package> = metadata.own().collect();
    let mut problems = manifest_problems(&own);
    for package in &own {
        problems.extend(source::problems(package)?);
    }
    for problem in &problems {
        println!("layers: {problem}");
    }
    ensure!(problems.is_empty(), "{} problems", problems.len());
    println!("layers: {} crates stand as they are drawn", own.len());
    Ok(())
}

fn manifest_problems(own: &[&Package]) -> Vec<String> {
    let layers: BTreeMap<&str, &Layer> = LAYERS.iter().map(|layer| (layer.name, layer)).collect();
    let mut problems = Vec::new();
    for package in own {
        let Some(layer) = layers.get(&*package.name) else {
            problems.push(format!(
                "{}: has no row in the table of layers",
                package.name
            ));
            continue;
        };
        for dependency in &package.dependencies {
            let is_test = dependency.kind.as_deref() == Some("dev");
            let name = &*dependency.name;
            let why = if own.iter().any(|one| one.name == name) {
                let is_drawn = layer.may_use.contains(&name)
                    || (is_test && layer.tests_may_use.contains(&name));
                (!is_drawn).then(|| "the table of layers does not allow it".to_owned())
            } else if is_test {
                None
            } else {
                foreign_problem(&package.name, name)
            };
            problems.extend(why.map(|why| format!("{}: depends on {name}: {why}", package.name)));
        }
    }
    problems
}

fn foreign_problem(own: &str, foreign: &str) -> Option<String> {
    if let Some((_, owners, why)) = RESERVED.iter().find(|(name, _, _)| *name == foreign)
        && !owners.contains(&own)
    {
        return Some(format!("it is for {} alone: {why}", owners.join(" and ")));
    }
    let (_, banned) = PURE.iter().find(|(name, _)| *name == own)?;
    banned
        .contains(&foreign)
        .then(|| format!("{own} does no input or output"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn package(name: &str, dependencies: &[(&str, Option<&str>)]) -> Package {
        let dependencies: Vec<_> = dependencies
            .iter()
            .map(|(name, kind)| serde_json::json!({"name": name, "kind": kind}))
            .collect();
        serde_json::from_value(serde_json::json!({
            "id": name, "name": name, "version": "0.1.0", "license": null, "source": null,
            "dependencies": dependencies, "manifest_path": "/x",
        }))
        .expect("a package")
    }

    fn check(packages: &[Package]) -> usize {
        manifest_problems(&packages.iter().collect::<Vec<_>>()).len()
    }

    #[test]
    fn a_dependency_must_be_in_the_table() {
        let base = || package("base", &[]);
        assert_eq!(check(&[base(), package("models", &[("base", None)])]), 0);
        assert_eq!(
            check(&[package("base", &[("models", None)]), package("models", &[])]),
            1
        );
        assert_eq!(check(&[package("surprise", &[])]), 1);
    }

    #[test]
    fn tests_may_use_what_the_product_may_not() {
        let simulator = || package("simulator", &[]);
        let in_tests = package("gateway", &[("simulator", Some("dev"))]);
        let in_product = package("gateway", &[("simulator", None)]);
        assert_eq!(check(&[simulator(), in_tests]), 0);
        assert_eq!(check(&[simulator(), in_product]), 1);
    }

    #[test]
    fn reserved_and_impure_crates_are_found() {
        assert_eq!(check(&[package("gateway", &[("rusqlite", None)])]), 1);
        assert_eq!(check(&[package("store", &[("rusqlite", None)])]), 0);
        assert_eq!(check(&[package("models", &[("tokio", None)])]), 1);
        assert_eq!(check(&[package("models", &[("tokio", Some("dev"))])]), 0);
    }
}
