//! One pass of all of a guardrail's local checks over a text that arrives in pieces.
//!
//! Every check says up to where it is certain: nothing that begins before can come of later text.
//! What lies before the least of these places, the *frontier*, is settled: it is handed on, and
//! only what lies behind is held. So the outcome depends on the text alone and not on how it was
//! cut, and a whole text is scanned by the same code as a stream.

use std::cmp::Reverse;
use std::ops::Range;

use base::Name;
use tenancy::catalogue::GuardAction;

use super::fold::Folded;
use super::injection::{Injection, Reading};
use super::pattern::{PatternStep, Patterns};
use super::phrases::{PhraseStep, Phrases};
use super::pii::{CONTEXT_BYTES, Pii, PiiStep, View};
use super::verdict::{Finding, Findings};

/// A compiled check that needs nobody else.
pub(super) struct LocalCheck {
    pub(super) name: Name,
    pub(super) action: GuardAction,
    /// Whether the answer has the originals in place of the placeholders.
    pub(super) restores: bool,
    /// What placeholders are called if the detector does not say.
    pub(super) label: Box<str>,
    pub(super) detector: Detector,
}

pub(super) enum Detector {
    Phrases(Box<Phrases>),
    Patterns(Patterns),
    Pii(Pii),
    Injection(Injection),
}

/// The text that is looked at: what is held, and a little before it.
#[derive(Default)]
pub(super) struct Window {
    raw: String,
    /// Where it begins in the whole text.
    base: usize,
    folded: Folded,
    is_end: bool,
}

impl Window {
    /// A whole text.
    pub(super) fn whole(text: &str) -> Self {
        let mut window = Self::default();
        window.push(text, true);
        window.close();
        window
    }

    fn push(&mut self, text: &str, folds: bool) {
        if folds {
            self.folded.push(text, self.end());
        }
        self.raw.push_str(text);
    }

    fn close(&mut self) {
        self.folded.finish();
        self.is_end = true;
    }

    pub(super) fn raw(&self) -> &str {
        &self.raw
    }

    pub(super) fn base(&self) -> usize {
        self.base
    }

    pub(super) fn end(&self) -> usize {
        self.base + self.raw.len()
    }

    pub(super) fn folded(&self) -> &Folded {
        &self.folded
    }

    pub(super) fn is_end(&self) -> bool {
        self.is_end
    }

    /// The text at these places of the whole.
    pub(super) fn slice(&self, range: Range<usize>) -> &str {
        &self.raw[range.start - self.base..range.end - self.base]
    }

    fn drop_before(&mut self, place: usize) {
        let count = place.saturating_sub(self.base);
        let count = self.raw.floor_char_boundary(count.min(self.raw.len()));
        // Moving what is kept costs as much as it is long: wait until half can go.
        if count > self.raw.len() / 2 {
            self.raw.drain(..count);
            self.base += count;
        }
    }
}

/// What a detector came to. Places are those of the whole text.
pub(super) enum Look {
    Found {
        range: Range<usize>,
        label: Option<&'static str>,
        score: u8,
    },
    /// Nothing is certain from here on.
    Open(usize),
    /// Everything is certain.
    Done,
}

/// How far one check has come.
#[derive(Default)]
struct Progress {
    /// From where on it looks.
    cursor: usize,
    /// The same in the folded text.
    folded_cursor: usize,
    /// From where on it is not certain.
    open: usize,
    /// It does not look again before the text is so long.
    retry_at: usize,
    reading: Reading,
}

/// Something that a check found.
struct Hit {
    range: Range<usize>,
    check: usize,
    label: Option<&'static str>,
    score: u8,
}

/// What becomes of the text, piece by piece and in order.
pub(super) enum Step {
    /// It stays as it is.
    Keep(Range<usize>),
    /// It is replaced by a placeholder.
    Replace {
        range: Range<usize>,
        check: usize,
        label: Option<&'static str>,
    },
}

/// The state of one pass.
pub(super) struct Scanner {
    window: Window,
    progress: Vec<Progress>,
    folds: bool,
    waiting: Vec<Hit>,
    /// Up to where the text has been handed on.
    settled: usize,
    is_blocked: bool,
    findings: Findings,
}

impl Scanner {
    pub(super) fn new(checks: &[LocalCheck]) -> Self {
        let folds = checks.iter().any(|check| {
            matches!(
                check.detector,
                Detector::Phrases(_) | Detector::Injection(_)
            )
        });
        Self {
            window: Window::default(),
            progress: checks.iter().map(|_| Progress::default()).collect(),
            folds,
            waiting: Vec::new(),
            settled: 0,
            is_blocked: false,
            findings: Findings::default(),
        }
    }

    /// Takes more text and hands on what is settled. After a block nothing is.
    pub(super) fn push(
        &mut self,
        checks: &[LocalCheck],
        text: &str,
        step: &mut impl FnMut(&Window, Step),
    ) {
        if !self.is_blocked {
            self.window.push(text, self.folds);
            self.look(checks, step);
        }
    }

    /// The text ends here: everything is settled.
    pub(super) fn finish(&mut self, checks: &[LocalCheck], step: &mut impl FnMut(&Window, Step)) {
        if !self.is_blocked {
            self.window.close();
            self.look(checks, step);
        }
    }

    pub(super) fn is_blocked(&self) -> bool {
        self.is_blocked
    }

    pub(super) fn findings(&self) -> &Findings {
        &self.findings
    }

    pub(super) fn findings_mut(&mut self) -> &mut Findings {
        &mut self.findings
    }

    pub(super) fn into_findings(self) -> Findings {
        self.findings
    }

    /// How many bytes are held.
    pub(super) fn held(&self) -> usize {
        self.window.end().saturating_sub(self.settled)
    }

    fn look(&mut self, checks: &[LocalCheck], step: &mut impl FnMut(&Window, Step)) {
        let mut frontier = self.window.end();
        let mut folded_frontier = self.window.folded.end();
        for (place, (check, progress)) in checks.iter().zip(&mut self.progress).enumerate() {
            run(&self.window, check, progress, place, &mut self.waiting);
            frontier = frontier.min(progress.open);
            let folded = match &check.detector {
                Detector::Phrases(_) => progress.folded_cursor,
                Detector::Injection(_) => progress.reading.folded_cursor(),
                Detector::Patterns(_) | Detector::Pii(_) => folded_frontier,
            };
            folded_frontier = folded_frontier.min(folded);
        }
        if self.window.is_end() {
            frontier = self.window.end();
        }
        self.settle(checks, frontier, step);
        self.window
            .drop_before(frontier.saturating_sub(CONTEXT_BYTES));
        self.window.folded.drop_before(folded_frontier);
    }

    /// Decides about everything that begins before the frontier: from left to right, the longest
    /// first, and of what overlaps only what is not covered yet.
    fn settle(
        &mut self,
        checks: &[LocalCheck],
        frontier: usize,
        step: &mut impl FnMut(&Window, Step),
    ) {
        self.waiting
            .sort_unstable_by_key(|hit| (hit.range.start, Reverse(hit.range.end), hit.check));
        let ready = self
            .waiting
            .partition_point(|hit| hit.range.start < frontier);
        for hit in self.waiting.drain(..ready) {
            let check = &checks[hit.check];
            let finding = Finding {
                check: check.name.clone(),
                label: hit.label,
                action: check.action,
                span: hit.range.clone(),
                score: hit.score,
            };
            match check.action {
                GuardAction::Flag => self.findings.add(finding),
                GuardAction::Block => {
                    let start = hit.range.start;
                    if start > self.settled {
                        step(&self.window, Step::Keep(self.settled..start));
                        self.settled = start;
                    }
                    self.findings.add(finding);
                    self.is_blocked = true;
                    break;
                }
                GuardAction::Redact => {
                    let start = hit.range.start.max(self.settled);
                    if hit.range.end <= start {
                        continue;
                    }
                    if start > self.settled {
                        step(&self.window, Step::Keep(self.settled..start));
                    }
                    let (check, label) = (hit.check, hit.label);
                    let range = start..hit.range.end;
                    self.settled = range.end;
                    step(
                        &self.window,
                        Step::Replace {
                            range,
                            check,
                            label,
                        },
                    );
                    self.findings.add(finding);
                }
            }
        }
        if !self.is_blocked && frontier > self.settled {
            step(&self.window, Step::Keep(self.settled..frontier));
            self.settled = frontier;
        }
    }
}

/// Half a kilobyte: what is open for longer is looked at again only when it has grown by a
/// quarter, so that a key block that arrives byte by byte is not read from its beginning for each.
const PATIENT_FROM: usize = 512;

/// Lets one check look as far as it can.
fn run(
    window: &Window,
    check: &LocalCheck,
    progress: &mut Progress,
    place: usize,
    waiting: &mut Vec<Hit>,
) {
    if window.end() < progress.retry_at && !window.is_end() {
        return;
    }
    loop {
        match look(window, &check.detector, progress) {
            Look::Found {
                range,
                label,
                score,
            } => waiting.push(Hit {
                range,
                check: place,
                label,
                score,
            }),
            Look::Open(open) => {
                let length = window.end() - open;
                progress.open = open;
                progress.retry_at = if length > PATIENT_FROM {
                    window.end() + length / 4
                } else {
                    0
                };
                return;
            }
            Look::Done => {
                progress.open = window.end();
                return;
            }
        }
    }
}

fn look(window: &Window, detector: &Detector, progress: &mut Progress) -> Look {
    match detector {
        Detector::Phrases(phrases) => {
            let folded = window.folded();
            match phrases.next(folded, progress.folded_cursor, window.is_end()) {
                PhraseStep::Found { start, end, .. } => {
                    progress.folded_cursor = end;
                    found(folded.start_of(start)..folded.end_of(end), None)
                }
                PhraseStep::Open(open) => {
                    progress.folded_cursor = open;
                    Look::Open(folded.start_of(open))
                }
                PhraseStep::Done => {
                    progress.folded_cursor = folded.end();
                    Look::Done
                }
            }
        }
        Detector::Patterns(patterns) => {
            let from = progress.cursor - window.base();
            match patterns.next(window.raw(), from, window.is_end()) {
                PatternStep::Found { start, end } => {
                    progress.cursor = window.base() + end;
                    found(window.base() + start..progress.cursor, None)
                }
                PatternStep::Open(open) => progress.wait_at(window.base() + open),
                PatternStep::Done => progress.done(window),
            }
        }
        Detector::Pii(pii) => {
            let view = View::new(window.raw().as_bytes(), window.is_end());
            match pii.next(&view, progress.cursor - window.base()) {
                PiiStep::Found { label, start, end } => {
                    progress.cursor = window.base() + end;
                    found(window.base() + start..progress.cursor, Some(label))
                }
                PiiStep::Open(open) => progress.wait_at(window.base() + open),
                PiiStep::Done => progress.done(window),
            }
        }
        Detector::Injection(injection) => injection.next(window, &mut progress.reading),
    }
}

impl Progress {
    fn wait_at(&mut self, open: usize) -> Look {
        self.cursor = open;
        Look::Open(open)
    }

    fn done(&mut self, window: &Window) -> Look {
        self.cursor = window.end();
        Look::Done
    }
}

fn found(range: Range<usize>, label: Option<&'static str>) -> Look {
    Look::Found {
        range,
        label,
        score: 100,
    }
}
