//! The cookies: who is signed in, and which form or sign-in was given out to somebody who is not
//! yet.

use axum::http::header::COOKIE;
use axum::http::{HeaderMap, HeaderValue};

use super::lockers::Token;

/// The pages' cookies go to the pages alone.
const PATH: &str = "/dashboard";

/// One of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cookie {
    /// Who is signed in.
    Session,
    /// Which sign-in form was given out.
    Form,
    /// Which sign-in by the identity provider is under way.
    Oidc,
}

/// How the browser came to us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Transport {
    /// A proxy in front of us says that it speaks TLS with the browser.
    Tls,
    /// As far as we know, it does not.
    Plain,
}

impl Transport {
    /// A browser that lied about this would only harden its own cookie.
    pub(super) fn of(headers: &HeaderMap) -> Self {
        match headers.get("x-forwarded-proto") {
            Some(proto) if proto == "https" => Self::Tls,
            _ => Self::Plain,
        }
    }
}

impl Cookie {
    const fn name(self) -> &'static str {
        match self {
            Self::Session => "partywall_session",
            Self::Form => "partywall_form",
            Self::Oidc => "partywall_oidc",
        }
    }

    /// Who comes back from the identity provider comes from another site: a strict cookie would
    /// stay behind. This one opens nothing by itself.
    const fn scope(self) -> (&'static str, &'static str) {
        match self {
            Self::Session | Self::Form => (PATH, "Strict"),
            Self::Oidc => ("/dashboard/oidc", "Lax"),
        }
    }

    /// What the browser sent of it: nothing, if it sent two.
    pub(super) fn read(self, headers: &HeaderMap) -> Option<Token> {
        let texts = headers.get_all(COOKIE).into_iter();
        let pairs = texts.filter_map(|value| value.to_str().ok());
        let mut found = pairs
            .flat_map(|text| text.split(';'))
            .filter_map(|pair| pair.trim().split_once('='))
            .filter(|(name, _)| *name == self.name())
            .map(|(_, value)| value);
        let value = found.next()?;
        if found.next().is_some() {
            return None;
        }
        Token::parse(value)
    }

    /// The header that sets it, for as long as the browser runs.
    pub(super) fn set(self, token: &Token, transport: Transport) -> HeaderValue {
        let text = token.to_text();
        self.header(&text, "", transport)
    }

    /// The header that removes it.
    pub(super) fn remove(self, transport: Transport) -> HeaderValue {
        self.header("", "; Max-Age=0", transport)
    }

    fn header(self, value: &str, age: &str, transport: Transport) -> HeaderValue {
        let secure = match transport {
            Transport::Tls => "; Secure",
            Transport::Plain => "",
        };
        let name = self.name();
        let (path, site) = self.scope();
        let text = format!("{name}={value}; Path={path}; HttpOnly; SameSite={site}{age}{secure}");
        let mut header = HeaderValue::try_from(text).expect("a token is plain ASCII");
        header.set_sensitive(true);
        header
    }
}

#[cfg(test)]
mod tests {
    use base::SeededEntropy;

    use super::*;

    #[test]
    fn a_cookie_is_found_among_others_and_two_are_none() {
        let token = Token::generate(&SeededEntropy::new(1));
        let text = token.to_text();
        let read = |cookies: &[String]| {
            let mut headers = HeaderMap::new();
            for cookie in cookies {
                headers.append(COOKIE, cookie.parse().unwrap());
            }
            Cookie::Session
                .read(&headers)
                .map(|token| token.to_text().to_string())
        };
        let one = format!("theme=dark; partywall_session={}; x=y", *text);
        assert_eq!(read(std::slice::from_ref(&one)), Some(text.to_string()));
        assert_eq!(read(&[one.clone(), one]), None);
        assert_eq!(read(&[format!("partywall_form={}", *text)]), None);
        assert_eq!(read(&["partywall_session=short".to_owned()]), None);
    }

    #[test]
    fn a_cookie_is_out_of_reach_of_scripts_and_of_other_sites() {
        let token = Token::generate(&SeededEntropy::new(1));
        let plain = Cookie::Session.set(&token, Transport::Plain);
        let text = plain.to_str().unwrap();
        assert!(text.ends_with("; Path=/dashboard; HttpOnly; SameSite=Strict"));
        let tls = Cookie::Session.remove(Transport::Tls);
        let text = tls.to_str().unwrap();
        assert!(
            text.ends_with("SameSite=Strict; Max-Age=0; Secure"),
            "{text}"
        );
    }
}
