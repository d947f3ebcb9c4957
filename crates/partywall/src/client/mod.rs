//! The admin API's client: HTTP/1.1 over one connection that is kept, a deadline on every wait.

mod connection;
mod credentials;
mod failure;
mod target;

use std::time::Duration;

use base::{Redacted, Supervisor};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

pub(crate) use credentials::{ADMIN_URL_FILE, ConnectArgs, OPERATOR_KEY_FILE};
pub(crate) use failure::ClientError;
pub(crate) use target::Target;

use connection::Sender;

/// 64 MiB: an export of 10,000 tenants with 100,000 keys has about 40.
const ANSWER_BYTES_MAX: usize = 64 << 20;
/// Two minutes: an import of the largest price list takes a second, a rotation of a large
/// tenant's file may take many.
const CALL_TIME_MAX: Duration = Duration::from_secs(120);
/// Six hours: a terabyte at fifty megabytes a second.
const COPY_TIME_MAX: Duration = Duration::from_secs(6 * 3600);

/// Speaks to one installation's admin API with one key.
pub(crate) struct Client {
    target: Target,
    key: Option<Redacted<String>>,
    reason: Option<HeaderValue>,
    /// For how long an answer is waited for.
    patience: Duration,
    sender: Option<Sender>,
    tasks: Supervisor,
}

impl Client {
    /// A client of the installation at `target`; connects when it is first used.
    pub(crate) fn new(target: Target, key: Option<Redacted<String>>) -> Self {
        Self {
            target,
            key,
            reason: None,
            patience: CALL_TIME_MAX,
            sender: None,
            tasks: Supervisor::new(),
        }
    }

    /// The same client, which says why in every call, for the audit log.
    pub(crate) fn because(mut self, reason: Option<HeaderValue>) -> Self {
        self.reason = reason;
        self
    }

    /// From here on waits for as long as copying the largest store may take.
    pub(crate) fn wait_for_copies(&mut self) {
        self.patience = COPY_TIME_MAX;
    }

    /// Where the admin API is, without a slash at the end.
    pub(crate) fn address(&self) -> String {
        self.target.to_string().trim_end_matches('/').to_owned()
    }

    /// The answer to a `GET`, as what it should be.
    ///
    /// # Errors
    ///
    /// [`ClientError`]: nobody there, no answer in time, or the API's refusal.
    pub(crate) async fn get<T: DeserializeOwned>(&mut self, path: &str) -> Result<T, ClientError> {
        let answer = self
            .call(Method::GET, path, HeaderMap::new(), Bytes::new())
            .await?;
        decode(&answer)
    }

    /// The answer to a request that carries JSON.
    ///
    /// # Errors
    ///
    /// As [`Client::get`].
    pub(crate) async fn send<T: DeserializeOwned>(
        &mut self,
        method: Method,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, ClientError> {
        let body = serde_json::to_vec(body).expect("requests have string keys");
        let answer = self
            .call(method, path, HeaderMap::new(), body.into())
            .await?;
        decode(&answer)
    }

    /// The answer to a `POST` that carries JSON.
    ///
    /// # Errors
    ///
    /// As [`Client::get`].
    pub(crate) async fn post<T: DeserializeOwned>(
        &mut self,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, ClientError> {
        self.send(Method::POST, path, body).await
    }

    /// The answer to any request, as bytes.
    ///
    /// # Errors
    ///
    /// As [`Client::get`].
    pub(crate) async fn call(
        &mut self,
        method: Method,
        path: &str,
        headers: HeaderMap,
        body: Bytes,
    ) -> Result<Bytes, ClientError> {
        let patience = self.patience;
        let exchange = self.exchange(method, path, headers, body);
        match tokio::time::timeout(patience, exchange).await {
            Ok(answer) => answer,
            Err(_) => Err(ClientError::TimedOut {
                url: self.target.to_string(),
                seconds: patience.as_secs(),
            }),
        }
    }

    async fn exchange(
        &mut self,
        method: Method,
        path: &str,
        headers: HeaderMap,
        body: Bytes,
    ) -> Result<Bytes, ClientError> {
        let request = self.request(method, path, headers, body);
        let mut sender = match self.sender.take() {
            Some(sender) if !sender.is_closed() => sender,
            _ => connection::open(&self.target, &self.tasks).await?,
        };
        let broken = |cause: hyper::Error| ClientError::Broken {
            url: self.target.to_string(),
            cause,
        };
        sender.ready().await.map_err(broken)?;
        let (head, body) = sender
            .send_request(request)
            .await
            .map_err(broken)?
            .into_parts();
        let body = Limited::new(body, ANSWER_BYTES_MAX)
            .collect()
            .await
            .map_err(|_| ClientError::AnswerCut {
                bytes_max: ANSWER_BYTES_MAX,
            })?
            .to_bytes();
        self.sender = Some(sender);
        if head.status.is_success() {
            Ok(body)
        } else {
            Err(ClientError::refused(head.status, &body))
        }
    }

    /// Hands on the answer to a `GET` piece by piece, however long it is.
    ///
    /// # Errors
    ///
    /// As [`Client::get`]; and [`ClientError::NotKept`] if `keep` fails. What was handed on is then
    /// not the whole.
    pub(crate) async fn download(
        &mut self,
        path: &str,
        mut keep: impl FnMut(&[u8]) -> std::io::Result<()>,
    ) -> Result<(), ClientError> {
        let request = self.request(Method::GET, path, HeaderMap::new(), Bytes::new());
        let timed_out = || ClientError::TimedOut {
            url: self.target.to_string(),
            seconds: CALL_TIME_MAX.as_secs(),
        };
        let broken = |cause: hyper::Error| ClientError::Broken {
            url: self.target.to_string(),
            cause,
        };
        let mut sender = connection::open(&self.target, &self.tasks).await?;
        sender.ready().await.map_err(broken)?;
        let answering = tokio::time::timeout(CALL_TIME_MAX, sender.send_request(request));
        let answer = answering.await.map_err(|_| timed_out())?.map_err(broken)?;
        let (head, mut body) = answer.into_parts();
        if !head.status.is_success() {
            let refusal = Limited::new(body, ANSWER_BYTES_MAX).collect().await;
            let refusal = refusal.map_err(|_| ClientError::AnswerCut {
                bytes_max: ANSWER_BYTES_MAX,
            })?;
            return Err(ClientError::refused(head.status, &refusal.to_bytes()));
        }
        loop {
            let next = tokio::time::timeout(CALL_TIME_MAX, body.frame()).await;
            match next.map_err(|_| timed_out())? {
                None => return Ok(()),
                Some(frame) => {
                    if let Some(piece) = frame.map_err(broken)?.data_ref() {
                        keep(piece).map_err(ClientError::NotKept)?;
                    }
                }
            }
        }
    }

    fn request(
        &self,
        method: Method,
        path: &str,
        headers: HeaderMap,
        body: Bytes,
    ) -> Request<Full<Bytes>> {
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = method;
        *request.uri_mut() = format!("{}{path}", self.target.path_prefix())
            .parse()
            .expect("paths are percent-encoded by whoever made them");
        *request.headers_mut() = headers;
        let all = request.headers_mut();
        all.insert(header::HOST, self.target.host_header());
        all.insert(header::ACCEPT, HeaderValue::from_static("application/json"));
        all.insert(
            header::USER_AGENT,
            HeaderValue::from_static(concat!("partywall/", env!("CARGO_PKG_VERSION"))),
        );
        if !all.contains_key(header::CONTENT_TYPE) {
            let json = HeaderValue::from_static("application/json");
            all.insert(header::CONTENT_TYPE, json);
        }
        if let Some(reason) = &self.reason {
            all.insert("partywall-reason", reason.clone());
        }
        if let Some(key) = &self.key
            && let Ok(mut value) = HeaderValue::from_str(&format!("Bearer {}", key.expose()))
        {
            value.set_sensitive(true);
            all.insert(header::AUTHORIZATION, value);
        }
        request
    }
}

fn decode<T: DeserializeOwned>(body: &[u8]) -> Result<T, ClientError> {
    let body = if body.is_empty() { b"null" } else { body };
    serde_json::from_slice(body).map_err(|cause| ClientError::NotTheApi { cause })
}

/// A path segment: what is not a letter, digit or one of `-._~` is percent-encoded, `/` included.
pub(crate) fn segment(name: &str) -> String {
    use std::fmt::Write as _;
    let mut encoded = String::with_capacity(name.len());
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            write!(encoded, "%{byte:02X}").expect("writing to a string cannot fail");
        }
    }
    encoded
}

/// A path with these query parameters; those without a value are left out.
pub(crate) fn with_query(path: &str, parameters: &[(&str, Option<String>)]) -> String {
    let mut whole = path.to_owned();
    let mut separator = '?';
    for (name, value) in parameters {
        if let Some(value) = value {
            whole.push(separator);
            whole.push_str(name);
            whole.push('=');
            whole.push_str(&segment(value));
            separator = '&';
        }
    }
    whole
}

/// The `data` of every page of a list, or of the first alone.
///
/// # Errors
///
/// As [`Client::get`].
pub(crate) async fn list(
    client: &mut Client,
    path: &str,
    pages: Pages,
    mut parameters: Vec<(&str, Option<String>)>,
) -> Result<Listed, ClientError> {
    let mut listed = Listed::default();
    loop {
        let page: Value = client.get(&with_query(path, &parameters)).await?;
        if let Value::Array(rows) = &page["data"] {
            listed.rows.extend(rows.iter().cloned());
        }
        listed.next_cursor = page["next_cursor"].as_str().map(str::to_owned);
        if listed.next_cursor.is_none() || pages == Pages::First {
            return Ok(listed);
        }
        parameters.retain(|(name, _)| *name != "cursor");
        parameters.push(("cursor", listed.next_cursor.clone()));
    }
}

/// How much of a list is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pages {
    First,
    All,
}

/// Rows of a list.
#[derive(Debug, Default)]
pub(crate) struct Listed {
    pub(crate) rows: Vec<Value>,
    /// Where the next page begins, if there is one that was not asked for.
    pub(crate) next_cursor: Option<String>,
}

/// The status that a refusal had, if it was one.
pub(crate) fn refusal_status(error: &ClientError) -> Option<StatusCode> {
    match error {
        ClientError::Refused { status, .. } => Some(*status),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
