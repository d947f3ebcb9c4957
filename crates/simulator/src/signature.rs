//! Signatures of thoughts: whoever sends a thought back must not have changed it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::tokens::digest;

/// The signature of a thought by the engine of this seed.
pub(crate) fn sign(seed: u64, thought: &str) -> String {
    let first = digest(seed ^ u64::MAX, thought.as_bytes());
    let second = digest(first, thought.as_bytes());
    let mut bytes = b"thought".to_vec();
    bytes.extend_from_slice(&first.to_le_bytes());
    bytes.extend_from_slice(&second.to_le_bytes());
    STANDARD.encode(bytes)
}
