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
    digits::<9>(id).collect()
}

/// An id of letters, digits, `_` and `-`, as Anthropic and Bedrock demand: the id itself if it
/// has this shape and at most 64 of them, and otherwise one derived from it.
pub(super) fn letters_and_digits(id: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    if (1..=64).contains(&id.len()) && id.bytes().all(plain) {
        return id.to_owned();
    }
    let mut derived = String::from("call_");
    derived.extend(digits::<11>(id));
    derived
}

/// The id of a call that its provider gave none: derived from its place in the answer, so that it
/// is the same whole and streamed, and another in every answer.
pub(super) fn call_id(answer: &str, candidate: usize, call: usize) -> String {
    let place = format!("{answer}/{candidate}/{call}");
    digits::<11>(&place).fold("call_".to_owned(), |mut id, digit| {
        id.push(digit);
        id
    })
}

/// The hash of an id, in digits of base 62; 11 hold all of it.
fn digits<const COUNT: usize>(id: &str) -> impl Iterator<Item = char> {
    let mut hash = fnv_1a(id.as_bytes());
    (0..COUNT).map(move |_| {
        let digit = usize::try_from(hash % 62).expect("a digit of base 62 is below 62");
        hash /= 62;
        char::from(ALPHABET[digit])
    })
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
        assert_eq!(letters_and_digits("call_a-1"), "call_a-1");
        let odd = letters_and_digits("functions.add:0");
        assert_eq!(odd, letters_and_digits("functions.add:0"));
        assert!(odd.starts_with("call_") && odd.len() == 16);
        // The published hash of "a".
        assert_eq!(fnv_1a(b"a"), 0xaf63_dc4c_8601_ec8c);
    }
}
