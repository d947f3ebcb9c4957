//! One replica among several: it says that it is there, serves what the others publish, and stops
//! serving when it has not heard of them for too long.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use base::{Clock, Entropy, Supervisor, Timestamp};
use control::{Publisher, TokenKeyring, chain};
use gateway::{Fence, Gateway};
use parking_lot::Mutex;
use store::{
    Beat, BudgetShares, CatalogueNews, CatalogueServer, Registered, Replica, ReplicaError,
    ReplicaMinutes,
};
use tokio::sync::Notify;

use super::told_calls::ToldCalls;
use crate::config::CatalogueOptions;
use crate::installation::Installation;

/// Five seconds: ten times what a replica takes to say again that it is there. Others share out
/// rates by it.
const ALIVE_FOR: Duration = Duration::from_secs(5);
/// A second. Clocks that are kept are off by milliseconds.
const CLOCK_OFF_NOTABLE: Duration = Duration::from_secs(1);

/// What a replica is made of.
pub(super) struct Membership {
    registered: Arc<Registered>,
    shares: Arc<BudgetShares>,
    news: CatalogueNews,
    fence: Arc<Fence>,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    poll_every: Duration,
    alone_max: Duration,
    clock_off_max: Duration,
    state: Mutex<State>,
    /// Notified when another process has taken this replica's place.
    replaced: Notify,
}

#[derive(Default)]
struct State {
    /// Why it does not serve, in words for operators.
    trouble: Option<String>,
    /// The settings that were read.
    settings: u64,
}

/// What a beat leads to.
pub(super) struct Followed {
    pub(super) publisher: Arc<Publisher>,
    pub(super) token_keys: Arc<TokenKeyring>,
}

impl Membership {
    /// Takes the replica's place among the others; none where there is one process. Blocks.
    pub(super) fn join(
        options: &CatalogueOptions,
        installation: &Installation,
        roles: &str,
        (clock, entropy): (&Arc<dyn Clock>, &Arc<dyn Entropy>),
    ) -> anyhow::Result<Option<Arc<Self>>> {
        let Some(server) = installation.catalogue.server() else {
            return Ok(None);
        };
        let replica = Replica {
            id: installation.replica,
            name: name_of(options),
            roles: roles.to_owned(),
            program: env!("CARGO_PKG_VERSION").to_owned(),
        };
        let registered = server
            .register(&replica)
            .context("the replica cannot take its place among the others")?;
        let registered = Arc::new(registered);
        let membership = Self {
            shares: Arc::new(BudgetShares::new(Arc::clone(&registered), ALIVE_FOR)),
            registered,
            news: CatalogueServer::listen(server),
            fence: Arc::new(Fence::new(Arc::clone(clock))),
            clock: Arc::clone(clock),
            entropy: Arc::clone(entropy),
            poll_every: Duration::from_millis(options.poll_ms.get()),
            alone_max: Duration::from_secs(options.alone_seconds.get()),
            clock_off_max: Duration::from_secs(options.clock_off_max_seconds.get()),
            state: Mutex::default(),
            replaced: Notify::new(),
        };
        membership
            .beat(0)
            .context("the first word with the catalogue's server")?;
        Ok(Some(Arc::new(membership)))
    }

    /// What this replica may spend of budgets that it shares with the others.
    pub(super) fn shares(&self) -> &Arc<BudgetShares> {
        &self.shares
    }

    /// What it tells the others of its calls, and hears of theirs.
    pub(super) fn told_calls(&self, gateway: Gateway) -> ToldCalls {
        let minutes = ReplicaMinutes::new(Arc::clone(&self.registered));
        ToldCalls::new(minutes, gateway, Arc::clone(&self.clock))
    }

    /// What calls pass.
    pub(super) fn fence(&self) -> Arc<Fence> {
        Arc::clone(&self.fence)
    }

    /// Why it does not serve, if it does not.
    pub(super) fn trouble(&self) -> Option<String> {
        if self.fence.is_open() {
            return None;
        }
        let known = self.state.lock().trouble.clone();
        known.or_else(|| {
            let seconds = self.alone_max.as_secs();
            Some(format!(
                "it has not heard from the catalogue's server for {seconds} s"
            ))
        })
    }

    /// Keeps its place, and follows what the others publish, until `tasks` stops.
    pub(super) fn keep(self: &Arc<Self>, tasks: &Supervisor, followed: Followed) {
        let (membership, stopping) = (Arc::clone(self), tasks.clone());
        let followed = Arc::new(followed);
        tasks.spawn(async move {
            loop {
                tokio::select! {
                    () = tokio::time::sleep(membership.next_poll()) => {}
                    () = membership.news.changed() => {}
                    () = stopping.stopping() => return,
                }
                let (membership, followed) = (Arc::clone(&membership), Arc::clone(&followed));
                let turn = tokio::task::spawn_blocking(move || membership.follow(&followed));
                if let Err(error) = turn.await {
                    tracing::error!(%error, "a turn of following the catalogue failed");
                }
            }
        });
    }

    /// Waits until another process has taken this replica's place.
    pub(super) async fn replaced(&self) {
        self.replaced.notified().await;
    }

    /// Says that it has ended. Blocks.
    pub(super) fn end(&self) {
        if let Err(error) = self.registered.end() {
            tracing::debug!(%error, "the others wait until this replica has not been seen for long");
        }
    }

    /// Between three quarters and five quarters of the time, so that replicas do not ask at once.
    fn next_poll(&self) -> Duration {
        let mut random = [0];
        self.entropy.fill(&mut random);
        self.poll_every * 3 / 4 + self.poll_every / 2 * u32::from(random[0]) / 255
    }

    fn follow(&self, followed: &Followed) {
        let served = followed.publisher.current().version();
        let beat = match self.beat(served) {
            Ok(beat) => beat,
            Err(ReplicaError::Fenced { .. }) => return,
            Err(error) => {
                tracing::warn!(error = %chain(&error), "the catalogue's server is not there: this replica serves by what it knows");
                return;
            }
        };
        if beat.version > served
            && let Err(error) = followed.publisher.follow()
        {
            tracing::error!(error = %chain(&*error), version = beat.version, "a version of another replica's cannot be served");
        }
        let is_read = self.state.lock().settings == beat.settings;
        if is_read {
            return;
        }
        match followed.token_keys.read_again() {
            Ok(()) => self.state.lock().settings = beat.settings,
            Err(error) => {
                tracing::warn!(error = %chain(&error), "the keys that sign tokens cannot be read again");
            }
        }
    }

    fn beat(&self, served: u64) -> Result<Beat, ReplicaError> {
        // What is heard was true after this moment: the time alone begins here.
        let asked_at = self.clock.elapsed();
        let beat = self.registered.beat(served, ALIVE_FOR);
        match &beat {
            Ok(beat) => match clock_off(self.clock.now(), beat) {
                off if off > self.clock_off_max => {
                    self.shut(format!(
                        "its clock is {} s off the catalogue's server's: set it",
                        off.as_secs()
                    ));
                }
                off => {
                    if off > CLOCK_OFF_NOTABLE {
                        tracing::warn!(
                            ?off,
                            "this machine's clock is off the catalogue's server's"
                        );
                    }
                    self.state.lock().trouble = None;
                    self.fence.open_until(asked_at + self.alone_max);
                }
            },
            Err(error @ ReplicaError::Fenced { .. }) => {
                self.shut(error.to_string());
                self.replaced.notify_one();
            }
            Err(_) => {}
        }
        beat
    }

    fn shut(&self, trouble: String) {
        self.fence.close();
        let mut state = self.state.lock();
        if state.trouble.as_ref() != Some(&trouble) {
            tracing::error!(%trouble, "this replica does not serve");
            state.trouble = Some(trouble);
        }
    }
}

/// By how much this machine's clock is off the server's, beyond doubt.
fn clock_off(now: Timestamp, beat: &Beat) -> Duration {
    let off = now.since(beat.at).max(beat.at.since(now));
    off.saturating_sub(beat.took)
}

fn name_of(options: &CatalogueOptions) -> String {
    if let Some(name) = &options.replica {
        return name.to_string();
    }
    let hostname = std::fs::read_to_string("/proc/sys/kernel/hostname");
    hostname.map_or_else(|_| "replica".to_owned(), |name| name.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slow_answer_is_no_wrong_clock() {
        let beat = |at, took| Beat {
            at: Timestamp::from_micros(at),
            took: Duration::from_micros(took),
            version: 0,
            settings: 0,
            gateways: 1,
        };
        let now = Timestamp::from_micros(1_000);
        assert_eq!(clock_off(now, &beat(900, 100)), Duration::ZERO);
        assert_eq!(clock_off(now, &beat(400, 100)), Duration::from_micros(500));
        assert_eq!(
            clock_off(now, &beat(1_700, 100)),
            Duration::from_micros(600)
        );
    }
}
