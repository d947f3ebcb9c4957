//! `request`: what one request called, and what it asked and was answered.

use bytes::Bytes;
use clap::Args;
use control::api::{BodiesReply, RequestReply};
use http::{HeaderMap, Method};
use serde_json::Value;
use tenancy::catalogue::Kind;

use super::resource::{done, flatten, item};
use super::{Context, TenantArgs};
use crate::client::segment;
use crate::terminal::{Form, say, say_json};

/// One request.
#[derive(Debug, Clone, Args)]
pub(crate) struct RequestArgs {
    /// The `x-request-id` of its answer
    id: String,
    #[command(flatten)]
    place: TenantArgs,
    /// Show what was asked and answered, where the tenant has that kept; that you look is on record
    #[arg(long, conflicts_with = "forget_bodies")]
    bodies: bool,
    /// Forget what was asked and answered
    #[arg(long)]
    forget_bodies: bool,
}

/// Does it.
///
/// # Errors
///
/// What the API refuses, in its words.
pub(crate) async fn run(context: &mut Context<'_>, args: &RequestArgs) -> anyhow::Result<()> {
    let tenant = item(Kind::Tenant, None, args.place.tenant.as_str());
    let path = format!("{tenant}/requests/{}", segment(&args.id));
    let bodies = format!("{path}/bodies");
    if args.forget_bodies {
        let (headers, body) = (HeaderMap::new(), Bytes::new());
        let client = &mut context.client;
        client.call(Method::DELETE, &bodies, headers, body).await?;
        let forgotten = format!("forgot what {} asked and was answered", args.id);
        return done(context.form, &forgotten);
    }
    if args.bodies {
        let reply: BodiesReply = context.client.get(&bodies).await?;
        return show_bodies(context.form, &reply);
    }
    let reply: RequestReply = context.client.get(&path).await?;
    show_calls(context.form, &reply)
}

fn show_calls(form: Form, reply: &RequestReply) -> anyhow::Result<()> {
    if form == Form::Json {
        return say_json(reply);
    }
    for line in &reply.data {
        let mut leaves = Vec::new();
        flatten("", &serde_json::to_value(line)?, &mut leaves);
        for (path, value) in leaves {
            say(format_args!("{path:24}  {value}"))?;
        }
        say("")?;
    }
    Ok(())
}

fn show_bodies(form: Form, reply: &BodiesReply) -> anyhow::Result<()> {
    if form == Form::Json {
        return say_json(reply);
    }
    say(format_args!(
        "{}, kept until {}",
        reply.at, reply.kept_until
    ))?;
    say("asked:")?;
    body(&reply.asked, reply.asked_cut)?;
    match &reply.answered {
        Some(answered) => {
            say("answered:")?;
            body(answered, reply.answered_cut)?;
        }
        None => say("answered: nothing is kept")?,
    }
    if reply.incomplete {
        say("the answer broke off before its end")?;
    }
    Ok(())
}

fn body(body: &Value, is_cut: bool) -> anyhow::Result<()> {
    say(serde_json::to_string_pretty(body)?)?;
    if is_cut {
        say("(it goes on: the first 64 KiB are kept)")?;
    }
    Ok(())
}
