//! Hours, days and months, UTC: which of them are whole inside a time, and where each begins.

use base::Timestamp;

const HOUR_MICROS: i64 = 3_600 * 1_000_000;
/// Microseconds of a day.
pub(super) const DAY_MICROS: i64 = 24 * HOUR_MICROS;

/// Over which time lines are added up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Grain {
    Hour,
    Day,
    Month,
}

/// From the coarsest on.
pub(super) const GRAINS: [Grain; 3] = [Grain::Month, Grain::Day, Grain::Hour];

/// A part of a time, and where what happened in it is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Piece {
    /// Whole hours, days or months, from this number on and before that one.
    Sums { grain: Grain, from: i64, until: i64 },
    /// The lines from this moment on and before that one.
    Lines { from: Timestamp, until: Timestamp },
}

impl Grain {
    /// As the column has it.
    pub(super) const fn number(self) -> i64 {
        match self {
            Self::Hour => 0,
            Self::Day => 1,
            Self::Month => 2,
        }
    }

    /// The hour, day or month since 1970 in which a moment is.
    pub(super) fn of(self, at: Timestamp) -> i64 {
        let micros = at.as_micros();
        match self {
            Self::Hour => micros.div_euclid(HOUR_MICROS),
            Self::Day => micros.div_euclid(DAY_MICROS),
            Self::Month => month_of_day(micros.div_euclid(DAY_MICROS)),
        }
    }

    /// When the hour, day or month of this number begins.
    pub(super) fn begins(self, number: i64) -> Timestamp {
        Timestamp::from_micros(match self {
            Self::Hour => number.saturating_mul(HOUR_MICROS),
            Self::Day => number.saturating_mul(DAY_MICROS),
            Self::Month => first_day_of(number).saturating_mul(DAY_MICROS),
        })
    }

    /// The day or month that holds the hour or day of this number.
    pub(super) fn of_finer(self, finer: Self, number: i64) -> i64 {
        match (self, finer) {
            (Self::Day, Self::Hour) => number.div_euclid(24),
            (Self::Month, Self::Day) => month_of_day(number),
            _ => self.of(finer.begins(number)),
        }
    }

    /// The first that begins at this moment or later.
    fn first_from(self, at: Timestamp) -> i64 {
        let number = self.of(at);
        number + i64::from(self.begins(number) < at)
    }
}

/// The time from `from` on and before `until`, in pieces of these grains, coarsest first, and of
/// lines where none of them is whole.
pub(super) fn pieces(from: Timestamp, until: Timestamp, grains: &[Grain]) -> Vec<Piece> {
    let mut found = Vec::new();
    split(from, until, grains, &mut found);
    found
}

fn split(from: Timestamp, until: Timestamp, grains: &[Grain], found: &mut Vec<Piece>) {
    if from >= until {
        return;
    }
    let Some((grain, finer)) = grains.split_first() else {
        found.push(Piece::Lines { from, until });
        return;
    };
    let (first, end) = (grain.first_from(from), grain.of(until));
    if first >= end {
        return split(from, until, finer, found);
    }
    split(from, grain.begins(first), finer, found);
    found.push(Piece::Sums {
        grain: *grain,
        from: first,
        until: end,
    });
    split(grain.begins(end), until, finer, found);
}

/// Months since 1970, of a day since 1970 in the proleptic Gregorian calendar. Years are counted
/// from March on, so that the leap day is the last of one: then 153 days are five months.
fn month_of_day(day: i64) -> i64 {
    let day = day.saturating_add(719_468);
    let era = day.div_euclid(146_097);
    let of_era = day.rem_euclid(146_097);
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let from_march = (5 * of_year + 2) / 153;
    (year + era * 400 - 1970) * 12 + from_march + 2
}

/// The first day of a month, both since 1970: what [`month_of_day`] undoes.
fn first_day_of(month: i64) -> i64 {
    let since_march = month - 2;
    let year = since_march.div_euclid(12) + 1970;
    let (era, of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let of_year = (153 * since_march.rem_euclid(12) + 2) / 5;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn months_begin_where_the_calendar_says() {
        for (text, month) in [
            ("1970-01-01T00:00:00Z", 0),
            ("1969-12-01T00:00:00Z", -1),
            ("2000-02-01T00:00:00Z", 361),
            ("2000-03-01T00:00:00Z", 362),
            ("2024-03-01T00:00:00Z", 650),
            ("2026-01-01T00:00:00Z", 672),
        ] {
            assert_eq!(Grain::Month.of(at(text)), month, "{text}");
            assert_eq!(Grain::Month.begins(month), at(text), "{text}");
        }
        assert_eq!(Grain::Month.of(at("2024-02-29T23:59:59Z")), 649);
    }

    #[test]
    fn a_time_is_cut_into_the_coarsest_pieces() {
        let (from, until) = (at("2026-01-30T22:30:00Z"), at("2026-03-02T00:00:00Z"));
        let hours = Grain::Hour.of(at("2026-01-30T23:00:00Z"));
        let day = Grain::Day.of(at("2026-01-31T00:00:00Z"));
        let march = Grain::Day.of(at("2026-03-01T00:00:00Z"));
        let sums = |grain, from, until| Piece::Sums { grain, from, until };
        assert_eq!(
            pieces(from, until, &GRAINS),
            [
                Piece::Lines {
                    from,
                    until: at("2026-01-30T23:00:00Z")
                },
                sums(Grain::Hour, hours, hours + 1),
                sums(Grain::Day, day, day + 1),
                sums(Grain::Month, 673, 674),
                sums(Grain::Day, march, march + 1),
            ]
        );
        assert_eq!(pieces(until, from, &GRAINS), []);
    }

    proptest! {
        #[test]
        fn pieces_cover_a_time_once(
            from in -(1_i64 << 55)..(1_i64 << 55), length in 0_i64..(1_i64 << 50), coarsest in 0..4_usize
        ) {
            let (from, until) = (Timestamp::from_micros(from), Timestamp::from_micros(from + length));
            let mut reached = from;
            for piece in pieces(from, until, &GRAINS[coarsest.min(3)..]) {
                let (begin, end) = match piece {
                    Piece::Lines { from, until } => (from, until),
                    Piece::Sums { grain, from, until } => (grain.begins(from), grain.begins(until)),
                };
                prop_assert_eq!(begin, reached);
                prop_assert!(begin < end);
                reached = end;
            }
            prop_assert_eq!(reached, until.max(from));
        }

        #[test]
        fn a_moment_is_in_the_month_that_begins_before_it(micros in -(1_i64 << 60)..(1_i64 << 60)) {
            let moment = Timestamp::from_micros(micros);
            for grain in GRAINS {
                let number = grain.of(moment);
                prop_assert!(grain.begins(number) <= moment && moment < grain.begins(number + 1));
            }
        }
    }
}
