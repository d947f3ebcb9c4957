//! How the answer to a chat is written: whole, and in chunks.

use serde::Serialize;

use super::chunks::{ChoiceDialect, LikelyWords, Names};
use crate::config::Provider;
use crate::dialect::write_json;
use crate::reply::Reply;
use crate::text::{Finish, Output};

/// How a chat's choices are written.
#[derive(Debug)]
pub(super) struct ChatDialect {
    /// Set if log probabilities were asked for.
    pub(super) likely_words: Option<LikelyWords>,
    /// Whose chat it is: thoughts, ids of tools and reasons to end differ.
    pub(super) provider: Provider,
}

#[derive(Serialize)]
struct Choice<'a> {
    index: usize,
    message: AnswerMessage<'a>,
    logprobs: Option<Logprobs<'a>>,
    finish_reason: &'static str,
}

#[derive(Serialize)]
struct AnswerMessage<'a> {
    role: &'static str,
    content: Option<&'a str>,
    refusal: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reasoning_content: Option<&'a str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tool_calls: Vec<ToolCall<'a>>,
}

#[derive(Serialize)]
struct ChunkChoice<'a> {
    index: usize,
    delta: Delta<'a>,
    logprobs: Option<Logprobs<'a>>,
    finish_reason: Option<&'static str>,
}

#[derive(Serialize, Default)]
struct Delta<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    role: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    content: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reasoning_content: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_calls: Option<[ToolCall<'a>; 1]>,
}

#[derive(Serialize)]
struct ToolCall<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    index: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    kind: Option<&'static str>,
    function: CalledFunction<'a>,
}

#[derive(Serialize)]
struct CalledFunction<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    arguments: &'a str,
}

#[derive(Serialize)]
struct Logprobs<'a> {
    content: Vec<TokenLogprob<'a>>,
    refusal: Option<&'static str>,
}

#[derive(Serialize)]
struct TokenLogprob<'a> {
    #[serde(flatten)]
    chosen: LikelyToken<'a>,
    top_logprobs: Vec<LikelyToken<'a>>,
}

#[derive(Serialize)]
struct LikelyToken<'a> {
    token: &'a str,
    logprob: f64,
    bytes: &'a [u8],
}

impl<'a> LikelyToken<'a> {
    fn new((token, logprob): (&'a str, f64)) -> Self {
        Self {
            token,
            logprob,
            bytes: token.as_bytes(),
        }
    }
}

impl ChatDialect {
    fn logprobs<'a>(
        &self,
        output: &'a Output,
        tokens: std::ops::Range<usize>,
    ) -> Option<Logprobs<'a>> {
        let LikelyWords(count) = self.likely_words?;
        // Nobody reads the probabilities of a tool's arguments, and providers give none.
        if !output.is_said() {
            return None;
        }
        let content = tokens.map(|token| {
            let (logprob, likely) = output.log_probabilities(token, count);
            TokenLogprob {
                chosen: LikelyToken::new((output.token(token), logprob)),
                top_logprobs: likely.into_iter().map(LikelyToken::new).collect(),
            }
        });
        Some(Logprobs {
            content: content.collect(),
            refusal: None,
        })
    }

    /// A tool call with its id and name, and these arguments.
    fn named_call<'a>(&self, output: &Output, name: &'a str, arguments: &'a str) -> ToolCall<'a> {
        let id = match self.provider {
            Provider::Mistral => super::mistral::tool_id(output.seed),
            _ => format!("call_{:016x}", output.seed),
        };
        ToolCall {
            index: None,
            id: Some(id),
            kind: Some("function"),
            function: CalledFunction {
                name: Some(name),
                arguments,
            },
        }
    }

    /// OpenAI thinks behind closed doors; engines show it.
    fn shows_thoughts(&self) -> bool {
        self.provider == Provider::Vllm
    }
}

/// OpenAI's `finish_reason`.
pub(super) fn finish_reason(finish: &Finish) -> &'static str {
    match finish {
        Finish::Stop | Finish::Sequence(_) => "stop",
        Finish::Length => "length",
        Finish::ToolCalls => "tool_calls",
        Finish::Filtered => "content_filter",
    }
}

impl ChoiceDialect for ChatDialect {
    fn names(&self) -> Names {
        Names {
            id_prefix: "chatcmpl-",
            whole: "chat.completion",
            chunk: "chat.completion.chunk",
        }
    }

    fn write_choice(&self, json: &mut Vec<u8>, index: usize, reply: &Reply) {
        let calls = reply.calls().filter_map(|(_, output)| {
            let name = output.tool()?;
            Some(self.named_call(output, name, &output.text))
        });
        let said = reply.said();
        let thought = reply.thought().filter(|_| self.shows_thoughts());
        let choice = Choice {
            index,
            message: AnswerMessage {
                role: "assistant",
                content: said.map(|said| said.text.as_str()),
                refusal: None,
                reasoning_content: thought.map(|thought| thought.text.as_str()),
                tool_calls: calls.collect(),
            },
            logprobs: said.and_then(|said| self.logprobs(said, 0..said.visible_tokens())),
            finish_reason: finish_reason(&reply.finish),
        };
        write_json(json, &choice);
    }

    fn has_opening(&self, reply: &Reply, part: usize) -> bool {
        part == 0 || reply.parts[part].tool().is_some()
    }

    fn write_opening(&self, json: &mut Vec<u8>, index: usize, reply: &Reply, part: usize) {
        let output = &reply.parts[part];
        let call = output.tool().map(|name| {
            [ToolCall {
                index: Some(reply.call_place(part)),
                ..self.named_call(output, name, "")
            }]
        });
        let delta = Delta {
            role: (part == 0).then_some("assistant"),
            content: call.is_none().then_some(""),
            tool_calls: call,
            ..Delta::default()
        };
        write_json(json, &chunk_choice(index, delta));
    }

    fn shows(&self, reply: &Reply, part: usize) -> bool {
        self.shows_thoughts() || !reply.parts[part].is_thought()
    }

    fn write_token(
        &self,
        json: &mut Vec<u8>,
        index: usize,
        reply: &Reply,
        (part, token): (usize, usize),
    ) {
        let output = &reply.parts[part];
        let text = output.token(token);
        let delta = match output.tool() {
            Some(_) => Delta {
                tool_calls: Some([ToolCall {
                    index: Some(reply.call_place(part)),
                    id: None,
                    kind: None,
                    function: CalledFunction {
                        name: None,
                        arguments: text,
                    },
                }]),
                ..Delta::default()
            },
            None if output.is_thought() => Delta {
                reasoning_content: Some(text),
                ..Delta::default()
            },
            None => Delta {
                content: Some(text),
                ..Delta::default()
            },
        };
        let choice = ChunkChoice {
            logprobs: self.logprobs(output, token..token + 1),
            ..chunk_choice(index, delta)
        };
        write_json(json, &choice);
    }

    fn write_closing(&self, json: &mut Vec<u8>, index: usize, reply: &Reply) {
        let choice = ChunkChoice {
            finish_reason: Some(finish_reason(&reply.finish)),
            ..chunk_choice(index, Delta::default())
        };
        write_json(json, &choice);
    }
}

/// A chunk's choice that has this delta and is not the last.
fn chunk_choice(index: usize, delta: Delta<'_>) -> ChunkChoice<'_> {
    ChunkChoice {
        index,
        delta,
        logprobs: None,
        finish_reason: None,
    }
}
