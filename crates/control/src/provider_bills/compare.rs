//! The bill and the ledger, day by day and model by model.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use base::{Name, PicoUsd, Timestamp};
use ring::digest::{SHA256, digest};
use store::{Dimension, TenantStore, UsageFilter, UsageQuery};
use tenancy::catalogue::Engine;
use tenancy::{ServicePurpose, Snapshot, TenantEntry};

use super::csv::{self, Billed};
use crate::Control;
use crate::api::{BillDifference, BillImportReply, BillImportRequest, BillProvider, BillRow, Page};
use crate::error::ApiError;
use crate::paging::Paging;
use crate::publisher::Act;

const DAY: Duration = Duration::from_secs(24 * 3_600);
/// 366 days: a leap year.
const DAYS_MAX: u64 = 366;
/// 10,000 groups of a tenant's: as many as an answer of the API has.
const GROUPS_MAX: usize = 10_000;
/// 20,000 differences: a year of 50 models, in 3 MB.
const DIFFERENCES_MAX: usize = 20_000;

/// What the ledger has, by UTC day and by what the upstream called the model.
type Spent = BTreeMap<(Timestamp, String), PicoUsd>;

/// Compares a bill with the ledger, and keeps what comes of it. Blocks.
pub(crate) fn import(
    control: &Control,
    snapshot: &Snapshot,
    request: &BillImportRequest,
    act: &Act,
) -> Result<BillImportReply, ApiError> {
    let billed = csv::read(request.provider, &request.csv)
        .map_err(|error| ApiError::of("csv", error.to_string()))?;
    let (from, until) = time(&billed)?;
    let upstreams = upstreams(snapshot, request)?;
    control.publisher.record_act(act)?;
    control.live_usage.catch_up();
    let mut spent = Spent::new();
    for tenant in snapshot.tenants() {
        let publisher = &control.publisher;
        let scope = publisher.service_scope(&tenant.unlocked, ServicePurpose::Export);
        let store = publisher.stores.open(&scope);
        add_spent(&mut spent, tenant, &store, &upstreams, (from, until))?;
    }
    let differences = compare(&billed, &spent, &request.names);
    if differences.len() > DIFFERENCES_MAX {
        return Err(ApiError::of(
            "csv",
            format!("this has more than {DIFFERENCES_MAX} days and models: import a shorter time"),
        ));
    }
    let sum = |of: fn(&BillDifference) -> PicoUsd| differences.iter().map(of).sum::<PicoUsd>();
    let (billed, spent) = (sum(|it| it.billed), sum(|it| it.ledger));
    let hash = digest(&SHA256, request.csv.as_bytes());
    let hash = hash.as_ref().iter().map(|byte| format!("{byte:02x}"));
    let mut reply = BillImportReply {
        id: 0,
        provider: request.provider,
        upstreams: upstreams.into_iter().collect(),
        from,
        until,
        imported_at: control.clock.now(),
        imported_by: act.actor.clone(),
        file_sha256: hash.collect(),
        billed,
        ledger: spent,
        difference: billed - spent,
        differences,
    };
    let at = reply.imported_at;
    let write = |id: u64| {
        reply.id = id;
        serde_json::to_vec(&reply).map_err(ApiError::internal)
    };
    control.publisher.catalogue.keep_reconciliation(at, write)?;
    Ok(reply)
}

/// From the first day of a bill to the end of its last.
fn time(billed: &Billed) -> Result<(Timestamp, Timestamp), ApiError> {
    let days = billed.keys().map(|(day, _)| *day);
    let (first, last) = (days.clone().min(), days.max());
    let (first, last) = first.zip(last).unwrap_or_default();
    let until = last.plus(DAY);
    if until.since(first).as_secs() / DAY.as_secs() > DAYS_MAX {
        let message = format!("a bill is of {DAYS_MAX} days at most");
        return Err(ApiError::of("csv", message));
    }
    Ok((first, until))
}

/// The upstreams whose calls are on the bill: those that are named, or all that the provider's
/// prices are for.
fn upstreams(snapshot: &Snapshot, request: &BillImportRequest) -> Result<BTreeSet<Name>, ApiError> {
    let known = snapshot.upstreams();
    if let Some(unknown) = request
        .upstreams
        .iter()
        .find(|name| !known.contains_key(*name))
    {
        let message = format!("there is no upstream `{unknown}`");
        return Err(ApiError::of("upstreams", message));
    }
    let engine = match request.provider {
        BillProvider::Openai => Some(Engine::OpenAi),
        BillProvider::Anthropic => Some(Engine::Anthropic),
        BillProvider::Generic => None,
    };
    let named: BTreeSet<Name> = request.upstreams.iter().cloned().collect();
    let of_engine = known
        .iter()
        .filter(|(_, spec)| Some(spec.engine) == engine)
        .map(|(name, _)| name.clone());
    let meant = match named.is_empty() {
        true => of_engine.collect(),
        false => named,
    };
    if meant.is_empty() {
        return Err(ApiError::of(
            "upstreams",
            "say whose bill this is: no upstream is of this provider, so name them",
        ));
    }
    Ok(meant)
}

/// Adds what a tenant's calls of these upstreams cost. An answer that was given again is on no
/// provider's bill.
fn add_spent(
    spent: &mut Spent,
    tenant: &TenantEntry,
    store: &TenantStore<'_>,
    upstreams: &BTreeSet<Name>,
    (from, until): (Timestamp, Timestamp),
) -> Result<(), ApiError> {
    let query = UsageQuery {
        from,
        until,
        group_by: vec![
            Dimension::Day,
            Dimension::Upstream,
            Dimension::Model,
            Dimension::Version,
        ],
        filter: UsageFilter::default(),
    };
    let rows = store.whole_usage(&query, GROUPS_MAX).map_err(|error| {
        tracing::warn!(tenant = %tenant.name, %error, "a bill was not compared");
        ApiError::internal(error)
    })?;
    for row in rows {
        let is_billed = |name: &String| upstreams.iter().any(|known| known.as_str() == name);
        if !row.upstream.as_ref().is_some_and(is_billed) {
            continue;
        }
        let name = row.version.or(row.model).unwrap_or_default();
        let place = (row.start.unwrap_or_default(), name);
        *spent.entry(place).or_default() += row.cost - row.hit_cost;
    }
    Ok(())
}

/// What either has of each day and model; what neither has a cost of is left out.
fn compare(
    billed: &Billed,
    spent: &Spent,
    names: &BTreeMap<String, String>,
) -> Vec<BillDifference> {
    let mut both: BTreeMap<(Timestamp, String), (PicoUsd, PicoUsd)> = BTreeMap::new();
    for ((day, name), amount) in billed {
        let name = names.get(name).unwrap_or(name);
        both.entry((*day, alike(name))).or_default().0 += *amount;
    }
    for ((day, name), amount) in spent {
        both.entry((*day, alike(name))).or_default().1 += *amount;
    }
    let found = both.into_iter().map(|((day, model), (billed, ledger))| {
        let day = day.to_string().chars().take("2026-01-31".len()).collect();
        BillDifference {
            day,
            model,
            billed,
            ledger,
            difference: billed - ledger,
        }
    });
    found
        .filter(|it| (it.billed, it.ledger) != (PicoUsd::ZERO, PicoUsd::ZERO))
        .collect()
}

/// A model's name as bills and upstreams both say it: in small letters, without what is no letter or
/// digit, and without the date of its version. `Claude Haiku 4.5` and `claude-haiku-4-5-20251001`
/// are one; `gpt-4o-2024-08-06` and `gpt-4o` too.
fn alike(name: &str) -> String {
    let lower = name.to_lowercase();
    let words: Vec<&str> = lower
        .split(|letter: char| !letter.is_alphanumeric())
        .filter(|word| !word.is_empty())
        .collect();
    let is_number = |word: &str, digits: usize| {
        word.len() == digits && word.bytes().all(|byte| byte.is_ascii_digit())
    };
    let kept = match words.as_slice() {
        [kept @ .., year, month, day]
            if !kept.is_empty()
                && is_number(year, 4)
                && is_number(month, 2)
                && is_number(day, 2) =>
        {
            kept
        }
        [kept @ .., date] if !kept.is_empty() && is_number(date, 8) => kept,
        all => all,
    };
    kept.join("-")
}

/// A comparison that was kept.
pub(crate) fn kept(control: &Control, id: u64) -> Result<BillImportReply, ApiError> {
    let found = control.publisher.catalogue.reconciliation(id)?;
    let found = found.ok_or(ApiError::NotFound)?;
    serde_json::from_slice(&found.body).map_err(ApiError::internal)
}

/// All comparisons that were kept, the newest first.
pub(crate) fn list(control: &Control, paging: &Paging) -> Result<Page<BillRow>, ApiError> {
    // The cursor is the number of the last row.
    let before = match paging.offset()? {
        0 => u64::MAX,
        last => last,
    };
    let limit = u32::try_from(paging.limit + 1).unwrap_or(u32::MAX);
    let catalogue = &control.publisher.catalogue;
    let found = catalogue.reconciliations(before, limit)?;
    let has_more = found.len() > paging.limit;
    let mut data = Vec::with_capacity(found.len());
    for found in found.iter().take(paging.limit) {
        let kept: BillImportReply =
            serde_json::from_slice(&found.body).map_err(ApiError::internal)?;
        data.push(BillRow {
            id: kept.id,
            provider: kept.provider,
            from: kept.from,
            until: kept.until,
            imported_at: kept.imported_at,
            imported_by: kept.imported_by,
            billed: kept.billed,
            ledger: kept.ledger,
            difference: kept.difference,
        });
    }
    let last = data.last().filter(|_| has_more);
    Ok(Page {
        next_cursor: last.map(|row| row.id.to_string()),
        data,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_bills_and_of_upstreams_meet() {
        for (bill, upstream) in [
            ("Claude Haiku 4.5", "claude-haiku-4-5-20251001"),
            ("gpt-4o-mini-2024-07-18", "gpt-4o-mini"),
            ("meta-llama/Llama-3.1-8B", "meta_llama llama 3.1 8b"),
        ] {
            assert_eq!(alike(bill), alike(upstream));
        }
        assert_ne!(alike("gpt-4o"), alike("gpt-4o-mini"));
        assert_eq!(alike("20251001"), "20251001");
    }

    #[test]
    fn every_dollar_of_either_side_is_in_the_differences() {
        let day = |number: i64| Timestamp::from_micros(number * 86_400_000_000);
        let amounts = |all: &[(i64, &str, i64)]| -> BTreeMap<(Timestamp, String), PicoUsd> {
            let entry = |(at, name, amount): &(i64, &str, i64)| {
                ((day(*at), (*name).to_owned()), PicoUsd::dollars(*amount))
            };
            all.iter().map(entry).collect()
        };
        let billed = amounts(&[(1, "GPT 4o", 5), (1, "gpt-4o-2024-08-06", 2), (2, "Odd", 3)]);
        let spent = amounts(&[(1, "gpt-4o", 6), (3, "gpt-4o", 4), (3, "free", 0)]);
        let names = [("Odd".to_owned(), "gpt-4o".to_owned())]
            .into_iter()
            .collect();
        let said: Vec<_> = compare(&billed, &spent, &names)
            .into_iter()
            .map(|it| (it.day, it.model, it.difference.to_string()))
            .collect();
        let row = |day: &str, difference: &str| {
            (day.to_owned(), "gpt-4o".to_owned(), difference.to_owned())
        };
        let expected = [
            row("1970-01-02", "1.00"),
            row("1970-01-03", "3.00"),
            row("1970-01-04", "-4.00"),
        ];
        assert_eq!(said, expected);
    }
}
