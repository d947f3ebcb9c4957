//! One neutral form of what clients ask and models answer, between any two dialects.
//!
//! A dialect's reader makes it, another's writer says it again: N readers and M writers, never
//! N × M translators. Whatever is here is already valid: texts are UTF-8, JSON is [`Json`], and
//! numbers are kept as the client wrote them.

mod answer;
mod assemble;
mod event;
mod message;
mod reasoning;
mod replay;

pub use answer::{Answer, Candidate, StopReason};
pub use assemble::{Assembler, EventOutOfOrder};
pub use event::{AnswerEvent, PartDelta, PartStart, StreamFailure};
pub use message::{
    CacheMark, CacheTtl, Content, Message, Part, Role, Signature, Source, ToolCall, ToolResult,
};
pub use reasoning::{Effort, Reasoning};

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
}
