//! A budget's soft threshold and its end, told by signed webhook.
//!
//! The form is that of Standard Webhooks: `webhook-id`, `webhook-timestamp` and
//! `webhook-signature: v1,<base64 of HMAC-SHA256 over id.timestamp.body>`. A notice is a
//! courtesy beside the dashboard's figures: those that a crash or a dead receiver catches are
//! lost, and the budget holds all the same.

use std::sync::Arc;
use std::time::Duration;

use base::{Clock, Entropy, Name, PicoUsd, Supervisor, TenantId, Timestamp};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use ring::hmac;
use serde::Serialize;
use tokio::sync::mpsc;
use zeroize::Zeroizing;

use crate::upstream::{Delivery, UpstreamParts, deliver};

/// 1,024 notices wait at most; a thousand tenants crossing a threshold at once fit.
const WAITING_MAX: usize = 1_024;
/// 1 s, 4 s, 16 s, 64 s, 256 s: five more tries in about six minutes.
const RETRIES_MAX: u32 = 5;
/// How long a receiver may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// Deliveries under way at one time, so that one dead receiver delays few others.
const CONCURRENCY_MAX: usize = 16;

/// Something that a tenant is told.
#[derive(Debug, Clone, Serialize)]
pub struct Notice {
    /// `budget.soft_threshold` or `budget.exhausted`.
    #[serde(rename = "type")]
    pub kind: NoticeKind,
    /// When it happened.
    pub timestamp: Timestamp,
    /// What happened.
    pub data: BudgetNotice,
    /// Where to.
    #[serde(skip)]
    pub to: String,
}

/// What a notice is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum NoticeKind {
    /// The soft threshold was crossed.
    #[serde(rename = "budget.soft_threshold")]
    SoftThreshold,
    /// Nothing is left.
    #[serde(rename = "budget.exhausted")]
    Exhausted,
}

/// A budget as it stands.
#[derive(Debug, Clone, Serialize)]
pub struct BudgetNotice {
    /// Whose it is.
    pub tenant: Name,
    /// The tenant's id.
    pub tenant_id: TenantId,
    /// Its name.
    pub budget: Name,
    /// Whom it is for.
    pub subject: String,
    /// What may be spent.
    pub limit: Option<PicoUsd>,
    /// What was spent.
    pub spent: PicoUsd,
}

/// Gives a tenant's signing secret.
pub type WebhookSecret = Arc<dyn Fn(TenantId) -> Zeroizing<[u8; 32]> + Send + Sync>;

/// Where notices are handed in.
#[derive(Debug)]
pub(crate) struct Notices {
    sender: mpsc::Sender<Notice>,
}

/// What sending takes.
pub(crate) struct Courier {
    pub(crate) parts: UpstreamParts,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) entropy: Arc<dyn Entropy>,
    pub(crate) secret: WebhookSecret,
}

impl Notices {
    /// Starts the courier.
    pub(crate) fn start(courier: Courier, supervisor: &Supervisor) -> Self {
        let (sender, receiver) = mpsc::channel(WAITING_MAX);
        let tasks = supervisor.clone();
        supervisor.spawn(async move { run(Arc::new(courier), receiver, tasks).await });
        Self { sender }
    }

    /// Hands a notice in; one that finds no room is dropped, and that is logged.
    pub(crate) fn send(&self, notice: Notice) {
        if self.sender.try_send(notice).is_err() {
            tracing::warn!("a budget's notice was dropped: too many wait to be sent");
        }
    }
}

async fn run(courier: Arc<Courier>, mut receiver: mpsc::Receiver<Notice>, tasks: Supervisor) {
    let places = Arc::new(tokio::sync::Semaphore::new(CONCURRENCY_MAX));
    loop {
        let notice = tokio::select! {
            notice = receiver.recv() => notice,
            () = tasks.stopping() => return,
        };
        let Some(notice) = notice else { return };
        let Ok(place) = Arc::clone(&places).acquire_owned().await else {
            return;
        };
        let courier = Arc::clone(&courier);
        let stopping = tasks.clone();
        tasks.spawn(async move {
            tokio::select! {
                () = courier.bring(&notice) => {}
                () = stopping.stopping() => {}
            }
            drop(place);
        });
    }
}

impl Courier {
    async fn bring(&self, notice: &Notice) {
        let id = format!("msg_{:016x}", self.entropy.next_u64());
        let body = Bytes::from(serde_json::to_vec(notice).expect("a notice is JSON"));
        for attempt in 0..=RETRIES_MAX {
            if attempt > 0 {
                tokio::time::sleep(Duration::from_secs(1 << (2 * (attempt - 1)))).await;
            }
            let timestamp = self.clock.now().as_seconds();
            let signature = self.sign(notice.data.tenant_id, &id, timestamp, &body);
            let delivery = Delivery {
                url: &notice.to,
                id: &id,
                timestamp,
                signature: &signature,
                body: body.clone(),
            };
            match tokio::time::timeout(PATIENCE, deliver(&self.parts, delivery)).await {
                Ok(Ok(status)) if status.is_success() => return,
                Ok(Ok(status)) => {
                    tracing::info!(%id, status = status.as_u16(), "a webhook was refused")
                }
                Ok(Err(error)) => tracing::info!(%id, %error, "a webhook was not delivered"),
                Err(_) => tracing::info!(%id, "a webhook's receiver did not answer"),
            }
        }
        tracing::warn!(%id, tenant = %notice.data.tenant, "a webhook was given up");
    }

    fn sign(&self, tenant: TenantId, id: &str, timestamp: i64, body: &[u8]) -> String {
        let secret = (self.secret)(tenant);
        let key = hmac::Key::new(hmac::HMAC_SHA256, &*secret);
        let mut context = hmac::Context::with_key(&key);
        context.update(format!("{id}.{timestamp}.").as_bytes());
        context.update(body);
        format!("v1,{}", STANDARD.encode(context.sign()))
    }
}
