//! What the twenty did in a month: made up by a seed, the same for the same seed and end.

use std::time::Duration;

use base::{Entropy, SeededEntropy, Timestamp};
use ledger::Hop;

use super::people::{EVERYBODY, HOURS, Persona, TEAMS};

const DAY_MICROS: i64 = 24 * 3600 * 1_000_000;
const HOUR_MICROS: u64 = 3600 * 1_000_000;

/// What became of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    Answered,
    /// Its client went away in the middle.
    Abandoned,
    /// The upstream refused it: it costs nothing.
    Refused,
}

/// One call of one model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Call {
    pub(super) at: Timestamp,
    pub(super) lasts: Duration,
    /// Which of the twenty.
    pub(super) tenant: usize,
    pub(super) feature: &'static str,
    /// Which team and which of its people.
    pub(super) person: (&'static str, &'static str),
    pub(super) model: &'static str,
    pub(super) hop: Hop,
    /// Calls of one client's request have the same number.
    pub(super) request: u64,
    pub(super) input_tokens: u64,
    pub(super) cached_tokens: u64,
    pub(super) output_tokens: u64,
    pub(super) fate: Fate,
}

/// Chance, from a seed.
struct Chance(SeededEntropy);

impl Chance {
    /// A number below `end`.
    fn below(&self, end: u64) -> u64 {
        self.0.next_u64() % end.max(1)
    }

    fn permille(&self, of: u32) -> bool {
        self.below(1_000) < of.into()
    }

    /// About `usual`, from a third to three times as much, the middle most often.
    fn about(&self, usual: u64) -> u64 {
        let spread = 400 + self.below(600) + self.below(600) + self.below(2) * self.below(900);
        (usual * spread / 1_000).max(1)
    }
}

/// All calls of the `days` before `until`, in the order in which they began.
pub(super) fn calls(seed: u64, until: Timestamp, days: u32) -> Vec<Call> {
    let mut all = Vec::new();
    for (tenant, persona) in EVERYBODY.iter().enumerate() {
        // A seed of its own: whoever is added to the list changes nobody else.
        let seed = seed.wrapping_mul(1_000_003).wrapping_add(tenant as u64);
        let chance = Chance(SeededEntropy::new(seed));
        for day in 0..days {
            calls_of_day(&chance, (tenant, persona), (day, days), until, &mut all);
        }
    }
    all.sort_by_key(|call| (call.at, call.tenant, call.request));
    all
}

fn calls_of_day(
    chance: &Chance,
    (tenant, persona): (usize, &Persona),
    (day, days): (u32, u32),
    until: Timestamp,
    all: &mut Vec<Call>,
) {
    let begin = until.as_micros() - i64::from(days - day) * DAY_MICROS;
    let (from, to) = (persona.grew_from_permille, 1_000);
    let grown = from * (days - day) / days + to * day / days;
    // 1 January 1970 was a Thursday.
    let is_weekend = matches!((begin.div_euclid(DAY_MICROS) + 4).rem_euclid(7), 0 | 6);
    let of_weekend = match is_weekend {
        true => persona.weekend_permille,
        false => 1_000,
    };
    let usual = u64::from(persona.requests_a_day) * u64::from(grown) * u64::from(of_weekend);
    let requests = usual / 1_000_000 * (850 + chance.below(300)) / 1_000;
    for number in 0..requests {
        let at = Timestamp::from_micros(begin + moment(chance, begin));
        if at < until {
            request(
                chance,
                (tenant, persona),
                at,
                u64::from(day) << 32 | number,
                all,
            );
        }
    }
}

/// A moment of the day that begins at `begin`: people sleep.
fn moment(chance: &Chance, begin: i64) -> i64 {
    let mut left = chance.below(1_000);
    let hour = HOURS.iter().position(|weight| {
        let is_it = left < u64::from(*weight);
        left = left.saturating_sub(u64::from(*weight));
        is_it
    });
    let in_day = hour.unwrap_or(12) as u64 * HOUR_MICROS + chance.below(HOUR_MICROS);
    // Hours are the clock's, and the day may begin at any of them.
    let midnight = begin.div_euclid(DAY_MICROS) * DAY_MICROS;
    let at = midnight + i64::try_from(in_day).unwrap_or(0);
    (at - begin).rem_euclid(DAY_MICROS)
}

/// What one request of a client's takes.
fn request(
    chance: &Chance,
    (tenant, persona): (usize, &Persona),
    at: Timestamp,
    request: u64,
    all: &mut Vec<Call>,
) {
    let weights: u32 = persona.features.iter().map(|feature| feature.weight).sum();
    let mut left = chance.below(weights.into());
    let feature = persona.features.iter().find(|feature| {
        let is_it = left < u64::from(feature.weight);
        left = left.saturating_sub(u64::from(feature.weight));
        is_it
    });
    let feature = feature.unwrap_or(&persona.features[0]);
    let (team, people) = TEAMS[chance.below(TEAMS.len() as u64) as usize];
    let person = (team, people[chance.below(people.len() as u64) as usize]);
    let mut at = at;
    let call = |at, hop, model, tokens: (u64, u64, u64), fate| Call {
        at,
        lasts: Duration::from_micros(120_000 + tokens.2 * 9_000 + tokens.0 * 20),
        tenant,
        feature: feature.name,
        person,
        model,
        hop,
        request,
        input_tokens: tokens.0,
        cached_tokens: tokens.1,
        output_tokens: tokens.2,
        fate,
    };
    for hop in feature.before {
        let before = match hop {
            Hop::Embed => call(at, *hop, "sim-embed", (40, 0, 0), Fate::Answered),
            _ => call(at, *hop, "sim-small", (350, 0, 6), Fate::Answered),
        };
        at = at.plus(before.lasts);
        all.push(before);
    }
    let fate = match () {
        () if chance.permille(persona.refused_permille) => Fate::Refused,
        () if chance.permille(15) => Fate::Abandoned,
        () => Fate::Answered,
    };
    let (input, output) = feature.tokens;
    let input = chance.about(input.into());
    let cached = input * chance.below(u64::from(feature.cached_permille) + 1) / 1_000;
    let output = match fate {
        Fate::Abandoned => chance.about(u64::from(output) / 4 + 1),
        _ => chance.about(output.into()),
    };
    let answer = (input, cached, output);
    all.push(call(at, Hop::Generate, feature.model, answer, fate));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_makes_the_same_month() {
        let until: Timestamp = "2026-11-22T12:30:00Z".parse().unwrap();
        let month = calls(7, until, 30);
        assert_eq!(month, calls(7, until, 30));
        assert_ne!(month, calls(8, until, 30));
        assert!((40_000..200_000).contains(&month.len()), "{}", month.len());
        let from = until.minus(Duration::from_secs(30 * 24 * 3600));
        assert!(month.iter().all(|call| call.at >= from));
        // A request goes on for some seconds after it began.
        let late = until.plus(Duration::from_secs(60));
        assert!(month.iter().all(|call| call.at < late));
        let tenants: std::collections::BTreeSet<usize> =
            month.iter().map(|call| call.tenant).collect();
        assert_eq!(tenants.len(), EVERYBODY.len());
    }

    #[test]
    fn nights_and_weekends_are_quiet() {
        let until: Timestamp = "2026-11-23T00:00:00Z".parse().unwrap();
        let month = calls(1, until, 28);
        let count = |which: fn(&Call) -> bool| month.iter().filter(|call| which(call)).count();
        assert!(count(|call| by_hour(call) == 3) * 5 < count(|call| by_hour(call) == 10));
        let weekday = |call: &Call| (call.at.as_micros().div_euclid(DAY_MICROS) + 4).rem_euclid(7);
        let saturday = month.iter().filter(|call| weekday(call) == 6).count();
        let tuesday = month.iter().filter(|call| weekday(call) == 2).count();
        assert!(saturday * 3 < tuesday * 2, "{saturday} {tuesday}");
    }

    fn by_hour(call: &Call) -> i64 {
        call.at.as_micros().rem_euclid(DAY_MICROS) / 3_600_000_000
    }
}
