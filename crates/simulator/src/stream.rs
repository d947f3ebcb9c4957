//! Answers that come token by token, as server-sent events.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use tokio::time::Sleep;

use crate::dialect::{Dialect, write_json};
use crate::engine::Work;
use crate::faults::{Spoil, UsageReport};
use crate::generation::{GARBAGE, Usage, error_fault};
use crate::http::Cut;
use crate::text::Output;

/// A stream of frames, each when it is due. Dropped before its end, it counts as cancelled and
/// frees its slot. The slot is held until the last frame is taken.
#[derive(Debug)]
pub(crate) struct TokenStream {
    frames: Frames,
    /// A frame that waits for its time.
    next: Option<Frame>,
    sleep: Option<Pin<Box<Sleep>>>,
    /// Output steps whose time has come.
    steps_passed: u64,
    frames_sent: usize,
    spoil: Option<Spoil>,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    /// Frames flow.
    Flowing(Work),
    /// All was sent that should be before the connection breaks, and perhaps not flushed.
    Breaking,
    /// One more frame ends a stream that went wrong.
    LastWords(&'static [u8]),
    Ended,
}

/// After how many frames garbage comes: late enough that a client has begun to read.
const FRAMES_BEFORE_GARBAGE: usize = 2;

const DONE: &[u8] = b"data: [DONE]\n\n";

impl TokenStream {
    /// The stream of `frames`, that `work` makes and `spoil` ends.
    pub(crate) fn new(work: Work, frames: Frames, spoil: Option<Spoil>) -> Self {
        Self {
            frames,
            next: None,
            sleep: None,
            steps_passed: 0,
            frames_sent: 0,
            spoil,
            stage: Stage::Flowing(work),
        }
    }

    /// The next frame, once it is due; `None` at the end.
    pub(crate) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Cut>>> {
        match self.stage {
            Stage::Flowing(_) => self.poll_flowing(cx),
            Stage::Breaking => {
                self.stage = Stage::Ended;
                Poll::Ready(Some(Err(Cut)))
            }
            Stage::LastWords(words) => {
                self.stage = Stage::Ended;
                Poll::Ready(Some(Ok(Bytes::from_static(words))))
            }
            Stage::Ended => Poll::Ready(None),
        }
    }

    /// Whether there is nothing more to come.
    pub(crate) fn is_over(&self) -> bool {
        matches!(self.stage, Stage::Ended)
    }

    fn poll_flowing(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Cut>>> {
        if let Some(ending) = self.poll_spoil(cx) {
            return ending;
        }
        let Some(frame) = self.next.take().or_else(|| self.frames.next()) else {
            self.end(Stage::Ended);
            return Poll::Ready(Some(Ok(Bytes::from_static(DONE))));
        };
        if frame.steps > self.steps_passed && self.poll_due(cx, frame.steps).is_pending() {
            self.next = Some(frame);
            return Poll::Pending;
        }
        self.steps_passed = self.steps_passed.max(frame.steps);
        self.frames_sent += 1;
        if let Stage::Flowing(work) = &self.stage {
            work.count_tokens(frame.tokens);
        }
        Poll::Ready(Some(Ok(frame.bytes)))
    }

    /// What comes instead of the next frame, if it is time for the fault.
    fn poll_spoil(&mut self, cx: &mut Context<'_>) -> Option<Poll<Option<Result<Bytes, Cut>>>> {
        match self.spoil? {
            Spoil::Cut(frames) if self.frames_sent >= frames => {
                self.end(Stage::Breaking);
                // hyper flushes what it has while this waits, and drops it on an error.
                cx.waker().wake_by_ref();
                Some(Poll::Pending)
            }
            Spoil::Error(frames) if self.frames_sent >= frames => {
                self.end(Stage::LastWords(DONE));
                let frame = format!("data: {}\n\n", error_fault().body());
                Some(Poll::Ready(Some(Ok(frame.into()))))
            }
            Spoil::Garbage if self.frames_sent >= FRAMES_BEFORE_GARBAGE => {
                self.end(Stage::LastWords(b"\n\n"));
                let frame = [b"data: ".as_slice(), GARBAGE].concat();
                Some(Poll::Ready(Some(Ok(frame.into()))))
            }
            _ => None,
        }
    }

    fn poll_due(&mut self, cx: &mut Context<'_>, steps: u64) -> Poll<()> {
        let Stage::Flowing(work) = &self.stage else {
            return Poll::Ready(());
        };
        let Some(due) = work.due(steps) else {
            return Poll::Ready(());
        };
        let sleep = match &mut self.sleep {
            Some(sleep) => {
                if sleep.deadline() != due {
                    sleep.as_mut().reset(due);
                }
                sleep
            }
            none => none.insert(Box::pin(tokio::time::sleep_until(due))),
        };
        sleep.as_mut().poll(cx)
    }

    /// Ends the work, and goes on to `stage`.
    fn end(&mut self, stage: Stage) {
        if let Stage::Flowing(work) = std::mem::replace(&mut self.stage, stage) {
            work.finish();
        }
    }
}

/// One server-sent event.
#[derive(Debug)]
struct Frame {
    bytes: Bytes,
    /// How many steps the output must have made before it.
    steps: u64,
    /// Tokens that it stands for.
    tokens: u64,
}

/// The events of one answer, in order, without any time: openings, tokens in turn, closings, usage.
#[derive(Debug)]
pub(crate) struct Frames {
    /// `data: {…,"choices":[`.
    head: Vec<u8>,
    dialect: Box<dyn Dialect>,
    outputs: Vec<Output>,
    usage: Option<Usage>,
    report: UsageReport,
    position: Position,
}

#[derive(Debug, Clone, Copy)]
enum Position {
    Opening { choice: usize },
    Token { token: usize, choice: usize },
    Closing { choice: usize },
    Usage,
    Over,
}

impl Frames {
    /// The events of `outputs`; with `usage` at the end, if it was asked for and is reported.
    pub(crate) fn new(
        head: Vec<u8>,
        dialect: Box<dyn Dialect>,
        outputs: Vec<Output>,
        usage: Option<Usage>,
        report: UsageReport,
    ) -> Self {
        let position = if dialect.has_opening() {
            Position::Opening { choice: 0 }
        } else {
            Position::Token {
                token: 0,
                choice: 0,
            }
        };
        Self {
            head: [b"data: ".as_slice(), &head].concat(),
            dialect,
            outputs,
            usage,
            report,
            position,
        }
    }

    fn next(&mut self) -> Option<Frame> {
        loop {
            match self.position {
                Position::Opening { choice } => match self.outputs.get(choice) {
                    Some(output) => {
                        self.position = Position::Opening { choice: choice + 1 };
                        return Some(self.frame(0, 0, |dialect, json| {
                            dialect.write_opening(json, choice, output);
                        }));
                    }
                    None => {
                        self.position = Position::Token {
                            token: 0,
                            choice: 0,
                        }
                    }
                },
                Position::Token { token, choice } => {
                    if let Some(frame) = self.next_token(token, choice) {
                        return Some(frame);
                    }
                }
                Position::Closing { choice } => match self.outputs.get(choice) {
                    Some(output) => {
                        self.position = Position::Closing { choice: choice + 1 };
                        // A stop sequence hides tokens that were made all the same.
                        let hidden = u64::from(output.tokens) - output.visible_tokens() as u64;
                        return Some(self.frame(self.steps(), hidden, |dialect, json| {
                            dialect.write_closing(json, choice, output);
                        }));
                    }
                    None => self.position = Position::Usage,
                },
                Position::Usage => {
                    self.position = Position::Over;
                    if self.usage.is_some() && self.report == UsageReport::Given {
                        return Some(self.usage_frame());
                    }
                }
                Position::Over => return None,
            }
        }
    }

    /// This choice's token at this step, if it has so many; moves on in any case.
    fn next_token(&mut self, token: usize, choice: usize) -> Option<Frame> {
        let Some(output) = self.outputs.get(choice) else {
            let is_last = self
                .outputs
                .iter()
                .all(|output| output.visible_tokens() <= token + 1);
            self.position = if is_last {
                Position::Closing { choice: 0 }
            } else {
                Position::Token {
                    token: token + 1,
                    choice: 0,
                }
            };
            return None;
        };
        self.position = Position::Token {
            token,
            choice: choice + 1,
        };
        (token < output.visible_tokens()).then(|| {
            self.frame(token as u64 + 1, 1, |dialect, json| {
                dialect.write_token(json, choice, output, token);
            })
        })
    }

    /// Steps until every output is made.
    fn steps(&self) -> u64 {
        let longest = self.outputs.iter().map(|output| output.tokens).max();
        longest.unwrap_or(0).into()
    }

    fn frame(
        &self,
        steps: u64,
        tokens: u64,
        write: impl FnOnce(&dyn Dialect, &mut Vec<u8>),
    ) -> Frame {
        // 160: a token's choice is about 80, and doubling the head's vector costs a copy.
        let mut json = Vec::with_capacity(self.head.len() + 160);
        json.extend_from_slice(&self.head);
        write(&*self.dialect, &mut json);
        json.push(b']');
        if self.usage.is_some() {
            json.extend_from_slice(b",\"usage\":null");
        }
        json.extend_from_slice(b"}\n\n");
        Frame {
            bytes: json.into(),
            steps,
            tokens,
        }
    }

    fn usage_frame(&self) -> Frame {
        let mut json = self.head.clone();
        json.extend_from_slice(b"],\"usage\":");
        write_json(&mut json, &self.usage);
        json.extend_from_slice(b"}\n\n");
        Frame {
            bytes: json.into(),
            steps: self.steps(),
            tokens: 0,
        }
    }
}
