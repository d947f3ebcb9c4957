//! Bytes in flight stay below a cap, per tenant and in all (invariant 11).

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A cap on bytes in memory.
#[derive(Debug)]
pub struct ByteCap {
    used: AtomicU64,
    max: AtomicU64,
}

/// Bytes reserved under a cap; given back when dropped.
#[derive(Debug)]
pub struct HeldBytes {
    cap: Arc<ByteCap>,
    bytes: u64,
}

impl ByteCap {
    /// A cap of `max` bytes.
    pub fn new(max: u64) -> Arc<Self> {
        Arc::new(Self {
            used: AtomicU64::new(0),
            max: AtomicU64::new(max),
        })
    }

    /// Changes the cap; what is held already stays.
    pub fn set_max(&self, max: u64) {
        self.max.store(max, Ordering::Relaxed);
    }

    /// Reserves `bytes`, if they fit.
    pub fn hold(self: &Arc<Self>, bytes: u64) -> Option<HeldBytes> {
        let mut held = HeldBytes {
            cap: Arc::clone(self),
            bytes: 0,
        };
        held.grow(bytes).then_some(held)
    }

    /// Bytes reserved at the moment.
    #[cfg(test)]
    pub fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }
}

impl HeldBytes {
    /// How many they are.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Reserves `more` bytes, and says whether they fit.
    #[must_use]
    pub fn grow(&mut self, more: u64) -> bool {
        let max = self.cap.max.load(Ordering::Relaxed);
        let grown = self
            .cap
            .used
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |used| {
                used.checked_add(more).filter(|sum| *sum <= max)
            });
        if grown.is_ok() {
            self.bytes += more;
        }
        grown.is_ok()
    }
}

impl Drop for HeldBytes {
    fn drop(&mut self) {
        self.cap.used.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn invariant_11_what_does_not_fit_is_refused_and_dropping_gives_back() {
        let cap = ByteCap::new(10);
        let mut first = cap.hold(6).expect("fits");
        assert!(cap.hold(5).is_none());
        assert!(first.grow(4) && !first.grow(1));
        drop(first);
        assert_eq!(cap.used(), 0);
        assert!(cap.hold(u64::MAX).is_none());
    }
}
