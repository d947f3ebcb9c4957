//! Every path that the data listener knows, in one table: routing, the API reference and the
//! refusal matrix read it.

use http::Method;
use models::Operation;

/// What a path leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Endpoint {
    /// A call of a model: through all seven stages.
    Call(Operation),
    /// The models that the caller may use.
    Models,
    /// One of them.
    Model,
    /// A stored response, or the items of its input.
    Response,
    /// Removes a stored response.
    DeleteResponse,
    /// Makes a conversation.
    CreateConversation,
    /// A conversation.
    Conversation,
    /// Says something else of it.
    ChangeConversation,
    /// Removes it, with its items.
    DeleteConversation,
    /// A page of its items.
    ConversationItems,
    /// Adds items to it.
    AddConversationItems,
    /// One of its items.
    ConversationItem,
    /// Removes one of them.
    DeleteConversationItem,
    /// RFC 8693 token exchange.
    Token,
    /// The public keys that tokens are signed with.
    KeySet,
    /// Whether the process runs.
    Health,
    /// Whether it accepts calls.
    Ready,
}

/// Who may call an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Access {
    /// Whoever presents a tenant's credential.
    Credential,
    /// Anybody.
    Public,
}

/// A row of the table.
#[derive(Debug, Clone)]
pub struct EndpointRow {
    /// The method.
    pub method: Method,
    /// The path. A `*` is one part of it, and at the end all the rest: a name.
    pub path: &'static str,
    /// Where it leads.
    pub endpoint: Endpoint,
    /// Who may call it.
    pub access: Access,
}

/// The table.
pub const ENDPOINTS: &[EndpointRow] = &[
    row(
        Method::POST,
        "/v1/chat/completions",
        Endpoint::Call(Operation::Chat),
        Access::Credential,
    ),
    row(
        Method::POST,
        "/v1/completions",
        Endpoint::Call(Operation::Completion),
        Access::Credential,
    ),
    row(
        Method::POST,
        "/v1/embeddings",
        Endpoint::Call(Operation::Embedding),
        Access::Credential,
    ),
    row(
        Method::POST,
        "/v1/rerank",
        Endpoint::Call(Operation::Rerank),
        Access::Credential,
    ),
    row(
        Method::POST,
        "/v1/moderations",
        Endpoint::Call(Operation::Moderation),
        Access::Credential,
    ),
    row(
        Method::POST,
        "/v1/responses",
        Endpoint::Call(Operation::Responses),
        Access::Credential,
    ),
    row(
        Method::GET,
        "/v1/responses/*",
        Endpoint::Response,
        Access::Credential,
    ),
    row(
        Method::DELETE,
        "/v1/responses/*",
        Endpoint::DeleteResponse,
        Access::Credential,
    ),
    row(
        Method::POST,
        "/v1/conversations",
        Endpoint::CreateConversation,
        Access::Credential,
    ),
    row(
        Method::GET,
        "/v1/conversations/*/items",
        Endpoint::ConversationItems,
        Access::Credential,
    ),
    row(
        Method::POST,
        "/v1/conversations/*/items",
        Endpoint::AddConversationItems,
        Access::Credential,
    ),
    row(
        Method::GET,
        "/v1/conversations/*/items/*",
        Endpoint::ConversationItem,
        Access::Credential,
    ),
    row(
        Method::DELETE,
        "/v1/conversations/*/items/*",
        Endpoint::DeleteConversationItem,
        Access::Credential,
    ),
    row(
        Method::GET,
        "/v1/conversations/*",
        Endpoint::Conversation,
        Access::Credential,
    ),
    row(
        Method::POST,
        "/v1/conversations/*",
        Endpoint::ChangeConversation,
        Access::Credential,
    ),
    row(
        Method::DELETE,
        "/v1/conversations/*",
        Endpoint::DeleteConversation,
        Access::Credential,
    ),
    row(
        Method::POST,
        "/v1/messages",
        Endpoint::Call(Operation::Messages),
        Access::Credential,
    ),
    row(
        Method::POST,
        "/v1/messages/count_tokens",
        Endpoint::Call(Operation::CountTokens),
        Access::Credential,
    ),
    row(
        Method::GET,
        "/v1/models",
        Endpoint::Models,
        Access::Credential,
    ),
    row(
        Method::GET,
        "/v1/models/*",
        Endpoint::Model,
        Access::Credential,
    ),
    row(
        Method::POST,
        "/oauth/token",
        Endpoint::Token,
        Access::Credential,
    ),
    row(
        Method::GET,
        "/.well-known/jwks.json",
        Endpoint::KeySet,
        Access::Public,
    ),
    row(Method::GET, "/healthz", Endpoint::Health, Access::Public),
    row(Method::GET, "/readyz", Endpoint::Ready, Access::Public),
];

const fn row(
    method: Method,
    path: &'static str,
    endpoint: Endpoint,
    access: Access,
) -> EndpointRow {
    EndpointRow {
        method,
        path,
        endpoint,
        access,
    }
}

impl EndpointRow {
    /// The row that a request matches. Paths are compared byte by byte: nothing is decoded,
    /// folded or normalised, so that no other spelling reaches an endpoint.
    pub fn matching(method: &Method, path: &str) -> Option<&'static Self> {
        ENDPOINTS
            .iter()
            .find(|row| row.method == *method && row.rest(path).is_some())
    }

    /// What stands in the place of the last `*`; empty for a row without one.
    pub fn rest<'a>(&self, path: &'a str) -> Option<&'a str> {
        Some(self.names(path)?.1)
    }

    /// What stands in the places of the first `*` and of the last, which may be the same; empty
    /// for a row without one.
    pub fn names<'a>(&self, path: &'a str) -> Option<(&'a str, &'a str)> {
        let Some((before, after)) = self.path.split_once('*') else {
            return (path == self.path).then_some(("", ""));
        };
        let rest = path.strip_prefix(before)?;
        if after.is_empty() {
            return (!rest.is_empty()).then_some((rest, rest));
        }
        let (first, rest) = rest.split_once('/').unwrap_or((rest, ""));
        let after = after.strip_prefix('/').unwrap_or(after);
        if first.is_empty() {
            return None;
        }
        match after.strip_suffix('*') {
            None => (rest == after).then_some((first, first)),
            Some(between) => {
                let last = rest.strip_prefix(between)?;
                (!last.is_empty()).then_some((first, last))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_exact_spelling_leads_anywhere() {
        let find = |path| EndpointRow::matching(&Method::POST, path).map(|row| row.endpoint);
        assert_eq!(
            find("/v1/chat/completions"),
            Some(Endpoint::Call(Operation::Chat))
        );
        for path in [
            "/v1/chat/completions/",
            "//v1/chat/completions",
            "/V1/chat/completions",
            "/v1/chat%2fcompletions",
            "/v1/../v1/completions",
        ] {
            assert_eq!(find(path), None, "{path}");
        }
        let model = EndpointRow::matching(&Method::GET, "/v1/models/a/b").expect("a model");
        assert_eq!(model.rest("/v1/models/a/b"), Some("a/b"));
        assert!(EndpointRow::matching(&Method::GET, "/v1/models/").is_none());
    }

    #[test]
    fn a_path_may_have_two_names() {
        for (path, endpoint, names) in [
            ("/v1/conversations/a", Endpoint::Conversation, ("a", "a")),
            (
                "/v1/conversations/a/items",
                Endpoint::ConversationItems,
                ("a", "a"),
            ),
            (
                "/v1/conversations/a/items/b",
                Endpoint::ConversationItem,
                ("a", "b"),
            ),
            // Names of nothing: they are looked up, and are not there.
            (
                "/v1/conversations/a/item",
                Endpoint::Conversation,
                ("a/item", "a/item"),
            ),
            (
                "/v1/conversations/a/items/",
                Endpoint::Conversation,
                ("a/items/", "a/items/"),
            ),
            (
                "/v1/conversations//items",
                Endpoint::Conversation,
                ("/items", "/items"),
            ),
        ] {
            let row = EndpointRow::matching(&Method::GET, path).expect(path);
            assert_eq!(
                (row.endpoint, row.names(path)),
                (endpoint, Some(names)),
                "{path}"
            );
        }
        assert!(EndpointRow::matching(&Method::GET, "/v1/conversations").is_none());
        assert!(EndpointRow::matching(&Method::GET, "/v1/conversations/").is_none());
    }

    #[test]
    fn what_is_public_is_this_and_no_more() {
        let public: Vec<_> = ENDPOINTS
            .iter()
            .filter(|row| row.access == Access::Public)
            .collect();
        let paths: Vec<_> = public.iter().map(|row| row.path).collect();
        assert_eq!(paths, ["/.well-known/jwks.json", "/healthz", "/readyz"]);
    }
}
