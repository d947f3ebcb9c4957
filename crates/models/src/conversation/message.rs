//! Messages and their parts: texts, images, thoughts, calls of tools and what came of them.

use crate::dialect::Dialect;

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

#[cfg(test)]
mod tests {
    use super::*;

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
}
