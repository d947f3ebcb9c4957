//! The upstream's places: how many there are, are taken, and are kept for somebody.

/// Places of one upstream.
///
/// A place is free for a tenant below its reservation while any is free, and for others while
/// more are free than are kept for reservations that are not used.
#[derive(Debug)]
pub(super) struct Slots {
    limit: u32,
    in_flight: u32,
    /// Kept free: the sum over tenants of what is reserved and not used.
    kept: u32,
}

/// One place of 16 is left to tenants below their share: a burst of theirs finds one free, and the
/// upstream has 94% of its calls while nobody else wants any.
const HEADROOM: u32 = 16;
/// Of fewer than 32 none is: with so few, each is worth too much, and turns make them even.
const HEADROOM_FROM: u32 = 32;

impl Slots {
    pub(super) fn new(limit: u32) -> Self {
        Self {
            limit,
            in_flight: 0,
            kept: 0,
        }
    }

    pub(super) fn limit(&self) -> u32 {
        self.limit
    }

    pub(super) fn in_flight(&self) -> u32 {
        self.in_flight
    }

    pub(super) fn set_limit(&mut self, limit: u32) {
        self.limit = limit;
    }

    /// Whether a tenant may start that has so many calls under way and so many places reserved.
    pub(super) fn is_free_for(&self, in_flight: u32, reserved: u32) -> bool {
        self.is_any_free() && (in_flight < reserved || self.is_free_for_all())
    }

    /// Whether a place is free, be it for whom it is reserved alone.
    pub(super) fn is_any_free(&self) -> bool {
        self.in_flight < self.limit
    }

    /// Whether a place is free that nobody has reserved.
    pub(super) fn is_free_for_all(&self) -> bool {
        self.in_flight.saturating_add(self.kept) < self.limit
    }

    /// Whether few are free that nobody has reserved: those that a tenant which holds its share
    /// leaves to others.
    pub(super) fn are_scarce(&self) -> bool {
        let taken = self.in_flight.saturating_add(self.kept);
        let headroom = match self.limit {
            ..HEADROOM_FROM => 0,
            limit => limit / HEADROOM,
        };
        self.limit.saturating_sub(taken) <= headroom
    }

    /// A tenant's use of its reservation changes from `before` places kept free to `after`.
    pub(super) fn keep(&mut self, before: u32, after: u32) {
        self.kept = self.kept - before + after;
    }

    pub(super) fn take(&mut self) {
        self.in_flight += 1;
    }

    pub(super) fn free(&mut self) {
        self.in_flight -= 1;
    }

    /// What a reservation is worth when all together want `reserved_sum`: three quarters of the
    /// places at most are kept, so that one at least is left for everybody.
    pub(super) fn worth(&self, reserved: u32, reserved_sum: u64) -> u32 {
        let available = u64::from(self.limit) * 3 / 4;
        if reserved_sum <= available {
            reserved
        } else {
            let worth = u64::from(reserved) * available / reserved_sum;
            u32::try_from(worth).expect("a part of a reservation fits where all of it does")
        }
    }
}
