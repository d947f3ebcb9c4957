//! `cargo xtask openapi`: the admin API's document, generated from its table of routes.

use anyhow::{Context, bail};

use crate::command::root;

/// Whether to write or to check.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Fail if the committed document is not what the routes say.
    #[arg(long)]
    check: bool,
}

/// Writes `docs/openapi.json` or compares with it.
pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    let path = root().join("docs/openapi.json");
    let document = serde_json::to_string_pretty(&control::openapi())? + "\n";
    if !options.check {
        std::fs::write(&path, document).context("writing docs/openapi.json")?;
        println!("openapi: wrote docs/openapi.json");
        return Ok(());
    }
    let committed = std::fs::read_to_string(&path).context("reading docs/openapi.json")?;
    if let Some(line) = first_difference(&committed, &document) {
        bail!("docs/openapi.json:{line}: is not what the routes say; run `cargo xtask openapi`");
    }
    println!("openapi: docs/openapi.json is what the routes say");
    Ok(())
}

/// The number of the first line in which two texts differ.
fn first_difference(left: &str, right: &str) -> Option<usize> {
    if left == right {
        return None;
    }
    let same = left
        .split('\n')
        .zip(right.split('\n'))
        .take_while(|(left, right)| left == right)
        .count();
    Some(same + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_line_that_differs_is_named() {
        assert_eq!(first_difference("a\nb\n", "a\nb\n"), None);
        assert_eq!(first_difference("a\nb\n", "a\nc\n"), Some(2));
        assert_eq!(first_difference("a\n", "a\nb\n"), Some(2));
        assert_eq!(first_difference("a", "a\n"), Some(2));
    }
}
