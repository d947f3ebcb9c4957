//! What a call asks of the simulator beside its request: markers in its last user message.
//!
//! `[[tokens:200]]` sets the length of the output and `[[say:text]]` its text; `[[think:20]]` makes
//! a model think so many tokens first, where it may; `[[call:name {"a": 1}]]` calls a tool that the
//! request offers, several times if it stands there several times; `[[filter]]` ends the answer as
//! a provider's content filter would; `[[flag:violence]]` makes a moderation find that; and
//! `[[fault:…]]` says what goes wrong. Other double brackets are plain text.

use http::HeaderMap;
use memchr::memmem;

use crate::faults::Faults;
use crate::refusal::Refusal;
use crate::text::OUTPUT_TOKENS_MAX;

/// The header that asks for faults.
const FAULT_HEADER: &str = "x-sim-fault";

/// The wishes of one call.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Directives {
    /// How long the output would naturally be, in tokens.
    pub(crate) tokens: Option<u32>,
    /// What the output says.
    pub(crate) say: Option<String>,
    /// How much is thought before, in tokens.
    pub(crate) think: Option<u32>,
    /// Tools to call.
    pub(crate) calls: Vec<CallDirective>,
    /// Whether the provider's filter ends the answer.
    pub(crate) filter: Filter,
    /// Categories that a moderation finds.
    pub(crate) flags: Vec<String>,
    /// What goes wrong.
    pub(crate) faults: Faults,
}

/// A call of a tool that a marker asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CallDirective {
    pub(crate) tool: String,
    /// JSON; without it arguments that fit the tool's schema.
    pub(crate) arguments: Option<String>,
}

/// Whether a provider's content filter ends the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Filter {
    #[default]
    Passes,
    Ends,
}

/// Tools that one answer calls by markers at most: as many as OpenAI lets a request offer.
const CALLS_MAX: usize = 128;

impl Directives {
    /// Reads the header and the markers in `texts`.
    ///
    /// # Errors
    ///
    /// A marker or fault whose value makes no sense.
    pub(crate) fn read<'a>(
        headers: &HeaderMap,
        texts: impl IntoIterator<Item = &'a str>,
    ) -> Result<Self, Refusal> {
        let mut directives = Self::default();
        for value in headers.get_all(FAULT_HEADER) {
            let text = value
                .to_str()
                .map_err(|_| Refusal::bad_request("The header x-sim-fault is not ASCII."))?;
            directives.faults.add(text)?;
        }
        for text in texts {
            for start in memmem::find_iter(text.as_bytes(), b"[[") {
                // A marker begins with ASCII, so the slice begins at a character.
                if let Some((marker, _)) = text[start + 2..].split_once("]]") {
                    directives.add(marker)?;
                }
            }
        }
        Ok(directives)
    }

    fn add(&mut self, marker: &str) -> Result<(), Refusal> {
        match marker.split_once(':') {
            Some(("fault", faults)) => self.faults.add(faults)?,
            Some(("say", text)) => self.say = Some(text.to_owned()),
            Some(("tokens", count)) => self.tokens = Some(read_tokens("tokens", count)?),
            Some(("think", count)) => self.think = Some(read_tokens("think", count)?),
            Some(("flag", category)) => self.flags.push(category.to_owned()),
            Some(("call", call)) if self.calls.len() < CALLS_MAX => {
                self.calls.push(read_call(call)?);
            }
            None if marker == "filter" => self.filter = Filter::Ends,
            _ => {}
        }
        Ok(())
    }
}

fn read_tokens(name: &str, count: &str) -> Result<u32, Refusal> {
    let tokens = count.trim().parse().ok();
    tokens
        .filter(|&tokens| tokens <= OUTPUT_TOKENS_MAX)
        .ok_or_else(|| {
            Refusal::bad_request(format!(
                "[[{name}:…]] takes a number up to {OUTPUT_TOKENS_MAX}"
            ))
        })
}

fn read_call(call: &str) -> Result<CallDirective, Refusal> {
    let Some((tool, arguments)) = call.split_once(' ') else {
        return Ok(CallDirective {
            tool: call.to_owned(),
            arguments: None,
        });
    };
    match serde_json::from_str::<serde_json::Value>(arguments) {
        Ok(serde_json::Value::Object(_)) => Ok(CallDirective {
            tool: tool.to_owned(),
            arguments: Some(arguments.trim().to_owned()),
        }),
        _ => Err(Refusal::bad_request(
            "[[call:name …]] takes a JSON object, or nothing, after the name",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::faults::UsageReport;

    #[test]
    fn markers_are_found_and_other_brackets_are_text() {
        let text = "see [[Paris]] [[tokens:7]] é [[say:well, [1] ]] [[fault:nousage]] [[x";
        let directives = Directives::read(&HeaderMap::new(), [text]).unwrap();
        assert_eq!(directives.tokens, Some(7));
        assert_eq!(directives.say.as_deref(), Some("well, [1] "));
        assert_eq!(directives.faults.usage, UsageReport::Omitted);
    }

    #[test]
    fn calls_thoughts_and_filters_are_asked_for() {
        let text = r#"[[think:9]][[call:f {"a": 1}]] [[call:g]] [[filter]] [[flag:hate]]"#;
        let directives = Directives::read(&HeaderMap::new(), [text]).unwrap();
        assert_eq!(directives.think, Some(9));
        assert_eq!(
            directives.calls[0].arguments.as_deref(),
            Some(r#"{"a": 1}"#)
        );
        assert_eq!(
            (directives.calls[1].tool.as_str(), directives.calls.len()),
            ("g", 2)
        );
        assert_eq!(directives.filter, Filter::Ends);
        assert_eq!(directives.flags, ["hate"]);
    }

    #[test]
    fn a_marker_that_makes_no_sense_is_refused() {
        for text in [
            "[[tokens:many]]",
            "[[tokens:65537]]",
            "[[think:]]",
            "[[call:f 7]]",
            "[[fault:boom]]",
        ] {
            assert!(
                Directives::read(&HeaderMap::new(), [text]).is_err(),
                "{text}"
            );
        }
    }
}
