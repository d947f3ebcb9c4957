//! How long the writer rests after a commit, so that those whom it answered share the next.
//!
//! Clients that call again at once come back within the time that the gateway takes for all of
//! them; without a rest the first has a commit to itself, and the others wait for two. Others do not
//! come back, and to rest for them makes whoever else calls wait for nothing. Which of the two it is
//! shows each time: so a rest is as long as those before it were worth. An engine that works for
//! longer than a rest makes nobody wait for it.

use std::ops::RangeInclusive;
use std::time::Duration;

/// The writer's rests.
#[derive(Debug)]
pub(super) struct Rest {
    /// The next one's length, at most.
    length: Duration,
    /// How many the last commit answered.
    answered: u64,
}

/// How a rest ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Slept {
    /// As many calls as were answered have begun, and all that have begun wait for the commit.
    UntilAllWait,
    /// The time was over; so many records were appended meanwhile.
    Over { appended: u64 },
}

impl Rest {
    pub(super) const fn new() -> Self {
        Self {
            length: Duration::ZERO,
            answered: 0,
        }
    }

    /// A commit answered so many.
    pub(super) fn note(&mut self, answered: usize) {
        self.answered = answered as u64;
    }

    /// Rests within `bounds`, if the last commit answered anybody. `sleep` sleeps until as many
    /// calls have begun as it is told, and all that have begun wait, for so long at most.
    pub(super) fn take(
        &mut self,
        bounds: RangeInclusive<Duration>,
        sleep: impl FnOnce(u64, Duration) -> Slept,
    ) {
        let answered = std::mem::take(&mut self.answered);
        if answered == 0 {
            return;
        }
        let (least, most) = bounds.into_inner();
        let length = self.length.clamp(least, most);
        self.length = match sleep(answered, length) {
            Slept::UntilAllWait => length,
            // First the calls that were answered end, all of them; then those come back who do.
            Slept::Over { appended } if appended > 0 && appended != answered => length * 2,
            Slept::Over { .. } => length / 2,
        };
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future as _;
    use std::sync::Arc;
    use std::task::{Context, Waker};

    use ledger::Lsn;

    use super::super::Shared;
    use super::*;

    const MICROS: fn(u64) -> Duration = Duration::from_micros;
    const BOUNDS: RangeInclusive<Duration> = Duration::from_micros(50)..=Duration::from_millis(1);

    /// A gateway in virtual time: of those who are answered all call again, or none does, and each
    /// record of theirs takes so long.
    struct Load {
        answered: u64,
        come_back: bool,
        record_takes: Duration,
    }

    impl Load {
        /// How long the rest after one commit was.
        fn rest(&self, rest: &mut Rest) -> Duration {
            rest.note(self.answered as usize);
            let mut rested = Duration::ZERO;
            rest.take(BOUNDS, |answered, at_most| {
                // First the ends of calls, then, if they come back, as many beginnings.
                let back = if self.come_back { answered } else { 0 };
                let all = self.record_takes * u32::try_from(answered + back).expect("few");
                let in_time = at_most.as_nanos() / self.record_takes.as_nanos();
                let appended = u64::try_from(in_time).expect("few").min(answered + back);
                if self.come_back && all <= at_most {
                    rested = all;
                    return Slept::UntilAllWait;
                }
                rested = at_most;
                Slept::Over { appended }
            });
            rested
        }
    }

    const BUSY: Load = Load {
        answered: 32,
        come_back: true,
        record_takes: MICROS_12,
    };
    const MICROS_12: Duration = Duration::from_micros(12);

    #[test]
    fn who_comes_back_is_waited_for_until_all_have() {
        let mut rest = Rest::new();
        let rests: Vec<_> = (0..8).map(|_| BUSY.rest(&mut rest)).collect();
        assert_eq!(rests.last(), Some(&(MICROS_12 * 64)), "{rests:?}");
    }

    #[test]
    fn a_rest_never_exceeds_its_bound() {
        let crowd = Load {
            answered: 10_000,
            ..BUSY
        };
        let mut rest = Rest::new();
        let rests: Vec<_> = (0..32).map(|_| crowd.rest(&mut rest)).collect();
        assert_eq!(rests.iter().max(), Some(BOUNDS.end()));
        assert_eq!(rests.last(), Some(BOUNDS.end()));
    }

    #[test]
    fn nobody_waits_for_those_who_stay_away() {
        let mut rest = Rest::new();
        for _ in 0..8 {
            BUSY.rest(&mut rest);
        }
        let once = Load {
            answered: 1,
            come_back: false,
            ..BUSY
        };
        let rests: Vec<_> = (0..8).map(|_| once.rest(&mut rest)).collect();
        assert!(rests.is_sorted_by(|one, next| one >= next), "{rests:?}");
        assert_eq!(rests.last(), Some(BOUNDS.start()));
        let again = Load {
            come_back: true,
            ..once
        };
        assert_eq!(again.rest(&mut rest), MICROS(24), "and it notices");
    }

    #[test]
    fn a_commit_that_answered_nobody_is_followed_by_the_next_at_once() {
        let mut rest = Rest::new();
        rest.note(0);
        rest.take(BOUNDS, |_, _| panic!("there is nobody to rest for"));
        rest.note(3);
        let mut asked = None;
        rest.take(BOUNDS, |answered, at_most| {
            asked = Some((answered, at_most));
            Slept::UntilAllWait
        });
        assert_eq!(asked, Some((3, *BOUNDS.start())));
        rest.take(BOUNDS, |_, _| panic!("one rest a commit"));
    }

    /// Two calls come back, one of them after the other: the writer sleeps until both wait.
    #[test]
    fn a_sleep_ends_once_all_that_have_begun_wait() {
        let shared = Arc::new(Shared::starting_at(Lsn::new(1), Vec::new()));
        let sleeper = Arc::clone(&shared);
        // Were it not woken, this test would not end.
        let sleep = move || sleeper.rest_until_all_wait(2, Duration::from_secs(86_400));
        let sleeping = std::thread::spawn(sleep);
        let thread = sleeping.thread().clone();
        shared.thread.set(thread).expect("it is set once");
        let mut context = Context::from_waker(Waker::noop());
        let mut waiting = [1, 2].map(|number| Box::pin(shared.wait_for(Lsn::new(number))));
        for one in &mut waiting {
            shared.buffer.lock().begun += 1;
            assert!(one.as_mut().poll(&mut context).is_pending());
        }
        assert_eq!(sleeping.join().expect("it wakes"), Slept::UntilAllWait);
        shared.progress.advance(Lsn::new(2));
        for one in &mut waiting {
            assert!(one.as_mut().poll(&mut context).is_ready());
        }
    }
}
