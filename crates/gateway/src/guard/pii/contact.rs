//! E-mail addresses, telephone numbers, network addresses and bank accounts.

use std::net::{Ipv4Addr, Ipv6Addr};

use super::checksums;
use super::told::{Lists, Told};
use super::view::{View, ends_here, is_word, starts_here};

/// RFC 5321: 64 bytes before the `@`, 254 in all.
const LOCAL_BYTES_MAX: usize = 64;
const DOMAIN_BYTES_MAX: usize = 189;
/// The longest top-level domain has 24 letters.
const TOP_LEVEL_MAX: usize = 24;

/// Where a text has its next `@`, so that words far from any are not read as addresses.
#[derive(Debug, Default)]
pub(super) struct Addresses {
    /// The next one at or after the last place that was asked about; the text's end if there is none.
    next: Option<usize>,
}

impl Addresses {
    /// Whether an address may begin at `start`, or what follows may decide: places only go on.
    pub(super) fn may_begin(&mut self, view: &View<'_>, start: usize) -> bool {
        let next = match self.next {
            Some(next) if next >= start => next,
            _ => {
                let rest = view.slice(start, view.len());
                let found = memchr::memchr(b'@', rest);
                let next = found.map_or(view.len(), |ahead| start + ahead);
                self.next = Some(next);
                next
            }
        };
        // At the end of what is there, more text may bring one.
        next <= start + LOCAL_BYTES_MAX
    }
}

/// Where the address that begins at `start` ends.
pub(super) fn email(view: &View<'_>, start: usize) -> Option<usize> {
    let is_local = |byte: u8| is_word(byte) || matches!(byte, b'.' | b'%' | b'+' | b'-');
    let at = view.run(start, LOCAL_BYTES_MAX, is_local);
    if view.at(at) != b'@' || view.before(at) == b'.' {
        return None;
    }
    let is_domain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-');
    let mut end = view.run(at + 1, DOMAIN_BYTES_MAX, is_domain);
    // A sentence's full stop is not the domain's.
    while end > at + 1 && matches!(view.before(end), b'.' | b'-') {
        end -= 1;
    }
    let domain = view.slice(at + 1, end);
    let (_, top) = split_last(domain, b'.')?;
    let is_top = (2..=TOP_LEVEL_MAX).contains(&top.len())
        && (top.iter().all(u8::is_ascii_alphabetic) || top.starts_with(b"xn--"));
    let labels_fit = domain
        .split(|byte| *byte == b'.')
        .all(|label| !label.is_empty() && !label.starts_with(b"-"));
    (is_top && labels_fit && !is_word(view.at(end))).then_some(end)
}

fn split_last(text: &[u8], byte: u8) -> Option<(&[u8], &[u8])> {
    let place = memchr::memrchr(byte, text)?;
    Some((&text[..place], &text[place + 1..]))
}

/// Where the IPv4 address that begins at `start` ends.
pub(super) fn ipv4(view: &View<'_>, start: usize) -> Option<usize> {
    let end = view.run(start, 16, |byte| byte.is_ascii_digit() || byte == b'.');
    let end = if view.before(end) == b'.' {
        end - 1
    } else {
        end
    };
    let text = std::str::from_utf8(view.slice(start, end)).ok()?;
    // `0.0.0.0` and netmasks are nobody's.
    let address: Ipv4Addr = text.parse().ok()?;
    let is_somebody = !address.is_unspecified() && address.octets()[0] != 255;
    (is_somebody && starts_here(view, start) && ends_here(view, end)).then_some(end)
}

/// Where the IPv6 address that begins at `start` ends.
pub(super) fn ipv6(view: &View<'_>, start: usize) -> Option<usize> {
    // Words are more common than addresses: a colon within five bytes, or nothing.
    let group = view.run(start, 5, |byte| byte.is_ascii_hexdigit());
    if group - start > 4 || view.at(group) != b':' || view.before(start) == b':' {
        return None;
    }
    let end = view.run(start, 46, |byte| {
        byte.is_ascii_hexdigit() || matches!(byte, b':' | b'.')
    });
    let mut end = end;
    while end > start && matches!(view.before(end), b'.') {
        end -= 1;
    }
    let text = view.slice(start, end);
    let colons = text.iter().filter(|byte| **byte == b':').count();
    let has_digit = text.iter().any(u8::is_ascii_digit);
    let address = std::str::from_utf8(text).ok()?.parse::<Ipv6Addr>().ok()?;
    let is_somebody = !address.is_unspecified() && !address.is_loopback();
    (colons >= 2 && has_digit && is_somebody && !is_word(view.at(end))).then_some(end)
}

/// Lengths of IBANs by country (the SWIFT registry, release 99).
#[rustfmt::skip]
const IBAN_LENGTHS: &[(&[u8; 2], usize)] = &[
    (b"AD", 24), (b"AE", 23), (b"AL", 28), (b"AT", 20), (b"AZ", 28), (b"BA", 20), (b"BE", 16),
    (b"BG", 22), (b"BH", 22), (b"BI", 27), (b"BR", 29), (b"BY", 28), (b"CH", 21), (b"CR", 22),
    (b"CY", 28), (b"CZ", 24), (b"DE", 22), (b"DJ", 27), (b"DK", 18), (b"DO", 28), (b"EE", 20),
    (b"EG", 29), (b"ES", 24), (b"FI", 18), (b"FK", 18), (b"FO", 18), (b"FR", 27), (b"GB", 22),
    (b"GE", 22), (b"GI", 23), (b"GL", 18), (b"GR", 27), (b"GT", 28), (b"HR", 21), (b"HU", 28),
    (b"IE", 22), (b"IL", 23), (b"IQ", 23), (b"IS", 26), (b"IT", 27), (b"JO", 30), (b"KW", 30),
    (b"KZ", 20), (b"LB", 28), (b"LC", 32), (b"LI", 21), (b"LT", 20), (b"LU", 20), (b"LV", 21),
    (b"LY", 25), (b"MC", 27), (b"MD", 24), (b"ME", 22), (b"MK", 19), (b"MN", 20), (b"MR", 27),
    (b"MT", 31), (b"MU", 30), (b"NI", 28), (b"NL", 18), (b"NO", 15), (b"OM", 23), (b"PK", 24),
    (b"PL", 28), (b"PS", 29), (b"PT", 25), (b"QA", 29), (b"RO", 24), (b"RS", 22), (b"RU", 33),
    (b"SA", 24), (b"SC", 31), (b"SD", 18), (b"SE", 24), (b"SI", 19), (b"SK", 24), (b"SM", 27),
    (b"SO", 23), (b"ST", 25), (b"SV", 28), (b"TL", 23), (b"TN", 24), (b"TR", 26), (b"UA", 29),
    (b"VA", 22), (b"VG", 24), (b"XK", 20), (b"YE", 30),
];

/// Where the account number that begins at `start` ends: as one word, or with a space or a hyphen
/// between its parts.
pub(super) fn iban(view: &View<'_>, start: usize) -> Option<usize> {
    if !(view.at(start + 2).is_ascii_digit() && view.at(start + 3).is_ascii_digit()) {
        return None;
    }
    let country = [
        view.at(start).to_ascii_uppercase(),
        view.at(start + 1).to_ascii_uppercase(),
    ];
    let (_, length) = IBAN_LENGTHS.iter().find(|(one, _)| **one == country)?;
    let mut characters = [0; 34];
    let mut count = 0;
    let mut place = start;
    while count < *length {
        let byte = view.at(place);
        if byte.is_ascii_alphanumeric() {
            characters[count] = byte.to_ascii_uppercase();
            count += 1;
        } else if !matches!(byte, b' ' | b'-') || !is_word(view.before(place)) {
            return None;
        }
        place += 1;
    }
    (checksums::iban(&characters[..count]) && !is_word(view.at(place))).then_some(place)
}

/// Words before a number that make it a telephone number.
pub(super) const PHONE_WORDS: &[&str] = &[
    "phone",
    "tel",
    "telephone",
    "mobile",
    "cell",
    "call",
    "fax",
    "whatsapp",
    "sms",
    "text me",
    "reach me",
    "telefon",
    "telefone",
    "teléfono",
    "telefono",
    "téléphone",
    "handy",
    "móvil",
    "celular",
    "portable",
    "numer",
    "contact number",
];

/// E.164: 15 digits at most; 7 are the shortest subscriber's number with its area.
const PHONE_DIGITS: std::ops::RangeInclusive<usize> = 7..=15;
/// How a number is written, up to some group of its digits.
#[derive(Clone, Copy, Default)]
struct Dialled {
    /// The lengths of its groups of digits.
    groups: [usize; GROUPS_MAX],
    group_count: usize,
    digit_count: usize,
    /// The separators within, as bits: space, hyphen, full stop, slash, bracket.
    separators: u8,
    end: usize,
}

/// 8: "+33 (0)1 23 45 67 89" has seven groups.
const GROUPS_MAX: usize = 8;
const BRACKET: u8 = 16;
const SLASH: u8 = 8;
const SPACE: u8 = 1;

/// What stands before a number.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Before {
    /// More digits, and a space.
    Digits,
    Other,
}

/// Where the telephone number that begins at `start` ends.
pub(super) fn phone(view: &View<'_>, start: usize, told: &Told<'_, '_>) -> Option<usize> {
    let is_international = view.at(start) == b'+';
    if is_word(view.before(start)) || matches!(view.before(start), b'+' | b'$') {
        return None;
    }
    if !is_international && !starts_here(view, start) {
        return None;
    }
    let (all, count) = dial(view, start + usize::from(is_international))?;
    let is_behind_digits =
        start >= 2 && view.before(start) == b' ' && view.before(start - 1).is_ascii_digit();
    let before = if is_behind_digits {
        Before::Digits
    } else {
        Before::Other
    };
    // The longest first: what follows a number may be another one.
    all[..count].iter().rev().find_map(|dialled| {
        if !PHONE_DIGITS.contains(&dialled.digit_count) {
            return None;
        }
        let mut digits = [0; 15];
        let written = view.slice(start, dialled.end).iter();
        for (digit, byte) in digits
            .iter_mut()
            .zip(written.filter(|one| one.is_ascii_digit()))
        {
            *digit = *byte;
        }
        let digits = &digits[..dialled.digit_count];
        let is_one = if is_international {
            digits.len() >= 8 && digits[0] != b'0'
        } else {
            is_national(dialled, digits, before) || (!is_date(dialled) && told.has(Lists::PHONE))
        };
        let end = extension(view, dialled.end);
        (is_one && (end > dialled.end || ends_here(view, dialled.end))).then_some(end)
    })
}

/// Reads digits with one separator between them, or with brackets around a group. Each group's end
/// is a place where the number may end.
fn dial(view: &View<'_>, start: usize) -> Option<([Dialled; GROUPS_MAX], usize)> {
    let mut all = [Dialled::default(); GROUPS_MAX];
    let mut one = Dialled::default();
    let mut place = start;
    while one.group_count < GROUPS_MAX {
        let is_open = view.at(place) == b'(';
        let first = place + usize::from(is_open);
        let end = view.run(first, *PHONE_DIGITS.end() + 1, |byte| byte.is_ascii_digit());
        one.digit_count += end - first;
        if end == first || one.digit_count > *PHONE_DIGITS.end() {
            break;
        }
        one.groups[one.group_count] = end - first;
        one.end = end;
        if is_open {
            if view.at(end) != b')' {
                break;
            }
            one.end += 1;
            one.separators |= BRACKET;
        }
        all[one.group_count] = one;
        one.group_count += 1;
        all[one.group_count - 1].group_count = one.group_count;
        let (bit, length) = match view.at(one.end) {
            b' ' if view.at(one.end + 1) == b'-' && view.at(one.end + 2) == b' ' => (2, 3),
            b' ' => (SPACE, 1),
            b'-' => (2, 1),
            b'.' => (4, 1),
            b'/' => (SLASH, 1),
            b'(' if one.group_count == 1 => (0, 0),
            _ if is_open => (0, 0),
            _ => break,
        };
        place = one.end + length;
        one.separators |= bit;
    }
    (one.group_count > 0).then_some((all, one.group_count))
}

/// Common national forms: North America's, and those with a trunk or international prefix of 0.
fn is_national(dialled: &Dialled, digits: &[u8], before: Before) -> bool {
    let groups = &dialled.groups[..dialled.group_count];
    let kinds = dialled.separators.count_ones();
    // A subscriber's area and exchange in North America begin with 2 to 9.
    let american = |digits: &[u8]| digits[0] >= b'2' && digits[3] >= b'2';
    match groups {
        [3, 3, 4] if american(digits) => true,
        [1, 3, 3, 4] if digits[0] == b'1' => american(&digits[1..]),
        [3, 7] if dialled.separators & BRACKET != 0 => american(digits),
        // The middle of a longer row of groups.
        _ if before == Before::Digits => false,
        _ if digits.starts_with(b"00") && digits[2] != b'0' => digits.len() >= 10 && kinds >= 1,
        // 0171 234567, 030/1234567, 01 23 45 67 89, (0221) 123456.
        _ if digits[0] == b'0' && digits[1] != b'0' => {
            // Dates, and numbers of social security that were never given.
            let is_something_else = matches!(groups, [2, 2, 4, ..] | [2, 2, 2] | [3, 2, 4]);
            let with_area = matches!(groups[0], 2..=5);
            (9..=12).contains(&digits.len())
                && groups.len() >= 2
                && with_area
                && !is_something_else
                && (kinds == 1 || (kinds == 2 && dialled.separators & (BRACKET | SLASH) != 0))
        }
        _ => false,
    }
}

/// 2024-05-06, 06.05.2024.
fn is_date(dialled: &Dialled) -> bool {
    matches!(
        dialled.groups[..dialled.group_count],
        [4, 2, 2, ..] | [2, 2, 4, ..]
    )
}

/// Where an extension (`x123`, `ext. 123`) ends, or `end` if there is none.
fn extension(view: &View<'_>, end: usize) -> usize {
    let mut place = end + usize::from(view.at(end) == b' ');
    if view.has(place, b"ext") {
        place += 3;
        place += usize::from(view.at(place) == b'.');
    } else if view.has(place, b"x") {
        place += 1;
    } else {
        return end;
    }
    place += usize::from(view.at(place) == b' ');
    let last = view.run(place, 6, |byte| byte.is_ascii_digit());
    if last > place && !is_word(view.at(last)) {
        last
    } else {
        end
    }
}
