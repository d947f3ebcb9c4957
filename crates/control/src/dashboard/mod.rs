//! The dashboard: pages for people, made on the server, over the admin API.
//!
//! A table of pages says of each who may see it, as the table of endpoints does; router and tests
//! read it. Pages ask the admin API by their visitor's own credential, so that they show and do
//! what that credential may, on the same record, and nothing else.

mod alerts;
mod answer;
mod ask;
mod assets;
mod cookies;
mod fleet;
mod layout;
mod live;
mod lockers;
mod oidc;
mod operations;
mod page;
mod platform;
mod resources;
mod show;
mod sign_in;
mod tenant;
mod upgrades;

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Router;
use axum::extract::rejection::RawPathParamsRejection;
use axum::extract::{Path, RawPathParams, Request};
use axum::http::HeaderMap;
use axum::http::header::AUTHORIZATION;
use axum::routing::{MethodFilter, MethodRouter, any, get};

pub use oidc::is_safe;
pub use oidc::{OidcOptions, OidcRole, OidcRule};
pub(crate) use page::{Door, PageRow};

use base::Entropy;
use tenancy::VouchingKey;

use crate::Control;
use crate::api::SignInLinkReply;
use crate::caller::{Caller, Visitor};
use crate::endpoint::Verb;
use crate::error::ApiError;
use answer::{PageError, Shown, harden};
use cookies::Transport;
use lockers::{LINKS, Lockers, SESSIONS};
use page::{House, page};

/// Who is signed in, and who may by a link.
#[derive(Debug)]
pub(crate) struct Dashboard {
    sessions: Lockers,
    links: Lockers,
    streams: live::Streams,
    oidc: Option<oidc::Oidc>,
    /// Seals the word of the identity provider.
    pub(crate) vouching: VouchingKey,
}

impl Dashboard {
    pub(crate) fn new(oidc: Option<OidcOptions>, entropy: &dyn Entropy) -> Self {
        Self {
            sessions: Lockers::new(SESSIONS),
            links: Lockers::new(LINKS),
            streams: live::Streams::default(),
            oidc: oidc.map(|options| oidc::Oidc::new(options, entropy)),
            vouching: oidc::vouching_key(entropy),
        }
    }
}

/// Every page that is behind the sign-in.
pub(crate) fn pages() -> Vec<PageRow> {
    let mut all = vec![
        page(Verb::Get, "/dashboard", Door::SignedIn, home),
        page(
            Verb::Post,
            "/dashboard/sign-out",
            Door::SignedIn,
            sign_in::sign_out,
        ),
    ];
    all.extend(fleet::pages());
    all.extend(alerts::pages());
    all.extend(live::pages());
    all.extend(platform::pages());
    all.extend(upgrades::pages());
    all.extend(tenant::pages());
    all.extend(resources::pages());
    all.extend(operations::pages());
    all
}

/// What the pages do of the admin API, of its operations that change something.
#[cfg(test)]
pub(crate) fn does() -> std::collections::BTreeSet<String> {
    let pages = pages().into_iter().flat_map(|row| row.does);
    let pages = pages.copied().chain(operations::ids());
    pages.map(str::to_owned).chain(resources::does()).collect()
}

/// An operator's home is the fleet; a tenant's administrator's is the tenant.
async fn home(visit: page::Visit) -> Result<Shown, PageError> {
    Ok(Shown::Elsewhere(match &visit.visitor {
        Visitor::Platform(..) => "/dashboard/fleet".to_owned(),
        Visitor::TenantAdmin(tenant, ..) => format!("/dashboard/tenants/{tenant}"),
    }))
}

/// The admin API with the pages beside it.
pub(crate) fn router(control: &Arc<Control>, api: Router) -> Router {
    let house = Arc::new(House {
        control: Arc::clone(control),
        api: api.clone(),
    });
    let mut by_path: BTreeMap<&str, MethodRouter> = BTreeMap::new();
    for row in pages() {
        let filter = match row.verb {
            Verb::Get => MethodFilter::GET,
            _ => MethodFilter::POST,
        };
        let (house, path, row) = (Arc::clone(&house), row.path, Arc::new(row));
        let handler = move |params: Result<RawPathParams, RawPathParamsRejection>,
                            request: Request| {
            let params = params.ok().map(|params| {
                let pairs = params.iter();
                pairs
                    .map(|(name, value)| (name.to_owned(), value.to_owned()))
                    .collect()
            });
            page::answer(Arc::clone(&house), Arc::clone(&row), params, request)
        };
        let methods = by_path.remove(path).unwrap_or_default();
        by_path.insert(path, methods.on(filter, handler));
    }
    let mut router = api;
    for (path, methods) in by_path {
        router = router.route(path, methods);
    }
    let absent = Arc::new(page(Verb::Get, "", Door::SignedIn, |_| async {
        Err(PageError::NotFound)
    }));
    let anything = {
        let house = Arc::clone(&house);
        any(move |request: Request| {
            page::answer(
                Arc::clone(&house),
                Arc::clone(&absent),
                Some(Vec::new()),
                request,
            )
        })
    };
    open_pages(router, &house).route("/dashboard/{*rest}", anything)
}

/// What is open to everybody: the ways in, and what pages load.
fn open_pages(router: Router, house: &Arc<House>) -> Router {
    let asset = |Path(name): Path<String>, headers: HeaderMap| async move {
        let mut response = assets::serve(&name);
        harden(&mut response, Transport::of(&headers));
        response
    };
    let open = |way: sign_in::Way| {
        let house = Arc::clone(house);
        move |request: Request| sign_in::answer(Arc::clone(&house), way, request)
    };
    let step = |step: oidc::Step| {
        let house = Arc::clone(house);
        move |request: Request| {
            let house = Arc::clone(&house);
            async move {
                let transport = Transport::of(request.headers());
                let (parts, _) = request.into_parts();
                let mut response = Box::pin(oidc::answer(&house, step, parts)).await;
                harden(&mut response, transport);
                response
            }
        }
    };
    use oidc::Step;
    use sign_in::Way;
    router
        .route("/", get(|| async { answer::redirect("/dashboard") }))
        .route("/dashboard/assets/{name}", get(asset))
        .route("/dashboard/oidc/start", get(step(Step::Start)))
        .route("/dashboard/oidc/back", get(step(Step::Back)))
        .route("/dashboard/oidc/out", get(step(Step::Out)))
        .route(
            "/dashboard/sign-in",
            get(open(Way::KeyForm)).post(open(Way::Key)),
        )
        .route(
            "/dashboard/link",
            get(open(Way::LinkForm)).post(open(Way::Link)),
        )
}

/// A link that signs its maker in, once: by the credential that it was asked for with.
pub(crate) fn link(
    control: &Control,
    caller: &Caller,
    presented: &HeaderMap,
) -> Result<SignInLinkReply, ApiError> {
    let visitor = visitor_of(caller).ok_or(ApiError::NotFound)?;
    let bearer = presented.get(AUTHORIZATION).map(|value| {
        let bytes = value.as_bytes();
        // `Bearer` in any case and a blank: it was verified a moment ago.
        bytes.get("Bearer ".len()..).unwrap_or_default()
    });
    let key = bearer.or_else(|| presented.get("x-api-key").map(|value| value.as_bytes()));
    let key = key.and_then(|key| std::str::from_utf8(key).ok());
    let key = key.ok_or(ApiError::Unauthenticated)?.trim();
    let entropy = control.publisher.mint().entropy;
    let now = control.clock.elapsed();
    let token = control.dashboard.links.put(&visitor, key, entropy, now);
    Ok(SignInLinkReply {
        path: format!("/dashboard/link?token={}", *token.to_text()),
        expires_at: control.clock.now().plus(LINKS.life),
    })
}

fn visitor_of(caller: &Caller) -> Option<Visitor> {
    match caller {
        Caller::Anybody => None,
        Caller::Operator(operator) => {
            Some(Visitor::Platform(operator.name().clone(), operator.role()))
        }
        Caller::TenantAdmin(principal) => {
            let tenant = principal.tenant();
            let key = principal.grant().key()?;
            let (name, id) = (tenant.name.clone(), tenant.id());
            Some(Visitor::TenantAdmin(name, id, key.name.clone()))
        }
    }
}
