//! What can be done with adapters beside what can be done with everything: upload.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use base::{ModelName, Name};
use bytes::Bytes;
use clap::Subcommand;
use http::{HeaderMap, HeaderValue, Method, header};
use tenancy::catalogue::Kind;

use super::fields::AdapterFields;
use super::resource::{ResourceCommand, done, item};
use super::{Context, TenantArgs, resource};
use crate::client::segment;

/// LoRA adapters of tenants.
#[derive(Debug, Clone, Subcommand)]
pub(crate) enum AdapterCommand {
    #[command(flatten)]
    Resource(ResourceCommand<AdapterFields>),
    /// Upload `adapter_config.json` and `adapter_model.safetensors`, and put the adapter in place
    Upload {
        /// Its name
        name: Name,
        #[command(flatten)]
        place: TenantArgs,
        /// The folder that they are in
        #[arg(long, value_name = "PATH")]
        folder: PathBuf,
        /// The model that a new adapter sits on, as clients name it
        #[arg(long, value_name = "MODEL")]
        base: Option<ModelName>,
    },
}

/// Does it.
///
/// # Errors
///
/// What the API refuses, in its words, and files that cannot be read.
pub(crate) async fn run(context: &mut Context<'_>, command: AdapterCommand) -> anyhow::Result<()> {
    match command {
        AdapterCommand::Resource(command) => resource::run(context, command).await,
        AdapterCommand::Upload {
            name,
            place,
            folder,
            base,
        } => {
            let mut path = item(Kind::Adapter, Some(&place.tenant), name.as_str());
            path.push_str("/files");
            if let Some(base) = base {
                path.push_str("?base=");
                path.push_str(&segment(base.as_str()));
            }
            let mut headers = HeaderMap::new();
            let tar = HeaderValue::from_static("application/x-tar");
            headers.insert(header::CONTENT_TYPE, tar);
            let archive = Bytes::from(archive(&folder)?);
            context
                .client
                .call(Method::PUT, &path, headers, archive)
                .await?;
            done(context.form, &format!("uploaded adapter {name}"))
        }
    }
}

/// The files as a tar archive, in memory: an adapter has some hundred megabytes at most.
fn archive(folder: &Path) -> anyhow::Result<Vec<u8>> {
    let mut tar = Vec::new();
    for name in ["adapter_config.json", "adapter_model.safetensors"] {
        let path = folder.join(name);
        let bytes = std::fs::read(&path);
        let bytes = bytes.with_context(|| format!("{} cannot be read", path.display()))?;
        append(&mut tar, name, &bytes)?;
    }
    tar.extend([0; 1_024]);
    Ok(tar)
}

/// A header of 512 bytes, the file, and zeros up to the next 512.
fn append(tar: &mut Vec<u8>, name: &str, bytes: &[u8]) -> anyhow::Result<()> {
    // Eleven octal digits.
    if bytes.len() >= 1 << 33 {
        bail!("{name} is larger than 8 GiB");
    }
    let mut block = [0; 512];
    let mut put =
        |at: usize, text: &str| block[at..at + text.len()].copy_from_slice(text.as_bytes());
    put(0, name);
    put(100, "0000644");
    put(124, &format!("{:011o}", bytes.len()));
    put(136, "00000000000");
    put(148, "        ");
    put(156, "0");
    put(257, "ustar");
    put(263, "00");
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    block[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
    tar.extend(block);
    tar.extend(bytes);
    tar.resize(tar.len().next_multiple_of(512), 0);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_archive_has_both_files_and_sums_that_hold() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("adapter_config.json"), "{}").unwrap();
        assert!(archive(folder.path()).is_err(), "one is missing");
        std::fs::write(folder.path().join("adapter_model.safetensors"), [7; 600]).unwrap();
        let tar = archive(folder.path()).unwrap();
        assert_eq!(tar.len(), 512 + 512 + 512 + 1_024 + 1_024);
        for header in [&tar[..512], &tar[1_024..1_536]] {
            let sum = |(at, byte): (usize, &u8)| match at {
                148..156 => u32::from(b' '),
                _ => u32::from(*byte),
            };
            let sum: u32 = header.iter().enumerate().map(sum).sum();
            assert_eq!(&header[148..154], format!("{sum:06o}").as_bytes());
        }
        assert_eq!(&tar[512..514], b"{}");
        assert_eq!(tar[1_536..2_136], [7; 600]);
    }
}
