//! Where the server of rates is: `valkey://user:password@host:6379/0`.

use std::fmt;

use url::{Host, Url};
use zeroize::Zeroizing;

/// The port of Valkey and Redis.
const PORT: u16 = 6379;

/// An address. Shown without its password.
#[derive(Clone, PartialEq, Eq)]
pub struct ValkeyAddress {
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) is_encrypted: bool,
    pub(super) user: Option<String>,
    pub(super) password: Option<Zeroizing<String>>,
    pub(super) database: i64,
}

/// The text is no address. Says nothing of it: it may hold a password.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ValkeyAddressError {
    /// It does not begin as one.
    #[error(
        "an address begins with `valkey://` or `redis://`, or, in TLS, with `valkeys://` or `rediss://`"
    )]
    Scheme,
    /// It names no server.
    #[error("the address names no host")]
    Host,
    /// What follows the host is no database.
    #[error("after the host there is at most the number of a database: `/0`")]
    Database,
    /// What is written in percent signs is no text.
    #[error("the user or the password is not UTF-8")]
    NotText,
}

impl ValkeyAddress {
    /// Reads an address.
    ///
    /// # Errors
    ///
    /// [`ValkeyAddressError`].
    pub fn parse(text: &str) -> Result<Self, ValkeyAddressError> {
        let url = Url::parse(text.trim()).map_err(|_| ValkeyAddressError::Scheme)?;
        let is_encrypted = match url.scheme() {
            "valkey" | "redis" => false,
            "valkeys" | "rediss" => true,
            _ => return Err(ValkeyAddressError::Scheme),
        };
        let host = match url.host() {
            Some(Host::Domain(name)) if !name.is_empty() => name.to_owned(),
            Some(Host::Ipv4(address)) => address.to_string(),
            Some(Host::Ipv6(address)) => address.to_string(),
            _ => return Err(ValkeyAddressError::Host),
        };
        let path = url.path().trim_matches('/');
        let database = match path {
            "" => 0,
            number => number
                .parse::<u16>()
                .map_err(|_| ValkeyAddressError::Database)?,
        };
        if url.query().is_some() || url.fragment().is_some() {
            return Err(ValkeyAddressError::Database);
        }
        let decoded = |text: &str| {
            let text = percent_encoding::percent_decode_str(text).decode_utf8();
            text.map(|text| text.into_owned())
                .map_err(|_| ValkeyAddressError::NotText)
        };
        let user = match url.username() {
            "" => None,
            user => Some(decoded(user)?),
        };
        let password = url.password().map(decoded).transpose()?;
        Ok(Self {
            host,
            port: url.port().unwrap_or(PORT),
            is_encrypted,
            user,
            password: password.map(Zeroizing::new),
            database: database.into(),
        })
    }

    /// Whether it holds a password.
    pub fn has_password(&self) -> bool {
        self.password.is_some()
    }
}

impl fmt::Debug for ValkeyAddress {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}:{}", self.host, self.port)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read() {
        let plain = ValkeyAddress::parse("valkey://cache.example.com").unwrap();
        assert_eq!(
            (plain.host.as_str(), plain.port),
            ("cache.example.com", 6379)
        );
        assert!(!plain.is_encrypted && !plain.has_password());
        let full = ValkeyAddress::parse("rediss://wall:p%40ss@[::1]:7000/3\n").unwrap();
        assert_eq!(
            (full.host.as_str(), full.port, full.database),
            ("::1", 7000, 3)
        );
        assert_eq!(full.user.as_deref(), Some("wall"));
        assert_eq!(full.password.as_deref().map(String::as_str), Some("p@ss"));
        assert!(full.is_encrypted);
        assert_eq!(format!("{full:?}"), "::1:7000");
    }

    #[test]
    fn what_is_none_is_refused() {
        for (text, expected) in [
            ("postgres://host", ValkeyAddressError::Scheme),
            ("host:6379", ValkeyAddressError::Scheme),
            ("valkey://", ValkeyAddressError::Host),
            ("valkey://host/one", ValkeyAddressError::Database),
            ("valkey://host/0?timeout=1", ValkeyAddressError::Database),
            ("valkey://:%ff@host", ValkeyAddressError::NotText),
        ] {
            assert_eq!(ValkeyAddress::parse(text).unwrap_err(), expected, "{text}");
        }
    }
}
