//! A tenant's kept answers.

use bytes::Bytes;
use clap::Subcommand;
use control::api::CacheReply;
use http::{HeaderMap, Method};
use tenancy::catalogue::Kind;

use super::resource::{done, item};
use super::{Context, TenantArgs};
use crate::terminal::{Form, say, say_json};

/// Answers that are kept to be given again.
#[derive(Debug, Clone, Subcommand)]
pub(crate) enum CacheCommand {
    /// Show how many there are, and how often that helped
    Show {
        #[command(flatten)]
        place: TenantArgs,
    },
    /// Forget them, those of calls under way included
    Clear {
        #[command(flatten)]
        place: TenantArgs,
    },
}

/// Does it.
///
/// # Errors
///
/// What the API refuses, in its words.
pub(crate) async fn run(context: &mut Context<'_>, command: CacheCommand) -> anyhow::Result<()> {
    let path = |place: &TenantArgs| {
        let tenant = item(Kind::Tenant, None, place.tenant.as_str());
        format!("{tenant}/cache")
    };
    match command {
        CacheCommand::Show { place } => {
            let reply: CacheReply = context.client.get(&path(&place)).await?;
            match context.form {
                Form::Json => say_json(&reply),
                Form::People => say(format_args!(
                    "{} answers, {} bytes; {} hits, {} misses since the process began",
                    reply.entries, reply.bytes, reply.hits, reply.misses
                )),
            }
        }
        CacheCommand::Clear { place } => {
            let (headers, body) = (HeaderMap::new(), Bytes::new());
            let client = &mut context.client;
            client
                .call(Method::DELETE, &path(&place), headers, body)
                .await?;
            let cleared = format!("cleared the cache of tenant {}", place.tenant);
            done(context.form, &cleared)
        }
    }
}
