//! Access tokens for Vertex: a service account's signed assertion, exchanged and kept.
//!
//! After RFC 7523 and Google's "OAuth 2.0 for server to server applications": an assertion (a
//! JWT, RS256) is posted to the account's `token_uri`, and what comes back is a bearer token for
//! about an hour. The exchange itself, with its deadline, is the caller's [`TokenExchange`].

mod cache;

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use base::{Redacted, Timestamp};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use ring::rand::SystemRandom;
use ring::signature::{RSA_PKCS1_SHA256, RsaKeyPair};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::Reach;

pub use cache::{GoogleTokens, TokenError};

/// What Vertex asks for.
pub const CLOUD_PLATFORM_SCOPE: &str = "https://www.googleapis.com/auth/cloud-platform";

/// An hour: the longest that Google allows an assertion.
const ASSERTION_LIFETIME: Duration = Duration::from_secs(3600);

/// 16 KiB: a key file has 2.4 KB.
const KEY_FILE_BYTES_MAX: usize = 16 << 10;

/// 16 KiB: Google's tokens have 1 KB, and it reserves 2,048 bytes for them.
const ANSWER_BYTES_MAX: usize = 16 << 10;

/// A service account that can sign.
pub struct ServiceAccount {
    /// `name@project.iam.gserviceaccount.com`
    pub client_email: String,
    /// The project that it belongs to, where its key file says so.
    pub project_id: Option<String>,
    /// Where assertions are exchanged.
    pub token_uri: String,
    key_id: String,
    key: RsaKeyPair,
}

/// What is to be posted.
#[derive(Debug)]
pub struct TokenRequest {
    /// Where to: the account's `token_uri`.
    pub uri: String,
    /// The body, `application/x-www-form-urlencoded`.
    pub body: Redacted<Zeroizing<String>>,
}

/// A token and how long it is good.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccessToken {
    /// For `authorization: Bearer`.
    pub token: Redacted<Zeroizing<String>>,
    /// From when on it is no more taken.
    pub expires: Timestamp,
}

/// A future of [`TokenExchange`].
pub type ExchangeFuture<'a> =
    Pin<Box<dyn Future<Output = Result<ExchangeAnswer, ExchangeError>> + Send + 'a>>;

/// How an assertion reaches Google.
pub trait TokenExchange: Send + Sync + fmt::Debug {
    /// Posts the request once, within a deadline of its own.
    ///
    /// # Errors
    /// No answer came.
    fn exchange<'a>(&'a self, request: &'a TokenRequest) -> ExchangeFuture<'a>;
}

/// What the token endpoint answered.
#[derive(Debug)]
pub struct ExchangeAnswer {
    /// The HTTP status.
    pub status: u16,
    /// The body, or its beginning: no more than 16 KiB are read of it.
    pub body: Redacted<Zeroizing<Vec<u8>>>,
}

/// The token endpoint gave no answer.
#[derive(Debug, Clone, thiserror::Error)]
#[error("the token endpoint gave no answer: {0}")]
pub struct ExchangeError(pub String);

/// Why a key file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ServiceAccountError {
    /// Larger than any key file.
    #[error("a service account's key file has at most 16 KiB: this one is larger")]
    TooLong,
    /// Not the JSON that Google's console downloads.
    #[error("this is no service account's key file (JSON with `client_email` and `private_key`)")]
    Shape(#[source] serde_json::Error),
    /// Credentials of a person or of a workload federation.
    #[error("the key file's `type` is \"{0}\": only \"service_account\" can be used")]
    Kind(String),
    /// The assertion would go where it can be read on the way.
    #[error("the key file's `token_uri` must begin with https://")]
    TokenUri,
    /// `private_key` is no PEM text of PKCS #8.
    #[error("the key file's `private_key` is no PEM text (BEGIN PRIVATE KEY)")]
    Pem,
    /// Not an RSA key of 2,048 bits or more.
    #[error("the key file's `private_key` is no RSA key of 2,048 to 4,096 bits: {0}")]
    Key(String),
}

/// Why an answer holds no token.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AnswerError {
    /// The account is not accepted: asking again changes nothing soon.
    #[error("the service account was refused ({status}): {reason}")]
    Refused {
        /// The HTTP status.
        status: u16,
        /// Google's `error` and `error_description`, shortened.
        reason: String,
    },
    /// The endpoint failed: asking again may help.
    #[error("the token endpoint failed with status {status}")]
    Unavailable {
        /// The HTTP status.
        status: u16,
    },
    /// A success without a token.
    #[error("the token endpoint's answer holds no bearer token")]
    Malformed,
}

impl ServiceAccount {
    /// Reads the key file that Google's console downloads.
    ///
    /// # Errors
    /// [`ServiceAccountError`]; none of them shows anything of the key.
    pub fn from_json(text: &str) -> Result<Self, ServiceAccountError> {
        Self::read(text, Reach::Public)
    }

    /// As [`from_json`](Self::from_json). Where the operator vouches for every address, the
    /// token endpoint may be one without TLS: an emulator's, or a proxy's.
    ///
    /// # Errors
    /// [`ServiceAccountError`].
    pub fn read(text: &str, reach: Reach) -> Result<Self, ServiceAccountError> {
        #[derive(Deserialize)]
        struct KeyFile {
            #[serde(rename = "type")]
            kind: String,
            client_email: String,
            private_key: String,
            #[serde(default)]
            private_key_id: String,
            project_id: Option<String>,
            #[serde(default = "googles_token_uri")]
            token_uri: String,
        }
        if text.len() > KEY_FILE_BYTES_MAX {
            return Err(ServiceAccountError::TooLong);
        }
        let file: KeyFile = serde_json::from_str(text).map_err(ServiceAccountError::Shape)?;
        if file.kind != "service_account" {
            return Err(ServiceAccountError::Kind(shortened(&file.kind)));
        }
        let schemes: &[&str] = match reach {
            Reach::Public => &["https://"],
            Reach::Anywhere => &["https://", "http://"],
        };
        if !schemes.iter().any(|it| file.token_uri.starts_with(it)) {
            return Err(ServiceAccountError::TokenUri);
        }
        let private_key = Zeroizing::new(file.private_key);
        let key = pkcs8(&private_key).ok_or(ServiceAccountError::Pem)?;
        let key = RsaKeyPair::from_pkcs8(&key);
        Ok(Self {
            client_email: file.client_email,
            project_id: file.project_id,
            token_uri: file.token_uri,
            key_id: file.private_key_id,
            key: key.map_err(|error| ServiceAccountError::Key(error.to_string()))?,
        })
    }

    /// A request for a token with this scope (or several, with spaces between them), good from
    /// `now` on.
    pub fn request(&self, scope: &str, now: Timestamp) -> TokenRequest {
        // Neither part of the form needs encoding but the colons of the grant's name.
        const FORM: &str =
            "grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Ajwt-bearer&assertion=";
        let assertion = self.assertion(scope, now);
        TokenRequest {
            uri: self.token_uri.clone(),
            body: Redacted::new(Zeroizing::new([FORM, &assertion].concat())),
        }
    }

    /// `header.claims.signature`, each in base64.
    fn assertion(&self, scope: &str, now: Timestamp) -> Zeroizing<String> {
        #[derive(Serialize)]
        struct Header<'a> {
            alg: &'a str,
            typ: &'a str,
            #[serde(skip_serializing_if = "str::is_empty")]
            kid: &'a str,
        }
        #[derive(Serialize)]
        struct Claims<'a> {
            iss: &'a str,
            scope: &'a str,
            aud: &'a str,
            iat: i64,
            exp: i64,
        }
        let header = Header {
            alg: "RS256",
            typ: "JWT",
            kid: &self.key_id,
        };
        let claims = Claims {
            iss: &self.client_email,
            scope,
            aud: &self.token_uri,
            iat: now.as_seconds(),
            exp: now.plus(ASSERTION_LIFETIME).as_seconds(),
        };
        let mut assertion = Zeroizing::new(encoded(&header));
        assertion.push('.');
        assertion.push_str(&encoded(&claims));
        let mut signature = vec![0; self.key.public().modulus_len()];
        self.key
            .sign(
                &RSA_PKCS1_SHA256,
                &SystemRandom::new(),
                assertion.as_bytes(),
                &mut signature,
            )
            .expect("the signature has the modulus' length, and the system gives random bytes");
        assertion.push('.');
        URL_SAFE_NO_PAD.encode_string(signature, &mut assertion);
        assertion
    }
}

impl fmt::Debug for ServiceAccount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ServiceAccount({})", self.client_email)
    }
}

impl AccessToken {
    /// Reads the endpoint's answer to a request that was made at `asked`.
    ///
    /// # Errors
    /// [`AnswerError`].
    pub fn from_answer(answer: &ExchangeAnswer, asked: Timestamp) -> Result<Self, AnswerError> {
        #[derive(Deserialize)]
        struct Granted {
            access_token: String,
            expires_in: u32,
            token_type: String,
        }
        let body = answer.body.expose();
        let body = &body[..body.len().min(ANSWER_BYTES_MAX)];
        let status = answer.status;
        match status {
            200 => {}
            408 | 429 | 500.. => return Err(AnswerError::Unavailable { status }),
            _ => {
                let reason = refusal(body);
                return Err(AnswerError::Refused { status, reason });
            }
        }
        let granted: Granted = serde_json::from_slice(body).map_err(|_| AnswerError::Malformed)?;
        // What goes into a header must be one visible word.
        let is_word = granted
            .access_token
            .bytes()
            .all(|byte| byte.is_ascii_graphic());
        if !granted.token_type.eq_ignore_ascii_case("bearer")
            || granted.access_token.is_empty()
            || !is_word
        {
            return Err(AnswerError::Malformed);
        }
        Ok(Self {
            token: Redacted::new(Zeroizing::new(granted.access_token)),
            expires: asked.plus(Duration::from_secs(granted.expires_in.into())),
        })
    }
}

/// `invalid_grant: Invalid JWT Signature.`
fn refusal(body: &[u8]) -> String {
    #[derive(Deserialize, Default)]
    struct Refusal {
        #[serde(default)]
        error: String,
        #[serde(default)]
        error_description: String,
    }
    let Refusal {
        error,
        error_description,
    } = serde_json::from_slice(body).unwrap_or_default();
    let reason = format!("{error}: {error_description}");
    shortened(reason.trim_matches([':', ' ']))
}

/// The first 200 bytes, without control characters.
fn shortened(text: &str) -> String {
    let text = &text[..text.floor_char_boundary(200)];
    text.replace(char::is_control, " ")
}

fn googles_token_uri() -> String {
    "https://oauth2.googleapis.com/token".to_owned()
}

/// The bytes between the lines of a PEM text.
fn pkcs8(pem: &str) -> Option<Zeroizing<Vec<u8>>> {
    let (_, rest) = pem.split_once("-----BEGIN PRIVATE KEY-----")?;
    let (inner, _) = rest.split_once("-----END PRIVATE KEY-----")?;
    let mut text = Zeroizing::new(String::with_capacity(inner.len()));
    text.extend(inner.split_ascii_whitespace());
    let mut key = Zeroizing::new(Vec::with_capacity(text.len()));
    STANDARD.decode_vec(text.as_bytes(), &mut key).ok()?;
    Some(key)
}

fn encoded(part: &impl Serialize) -> String {
    let text = serde_json::to_vec(part).expect("texts and integers always have a JSON form");
    URL_SAFE_NO_PAD.encode(text)
}

#[cfg(test)]
mod tests {
    use ring::signature::{RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey};
    use serde_json::{Value, json};

    use super::*;

    /// A key made for these tests, of an account that does not exist.
    const KEY_FILE: &str = include_str!("testdata/google_service_account.json");
    const PUBLIC_KEY: &[u8] = include_bytes!("testdata/google_service_account.public.der");
    const NOW: Timestamp = Timestamp::from_micros(1_700_000_000_900_000);

    #[test]
    fn an_assertion_says_who_what_and_until_when() {
        let account = ServiceAccount::from_json(KEY_FILE).unwrap();
        let request = account.request(CLOUD_PLATFORM_SCOPE, NOW);
        assert_eq!(request.uri, "https://oauth2.googleapis.com/token");
        let body = request.body.expose();
        let assertion = body
            .strip_prefix(
                "grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Ajwt-bearer&assertion=",
            )
            .unwrap();
        let (signed, signature) = assertion.rsplit_once('.').unwrap();
        let (header, claims) = signed.split_once('.').unwrap();
        let read = |part: &str| -> Value {
            serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap()
        };
        assert_eq!(
            read(header),
            json!({"alg": "RS256", "typ": "JWT", "kid": "0123456789abcdef"})
        );
        assert_eq!(
            read(claims),
            json!({
                "iss": "tests@example-project.iam.gserviceaccount.com",
                "scope": "https://www.googleapis.com/auth/cloud-platform",
                "aud": "https://oauth2.googleapis.com/token",
                "iat": 1_700_000_000, "exp": 1_700_003_600,
            })
        );
        let signature = URL_SAFE_NO_PAD.decode(signature).unwrap();
        UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, PUBLIC_KEY)
            .verify(signed.as_bytes(), &signature)
            .unwrap();
        assert!(!format!("{account:?} {request:?}").contains("assertion="));
    }

    #[test]
    fn a_wrong_key_file_is_refused_without_being_shown() {
        let changed = |name: &str, value: &str| {
            let mut file: Value = serde_json::from_str(KEY_FILE).unwrap();
            file[name] = value.into();
            ServiceAccount::from_json(&file.to_string()).unwrap_err()
        };
        use ServiceAccountError as Error;
        assert!(matches!(changed("type", "authorized_user"), Error::Kind(_)));
        assert!(matches!(changed("private_key", "x"), Error::Pem));
        assert!(matches!(
            changed("token_uri", "http://169.254.169.254/"),
            Error::TokenUri
        ));
        let no_key = "-----BEGIN PRIVATE KEY-----\nc2VjcmV0\n-----END PRIVATE KEY-----";
        let error = changed("private_key", no_key);
        assert!(matches!(error, Error::Key(_)));
        assert!(!error.to_string().contains("c2VjcmV0"));
        assert!(matches!(
            ServiceAccount::from_json("{}"),
            Err(Error::Shape(_))
        ));
        let long = " ".repeat(KEY_FILE_BYTES_MAX + 1);
        assert!(matches!(
            ServiceAccount::from_json(&long),
            Err(Error::TooLong)
        ));
    }

    fn read(status: u16, body: &str) -> Result<AccessToken, AnswerError> {
        let body = Redacted::new(Zeroizing::new(body.as_bytes().to_vec()));
        AccessToken::from_answer(&ExchangeAnswer { status, body }, NOW)
    }

    #[test]
    fn answers_are_read() {
        let good = r#"{"access_token":"ya29.x","expires_in":3599,"token_type":"Bearer"}"#;
        let token = read(200, good).unwrap();
        assert_eq!(token.token.expose().as_str(), "ya29.x");
        assert_eq!(token.expires, NOW.plus(Duration::from_secs(3599)));

        let refused = r#"{"error":"invalid_grant","error_description":"Invalid JWT\nSignature."}"#;
        assert_eq!(
            read(400, refused),
            Err(AnswerError::Refused {
                status: 400,
                reason: "invalid_grant: Invalid JWT Signature.".to_owned()
            })
        );
        for status in [429, 500, 503] {
            let expected = AnswerError::Unavailable { status };
            assert_eq!(read(status, good), Err(expected));
        }
        for bad in [
            "",
            "{}",
            r#"{"access_token":"","expires_in":1,"token_type":"Bearer"}"#,
            r#"{"access_token":"a\r\nb: c","expires_in":1,"token_type":"Bearer"}"#,
            r#"{"access_token":"x","expires_in":1,"token_type":"mac"}"#,
            r#"{"access_token":"x","expires_in":-1,"token_type":"Bearer"}"#,
        ] {
            assert_eq!(read(200, bad), Err(AnswerError::Malformed), "{bad}");
        }
    }
}
