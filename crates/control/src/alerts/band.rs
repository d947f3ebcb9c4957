//! What the hours of a tenant's own past forecast for one of its hours: the rule, in integers and
//! without I/O.
//!
//! An hour is compared with hours like it of the last four weeks: of working days or of weekends
//! (UTC), at the same time of day or an hour before or after. Their median and the median of their
//! distances from it (MAD) make the band's upper edge. Both are blind to single spikes. What has
//! happened [`USUAL`] times is no news either: neither a value that hours like it had so often, nor
//! a multiple of their median that any hours had so often, so that a tenant whose nature it is to
//! spike is not reported each time.

/// Four weeks of hours.
pub(super) const PAST_HOURS: i64 = 28 * 24;
/// 24: eight days of three hours. Of fewer hours nothing is concluded: a tenant's working days are
/// judged from its ninth on, its weekends from the fifth on.
const SAMPLES_MIN: usize = 24;
/// 9 MAD are six standard deviations where noise is normal.
const MADS: u64 = 9;
/// What has been reached so often in four weeks is usual.
const USUAL: usize = 3;
/// Working days and weekends, by the hour.
const SEASONS: usize = 48;

/// How far above the median a value may be, however little it has varied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Slack {
    /// In hundredths of the median.
    pub(super) percent: u64,
    /// In the value's own unit; more than nothing.
    pub(super) least: u64,
}

/// The most that hours like `hour` let expect; none while too few of them are known. `past` is
/// hours' numbers since 1970, UTC, with their values, in any order; `hour` itself and later ones
/// are not looked at.
pub(super) fn upper_edge(past: &[(i64, u64)], hour: i64, slack: Slack) -> Option<u64> {
    let mut like: [Vec<u64>; SEASONS] = [const { Vec::new() }; SEASONS];
    let known = past
        .iter()
        .filter(|(then, _)| (hour - PAST_HOURS..hour).contains(then));
    for (then, value) in known.clone() {
        for near in [-1, 0, 1] {
            like[season(*then, near)].push(*value);
        }
    }
    let own = &mut like[season(hour, 0)];
    if own.len() < SAMPLES_MIN {
        return None;
    }
    let medians: [u64; SEASONS] = std::array::from_fn(|season| median(&mut like[season]));
    let own = &like[season(hour, 0)];
    let middle = medians[season(hour, 0)];
    let mut distances: Vec<u64> = own.iter().map(|value| value.abs_diff(middle)).collect();
    let spread = median(&mut distances).saturating_mul(MADS);
    let relative = middle.saturating_mul(slack.percent) / 100;
    let above = spread.max(relative).max(slack.least);
    // What each hour was of its own season's median, in thousandths.
    let mut multiples: Vec<u64> = known
        .map(|(then, value)| {
            let of = medians[season(*then, 0)].saturating_add(slack.least);
            value.saturating_mul(1_000) / of.max(1)
        })
        .collect();
    multiples.sort_unstable();
    let usual_multiple = multiples[multiples.len() - USUAL];
    let usual_spike = (middle + slack.least).saturating_mul(usual_multiple) / 1_000;
    let usual = own[own.len() - USUAL];
    Some(middle.saturating_add(above).max(usual).max(usual_spike))
}

/// The lower of the two in the middle, nothing of nothing; sorts the values.
fn median(values: &mut [u64]) -> u64 {
    values.sort_unstable();
    let middle = values.len().saturating_sub(1) / 2;
    values.get(middle).copied().unwrap_or(0)
}

/// Whether it is a weekend's, and which hour of a day, `near` hours from this one. The kind of day
/// is the hour's own, also across midnight.
fn season(hour: i64, near: i64) -> usize {
    let of_day = (hour + near).rem_euclid(24);
    usize::try_from(of_day).unwrap_or(0) + if is_weekend(hour) { 24 } else { 0 }
}

/// 1 January 1970 was a Thursday.
fn is_weekend(hour: i64) -> bool {
    matches!(hour.div_euclid(24).rem_euclid(7), 2 | 3)
}

#[cfg(test)]
mod tests {
    use base::{Entropy as _, SeededEntropy};

    use super::*;

    const SLACK: Slack = Slack {
        percent: 50,
        least: 100,
    };
    /// A Monday.
    const BEGIN: i64 = 20_000 * 24 - 20_000 * 24 % 168 + 4 * 24;
    const WEEK: i64 = 168;

    /// What an hour has, by itself.
    type History = fn(&SeededEntropy, i64) -> u64;

    fn percent(entropy: &SeededEntropy, from: u64, until: u64) -> u64 {
        from + entropy.next_u64() % (until - from)
    }

    /// Ten thousand, and 30% up or down.
    fn flat(entropy: &SeededEntropy, _: i64) -> u64 {
        100 * percent(entropy, 70, 131)
    }

    /// Ten times as much by day as by night, a fifth on weekends, and 30% up or down.
    fn seasonal(entropy: &SeededEntropy, hour: i64) -> u64 {
        let of_day = hour.rem_euclid(24);
        let by_day = if (8..19).contains(&of_day) { 100 } else { 10 };
        let of_week = if is_weekend(hour) { 1 } else { 5 };
        by_day * of_week * percent(entropy, 70, 131) / 5
    }

    /// Flat, but for one hour in thirty that has six to ten times as much.
    fn spiky(entropy: &SeededEntropy, hour: i64) -> u64 {
        let usual = flat(entropy, hour);
        match entropy.next_u64() % 30 {
            0 => usual * percent(entropy, 6, 11),
            _ => usual,
        }
    }

    /// Few calls: most hours have nothing.
    fn sparse(entropy: &SeededEntropy, _: i64) -> u64 {
        match entropy.next_u64() % 8 {
            0 => percent(entropy, 1, 90),
            _ => 0,
        }
    }

    /// Out of how many hours so many were outside their band: every fifth of the eight weeks that
    /// follow four, of four tenants.
    fn false_alarms(history: History) -> (u32, u32) {
        let (mut judged, mut outside) = (0, 0);
        for seed in 0..4 {
            let entropy = SeededEntropy::new(seed);
            let hours: Vec<(i64, u64)> = (BEGIN..BEGIN + 12 * WEEK)
                .map(|hour| (hour, history(&entropy, hour)))
                .collect();
            for (hour, value) in hours.iter().skip(4 * WEEK as usize).step_by(5) {
                let until = usize::try_from(hour - BEGIN).expect("after the beginning");
                let past = &hours[until - PAST_HOURS as usize..until];
                if let Some(edge) = upper_edge(past, *hour, SLACK) {
                    judged += 1;
                    outside += u32::from(*value > edge);
                }
            }
        }
        (judged, outside)
    }

    #[test]
    fn what_is_usual_is_no_alarm() {
        let hours = 4 * (8 * WEEK as u32).div_ceil(5);
        for (history, most) in [
            (flat as History, 0),
            (seasonal, 0),
            (sparse, 0),
            // One of a hundred: a spike that is higher than the third highest of four weeks.
            (spiky, hours / 100),
        ] {
            let (judged, outside) = false_alarms(history);
            assert_eq!(judged, hours, "every hour has enough like it");
            assert!(outside <= most, "{outside} of {judged}, at most {most}");
        }
    }

    #[test]
    fn three_times_as_much_is_seen() {
        fn usual_of_flat(_: i64) -> u64 {
            10_000
        }
        fn usual_of_seasonal(hour: i64) -> u64 {
            let of_week = if is_weekend(hour) { 1 } else { 5 };
            let by_day = (8..19).contains(&hour.rem_euclid(24));
            of_week * if by_day { 2_000 } else { 200 }
        }
        type Usual = fn(i64) -> u64;
        let histories: [(History, Usual); 2] =
            [(flat, usual_of_flat), (seasonal, usual_of_seasonal)];
        for (history, usual_of) in histories {
            for seed in 0..4 {
                let entropy = SeededEntropy::new(seed);
                let end = BEGIN + 4 * WEEK;
                let past: Vec<(i64, u64)> = (BEGIN..end + WEEK)
                    .map(|hour| (hour, history(&entropy, hour)))
                    .collect();
                // Where day begins and ends, hours like it are of both kinds.
                let clear = |hour: &i64| !matches!(hour.rem_euclid(24), 7 | 8 | 18 | 19);
                for hour in (end..end + WEEK).filter(clear) {
                    let edge = upper_edge(&past, hour, SLACK).expect("four weeks are enough");
                    let three_times = 3 * usual_of(hour);
                    assert!(three_times > edge, "{hour}: {three_times} {edge}");
                }
            }
        }
        // Day's traffic by night.
        let entropy = SeededEntropy::new(1);
        let past: Vec<(i64, u64)> = (BEGIN..BEGIN + 4 * WEEK)
            .map(|hour| (hour, seasonal(&entropy, hour)))
            .collect();
        let midnight = BEGIN + 4 * WEEK + 1;
        let edge = upper_edge(&past, midnight, SLACK).expect("enough");
        assert!(seasonal(&entropy, midnight) <= edge);
        assert!(seasonal(&entropy, midnight + 11) > edge);
    }

    #[test]
    fn of_too_little_nothing_is_concluded() {
        let week: Vec<(i64, u64)> = (BEGIN..BEGIN + WEEK).map(|hour| (hour, 5)).collect();
        assert_eq!(upper_edge(&week, BEGIN + WEEK, SLACK), None);
        let month: Vec<(i64, u64)> = (BEGIN..BEGIN + 4 * WEEK).map(|hour| (hour, 5)).collect();
        assert_eq!(upper_edge(&month, BEGIN + 4 * WEEK, SLACK), Some(105));
        // What is older than four weeks says nothing.
        assert_eq!(upper_edge(&month, BEGIN + 9 * WEEK, SLACK), None);
        // What happened three times is usual, twice is not.
        let mut spikes = month.clone();
        for (at, edge) in [(0, 105), (168, 105), (336, 9_000)] {
            spikes[at].1 = 9_000;
            assert_eq!(upper_edge(&spikes, BEGIN + 4 * WEEK, SLACK), Some(edge));
        }
    }
}
