//! What a call asks of the simulator beside its request: markers in its last user message.
//!
//! `[[tokens:200]]` sets the length of the output, `[[say:text]]` its text, and `[[fault:…]]` what
//! goes wrong. Other double brackets are plain text.

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
    /// What goes wrong.
    pub(crate) faults: Faults,
}

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
            Some(("tokens", count)) => {
                let tokens = count
                    .trim()
                    .parse()
                    .ok()
                    .filter(|&tokens| tokens <= OUTPUT_TOKENS_MAX);
                self.tokens = Some(tokens.ok_or_else(|| {
                    Refusal::bad_request(format!(
                        "[[tokens:…]] takes a number up to {OUTPUT_TOKENS_MAX}"
                    ))
                })?);
            }
            _ => {}
        }
        Ok(())
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
    fn a_marker_that_makes_no_sense_is_refused() {
        for text in ["[[tokens:many]]", "[[tokens:65537]]", "[[fault:boom]]"] {
            assert!(
                Directives::read(&HeaderMap::new(), [text]).is_err(),
                "{text}"
            );
        }
    }
}
