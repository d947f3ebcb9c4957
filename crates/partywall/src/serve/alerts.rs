//! Alerts in a serving process: how they are watched for and sent, as partywall.toml says.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use base::Supervisor;
use control::{AddressScope, AlertOptions, Control, Hook, Mail, Sending};
use gateway::{MailSecurity, MailServer, Message, Postman, Reach, Signature};
use zeroize::Zeroizing;

use super::roles::{Role, Roles};
use crate::config::{AlertsOptions, InstallationConfig, MailEncryption, MailOptions};
use crate::folder::follow;

/// Ten seconds: a message that is due waits no longer.
const SEND_EVERY: Duration = Duration::from_secs(10);

/// The gateway's postman, as the admin API asks for one.
pub(super) struct Post(pub(super) Postman);

impl control::Postman for Post {
    fn post(&self, hook: Hook) -> Sending<'_> {
        Box::pin(async move {
            let reach = match hook.scope {
                AddressScope::Public => Reach::Public,
                AddressScope::Anywhere => Reach::Anywhere,
            };
            let signature = hook.signed.as_ref().map(|signed| Signature {
                id: &signed.id,
                timestamp: signed.timestamp,
                value: &signed.signature,
            });
            let posted = self.0.post(&hook.url, reach, signature, hook.body.clone());
            match posted.await {
                Ok(status) if status.is_success() => Ok(()),
                Ok(status) => Err(format!("the receiver answered {}", status.as_u16())),
                Err(error) => Err(error.to_string()),
            }
        })
    }

    fn mail(&self, mail: Mail) -> Sending<'_> {
        Box::pin(async move {
            let message = Message {
                id: &mail.id,
                to: &mail.to,
                subject: &mail.subject,
                text: &mail.text,
                at: mail.at,
            };
            let sent = self.0.mail(message).await;
            sent.map_err(|error| error.to_string())
        })
    }
}

/// How alerts are watched for.
pub(super) fn options(config: &InstallationConfig) -> AlertOptions {
    let AlertsOptions {
        resolve_seconds,
        key_notice_days,
        ..
    } = config.alerts;
    AlertOptions {
        resolve_after: Duration::from_secs(resolve_seconds),
        key_notice: Duration::from_secs(u64::from(key_notice_days) * 24 * 3600),
        dashboard_url: config.dashboard.url.clone(),
    }
}

/// The mail server, if there is one.
///
/// # Errors
///
/// A password or an authority that cannot be read.
pub(super) fn mail_server(options: &MailOptions) -> anyhow::Result<Option<MailServer>> {
    let Some(host) = &options.host else {
        return Ok(None);
    };
    let (security, port) = match options.encryption {
        MailEncryption::Starttls => (MailSecurity::StartTls, 587),
        MailEncryption::Tls => (MailSecurity::Tls, 465),
        MailEncryption::None => (MailSecurity::Plain, 25),
    };
    let login = match (&options.user, &options.password) {
        (Some(user), Some(password)) => {
            let read = follow(password);
            let password =
                read.with_context(|| format!("`mail.password` in partywall.toml: {password}"))?;
            Some((user.clone(), Zeroizing::new(password)))
        }
        _ => None,
    };
    let tls = options
        .ca_file
        .as_deref()
        .map(gateway::tls_with_authorities);
    let tls = tls.transpose().map_err(anyhow::Error::msg);
    Ok(Some(MailServer {
        host: host.clone(),
        port: options.port.unwrap_or(port),
        security,
        from: options.from.clone().unwrap_or_default(),
        login,
        tls: tls.context("`mail.ca_file` in partywall.toml")?,
    }))
}

/// Starts the loops: who serves clients or does the work behind watches, who shows pages alone
/// follows, and who does the work behind sends. They end when `tasks` stops.
pub(super) fn start(
    tasks: &Supervisor,
    control: &Arc<Control>,
    config: &AlertsOptions,
    roles: &Roles,
) {
    let turn: fn(&Control) = match roles.has(Role::Gateway) || roles.has(Role::Worker) {
        true => Control::watch,
        false => Control::follow_alerts,
    };
    let every = Duration::from_secs(config.every_seconds);
    let (watching, stopping) = (Arc::clone(control), tasks.clone());
    tasks.spawn(async move {
        while pause(&stopping, every).await {
            let control = Arc::clone(&watching);
            if let Err(error) = tokio::task::spawn_blocking(move || turn(&control)).await {
                tracing::error!(%error, "a turn of watching failed");
            }
        }
    });
    if roles.has(Role::Worker) {
        let (control, stopping) = (Arc::clone(control), tasks.clone());
        let every = SEND_EVERY.min(Duration::from_secs(config.every_seconds));
        tasks.spawn(async move {
            while pause(&stopping, every).await {
                control.deliver_alerts(&stopping).await;
            }
        });
    }
}

/// Whether it goes on after a while.
async fn pause(stopping: &Supervisor, every: Duration) -> bool {
    tokio::select! {
        () = tokio::time::sleep(every) => true,
        () = stopping.stopping() => false,
    }
}
