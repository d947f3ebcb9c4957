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
    /// How far it was lifted, all in all.
    lifted: VirtualTime,
    /// Up to where its lifts have made up for charges that came late.
    made_up: VirtualTime,
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
            lifted: 0,
            made_up: 0,
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

    /// Lifts it to `start`, if it is behind.
    pub(super) fn lift(&mut self, start: VirtualTime) {
        let behind = (start - self.served).max(0);
        self.served += behind;
        self.lifted += behind;
    }

    /// How far it was lifted until a call of it is charged: for [`Line::charge`].
    pub(super) fn mark(&self) -> VirtualTime {
        self.lifted
    }

    /// Charges a call that was dispatched at `mark` so much more, or less.
    ///
    /// What was mistaken when it was dispatched is put right as if it had been known then. Where
    /// the line was lifted since, it would stand where it stands with less charged; and with more
    /// charged, as far as the lift goes. Otherwise a tenant that asks for little would be set
    /// back for each answer that is longer than predicted, long after others overtook it.
    pub(super) fn charge(&mut self, more: VirtualTime, mark: VirtualTime) {
        if more < 0 {
            if self.lifted == mark {
                self.served += more;
            }
            return;
        }
        let from = mark.max(self.made_up);
        let made_up = more.min(self.lifted - from);
        self.made_up = from + made_up;
        self.served += more - made_up;
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
            line.lift(self.start());
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
    fn a_mistake_is_put_right_as_if_it_had_been_known() {
        // Charged 10 at 0, then lifted by 20: up to 20 more make no difference, once.
        let mut line = Line::default();
        let mark = line.mark();
        line.charge(10, mark);
        line.lift(30);
        line.charge(15, mark);
        assert_eq!(line.served, 30);
        line.charge(15, mark);
        assert_eq!(line.served, 40);
        line.charge(-8, mark);
        assert_eq!(line.served, 40);
        // What was dispatched after the lift counts at once, up and down.
        let mark = line.mark();
        line.charge(5, mark);
        line.charge(-3, mark);
        assert_eq!(line.served, 42);
    }

    #[test]
    fn weights_divide_service() {
        let four = Weight::new(4).expect("not zero");
        assert_eq!(per_unit(Weight::ONE), 4 * per_unit(four));
    }
}
