//! What went wrong with a call of the admin API, and what to do.

use control::api::ErrorReply;
use http::StatusCode;

/// Why there is no answer, or what the API refused.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ClientError {
    /// The address is none.
    #[error("`{url}` is no address of an admin API: write one such as http://127.0.0.1:8081")]
    BadUrl { url: String },
    /// The reason is no header's value.
    #[error("--reason takes visible ASCII characters on one line")]
    BadReason,
    /// Nobody listens there, or the way is blocked.
    #[error(
        "cannot reach the admin API at {url}: {cause}. Is `partywall serve` or `partywall \
         quickstart` running? Say where with --url or PARTYWALL_URL"
    )]
    Unreachable { url: String, cause: std::io::Error },
    /// It took too long.
    #[error("{url} did not answer within {seconds} s; what was asked may still have happened")]
    TimedOut { url: String, seconds: u64 },
    /// The connection ended in the middle.
    #[error("the connection to {url} broke: {cause}; what was asked may still have happened")]
    Broken { url: String, cause: hyper::Error },
    /// The answer was cut, or too long.
    #[error("the answer broke off, or has more than {bytes_max} bytes")]
    AnswerCut { bytes_max: usize },
    /// What was received could not be written.
    #[error("cannot write what was received: {0}")]
    NotKept(std::io::Error),
    /// What answered is not the admin API.
    #[error("the answer is not the admin API's: {cause}. Does --url name the admin address?")]
    NotTheApi { cause: serde_json::Error },
    /// The key file is there and cannot be read.
    #[error("cannot read the key from {}: {cause}", path.display())]
    KeyFile {
        path: std::path::PathBuf,
        cause: std::io::Error,
    },
    /// The API said no.
    #[error("{message}{}", advice(*status))]
    Refused { status: StatusCode, message: String },
}

impl ClientError {
    pub(super) fn refused(status: StatusCode, body: &[u8]) -> Self {
        let message = match serde_json::from_slice::<ErrorReply>(body) {
            Ok(ErrorReply { error }) => {
                error.details.iter().fold(error.message, |whole, detail| {
                    format!("{whole}\n  {}: {}", detail.address, detail.message)
                })
            }
            Err(_) => format!("the server answered {status}"),
        };
        Self::Refused { status, message }
    }
}

fn advice(status: StatusCode) -> &'static str {
    match status {
        StatusCode::UNAUTHORIZED => {
            "\nGive an operator's key by PARTYWALL_KEY, or the data folder that holds \
             `operator.key` by --data"
        }
        StatusCode::FORBIDDEN => "\nThe key's role does not allow this: use another key",
        // A conflict says itself what is in the way.
        StatusCode::PRECONDITION_FAILED => {
            "\nSomebody changed it in the meantime: look again, then repeat"
        }
        StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => "\nTry again shortly",
        _ => "",
    }
}
