//! The shares of budgets, as the gateway asks for them: in the catalogue's database, on a thread
//! that may block.

use std::sync::Arc;

use base::TenantId;
use gateway::{Answering, Coordinator, CoordinatorError, Exchanged};
use ledger::{AccountId, ShareAsk};
use store::{BudgetShares, ShareError};

/// The catalogue's database as the budgets' coordinator.
#[derive(Debug)]
pub(super) struct SharedBudgets(pub(super) Arc<BudgetShares>);

impl SharedBudgets {
    fn ask<T, E>(
        &self,
        question: impl FnOnce(&BudgetShares) -> Result<T, E> + Send + 'static,
    ) -> Answering<'_, T>
    where
        T: Send + 'static,
        E: Into<ShareError> + Send + 'static,
    {
        let shares = Arc::clone(&self.0);
        Box::pin(async move {
            let asked = tokio::task::spawn_blocking(move || question(&shares)).await;
            match asked {
                Ok(Ok(answer)) => Ok(answer),
                Ok(Err(error)) => Err(match error.into() {
                    ShareError::Fenced(_) => CoordinatorError::Fenced,
                    error => CoordinatorError::Unreachable(Box::new(error)),
                }),
                Err(panicked) => Err(CoordinatorError::Unreachable(Box::new(panicked))),
            }
        })
    }
}

impl Coordinator for SharedBudgets {
    fn exchange(&self, asks: Vec<ShareAsk>) -> Answering<'_, Exchanged> {
        self.ask(move |shares| {
            let answer = shares.exchange(&asks)?;
            Ok::<_, ShareError>(Exchanged {
                given: answer.given,
                replicas: answer.gateways,
            })
        })
    }

    fn left_behind(&self) -> Answering<'_, Vec<(TenantId, AccountId)>> {
        self.ask(BudgetShares::left_behind)
    }
}
