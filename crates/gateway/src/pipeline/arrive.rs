//! Stage 0, arrive: a request within bounds, with a deadline, its configuration and its place in
//! the table of endpoints.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use base::Timestamp;
use bytes::Bytes;
use http::header::{CONTENT_LENGTH, TRANSFER_ENCODING};
use http::request::Parts;
use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use models::{Dialect, InvalidRequest, ModelEntry, Operation, model_json, models_json};

use super::answer::AnswerBody;
use super::anthropic::{self, ANTHROPIC_VERSION};
use super::trail::{Trail, json_answer};
use crate::configuration::Configuration;
use crate::endpoint::{Access, Endpoint, EndpointRow};
use crate::refusal::Refusal;
use crate::server::ClientConnection;
use crate::shared::Shared;
use crate::speech::dialect_of;

/// A request that matched an endpoint. Its configuration stays the same to its end.
pub(super) struct Arrived {
    pub(super) shared: Arc<Shared>,
    pub(super) configuration: Arc<Configuration>,
    row: &'static EndpointRow,
    pub(super) head: Parts,
    pub(super) body: Incoming,
    pub(super) connection: Arc<ClientConnection>,
    pub(super) at: Timestamp,
}

/// A request that calls a model.
pub(super) struct ArrivedCall {
    _made_here: (),
    pub(super) arrived: Box<Arrived>,
    pub(super) operation: Operation,
}

/// Where a request went.
pub(super) enum Routed {
    /// It is answered already.
    Answered(Response<AnswerBody>),
    /// It calls a model.
    Call(ArrivedCall),
}

impl Arrived {
    /// Finds the endpoint and takes the configuration.
    pub(super) fn new(
        shared: Arc<Shared>,
        request: Request<Incoming>,
        connection: Arc<ClientConnection>,
    ) -> Result<Box<Self>, Refusal> {
        let (head, body) = request.into_parts();
        // hyper refuses most of these; which of two lengths holds is nothing to guess about.
        let lengths = head.headers.get_all(CONTENT_LENGTH).iter().count();
        if lengths > 1 || (lengths == 1 && head.headers.contains_key(TRANSFER_ENCODING)) {
            return Err(Refusal::Invalid(InvalidRequest::new(
                "the request has two lengths: send `content-length` or `transfer-encoding`, once",
                CONTENT_LENGTH.as_str(),
                "invalid_header",
            )));
        }
        let row =
            EndpointRow::matching(&head.method, head.uri.path()).ok_or(Refusal::NoSuchEndpoint)?;
        if let Some(fence) = &shared.fence
            && row.access == Access::Credential
            && !fence.is_open()
        {
            return Err(Refusal::Detached);
        }
        let configuration = shared.configuration.load_full();
        let at = shared.clock.now();
        // Half a kilobyte that goes through four stages: as a pointer.
        Ok(Box::new(Self {
            shared,
            configuration,
            row,
            head,
            body,
            connection,
            at,
        }))
    }

    /// Answers what needs no model; a call of a model goes on.
    pub(super) async fn answer_directly(
        self: Box<Self>,
        trail: &mut Trail,
    ) -> Result<Routed, Refusal> {
        if let Endpoint::Call(operation) = self.row.endpoint {
            trail.dialect = dialect_of(operation);
            return Ok(Routed::Call(ArrivedCall {
                _made_here: (),
                arrived: self,
                operation,
            }));
        }
        // On the heap, where it takes no room in the future of every call.
        let answer = Box::pin(self.answer(trail)).await?;
        Ok(Routed::Answered(answer))
    }

    async fn answer(self: Box<Self>, trail: &mut Trail) -> Result<Response<AnswerBody>, Refusal> {
        let access = self.row.access;
        let body = match self.row.endpoint {
            Endpoint::Call(_) => return Err(Refusal::NoSuchEndpoint),
            Endpoint::Models => self.models(trail)?,
            Endpoint::Model => self.model(trail)?,
            Endpoint::Response => {
                let rest = self.rest();
                self.stored(&rest, trail).await?
            }
            Endpoint::DeleteResponse => {
                let rest = self.rest();
                self.unstore(&rest, trail).await?
            }
            Endpoint::CreateConversation
            | Endpoint::Conversation
            | Endpoint::ChangeConversation
            | Endpoint::DeleteConversation
            | Endpoint::ConversationItems
            | Endpoint::AddConversationItems
            | Endpoint::ConversationItem
            | Endpoint::DeleteConversationItem => self.answer_conversation(trail).await?,
            Endpoint::Token => self.exchange(trail).await?,
            Endpoint::KeySet => self.shared.token_keys.load().key_set_json().into(),
            Endpoint::Health => Bytes::from_static(br#"{"status":"ok"}"#),
            Endpoint::Ready => self.readiness()?,
        };
        let mut answer = json_answer(StatusCode::OK, body);
        trail.name_request(answer.headers_mut());
        match access {
            Access::Credential => trail.end(StatusCode::OK, "completed", None),
            Access::Public => trail.forget(),
        }
        Ok(answer)
    }

    async fn answer_conversation(self: Box<Self>, trail: &mut Trail) -> Result<Bytes, Refusal> {
        let names = self.row.names(self.head.uri.path()).unwrap_or_default();
        let (id, item) = (names.0.to_owned(), names.1.to_owned());
        match self.row.endpoint {
            Endpoint::CreateConversation => self.create_conversation(trail).await,
            Endpoint::Conversation => self.conversation(&id, trail).await,
            Endpoint::ChangeConversation => self.change_conversation(&id, trail).await,
            Endpoint::DeleteConversation => self.delete_conversation(&id, trail).await,
            Endpoint::ConversationItems => self.conversation_items(&id, trail).await,
            Endpoint::AddConversationItems => self.add_conversation_items(&id, trail).await,
            Endpoint::ConversationItem => self.conversation_item(&id, &item, trail).await,
            Endpoint::DeleteConversationItem => {
                self.delete_conversation_item(&id, &item, trail).await
            }
            _ => Err(Refusal::NoSuchEndpoint),
        }
    }

    /// What stands in the place of `*` in the path.
    fn rest(&self) -> String {
        let rest = self.row.rest(self.head.uri.path());
        rest.unwrap_or_default().to_owned()
    }

    fn readiness(&self) -> Result<Bytes, Refusal> {
        if self.shared.is_draining.load(Ordering::Relaxed) {
            Err(Refusal::Overloaded)
        } else if self
            .shared
            .fence
            .as_ref()
            .is_some_and(|fence| !fence.is_open())
        {
            Err(Refusal::Detached)
        } else if !self.shared.journal.is_accepting() {
            Err(Refusal::NotDurable)
        } else {
            Ok(Bytes::from_static(br#"{"status":"ready"}"#))
        }
    }

    fn models(self: Box<Self>, trail: &mut Trail) -> Result<Bytes, Refusal> {
        self.note_dialect(trail);
        let query = self.head.uri.query().unwrap_or_default().to_owned();
        let configuration = Arc::clone(&self.configuration);
        let resolved = self.authenticate()?.resolve_tenant(trail)?;
        let mut entries: Vec<ModelEntry> = configuration
            .routes_of(resolved.tenant())
            .filter(|route| resolved.may_call(&route.model))
            // The tenant's own names come first.
            .filter(|route| resolved.tenant().adapter(route.model.as_str()).is_none())
            .map(|route| named(&route.model))
            .collect();
        entries.extend(resolved.adapters().map(|name| named(&name)));
        entries.sort_by(|one, other| one.id.cmp(&other.id));
        match trail.dialect {
            Dialect::Anthropic => anthropic::models_json(&entries, &query),
            _ => Ok(models_json(&entries)),
        }
    }

    /// The list of models has one address in both dialects: who asks is told by a header.
    fn note_dialect(&self, trail: &mut Trail) {
        if self.head.headers.contains_key(ANTHROPIC_VERSION) {
            trail.dialect = Dialect::Anthropic;
        }
    }

    fn model(self: Box<Self>, trail: &mut Trail) -> Result<Bytes, Refusal> {
        self.note_dialect(trail);
        let name = self
            .row
            .rest(self.head.uri.path())
            .unwrap_or_default()
            // SDKs escape the slash, and nothing else that a model's name may have needs it.
            .replace("%2F", "/");
        let configuration = Arc::clone(&self.configuration);
        let resolved = self.authenticate()?.resolve_tenant(trail)?;
        let name: base::ModelName = name.parse().map_err(|_| Refusal::NoSuchEndpoint)?;
        let route = configuration.route(name.as_str(), resolved.tenant());
        let is_there = match resolved.tenant().adapter(name.as_str()) {
            Some(_) => resolved.adapters().any(|adapter| adapter == name),
            None => route.is_some_and(|route| resolved.may_call(&route.model)),
        };
        match (is_there, trail.dialect) {
            (false, _) => Err(Refusal::NoSuchModel(name)),
            (true, Dialect::Anthropic) => Ok(anthropic::model_json(&named(&name))),
            (true, _) => Ok(model_json(&named(&name))),
        }
    }
}

fn named(model: &base::ModelName) -> ModelEntry {
    ModelEntry {
        id: model.clone(),
        created_s: 0,
        owned_by: "partywall".to_owned(),
    }
}
