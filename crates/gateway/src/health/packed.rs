//! The counts of one tenant's minute, those that are not 0, in as few bytes as they need: some
//! forty of a usual one.

use super::{BUCKETS, HealthFigures};

/// What a count is of, in one byte: an ending, or a bucket of one of three distributions. Each
/// begins at a multiple of this.
const KIND: usize = 64;
const _: () = assert!(BUCKETS <= KIND);

/// How a call can end: as many as [`super::Ending`] has.
pub(super) const ENDINGS: usize = 4;

/// The counts: of each what it is of, then the count in seven bits a byte, the lowest first.
pub(super) type Packed = Box<[u8]>;

/// The counts of one tenant's minute.
#[derive(Debug, Clone, Copy)]
pub struct MinuteCounts<'a>(pub(super) &'a [u8]);

/// Packs what `count` says of each ending (0) and each bucket of durations (1), first chunks (2)
/// and waits (3).
pub(super) fn pack(mut count: impl FnMut(usize, usize) -> u32) -> Packed {
    let mut packed = Vec::with_capacity(64);
    for kind in 0..4 {
        let places = if kind == 0 { ENDINGS } else { BUCKETS };
        for place in 0..places {
            let mut rest = count(kind, place);
            if rest == 0 {
                continue;
            }
            packed.push((kind * KIND + place) as u8);
            while rest >= 0x80 {
                packed.push(rest as u8 | 0x80);
                rest >>= 7;
            }
            packed.push(rest as u8);
        }
    }
    packed.into()
}

impl MinuteCounts<'_> {
    /// Adds them, whichever process counted: what this program does not know is left out.
    pub fn add_to(self, figures: &mut HealthFigures) {
        for (of, count) in counts(self.0) {
            let (kind, place) = (usize::from(of) / KIND, usize::from(of) % KIND);
            let cell = match kind {
                0 => match place {
                    0 => Some(&mut figures.answered),
                    1 => Some(&mut figures.refused),
                    2 => Some(&mut figures.failed),
                    3 => Some(&mut figures.abandoned),
                    _ => None,
                },
                1 => figures.durations.0.get_mut(place),
                2 => figures.first_chunks.0.get_mut(place),
                _ => figures.waits.0.get_mut(place),
            };
            if let Some(cell) = cell {
                *cell += count;
            }
        }
    }

    /// How many calls ended.
    pub fn calls(self) -> u64 {
        // They come before all others.
        let endings = counts(self.0).take_while(|(of, _)| usize::from(*of) < ENDINGS);
        endings.map(|(_, count)| count).sum()
    }
}

/// What each count is of, and the count. Of five bytes and more only what fits 32 bits is read.
fn counts(packed: &[u8]) -> impl Iterator<Item = (u8, u64)> {
    let mut rest = packed.iter();
    std::iter::from_fn(move || {
        let of = *rest.next()?;
        let (mut count, mut shift) = (0, 0);
        loop {
            let byte = *rest.next()?;
            if shift < u32::BITS {
                count |= u32::from(byte & 0x7f) << shift;
            }
            if byte < 0x80 {
                return Some((of, u64::from(count)));
            }
            shift += 7;
        }
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_packed_is_what_there_was(
            counted in prop::collection::btree_map((0_usize..4, 0_usize..BUCKETS), any::<u32>(), 0..40),
        ) {
            let count = |kind: usize, place: usize| {
                counted.get(&(kind, place)).copied().unwrap_or_default()
            };
            let packed = pack(count);
            let mut figures = HealthFigures::default();
            let minute = MinuteCounts(&packed);
            minute.add_to(&mut figures);
            let endings = [0, 1, 2, 3].map(|place| u64::from(count(0, place)));
            let [answered, refused, failed, abandoned] = endings;
            prop_assert_eq!(
                [figures.answered, figures.refused, figures.failed, figures.abandoned],
                [answered, refused, failed, abandoned]
            );
            prop_assert_eq!(minute.calls(), endings.iter().sum::<u64>());
            let all = [&figures.durations, &figures.first_chunks, &figures.waits];
            for (kind, distribution) in (1..).zip(all) {
                for (place, found) in distribution.0.iter().enumerate() {
                    prop_assert_eq!(*found, u64::from(count(kind, place)));
                }
            }
        }

        #[test]
        fn any_bytes_are_read_to_an_end(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            let mut figures = HealthFigures::default();
            let minute = MinuteCounts(&bytes);
            minute.add_to(&mut figures);
            prop_assert!(minute.calls() <= figures.calls());
        }
    }

    #[test]
    fn a_usual_minute_is_short() {
        let minute = pack(|kind, place| u32::from(kind < 3 && place % 9 == 0));
        assert!(minute.len() < 40, "{}", minute.len());
    }
}
