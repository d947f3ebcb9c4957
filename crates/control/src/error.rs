//! What a client reads when it is refused. It never prints its source.

use std::error::Error;

use axum::http::header::{RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use store::{AuditError, CatalogueError, MoveError, StoreError};
use tenancy::ActForError;

use crate::api::{ErrorDetail, ErrorReply, ProblemView};

/// Why a call of the admin API was refused.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ApiError {
    /// No credential, or none that is good. One answer for all: it is no oracle.
    #[error("a valid key is needed: `authorization: Bearer …`")]
    Unauthenticated,
    /// Absent, or somebody else's: a tenant cannot tell.
    #[error("there is nothing here")]
    NotFound,
    /// An operator's role is too low.
    #[error("your role does not allow this")]
    Forbidden,
    /// The request itself is wrong.
    #[error("{message}")]
    Invalid {
        /// What is wrong, and what would be right.
        message: String,
        /// Where.
        param: Option<String>,
    },
    /// The configuration that would come of it is wrong.
    #[error("nothing was changed: {} problem(s)", problems.len())]
    Problems {
        /// All of it.
        problems: Vec<ProblemView>,
    },
    /// It does not fit what there is.
    #[error("{message}")]
    Conflict {
        /// What is in the way.
        message: String,
    },
    /// `if-match` names another state.
    #[error("it has changed since you read it: read it again")]
    Changed,
    /// The body is too long.
    #[error("the body is longer than {bytes_max} bytes")]
    TooLarge {
        /// The bound.
        bytes_max: usize,
    },
    /// Too much at one time, or too slow.
    #[error("the admin API is busy: try again")]
    Busy,
    /// The process cannot serve yet, or not any more.
    #[error("not ready: {missing}")]
    NotReady {
        /// What is missing.
        missing: String,
    },
    /// A server that a tenant's data is on. Logged where the answer is made.
    #[error("{source}: try again, or look into the log")]
    Unavailable {
        /// Which, and that it cannot be used; its own causes are never shown.
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
    /// A bug, or storage that fails. Logged where the answer is made.
    #[error("something went wrong here: the log says what")]
    Internal {
        /// What; never shown.
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
}

impl ApiError {
    /// Something is wrong with the field or parameter `param`.
    pub(crate) fn of(param: &str, message: impl Into<String>) -> Self {
        Self::Invalid {
            message: message.into(),
            param: Some(param.to_owned()),
        }
    }

    /// Something is wrong with the request as a whole.
    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self::Invalid {
            message: message.into(),
            param: None,
        }
    }

    /// It does not fit what there is.
    pub(crate) fn conflict(message: impl Into<String>) -> Self {
        Self::Conflict {
            message: message.into(),
        }
    }

    /// A failure that is ours.
    pub(crate) fn internal(source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        let source = source.into();
        if is_server(source.as_ref()) {
            return Self::Unavailable { source };
        }
        Self::Internal { source }
    }

    pub(crate) fn status(&self) -> StatusCode {
        match self {
            Self::Unauthenticated => StatusCode::UNAUTHORIZED,
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::Forbidden => StatusCode::FORBIDDEN,
            Self::Invalid { .. } => StatusCode::BAD_REQUEST,
            Self::Problems { .. } => StatusCode::UNPROCESSABLE_ENTITY,
            Self::Conflict { .. } => StatusCode::CONFLICT,
            Self::Changed => StatusCode::PRECONDITION_FAILED,
            Self::TooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Busy | Self::NotReady { .. } | Self::Unavailable { .. } => {
                StatusCode::SERVICE_UNAVAILABLE
            }
            Self::Internal { .. } => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    fn class_and_code(&self) -> (&'static str, &'static str) {
        match self {
            Self::Unauthenticated => ("authentication_error", "invalid_api_key"),
            Self::NotFound => ("invalid_request_error", "not_found"),
            Self::Forbidden => ("permission_error", "forbidden"),
            Self::Invalid { .. } => ("invalid_request_error", "invalid_request"),
            Self::Problems { .. } => ("invalid_request_error", "invalid_configuration"),
            Self::Conflict { .. } => ("invalid_request_error", "conflict"),
            Self::Changed => ("invalid_request_error", "changed"),
            Self::TooLarge { .. } => ("invalid_request_error", "too_large"),
            Self::Busy => ("server_error", "busy"),
            Self::NotReady { .. } => ("server_error", "not_ready"),
            Self::Unavailable { .. } => ("server_error", "unavailable"),
            Self::Internal { .. } => ("server_error", "internal"),
        }
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        Self::internal(error)
    }
}

impl From<CatalogueError> for ApiError {
    fn from(error: CatalogueError) -> Self {
        Self::internal(error)
    }
}

/// Who looks into a tenant's data is put on record first, and the record is not there.
#[derive(Debug, thiserror::Error)]
#[error("the database that keeps the record of who looks cannot be reached")]
struct RecordUnreachable(#[source] ActForError);

impl From<ActForError> for ApiError {
    fn from(error: ActForError) -> Self {
        match error {
            ActForError::NotAllowed => Self::Forbidden,
            ActForError::Reason => Self::of("partywall-reason", error.to_string()),
            ActForError::Unrecorded(_) if is_server(&error) => Self::Unavailable {
                source: Box::new(RecordUnreachable(error)),
            },
            ActForError::Unrecorded(_) => Self::internal(error),
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        if let Self::Internal { source } | Self::Unavailable { source } = &self {
            tracing::error!(error = %chain(source.as_ref()), "an admin call failed");
        }
        let (class, code) = self.class_and_code();
        let (status, message) = (self.status(), self.to_string());
        let (param, details) = match self {
            Self::Invalid { param, .. } => (param, Vec::new()),
            Self::Problems { problems } => (None, problems),
            _ => (None, Vec::new()),
        };
        let error = ErrorDetail {
            message,
            r#type: class.to_owned(),
            param,
            code: Some(code.to_owned()),
            details,
        };
        let mut response = (status, axum::Json(ErrorReply { error })).into_response();
        if status == StatusCode::UNAUTHORIZED {
            let scheme = HeaderValue::from_static("Bearer");
            response.headers_mut().insert(WWW_AUTHENTICATE, scheme);
        }
        if status == StatusCode::SERVICE_UNAVAILABLE {
            response
                .headers_mut()
                .insert(RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}

/// Whether it is a server that cannot be used, whatever it was wanted for: a tenant's, or the
/// catalogue's where a record of who looked has to stand.
fn is_server(error: &(dyn Error + Send + Sync + 'static)) -> bool {
    let mut cause: Option<&(dyn Error + 'static)> = Some(error);
    std::iter::from_fn(|| {
        let this = cause?;
        cause = this.source();
        Some(this)
    })
    .any(|error| {
        let store = error.downcast_ref().is_some_and(StoreError::is_passing);
        let catalogue = error.downcast_ref().is_some_and(CatalogueError::is_passing);
        let audit = match error.downcast_ref() {
            Some(AuditError::Store(error)) => error.is_passing(),
            Some(AuditError::Catalogue(error)) => error.is_passing(),
            Some(AuditError::Database(error)) => error.is_disconnection(),
            _ => false,
        };
        let moving = match error.downcast_ref() {
            Some(MoveError::Store(error)) => error.is_passing(),
            _ => false,
        };
        store || catalogue || audit || moving
    })
}

/// An error and its causes, for the log.
pub fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_is_not_shown() {
        let error = ApiError::internal("disk 7 of rack 3 is on fire");
        assert!(!error.to_string().contains("disk"));
        assert!(chain(&error).contains("disk 7"));
    }

    #[test]
    fn a_record_that_is_out_of_reach_is_told_from_one_that_is_broken() {
        let name = || "main".parse().expect("a name");
        let recorded = |error: AuditError| {
            let unavailable = tenancy::AuditUnavailable {
                source: Box::new(error),
            };
            ApiError::from(ActForError::Unrecorded(unavailable))
        };
        let down = store::ServerError::Down { name: name() };
        let down = recorded(CatalogueError::Server(down).into());
        assert_eq!(down.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert!(down.to_string().contains("cannot be reached"), "{down}");
        let unknown = store::ServerError::Unknown { name: name() };
        for broken in [
            recorded(CatalogueError::Server(unknown).into()),
            recorded(AuditError::TooLong),
        ] {
            assert_eq!(broken.status(), StatusCode::INTERNAL_SERVER_ERROR);
        }
    }
}
