//! The order in which an answer streams, whatever its protocol: the start, the choices' openings,
//! a token of each choice in turn, the ends, the end of all.

use crate::reply::Reply;

/// Something that a stream tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Beat {
    /// The answer begins.
    Start,
    /// A part of a choice begins.
    Open { choice: usize, part: usize },
    /// A visible token of a part.
    Token {
        choice: usize,
        part: usize,
        token: usize,
    },
    /// A part ends.
    Close { choice: usize, part: usize },
    /// A choice ends.
    End { choice: usize },
    /// The answer ends.
    Done,
}

/// A beat and its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TimedBeat {
    pub(crate) beat: Beat,
    /// How many steps the output must have made before it.
    pub(crate) steps: u64,
    /// Tokens that it stands for.
    pub(crate) tokens: u64,
}

/// The beats of one answer, in order.
#[derive(Debug)]
pub(crate) struct Beats {
    stage: Stage,
    cursors: Vec<Cursor>,
}

#[derive(Debug, Clone, Copy)]
enum Stage {
    Start,
    Opening { choice: usize },
    Step { step: u64, choice: usize },
    Ending { choice: usize },
    Done,
    Over,
}

/// Where a choice stands.
#[derive(Debug, Clone, Copy, Default)]
struct Cursor {
    part: usize,
    place: Place,
}

#[derive(Debug, Clone, Copy, Default)]
enum Place {
    #[default]
    Before,
    At(usize),
}

impl Beats {
    /// The beats of so many choices.
    pub(crate) fn new(choices: usize) -> Self {
        Self {
            stage: Stage::Start,
            cursors: vec![Cursor::default(); choices],
        }
    }

    /// Whether there are no more.
    pub(crate) fn is_over(&self) -> bool {
        matches!(self.stage, Stage::Over)
    }

    /// The next one; `replies` are always the same.
    pub(crate) fn next(&mut self, replies: &[Reply]) -> Option<TimedBeat> {
        loop {
            match self.stage {
                Stage::Start => {
                    self.stage = Stage::Opening { choice: 0 };
                    return Some(untimed(Beat::Start));
                }
                Stage::Opening { choice } => {
                    let Some(reply) = replies.get(choice) else {
                        self.stage = Stage::Step { step: 0, choice: 0 };
                        continue;
                    };
                    self.stage = Stage::Opening { choice: choice + 1 };
                    if let Some(beat) = self.cursors[choice].advance(choice, reply) {
                        return Some(untimed(beat));
                    }
                }
                Stage::Step { step, choice } => {
                    if let Some(beat) = self.step(step, choice, replies) {
                        return Some(beat);
                    }
                }
                Stage::Ending { choice } => {
                    let Some(reply) = replies.get(choice) else {
                        self.stage = Stage::Done;
                        continue;
                    };
                    self.stage = Stage::Ending { choice: choice + 1 };
                    // A stop sequence hides tokens that were made all the same.
                    let shown: usize = reply.parts.iter().map(|part| part.visible_tokens()).sum();
                    return Some(TimedBeat {
                        beat: Beat::End { choice },
                        steps: steps(replies),
                        tokens: reply.tokens().saturating_sub(shown as u64),
                    });
                }
                Stage::Done => {
                    self.stage = Stage::Over;
                    return Some(TimedBeat {
                        steps: steps(replies),
                        ..untimed(Beat::Done)
                    });
                }
                Stage::Over => return None,
            }
        }
    }

    /// What this choice has at this step, up to a token; moves on in any case.
    fn step(&mut self, step: u64, choice: usize, replies: &[Reply]) -> Option<TimedBeat> {
        let Some(reply) = replies.get(choice) else {
            let is_last = self
                .cursors
                .iter()
                .zip(replies)
                .all(|(cursor, reply)| cursor.part >= reply.parts.len());
            self.stage = if is_last {
                Stage::Ending { choice: 0 }
            } else {
                Stage::Step {
                    step: step + 1,
                    choice: 0,
                }
            };
            return None;
        };
        let beat = self.cursors[choice].advance(choice, reply);
        let timed = match beat {
            Some(beat @ Beat::Token { .. }) => TimedBeat {
                beat,
                steps: step + 1,
                tokens: 1,
            },
            Some(beat) => {
                return Some(TimedBeat {
                    steps: step,
                    ..untimed(beat)
                });
            }
            None => {
                self.stage = next_choice(step, choice);
                return None;
            }
        };
        self.stage = next_choice(step, choice);
        Some(timed)
    }
}

impl Cursor {
    fn advance(&mut self, choice: usize, reply: &Reply) -> Option<Beat> {
        let part = self.part;
        let output = reply.parts.get(part)?;
        match self.place {
            Place::Before => {
                self.place = Place::At(0);
                Some(Beat::Open { choice, part })
            }
            Place::At(token) if token < output.visible_tokens() => {
                self.place = Place::At(token + 1);
                Some(Beat::Token {
                    choice,
                    part,
                    token,
                })
            }
            Place::At(_) => {
                *self = Self {
                    part: part + 1,
                    place: Place::Before,
                };
                Some(Beat::Close { choice, part })
            }
        }
    }
}

fn next_choice(step: u64, choice: usize) -> Stage {
    Stage::Step {
        step,
        choice: choice + 1,
    }
}

fn untimed(beat: Beat) -> TimedBeat {
    TimedBeat {
        beat,
        steps: 0,
        tokens: 0,
    }
}

/// Steps until every choice is made.
pub(crate) fn steps(replies: &[Reply]) -> u64 {
    replies.iter().map(Reply::tokens).max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::{Bounds, Script};

    fn reply(scripts: Vec<Script>) -> Reply {
        Reply::write(scripts, &Bounds::default(), 1)
    }

    #[test]
    fn parts_come_one_after_the_other_and_choices_in_turn() {
        let replies = [
            reply(vec![Script::Thought(1), Script::Words(1)]),
            reply(vec![Script::Words(1)]),
        ];
        let mut beats = Beats::new(2);
        let mut told = Vec::new();
        while let Some(next) = beats.next(&replies) {
            let name = match next.beat {
                Beat::Start => "start".into(),
                Beat::Open { choice, part } => format!("({choice}{part}"),
                Beat::Token { choice, part, .. } => format!("t{choice}{part}"),
                Beat::Close { choice, part } => format!("{choice}{part})"),
                Beat::End { choice } => format!("end{choice}"),
                Beat::Done => "done".into(),
            };
            told.push(format!("{name}@{}", next.steps));
        }
        let told = told.join(" ");
        let expected = "start@0 (00@0 (10@0 t00@1 t10@1 00)@1 (01@1 t01@2 10)@1 01)@2 end0@2 \
            end1@2 done@2";
        assert_eq!(told, expected);
        assert!(beats.is_over());
    }
}
