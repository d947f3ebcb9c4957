//! What a replica tells the database of its part of the budgets, and hears of the others'.

use std::time::Duration;

use base::Clock as _;
use ledger::{Lsn, ShareGiven, ShareNews};

use crate::Mutant;
use crate::coordinator::Exchange;
use crate::replica::Replica;
use crate::world::{Breach, Event, Shared};

/// After two seconds nobody waits for an answer any longer.
const ANSWER_MILLIS_MAX: u64 = 2_000;

/// What is being told; one at a time.
#[derive(Debug)]
pub(crate) struct Letter {
    number: u64,
    which: ShareNews,
    /// On the monotonic clock.
    written_at: Duration,
    /// All that has to be durable before it is sent.
    lsn: Lsn,
    is_sent: bool,
    exchange: Exchange,
}

impl Replica {
    /// Writes a letter, unless one is under way.
    pub(crate) fn talk(&mut self, all: &mut Shared, which: ShareNews) -> Result<(), Breach> {
        if all.database.is_none() || self.process.letter.is_some() {
            return Ok(());
        }
        let which = match self.process.has_told {
            true => which,
            false => ShareNews::Everything,
        };
        let letter = self.write(all, which)?;
        if letter.exchange.asks.is_empty() && self.process.has_told {
            return Ok(());
        }
        all.after_millis(
            self.number,
            ANSWER_MILLIS_MAX,
            Event::Unanswered(letter.number),
        );
        self.process.letter = Some(letter);
        self.send(all);
        Ok(())
    }

    fn write(&mut self, all: &mut Shared, which: ShareNews) -> Result<Letter, Breach> {
        let (now, elapsed) = (self.now(), self.clock.elapsed());
        let mut asks = Vec::new();
        for tenant in 0..all.tenants.len() {
            let said = self
                .ledger(all, tenant)
                .share_asks(which, usize::MAX, now, elapsed);
            for record in said.records {
                self.forget(all, tenant, record)?;
            }
            asks.extend(said.asks);
        }
        let database = all.database.as_mut();
        let number = database.map_or(0, |database| database.next_letter());
        Ok(Letter {
            number,
            which,
            written_at: elapsed,
            lsn: self.last_lsn(),
            is_sent: false,
            exchange: Exchange {
                epoch: self.process.epoch,
                sequence: number,
                asks,
            },
        })
    }

    /// Sends what was written, once a crash would find no more than it says.
    pub(crate) fn send(&mut self, all: &mut Shared) {
        let durable = self.process.journal.durable_lsn();
        let is_early = all.mutant == Mutant::EarlyLetters;
        if let Some(letter) = &mut self.process.letter
            && !letter.is_sent
            && (letter.lsn <= durable || is_early)
        {
            letter.is_sent = true;
            all.post(self.number, letter.number, letter.exchange.clone());
        }
    }

    /// An answer has come: what was asked may be used, and who waited tries again.
    pub(crate) fn hear(&mut self, all: &mut Shared, number: u64) -> Result<(), Breach> {
        let Some(given) = all.take_answer(number) else {
            return Ok(());
        };
        let is_awaited = |letter: &mut Letter| letter.number == number;
        let Some(letter) = self.process.letter.take_if(is_awaited) else {
            return Ok(());
        };
        self.apply(all, &letter, &given);
        for tenant in 0..all.tenants.len() {
            self.retry_waiting(all, tenant)?;
        }
        self.talk(all, ShareNews::Needed)
    }

    fn apply(&mut self, all: &mut Shared, letter: &Letter, given: &[ShareGiven]) {
        let (now, elapsed) = (self.now(), self.clock.elapsed());
        for given in given {
            let all_tenants = all.tenants.iter();
            let tenant = all_tenants.take_while(|tenant| tenant.id != given.tenant);
            let tenant = tenant.count();
            let mut given = *given;
            if all.mutant == Mutant::EndlessShares {
                given.usable_for = None;
            }
            self.ledger(all, tenant)
                .apply_share(&given, letter.written_at, now, elapsed);
        }
        if letter.which == ShareNews::Everything {
            self.process.has_told = self.clear_left_behind(all);
        }
    }

    /// Gives back what an earlier life had and the journal knows nothing of.
    fn clear_left_behind(&mut self, all: &mut Shared) -> bool {
        let (now, mutant) = (all.now(), all.mutant);
        if !all.reaches_database(self.number) {
            return false;
        }
        let Some(database) = &mut all.database else {
            return false;
        };
        let letter = Exchange {
            epoch: self.process.epoch,
            sequence: database.next_letter(),
            asks: database.left_behind(self.number, self.process.epoch),
        };
        let cleared = database.exchange(self.number, &letter, now, mutant);
        cleared.is_some()
    }

    /// No answer has come: what was given back stays given back.
    pub(crate) fn hear_nothing(&mut self, all: &mut Shared, number: u64) {
        let is_awaited = |letter: &mut Letter| letter.number == number;
        let Some(letter) = self.process.letter.take_if(is_awaited) else {
            return;
        };
        all.report.unanswered += 1;
        for ask in &letter.exchange.asks {
            let ledger = self.process.ledgers.get_mut(&ask.tenant);
            if let Some(ledger) = ledger {
                ledger.share_unanswered(ask.account);
            }
        }
    }

    /// Before it ends: of each share no more is kept than was used.
    pub(crate) fn take_leave(&mut self, all: &mut Shared) -> Result<(), Breach> {
        if let Some(letter) = &self.process.letter {
            self.hear_nothing(all, letter.number);
        }
        if !all.reaches_database(self.number) || all.database.is_none() {
            return Ok(());
        }
        let letter = self.write(all, ShareNews::Last)?;
        self.commit(all)?;
        if self.process.journal.durable_lsn() < letter.lsn {
            return Ok(());
        }
        let (now, mutant) = (all.now(), all.mutant);
        if let Some(database) = &mut all.database
            && let Some(given) = database.exchange(self.number, &letter.exchange, now, mutant)
        {
            self.apply(all, &letter, &given);
        }
        Ok(())
    }
}
