//! A calendar month of a tenant, in its own time zone.

use std::fmt;
use std::str::FromStr;

use base::Timestamp;
use jiff::ToSpan as _;
use jiff::civil::Date;
use jiff::tz::TimeZone;

/// A month: `2026-10`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Period(Date);

/// The text is no month.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a period is a month: 2026-10")]
pub(crate) struct ParsePeriodError;

impl FromStr for Period {
    type Err = ParsePeriodError;

    fn from_str(text: &str) -> Result<Self, ParsePeriodError> {
        let (year, month) = text.split_once('-').ok_or(ParsePeriodError)?;
        let is_number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        if year.len() != 4 || month.len() != 2 || !is_number(year) || !is_number(month) {
            return Err(ParsePeriodError);
        }
        let number = |text: &str| text.parse().map_err(|_| ParsePeriodError);
        let month = i8::try_from(number(month)?).map_err(|_| ParsePeriodError)?;
        // Jiff knows the years up to 9999, and the month after each has to be there too.
        let year = number(year)?;
        if !(1970..9_999).contains(&year) {
            return Err(ParsePeriodError);
        }
        Date::new(year, month, 1)
            .map(Self)
            .map_err(|_| ParsePeriodError)
    }
}

impl fmt::Display for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04}-{:02}", self.0.year(), self.0.month())
    }
}

impl Period {
    /// The month before.
    pub(crate) fn before(self) -> Self {
        Self(self.0.saturating_sub(1.month()))
    }

    /// The month after.
    pub(crate) fn after(self) -> Self {
        Self(self.0.saturating_add(1.month()))
    }

    /// From when to when it is in a time zone; the end is not in it.
    pub(crate) fn bounds(self, zone: &str) -> Result<(Timestamp, Timestamp), jiff::Error> {
        let zone = TimeZone::get(zone)?;
        let begins = |month: Self| -> Result<Timestamp, jiff::Error> {
            let zoned = month.0.to_zoned(zone.clone())?;
            Ok(Timestamp::from_micros(zoned.timestamp().as_microsecond()))
        };
        Ok((begins(self)?, begins(self.after())?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_month_is_the_tenants() {
        let month: Period = "2026-10".parse().unwrap();
        let (from, until) = month.bounds("Europe/Berlin").unwrap();
        assert_eq!(from.to_string(), "2026-09-30T22:00:00Z");
        // The clocks were put back meanwhile.
        assert_eq!(until.to_string(), "2026-10-31T23:00:00Z");
        assert_eq!(month.before().to_string(), "2026-09");
        assert_eq!(
            "2026-12".parse::<Period>().unwrap().after().to_string(),
            "2027-01"
        );
        for wrong in [
            "2026", "2026-13", "2026-1", "26-10", "9999-12", "1969-12", "2026-00", "+026-10",
        ] {
            assert!(wrong.parse::<Period>().is_err(), "{wrong}");
        }
    }
}
