//! Every kind of resource, as the catalogue has it: read, changed and removed as its specification
//! in JSON. What is used most has forms of its own elsewhere.

use maud::{Markup, html};
use serde_json::{Value, json};
use tenancy::Permission;
use tenancy::catalogue::Kind;

use super::answer::{PageError, Shown};
use super::ask::segment;
use super::layout::{Tab, hidden};
use super::page::{Door, PageRow, Visit, page};
use super::show::{more, pretty, table};
use crate::api::{KeyReply, Page, ResourceView};
use crate::endpoint::{Reach, Verb};

/// The platform's.
const OF_PLATFORM: [Kind; 9] = [
    Kind::Tier,
    Kind::Upstream,
    Kind::Route,
    Kind::Price,
    Kind::SharingGroup,
    Kind::PriceBook,
    Kind::PlatformChannel,
    Kind::SharedCost,
    Kind::Operator,
];
/// A tenant's. Its keys are made on a page of their own.
const OF_TENANT: [Kind; 12] = [
    Kind::Key,
    Kind::Team,
    Kind::User,
    Kind::Feature,
    Kind::Limit,
    Kind::Budget,
    Kind::Prompt,
    Kind::Guardrail,
    Kind::Credential,
    Kind::Adapter,
    Kind::Channel,
    Kind::Config,
];

/// What these pages do of the admin API.
#[cfg(test)]
pub(super) fn does() -> impl Iterator<Item = String> {
    let kinds = OF_PLATFORM.iter().chain(&OF_TENANT);
    let of_kinds = kinds
        .flat_map(|kind| ["put", "delete"].map(|verb| format!("{verb}_{kind}").replace('-', "_")));
    of_kinds.chain(["create_operator".to_owned()])
}

pub(super) fn pages() -> Vec<PageRow> {
    let read = Door::As(Reach::Platform(Permission::ReadCatalogue));
    let write = Door::As(Reach::Platform(Permission::WriteCatalogue));
    let read_inside = Door::As(Reach::Tenant(Permission::ReadCatalogue));
    // Of what a tenant may not change itself, the admin API says so.
    let write_inside = Door::As(Reach::Tenant(Permission::ManageTenantConfig));
    let rows = |root: [&'static str; 4], read, write| {
        vec![
            page(Verb::Get, root[0], read, index),
            page(Verb::Get, root[1], read, list),
            page(Verb::Post, root[1], write, create),
            page(Verb::Get, root[2], read, one),
            page(Verb::Post, root[2], write, save),
            page(Verb::Post, root[3], write, remove),
        ]
    };
    let mut all = rows(
        [
            "/dashboard/resources",
            "/dashboard/resources/{kind}",
            "/dashboard/resources/{kind}/{name}",
            "/dashboard/resources/{kind}/{name}/remove",
        ],
        read,
        write,
    );
    all.extend(rows(
        [
            "/dashboard/tenants/{tenant}/resources",
            "/dashboard/tenants/{tenant}/resources/{kind}",
            "/dashboard/tenants/{tenant}/resources/{kind}/{name}",
            "/dashboard/tenants/{tenant}/resources/{kind}/{name}/remove",
        ],
        read_inside,
        write_inside,
    ));
    all
}

/// Where a visit is about: a kind of the platform's or of a tenant's.
struct Place {
    kind: Kind,
    /// The pages' address of the kind.
    pages: String,
    /// The admin API's.
    api: String,
    writes: bool,
}

/// What stands before a kind: the platform's pages, or a tenant's.
fn roots(visit: &Visit) -> (String, String, &'static [Kind]) {
    match visit.tenant_if_any() {
        Some(tenant) => (
            Tab::Resources.of(&tenant.name),
            format!("/admin/v1/tenants/{}", tenant.name),
            &OF_TENANT,
        ),
        None => (
            "/dashboard/resources".to_owned(),
            "/admin/v1".to_owned(),
            &OF_PLATFORM,
        ),
    }
}

/// A tenant's administrator changes what is its own; what it may spend is the platform's to say.
fn writes(visit: &Visit, kind: Kind) -> bool {
    visit.may(match kind {
        Kind::Key => Permission::ManageKeys,
        Kind::Budget | Kind::Limit => Permission::WriteCatalogue,
        _ if visit.tenant_if_any().is_some() => Permission::ManageTenantConfig,
        _ => Permission::WriteCatalogue,
    })
}

impl Place {
    fn of(visit: &Visit) -> Result<Self, PageError> {
        let (pages, api, kinds) = roots(visit);
        let asked = visit.param("kind");
        let kind = kinds.iter().find(|kind| kind.plural() == asked);
        let kind = *kind.ok_or(PageError::NotFound)?;
        Ok(Self {
            kind,
            pages: format!("{pages}/{}", kind.plural()),
            api: format!("{api}/{}", kind.plural()),
            writes: writes(visit, kind),
        })
    }

    /// A tenant has one configuration, and no list of them.
    fn api_of(&self, name: &str) -> String {
        match self.kind {
            Kind::Config => self.api.trim_end_matches('s').to_owned(),
            _ => format!("{}/{}", self.api, segment(name)),
        }
    }

    fn page_of(&self, name: &str) -> String {
        format!("{}/{}", self.pages, segment(name))
    }
}

fn show(visit: &Visit, title: &str, main: &Markup) -> Shown {
    match visit.tenant_if_any() {
        Some(_) => visit.tenant_page(Tab::Resources, main),
        None => visit.page(title, main),
    }
}

async fn index(visit: Visit) -> Result<Shown, PageError> {
    let (root, _, kinds) = roots(&visit);
    let main = html! {
        @if visit.tenant_if_any().is_none() { h1 { "Catalogue" } }
        ul.kinds { @for kind in kinds {
            @let address = match kind {
                Kind::Config => format!("{root}/configs/config"),
                kind => format!("{root}/{}", kind.plural()),
            };
            li { a href=(address) { (kind.plural()) } }
        } }
    };
    Ok(show(&visit, "Catalogue", &main))
}

async fn list(visit: Visit) -> Result<Shown, PageError> {
    let place = Place::of(&visit)?;
    if place.kind == Kind::Config {
        return Ok(Shown::Elsewhere(place.page_of("config")));
    }
    let cursor = visit.at_cursor();
    let listed: Page<ResourceView> = visit
        .get(&format!("{}?limit=100{cursor}", place.api))
        .await?;
    let rows = html! { @for one in &listed.data {
        tr {
            th scope="row" { a href=(place.page_of(&one.name)) { (one.name) } }
            td { code.line { (brief(&one.spec)) } }
        }
    } };
    let main = html! {
        h2 { (place.kind.plural()) }
        @if listed.data.is_empty() {
            p.empty { "None yet." }
        } @else {
            (table(place.kind.plural(), &["Name", "Specification"], &rows))
        }
        (more(listed.next_cursor.as_deref(), "", "Next page"))
        @if place.kind == Kind::Key {
            p.note { "Keys are made on " a href=(Tab::Keys.of(&visit.tenant().name)) { "their own page" } "." }
        } @else if place.writes {
            (new_form(&visit, &place))
        }
    };
    Ok(show(&visit, place.kind.plural(), &main))
}

/// A specification in a line.
fn brief(spec: &Value) -> String {
    /// Two lines of a wide screen.
    const CHARS_MAX: usize = 160;
    let whole = spec.to_string();
    match whole.char_indices().nth(CHARS_MAX) {
        Some((end, _)) => format!("{}…", &whole[..end]),
        None => whole,
    }
}

fn new_form(visit: &Visit, place: &Place) -> Markup {
    let example = match place.kind {
        Kind::Operator => "{\n  \"role\": \"auditor\"\n}",
        _ => "{\n}",
    };
    html! {
        h2 { "New" }
        form.card method="post" action=(place.pages) {
            (visit.secret())
            label { "Name" input name="name" required spellcheck="false"; }
            label { "Specification, in JSON"
                textarea name="spec" rows="8" required spellcheck="false" { (example) }
            }
            p.note {
                "Fields are those of the "
                a href="/openapi.json" { "admin API" }
                "; what is wrong is said, and changes nothing."
            }
            button.primary type="submit" { "Make it" }
        }
    }
}

fn spec_of(visit: &Visit) -> Result<Value, PageError> {
    let text = visit.form.need("spec", "the specification")?;
    serde_json::from_str(text)
        .map_err(|error| PageError::wrong(format!("the specification is no JSON: {error}")))
}

async fn create(visit: Visit) -> Result<Shown, PageError> {
    let place = Place::of(&visit)?;
    let name = visit.form.need("name", "the name")?;
    let mut spec = spec_of(&visit)?;
    if place.kind == Kind::Operator {
        spec["name"] = json!(name);
        let made: KeyReply = visit.post(&place.api, &spec).await?;
        let main = super::tenant::once(&made, &place.pages);
        return Ok(show(&visit, "operators", &main));
    }
    let path = place.api_of(name);
    // Nothing that is there is overwritten by what is meant to be new.
    let existing = visit.get::<ResourceView>(&path).await;
    if existing.is_ok() {
        return Err(PageError::wrong(format!(
            "there is one named {name} already: open it to change it"
        )));
    }
    visit.put::<ResourceView>(&path, &spec, None).await?;
    Ok(Shown::Elsewhere(format!(
        "{}?done=saved",
        place.page_of(name)
    )))
}

async fn one(visit: Visit) -> Result<Shown, PageError> {
    let place = Place::of(&visit)?;
    let name = visit.param("name").to_owned();
    let resource: ResourceView = visit.get(&place.api_of(&name)).await?;
    let text = pretty(&resource.spec);
    let main = html! {
        nav.crumbs aria-label="Kind" { a href=(place.pages) { (place.kind.plural()) } }
        h2 { (resource.name) }
        @if place.writes {
            form.card.wide method="post" action=(place.page_of(&name)) {
                (visit.secret())
                (hidden("etag", &resource.etag))
                label { "Specification, in JSON"
                    textarea name="spec" rows="20" required spellcheck="false" { (text) }
                }
                button.primary type="submit" { "Save" }
            }
            details.action {
                summary { "Remove" }
                form method="post" action=(format!("{}/remove", place.page_of(&name))) {
                    (visit.secret())
                    (hidden("etag", &resource.etag))
                    p { "What refers to it keeps it from being removed." }
                    button.danger type="submit" { "Remove " (resource.name) }
                }
            }
        } @else {
            pre tabindex="0" { (text) }
        }
    };
    Ok(show(&visit, &resource.name, &main))
}

async fn save(visit: Visit) -> Result<Shown, PageError> {
    let place = Place::of(&visit)?;
    let name = visit.param("name");
    let spec = spec_of(&visit)?;
    let etag = visit.form.get("etag");
    visit
        .put::<ResourceView>(&place.api_of(name), &spec, etag)
        .await?;
    Ok(Shown::Elsewhere(format!(
        "{}?done=saved",
        place.page_of(name)
    )))
}

async fn remove(visit: Visit) -> Result<Shown, PageError> {
    let place = Place::of(&visit)?;
    let path = place.api_of(visit.param("name"));
    visit.delete(&path, visit.form.get("etag")).await?;
    Ok(Shown::Elsewhere(format!("{}?done=removed", place.pages)))
}
