//! How much of a budget is used, and how often the coordinator is asked for it.

use std::collections::VecDeque;

use base::{PicoUsd, Timestamp};
use ledger::Window;

use crate::REPLICAS;
use crate::coordinator::Coordinator;
use crate::replica::{Budget, Came, Replica};
use crate::{End, START};

/// An exchange takes five milliseconds, each call a hundred.
const EXCHANGE_MS: u64 = 5;
const CALL_MS: u64 = 100;
/// A replica's clients wait this long for a place: ten seconds, as tiers do by default.
const PATIENCE_MS: u64 = 10_000;

struct Running {
    replica: usize,
    ends_ms: u64,
}

#[derive(Debug, Default)]
struct Report {
    calls: u64,
    calls_while_ample: u64,
    exchanges_while_ample: u64,
    exchanges: u64,
    spent: PicoUsd,
}

/// Each replica's clients keep so many calls under way, until nothing fits for as long as they
/// would wait. A call holds `bound` and costs up to that.
fn use_up(limit: i128, bound: i128, clients: [usize; REPLICAS]) -> Report {
    let budget = Budget::new("b", Window::Total, limit);
    let budgets = [budget.clone()];
    let mut coordinator = Coordinator::new(REPLICAS as u32);
    let at = |ms: u64| Timestamp::from_micros(START + ms as i64 * 1_000);
    let mut replicas: Vec<_> = (0..REPLICAS).map(|id| Replica::new(id, 0, at(0))).collect();
    let mut talking: Vec<Option<(u64, Vec<_>, _)>> = (0..REPLICAS).map(|_| None).collect();
    let mut running: VecDeque<Running> = VecDeque::new();
    let mut under_way = [0; REPLICAS];
    let mut report = Report::default();
    let mut last_admitted_ms = 0;
    let mut ms = 0;
    while ms < last_admitted_ms + PATIENCE_MS {
        let now = at(ms);
        while running.front().is_some_and(|call| call.ends_ms <= ms) {
            let call = running.pop_front().unwrap();
            under_way[call.replica] -= 1;
            replicas[call.replica].end(0, End::Settle, now);
        }
        for (id, replica) in replicas.iter_mut().enumerate() {
            let mut asks = ms.is_multiple_of(1_000);
            while under_way[id] < clients[id] {
                match replica.call(&budgets, bound, now) {
                    Came::Admitted { runs_low } => {
                        replica.dispatch(0, now);
                        asks |= runs_low;
                        under_way[id] += 1;
                        report.calls += 1;
                        last_admitted_ms = ms;
                        running.push_back(Running {
                            replica: id,
                            ends_ms: ms + CALL_MS,
                        });
                    }
                    Came::NeedsShare => {
                        asks = true;
                        break;
                    }
                    Came::Waits | Came::Over => break,
                }
            }
            match &talking[id] {
                Some((heard_ms, answers, _)) if *heard_ms <= ms => {
                    replica.hear(answers, now);
                    talking[id] = None;
                }
                None if asks => {
                    let letter = replica.letter(now);
                    if letter.asks.is_empty() {
                        continue;
                    }
                    let answers = coordinator.exchange(&letter, now);
                    talking[id] = Some((ms + EXCHANGE_MS, answers, letter));
                }
                _ => {}
            }
        }
        let used: PicoUsd = replicas.iter().map(|r| r.used(budget.id, now)).sum();
        assert!(used.pico() <= limit, "{used:?}");
        if used.pico() * 2 <= limit {
            report.calls_while_ample = report.calls;
            report.exchanges_while_ample = coordinator.exchanges;
        }
        ms += 1;
    }
    report.exchanges = coordinator.exchanges;
    report.spent = replicas.iter().map(|r| r.spent(budget.id, at(ms))).sum();
    report
}

#[test]
fn a_shared_budget_is_used_to_its_end_and_rarely_asked_for() {
    for clients in [[30, 30, 30], [50, 5, 1], [100, 0, 0]] {
        let limit = 1_000_000;
        let report = use_up(limit, 100, clients);
        println!("{clients:?}: {report:?}");
        assert!(report.spent.pico() * 100 >= limit * 97, "{report:?}");
        let rarely = report.exchanges_while_ample * 20 <= report.calls_while_ample;
        assert!(rarely, "{report:?}");
    }
}

#[test]
fn a_small_budget_of_few_calls_is_used_to_its_end_as_well() {
    for clients in [[3, 3, 3], [1, 1, 1], [2, 0, 1]] {
        let report = use_up(1_000, 20, clients);
        println!("{clients:?}: {report:?}");
        // What is left would not have fitted another call.
        assert!(report.spent.pico() > 1_000 - 20, "{report:?}");
    }
}
