//! Asking a service of the tenant's: one signed POST to a public address.

use std::time::Duration;

use base::{Clock, Entropy, TenantId};
use bytes::Bytes;

use crate::guard::RemoteFailure;
use crate::notices::{WebhookSecret, signature};
use crate::upstream::{Delivery, UpstreamParts, ask};

/// 1 MiB of a service's answer: a thousand findings have a tenth of it.
const ANSWER_BYTES_MAX: usize = 1 << 20;

/// What asking takes of the process.
pub(crate) struct GuardServices {
    pub(crate) parts: UpstreamParts,
    pub(crate) secret: WebhookSecret,
}

impl std::fmt::Debug for GuardServices {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("GuardServices")
    }
}

impl GuardServices {
    /// Posts JSON on behalf of a tenant, and returns the body of the 200.
    ///
    /// # Errors
    ///
    /// [`RemoteFailure`]: no public address, no answer in time, another status.
    pub(crate) async fn post(
        &self,
        tenant: TenantId,
        (clock, entropy): (&dyn Clock, &dyn Entropy),
        url: &str,
        timeout: Duration,
        body: Vec<u8>,
    ) -> Result<Vec<u8>, RemoteFailure> {
        let id = format!("msg_{:016x}", entropy.next_u64());
        let timestamp = clock.now().as_seconds();
        let body = Bytes::from(body);
        let secret = (self.secret)(tenant);
        let signature = signature(&secret, &id, timestamp, &body);
        let delivery = Delivery {
            url,
            id: &id,
            timestamp,
            signature: &signature,
            body,
        };
        let asked = ask(&self.parts, delivery, ANSWER_BYTES_MAX);
        match tokio::time::timeout(timeout, asked).await {
            Err(_) => Err(RemoteFailure::Late),
            Ok(Ok((status, answer))) if status.as_u16() == 200 => Ok(answer.to_vec()),
            Ok(Ok((status, _))) => {
                tracing::info!(%id, status = status.as_u16(), "a guardrail's service refused");
                Err(RemoteFailure::Unreachable)
            }
            Ok(Err(error)) => {
                tracing::info!(%id, %error, "a guardrail's service was not reached");
                Err(RemoteFailure::Unreachable)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;
    use std::sync::Arc;

    use base::{ManualClock, Network, NetworkFuture, SeededEntropy, Stream, Supervisor};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use zeroize::Zeroizing;

    use super::*;

    /// A service behind a network of one address, which answers everybody alike.
    #[derive(Debug, Clone)]
    struct Service {
        address: &'static str,
        answer: &'static str,
        supervisor: Supervisor,
    }

    impl Network for Service {
        fn resolve<'a>(&'a self, _: &'a str, port: u16) -> NetworkFuture<'a, Vec<SocketAddr>> {
            let address = self.address.parse().expect("an address");
            Box::pin(async move { Ok(vec![SocketAddr::new(address, port)]) })
        }

        fn connect(&self, _: SocketAddr) -> NetworkFuture<'_, Box<dyn Stream>> {
            let (ours, mut theirs) = tokio::io::duplex(64 << 10);
            let answer = self.answer;
            self.supervisor.spawn(async move {
                let mut heard = Vec::new();
                while !heard.ends_with(b"}") {
                    let read = theirs.read_buf(&mut heard).await;
                    assert!(read.is_ok_and(|bytes| bytes > 0), "a whole message");
                }
                let heard = String::from_utf8(heard).expect("text");
                assert!(heard.contains("webhook-signature: v1,"), "{heard}");
                match answer {
                    "" => std::future::pending().await,
                    _ => drop(theirs.write_all(answer.as_bytes()).await),
                }
            });
            Box::pin(async move { Ok(Box::new(ours) as Box<dyn Stream>) })
        }
    }

    async fn post(address: &'static str, answer: &'static str) -> Result<Vec<u8>, RemoteFailure> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("ring has the ciphers")
            .with_root_certificates(rustls::RootCertStore::empty())
            .with_no_client_auth();
        let clock = Arc::new(ManualClock::default());
        let supervisor = Supervisor::new();
        let service = Service {
            address,
            answer,
            supervisor: supervisor.clone(),
        };
        let services = GuardServices {
            parts: UpstreamParts {
                network: Arc::new(service),
                clock: Arc::clone(&clock) as Arc<dyn Clock>,
                supervisor,
                tls: Arc::new(tls),
            },
            secret: Arc::new(|_| Zeroizing::new([5; 32])),
        };
        let timeout = Duration::from_secs(2);
        let tenant = TenantId::from_bits(1);
        let world: (&dyn Clock, &dyn Entropy) = (&*clock, &SeededEntropy::new(1));
        services
            .post(
                tenant,
                world,
                "http://guard.example/x",
                timeout,
                b"{}".to_vec(),
            )
            .await
    }

    const PUBLIC: &str = "93.184.216.34";

    #[tokio::test(start_paused = true)]
    async fn a_service_is_asked_and_answers() {
        let answer = "HTTP/1.1 200 x\r\ncontent-length: 15\r\n\r\n{\"findings\":[]}";
        assert_eq!(
            post(PUBLIC, answer).await,
            Ok(b"{\"findings\":[]}".to_vec())
        );
    }

    #[tokio::test(start_paused = true)]
    async fn anything_but_an_answer_in_time_is_a_failure() {
        for answer in [
            "HTTP/1.1 500 x\r\ncontent-length: 0\r\n\r\n",
            "HTTP/1.1 302 x\r\nlocation: http://10.0.0.1/\r\ncontent-length: 0\r\n\r\n",
            "HTTP/1.1 200 x\r\ncontent-length: 9999999\r\n\r\n",
            "nonsense\r\n\r\n",
        ] {
            let asked = post(PUBLIC, answer).await;
            assert_eq!(asked, Err(RemoteFailure::Unreachable), "{answer}");
        }
        assert_eq!(post(PUBLIC, "").await, Err(RemoteFailure::Late));
    }

    #[tokio::test(start_paused = true)]
    async fn no_private_address_is_asked() {
        for address in ["127.0.0.1", "169.254.169.254", "::ffff:10.0.0.1", "fd00::1"] {
            let asked = post(address, "HTTP/1.1 200 x\r\ncontent-length: 0\r\n\r\n").await;
            assert_eq!(asked, Err(RemoteFailure::Unreachable), "{address}");
        }
    }
}
