//! One exchange with a service that the operator named: an identity provider, an object store.

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, HOST, USER_AGENT};
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode};

use super::call::OUR_NAME;
use super::deliver::DeliveryError;
use super::pool::Pool;
use super::{Origin, Reach, UpstreamBody, UpstreamParts};

/// Ten seconds, as for hooks.
const CONNECT: std::time::Duration = std::time::Duration::from_secs(10);

/// What is asked.
#[derive(Debug, Clone)]
pub struct Fetch {
    /// How.
    pub method: Method,
    /// Where.
    pub url: String,
    /// Which addresses that may lead to.
    pub reach: Reach,
    /// What it carries besides `host`, `content-length` and our name.
    pub headers: HeaderMap,
    /// With what.
    pub body: Bytes,
    /// The longest answer that is read.
    pub answer_bytes_max: usize,
}

/// Asks once, on a connection of its own. A redirect is a status like another.
///
/// # Errors
///
/// [`DeliveryError`].
pub(super) async fn fetch(
    parts: &UpstreamParts,
    asked: Fetch,
) -> Result<(StatusCode, Bytes), DeliveryError> {
    let origin = Origin::parse(&asked.url).ok_or(DeliveryError::BadAddress)?;
    let pool = Pool::new(parts.clone(), 0);
    let mut connection = pool.connect(&origin, asked.reach, CONNECT).await?;
    let body = UpstreamBody::of([asked.body]);
    let url = url::Url::parse(&asked.url).map_err(|_| DeliveryError::BadAddress)?;
    let target = &url[url::Position::BeforePath..url::Position::AfterQuery];
    let mut request = Request::new(());
    *request.method_mut() = asked.method;
    *request.uri_mut() = target.parse().map_err(|_| DeliveryError::BadAddress)?;
    let headers = request.headers_mut();
    headers.extend(asked.headers);
    headers.insert(HOST, origin.authority.clone());
    headers.insert(USER_AGENT, HeaderValue::from_static(OUR_NAME));
    if body.length() > 0 {
        headers.insert(CONTENT_LENGTH, HeaderValue::from(body.length()));
    }
    let head = connection.exchange(&request, &body).await;
    let head = head.map_err(DeliveryError::Broken)?;
    let body = connection.whole_body(asked.answer_bytes_max).await;
    Ok((head.status, body.map_err(DeliveryError::Unread)?))
}
