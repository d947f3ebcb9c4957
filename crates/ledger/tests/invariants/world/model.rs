//! What each account should say, from a plain list of postings.

use base::PicoUsd;
use ledger::Window;

use super::{Budget, Call, CallState, DAY, Expected, World};

impl World {
    pub(super) fn post(&mut self, account: usize, attempt: u128, amount: PicoUsd) {
        let place = self.place(account);
        self.models[account].latest = place;
        self.models[account]
            .postings
            .push((attempt, place, amount.pico()));
    }

    /// What a call cost replaces what was posted for it, if anything was.
    pub(super) fn end_in_models(&mut self, attempt: u128, cost: PicoUsd) {
        let call = self.calls.get_mut(&attempt).unwrap();
        call.state = CallState::Ended;
        call.cost = cost;
        for account in call.accounts.clone() {
            let postings = &mut self.models[account].postings;
            match postings.iter_mut().find(|posting| posting.0 == attempt) {
                Some(posting) => posting.2 = cost.pico(),
                None => self.post(account, attempt, cost),
            }
        }
    }

    pub(super) fn place_of(budget: &Budget, now: i64) -> i64 {
        match budget.terms.window {
            Window::Daily { .. } => now.div_euclid(DAY),
            Window::Rolling { .. } => now.div_euclid(DAY / 24),
            _ => 0,
        }
    }

    pub(super) fn place(&self, account: usize) -> i64 {
        Self::place_of(&self.budgets[account], self.now).max(self.models[account].latest)
    }

    pub(super) fn model_spent(&self, account: usize) -> PicoUsd {
        let current = self.place(account);
        let oldest = match self.budgets[account].terms.window {
            Window::Rolling { .. } => current - 24,
            _ => current,
        };
        let counted = self.models[account].postings.iter();
        PicoUsd::new(
            counted
                .filter(|posting| posting.1 >= oldest)
                .map(|posting| posting.2)
                .sum(),
        )
    }

    pub(super) fn model_held(&self, account: usize) -> PicoUsd {
        let live = |call: &&Call| matches!(call.state, CallState::Admitted | CallState::Dispatched);
        self.calls
            .iter()
            .filter(|(attempt, _)| {
                !self.models[account]
                    .postings
                    .iter()
                    .any(|posting| posting.0 == **attempt)
            })
            .map(|(_, call)| call)
            .filter(live)
            .filter(|call| call.accounts.contains(&account))
            .map(|call| call.amount)
            .sum()
    }

    pub(super) fn expected(&self, accounts: &[usize], amount: PicoUsd) -> Expected {
        let mut expected = Expected::Fits;
        for account in accounts {
            let budget = &self.budgets[*account];
            let known = self.ledger.account(budget.id, self.now());
            let (spent, held) = known.map_or_else(Default::default, |view| (view.spent, view.held));
            if self.is_exact() {
                assert_eq!(
                    (spent, held),
                    (self.model_spent(*account), self.model_held(*account))
                );
            }
            match budget.terms.limit {
                Some(limit) if spent + amount > limit => return Expected::Over,
                Some(limit) if spent + held + amount > limit => expected = Expected::AfterOthers,
                _ => {}
            }
        }
        expected
    }
}
