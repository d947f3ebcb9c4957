//! HKDF-SHA256 (RFC 5869), and the length prefix that keeps its inputs apart.

use ring::hkdf;
use zeroize::Zeroizing;

/// `lp(part)` is this, then `part`: eight bytes, most significant first, so that no part is too
/// long and `["ab", "c"]` never reads as `["a", "bc"]`.
pub(crate) fn length_prefix(part: &[u8]) -> [u8; 8] {
    (part.len() as u64).to_be_bytes()
}

/// HKDF-Extract without a salt: our input keys are uniform already.
pub(super) fn extract(key: &[u8; 32]) -> hkdf::Prk {
    hkdf::Salt::new(hkdf::HKDF_SHA256, &[]).extract(key)
}

/// HKDF-Expand to 32 bytes.
pub(super) fn expand(prk: &hkdf::Prk, info: &[&[u8]]) -> Zeroizing<[u8; 32]> {
    let mut output = Zeroizing::new([0; 32]);
    prk.expand(info, hkdf::HKDF_SHA256)
        .and_then(|okm| okm.fill(output.as_mut_slice()))
        .expect("32 bytes are one block of HKDF-SHA256");
    output
}

/// The key of one purpose and one owner. The owner is in it although each owner's key is random
/// already: a wrapped key that were ever shared by mistake would still derive different keys.
pub(super) fn purpose_key(
    prk: &hkdf::Prk,
    owner: super::KeyOwner,
    generation: u32,
    label: &str,
) -> Zeroizing<[u8; 32]> {
    expand(
        prk,
        &[
            b"partywall/purpose/v1",
            &owner.to_bytes(),
            &generation.to_be_bytes(),
            label.as_bytes(),
        ],
    )
}
