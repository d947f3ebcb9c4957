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
    pub fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    /// Bytes that are not reserved at the moment.
    pub fn free(&self) -> u64 {
        self.max.load(Ordering::Relaxed).saturating_sub(self.used())
    }
}

/// Room under the cap of one of many and under that of all. One may have as much as is free for all
/// others: however many are greedy, part of the room stays free, and who comes later finds some.
#[derive(Debug)]
pub struct FairRoom {
    own: HeldBytes,
    all: HeldBytes,
}

impl FairRoom {
    /// Reserves `bytes`, if they fit.
    pub fn take(own: &Arc<ByteCap>, all: &Arc<ByteCap>, bytes: u64) -> Option<Self> {
        let mut room = Self {
            own: own.hold(0)?,
            all: all.hold(0)?,
        };
        room.grow(bytes).then_some(room)
    }

    /// Reserves `more` bytes, and says whether they fit. Where they do not, part of them may be
    /// reserved until this is dropped.
    #[must_use]
    pub fn grow(&mut self, more: u64) -> bool {
        self.own.grow(more) && self.all.grow(more) && self.own.cap.used() <= self.all.cap.free()
    }

    /// How many bytes are reserved.
    pub fn bytes(&self) -> u64 {
        self.all.bytes()
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

    /// Attack: some fill all the room there is, so that others find none.
    #[test]
    fn invariant_12_whoever_is_greedy_leaves_room_for_others() {
        let all = ByteCap::new(1_000);
        for greedy in [1, 4, 9] {
            let owners: Vec<_> = (0..greedy).map(|_| ByteCap::new(600)).collect();
            let mut rooms = Vec::new();
            // They take turns, a little each, until nobody has any more.
            loop {
                let taken = owners.iter().map(|own| FairRoom::take(own, &all, 10));
                let taken: Vec<_> = taken.flatten().collect();
                if taken.is_empty() {
                    break;
                }
                rooms.extend(taken);
            }
            let share = 1_000 / (greedy + 1);
            assert!(all.free() >= share, "{greedy}: {} are free", all.free());
            for own in &owners {
                assert!(own.used() + 10 >= share, "{greedy}: {}", own.used());
            }
            let late = ByteCap::new(600);
            let mut room = FairRoom::take(&late, &all, 10).expect("there is room");
            assert!(room.grow(share / 2 - 10) && !room.grow(600));
            drop((rooms, room));
            assert_eq!((all.used(), late.used()), (0, 0));
        }
    }
}
