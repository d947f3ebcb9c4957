//! Dates by a tenant's calendar.

use base::Timestamp;
use jiff::tz::TimeZone;

/// The date of `at` in an IANA time zone, as `2026-01-31`.
pub(crate) fn date(at: Timestamp, zone: &str) -> String {
    let zone = TimeZone::get(zone).unwrap_or(TimeZone::UTC);
    match jiff::Timestamp::from_microsecond(at.as_micros()) {
        Ok(time) => time.to_zoned(zone).date().to_string(),
        Err(_) => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn midnight_is_the_tenants_own() {
        let late = Timestamp::from_micros(1_700_000_000_000_000); // 22:13 UTC
        assert_eq!(date(late, "UTC"), "2023-11-14");
        assert_eq!(date(late, "Asia/Tokyo"), "2023-11-15");
    }
}
