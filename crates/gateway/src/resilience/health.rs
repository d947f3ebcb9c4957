//! Which upstreams of a group are fit to be called.

use std::time::Duration;

use base::TenantId;
use hashbrown::HashMap;

use super::fault::Fault;

/// When an upstream is taken out of its group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HealthOptions {
    /// Probes in a row that fail before it counts as unhealthy.
    pub probes_failed: u32,
    /// Probes in a row that succeed before it counts as healthy.
    pub probes_passed: u32,
    /// How long what tenants saw is gathered before members are compared.
    pub interval: Duration,
    /// Tenants that have to have seen a member fail.
    pub tenants_min: u32,
    /// Percentage points of failing tenants that a member must be worse than the others' mean.
    pub worse_points: u32,
    /// How long it is out the first time; as much longer each time that it follows.
    pub ejection: Duration,
    /// How long it is out at most.
    pub ejection_max: Duration,
    /// Per cent of the group that may be out by what tenants saw.
    pub ejected_percent_max: u32,
    /// Tenants that are looked at in an interval for each member.
    pub tenants_max: usize,
}

impl Default for HealthOptions {
    fn default() -> Self {
        Self {
            // 3 and 2, 10 s, 30 s, 5 min: Envoy's defaults for probes and outliers, but for the
            // share that may be out: half, so that the others are not overrun.
            probes_failed: 3,
            probes_passed: 2,
            interval: Duration::from_secs(10),
            tenants_min: 2,
            worse_points: 30,
            ejection: Duration::from_secs(30),
            ejection_max: Duration::from_secs(300),
            ejected_percent_max: 50,
            // 1,024: a sample; more would not change a share by more than a few points.
            tenants_max: 1_024,
        }
    }
}

/// What a probe found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Probe {
    /// The member answered as it should.
    Passed,
    /// It did not.
    Failed,
}

/// How a member stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// Fit to be called.
    Healthy,
    /// Probes fail.
    Unhealthy,
    /// Fails more than the others; out until then.
    Ejected {
        /// When it is tried again.
        until: Duration,
    },
}

/// The health of the upstreams of one group.
#[derive(Debug)]
pub struct GroupHealth {
    options: HealthOptions,
    members: Vec<Member>,
    interval_end: Duration,
}

#[derive(Debug, Default)]
struct Member {
    /// By tenant, whether its last call of the interval failed by the provider's fault. Each
    /// counts once, so that none decides alone.
    seen: HashMap<TenantId, bool>,
    ejected_until: Option<Duration>,
    ejections: u32,
    is_unhealthy: bool,
    /// Probes in a row that contradict what it is taken for.
    contrary: u32,
}

impl GroupHealth {
    /// A group of so many healthy upstreams.
    pub fn new(options: HealthOptions, members: usize) -> Self {
        Self {
            options,
            members: (0..members).map(|_| Member::default()).collect(),
            interval_end: options.interval,
        }
    }

    /// The members change: each of the new ones was the one of this number, or is new. What is
    /// known of those who stay is kept.
    pub fn reshape(&mut self, kept: &[Option<usize>]) {
        let member = |was: &Option<usize>| {
            let was = was.and_then(|number| self.members.get_mut(number));
            was.map(std::mem::take).unwrap_or_default()
        };
        self.members = kept.iter().map(member).collect();
    }

    /// How a member stands.
    pub fn standing(&self, member: usize, now: Duration) -> Standing {
        match self.members.get(member) {
            Some(member) if member.is_unhealthy => Standing::Unhealthy,
            Some(Member {
                ejected_until: Some(until),
                ..
            }) if now < *until => Standing::Ejected { until: *until },
            _ => Standing::Healthy,
        }
    }

    /// The members to choose from: the healthy ones; all if none is, since a call that may fail
    /// is better than one that must.
    pub fn fit(&self, now: Duration) -> Vec<usize> {
        let healthy: Vec<usize> = (0..self.members.len())
            .filter(|member| self.standing(*member, now) == Standing::Healthy)
            .collect();
        if healthy.is_empty() {
            (0..self.members.len()).collect()
        } else {
            healthy
        }
    }

    /// A call of a tenant ended. What is its own fault says that the member works.
    pub fn called(&mut self, member: usize, tenant: TenantId, fault: Fault, now: Duration) {
        self.advance(now);
        let options = self.options;
        let Some(member) = self.members.get_mut(member) else {
            return;
        };
        if fault == Fault::Unknown {
            return;
        }
        if member.seen.len() < options.tenants_max || member.seen.contains_key(&tenant) {
            member.seen.insert(tenant, fault.is_providers());
        }
    }

    /// A probe of a member ended.
    pub fn probed(&mut self, member: usize, probe: Probe) {
        let options = self.options;
        let Some(member) = self.members.get_mut(member) else {
            return;
        };
        let is_contrary = (probe == Probe::Failed) != member.is_unhealthy;
        member.contrary = if is_contrary { member.contrary + 1 } else { 0 };
        let enough = match probe {
            Probe::Failed => options.probes_failed,
            Probe::Passed => options.probes_passed,
        };
        if member.contrary >= enough {
            member.is_unhealthy = probe == Probe::Failed;
            member.contrary = 0;
        }
    }

    /// Compares the members if an interval has ended.
    pub fn advance(&mut self, now: Duration) {
        if now < self.interval_end {
            return;
        }
        self.interval_end = now + self.options.interval;
        let shares: Vec<Option<u32>> = self
            .members
            .iter()
            .map(|member| member.failing_percent(self.options.tenants_min))
            .collect();
        for number in 0..self.members.len() {
            let Some(own) = shares[number] else {
                continue;
            };
            let others: Vec<u32> = shares
                .iter()
                .enumerate()
                .filter(|(other, _)| *other != number)
                .filter_map(|(_, share)| *share)
                .collect();
            let mean = others.iter().sum::<u32>() / others.len().max(1) as u32;
            let is_outlier = !others.is_empty() && own >= mean + self.options.worse_points;
            if is_outlier && self.has_room_for_ejection(now) {
                self.eject(number, now);
            } else if !is_outlier {
                self.members[number].ejections = self.members[number].ejections.saturating_sub(1);
            }
        }
        for member in &mut self.members {
            member.seen.clear();
        }
    }

    fn has_room_for_ejection(&self, now: Duration) -> bool {
        let out = (0..self.members.len())
            .filter(|member| self.standing(*member, now) != Standing::Healthy)
            .count();
        (out + 1) * 100 <= self.members.len() * self.options.ejected_percent_max as usize
    }

    fn eject(&mut self, number: usize, now: Duration) {
        let member = &mut self.members[number];
        member.ejections = member.ejections.saturating_add(1);
        let out = (self.options.ejection * member.ejections).min(self.options.ejection_max);
        member.ejected_until = Some(now + out);
    }
}

impl Member {
    /// The per cent of tenants that saw it fail last; `None` if too few called to say.
    fn failing_percent(&self, tenants_min: u32) -> Option<u32> {
        let all = self.seen.len() as u32;
        let failing = self.seen.values().filter(|failed| **failed).count() as u32;
        if all < tenants_min {
            return None;
        }
        // Too few that fail are none: no tenant decides alone.
        Some(if failing < tenants_min {
            0
        } else {
            failing * 100 / all
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::fault::ProviderFault;
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const FAILED: Fault = Fault::Provider(ProviderFault::Failed);

    /// Ten tenants call each of three members; `fails` says which of whose calls fail.
    fn after(fails: impl Fn(usize, u128) -> bool) -> GroupHealth {
        let mut health = GroupHealth::new(HealthOptions::default(), 3);
        for member in 0..3 {
            for tenant in 0..10 {
                let fault = if fails(member, tenant) {
                    FAILED
                } else {
                    Fault::None
                };
                health.called(member, TenantId::from_bits(tenant), fault, SECOND);
            }
        }
        health.advance(11 * SECOND);
        health
    }

    #[test]
    fn a_member_that_fails_more_than_the_others_is_ejected_for_a_while() {
        let health = after(|member, _| member == 1);
        assert_eq!(health.fit(12 * SECOND), [0, 2]);
        assert_eq!(health.fit(42 * SECOND), [0, 1, 2]);
    }

    #[test]
    fn a_common_failure_or_one_tenants_ejects_nobody() {
        assert_eq!(after(|_, _| true).fit(12 * SECOND), [0, 1, 2]);
        assert_eq!(after(|_, tenant| tenant == 3).fit(12 * SECOND), [0, 1, 2]);
        let alone = after(|member, tenant| member == 1 && tenant == 3);
        assert_eq!(alone.fit(12 * SECOND), [0, 1, 2]);
    }

    #[test]
    fn who_stays_in_the_group_stays_as_it_is() {
        let mut health = after(|member, _| member == 1);
        health.reshape(&[None, Some(1), None]);
        assert_eq!(health.fit(12 * SECOND), [0, 2]);
        health.reshape(&[Some(1), Some(0)]);
        assert_eq!(health.fit(12 * SECOND), [1]);
        health.reshape(&[]);
        assert!(health.fit(12 * SECOND).is_empty());
    }

    #[test]
    fn no_more_than_half_are_ejected() {
        let health = after(|member, _| member != 0);
        assert_eq!(health.fit(12 * SECOND).len(), 2);
    }

    #[test]
    fn probes_take_a_member_out_and_bring_it_back() {
        let mut health = GroupHealth::new(HealthOptions::default(), 2);
        for _ in 0..3 {
            assert_eq!(health.standing(0, SECOND), Standing::Healthy);
            health.probed(0, Probe::Failed);
        }
        assert_eq!(health.standing(0, SECOND), Standing::Unhealthy);
        health.probed(0, Probe::Passed);
        health.probed(0, Probe::Failed);
        health.probed(0, Probe::Passed);
        assert_eq!(health.standing(0, SECOND), Standing::Unhealthy);
        health.probed(0, Probe::Passed);
        assert_eq!(health.standing(0, SECOND), Standing::Healthy);
        // With nobody fit, all are tried.
        for member in 0..2 {
            for _ in 0..3 {
                health.probed(member, Probe::Failed);
            }
        }
        assert_eq!(health.fit(SECOND), [0, 1]);
    }
}
