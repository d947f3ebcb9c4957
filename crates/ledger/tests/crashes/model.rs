//! What an account has spent, by a plain reading of the journal and by what the calls cost.

use std::collections::BTreeMap;

use base::{PicoUsd, Timestamp};
use ledger::{AccountId, Record, Settled, Window};

use crate::world::World;

/// What a call came to, and the moment from which on it counts.
#[derive(Debug, Clone, Copy)]
struct Posting {
    at: i64,
    amount: PicoUsd,
    is_lost: bool,
}

type Postings = BTreeMap<u128, Posting>;

/// A call that has not ended.
#[derive(Debug, Clone, Copy)]
struct Open {
    amount: PicoUsd,
    /// It counts already, or has counted.
    is_posted: bool,
}

/// What counts of an account.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Counted {
    /// All of it.
    pub(crate) spent: PicoUsd,
    /// Of that: calls of which no crash left a trace.
    pub(crate) lost: PicoUsd,
}

/// Which part of its window a moment is in, and from which on a part still counts at `now`.
fn places(window: &Window, at: i64, now: i64) -> (i64, i64) {
    let hour = 3_600_000_000;
    match window {
        Window::Total => (0, 0),
        Window::Daily { .. } => (at.div_euclid(24 * hour), now.div_euclid(24 * hour)),
        Window::Monthly { .. } => (month(at), month(now)),
        Window::Rolling { hours } => {
            let width = i64::from(u16::from(*hours)) * hour / 24;
            (at.div_euclid(width), now.div_euclid(width) - 24)
        }
    }
}

/// The month of UTC: `202610`.
fn month(micros: i64) -> i64 {
    let text = Timestamp::from_micros(micros).to_string();
    text[..7].replace('-', "").parse().unwrap()
}

/// Keeps what counts at `now`.
fn keep_counting(postings: &mut Postings, window: &Window, now: i64) {
    postings.retain(|_, posting| {
        let (place, oldest) = places(window, posting.at, now);
        place >= oldest
    });
}

impl World {
    /// What `account` should have spent at `now`, if all that crashes left is reconciled.
    pub(crate) fn model(&self, account: AccountId, now: Timestamp) -> Counted {
        let mut window: Option<Window> = None;
        let mut postings = Postings::new();
        let mut open: BTreeMap<u128, Open> = BTreeMap::new();
        for (place, record) in self.journal().iter().enumerate() {
            match record {
                Record::AccountOpened(opened) if opened.account == account => {
                    let at = opened.at.as_micros();
                    if let Some(before) = window.replace(opened.window.clone())
                        && before != opened.window
                    {
                        keep_counting(&mut postings, &before, at);
                        postings.values_mut().for_each(|posting| posting.at = at);
                    }
                }
                Record::AccountForgotten { account: gone } if *gone == account => {
                    (window, postings) = (None, Postings::new());
                }
                Record::Intent(intent) if intent.accounts.contains(&account) => {
                    let begun = Open {
                        amount: intent.amount,
                        is_posted: false,
                    };
                    open.insert(intent.attempt.bits(), begun);
                }
                Record::Settled(Settled {
                    attempt, cost, at, ..
                })
                | Record::Reconciled { attempt, cost, at } => {
                    if let Some(ended) = open.remove(&attempt.bits()) {
                        post(&mut postings, attempt.bits(), ended, *at, *cost);
                    }
                }
                Record::Released { attempt, at, .. } => {
                    if let Some(ended) = open.remove(&attempt.bits()) {
                        post(&mut postings, attempt.bits(), ended, *at, PicoUsd::ZERO);
                    }
                }
                Record::Expired { attempt, at } => {
                    if let Some(expired) = open.get_mut(&attempt.bits()) {
                        let amount = expired.amount;
                        post(&mut postings, attempt.bits(), *expired, *at, amount);
                        expired.is_posted = true;
                    }
                }
                Record::Started { at } => {
                    for (attempt, call) in &mut open {
                        let amount = call.amount;
                        if !call.is_posted {
                            post(&mut postings, *attempt, *call, *at, amount);
                        }
                        call.is_posted = true;
                    }
                    for (attempt, cost) in self.lost_at(place, account) {
                        let lost = Posting {
                            at: at.as_micros(),
                            amount: cost,
                            is_lost: true,
                        };
                        postings.insert(attempt, lost);
                    }
                }
                _ => {}
            }
        }
        let Some(window) = window else {
            return Counted::default();
        };
        keep_counting(&mut postings, &window, now.as_micros());
        let lost = postings.values().filter(|posting| posting.is_lost);
        Counted {
            spent: postings.values().map(|posting| posting.amount).sum(),
            lost: lost.map(|posting| posting.amount).sum(),
        }
    }
}

/// Counts `amount` for a call from `at` on, or instead of what counts for it already. What
/// counted and no longer does is not counted anew.
fn post(postings: &mut Postings, attempt: u128, call: Open, at: Timestamp, amount: PicoUsd) {
    if call.is_posted {
        if let Some(posting) = postings.get_mut(&attempt) {
            posting.amount = amount;
        }
        return;
    }
    let posting = Posting {
        at: at.as_micros(),
        amount,
        is_lost: false,
    };
    postings.insert(attempt, posting);
}
