//! `list`, `show`, `create`, `set` and `delete`: the same for every kind of resource.

use anyhow::{Context as _, bail};
use base::{Name, Timestamp};
use clap::{Args, Subcommand};
use control::api::ResourceView;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use serde::Serialize;
use serde_json::{Map, Value, json};
use tenancy::catalogue::Kind;

use super::patch::{Assignment, merge};
use super::{API, ConfirmArgs, Context, PageArgs, TenantArgs};
use crate::client::{list, refusal_status, segment};
use crate::terminal::{Form, ask, cell, confirm, note, say, say_json, say_table};

/// The flags of a kind. They serialise to the part of a specification that they state.
pub(crate) trait Fields: Args + Serialize + Clone {
    /// What they are fields of.
    const KIND: Kind;
    /// The fields that a list shows beside the name.
    const COLUMNS: &'static [&'static str];
    /// Whose such resources are.
    type Place: Place;

    /// Puts what the flags state into a specification.
    ///
    /// # Errors
    ///
    /// If they contradict it.
    fn merge_into(&self, spec: &mut Value, _now: Timestamp) -> anyhow::Result<()> {
        merge(spec, stated(self)?);
        Ok(())
    }

    /// How a new one is made.
    fn creation(name: &str, spec: Value) -> Creation {
        Creation::Put {
            name: name.to_owned(),
            spec,
        }
    }
}

/// The flags that were given, as JSON: absent ones are no part of it.
pub(crate) fn stated(flags: &impl Serialize) -> anyhow::Result<Value> {
    let mut patch = serde_json::to_value(flags).context("flags have string keys")?;
    if let Value::Object(fields) = &mut patch {
        fields.retain(|_, value| !value.is_null() && *value != json!([]));
    }
    Ok(patch)
}

/// How a new resource is made.
pub(crate) enum Creation {
    /// By putting its specification where it will be.
    Put { name: String, spec: Value },
    /// By posting this to its kind, since the server gives a part of it.
    Post(Value),
}

/// Whose a resource is.
pub(crate) trait Place: Args + Clone {
    /// The tenant, if it is one's.
    fn tenant(&self) -> Option<&Name>;
}

/// The platform's own.
#[derive(Debug, Clone, Args)]
pub(crate) struct OnPlatform {}

impl Place for OnPlatform {
    fn tenant(&self) -> Option<&Name> {
        None
    }
}

impl Place for TenantArgs {
    fn tenant(&self) -> Option<&Name> {
        Some(&self.tenant)
    }
}

/// What can be done with every kind.
#[derive(Debug, Clone, Subcommand)]
pub(crate) enum ResourceCommand<F: Fields> {
    /// List them, by name
    List {
        #[command(flatten)]
        place: F::Place,
        #[command(flatten)]
        page: PageArgs,
    },
    /// Show one
    Show {
        /// Its name
        name: String,
        #[command(flatten)]
        place: F::Place,
    },
    /// Make a new one
    Create {
        /// Its name
        name: String,
        #[command(flatten)]
        place: F::Place,
        #[command(flatten)]
        fields: F,
        /// Set any other field: `timeouts.connect_ms=2000`; the value is JSON or text
        #[arg(long = "set", value_name = "PATH=VALUE")]
        assignments: Vec<Assignment>,
    },
    /// Change one: what is not named stays as it is
    Set {
        /// Its name
        name: String,
        #[command(flatten)]
        place: F::Place,
        #[command(flatten)]
        fields: F,
        /// Set any other field: `timeouts.connect_ms=2000`; `null` removes it
        #[arg(long = "set", value_name = "PATH=VALUE")]
        assignments: Vec<Assignment>,
    },
    /// Remove one
    Delete {
        /// Its name
        name: String,
        #[command(flatten)]
        place: F::Place,
        #[command(flatten)]
        confirm: ConfirmArgs,
    },
}

/// The path of all resources of a kind.
pub(crate) fn collection(kind: Kind, tenant: Option<&Name>) -> String {
    match tenant {
        Some(tenant) => format!(
            "{API}/tenants/{}/{}",
            segment(tenant.as_str()),
            kind.plural()
        ),
        None => format!("{API}/{}", kind.plural()),
    }
}

/// The path of one resource. A tenant's configuration is one of a kind.
pub(crate) fn item(kind: Kind, tenant: Option<&Name>, name: &str) -> String {
    if let (Kind::Config, Some(tenant)) = (kind, tenant) {
        return format!("{API}/tenants/{}/config", segment(tenant.as_str()));
    }
    format!("{}/{}", collection(kind, tenant), segment(name))
}

/// Does it.
///
/// # Errors
///
/// What the API refuses, in its words.
pub(crate) async fn run<F: Fields>(
    context: &mut Context<'_>,
    command: ResourceCommand<F>,
) -> anyhow::Result<()> {
    match command {
        ResourceCommand::List { place, page } => {
            let path = collection(F::KIND, place.tenant());
            list_kind(context, &path, &page, F::COLUMNS).await
        }
        ResourceCommand::Show { name, place } => {
            let path = item(F::KIND, place.tenant(), &name);
            let view: ResourceView = context.client.get(&path).await?;
            show(context.form, &view)
        }
        ResourceCommand::Create {
            name,
            place,
            fields,
            assignments,
        } => {
            let mut spec = json!({});
            fields.merge_into(&mut spec, context.now())?;
            assignments
                .iter()
                .for_each(|assignment| assignment.apply(&mut spec));
            create::<F>(context, place.tenant(), &name, spec).await
        }
        ResourceCommand::Set {
            name,
            place,
            fields,
            assignments,
        } => {
            let path = item(F::KIND, place.tenant(), &name);
            let view: ResourceView = match context.client.get(&path).await {
                Err(error) if refusal_status(&error) == Some(StatusCode::NOT_FOUND) => bail!(
                    "there is no {} {name}: `list` shows what there is, `create` makes one",
                    F::KIND
                ),
                found => found?,
            };
            let mut spec = view.spec.clone();
            fields.merge_into(&mut spec, context.now())?;
            assignments
                .iter()
                .for_each(|assignment| assignment.apply(&mut spec));
            if spec == view.spec {
                bail!("nothing changes: name what should, or see --help");
            }
            // A tenant's configuration is shown before it was ever set: there is no state of it
            // to match.
            let is_default = F::KIND == Kind::Config && view.spec == json!({});
            let etag = (!is_default).then_some(view.etag.as_str());
            put(context, &path, etag, &spec).await?;
            done(context.form, &format!("changed {} {name}", F::KIND))
        }
        ResourceCommand::Delete {
            name,
            place,
            confirm,
        } => delete(context, F::KIND, place.tenant(), &name, confirm).await,
    }
}

async fn list_kind(
    context: &mut Context<'_>,
    path: &str,
    page: &PageArgs,
    columns: &[&str],
) -> anyhow::Result<()> {
    let listed = list(&mut context.client, path, page.pages(), page.parameters()).await?;
    if context.form == Form::Json {
        return say_json(&json!({"data": listed.rows, "next_cursor": listed.next_cursor}));
    }
    let row = |view: &Value| {
        let fields = columns.iter().map(|column| cell(&view["spec"][column]));
        std::iter::once(cell(&view["name"])).chain(fields).collect()
    };
    let header: Vec<&str> = std::iter::once("name")
        .chain(columns.iter().copied())
        .collect();
    say_table(&header, listed.rows.iter().map(row).collect())?;
    more(listed.next_cursor.as_deref());
    Ok(())
}

/// Says how to see the rest, if there is one.
pub(crate) fn more(next_cursor: Option<&str>) {
    if let Some(cursor) = next_cursor {
        note(format_args!("there are more: --all, or --cursor {cursor}"));
    }
}

async fn create<F: Fields>(
    context: &mut Context<'_>,
    tenant: Option<&Name>,
    name: &str,
    spec: Value,
) -> anyhow::Result<()> {
    match F::creation(name, spec) {
        Creation::Post(body) => {
            let path = collection(F::KIND, tenant);
            let reply: Value = context.client.post(&path, &body).await?;
            created(context.form, F::KIND, name, &reply)
        }
        Creation::Put { name, spec } => {
            let path = item(F::KIND, tenant, &name);
            match context.client.get::<Value>(&path).await {
                Ok(_) => bail!("{} {name} exists already: `set` changes it", F::KIND),
                Err(error) if refusal_status(&error) == Some(StatusCode::NOT_FOUND) => {}
                Err(error) => return Err(error.into()),
            }
            put(context, &path, None, &spec).await?;
            done(context.form, &format!("created {} {name}", F::KIND))
        }
    }
}

/// Shows what the server made, and a key that it will never show again.
pub(crate) fn created(form: Form, kind: Kind, name: &str, reply: &Value) -> anyhow::Result<()> {
    made(form, &format!("created {kind} {name}"), reply)
}

/// Says what was done, and shows a key that it made.
pub(crate) fn made(form: Form, what: &str, reply: &Value) -> anyhow::Result<()> {
    if form == Form::Json {
        return say_json(reply);
    }
    say(what)?;
    let key = reply["key"]
        .as_str()
        .or_else(|| reply["first_key"]["key"].as_str());
    match key {
        Some(key) => {
            note("Keep this key: it is shown once, and kept nowhere.");
            say(key)
        }
        None => Ok(()),
    }
}

/// Puts a specification where it will be, in the place of the one with this etag.
///
/// # Errors
///
/// What the API refuses, in its words.
pub(crate) async fn put(
    context: &mut Context<'_>,
    path: &str,
    etag: Option<&str>,
    spec: &Value,
) -> anyhow::Result<()> {
    let mut headers = HeaderMap::new();
    if let Some(etag) = etag {
        let etag = HeaderValue::from_str(etag).context("the server's etag is no header")?;
        headers.insert(header::IF_MATCH, etag);
    }
    let body = serde_json::to_vec(spec).context("specifications have string keys")?;
    context
        .client
        .call(Method::PUT, path, headers, body.into())
        .await?;
    Ok(())
}

async fn delete(
    context: &mut Context<'_>,
    kind: Kind,
    tenant: Option<&Name>,
    name: &str,
    asking: ConfirmArgs,
) -> anyhow::Result<()> {
    let mut path = item(kind, tenant, name);
    if kind == Kind::Tenant {
        path = format!("{path}?confirm={}", segment(name));
        let question = format!("All data of {name} will be destroyed. Type its name: ");
        if !asking.yes && ask(&question)? != name {
            bail!("nothing was removed");
        }
    } else if !asking.yes && !confirm(&format!("Remove {kind} {name}?"))? {
        bail!("nothing was removed");
    }
    let (headers, body) = (HeaderMap::new(), bytes::Bytes::new());
    context
        .client
        .call(Method::DELETE, &path, headers, body)
        .await?;
    done(context.form, &format!("removed {kind} {name}"))
}

/// Says that something was done.
pub(crate) fn done(form: Form, sentence: &str) -> anyhow::Result<()> {
    match form {
        Form::People => say(sentence),
        Form::Json => say_json(&json!({"done": sentence})),
    }
}

/// Shows one resource: a field a line, nested ones by their path.
///
/// # Errors
///
/// If standard output cannot be written.
pub(crate) fn show(form: Form, view: &ResourceView) -> anyhow::Result<()> {
    if form == Form::Json {
        return say_json(view);
    }
    let mut rows = vec![(view.kind.as_str().to_owned(), view.name.clone())];
    if let Some(tenant) = &view.tenant {
        rows.push(("tenant".to_owned(), tenant.to_string()));
    }
    flatten("", &view.spec, &mut rows);
    let width = rows
        .iter()
        .map(|(path, _)| path.len())
        .max()
        .unwrap_or_default();
    for (path, value) in rows {
        say(format_args!("{path:width$}  {value}"))?;
    }
    Ok(())
}

/// The leaves of a JSON value, each with its path.
pub(crate) fn flatten(path: &str, value: &Value, leaves: &mut Vec<(String, String)>) {
    let below = |name: &str| {
        if path.is_empty() {
            name.to_owned()
        } else {
            format!("{path}.{name}")
        }
    };
    let is_nested = |items: &[Value]| items.iter().any(|item| item.is_object());
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                flatten(&below(name), value, leaves);
            }
        }
        Value::Array(items) if is_nested(items) => {
            for (place, value) in items.iter().enumerate() {
                flatten(&below(&place.to_string()), value, leaves);
            }
        }
        leaf => leaves.push((path.to_owned(), cell(leaf))),
    }
}

/// A request body of a name and the fields of a specification.
pub(crate) fn named(name: &str, spec: Value) -> Value {
    let mut fields = match spec {
        Value::Object(fields) => fields,
        _ => Map::new(),
    };
    fields.insert("name".to_owned(), name.into());
    Value::Object(fields)
}
