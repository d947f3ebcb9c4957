//! One endpoint: its path, who may call it, what it reads and writes, and its handler, together.
//!
//! The schemas come from the handler's own types, so that the document cannot disagree with the
//! code; and a handler is reached through its endpoint alone, whose reach is checked first.

use std::future::Future;
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::Arc;

use axum::http::header::{CONTENT_TYPE, ETAG};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tenancy::catalogue::Spec;
use tenancy::{Permission, Snapshot, TenantEntry};

use crate::Control;
use crate::api::ResourceView;
use crate::billing::Document;
use crate::caller::Caller;
use crate::error::ApiError;
use crate::gates::Load;
use crate::given;

/// 1 MiB: a tenant's configuration with a long prompt is a tenth of it.
const BODY_BYTES: usize = 1 << 20;
/// 16 MiB: the public price map is 3 MiB, and 10,000 tenants with their keys are declared in a
/// few such bodies.
const LARGE_BODY_BYTES: usize = 16 << 20;

/// Who may call an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reach {
    /// Anybody. These are listed one by one in a test.
    Public,
    /// Operators whose role has the permission.
    Platform(Permission),
    /// Operators, and keys of the tenant in the path, whose role has the permission.
    Tenant(Permission),
}

/// How an endpoint's body is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reading {
    /// Before the handler, whole.
    Whole,
    /// By the handler, as it arrives: a tar archive.
    Archive,
}

/// An HTTP method that the admin API uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verb {
    /// Reads.
    Get,
    /// Does something.
    Post,
    /// Makes or replaces.
    Put,
    /// Removes.
    Delete,
}

impl Verb {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Delete => "DELETE",
        }
    }
}

/// A row of the route table.
pub(crate) struct Endpoint {
    pub(crate) verb: Verb,
    pub(crate) path: String,
    pub(crate) operation_id: String,
    pub(crate) summary: String,
    pub(crate) reach: Reach,
    pub(crate) body_bytes_max: usize,
    pub(crate) reading: Reading,
    pub(crate) describe: fn(&mut SchemaGenerator) -> Description,
    pub(crate) handler: Handler,
}

type Answering = Pin<Box<dyn Future<Output = Result<Response, ApiError>> + Send>>;
pub(crate) type Handler = Arc<dyn Fn(Arc<Control>, RawCall) -> Answering + Send + Sync>;

/// What an endpoint reads and writes.
pub(crate) struct Description {
    pub(crate) query: Option<Schema>,
    pub(crate) body: Option<Schema>,
    pub(crate) status: StatusCode,
    pub(crate) answer: Option<(&'static str, Schema)>,
}

/// A call that is authenticated and allowed, unread.
pub(crate) struct RawCall {
    pub(crate) caller: Caller,
    pub(crate) snapshot: Arc<Snapshot>,
    pub(crate) tenant: Option<Arc<TenantEntry>>,
    pub(crate) operation_id: Arc<str>,
    pub(crate) params: Vec<(String, String)>,
    pub(crate) query: String,
    pub(crate) if_match: Option<String>,
    pub(crate) reason: Option<String>,
    /// The headers, with the credential in them: for what is made of that alone.
    pub(crate) presented: axum::http::HeaderMap,
    pub(crate) body: bytes::Bytes,
    pub(crate) archive: Option<axum::body::Body>,
}

/// A call that is authenticated, allowed and read.
pub(crate) struct Call<Q, B> {
    pub(crate) caller: Caller,
    /// The catalogue as it was when the call arrived.
    pub(crate) snapshot: Arc<Snapshot>,
    tenant: Option<Arc<TenantEntry>>,
    pub(crate) operation_id: Arc<str>,
    params: Vec<(String, String)>,
    pub(crate) query: Q,
    /// The state that the caller wants to change, and no other.
    pub(crate) if_match: Option<String>,
    /// Why the caller does it, in its own words.
    pub(crate) reason: Option<String>,
    /// The headers, with the credential in them: for what is made of that alone.
    pub(crate) presented: axum::http::HeaderMap,
    pub(crate) body: B,
    /// What arrives, where the handler reads it.
    pub(crate) archive: Option<axum::body::Body>,
}

impl<Q, B> Call<Q, B> {
    /// The tenant in the path: it exists, and the caller may reach it.
    pub(crate) fn tenant(&self) -> &Arc<TenantEntry> {
        self.tenant
            .as_ref()
            .expect("only endpoints with `{tenant}` in their path ask")
    }

    /// The tenant in the path, if the path has one.
    pub(crate) fn tenant_if_any(&self) -> Option<&Arc<TenantEntry>> {
        self.tenant.as_ref()
    }

    /// A part of the path, decoded.
    pub(crate) fn param(&self, name: &str) -> &str {
        let found = self.params.iter().find(|(key, _)| key == name);
        found
            .map(|(_, value)| value.as_str())
            .expect("the endpoint's path has this part")
    }

    /// A number in the path.
    pub(crate) fn number(&self, name: &str) -> Result<u64, ApiError> {
        self.param(name).parse().map_err(|_| ApiError::NotFound)
    }
}

/// What a call says after the question mark.
pub(crate) trait Query: Sized {
    fn schema(generator: &mut SchemaGenerator) -> Option<Schema>;
    fn parse(query: &str) -> Result<Self, ApiError>;
}

/// What a call carries.
pub(crate) trait Body: Sized {
    fn schema(generator: &mut SchemaGenerator) -> Option<Schema>;
    fn parse(body: &[u8]) -> Result<Self, ApiError>;
}

/// What a call is answered with.
pub(crate) trait Answer {
    const STATUS: StatusCode = StatusCode::OK;
    fn schema(generator: &mut SchemaGenerator) -> Option<(&'static str, Schema)>;
    fn into_response(self) -> Response;
}

/// No query, no body, or no content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Nothing;

/// A typed query, or a body or answer in JSON.
#[derive(Debug)]
pub(crate) struct Json<T>(pub(crate) T);

/// An answer in JSON to what made something.
pub(crate) struct Created<T>(pub(crate) T);

/// A specification of kind `S`, of which the server gives a part.
pub(crate) struct Draft<S>(pub(crate) serde_json::Value, PhantomData<S>);

/// A resource of kind `S`.
pub(crate) struct Shown<S>(pub(crate) ResourceView, PhantomData<S>);

/// Resources of kind `S`.
pub(crate) struct ShownPage<S>(pub(crate) crate::api::Page<ResourceView>, PhantomData<S>);

/// Plain text.
pub(crate) struct PlainText(pub(crate) String);

/// A document that is made while it is read.
pub(crate) struct Streamed {
    pub(crate) content_type: &'static str,
    pub(crate) pieces: crate::export::Pieces,
}

/// A JSON value a line.
pub(crate) struct JsonLines(pub(crate) String);

impl<S> Shown<S> {
    pub(crate) fn new(view: ResourceView) -> Self {
        Self(view, PhantomData)
    }
}

impl<S> ShownPage<S> {
    pub(crate) fn new(page: crate::api::Page<ResourceView>) -> Self {
        Self(page, PhantomData)
    }
}

impl Query for Nothing {
    fn schema(_: &mut SchemaGenerator) -> Option<Schema> {
        None
    }

    fn parse(query: &str) -> Result<Self, ApiError> {
        if query.is_empty() {
            Ok(Self)
        } else {
            Err(ApiError::invalid("this takes no query parameters"))
        }
    }
}

impl<T: DeserializeOwned + JsonSchema> Query for Json<T> {
    fn schema(generator: &mut SchemaGenerator) -> Option<Schema> {
        Some(T::json_schema(generator))
    }

    fn parse(query: &str) -> Result<Self, ApiError> {
        // A relative address: `Query` reads nothing but what follows the question mark.
        let uri = format!("/?{query}")
            .parse()
            .map_err(|_| ApiError::invalid("the query is not well formed"))?;
        let query = axum::extract::Query::<T>::try_from_uri(&uri)
            .map_err(|refused| ApiError::invalid(refused.body_text()))?;
        Ok(Self(query.0))
    }
}

impl Body for Nothing {
    fn schema(_: &mut SchemaGenerator) -> Option<Schema> {
        None
    }

    fn parse(body: &[u8]) -> Result<Self, ApiError> {
        // `{}` is what clients send that cannot send nothing.
        if body.is_empty() || body == b"{}" {
            Ok(Self)
        } else {
            Err(ApiError::invalid("this takes no body"))
        }
    }
}

impl<T: DeserializeOwned + JsonSchema> Body for Json<T> {
    fn schema(generator: &mut SchemaGenerator) -> Option<Schema> {
        Some(generator.subschema_for::<T>())
    }

    fn parse(body: &[u8]) -> Result<Self, ApiError> {
        // No body is what a client sends who has nothing to say: an object without fields.
        let body = if body.is_empty() { b"{}" } else { body };
        let parsed = serde_json::from_slice(body);
        parsed
            .map(Self)
            .map_err(|error| ApiError::invalid(format!("the body is wrong: {error}")))
    }
}

impl<S: Spec> Body for Draft<S> {
    fn schema(generator: &mut SchemaGenerator) -> Option<Schema> {
        Some(given::draft_schema::<S>(generator))
    }

    fn parse(body: &[u8]) -> Result<Self, ApiError> {
        let Json(spec) = <Json<serde_json::Value> as Body>::parse(body)?;
        Ok(Self(spec, PhantomData))
    }
}

impl Answer for Nothing {
    const STATUS: StatusCode = StatusCode::NO_CONTENT;

    fn schema(_: &mut SchemaGenerator) -> Option<(&'static str, Schema)> {
        None
    }

    fn into_response(self) -> Response {
        Self::STATUS.into_response()
    }
}

impl<T: Serialize + JsonSchema> Answer for Json<T> {
    fn schema(generator: &mut SchemaGenerator) -> Option<(&'static str, Schema)> {
        Some(("application/json", generator.subschema_for::<T>()))
    }

    fn into_response(self) -> Response {
        axum::Json(self.0).into_response()
    }
}

impl<T: Serialize + JsonSchema> Answer for Created<T> {
    const STATUS: StatusCode = StatusCode::CREATED;

    fn schema(generator: &mut SchemaGenerator) -> Option<(&'static str, Schema)> {
        <Json<T> as Answer>::schema(generator)
    }

    fn into_response(self) -> Response {
        (Self::STATUS, axum::Json(self.0)).into_response()
    }
}

impl<S: Spec> Answer for Shown<S> {
    fn schema(generator: &mut SchemaGenerator) -> Option<(&'static str, Schema)> {
        Some(("application/json", given::view_schema::<S>(generator)))
    }

    fn into_response(self) -> Response {
        let etag = HeaderValue::try_from(format!("\"{}\"", self.0.etag))
            .expect("an etag is hexadecimal digits");
        ([(ETAG, etag)], axum::Json(self.0)).into_response()
    }
}

impl<S: Spec> Answer for ShownPage<S> {
    fn schema(generator: &mut SchemaGenerator) -> Option<(&'static str, Schema)> {
        let row = given::view_schema::<S>(generator);
        let page = schemars::json_schema!({
            "type": "object",
            "properties": {
                "data": {"type": "array", "items": row},
                "next_cursor": {
                    "type": "string",
                    "description": "Ask again with `cursor` set to this for what follows",
                },
            },
            "required": ["data"],
        });
        Some(("application/json", page))
    }

    fn into_response(self) -> Response {
        axum::Json(self.0).into_response()
    }
}

impl Answer for PlainText {
    fn schema(_: &mut SchemaGenerator) -> Option<(&'static str, Schema)> {
        Some((
            "text/plain; charset=utf-8",
            schemars::json_schema!({"type": "string"}),
        ))
    }

    fn into_response(self) -> Response {
        ([(CONTENT_TYPE, "text/plain; charset=utf-8")], self.0).into_response()
    }
}

impl Answer for JsonLines {
    fn schema(_: &mut SchemaGenerator) -> Option<(&'static str, Schema)> {
        Some((
            "application/x-ndjson",
            schemars::json_schema!({"type": "string"}),
        ))
    }

    fn into_response(self) -> Response {
        ([(CONTENT_TYPE, "application/x-ndjson")], self.0).into_response()
    }
}

impl Answer for Streamed {
    fn schema(_: &mut SchemaGenerator) -> Option<(&'static str, Schema)> {
        Some((
            "application/octet-stream",
            schemars::json_schema!({"type": "string", "format": "binary"}),
        ))
    }

    fn into_response(self) -> Response {
        let body = axum::body::Body::new(self.pieces);
        ([(CONTENT_TYPE, self.content_type)], body).into_response()
    }
}

impl Answer for Document {
    fn schema(_: &mut SchemaGenerator) -> Option<(&'static str, Schema)> {
        Some((
            "application/octet-stream",
            schemars::json_schema!({"type": "string", "format": "binary"}),
        ))
    }

    fn into_response(self) -> Response {
        ([(CONTENT_TYPE, self.content_type)], self.bytes).into_response()
    }
}

/// An endpoint, from its handler's types.
pub(crate) fn endpoint<Q, B, A, F, Answered>(
    verb: Verb,
    path: &str,
    operation_id: &str,
    summary: &str,
    reach: Reach,
    handler: F,
) -> Endpoint
where
    Q: Query + Send + 'static,
    B: Body + Send + 'static,
    A: Answer + 'static,
    F: Fn(Arc<Control>, Call<Q, B>) -> Answered + Send + Sync + 'static,
    Answered: Future<Output = Result<A, ApiError>> + Send + 'static,
{
    Endpoint {
        verb,
        path: path.to_owned(),
        operation_id: operation_id.to_owned(),
        summary: summary.to_owned(),
        reach,
        body_bytes_max: BODY_BYTES,
        reading: Reading::Whole,
        describe: describe::<Q, B, A>,
        handler: Arc::new(move |control, raw| match read::<Q, B>(raw) {
            Ok(call) => {
                let answering = handler(control, call);
                Box::pin(async move { answering.await.map(Answer::into_response) })
            }
            Err(refused) => Box::pin(std::future::ready(Err(refused))),
        }),
    }
}

impl Endpoint {
    /// The same, with a body of up to 16 MiB.
    pub(crate) fn with_large_body(mut self) -> Self {
        self.body_bytes_max = LARGE_BODY_BYTES;
        self
    }

    /// The same, with an archive that its handler reads as it arrives.
    pub(crate) fn with_archive(mut self) -> Self {
        self.body_bytes_max = LARGE_BODY_BYTES;
        self.reading = Reading::Archive;
        self
    }

    pub(crate) fn load(&self) -> Load {
        if self.body_bytes_max > BODY_BYTES {
            Load::Large
        } else {
            Load::Small
        }
    }
}

fn describe<Q: Query, B: Body, A: Answer>(generator: &mut SchemaGenerator) -> Description {
    Description {
        query: Q::schema(generator),
        body: B::schema(generator),
        status: A::STATUS,
        answer: A::schema(generator),
    }
}

fn read<Q: Query, B: Body>(raw: RawCall) -> Result<Call<Q, B>, ApiError> {
    Ok(Call {
        query: Q::parse(&raw.query)?,
        body: B::parse(&raw.body)?,
        caller: raw.caller,
        snapshot: raw.snapshot,
        tenant: raw.tenant,
        operation_id: raw.operation_id,
        params: raw.params,
        if_match: raw.if_match,
        reason: raw.reason,
        presented: raw.presented,
        archive: raw.archive,
    })
}
