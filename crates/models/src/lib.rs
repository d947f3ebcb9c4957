//! Wire types of model providers: pure parsing, rebuilding and counting.
//!
//! A client's body meets [`Envelope::parse`] first: one pass that checks all of it and copies
//! none of it. [`Call::parse`] reads the essentials from the envelope, [`Rebuild`] makes the
//! upstream's body out of slices of the client's, and on the way back [`Usage`], [`SseSplitter`]
//! and [`classify`] find what is to be metered. `models` opens no socket and knows no tenant.

mod blocks;
mod canonical;
mod chunk;
mod content;
pub mod conversation;
mod dialect;
mod envelope;
mod error;
mod event_stream;
mod json;
mod lex;
mod messages;
mod openai;
mod raw;
mod rebuild;
mod request;
mod responses;
mod scan;
mod sse;
mod stream_shape;
mod translation;
mod usage;

pub use canonical::canonical_json;
pub use chunk::{ChunkKind, Delta, OutputCount, classify, without_usage};
pub use content::{IMAGE_TYPES, TEXT_TYPES};
pub use dialect::{
    AnswerNames, AnthropicMeter, CountDialect, Dialect, EmbeddingAnswer, EmbeddingDialect,
    EmbeddingInput, EmbeddingRequest, Encoding, Flavour, Forced, Purpose, Ranked, RerankAnswer,
    RerankDialect, RerankDocument, RerankRequest, RerankUsage, ResponseEcho, StreamUsage,
    UnreadableAnswer, Untranslatable, Vector, added_items, classify_responses, conversation_of,
    count_tokens_json, input_items, item_id_prefix, join_items, output_items, read_count_tokens,
    shown_item, without_state,
};
pub use envelope::{Envelope, EnvelopeField, Kind};
pub use error::{InvalidRequest, WireError};
pub use event_stream::{
    EVENT_MESSAGE_BYTES_MAX, EventHeader, EventHeaderValue, EventMessage, EventMessages,
    EventStreamDecoder, EventStreamError,
};
pub use json::Json;
pub use openai::{ModelEntry, model_json, models_json};
pub use raw::{Elements, Fields, Key, Raw};
pub use rebuild::{NotAnArray, Rebuild, RebuiltBody};
pub use request::{Call, Operation, OutputLimitField, stream_options_with_usage};
pub use scan::{BodyError, Bounds, REFUSED_FIELDS};
pub use sse::{EVENT_BYTES_MAX, Event, Events, SseError, SseSplitter};
pub use stream_shape::StreamClassifier;
pub use translation::{StreamState, StreamTranslation, TranslatedAnswer, Translation};
pub use usage::Usage;
