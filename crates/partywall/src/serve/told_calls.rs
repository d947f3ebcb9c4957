//! What replicas tell each other of their calls, through the catalogue's server, so that each shows
//! all of them. Off the data path: what calls count is in memory, and this reads it now and then.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use base::{Clock, Name, Supervisor, TenantId, Timestamp};
use control::api::SilentReplica;
use control::chain;
use gateway::{Gateway, HealthHour, MinuteCounts, ToldMinute};
use parking_lot::Mutex;
use store::{
    CatalogueError, HeardMinute, MinuteId, OtherReplica, ReplicaError, ReplicaMinutes, TellMinute,
};

/// Five seconds: how old other replicas' part of what a page shows may be.
const TURN_EVERY: Duration = Duration::from_secs(5);
/// Three turns: then a page says that others' calls are missing.
const DEAF_AFTER: Duration = Duration::from_secs(15);
/// 16 questions of 64 minutes at one turn: an hour of 17 replicas. The rest follows at the next.
const QUESTIONS_MAX: usize = 16;
const MINUTE: Duration = Duration::from_secs(60);
const MINUTES: u32 = gateway::HEALTH_MINUTES as u32;
const HOUR: Duration = Duration::from_secs(3_600);

/// Tells and hears.
pub(super) struct ToldCalls {
    minutes: ReplicaMinutes,
    gateway: Gateway,
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// What was told of the last minutes: what is the same is not told again.
    told: HashMap<u32, Vec<u8>>,
    /// Minutes before it are told for good.
    tell_from: u32,
    /// When old rows were last forgotten, by the process's minutes.
    forgotten_at: Option<u32>,
    heard: HashMap<MinuteId, Heard>,
    others: Vec<OtherReplica>,
    /// When it last heard, by the process's clock.
    heard_at: Duration,
    /// Changes with everything heard.
    changes: u64,
}

struct Heard {
    revision: i64,
    began_at: Timestamp,
    told: Arc<ToldMinute>,
}

/// An hour of all tenants, as others told of it: which of the sixty minutes each is, and where its
/// reading has come to.
pub(super) struct ToldHour(Vec<(usize, Arc<ToldMinute>, usize)>);

impl ToldHour {
    /// The tenants in it.
    pub(super) fn tenants(&self) -> impl Iterator<Item = TenantId> {
        self.0.iter().flat_map(|(_, told, _)| told.tenants())
    }

    /// The minutes in which a tenant has called. Tenants have to come in order.
    pub(super) fn each_minute_of(
        &mut self,
        tenant: TenantId,
        mut visit: impl FnMut(usize, MinuteCounts<'_>),
    ) {
        for (place, told, at) in &mut self.0 {
            if let Some(counts) = told.next_counts_of(tenant, at) {
                visit(*place, counts);
            }
        }
    }
}

/// What is not in the figures.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Missing {
    pub(super) silent: Vec<SilentReplica>,
    pub(super) since: Option<Timestamp>,
}

impl ToldCalls {
    pub(super) fn new(minutes: ReplicaMinutes, gateway: Gateway, clock: Arc<dyn Clock>) -> Self {
        let state = State {
            heard_at: clock.elapsed(),
            ..State::default()
        };
        Self {
            minutes,
            gateway,
            clock,
            state: Mutex::new(state),
        }
    }

    /// Tells and hears until `tasks` stops.
    pub(super) fn keep(self: &Arc<Self>, tasks: &Supervisor) {
        let (told, stopping) = (Arc::clone(self), tasks.clone());
        tasks.spawn(async move {
            loop {
                let turn = Arc::clone(&told);
                match tokio::task::spawn_blocking(move || turn.turn()).await {
                    Ok(Ok(())) => {}
                    Ok(Err(error)) => {
                        let error = chain(&error);
                        tracing::debug!(%error, "replicas do not hear of each other's calls");
                    }
                    Err(error) => tracing::error!(%error, "a turn of telling calls failed"),
                }
                tokio::select! {
                    () = tokio::time::sleep(TURN_EVERY) => {}
                    () = stopping.stopping() => return,
                }
            }
        });
    }

    /// Tells what is new here, then hears what is new elsewhere. Blocks.
    pub(super) fn turn(&self) -> Result<(), ReplicaError> {
        let told = self.tell();
        // A replica that cannot tell may still hear.
        self.hear()?;
        told
    }

    /// Tells what is new here. Blocks.
    pub(super) fn tell(&self) -> Result<(), ReplicaError> {
        let under_way = self.gateway.minute_under_way();
        let (from, forgotten_at) = {
            let state = self.state.lock();
            (state.tell_from, state.forgotten_at)
        };
        let from = from.max((under_way + 1).saturating_sub(MINUTES));
        let began = self.minute_began();
        let mut news = Vec::new();
        for minute in from..=under_way {
            let told = self.gateway.tell_minute(minute);
            let body = told.encode();
            let state = self.state.lock();
            let is_known = match state.told.get(&minute) {
                Some(before) => *before == body,
                None => told.is_empty(),
            };
            if !is_known {
                news.push(TellMinute {
                    minute,
                    began_at: began.minus(MINUTE * (under_way - minute)),
                    body,
                });
            }
        }
        self.minutes.tell(&news)?;
        let mut state = self.state.lock();
        let news = news.into_iter().map(|it| (it.minute, it.body));
        state.told.extend(news);
        // The minute before may have been told in the moment between its end and its keeping.
        state.tell_from = under_way.saturating_sub(1);
        let kept_from = state.tell_from;
        state.told.retain(|minute, _| *minute >= kept_from);
        drop(state);
        if forgotten_at != Some(under_way) {
            self.minutes.forget()?;
            self.state.lock().forgotten_at = Some(under_way);
        }
        Ok(())
    }

    fn hear(&self) -> Result<(), CatalogueError> {
        let others = self.minutes.others()?;
        for _ in 0..QUESTIONS_MAX {
            let known = {
                let state = self.state.lock();
                let known = state.heard.iter();
                let known: Vec<_> = known.map(|(id, heard)| (*id, heard.revision)).collect();
                known
            };
            let heard = self.minutes.hear(&known)?;
            if heard.is_empty() {
                break;
            }
            let heard: Vec<_> = heard.into_iter().map(read).collect();
            let mut state = self.state.lock();
            state.changes += 1;
            state.heard.extend(heard);
        }
        let oldest = self.clock.now().minus(HOUR + 10 * MINUTE);
        let mut state = self.state.lock();
        // Longer than the server has them: what is forgotten here earlier would be heard again.
        state.heard.retain(|_, heard| heard.began_at > oldest);
        if state.others != others {
            let breakers = |others: &[OtherReplica]| -> Vec<_> {
                others.iter().map(|it| (it.id, it.is_there())).collect()
            };
            if breakers(&state.others) != breakers(&others) {
                state.changes += 1;
            }
            state.others = others;
        }
        state.heard_at = self.clock.elapsed();
        Ok(())
    }

    /// A number that changes with what others told of all tenants.
    pub(super) fn pulse(&self) -> u64 {
        self.state.lock().changes
    }

    /// The same of one tenant's calls.
    pub(super) fn pulse_of(&self, tenant: TenantId) -> u64 {
        let state = self.state.lock();
        let calls = state.heard.values().map(|it| it.told.calls_of(tenant));
        calls.sum()
    }

    /// Adds what others told of one tenant.
    pub(super) fn add_to(&self, tenant: TenantId, hour: &mut HealthHour) {
        let first = self.first_minute();
        for heard in self.state.lock().heard.values() {
            if let Some(place) = place(first, heard.began_at)
                && let Some(counts) = heard.told.counts_of(tenant)
            {
                hour.add(place, counts);
            }
        }
    }

    /// What others told of the last hour, to be read tenant by tenant.
    pub(super) fn hour(&self) -> ToldHour {
        let first = self.first_minute();
        let state = self.state.lock();
        let heard = state.heard.values();
        let minutes = heard.filter_map(|heard| {
            let place = place(first, heard.began_at)?;
            Some((place, Arc::clone(&heard.told), 0))
        });
        ToldHour(minutes.collect())
    }

    /// The tenants that replicas which are there hold back.
    pub(super) fn open_breakers(&self) -> Vec<(Name, Vec<TenantId>)> {
        let state = self.state.lock();
        let is_there = |id: &MinuteId| {
            let mut others = state.others.iter();
            others.any(|it| it.id == id.replica && it.epoch == id.epoch && it.is_there())
        };
        let heard = state.heard.iter().filter(|(id, _)| is_there(id));
        heard
            .flat_map(|(_, heard)| heard.told.open_breakers().iter().cloned())
            .collect()
    }

    /// When the oldest minute began that is known of.
    pub(super) fn since(&self) -> Option<Timestamp> {
        let state = self.state.lock();
        state.heard.values().map(|heard| heard.began_at).min()
    }

    /// What is missing: the calls of whoever was silent within the hour, or everybody's if this
    /// replica has not heard for a while.
    pub(super) fn missing(&self) -> Missing {
        let state = self.state.lock();
        let now = self.clock.now();
        let deaf_for = self.clock.elapsed().saturating_sub(state.heard_at);
        let is_silent =
            |it: &&OtherReplica| !it.has_ended && !it.is_there() && it.seen_ago + deaf_for < HOUR;
        let silent = state.others.iter().filter(is_silent);
        let silent: Vec<_> = silent
            .map(|it| SilentReplica {
                replica: it.name.clone(),
                since: now.minus(it.seen_ago + deaf_for),
            })
            .collect();
        let deaf_since = (deaf_for >= DEAF_AFTER).then(|| now.minus(deaf_for));
        let since = silent.iter().map(|it| it.since).chain(deaf_since).min();
        Missing { silent, since }
    }

    /// When the minute under way began.
    fn minute_began(&self) -> Timestamp {
        let into = self.clock.elapsed().as_micros() % MINUTE.as_micros();
        let into = Duration::from_micros(u64::try_from(into).unwrap_or(0));
        self.clock.now().minus(into)
    }

    fn first_minute(&self) -> Timestamp {
        self.minute_began().minus(MINUTE * (MINUTES - 1))
    }
}

fn read(heard: HeardMinute) -> (MinuteId, Heard) {
    let told = ToldMinute::decode(&heard.body).unwrap_or_else(|| {
        tracing::debug!("a replica of another version tells of its calls in a form unknown here");
        ToldMinute::default()
    });
    let kept = Heard {
        revision: heard.revision,
        began_at: heard.began_at,
        told: Arc::new(told),
    };
    (heard.id, kept)
}

/// Which of the sixty minutes from `first` on another process's minute is: the one that has its
/// middle. Processes do not begin their minutes together, and clocks may be a little ahead.
fn place(first: Timestamp, began_at: Timestamp) -> Option<usize> {
    let minute = i64::try_from(MINUTE.as_micros()).ok()?;
    let middle = began_at.as_micros() + minute / 2 - first.as_micros();
    let place = usize::try_from(middle.div_euclid(minute)).ok()?;
    match place {
        place if place < gateway::HEALTH_MINUTES => Some(place),
        // Its minute began after ours, or its clock is ahead: by as much as replicas may be off.
        place if place < gateway::HEALTH_MINUTES + 2 => Some(gateway::HEALTH_MINUTES - 1),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_minute_is_where_its_middle_is() {
        let second = |at: i64| Timestamp::from_micros(at * 1_000_000);
        let first = second(10_000);
        for (began, expected) in [
            (10_000, Some(0)),
            (9_970, Some(0)),
            (9_969, None),
            (10_029, Some(0)),
            (10_030, Some(1)),
            (13_540, Some(59)),
            (13_599, Some(59)),
            (13_629, Some(59)),
            (13_700, None),
        ] {
            assert_eq!(place(first, second(began)), expected, "{began}");
        }
    }
}
