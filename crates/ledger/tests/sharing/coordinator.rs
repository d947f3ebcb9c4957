//! The keeper of the rows, in memory: what the database does, without the database.

use std::collections::BTreeMap;

use base::{PicoUsd, Timestamp};
use ledger::{AccountId, ShareAsk, ShareGiven, ShareRow, allot};

/// One exchange on its way.
#[derive(Debug, Clone)]
pub(crate) struct Letter {
    pub(crate) replica: usize,
    /// Which life of the replica wrote it, and as which of its letters.
    pub(crate) epoch: u64,
    pub(crate) sequence: u64,
    pub(crate) asks: Vec<ShareAsk>,
}

#[derive(Debug)]
pub(crate) struct Coordinator {
    replicas: u32,
    rows: BTreeMap<(AccountId, usize), (u64, ShareRow)>,
    last: BTreeMap<usize, (u64, u64)>,
    pub(crate) exchanges: u64,
}

impl Coordinator {
    pub(crate) fn new(replicas: u32) -> Self {
        Self {
            replicas,
            rows: BTreeMap::new(),
            last: BTreeMap::new(),
            exchanges: 0,
        }
    }

    /// Answers, unless a later letter came first.
    pub(crate) fn exchange(&mut self, letter: &Letter, now: Timestamp) -> Vec<ShareGiven> {
        let stamp = (letter.epoch, letter.sequence);
        if self
            .last
            .get(&letter.replica)
            .is_some_and(|last| *last >= stamp)
        {
            return Vec::new();
        }
        self.last.insert(letter.replica, stamp);
        self.exchanges += 1;
        letter
            .asks
            .iter()
            .map(|ask| {
                let others: Vec<_> = self
                    .rows
                    .range((ask.account, 0)..=(ask.account, usize::MAX))
                    .filter(|((_, replica), _)| *replica != letter.replica)
                    .map(|(_, (_, row))| *row)
                    .collect();
                let (row, given) = allot(ask, &others, self.replicas, now);
                let place = (ask.account, letter.replica);
                if row.is_empty() {
                    self.rows.remove(&place);
                } else {
                    self.rows.insert(place, (letter.epoch, row));
                }
                given
            })
            .collect()
    }

    /// What an earlier life of a replica had and this one knows nothing of.
    pub(crate) fn forget_before(&mut self, replica: usize, epoch: u64) {
        self.rows
            .retain(|(_, owner), (written_in, _)| *owner != replica || *written_in >= epoch);
    }

    pub(crate) fn shares(&self, account: AccountId, now: Timestamp) -> PicoUsd {
        let rows = self.rows.range((account, 0)..=(account, usize::MAX));
        let counted = rows.filter(|(_, (_, row))| !row.is_freed(now));
        counted.map(|(_, (_, row))| row.share).sum()
    }
}
