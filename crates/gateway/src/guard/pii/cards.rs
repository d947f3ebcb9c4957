//! Payment cards: issuers' ranges, their lengths, and Luhn's checksum.

use super::checksums::{luhn, number};
use super::templates::{Owner, Row, values};

pub(super) const ROWS: &[Row] = &[Row {
    owner: Owner::Card,
    label: "CARD",
    forms: &[
        "################",
        "#### #### #### ####",
        "####-####-####-####",
        "####.####.####.####",
        "###############",
        "#### ###### #####",
        "####-######-#####",
        "##############",
        "#### ###### ####",
        "####-######-####",
        "#### #### #### #### ###",
        "####-####-####-####-###",
        "###################",
        "##################",
        "#################",
        "#############",
        "############",
    ],
    told_forms: &[],
    words: &[],
    check: is_card,
}];

/// First digits from, to, and lengths from, to; the issuers' published ranges.
const RANGES: &[(u64, u64, usize, usize)] = &[
    // Visa.
    (400_000, 499_999, 16, 16),
    (400_000, 499_999, 13, 13),
    (400_000, 499_999, 19, 19),
    // Mastercard.
    (510_000, 559_999, 16, 16),
    (222_100, 272_099, 16, 16),
    // American Express.
    (340_000, 349_999, 15, 15),
    (370_000, 379_999, 15, 15),
    // Discover, and UnionPay.
    (601_100, 601_199, 16, 19),
    (620_000, 629_999, 16, 19),
    (644_000, 659_999, 16, 19),
    // Diners Club.
    (300_000, 305_999, 14, 19),
    (309_500, 309_599, 14, 19),
    (360_000, 369_999, 14, 19),
    (380_000, 399_999, 14, 19),
    // JCB.
    (352_800, 358_999, 16, 19),
    (213_100, 213_199, 15, 15),
    (180_000, 180_099, 15, 15),
    // Maestro.
    (500_000, 509_999, 12, 19),
    (560_000, 589_999, 12, 19),
    (630_400, 630_499, 12, 19),
    (676_000, 676_999, 12, 19),
    (675_900, 675_999, 12, 19),
    // Mir.
    (220_000, 220_499, 16, 19),
];

fn is_card(collected: &[u8]) -> bool {
    let values = values(collected);
    let digits = &values[..collected.len()];
    let first = number(&digits[..6]);
    luhn(digits)
        && RANGES.iter().any(|(from, to, shortest, longest)| {
            (*from..=*to).contains(&first) && (*shortest..=*longest).contains(&digits.len())
        })
}
