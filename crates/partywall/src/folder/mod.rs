//! The catalogue as a folder of TOML files, which `apply` reads and `export` writes.
//!
//! ```text
//! tiers.toml          [tier.free]            any .toml file here may hold any of the platform's
//! upstreams.toml      [upstream.openai]      kinds; these names are what `export` writes
//! routes.toml         [route."gpt-4o"]
//! prices.toml         [[price."openai/gpt-4o".entries]]
//! operators.toml      [operator.root]
//! tenants/acme.toml   [tenant], [team.core], [user.ada], [key.prod], [budget.month], [config], …
//! ```
//!
//! A kind may be written in either number: `[keys.prod]` is `[key.prod]`. What the server gives
//! (`id`, `hash`) may be left out.

mod read;
mod write;

use std::path::PathBuf;

use crate::config::Diagnosis;

pub(crate) use read::{follow, read};
pub(crate) use write::{Existing, write};

/// Where tenants' files are, inside the folder.
const TENANTS: &str = "tenants";

/// Why a folder cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FolderError {
    /// A file or the folder could not be read.
    #[error("cannot read {}: {cause}", path.display())]
    Read {
        path: PathBuf,
        cause: std::io::Error,
    },
    /// A file could not be written.
    #[error("cannot write {}: {cause}", path.display())]
    Write {
        path: PathBuf,
        cause: std::io::Error,
    },
    /// There is nothing to apply.
    #[error("{} holds no .toml file: is it the right folder?", path.display())]
    Empty { path: PathBuf },
    /// There is something that an export would replace.
    #[error("{} is not empty: repeat with --force to replace what is there", path.display())]
    NotEmpty { path: PathBuf },
    /// A tenant's file has a name that no tenant can have.
    #[error("{}: a tenant's file is named after it, such as tenants/acme.toml", path.display())]
    TenantName { path: PathBuf },
    /// Files say wrong things, and where.
    #[error("{}", lines(.0))]
    Wrong(Vec<Diagnosis>),
    /// A value cannot be written as TOML.
    #[error("{address} cannot be written as TOML: {message}")]
    Unwritable { address: String, message: String },
}

fn lines(wrong: &[Diagnosis]) -> String {
    let lines: Vec<String> = wrong.iter().map(ToString::to_string).collect();
    lines.join("\n")
}

#[cfg(test)]
mod tests;
