//! What a chat asks for, whatever the protocol, and what it is answered with. Each provider reads
//! its requests into a [`Turn`]; nothing else decides what is said.

use std::borrow::Cow;

use http::HeaderMap;
use serde_json::{Map, Value};

use crate::caching::{Life, Mark};
use crate::directives::{CallDirective, Directives, Filter};
use crate::engine::EngineState;
use crate::prompt::Prompt;
use crate::refusal::Refusal;
use crate::reply::Reply;
use crate::schema::{sample, sample_object};
use crate::text::{Bounds, Finish, Script};
use crate::tokens::{Draw, digest};

/// A conversation that waits for its next turn, and the terms of that.
#[derive(Debug, Default)]
pub(crate) struct Turn<'a> {
    /// All that the model reads.
    pub(crate) prompt: Prompt,
    /// Where the caller wants the prompt kept.
    pub(crate) marks: Vec<Mark>,
    /// Where the prompt's blocks end, in bytes.
    pub(crate) block_ends: Vec<usize>,
    /// The texts of the user's last message.
    pub(crate) user_texts: Vec<&'a str>,
    /// Who spoke last.
    pub(crate) speaker: Speaker,
    /// Whether `user_texts` are of an earlier message.
    pub(crate) freshness: Freshness,
    pub(crate) tools: Vec<Tool<'a>>,
    pub(crate) tool_choice: ToolChoice<'a>,
    pub(crate) format: Format<'a>,
    pub(crate) thinking: Thinking,
    /// The most tokens of the answer.
    pub(crate) limit: Option<u32>,
    /// Texts before which it ends.
    pub(crate) stops: Vec<String>,
    /// Choices beyond the first.
    pub(crate) more_choices: usize,
    /// The request's own seed.
    pub(crate) seed: i64,
}

/// Who spoke last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Speaker {
    User,
    /// The model, or a tool.
    #[default]
    Other,
}

/// Whether the user's last texts are older than the message that is being read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Freshness {
    #[default]
    Fresh,
    Older,
}

/// A tool on offer.
#[derive(Debug, Clone)]
pub(crate) struct Tool<'a> {
    pub(crate) name: Cow<'a, str>,
    /// The JSON schema of its arguments.
    pub(crate) schema: Option<Cow<'a, Value>>,
}

/// Whether a tool is to be called.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) enum ToolChoice<'a> {
    /// As the model likes.
    #[default]
    Auto,
    Never,
    /// Some tool.
    Required,
    /// This tool.
    Named(Cow<'a, str>),
}

/// The form of what is said.
#[derive(Debug, Clone, Default)]
pub(crate) enum Format<'a> {
    #[default]
    Text,
    /// Some JSON object.
    Object,
    /// JSON by this schema.
    Schema(Cow<'a, Value>),
}

/// Whether the model thinks before it speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Thinking {
    /// It must not.
    #[default]
    Off,
    /// It does where a marker says so.
    Possible,
    /// It does, so many tokens at most.
    UpTo(u32),
}

/// Tokens of a thought that no marker measures.
const THOUGHT_TOKENS: u32 = 16;

impl<'a> Turn<'a> {
    /// Ends a block of the prompt's content.
    pub(crate) fn end_block(&mut self) {
        self.block_ends.push(self.prompt.end());
    }

    /// Keeps the prompt up to here.
    pub(crate) fn mark(&mut self, life: Life) {
        let end = self.prompt.end();
        self.marks.push(Mark { end, life });
    }

    /// Begins a message of `role`.
    pub(crate) fn begin_message(&mut self, role: &str) {
        for text in ["<|", role, "|>"] {
            self.prompt.push(text);
        }
    }

    /// Notes that a message of the user begins. Once it says something, what an earlier one said
    /// is past.
    pub(crate) fn user_speaks(&mut self) {
        self.speaker = Speaker::User;
        self.freshness = Freshness::Older;
    }

    /// Notes that a tool answers: whoever sends the message, the user does not speak.
    pub(crate) fn tool_answers(&mut self) {
        self.speaker = Speaker::Other;
    }

    /// Appends a text of the user's message.
    pub(crate) fn user_text(&mut self, text: &'a str) {
        if self.freshness == Freshness::Older {
            self.freshness = Freshness::Fresh;
            self.user_texts.clear();
        }
        self.user_texts.push(text);
        self.prompt.push(text);
    }

    /// The markers of this turn.
    ///
    /// # Errors
    ///
    /// A marker that makes no sense.
    pub(crate) fn directives(&self, headers: &HeaderMap) -> Result<Directives, Refusal> {
        Directives::read(headers, self.user_texts.iter().copied())
    }

    /// What is wrong with the choice of a tool, if anything is.
    pub(crate) fn tool_choice_problem(&self) -> Option<&'static str> {
        let is_offered = |name: &str| self.tools.iter().any(|tool| tool.name == name);
        match &self.tool_choice {
            ToolChoice::Named(name) if !is_offered(name) => {
                Some("the tool that is chosen is not among the tools")
            }
            ToolChoice::Required if self.tools.is_empty() => {
                Some("a tool is required and there is none")
            }
            _ => None,
        }
    }

    /// What the model answers.
    pub(crate) fn replies(
        &self,
        state: &EngineState,
        model: &str,
        directives: &Directives,
    ) -> Vec<Reply> {
        let seed = state.config.seed ^ self.seed as u64;
        let seed = self.prompt.digest(digest(seed, model.as_bytes()));
        let bounds = Bounds {
            limit: self.limit,
            overrun_tokens: directives.faults.overrun_tokens,
            stops: self.stops.clone(),
        };
        let reply = |choice: usize| {
            let seed = digest(seed, &choice.to_le_bytes());
            let scripts = self.scripts(state, directives, seed);
            let mut reply = Reply::write(scripts, &bounds, seed);
            if directives.filter == Filter::Ends {
                reply.finish = Finish::Filtered;
            }
            reply
        };
        (0..=self.more_choices).map(reply).collect()
    }

    fn scripts(&self, state: &EngineState, directives: &Directives, seed: u64) -> Vec<Script> {
        let mut draw = Draw::new(seed);
        let mut scripts: Vec<Script> = self.thought(directives).into_iter().collect();
        let calls = self.calls(directives);
        if let Some(text) = &directives.say {
            scripts.push(Script::Text(text.clone()));
            if calls.iter().all(|(_, call)| call.is_none()) {
                return scripts;
            }
        }
        if !calls.is_empty() {
            scripts.extend(calls.iter().map(|(tool, call)| Script::Call {
                tool: tool.name.clone().into_owned(),
                arguments: match call.and_then(|call| call.arguments.clone()) {
                    Some(arguments) => arguments,
                    None => tool.sample_arguments(&mut draw),
                },
            }));
            return scripts;
        }
        scripts.push(match &self.format {
            Format::Text => Script::Words(directives.tokens.unwrap_or(state.config.output_tokens)),
            Format::Object => Script::Text(sample_object(&mut draw).to_string()),
            Format::Schema(schema) => Script::Text(sample(schema, &mut draw).to_string()),
        });
        scripts
    }

    fn thought(&self, directives: &Directives) -> Option<Script> {
        let tokens = match self.thinking {
            Thinking::Off => None,
            Thinking::Possible => directives.think,
            Thinking::UpTo(most) => Some(directives.think.unwrap_or(THOUGHT_TOKENS).min(most)),
        };
        tokens.filter(|&tokens| tokens > 0).map(Script::Thought)
    }

    /// The tools that this turn calls: those of the markers, or the one that is chosen.
    fn calls<'d>(&self, directives: &'d Directives) -> Vec<(&Tool<'a>, Option<&'d CallDirective>)> {
        if self.tool_choice == ToolChoice::Never {
            return Vec::new();
        }
        let is_user_s = self.speaker == Speaker::User;
        let asked_for: Vec<_> = directives
            .calls
            .iter()
            .filter(|_| is_user_s)
            .filter_map(|call| {
                let tool = self.tools.iter().find(|tool| tool.name == call.tool)?;
                Some((tool, Some(call)))
            })
            .collect();
        if !asked_for.is_empty() {
            return asked_for;
        }
        let is_mentioned = |tool: &&Tool<'_>| {
            let texts = &self.user_texts;
            texts.iter().any(|text| text.contains(&*tool.name))
        };
        let mentioned = || self.tools.iter().find(is_mentioned).or(self.tools.first());
        let called = match &self.tool_choice {
            ToolChoice::Named(name) => self.tools.iter().find(|tool| tool.name == *name),
            ToolChoice::Required => mentioned(),
            ToolChoice::Auto if self.user_wants_tool() => mentioned(),
            ToolChoice::Auto | ToolChoice::Never => None,
        };
        called.map(|tool| (tool, None)).into_iter().collect()
    }

    /// Whether the user just said "use the tool". Not once the tool has answered, or an agent
    /// would never come to an end.
    fn user_wants_tool(&self) -> bool {
        let says_so = |text: &&str| text.contains("use the tool");
        self.speaker == Speaker::User && self.user_texts.iter().any(says_so)
    }
}

impl Tool<'_> {
    fn sample_arguments(&self, draw: &mut Draw) -> String {
        let arguments = match &self.schema {
            Some(schema) if schema.is_object() => match sample(schema, draw) {
                object @ Value::Object(_) => object,
                // A schema that says nothing of an object allows an empty one.
                _ => Value::Object(Map::new()),
            },
            _ => Value::Object(Map::new()),
        };
        arguments.to_string()
    }
}
