//! The checksums of identifiers, over digits as values from 0 to 9.

/// Luhn's (ISO/IEC 7812-1): cards, and many national identifiers.
pub(super) fn luhn(digits: &[u8]) -> bool {
    let sum: u32 = digits
        .iter()
        .rev()
        .enumerate()
        .map(|(place, digit)| {
            let value = u32::from(*digit);
            if place % 2 == 0 {
                value
            } else {
                value * 2 / 10 + value * 2 % 10
            }
        })
        .sum();
    sum.is_multiple_of(10)
}

/// The weighted sum. There are as many weights as digits that count.
pub(super) fn weighted(digits: &[u8], weights: &[u32]) -> u32 {
    digits
        .iter()
        .zip(weights)
        .map(|(digit, weight)| u32::from(*digit) * weight)
        .sum()
}

/// The number that the digits write.
pub(super) fn number(digits: &[u8]) -> u64 {
    digits
        .iter()
        .fold(0, |value, digit| value * 10 + u64::from(*digit))
}

/// ISO/IEC 7064 MOD 11,10: the last digit checks the others.
pub(super) fn mod_11_10(digits: &[u8]) -> bool {
    let Some((check, rest)) = digits.split_last() else {
        return false;
    };
    let product = rest.iter().fold(10, |product, digit| {
        let sum = (u32::from(*digit) + product) % 10;
        (if sum == 0 { 10 } else { sum }) * 2 % 11
    });
    (11 - product) % 10 == u32::from(*check)
}

/// Verhoeff's: the dihedral group of order ten.
pub(super) fn verhoeff(digits: &[u8]) -> bool {
    const PRODUCT: [[u8; 10]; 10] = [
        [0, 1, 2, 3, 4, 5, 6, 7, 8, 9],
        [1, 2, 3, 4, 0, 6, 7, 8, 9, 5],
        [2, 3, 4, 0, 1, 7, 8, 9, 5, 6],
        [3, 4, 0, 1, 2, 8, 9, 5, 6, 7],
        [4, 0, 1, 2, 3, 9, 5, 6, 7, 8],
        [5, 9, 8, 7, 6, 0, 4, 3, 2, 1],
        [6, 5, 9, 8, 7, 1, 0, 4, 3, 2],
        [7, 6, 5, 9, 8, 2, 1, 0, 4, 3],
        [8, 7, 6, 5, 9, 3, 2, 1, 0, 4],
        [9, 8, 7, 6, 5, 4, 3, 2, 1, 0],
    ];
    const PERMUTATION: [[u8; 10]; 8] = [
        [0, 1, 2, 3, 4, 5, 6, 7, 8, 9],
        [1, 5, 7, 6, 2, 8, 3, 0, 9, 4],
        [5, 8, 0, 3, 7, 9, 6, 1, 4, 2],
        [8, 9, 1, 6, 0, 4, 3, 5, 2, 7],
        [9, 4, 5, 3, 1, 2, 6, 8, 7, 0],
        [4, 2, 8, 6, 5, 7, 3, 9, 0, 1],
        [2, 7, 9, 3, 8, 0, 6, 4, 1, 5],
        [7, 0, 4, 6, 9, 1, 3, 2, 5, 8],
    ];
    let sum = digits
        .iter()
        .rev()
        .enumerate()
        .fold(0, |sum: u8, (place, digit)| {
            let permuted = PERMUTATION[place % 8][usize::from(*digit)];
            PRODUCT[usize::from(sum)][usize::from(permuted)]
        });
    sum == 0
}

/// ISO/IEC 7064 MOD 97-10 as IBANs use it: the first four characters count as the last.
pub(super) fn iban(characters: &[u8]) -> bool {
    let (head, rest) = characters.split_at(4);
    let remainder = rest
        .iter()
        .chain(head)
        .fold(0_u32, |remainder, byte| match byte {
            b'0'..=b'9' => (remainder * 10 + u32::from(byte - b'0')) % 97,
            letter => (remainder * 100 + u32::from(letter.to_ascii_uppercase() - b'A') + 10) % 97,
        });
    remainder == 1
}

/// Whether month and day can be those of a date; a year is not known, so February has 29 days.
pub(super) fn is_date(month: u64, day: u64) -> bool {
    let days = match month {
        1 | 3 | 5 | 7 | 8 | 10 | 12 => 31,
        4 | 6 | 9 | 11 => 30,
        2 => 29,
        _ => return false,
    };
    (1..=days).contains(&day)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digits(text: &str) -> Vec<u8> {
        text.bytes().map(|byte| byte - b'0').collect()
    }

    #[test]
    fn known_numbers_pass_and_any_changed_digit_fails() {
        type Checksum = fn(&[u8]) -> bool;
        let table: &[(Checksum, &str)] = &[
            (luhn, "4111111111111111"),
            (luhn, "79927398713"),
            (verhoeff, "2363"),
            (verhoeff, "758722"),
            (mod_11_10, "86095742719"),
            (mod_11_10, "794623"),
        ];
        for (checksum, text) in table {
            let right = digits(text);
            assert!(checksum(&right), "{text}");
            for place in 0..right.len() {
                for other in 0..10 {
                    let mut wrong = right.clone();
                    wrong[place] = other;
                    assert_eq!(checksum(&wrong), wrong == right, "{text}: {wrong:?}");
                }
            }
        }
    }

    #[test]
    fn ibans_are_checked() {
        assert!(iban(b"GB29NWBK60161331926819"));
        assert!(iban(b"DE89370400440532013000"));
        assert!(!iban(b"DE89370400440532013001"));
    }
}
