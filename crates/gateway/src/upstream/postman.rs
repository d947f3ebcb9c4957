//! Messages that are no calls of models: alerts, to hooks and mailboxes.

use bytes::Bytes;
use http::StatusCode;

use super::deliver::{DeliveryError, Signature, deliver_to};
use super::fetch::{Fetch, fetch};
use super::mail::{MailError, MailServer, Message, send_mail};
use super::{Reach, UpstreamParts};

/// Brings messages by the gateway's own connections.
#[derive(Debug, Clone)]
pub struct Postman {
    parts: UpstreamParts,
    mail: Option<MailServer>,
}

/// Why mail cannot be sent.
#[derive(Debug, thiserror::Error)]
pub enum NoMail {
    /// The installation has no mail server.
    #[error("the installation has no mail server: `[mail]` in partywall.toml names one")]
    NoServer,
    /// The server did not take it.
    #[error(transparent)]
    Refused(#[from] MailError),
}

impl Postman {
    pub(crate) fn new(parts: UpstreamParts, mail: Option<MailServer>) -> Self {
        Self { parts, mail }
    }

    /// Posts JSON, and gives the receiver's status. A redirect is a status like another.
    ///
    /// # Errors
    ///
    /// [`DeliveryError`].
    pub async fn post(
        &self,
        url: &str,
        reach: Reach,
        signature: Option<Signature<'_>>,
        body: Bytes,
    ) -> Result<StatusCode, DeliveryError> {
        deliver_to(&self.parts, url, reach, signature, body).await
    }

    /// Asks a service that the operator named. A redirect is a status like another.
    ///
    /// # Errors
    ///
    /// [`DeliveryError`].
    pub async fn fetch(&self, asked: Fetch) -> Result<(StatusCode, Bytes), DeliveryError> {
        fetch(&self.parts, asked).await
    }

    /// Sends a message to mailboxes.
    ///
    /// # Errors
    ///
    /// [`NoMail`].
    pub async fn mail(&self, message: Message<'_>) -> Result<(), NoMail> {
        let server = self.mail.as_ref().ok_or(NoMail::NoServer)?;
        Ok(send_mail(&self.parts, server, message).await?)
    }
}
