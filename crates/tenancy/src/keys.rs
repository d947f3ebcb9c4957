//! API keys: what a client presents, and the keyed hash that is all we keep of it.
//!
//! A key reads `pw_` + 43 characters + 6 characters, 52 bytes in all:
//!
//! - 43 characters of base64url without padding: 256 random bits;
//! - 6 characters of base 62 (`0-9A-Za-z`, most significant first, padded with `0`): the CRC-32
//!   (IEEE 802.3: `zlib.crc32` in Python, `Zlib.crc32` in Ruby) of the 46 characters before.
//!
//! A secret scanner verifies the checksum offline, and so do we before any look-up: a mistyped or
//! made-up key costs a table walk and nothing else.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::str::FromStr;

use base::Entropy;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::hmac;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use crate::hex;

/// Every key begins so: it is what scanners search for.
const PREFIX: &[u8; 3] = b"pw_";
/// 32 bytes in base64url without padding.
const SECRET_CHARS: usize = 43;
/// What the checksum covers.
const BODY_CHARS: usize = PREFIX.len() + SECRET_CHARS;
/// 62⁶ is the first power that holds 32 bits.
const CHECKSUM_CHARS: usize = 6;
/// A key's length in bytes.
pub(crate) const KEY_CHARS: usize = BODY_CHARS + CHECKSUM_CHARS;

/// An API key in the clear: 52 ASCII characters, wiped when dropped. It has no `Display`, and its
/// `Debug` shows nothing.
pub struct ApiKey {
    text: Zeroizing<[u8; KEY_CHARS]>,
}

impl ApiKey {
    /// A new key of 256 random bits.
    pub fn generate(entropy: &dyn Entropy) -> Self {
        let mut secret = Zeroizing::new([0_u8; 32]);
        entropy.fill(&mut *secret);
        let mut text = Zeroizing::new([0_u8; KEY_CHARS]);
        text[..PREFIX.len()].copy_from_slice(PREFIX);
        URL_SAFE_NO_PAD
            .encode_slice(*secret, &mut text[PREFIX.len()..BODY_CHARS])
            .expect("32 bytes are 43 characters of base64");
        let checksum = checksum(&text[..BODY_CHARS]);
        text[BODY_CHARS..].copy_from_slice(&checksum);
        Self { text }
    }

    /// The key that `text` is, if its form and its checksum are right. Says nothing about whether
    /// the key was ever issued. Allocates nothing.
    ///
    /// # Errors
    ///
    /// [`ParseKeyError`] says which part is wrong; a client is only told that the key is invalid.
    pub fn parse(text: &str) -> Result<Self, ParseKeyError> {
        let bytes: &[u8; KEY_CHARS] = text
            .as_bytes()
            .try_into()
            .map_err(|_| ParseKeyError::Form)?;
        let secret = bytes
            .strip_prefix(PREFIX.as_slice())
            .ok_or(ParseKeyError::Form)?;
        let in_alphabet = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        if !secret.iter().all(in_alphabet) {
            return Err(ParseKeyError::Form);
        }
        if bytes[BODY_CHARS..] != checksum(&bytes[..BODY_CHARS]) {
            return Err(ParseKeyError::Checksum);
        }
        Ok(Self {
            text: Zeroizing::new(*bytes),
        })
    }

    /// The key itself: to show once to who asked for it, and never again.
    pub fn expose(&self) -> &str {
        std::str::from_utf8(self.text.as_slice()).expect("a key is ASCII by construction")
    }
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ApiKey([redacted])")
    }
}

/// The text is not a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ParseKeyError {
    /// Wrong length, prefix or alphabet.
    #[error("a key is `pw_` and 49 letters, digits, '-' or '_'")]
    Form,
    /// Mistyped, cut or made up.
    #[error("the key's checksum does not match: it was mistyped or cut")]
    Checksum,
}

/// Makes the hashes that keys are looked up by: HMAC-SHA256 under a pepper that only a process
/// with the root key has, so that a stolen catalogue cannot even confirm a guess.
pub struct KeyHasher {
    pepper: hmac::Key,
}

impl KeyHasher {
    /// A hasher under this pepper; [`PlatformKeys::key_hasher`](crate::PlatformKeys::key_hasher)
    /// derives it.
    pub(crate) fn new(pepper: &[u8; 32]) -> Self {
        Self {
            pepper: hmac::Key::new(hmac::HMAC_SHA256, pepper),
        }
    }

    /// The hash of `key`. Two SHA-256 blocks, no allocation.
    pub fn hash(&self, key: &ApiKey) -> KeyHash {
        let tag = hmac::sign(&self.pepper, key.text.as_slice());
        KeyHash(tag.as_ref().try_into().expect("HMAC-SHA256 has 32 bytes"))
    }
}

impl fmt::Debug for KeyHasher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyHasher([redacted])")
    }
}

/// What is kept of a key: 32 bytes, compared in constant time. Text and JSON are 64 lowercase
/// hexadecimal digits. It reveals nothing about the key.
#[derive(Clone)]
pub struct KeyHash([u8; 32]);

impl KeyHash {
    /// The hash with these bytes; for storage codecs.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The bytes; for storage codecs.
    pub const fn to_bytes(&self) -> [u8; 32] {
        self.0
    }

    /// The first eight digits: enough to tell keys apart in a table that a person reads.
    pub fn short(&self) -> String {
        let mut text = String::with_capacity(8);
        hex::push(&mut text, &self.0[..4]);
        text
    }
}

impl PartialEq for KeyHash {
    fn eq(&self, other: &Self) -> bool {
        is_same_secret(&self.0, &other.0)
    }
}
impl Eq for KeyHash {}

/// Whether two secrets are the same: in a time that says nothing of where they differ. Eight bytes
/// at a time, since each comparison is kept from being optimised.
pub(crate) fn is_same_secret(one: &[u8], other: &[u8]) -> bool {
    if one.len() != other.len() {
        return false;
    }
    let (ones, one_rest) = one.as_chunks::<8>();
    let (others, other_rest) = other.as_chunks::<8>();
    let pairs = ones.iter().zip(others);
    let words =
        pairs.map(|(one, other)| u64::from_le_bytes(*one).ct_eq(&u64::from_le_bytes(*other)));
    words
        .fold(one_rest.ct_eq(other_rest), |all, word| all & word)
        .into()
}

/// The first eight bytes: a keyed hash is uniform, and nobody without the pepper can aim for a
/// collision.
impl Hash for KeyHash {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let [a, b, c, d, e, f, g, h, ..] = self.0;
        state.write_u64(u64::from_le_bytes([a, b, c, d, e, f, g, h]));
    }
}

impl fmt::Display for KeyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = String::with_capacity(64);
        hex::push(&mut text, &self.0);
        f.write_str(&text)
    }
}

impl fmt::Debug for KeyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyHash({}…)", self.short())
    }
}

/// The text is not a key's hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a key's hash is 64 lowercase hexadecimal digits")]
pub struct ParseKeyHashError;

impl FromStr for KeyHash {
    type Err = ParseKeyHashError;

    fn from_str(text: &str) -> Result<Self, ParseKeyHashError> {
        hex::decode_32(text).map(Self).ok_or(ParseKeyHashError)
    }
}

impl Serialize for KeyHash {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            serializer.collect_str(self)
        } else {
            self.0.serialize(serializer)
        }
    }
}

impl<'de> Deserialize<'de> for KeyHash {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            let text = String::deserialize(deserializer)?;
            text.parse().map_err(serde::de::Error::custom)
        } else {
            <[u8; 32]>::deserialize(deserializer).map(Self)
        }
    }
}

impl schemars::JsonSchema for KeyHash {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "KeyHash".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({"type": "string", "pattern": "^[0-9a-f]{64}$"})
    }
}

fn checksum(body: &[u8]) -> [u8; CHECKSUM_CHARS] {
    const BASE_62: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    let mut rest = crc_32(body);
    let mut text = [b'0'; CHECKSUM_CHARS];
    for digit in text.iter_mut().rev() {
        *digit = BASE_62[(rest % 62) as usize];
        rest /= 62;
    }
    text
}

/// CRC-32 as in IEEE 802.3. Ours rather than a dependency's: the keys are 46 bytes, for which a
/// table of 1 KiB is as fast as anything.
fn crc_32(bytes: &[u8]) -> u32 {
    const TABLE: [u32; 256] = crc_32_table();
    let register = bytes.iter().fold(u32::MAX, |register, byte| {
        TABLE[usize::from(register.to_le_bytes()[0] ^ byte)] ^ (register >> 8)
    });
    !register
}

const fn crc_32_table() -> [u32; 256] {
    /// The IEEE polynomial, bits reversed.
    const POLYNOMIAL: u32 = 0xedb8_8320;
    let mut table = [0_u32; 256];
    let mut index = 0;
    while index < 256 {
        let mut register = index as u32;
        let mut bit = 0;
        while bit < 8 {
            let carry = register & 1;
            register >>= 1;
            if carry == 1 {
                register ^= POLYNOMIAL;
            }
            bit += 1;
        }
        table[index] = register;
        index += 1;
    }
    table
}

#[cfg(test)]
mod tests {
    use base::SeededEntropy;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_checksum_is_the_one_scanners_know() {
        // The check value of CRC-32/ISO-HDLC in the catalogue of parametrised CRC algorithms.
        assert_eq!(crc_32(b"123456789"), 0xcbf4_3926);
        // python3: zlib.crc32(b"pw_" + b"A"*43) in base 62.
        let key = format!("pw_{}45q3Ku", "A".repeat(43));
        assert!(ApiKey::parse(&key).is_ok());
    }

    #[test]
    fn secrets_are_the_same_in_all_their_bytes_alone() {
        for length in [0, 1, 7, 8, 9, 16, 32, 52, 63] {
            let secret: Vec<u8> = (0..length).collect();
            assert!(is_same_secret(&secret, &secret.clone()));
            assert!(!is_same_secret(
                &secret,
                &[secret.as_slice(), &[0]].concat()
            ));
            for place in 0..secret.len() {
                let mut other = secret.clone();
                other[place] ^= 0x80;
                assert!(!is_same_secret(&secret, &other), "{length} {place}");
            }
        }
    }

    #[test]
    fn nothing_of_a_key_is_printed() {
        let key = ApiKey::generate(&SeededEntropy::new(1));
        assert_eq!(format!("{key:?}"), "ApiKey([redacted])");
        let hasher = KeyHasher::new(&[7; 32]);
        assert_eq!(format!("{hasher:?}"), "KeyHasher([redacted])");
    }

    #[test]
    fn hashes_depend_on_key_and_pepper() {
        let (one, two) = {
            let entropy = SeededEntropy::new(1);
            (ApiKey::generate(&entropy), ApiKey::generate(&entropy))
        };
        let hasher = KeyHasher::new(&[7; 32]);
        assert_eq!(hasher.hash(&one), hasher.hash(&one));
        assert_ne!(hasher.hash(&one), hasher.hash(&two));
        assert_ne!(hasher.hash(&one), KeyHasher::new(&[8; 32]).hash(&one));
    }

    #[test]
    fn a_hash_survives_text_and_json() {
        let hash = KeyHash([0xa5; 32]);
        assert_eq!(hash.to_string().parse::<KeyHash>(), Ok(hash.clone()));
        let json = serde_json::to_string(&hash).unwrap();
        assert_eq!(json, format!("\"{}\"", "a5".repeat(32)));
        assert_eq!(serde_json::from_str::<KeyHash>(&json).unwrap(), hash);
        assert_eq!(hash.short(), "a5a5a5a5");
        for bad in ["", "A5", &"A5".repeat(32), &"a5".repeat(33)] {
            assert!(bad.parse::<KeyHash>().is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn a_generated_key_parses_and_any_one_change_is_noticed(
            seed: u64,
            place in 0..KEY_CHARS,
            replacement in "[0-9A-Za-z_-]",
        ) {
            let key = ApiKey::generate(&SeededEntropy::new(seed));
            let text = key.expose().to_owned();
            let parsed = ApiKey::parse(&text).unwrap();
            prop_assert_eq!(parsed.expose(), &text);
            let mut changed = text.clone();
            changed.replace_range(place..=place, &replacement);
            prop_assert_eq!(ApiKey::parse(&changed).is_ok(), changed == text);
            prop_assert!(ApiKey::parse(&text[..place]).is_err());
        }

        #[test]
        fn parsing_never_panics(text in ".{0,80}") {
            prop_assert!(ApiKey::parse(&text).is_err());
        }
    }
}
