//! Amounts of an invoice: exact to the end, and rounded once.

use std::fmt;
use std::iter::Sum;
use std::ops::{Add, Neg, Sub};
use std::str::FromStr;

use base::PicoUsd;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// An amount of 10⁻²⁶ US dollars. A cost of 10⁻¹² with a mark-up (10⁻⁴), a share of a cache hit
/// (10⁻²), a discount (10⁻⁴) and a volume discount (10⁻⁴) has no more places, so that nothing of an
/// invoice is rounded before its total. 128 bits hold 1.7 × 10¹² dollars.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct ExactUsd(i128);

/// 10¹⁴ of them are a pico-dollar.
const PER_PICO: i128 = 100_000_000_000_000;
const PLACES: usize = 26;
/// 10²⁴ of them are a cent.
const PER_CENT: i128 = 1_000_000_000_000_000_000_000_000;
/// A cent is 10¹⁰ pico-dollars.
const PICO_PER_CENT: i128 = 10_000_000_000;

/// More than a trillion dollars.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an amount is too large to be billed")]
pub struct TooLarge;

impl ExactUsd {
    /// Nothing.
    pub const ZERO: Self = Self(0);

    /// An amount of pico-dollars.
    ///
    /// # Errors
    ///
    /// [`TooLarge`].
    pub fn of(amount: PicoUsd) -> Result<Self, TooLarge> {
        let exact = amount.pico().checked_mul(PER_PICO);
        exact.map(Self).ok_or(TooLarge)
    }

    /// So many of a price.
    ///
    /// # Errors
    ///
    /// [`TooLarge`].
    pub fn times(price: PicoUsd, count: u64) -> Result<Self, TooLarge> {
        let pico = price.pico().checked_mul(i128::from(count));
        Self::of(PicoUsd::new(pico.ok_or(TooLarge)?))
    }

    /// `numerator` parts of `denominator`: exact, for each kind of part that an amount of an
    /// invoice goes through once.
    ///
    /// # Errors
    ///
    /// [`TooLarge`].
    pub fn part(self, numerator: u32, denominator: u32) -> Result<Self, TooLarge> {
        let denominator = i128::from(denominator);
        debug_assert_eq!(self.0 % denominator, 0, "there are places for each part");
        let part = (self.0 / denominator).checked_mul(i128::from(numerator));
        part.map(Self).ok_or(TooLarge)
    }

    /// The sum.
    ///
    /// # Errors
    ///
    /// [`TooLarge`].
    pub fn plus(self, other: Self) -> Result<Self, TooLarge> {
        self.0.checked_add(other.0).map(Self).ok_or(TooLarge)
    }

    /// In whole cents, half to even.
    pub fn rounded(self) -> PicoUsd {
        let (cents, rest) = (self.0.div_euclid(PER_CENT), self.0.rem_euclid(PER_CENT));
        let up = match (rest * 2).cmp(&PER_CENT) {
            std::cmp::Ordering::Less => 0,
            std::cmp::Ordering::Equal => cents.rem_euclid(2),
            std::cmp::Ordering::Greater => 1,
        };
        PicoUsd::new((cents + up) * PICO_PER_CENT)
    }

    /// Whether this is less than nothing.
    pub const fn is_negative(self) -> bool {
        self.0 < 0
    }

    /// With this many places, half to even: to be looked at.
    pub(crate) fn shown(self, places: u32) -> String {
        let unit = 10_i128.pow(PLACES as u32 - places);
        let (whole, rest) = (self.0.div_euclid(unit), self.0.rem_euclid(unit));
        let up = match (rest * 2).cmp(&unit) {
            std::cmp::Ordering::Less => 0,
            std::cmp::Ordering::Equal => whole.rem_euclid(2),
            std::cmp::Ordering::Greater => 1,
        };
        let number = whole + up;
        let sign = if number < 0 { "-" } else { "" };
        let per_dollar = 10_u128.pow(places);
        let (dollars, part) = (
            number.unsigned_abs() / per_dollar,
            number.unsigned_abs() % per_dollar,
        );
        format!("{sign}{dollars}.{part:0width$}", width = places as usize)
    }
}

impl Add for ExactUsd {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        self.plus(other).expect("sums of an invoice fit 128 bits")
    }
}

impl Sub for ExactUsd {
    type Output = Self;
    fn sub(self, other: Self) -> Self {
        self + -other
    }
}

impl Neg for ExactUsd {
    type Output = Self;
    fn neg(self) -> Self {
        Self(-self.0)
    }
}

impl Sum for ExactUsd {
    fn sum<I: Iterator<Item = Self>>(amounts: I) -> Self {
        amounts.fold(Self::ZERO, Add::add)
    }
}

/// Dollars, with as many places as it needs and at least two.
impl fmt::Display for ExactUsd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.shown(PLACES as u32);
        let zeros = text.len() - text.trim_end_matches('0').len();
        f.write_str(&text[..text.len() - zeros.min(PLACES - 2)])
    }
}

impl fmt::Debug for ExactUsd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "${self}")
    }
}

/// The text is no such amount.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an amount is dollars with at most 26 places")]
pub struct ParseExactError;

impl FromStr for ExactUsd {
    type Err = ParseExactError;

    fn from_str(text: &str) -> Result<Self, ParseExactError> {
        let (is_negative, digits) = match text.strip_prefix('-') {
            Some(digits) => (true, digits),
            None => (false, text),
        };
        let (whole, places) = digits.split_once('.').unwrap_or((digits, ""));
        let is_number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        if whole.is_empty() || places.len() > PLACES || !is_number(whole) || !is_number(places) {
            return Err(ParseExactError);
        }
        let number = format!("{whole}{places:0<PLACES$}");
        let number: i128 = number.parse().map_err(|_| ParseExactError)?;
        Ok(Self(if is_negative { -number } else { number }))
    }
}

impl Serialize for ExactUsd {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ExactUsd {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

impl schemars::JsonSchema for ExactUsd {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "ExactDollars".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": "string",
            "description": "US dollars as a decimal string, exact to 26 places",
            "pattern": r"^-?[0-9]+(\.[0-9]{1,26})?$",
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn text_round_trips(number in -10_i128.pow(37)..10_i128.pow(37)) {
            let amount = ExactUsd(number);
            prop_assert_eq!(amount.to_string().parse(), Ok(amount));
        }

        #[test]
        fn rounding_is_to_the_nearest_cent(number in -10_i128.pow(37)..10_i128.pow(37)) {
            let rounded = ExactUsd::of(ExactUsd(number).rounded()).unwrap();
            prop_assert!((rounded.0 - number).abs() <= PER_CENT / 2);
            prop_assert_eq!(rounded.0 % PER_CENT, 0);
        }
    }

    #[test]
    fn half_a_cent_goes_to_the_even_one() {
        let rounded = |text: &str| {
            let amount: ExactUsd = text.parse().unwrap();
            amount.rounded().to_string()
        };
        assert_eq!(rounded("0.005"), "0.00");
        assert_eq!(rounded("0.015"), "0.02");
        assert_eq!(rounded("0.00500000000000000000000001"), "0.01");
        assert_eq!(rounded("-0.005"), "0.00");
        assert_eq!(rounded("-0.015"), "-0.02");
        assert_eq!(rounded("-1.2345"), "-1.23");
    }

    #[test]
    fn parts_are_exact_and_what_is_too_large_is_told() {
        let pico = ExactUsd::of(PicoUsd::new(1)).unwrap();
        let marked = pico.part(12_345, 10_000).unwrap();
        let hit = marked.part(7, 100).unwrap();
        let less = hit.part(9_999, 10_000).unwrap().part(1, 10_000).unwrap();
        assert_eq!(less.0, 12_345 * 7 * 9_999);
        assert_eq!(less.to_string(), "0.00000000000000000864063585");
        assert_eq!(ExactUsd::of(PicoUsd::UNBOUNDED), Err(TooLarge));
        assert_eq!(
            ExactUsd::times(PicoUsd::dollars(1), u64::MAX),
            Err(TooLarge)
        );
        assert!("1.".parse::<ExactUsd>().is_ok() && "x".parse::<ExactUsd>().is_err());
        assert_eq!(marked.shown(2), "0.00");
        assert_eq!("-12.345".parse::<ExactUsd>().unwrap().shown(2), "-12.34");
    }
}
