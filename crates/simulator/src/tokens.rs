//! Tokens, hashes and the seeded numbers that every text follows from.
//!
//! The tokenizer is the cheapest that is still stable: four bytes are a token. So a block of the
//! prefix cache is a slice of the prompt's bytes, and counting tokens is a division.

/// 4: the usual rule of thumb for English.
pub(crate) const TOKEN_BYTES: usize = 4;

/// Tokens in so many bytes.
pub(crate) const fn tokens_in(bytes: usize) -> usize {
    bytes.div_ceil(TOKEN_BYTES)
}

/// Cuts text into tokens for output: at most four bytes each, and never inside a character.
/// Returns where each ends.
pub(crate) fn token_ends(text: &str) -> Vec<u32> {
    let mut ends = Vec::with_capacity(tokens_in(text.len()));
    let mut start = 0;
    for (at, character) in text.char_indices() {
        if at + character.len_utf8() - start > TOKEN_BYTES {
            ends.push(at as u32);
            start = at;
        }
    }
    if start < text.len() {
        ends.push(text.len() as u32);
    }
    ends
}

/// Digits of pi, as in many hashes: no pattern that an input could meet by chance.
const KEYS: [u64; 4] = [
    0x243f_6a88_85a3_08d3,
    0x1319_8a2e_0370_7344,
    0xa409_3822_299f_31d0,
    0x082e_fa98_ec4e_6c89,
];

/// A 64-bit hash that is the same on every machine and in every version, so that a seed replays.
/// Not for keys: who wants a collision can find one.
pub(crate) fn digest(seed: u64, bytes: &[u8]) -> u64 {
    let mut state = seed ^ KEYS[0] ^ bytes.len() as u64;
    let (words, rest) = bytes.as_chunks::<16>();
    for word in words {
        state = mix_in(state, word);
    }
    if !rest.is_empty() {
        let mut padded = [0; 16];
        padded[..rest.len()].copy_from_slice(rest);
        state = mix_in(state, &padded);
    }
    fold(state ^ KEYS[2], KEYS[3])
}

fn mix_in(state: u64, word: &[u8; 16]) -> u64 {
    let both = u128::from_le_bytes(*word);
    fold(state ^ both as u64, KEYS[1] ^ (both >> 64) as u64)
}

/// The 128-bit product, folded: the mixer of wyhash and its kin.
fn fold(left: u64, right: u64) -> u64 {
    let product = u128::from(left) * u128::from(right);
    product as u64 ^ (product >> 64) as u64
}

/// A sequence of numbers that a seed determines.
#[derive(Debug, Clone)]
pub(crate) struct Draw(u64);

impl Draw {
    /// The sequence of this seed.
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number (SplitMix64).
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// The next number below `bound`, which is not 0. Slightly uneven, which no text shows.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_hash_never_changes() {
        // A change here changes every text that a seed gives.
        assert_eq!(digest(0, b""), 0x7caa_3d76_6450_37da);
        assert_ne!(digest(0, b"a"), digest(1, b"a"));
        assert_ne!(digest(0, b"a"), digest(0, b"a\0"));
    }

    proptest! {
        #[test]
        fn tokens_cover_the_text_and_split_no_character(text in ".{0,200}") {
            let mut start = 0;
            for end in token_ends(&text) {
                let end = end as usize;
                prop_assert!(end > start && end - start <= TOKEN_BYTES);
                prop_assert!(text.is_char_boundary(end));
                start = end;
            }
            prop_assert_eq!(start, text.len());
        }
    }
}
