//! Cards and national identifiers by the forms they are written in.
//!
//! A form is a template: `#` is a digit, `@` a letter, `?` either, `%` the century sign of Finnish
//! identifiers; anything else stands for itself. What a template collects is checked by the rule
//! of its row. A row whose check is weak has forms that count only if a word before them says
//! what they are.

use std::sync::LazyLock;

use tenancy::catalogue::IdCountry;

use super::told::{Lists, Told};
use super::view::{View, ends_here};
use super::{cards, national};

/// What a row is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Owner {
    /// Payment cards.
    Card,
    /// A country's identifiers.
    Country(IdCountry),
}

/// One identifier.
pub(super) struct Row {
    pub(super) owner: Owner,
    /// What placeholders are called.
    pub(super) label: &'static str,
    /// Forms that are enough by themselves.
    pub(super) forms: &'static [&'static str],
    /// Forms that need one of `words` before them.
    pub(super) told_forms: &'static [&'static str],
    /// In lower case.
    pub(super) words: &'static [&'static str],
    /// Whether what was collected (digits and capitals) can be one.
    pub(super) check: fn(&[u8]) -> bool,
}

/// A form, ready to be compared.
struct Template {
    row: &'static Row,
    form: &'static [u8],
    /// The words that have to stand before it, if any.
    told_by: Option<Lists>,
    begins_with_digit: bool,
    /// How many digits or letters it begins with.
    lead: usize,
    /// Whether `?` follows them, so that the run may be longer.
    lead_may_grow: bool,
}

/// 20: the longest collected identifier is a card's 19 digits.
const COLLECTED_MAX: usize = 20;

static TEMPLATES: LazyLock<Vec<Template>> = LazyLock::new(|| {
    let rows = cards::ROWS.iter().chain(national::ROWS);
    rows.enumerate()
        .flat_map(|(place, row)| {
            let told_by = Some(Lists::of_row(place));
            let forms = row.forms.iter().map(|form| (form, None));
            let told = row.told_forms.iter().map(move |form| (form, told_by));
            forms
                .chain(told)
                .map(|(form, told_by)| template(row, form, told_by))
        })
        .collect()
});

/// The templates that a run of so many digits, or letters, may begin; in their order.
struct ByLead {
    digits: [Vec<&'static Template>; COLLECTED_MAX + 1],
    letters: [Vec<&'static Template>; COLLECTED_MAX + 1],
}

/// Most words begin no template: they are told apart by their length, without a look at any.
static BY_LEAD: LazyLock<ByLead> = LazyLock::new(|| {
    let of = |digits: bool| {
        std::array::from_fn(|run| {
            let fits = |template: &&Template| {
                template.begins_with_digit == digits
                    && (run == template.lead || (template.lead_may_grow && run > template.lead))
            };
            TEMPLATES.iter().filter(fits).collect()
        })
    };
    ByLead {
        digits: of(true),
        letters: of(false),
    }
});

fn template(row: &'static Row, form: &'static str, told_by: Option<Lists>) -> Template {
    let form = form.as_bytes();
    let begins_with_digit = form[0] != b'@';
    let lead = form
        .iter()
        .take_while(|symbol| match symbol {
            b'#' => begins_with_digit,
            b'@' => !begins_with_digit,
            digit => digit.is_ascii_digit(),
        })
        .count();
    Template {
        row,
        form,
        told_by,
        begins_with_digit,
        lead,
        lead_may_grow: form.get(lead) == Some(&b'?'),
    }
}

/// The identifier that begins at `start`, of the rows that are `wanted`: its end and its label.
pub(super) fn find(
    view: &View<'_>,
    start: usize,
    told: &Told<'_, '_>,
    wanted: impl Fn(Owner) -> bool,
) -> Option<(usize, &'static str)> {
    let begins_with_digit = view.at(start).is_ascii_digit();
    let end = view.run(start, COLLECTED_MAX, |byte| {
        if begins_with_digit {
            byte.is_ascii_digit()
        } else {
            byte.is_ascii_alphabetic()
        }
    });
    let of_kind = match begins_with_digit {
        true => &BY_LEAD.digits,
        false => &BY_LEAD.letters,
    };
    of_kind[end - start]
        .iter()
        .filter(|template| wanted(template.row.owner))
        .find_map(|template| {
            let end = matches(view, start, template)?;
            template
                .told_by
                .is_none_or(|words| told.has(words))
                .then_some((end, template.row.label))
        })
}

fn matches(view: &View<'_>, start: usize, template: &Template) -> Option<usize> {
    let mut collected = [0; COLLECTED_MAX];
    let mut count = 0;
    for (place, symbol) in template.form.iter().enumerate() {
        let byte = view.at(start + place);
        let fits = match symbol {
            b'#' => byte.is_ascii_digit(),
            b'@' => byte.is_ascii_alphabetic(),
            b'?' => byte.is_ascii_alphanumeric(),
            b'%' => matches!(byte, b'-' | b'+' | b'A'..=b'F' | b'U'..=b'Y'),
            literal => byte == *literal,
        };
        if !fits {
            return None;
        }
        if matches!(symbol, b'#' | b'@' | b'?') {
            collected[count] = byte.to_ascii_uppercase();
            count += 1;
        }
    }
    let end = start + template.form.len();
    (ends_here(view, end) && (template.row.check)(&collected[..count])).then_some(end)
}

/// The values of collected digits.
pub(super) fn values(collected: &[u8]) -> [u8; COLLECTED_MAX] {
    let mut values = [0; COLLECTED_MAX];
    for (value, byte) in values.iter_mut().zip(collected) {
        *value = byte.wrapping_sub(b'0');
    }
    values
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_fits_what_is_collected() {
        for template in TEMPLATES.iter() {
            let symbols = template.form.iter().filter(|one| b"#@?".contains(one));
            assert!(symbols.count() <= COLLECTED_MAX, "{}", template.row.label);
            assert!(template.lead > 0, "{}", template.row.label);
            // Who looks for cards alone looks at digits alone.
            assert!(template.begins_with_digit || template.row.owner != Owner::Card);
            assert!(template.told_by.is_none() || !template.row.words.is_empty());
        }
    }
}
