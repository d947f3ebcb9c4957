//! `alert`: what is so that somebody should know, and whether channels work.

use anyhow::bail;
use base::Name;
use clap::{Args, Subcommand};
use control::api::{AlertRow, ChannelTestReply, WebhookSecretReply};
use serde_json::{Value, json};

use super::resource::more;
use super::{API, Context, PageArgs};
use crate::client::{list, segment};
use crate::terminal::{Form, say, say_json, say_table};

/// What is so that somebody should know.
#[derive(Debug, Clone, Subcommand)]
pub(crate) enum AlertCommand {
    /// List alerts: those that are open first, then those that were resolved lately
    List {
        #[command(flatten)]
        whose: WhoseArgs,
        /// Only those that are open
        #[arg(long)]
        open: bool,
        #[command(flatten)]
        page: PageArgs,
    },
    /// Send a test to a channel, and say how that went
    Test {
        /// The channel's name
        channel: Name,
        #[command(flatten)]
        whose: WhoseArgs,
    },
    /// Show the secret by which a receiver of the platform's own webhooks verifies them
    WebhookSecret,
}

/// Of one tenant, or of all and of the platform.
#[derive(Debug, Clone, Args)]
pub(crate) struct WhoseArgs {
    /// Of this tenant alone
    #[arg(long, short, value_name = "NAME")]
    tenant: Option<Name>,
}

/// Does it.
///
/// # Errors
///
/// What the API refuses, in its words; and a test that did not arrive.
pub(crate) async fn run(context: &mut Context<'_>, command: AlertCommand) -> anyhow::Result<()> {
    match command {
        AlertCommand::List { whose, open, page } => {
            let root = whose.root();
            let path = format!("{root}/alerts");
            let mut parameters = page.parameters();
            parameters.push(("state", open.then(|| "open".to_owned())));
            let listed = list(&mut context.client, &path, page.pages(), parameters).await?;
            if context.form == Form::Json {
                return say_json(&json!({"data": listed.rows, "next_cursor": listed.next_cursor}));
            }
            let rows: Vec<AlertRow> = serde_json::from_value(Value::Array(listed.rows))?;
            show(&rows)?;
            more(listed.next_cursor.as_deref());
            Ok(())
        }
        AlertCommand::Test { channel, whose } => {
            let kind = match whose.tenant {
                Some(_) => "channels",
                None => "platform-channels",
            };
            let name = segment(channel.as_str());
            let path = format!("{}/{kind}/{name}/test", whose.root());
            let reply: ChannelTestReply = context.client.post(&path, &json!({})).await?;
            match (context.form, &reply.problem) {
                (Form::Json, _) => say_json(&reply),
                (Form::People, None) => say(format_args!("channel {channel} took the test")),
                (Form::People, Some(problem)) => {
                    bail!("channel `{channel}` did not take the test: {problem}")
                }
            }
        }
        AlertCommand::WebhookSecret => {
            let path = format!("{API}/webhook-secret");
            let reply: WebhookSecretReply = context.client.get(&path).await?;
            match context.form {
                Form::Json => say_json(&reply),
                Form::People => say(&reply.secret),
            }
        }
    }
}

impl WhoseArgs {
    fn root(&self) -> String {
        match &self.tenant {
            Some(tenant) => format!("{API}/tenants/{}", segment(tenant.as_str())),
            None => API.to_owned(),
        }
    }
}

fn show(rows: &[AlertRow]) -> anyhow::Result<()> {
    let table = rows.iter().map(|row| {
        vec![
            match row.resolved_at {
                None => row.severity.as_str().to_owned(),
                Some(_) => "resolved".to_owned(),
            },
            row.tenant
                .as_ref()
                .map_or("-", |name| name.as_str())
                .to_owned(),
            row.kind.to_string(),
            row.summary.clone(),
            row.opened_at.to_string(),
            row.resolved_at
                .map_or_else(|| "-".to_owned(), |at| at.to_string()),
        ]
    });
    let header = ["state", "tenant", "kind", "what", "since", "until"];
    say_table(&header, table.collect())
}
