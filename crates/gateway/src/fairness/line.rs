//! The lines in front of an upstream: one for each tenant in each band, and the order of a band.

use std::collections::{BTreeMap, BTreeSet};

use super::ticket::Weight;

/// A tenant's service in a band, divided by its weight: 2³² for each unit at weight one, so that
/// the largest weight is exact to one part in 65,536. 128 bits: 10²⁹ units.
pub(super) type VirtualTime = i128;

const PER_UNIT: VirtualTime = 1 << 32;

/// The virtual time that a unit of service is for a tenant of this weight.
pub(super) fn per_unit(weight: Weight) -> VirtualTime {
    PER_UNIT / VirtualTime::from(weight.get())
}

/// A tenant's place in a band's order: the least goes first, the earlier known on a tie.
pub(super) type Key = (VirtualTime, u32);

/// How a line stands in its band's order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    /// Nobody waits in it, or the tenant holds all the places that it may.
    Absent,
    /// It takes part.
    Ready,
    /// It takes part, and has a reserved place to itself besides.
    Entitled,
}

/// One tenant's calls that wait in one band, first come, first served.
#[derive(Debug)]
pub(super) struct Line {
    pub(super) served: VirtualTime,
    /// By order of arrival: the call's slot.
    pub(super) waiting: BTreeMap<u64, u32>,
    standing: Standing,
    key: Key,
    weight: Weight,
}

impl Default for Line {
    fn default() -> Self {
        Self {
            served: 0,
            waiting: BTreeMap::new(),
            standing: Standing::Absent,
            key: (0, 0),
            weight: Weight::ONE,
        }
    }
}

impl Line {
    pub(super) fn is_ready(&self) -> bool {
        self.standing != Standing::Absent
    }
}

/// The lines of a band that take part, in order.
#[derive(Debug, Default)]
pub(super) struct Order {
    ready: BTreeSet<Key>,
    entitled: BTreeSet<Key>,
    /// Where the band has got to: the least virtual time at the last dispatch. Never goes back.
    floor: VirtualTime,
    /// The sum of the weights of those who take part.
    weights: u64,
    /// Calls that wait in the band, of tenants at their caps too.
    pub(super) waiting: u32,
}

impl Order {
    /// Puts a line where it belongs. One that comes back starts where the others are: it is
    /// lifted to the least of them, so that nobody saves service up by idling.
    pub(super) fn place(&mut self, line: &mut Line, tenant: u32, weight: Weight, to: Standing) {
        if line.is_ready() {
            self.ready.remove(&line.key);
            self.weights -= u64::from(line.weight.get());
            if line.standing == Standing::Entitled {
                self.entitled.remove(&line.key);
            }
        } else if to != Standing::Absent {
            line.served = line.served.max(self.start());
        }
        line.standing = to;
        line.weight = weight;
        line.key = (line.served, tenant);
        if to != Standing::Absent {
            self.ready.insert(line.key);
            self.weights += u64::from(weight.get());
            if to == Standing::Entitled {
                self.entitled.insert(line.key);
            }
        }
    }

    /// Where a line starts that comes back.
    pub(super) fn start(&self) -> VirtualTime {
        self.ready.first().map_or(self.floor, |least| least.0)
    }

    /// A line is served that stands at `served`.
    pub(super) fn advance(&mut self, served: VirtualTime) {
        let least = self.ready.first().map_or(served, |least| least.0);
        self.floor = self.floor.max(least);
    }

    pub(super) fn floor(&self) -> VirtualTime {
        self.floor
    }

    pub(super) fn weights(&self) -> u64 {
        self.weights
    }

    pub(super) fn is_waited_in(&self) -> bool {
        !self.ready.is_empty()
    }

    /// Those who take part, the least served first.
    pub(super) fn ready(&self) -> impl Iterator<Item = Key> {
        self.ready.iter().copied()
    }

    /// Who of those with a free reserved place was served least.
    pub(super) fn entitled(&self) -> Option<u32> {
        self.entitled.first().map(|key| key.1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_comes_back_starts_where_the_others_are() {
        let mut order = Order::default();
        let (mut busy, mut idle) = (Line::default(), Line::default());
        busy.served = 70;
        order.place(&mut busy, 0, Weight::ONE, Standing::Ready);
        order.place(&mut idle, 1, Weight::ONE, Standing::Ready);
        assert_eq!(idle.served, 70);
        // Who is ahead stays ahead.
        idle.served = 90;
        order.place(&mut idle, 1, Weight::ONE, Standing::Absent);
        order.place(&mut idle, 1, Weight::ONE, Standing::Ready);
        assert_eq!(idle.served, 90);
        // With nobody there, the band's own progress counts.
        order.advance(70);
        order.place(&mut busy, 0, Weight::ONE, Standing::Absent);
        order.place(&mut idle, 1, Weight::ONE, Standing::Absent);
        let mut new = Line::default();
        order.place(&mut new, 2, Weight::ONE, Standing::Ready);
        assert_eq!(new.served, 70);
    }

    #[test]
    fn weights_divide_service() {
        let four = Weight::new(4).expect("not zero");
        assert_eq!(per_unit(Weight::ONE), 4 * per_unit(four));
    }
}
