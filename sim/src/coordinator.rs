//! The database between replicas: the rows that divide budgets, and the network to it.

use std::collections::BTreeMap;

use base::{PicoUsd, TenantId, Timestamp};
use ledger::{AccountId, ShareAsk, ShareGiven, ShareRow, allot};

use crate::Mutant;
use crate::world::{Event, Shared};

/// How many of a hundred letters come twice, late, or are answered in vain.
const MISHAPS_PERCENT: u64 = 5;

/// What a replica tells the database, as it goes over the network.
#[derive(Debug, Clone)]
pub(crate) struct Exchange {
    /// Which life of the replica wrote it, and as which of its letters.
    pub(crate) epoch: u64,
    pub(crate) sequence: u64,
    pub(crate) asks: Vec<ShareAsk>,
}

/// The rows, as a transaction of the database leaves them.
#[derive(Debug)]
pub(crate) struct Database {
    replicas: usize,
    rows: BTreeMap<(AccountId, usize), (u64, TenantId, ShareRow)>,
    epochs: Vec<u64>,
    last: Vec<(u64, u64)>,
    /// Nobody reaches it.
    pub(crate) is_gone: bool,
    /// Replicas that do not reach it.
    pub(crate) cut_off: Vec<bool>,
    under_way: BTreeMap<u64, Exchange>,
    answers: BTreeMap<u64, Vec<ShareGiven>>,
    letters: u64,
}

impl Database {
    pub(crate) fn new(replicas: usize) -> Self {
        Self {
            replicas,
            rows: BTreeMap::new(),
            epochs: vec![0; replicas],
            last: vec![(0, 0); replicas],
            is_gone: false,
            cut_off: vec![false; replicas],
            under_way: BTreeMap::new(),
            answers: BTreeMap::new(),
            letters: 0,
        }
    }

    pub(crate) fn heal(&mut self) {
        self.is_gone = false;
        self.cut_off.fill(false);
    }

    pub(crate) fn reaches(&self, replica: usize) -> bool {
        !self.is_gone && !self.cut_off[replica]
    }

    /// A process takes a replica's place: from now on, no other has it.
    pub(crate) fn take_place(&mut self, replica: usize) -> u64 {
        self.epochs[replica] += 1;
        self.epochs[replica]
    }

    /// A number for a letter.
    pub(crate) fn next_letter(&mut self) -> u64 {
        self.letters += 1;
        self.letters
    }

    /// One transaction, unless a later letter came first or the writer's place is another's.
    pub(crate) fn exchange(
        &mut self,
        replica: usize,
        letter: &Exchange,
        now: Timestamp,
        mutant: Mutant,
    ) -> Option<Vec<ShareGiven>> {
        let stamp = (letter.epoch, letter.sequence);
        let is_late = self.last[replica] >= stamp || letter.epoch != self.epochs[replica];
        if is_late && mutant != Mutant::LateLetters {
            return None;
        }
        self.last[replica] = stamp;
        let replicas = self.replicas as u32;
        let given = letter.asks.iter().map(|ask| {
            let rows = self
                .rows
                .range((ask.account, 0)..=(ask.account, usize::MAX));
            let others = rows.filter(|((_, owner), _)| *owner != replica);
            let others: Vec<_> = others.map(|(_, (_, _, row))| *row).collect();
            let (row, given) = allot(ask, &others, replicas, now);
            let place = (ask.account, replica);
            match row.is_empty() {
                true => self.rows.remove(&place),
                false => self.rows.insert(place, (letter.epoch, ask.tenant, row)),
            };
            given
        });
        Some(given.collect())
    }

    /// Rows that an earlier life of a replica had and this one has said nothing of.
    pub(crate) fn left_behind(&self, replica: usize, epoch: u64) -> Vec<ShareAsk> {
        let rows = self.rows.iter();
        let left = rows.filter(|((_, owner), (of, ..))| *owner == replica && *of < epoch);
        left.map(|((account, _), (_, tenant, _))| ShareAsk::nothing(*tenant, *account))
            .collect()
    }

    /// A replica's own share of an account; nothing where it has none, or none any more.
    pub(crate) fn share_of(
        &self,
        account: AccountId,
        replica: usize,
        now: Timestamp,
    ) -> Option<PicoUsd> {
        let (_, _, row) = self.rows.get(&(account, replica))?;
        (!row.is_freed(now)).then_some(row.share)
    }

    /// What all shares of an account come to.
    pub(crate) fn shares(&self, account: AccountId, now: Timestamp) -> PicoUsd {
        let rows = self.rows.range((account, 0)..=(account, usize::MAX));
        let counted = rows.filter(|(_, (_, _, row))| !row.is_freed(now));
        counted.map(|(_, (_, _, row))| row.share).sum()
    }
}

impl Shared {
    /// How many replicas share budgets; nothing for one.
    pub(crate) fn replicas(&self) -> Option<u32> {
        let database = self.database.as_ref();
        database.map(|database| database.replicas as u32)
    }

    /// Whether the database answers a replica.
    pub(crate) fn reaches_database(&self, replica: usize) -> bool {
        let database = self.database.as_ref();
        database.is_none_or(|database| database.reaches(replica))
    }

    /// Puts a letter on its way, from where it may never come.
    pub(crate) fn post(&mut self, replica: usize, number: u64, letter: Exchange) {
        if !self.reaches_database(replica) {
            return;
        }
        let Some(database) = &mut self.database else {
            return;
        };
        database.under_way.insert(number, letter);
        let is_slow = self.dice.chance(MISHAPS_PERCENT);
        let millis = if is_slow { 20_000 } else { 10 };
        let millis = self.dice.below(millis);
        self.after_millis(replica, millis, Event::Letter(number));
        if self.dice.chance(MISHAPS_PERCENT) {
            let later = millis + self.dice.below(20_000);
            self.after_millis(replica, later, Event::Letter(number));
        }
    }

    /// A letter comes to the database, which answers.
    pub(crate) fn deliver(&mut self, replica: usize, number: u64) {
        let now = self.now();
        if !self.reaches_database(replica) {
            return;
        }
        let Some(database) = &mut self.database else {
            return;
        };
        let Some(letter) = database.under_way.get(&number).cloned() else {
            return;
        };
        let Some(given) = database.exchange(replica, &letter, now, self.mutant) else {
            return;
        };
        self.report.exchanges += 1;
        database.answers.insert(number, given);
        if !self.dice.chance(MISHAPS_PERCENT) {
            let millis = self.dice.below(10);
            self.after_millis(replica, millis, Event::Answer(number));
        }
    }

    /// The database's answer to a letter.
    pub(crate) fn take_answer(&mut self, number: u64) -> Option<Vec<ShareGiven>> {
        self.database.as_mut()?.answers.remove(&number)
    }
}
