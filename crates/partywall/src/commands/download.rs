//! An answer that goes into a file, or to standard output.

use std::io::Write as _;
use std::path::PathBuf;

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
    context
        .client
        .download(path, |piece| file.write_all(piece))
        .await?;
    file.sync_all()?;
    std::fs::rename(&partial, &output).with_context(|| format!("naming {}", output.display()))
}
