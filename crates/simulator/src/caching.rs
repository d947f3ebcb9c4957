//! What a provider's prompt cache does with a prompt: nothing to ask for (blocks of the prefix), or
//! marks at which the caller wants it kept (breakpoints).

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use base::Timestamp;

use crate::prefix_cache::Namespace;
use crate::prompt::Prompt;
use crate::tokens::tokens_in;

/// How a call's prompts are cached.
#[derive(Debug, Clone)]
pub(crate) enum Caching {
    /// By blocks, without being asked.
    Blocks {
        namespace: Namespace,
        rounding: Rounding,
    },
    /// Up to marks that the caller sets.
    Marks(Marks),
}

/// What a provider reports of the blocks that it had.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Rounding {
    /// Fewer tokens than these are none.
    pub(crate) least: usize,
    /// They come in multiples of this, rounded down.
    pub(crate) step: usize,
}

/// Where the caller wants a prompt kept.
#[derive(Debug, Clone)]
pub(crate) struct Marks {
    pub(crate) namespace: Namespace,
    /// The marks, in order.
    pub(crate) marks: Vec<Mark>,
    /// Where each block of the prompt's content ends, in bytes, in order.
    pub(crate) block_ends: Vec<usize>,
    /// Shorter prefixes are not kept, in tokens.
    pub(crate) least: usize,
}

/// "Keep all up to here."
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Mark {
    /// Where, in the prompt's bytes.
    pub(crate) end: usize,
    pub(crate) life: Life,
}

/// How long a prefix is kept after its last use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Life {
    Hour,
    FiveMinutes,
}

/// What the cache did for a call, in tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct CacheUse {
    /// Those that it had.
    pub(crate) read: usize,
    /// Those that it keeps from now on for five minutes.
    pub(crate) written_5m: usize,
    /// Those that it keeps from now on for an hour.
    pub(crate) written_1h: usize,
}

/// Blocks before a mark that are looked at for an earlier prefix. 20: Anthropic's.
const BLOCKS_BACK: usize = 20;

impl Rounding {
    /// Every block counts, as in an engine of one's own.
    pub(crate) const NONE: Self = Self { least: 0, step: 1 };

    /// What is reported of so many tokens.
    pub(crate) fn round(self, tokens: usize) -> usize {
        if tokens < self.least {
            return 0;
        }
        tokens - tokens % self.step
    }
}

impl Life {
    fn duration(self) -> Duration {
        match self {
            Self::FiveMinutes => Duration::from_secs(300),
            Self::Hour => Duration::from_secs(3_600),
        }
    }
}

/// Kept prefixes by hash, at most `capacity`; the one that was written longest ago goes first.
#[derive(Debug)]
pub(crate) struct MarkCache {
    capacity: usize,
    kept: HashMap<u64, Kept>,
    order: VecDeque<u64>,
}

#[derive(Debug, Clone, Copy)]
struct Kept {
    until: Timestamp,
    life: Life,
}

impl MarkCache {
    /// An empty cache for `capacity` prefixes.
    pub(crate) fn new(capacity: usize) -> Self {
        Self {
            capacity,
            kept: HashMap::new(),
            order: VecDeque::new(),
        }
    }

    /// Reads and writes what `marks` ask for.
    pub(crate) fn apply(&mut self, marks: &Marks, prompt: &Prompt, now: Timestamp) -> CacheUse {
        let read_end = self.longest_kept(marks, prompt, now);
        let mut used = CacheUse {
            read: tokens_in(read_end),
            ..CacheUse::default()
        };
        let mut from = read_end;
        for mark in &marks.marks {
            if mark.end <= from || tokens_in(mark.end) < marks.least {
                continue;
            }
            let tokens = tokens_in(mark.end) - tokens_in(from);
            match mark.life {
                Life::FiveMinutes => used.written_5m += tokens,
                Life::Hour => used.written_1h += tokens,
            }
            self.keep(
                marks.namespace.prefix(&prompt.as_bytes()[..mark.end]),
                mark.life,
                now,
            );
            from = mark.end;
        }
        used
    }

    /// Where the longest prefix ends that is kept and looked for. It is kept anew.
    fn longest_kept(&mut self, marks: &Marks, prompt: &Prompt, now: Timestamp) -> usize {
        let mut ends: Vec<usize> = Vec::new();
        for mark in &marks.marks {
            let before = marks.block_ends.partition_point(|&end| end <= mark.end);
            ends.push(mark.end);
            ends.extend(&marks.block_ends[before.saturating_sub(BLOCKS_BACK)..before]);
        }
        ends.sort_unstable_by(|left, right| right.cmp(left));
        ends.dedup();
        for end in ends {
            let hash = marks.namespace.prefix(&prompt.as_bytes()[..end]);
            if let Some(kept) = self.kept.get_mut(&hash)
                && kept.until > now
            {
                kept.until = now.plus(kept.life.duration());
                return end;
            }
        }
        0
    }

    fn keep(&mut self, hash: u64, life: Life, now: Timestamp) {
        if self.capacity == 0 {
            return;
        }
        let kept = Kept {
            until: now.plus(life.duration()),
            life,
        };
        if self.kept.insert(hash, kept).is_some() {
            return;
        }
        self.order.push_back(hash);
        if self.order.len() > self.capacity
            && let Some(oldest) = self.order.pop_front()
        {
            self.kept.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prefix_cache::Account;

    fn marks(account: &str, ends: &[(usize, Life)], block_ends: &[usize]) -> Marks {
        Marks {
            namespace: Namespace::of_account("p", Account::of(Some(account)), "m", ""),
            marks: ends.iter().map(|&(end, life)| Mark { end, life }).collect(),
            block_ends: block_ends.to_vec(),
            least: 10,
        }
    }

    fn prompt(text: &str) -> Prompt {
        let mut prompt = Prompt::default();
        prompt.push(text);
        prompt
    }

    #[test]
    fn a_prefix_is_read_as_long_as_it_lives_and_by_its_account_alone() {
        let mut cache = MarkCache::new(8);
        let now = Timestamp::from_micros(0);
        let later = |seconds| now.plus(Duration::from_secs(seconds));
        let prompt = prompt(&"abcd".repeat(100));
        let ours = marks(
            "ours",
            &[(200, Life::Hour), (400, Life::FiveMinutes)],
            &[200, 400],
        );
        let written = CacheUse {
            read: 0,
            written_5m: 50,
            written_1h: 50,
        };
        assert_eq!(cache.apply(&ours, &prompt, now), written);
        assert_eq!(cache.apply(&ours, &prompt, later(299)).read, 100);
        assert_eq!(
            cache.apply(&ours, &prompt, later(598)).read,
            100,
            "a use prolongs it"
        );
        let outlived = CacheUse {
            read: 50,
            written_5m: 50,
            written_1h: 0,
        };
        assert_eq!(cache.apply(&ours, &prompt, later(1_000)), outlived);
        let theirs = marks("theirs", &[(400, Life::FiveMinutes)], &[400]);
        assert_eq!(cache.apply(&theirs, &prompt, later(1_000)).read, 0);
    }

    #[test]
    fn a_longer_conversation_finds_the_shorter_one_twenty_blocks_back() {
        let mut cache = MarkCache::new(8);
        let now = Timestamp::from_micros(0);
        let prompt = prompt(&"abcd".repeat(100));
        let first = marks("ours", &[(80, Life::FiveMinutes)], &[40, 80]);
        assert_eq!(cache.apply(&first, &prompt, now).written_5m, 20);
        let ends: Vec<usize> = (1..=10).map(|block| block * 40).collect();
        let longer = marks("ours", &[(400, Life::FiveMinutes)], &ends);
        let used = cache.apply(&longer, &prompt, now);
        assert_eq!((used.read, used.written_5m), (20, 80));
        let mut cache = MarkCache::new(8);
        cache.apply(&first, &prompt, now);
        let ends: Vec<usize> = (1..=100).map(|block| block * 4).collect();
        let finer = marks("ours", &[(400, Life::FiveMinutes)], &ends);
        assert_eq!(
            cache.apply(&finer, &prompt, now).read,
            0,
            "80 blocks back is too far"
        );
    }

    #[test]
    fn what_is_short_is_not_kept_and_room_is_bounded() {
        let mut cache = MarkCache::new(1);
        let now = Timestamp::from_micros(0);
        let prompt = prompt(&"abcd".repeat(100));
        let short = marks("ours", &[(36, Life::FiveMinutes)], &[36]);
        assert_eq!(cache.apply(&short, &prompt, now), CacheUse::default());
        for end in [100, 200] {
            cache.apply(&marks("ours", &[(end, Life::Hour)], &[end]), &prompt, now);
        }
        assert_eq!(cache.kept.len(), 1);
        assert_eq!(
            Rounding {
                least: 1_024,
                step: 128
            }
            .round(1_200),
            1_152
        );
        assert_eq!(
            Rounding {
                least: 1_024,
                step: 128
            }
            .round(1_023),
            0
        );
    }
}
