//! Randomness comes through [`Entropy`], so that a simulation can replay it.

use std::cell::RefCell;
use std::fmt;

use parking_lot::Mutex;

/// A source of random bytes.
pub trait Entropy: Send + Sync + fmt::Debug {
    /// Fills `bytes` with random ones.
    fn fill(&self, bytes: &mut [u8]);

    /// A random number.
    fn next_u64(&self) -> u64 {
        let mut bytes = [0_u8; 8];
        self.fill(&mut bytes);
        u64::from_le_bytes(bytes)
    }
}

/// The operating system's generator: fit for keys.
///
/// Draws for ids are small and come with every request, so they share a system call: each thread
/// fetches a block and wipes what it hands out. Larger draws, keys among them, ask for
/// themselves.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemEntropy;

/// 256 bytes: what `getrandom` gives in one piece without ever being interrupted.
const BLOCK_BYTES: usize = 256;
/// 16 bytes: an id's worth.
const SMALL_DRAW_BYTES_MAX: usize = 16;

struct Block {
    bytes: [u8; BLOCK_BYTES],
    used: usize,
}

thread_local! {
    static BLOCK: RefCell<Block> =
        const { RefCell::new(Block { bytes: [0; BLOCK_BYTES], used: BLOCK_BYTES }) };
}

impl Block {
    fn draw(&mut self, out: &mut [u8]) {
        if self.used + out.len() > BLOCK_BYTES {
            ask_system(&mut self.bytes);
            self.used = 0;
        }
        let drawn = &mut self.bytes[self.used..self.used + out.len()];
        out.copy_from_slice(drawn);
        drawn.fill(0);
        self.used += out.len();
    }
}

impl Entropy for SystemEntropy {
    fn fill(&self, bytes: &mut [u8]) {
        if bytes.len() > SMALL_DRAW_BYTES_MAX {
            ask_system(bytes);
        } else {
            BLOCK.with_borrow_mut(|block| block.draw(bytes));
        }
    }
}

fn ask_system(bytes: &mut [u8]) {
    getrandom::fill(bytes).expect("the operating system has a random generator");
}

/// A generator that a seed determines. For simulations and tests alone: it makes no secret.
#[derive(Debug)]
pub struct SeededEntropy {
    state: Mutex<u64>,
}

impl SeededEntropy {
    /// The generator of this seed.
    pub fn new(seed: u64) -> Self {
        Self {
            state: Mutex::new(seed),
        }
    }
}

impl Entropy for SeededEntropy {
    fn fill(&self, bytes: &mut [u8]) {
        let mut state = self.state.lock();
        for chunk in bytes.chunks_mut(8) {
            chunk.copy_from_slice(&split_mix(&mut state).to_le_bytes()[..chunk.len()]);
        }
    }
}

/// SplitMix64 (Steele, Lea, Flood 2014): every seed gives a full-period sequence.
fn split_mix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut mixed = *state;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_systems_small_draws_do_not_repeat() {
        let drawn: std::collections::HashSet<u64> =
            (0..1_000).map(|_| SystemEntropy.next_u64()).collect();
        assert_eq!(drawn.len(), 1_000);
        BLOCK.with_borrow(|block| assert!(block.bytes[..block.used].iter().all(|byte| *byte == 0)));
    }

    #[test]
    fn a_seed_determines_the_sequence() {
        let draw = |seed| {
            let entropy = SeededEntropy::new(seed);
            (entropy.next_u64(), entropy.next_u64())
        };
        assert_eq!(draw(1), draw(1));
        assert_ne!(draw(1), draw(2));
        let (first, second) = draw(1);
        assert_ne!(first, second);
    }
}
