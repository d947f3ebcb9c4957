//! Which band is next: the most urgent one, unless a lower one has had less than its guarantee.

use super::options::FairnessOptions;
use super::ticket::Band;

/// What a band was served from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Served {
    /// It was the most urgent that waited, or nobody waited.
    Surplus,
    /// It was owed.
    Guarantee,
}

/// What the bands are owed, in thousandths of a unit of service.
///
/// While a band waits, each unit that any band gets adds the band's guaranteed share to what it
/// is owed; what it gets because it was owed is taken off. A guarantee that is not asked for
/// lapses. The guarantees sum to less than all, so that no band can hold the others off: between
/// two services of a band with share g, the others get 1/g of its last cost at most, and what one
/// call costs.
#[derive(Debug, Default)]
pub(super) struct Bands {
    owed: [i64; 3],
}

impl Bands {
    /// The band to serve of those that wait, and what from.
    pub(super) fn next(&self, waits: [bool; 3]) -> Option<(Band, Served)> {
        let mut waiting = Band::ALL.into_iter().filter(|band| waits[band.index()]);
        let top = waiting.next()?;
        match waiting.find(|band| self.owed[band.index()] > 0) {
            Some(owed) => Some((owed, Served::Guarantee)),
            None => Some((top, Served::Surplus)),
        }
    }

    /// `units` of service go to `band`; fewer than none if it was charged too much before.
    pub(super) fn charge(
        &mut self,
        options: &FairnessOptions,
        band: Band,
        served: Served,
        units: i64,
        waits: [bool; 3],
    ) {
        for other in Band::ALL {
            let owed = &mut self.owed[other.index()];
            let share = i64::from(options.guaranteed(other));
            if other != band {
                *owed += share * units;
            } else if served == Served::Guarantee {
                *owed -= (1_000 - share) * units;
            } else {
                // Served as it liked: nothing is owed to it.
                *owed = (*owed).min(0);
            }
            if !waits[other.index()] {
                *owed = (*owed).min(0);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Thousandths of the service that each band gets while these wait and every call costs 7.
    fn shares(waits: [bool; 3]) -> [u32; 3] {
        let options = FairnessOptions::default();
        let mut bands = Bands::default();
        let mut served = [0_u32; 3];
        for _ in 0..10_000 {
            let (band, from) = bands.next(waits).expect("some wait");
            bands.charge(&options, band, from, 7, waits);
            served[band.index()] += 1;
        }
        served.map(|count| count / 10)
    }

    #[test]
    fn each_band_has_its_guarantee_and_the_most_urgent_the_rest() {
        assert_eq!(shares([true, true, true]), [750, 200, 50]);
        assert_eq!(shares([true, false, true]), [950, 0, 50]);
        assert_eq!(shares([false, true, true]), [0, 950, 50]);
        assert_eq!(shares([false, false, true]), [0, 0, 1_000]);
    }

    #[test]
    fn a_guarantee_that_is_not_asked_for_lapses() {
        let options = FairnessOptions::default();
        let mut bands = Bands::default();
        let alone = [true, false, false];
        bands.charge(&options, Band::Interactive, Served::Surplus, 1_000, alone);
        assert_eq!(
            bands.next([true, true, true]),
            Some((Band::Interactive, Served::Surplus))
        );
    }
}
