//! Personal data and secrets: one pass over the text, which stops where a word or a number begins
//! and asks what could begin there.
//!
//! Nothing here backtracks: whatever is tried at one place reads a bounded number of bytes (8 KiB
//! for private keys and web tokens, 330 for everything else), so that time is linear in the text.

mod cards;
mod checksums;
mod contact;
mod national;
mod secrets;
mod templates;
mod told;
mod view;

use tenancy::catalogue::{IdCountry, PiiKind, PiiSpec};

pub(super) use view::{CONTEXT_BYTES, View};

use templates::Owner;
use told::Told;
use view::{is_word, starts_here};

/// A compiled `pii` check.
pub(super) struct Pii {
    /// By [`PiiKind`].
    kinds: u8,
    /// By [`IdCountry`].
    countries: u32,
}

/// What a look at the text came to. Places are bytes of the view.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PiiStep {
    Found {
        label: &'static str,
        start: usize,
        end: usize,
    },
    /// What begins here cannot be told before there is more text.
    Open(usize),
    Done,
}

impl Pii {
    pub(super) fn compile(spec: &PiiSpec) -> Self {
        let kinds = if spec.kinds.is_empty() {
            u8::MAX
        } else {
            spec.kinds
                .iter()
                .fold(0, |bits, kind| bits | kind_bit(*kind))
        };
        let countries = if spec.countries.is_empty() {
            u32::MAX
        } else {
            spec.countries
                .iter()
                .fold(0, |bits, country| bits | country_bit(*country))
        };
        Self { kinds, countries }
    }

    /// The first thing at or after `from`.
    pub(super) fn next(&self, view: &View<'_>, from: usize) -> PiiStep {
        let mut place = from;
        let mut addresses = contact::Addresses::default();
        while place < view.len() {
            if !may_begin(view, place) {
                place += 1;
                continue;
            }
            view.begin();
            let found = self.at(view, place, &mut addresses);
            if view.is_touched() {
                return PiiStep::Open(place);
            }
            if let Some((label, start, end)) = found {
                return PiiStep::Found { label, start, end };
            }
            place += 1;
        }
        PiiStep::Done
    }

    fn wants(&self, kind: PiiKind) -> bool {
        self.kinds & kind_bit(kind) != 0
    }

    /// What begins at `place`, the most specific first.
    fn at(
        &self,
        view: &View<'_>,
        place: usize,
        addresses: &mut contact::Addresses,
    ) -> Option<(&'static str, usize, usize)> {
        let first = view.at(place);
        let whole = |label, end: Option<usize>| end.map(|end| (label, place, end));
        let is_letter = first.is_ascii_alphabetic();
        let told = Told::before(view, place);
        let mut found = None;
        if self.wants(PiiKind::Email) && is_word(first) && addresses.may_begin(view, place) {
            found = whole("EMAIL", contact::email(view, place));
        }
        if found.is_none() && self.wants(PiiKind::Secret) {
            found = secret(view, place, first);
        }
        if found.is_none() && self.wants(PiiKind::Ip) && first != b'+' {
            found = whole("IP", address(view, place, first));
        }
        if found.is_none() && self.wants(PiiKind::Iban) && is_letter {
            found = whole("IBAN", contact::iban(view, place));
        }
        // No card begins with a letter.
        let may_identify = first.is_ascii_digit() || self.wants(PiiKind::NationalId) && is_letter;
        if found.is_none() && may_identify && starts_here(view, place) {
            let identified = templates::find(view, place, &told, |owner| self.wants_row(owner));
            found = identified.map(|(end, label)| (label, place, end));
        }
        if found.is_none() && self.wants(PiiKind::Phone) && !is_letter {
            found = whole("PHONE", contact::phone(view, place, &told));
        }
        found
    }

    fn wants_row(&self, owner: Owner) -> bool {
        match owner {
            Owner::Card => self.wants(PiiKind::Card),
            Owner::Country(country) => {
                self.wants(PiiKind::NationalId) && self.countries & country_bit(country) != 0
            }
        }
    }
}

fn secret(view: &View<'_>, place: usize, first: u8) -> Option<(&'static str, usize, usize)> {
    if first == b'-' {
        return secrets::private_key(view, place).map(|end| ("PRIVATE_KEY", place, end));
    }
    if !first.is_ascii_alphabetic() {
        return None;
    }
    let token = secrets::token(view, place).map(|end| ("SECRET", place, end));
    token.or_else(|| secrets::assigned(view, place).map(|(start, end)| ("SECRET", start, end)))
}

fn address(view: &View<'_>, place: usize, first: u8) -> Option<usize> {
    let by_four = first.is_ascii_digit().then(|| contact::ipv4(view, place));
    by_four.flatten().or_else(|| {
        first
            .is_ascii_hexdigit()
            .then(|| contact::ipv6(view, place))?
    })
}

/// Whether a word, a number or a key block may begin at `place`.
fn may_begin(view: &View<'_>, place: usize) -> bool {
    let (before, first) = (view.before(place), view.at(place));
    match first {
        b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z' => !is_word(before),
        b'+' | b'(' => true,
        b'-' => before != b'-',
        _ => false,
    }
}

fn kind_bit(kind: PiiKind) -> u8 {
    1 << kind as u8
}

fn country_bit(country: IdCountry) -> u32 {
    1 << country as u32
}

#[cfg(test)]
mod tests;
