//! `audit`: who did what, and the proof that nobody changed the record.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use base::Name;
use clap::{Args, Subcommand};
use control::api::{AuditCheck, AuditRow};
use http::{HeaderMap, Method};
use serde_json::json;
use store::{AuditKey, verify_export};
use tenancy::catalogue::Kind;

use super::resource::{item, more};
use super::{API, Context, PageArgs};
use crate::client::list;
use crate::terminal::{Form, cell, say, say_json, say_table, write_out};

/// The audit log: the platform's, or with --tenant a tenant's.
#[derive(Debug, Clone, Subcommand)]
pub(crate) enum AuditCommand {
    /// List what was done
    List {
        #[command(flatten)]
        whose: WhoseLog,
        #[command(flatten)]
        page: PageArgs,
    },
    /// Let the server check its own log
    Verify {
        #[command(flatten)]
        whose: WhoseLog,
    },
    /// Write a log to a file that anybody can verify
    Export {
        #[command(flatten)]
        whose: WhoseLog,
        /// The file; standard output by default
        #[arg(long, short, value_name = "FILE")]
        output: Option<PathBuf>,
    },
    /// Show the key that the log is signed with: keep it elsewhere, to verify exports with
    Key {
        #[command(flatten)]
        whose: WhoseLog,
    },
    /// Verify an exported file, without any server
    VerifyFile(VerifyFileArgs),
}

/// Whose log.
#[derive(Debug, Clone, Args)]
pub(crate) struct WhoseLog {
    /// This tenant's, not the platform's
    #[arg(long, short, env = "PARTYWALL_TENANT", value_name = "NAME")]
    tenant: Option<Name>,
}

impl WhoseLog {
    fn path(&self) -> String {
        match &self.tenant {
            Some(tenant) => format!("{}/audit", item(Kind::Tenant, None, tenant.as_str())),
            None => format!("{API}/audit"),
        }
    }
}

/// What to verify, and against what.
#[derive(Debug, Clone, Args)]
pub(crate) struct VerifyFileArgs {
    /// The exported file
    file: PathBuf,
    /// The verifier key (`name+hash+base64`), or the file that holds it
    #[arg(long, value_name = "KEY|FILE")]
    public_key: String,
    /// An earlier checkpoint, kept elsewhere: the log must extend it
    #[arg(long, value_name = "FILE")]
    witness: Option<PathBuf>,
}

/// Does what a server is needed for.
///
/// # Errors
///
/// If a log does not hold, or what the API refuses.
pub(crate) async fn run(context: &mut Context<'_>, command: AuditCommand) -> anyhow::Result<()> {
    match command {
        AuditCommand::List { whose, page } => entries(context, &whose, &page).await,
        AuditCommand::Verify { whose } => verify(context, &whose).await,
        AuditCommand::Export { whose, output } => {
            download(
                context,
                &format!("{}/export", whose.path()),
                output.as_deref(),
            )
            .await
        }
        AuditCommand::Key { whose } => {
            download(context, &format!("{}/key", whose.path()), None).await
        }
        AuditCommand::VerifyFile(args) => verify_file(context.form, &args),
    }
}

async fn entries(
    context: &mut Context<'_>,
    whose: &WhoseLog,
    page: &PageArgs,
) -> anyhow::Result<()> {
    let path = whose.path();
    let listed = list(&mut context.client, &path, page.pages(), page.parameters()).await?;
    if context.form == Form::Json {
        return say_json(&json!({"data": listed.rows, "next_cursor": listed.next_cursor}));
    }
    let rows: Vec<AuditRow> = listed
        .rows
        .into_iter()
        .map(serde_json::from_value)
        .collect::<Result<_, _>>()?;
    let columns = ["at", "actor", "action", "target", "outcome", "reason"];
    let row = |row: &AuditRow| {
        let fields = columns.iter().map(|column| cell(&row.entry[column]));
        std::iter::once(row.index.to_string())
            .chain(fields)
            .collect()
    };
    let header: Vec<&str> = std::iter::once("#").chain(columns).collect();
    say_table(&header, rows.iter().map(row).collect())?;
    more(listed.next_cursor.as_deref());
    Ok(())
}

async fn verify(context: &mut Context<'_>, whose: &WhoseLog) -> anyhow::Result<()> {
    let check: AuditCheck = context
        .client
        .get(&format!("{}/verify", whose.path()))
        .await?;
    match context.form {
        Form::Json => say_json(&check)?,
        Form::People => say(format_args!(
            "{} entries, root {}",
            check.entries, check.root_hash
        ))?,
    }
    if check.ok {
        return Ok(());
    }
    bail!(
        "the audit log was changed: {}",
        check.problem.unwrap_or_default()
    )
}

async fn download(
    context: &mut Context<'_>,
    path: &str,
    output: Option<&Path>,
) -> anyhow::Result<()> {
    let call = context
        .client
        .call(Method::GET, path, HeaderMap::new(), bytes::Bytes::new());
    let answer = call.await?;
    match output {
        None => write_out(&answer),
        Some(file) => {
            std::fs::write(file, &answer)
                .with_context(|| format!("cannot write {}", file.display()))?;
            super::resource::done(context.form, &format!("wrote {}", file.display()))
        }
    }
}

/// Verifies an exported file offline.
///
/// # Errors
///
/// What does not hold.
pub(crate) fn verify_file(form: Form, args: &VerifyFileArgs) -> anyhow::Result<()> {
    let text = if Path::new(&args.public_key).is_file() {
        std::fs::read_to_string(&args.public_key)
            .with_context(|| format!("cannot read {}", args.public_key))?
    } else {
        args.public_key.clone()
    };
    let key: AuditKey = text
        .trim()
        .parse()
        .context("--public-key is no verifier key")?;
    let witness = match &args.witness {
        None => None,
        Some(path) => Some(
            std::fs::read_to_string(path)
                .with_context(|| format!("cannot read {}", path.display()))?,
        ),
    };
    let file = args.file.display();
    let verified = verify_export(&args.file, &key, witness.as_deref())
        .with_context(|| format!("{file} does not hold"))?;
    let head = &verified.head;
    match form {
        Form::Json => say_json(&json!({"ok": true, "origin": head.origin, "entries": head.size})),
        Form::People => say(format_args!(
            "{file} holds: {} entries of {}",
            head.size, head.origin
        )),
    }
}
