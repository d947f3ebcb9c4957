//! One neutral form of what clients ask and models answer, between any two dialects.
//!
//! A dialect's reader makes it, another's writer says it again: N readers and M writers, never
//! N × M translators. Whatever is here is already valid: texts are UTF-8, JSON is [`Json`], and
//! numbers are kept as the client wrote them.

mod answer;
mod assemble;
mod event;
mod replay;

pub use answer::{Answer, AnswerUsage, Candidate, StopReason};
pub use assemble::{Assembler, EventOutOfOrder};
pub use event::{AnswerEvent, PartDelta, PartStart, StreamFailure};

use serde_json::Number;

use crate::dialect::Dialect;
use crate::json::Json;

/// What a client asks of a model.
#[derive(Debug, Clone, PartialEq)]
pub struct Conversation {
    /// The dialect it was read from: it alone knows what the `extras` mean.
    pub dialect: Dialect,
    /// All messages in their order. A system message may stand anywhere.
    pub messages: Vec<Message>,
    /// The tools that the model may call.
    pub tools: Vec<Tool>,
    /// Whether it must.
    pub tool_choice: Option<ToolChoice>,
    /// Whether it may call several at once.
    pub parallel_tool_calls: Option<bool>,
    /// How tokens are drawn.
    pub sampling: Sampling,
    /// Answers asked for, if the client said how many.
    pub candidates: Option<u32>,
    /// The most tokens of an answer, if the client said so. The gateway's bound replaces it.
    pub output_tokens_max: Option<u64>,
    /// What the answer's text must be.
    pub format: Option<Format>,
    /// Whether and how much the model thinks first.
    pub reasoning: Option<Reasoning>,
    /// Whether the answer is to be streamed.
    pub stream: bool,
    /// Whether the client asked a stream for its usage.
    pub include_usage: bool,
    /// The client's own word for its user.
    pub user: Option<String>,
    /// The client's own labels: an object.
    pub metadata: Option<Json>,
    /// The tier that the client asks its provider for, in OpenAI's words.
    pub service_tier: Option<String>,
    /// Top-level fields that have no place above. A writer carries each or refuses it by name.
    pub extras: Vec<Extra>,
}

/// A top-level field of the inbound dialect that has no neutral meaning.
#[derive(Debug, Clone, PartialEq)]
pub struct Extra {
    /// The field's name.
    pub name: String,
    /// Its value, never null.
    pub value: Json,
}

/// Who speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// Whoever set the model up.
    System,
    /// OpenAI's newer word for it, kept apart so that it can be said again.
    Developer,
    /// The user. Results of tools are the user's too.
    User,
    /// The model.
    Assistant,
}

/// One message.
#[derive(Debug, Clone, PartialEq)]
pub struct Message {
    /// Who speaks.
    pub role: Role,
    /// The speaker's name, where several share a role.
    pub name: Option<String>,
    /// What is said.
    pub parts: Vec<Part>,
}

/// One piece of a message.
#[derive(Debug, Clone, PartialEq)]
pub struct Part {
    /// What it is.
    pub content: Content,
    /// Whether the provider should cache what ends here.
    pub cache: Option<CacheMark>,
    /// What its provider wants to see again with this part.
    pub signature: Option<Signature>,
}

/// What a part is.
#[derive(Debug, Clone, PartialEq)]
pub enum Content {
    /// Text.
    Text(String),
    /// A picture.
    Image {
        /// Where it is.
        source: Source,
        /// OpenAI's `detail`: `low`, `high`, `auto`.
        detail: Option<String>,
    },
    /// A document to be read by the provider: PDF, plain text …
    Document {
        /// Where it is.
        source: Source,
        /// Its title or file name.
        title: Option<String>,
    },
    /// A recording, in base64.
    Audio {
        /// The bytes in base64.
        data: String,
        /// `wav`, `mp3` …
        format: String,
    },
    /// What the model thought. Its signature, if any, is the part's.
    Reasoning(String),
    /// Thoughts that only their provider can read: the part's signature holds them.
    RedactedReasoning,
    /// The model calls a tool.
    ToolCall(ToolCall),
    /// What a tool returned.
    ToolResult(ToolResult),
    /// The model declines, in a field of its own.
    Refusal(String),
}

/// Where an image or document is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// At an address, for the provider to fetch.
    Url(String),
    /// Here.
    Base64 {
        /// `image/png` …
        media_type: String,
        /// The bytes in base64.
        data: String,
    },
    /// A file that the provider keeps.
    File(String),
    /// Plain text, of a document.
    Text(String),
}

/// A call of a tool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ToolCall {
    /// Its id within the conversation.
    pub id: String,
    /// The tool's name.
    pub name: String,
    /// The arguments as the model wrote them: JSON text, if the model kept to it.
    pub arguments: String,
}

/// The result of a call.
#[derive(Debug, Clone, PartialEq)]
pub struct ToolResult {
    /// The call's id.
    pub call: String,
    /// The tool's name, if the dialect says it; [`Conversation::tool_name`] finds it otherwise.
    pub name: Option<String>,
    /// What it returned: text, images, documents.
    pub parts: Vec<Part>,
    /// Whether the tool failed.
    pub is_error: bool,
}

/// A provider's own record of a part, unreadable to all others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signature {
    /// Who wrote it: nobody else can use it.
    pub origin: Dialect,
    /// The record.
    pub data: String,
}

/// A mark that what ends with its part is worth caching.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CacheMark {
    /// For how long; the provider's default if it is not said.
    pub ttl: Option<CacheTtl>,
}

/// How long a provider keeps what it caches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CacheTtl {
    /// `5m`
    FiveMinutes,
    /// `1h`
    OneHour,
}

/// Something that the model may call.
#[derive(Debug, Clone, PartialEq)]
pub enum Tool {
    /// A function of the client's.
    Function(FunctionTool),
    /// A tool of the provider's own, of which no other provider knows the meaning.
    Native {
        /// What it calls itself: `web_search_20250305`.
        kind: String,
        /// All of it, as the client wrote it.
        definition: Json,
    },
}

/// A function of the client's.
#[derive(Debug, Clone, PartialEq)]
pub struct FunctionTool {
    /// Its name.
    pub name: String,
    /// What it is for.
    pub description: Option<String>,
    /// The JSON schema of its arguments: an object.
    pub parameters: Option<Json>,
    /// Whether arguments must keep to the schema.
    pub strict: Option<bool>,
    /// Whether the provider should cache what ends here.
    pub cache: Option<CacheMark>,
}

/// Which tools the model must call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ToolChoice {
    /// Those it likes.
    Auto,
    /// None.
    None,
    /// At least one.
    Required,
    /// This one.
    Named(String),
}

/// How tokens are drawn. Numbers are as the client wrote them.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Sampling {
    /// 0 is greedy.
    pub temperature: Option<Number>,
    /// Of the likeliest tokens with this much probability in all.
    pub top_p: Option<Number>,
    /// Of this many likeliest tokens.
    pub top_k: Option<Number>,
    /// Of tokens at least this likely, relative to the likeliest.
    pub min_p: Option<Number>,
    /// Against what occurred often.
    pub frequency_penalty: Option<Number>,
    /// Against what occurred.
    pub presence_penalty: Option<Number>,
    /// Against what occurred, as a factor.
    pub repetition_penalty: Option<Number>,
    /// For the same answer again.
    pub seed: Option<Number>,
    /// Texts that end the answer.
    pub stop: Vec<String>,
    /// Weights of token ids: an object.
    pub logit_bias: Option<Json>,
    /// Whether to give the tokens' log probabilities.
    pub logprobs: Option<bool>,
    /// Of how many alternatives each.
    pub top_logprobs: Option<Number>,
}

/// What the answer's text must be.
#[derive(Debug, Clone, PartialEq)]
pub enum Format {
    /// Text.
    Text,
    /// Any JSON object.
    JsonObject,
    /// JSON of a schema.
    JsonSchema(SchemaFormat),
}

/// JSON of a schema.
#[derive(Debug, Clone, PartialEq)]
pub struct SchemaFormat {
    /// Its name; only OpenAI's dialects have one.
    pub name: Option<String>,
    /// What it is for.
    pub description: Option<String>,
    /// The schema: an object.
    pub schema: Json,
    /// Whether the answer must keep to it.
    pub strict: Option<bool>,
}

/// How much the model thinks before it answers. Nothing said means: as it likes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Reasoning {
    /// In words.
    pub effort: Option<Effort>,
    /// In tokens.
    pub budget_tokens: Option<u64>,
    /// Which summary of it the client wants: `auto`, `concise`, `detailed`, `none`.
    pub summary: Option<String>,
}

/// How much the model thinks, in words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Effort {
    /// Not at all.
    None,
    /// As little as it can.
    Minimal,
    /// A little.
    Low,
    /// The usual.
    Medium,
    /// Much.
    High,
    /// More.
    XHigh,
    /// All it can.
    Max,
}

impl Conversation {
    /// An empty conversation of a dialect.
    pub fn new(dialect: Dialect) -> Self {
        Self {
            dialect,
            messages: Vec::new(),
            tools: Vec::new(),
            tool_choice: None,
            parallel_tool_calls: None,
            sampling: Sampling::default(),
            candidates: None,
            output_tokens_max: None,
            format: None,
            reasoning: None,
            stream: false,
            include_usage: false,
            user: None,
            metadata: None,
            service_tier: None,
            extras: Vec::new(),
        }
    }

    /// The parts of all system messages, for dialects that have one place for them. A later one
    /// moves to the front: it keeps its authority, and loses its place.
    pub fn system_parts(&self) -> impl Iterator<Item = &Part> {
        let system = self.messages.iter().filter(|message| message.is_system());
        system.flat_map(|message| &message.parts)
    }

    /// All other messages in turns: no two that follow each other have the same role, and results
    /// of tools come first in theirs. For dialects that demand it.
    pub fn turns(&self) -> Vec<Turn<'_>> {
        let mut turns: Vec<Turn<'_>> = Vec::new();
        for message in self.messages.iter().filter(|message| !message.is_system()) {
            match turns.last_mut() {
                Some(turn) if turn.role == message.role => turn.parts.extend(&message.parts),
                _ => turns.push(Turn {
                    role: message.role,
                    parts: message.parts.iter().collect(),
                }),
            }
        }
        for turn in &mut turns {
            // A stable sort: each kind keeps its order.
            let is_result = |part: &&Part| matches!(part.content, Content::ToolResult(_));
            turn.parts.sort_by_key(|part| !is_result(part));
        }
        turns
    }

    /// The name of the tool that a call, by its id, has called: the last such call counts.
    pub fn tool_name(&self, call: &str) -> Option<&str> {
        let messages = self.messages.iter().rev();
        let mut parts = messages.flat_map(|message| message.parts.iter().rev());
        parts.find_map(|part| match &part.content {
            Content::ToolCall(known) if known.id == call => Some(known.name.as_str()),
            _ => None,
        })
    }
}

/// Messages of one role that follow each other, as one.
#[derive(Debug, Clone, PartialEq)]
pub struct Turn<'a> {
    /// User or assistant.
    pub role: Role,
    /// What is said, results of tools first.
    pub parts: Vec<&'a Part>,
}

impl Message {
    /// A message without a name.
    pub fn new(role: Role, parts: Vec<Part>) -> Self {
        Self {
            role,
            name: None,
            parts,
        }
    }

    /// Whether it sets the model up.
    pub fn is_system(&self) -> bool {
        matches!(self.role, Role::System | Role::Developer)
    }
}

impl Part {
    /// Text without marks.
    pub fn text(text: impl Into<String>) -> Self {
        Content::Text(text.into()).into()
    }

    /// The signature, if this dialect wrote it.
    pub fn signature_of(&self, dialect: Dialect) -> Option<&str> {
        let own = self.signature.as_ref().filter(|own| own.origin == dialect);
        own.map(|own| own.data.as_str())
    }
}

impl From<Content> for Part {
    fn from(content: Content) -> Self {
        Self {
            content,
            cache: None,
            signature: None,
        }
    }
}

impl Signature {
    /// As it travels in a client's dialect: with its origin before it, if that is another.
    pub fn carried_in(&self, dialect: Dialect) -> String {
        if self.origin == dialect {
            return self.data.clone();
        }
        format!("{}:{}", self.origin.name(), self.data)
    }

    /// From what a client of this dialect sent back. Base64 has no colon, so that nothing else
    /// can be taken for an origin.
    pub fn from_carried(text: &str, dialect: Dialect) -> Self {
        let foreign = text.split_once(':').and_then(|(origin, data)| {
            let origin = Dialect::from_name(origin)?;
            Some((origin, data))
        });
        let (origin, data) = foreign.unwrap_or((dialect, text));
        Self {
            origin,
            data: data.to_owned(),
        }
    }
}

impl CacheTtl {
    /// `5m` or `1h`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::FiveMinutes => "5m",
            Self::OneHour => "1h",
        }
    }

    /// From `5m` or `1h`.
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "5m" => Some(Self::FiveMinutes),
            "1h" => Some(Self::OneHour),
            _ => None,
        }
    }
}

impl Effort {
    const ALL: [Self; 7] = [
        Self::None,
        Self::Minimal,
        Self::Low,
        Self::Medium,
        Self::High,
        Self::XHigh,
        Self::Max,
    ];

    /// `none`, `minimal`, `low`, `medium`, `high`, `xhigh`, `max`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Minimal => "minimal",
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
            Self::XHigh => "xhigh",
            Self::Max => "max",
        }
    }

    /// From its name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|effort| effort.as_str() == name)
    }
}

impl Reasoning {
    /// The tokens to think with, of an answer that may have `output_tokens`: as said, or the
    /// effort's share of the answer: a fifth, a half, four fifths. `None` if the model shall not
    /// think, or may choose.
    pub fn budget_within(&self, output_tokens: u64) -> Option<u64> {
        if self.effort == Some(Effort::None) {
            return None;
        }
        self.budget_tokens.or_else(|| {
            Some(match self.effort? {
                Effort::None | Effort::Minimal => 0,
                Effort::Low => output_tokens / 5,
                Effort::Medium => output_tokens / 2,
                Effort::High | Effort::XHigh | Effort::Max => output_tokens / 5 * 4,
            })
        })
    }

    /// The effort: as said, or what a budget comes to. 2,048 and 8,192: the steps at which
    /// gateways that map the other way put `low` and `medium`.
    pub fn effort_or_of_budget(&self) -> Option<Effort> {
        self.effort.or_else(|| {
            Some(match self.budget_tokens? {
                0 => Effort::None,
                1..=2_048 => Effort::Low,
                2_049..=8_192 => Effort::Medium,
                _ => Effort::High,
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turns_alternate_and_results_come_first() {
        let mut conversation = Conversation::new(Dialect::OpenAiChat);
        let result = Content::ToolResult(ToolResult {
            call: "c1".into(),
            name: None,
            parts: vec![Part::text("4")],
            is_error: false,
        });
        let call = Content::ToolCall(ToolCall {
            id: "c1".into(),
            name: "add".into(),
            arguments: "{}".into(),
        });
        conversation.messages = vec![
            Message::new(Role::System, vec![Part::text("s")]),
            Message::new(Role::Assistant, vec![call.into()]),
            Message::new(Role::User, vec![Part::text("a")]),
            Message::new(Role::Developer, vec![Part::text("d")]),
            Message::new(Role::User, vec![result.clone().into()]),
        ];
        let turns = conversation.turns();
        assert_eq!(turns.len(), 2);
        assert_eq!(turns[1].parts[0].content, result);
        assert_eq!(turns[1].parts[1].content, Content::Text("a".into()));
        assert_eq!(conversation.system_parts().count(), 2);
        assert_eq!(conversation.tool_name("c1"), Some("add"));
        assert_eq!(conversation.tool_name("c2"), None);
    }

    #[test]
    fn signatures_find_home() {
        let signature = Signature {
            origin: Dialect::Gemini,
            data: "a/b+c=".into(),
        };
        let carried = signature.carried_in(Dialect::Anthropic);
        assert_eq!(carried, "gemini:a/b+c=");
        let back = Signature::from_carried(&carried, Dialect::Anthropic);
        assert_eq!(back, signature);
        let own = Signature::from_carried("EqQB", Dialect::Anthropic);
        assert_eq!(own.origin, Dialect::Anthropic);
        assert_eq!(own.carried_in(Dialect::Anthropic), "EqQB");
    }

    #[test]
    fn budgets_and_efforts_map() {
        let effort = |effort| Reasoning {
            effort: Some(effort),
            ..Reasoning::default()
        };
        assert_eq!(effort(Effort::Low).budget_within(10_000), Some(2_000));
        assert_eq!(effort(Effort::None).budget_within(10_000), None);
        assert_eq!(Reasoning::default().budget_within(10_000), None);
        let budget = |tokens| Reasoning {
            budget_tokens: Some(tokens),
            ..Reasoning::default()
        };
        assert_eq!(budget(1_024).effort_or_of_budget(), Some(Effort::Low));
        assert_eq!(budget(9_000).effort_or_of_budget(), Some(Effort::High));
        assert_eq!(Effort::from_name("xhigh"), Some(Effort::XHigh));
    }
}
