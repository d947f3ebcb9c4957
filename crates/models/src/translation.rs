//! From a client's dialect to an upstream's and back: what the gateway calls.

use bytes::Bytes;

use crate::chunk::{Delta, OutputCount};
use crate::conversation::{AnswerEvent, PartDelta, PartStart, StreamFailure};
use crate::dialect::{
    self, AnswerNames, Dialect, Flavour, Forced, ResponseEcho, StreamReader, StreamUsage,
    StreamWriter, UnreadableAnswer, Untranslatable,
};
use crate::envelope::Envelope;
use crate::usage::Usage;

/// One client's dialect with one upstream's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Translation {
    inbound: Dialect,
    outbound: Dialect,
    flavour: Flavour,
}

/// A whole answer in the client's dialect.
#[derive(Debug, Clone, PartialEq)]
pub struct TranslatedAnswer {
    /// Its body.
    pub body: Bytes,
    /// What it cost, if the upstream said so.
    pub usage: Option<Usage>,
}

/// How far a stream has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StreamState {
    /// More is to come.
    Open,
    /// The answer is complete.
    Complete,
    /// The upstream failed, and the client was told in a frame of its dialect.
    Failed(StreamFailure),
}

/// A stream on its way from an upstream to a client.
#[derive(Debug)]
pub struct StreamTranslation {
    reader: Box<dyn StreamReader>,
    writer: Box<dyn StreamWriter>,
    /// Kept for its room.
    events: Vec<AnswerEvent>,
    usage: Option<Usage>,
    count: OutputCount,
    state: StreamState,
    /// What went wrong after bytes that the client is to have first.
    failed: Option<UnreadableAnswer>,
}

impl Translation {
    /// `flavour` matters if the upstream speaks OpenAI's chat dialect.
    pub fn new(inbound: Dialect, outbound: Dialect, flavour: Flavour) -> Self {
        Self {
            inbound,
            outbound,
            flavour,
        }
    }

    /// Whether the upstream speaks the client's own dialect, so that bodies may pass as they are,
    /// but for what the gateway sets. A flavour with an accent may still refuse what it is asked.
    pub fn is_native(&self) -> bool {
        self.inbound == self.outbound
    }

    /// Refuses a chat that passes as it is written for what the upstream's flavour refuses or,
    /// worse, passes over: by the same name as where it is translated. What cannot be read here
    /// is the upstream's to judge, and so is all that OpenAI's own servers are asked: they refuse
    /// by name themselves.
    ///
    /// # Errors
    /// It has a field that says something which the flavour does not take.
    pub fn check_native(&self, envelope: &Envelope) -> Result<(), Untranslatable> {
        if matches!(self.flavour, Flavour::OpenAi | Flavour::Azure) || !self.flavour.refuses_any() {
            return Ok(());
        }
        match self.inbound.read_request(envelope) {
            Ok(conversation) => dialect::refuse_what_it_does(self.flavour, &conversation),
            Err(_) => Ok(()),
        }
    }

    /// The upstream's request.
    ///
    /// # Errors
    /// The client's request has what the upstream's dialect cannot say.
    pub fn request(
        &self,
        envelope: &Envelope,
        forced: &Forced<'_>,
    ) -> Result<Bytes, Untranslatable> {
        let conversation = self.inbound.read_request(envelope)?;
        self.outbound
            .write_request(self.flavour, &conversation, forced)
    }

    /// The client's answer. `names` stand in for what the upstream did not say.
    ///
    /// # Errors
    /// The upstream's answer is not what its dialect says.
    pub fn answer(
        &self,
        body: &[u8],
        names: &AnswerNames,
    ) -> Result<TranslatedAnswer, UnreadableAnswer> {
        let answer = self.outbound.read_answer(body)?;
        Ok(TranslatedAnswer {
            body: self.inbound.write_answer(&answer, names)?,
            usage: answer.usage,
        })
    }

    /// As [`Translation::answer`], for a client of Responses: what it asked is said again.
    ///
    /// # Errors
    /// The upstream's answer is not what its dialect says.
    pub fn response(
        &self,
        body: &[u8],
        names: &AnswerNames,
        echo: &ResponseEcho,
    ) -> Result<TranslatedAnswer, UnreadableAnswer> {
        let answer = self.outbound.read_answer(body)?;
        Ok(TranslatedAnswer {
            body: dialect::write_response(&answer, names, echo),
            usage: answer.usage,
        })
    }

    /// As [`Translation::stream`], for a client of Responses: what it asked is said again.
    ///
    /// # Errors
    /// The upstream's dialect is not spoken in this direction.
    pub fn response_stream(
        &self,
        names: AnswerNames,
        echo: ResponseEcho,
    ) -> Result<StreamTranslation, UnreadableAnswer> {
        let writer = dialect::response_stream_writer(names, echo);
        Ok(StreamTranslation::new(
            self.outbound.stream_reader()?,
            writer,
        ))
    }

    /// A stream from the upstream to the client.
    ///
    /// # Errors
    /// One of the two dialects is not spoken in this direction.
    pub fn stream(
        &self,
        names: AnswerNames,
        usage: StreamUsage,
    ) -> Result<StreamTranslation, UnreadableAnswer> {
        let reader = self.outbound.stream_reader()?;
        let writer = self.inbound.stream_writer(names, usage)?;
        Ok(StreamTranslation::new(reader, writer))
    }
}

impl StreamTranslation {
    fn new(reader: Box<dyn StreamReader>, writer: Box<dyn StreamWriter>) -> Self {
        Self {
            reader,
            writer,
            events: Vec::new(),
            usage: None,
            count: OutputCount::default(),
            state: StreamState::Open,
            failed: None,
        }
    }

    /// Takes the upstream's next bytes, cut anywhere, and gives the client's, if any are ready.
    ///
    /// # Errors
    /// The upstream's stream is not what its dialect says. Bytes that are ready come first, and
    /// the error with the next call; then nothing more can be read, and the client is to be told
    /// by [`fail`](Self::fail).
    pub fn feed(&mut self, chunk: Bytes) -> Result<Bytes, UnreadableAnswer> {
        if let Some(failed) = &self.failed {
            return Err(failed.clone());
        }
        let read = self.reader.feed(chunk, &mut self.events);
        self.write(read)
    }

    /// The upstream closed its stream: gives what the client is still owed.
    ///
    /// # Errors
    /// It closed too early, or its bytes cannot be read. Call it until it gives nothing.
    pub fn finish(&mut self) -> Result<Bytes, UnreadableAnswer> {
        if let Some(failed) = &self.failed {
            return Err(failed.clone());
        }
        let read = self.reader.finish(&mut self.events);
        self.write(read)
    }

    /// Ends the stream where the gateway cuts it: a frame of the client's dialect, which its SDK
    /// raises. `kind` is OpenAI's `type` of the error.
    pub fn fail(&mut self, kind: &str, message: &str) -> Bytes {
        let failure = StreamFailure {
            kind: kind.to_owned(),
            message: message.to_owned(),
        };
        let mut out = Vec::new();
        self.writer
            .write(&AnswerEvent::Error(failure.clone()), &mut out);
        self.state = StreamState::Failed(failure);
        out.into()
    }

    /// What the answer costs, as far as the upstream has said.
    pub fn usage(&self) -> Option<Usage> {
        self.usage
    }

    /// What was generated so far.
    pub fn output_count(&self) -> OutputCount {
        self.count
    }

    /// How far the stream has come.
    pub fn state(&self) -> &StreamState {
        &self.state
    }

    /// Writes the events that were read, also those before an error: they were generated.
    fn write(&mut self, read: Result<(), UnreadableAnswer>) -> Result<Bytes, UnreadableAnswer> {
        let mut out = Vec::new();
        for event in &self.events {
            match event {
                AnswerEvent::Usage(usage) => self.usage = Some(*usage),
                AnswerEvent::End => self.state = StreamState::Complete,
                AnswerEvent::Error(failure) => self.state = StreamState::Failed(failure.clone()),
                AnswerEvent::PartBegin { start, .. } => self.count.add(begun(start)),
                AnswerEvent::Delta { delta, .. } => self.count.add(added(delta)),
                _ => {}
            }
            self.writer.write(event, &mut out);
        }
        self.events.clear();
        match read {
            Err(error) if out.is_empty() => {
                self.failed = Some(error.clone());
                Err(error)
            }
            read => {
                self.failed = read.err();
                Ok(out.into())
            }
        }
    }
}

/// The name of a tool is generated too.
fn begun(start: &PartStart) -> Delta {
    match start {
        PartStart::ToolCall { name, .. } => generated(name),
        _ => Delta::default(),
    }
}

fn added(delta: &PartDelta) -> Delta {
    match delta {
        PartDelta::Text(text) | PartDelta::Arguments(text) => generated(text),
        // What holds hidden thoughts stands for tokens that nobody can count.
        PartDelta::Signature(_) => Delta::default(),
    }
}

fn generated(text: &str) -> Delta {
    Delta {
        choices: u32::from(!text.is_empty()),
        content_bytes: text.len() as u64,
    }
}
