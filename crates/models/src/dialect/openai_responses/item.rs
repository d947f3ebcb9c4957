//! What requests and answers have in common: thoughts and signatures.

use crate::conversation::{Content, Part, Signature};
use crate::dialect::Dialect;
use crate::dialect::read::{At, Misread};

/// Between the pieces of one thought.
pub(super) const BETWEEN: &str = "\n\n";

/// A thought; `None` if it says nothing. What only its provider can read has no text.
pub(super) fn read_reasoning(item: &At<'_>) -> Result<Option<Part>, Misread> {
    let mut pieces = Vec::new();
    let mut signature = None;
    item.object(|name, value| {
        match name {
            "summary" | "content" => value.array(|piece| {
                pieces.push(piece.need("text")?.text()?);
                Ok::<_, Misread>(())
            })?,
            "encrypted_content" => signature = Some(read_signature(&value)?),
            _ => {}
        }
        Ok(())
    })?;
    let content = match (pieces.is_empty(), &signature) {
        (true, None) => return Ok(None),
        (true, Some(_)) => Content::RedactedReasoning,
        (false, _) => Content::Reasoning(pieces.join(BETWEEN)),
    };
    let mut part = Part::from(content);
    part.signature = signature;
    Ok(Some(part))
}

/// With its provider's name before it, unless that is OpenAI.
pub(super) fn read_signature(value: &At<'_>) -> Result<Signature, Misread> {
    let text = value.text()?;
    Ok(Signature::from_carried(&text, Dialect::OpenAiResponses))
}

pub(super) fn carried(part: &Part) -> Option<String> {
    let signature = part.signature.as_ref()?;
    Some(signature.carried_in(Dialect::OpenAiResponses))
}
