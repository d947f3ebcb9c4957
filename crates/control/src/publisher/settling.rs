//! Moves on record: all replicas know of each, and what a replica has left half done that is gone
//! another one settles.

use std::collections::BTreeMap;

use base::TenantId;
use serde::{Deserialize, Serialize};
use store::{MoveToken, Settled};
use tenancy::catalogue::{Address, Kind, Resource};
use tenancy::{Change, ServicePurpose};

use super::{Act, Publisher, Turn};
use crate::api::MoveReply;
use crate::error::ApiError;

/// Where they stand among the catalogue's settings.
const SETTING: &str = "moves";
/// 100 moves that are over can be asked about through any replica, the oldest going first.
const OVER_MAX: usize = 100;

/// One move of each tenant: the last.
pub(crate) type MovesOnRecord = BTreeMap<TenantId, MoveOnRecord>;

/// A move, as every replica reads it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct MoveOnRecord {
    /// Its [`MoveToken`].
    token: String,
    /// Which replica moves.
    replica: String,
    is_over: bool,
    /// How it stands; while it goes on, what is known from its beginning.
    pub(crate) reply: MoveReply,
}

impl Publisher {
    /// Settles the moves of replicas that are gone, and of this process before it was started
    /// anew. Blocks. Returns how many there were.
    ///
    /// # Errors
    ///
    /// If one cannot be settled now; it can be repeated.
    pub fn settle_moves(&self) -> Result<usize, Box<dyn std::error::Error + Send + Sync>> {
        // Most of the time there is nothing to do: no turn is taken for that.
        if self.abandoned_moves()?.is_empty() {
            return Ok(0);
        }
        let _turn = self.turn.blocking_lock();
        let _among_replicas = self.among_replicas()?;
        Ok(Turn { publisher: self }.settle_abandoned_moves()?)
    }

    /// What is on record of a tenant's last move.
    pub(crate) fn move_on_record(
        &self,
        tenant: TenantId,
    ) -> Result<Option<MoveOnRecord>, ApiError> {
        Ok(self.moves_on_record()?.remove(&tenant))
    }

    /// Whether a tenant is being moved, by any replica.
    pub(crate) fn is_moving(&self, tenant: TenantId) -> Result<bool, ApiError> {
        let on_record = self.move_on_record(tenant)?;
        Ok(self.moves.is_moving(tenant) || on_record.is_some_and(|one| !one.is_over))
    }

    /// Puts on record that this process moves a tenant. Whoever calls this has the turn.
    pub(crate) fn record_move(
        &self,
        tenant: TenantId,
        token: MoveToken,
        reply: MoveReply,
    ) -> Result<(), ApiError> {
        let mut moves = self.moves_on_record()?;
        let on_record = MoveOnRecord {
            token: token.to_string(),
            replica: self.stores.replica().to_string(),
            is_over: false,
            reply,
        };
        moves.insert(tenant, on_record);
        let over = moves.iter().filter(|(_, one)| one.is_over);
        if over.clone().count() > OVER_MAX {
            let oldest = over.min_by_key(|(_, one)| one.reply.began_at);
            if let Some(oldest) = oldest.map(|(tenant, _)| *tenant) {
                moves.remove(&oldest);
            }
        }
        self.keep_moves(&moves)
    }

    /// Puts on record how this move has ended, unless another one came after it. Whoever calls this
    /// has the turn.
    pub(crate) fn record_end_of_move(
        &self,
        tenant: TenantId,
        token: MoveToken,
        reply: MoveReply,
    ) -> Result<(), ApiError> {
        let mut moves = self.moves_on_record()?;
        match moves.get_mut(&tenant) {
            Some(one) if one.token == token.to_string() => {
                one.is_over = true;
                one.reply = reply;
            }
            _ => return Ok(()),
        }
        self.keep_moves(&moves)
    }

    fn abandoned_moves(&self) -> Result<Vec<(TenantId, MoveOnRecord)>, ApiError> {
        let mut moves = self.moves_on_record()?;
        moves.retain(|_, one| !one.is_over);
        if moves.is_empty() {
            return Ok(Vec::new());
        }
        let own = self.stores.replica().to_string();
        let there = self.replicas_there()?;
        moves.retain(|tenant, one| match one.replica == own {
            true => !self.moves.is_moving(*tenant),
            false => !there.contains(&one.replica),
        });
        Ok(moves.into_iter().collect())
    }

    fn moves_on_record(&self) -> Result<MovesOnRecord, ApiError> {
        let kept = self.catalogue.setting(SETTING);
        match kept.map_err(ApiError::internal)? {
            None => Ok(MovesOnRecord::new()),
            Some(json) => serde_json::from_slice(&json).map_err(ApiError::internal),
        }
    }

    fn keep_moves(&self, moves: &MovesOnRecord) -> Result<(), ApiError> {
        let json = serde_json::to_vec(moves).expect("what is on record of moves is plain JSON");
        self.catalogue
            .put_setting(SETTING, &json)
            .map_err(ApiError::internal)
    }
}

impl Turn<'_> {
    /// As [`Publisher::settle_moves`].
    pub(crate) fn settle_abandoned_moves(&self) -> Result<usize, ApiError> {
        let abandoned = self.publisher.abandoned_moves()?;
        for (tenant, one) in &abandoned {
            self.settle_on_record(*tenant, one)?;
        }
        Ok(abandoned.len())
    }

    /// Settles a tenant's move whose replica is gone.
    ///
    /// # Errors
    ///
    /// [`ApiError::Conflict`] if its replica is there.
    pub(crate) fn settle_before_moving(&self, tenant: TenantId) -> Result<(), ApiError> {
        let Some(one) = self.publisher.move_on_record(tenant)? else {
            return Ok(());
        };
        let own = self.publisher.stores.replica().to_string();
        if one.is_over {
            return Ok(());
        }
        // This process moves a tenant once at a time: what is on record is from before its start.
        if one.replica != own && self.publisher.replicas_there()?.contains(&one.replica) {
            return Err(ApiError::conflict(
                "the tenant is being moved already, by another replica",
            ));
        }
        self.settle_on_record(tenant, &one)
    }

    fn settle_on_record(&self, tenant: TenantId, one: &MoveOnRecord) -> Result<(), ApiError> {
        let token: MoveToken = one.token.parse().map_err(ApiError::internal)?;
        let settled = self.settle_move(tenant, &one.reply, token)?;
        tracing::warn!(
            %tenant, from = %one.reply.from, to = %one.reply.to, ?settled,
            "a move that was cut short was settled"
        );
        let mut reply = one.reply.clone();
        match settled {
            Settled::Finished => reply.state = "moved".to_owned(),
            Settled::Undone => {
                reply.state = "failed".to_owned();
                reply.error = Some(
                    "the replica that moved the tenant was gone: the tenant is where it was".into(),
                );
            }
        }
        self.publisher.record_end_of_move(tenant, token, reply)
    }

    /// Lets the tenant go on where the newest version says that it is, whatever this move has come
    /// to. Can be repeated.
    ///
    /// # Errors
    ///
    /// If a server cannot be used; then it is to be tried again.
    pub(crate) fn settle_move(
        &self,
        tenant: TenantId,
        of: &MoveReply,
        token: MoveToken,
    ) -> Result<Settled, ApiError> {
        // Whether the new placement was published may be known to the catalogue alone.
        self.follow()?;
        let publisher = self.publisher;
        let Some(entry) = self.current().tenant(tenant).cloned() else {
            // What there is of a tenant that is gone is swept.
            return Ok(Settled::Undone);
        };
        let scope = publisher.service_scope(&entry.unlocked, ServicePurpose::Onboarding);
        let now = entry.spec.placement();
        let stores = &publisher.stores;
        let is_held = stores.is_held(&scope, &of.from, token);
        if *now != of.to && is_held.map_err(ApiError::internal)? {
            // The mover may only be late: what it is about to publish is for the version before
            // this one. The tenant's own log is in the store that is held.
            let act = Act::of_platform("settle_move", format!("tenants/{}", entry.name));
            let change = Change {
                address: Address::platform(Kind::Tenant, entry.name.as_str()),
                resource: Some(Resource::Tenant((*entry.spec).clone())),
            };
            self.commit(&act, vec![change], &[])?;
        }
        Ok(stores.settle_move(&scope, (&of.from, &of.to), now, token)?)
    }
}
