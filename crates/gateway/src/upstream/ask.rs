//! Asking one place of an upstream something by a GET, without a call of any tenant's.

use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, HOST, USER_AGENT};
use http::{HeaderValue, Request};

use super::call::OUR_NAME;
use super::endpoints::Endpoint;
use super::{Upstream, UpstreamBody};

/// 900 ms, below the least time between two questions: there is one at a time.
const PATIENCE: Duration = Duration::from_millis(900);

impl Upstream {
    /// What it answers, of so many bytes at most and with a status of 2xx; with none, the body is
    /// not read. None for every other end.
    pub(super) async fn ask(
        &self,
        endpoint: &Endpoint,
        path: &str,
        bytes_max: usize,
    ) -> Option<Bytes> {
        let asking = self.ask_patiently(endpoint, path, bytes_max);
        tokio::time::timeout(PATIENCE, asking).await.ok()?
    }

    async fn ask_patiently(
        &self,
        endpoint: &Endpoint,
        path: &str,
        bytes_max: usize,
    ) -> Option<Bytes> {
        let mut connection = self.connect(endpoint).await.ok()?;
        let body = UpstreamBody::of([]);
        let mut request = Request::new(());
        *request.uri_mut() = path.parse().ok()?;
        let headers = request.headers_mut();
        headers.insert(HOST, self.origin.authority.clone());
        headers.insert(USER_AGENT, HeaderValue::from_static(OUR_NAME));
        headers.insert(ACCEPT, HeaderValue::from_static("*/*"));
        if let Some(authorization) = &self.authorization {
            authorization.put_into(&mut request, &body, self.parts.clock.now());
        }
        // The connection is closed: what it may still say is of no interest.
        let head = connection.exchange(&request, &body).await.ok()?;
        match head.status.is_success() {
            false => None,
            true if bytes_max == 0 => Some(Bytes::new()),
            true => connection.whole_body(bytes_max).await.ok(),
        }
    }
}
