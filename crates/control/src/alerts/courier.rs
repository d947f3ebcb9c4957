//! Messages are taken, sent, and forgotten; what does not arrive is tried again for three hours.

use std::sync::Arc;
use std::time::Duration;

use base::{Supervisor, TenantId, Timestamp};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use ring::hmac;
use store::{CatalogueError, StoredMessage};
use tenancy::catalogue::{ChannelSpec, ChannelTarget, SecretRef};
use tenancy::{ServicePurpose, Snapshot};

use super::condition::About;
use super::post::{AddressScope, Event, Hook, Letter, Mail, Signed};
use super::{Severity, decode, entry};
use crate::Control;
use crate::error::ApiError;
use crate::publisher::blocking;

/// 16 messages on their way at one time: a receiver that does not answer delays few others.
pub(super) const SENDING_MAX: usize = 16;
/// Six tries: at once, and then 30 s, 2, 8, 32 and 128 minutes after the one before.
const TRIES_MAX: u32 = 5;
/// How long sending may take: longer than connecting and asking a mail server does.
const PATIENCE: Duration = Duration::from_secs(30);

impl Control {
    /// Sends the messages whose time has come, in the background. What fails is logged, and
    /// tried again at its time.
    pub async fn deliver_alerts(self: &Arc<Self>, tasks: &Supervisor) {
        let control = Arc::clone(self);
        let room = u16::try_from(self.alerts.sending.available_permits()).unwrap_or(0);
        let taken = blocking(move || control.take_due(room).map_err(ApiError::internal)).await;
        let Ok(taken) = taken else {
            tracing::warn!("messages of alerts cannot be read: they wait");
            return;
        };
        for message in taken {
            let Ok(place) = Arc::clone(&self.alerts.sending).acquire_owned().await else {
                return;
            };
            let (control, stopping) = (Arc::clone(self), tasks.clone());
            tasks.spawn(async move {
                tokio::select! {
                    () = control.bring(message) => {}
                    () = stopping.stopping() => {}
                }
                drop(place);
            });
        }
    }

    /// Takes what is due, so that no other replica sends it too.
    fn take_due(&self, count_max: u16) -> Result<Vec<StoredMessage>, CatalogueError> {
        let catalogue = &self.publisher.catalogue;
        let now = self.clock.now();
        let mut taken = Vec::new();
        for message in catalogue.due_messages(now, count_max)? {
            let wait = Duration::from_secs(30 << (2 * message.tries.min(TRIES_MAX)));
            if catalogue.take_message(&message, now.plus(wait))? {
                taken.push(message);
            }
        }
        Ok(taken)
    }

    async fn bring(self: &Arc<Self>, message: StoredMessage) {
        let snapshot = self.publisher.current();
        let channel = channel_of(&snapshot, &message);
        let letter: Option<Letter> = decode(&message.text);
        let sent = match (channel, letter) {
            (Some(channel), Some(letter)) => {
                self.send(channel, &message.tenant, &message.id, &letter)
                    .await
            }
            // The channel is gone, or hears nothing for now: so is what it was to be told.
            _ => Ok(()),
        };
        let (id, name) = (&message.id, &message.channel);
        let tenant = &message.tenant;
        match sent {
            Err(problem) if message.tries < TRIES_MAX => {
                tracing::info!(%id, channel = %name, %tenant, %problem, "an alert's message waits");
                return;
            }
            Err(problem) => {
                tracing::warn!(%id, channel = %name, %tenant, %problem, "an alert's message was given up");
            }
            Ok(()) => {}
        }
        let (control, id) = (Arc::clone(self), message.id);
        let ended = blocking(move || {
            let catalogue = &control.publisher.catalogue;
            catalogue.end_message(&id).map_err(ApiError::internal)
        });
        if ended.await.is_err() {
            tracing::warn!("an alert's message that was sent may be sent again");
        }
    }

    /// Sends a test to a channel, and says how that went.
    pub(crate) async fn test_channel(
        &self,
        channel: &ChannelSpec,
        tenant: Option<&tenancy::TenantEntry>,
        name: &str,
    ) -> Result<(), String> {
        let now = self.clock.now();
        let letter = Letter {
            event: Event::Test,
            at: now,
            opened_at: now,
            alert: "test".to_owned(),
            about: About {
                kind: tenancy::catalogue::AlertKind::Anomaly,
                severity: Severity::Warning,
                tenant: tenant.map(|tenant| tenant.name.clone()),
                subject: "test".to_owned(),
                summary: format!("channel {name} works; nothing is wrong"),
                page: "/dashboard".to_owned(),
            },
        };
        let owner = tenant.map(|tenant| tenant.id().to_string());
        let id = self.message_id();
        self.send(channel, &owner.unwrap_or_default(), &id, &letter)
            .await
    }

    async fn send(
        &self,
        channel: &ChannelSpec,
        owner: &str,
        id: &str,
        letter: &Letter,
    ) -> Result<(), String> {
        let page = &letter.about.page;
        let link = match &self.alerts.options.dashboard_url {
            Some(url) => format!("{}{page}", url.trim_end_matches('/')),
            None => page.clone(),
        };
        let now = self.clock.now();
        let scope = match channel.allow_private_address && owner.is_empty() {
            true => AddressScope::Anywhere,
            false => AddressScope::Public,
        };
        let postman = &self.alerts.postman;
        let sending = match &channel.to {
            ChannelTarget::Webhook(to) => {
                let body = letter.to_json(&link);
                postman.post(Hook {
                    url: followed(&to.url, owner)?,
                    scope,
                    signed: Some(self.sign(owner, id, now, &body)?),
                    body,
                })
            }
            ChannelTarget::Slack(to) => postman.post(Hook {
                url: followed(&to.url, owner)?,
                scope,
                signed: None,
                body: letter.to_slack(&link),
            }),
            ChannelTarget::Email(to) => {
                let (subject, text) = letter.to_mail(&link);
                postman.mail(Mail {
                    id: id.to_owned(),
                    to: to.to.clone(),
                    subject,
                    text,
                    at: now,
                })
            }
        };
        let sent = tokio::time::timeout(PATIENCE, sending).await;
        sent.unwrap_or_else(|_| Err("it took longer than 30 s".to_owned()))
    }

    /// With the secret of the channel's owner.
    fn sign(&self, owner: &str, id: &str, now: Timestamp, body: &Bytes) -> Result<Signed, String> {
        let secret = match owner.is_empty() {
            true => self.publisher.own_webhook_secret(),
            false => {
                let tenant: Option<TenantId> = owner.parse().ok();
                let snapshot = self.publisher.current();
                let entry = tenant.and_then(|id| snapshot.tenant(id).cloned());
                let entry = entry.ok_or("the tenant is gone")?;
                let purpose = ServicePurpose::Watching;
                let scope = self.publisher.service_scope(&entry.unlocked, purpose);
                self.publisher.webhook_secret(&scope)
            }
        };
        let timestamp = now.as_seconds();
        let key = hmac::Key::new(hmac::HMAC_SHA256, &*secret);
        let mut context = hmac::Context::with_key(&key);
        context.update(format!("{id}.{timestamp}.").as_bytes());
        context.update(body);
        Ok(Signed {
            id: id.to_owned(),
            timestamp,
            signature: format!("v1,{}", STANDARD.encode(context.sign())),
        })
    }
}

/// The channel that a message goes to, as it is now, if it still hears anything.
fn channel_of<'s>(snapshot: &'s Snapshot, message: &StoredMessage) -> Option<&'s ChannelSpec> {
    let name = message.channel.as_str();
    let channel = match message.tenant.as_str() {
        "" => &**snapshot.channels().get(name)?,
        tenant => &entry(snapshot, tenant)?.own.as_ref()?.channels.get(name)?.0,
    };
    (!channel.disabled).then_some(channel)
}

/// The address itself. References are the platform's own alone: a tenant's would read our files.
fn followed(url: &str, owner: &str) -> Result<String, String> {
    if !owner.is_empty() {
        return Ok(url.to_owned());
    }
    let Ok(reference) = url.parse::<SecretRef>() else {
        return Ok(url.to_owned());
    };
    let text = match &reference {
        SecretRef::Env(name) => std::env::var(name).ok(),
        SecretRef::File(path) => std::fs::read_to_string(path).ok(),
    };
    let text = text.ok_or_else(|| format!("{reference} cannot be read"))?;
    Ok(text.trim().to_owned())
}
