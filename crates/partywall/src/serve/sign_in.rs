//! The identity provider of the dashboard, as partywall.toml names it; and the way to it.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use control::{Asking, OidcOptions, WebAnswer, WebRequest};
use gateway::{Fetch, Postman, Reach};
use zeroize::Zeroizing;

use crate::config::DashboardOptions;
use crate::folder::follow;

/// The gateway's connections, as the admin API asks for them.
pub(super) struct OperatorsWeb(pub(super) Postman);

impl control::Web for OperatorsWeb {
    fn ask(&self, request: WebRequest) -> Asking<'_> {
        Box::pin(async move {
            let fetch = Fetch {
                method: request.method,
                url: request.url,
                // The operator has named it.
                reach: Reach::Anywhere,
                headers: request.headers,
                body: request.body,
                answer_bytes_max: request.answer_bytes_max,
            };
            let fetched = self.0.fetch(fetch).await;
            let (status, body) = fetched.map_err(|error| error.to_string())?;
            Ok(WebAnswer { status, body })
        })
    }
}

/// The provider, if there is one.
///
/// # Errors
///
/// A secret that cannot be read.
pub(super) fn oidc(options: &DashboardOptions) -> anyhow::Result<Option<OidcOptions>> {
    let (Some(provider), Some(url)) = (&options.oidc, &options.url) else {
        return Ok(None);
    };
    let secret = match &provider.client_secret {
        Some(reference) => {
            let read = follow(reference);
            let secret = read.with_context(|| {
                format!("`dashboard.oidc.client_secret` in partywall.toml: {reference}")
            })?;
            Some(Arc::new(Zeroizing::new(secret)))
        }
        None => None,
    };
    let rules = provider.rules.iter().map(|rule| rule.to_rule());
    let rules: Result<_, _> = rules.collect();
    Ok(Some(OidcOptions {
        issuer: provider.issuer.clone(),
        client_id: provider.client_id.clone(),
        client_secret: secret,
        scopes: provider.scopes.clone(),
        redirect_url: format!("{}/dashboard/oidc/back", url.trim_end_matches('/')),
        rules: rules
            .map_err(anyhow::Error::msg)
            .context("`dashboard.oidc.rules` in partywall.toml")?,
        word_counts: Duration::from_secs(60 * provider.session_minutes),
    }))
}
