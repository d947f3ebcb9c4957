//! What can be done besides, each thing with a form of its own: the platform's operations and a
//! tenant's. A form leads to one operation of the admin API, by that operation's own method, path
//! and right, as its visitor.

mod list;

use std::collections::BTreeMap;
use std::sync::LazyLock;

use maud::{Markup, html};
use serde_json::{Map, Value, json};
use tenancy::Permission;

use super::answer::{PageError, Shown};
use super::ask::segment;
use super::layout::Tab;
use super::page::{Door, Fields, PageRow, Visit, page};
use super::show::{pretty, said, table};
use super::tenant::once;
use crate::api::KeyReply;
use crate::endpoint::{Reach, Verb};
use crate::options::MetricsAccess;
use list::{Field, Gives, Kind, Known, Need, OF_PLATFORM, OF_TENANT, Operation};

/// 8 MiB: the public map of prices is 3 MiB, and a form writes some of its letters as three.
const FORM_BYTES_MAX: usize = 8 << 20;

pub(super) fn pages() -> Vec<PageRow> {
    // Of what a visitor may not do, the admin API says so.
    let platform = Door::As(Reach::Platform(Permission::ReadCatalogue));
    let tenant = Door::As(Reach::Tenant(Permission::ReadCatalogue));
    vec![
        page(Verb::Get, "/dashboard/operations", platform, index),
        page(
            Verb::Get,
            "/dashboard/operations/{operation}",
            platform,
            look,
        ),
        page(
            Verb::Post,
            "/dashboard/operations/{operation}",
            platform,
            act,
        )
        .with_form_of(FORM_BYTES_MAX),
        page(
            Verb::Get,
            "/dashboard/tenants/{tenant}/operations",
            tenant,
            index,
        ),
        page(
            Verb::Get,
            "/dashboard/tenants/{tenant}/operations/{operation}",
            tenant,
            look,
        ),
        page(
            Verb::Post,
            "/dashboard/tenants/{tenant}/operations/{operation}",
            tenant,
            act,
        ),
    ]
}

/// The operations that have a form here.
#[cfg(test)]
pub(super) fn ids() -> impl Iterator<Item = &'static str> {
    OF_PLATFORM.iter().chain(OF_TENANT).map(|one| one.id)
}

/// An endpoint, as a form needs it.
struct Target {
    verb: Verb,
    path: String,
    permission: Permission,
}

/// The endpoints of the operations in the tables, by their ids.
static TARGETS: LazyLock<BTreeMap<String, Target>> = LazyLock::new(|| {
    let endpoints = crate::routes::endpoints(MetricsAccess::Operators);
    let targets = endpoints.into_iter().filter_map(|endpoint| {
        let (Reach::Platform(permission) | Reach::Tenant(permission)) = endpoint.reach else {
            return None;
        };
        let target = Target {
            verb: endpoint.verb,
            path: endpoint.path,
            permission,
        };
        Some((endpoint.operation_id, target))
    });
    targets.collect()
});

impl Operation {
    fn target(&self) -> &'static Target {
        TARGETS
            .get(self.id)
            .expect("a test finds each operation among the endpoints")
    }

    /// The admin API's address, with what the form says in it.
    fn path(&self, visit: &Visit, form: &Fields) -> Result<String, PageError> {
        let target = self.target();
        let mut path = target.path.clone();
        if let Some(tenant) = visit.tenant_if_any() {
            path = path.replace("{tenant}", tenant.name.as_str());
        }
        let mut query = String::new();
        for field in self.fields {
            let place = format!("{{{}}}", field.name);
            if path.contains(&place) {
                let value = form.need(field.name, field.label)?;
                path = path.replace(&place, &segment(value));
            } else if target.verb == Verb::Get
                && let Some(value) = field.read(form)?
            {
                let mark = if query.is_empty() { '?' } else { '&' };
                query.push_str(&format!("{mark}{}={}", field.name, segment(value)));
            }
        }
        Ok(path + &query)
    }

    /// What the form says besides the path; none where nothing is to be said.
    fn body(&self, form: &Fields) -> Result<Option<Value>, PageError> {
        let mut body = Map::new();
        for field in self.fields {
            if self.target().path.contains(&format!("{{{}}}", field.name)) {
                continue;
            }
            let Some(text) = field.read(form)? else {
                continue;
            };
            let value = field.value(text)?;
            if let Kind::Whole(_) = field.kind {
                return Ok(Some(value));
            }
            body.insert(field.name.to_owned(), value);
        }
        Ok((!body.is_empty()).then_some(Value::Object(body)))
    }

    /// What a file of it is called.
    fn file_name(&self, form: &Fields, ending: &str) -> String {
        let format = form.get("format").unwrap_or_default();
        let ending = match (ending, format) {
            ("", "focus-csv") => "csv",
            ("", "focus-parquet") => "parquet",
            ("", "openmeter" | "stripe") => "jsonl",
            ("", "pdf") => "pdf",
            ("", "csv") => "csv",
            ("", _) => "json",
            (ending, _) => ending,
        };
        format!("{}.{ending}", self.id.replace('_', "-"))
    }
}

impl Field {
    fn read<'f>(&self, form: &'f Fields) -> Result<Option<&'f str>, PageError> {
        match self.need {
            Need::Required => form.need(self.name, self.label).map(Some),
            Need::Optional => Ok(form.get(self.name)),
        }
    }

    fn value(&self, text: &str) -> Result<Value, PageError> {
        let wrong = |what: &str| PageError::wrong(format!("{}: {what}", self.label));
        Ok(match self.kind {
            Kind::Check => Value::Bool(true),
            Kind::Number => json!(text.parse::<u64>().map_err(|_| wrong("a whole number"))?),
            Kind::Names => {
                let names = text.split(',').map(str::trim);
                json!(names.filter(|name| !name.is_empty()).collect::<Vec<_>>())
            }
            Kind::Json | Kind::Whole(_) => serde_json::from_str(text)
                .map_err(|error| wrong(&format!("this is no JSON: {error}")))?,
            Kind::Text | Kind::Day | Kind::OneOf(_) | Kind::Known(_) | Kind::Long => json!(text),
        })
    }
}

fn operations(visit: &Visit) -> &'static [Operation] {
    match visit.tenant_if_any() {
        Some(_) => OF_TENANT,
        None => OF_PLATFORM,
    }
}

fn root(visit: &Visit) -> String {
    match visit.tenant_if_any() {
        Some(tenant) => Tab::Operations.of(&tenant.name),
        None => "/dashboard/operations".to_owned(),
    }
}

fn show(visit: &Visit, title: &str, main: &Markup) -> Shown {
    match visit.tenant_if_any() {
        Some(_) => visit.tenant_page(Tab::Operations, main),
        None => visit.page(title, main),
    }
}

/// The operation in the path, if the visitor may do it in this way.
fn asked(visit: &Visit, verb: Verb) -> Result<&'static Operation, PageError> {
    let id = visit.param("operation");
    let found = operations(visit).iter().find(|one| one.id == id);
    let found = found.ok_or(PageError::NotFound)?;
    let target = found.target();
    let is_reading = target.verb == Verb::Get;
    match (
        is_reading == (verb == Verb::Get),
        visit.may(target.permission),
    ) {
        (true, true) => Ok(found),
        (true, false) if visit.sees_platform() => Err(PageError::Forbidden),
        _ => Err(PageError::NotFound),
    }
}

async fn index(visit: Visit) -> Result<Shown, PageError> {
    let (root, all) = (root(&visit), operations(&visit));
    let offered = all.iter().filter(|one| visit.may(one.target().permission));
    let main = html! {
        @if visit.tenant_if_any().is_none() { h1 { "Operations" } }
        @for one in offered { (form(&visit, &root, one)) }
    };
    Ok(show(&visit, "Operations", &main))
}

fn form(visit: &Visit, root: &str, one: &Operation) -> Markup {
    let reads = one.target().verb == Verb::Get;
    let button = match one.gives {
        Gives::Done => "Do it",
        Gives::DoneForGood => "Do it for good",
        Gives::Page => "Show",
        Gives::File(_) => "Download",
    };
    let class = match one.gives {
        Gives::DoneForGood => "danger",
        _ => "primary",
    };
    html! {
        details.card.action {
            summary { (one.title) }
            form method=(if reads { "get" } else { "post" }) action=(format!("{root}/{}", one.id)) {
                @if !reads { (visit.secret()) }
                @if !one.words.is_empty() { p.note { (one.words) } }
                @for field in one.fields { (input(visit, one.id, field)) }
                button class=(class) type="submit" { (button) }
            }
        }
    }
}

fn input(visit: &Visit, operation: &str, field: &Field) -> Markup {
    let (name, required) = (field.name, field.need == Need::Required);
    let id = format!("{operation}-{name}");
    let choices = |choices: &[String]| {
        html! {
            select name=(name) required[required] {
                @if !required { option value="" { "–" } }
                @for one in choices { option value=(one) { (one) } }
            }
        }
    };
    let long = |rows: u8, text: &str| {
        html! {
            textarea #(id) name=(name) rows=(rows) required[required] spellcheck="false" { (text) }
        }
    };
    html! {
        label {
            @if field.kind != Kind::Check { (field.label) }
            @match field.kind {
                Kind::Text | Kind::Names => {
                    input name=(name) required[required] spellcheck="false" autocomplete="off";
                },
                Kind::Day => { input type="date" name=(name) required[required]; },
                Kind::Number => { input type="number" min="0" name=(name) required[required]; },
                Kind::Check => {
                    span { input type="checkbox" name=(name) value="yes"; " " (field.label) }
                },
                Kind::OneOf(list) => {
                    (choices(&list.iter().map(|one| (*one).to_owned()).collect::<Vec<_>>()))
                },
                Kind::Known(known) => (choices(&names(visit, known))),
                Kind::Long | Kind::Json => (long(6, "")),
                Kind::Whole(known) => (long(14, &present(visit, known))),
            }
        }
        @if matches!(field.kind, Kind::Long | Kind::Json) && required {
            label { "… from a file" input type="file" data-into=(format!("#{id}")); }
        }
    }
}

/// What there is of it.
fn names(visit: &Visit, known: Known) -> Vec<String> {
    let snapshot = &visit.snapshot;
    let tenant = visit.tenant_if_any();
    let of_tenant = |kind| {
        let listed = tenant.map(|tenant| crate::resources::names(snapshot, kind, Some(tenant)));
        listed.unwrap_or_default()
    };
    use tenancy::catalogue::Kind as Of;
    let of_platform = |kind| crate::resources::names(snapshot, kind, None);
    match known {
        Known::Operators => of_platform(Of::Operator),
        Known::PlatformChannels => of_platform(Of::PlatformChannel),
        Known::Upstreams => of_platform(Of::Upstream),
        Known::Channels => of_tenant(Of::Channel),
        Known::Prompts => of_tenant(Of::Prompt),
        Known::Budgets => of_tenant(Of::Budget),
        Known::Tenant => Vec::new(),
    }
}

/// What it is now, where a form changes the whole of it.
fn present(visit: &Visit, known: Known) -> String {
    let spec = match (known, visit.tenant_if_any()) {
        (Known::Tenant, Some(tenant)) => serde_json::to_string_pretty(&tenant.spec).ok(),
        _ => None,
    };
    spec.unwrap_or_default()
}

async fn look(visit: Visit) -> Result<Shown, PageError> {
    let one = asked(&visit, Verb::Get)?;
    let path = one.path(&visit, &visit.query)?;
    if let Gives::File(ending) = one.gives {
        let name = one.file_name(&visit.query, ending);
        return visit.download(&path, &name).await;
    }
    let found: Value = visit.get(&path).await?;
    Ok(show(&visit, one.title, &told(&visit, one, &found)))
}

async fn act(visit: Visit) -> Result<Shown, PageError> {
    let one = asked(&visit, Verb::Post)?;
    let (path, body) = (one.path(&visit, &visit.form)?, one.body(&visit.form)?);
    let answer = visit.send(one.target().verb, &path, body).await?;
    // A key is shown once, and in no other way.
    if answer.get("key").is_some()
        && let Ok(made) = serde_json::from_value::<KeyReply>(answer.clone())
    {
        return Ok(show(&visit, one.title, &once(&made, &root(&visit))));
    }
    Ok(show(&visit, one.title, &told(&visit, one, &answer)))
}

/// What an operation says: what is one value as a pair, rows as a table, all else as JSON.
fn told(visit: &Visit, one: &Operation, answer: &Value) -> Markup {
    let rows = answer.get("data").and_then(Value::as_array);
    let done = match visit.form.get("dry_run") {
        Some(_) => "Nothing was changed. This is what would be:",
        None => "Done.",
    };
    html! {
        nav.crumbs aria-label="Operations" { a href=(root(visit)) { "Operations" } }
        h2 { (one.title) }
        @if one.target().verb != Verb::Get { p.done role="status" { (done) } }
        @match (answer, rows) {
            (Value::Null, _) => {},
            (_, Some(rows)) => {
                (table_of(one.title, rows))
                @if answer.get("next_cursor").is_some_and(|next| !next.is_null()) {
                    p.note { "There are more: the admin API and the command line have them by pages." }
                }
            },
            (Value::Object(fields), None) => (pairs(fields)),
            (other, None) => pre tabindex="0" { (pretty(other)) },
        }
    }
}

fn pairs(fields: &Map<String, Value>) -> Markup {
    let is_one = |value: &Value| !value.is_object() && !value.is_array();
    let single = fields.iter().filter(|(_, value)| is_one(value));
    let rest = fields.iter().filter(|(_, value)| !is_one(value));
    html! {
        section.card { dl.pairs { @for (name, value) in single {
            div { dt { (name) } dd { (said(value)) } }
        } } }
        @for (name, value) in rest {
            h3 { (name) }
            pre tabindex="0" { (pretty(value)) }
        }
    }
}

fn table_of(title: &str, rows: &[Value]) -> Markup {
    let mut columns: Vec<&str> = Vec::new();
    for row in rows.iter().filter_map(Value::as_object) {
        for name in row.keys() {
            if !columns.contains(&name.as_str()) {
                columns.push(name);
            }
        }
    }
    if rows.is_empty() {
        return html! { p.empty { "None." } };
    }
    let cells = html! { @for row in rows {
        tr { @for name in &columns { td { (said(&row[*name])) } } }
    } };
    table(title, &columns, &cells)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// The names that an operation takes, and those of them that it needs.
    fn taken(document: &Value, id: &str) -> (BTreeSet<String>, BTreeSet<String>) {
        let paths = document["paths"].as_object().unwrap().values();
        let methods = paths.flat_map(|path| path.as_object().unwrap().values());
        let found = methods.into_iter().find(|it| it["operationId"] == id);
        let found = found.unwrap_or_else(|| panic!("there is no operation {id}"));
        let (mut all, mut needed) = (BTreeSet::new(), BTreeSet::new());
        for parameter in found["parameters"].as_array().into_iter().flatten() {
            let name = parameter["name"].as_str().unwrap().to_owned();
            if parameter["required"] == json!(true) {
                needed.insert(name.clone());
            }
            all.insert(name);
        }
        let schema = &found["requestBody"]["content"]["application/json"]["schema"];
        let schema = match schema["$ref"].as_str() {
            Some(reference) => {
                &document["components"]["schemas"][reference.rsplit('/').next().unwrap()]
            }
            None => schema,
        };
        let properties = schema["properties"].as_object();
        all.extend(properties.into_iter().flat_map(Map::keys).cloned());
        let required = schema["required"].as_array().into_iter().flatten();
        needed.extend(required.map(|name| name.as_str().unwrap().to_owned()));
        needed.remove("tenant");
        (all, needed)
    }

    #[test]
    fn forms_ask_for_what_their_operations_take() {
        let document = crate::openapi();
        for one in OF_PLATFORM.iter().chain(OF_TENANT) {
            let (all, needed) = taken(&document, one.id);
            // Its target is there, and the API agrees on where it stands.
            let is_of_tenant = one.target().path.contains("{tenant}");
            assert_eq!(is_of_tenant, OF_TENANT.iter().any(|it| it.id == one.id));
            let whole = one
                .fields
                .iter()
                .any(|it| matches!(it.kind, Kind::Whole(_)));
            let fields: BTreeSet<String> = one.fields.iter().map(|it| it.name.to_owned()).collect();
            if !whole {
                assert!(fields.is_subset(&all), "{}: {fields:?} of {all:?}", one.id);
                let asked = one.fields.iter().filter(|it| it.need == Need::Required);
                let asked: BTreeSet<String> = asked.map(|it| it.name.to_owned()).collect();
                assert!(
                    needed.is_subset(&asked),
                    "{}: {needed:?} of {asked:?}",
                    one.id
                );
            }
            let reads = one.target().verb == Verb::Get;
            let shows = matches!(one.gives, Gives::Page | Gives::File(_));
            // Trying a prompt changes nothing, and has a body.
            assert!(reads == shows || one.id == "render_prompt", "{}", one.id);
        }
    }
}
