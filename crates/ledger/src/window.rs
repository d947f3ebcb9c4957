//! Over which time a budget counts.

use base::Timestamp;
use jiff::ToSpan as _;
use jiff::tz::TimeZone;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Over which time a budget counts what was spent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Window {
    /// Since the account was opened.
    Total,
    /// Since midnight in a time zone.
    Daily {
        /// Whose midnight.
        zone: Zone,
    },
    /// Since the first of the month, midnight, in a time zone.
    Monthly {
        /// Whose midnight.
        zone: Zone,
    },
    /// In the last hours, whatever the calendar says.
    Rolling {
        /// How many.
        hours: RollingHours,
    },
}

impl Window {
    /// The calendar window that holds `now`, as microseconds `[start, end)`; none if this is not
    /// a calendar window.
    pub(crate) fn calendar(&self, now: Timestamp) -> Option<(i64, i64)> {
        let found = match self {
            Self::Daily { zone } => zone.day(now),
            Self::Monthly { zone } => zone.month(now),
            Self::Total | Self::Rolling { .. } => return None,
        };
        // Only at the ends of the calendar (the years ±9999) is there no next day; a window
        // that never ends is the side on which nothing is un-spent.
        Some(found.unwrap_or((i64::MIN, i64::MAX)))
    }
}

/// 1 to 744 hours: up to 31 days.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u16", into = "u16")]
pub struct RollingHours(u16);

/// 31 days.
const ROLLING_HOURS_MAX: u16 = 744;

/// The number is not one of [`RollingHours`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a rolling window has 1 to {ROLLING_HOURS_MAX} hours")]
pub struct RollingHoursError;

impl TryFrom<u16> for RollingHours {
    type Error = RollingHoursError;

    fn try_from(hours: u16) -> Result<Self, RollingHoursError> {
        if (1..=ROLLING_HOURS_MAX).contains(&hours) {
            Ok(Self(hours))
        } else {
            Err(RollingHoursError)
        }
    }
}

impl From<RollingHours> for u16 {
    fn from(hours: RollingHours) -> Self {
        hours.0
    }
}

/// A time zone of the IANA database that is compiled in, such as `Europe/Berlin`. Its text is
/// its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Zone(TimeZone);

/// The database has no such zone.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{name}` is not a time zone: write an IANA name, such as \"Europe/Berlin\" or \"UTC\"")]
pub struct UnknownZone {
    name: String,
}

impl Zone {
    /// Coordinated universal time.
    pub const UTC: Self = Self(TimeZone::UTC);

    /// The zone's IANA name.
    pub fn name(&self) -> &str {
        self.0.iana_name().unwrap_or("UTC")
    }

    fn at(&self, now: Timestamp) -> Result<jiff::Zoned, jiff::Error> {
        Ok(jiff::Timestamp::from_microsecond(now.as_micros())?.to_zoned(self.0.clone()))
    }

    fn day(&self, now: Timestamp) -> Result<(i64, i64), jiff::Error> {
        let start = self.at(now)?.start_of_day()?;
        let end = start.tomorrow()?.start_of_day()?;
        Ok((micros(&start), micros(&end)))
    }

    fn month(&self, now: Timestamp) -> Result<(i64, i64), jiff::Error> {
        let start = self.at(now)?.first_of_month()?.start_of_day()?;
        let end = start.checked_add(1.month())?.start_of_day()?;
        Ok((micros(&start), micros(&end)))
    }
}

fn micros(time: &jiff::Zoned) -> i64 {
    time.timestamp().as_microsecond()
}

impl std::str::FromStr for Zone {
    type Err = UnknownZone;

    fn from_str(name: &str) -> Result<Self, UnknownZone> {
        if name == "UTC" {
            return Ok(Self::UTC);
        }
        TimeZone::get(name).map(Self).map_err(|_| UnknownZone {
            name: name.chars().take(64).collect(),
        })
    }
}

impl Serialize for Zone {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

impl<'de> Deserialize<'de> for Zone {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(kind: fn(Zone) -> Window, zone: &str, now: &str) -> (String, String) {
        let window = kind(zone.parse().unwrap());
        let (start, end) = window.calendar(now.parse().unwrap()).unwrap();
        (
            Timestamp::from_micros(start).to_string(),
            Timestamp::from_micros(end).to_string(),
        )
    }

    #[test]
    fn days_and_months_are_the_zones_own() {
        let day = window(
            |zone| Window::Daily { zone },
            "Europe/Berlin",
            "2026-03-29T12:00:00Z",
        );
        // The clocks went forward that day: it has 23 hours.
        let expected = ("2026-03-28T23:00:00Z", "2026-03-29T22:00:00Z");
        assert_eq!((day.0.as_str(), day.1.as_str()), expected);

        let month = window(
            |zone| Window::Monthly { zone },
            "Asia/Tokyo",
            "2026-01-31T15:00:00Z",
        );
        let expected = ("2026-01-31T15:00:00Z", "2026-02-28T15:00:00Z");
        assert_eq!((month.0.as_str(), month.1.as_str()), expected);
    }

    #[test]
    fn a_day_that_begins_at_one_o_clock_is_found() {
        // Midnight did not exist in Beirut on that day.
        let day = window(
            |zone| Window::Daily { zone },
            "Asia/Beirut",
            "2022-03-27T12:00:00Z",
        );
        assert_eq!(day.0, "2022-03-26T22:00:00Z");
    }

    #[test]
    fn unknown_zones_and_hours_are_refused() {
        assert!("Mars/Olympus".parse::<Zone>().is_err());
        assert!(RollingHours::try_from(0).is_err());
        assert!(RollingHours::try_from(745).is_err());
        assert!(RollingHours::try_from(744).is_ok());
    }
}
