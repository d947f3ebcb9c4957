//! Ids are types: a [`KeyId`] cannot be passed where a [`TenantId`] is meant.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::marker::PhantomData;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::{Clock, Entropy};

/// What an id names; its prefix makes an id recognisable in a log or a ticket.
pub trait IdKind: 'static {
    /// Three lowercase letters, printed before the underscore.
    const PREFIX: &'static str;
}

/// The kinds of id. Each is an empty type that exists to tell ids apart.
pub mod kinds {
    use super::IdKind;

    /// A customer: the unit of isolation.
    pub enum Tenant {}
    /// A part of one tenant.
    pub enum Team {}
    /// A person or service inside one tenant.
    pub enum User {}
    /// An API key's record; never the secret.
    pub enum Key {}
    /// One client request.
    pub enum Request {}
    /// One call of one upstream on behalf of a request.
    pub enum Attempt {}

    impl IdKind for Tenant {
        const PREFIX: &'static str = "tnt";
    }
    impl IdKind for Team {
        const PREFIX: &'static str = "tem";
    }
    impl IdKind for User {
        const PREFIX: &'static str = "usr";
    }
    impl IdKind for Key {
        const PREFIX: &'static str = "key";
    }
    impl IdKind for Request {
        const PREFIX: &'static str = "req";
    }
    impl IdKind for Attempt {
        const PREFIX: &'static str = "att";
    }
}

/// A customer's id.
pub type TenantId = Id<kinds::Tenant>;
/// A team's id.
pub type TeamId = Id<kinds::Team>;
/// A user's id.
pub type UserId = Id<kinds::User>;
/// A key record's id.
pub type KeyId = Id<kinds::Key>;
/// A client request's id.
pub type RequestId = Id<kinds::Request>;
/// An upstream call's id: unique over all replicas, so that usage is counted once.
pub type AttemptId = Id<kinds::Attempt>;

/// 128 bits: 48 of milliseconds since 1970, then 80 random ones; so ids sort by age and do not
/// collide. Printed as `prefix_` and 26 digits of Crockford's base 32, lowercase.
pub struct Id<K> {
    /// The upper half and the lower. As one `u128` whatever holds an id would begin at multiples of
    /// 16 bytes, which allocators have to be asked for.
    halves: [u64; 2],
    kind: PhantomData<fn() -> K>,
}

impl<K: IdKind> Id<K> {
    /// A fresh id.
    pub fn generate(clock: &dyn Clock, entropy: &dyn Entropy) -> Self {
        let millis = (clock.now().as_micros() / 1_000).max(0) as u128;
        let mut random = [0_u8; 16];
        entropy.fill(&mut random[..10]);
        let low = u128::from_le_bytes(random);
        Self::from_bits((millis << 80) | low)
    }

    /// The id that has these bits; for storage codecs.
    pub const fn from_bits(bits: u128) -> Self {
        Self {
            halves: [(bits >> 64) as u64, bits as u64],
            kind: PhantomData,
        }
    }

    /// The bits; for storage codecs.
    pub const fn bits(self) -> u128 {
        let [high, low] = self.halves;
        ((high as u128) << 64) | low as u128
    }

    /// The bits, most significant first, so that bytes sort as ids do.
    pub const fn to_bytes(self) -> [u8; 16] {
        self.bits().to_be_bytes()
    }

    /// The text, for where an id is written at every call.
    pub fn to_ascii(self) -> [u8; TEXT_LENGTH] {
        let mut text = [b'_'; TEXT_LENGTH];
        let (prefix, digits) = text.split_at_mut(PREFIX_LENGTH);
        prefix.copy_from_slice(K::PREFIX.as_bytes());
        let mut bits = self.bits();
        for digit in digits[1..].iter_mut().rev() {
            *digit = DIGITS[bits as usize & 31];
            bits >>= 5;
        }
        text
    }

    /// The id that [`Id::to_bytes`] wrote.
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self::from_bits(u128::from_be_bytes(bytes))
    }
}

/// Crockford's base 32 has no i, l, o or u.
const DIGITS: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
/// 26 digits of 5 bits hold 128 bits, two to spare.
const DIGIT_COUNT: usize = 26;
/// As [`IdKind::PREFIX`] says.
const PREFIX_LENGTH: usize = 3;
/// `req_` and the digits.
const TEXT_LENGTH: usize = PREFIX_LENGTH + 1 + DIGIT_COUNT;

impl<K: IdKind> fmt::Display for Id<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.to_ascii();
        f.write_str(std::str::from_utf8(&text).expect("prefixes and digits are ASCII"))
    }
}

impl<K: IdKind> fmt::Debug for Id<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The text is not an id of the expected kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected `{prefix}_` and 26 base-32 digits")]
pub struct ParseIdError {
    prefix: &'static str,
}

impl<K: IdKind> FromStr for Id<K> {
    type Err = ParseIdError;

    fn from_str(text: &str) -> Result<Self, ParseIdError> {
        let refused = ParseIdError { prefix: K::PREFIX };
        let digits = text
            .strip_prefix(K::PREFIX)
            .and_then(|rest| rest.strip_prefix('_'))
            .filter(|digits| digits.len() == DIGIT_COUNT)
            .ok_or(refused.clone())?;
        let mut bits: u128 = 0;
        for (place, byte) in digits.bytes().enumerate() {
            let value = DIGITS
                .iter()
                .position(|digit| *digit == byte)
                .ok_or(refused.clone())?;
            if place == 0 && value > 7 {
                return Err(refused);
            }
            bits = (bits << 5) | value as u128;
        }
        Ok(Self::from_bits(bits))
    }
}

impl<K> Clone for Id<K> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<K> Copy for Id<K> {}
impl<K> PartialEq for Id<K> {
    fn eq(&self, other: &Self) -> bool {
        self.halves == other.halves
    }
}
impl<K> Eq for Id<K> {}
impl<K> PartialOrd for Id<K> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl<K> Ord for Id<K> {
    fn cmp(&self, other: &Self) -> Ordering {
        self.halves.cmp(&other.halves)
    }
}
impl<K> Hash for Id<K> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.halves.hash(state);
    }
}

impl<K: IdKind> Serialize for Id<K> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            serializer.collect_str(self)
        } else {
            // Half of the bits are random: sixteen bytes are shorter than any variable length.
            serializer.serialize_bytes(&self.to_bytes())
        }
    }
}

impl<'de, K: IdKind> Deserialize<'de> for Id<K> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            let text = String::deserialize(deserializer)?;
            text.parse().map_err(serde::de::Error::custom)
        } else {
            deserializer
                .deserialize_bytes(SixteenBytes)
                .map(Self::from_bytes)
        }
    }
}

struct SixteenBytes;

impl serde::de::Visitor<'_> for SixteenBytes {
    type Value = [u8; 16];

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the sixteen bytes of an id")
    }

    fn visit_bytes<E: serde::de::Error>(self, bytes: &[u8]) -> Result<[u8; 16], E> {
        bytes
            .try_into()
            .map_err(|_| E::invalid_length(bytes.len(), &self))
    }
}

impl<K: IdKind> schemars::JsonSchema for Id<K> {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        format!("Id_{}", K::PREFIX).into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": "string",
            "pattern": format!("^{}_[0-7][0-9a-hjkmnp-tv-z]{{25}}$", K::PREFIX),
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{ManualClock, SeededEntropy, Timestamp};

    proptest! {
        #[test]
        fn text_and_bytes_round_trip(bits: u128) {
            let id = TenantId::from_bits(bits);
            prop_assert_eq!(id.to_string().parse::<TenantId>(), Ok(id));
            prop_assert_eq!(TenantId::from_bytes(id.to_bytes()), id);
        }
    }

    #[test]
    fn an_id_of_another_kind_is_refused() {
        let tenant = TenantId::from_bits(7);
        assert!(tenant.to_string().parse::<KeyId>().is_err());
        assert!("tnt_".parse::<TenantId>().is_err());
        assert!(
            "tnt_z0000000000000000000000000"
                .parse::<TenantId>()
                .is_err()
        );
    }

    #[test]
    fn ids_sort_by_age() {
        let clock = ManualClock::at(Timestamp::from_micros(1_000_000));
        let entropy = SeededEntropy::new(1);
        let older = RequestId::generate(&clock, &entropy);
        clock.advance(std::time::Duration::from_millis(2));
        let newer = RequestId::generate(&clock, &entropy);
        assert!(older < newer && older.to_string() < newer.to_string());
    }
}
