//! How the answer to a chat is written: whole, and in chunks.

use serde::Serialize;

use crate::dialect::{Dialect, LikelyWords, Names, write_json};
use crate::text::Output;

/// How a chat's choices are written.
#[derive(Debug)]
pub(crate) struct ChatDialect {
    /// Set if log probabilities were asked for.
    pub(crate) likely_words: Option<LikelyWords>,
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
    tool_calls: Option<[ToolCall<'a>; 1]>,
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
        if output.tool.is_some() {
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
}

/// A tool call with its id and name, and these arguments.
fn named_call<'a>(output: &Output, name: &'a str, arguments: &'a str) -> ToolCall<'a> {
    ToolCall {
        index: None,
        id: Some(format!("call_{:016x}", output.seed)),
        kind: Some("function"),
        function: CalledFunction {
            name: Some(name),
            arguments,
        },
    }
}

impl Dialect for ChatDialect {
    fn names(&self) -> Names {
        Names {
            id_prefix: "chatcmpl-",
            whole: "chat.completion",
            chunk: "chat.completion.chunk",
        }
    }

    fn write_choice(&self, json: &mut Vec<u8>, index: usize, output: &Output) {
        let call = output
            .tool
            .as_deref()
            .map(|name| [named_call(output, name, &output.text)]);
        let choice = Choice {
            index,
            message: AnswerMessage {
                role: "assistant",
                content: call.is_none().then_some(&output.text),
                refusal: None,
                tool_calls: call,
            },
            logprobs: self.logprobs(output, 0..output.visible_tokens()),
            finish_reason: output.finish.as_str(),
        };
        write_json(json, &choice);
    }

    fn has_opening(&self) -> bool {
        true
    }

    fn write_opening(&self, json: &mut Vec<u8>, index: usize, output: &Output) {
        let call = output.tool.as_deref().map(|name| {
            [ToolCall {
                index: Some(0),
                ..named_call(output, name, "")
            }]
        });
        let delta = Delta {
            role: Some("assistant"),
            content: call.is_none().then_some(""),
            tool_calls: call,
        };
        write_json(json, &chunk_choice(index, delta));
    }

    fn write_token(&self, json: &mut Vec<u8>, index: usize, output: &Output, token: usize) {
        let text = output.token(token);
        let delta = match output.tool {
            Some(_) => Delta {
                tool_calls: Some([ToolCall {
                    index: Some(0),
                    id: None,
                    kind: None,
                    function: CalledFunction {
                        name: None,
                        arguments: text,
                    },
                }]),
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

    fn write_closing(&self, json: &mut Vec<u8>, index: usize, output: &Output) {
        let choice = ChunkChoice {
            finish_reason: Some(output.finish.as_str()),
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
