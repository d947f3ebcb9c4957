//! Who looks through long texts, and when. It takes a processor for as long as a text is long: so
//! that one tenant's texts hold up nobody else, each tenant looks through one at a time, all
//! together through fewer than there are processors, and everybody lets others work in between.

use std::time::Duration;

use tokio::sync::{Semaphore, SemaphorePermit};

use crate::refusal::Refusal;

/// 64 KiB: the slowest check takes some ten milliseconds for it, and most requests are shorter.
const LONG_BYTES: usize = 64 << 10;

/// The places of a process.
#[derive(Debug)]
pub(crate) struct Turns(Semaphore);

impl Turns {
    /// Half the processors, and one at least: the others are there for whoever has little to say.
    pub(crate) fn of_this_machine() -> Self {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        Self(Semaphore::new((processors / 2).max(1)))
    }
}

/// The one place of a tenant.
#[derive(Debug)]
pub(crate) struct TenantTurn(Semaphore);

impl Default for TenantTurn {
    fn default() -> Self {
        Self(Semaphore::new(1))
    }
}

/// What a call needs to get a place.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Queue<'a> {
    pub(crate) tenant: &'a TenantTurn,
    pub(crate) all: &'a Turns,
    /// How long it waits at most.
    pub(crate) patience: Duration,
}

/// A place; given back when dropped.
#[derive(Debug)]
pub(crate) struct Place<'a> {
    _tenant: SemaphorePermit<'a>,
    _all: SemaphorePermit<'a>,
}

impl<'a> Queue<'a> {
    /// A place to look through so many bytes; none is needed for few. In the line of all there
    /// stands one call of each tenant: the others wait in the tenant's own.
    ///
    /// # Errors
    ///
    /// [`Refusal::Overloaded`]: there was none in time.
    ///
    /// # Cancel safety
    ///
    /// Who gives up leaves the line.
    pub(crate) async fn place(&self, bytes: usize) -> Result<Option<Place<'a>>, Refusal> {
        if bytes <= LONG_BYTES {
            return Ok(None);
        }
        let both = async {
            let tenant = self.tenant.0.acquire().await;
            let all = self.all.0.acquire().await;
            Place {
                _tenant: tenant.expect("it is never closed"),
                _all: all.expect("it is never closed"),
            }
        };
        let place = tokio::time::timeout(self.patience, both).await;
        place.map(Some).map_err(|_| Refusal::Overloaded)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: usize = LONG_BYTES + 1;

    fn queue<'a>(tenant: &'a TenantTurn, all: &'a Turns) -> Queue<'a> {
        Queue {
            tenant,
            all,
            patience: Duration::from_secs(1),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_tenants_second_long_text_waits_and_anothers_does_not() {
        let all = Turns(Semaphore::new(2));
        let (one, other) = (TenantTurn::default(), TenantTurn::default());
        let held = queue(&one, &all).place(LONG).await.expect("free");
        assert!(held.is_some());
        let again = queue(&one, &all).place(LONG).await;
        assert!(matches!(again, Err(Refusal::Overloaded)));
        let elsewhere = queue(&other, &all).place(LONG).await;
        assert!(elsewhere.expect("free").is_some());
        drop(held);
        assert!(queue(&one, &all).place(LONG).await.is_ok());
    }

    /// Three calls of one tenant stand in line; another's comes last and is second.
    #[tokio::test(start_paused = true)]
    async fn many_calls_of_one_tenant_are_one_in_the_line_of_all() {
        let all = Turns(Semaphore::new(1));
        let (many, one) = (TenantTurn::default(), TenantTurn::default());
        let order = parking_lot::Mutex::new(Vec::new());
        let call = async |tenant, name| {
            let place = queue(tenant, &all).place(LONG).await.expect("in time");
            tokio::time::sleep(Duration::from_millis(10)).await;
            order.lock().push(name);
            drop(place);
        };
        tokio::join!(
            call(&many, "many"),
            call(&many, "many"),
            call(&many, "many"),
            call(&one, "one"),
        );
        let order = order.into_inner();
        assert_eq!(order.iter().position(|name| *name == "one"), Some(1));
        assert_eq!(order.len(), 4);
    }

    #[tokio::test]
    async fn a_short_text_needs_no_place() {
        let all = Turns(Semaphore::new(0));
        let tenant = TenantTurn::default();
        let place = queue(&tenant, &all).place(LONG_BYTES).await;
        assert!(place.expect("none is needed").is_none());
    }
}
