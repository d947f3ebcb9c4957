//! What can be done with prompts beside what can be done with everything: add a version, activate
//! one, go back, compare two, and see what a model would be told.

use std::collections::BTreeMap;
use std::str::FromStr;

use anyhow::{Context as _, bail};
use base::{ModelName, Name};
use clap::{Args, Subcommand};
use control::api::{RenderReply, RenderRequest, ResourceView};
use http::StatusCode;
use tenancy::catalogue::{Kind, PromptSpec, PromptText, PromptVersion, VariableSpec};

use super::fields::{PromptFields, text_or_file};
use super::resource::{ResourceCommand, done, item, put};
use super::{Context, TenantArgs, resource};
use crate::client::refusal_status;
use crate::terminal::{Form, Paint, say, say_json};

/// Prompts of a tenant.
#[derive(Debug, Clone, Subcommand)]
pub(crate) enum PromptCommand {
    #[command(flatten)]
    Resource(ResourceCommand<PromptFields>),
    /// Add a version: the first of a new prompt, or the next of one that is there
    Add {
        /// The prompt's name
        name: Name,
        #[command(flatten)]
        place: TenantArgs,
        #[command(flatten)]
        version: VersionArgs,
    },
    /// Give calls another version from now on
    Activate {
        /// The prompt's name
        name: Name,
        /// The version's number
        #[arg(value_name = "VERSION")]
        number: PromptVersion,
        #[command(flatten)]
        place: TenantArgs,
    },
    /// Give calls the version before the active one again
    Rollback {
        /// The prompt's name
        name: Name,
        #[command(flatten)]
        place: TenantArgs,
    },
    /// What is different between two versions
    Diff {
        /// The prompt's name
        name: Name,
        /// The one version
        from: PromptVersion,
        /// The other; the active one if absent
        to: Option<PromptVersion>,
        #[command(flatten)]
        place: TenantArgs,
    },
    /// Say what a model would be told; nothing is called
    Render {
        /// The prompt's name
        name: Name,
        #[command(flatten)]
        place: TenantArgs,
        #[command(flatten)]
        call: CallArgs,
    },
}

/// A new version.
#[derive(Debug, Clone, Args)]
pub(crate) struct VersionArgs {
    /// The template, in minijinja: the text, or `@FILE`
    #[arg(long, value_name = "TEXT|@FILE", value_parser = text_or_file)]
    template: String,
    /// A variable: `NAME` is required, `NAME=DEFAULT` is not; `NAME:BYTES` for longer values than
    /// 1,024 bytes; may be repeated
    #[arg(long = "variable", value_name = "NAME[:BYTES][=DEFAULT]")]
    variables: Vec<Variable>,
    /// Why this version is
    #[arg(long, value_name = "TEXT", default_value = "")]
    note: String,
    /// Give it to calls from now on; a prompt's first version is given at once
    #[arg(long)]
    activate: bool,
}

/// A call that is not made.
#[derive(Debug, Clone, Args)]
pub(crate) struct CallArgs {
    /// Which version; the active one if absent
    #[arg(long, value_name = "NUMBER")]
    number: Option<PromptVersion>,
    /// A variable's value; may be repeated
    #[arg(long = "var", value_name = "NAME=VALUE", value_parser = pair)]
    variables: Vec<(String, String)>,
    /// The feature of the call
    #[arg(long, value_name = "NAME")]
    feature: Option<Name>,
    /// The model of the call
    #[arg(long, value_name = "MODEL")]
    model: Option<ModelName>,
    /// The user of the call
    #[arg(long, value_name = "NAME")]
    user: Option<Name>,
    /// The team of the call
    #[arg(long, value_name = "NAME")]
    team: Option<Name>,
}

/// A variable as a flag states it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Variable {
    name: String,
    spec: VariableSpec,
}

impl FromStr for Variable {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (declared, default) = match text.split_once('=') {
            Some((declared, default)) => (declared, Some(default.to_owned())),
            None => (text, None),
        };
        let (name, bytes_max) = match declared.split_once(':') {
            Some((name, bytes)) => {
                let bytes = bytes
                    .parse()
                    .map_err(|_| format!("`{bytes}` is no number of bytes: write NAME:4096"))?;
                (name, Some(bytes))
            }
            None => (declared, None),
        };
        Ok(Self {
            name: name.to_owned(),
            spec: VariableSpec {
                required: default.is_none(),
                default,
                bytes_max,
            },
        })
    }
}

fn pair(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("write NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}

/// Does it.
///
/// # Errors
///
/// What the API refuses, in its words.
pub(crate) async fn run(context: &mut Context<'_>, command: PromptCommand) -> anyhow::Result<()> {
    match command {
        PromptCommand::Resource(command) => resource::run(context, command).await,
        PromptCommand::Add {
            name,
            place,
            version,
        } => add(context, &name, &place, version).await,
        PromptCommand::Activate {
            name,
            number,
            place,
        } => activate(context, &name, &place, number).await,
        PromptCommand::Rollback { name, place } => {
            let (spec, _) = read(context, &name, &place).await?;
            let active = PromptVersion(spec.active);
            let Some((before, _)) = spec.versions.range(..active).next_back() else {
                bail!("prompt {name} has no version before {active}");
            };
            activate(context, &name, &place, *before).await
        }
        PromptCommand::Diff {
            name,
            from,
            to,
            place,
        } => {
            let (spec, _) = read(context, &name, &place).await?;
            let version = |asked: Option<PromptVersion>| {
                let found = spec.version(asked);
                let wanted = asked.map_or_else(String::new, |asked| format!(" {asked}"));
                found.with_context(|| format!("prompt {name} has no version{wanted}"))
            };
            let ((_, from), (_, to)) = (version(Some(from))?, version(to)?);
            let (from, to) = (lines_of(from), lines_of(to));
            show_difference(context.form, &difference(&from, &to))
        }
        PromptCommand::Render { name, place, call } => render(context, &name, &place, call).await,
    }
}

async fn read(
    context: &mut Context<'_>,
    name: &Name,
    place: &TenantArgs,
) -> anyhow::Result<(PromptSpec, String)> {
    let path = item(Kind::Prompt, Some(&place.tenant), name.as_str());
    let view: ResourceView = context.client.get(&path).await?;
    Ok((serde_json::from_value(view.spec)?, view.etag))
}

async fn write(
    context: &mut Context<'_>,
    name: &Name,
    place: &TenantArgs,
    spec: &PromptSpec,
    etag: Option<&str>,
) -> anyhow::Result<()> {
    let path = item(Kind::Prompt, Some(&place.tenant), name.as_str());
    put(context, &path, etag, &serde_json::to_value(spec)?).await
}

async fn add(
    context: &mut Context<'_>,
    name: &Name,
    place: &TenantArgs,
    version: VersionArgs,
) -> anyhow::Result<()> {
    let path = item(Kind::Prompt, Some(&place.tenant), name.as_str());
    let former = match context.client.get::<ResourceView>(&path).await {
        Ok(view) => Some((serde_json::from_value::<PromptSpec>(view.spec)?, view.etag)),
        Err(error) if refusal_status(&error) == Some(StatusCode::NOT_FOUND) => None,
        Err(error) => return Err(error.into()),
    };
    let etag = former.as_ref().map(|(_, etag)| etag.clone());
    let mut spec = former.map_or_else(new_prompt, |(spec, _)| spec);
    let last = spec.versions.keys().next_back().map_or(0, |last| last.0);
    let number = PromptVersion(last + 1);
    let variables = version.variables.into_iter();
    let text = PromptText {
        template: version.template,
        variables: variables.map(|one| (one.name, one.spec)).collect(),
        note: version.note,
    };
    spec.versions.insert(number, text);
    if version.activate {
        spec.active = number.0;
    }
    write(context, name, place, &spec, etag.as_deref()).await?;
    let active = spec.active;
    done(
        context.form,
        &format!("added version {number} of prompt {name}; version {active} is active"),
    )
}

fn new_prompt() -> PromptSpec {
    PromptSpec {
        description: String::new(),
        active: 1,
        versions: BTreeMap::new(),
    }
}

async fn activate(
    context: &mut Context<'_>,
    name: &Name,
    place: &TenantArgs,
    version: PromptVersion,
) -> anyhow::Result<()> {
    let (mut spec, etag) = read(context, name, place).await?;
    let former = std::mem::replace(&mut spec.active, version.0);
    if former == version.0 {
        bail!("version {version} of prompt {name} is active already");
    }
    write(context, name, place, &spec, Some(&etag)).await?;
    done(
        context.form,
        &format!("version {version} of prompt {name} is active; it was {former}"),
    )
}

async fn render(
    context: &mut Context<'_>,
    name: &Name,
    place: &TenantArgs,
    call: CallArgs,
) -> anyhow::Result<()> {
    let request = RenderRequest {
        version: call.number,
        variables: call.variables.into_iter().collect(),
        feature: call.feature,
        model: call.model,
        user: call.user,
        team: call.team,
    };
    let path = item(Kind::Prompt, Some(&place.tenant), name.as_str());
    let path = format!("{path}/render");
    let reply: RenderReply = context.client.post(&path, &request).await?;
    match context.form {
        Form::Json => say_json(&reply),
        Form::People => say(&reply.text),
    }
}

/// A version as lines: what it declares, then its template.
fn lines_of(text: &PromptText) -> Vec<String> {
    let variables = text.variables.iter().map(|(name, variable)| {
        let default = match (&variable.default, variable.required) {
            (_, true) => " required".to_owned(),
            (Some(default), _) => format!(" = {default}"),
            (None, false) => String::new(),
        };
        format!("variable {name}:{}{default}", variable.bytes_max())
    });
    let template = text.template.lines().map(str::to_owned);
    variables.chain(template).collect()
}

/// Whether a line is in both, in the one or in the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    Both,
    From,
    To,
}

/// 4 million pairs of lines are compared, in 16 MiB: two templates of 2,000 lines.
const PAIRS_MAX: usize = 4_000_000;

/// The lines of both in one order, by their longest common subsequence.
fn difference<'l>(from: &'l [String], to: &'l [String]) -> Vec<(Side, &'l str)> {
    let (rows, columns) = (from.len(), to.len());
    if (rows + 1).saturating_mul(columns + 1) > PAIRS_MAX {
        let gone = from.iter().map(|line| (Side::From, line.as_str()));
        let come = to.iter().map(|line| (Side::To, line.as_str()));
        return gone.chain(come).collect();
    }
    // Of the ends from (row, column) on: how many lines they have in common.
    let mut common = vec![vec![0_u32; columns + 1]; rows + 1];
    for row in (0..rows).rev() {
        for column in (0..columns).rev() {
            common[row][column] = match from[row] == to[column] {
                true => common[row + 1][column + 1] + 1,
                false => common[row + 1][column].max(common[row][column + 1]),
            };
        }
    }
    let (mut row, mut column) = (0, 0);
    let mut lines = Vec::with_capacity(rows.max(columns));
    while row < rows || column < columns {
        let is_same = row < rows && column < columns && from[row] == to[column];
        if is_same {
            lines.push((Side::Both, from[row].as_str()));
            (row, column) = (row + 1, column + 1);
        } else if column == columns
            || (row < rows && common[row + 1][column] >= common[row][column + 1])
        {
            lines.push((Side::From, from[row].as_str()));
            row += 1;
        } else {
            lines.push((Side::To, to[column].as_str()));
            column += 1;
        }
    }
    lines
}

fn show_difference(form: Form, lines: &[(Side, &str)]) -> anyhow::Result<()> {
    let marked = |(side, line): &(Side, &str)| match side {
        Side::Both => format!("  {line}"),
        Side::From => format!("- {line}"),
        Side::To => format!("+ {line}"),
    };
    if form == Form::Json {
        let lines: Vec<String> = lines.iter().map(marked).collect();
        return say_json(&serde_json::json!({ "lines": lines }));
    }
    let paint = Paint::for_stdout();
    for one in lines {
        let line = marked(one);
        match one.0 {
            Side::Both => say(line)?,
            Side::From => say(paint.red(&line))?,
            Side::To => say(paint.green(&line))?,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_variable_is_a_flag() {
        let of = |text: &str| text.parse::<Variable>().expect(text);
        let name = of("name");
        assert_eq!((name.name.as_str(), name.spec.required), ("name", true));
        let long = of("question:4096=What = this?");
        assert_eq!(long.name, "question");
        assert_eq!(long.spec.bytes_max, Some(4_096));
        assert_eq!(long.spec.default.as_deref(), Some("What = this?"));
        assert!(!long.spec.required);
        assert!("a:x".parse::<Variable>().is_err());
        assert!(pair("a").is_err());
    }

    #[test]
    fn what_two_versions_have_in_common_stays_together() {
        let lines = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
        let (from, to) = (lines("a b c d"), lines("a c e d"));
        let marked: Vec<(Side, &str)> = difference(&from, &to);
        use Side::{Both, From, To};
        let expected = [
            (Both, "a"),
            (From, "b"),
            (Both, "c"),
            (To, "e"),
            (Both, "d"),
        ];
        assert_eq!(marked, expected);
        assert!(
            difference(&from, &from)
                .iter()
                .all(|(side, _)| *side == Both)
        );
        assert_eq!(difference(&[], &to).len(), 4);
    }
}
