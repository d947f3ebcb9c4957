//! Asking an upstream how it is, without a call of any tenant's.

use std::time::Duration;

use base::{Clock, Entropy};
use http::header::{ACCEPT, HOST, USER_AGENT};
use http::{HeaderValue, Request};

use super::call::OUR_NAME;
use super::{Upstream, UpstreamBody};

/// 900 ms, below the least time between two questions: there is one at a time.
const PATIENCE: Duration = Duration::from_millis(900);

impl Upstream {
    /// Asks if it is time to, and tells the breakers what came of it.
    pub(crate) async fn probe_if_due(&self, clock: &dyn Clock, entropy: &dyn Entropy) {
        let Some(health) = &self.spec.health else {
            return;
        };
        let every = Duration::from_millis(health.every_ms);
        if !self.gate.is_probe_due(every) {
            return;
        }
        let asked = tokio::time::timeout(PATIENCE, self.is_well(&health.path, clock)).await;
        let is_well = asked.unwrap_or(false);
        if !is_well {
            tracing::warn!(upstream = %self.name, "a health probe failed");
        }
        self.gate.probed(is_well, entropy.next_u64());
    }

    /// Whether it answers with 2xx.
    async fn is_well(&self, path: &str, clock: &dyn Clock) -> bool {
        let (Ok(mut connection), Ok(path)) = (self.connect().await, path.parse()) else {
            return false;
        };
        let body = UpstreamBody::of([]);
        let mut request = Request::new(());
        *request.uri_mut() = path;
        let headers = request.headers_mut();
        headers.insert(HOST, self.origin.authority.clone());
        headers.insert(USER_AGENT, HeaderValue::from_static(OUR_NAME));
        headers.insert(ACCEPT, HeaderValue::from_static("*/*"));
        if let Some(authorization) = &self.authorization {
            authorization.put_into(&mut request, &body, clock.now());
        }
        // The connection is closed: what it may still say is of no interest.
        let answered = connection.exchange(&request, &body).await;
        answered.is_ok_and(|head| head.status.is_success())
    }
}
