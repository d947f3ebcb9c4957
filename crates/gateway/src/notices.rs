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
        signature(&(self.secret)(tenant), id, timestamp, body)
    }
}

/// The value of `webhook-signature`.
pub(crate) fn signature(secret: &[u8; 32], id: &str, timestamp: i64, body: &[u8]) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
    let mut context = hmac::Context::with_key(&key);
    context.update(format!("{id}.{timestamp}.").as_bytes());
    context.update(body);
    format!("v1,{}", STANDARD.encode(context.sign()))
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::net::SocketAddr;

    use base::{ManualClock, Network, NetworkFuture, SeededEntropy, Stream};
    use parking_lot::Mutex;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};

    use super::*;

    const TENANT: TenantId = TenantId::from_bits(7);

    /// A receiver behind a network of one address, which answers with these statuses in turn.
    #[derive(Debug, Clone)]
    struct Receiver {
        address: &'static str,
        answers: Arc<Mutex<VecDeque<u16>>>,
        heard: Arc<Mutex<Vec<String>>>,
        supervisor: Supervisor,
    }

    impl Receiver {
        fn at(address: &'static str, answers: impl IntoIterator<Item = u16>) -> Self {
            Self {
                address,
                answers: Arc::new(Mutex::new(answers.into_iter().collect())),
                heard: Arc::default(),
                supervisor: Supervisor::new(),
            }
        }

        async fn answer(self, mut stream: DuplexStream) {
            let mut heard = Vec::new();
            while !heard.ends_with(b"}") {
                let read = stream.read_buf(&mut heard).await;
                assert!(read.is_ok_and(|bytes| bytes > 0), "a whole message");
            }
            self.heard
                .lock()
                .push(String::from_utf8(heard).expect("text"));
            let status = self.answers.lock().pop_front().expect("an answer");
            let answer = format!("HTTP/1.1 {status} x\r\ncontent-length: 0\r\n\r\n");
            drop(stream.write_all(answer.as_bytes()).await);
        }

        async fn bring(&self) -> Vec<String> {
            let provider = Arc::new(rustls::crypto::ring::default_provider());
            let tls = rustls::ClientConfig::builder_with_provider(provider)
                .with_safe_default_protocol_versions()
                .expect("ring has the ciphers")
                .with_root_certificates(rustls::RootCertStore::empty())
                .with_no_client_auth();
            let clock = Arc::new(ManualClock::default());
            let courier = Courier {
                parts: UpstreamParts {
                    network: Arc::new(self.clone()),
                    clock: Arc::clone(&clock) as Arc<dyn Clock>,
                    supervisor: self.supervisor.clone(),
                    tls: Arc::new(tls),
                },
                clock,
                entropy: Arc::new(SeededEntropy::new(1)),
                secret: Arc::new(|tenant| {
                    assert_eq!(tenant, TENANT);
                    Zeroizing::new([5; 32])
                }),
            };
            courier.bring(&notice()).await;
            self.heard.lock().clone()
        }
    }

    impl Network for Receiver {
        fn resolve<'a>(&'a self, _: &'a str, port: u16) -> NetworkFuture<'a, Vec<SocketAddr>> {
            let address = self.address.parse().expect("an address");
            Box::pin(async move { Ok(vec![SocketAddr::new(address, port)]) })
        }

        fn connect(&self, _: SocketAddr) -> NetworkFuture<'_, Box<dyn Stream>> {
            let (ours, theirs) = tokio::io::duplex(64 << 10);
            self.supervisor.spawn(self.clone().answer(theirs));
            Box::pin(async move { Ok(Box::new(ours) as Box<dyn Stream>) })
        }
    }

    fn notice() -> Notice {
        Notice {
            kind: NoticeKind::SoftThreshold,
            timestamp: Timestamp::from_micros(0),
            data: BudgetNotice {
                tenant: "acme".parse().expect("a name"),
                tenant_id: TENANT,
                budget: "month".parse().expect("a name"),
                subject: "tenant".to_owned(),
                limit: Some(PicoUsd::dollars(10)),
                spent: PicoUsd::dollars(8),
            },
            to: "http://hooks.example/in?a=1".to_owned(),
        }
    }

    fn header<'a>(message: &'a str, name: &str) -> &'a str {
        let mut lines = message.lines();
        let found = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
        found.expect("the header is there")
    }

    #[tokio::test(start_paused = true)]
    async fn a_notice_is_signed_and_brought_again_until_it_is_taken() {
        let heard = Receiver::at("93.184.216.34", [500, 302, 204, 500])
            .bring()
            .await;
        assert_eq!(
            heard.len(),
            3,
            "a redirect is not followed, and 204 is enough"
        );
        for message in &heard {
            assert!(
                message.starts_with("POST /in?a=1 HTTP/1.1\r\n"),
                "{message}"
            );
            assert_eq!(header(message, "host"), "hooks.example");
            let id = header(message, "webhook-id");
            assert_eq!(id, header(&heard[0], "webhook-id"), "the same at every try");
            let (_, body) = message.split_once("\r\n\r\n").expect("a body");
            let signed = format!("{id}.{}.{body}", header(message, "webhook-timestamp"));
            let signature = header(message, "webhook-signature");
            let signature = signature.strip_prefix("v1,").expect("the first version");
            let key = hmac::Key::new(hmac::HMAC_SHA256, &[5; 32]);
            let signature = STANDARD.decode(signature).expect("base64");
            hmac::verify(&key, signed.as_bytes(), &signature).expect("the tenant's own secret");
            let said: serde_json::Value = serde_json::from_str(body).expect("JSON");
            assert_eq!(said["type"], "budget.soft_threshold");
            assert_eq!(said["data"]["spent"], "8.00");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_receiver_that_never_takes_it_is_given_up() {
        let heard = Receiver::at("93.184.216.34", [503; 20]).bring().await;
        assert_eq!(heard.len(), 1 + RETRIES_MAX as usize);
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_is_brought_to_a_private_address() {
        for address in ["127.0.0.1", "169.254.169.254", "::ffff:10.0.0.1", "fd00::1"] {
            let heard = Receiver::at(address, []).bring().await;
            assert!(heard.is_empty(), "{address}");
        }
    }
}
