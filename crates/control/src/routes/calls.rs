//! A tenant's calls, the newest first, by whatever is asked for.

use std::sync::Arc;
use std::time::Duration;

use base::Timestamp;
use ledger::LedgerLine;
use store::{LineCursor, TenantStore};
use tenancy::Permission;

use crate::Control;
use crate::api::{CallsQuery, LineView, Page};
use crate::endpoint::{Call, Endpoint, Json, Nothing, Reach, Verb, endpoint};
use crate::error::ApiError;
use crate::lines;
use crate::paging::Paging;
use crate::usage::{Names, time};

/// Ten minutes of a usual tenant are some hundred lines; of a busy one the steps become shorter.
const STEP: Duration = Duration::from_secs(600);
const STEP_MAX: Duration = Duration::from_secs(24 * 3600);
const PAGE_LINES: u32 = 1_000;
/// 20,000 lines are looked at, in a fraction of a second; then the cursor goes on.
const LOOKED_MAX: usize = 20_000;
/// A month, where no beginning is asked for.
const BACK: Duration = Duration::from_secs(31 * 24 * 3600);

pub(super) fn endpoints() -> Vec<Endpoint> {
    vec![endpoint(
        Verb::Get,
        "/admin/v1/tenants/{tenant}/calls",
        "list_calls",
        "A tenant's calls of models, the newest first, as the ledger has them",
        Reach::Tenant(Permission::ReadUsage),
        calls,
    )]
}

async fn calls(
    control: Arc<Control>,
    call: Call<Json<CallsQuery>, Nothing>,
) -> Result<Json<Page<LineView>>, ApiError> {
    let query = call.query.0.clone();
    let paging = Paging::read(query.limit, None)?;
    let now = control.clock.now();
    let until = match (&query.cursor, &query.to) {
        (Some(cursor), _) => cursor
            .parse()
            .map(Timestamp::from_micros)
            .map_err(|_| ApiError::of("cursor", "a cursor is the `next_cursor` of a page"))?,
        (None, Some(to)) => time("to", to)?,
        (None, None) => now.plus(Duration::from_secs(1)),
    };
    let from = match &query.from {
        Some(from) => time("from", from)?,
        None => until.minus(BACK),
    };
    let (tenant, reason) = (Arc::clone(call.tenant()), call.reason_to_enter());
    let scope = control
        .enter(call.caller, Arc::clone(&tenant), reason)
        .await?;
    let live = Arc::clone(&control.live_usage);
    let finding = move |store: &TenantStore<'_>| {
        live.catch_up();
        let names = Names::of(&tenant);
        find(store, &names, &query, (from, until), paging.limit)
    };
    control
        .publisher
        .stores
        .with(&scope, finding)
        .await
        .map(Json)
}

/// Goes back in time, step by step, until the page is full or enough was looked at.
fn find(
    store: &TenantStore<'_>,
    names: &Names,
    query: &CallsQuery,
    (from, until): (Timestamp, Timestamp),
    limit: usize,
) -> Result<Page<LineView>, ApiError> {
    let (mut end, mut step, mut looked) = (until, STEP, 0);
    let mut data: Vec<LineView> = Vec::new();
    while end > from && data.len() < limit && looked < LOOKED_MAX {
        let start = from.max(end.minus(step));
        let lines = all(store, start, end)?;
        looked += lines.len();
        let views = lines.iter().rev().map(|line| lines::view(line, names));
        data.extend(views.filter(|view| fits(view, query)));
        step = match lines.len() {
            0..500 => (step * 4).min(STEP_MAX),
            5_000.. => step / 4,
            _ => step,
        };
        end = start;
    }
    // Those of one microsecond stay together, so that the next page can begin below it.
    let mut cut = limit.min(data.len());
    while cut > 0 && cut < data.len() && data[cut].started_at == data[cut - 1].started_at {
        cut += 1;
    }
    let goes_on = cut < data.len() || end > from;
    data.truncate(cut);
    let at = match data.last() {
        Some(last) if cut >= limit => last.started_at,
        _ => end,
    };
    Ok(Page {
        data,
        next_cursor: goes_on.then(|| at.as_micros().to_string()),
    })
}

fn all(
    store: &TenantStore<'_>,
    from: Timestamp,
    until: Timestamp,
) -> Result<Vec<LedgerLine>, ApiError> {
    let mut found = Vec::new();
    let mut after = None;
    while found.len() < LOOKED_MAX {
        let lines = store.lines(from, until, after, PAGE_LINES)?;
        after = lines.last().map(LineCursor::after);
        let is_last = lines.len() < PAGE_LINES as usize;
        found.extend(lines);
        if is_last {
            break;
        }
    }
    Ok(found)
}

fn fits(view: &LineView, query: &CallsQuery) -> bool {
    fn is(asked: &Option<String>, found: &str) -> bool {
        asked.as_deref().is_none_or(|asked| asked == found)
    }
    is(&query.feature, view.feature.as_str())
        && is(&query.model, view.model.as_str())
        && is(&query.upstream, view.upstream.as_str())
        && is(&query.hop, &view.hop)
        && is(&query.key, &view.key)
        && is(&query.team, view.team.as_deref().unwrap_or_default())
        && is(&query.user, view.user.as_deref().unwrap_or_default())
        && is(&query.session, view.session.as_deref().unwrap_or_default())
        && is(&query.state, &view.state)
        && is(&query.outcome, view.outcome.as_deref().unwrap_or_default())
}
