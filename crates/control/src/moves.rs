//! Tenants that are being moved, and those that were lately.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use base::{Name, TenantId, Timestamp};
use parking_lot::Mutex;
use store::{MoveError, MovePhase, MoveProgress, MoveToken, Moved, Settled};
use tenancy::catalogue::{Address, FormerPlacement, Kind, Placement, Resource, TenantSpec};
use tenancy::{Change, ServicePurpose, TenantEntry};

use crate::api::MoveReply;
use crate::error::ApiError;
use crate::placing::{NO_FILES, place_to_move};
use crate::publisher::{Act, Publisher, Turn};

/// 4 tenants are moved at a time: each reads and writes as fast as its disks allow.
const UNDER_WAY_MAX: usize = 4;
/// 1,000 moves that are over can be asked about, the oldest going first.
const OVER_MAX: usize = 1_000;

/// The moves of this process.
#[derive(Default)]
pub(crate) struct Moves {
    by_tenant: Mutex<BTreeMap<TenantId, Arc<MoveState>>>,
}

/// One move.
pub(crate) struct MoveState {
    from: Placement,
    to: Placement,
    began_at: Timestamp,
    progress: Arc<MoveProgress>,
    outcome: Mutex<Option<Result<Moved, String>>>,
}

/// What is to be moved where.
pub(crate) struct MoveOrder {
    pub(crate) tenant: Name,
    pub(crate) to: Placement,
    /// For how long the old copy is kept.
    pub(crate) kept_for: Duration,
    pub(crate) act: Act,
}

impl Moves {
    pub(crate) fn of(&self, tenant: TenantId) -> Option<Arc<MoveState>> {
        self.by_tenant.lock().get(&tenant).cloned()
    }

    pub(crate) fn is_moving(&self, tenant: TenantId) -> bool {
        self.of(tenant)
            .is_some_and(|state| state.outcome.lock().is_none())
    }

    fn begin(&self, tenant: TenantId, state: &Arc<MoveState>) -> Result<(), ApiError> {
        let mut by_tenant = self.by_tenant.lock();
        let is_under_way = |state: &MoveState| state.outcome.lock().is_none();
        if by_tenant.get(&tenant).is_some_and(|one| is_under_way(one)) {
            return Err(ApiError::conflict("the tenant is being moved already"));
        }
        let under_way = by_tenant.values().filter(|one| is_under_way(one)).count();
        if under_way >= UNDER_WAY_MAX {
            return Err(ApiError::conflict(format!(
                "{under_way} tenants are being moved already: wait for one of them"
            )));
        }
        if by_tenant.len() >= OVER_MAX {
            let over = by_tenant.iter().filter(|(_, one)| !is_under_way(one));
            let oldest = over.min_by_key(|(_, one)| one.began_at);
            if let Some(oldest) = oldest.map(|(tenant, _)| *tenant) {
                by_tenant.remove(&oldest);
            }
        }
        by_tenant.insert(tenant, Arc::clone(state));
        Ok(())
    }
}

impl MoveState {
    pub(crate) fn reply(&self) -> MoveReply {
        let outcome = self.outcome.lock();
        self.reply_with(outcome.as_ref().map(|outcome| outcome.as_ref()))
    }

    /// How it stands with this outcome, if it has one.
    fn reply_with<E: ToString>(&self, outcome: Option<Result<&Moved, &E>>) -> MoveReply {
        let (rows, rows_total) = self.progress.rows();
        let (state, error) = match outcome {
            None => (phase_text(self.progress.phase()), None),
            Some(Ok(_)) => ("moved", None),
            Some(Err(error)) => ("failed", Some(error.to_string())),
        };
        let moved = outcome.and_then(Result::ok);
        MoveReply {
            from: self.from.clone(),
            to: self.to.clone(),
            began_at: self.began_at,
            state: state.to_owned(),
            rows,
            rows_total,
            bytes: self.progress.bytes(),
            changes: moved.map(|moved| moved.changes),
            held_ms: moved.map(|moved| u64::try_from(moved.held.as_millis()).unwrap_or(u64::MAX)),
            error,
        }
    }
}

const fn phase_text(phase: MovePhase) -> &'static str {
    match phase {
        MovePhase::Preparing => "preparing",
        MovePhase::Copying => "copying",
        MovePhase::Verifying => "verifying",
        MovePhase::CatchingUp => "catching-up",
        MovePhase::CuttingOver => "cutting-over",
    }
}

impl Publisher {
    /// Begins to move a tenant, on a thread of its own. What becomes of it is asked for. Blocks
    /// until it has begun.
    ///
    /// # Errors
    ///
    /// [`ApiError`]: why it cannot be moved there.
    pub(crate) fn begin_move(self: &Arc<Self>, order: MoveOrder) -> Result<MoveReply, ApiError> {
        let current = self.current();
        let tenant = current
            .tenant_named(order.tenant.as_str())
            .ok_or(ApiError::NotFound)?;
        let to = place_to_move(&self.stores, &current, &tenant.spec, &order.to)?;
        if to.is_file() && !self.default_placement().is_file() {
            return Err(ApiError::of("to", NO_FILES));
        }
        if to == *tenant.spec.placement() {
            return Err(ApiError::conflict(format!(
                "the tenant is in `{to}` already"
            )));
        }
        let state = Arc::new(MoveState {
            from: tenant.spec.placement().clone(),
            to,
            began_at: self.clock().now(),
            progress: Arc::default(),
            outcome: Mutex::new(None),
        });
        self.moves.begin(tenant.id(), &state)?;
        let token = self.move_token();
        if let Err(error) = self.begin_on_record(tenant, &state, token) {
            *state.outcome.lock() = Some(Err(error.to_string()));
            return Err(error);
        }
        let (publisher, tenant) = (Arc::clone(self), Arc::clone(tenant));
        let moving = Arc::clone(&state);
        let started = std::thread::Builder::new()
            .name("move".into())
            .spawn(move || {
                let outcome = publisher.do_move(&tenant, &order, &moving, token);
                let outcome = outcome.map_err(|error| {
                    let causes = crate::error::chain(&error);
                    tracing::warn!(tenant = %order.tenant, error = %causes, "a tenant was not moved");
                    // Whoever asks sees what any other refusal shows; its causes are the log's.
                    error.to_string()
                });
                *moving.outcome.lock() = Some(outcome);
            });
        if let Err(error) = started {
            *state.outcome.lock() = Some(Err(error.to_string()));
            return Err(ApiError::internal(error));
        }
        Ok(state.reply())
    }

    /// Moves, and whatever comes of it leaves the tenant open in one place, on record.
    fn do_move(
        &self,
        tenant: &Arc<TenantEntry>,
        order: &MoveOrder,
        state: &MoveState,
        token: MoveToken,
    ) -> Result<Moved, ApiError> {
        let moved = self.copy_and_cut_over(tenant, order, state, token);
        self.end_on_record(tenant, state, token, &moved);
        let moved = moved?;
        tracing::info!(
            tenant = %order.tenant, from = %state.from, to = %state.to, rows = moved.rows,
            changes = moved.changes, held_ms = moved.held.as_millis() as u64, "a tenant was moved"
        );
        Ok(moved)
    }

    fn begin_on_record(
        &self,
        tenant: &TenantEntry,
        state: &MoveState,
        token: MoveToken,
    ) -> Result<(), ApiError> {
        // In turn, since a sweep reads and writes the same lists, and must see this move.
        let _turn = self.turn.blocking_lock();
        let _among_replicas = self.among_replicas()?;
        Turn { publisher: self }.settle_before_moving(tenant.id())?;
        let now = self.current().tenant(tenant.id()).cloned();
        if now.is_none_or(|now| *now.spec.placement() != state.from) {
            return Err(ApiError::conflict(
                "the tenant was moved or removed a moment ago: look where it is, and try again",
            ));
        }
        self.expect_store(tenant.id(), &state.to)?;
        self.record_move(tenant.id(), token, state.reply())
    }

    /// What cannot be settled now is settled later: it is on record.
    fn end_on_record(
        &self,
        tenant: &TenantEntry,
        state: &MoveState,
        token: MoveToken,
        outcome: &Result<Moved, ApiError>,
    ) {
        let end = || -> Result<(), ApiError> {
            let _turn = self.turn.blocking_lock();
            let _among_replicas = self.among_replicas()?;
            let reply = state.reply_with(Some(outcome.as_ref()));
            Turn { publisher: self }.settle_move(tenant.id(), &reply, token)?;
            self.record_end_of_move(tenant.id(), token, reply)
        };
        if let Err(error) = end() {
            let error = crate::error::chain(&error);
            tracing::warn!(tenant = %tenant.name, %error, "a move is settled later");
        }
    }

    fn copy_and_cut_over(
        &self,
        tenant: &Arc<TenantEntry>,
        order: &MoveOrder,
        state: &MoveState,
        token: MoveToken,
    ) -> Result<Moved, ApiError> {
        let scope = self.service_scope(&tenant.unlocked, ServicePurpose::Onboarding);
        let mut moving = self
            .stores
            .begin_move(&scope, &state.to, token, &state.progress)?;
        {
            let _turn = self.turn.blocking_lock();
            let _among_replicas = self.among_replicas()?;
            moving.prepare()?;
        }
        moving.copy()?;
        let _turn = self.turn.blocking_lock();
        let _among_replicas = self.among_replicas()?;
        let turn = Turn { publisher: self };
        let spec = self.moved_spec(order, state)?;
        let change = Change {
            address: Address::platform(Kind::Tenant, order.tenant.as_str()),
            resource: Some(Resource::Tenant(spec)),
        };
        // On record first, also in the tenant's own log, which is copied with the rest.
        let prepared = turn.prepare(&order.act, vec![change], &[])?;
        // An older copy is not what this move goes back to: it is swept once this one has arrived.
        let former = tenant.spec.former_placement.as_deref();
        if let Some(former) = former.filter(|former| former.placement != state.to) {
            self.expect_store(tenant.id(), &former.placement)?;
        }
        let moved = moving.cut_over(|| prepared.publish().map(drop));
        if moved.is_err() {
            // Its log is in the store, which may be held: that is let go of first.
            match turn.settle_move(tenant.id(), &state.reply(), token) {
                Ok(Settled::Undone) => prepared.record_failure(),
                Ok(Settled::Finished) => {}
                Err(error) => {
                    let error = crate::error::chain(&error);
                    tracing::error!(%error, "the record says of a move that it was done, and it was not");
                }
            }
        }
        moved
    }

    fn move_token(&self) -> MoveToken {
        let mut random = [0; 16];
        self.mint().entropy.fill(&mut random);
        MoveToken::from_bits(u128::from_be_bytes(random))
    }

    /// The tenant as it is now, and where it is from now on.
    fn moved_spec(&self, order: &MoveOrder, state: &MoveState) -> Result<TenantSpec, ApiError> {
        let current = self.current();
        let now = current
            .tenant_named(order.tenant.as_str())
            .ok_or(ApiError::NotFound)?;
        let kept_until = self.clock().now().plus(order.kept_for);
        Ok(TenantSpec {
            placement: (!state.to.is_file()).then(|| Box::new(state.to.clone())),
            former_placement: Some(Box::new(FormerPlacement {
                placement: state.from.clone(),
                kept_until,
            })),
            ..(*now.spec).clone()
        })
    }
}

impl From<MoveError> for ApiError {
    fn from(error: MoveError) -> Self {
        refused(error)
    }
}

/// What somebody can do about it, and what nobody can.
fn refused(error: MoveError) -> ApiError {
    match error {
        MoveError::AlreadyThere
        | MoveError::UnderWay
        | MoveError::TooBusy
        | MoveError::CalledOff => ApiError::conflict(error.to_string()),
        MoveError::Different { .. } | MoveError::Store(_) => ApiError::internal(error),
    }
}
