//! Keys and tokens: by their prefixes and checksums, by their structure, and by what they are
//! assigned to.

use tenancy::ApiKey;

use super::view::{View, is_word, starts_here};

/// The characters that a token of some issuer has after its prefix.
#[derive(Clone, Copy)]
enum Alphabet {
    /// Letters and digits.
    Alphanumeric,
    /// And `-` and `_`.
    Url,
    /// And `-`, `_` and `.`.
    Dotted,
    /// Capitals and 2 to 7.
    Base32,
    /// Hexadecimal digits.
    Hex,
}

/// A further condition on what stands after the prefix.
#[derive(Clone, Copy)]
enum Rule {
    Nothing,
    /// Six characters of base 62 at the end are the CRC-32 of those before.
    Crc,
    /// It has `T3BlbkFJ` ("OpenAI" in base64) in it.
    OpenAi,
    /// It is one of our own keys.
    Own,
}

/// One issuer's form.
struct Form {
    prefix: &'static str,
    alphabet: Alphabet,
    /// How many characters there are after the prefix, at least and at most.
    shortest: usize,
    longest: usize,
    rule: Rule,
}

const fn form(prefix: &'static str, alphabet: Alphabet, shortest: usize, longest: usize) -> Form {
    Form {
        prefix,
        alphabet,
        shortest,
        longest,
        rule: Rule::Nothing,
    }
}

const fn ruled(prefix: &'static str, alphabet: Alphabet, size: (usize, usize), rule: Rule) -> Form {
    Form {
        prefix,
        alphabet,
        shortest: size.0,
        longest: size.1,
        rule,
    }
}

use Alphabet::{Alphanumeric, Base32, Dotted, Hex, Url};

/// As the issuers document them, or as their own scanners look for them. Longer prefixes first.
#[rustfmt::skip]
const FORMS: &[Form] = &[
    form("AKIA", Base32, 16, 16), form("ASIA", Base32, 16, 16), form("ABIA", Base32, 16, 16),
    form("ACCA", Base32, 16, 16),
    ruled("ghp_", Alphanumeric, (36, 36), Rule::Crc), ruled("gho_", Alphanumeric, (36, 36), Rule::Crc),
    ruled("ghu_", Alphanumeric, (36, 36), Rule::Crc), ruled("ghs_", Alphanumeric, (36, 36), Rule::Crc),
    ruled("ghr_", Alphanumeric, (36, 36), Rule::Crc), ruled("npm_", Alphanumeric, (36, 36), Rule::Crc),
    form("ghs_", Dotted, 60, 250), form("ghr_", Alphanumeric, 60, 250),
    form("github_pat_", Url, 82, 82), form("glpat-", Url, 20, 64),
    form("sk-ant-", Url, 32, 200), ruled("sk-", Url, (40, 200), Rule::OpenAi),
    form("sk-or-v1-", Hex, 64, 64),
    form("sk_live_", Alphanumeric, 16, 200), form("sk_test_", Alphanumeric, 16, 200),
    form("rk_live_", Alphanumeric, 16, 200), form("rk_test_", Alphanumeric, 16, 200),
    form("whsec_", Alphanumeric, 24, 100),
    form("xoxb-", Url, 20, 200), form("xoxp-", Url, 20, 200), form("xoxa-", Url, 20, 200),
    form("xoxr-", Url, 20, 200), form("xoxs-", Url, 20, 200), form("xoxe.", Dotted, 20, 250),
    form("xapp-", Url, 20, 200),
    form("AIza", Url, 35, 35), form("GOCSPX-", Url, 28, 28), form("ya29.", Dotted, 30, 250),
    ruled("pw_", Url, (49, 49), Rule::Own),
    form("hf_", Alphanumeric, 34, 40), form("gsk_", Alphanumeric, 48, 60), form("xai-", Alphanumeric, 60, 100),
    form("r8_", Alphanumeric, 37, 37), form("pplx-", Alphanumeric, 40, 60),
    form("dop_v1_", Hex, 64, 64), form("SG.", Dotted, 60, 80), form("shpat_", Hex, 32, 32),
    form("pypi-AgEIcHlwaS5vcmc", Url, 50, 220), form("dckr_pat_", Url, 27, 27),
    form("hvs.", Url, 24, 150), form("sq0atp-", Url, 22, 22), form("lin_api_", Alphanumeric, 40, 40),
];

/// 8 KiB: an RSA key of 8,192 bits has 6.4 KiB.
pub(super) const BLOCK_BYTES_MAX: usize = 8 << 10;

/// Where the secret that begins at `start` with a letter ends.
pub(super) fn token(view: &View<'_>, start: usize) -> Option<usize> {
    let first = view.at(start);
    let by_prefix = FORMS
        .iter()
        .filter(|form| form.prefix.as_bytes()[0] == first)
        .find_map(|form| prefixed(view, start, form));
    by_prefix.or_else(|| jwt(view, start))
}

fn prefixed(view: &View<'_>, start: usize, form: &Form) -> Option<usize> {
    if !view.has_exactly(start, form.prefix.as_bytes()) || view.before(start) == b'-' {
        return None;
    }
    let body = start + form.prefix.len();
    let end = view.run(body, form.longest + 1, |byte| is_in(form.alphabet, byte));
    // A sentence's full stop.
    let end = if view.before(end) == b'.' {
        end - 1
    } else {
        end
    };
    let text = view.slice(body, end);
    let is_sized = (form.shortest..=form.longest).contains(&text.len());
    (is_sized && !is_word(view.at(end)) && obeys(view.slice(start, end), text, form.rule))
        .then_some(end)
}

fn is_in(alphabet: Alphabet, byte: u8) -> bool {
    match alphabet {
        Alphanumeric => byte.is_ascii_alphanumeric(),
        Url => is_word(byte) || byte == b'-',
        Dotted => is_word(byte) || matches!(byte, b'-' | b'.'),
        Base32 => byte.is_ascii_uppercase() || (b'2'..=b'7').contains(&byte),
        Hex => byte.is_ascii_hexdigit(),
    }
}

fn obeys(whole: &[u8], body: &[u8], rule: Rule) -> bool {
    match rule {
        Rule::Nothing => body.iter().any(u8::is_ascii_digit) || body.len() >= 40,
        Rule::Crc => {
            let (random, check) = body.split_at(body.len() - 6);
            base_62(crc_32(random)) == check
        }
        Rule::OpenAi => memchr::memmem::find(body, b"T3BlbkFJ").is_some(),
        Rule::Own => std::str::from_utf8(whole).is_ok_and(|text| ApiKey::parse(text).is_ok()),
    }
}

/// CRC-32 (IEEE 802.3), bit by bit: the thirty characters of a token that looks like one.
fn crc_32(bytes: &[u8]) -> u32 {
    let mut register = u32::MAX;
    for byte in bytes {
        register ^= u32::from(*byte);
        for _ in 0..8 {
            let carry = register & 1;
            register >>= 1;
            if carry == 1 {
                register ^= 0xedb8_8320;
            }
        }
    }
    !register
}

fn base_62(mut value: u32) -> [u8; 6] {
    const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    let mut text = [0; 6];
    for digit in text.iter_mut().rev() {
        *digit = DIGITS[(value % 62) as usize];
        value /= 62;
    }
    text
}

/// A JSON web token: two parts that begin as JSON does, and a signature.
fn jwt(view: &View<'_>, start: usize) -> Option<usize> {
    if !view.has_exactly(start, b"eyJ") {
        return None;
    }
    let is_part = |byte: u8| is_in(Url, byte);
    let header = view.run(start, BLOCK_BYTES_MAX / 2, is_part);
    if header - start < 16 || view.at(header) != b'.' || !view.has_exactly(header + 1, b"eyJ") {
        return None;
    }
    let payload = view.run(header + 1, BLOCK_BYTES_MAX / 2, is_part);
    if view.at(payload) != b'.' {
        return None;
    }
    Some(view.run(payload + 1, 1_024, is_part))
}

/// Where the private key block that begins at `start` ends. A block that does not say so ends
/// with the last character that it could have, 8 KiB after its beginning at most.
pub(super) fn private_key(view: &View<'_>, start: usize) -> Option<usize> {
    const BEGIN: &[u8] = b"-----BEGIN ";
    if !view.has_exactly(start, BEGIN) {
        return None;
    }
    let title = start + BEGIN.len();
    let title_end = view.run(title, 40, |byte| {
        byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b' '
    });
    let titled = view.slice(title, title_end);
    if memchr::memmem::find(titled, b"PRIVATE KEY").is_none()
        || !view.has_exactly(title_end, b"-----")
    {
        return None;
    }
    let is_block = |byte: u8| {
        is_word(byte)
            || matches!(
                byte,
                b'+' | b'/'
                    | b'='
                    | b':'
                    | b','
                    | b'-'
                    | b'\\'
                    | b' '
                    | b'\r'
                    | b'\n'
                    | b'\t'
                    | b'"'
            )
    };
    let most = BLOCK_BYTES_MAX - (title_end - start) - 64;
    let end = view.run(title_end + 5, most, is_block);
    let block = view.slice(title_end + 5, end);
    let Some(last) = memchr::memmem::find(block, b"-----END ") else {
        return Some(end);
    };
    let last = title_end + 5 + last + b"-----END ".len();
    let name = view.run(last, 40, |byte| byte.is_ascii_uppercase() || byte == b' ');
    Some(view.run(name, 5, |byte| byte == b'-'))
}

/// What a secret is assigned to, as the end of a name in lower case.
const NAMES: &[&[u8]] = &[
    b"password",
    b"passwd",
    b"pwd",
    b"passphrase",
    b"secret",
    b"token",
    b"apikey",
    b"api_key",
    b"api-key",
    b"access_key",
    b"access-key",
    b"accesskey",
    b"secret_key",
    b"secret-key",
    b"private_key",
    b"auth_key",
    b"credential",
    b"credentials",
    b"bearer",
    b"client_secret",
    b"connection_string",
    b"account_key",
    b"accountkey",
];

/// 64 bytes of a name, 256 of a value.
const NAME_BYTES_MAX: usize = 64;
const VALUE_BYTES_MAX: usize = 256;

/// Where the value of the assignment whose name begins at `start` begins and ends:
/// `AWS_SECRET_KEY = "…"`, `"token": "…"`, `password=…`.
pub(super) fn assigned(view: &View<'_>, start: usize) -> Option<(usize, usize)> {
    if !starts_here(view, start) {
        return None;
    }
    let end = view.run(start, NAME_BYTES_MAX, |byte| is_in(Dotted, byte));
    let name = view.slice(start, end);
    let is_named = NAMES.iter().any(|one| {
        name.len() >= one.len() && name[name.len() - one.len()..].eq_ignore_ascii_case(one)
    });
    if !is_named {
        return None;
    }
    let is_blank = |byte: u8| matches!(byte, b' ' | b'\t');
    let is_quote = |byte: u8| matches!(byte, b'"' | b'\'' | b'`' | b'\\');
    let place = view.run(end, 2, is_quote);
    let place = view.run(place, 4, is_blank);
    let sign = view.run(place, 2, |byte| matches!(byte, b':' | b'=' | b'>'));
    let is_bearer = name.eq_ignore_ascii_case(b"bearer") && place > end;
    if sign == place && !is_bearer {
        return None;
    }
    let place = view.run(sign, 4, is_blank);
    let value = view.run(place, 2, is_quote);
    let value_end = view.run(value, VALUE_BYTES_MAX, |byte| {
        byte.is_ascii_graphic()
            && !matches!(
                byte,
                b'"' | b'\''
                    | b'`'
                    | b'\\'
                    | b','
                    | b';'
                    | b'<'
                    | b'>'
                    | b'('
                    | b')'
                    | b'{'
                    | b'}'
                    | b'['
                    | b']'
            )
    });
    // A sentence's end.
    let mut value_end = value_end;
    while value_end > value && matches!(view.before(value_end), b'.' | b':' | b'!' | b'?') {
        value_end -= 1;
    }
    looks_random(view.slice(value, value_end)).then_some((value, value_end))
}

/// 16 characters with letters and digits, and at least 3 bits of information each: "Summer2024"
/// is too short, "aaaaaaaaaaaaaaa1" too plain, and a word has no digits.
fn looks_random(value: &[u8]) -> bool {
    if value.len() < 16 {
        return false;
    }
    let mut counts = [0_u16; 128];
    for byte in value {
        counts[usize::from(byte & 0x7f)] += 1;
    }
    let length = value.len() as f64;
    let bits: f64 = counts
        .iter()
        .filter(|count| **count > 0)
        .map(|count| {
            let share = f64::from(*count) / length;
            -share * share.log2()
        })
        .sum();
    let has = |wanted: fn(&u8) -> bool| value.iter().any(wanted);
    bits >= 3.0 && has(u8::is_ascii_digit) && has(u8::is_ascii_alphabetic)
}
