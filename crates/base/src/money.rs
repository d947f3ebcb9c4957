//! Money is an integer whose unit is in its name.

use std::fmt;
use std::iter::Sum;
use std::ops::{Add, AddAssign, Neg, Sub, SubAssign};
use std::str::FromStr;

use rust_decimal::Decimal;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// An amount of 10⁻¹² US dollars, so that every catalogued price is exact per token.
///
/// 128 bits hold ±1.7 × 10²⁶ dollars: plain arithmetic cannot overflow on any sum of real
/// amounts, and panics (a bug) rather than wraps if it does. Text and JSON are decimal dollars
/// as a string (`"0.0000025"`).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct PicoUsd(i128);

/// 10¹² pico-dollars are a dollar.
const PER_DOLLAR: i128 = 1_000_000_000_000;
/// A dollar has twelve places after the point.
const PLACES: u32 = 12;

impl PicoUsd {
    /// Nothing.
    pub const ZERO: Self = Self(0);
    /// More than any account can hold, yet far from overflow: 10²⁰ dollars.
    pub const UNBOUNDED: Self = Self(100_000_000_000_000_000_000 * PER_DOLLAR);

    /// An amount in pico-dollars.
    pub const fn new(pico_dollars: i128) -> Self {
        Self(pico_dollars)
    }

    /// An amount in whole dollars.
    pub const fn dollars(dollars: i64) -> Self {
        Self(dollars as i128 * PER_DOLLAR)
    }

    /// The amount in pico-dollars.
    pub const fn pico(self) -> i128 {
        self.0
    }

    /// This unit price, `count` times: exact.
    pub const fn times(self, count: u64) -> Self {
        Self(self.0 * count as i128)
    }

    /// `percent` per cent of this amount, rounded down.
    pub const fn percent_floor(self, percent: u32) -> Self {
        Self((self.0 * percent as i128).div_euclid(100))
    }

    /// This amount less `other`, and never below zero.
    pub fn saturating_sub(self, other: Self) -> Self {
        Self((self.0 - other.0).max(0))
    }

    /// Whether this is less than nothing.
    pub const fn is_negative(self) -> bool {
        self.0 < 0
    }

    /// The price per unit that a catalogue states as a decimal number of dollars, such as
    /// `2.5e-06`: exact, or refused.
    ///
    /// # Errors
    ///
    /// [`ParseMoneyError`] if the text is not a number or is finer than a pico-dollar.
    pub fn from_decimal_text(text: &str) -> Result<Self, ParseMoneyError> {
        let refused = || ParseMoneyError {
            text: text.chars().take(40).collect(),
        };
        let decimal = Decimal::from_str_exact(text)
            .or_else(|_| Decimal::from_scientific(text))
            .map_err(|_| refused())?
            .normalize();
        if decimal.scale() > PLACES {
            return Err(refused());
        }
        let scale = 10_i128.pow(PLACES - decimal.scale());
        decimal
            .mantissa()
            .checked_mul(scale)
            .map(Self)
            .ok_or_else(refused)
    }
}

/// The text is not an amount of dollars with at most twelve places.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{text}` is not an amount in dollars: write a decimal with at most 12 places, such as \"25.00\""
)]
pub struct ParseMoneyError {
    text: String,
}

impl FromStr for PicoUsd {
    type Err = ParseMoneyError;

    fn from_str(text: &str) -> Result<Self, ParseMoneyError> {
        Self::from_decimal_text(text.strip_prefix('$').unwrap_or(text))
    }
}

/// An amount as text, without the machinery of formatting: the cost of each call is written twice.
#[derive(Clone, Copy)]
pub struct AmountText {
    /// From the right.
    bytes: [u8; AMOUNT_BYTES],
    start: usize,
    end: usize,
}

/// 48: a sign, the 27 digits that 128 bits leave before the point, the point and the places.
const AMOUNT_BYTES: usize = 48;

impl AmountText {
    /// The text.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(self.as_bytes()).expect("digits are ASCII")
    }

    /// The text's bytes: ASCII alone.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[self.start..self.end]
    }
}

impl PicoUsd {
    /// Dollars, with as many places as the amount needs and at least two.
    pub fn to_text(self) -> AmountText {
        const PLACES_MIN: usize = 2;

        let magnitude = self.0.unsigned_abs();
        // The cost of every call is printed, and 64 bits hold 18 million dollars.
        let (mut whole, mut fraction) = match u64::try_from(magnitude) {
            Ok(small) => (
                u128::from(small / PER_DOLLAR as u64),
                small % PER_DOLLAR as u64,
            ),
            Err(_) => (
                magnitude / PER_DOLLAR as u128,
                (magnitude % PER_DOLLAR as u128) as u64,
            ),
        };
        let mut text = AmountText {
            bytes: [b'0'; AMOUNT_BYTES],
            start: AMOUNT_BYTES,
            end: AMOUNT_BYTES,
        };
        let mut put = |byte: u8| {
            text.start -= 1;
            text.bytes[text.start] = byte;
        };
        for _ in 0..PLACES {
            put(b'0' + (fraction % 10) as u8);
            fraction /= 10;
        }
        put(b'.');
        loop {
            let (rest, digit) = match u64::try_from(whole) {
                Ok(small) => (u128::from(small / 10), (small % 10) as u8),
                Err(_) => (whole / 10, (whole % 10) as u8),
            };
            put(b'0' + digit);
            whole = rest;
            if whole == 0 {
                break;
            }
        }
        if self.0 < 0 {
            put(b'-');
        }
        let places = &text.bytes[AMOUNT_BYTES - PLACES as usize + PLACES_MIN..];
        let zeros = places.iter().rev().take_while(|place| **place == b'0');
        text.end -= zeros.count();
        text
    }
}

/// As [`PicoUsd::to_text`].
impl fmt::Display for PicoUsd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.to_text().as_str())
    }
}

impl fmt::Debug for PicoUsd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "${self}")
    }
}

impl Add for PicoUsd {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self(
            self.0
                .checked_add(other.0)
                .expect("sums of real amounts fit 128 bits"),
        )
    }
}
impl Sub for PicoUsd {
    type Output = Self;
    fn sub(self, other: Self) -> Self {
        Self(
            self.0
                .checked_sub(other.0)
                .expect("differences of real amounts fit 128 bits"),
        )
    }
}
impl Neg for PicoUsd {
    type Output = Self;
    fn neg(self) -> Self {
        Self(-self.0)
    }
}
impl AddAssign for PicoUsd {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}
impl SubAssign for PicoUsd {
    fn sub_assign(&mut self, other: Self) {
        *self = *self - other;
    }
}
impl Sum for PicoUsd {
    fn sum<I: Iterator<Item = Self>>(amounts: I) -> Self {
        amounts.fold(Self::ZERO, Add::add)
    }
}

impl Serialize for PicoUsd {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            serializer.collect_str(self)
        } else {
            self.0.serialize(serializer)
        }
    }
}

impl<'de> Deserialize<'de> for PicoUsd {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            let text = String::deserialize(deserializer)?;
            text.parse().map_err(serde::de::Error::custom)
        } else {
            i128::deserialize(deserializer).map(Self)
        }
    }
}

impl schemars::JsonSchema for PicoUsd {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Dollars".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": "string",
            "description": "US dollars as a decimal string, exact to 12 places",
            "pattern": r"^-?\$?[0-9]+(\.[0-9]{1,12})?$",
            "examples": ["25.00", "0.0000025"],
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn text_round_trips(pico in -10_i128.pow(26)..10_i128.pow(26)) {
            let amount = PicoUsd::new(pico);
            prop_assert_eq!(amount.to_string().parse::<PicoUsd>(), Ok(amount));
        }
    }

    #[test]
    fn catalogue_prices_are_exact() {
        assert_eq!(
            PicoUsd::from_decimal_text("2.5e-06"),
            Ok(PicoUsd::new(2_500_000))
        );
        assert_eq!(
            PicoUsd::from_decimal_text("1.5e-7"),
            Ok(PicoUsd::new(150_000))
        );
        assert_eq!("25".parse(), Ok(PicoUsd::dollars(25)));
        assert!(PicoUsd::from_decimal_text("1e-13").is_err());
        assert!(PicoUsd::from_decimal_text("a lot").is_err());
    }
}
