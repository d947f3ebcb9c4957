//! Everything a client can be told went wrong. Nothing else reaches a client, and none of it
//! prints its source.

use std::time::Duration;

use base::{ModelName, Name};
use bytes::Bytes;
use models::{BodyError, Dialect, InvalidRequest, Untranslatable, WireError};

/// Why a call was refused or failed, as the client may know it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// No such path or method.
    NoSuchEndpoint,
    /// No credential, or one that is not good; which of the two is not said.
    Unauthenticated(&'static str),
    /// The key may not do this.
    Forbidden(&'static str),
    /// The request is not well-formed.
    Invalid(InvalidRequest),
    /// The body is larger than the tier allows.
    TooLarge {
        /// In bytes.
        limit: u64,
    },
    /// A guardrail of the tenant's refuses it. What was found is not said.
    ContentBlocked {
        /// `the request`, or `the model's answer`.
        what: &'static str,
        /// The guardrail.
        guardrail: Name,
        /// Its check.
        check: Name,
    },
    /// A guardrail that refuses what it cannot check could not check it.
    CheckFailed {
        /// The guardrail.
        guardrail: Name,
        /// Its check.
        check: Name,
    },
    /// The body did not arrive in time.
    BodyTooSlow,
    /// The model does not exist for this caller.
    NoSuchModel(ModelName),
    /// The response does not exist for this caller.
    NoSuchResponse(String),
    /// The prompt, or that version of it, does not exist for this caller.
    NoSuchPrompt(String),
    /// The conversation does not exist for this caller.
    NoSuchConversation(String),
    /// The item, or its conversation, does not exist for this caller.
    NoSuchConversationItem {
        /// The conversation's id.
        conversation: String,
        /// The item's.
        item: String,
    },
    /// The tenant's conversations, or this one, have as much in them as they may.
    ConversationsFull,
    /// The operator has not said what the model costs.
    Unpriced(ModelName),
    /// Something in the request has no bound on its cost.
    Unboundable(&'static str),
    /// A rate or concurrency limit; when it would fit.
    RateLimited {
        /// Which: `requests`, `tokens` or `concurrency`.
        what: &'static str,
        /// When the same call would be admitted, if ever.
        retry_after: Option<Duration>,
    },
    /// The budget of this name is spent.
    OverBudget {
        /// The budget's name.
        budget: String,
        /// What it is for.
        subject: String,
        /// Calls, rather than money, ran out.
        calls: bool,
    },
    /// Live calls hold what is left of the budget, and did not settle in time.
    BudgetBusy,
    /// This replica's share of a budget is used up, and who could give it more cannot be reached.
    BudgetUnreachable,
    /// The same idempotency key came with another body.
    IdempotencyMismatch,
    /// The first call with this idempotency key is still under way.
    IdempotencyInProgress,
    /// Nobody knows how the first call with this idempotency key ended.
    IdempotencyUnknown,
    /// The process has as much in flight as it may.
    Overloaded,
    /// A replica that has not heard from the others for too long.
    Detached,
    /// No upstream of the model has what the endpoint is for.
    NoSuchOperation(ModelName, &'static str),
    /// The upstream has no free place.
    UpstreamBusy {
        /// When to come back, if it said so.
        retry_after: Option<Duration>,
    },
    /// So many of the tenant's own calls wait for the upstream that no more may.
    QueueFull {
        /// When to come back.
        retry_after: Duration,
    },
    /// The engine could not load the tenant's adapter.
    AdapterFailed {
        /// The tenant's name for it.
        model: ModelName,
        /// When it is tried again.
        retry_after: Duration,
    },
    /// No slot of an engine was free for the tenant's adapter in time.
    AdapterBusy {
        /// The tenant's name for it.
        model: ModelName,
    },
    /// Calls of every upstream of the model fail, so none is made.
    UpstreamDown {
        /// When the next one may try.
        retry_after: Duration,
    },
    /// The upstream refused the request as such; its own words, for its client.
    UpstreamRefused {
        /// Its status: 400, 404, 413, 422.
        status: u16,
        /// Its message.
        message: String,
    },
    /// The upstream failed.
    UpstreamFailed,
    /// The upstream did not answer in time.
    UpstreamTimedOut,
    /// Paid work cannot be recorded now, so none is done.
    NotDurable,
    /// What is kept of the tenant cannot be read or written now.
    StoreUnavailable,
    /// No token was issued; the OAuth code, and why.
    TokenExchange(&'static str, String),
    /// A bug or a broken part of ours.
    Internal,
}

/// Whether a client that retries by itself should.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retry {
    /// As it sees fit by the status.
    ByStatus,
    /// Not before this.
    After(Duration),
    /// It cannot help.
    Never,
}

impl From<InvalidRequest> for Refusal {
    fn from(invalid: InvalidRequest) -> Self {
        Self::Invalid(invalid)
    }
}

impl From<Untranslatable> for Refusal {
    fn from(error: Untranslatable) -> Self {
        Self::Invalid(error.into())
    }
}

impl From<BodyError> for Refusal {
    fn from(error: BodyError) -> Self {
        let wire = models::WireError::from(error);
        Self::Invalid(InvalidRequest {
            message: wire.message,
            param: wire.param,
            code: wire.code.unwrap_or("invalid_request"),
        })
    }
}

/// Why what is kept of a tenant could not be read or written, as its clients are told.
impl From<&store::StoreError> for Refusal {
    fn from(error: &store::StoreError) -> Self {
        match error.is_passing() {
            true => Self::StoreUnavailable,
            false => Self::Internal,
        }
    }
}

impl Refusal {
    /// What a client that retries by itself should do.
    pub fn retry(&self) -> Retry {
        match self {
            Self::RateLimited {
                retry_after: Some(after),
                ..
            } => Retry::After(*after),
            Self::RateLimited {
                retry_after: None, ..
            }
            | Self::OverBudget { .. }
            | Self::Unpriced(_)
            | Self::Unboundable(_)
            | Self::ContentBlocked { .. }
            | Self::IdempotencyMismatch
            | Self::IdempotencyUnknown => Retry::Never,
            Self::BudgetBusy
            | Self::Overloaded
            | Self::Detached
            | Self::NotDurable
            | Self::StoreUnavailable
            | Self::AdapterBusy { .. }
            | Self::IdempotencyInProgress => Retry::After(Duration::from_secs(1)),
            // The coordinator is tried again each second.
            Self::BudgetUnreachable => Retry::After(Duration::from_secs(2)),
            Self::QueueFull { retry_after }
            | Self::UpstreamDown { retry_after }
            | Self::AdapterFailed { retry_after, .. } => Retry::After(*retry_after),
            Self::UpstreamBusy { retry_after } => {
                Retry::After(retry_after.unwrap_or(Duration::from_secs(1)))
            }
            _ => Retry::ByStatus,
        }
    }

    /// Whether it says that money, limits or places are used up for now: then it is worth knowing
    /// to whoever called, even if it was a hop of theirs that met it.
    pub fn is_about_room(&self) -> bool {
        matches!(
            self,
            Self::RateLimited { .. }
                | Self::OverBudget { .. }
                | Self::BudgetBusy
                | Self::BudgetUnreachable
                | Self::Overloaded
                | Self::Detached
                | Self::UpstreamBusy { .. }
                | Self::QueueFull { .. }
                | Self::UpstreamDown { .. }
                | Self::NotDurable
        )
    }

    /// The error's status, type and code for logs and metrics: a closed set.
    pub fn code(&self) -> &'static str {
        self.parts().2
    }

    /// The status.
    ///
    /// # Panics
    ///
    /// Never: all are real statuses, of this file or of an upstream's answer.
    pub fn status(&self) -> http::StatusCode {
        http::StatusCode::from_u16(self.parts().0).expect("refusals have real statuses")
    }

    /// Status, type and code, as OpenAI's clients know them.
    fn parts(&self) -> (u16, &'static str, &'static str) {
        const INVALID: &str = "invalid_request_error";
        match self {
            Self::NoSuchEndpoint => (404, INVALID, "unknown_url"),
            Self::Unauthenticated(_) => (401, INVALID, "invalid_api_key"),
            Self::Forbidden(_) => (403, "permission_error", "insufficient_permissions"),
            Self::Invalid(invalid) => (400, INVALID, invalid.code),
            Self::TooLarge { .. } => (413, INVALID, "request_too_large"),
            Self::ContentBlocked { .. } => (400, INVALID, "content_blocked"),
            Self::CheckFailed { .. } => (503, "api_error", "guardrail_failed"),
            Self::BodyTooSlow => (408, INVALID, "request_timeout"),
            Self::NoSuchModel(_) => (404, INVALID, "model_not_found"),
            Self::NoSuchResponse(_) => (404, INVALID, "response_not_found"),
            Self::NoSuchPrompt(_) => (404, INVALID, "prompt_not_found"),
            Self::NoSuchConversation(_) => (404, INVALID, "conversation_not_found"),
            Self::NoSuchConversationItem { .. } => (404, INVALID, "item_not_found"),
            Self::ConversationsFull => (400, INVALID, "conversation_storage_full"),
            Self::NoSuchOperation(..) => (400, INVALID, "unsupported_operation"),
            Self::Unpriced(_) => (403, "permission_error", "model_not_priced"),
            Self::Unboundable(_) => (400, INVALID, "cost_unbounded"),
            Self::RateLimited { what, .. } => (429, what, "rate_limit_exceeded"),
            Self::OverBudget { .. } => (429, "insufficient_quota", "insufficient_quota"),
            Self::BudgetUnreachable => (503, "api_error", "budget_unreachable"),
            Self::BudgetBusy => (429, "budget_busy", "budget_held_by_live_calls"),
            Self::IdempotencyMismatch => (422, INVALID, "idempotency_key_reused"),
            Self::IdempotencyInProgress => (409, INVALID, "idempotency_key_in_progress"),
            Self::IdempotencyUnknown => (422, INVALID, "idempotency_outcome_unknown"),
            Self::Overloaded => (503, "overloaded_error", "gateway_overloaded"),
            Self::Detached => (503, "api_error", "replica_detached"),
            Self::UpstreamBusy { .. } => (429, "overloaded_error", "upstream_busy"),
            Self::QueueFull { .. } => (429, "concurrency", "queue_full"),
            Self::UpstreamDown { .. } => (503, "api_error", "upstream_down"),
            Self::AdapterFailed { .. } => (503, "api_error", "adapter_failed"),
            Self::AdapterBusy { .. } => (503, "overloaded_error", "adapter_busy"),
            Self::UpstreamRefused { status, .. } => (*status, INVALID, "upstream_refused"),
            Self::UpstreamFailed => (502, "api_error", "upstream_failed"),
            Self::UpstreamTimedOut => (504, "api_error", "upstream_timeout"),
            Self::NotDurable => (503, "api_error", "journal_unavailable"),
            Self::StoreUnavailable => (503, "api_error", "store_unavailable"),
            Self::TokenExchange(code, _) => (400, INVALID, code),
            Self::Internal => (500, "api_error", "internal_error"),
        }
    }

    fn message(&self) -> String {
        match self {
            Self::NoSuchEndpoint => "there is no such endpoint; see GET /v1/models and the API reference".into(),
            Self::Unauthenticated(what) | Self::Forbidden(what) => (*what).into(),
            Self::Invalid(invalid) => invalid.message.clone(),
            Self::TooLarge { limit } => format!("the request body is larger than {limit} bytes"),
            Self::ContentBlocked { what, guardrail, check } => {
                format!("{what} was blocked by the guardrail `{guardrail}`, check `{check}`")
            }
            Self::CheckFailed { guardrail, check } => format!(
                "the check `{check}` of the guardrail `{guardrail}` could not be made, and it refuses what it cannot check; try again later"
            ),
            Self::BodyTooSlow => "the request body did not arrive in time".into(),
            Self::NoSuchModel(model) => {
                format!("the model `{model}` does not exist or you do not have access to it")
            }
            Self::NoSuchResponse(id) => format!("Response with id '{id}' not found."),
            Self::NoSuchPrompt(name) => format!("there is no prompt `{name}`"),
            Self::NoSuchConversation(id) => format!("Conversation with id '{id}' not found."),
            Self::NoSuchConversationItem { conversation, item } => {
                format!("Item with id '{item}' not found in conversation '{conversation}'.")
            }
            Self::ConversationsFull => {
                let most = store::ConversationBounds::default();
                format!(
                    "there is no room for more: a conversation has up to {} items, and a tenant up to {} conversations of {} bytes in all; delete some",
                    most.items_max, most.count_max, most.bytes_max
                )
            }
            Self::NoSuchOperation(model, what) => {
                format!("no upstream of the model `{model}` has {what}: use a model whose provider has it")
            }
            Self::Unpriced(model) => format!(
                "the model `{model}` has no price, so its cost cannot be bounded; ask the operator to set one"
            ),
            Self::Unboundable(what) => format!("{what} cannot be bounded in cost, and a budget applies"),
            Self::RateLimited { what, retry_after: Some(after) } => {
                format!("the limit on {what} is reached; try again in {} ms", after.as_millis())
            }
            Self::RateLimited { what, retry_after: None } => {
                format!("the call alone is larger than the limit on {what}: it can never fit")
            }
            Self::OverBudget { budget, subject, calls: false } => {
                format!("the budget `{budget}` of {subject} is exhausted")
            }
            Self::OverBudget { budget, subject, calls: true } => {
                format!("the budget `{budget}` of {subject} allows no further call")
            }
            Self::BudgetBusy => {
                "calls under way hold what is left of a budget; try again when they have ended".into()
            }
            Self::BudgetUnreachable => {
                "the budget's coordinator is not reachable, and this replica's share of the budget is used up; try again shortly".into()
            }
            Self::IdempotencyMismatch => {
                "this idempotency key was used with another request; use a new key".into()
            }
            Self::IdempotencyInProgress => {
                "the first request with this idempotency key is still under way".into()
            }
            Self::IdempotencyUnknown => {
                "the first request with this idempotency key did not finish, or its answer was too large to keep; use a new key".into()
            }
            Self::Overloaded => "the gateway has as much in flight as it may; try again shortly".into(),
            Self::Detached => "this replica has not heard from the catalogue for too long, and cannot tell who may call any more; another replica may answer".into(),
            Self::UpstreamBusy { .. } => "the model's servers are busy; try again shortly".into(),
            Self::QueueFull { .. } => {
                "too many of your own calls wait for the model's servers; try again later".into()
            }
            Self::AdapterFailed { model, retry_after } => format!(
                "the adapter `{model}` could not be loaded: its files may be missing, or be for another model; it is tried again in {} ms",
                retry_after.as_millis()
            ),
            Self::AdapterBusy { model } => format!(
                "the adapter `{model}` is still being loaded, or waits for others to be done; try again shortly"
            ),
            Self::UpstreamDown { retry_after } => format!(
                "calls of the model's servers fail, so none is made; try again in {} ms",
                retry_after.as_millis()
            ),
            Self::UpstreamRefused { message, .. } => message.clone(),
            Self::UpstreamFailed => "the model's server failed".into(),
            Self::UpstreamTimedOut => "the model's server did not answer in time".into(),
            Self::NotDurable => {
                "usage cannot be recorded at the moment, so no call is made; try again shortly".into()
            }
            Self::StoreUnavailable => {
                "what is kept for you cannot be reached at the moment; try again shortly".into()
            }
            Self::TokenExchange(_, why) => why.clone(),
            Self::Internal => "an internal error; it has been logged".into(),
        }
    }

    /// The status, and the body that the endpoint's clients expect: OAuth's for a token
    /// exchange (RFC 6749, section 5.2), that of the dialect they speak for all others.
    pub fn to_answer(&self, dialect: Dialect, request_id: &str) -> (u16, Bytes) {
        match self {
            Self::TokenExchange(code, why) => {
                let body = serde_json::json!({"error": code, "error_description": why});
                (400, body.to_string().into())
            }
            _ => {
                let wire = self.to_wire();
                let body = dialect.error_body(&wire, Some(request_id));
                (dialect.error_status(&wire), body)
            }
        }
    }

    /// The error as OpenAI's clients expect it.
    pub fn to_wire(&self) -> WireError {
        let (status, kind, code) = self.parts();
        let error = WireError::new(status, kind, self.message()).with_code(code);
        match self {
            Self::Invalid(InvalidRequest {
                param: Some(param), ..
            }) => error.with_param(param.clone()),
            Self::NoSuchModel(_)
            | Self::NoSuchOperation(..)
            | Self::Unpriced(_)
            | Self::AdapterFailed { .. }
            | Self::AdapterBusy { .. } => error.with_param("model"),
            _ => error,
        }
    }
}
