//! What every placement does alike. Each check is a function over a placement under test; a new
//! placement implements [`Placement`] and adds one line of [`conforms`].

#![expect(clippy::unwrap_used, reason = "a panic in a test is the report")]

use std::sync::Arc;
use std::time::Duration;

use base::{PicoUsd, RequestId, TeamId, TenantId, Timestamp};
use ledger::{Hop, LineState, Metering, Outcome};
use store::{
    Added, AuditEntry, AuditSigner, Begun, BillingDocument, ConversationBounds, ConversationItem,
    ConversationItems, Dimension, Forgotten, IdempotencyBounds, IdempotencyError, IdempotencyKey,
    ItemOrder, ItemPage, ItemQuery, LineCursor, Page, PastHour, ResponseBounds, ResponseChain,
    ServerError, StoreError, StoredConversation, StoredResponse, Stores, TenantStore, TooOld,
    UsageFilter, UsageQuery, UsageRow, merkle,
};
use tenancy::TenantScope;
use tenancy::catalogue::ServerWall;

#[expect(dead_code, reason = "other tests use the rest")]
#[path = "../fixture/mod.rs"]
mod fixture;
#[expect(dead_code, reason = "other tests use the rest")]
#[path = "../fixture/postgres.rs"]
mod postgres;

mod bodies;

use fixture::{DAY, FileStores, Hierarchy, attempt_at, line};
use postgres::ServerStores;

/// Somewhere that tenants' data can live.
trait Placement {
    fn provision(&self, scope: &TenantScope) -> Result<(), StoreError>;
    fn open<'a>(&self, scope: &'a TenantScope) -> TenantStore<'a>;
    fn remove(&self, scope: &TenantScope) -> Result<(), StoreError>;
    /// Lets go of everything in memory, as a restart does.
    fn restarted(self) -> Self;
    fn stores(&self) -> &Stores;
}

impl Placement for FileStores {
    fn provision(&self, scope: &TenantScope) -> Result<(), StoreError> {
        self.stores.provision(scope)
    }

    fn open<'a>(&self, scope: &'a TenantScope) -> TenantStore<'a> {
        self.stores.open(scope)
    }

    fn remove(&self, scope: &TenantScope) -> Result<(), StoreError> {
        self.stores.remove(scope)
    }

    fn restarted(self) -> Self {
        self.restart()
    }

    fn stores(&self) -> &Stores {
        &self.stores
    }
}

impl Placement for ServerStores {
    fn provision(&self, scope: &TenantScope) -> Result<(), StoreError> {
        self.assign(scope);
        self.stores.provision(scope)
    }

    fn open<'a>(&self, scope: &'a TenantScope) -> TenantStore<'a> {
        self.assign(scope);
        self.stores.open(scope)
    }

    fn remove(&self, scope: &TenantScope) -> Result<(), StoreError> {
        self.stores.remove(scope)
    }

    fn restarted(self) -> Self {
        self.restart()
    }

    fn stores(&self) -> &Stores {
        &self.stores
    }
}

/// Runs every check against a fresh placement.
macro_rules! conforms {
    ($($check:ident),+ $(,)?) => {
        mod file {
            use super::{FileStores, checks};
            $(#[test] fn $check() { checks::$check(FileStores::new()) })+
        }
        conforms!(@server pool, Pool, $($check)+);
        conforms!(@server bridge, Bridge, $($check)+);
        conforms!(@server silo, Silo, $($check)+);
    };
    (@server $name:ident, $wall:ident, $($check:ident)+) => {
        mod $name {
            use super::{ServerStores, ServerWall, checks};
            $(#[test] fn $check() { checks::$check(ServerStores::new(ServerWall::$wall)) })+
        }
    };
}

conforms!(
    a_store_exists_once_it_is_provisioned,
    lines_are_posted_once,
    later_news_of_a_call_replaces_earlier,
    a_foreign_line_is_refused_with_all_its_company,
    lines_are_listed_in_order_and_in_pages,
    usage_is_summed_over_any_dimensions,
    days_and_lines_say_the_same,
    sums_outlive_hours_and_lines,
    costs_are_the_same_when_lines_are_gone,
    what_clients_had_kept_is_forgotten_in_time,
    versions_are_told_apart_up_to_a_bound,
    sums_are_exact_beyond_64_bits,
    invariant_9_an_idempotency_key_has_one_effect,
    idempotency_keys_expire_and_are_bounded,
    responses_are_gone_on_from_in_order,
    responses_expire_and_are_bounded,
    conversations_keep_their_items_in_order,
    conversations_are_bounded_and_refuse_what_has_no_room,
    bodies_are_kept_bounded_and_forgotten,
    billing_documents_are_written_once,
    hours_are_added_up_over_replicas_and_forgotten,
    twins_see_their_own_data_alone,
    invariant_10_the_audit_log_only_grows,
    everything_survives_a_restart,
    a_flood_of_one_tenant_leaves_room_for_others,
);

fn everything(from: i64, until: i64, group_by: &[Dimension]) -> UsageQuery {
    UsageQuery {
        from: Timestamp::from_micros(from),
        until: Timestamp::from_micros(until),
        group_by: group_by.to_vec(),
        filter: UsageFilter::default(),
    }
}

/// The same, asked of the lines: sums know no conversation, of whatever name.
fn by_lines(query: UsageQuery) -> UsageQuery {
    let filter = UsageFilter {
        session: Some(String::new()),
        ..query.filter
    };
    UsageQuery { filter, ..query }
}

fn total(store: &TenantStore<'_>) -> UsageRow {
    let rows = store.usage(&everything(0, 1_000 * DAY, &[]), Page::first());
    rows.unwrap().pop().unwrap_or_default()
}

mod checks {
    pub(super) use super::bodies::bodies_are_kept_bounded_and_forgotten;
    use super::*;

    pub(super) fn a_store_exists_once_it_is_provisioned(placement: impl Placement) {
        let scope = Hierarchy::new(1).scope(1);
        assert!(matches!(
            placement.open(&scope).line(attempt_at(DAY, 1)),
            Err(StoreError::Open(_) | StoreError::Server(ServerError::NoStore { .. }))
        ));
        placement.provision(&scope).unwrap();
        placement.provision(&scope).unwrap();
        let store = placement.open(&scope);
        assert_eq!(store.line(attempt_at(DAY, 1)).unwrap(), None);
        placement.remove(&scope).unwrap();
        placement.remove(&scope).unwrap();
        // Also for whoever had it open.
        assert!(store.line(attempt_at(DAY, 1)).is_err());
    }

    fn provisioned(placement: &impl Placement) -> TenantScope {
        let scope = Hierarchy::new(1).scope(1);
        placement.provision(&scope).unwrap();
        scope
    }

    pub(super) fn lines_are_posted_once(placement: impl Placement) {
        let scope = provisioned(&placement);
        let store = placement.open(&scope);
        let lines = [
            line(scope.tenant(), 1, 1, DAY),
            line(scope.tenant(), 2, 2, DAY),
        ];
        store.post_lines(&lines).unwrap();
        store.post_lines(&lines).unwrap();
        store.post_lines(&lines[..1]).unwrap();
        assert_eq!(
            store.line(attempt_at(DAY, 2)).unwrap().as_ref(),
            Some(&lines[1])
        );
        let total = total(&store);
        assert_eq!((total.calls, total.requests, total.unsettled), (2, 2, 0));
        assert_eq!(
            (total.input_tokens, total.cached_tokens, total.output_tokens),
            (20, 8, 10)
        );
        assert_eq!(total.cost, PicoUsd::new(14));
    }

    pub(super) fn later_news_of_a_call_replaces_earlier(placement: impl Placement) {
        let scope = provisioned(&placement);
        let store = placement.open(&scope);
        let settled = line(scope.tenant(), 1, 8, DAY);
        let mut unsettled = line(scope.tenant(), 1, 3, DAY);
        unsettled.state = LineState::Unsettled;
        unsettled.cost = PicoUsd::new(9);
        unsettled.consumption = Default::default();
        store.post_lines(&[unsettled.clone()]).unwrap();
        let before = total(&store);
        assert_eq!((before.calls, before.unsettled), (1, 1));
        assert_eq!(before.cost, PicoUsd::new(9));
        assert_eq!(
            store.unsettled_lines(Page::first()).unwrap(),
            [unsettled.clone()]
        );
        // The earlier one comes again, after the later: it stays out.
        store.post_lines(&[settled.clone(), unsettled]).unwrap();
        let after = total(&store);
        assert_eq!((after.calls, after.unsettled), (1, 0));
        assert_eq!(after.cost, PicoUsd::new(7));
        assert_eq!(after.input_tokens, 10);
        assert_eq!(store.line(attempt_at(DAY, 1)).unwrap(), Some(settled));
        assert_eq!(store.unsettled_lines(Page::first()).unwrap(), []);
    }

    pub(super) fn a_foreign_line_is_refused_with_all_its_company(placement: impl Placement) {
        let scope = provisioned(&placement);
        let store = placement.open(&scope);
        let lines = [
            line(scope.tenant(), 1, 1, DAY),
            line(TenantId::from_bits(99), 2, 2, DAY),
        ];
        assert!(matches!(
            store.post_lines(&lines),
            Err(StoreError::ForeignLine)
        ));
        assert_eq!(total(&store).calls, 0);
    }

    pub(super) fn lines_are_listed_in_order_and_in_pages(placement: impl Placement) {
        let scope = provisioned(&placement);
        let store = placement.open(&scope);
        // Two at a time share a moment.
        let lines: Vec<_> = (0..7)
            .map(|n| line(scope.tenant(), n, n as u64 + 1, DAY + n as i64 / 2))
            .collect();
        store.post_lines(&lines).unwrap();
        let (from, until) = (Timestamp::from_micros(DAY), Timestamp::from_micros(DAY + 3));
        let mut listed = Vec::new();
        let mut after = None;
        loop {
            let page = store.lines(from, until, after, 4).unwrap();
            let Some(last) = page.last() else { break };
            after = Some(LineCursor::after(last));
            listed.extend(page);
        }
        assert_eq!(listed, lines[..6]);
    }

    pub(super) fn usage_is_summed_over_any_dimensions(placement: impl Placement) {
        let scope = provisioned(&placement);
        let store = placement.open(&scope);
        let tenant = scope.tenant();
        let mut chat = line(tenant, 1, 1, DAY);
        chat.intent.session = Some("s1".parse().unwrap());
        let mut search = line(tenant, 2, 2, DAY + 5);
        search.intent.feature = "search".parse().unwrap();
        search.intent.team = Some(TeamId::from_bits(4));
        let mut embed = line(tenant, 3, 3, 2 * DAY);
        embed.intent.hop = Hop::Embed;
        embed.intent.model = "embedder".parse().unwrap();
        embed.intent.parent = Some(RequestId::from_bits(1));
        embed.intent.session = Some("s1".parse().unwrap());
        store.post_lines(&[chat, search, embed]).unwrap();

        let usage = |query: &UsageQuery| store.usage(query, Page::first()).unwrap();
        let by_feature = usage(&everything(0, 10 * DAY, &[Dimension::Feature]));
        let counts: Vec<_> = by_feature
            .iter()
            .map(|row| (row.feature.as_deref(), row.calls, row.requests))
            .collect();
        assert_eq!(counts, [(Some("chat"), 2, 1), (Some("search"), 1, 1)]);

        let by_day = usage(&everything(0, 10 * DAY, &[Dimension::Day, Dimension::Hop]));
        let days: Vec<_> = by_day
            .iter()
            .map(|row| {
                (
                    row.start.unwrap().as_micros() / DAY,
                    row.hop.as_deref(),
                    row.calls,
                )
            })
            .collect();
        assert_eq!(days, [(1, Some("generate"), 2), (2, Some("embed"), 1)]);

        let by_session = usage(&everything(0, 10 * DAY, &[Dimension::Session]));
        let sessions: Vec<_> = by_session
            .iter()
            .map(|row| (row.session.as_deref(), row.calls))
            .collect();
        assert_eq!(sessions, [(None, 1), (Some("s1"), 2)]);

        let team = TeamId::from_bits(4).to_string();
        let mut of_team = everything(0, 10 * DAY, &[Dimension::Team]);
        of_team.filter.team = Some(team.clone());
        let rows = usage(&of_team);
        assert_eq!(rows.len(), 1);
        assert_eq!((rows[0].team.as_ref(), rows[0].calls), (Some(&team), 1));

        // Half a day is asked of the lines; nothing used is no row.
        assert_eq!(usage(&everything(DAY, DAY + 5, &[]))[0].calls, 1);
        assert_eq!(usage(&everything(5 * DAY, 6 * DAY, &[])), []);
        assert_eq!(usage(&everything(5 * DAY, 6 * DAY + 1, &[])), []);
    }

    /// What was forgotten of lines and hours is in days and months for good.
    pub(super) fn sums_outlive_hours_and_lines(placement: impl Placement) {
        let scope = provisioned(&placement);
        let store = placement.open(&scope);
        let mut lines: Vec<_> = (0..80_u64)
            .map(|n| line(scope.tenant(), n.into(), n + 1, n as i64 * DAY / 2 + 7))
            .collect();
        lines[3].state = LineState::Unsettled;
        lines[3].cost = PicoUsd::new(9);
        store.post_lines(&lines).unwrap();
        let before = total(&store);
        assert_eq!(store.rebuild_sums().unwrap().corrected, 0);
        let at = |micros| Timestamp::from_micros(micros);
        let too_old = |hours, lines| TooOld {
            hours: at(hours),
            lines: Some(at(lines)),
            responses: None,
            conversations: None,
            bodies: at(0),
        };
        let forget = |too_old: &TooOld, rows| store.forget(too_old, at(0), rows).unwrap();
        // However little goes in a turn, from the first on it counts as gone.
        let first = forget(&too_old(30 * DAY + 5, 20 * DAY + 5), 7);
        assert_eq!((first.rows, first.is_done), (7, false));
        assert_eq!(total(&store), before);
        let mut rows = first.rows;
        for turn in 0.. {
            let next = forget(&too_old(30 * DAY + 5, 20 * DAY + 5), 7);
            rows += next.rows;
            assert!(turn < 100 && next.rows <= 7);
            if next.is_done {
                break;
            }
        }
        // 60 hours and 40 lines, but for the one that is not settled.
        assert_eq!(rows, 60 + 39);
        let kept = store.kept_since().unwrap();
        assert_eq!((kept.hours, kept.lines), (at(30 * DAY), at(20 * DAY)));
        assert_eq!(total(&store), before);
        // What was forgotten is not counted again, and a call that was not settled still is.
        store.post_lines(&lines).unwrap();
        assert_eq!(total(&store), before);
        assert_eq!(store.line(lines[4].intent.attempt).unwrap(), None);
        assert!(store.line(lines[60].intent.attempt).unwrap().is_some());
        let settled = line(scope.tenant(), 3, 1_000, 3 * DAY / 2 + 7);
        store.post_lines(&[settled]).unwrap();
        let after = total(&store);
        assert_eq!((after.calls, after.unsettled), (80, 0));
        assert_eq!(after.cost, before.cost - PicoUsd::new(2));
        assert_eq!(store.rebuild_sums().unwrap().corrected, 0);
        assert_eq!(total(&store), after);
        let ask = |from, until| store.usage(&everything(from, until, &[]), Page::first());
        // Hours are asked of the lines while there are lines, and then of nobody.
        assert_eq!(ask(25 * DAY + DAY / 2, 28 * DAY).unwrap()[0].calls, 5);
        assert!(matches!(
            ask(15 * DAY + DAY / 2, 28 * DAY),
            Err(StoreError::Forgotten { since }) if since == at(30 * DAY)
        ));
        // It never goes back.
        assert_eq!(forget(&too_old(0, 0), 7).rows, 1, "it is settled by now");
        assert_eq!(store.kept_since().unwrap(), kept);
        assert_eq!(forget(&too_old(0, 0), 7).rows, 0);
        assert_eq!(total(&store), after);
    }

    /// Costs are the same to the last place, by each cut, before and after; also of a cache's hits.
    pub(super) fn costs_are_the_same_when_lines_are_gone(placement: impl Placement) {
        let scope = provisioned(&placement);
        let store = placement.open(&scope);
        let lines = (0..300_u64).map(|n| {
            let mut line = line(scope.tenant(), n.into(), n + 1, n as i64 * DAY / 7 + 7);
            line.intent.model = ["a", "b", "c"][n as usize % 3].parse().unwrap();
            line.intent.feature = ["chat", "search"][n as usize % 2].parse().unwrap();
            line.cost = PicoUsd::new(i128::from(n) * 1_000_000_007);
            if n % 5 == 0 {
                let anew = PicoUsd::new(i128::from(n) * 3_000_000_000_001);
                line.state = LineState::Settled {
                    outcome: Outcome::Completed,
                    metering: Metering::Cached { anew },
                };
            }
            line
        });
        let lines: Vec<_> = lines.collect();
        store.post_lines(&lines).unwrap();
        let cuts = || {
            let by = [Dimension::Day, Dimension::Model, Dimension::Feature];
            let cuts = [&by[..], &by[1..], &[Dimension::Month], &[]];
            cuts.map(|by| {
                store
                    .usage(&everything(0, 60 * DAY, by), Page::first())
                    .unwrap()
            })
        };
        let before = cuts();
        assert_eq!(before[3][0].cost, lines.iter().map(|line| line.cost).sum());
        let hits = lines.iter().step_by(5);
        assert_eq!(before[3][0].hit_cost, hits.map(|line| line.cost).sum());
        let anew = (0..300_i128)
            .step_by(5)
            .map(|n| PicoUsd::new(n * 3_000_000_000_001));
        assert_eq!(before[3][0].hit_anew, anew.sum());
        let too_old = TooOld {
            hours: Timestamp::from_micros(100 * DAY),
            lines: Some(Timestamp::from_micros(100 * DAY)),
            responses: None,
            conversations: None,
            bodies: Timestamp::from_micros(0),
        };
        let forgotten = store.forget(&too_old, Timestamp::from_micros(0), u64::MAX);
        assert_eq!(
            forgotten.unwrap(),
            Forgotten {
                rows: 600,
                is_done: true
            }
        );
        assert_eq!(store.line(lines[7].intent.attempt).unwrap(), None);
        assert_eq!(cuts(), before);
        assert_eq!(store.rebuild_sums().unwrap().corrected, 0);
        assert_eq!(cuts(), before);
    }

    pub(super) fn what_clients_had_kept_is_forgotten_in_time(placement: impl Placement) {
        let hierarchy = Hierarchy::new(1);
        let (scope, other) = (hierarchy.scope(1), hierarchy.scope(2));
        let at = |days: i64| Timestamp::from_micros(days * DAY);
        for scope in [&scope, &other] {
            placement.provision(scope).unwrap();
            let store = placement.open(scope);
            for days in 0..40 {
                let bounds = ResponseBounds::default();
                let made = response(&format!("resp_{days}"), "");
                store.keep_response(&made, at(days), &bounds).unwrap();
                let made = StoredConversation {
                    created_at: at(days),
                    ..conversation(&format!("conv_{days}"))
                };
                let items = items(["i"]);
                let bounds = ConversationBounds::default();
                store.create_conversation(&made, &items, &bounds).unwrap();
            }
        }
        let store = placement.open(&scope);
        let too_old = TooOld {
            hours: at(0),
            lines: None,
            responses: Some(at(35)),
            conversations: Some(at(37)),
            bodies: at(0),
        };
        let now = at(40);
        let first = store.forget(&too_old, now, 20).unwrap();
        assert_eq!((first.rows, first.is_done), (20, false));
        let rest = store.forget(&too_old, now, 1_000).unwrap();
        // Those of ten days had gone when they expired; 11 to 35 and 0 to 36 go.
        assert_eq!((first.rows + rest.rows, rest.is_done), (26 + 37, true));
        assert_eq!(store.response("resp_35", now).unwrap(), None);
        assert!(store.response("resp_36", now).unwrap().is_some());
        assert_eq!(store.conversation("conv_36").unwrap(), None);
        assert!(store.conversation("conv_37").unwrap().is_some());
        let gone = store.conversation_items("conv_36", 1_000).unwrap();
        assert_eq!(gone, ConversationItems::Absent);
        // The neighbour's are its own matter.
        let neighbour = placement.open(&other);
        assert!(neighbour.response("resp_20", now).unwrap().is_some());
        assert!(neighbour.conversation("conv_0").unwrap().is_some());
    }

    /// A broken upstream's names fill no table.
    pub(super) fn versions_are_told_apart_up_to_a_bound(placement: impl Placement) {
        let scope = provisioned(&placement);
        let store = placement.open(&scope);
        let lines: Vec<_> = (0..300_u64)
            .map(|n| {
                let mut line = line(scope.tenant(), n.into(), n + 1, DAY + n as i64);
                line.served = (n > 0).then(|| format!("v{n}").parse().unwrap());
                line
            })
            .collect();
        store.post_lines(&lines).unwrap();
        let by_version = everything(0, 10 * DAY, &[Dimension::Version, Dimension::Upstream]);
        let rows = store.usage(&by_version, Page::first()).unwrap();
        assert_eq!(rows.len(), 258, "none, 256 names, and all others");
        let calls = |version| {
            let row = rows.iter().find(|row| row.version.as_deref() == version);
            row.map(|row| row.calls)
        };
        assert_eq!(
            (calls(None), calls(Some("v1")), calls(Some("other"))),
            (Some(1), Some(1), Some(43))
        );
        assert_eq!(rows[0].upstream.as_deref(), Some("up"));
        let found = store.line(lines[1].intent.attempt).unwrap();
        assert_eq!(found.as_ref(), Some(&lines[1]));
    }

    /// The two ways to answer one question agree, for every set of dimensions.
    pub(super) fn days_and_lines_say_the_same(placement: impl Placement) {
        let scope = provisioned(&placement);
        let store = placement.open(&scope);
        let lines: Vec<_> = (0..40_u128)
            .map(|n| {
                let mut line = line(scope.tenant(), n, n as u64 + 1, n as i64 * DAY / 7);
                line.intent.feature = format!("f{}", n % 3).parse().unwrap();
                line.intent.model = format!("m{}", n % 2).parse().unwrap();
                line.intent.team = (n % 4 != 0).then(|| TeamId::from_bits(n % 4));
                line.intent.parent = (n % 5 == 0).then(|| RequestId::from_bits(1));
                line.cost = PicoUsd::new(n as i128 * 1_000_000_007);
                if n % 6 == 0 {
                    line.state = LineState::Unsettled;
                }
                line
            })
            .collect();
        store.post_lines(&lines).unwrap();
        let dimensions = [
            Dimension::Hour,
            Dimension::Month,
            Dimension::Team,
            Dimension::User,
            Dimension::Key,
            Dimension::Feature,
            Dimension::Model,
            Dimension::Hop,
        ];
        for set in 0..1_u32 << dimensions.len() {
            let by: Vec<_> = (0..dimensions.len())
                .filter(|place| set & (1 << place) != 0)
                .map(|place| dimensions[place])
                .collect();
            let asked = everything(DAY / 24, 100 * DAY + DAY / 2 + 1, &by);
            let sums = store.usage(&asked, Page::first());
            let lines = store.usage(&by_lines(asked), Page::first());
            assert_eq!(sums.unwrap(), lines.unwrap(), "{by:?}");
        }
    }

    pub(super) fn sums_are_exact_beyond_64_bits(placement: impl Placement) {
        let scope = provisioned(&placement);
        let store = placement.open(&scope);
        // A billion dollars each, and a pico-dollar: 10²¹ pico-dollars do not fit 64 bits.
        let each = PicoUsd::dollars(1_000_000_000) + PicoUsd::new(999_999_999_999);
        let lines: Vec<_> = (0..50)
            .map(|n| {
                let mut line = line(scope.tenant(), n, n as u64 + 1, DAY);
                line.cost = each;
                line
            })
            .collect();
        store.post_lines(&lines).unwrap();
        assert_eq!(total(&store).cost, each.times(50));
        assert_eq!(store.line(attempt_at(DAY, 3)).unwrap().unwrap().cost, each);
    }

    fn key(key: u8, request: u8) -> IdempotencyKey {
        IdempotencyKey {
            key_hash: [key; 32],
            request_hash: [request; 32],
        }
    }

    pub(super) fn invariant_9_an_idempotency_key_has_one_effect(placement: impl Placement) {
        let scope = provisioned(&placement);
        let store = placement.open(&scope);
        let (bounds, now) = (IdempotencyBounds::default(), Timestamp::from_micros(DAY));
        let begin = |key: &IdempotencyKey| store.begin_idempotent(key, now, &bounds).unwrap();
        assert_eq!(begin(&key(1, 1)), Begun::Fresh);
        assert_eq!(begin(&key(1, 1)), Begun::InProgress);
        assert_eq!(begin(&key(1, 2)), Begun::Conflict);
        store
            .finish_idempotent(&key(1, 1), b"answer", now, &bounds)
            .unwrap();
        assert_eq!(begin(&key(1, 1)), Begun::Replay(Some(b"answer".to_vec())));
        assert_eq!(begin(&key(1, 2)), Begun::Conflict);
        // What is done is not given up, nor overwritten by another request.
        store.abandon_idempotent(&key(1, 1)).unwrap();
        store
            .finish_idempotent(&key(1, 2), b"other", now, &bounds)
            .unwrap();
        assert_eq!(begin(&key(1, 1)), Begun::Replay(Some(b"answer".to_vec())));
        // What had no effect can be tried again.
        assert_eq!(begin(&key(2, 1)), Begun::Fresh);
        store.abandon_idempotent(&key(2, 1)).unwrap();
        assert_eq!(begin(&key(2, 5)), Begun::Fresh);
        // An answer that is too long is not kept; that there was one is.
        let huge = vec![0; 9 * 1024 * 1024];
        store
            .finish_idempotent(&key(2, 5), &huge, now, &bounds)
            .unwrap();
        assert_eq!(begin(&key(2, 5)), Begun::Replay(None));
    }

    fn response(id: &str, previous: &str) -> StoredResponse {
        StoredResponse {
            id: id.to_owned(),
            previous: previous.to_owned(),
            input: b"[]".to_vec(),
            body: vec![b'x'; 96],
        }
    }

    pub(super) fn responses_are_gone_on_from_in_order(placement: impl Placement) {
        let scope = provisioned(&placement);
        let store = placement.open(&scope);
        let (bounds, now) = (ResponseBounds::default(), Timestamp::from_micros(DAY));
        for (id, previous) in [("a", ""), ("b", "a"), ("c", "b"), ("d", "a")] {
            let kept = response(id, previous);
            store.keep_response(&kept, now, &bounds).unwrap();
            assert_eq!(store.response(id, now).unwrap(), Some(kept));
        }
        let chain =
            |id: &str, bytes_max| store.response_chain(id, now, bytes_max, &bounds).unwrap();
        let found = |ids: [(&str, &str); 3]| {
            ResponseChain::Found(ids.map(|(id, previous)| response(id, previous)).into())
        };
        let whole = found([("a", ""), ("b", "a"), ("c", "b")]);
        assert_eq!(chain("c", u64::MAX), whole);
        assert_eq!(chain("c", 200), ResponseChain::TooLong);
        assert_eq!(chain("x", u64::MAX), ResponseChain::Absent);
        assert!(store.remove_response("b", now).unwrap());
        assert!(!store.remove_response("b", now).unwrap());
        assert_eq!(chain("c", u64::MAX), ResponseChain::Absent);
        assert!(matches!(chain("d", u64::MAX), ResponseChain::Found(_)));
    }

    pub(super) fn responses_expire_and_are_bounded(placement: impl Placement) {
        let scope = provisioned(&placement);
        let store = placement.open(&scope);
        let bounds = ResponseBounds {
            count_max: 20,
            ..ResponseBounds::default()
        };
        let start = Timestamp::from_micros(DAY);
        let day = Duration::from_secs(24 * 3600);
        for (days, id) in [(0, "a"), (1, "b")] {
            let at = start.plus(day * days);
            store.keep_response(&response(id, ""), at, &bounds).unwrap();
        }
        // Going on from the first keeps it for as long again.
        let used = start.plus(day * 20);
        let chain = store.response_chain("a", used, u64::MAX, &bounds).unwrap();
        assert!(matches!(chain, ResponseChain::Found(_)));
        let later = start.plus(day * 31);
        assert!(store.response("a", later).unwrap().is_some());
        assert!(store.response("b", later).unwrap().is_none());
        // Beyond the bounds the oldest go, and what came last is there.
        for number in 0..40 {
            let at = later.plus(Duration::from_secs(number));
            let kept = response(&format!("n{number}"), "");
            store.keep_response(&kept, at, &bounds).unwrap();
        }
        let end = later.plus(Duration::from_secs(60));
        let there = |id: &str| store.response(id, end).unwrap().is_some();
        assert!(!there("a") && !there("n0") && there("n39"));
        let kept = (0..40).filter(|number| there(&format!("n{number}")));
        assert!((4..=20).contains(&kept.count()));
        let narrow = ResponseBounds {
            bytes_max: 250,
            ..bounds
        };
        store
            .keep_response(&response("last", ""), end, &narrow)
            .unwrap();
        assert!(there("last"));
        let kept = (0..40).filter(|number| there(&format!("n{number}")));
        assert!(kept.count() <= 1);
    }

    fn conversation(id: &str) -> StoredConversation {
        StoredConversation {
            id: id.to_owned(),
            created_at: Timestamp::from_micros(DAY),
            metadata: b"{}".to_vec(),
        }
    }

    fn items<const N: usize>(ids: [&str; N]) -> Vec<ConversationItem> {
        let item = |id: &str| ConversationItem {
            id: id.to_owned(),
            body: vec![b'x'; 99],
        };
        ids.map(item).into()
    }

    fn ids_of(page: ItemPage) -> (Vec<String>, bool) {
        let ItemPage::Found { items, has_more } = page else {
            panic!("{page:?}");
        };
        (items.into_iter().map(|item| item.id).collect(), has_more)
    }

    pub(super) fn conversations_keep_their_items_in_order(placement: impl Placement) {
        let scope = provisioned(&placement);
        let store = placement.open(&scope);
        let bounds = ConversationBounds::default();
        let create = |id: &str, first: &[ConversationItem]| {
            store.create_conversation(&conversation(id), first, &bounds)
        };
        assert_eq!(create("one", &items(["a", "b"])).unwrap(), Added::All);
        assert_eq!(create("two", &items(["a"])).unwrap(), Added::All);
        let add = |id: &str, more: &[ConversationItem]| {
            store.add_conversation_items(id, more, &bounds).unwrap()
        };
        assert_eq!(add("one", &items(["c", "d"])), Added::All);
        assert_eq!(add("none", &items(["e"])), Added::Absent);
        // All of them, or none.
        let twice = Added::Duplicate("b".to_owned());
        assert_eq!(add("one", &items(["e", "b"])), twice);
        assert_eq!(add("one", &items(["f", "f"])), Added::Duplicate("f".into()));
        let whole = ConversationItems::Found(items(["a", "b", "c", "d"]));
        assert_eq!(store.conversation_items("one", u64::MAX).unwrap(), whole);
        let too_long = store.conversation_items("one", 300).unwrap();
        assert_eq!(too_long, ConversationItems::TooLong);

        let page = |order, after: Option<&str>, limit, bytes_max| {
            let after = after.map(str::to_owned);
            let query = ItemQuery {
                limit,
                bytes_max,
                after,
                order,
            };
            store.conversation_page("one", &query).unwrap()
        };
        let (up, down) = (ItemOrder::Ascending, ItemOrder::Descending);
        for (found, expected, has_more) in [
            (page(up, None, 3, 999), vec!["a", "b", "c"], true),
            (page(up, Some("c"), 3, 999), vec!["d"], false),
            (page(down, None, 4, 999), vec!["d", "c", "b", "a"], false),
            (page(down, Some("d"), 2, 999), vec!["c", "b"], true),
            (page(down, None, 4, 250), vec!["d", "c"], true),
            (page(up, None, 4, 1), vec!["a"], true),
            (page(up, Some("d"), 4, 999), vec![], false),
        ] {
            let expected = expected.into_iter().map(str::to_owned).collect();
            assert_eq!(ids_of(found), (expected, has_more));
        }
        assert_eq!(page(up, Some("x"), 3, 999), ItemPage::NoSuchItem);

        assert!(store.remove_conversation_item("one", "b").unwrap());
        assert!(!store.remove_conversation_item("one", "b").unwrap());
        assert!(store.conversation_item("one", "b").unwrap().is_none());
        assert!(store.conversation_item("one", "c").unwrap().is_some());
        assert!(store.conversation_item("two", "c").unwrap().is_none());
        // What is removed can be said again, at the end.
        assert_eq!(add("one", &items(["b"])), Added::All);
        let now = ids_of(page(up, None, 9, 999)).0;
        assert_eq!(now, ["a", "c", "d", "b"]);

        let said = store.set_conversation_metadata("one", b"{\"a\":\"b\"}", &bounds);
        assert_eq!(said.unwrap(), Added::All);
        let found = store.conversation("one").unwrap().unwrap();
        assert_eq!(found.metadata, b"{\"a\":\"b\"}");
        assert_eq!(found.created_at, Timestamp::from_micros(DAY));
        let none = store.set_conversation_metadata("none", b"{}", &bounds);
        assert_eq!(none.unwrap(), Added::Absent);
        assert!(store.remove_conversation("one").unwrap());
        assert!(!store.remove_conversation("one").unwrap());
        assert!(store.conversation("one").unwrap().is_none());
        assert!(store.conversation_item("one", "a").unwrap().is_none());
        assert!(store.conversation_item("two", "a").unwrap().is_some());
    }

    pub(super) fn conversations_are_bounded_and_refuse_what_has_no_room(placement: impl Placement) {
        let scope = provisioned(&placement);
        let store = placement.open(&scope);
        let bounds = ConversationBounds {
            count_max: 2,
            bytes_max: 1_000,
            items_max: 3,
        };
        let create = |id: &str, first: &[ConversationItem]| {
            let made = store.create_conversation(&conversation(id), first, &bounds);
            made.unwrap()
        };
        let add = |id: &str, more: &[ConversationItem]| {
            store.add_conversation_items(id, more, &bounds).unwrap()
        };
        // Of what has no room nothing is made.
        let four = items(["a", "b", "c", "d"]);
        assert_eq!(create("one", &four), Added::NoRoom);
        assert!(store.conversation("one").unwrap().is_none());
        assert_eq!(create("one", &four[..3]), Added::All);
        assert_eq!(add("one", &four[3..]), Added::NoRoom);
        assert_eq!(create("two", &[]), Added::All);
        assert_eq!(create("three", &[]), Added::NoRoom);
        // What is removed makes room, to the byte and as often as one likes.
        let long = StoredConversation {
            metadata: vec![b' '; 997],
            ..conversation("all")
        };
        for _ in 0..3 {
            store.remove_conversation("one").unwrap();
            store.remove_conversation("two").unwrap();
            let made =
                |it: &StoredConversation| store.create_conversation(it, &[], &bounds).unwrap();
            assert_eq!(made(&long), Added::All);
            assert_eq!(made(&conversation("one")), Added::NoRoom);
            let set = |size: usize| {
                let metadata = vec![b' '; size];
                store.set_conversation_metadata("all", &metadata, &bounds)
            };
            assert_eq!(set(998).unwrap(), Added::NoRoom);
            assert_eq!(set(898).unwrap(), Added::All);
            assert_eq!(add("all", &items(["b"])), Added::NoRoom);
            assert_eq!(set(897).unwrap(), Added::All);
            assert_eq!(add("all", &items(["a"])), Added::All);
            assert_eq!(add("all", &items(["b"])), Added::NoRoom);
            assert!(store.remove_conversation_item("all", "a").unwrap());
            assert_eq!(set(997).unwrap(), Added::All);
            store.remove_conversation("all").unwrap();
            assert_eq!(create("one", &[]), Added::All);
        }
    }

    pub(super) fn idempotency_keys_expire_and_are_bounded(placement: impl Placement) {
        let scope = provisioned(&placement);
        let store = placement.open(&scope);
        let bounds = IdempotencyBounds {
            records_max: 2,
            ..IdempotencyBounds::default()
        };
        let start = Timestamp::from_micros(DAY);
        let begin = |key: &IdempotencyKey, now| store.begin_idempotent(key, now, &bounds);
        assert_eq!(begin(&key(1, 1), start).unwrap(), Begun::Fresh);
        assert_eq!(begin(&key(2, 1), start).unwrap(), Begun::Fresh);
        assert!(matches!(
            begin(&key(3, 1), start),
            Err(IdempotencyError::TooMany)
        ));
        store
            .finish_idempotent(&key(1, 1), b"answer", start, &bounds)
            .unwrap();
        // The second died; its key is free again, and the first is still replayed.
        let later = start.plus(bounds.under_way_max);
        assert_eq!(begin(&key(3, 1), later).unwrap(), Begun::Fresh);
        assert!(matches!(
            begin(&key(1, 1), later).unwrap(),
            Begun::Replay(_)
        ));
        let next_day = start.plus(bounds.kept_for);
        assert_eq!(store.expire_idempotent(next_day).unwrap(), 2);
        assert_eq!(begin(&key(1, 9), next_day).unwrap(), Begun::Fresh);
    }

    pub(super) fn hours_are_added_up_over_replicas_and_forgotten(placement: impl Placement) {
        let hierarchy = Hierarchy::new(1);
        let (one, two) = (hierarchy.scope(1), hierarchy.scope(2));
        placement.provision(&one).unwrap();
        placement.provision(&two).unwrap();
        let store = placement.open(&one);
        let hour = |hour, calls| PastHour {
            hour,
            calls,
            failed: 2,
            refused: 1,
            p95_ms: 40,
        };
        for noted in [hour(1_000, 5), hour(1_001, 7), hour(1_001, 8)] {
            store.note_hour(&noted).unwrap();
        }
        assert_eq!(
            store.past_hours(0).unwrap(),
            [hour(1_000, 5), hour(1_001, 8)]
        );
        assert_eq!(store.past_hours(1_001).unwrap(), [hour(1_001, 8)]);
        assert_eq!(placement.open(&two).past_hours(0).unwrap(), []);
        // Five weeks and an hour later the first is too old.
        store.note_hour(&hour(1_001 + 35 * 24, 9)).unwrap();
        let known = store.past_hours(0).unwrap();
        assert_eq!(known, [hour(1_001, 8), hour(1_001 + 35 * 24, 9)]);
        // What an hour cost, exactly.
        let at = 5 * 3_600_000_000;
        let lines = [
            line(one.tenant(), 1, 1, at),
            line(one.tenant(), 2, 2, at + 1),
        ];
        store.post_lines(&lines).unwrap();
        assert_eq!(store.hourly_costs(5).unwrap(), [(5, PicoUsd::new(14))]);
        assert_eq!(store.hourly_costs(6).unwrap(), []);
        assert_eq!(placement.open(&two).hourly_costs(0).unwrap(), []);
    }

    pub(super) fn twins_see_their_own_data_alone(placement: impl Placement) {
        let hierarchy = Hierarchy::new(1);
        let (one, two) = (hierarchy.scope(1), hierarchy.scope(2));
        placement.provision(&one).unwrap();
        placement.provision(&two).unwrap();
        let (first, second) = (placement.open(&one), placement.open(&two));
        let (bounds, now) = (IdempotencyBounds::default(), Timestamp::from_micros(DAY));
        // The same attempt, the same key: each in its own tenant.
        first.post_lines(&[line(one.tenant(), 1, 1, DAY)]).unwrap();
        assert_eq!(second.line(attempt_at(DAY, 1)).unwrap(), None);
        assert_eq!(total(&second).calls, 0);
        for store in [&first, &second] {
            let begun = store.begin_idempotent(&key(1, 1), now, &bounds).unwrap();
            assert_eq!(begun, Begun::Fresh);
        }
        placement.remove(&one).unwrap();
        assert_eq!(
            second.begin_idempotent(&key(1, 1), now, &bounds).unwrap(),
            Begun::InProgress
        );
    }

    pub(super) fn invariant_10_the_audit_log_only_grows(placement: impl Placement) {
        let hierarchy = Hierarchy::new(1);
        let scope = hierarchy.scope(1);
        placement.provision(&scope).unwrap();
        let store = placement.open(&scope);
        let signing = hierarchy.platform.audit_signing_key();
        let signer = AuditSigner::tenant("inst", scope.tenant(), &signing);
        let mut heads = Vec::new();
        for number in 0..20 {
            let entry = AuditEntry::done(Timestamp::from_micros(number), "ops", "act", "x");
            let head = store
                .with_audit(&signer, |log| {
                    log.append(&entry)?;
                    log.head()
                })
                .unwrap();
            heads.push(head.unwrap().1);
        }
        let newest = heads.last().unwrap().clone();
        for head in &heads {
            let proof = store
                .with_audit(&signer, |log| log.consistency_proof(head.size, newest.size))
                .unwrap();
            assert!(merkle::verify_consistency(
                head.size,
                newest.size,
                &head.root,
                &newest.root,
                &proof
            ));
        }
        let entries = store
            .with_audit(&signer, |log| log.entries(Page::first()))
            .unwrap();
        for (position, entry) in entries {
            let proof = store
                .with_audit(&signer, |log| log.inclusion_proof(position, newest.size))
                .unwrap();
            let leaf = merkle::leaf_hash(entry.as_bytes());
            assert!(merkle::verify_inclusion(
                leaf,
                position,
                newest.size,
                &proof,
                &newest.root
            ));
        }
    }

    pub(super) fn billing_documents_are_written_once(placement: impl Placement) {
        let hierarchy = Hierarchy::new(1);
        let (scope, other) = (hierarchy.scope(1), hierarchy.scope(2));
        for scope in [&scope, &other] {
            placement.provision(scope).unwrap();
        }
        let document = |id: &str, body: &str| BillingDocument {
            id: id.to_owned(),
            at: Timestamp::from_micros(DAY),
            body: body.as_bytes().to_vec(),
        };
        let store = placement.open(&scope);
        for id in ["invoice/2026-10", "invoice/2026-09", "credit/2026-09/a"] {
            assert!(store.keep_billing_document(&document(id, id)).unwrap());
        }
        let again = document("invoice/2026-10", "another");
        assert!(!store.keep_billing_document(&again).unwrap());
        let first = document("invoice/2026-10", "invoice/2026-10");
        assert_eq!(store.billing_document(&first.id).unwrap(), Some(first));
        let ids = |prefix: &str, after: &str, limit| -> Vec<String> {
            let page = store.billing_documents(prefix, after, limit).unwrap();
            page.into_iter().map(|document| document.id).collect()
        };
        assert_eq!(
            ids("invoice/", "", 9),
            ["invoice/2026-09", "invoice/2026-10"]
        );
        assert_eq!(ids("invoice/", "", 1), ["invoice/2026-09"]);
        assert_eq!(ids("invoice/", "invoice/2026-09", 9), ["invoice/2026-10"]);
        assert_eq!(ids("credit/2026-09/", "", 9), ["credit/2026-09/a"]);
        // The neighbour has none of it, and may use the same names.
        let neighbour = placement.open(&other);
        assert_eq!(neighbour.billing_documents("", "", 9).unwrap(), []);
        assert_eq!(neighbour.billing_document("invoice/2026-10").unwrap(), None);
        assert!(neighbour.keep_billing_document(&again).unwrap());
        let kept = store.billing_document("invoice/2026-10").unwrap().unwrap();
        assert_eq!(kept.body, b"invoice/2026-10");
    }

    pub(super) fn everything_survives_a_restart(placement: impl Placement) {
        let scope = provisioned(&placement);
        let posted = line(scope.tenant(), 1, 1, DAY);
        placement
            .open(&scope)
            .post_lines(std::slice::from_ref(&posted))
            .unwrap();
        let placement = placement.restarted();
        let store = placement.open(&scope);
        assert_eq!(store.line(attempt_at(DAY, 1)).unwrap(), Some(posted));
        assert_eq!(total(&store).calls, 1);
    }

    /// Attack: a tenant asks for its store a hundred times at once, and each time takes for ever.
    pub(super) fn a_flood_of_one_tenant_leaves_room_for_others(placement: impl Placement) {
        let hierarchy = Hierarchy::new(1);
        let [loud, quiet] = [1, 2].map(|tenant| Arc::new(hierarchy.scope(tenant)));
        for scope in [&loud, &quiet] {
            placement.provision(scope).unwrap();
        }
        let (release, held) = std::sync::mpsc::sync_channel::<()>(1);
        let held = Arc::new(std::sync::Mutex::new(held));
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build();
        runtime.unwrap().block_on(async {
            let begun = Arc::new(tokio::sync::Semaphore::new(0));
            let mut flood = tokio::task::JoinSet::new();
            for _ in 0..100 {
                let (stores, scope) = (placement.stores().clone(), Arc::clone(&loud));
                let (held, begun) = (Arc::clone(&held), Arc::clone(&begun));
                flood.spawn(async move {
                    let act = move |store: &TenantStore<'_>| {
                        begun.add_permits(1);
                        // Until the other end is dropped.
                        held.lock().unwrap().recv().unwrap_err();
                        Ok::<_, StoreError>(total(store).calls)
                    };
                    stores.with(&scope, act).await
                });
            }
            begun.acquire().await.unwrap().forget();
            let own = quiet.tenant();
            for number in 1..=3 {
                let posted = [line(own, number.into(), number, DAY)];
                let posting =
                    (placement.stores()).with(&quiet, move |store| store.post_lines(&posted));
                let in_time = tokio::time::timeout(Duration::from_secs(60), posting).await;
                in_time.expect("it waits for nobody").unwrap();
            }
            assert_eq!(begun.available_permits(), 0, "one of the flood has a place");
            drop(release);
            while let Some(done) = flood.join_next().await {
                assert_eq!(done.unwrap().unwrap(), 0);
            }
        });
    }
}

#[tokio::test]
async fn many_tenants_work_at_a_time_on_few_threads() {
    let placement = Arc::new(FileStores::new());
    let hierarchy = Hierarchy::new(1);
    for tenant in 0..12 {
        let scope = hierarchy.scope(tenant);
        placement.stores.provision(&scope).unwrap();
        let id = scope.tenant();
        placement
            .stores
            .with(&scope, move |store| {
                store.post_lines(&[line(id, 1, 1, DAY)])
            })
            .await
            .unwrap();
        let calls = placement
            .stores
            .with(&scope, |store| Ok::<_, StoreError>(total(store).calls))
            .await
            .unwrap();
        assert_eq!(calls, 1);
    }
}
