//! Against servers that speak SMTP over a network of one address.

use std::net::SocketAddr;

use base::{Clock, ManualClock, Network, NetworkFuture, Supervisor};
use parking_lot::Mutex;
use rustls::pki_types::PrivateKeyDer;
use tokio::io::{AsyncBufReadExt as _, BufReader};

use super::*;

const AUTHORITY: &str = "src/upstream/testdata/mail_authority.pem";
const CERTIFICATE: &[u8] = include_bytes!("../testdata/mail_server.pem");
const KEY: &[u8] = include_bytes!("../testdata/mail_server.key.pem");

/// What it offers, and what it answers to a command.
#[derive(Debug, Clone, Copy)]
struct Manners {
    encrypts: bool,
    refuses: &'static str,
    /// Said in the clear after its word to encrypt: an attacker's, between the two.
    slips_in: &'static str,
}

const GOOD: Manners = Manners {
    encrypts: true,
    refuses: "nothing",
    slips_in: "",
};

#[derive(Debug, Clone)]
struct Server {
    manners: Manners,
    /// Every line it was told, after `clear` or `tls`.
    told: Arc<Mutex<Vec<String>>>,
    supervisor: Supervisor,
}

impl Network for Server {
    fn resolve<'a>(&'a self, _: &'a str, port: u16) -> NetworkFuture<'a, Vec<SocketAddr>> {
        Box::pin(async move { Ok(vec![SocketAddr::from(([127, 0, 0, 1], port))]) })
    }

    fn connect(&self, _: SocketAddr) -> NetworkFuture<'_, Box<dyn Stream>> {
        let (ours, theirs) = tokio::io::duplex(64 << 10);
        let server = self.clone();
        self.supervisor.spawn(async move {
            server.serve(Box::new(theirs)).await;
        });
        Box::pin(async move { Ok(Box::new(ours) as Box<dyn Stream>) })
    }
}

impl Server {
    fn with(manners: Manners) -> Self {
        Self {
            manners,
            told: Arc::default(),
            supervisor: Supervisor::new(),
        }
    }

    async fn serve(self, stream: Box<dyn Stream>) {
        let mut stream = BufReader::new(stream);
        if stream.write_all(b"220 mx ESMTP\r\n").await.is_err() {
            return;
        }
        let (mut how, mut in_data) = ("clear", false);
        loop {
            let mut line = String::new();
            if !matches!(stream.read_line(&mut line).await, Ok(1..)) {
                return;
            }
            let line = line.trim_end().to_owned();
            self.told.lock().push(format!("{how} {line}"));
            let verb = line.split([' ', ':']).next().unwrap_or_default();
            let reply = match verb {
                "." => {
                    in_data = false;
                    "250 taken\r\n".to_owned()
                }
                _ if in_data => continue,
                verb if verb == self.manners.refuses => "554 not here\r\n".to_owned(),
                "EHLO" if how == "clear" && self.manners.encrypts => {
                    "250-mx\r\n250-SIZE 1000\r\n250 STARTTLS\r\n".to_owned()
                }
                "EHLO" => "250-mx\r\n250 AUTH PLAIN\r\n".to_owned(),
                "STARTTLS" => format!("220 go on\r\n{}", self.manners.slips_in),
                "AUTH" => "235 hello\r\n".to_owned(),
                "DATA" => {
                    in_data = true;
                    "354 go on\r\n".to_owned()
                }
                _ => "250 ok\r\n".to_owned(),
            };
            if stream.write_all(reply.as_bytes()).await.is_err() {
                return;
            }
            if verb == "STARTTLS" {
                let encrypted = acceptor().accept(stream.into_inner()).await;
                let Ok(encrypted) = encrypted else { return };
                stream = BufReader::new(Box::new(encrypted));
                how = "tls";
            }
        }
    }

    async fn send(&self, security: MailSecurity, to: &[&str]) -> Result<(), MailError> {
        let authority = Path::new(env!("CARGO_MANIFEST_DIR")).join(AUTHORITY);
        let login = ("ada".to_owned(), Zeroizing::new("secret".to_owned()));
        let server = MailServer {
            host: "localhost".to_owned(),
            port: 587,
            security,
            from: "alerts@partywall.example".to_owned(),
            login: (security != MailSecurity::Plain).then_some(login),
            tls: Some(tls_with_authorities(&authority).unwrap()),
        };
        self.send_by(&server, to).await
    }

    async fn send_by(&self, server: &MailServer, to: &[&str]) -> Result<(), MailError> {
        let clock: Arc<dyn Clock> = Arc::new(ManualClock::default());
        let parts = UpstreamParts {
            network: Arc::new(self.clone()),
            clock,
            supervisor: self.supervisor.clone(),
            tls: crate::gateway::tls(),
        };
        let to: Vec<String> = to.iter().map(|to| (*to).to_owned()).collect();
        let message = Message {
            id: "msg_1",
            to: &to,
            subject: "Ein sehr langer Betreff, länger als eine Zeile — 100% von größerem\nBcc: x@y",
            text: "Zeile eins\n.\nRCPT TO:<x@y>\n",
            at: "2026-03-05T10:00:00Z".parse().unwrap(),
        };
        send_mail(&parts, server, message).await
    }

    fn told(&self) -> Vec<String> {
        self.told.lock().clone()
    }
}

fn acceptor() -> tokio_rustls::TlsAcceptor {
    let certificates: Vec<_> = CertificateDer::pem_slice_iter(CERTIFICATE)
        .collect::<Result<_, _>>()
        .unwrap();
    let key = PrivateKeyDer::from_pem_slice(KEY).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(certificates, key)
        .unwrap();
    tokio_rustls::TlsAcceptor::from(Arc::new(config))
}

#[tokio::test]
async fn mail_goes_encrypted_and_as_one_message() {
    let server = Server::with(GOOD);
    let to = ["a@acme.example", "b@acme.example"];
    server.send(MailSecurity::StartTls, &to).await.unwrap();
    let told = server.told();
    assert_eq!(told[..2], ["clear EHLO partywall", "clear STARTTLS"]);
    let rest = told[2..].iter().map(|line| line.strip_prefix("tls "));
    let rest: Vec<&str> = rest.collect::<Option<_>>().expect("all else is encrypted");
    assert_eq!(
        rest[..6],
        [
            "EHLO partywall",
            "AUTH PLAIN AGFkYQBzZWNyZXQ=",
            "MAIL FROM:<alerts@partywall.example>",
            "RCPT TO:<a@acme.example>",
            "RCPT TO:<b@acme.example>",
            "DATA",
        ]
    );
    let end = rest.iter().position(|line| *line == ".").unwrap();
    let mail = &rest[6..end];
    assert!(
        mail.contains(&"Date: Thu, 05 Mar 2026 10:00:00 +0000"),
        "{mail:?}"
    );
    assert!(mail.contains(&"Message-ID: <msg_1@partywall.example>"));
    // Nothing that was said became a header or a command of its own.
    assert!(
        !mail
            .iter()
            .any(|line| line.starts_with("Bcc") || line.starts_with("RCPT"))
    );
    assert!(mail.iter().all(|line| line.len() <= 78), "{mail:?}");
    let blank = mail.iter().position(|line| line.is_empty()).unwrap();
    let text = STANDARD.decode(mail[blank + 1..].concat()).unwrap();
    assert_eq!(text, b"Zeile eins\r\n.\r\nRCPT TO:<x@y>\r\n");
}

#[tokio::test]
async fn nothing_goes_in_the_clear_that_should_not() {
    let no_tls = Server::with(Manners {
        encrypts: false,
        ..GOOD
    });
    let sent = no_tls.send(MailSecurity::StartTls, &["a@b"]).await;
    assert!(matches!(sent, Err(MailError::NoStartTls)), "{sent:?}");
    assert_eq!(no_tls.told().len(), 1);
    // What an attacker says before the encryption is not taken for the server's.
    let between = Server::with(Manners {
        slips_in: "250 AUTH\r\n235 yes\r\n",
        ..GOOD
    });
    let sent = between.send(MailSecurity::StartTls, &["a@b"]).await;
    assert!(sent.is_err(), "{sent:?}");
    let told = between.told();
    assert!(!told.iter().any(|line| line.contains("AUTH")), "{told:?}");
    let plain = Server::with(GOOD);
    let server = MailServer {
        host: "localhost".to_owned(),
        port: 25,
        security: MailSecurity::Plain,
        from: "a@b".to_owned(),
        login: Some(("ada".to_owned(), Zeroizing::new("secret".to_owned()))),
        tls: None,
    };
    let sent = plain.send_by(&server, &["a@b"]).await;
    assert!(
        matches!(sent, Err(MailError::PasswordInTheClear)),
        "{sent:?}"
    );
    // A certificate of nobody whom we trust.
    let stranger = Server::with(GOOD);
    let server = MailServer {
        security: MailSecurity::StartTls,
        ..server
    };
    let sent = stranger.send_by(&server, &["a@b"]).await;
    assert!(matches!(sent, Err(MailError::Handshake(_))), "{sent:?}");
}

#[tokio::test]
async fn what_a_server_refuses_is_told_by_number() {
    let server = Server::with(Manners {
        refuses: "RCPT",
        ..GOOD
    });
    let sent = server.send(MailSecurity::Plain, &["a@b"]).await;
    let said = sent.unwrap_err().to_string();
    assert_eq!(said, "the mail server answered 554 to RCPT TO");
    let server = Server::with(GOOD);
    let sent = server
        .send(MailSecurity::Plain, &["a@b>\r\nRCPT TO:<c@d"])
        .await;
    assert!(matches!(sent, Err(MailError::BadText)), "{sent:?}");
    assert!(server.told().is_empty());
}
