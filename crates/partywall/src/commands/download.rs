//! An answer that goes into a file, or to standard output.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;

use super::Context;

/// Writes what `path` answers into a file, which is there under its name once it is whole; or to
/// standard output.
///
/// # Errors
///
/// What the API refuses, in its words, and what the disk does.
pub(crate) async fn download(
    context: &mut Context<'_>,
    path: &str,
    output: Option<PathBuf>,
) -> anyhow::Result<()> {
    let Some(output) = output else {
        let keep = |piece: &[u8]| std::io::stdout().write_all(piece);
        context.client.download(path, keep).await?;
        return Ok(std::io::stdout().flush()?);
    };
    // Beside the file, so that what is there under its name is whole.
    let mut partial = output.clone().into_os_string();
    partial.push(".part");
    let partial = PathBuf::from(partial);
    #[expect(
        clippy::disallowed_methods,
        reason = "a file that the user names is no part of the installation"
    )]
    let made = std::fs::File::create(&partial);
    let mut file = made.with_context(|| format!("making {}", partial.display()))?;
    let keep = |piece: &[u8]| file.write_all(piece);
    let done = match context.client.download(path, keep).await {
        Ok(()) => file
            .sync_all()
            .and_then(|()| std::fs::rename(&partial, &output)),
        Err(refused) => {
            remove(&partial);
            return Err(refused.into());
        }
    };
    done.inspect_err(|_| remove(&partial))
        .with_context(|| format!("writing {}", output.display()))
}

/// What was refused, or cut short, leaves nothing; a file that stays all the same is in nobody's way.
fn remove(partial: &Path) {
    drop(std::fs::remove_file(partial));
}
