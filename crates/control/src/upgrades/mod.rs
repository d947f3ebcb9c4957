//! Upgrades of tenants' stores while they are served, ring by ring: a few first, then more, then
//! all. A ring that does worse than before halts the upgrade.
//!
//! What is known of an upgrade stands in the catalogue. A worker takes a turn at it, writes down
//! what came of it, and takes the next: a store that is upgraded twice is found to be so, so that a
//! worker may end anywhere. Of two workers, one writes its turn down.

mod figures;
mod rollout;

use std::sync::Arc;

use base::{Name, TenantId, Timestamp};
use store::{NEWEST_STEP, StoreError, UpgradeError, Upgraded};
use tenancy::{ServicePurpose, Snapshot, TenantEntry};

use crate::Control;
use crate::api::{UpgradeReply, UpgradeRequest, UpgradeState};
use crate::error::{ApiError, chain};
use crate::publisher::{Act, Publisher};
use figures::Calls;
use rollout::{Members, Rollout, Stage, Unit, pool_of};

/// Where it stands among the catalogue's settings.
const SETTING: &str = "upgrade";
/// 64 stores in a turn: about a second, so that whoever halts an upgrade is heard.
const STORES_PER_TURN: usize = 64;
/// 16 of a pool's tenants are asked how it answers.
const ASKED_OF_POOL: usize = 16;
/// 256 of a ring are asked once more in its end: they tell a percentile.
const ASKED_IN_THE_END: usize = 256;
/// A week.
const WATCH_SECONDS_MAX: u32 = 7 * 24 * 3600;
const TIERS_MAX: usize = 100;
const TENANTS_MAX: usize = 1_000;

/// What a turn of an upgrade did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UpgradeTurn {
    /// There is nothing to do now.
    Nothing,
    /// It went a step further.
    Went,
    /// It was halted: the log, and its status, say why.
    Halted,
}

/// What somebody tells an upgrade to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum UpgradeCommand {
    Start(UpgradeRequest),
    Advance,
    Halt,
    Resume,
}

impl Publisher {
    /// What is on record.
    pub(crate) fn rollout(&self) -> Result<Option<Rollout>, ApiError> {
        let kept = self.catalogue.setting(SETTING);
        let kept = kept.map_err(ApiError::internal)?;
        kept.map(|json| serde_json::from_slice(&json).map_err(ApiError::internal))
            .transpose()
    }

    fn keep_rollout(&self, rollout: &Rollout) -> Result<(), ApiError> {
        let json = serde_json::to_vec(rollout).map_err(ApiError::internal)?;
        let kept = self.catalogue.put_setting(SETTING, &json);
        kept.map_err(ApiError::internal)
    }

    /// How the upgrade stands. Blocks.
    pub(crate) fn upgrade_status(&self) -> Result<UpgradeReply, ApiError> {
        Ok(match self.rollout()? {
            Some(rollout) => rollout.reply(NEWEST_STEP),
            None => UpgradeReply {
                state: UpgradeState::None,
                to: NEWEST_STEP,
                newest: NEWEST_STEP,
                ring: None,
                reason: None,
                watched_until: None,
                began_at: None,
                rings: Vec::new(),
                failures: Vec::new(),
            },
        })
    }

    /// Starts, or changes the course of an upgrade, on record.
    pub(crate) async fn command_upgrade(
        self: &Arc<Self>,
        command: UpgradeCommand,
        act: Act,
    ) -> Result<UpgradeReply, ApiError> {
        self.in_turn(move |turn| {
            let publisher = turn.publisher;
            let before = publisher.rollout()?;
            let revision = before.as_ref().map_or(0, |rollout| rollout.revision);
            let now = publisher.clock().now();
            let mut after = commanded(before, command, &publisher.current(), now)?;
            after.revision = revision + 1;
            publisher.record_act(&act)?;
            let kept = publisher.keep_rollout(&after);
            if let Err(error) = kept {
                publisher.record_failure(&act)?;
                return Err(error);
            }
            Ok(after.reply(NEWEST_STEP))
        })
        .await
    }

    /// Keeps what a turn came to, unless somebody changed the upgrade meanwhile. False if so.
    pub(crate) fn keep_turn(
        &self,
        mut rollout: Rollout,
        told: Option<Act>,
    ) -> Result<bool, ApiError> {
        let _turn = self.turn.blocking_lock();
        let _among_replicas = self.among_replicas()?;
        let revision = self.rollout()?.map(|rollout| rollout.revision);
        if revision != Some(rollout.revision) {
            return Ok(false);
        }
        if let Some(act) = told {
            self.record_act(&act)?;
        }
        rollout.revision += 1;
        self.keep_rollout(&rollout)?;
        Ok(true)
    }
}

/// What becomes of an upgrade by a command.
fn commanded(
    rollout: Option<Rollout>,
    command: UpgradeCommand,
    snapshot: &Snapshot,
    now: Timestamp,
) -> Result<Rollout, ApiError> {
    let under_way = rollout.filter(|rollout| rollout.stage != Stage::Done);
    let command = match command {
        UpgradeCommand::Start(options) => {
            if under_way.is_some() {
                return Err(ApiError::conflict(
                    "an upgrade is under way: `partywall upgrade status` shows it",
                ));
            }
            check(&options, snapshot)?;
            return Ok(Rollout::new(NEWEST_STEP, options, now));
        }
        command => command,
    };
    let Some(mut rollout) = under_way else {
        return Err(ApiError::conflict(
            "no upgrade is under way: `partywall upgrade start` begins one",
        ));
    };
    match (command, &rollout.stage) {
        (UpgradeCommand::Advance, Stage::Waiting | Stage::Watching { .. }) => rollout.advance(),
        (UpgradeCommand::Advance, _) => {
            return Err(ApiError::conflict(
                "the ring is not done: wait for it, or resume the upgrade if it is halted",
            ));
        }
        (UpgradeCommand::Halt, Stage::Halted { .. }) => {
            return Err(ApiError::conflict("the upgrade is halted already"));
        }
        (UpgradeCommand::Halt, _) => rollout.halt("somebody said so".to_owned()),
        (UpgradeCommand::Resume, Stage::Halted { .. }) => rollout.resume(NEWEST_STEP),
        (UpgradeCommand::Resume, _) => {
            return Err(ApiError::conflict("the upgrade is not halted"));
        }
        (UpgradeCommand::Start(_), _) => unreachable!("it was dealt with"),
    }
    Ok(rollout)
}

fn check(options: &UpgradeRequest, snapshot: &Snapshot) -> Result<(), ApiError> {
    if options.watch_seconds > WATCH_SECONDS_MAX {
        let message = format!("a ring is watched for {WATCH_SECONDS_MAX} seconds at most");
        return Err(ApiError::of("watch_seconds", message));
    }
    if options.failed_permille_max > 1_000 {
        let message = "of a thousand at most a thousand fail";
        return Err(ApiError::of("failed_permille_max", message));
    }
    if options.internal_tiers.len() > TIERS_MAX || options.internal_tenants.len() > TENANTS_MAX {
        return Err(ApiError::of(
            "internal_tenants",
            format!("at most {TIERS_MAX} tiers and {TENANTS_MAX} tenants are named"),
        ));
    }
    let no_tier = |name: &&Name| !snapshot.tiers().contains_key(*name);
    if let Some(name) = options.internal_tiers.iter().find(no_tier) {
        let message = format!("there is no tier `{name}`");
        return Err(ApiError::of("internal_tiers", message));
    }
    let no_tenant = |name: &&Name| snapshot.tenant_named(name.as_str()).is_none();
    if let Some(name) = options.internal_tenants.iter().find(no_tenant) {
        let message = format!("there is no tenant `{name}`");
        return Err(ApiError::of("internal_tenants", message));
    }
    Ok(())
}

impl Control {
    /// Goes a step further with the upgrade that is under way, if there is one: upgrades some
    /// stores of its ring, or looks how the ring does. Blocks: for a worker.
    ///
    /// # Errors
    ///
    /// If the catalogue cannot be reached: it can be repeated.
    pub fn upgrade_turn(&self) -> Result<UpgradeTurn, Box<dyn std::error::Error + Send + Sync>> {
        Ok(self.take_upgrade_turn()?)
    }

    fn take_upgrade_turn(&self) -> Result<UpgradeTurn, ApiError> {
        let Some(mut rollout) = self.publisher.rollout()? else {
            return Ok(UpgradeTurn::Nothing);
        };
        // A program of another step leaves it to those who know that step.
        if !rollout.is_going() || rollout.to != NEWEST_STEP {
            return Ok(UpgradeTurn::Nothing);
        }
        let before = rollout.clone();
        let snapshot = self.publisher.current();
        let members = rollout.members(&snapshot);
        match rollout.stage.clone() {
            Stage::Watching { since, until } => {
                self.watch_ring(&mut rollout, &members, &snapshot, (since, until));
            }
            _ => self.upgrade_some(&mut rollout, &members, &snapshot),
        }
        if rollout.is_going()
            && let Some(why) = {
                let options = rollout.options.clone();
                rollout.figures().trouble(&options)
            }
        {
            rollout.halt(why);
        }
        if rollout == before {
            return Ok(UpgradeTurn::Nothing);
        }
        let (act, halted) = told(&before, &rollout);
        if !self.publisher.keep_turn(rollout, act)? {
            return Ok(UpgradeTurn::Nothing);
        }
        match halted {
            None => Ok(UpgradeTurn::Went),
            Some(why) => {
                tracing::warn!(ring = before.ring.as_str(), why, "the upgrade was halted");
                Ok(UpgradeTurn::Halted)
            }
        }
    }

    /// Upgrades the next of the ring's stores; after the last of them, the ring is watched.
    fn upgrade_some(&self, rollout: &mut Rollout, members: &Members, snapshot: &Snapshot) {
        if rollout.after.is_none() {
            let calls = self.calls_of(members, None);
            let figures = rollout.figures();
            figures.stores = members.units.len() as u64;
            figures.calls_before = calls;
        }
        let after = rollout.after.clone();
        let is_left = |unit: &&Unit| after.as_ref().is_none_or(|after| *unit > after);
        let mut left = members.units.iter().filter(is_left);
        for unit in left.by_ref().take(STORES_PER_TURN) {
            self.upgrade_unit(rollout, unit, snapshot);
            rollout.after = Some(unit.clone());
        }
        if left.next().is_some() {
            return;
        }
        if members.units.is_empty() {
            rollout.advance();
            return;
        }
        let now = self.clock.now();
        let watched = std::time::Duration::from_secs(rollout.options.watch_seconds.into());
        rollout.stage = Stage::Watching {
            since: now,
            until: now.plus(watched),
        };
    }

    fn upgrade_unit(&self, rollout: &mut Rollout, unit: &Unit, snapshot: &Snapshot) {
        let (name, asked): (String, Vec<&Arc<TenantEntry>>) = match unit {
            Unit::Tenant(id) => match snapshot.tenant(*id) {
                Some(tenant) => (tenant.name.to_string(), vec![tenant]),
                None => return,
            },
            Unit::Pool(server) => {
                let pooled = snapshot.tenants().filter(|it| pool_of(it) == Some(server));
                (
                    format!("pool:{server}"),
                    pooled.take(ASKED_OF_POOL).collect(),
                )
            }
        };
        for tenant in &asked {
            // Of one that does not answer before, the upgrade says why.
            if let Ok(micros) = self.probe(tenant) {
                rollout.figures().before.add(micros);
            }
        }
        let upgraded = match unit {
            Unit::Tenant(_) => asked.first().map_or(Err(UpgradeError::Moving), |tenant| {
                let publisher = &self.publisher;
                let scope = publisher.service_scope(&tenant.unlocked, ServicePurpose::Recovery);
                publisher.stores.upgrade(&scope)
            }),
            Unit::Pool(server) => {
                let upgraded = self.publisher.stores.upgrade_pool(server);
                upgraded.map_err(UpgradeError::from)
            }
        };
        let done: Upgraded = match upgraded {
            Ok(done) => done,
            Err(UpgradeError::Moving) => {
                rollout.figures().moving += 1;
                return;
            }
            Err(error) => {
                let words = words(&error);
                log_failure(&name, &error);
                rollout.fail(name, words);
                return;
            }
        };
        for tenant in &asked {
            match self.probe(tenant) {
                Ok(micros) => rollout.figures().after.add(micros),
                Err(why) => {
                    rollout.fail(name, why);
                    return;
                }
            }
        }
        match done.is_change() {
            true => rollout.figures().upgraded += 1,
            false => rollout.figures().current += 1,
        }
    }

    /// Looks how the ring's tenants do; in the end, asks some of their stores once more.
    fn watch_ring(
        &self,
        rollout: &mut Rollout,
        members: &Members,
        snapshot: &Snapshot,
        (since, until): (Timestamp, Timestamp),
    ) {
        rollout.figures().calls_after = self.calls_of(members, Some(since));
        if self.clock.now() < until {
            return;
        }
        let step = members.tenants.len().div_ceil(ASKED_IN_THE_END).max(1);
        let asked = members.tenants.iter().step_by(step);
        for tenant in asked.filter_map(|id| snapshot.tenant(*id)) {
            match self.probe(tenant) {
                Ok(micros) => rollout.figures().after.add(micros),
                Err(why) => rollout.fail(tenant.name.to_string(), why),
            }
        }
        let options = rollout.options.clone();
        if let Some(why) = rollout.figures().trouble(&options) {
            rollout.halt(why);
        } else if options.by_hand && rollout.ring != crate::api::UpgradeRing::All {
            rollout.stage = Stage::Waiting;
        } else {
            rollout.advance();
        }
    }

    /// How long the tenant's store takes to answer, in microseconds.
    fn probe(&self, tenant: &TenantEntry) -> Result<u64, String> {
        let publisher = &self.publisher;
        let scope = publisher.service_scope(&tenant.unlocked, ServicePurpose::Recovery);
        let store = publisher.stores.open(&scope);
        let began = self.clock.elapsed();
        store.probe().map_err(|error| {
            let error = UpgradeError::from(error);
            log_failure(tenant.name.as_str(), &error);
            words(&error)
        })?;
        let took = self.clock.elapsed().saturating_sub(began);
        Ok(u64::try_from(took.as_micros()).unwrap_or(u64::MAX))
    }

    /// The calls that the members made, as this process knows of them: of the last hour, or of the
    /// minutes that began since then.
    fn calls_of(&self, members: &Members, since: Option<Timestamp>) -> Calls {
        let mut sum = Calls::default();
        let fleet = self.health.all();
        let of = |id: &TenantId| fleet.tenants.get(id);
        for hour in members.tenants.iter().filter_map(of) {
            let Some(since) = since else {
                sum.calls += hour.sum.calls;
                sum.failed += hour.sum.failed;
                continue;
            };
            let minutes = hour.minutes.iter().zip(&fleet.began);
            for (minute, _) in minutes.filter(|(_, began)| **began >= since) {
                sum.calls += minute.calls;
                sum.failed += minute.failed;
            }
        }
        sum
    }
}

/// What the status says of a failure; the log says the rest.
fn words(error: &UpgradeError) -> String {
    match error {
        UpgradeError::Moving => error.to_string(),
        UpgradeError::Store(StoreError::Server(error)) => error.to_string(),
        UpgradeError::Store(StoreError::Open(_)) => "its file does not open".to_owned(),
        UpgradeError::Store(_) => "its database reported an error".to_owned(),
    }
}

fn log_failure(store: &str, error: &UpgradeError) {
    let error = chain(error);
    tracing::warn!(store, %error, "a store was not upgraded, or does not answer");
}

/// What stands in the platform's log about a turn, and why it halted the upgrade, if it did.
fn told(before: &Rollout, after: &Rollout) -> (Option<Act>, Option<String>) {
    let target = |rollout: &Rollout| format!("upgrade/{}", rollout.ring.as_str());
    match &after.stage {
        Stage::Halted { why } => {
            let act = Act::of_platform("halt_upgrade", target(before)).because(why);
            (Some(act), Some(why.clone()))
        }
        Stage::Done => (
            Some(Act::of_platform("finish_upgrade", target(before))),
            None,
        ),
        _ if after.ring != before.ring => {
            let act = Act::of_platform("begin_upgrade_ring", target(after));
            (Some(act), None)
        }
        _ => (None, None),
    }
}
