//! The frame of every page.

use base::Name;
use maud::{DOCTYPE, Markup, html};
use tenancy::Permission;

use super::answer::{PageError, Shown};
use super::assets::ADDRESSES;
use super::page::{FORM_SECRET, Told, Visit};
use crate::caller::Visitor;

/// htmx without what a strict policy forbids, and without copies of pages in the browser.
const HTMX: &str = r#"{"includeIndicatorStyles":false,"allowEval":false,"allowScriptTags":false,"selfRequestsOnly":true,"historyEnabled":false,"timeout":20000}"#;

/// A page of a tenant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tab {
    Health,
    Alerts,
    Usage,
    Calls,
    Budgets,
    Invoices,
    Keys,
    Configuration,
    Resources,
    Audit,
    Data,
    Operations,
    Life,
}

impl Tab {
    const ALL: [Self; 13] = [
        Self::Health,
        Self::Alerts,
        Self::Usage,
        Self::Calls,
        Self::Budgets,
        Self::Invoices,
        Self::Keys,
        Self::Configuration,
        Self::Resources,
        Self::Audit,
        Self::Data,
        Self::Operations,
        Self::Life,
    ];

    const fn name(self) -> &'static str {
        match self {
            Self::Health => "Health",
            Self::Alerts => "Alerts",
            Self::Usage => "Usage",
            Self::Calls => "Calls",
            Self::Budgets => "Budgets",
            Self::Invoices => "Invoices",
            Self::Keys => "Keys",
            Self::Configuration => "Configuration",
            Self::Resources => "Resources",
            Self::Audit => "Audit",
            Self::Data => "Data",
            Self::Operations => "Operations",
            Self::Life => "Suspension",
        }
    }

    const fn path(self) -> &'static str {
        match self {
            Self::Health => "",
            Self::Alerts => "/alerts",
            Self::Usage => "/usage",
            Self::Calls => "/calls",
            Self::Budgets => "/budgets",
            Self::Invoices => "/invoices",
            Self::Keys => "/keys",
            Self::Configuration => "/configuration",
            Self::Resources => "/resources",
            Self::Audit => "/audit",
            Self::Data => "/data",
            Self::Operations => "/operations",
            Self::Life => "/life",
        }
    }

    /// The page's address.
    pub(super) fn of(self, tenant: &Name) -> String {
        format!("/dashboard/tenants/{tenant}{}", self.path())
    }
}

/// What has just been done, said on the next page: a closed set, so that no link can put words
/// into our mouth.
fn done(what: &str) -> Option<&'static str> {
    Some(match what {
        "saved" => "Saved.",
        "forgotten" => "What was asked and answered is forgotten.",
        "final" => "The invoice is final.",
        "removed" => "Removed.",
        "moving" => "The move has begun: load this page again to see how far it is.",
        "backed-up" => "A backup was taken and read back.",
        "restored" => "The backup is put back.",
        "offboarded" => "The tenant is gone, and its key with it.",
        "revoked" => "The key is revoked.",
        "suspended" => "The tenant is suspended: all its calls are refused.",
        "resumed" => "The tenant is served again.",
        "rolled-back" => "The configuration is what it was.",
        _ => return None,
    })
}

impl Visit {
    /// A page of the platform.
    pub(super) fn page(&self, title: &str, main: &Markup) -> Shown {
        Shown::Page(self.frame(title, main))
    }

    /// A page of the tenant in the path.
    pub(super) fn tenant_page(&self, tab: Tab, main: &Markup) -> Shown {
        let name = &self.tenant().name;
        let inside = html! {
            nav.crumbs aria-label="Where you are" {
                @if matches!(self.visitor, Visitor::Platform(..)) {
                    a href="/dashboard/fleet" { "Fleet" } " / "
                }
                span { (name) }
            }
            div.heading {
                h1 { (name) }
                @if self.tenant().spec.suspended { span.badge.off { "suspended" } }
                span.badge { "tier " (self.tenant().spec.tier) }
            }
            nav.tabs aria-label="Pages of the tenant" {
                @for one in Tab::ALL.into_iter().filter(|one| self.may_open(*one)) {
                    a href=(one.of(name)) aria-current=[(one == tab).then_some("page")] {
                        (one.name())
                    }
                }
            }
            (main)
        };
        Shown::Page(self.frame(&format!("{} · {name}", tab.name()), &inside))
    }

    fn may_open(&self, tab: Tab) -> bool {
        tab != Tab::Life || self.may(Permission::WriteCatalogue)
    }

    fn frame(&self, title: &str, main: &Markup) -> Markup {
        let done = self.query.get("done").and_then(done);
        let main = html! {
            @if let Some(done) = done { p.done role="status" { (done) } }
            (main)
        };
        document(title, &bar(&self.visitor, &self.form_secret), &main)
    }

    /// A form that changes something, with what proves that it is ours.
    pub(super) fn secret(&self) -> Markup {
        hidden(FORM_SECRET, &self.form_secret)
    }

    /// Whether the visitor runs the platform, or reads all of it.
    pub(super) fn sees_platform(&self) -> bool {
        matches!(self.visitor, Visitor::Platform(..))
    }

    /// Whether the visitor may look inside tenants: an auditor reads figures alone.
    pub(super) fn looks_inside(&self) -> bool {
        !self.sees_platform() || self.may(Permission::ActForTenant)
    }
}

/// A field that is not shown.
pub(super) fn hidden(name: &str, value: &str) -> Markup {
    html! { input type="hidden" name=(name) value=(value); }
}

/// A page for somebody who is not signed in.
pub(super) fn outside(title: &str, main: &Markup) -> Markup {
    document(title, &html! {}, &html! { div.narrow { (main) } })
}

/// A page that says no.
pub(super) fn refused(error: &PageError, told: Option<&Told>) -> Markup {
    let (title, message) = error.texts();
    let details = match error {
        PageError::Refused { details, .. } => details.as_slice(),
        _ => &[],
    };
    let main = html! {
        h1 { (title) }
        p.problem role="alert" { (message) }
        @if !details.is_empty() {
            ul { @for problem in details {
                li { code { (problem.address) } ": " (problem.message) }
            } }
        }
        p { a href="/dashboard" { "To the beginning" } }
    };
    match told {
        Some(told) => document(title, &bar(&told.visitor, &told.form_secret), &main),
        None => outside(title, &main),
    }
}

fn bar(visitor: &Visitor, form_secret: &str) -> Markup {
    let (who, role) = match visitor {
        Visitor::Platform(name, role) => (name.to_string(), role.as_str()),
        Visitor::TenantAdmin(tenant, _, key) => (format!("{tenant}/{key}"), "tenant-admin"),
    };
    html! {
        nav aria-label="Pages" {
            @if let Visitor::TenantAdmin(tenant, ..) = visitor {
                a href=(Tab::Health.of(tenant)) { "Home" }
            } @else {
                a href="/dashboard/fleet" { "Fleet" }
                a href="/dashboard/alerts" { "Alerts" }
                a href="/dashboard/resources" { "Catalogue" }
                a href="/dashboard/audit" { "Audit" }
                a href="/dashboard/versions" { "Versions" }
                a href="/dashboard/upgrade" { "Upgrade" }
                a href="/dashboard/operations" { "Operations" }
            }
        }
        form.who method="post" action="/dashboard/sign-out" {
            (hidden(FORM_SECRET, form_secret))
            span title=(role) { (who) }
            button type="submit" { "Sign out" }
        }
    }
}

fn document(title: &str, bar: &Markup, main: &Markup) -> Markup {
    let addresses = &*ADDRESSES;
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                meta name="htmx-config" content=(HTMX);
                title { (title) " · Partywall" }
                link rel="icon" href=(addresses.icon) type="image/svg+xml";
                @for style in &addresses.styles { link rel="stylesheet" href=(style); }
                @for script in &addresses.scripts { script src=(script) defer {} }
            }
            body {
                a.skip href="#main" { "To the content" }
                header.bar {
                    a.brand href="/dashboard" {
                        img src=(addresses.icon) alt="" width="24" height="24";
                        span { "Partywall" }
                    }
                    (bar)
                }
                main #main tabindex="-1" { (main) }
            }
        }
    }
}
