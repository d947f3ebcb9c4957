//! Providers' bills as CSV. Sources of the columns: OpenAI's export of costs (`start_time`,
//! `start_time_iso`, `amount_value`, `amount_currency`, `line_item`, …, as
//! <https://platform.openai.com/docs/api-reference/usage/costs> names them), and the cost export of Anthropic's console
//! (`usage_date_utc`, `model`, `cost_usd`, …).

use std::collections::BTreeMap;

use base::{PicoUsd, Timestamp};

use crate::api::BillProvider;

/// 100,000 rows: a year of 270 a day.
const ROWS_MAX: usize = 100_000;
const DAY_SECONDS: i64 = 24 * 3_600;

/// What was billed, by UTC day (as its beginning) and by what the bill calls the model.
pub(crate) type Billed = BTreeMap<(Timestamp, String), PicoUsd>;

/// Why a bill was not read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BillError {
    /// It is not CSV.
    #[error("this is not CSV: {0}")]
    Csv(#[from] csv::Error),
    /// A column is not there.
    #[error("there is no column `{column}`: this is not {what}")]
    NoColumn {
        column: &'static str,
        what: &'static str,
    },
    /// A row says something else than it should.
    #[error("row {row}: `{text}` is no {what}")]
    BadValue {
        row: usize,
        text: String,
        what: &'static str,
    },
    /// It is too long.
    #[error("a bill has {ROWS_MAX} rows at most")]
    TooLong,
    /// It says nothing.
    #[error("the bill has no rows with an amount")]
    Empty,
}

/// Which columns say what.
struct Columns {
    what: &'static str,
    /// The first of these that is there.
    days: &'static [&'static str],
    model: &'static str,
    amount: &'static str,
    currency: Option<&'static str>,
}

impl BillProvider {
    fn columns(self) -> Columns {
        match self {
            Self::Openai => Columns {
                what: "OpenAI's export of costs",
                days: &["start_time_iso", "start_time"],
                model: "line_item",
                amount: "amount_value",
                currency: Some("amount_currency"),
            },
            Self::Anthropic => Columns {
                what: "the export of costs of Anthropic's console",
                days: &["usage_date_utc"],
                model: "model",
                amount: "cost_usd",
                currency: None,
            },
            Self::Generic => Columns {
                what: "a bill with the columns `day`, `model` and `cost`",
                days: &["day"],
                model: "model",
                amount: "cost",
                currency: None,
            },
        }
    }
}

/// Reads a bill.
pub(crate) fn read(provider: BillProvider, text: &str) -> Result<Billed, BillError> {
    let columns = provider.columns();
    // Spreadsheets begin UTF-8 with a mark.
    let text = text.trim_start_matches('\u{feff}');
    let mut reader = csv::Reader::from_reader(text.as_bytes());
    let header = reader.headers()?.clone();
    let place = |name: &str| header.iter().position(|column| column.trim() == name);
    let needed = |column: &'static str| {
        let missing = || BillError::NoColumn {
            column,
            what: columns.what,
        };
        place(column).ok_or_else(missing)
    };
    let day = columns.days.iter().find_map(|name| place(name));
    let day = day.ok_or(BillError::NoColumn {
        column: columns.days[0],
        what: columns.what,
    })?;
    let (model, amount) = (needed(columns.model)?, needed(columns.amount)?);
    let currency = columns.currency.and_then(place);
    let mut billed = Billed::new();
    for (number, row) in reader.records().enumerate() {
        let (row, number) = (row?, number + 2);
        if number > ROWS_MAX + 1 {
            return Err(BillError::TooLong);
        }
        let cell = |column: usize| row.get(column).unwrap_or_default().trim();
        // A day without costs has a row without an amount.
        if cell(amount).is_empty() {
            continue;
        }
        let bad = |column: usize, what| BillError::BadValue {
            row: number,
            text: cell(column).chars().take(40).collect(),
            what,
        };
        if let Some(currency) = currency
            && !cell(currency).eq_ignore_ascii_case("usd")
        {
            return Err(bad(currency, "amount in US dollars"));
        }
        let day = day_of(cell(day)).ok_or_else(|| bad(day, "day"))?;
        let amount = dollars(cell(amount)).ok_or_else(|| bad(amount, "amount in dollars"))?;
        let name = model_of(provider, cell(model));
        *billed.entry((day, name.to_owned())).or_default() += amount;
    }
    match billed.is_empty() {
        true => Err(BillError::Empty),
        false => Ok(billed),
    }
}

/// OpenAI's line items are a model and what of it: `gpt-4o-2024-08-06, cached input`.
fn model_of(provider: BillProvider, text: &str) -> &str {
    match (provider, text.rsplit_once(", ")) {
        (BillProvider::Openai, Some((model, _))) => model,
        _ => text,
    }
}

/// The beginning of the UTC day that a date, a time or a number of seconds since 1970 is in.
fn day_of(text: &str) -> Option<Timestamp> {
    let seconds = match text.parse::<i64>() {
        Ok(seconds) => seconds,
        Err(_) if text.len() == "2026-01-31".len() => {
            let at: Timestamp = format!("{text}T00:00:00Z").parse().ok()?;
            at.as_seconds()
        }
        Err(_) => text.parse::<Timestamp>().ok()?.as_seconds(),
    };
    // Years up to 9999, as times are written.
    let day = seconds.div_euclid(DAY_SECONDS);
    let known = (0..3_000_000).contains(&day);
    known.then(|| Timestamp::from_micros(day * DAY_SECONDS * 1_000_000))
}

/// An amount; what is finer than 10⁻¹² dollars is a float's noise, and rounded.
fn dollars(text: &str) -> Option<PicoUsd> {
    const PLACES: usize = 12;
    let text = text.strip_prefix('$').unwrap_or(text);
    let amount = match text.split_once('.') {
        Some((whole, places))
            if places.len() > PLACES && places.bytes().all(|byte| byte.is_ascii_digit()) =>
        {
            let (kept, rest) = places.split_at(PLACES);
            let cut = PicoUsd::from_decimal_text(&format!("{whole}.{kept}")).ok()?;
            let up = PicoUsd::new(i128::from(rest.as_bytes()[0] >= b'5'));
            match whole.starts_with('-') {
                true => cut - up,
                false => cut + up,
            }
        }
        _ => PicoUsd::from_decimal_text(text).ok()?,
    };
    let most = PicoUsd::dollars(1_000_000_000);
    (amount <= most && amount >= -most).then_some(amount)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(billed: Billed) -> Vec<(String, String, String)> {
        let row = |((day, model), cost): ((Timestamp, String), PicoUsd)| {
            (day.to_string()[..10].to_owned(), model, cost.to_string())
        };
        billed.into_iter().map(row).collect()
    }

    fn row(day: &str, model: &str, cost: &str) -> (String, String, String) {
        (day.to_owned(), model.to_owned(), cost.to_owned())
    }

    #[test]
    fn each_providers_export_is_read() {
        let openai = "\u{feff}start_time,end_time,start_time_iso,end_time_iso,amount_value,amount_currency,line_item,project_id\n\
            1759622400,1759708800,2025-10-05T00:00:00+00:00,x,0.8958740000000000,usd,\"gpt-4o-2024-08-06, input\",p\n\
            1759622400,1759708800,2025-10-05T00:00:00+00:00,x,0.1000000000000149,usd,\"gpt-4o-2024-08-06, output\",p\n\
            1759708800,1759795200,2025-10-06T00:00:00+00:00,x,,,,\n";
        let read_openai = read(BillProvider::Openai, openai).unwrap();
        assert_eq!(
            rows(read_openai),
            [row("2025-10-05", "gpt-4o-2024-08-06", "0.995874")]
        );
        let anthropic = "usage_date_utc,model,workspace,api_key,usage_type,context_window,token_type,cost_usd,list_price_usd,cost_type\n\
            2026-08-04,Claude Haiku 4.5,Default,k,message,≤ 200k,input_no_cache,0.05,0.05,token\n\
            2026-08-04,Claude Haiku 4.5,Default,k,message,≤ 200k,output,0.02,0.02,token\n\
            2026-08-05,Claude Haiku 4.5,Default,k,message,≤ 200k,output,1e-05,0.02,token\n";
        let read_anthropic = read(BillProvider::Anthropic, anthropic).unwrap();
        assert_eq!(
            rows(read_anthropic),
            [
                row("2026-08-04", "Claude Haiku 4.5", "0.07"),
                row("2026-08-05", "Claude Haiku 4.5", "0.00001"),
            ]
        );
        let generic = "cost,model,day\n$1.50,m,1759622400\n-0.5,m,2025-10-05T23:00:00Z\n";
        let read_generic = read(BillProvider::Generic, generic).unwrap();
        assert_eq!(rows(read_generic), [row("2025-10-05", "m", "1.00")]);
    }

    #[test]
    fn what_is_wrong_is_told_with_its_row() {
        let refused = |provider, text: &str| read(provider, text).unwrap_err().to_string();
        let said = refused(BillProvider::Anthropic, "day,model,cost\n2026-01-01,m,1\n");
        assert!(
            said.contains("`usage_date_utc`") && said.contains("Anthropic"),
            "{said}"
        );
        for (text, what) in [
            (
                "day,model,cost\nyesterday,m,1\n",
                "row 2: `yesterday` is no day",
            ),
            (
                "day,model,cost\n2026-01-01,m,1\n2026-01-01,m,much\n",
                "row 3: `much` is no amount",
            ),
            ("day,model,cost\n2026-01-01,m,9999999999\n", "is no amount"),
            ("day,model,cost\n9223372036854775807,m,1\n", "is no day"),
            ("day,model,cost\n", "no rows"),
            ("day,model,cost\n2026-01-01,m\n", "not CSV"),
        ] {
            let said = refused(BillProvider::Generic, text);
            assert!(said.contains(what), "{text}: {said}");
        }
        let euros = "start_time,amount_value,amount_currency,line_item\n1759622400,1,eur,m\n";
        assert!(refused(BillProvider::Openai, euros).contains("`eur` is no amount in US dollars"));
    }
}
