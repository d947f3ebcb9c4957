//! Mail by the installation's own mail server: SMTP (RFC 5321) with STARTTLS or TLS from the
//! first byte, a message per connection. Alerts are few, and nothing else is mailed.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use base::{Stream, Timestamp};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_rustls::TlsConnector;
use zeroize::Zeroizing;

use super::{EgressError, Reach, UpstreamParts, permitted_addresses};

/// 20 s for all of it: a mail server may look a sender up before it says yes.
const PATIENCE: Duration = Duration::from_secs(20);
/// 8 KiB: sixteen replies of the longest kind (RFC 5321, 4.5.3.1.5).
const REPLY_BYTES_MAX: usize = 8 << 10;
/// 76 characters: the longest line of base64 in mail (RFC 2045, 6.8).
const LINE: usize = 76;
/// 39 bytes are 52 of base64: a line with an encoded word is at most 76 long (RFC 2047, 2).
const WORD_BYTES: usize = 39;

/// How the connection to a mail server is encrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MailSecurity {
    /// Not at all: for a relay on this machine.
    Plain,
    /// After a word in the clear; without it nothing is sent.
    StartTls,
    /// From the first byte.
    Tls,
}

/// The installation's mail server.
#[derive(Clone)]
pub struct MailServer {
    /// Its name, which its certificate must have.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// How the connection is encrypted.
    pub security: MailSecurity,
    /// The address that mail comes from.
    pub from: String,
    /// User and password, if it asks for them.
    pub login: Option<(String, Zeroizing<String>)>,
    /// How to encrypt; the upstreams' way if absent.
    pub tls: Option<Arc<rustls::ClientConfig>>,
}

impl std::fmt::Debug for MailServer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "MailServer({}:{})", self.host, self.port)
    }
}

/// A message.
#[derive(Debug, Clone, Copy)]
pub struct Message<'a> {
    /// The same at every try.
    pub id: &'a str,
    /// Whom it goes to.
    pub to: &'a [String],
    /// One line.
    pub subject: &'a str,
    /// Plain text.
    pub text: &'a str,
    /// When it is sent.
    pub at: Timestamp,
}

/// Why mail was not sent.
#[derive(Debug, thiserror::Error)]
pub enum MailError {
    /// The server may not or cannot be reached.
    #[error("the mail server cannot be reached")]
    Egress(#[from] EgressError),
    /// The connection broke.
    #[error("the connection to the mail server broke")]
    Broken(#[from] std::io::Error),
    /// It does not speak TLS as we do, or its certificate is not good.
    #[error("the connection to the mail server could not be encrypted")]
    Handshake(#[source] std::io::Error),
    /// It has no STARTTLS: nothing was sent.
    #[error("the mail server offers no STARTTLS: nothing was sent in the clear")]
    NoStartTls,
    /// It would have sent a password in the clear.
    #[error("a password goes to a mail server by `starttls` or `tls` alone")]
    PasswordInTheClear,
    /// It said no. What it said is shown to operators' logs alone as a number.
    #[error("the mail server answered {code} to {command}")]
    Refused {
        /// To what.
        command: &'static str,
        /// The reply's code.
        code: u16,
    },
    /// It said what is no reply.
    #[error("the mail server's reply cannot be read")]
    Unread,
    /// It took too long.
    #[error("the mail server took longer than 20 s")]
    TimedOut,
    /// An address or an option has what would end a line.
    #[error("an address or name has characters that mail cannot carry")]
    BadText,
}

/// TLS that trusts the authorities in a PEM file.
///
/// # Errors
///
/// A sentence: the file cannot be read, or holds what is no certificate.
pub fn tls_with_authorities(file: &Path) -> Result<Arc<rustls::ClientConfig>, String> {
    let mut roots = rustls::RootCertStore::empty();
    let found = CertificateDer::pem_file_iter(file);
    for certificate in found.map_err(|error| format!("{}: {error}", file.display()))? {
        let certificate = certificate.map_err(|error| format!("{}: {error}", file.display()))?;
        let added = roots.add(certificate);
        added.map_err(|error| format!("{}: {error}", file.display()))?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("ring has the ciphers of TLS 1.2 and 1.3")
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Arc::new(config))
}

/// Sends a message. The operator chose the server, so that it may be at any address.
///
/// # Errors
///
/// [`MailError`]. After `Broken` and `TimedOut` it may have been sent.
pub async fn send_mail(
    parts: &UpstreamParts,
    server: &MailServer,
    message: Message<'_>,
) -> Result<(), MailError> {
    let texts = message.to.iter().map(String::as_str);
    let texts = texts.chain([server.from.as_str(), message.id]);
    let is_bad = |text: &str| text.chars().any(|c| c.is_control() || " <>".contains(c));
    if { texts }.any(is_bad) {
        return Err(MailError::BadText);
    }
    let sent = tokio::time::timeout(PATIENCE, converse(parts, server, message)).await;
    sent.unwrap_or(Err(MailError::TimedOut))
}

async fn converse(
    parts: &UpstreamParts,
    server: &MailServer,
    message: Message<'_>,
) -> Result<(), MailError> {
    let mut session = connect(parts, server).await?;
    let offered = session.ask("EHLO", "EHLO partywall").await?;
    if server.security == MailSecurity::StartTls {
        if !offered
            .iter()
            .any(|line| line.eq_ignore_ascii_case("STARTTLS"))
        {
            return Err(MailError::NoStartTls);
        }
        session.ask("STARTTLS", "STARTTLS").await?;
        // Whatever came in the clear after the reply is an attacker's.
        if !session.unread.is_empty() {
            return Err(MailError::Unread);
        }
        let stream = encrypt(parts, server, session.stream).await?;
        session = Session::new(stream);
        session.ask("EHLO", "EHLO partywall").await?;
    }
    if let Some((user, password)) = &server.login {
        if server.security == MailSecurity::Plain {
            return Err(MailError::PasswordInTheClear);
        }
        let proof = Zeroizing::new(format!("\0{user}\0{}", password.as_str()));
        let line = Zeroizing::new(format!("AUTH PLAIN {}", STANDARD.encode(proof.as_bytes())));
        session.ask("AUTH", &line).await?;
    }
    let from = format!("MAIL FROM:<{}>", server.from);
    session.ask("MAIL FROM", &from).await?;
    for recipient in message.to {
        let to = format!("RCPT TO:<{recipient}>");
        session.ask("RCPT TO", &to).await?;
    }
    session.ask("DATA", "DATA").await?;
    session
        .ask("the message", &composed(server, message))
        .await?;
    // It is taken: how the server says goodbye changes nothing.
    drop(session.ask("QUIT", "QUIT").await);
    Ok(())
}

async fn connect(parts: &UpstreamParts, server: &MailServer) -> Result<Session, MailError> {
    let network = &*parts.network;
    let addresses =
        permitted_addresses(network, &server.host, server.port, Reach::Anywhere).await?;
    let mut refused = std::io::Error::from(std::io::ErrorKind::NotFound);
    for address in addresses {
        match network.connect(address).await {
            Ok(stream) => {
                let stream = match server.security {
                    MailSecurity::Tls => encrypt(parts, server, stream).await?,
                    MailSecurity::Plain | MailSecurity::StartTls => stream,
                };
                let mut session = Session::new(stream);
                session.reply("the greeting").await?;
                return Ok(session);
            }
            Err(error) => refused = error,
        }
    }
    Err(MailError::Broken(refused))
}

async fn encrypt(
    parts: &UpstreamParts,
    server: &MailServer,
    stream: Box<dyn Stream>,
) -> Result<Box<dyn Stream>, MailError> {
    let name = ServerName::try_from(server.host.clone()).map_err(|_| MailError::BadText)?;
    let tls = server.tls.as_ref().unwrap_or(&parts.tls);
    let connector = TlsConnector::from(Arc::clone(tls));
    let stream = connector.connect(name, stream).await;
    Ok(Box::new(stream.map_err(MailError::Handshake)?))
}

struct Session {
    stream: Box<dyn Stream>,
    unread: Vec<u8>,
}

impl Session {
    fn new(stream: Box<dyn Stream>) -> Self {
        Self {
            stream,
            unread: Vec::new(),
        }
    }

    /// Says a line, and reads the reply: its lines without their codes.
    async fn ask(&mut self, command: &'static str, line: &str) -> Result<Vec<String>, MailError> {
        self.stream.write_all(line.as_bytes()).await?;
        self.stream.write_all(b"\r\n").await?;
        self.stream.flush().await?;
        self.reply(command).await
    }

    async fn reply(&mut self, command: &'static str) -> Result<Vec<String>, MailError> {
        let (mut lines, mut bytes) = (Vec::new(), 0);
        loop {
            let line = self.line().await?;
            bytes += line.len();
            let code = line.get(..3).and_then(|code| code.parse::<u16>().ok());
            let code = code.filter(|_| bytes <= REPLY_BYTES_MAX);
            let code = code.ok_or(MailError::Unread)?;
            let is_last = line.as_bytes().get(3) != Some(&b'-');
            lines.push(line.get(4..).unwrap_or_default().trim().to_owned());
            if is_last {
                return match code {
                    200..=399 => Ok(lines),
                    _ => Err(MailError::Refused { command, code }),
                };
            }
        }
    }

    async fn line(&mut self) -> Result<String, MailError> {
        loop {
            if let Some(end) = self.unread.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.unread.drain(..=end).collect();
                let line = String::from_utf8(line).map_err(|_| MailError::Unread)?;
                return Ok(line.trim_end().to_owned());
            }
            if self.unread.len() > REPLY_BYTES_MAX {
                return Err(MailError::Unread);
            }
            if self.stream.read_buf(&mut self.unread).await? == 0 {
                return Err(MailError::Broken(std::io::ErrorKind::UnexpectedEof.into()));
            }
        }
    }
}

/// The message with its head, in lines of ASCII; ends with the dot that ends it. What it says is
/// base64, so that no line of it can be a command or a dot.
fn composed(server: &MailServer, message: Message<'_>) -> String {
    let domain = server.from.rsplit('@').next().unwrap_or("localhost");
    let mut mail = format!(
        "From: Partywall <{from}>\r\nTo: {to}\r\nSubject: {subject}\r\nDate: {date}\r\n\
         Message-ID: <{id}@{domain}>\r\nAuto-Submitted: auto-generated\r\nMIME-Version: 1.0\r\n\
         Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: base64\r\n\r\n",
        from = server.from,
        to = message.to.join(",\r\n "),
        subject = header_text(message.subject),
        date = date(message.at),
        id = message.id,
    );
    let text = message.text.replace('\n', "\r\n");
    for line in STANDARD.encode(text).as_bytes().chunks(LINE) {
        mail.push_str(std::str::from_utf8(line).expect("base64 is ASCII"));
        mail.push_str("\r\n");
    }
    mail.push('.');
    mail
}

/// As encoded words (RFC 2047), whatever it says: nothing in it can begin another header.
fn header_text(text: &str) -> String {
    let mut words = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let mut end = rest.len().min(WORD_BYTES);
        while !rest.is_char_boundary(end) {
            end -= 1;
        }
        words.push(format!("=?utf-8?B?{}?=", STANDARD.encode(&rest[..end])));
        rest = &rest[end..];
    }
    words.join("\r\n ")
}

/// `Thu, 05 Mar 2026 10:00:00 +0000`.
fn date(at: Timestamp) -> String {
    let at = jiff::Timestamp::from_microsecond(at.as_micros()).unwrap_or_default();
    at.strftime("%a, %d %b %Y %H:%M:%S +0000").to_string()
}

#[cfg(test)]
#[path = "mail/tests.rs"]
mod tests;
