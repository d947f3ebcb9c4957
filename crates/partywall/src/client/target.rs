//! Where an admin API is.

use std::fmt;

use http::HeaderValue;
use rustls::pki_types::ServerName;
use url::{Host, Url};

use super::ClientError;

/// A parsed `http` or `https` address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Target {
    url: Url,
}

impl Target {
    /// The address that `text` is.
    ///
    /// # Errors
    ///
    /// [`ClientError::BadUrl`] if it is none.
    pub(crate) fn parse(text: &str) -> Result<Self, ClientError> {
        let refused = || ClientError::BadUrl {
            url: text.to_owned(),
        };
        let url = Url::parse(text).map_err(|_| refused())?;
        if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
            return Err(refused());
        }
        let has_extras = url.query().is_some()
            || url.fragment().is_some()
            || !url.username().is_empty()
            || url.password().is_some();
        if has_extras {
            return Err(refused());
        }
        Ok(Self { url })
    }

    /// Host and port to connect to; an IPv6 address without its brackets.
    pub(super) fn host_and_port(&self) -> (String, u16) {
        let host = match self.url.host() {
            Some(Host::Ipv6(address)) => address.to_string(),
            Some(host) => host.to_string(),
            None => unreachable!("parsing refuses an address without a host"),
        };
        let port = self.url.port_or_known_default().unwrap_or(80);
        (host, port)
    }

    pub(super) fn is_encrypted(&self) -> bool {
        self.url.scheme() == "https"
    }

    /// Whether it is on this machine.
    pub(crate) fn is_loopback(&self) -> bool {
        match self.url.host() {
            Some(Host::Ipv4(address)) => address.is_loopback(),
            Some(Host::Ipv6(address)) => address.is_loopback(),
            Some(Host::Domain(name)) => name == "localhost",
            None => false,
        }
    }

    /// Whether what is sent there leaves this machine in the clear.
    pub(crate) fn exposes_the_key(&self) -> bool {
        !self.is_encrypted() && !self.is_loopback()
    }

    pub(super) fn server_name(&self) -> Result<ServerName<'static>, ClientError> {
        ServerName::try_from(self.host_and_port().0).map_err(|_| ClientError::BadUrl {
            url: self.url.to_string(),
        })
    }

    pub(super) fn host_header(&self) -> HeaderValue {
        let host = self.url.host_str().unwrap_or_default();
        let text = match self.url.port() {
            Some(port) => format!("{host}:{port}"),
            None => host.to_owned(),
        };
        HeaderValue::from_str(&text).expect("a parsed host has visible characters alone")
    }

    /// What comes before every path, for an API behind a path of a reverse proxy.
    pub(super) fn path_prefix(&self) -> &str {
        self.url.path().trim_end_matches('/')
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.url.as_str().trim_end_matches('/'))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_taken_apart() {
        let target = Target::parse("https://[::1]/under/").unwrap();
        assert_eq!(target.host_and_port(), ("::1".to_owned(), 443));
        assert_eq!(target.path_prefix(), "/under");
        assert_eq!(target.host_header(), "[::1]");
        let target = Target::parse("http://127.0.0.1:8081").unwrap();
        assert_eq!(target.host_header(), "127.0.0.1:8081");
        assert_eq!(target.path_prefix(), "");
        assert!(!target.exposes_the_key());
        assert!(Target::parse("http://10.0.0.1").unwrap().exposes_the_key());
    }

    #[test]
    fn what_is_no_plain_address_is_refused() {
        for text in [
            "",
            "localhost:1",
            "ftp://a",
            "http://u:p@a",
            "http://a/?b",
            "http://a/#b",
        ] {
            assert!(Target::parse(text).is_err(), "{text}");
        }
    }
}
