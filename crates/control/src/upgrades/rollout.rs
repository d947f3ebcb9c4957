//! An upgrade's states, and what leads from one to the next. Without I/O: what is written down
//! after each step is all that there is, so that whoever finds it goes on.

use base::{Name, TenantId, Timestamp};
use ring::digest::{SHA256, digest};
use serde::{Deserialize, Serialize};
use tenancy::catalogue::{Placement, ServerWall};
use tenancy::{Snapshot, TenantEntry};

use super::figures::Figures;
use crate::api::{
    UpgradeFailure, UpgradeReply, UpgradeRequest, UpgradeRing, UpgradeRingReply, UpgradeState,
};

/// 20: whoever looks for a cause finds it in these.
const FAILURES_MAX: usize = 20;
/// Tells these hashes from others.
const RING_LABEL: &[u8] = b"partywall/upgrade-ring/v1";

/// What is upgraded in one piece.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Unit {
    /// The tables that a server's pooled tenants share.
    Pool(Name),
    /// A tenant's own.
    Tenant(TenantId),
}

/// An upgrade.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Rollout {
    /// Grows with each change: of two who change it at a time, one finds that it is late.
    pub(crate) revision: u64,
    pub(crate) to: u32,
    pub(crate) stage: Stage,
    pub(crate) ring: UpgradeRing,
    /// All of the ring's units up to this one have been tried.
    pub(crate) after: Option<Unit>,
    pub(crate) options: UpgradeRequest,
    pub(crate) began_at: Timestamp,
    pub(crate) rings: Vec<(UpgradeRing, Figures)>,
    pub(crate) failures: Vec<UpgradeFailure>,
}

/// Where it is in a ring.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Stage {
    Running,
    Watching { since: Timestamp, until: Timestamp },
    Waiting,
    Halted { why: String },
    Done,
}

/// Who is in a ring.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Members {
    /// In their order.
    pub(crate) units: Vec<Unit>,
    /// Whose calls are watched.
    pub(crate) tenants: Vec<TenantId>,
}

impl Rollout {
    pub(crate) fn new(to: u32, options: UpgradeRequest, now: Timestamp) -> Self {
        let mut rollout = Self {
            revision: 0,
            to,
            stage: Stage::Running,
            ring: UpgradeRing::Internal,
            after: None,
            options,
            began_at: now,
            rings: Vec::new(),
            failures: Vec::new(),
        };
        rollout.begin(UpgradeRing::Internal);
        rollout
    }

    /// Begins a ring, or begins it anew.
    fn begin(&mut self, ring: UpgradeRing) {
        self.stage = Stage::Running;
        self.ring = ring;
        self.after = None;
        self.failures.clear();
        self.rings.retain(|(other, _)| *other < ring);
        self.rings.push((ring, Figures::default()));
    }

    /// Goes on with the next ring; none is next after the last.
    pub(crate) fn advance(&mut self) {
        let next = UpgradeRing::ORDER
            .into_iter()
            .find(|ring| *ring > self.ring);
        match next {
            Some(next) => self.begin(next),
            None => self.stage = Stage::Done,
        }
    }

    /// Goes on after a halt: the ring is gone through anew, and what is done in it stays so.
    pub(crate) fn resume(&mut self, to: u32) {
        self.to = to;
        self.begin(self.ring);
    }

    pub(crate) fn halt(&mut self, why: String) {
        self.stage = Stage::Halted { why };
    }

    /// The ring that it is at.
    pub(crate) fn figures(&mut self) -> &mut Figures {
        let (_, figures) = self.rings.last_mut().expect("a ring is begun at once");
        figures
    }

    pub(crate) fn fail(&mut self, store: String, why: String) {
        self.figures().failed += 1;
        if self.failures.len() < FAILURES_MAX {
            self.failures.push(UpgradeFailure { store, why });
        }
    }

    /// Whether it goes on by itself.
    pub(crate) fn is_going(&self) -> bool {
        matches!(self.stage, Stage::Running | Stage::Watching { .. })
    }

    /// Who is in the ring that it is at.
    pub(crate) fn members(&self, snapshot: &Snapshot) -> Members {
        let mut members = Members::default();
        for tenant in snapshot.tenants() {
            let pool = pool_of(tenant);
            // Pooled tenants share their tables, and come with all.
            let ring = match pool {
                Some(_) => UpgradeRing::All,
                None => self.ring_of(tenant),
            };
            if ring != self.ring {
                continue;
            }
            members.tenants.push(tenant.id());
            members.units.push(match pool {
                Some(server) => Unit::Pool(server.clone()),
                None => Unit::Tenant(tenant.id()),
            });
        }
        members.units.sort_unstable();
        members.units.dedup();
        members
    }

    fn ring_of(&self, tenant: &TenantEntry) -> UpgradeRing {
        let is_named = self.options.internal_tenants.contains(&tenant.name)
            || self.options.internal_tiers.contains(&tenant.spec.tier);
        match (is_named, percentile(tenant.id())) {
            (true, _) => UpgradeRing::Internal,
            (false, 0) => UpgradeRing::OnePercent,
            (false, 1..10) => UpgradeRing::TenPercent,
            (false, _) => UpgradeRing::All,
        }
    }

    pub(crate) fn reply(&self, newest: u32) -> UpgradeReply {
        let (state, reason, watched_until) = match &self.stage {
            Stage::Running => (UpgradeState::Running, None, None),
            Stage::Watching { until, .. } => (UpgradeState::Watching, None, Some(*until)),
            Stage::Waiting => (UpgradeState::Waiting, None, None),
            Stage::Halted { why } => (UpgradeState::Halted, Some(why.clone()), None),
            Stage::Done => (UpgradeState::Done, None, None),
        };
        UpgradeReply {
            state,
            to: self.to,
            newest,
            ring: (state != UpgradeState::Done).then_some(self.ring),
            reason,
            watched_until,
            began_at: Some(self.began_at),
            rings: self.rings.iter().map(ring_reply).collect(),
            failures: self.failures.clone(),
        }
    }
}

/// The server whose pool the tenant is in.
pub(crate) fn pool_of(tenant: &TenantEntry) -> Option<&Name> {
    match tenant.spec.placement() {
        Placement::Server {
            wall: ServerWall::Pool,
            server,
        } => server.as_ref(),
        _ => None,
    }
}

/// 0 to 99, the same for a tenant in every upgrade and on every replica. Ids are not used as they
/// are: their digits say when a tenant was made.
fn percentile(tenant: TenantId) -> u64 {
    let mut text = RING_LABEL.to_vec();
    text.extend_from_slice(&tenant.bits().to_be_bytes());
    let hash = digest(&SHA256, &text);
    let mut first = [0; 8];
    first.copy_from_slice(&hash.as_ref()[..8]);
    u64::from_be_bytes(first) % 100
}

fn ring_reply((ring, figures): &(UpgradeRing, Figures)) -> UpgradeRingReply {
    UpgradeRingReply {
        ring: *ring,
        stores: figures.stores,
        upgraded: figures.upgraded,
        current: figures.current,
        moving: figures.moving,
        failed: figures.failed,
        before_p95_us: figures.before.p95_us(),
        after_p95_us: figures.after.p95_us(),
        calls_failed_permille_before: figures.calls_before.failed_permille(),
        calls_failed_permille_after: figures.calls_after.failed_permille(),
        calls_after: figures.calls_after.calls,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hundredth_and_a_tenth_of_tenants_come_early_whatever_their_ids() {
        let mut counts = [0_u32; 3];
        for number in 0..20_000_u128 {
            // Ids that follow each other, as those of tenants that are made together.
            let ring = match percentile(TenantId::from_bits((1 << 100) + number)) {
                0 => 0,
                1..10 => 1,
                _ => 2,
            };
            counts[ring] += 1;
        }
        assert!((140..260).contains(&counts[0]), "{counts:?}");
        assert!((1_650..1_950).contains(&counts[1]), "{counts:?}");
    }

    #[test]
    fn a_ring_follows_another_and_what_was_halted_is_gone_through_anew() {
        let mut rollout = Rollout::new(8, UpgradeRequest::default(), Timestamp::from_micros(1));
        rollout.figures().upgraded = 3;
        rollout.advance();
        assert_eq!(rollout.ring, UpgradeRing::OnePercent);
        rollout.figures().failed = 1;
        rollout.after = Some(Unit::Pool("eu".parse().unwrap()));
        rollout.halt("it rains".to_owned());
        assert!(!rollout.is_going());
        rollout.resume(9);
        assert!(rollout.is_going());
        assert_eq!((rollout.to, rollout.after.clone()), (9, None));
        assert_eq!(*rollout.figures(), Figures::default());
        assert_eq!(rollout.rings[0].1.upgraded, 3, "the ring before is done");
        rollout.advance();
        rollout.advance();
        assert_eq!(rollout.ring, UpgradeRing::All);
        rollout.advance();
        assert_eq!(rollout.stage, Stage::Done);
        assert_eq!(rollout.reply(9).ring, None);
    }
}
