//! A ledger line as a row: what questions are asked about in columns, the rest in one body.

use std::str::FromStr;

use base::{AttemptId, Name, PicoUsd, RequestId, TenantId, Timestamp};
use ledger::{
    AccountId, Consumption, Hop, Intent, LedgerLine, LineState, Lsn, PriceVersion, SessionName,
};
use rusqlite::Row;
use serde::{Deserialize, Serialize};

use super::StoreError;

/// The first byte of a body. Fields are added by a new version, beside this one.
const BODY_VERSION: u8 = 1;

const BAD_ROW: StoreError = StoreError::BadRow {
    table: "ledger_lines",
};

/// What no column says exactly. The order of the fields is the format on disk.
#[derive(Serialize, Deserialize)]
struct Body {
    request: RequestId,
    parent: Option<AttemptId>,
    turn: Option<SessionName>,
    upstream: Name,
    price_version: PriceVersion,
    amount: PicoUsd,
    input_bound: u64,
    output_bound: u64,
    accounts: Vec<AccountId>,
    expires_at: Timestamp,
    consumption: Consumption,
    cost: PicoUsd,
    state: LineState,
    at: Timestamp,
}

/// Puts the body of `line` into `body`, in place of what was there.
pub(super) fn write_body(line: &LedgerLine, body: &mut Vec<u8>) -> Result<(), StoreError> {
    let intent = &line.intent;
    let content = Body {
        request: intent.request,
        parent: intent.parent,
        turn: intent.turn.clone(),
        upstream: intent.upstream.clone(),
        price_version: intent.price_version,
        amount: intent.amount,
        input_bound: intent.input_bound,
        output_bound: intent.output_bound,
        accounts: intent.accounts.to_vec(),
        expires_at: intent.expires_at,
        consumption: line.consumption,
        cost: line.cost,
        state: line.state,
        at: line.at,
    };
    body.clear();
    body.push(BODY_VERSION);
    *body = postcard::to_extend(&content, std::mem::take(body)).map_err(|_| BAD_ROW)?;
    Ok(())
}

/// The line in a row of `line_query!`.
pub(super) fn read(tenant: TenantId, row: &Row<'_>) -> Result<LedgerLine, StoreError> {
    let body: &[u8] = row.get_ref(4)?.as_blob().map_err(|_| BAD_ROW)?;
    let body: Body = match body.split_first() {
        Some((&BODY_VERSION, content)) => postcard::from_bytes(content).map_err(|_| BAD_ROW)?,
        _ => return Err(BAD_ROW),
    };
    let lsn: i64 = row.get(2)?;
    let hop: String = row.get(10)?;
    let intent = Intent {
        attempt: AttemptId::from_bytes(row.get(1)?),
        request: body.request,
        parent: body.parent,
        tenant,
        team: optional(row, 5)?,
        user: optional(row, 6)?,
        key: optional(row, 7)?.ok_or(BAD_ROW)?,
        feature: optional(row, 8)?.ok_or(BAD_ROW)?,
        session: optional(row, 3)?,
        turn: body.turn,
        hop: hop_of(&hop).ok_or(BAD_ROW)?,
        model: optional(row, 9)?.ok_or(BAD_ROW)?,
        upstream: body.upstream,
        price_version: body.price_version,
        amount: body.amount,
        input_bound: body.input_bound,
        output_bound: body.output_bound,
        accounts: body.accounts.into_iter().collect(),
        at: Timestamp::from_micros(row.get(0)?),
        expires_at: body.expires_at,
    };
    Ok(LedgerLine {
        lsn: Lsn::new(u64::try_from(lsn).map_err(|_| BAD_ROW)?),
        intent,
        consumption: body.consumption,
        cost: body.cost,
        state: body.state,
        at: body.at,
    })
}

/// None for `''`.
fn optional<T: FromStr>(row: &Row<'_>, column: usize) -> Result<Option<T>, StoreError> {
    match row.get_ref(column)?.as_str().map_err(|_| BAD_ROW)? {
        "" => Ok(None),
        text => text.parse().map(Some).map_err(|_| BAD_ROW),
    }
}

const HOPS: [Hop; 5] = [
    Hop::Embed,
    Hop::Rerank,
    Hop::Generate,
    Hop::Guard,
    Hop::Judge,
];

pub(super) const fn hop_text(hop: Hop) -> &'static str {
    match hop {
        Hop::Embed => "embed",
        Hop::Rerank => "rerank",
        Hop::Generate => "generate",
        Hop::Guard => "guard",
        Hop::Judge => "judge",
    }
}

fn hop_of(text: &str) -> Option<Hop> {
    HOPS.into_iter().find(|hop| hop_text(*hop) == text)
}
