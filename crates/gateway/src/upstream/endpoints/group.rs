//! The replicas of one engine: who they are now, how each is, and who goes where.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use base::TenantId;
use parking_lot::Mutex;
use smallvec::SmallVec;
use tenancy::catalogue::{ENDPOINTS_MAX, EndpointsSpec, UpstreamSpec, split_address};

use super::affinity::Warm;
use super::choice::{Candidate, choose};
use super::{Caller, Chosen, Endpoint, Reading, Witness, reading_good_for};
use crate::resilience::{Fault, GroupHealth, HealthOptions, Probe, Standing};
use crate::upstream::{Origin, UpstreamParts};

/// The replicas of one engine.
#[derive(Debug)]
pub(in crate::upstream) struct Group {
    pub(super) source: EndpointsSpec,
    /// What they have in common.
    pub(super) origin: Origin,
    pub(super) parts: UpstreamParts,
    places_each: u32,
    reading_good_for: Duration,
    members: ArcSwap<Vec<Arc<Endpoint>>>,
    /// In the order of `members`; it changes with them, under its lock.
    health: Mutex<GroupHealth>,
    warm: Mutex<Warm>,
    turn: AtomicUsize,
    /// When names are to be resolved anew.
    pub(super) next_look: Mutex<Duration>,
    /// Whether somebody is looking who they are, once or all the time.
    pub(super) is_looked_for: AtomicBool,
}

impl Group {
    pub(super) fn new(
        spec: &UpstreamSpec,
        source: &EndpointsSpec,
        origin: &Origin,
        parts: &UpstreamParts,
        previous: Option<&Self>,
    ) -> Arc<Self> {
        let group = Self {
            source: source.clone(),
            origin: origin.clone(),
            parts: parts.clone(),
            places_each: spec.concurrency_max,
            reading_good_for: reading_good_for(spec),
            members: ArcSwap::default(),
            health: Mutex::new(GroupHealth::new(HealthOptions::default(), 0)),
            warm: Mutex::default(),
            turn: AtomicUsize::new(0),
            next_look: Mutex::default(),
            is_looked_for: AtomicBool::new(false),
        };
        match (source, previous) {
            (EndpointsSpec::Static(addresses), _) => {
                group.found_beside(addresses.clone(), previous);
            }
            // The same engine, looked for in another way or allowed more: those that are known
            // serve until the first look.
            (_, Some(previous)) => {
                let known = previous.members();
                let known = known.iter().map(|member| member.address.clone());
                group.found_beside(known.collect(), Some(previous));
            }
            _ => {}
        }
        Arc::new(group)
    }

    /// The replicas that are known now.
    pub(super) fn members(&self) -> Arc<Vec<Arc<Endpoint>>> {
        self.members.load_full()
    }

    /// These are the replicas from now on. Who stays keeps its connections; calls that are under
    /// way where nobody is any more go on to their end.
    pub(super) fn found(&self, addresses: Vec<String>) {
        self.found_beside(addresses, None);
    }

    fn found_beside(&self, mut addresses: Vec<String>, previous: Option<&Self>) {
        addresses.sort_unstable();
        addresses.dedup();
        if addresses.len() > ENDPOINTS_MAX {
            tracing::warn!(
                found = addresses.len(),
                used = ENDPOINTS_MAX,
                "an upstream has more replicas than are used"
            );
            addresses.truncate(ENDPOINTS_MAX);
        }
        let mut health = self.health.lock();
        let known = self.members();
        if known.iter().map(|member| &member.address).eq(&addresses) {
            return;
        }
        let elsewhere = previous.map(Self::members).unwrap_or_default();
        let mut kept = Vec::with_capacity(addresses.len());
        let mut next: Vec<Arc<Endpoint>> = Vec::with_capacity(addresses.len());
        let all = known.iter().chain(&*elsewhere);
        let mut number = all.map(|member| member.number + 1).max().unwrap_or(0);
        for address in addresses {
            let is_it = |member: &&Arc<Endpoint>| member.address == address;
            let same = known.iter().chain(&*elsewhere).find(is_it);
            kept.push(known.iter().position(|member| is_it(&member)));
            if let Some(same) = same {
                next.push(Arc::clone(same));
            } else if let Some(fresh) = self.endpoint(number, address) {
                next.push(Arc::new(fresh));
                number += 1;
            } else {
                kept.pop();
            }
        }
        health.reshape(&kept);
        let is_gone = |member: &&Arc<Endpoint>| !next.iter().any(|it| Arc::ptr_eq(it, member));
        let gone: Vec<&Arc<Endpoint>> = known.iter().filter(is_gone).collect();
        tracing::info!(
            now = next.len(),
            gone = gone.len(),
            "an upstream's replicas changed"
        );
        for member in gone {
            member.pool.close();
        }
        self.members.store(Arc::new(next));
    }

    fn endpoint(&self, number: u32, address: String) -> Option<Endpoint> {
        let (host, port) = split_address(&address)?;
        let origin = Origin {
            host: host.to_owned(),
            port,
            ..self.origin.clone()
        };
        let idle = self.places_each;
        Some(Endpoint::new(number, address, origin, &self.parts, idle))
    }

    /// The replica for a call.
    pub(super) fn choose(
        self: &Arc<Self>,
        caller: Option<&Caller>,
        tried: &[u32],
    ) -> Option<Chosen> {
        let now = self.parts.clock.elapsed();
        let (members, candidates) = self.candidates(tried, now);
        let beginnings = caller.map(|caller| &caller.beginnings);
        let warm = beginnings.and_then(|beginnings| self.warm.lock().find(beginnings));
        let warm = warm.and_then(|number| members.iter().position(|it| it.number == number));
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let chosen = &members[choose(&candidates, warm, turn)?];
        if let Some(beginnings) = beginnings {
            self.warm.lock().went(beginnings, chosen.number);
        }
        let witness = Witness {
            group: Arc::clone(self),
            caller: caller.map(|caller| (caller.tenant, caller.credential)),
        };
        Some(Chosen::new(Arc::clone(chosen), Some(witness)))
    }

    /// Those that were not tried, and what speaks for each.
    fn candidates(
        &self,
        tried: &[u32],
        now: Duration,
    ) -> (SmallVec<[Arc<Endpoint>; 8]>, SmallVec<[Candidate; 8]>) {
        let health = self.health.lock();
        let members = self.members.load();
        let fit = |at| health.standing(at, now) == Standing::Healthy;
        let all = members.iter().enumerate();
        let left = all.filter(|(_, member)| !tried.contains(&member.number));
        left.map(|(at, member)| {
            let reading = member.reading(now, self.reading_good_for);
            let candidate = candidate(member, reading, self.places_each);
            let is_fit = fit(at) && !member.is_in_trouble(now);
            (
                Arc::clone(member),
                Candidate {
                    is_fit,
                    ..candidate
                },
            )
        })
        .unzip()
    }

    /// Replicas that may be called now, one at the least: a line that nothing can shorten would
    /// hide what is wrong.
    pub(super) fn fit_count(&self) -> u32 {
        let now = self.parts.clock.elapsed();
        let (_, candidates) = self.candidates(&[], now);
        let fit = candidates.iter().filter(|it| it.is_fit).count();
        u32::try_from(fit).unwrap_or(u32::MAX).max(1)
    }

    /// How one stands.
    pub(super) fn standing(&self, endpoint: &Endpoint) -> Standing {
        let health = self.health.lock();
        let at = self.position(endpoint);
        at.map_or(Standing::Healthy, |at| {
            health.standing(at, self.parts.clock.elapsed())
        })
    }

    /// A call of a tenant ended.
    pub(super) fn called(&self, endpoint: &Endpoint, tenant: TenantId, fault: Fault) {
        let mut health = self.health.lock();
        if let Some(at) = self.position(endpoint) {
            health.called(at, tenant, fault, self.parts.clock.elapsed());
        }
    }

    /// A replica was asked how it is.
    pub(super) fn probed(&self, endpoint: &Endpoint, probe: Probe) {
        let mut health = self.health.lock();
        if let Some(at) = self.position(endpoint) {
            health.probed(at, probe);
        }
    }

    /// Whether any is taken for healthy.
    pub(super) fn has_healthy(&self) -> bool {
        let health = self.health.lock();
        let now = self.parts.clock.elapsed();
        let count = self.members.load().len();
        (0..count).any(|at| health.standing(at, now) == Standing::Healthy)
    }

    fn position(&self, endpoint: &Endpoint) -> Option<usize> {
        let members = self.members.load();
        members.iter().position(|it| it.number == endpoint.number)
    }
}

/// Ours and, by its own figures, what others had there when it was asked.
fn candidate(member: &Endpoint, reading: Option<Reading>, places: u32) -> Candidate {
    let own = member.own();
    let others = reading.map_or(0, |it| it.load.calls().saturating_sub(it.own));
    Candidate {
        is_fit: true,
        load: own.saturating_add(others),
        places,
        own,
        kv_permille: reading.and_then(|it| it.load.kv_permille),
    }
}
