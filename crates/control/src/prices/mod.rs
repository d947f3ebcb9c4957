//! Prices from elsewhere: pure mapping, then new effective-dated entries.

mod litellm;

use std::collections::BTreeMap;
use std::sync::Arc;

use base::{ModelName, PicoUsd, Timestamp};
use tenancy::catalogue::{LongPrompts, PriceEntry, PriceSpec};

use crate::api::{ImportedPrice, PriceImportReport, PriceImportRequest, PriceSource, SkippedPrice};

pub(crate) use litellm::DocumentError;

/// What a model costs, without a date.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Amounts {
    pub(crate) input: PicoUsd,
    pub(crate) output: PicoUsd,
    pub(crate) cached_read: Option<PicoUsd>,
    pub(crate) cached_write: Option<PicoUsd>,
    pub(crate) cached_write_1h: Option<PicoUsd>,
    pub(crate) image: Option<PicoUsd>,
    pub(crate) request: Option<PicoUsd>,
    pub(crate) long_prompts: Option<LongPrompts>,
}

impl Amounts {
    fn of(entry: &PriceEntry) -> Self {
        Self {
            input: entry.input,
            output: entry.output,
            cached_read: entry.cached_read,
            cached_write: entry.cached_write,
            cached_write_1h: entry.cached_write_1h,
            image: entry.image,
            request: entry.request,
            long_prompts: entry.long_prompts.clone(),
        }
    }

    fn into_entry(self, version: u32, effective_from: Timestamp, source: &str) -> PriceEntry {
        PriceEntry {
            version,
            effective_from,
            input: self.input,
            output: self.output,
            cached_read: self.cached_read,
            cached_write: self.cached_write,
            cached_write_1h: self.cached_write_1h,
            image: self.image,
            request: self.request,
            long_prompts: self.long_prompts,
            source: Some(source.to_owned()),
        }
    }
}

/// The prices to put, and the report about them.
pub(crate) struct Import {
    pub(crate) prices: Vec<(ModelName, PriceSpec)>,
    pub(crate) report: PriceImportReport,
}

/// Maps the document and compares it with the prices as they stand. An entry is added only where
/// amounts changed; versions only increase; what stands is never rewritten.
pub(crate) fn import(
    request: &PriceImportRequest,
    current: &BTreeMap<ModelName, Arc<PriceSpec>>,
    now: Timestamp,
) -> Result<Import, DocumentError> {
    let mapped = match request.source {
        PriceSource::Litellm => litellm::map(request)?,
    };
    let source = match request.source {
        PriceSource::Litellm => "litellm",
    };
    let effective_from = request.effective_from.unwrap_or(now);
    let mut report = PriceImportReport {
        skipped: mapped.skipped,
        ignored: mapped.ignored,
        ..PriceImportReport::default()
    };
    let mut prices = Vec::new();
    for (name, amounts) in mapped.prices {
        match next(
            current.get(&name).map(Arc::as_ref),
            amounts,
            effective_from,
            source,
        ) {
            Next::Unchanged => report.unchanged.push(name.to_string()),
            Next::Refused(reason) => {
                report.skipped.push(SkippedPrice {
                    model: name.to_string(),
                    reason,
                });
            }
            Next::Price(price, version) => {
                report.imported.push(ImportedPrice {
                    name: name.to_string(),
                    version,
                });
                prices.push((name, price));
            }
        }
    }
    Ok(Import { prices, report })
}

enum Next {
    Unchanged,
    Refused(String),
    Price(PriceSpec, u32),
}

fn next(
    current: Option<&PriceSpec>,
    amounts: Amounts,
    effective_from: Timestamp,
    source: &str,
) -> Next {
    let mut price = current.cloned().unwrap_or(PriceSpec {
        entries: Vec::new(),
    });
    if let Some(last) = price.entries.last() {
        if Amounts::of(last) == amounts {
            return Next::Unchanged;
        }
        if last.effective_from >= effective_from {
            return Next::Refused(format!(
                "an entry applies from {} on: a new one has to begin later",
                last.effective_from
            ));
        }
    }
    let highest = price
        .entries
        .iter()
        .map(|entry| entry.version)
        .max()
        .unwrap_or(0);
    let Some(version) = highest.checked_add(1) else {
        return Next::Refused("its versions are used up".to_owned());
    };
    price
        .entries
        .push(amounts.into_entry(version, effective_from, source));
    Next::Price(price, version)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn amounts(input: i128) -> Amounts {
        Amounts {
            input: PicoUsd::new(input),
            ..Amounts::default()
        }
    }

    #[test]
    fn an_entry_is_added_only_where_amounts_changed() {
        let at = Timestamp::from_micros;
        let Next::Price(first, 1) = next(None, amounts(5), at(10), "s") else {
            panic!("new")
        };
        assert!(matches!(
            next(Some(&first), amounts(5), at(20), "s"),
            Next::Unchanged
        ));
        let Next::Price(second, 2) = next(Some(&first), amounts(6), at(20), "s") else {
            panic!("changed")
        };
        assert_eq!(second.entries.len(), 2);
        assert_eq!(second.entries[0], first.entries[0]);
        assert!(matches!(
            next(Some(&second), amounts(7), at(20), "s"),
            Next::Refused(_)
        ));
    }
}
