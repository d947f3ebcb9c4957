//! `replica`: the processes that share a catalogue.

use anyhow::{Context as _, bail};
use bytes::Bytes;
use clap::Subcommand;
use control::api::{ReplicaReply, ReplicasReply};
use http::{HeaderMap, Method};

use super::Context;
use crate::terminal::{Form, say, say_json, say_table};

/// The processes that share a catalogue.
#[derive(Debug, Clone, Subcommand)]
pub(crate) enum ReplicaCommand {
    /// List them, and how they are
    List,
    /// Forget one that will not come back: what it may have spent stays spent
    Forget {
        /// Its name, or its id where several have that name
        replica: String,
    },
}

/// Lists or forgets replicas.
///
/// # Errors
///
/// What the API refuses, in its words.
pub(crate) async fn run(context: &mut Context<'_>, command: ReplicaCommand) -> anyhow::Result<()> {
    let reply: ReplicasReply = context.client.get(PATH).await?;
    match command {
        ReplicaCommand::List => list(context, &reply),
        ReplicaCommand::Forget { replica } => {
            let id = find(&reply.data, &replica)?;
            let path = format!("{PATH}/{id}");
            context
                .client
                .call(Method::DELETE, &path, HeaderMap::new(), Bytes::new())
                .await?;
            match context.form {
                Form::Json => say_json(&serde_json::json!({"forgotten": id})),
                Form::People => say(format_args!("forgot replica {replica}")),
            }
        }
    }
}

const PATH: &str = "/admin/v1/replicas";

fn list(context: &Context<'_>, reply: &ReplicasReply) -> anyhow::Result<()> {
    if context.form == Form::Json {
        return say_json(reply);
    }
    let rows = reply.data.iter().map(|replica| {
        vec![
            replica.name.clone(),
            replica.state.clone(),
            replica.roles.join(", "),
            replica.version.to_string(),
            replica.started_at.to_string(),
            format!("{} ms ago", replica.seen_ms_ago),
            replica.id.clone(),
        ]
    });
    let header = ["name", "state", "roles", "version", "started", "seen", "id"];
    say_table(&header, rows.collect())
}

fn find<'r>(replicas: &'r [ReplicaReply], wanted: &str) -> anyhow::Result<&'r str> {
    let matching: Vec<_> = replicas
        .iter()
        .filter(|replica| replica.name == wanted || replica.id == wanted)
        .collect();
    if let [_, _, ..] = matching.as_slice() {
        bail!(
            "several replicas are called `{wanted}`: say the id, as `partywall replica list` shows it"
        );
    }
    let found = matching.first().with_context(|| {
        format!("there is no replica `{wanted}`: `partywall replica list` shows them")
    })?;
    Ok(&found.id)
}
