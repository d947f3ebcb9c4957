//! A stream between an upstream and a client: what came is counted, and given on in the client's
//! dialect.

use base::RequestId;
use bytes::{Bytes, BytesMut};
use models::{
    Dialect, EVENT_BYTES_MAX, OutputCount, SseSplitter, StreamState, StreamTranslation,
    StreamUsage, UnreadableAnswer, Usage,
};

use super::adapted::Renaming;
use super::compile::Compiled;
use super::tally::{Kept, Tally};
use crate::refusal::Refusal;
use crate::speech::{Speech, dialect_of};
use crate::telemetry::CallSpan;

/// How the stream of one call goes on to its client.
#[expect(
    clippy::large_enum_variant,
    reason = "the stream that owns it is on the heap already, and most are the larger one"
)]
#[derive(Debug)]
pub(super) enum Flow {
    /// Both speak alike: events go on as they came.
    Same {
        splitter: SseSplitter,
        tally: Tally,
        renaming: Option<Renaming>,
    },
    /// Event by event into the client's dialect.
    Translated {
        translation: Box<StreamTranslation>,
        output_tokens_max: u64,
        renaming: Option<Renaming>,
    },
}

/// What came of the upstream's next bytes.
pub(super) struct Passed {
    /// For the client; may be empty.
    pub(super) piece: Bytes,
    /// Why nothing more can be passed on, if that is so.
    pub(super) broken: Option<Broken>,
}

/// Why a stream has to end.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Broken {
    /// Its bytes are not what they should be.
    #[error("an upstream's stream cannot be read: {0}")]
    Unreadable(String),
    /// It ended without its end.
    #[error("a stream ended without its end marker")]
    Incomplete,
    /// More output than was reserved.
    #[error("an upstream generated more than it was allowed")]
    Overrun,
    /// The upstream said that it failed, in a frame of its own, which the client has.
    #[error("an upstream failed in mid-stream")]
    Told,
}

impl Compiled {
    /// How the answer's stream goes on to the client.
    pub(super) fn flow(&self, request: RequestId, output_tokens_max: u64) -> Result<Flow, Refusal> {
        let wants_usage = self.call.include_usage;
        let Speech::Translated(translation) = self.said.speech else {
            let dialect = dialect_of(self.operation);
            let flow = Flow::same(dialect, wants_usage, output_tokens_max);
            return Ok(flow.renamed(self.renaming()));
        };
        let usage = if wants_usage {
            StreamUsage::Wanted
        } else {
            StreamUsage::Unwanted
        };
        let names = self.answer_names(request);
        let stream = match &self.response {
            Some(response) => translation.response_stream(names, response.echo.clone()),
            None => translation.stream(names, usage),
        };
        match stream {
            Ok(stream) => Ok(Flow::translated(stream, output_tokens_max).renamed(self.renaming())),
            Err(error) => {
                tracing::error!(%error, "a stream cannot be translated");
                Err(Refusal::Internal)
            }
        }
    }
}

impl Flow {
    /// Between a client and an upstream who both speak this.
    pub(super) fn same(dialect: Dialect, wants_usage: bool, output_tokens_max: u64) -> Self {
        Self::Same {
            splitter: SseSplitter::new(EVENT_BYTES_MAX),
            tally: Tally::new(dialect, wants_usage, output_tokens_max),
            renaming: None,
        }
    }

    /// Through a translation.
    pub(super) fn translated(translation: StreamTranslation, output_tokens_max: u64) -> Self {
        Self::Translated {
            translation: Box::new(translation),
            output_tokens_max,
            renaming: None,
        }
    }

    /// The same, with an adapter called by the client's name again.
    pub(super) fn renamed(mut self, by: Option<Renaming>) -> Self {
        match &mut self {
            Self::Same { renaming, .. } | Self::Translated { renaming, .. } => *renaming = by,
        }
        self
    }

    /// What the upstream said that it consumed so far.
    pub(super) fn usage(&self) -> Option<Usage> {
        match self {
            Self::Same { tally, .. } => tally.usage,
            Self::Translated { translation, .. } => translation.usage(),
        }
    }

    /// What was counted while it passed by.
    pub(super) fn counted(&self) -> OutputCount {
        match self {
            Self::Same { tally, .. } => tally.counted,
            Self::Translated { translation, .. } => translation.output_count(),
        }
    }

    /// Whether the answer came to its end.
    pub(super) fn is_complete(&self) -> bool {
        match self {
            Self::Same { tally, .. } => tally.saw_done,
            Self::Translated { translation, .. } => *translation.state() == StreamState::Complete,
        }
    }

    /// Counts what arrived together and gives what of it goes to the client.
    pub(super) fn feed(&mut self, chunk: Bytes, span: Option<&mut CallSpan>) -> Passed {
        match self {
            Self::Same {
                splitter,
                tally,
                renaming,
            } => pass_on(splitter, tally, renaming.as_ref(), chunk, span),
            Self::Translated {
                translation,
                output_tokens_max,
                renaming,
            } => {
                let fed = translation.feed(chunk);
                let mut passed = Passed::of(fed, translation);
                passed.note_on(span);
                passed = passed.renamed(renaming.as_ref());
                if translation.output_count().deltas > *output_tokens_max
                    && translation.usage().is_none()
                {
                    passed.broken = Some(Broken::Overrun);
                }
                passed
            }
        }
    }

    /// The upstream closed its stream: what the client is still owed.
    pub(super) fn finish(&mut self, span: Option<&mut CallSpan>) -> Passed {
        match self {
            Self::Same {
                splitter,
                tally,
                renaming,
            } => {
                let splitter = std::mem::replace(splitter, SseSplitter::new(EVENT_BYTES_MAX));
                let rest = splitter.finish().map(|event| event.raw);
                Passed {
                    piece: rest.unwrap_or_default(),
                    // Some engines end without the marker after an error; clients must not take
                    // it for a whole answer.
                    broken: (!tally.saw_done).then_some(Broken::Incomplete),
                }
                .renamed(renaming.as_ref())
            }
            Self::Translated {
                translation,
                renaming,
                ..
            } => {
                let finished = translation.finish();
                let mut passed = Passed::of(finished, translation);
                passed.note_on(span);
                passed = passed.renamed(renaming.as_ref());
                if passed.broken.is_none() && *translation.state() != StreamState::Complete {
                    passed.broken = Some(Broken::Incomplete);
                }
                passed
            }
        }
    }
}

impl Passed {
    fn renamed(mut self, renaming: Option<&Renaming>) -> Self {
        if let Some(renaming) = renaming {
            self.piece = renaming.apply(self.piece);
        }
        self
    }

    /// What telemetry notes of events that we wrote ourselves: each has its data in one line.
    fn note_on(&self, span: Option<&mut CallSpan>) {
        let Some(span) = span else { return };
        for line in self.piece.split(|byte| *byte == b'\n') {
            if let Some(data) = line.strip_prefix(b"data: ") {
                span.read_event(data);
            }
        }
    }

    fn of(fed: Result<Bytes, UnreadableAnswer>, translation: &StreamTranslation) -> Self {
        match fed {
            Ok(piece) => Self {
                piece,
                broken: matches!(translation.state(), StreamState::Failed(_))
                    .then_some(Broken::Told),
            },
            Err(error) => Self {
                piece: Bytes::new(),
                broken: Some(Broken::Unreadable(error.what)),
            },
        }
    }
}

/// Usually what came is whole events of content, which go on as they came. Where the stream has to
/// end, so much as came before goes on.
fn pass_on(
    splitter: &mut SseSplitter,
    tally: &mut Tally,
    renaming: Option<&Renaming>,
    chunk: Bytes,
    mut span: Option<&mut CallSpan>,
) -> Passed {
    let was_between = splitter.is_between_events();
    let mut edited: Option<BytesMut> = None;
    let mut passed = 0;
    let mut broken = None;
    for event in splitter.feed(chunk.clone()) {
        let event = match event {
            Ok(event) => event,
            Err(error) => {
                broken = Some(Broken::Unreadable(error.to_string()));
                break;
            }
        };
        if let (Some(span), Some(data)) = (&mut span, &event.data) {
            span.read_event(data);
        }
        let kept = tally.add(&event);
        if tally.has_overrun() {
            broken = Some(Broken::Overrun);
            break;
        }
        let kept = match (
            kept,
            renaming.and_then(|renaming| renaming.renamed(&event.raw)),
        ) {
            (Kept::Whole, Some(renamed)) => Kept::Instead(renamed),
            (kept, _) => kept,
        };
        match (kept, &mut edited) {
            (Kept::Whole, None) if was_between => passed += event.raw.len(),
            (Kept::Whole, edited) => edited
                .get_or_insert_with(|| BytesMut::from(&chunk[..passed]))
                .extend_from_slice(&event.raw),
            (Kept::Instead(bytes), edited) => edited
                .get_or_insert_with(|| BytesMut::from(&chunk[..passed]))
                .extend_from_slice(&bytes),
        }
    }
    let piece = match edited {
        Some(edited) => edited.freeze(),
        None => chunk.slice(..passed),
    };
    Passed { piece, broken }
}
