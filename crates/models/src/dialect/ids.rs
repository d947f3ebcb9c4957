//! Ids of tool calls for dialects that demand a shape, or have none.

/// The letters and digits that Mistral takes.
const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// An id of nine letters and digits, Mistral's shape: the id itself if it has it, and otherwise
/// one derived from it, always the same. Two ids of one conversation share one by chance once in
/// 62⁹ / (their number)².
pub(super) fn nine_alphanumerics(id: &str) -> String {
    if id.len() == 9 && id.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        return id.to_owned();
    }
    let mut hash = fnv_1a(id.as_bytes());
    let mut derived = String::with_capacity(9);
    for _ in 0..9 {
        let digit = usize::try_from(hash % 62).expect("a digit of base 62 is below 62");
        derived.push(char::from(ALPHABET[digit]));
        hash /= 62;
    }
    derived
}

/// FNV-1a of 64 bits, which needs no key and never changes between versions and machines.
pub(super) fn fnv_1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_take_mistrals_shape_and_keep_it() {
        assert_eq!(nine_alphanumerics("D681PevKs"), "D681PevKs");
        let derived = nine_alphanumerics("call_0123456789");
        assert_eq!(derived.len(), 9);
        assert!(derived.bytes().all(|byte| byte.is_ascii_alphanumeric()));
        assert_eq!(nine_alphanumerics(&derived), derived);
        assert_eq!(nine_alphanumerics("call_0123456789"), derived);
        assert_ne!(nine_alphanumerics("call_0123456788"), derived);
        // The published hash of "a".
        assert_eq!(fnv_1a(b"a"), 0xaf63_dc4c_8601_ec8c);
    }
}
