//! Rules about source text that no lint knows: where SQL may stand, who may touch the network,
//! where a scope is made.

use std::path::{Path, PathBuf};

use anyhow::Context;

use crate::metadata::Package;

/// Text that must not stand in a crate's product code.
struct Rule {
    needle: &'static str,
    /// Crates, or files (`crate/src/file.rs`), in which it may.
    except: &'static [&'static str],
    why: &'static str,
}

const RULES: &[Rule] = &[
    Rule {
        needle: "\"SELECT ",
        except: &["store"],
        why: "SQL stands in `store` alone",
    },
    Rule {
        needle: "\"INSERT ",
        except: &["store"],
        why: "SQL stands in `store` alone",
    },
    Rule {
        needle: "\"UPDATE ",
        except: &["store"],
        why: "SQL stands in `store` alone",
    },
    Rule {
        needle: "\"DELETE FROM",
        except: &["store"],
        why: "SQL stands in `store` alone",
    },
    Rule {
        needle: "\"CREATE TABLE",
        except: &["store"],
        why: "SQL stands in `store` alone",
    },
    Rule {
        needle: "\"PRAGMA ",
        except: &["store"],
        why: "SQL stands in `store` alone",
    },
    Rule {
        needle: "unsafe ",
        except: &["runtime"],
        why: "`unsafe` is for `runtime` alone, each block with its `// SAFETY:`",
    },
    Rule {
        needle: "TenantScope {",
        except: &["tenancy/src/scope.rs"],
        why: "a scope is made in one file",
    },
];

/// In crates that do no input or output, these stand nowhere.
const IMPURE: &[&str] = &[
    "std::fs",
    "std::net",
    "tokio::",
    "std::thread",
    "std::env::",
];
const PURE: &[&str] = &["models", "ledger"];

/// What the sources of one crate break. Tests at the end of a file and the folder `tests` are
/// free of these rules: they check the product from outside.
pub(crate) fn problems(package: &Package) -> anyhow::Result<Vec<String>> {
    let folder = package
        .manifest_path
        .parent()
        .context("a manifest lies in a folder")?;
    let manifest = std::fs::read_to_string(&package.manifest_path)
        .with_context(|| format!("reading {}", package.manifest_path.display()))?;
    let mut problems = Vec::new();
    if !manifest.contains("[lints]\nworkspace = true") {
        problems.push(format!(
            "{}: does not take the workspace's lints",
            package.name
        ));
    }
    // The rules themselves stand here.
    if package.name == "xtask" {
        return Ok(problems);
    }
    for path in rust_files(&folder.join("src"))? {
        let text = std::fs::read_to_string(&path)
            .with_context(|| format!("reading {}", path.display()))?;
        let name = path.strip_prefix(folder).unwrap_or(&path);
        let file = format!("{}/{}", package.name, name.display());
        problems.extend(file_problems(&package.name, &file, &text));
    }
    Ok(problems)
}

fn file_problems(package: &str, file: &str, text: &str) -> Vec<String> {
    let mut problems = Vec::new();
    for (index, line) in product_lines(text) {
        let number = index + 1;
        for rule in RULES {
            if line.contains(rule.needle)
                && !is_declaration(line, rule.needle)
                && !rule
                    .except
                    .iter()
                    .any(|one| *one == package || *one == file)
            {
                problems.push(format!("{file}:{number}: {}", rule.why));
            }
        }
        if PURE.contains(&package) && IMPURE.iter().any(|needle| line.contains(needle)) {
            problems.push(format!(
                "{file}:{number}: {package} does no input or output"
            ));
        }
    }
    problems
}

/// `impl TenantScope {` and `-> TenantScope {` open a block; they make no value.
fn is_declaration(line: &str, needle: &str) -> bool {
    let Some(at) = line.find(needle) else {
        return false;
    };
    let before = line[..at].trim_end();
    needle.ends_with('{')
        && ["impl", "struct", "for", "->", "&", ">"]
            .iter()
            .any(|word| before.ends_with(word))
}

/// The numbered lines of a file that are neither comments nor in its tests.
fn product_lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.lines()
        .take_while(|line| !line.starts_with("#[cfg(test)]"))
        .map(|line| line.split_once("//").map_or(line, |(code, _)| code))
        .enumerate()
}

fn rust_files(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        let entries =
            std::fs::read_dir(&folder).with_context(|| format!("reading {}", folder.display()))?;
        for entry in entries {
            let path = entry.context("reading a folder")?.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                files.push(path);
            }
        }
    }
    files.sort();
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_rule_finds_what_it_is_for_and_nothing_else() {
        for (package, line, expected) in [
            ("gateway", "let sql = \"SELECT 1\";", 1),
            ("store", "let sql = \"SELECT 1\";", 0),
            ("gateway", "// a \"SELECT 1\" in a comment", 0),
            ("gateway", "let scope = TenantScope { tenant };", 1),
            ("gateway", "impl TenantScope {", 0),
            ("gateway", "fn scope(&self) -> TenantScope {", 0),
            ("gateway", "fn scope(&self) -> &TenantScope {", 0),
            ("models", "use std::net::TcpStream;", 1),
            ("gateway", "use std::net::TcpStream;", 0),
            ("base", "unsafe { zero() }", 1),
        ] {
            let file = format!("{package}/src/lib.rs");
            assert_eq!(
                file_problems(package, &file, line).len(),
                expected,
                "{line}"
            );
        }
    }

    #[test]
    fn tests_at_the_end_are_free() {
        let text = "fn a() {}\n#[cfg(test)]\nmod tests { const SQL: &str = \"SELECT 1\"; }";
        assert!(file_problems("gateway", "gateway/src/lib.rs", text).is_empty());
    }
}
