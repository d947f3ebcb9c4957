//! One POST to an address that a tenant chose: public addresses only, no redirects.

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, HOST};
use http::{HeaderValue, Method, Request, StatusCode};

use super::http1::{AnswerHead, Connection, ExchangeError, WireError};
use super::pool::{ConnectError, Pool};
use super::{Origin, Reach, UpstreamBody, UpstreamParts};

/// Ten seconds to connect: a receiver may be on the other side of the world, and asleep.
const CONNECT: std::time::Duration = std::time::Duration::from_secs(10);

/// A signed message.
pub struct Delivery<'a> {
    /// Where to.
    pub url: &'a str,
    /// Which message: the same at every try.
    pub id: &'a str,
    /// When it is sent, in seconds since 1970.
    pub timestamp: i64,
    /// `v1,…`.
    pub signature: &'a str,
    /// The message.
    pub body: Bytes,
}

/// Why a message was not delivered.
#[derive(Debug, thiserror::Error)]
pub enum DeliveryError {
    /// The address is none that a message may go to.
    #[error("the address is not an http or https address")]
    BadAddress,
    /// There was no connection.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// It ended without an answer.
    #[error("the receiver did not answer as HTTP/1 asks for")]
    Broken(#[source] ExchangeError),
    /// It said more than it may, or broke off.
    #[error("the receiver's answer cannot be read")]
    Unread(#[source] WireError),
}

/// Delivers a message, and gives the receiver's status. A redirect is a status like another.
///
/// # Errors
///
/// [`DeliveryError`].
pub async fn deliver(
    parts: &UpstreamParts,
    delivery: Delivery<'_>,
) -> Result<StatusCode, DeliveryError> {
    // The connection closes: nobody reads what else a receiver says.
    let (head, _) = send(parts, delivery).await?;
    Ok(head.status)
}

/// Delivers a message, and gives the receiver's answer, of so many bytes at most.
///
/// # Errors
///
/// [`DeliveryError`].
pub(crate) async fn ask(
    parts: &UpstreamParts,
    delivery: Delivery<'_>,
    answer_bytes_max: usize,
) -> Result<(StatusCode, Bytes), DeliveryError> {
    let (head, mut connection) = send(parts, delivery).await?;
    let body = connection.whole_body(answer_bytes_max).await;
    Ok((head.status, body.map_err(DeliveryError::Unread)?))
}

/// What a receiver of Standard Webhooks verifies.
#[derive(Debug, Clone, Copy)]
pub struct Signature<'a> {
    /// Which message: the same at every try.
    pub id: &'a str,
    /// When it is sent, in seconds since 1970.
    pub timestamp: i64,
    /// `v1,…`.
    pub value: &'a str,
}

/// Delivers JSON to where `reach` allows, signed or not, and gives the receiver's status.
///
/// # Errors
///
/// [`DeliveryError`].
pub(super) async fn deliver_to(
    parts: &UpstreamParts,
    url: &str,
    reach: Reach,
    signature: Option<Signature<'_>>,
    body: Bytes,
) -> Result<StatusCode, DeliveryError> {
    let (head, _) = send_to(parts, url, reach, signature, body).await?;
    Ok(head.status)
}

async fn send(
    parts: &UpstreamParts,
    delivery: Delivery<'_>,
) -> Result<(AnswerHead, Connection), DeliveryError> {
    let signature = Signature {
        id: delivery.id,
        timestamp: delivery.timestamp,
        value: delivery.signature,
    };
    let signature = Some(signature);
    send_to(parts, delivery.url, Reach::Public, signature, delivery.body).await
}

async fn send_to(
    parts: &UpstreamParts,
    address: &str,
    reach: Reach,
    signature: Option<Signature<'_>>,
    body: Bytes,
) -> Result<(AnswerHead, Connection), DeliveryError> {
    let origin = Origin::parse(address).ok_or(DeliveryError::BadAddress)?;
    let pool = Pool::new(parts.clone(), 0);
    let mut connection = pool.connect(&origin, reach, CONNECT).await?;
    let header = |text: &str| HeaderValue::from_str(text).map_err(|_| DeliveryError::BadAddress);
    let body = UpstreamBody::of([body]);
    let mut request = Request::new(());
    *request.method_mut() = Method::POST;
    let url = url::Url::parse(address).map_err(|_| DeliveryError::BadAddress)?;
    let target = &url[url::Position::BeforePath..url::Position::AfterQuery];
    *request.uri_mut() = target.parse().map_err(|_| DeliveryError::BadAddress)?;
    let headers = request.headers_mut();
    headers.insert(HOST, origin.authority.clone());
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(CONTENT_LENGTH, HeaderValue::from(body.length()));
    if let Some(signature) = signature {
        headers.insert("webhook-id", header(signature.id)?);
        headers.insert("webhook-timestamp", HeaderValue::from(signature.timestamp));
        headers.insert("webhook-signature", header(signature.value)?);
    }
    let head = connection.exchange(&request, &body).await;
    Ok((head.map_err(DeliveryError::Broken)?, connection))
}
