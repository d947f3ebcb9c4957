//! What is sent: an alert's message in the form that its channel takes, and the way out.

use std::future::Future;
use std::pin::Pin;

use base::{Name, Timestamp};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::condition::About;

/// Why a message is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Event {
    /// The alert was opened.
    Opened,
    /// It is open still.
    Reminder,
    /// It is so no longer.
    Resolved,
    /// Somebody asked whether the channel works.
    Test,
}

/// What a message says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Letter {
    pub(crate) event: Event,
    pub(crate) at: Timestamp,
    pub(crate) opened_at: Timestamp,
    /// The alert's id.
    pub(crate) alert: String,
    pub(crate) about: About,
}

/// Where a message may go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AddressScope {
    /// To public addresses alone.
    Public,
    /// Anywhere: the operator has said so.
    Anywhere,
}

/// A message for a hook.
#[derive(Debug, Clone)]
pub struct Hook {
    /// Where to.
    pub url: String,
    /// Which addresses that may lead to.
    pub scope: AddressScope,
    /// What receivers of Standard Webhooks verify; none for others.
    pub signed: Option<Signed>,
    /// The message: JSON.
    pub body: Bytes,
}

/// What makes a webhook's message verifiable.
#[derive(Debug, Clone)]
pub struct Signed {
    /// The same at every try.
    pub id: String,
    /// When it is sent, in seconds since 1970.
    pub timestamp: i64,
    /// `v1,…`.
    pub signature: String,
}

/// A message for people's mailboxes.
#[derive(Debug, Clone)]
pub struct Mail {
    /// The same at every try.
    pub id: String,
    /// Whom it goes to: addresses that were checked.
    pub to: Vec<String>,
    /// One line.
    pub subject: String,
    /// Plain text.
    pub text: String,
    /// When it is sent.
    pub at: Timestamp,
}

/// A message on its way; what kept it from arriving, in a sentence without secrets.
pub type Sending<'a> = Pin<Box<dyn Future<Output = Result<(), String>> + Send + 'a>>;

/// Brings messages.
pub trait Postman: Send + Sync + 'static {
    /// To a hook. A redirect is not followed.
    fn post(&self, hook: Hook) -> Sending<'_>;

    /// To mailboxes.
    fn mail(&self, mail: Mail) -> Sending<'_>;
}

impl Event {
    const fn as_type(self) -> &'static str {
        match self {
            Self::Opened => "alert.opened",
            Self::Reminder => "alert.reminder",
            Self::Resolved => "alert.resolved",
            Self::Test => "alert.test",
        }
    }
}

impl Letter {
    /// As webhooks have it.
    pub(super) fn to_json(&self, link: &str) -> Bytes {
        let about = &self.about;
        let message = json!({
            "type": self.event.as_type(),
            "timestamp": self.at,
            "data": {
                "alert": self.alert,
                "kind": about.kind,
                "severity": about.severity,
                "tenant": about.tenant,
                "subject": about.subject,
                "summary": about.summary,
                "opened_at": self.opened_at,
                "link": link,
            },
        });
        Bytes::from(message.to_string())
    }

    /// As Slack and those that are like it have it.
    pub(super) fn to_slack(&self, link: &str) -> Bytes {
        // What could be read as a mention or a link is none.
        let line = self.line().replace('&', "&amp;");
        let line = line.replace('<', "&lt;").replace('>', "&gt;");
        let text = match link.starts_with("http") {
            true => format!("{line}\n<{link}|Open the dashboard>"),
            false => line,
        };
        Bytes::from(json!({ "text": text }).to_string())
    }

    /// As mail has it: the subject and the text.
    pub(super) fn to_mail(&self, link: &str) -> (String, String) {
        let line = self.line();
        let text = format!(
            "{line}\n\nKind: {}\nSince: {}\nPage: {link}\nAlert: {}\n",
            self.about.kind, self.opened_at, self.alert
        );
        (line, text)
    }

    /// What it is in one line.
    fn line(&self) -> String {
        let about = &self.about;
        let tenant = about.tenant.as_ref().map(Name::as_str);
        let whose = tenant.map_or_else(String::new, |tenant| format!("{tenant}: "));
        match self.event {
            Event::Test => format!("Partywall test: {whose}{}", about.summary),
            Event::Resolved => format!("Partywall resolved: {whose}{}", about.summary),
            Event::Reminder => format!(
                "Partywall {} (still open): {whose}{}",
                about.severity.as_str(),
                about.summary
            ),
            Event::Opened => format!(
                "Partywall {}: {whose}{}",
                about.severity.as_str(),
                about.summary
            ),
        }
    }
}
