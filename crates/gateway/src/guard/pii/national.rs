//! National identifiers: their forms and rules, one row each.

use tenancy::catalogue::IdCountry;

use super::checksums::{is_date, luhn, mod_11_10, number, verhoeff, weighted};
use super::templates::{Owner, Row, values};

macro_rules! row {
    ($country:ident $label:literal: $forms:expr, told $told:expr, by $words:expr, $check:expr) => {
        Row {
            owner: Owner::Country(IdCountry::$country),
            label: $label,
            forms: &$forms,
            told_forms: &$told,
            words: &$words,
            check: $check,
        }
    };
}

#[rustfmt::skip]
pub(super) const ROWS: &[Row] = &[
    row!(Us "US_SSN": ["###-##-####", "### ## ####"], told ["#########"],
        by ["ssn", "social security", "social sec"], us_ssn),
    row!(Us "US_ITIN": ["###-##-####", "### ## ####"], told ["#########"],
        by ["itin", "taxpayer"], us_itin),
    row!(Gb "GB_NINO": ["@@######@", "@@ ## ## ## @", "@@ ###### @", "@@-##-##-##-@"], told [],
        by [], gb_nino),
    row!(Gb "GB_NHS": [], told ["##########", "### ### ####", "###-###-####"],
        by ["nhs", "national health"], gb_nhs),
    row!(De "DE_TAX_ID": ["###########", "## ### ### ###"], told [], by [], de_tax_id),
    row!(De "DE_PENSION": ["########@###", "## ###### @ ###"], told [], by [], de_pension),
    row!(Fr "FR_NIR": ["######?########", "# ## ## #? ### ### ##", "# ## ## #? ### ###"], told [],
        by [], fr_nir),
    row!(Es "ES_DNI": ["########@", "########-@", "##.###.###-@"], told [], by [], es_dni),
    row!(Es "ES_NIE": ["@#######@", "@-#######-@", "@#######-@"], told [], by [], es_nie),
    row!(It "IT_CODICE_FISCALE": ["@@@@@@??@??@???@", "@@@ @@@ ??@?? @???@"], told [], by [],
        it_codice_fiscale),
    row!(Nl "NL_BSN": [], told ["#########", "####.##.###", "#### ## ###"],
        by ["bsn", "burgerservicenummer", "sofi", "sofinummer"], nl_bsn),
    row!(Be "BE_NRN": ["##.##.##-###.##", "###########"], told [], by [], be_nrn),
    row!(Pl "PL_PESEL": ["###########"], told [], by [], pl_pesel),
    row!(No "NO_FODSELSNUMMER": ["###########", "###### #####"], told [], by [], no_fodselsnummer),
    row!(Se "SE_PERSONNUMMER": ["######-####", "########-####", "######+####"],
        told ["##########", "############"], by ["personnummer", "personnr"], se_personnummer),
    row!(Fi "FI_HETU": ["######%###?"], told [], by [], fi_hetu),
    row!(Ch "CH_AHV": ["756.####.####.##", "756##########"], told [], by [], ch_ahv),
    row!(Pt "PT_NIF": [], told ["#########", "### ### ###"],
        by ["nif", "contribuinte"], pt_nif),
    row!(Ro "RO_CNP": ["#############"], told [], by [], ro_cnp),
    row!(Br "BR_CPF": ["###.###.###-##"], told ["###########"], by ["cpf"], br_cpf),
    row!(Br "BR_CNPJ": ["##.###.###/####-##"], told ["##############"], by ["cnpj"], br_cnpj),
    row!(In "IN_AADHAAR": ["#### #### ####", "####-####-####"], told ["############"],
        by ["aadhaar", "aadhar", "uidai"], in_aadhaar),
    row!(In "IN_PAN": ["@@@@@####@"], told [], by [], in_pan),
    row!(Cn "CN_RESIDENT_ID": ["#################?"], told [], by [], cn_resident_id),
    row!(Kr "KR_RRN": ["######-#######"], told [], by [], kr_rrn),
    row!(Sg "SG_NRIC": ["@#######@"], told [], by [], sg_nric),
    row!(Mx "MX_CURP": ["@@@@######@@@@@@?#"], told [], by [], mx_curp),
    row!(Ca "CA_SIN": ["###-###-###"], told ["### ### ###", "#########"],
        by ["sin", "social insurance"], ca_sin),
    row!(Au "AU_TFN": [], told ["### ### ###", "#########"], by ["tfn", "tax file"], au_tfn),
    row!(Za "ZA_ID": ["#############"], told [], by [], za_id),
    row!(Tr "TR_KIMLIK": [], told ["###########"], by ["kimlik", "tckn", "tc no"], tr_kimlik),
];

fn us_ssn(text: &[u8]) -> bool {
    let (area, group, serial) = ssn_parts(text);
    let known_examples: [&[u8]; 3] = [b"078051120", b"219099999", b"123456789"];
    !matches!(area, 0 | 666 | 900..) && group != 0 && serial != 0 && !known_examples.contains(&text)
}

fn us_itin(text: &[u8]) -> bool {
    let (area, group, _) = ssn_parts(text);
    area >= 900 && matches!(group, 50..=65 | 70..=88 | 90..=92 | 94..=99)
}

fn ssn_parts(text: &[u8]) -> (u64, u64, u64) {
    let digits = values(text);
    (
        number(&digits[..3]),
        number(&digits[3..5]),
        number(&digits[5..9]),
    )
}

/// The letters that HMRC gives, and the pairs that it does not.
fn gb_nino(text: &[u8]) -> bool {
    let never = |letter: u8| b"DFIQUV".contains(&letter);
    let pair: &[u8] = &text[..2];
    let is_kept_back = [b"BG", b"GB", b"NK", b"KN", b"TN", b"NT", b"ZZ"]
        .iter()
        .any(|one| pair == *one);
    !never(text[0])
        && !never(text[1])
        && text[1] != b'O'
        && !is_kept_back
        && matches!(text[8], b'A'..=b'D')
}

fn gb_nhs(text: &[u8]) -> bool {
    let digits = values(text);
    let check = 11 - weighted(&digits[..9], &[10, 9, 8, 7, 6, 5, 4, 3, 2]) % 11;
    check != 10 && check % 11 == u32::from(digits[9])
}

/// One digit of the first ten stands there twice or three times, the others once at most.
fn de_tax_id(text: &[u8]) -> bool {
    let digits = &values(text)[..11];
    let mut counts = [0; 10];
    for digit in &digits[..10] {
        counts[usize::from(*digit)] += 1;
    }
    let repeated: Vec<i32> = counts.into_iter().filter(|count| *count > 1).collect();
    digits[0] != 0 && matches!(repeated[..], [2 | 3]) && mod_11_10(digits)
}

/// Area, date of birth, initial (as two digits), serial number, check digit.
fn de_pension(text: &[u8]) -> bool {
    let digits = values(text);
    let initial = text[8] - b'A' + 1;
    let twelve = [
        digits[0],
        digits[1],
        digits[2],
        digits[3],
        digits[4],
        digits[5],
        digits[6],
        digits[7],
        initial / 10,
        initial % 10,
        digits[9],
        digits[10],
    ];
    let weights = [2, 1, 2, 5, 7, 1, 2, 1, 2, 1, 2, 1];
    let sum: u32 = twelve
        .iter()
        .zip(weights)
        .map(|(digit, weight)| {
            let product = u32::from(*digit) * weight;
            product / 10 + product % 10
        })
        .sum();
    is_date(number(&digits[4..6]), number(&digits[2..4])) && sum % 10 == u32::from(digits[11])
}

/// Sex, year, month, place (Corsica has letters), order, and a key modulo 97 that lists often
/// leave out.
fn fr_nir(text: &[u8]) -> bool {
    let mut digits = values(text);
    let shift = match &text[5..7] {
        b"2A" => 1_000_000,
        b"2B" => 2_000_000,
        place if place[1].is_ascii_digit() => 0,
        _ => return false,
    };
    if shift > 0 {
        digits[6] = 0;
    }
    let month = number(&digits[3..5]);
    let is_plausible =
        matches!(digits[0], 1..=4 | 7 | 8) && (matches!(month, 1..=12 | 20..=42 | 50..=99));
    let key_fits = text.len() == 13 || {
        let rest = (number(&digits[..13]) - shift) % 97;
        97 - rest == number(&digits[13..15])
    };
    is_plausible && key_fits
}

const DNI_LETTERS: &[u8; 23] = b"TRWAGMYFPDXBNJZSQVHLCKE";

fn es_dni(text: &[u8]) -> bool {
    let digits = values(text);
    text.len() == 9 && DNI_LETTERS[dni_place(number(&digits[..8]))] == text[8]
}

fn es_nie(text: &[u8]) -> bool {
    let digits = values(text);
    let first = match text[0] {
        b'X' => 0,
        b'Y' => 10_000_000,
        b'Z' => 20_000_000,
        _ => return false,
    };
    DNI_LETTERS[dni_place(first + number(&digits[1..8]))] == text[8]
}

fn dni_place(number: u64) -> usize {
    usize::try_from(number % 23).expect("below 23")
}

/// Digits may be replaced by letters where two people would have the same code.
fn it_codice_fiscale(text: &[u8]) -> bool {
    const ODD: [u32; 26] = [
        1, 0, 5, 7, 9, 13, 15, 17, 19, 21, 2, 4, 18, 20, 11, 3, 6, 8, 12, 14, 16, 10, 22, 25, 24,
        23,
    ];
    let place_of = |byte: u8| {
        if byte.is_ascii_digit() {
            byte - b'0'
        } else {
            byte - b'A'
        }
    };
    let is_digit = |byte: &u8| byte.is_ascii_digit() || b"LMNPQRSTUV".contains(byte);
    let digits_fit = [6, 7, 9, 10, 12, 13, 14]
        .iter()
        .all(|place| is_digit(&text[*place]));
    let sum: u32 = text[..15]
        .iter()
        .enumerate()
        .map(|(place, byte)| {
            let value = place_of(*byte);
            if place % 2 == 0 {
                ODD[usize::from(value)]
            } else {
                u32::from(value)
            }
        })
        .sum();
    digits_fit && b"ABCDEHLMPRST".contains(&text[8]) && sum % 26 == u32::from(text[15] - b'A')
}

fn nl_bsn(text: &[u8]) -> bool {
    let digits = values(text);
    let sum = weighted(&digits[..8], &[9, 8, 7, 6, 5, 4, 3, 2]);
    sum > 0 && sum % 11 == u32::from(digits[8])
}

/// The key is that of the number, or of the number after a 2 for those born since 2000.
fn be_nrn(text: &[u8]) -> bool {
    let digits = values(text);
    let (first, key) = (number(&digits[..9]), number(&digits[9..11]));
    let month = number(&digits[2..4]);
    let is_plausible = matches!(month, 1..=12 | 21..=32 | 41..=52) && number(&digits[4..6]) <= 31;
    is_plausible && (97 - first % 97 == key || 97 - (2_000_000_000 + first) % 97 == key)
}

/// The month tells the century too.
fn pl_pesel(text: &[u8]) -> bool {
    let digits = values(text);
    let check = (10 - weighted(&digits[..10], &[1, 3, 7, 9, 1, 3, 7, 9, 1, 3]) % 10) % 10;
    is_date(number(&digits[2..4]) % 20, number(&digits[4..6])) && check == u32::from(digits[10])
}

fn no_fodselsnummer(text: &[u8]) -> bool {
    let digits = values(text);
    let check = |count: usize, weights: &[u32]| {
        (11 - weighted(&digits[..count], weights) % 11) % 11 == u32::from(digits[count])
    };
    // People without a permanent address have 40 more in the day.
    is_date(number(&digits[2..4]) % 40, number(&digits[..2]) % 40)
        && check(9, &[3, 7, 6, 1, 8, 9, 4, 5, 2])
        && check(10, &[5, 4, 3, 2, 7, 6, 5, 4, 3, 2])
}

fn se_personnummer(text: &[u8]) -> bool {
    let all = values(text);
    let digits = &all[text.len() - 10..text.len()];
    is_date(number(&digits[2..4]), number(&digits[4..6]) % 60) && luhn(digits)
}

fn fi_hetu(text: &[u8]) -> bool {
    const LETTERS: &[u8; 31] = b"0123456789ABCDEFHJKLMNPRSTUVWXY";
    let digits = values(text);
    let place = usize::try_from(number(&digits[..9]) % 31).expect("below 31");
    is_date(number(&digits[2..4]), number(&digits[..2])) && LETTERS[place] == text[9]
}

/// EAN-13 of 756 and these.
fn ch_ahv(text: &[u8]) -> bool {
    let digits = values(text);
    let sum = 7 + 5 * 3 + 6 + weighted(&digits[..10], &[3, 1, 3, 1, 3, 1, 3, 1, 3, 1]);
    sum.is_multiple_of(10)
}

fn pt_nif(text: &[u8]) -> bool {
    let digits = values(text);
    let rest = weighted(&digits[..8], &[9, 8, 7, 6, 5, 4, 3, 2]) % 11;
    let check = if rest < 2 { 0 } else { 11 - rest };
    !matches!(digits[0], 0 | 4 | 7) && check == u32::from(digits[8])
}

fn ro_cnp(text: &[u8]) -> bool {
    let digits = values(text);
    let rest = weighted(&digits[..12], &[2, 7, 9, 1, 4, 6, 3, 5, 8, 2, 7, 9]) % 11;
    let check = if rest == 10 { 1 } else { rest };
    digits[0] != 0
        && is_date(number(&digits[3..5]), number(&digits[5..7]))
        && check == u32::from(digits[12])
}

fn br_cpf(text: &[u8]) -> bool {
    let digits = values(text);
    let is_repeated = digits[..11].iter().all(|digit| *digit == digits[0]);
    !is_repeated
        && brazilian(&digits, 9, &[10, 9, 8, 7, 6, 5, 4, 3, 2])
        && brazilian(&digits, 10, &[11, 10, 9, 8, 7, 6, 5, 4, 3, 2])
}

fn br_cnpj(text: &[u8]) -> bool {
    let digits = values(text);
    brazilian(&digits, 12, &[5, 4, 3, 2, 9, 8, 7, 6, 5, 4, 3, 2])
        && brazilian(&digits, 13, &[6, 5, 4, 3, 2, 9, 8, 7, 6, 5, 4, 3, 2])
}

fn brazilian(digits: &[u8], count: usize, weights: &[u32]) -> bool {
    let rest = weighted(&digits[..count], weights) % 11;
    (if rest < 2 { 0 } else { 11 - rest }) == u32::from(digits[count])
}

fn in_aadhaar(text: &[u8]) -> bool {
    let digits = values(text);
    digits[0] >= 2 && verhoeff(&digits[..12])
}

/// The fourth letter says what kind of taxpayer it is.
fn in_pan(text: &[u8]) -> bool {
    b"ABCFGHJLPT".contains(&text[3]) && text[5..9] != *b"0000"
}

/// ISO/IEC 7064 MOD 11-2.
fn cn_resident_id(text: &[u8]) -> bool {
    let digits = values(text);
    let weights = [7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2];
    let place = usize::try_from(weighted(&digits[..17], &weights) % 11).expect("below 11");
    matches!(number(&digits[6..8]), 18..=20)
        && is_date(number(&digits[10..12]), number(&digits[12..14]))
        && b"10X98765432"[place] == text[17]
}

/// Since October 2020 the last digits are random: the date and the sex are all there is.
fn kr_rrn(text: &[u8]) -> bool {
    let digits = values(text);
    is_date(number(&digits[2..4]), number(&digits[4..6])) && matches!(digits[6], 1..=8)
}

fn sg_nric(text: &[u8]) -> bool {
    let digits = values(text);
    let sum = weighted(&digits[1..8], &[2, 7, 6, 5, 4, 3, 2]);
    let place = |sum: u32| usize::try_from(sum % 11).expect("below 11");
    let letter = match text[0] {
        b'S' => b"JZIHGFEDCBA"[place(sum)],
        b'T' => b"JZIHGFEDCBA"[place(sum + 4)],
        b'F' => b"XWUTRQPNMLK"[place(sum)],
        b'G' => b"XWUTRQPNMLK"[place(sum + 4)],
        b'M' => b"XWUTRQPNJLK"[place(sum + 3)],
        _ => return false,
    };
    letter == text[8]
}

/// `Ñ` has a place between N and O, and O is one further.
fn mx_curp(text: &[u8]) -> bool {
    let value = |byte: u8| match byte {
        b'0'..=b'9' => u32::from(byte - b'0'),
        b'A'..=b'N' => u32::from(byte - b'A') + 10,
        letter => u32::from(letter - b'A') + 11,
    };
    let sum: u32 = (2..=18)
        .rev()
        .zip(text)
        .map(|(weight, byte)| weight * value(*byte))
        .sum();
    let digits = values(text);
    matches!(text[10], b'H' | b'M' | b'X')
        && is_date(number(&digits[6..8]), number(&digits[8..10]))
        && (10 - sum % 10) % 10 == u32::from(digits[17])
}

fn ca_sin(text: &[u8]) -> bool {
    let digits = values(text);
    !matches!(digits[0], 0 | 8) && luhn(&digits[..9])
}

fn au_tfn(text: &[u8]) -> bool {
    let sum = weighted(&values(text)[..9], &[1, 4, 3, 7, 5, 8, 6, 9, 10]);
    sum > 0 && sum.is_multiple_of(11)
}

fn za_id(text: &[u8]) -> bool {
    let digits = values(text);
    is_date(number(&digits[2..4]), number(&digits[4..6]))
        && matches!(digits[10], 0..=2)
        && luhn(&digits[..13])
}

fn tr_kimlik(text: &[u8]) -> bool {
    let digits = values(text);
    let odd = weighted(&digits[..9], &[1, 0, 1, 0, 1, 0, 1, 0, 1]);
    let even = weighted(&digits[..9], &[0, 1, 0, 1, 0, 1, 0, 1, 0]);
    let sum: u32 = digits[..10].iter().map(|digit| u32::from(*digit)).sum();
    digits[0] != 0
        && (odd * 7 + 100 - even) % 10 == u32::from(digits[9])
        && sum % 10 == u32::from(digits[10])
}
