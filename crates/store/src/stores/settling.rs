//! What becomes of a move that was cut short, by a crash or a pause: where the catalogue says that
//! the tenant is, there it goes on. Whoever settles a move has the turn among all replicas, so that
//! nobody puts another placement on record meanwhile.

use tenancy::catalogue::Placement;
use tenancy::{TenantKeys, TenantScope};

use super::on_server::Place;
use super::{Stores, moving::MoveError};
use crate::database::{Value, sql};
use crate::postgres::{COPY, FENCED, LOGGED, MoveToken, OPEN, ServerError, Visitor};
use crate::tenant::StoreError;

/// What [`Stores::settle_move`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Settled {
    /// The store was being copied, or left: it is open again, and what was copied is removed.
    Undone,
    /// The move had arrived: the store is open there.
    Finished,
}

impl Stores {
    /// Whether this move holds the scope's store at `placement`: nobody writes there. A version must
    /// be published before [`Stores::settle_move`] lets go of it, so that the mover, should it go on
    /// after all, finds that it is late.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub fn is_held(
        &self,
        scope: &TenantScope,
        placement: &Placement,
        token: MoveToken,
    ) -> Result<bool, StoreError> {
        let Some(place) = self.place_at(placement)? else {
            return Ok(false);
        };
        let found = place.visit(scope.keys(), Visitor::Setup, |database| {
            let held = database.row(
                sql!(
                    "SELECT state FROM provisioned
                     WHERE [tenant = $T AND ]single = 1 AND mover = $1 AND state = $2"
                ),
                &[Value::Text(&token.to_string()), Value::Int(FENCED)],
                |_| Ok(()),
            )?;
            Ok(held.is_some())
        });
        match found {
            Err(StoreError::Server(ServerError::NoStore { .. })) => Ok(false),
            found => found,
        }
    }

    /// Settles a move of the scope's tenant between these placements. The tenant is at `now`, as
    /// the newest version says. Can be repeated. Blocks.
    ///
    /// # Errors
    ///
    /// [`MoveError`]; then it is to be tried again.
    pub fn settle_move(
        &self,
        scope: &TenantScope,
        (from, to): (&Placement, &Placement),
        now: &Placement,
        token: MoveToken,
    ) -> Result<Settled, MoveError> {
        let (from, to, now) = (
            self.place_at(from)?,
            self.place_at(to)?,
            self.place_at(now)?,
        );
        if now == to {
            self.open_copy(scope.keys(), to.as_ref(), token)?;
            return Ok(Settled::Finished);
        }
        if let Some(from) = &from {
            release(from, scope.keys(), token)?;
        }
        // One that is there since before is none of this move's.
        let is_copy = match &to {
            Some(to) => is_copy_of(to, scope.keys(), token)?,
            None => true,
        };
        if is_copy {
            self.remove_at(to.as_ref(), scope.tenant())?;
        }
        Ok(Settled::Undone)
    }

    /// From here on the tenant's operations use what this move has made.
    pub(super) fn open_copy(
        &self,
        keys: &TenantKeys,
        place: Option<&Place>,
        token: MoveToken,
    ) -> Result<(), StoreError> {
        let Some(place) = place else {
            return Ok(());
        };
        place.visit(keys, Visitor::Setup, |copy| {
            copy.execute(
                sql!(
                    "UPDATE provisioned SET state = $1, mover = ''
                     WHERE [tenant = $T AND ]single = 1 AND mover = $2 AND state = $3"
                ),
                &[
                    Value::Int(OPEN),
                    Value::Text(&token.to_string()),
                    Value::Int(COPY),
                ],
            )?;
            Ok(())
        })
    }
}

/// Nobody logs any more what is changed, and whoever was held goes on.
fn release(place: &Place, keys: &TenantKeys, token: MoveToken) -> Result<(), StoreError> {
    let released = place.visit(keys, Visitor::Setup, |source| {
        let transaction = source.begin()?;
        let released = transaction.execute(
            sql!(
                "UPDATE provisioned SET state = $1, mover = '', logged = 0
                 WHERE [tenant = $T AND ]single = 1 AND mover = $2
                   AND (state = $3 OR state = $4)"
            ),
            &[
                Value::Int(OPEN),
                Value::Text(&token.to_string()),
                Value::Int(LOGGED),
                Value::Int(FENCED),
            ],
        )?;
        if released == 1 {
            transaction.execute(sql!("DELETE FROM move_changes[ WHERE tenant = $T]"), &[])?;
        }
        Ok(transaction.commit()?)
    });
    match released {
        // A tenant whose store is gone has nothing to be held.
        Err(StoreError::Server(ServerError::NoStore { .. })) => Ok(()),
        released => released,
    }
}

fn is_copy_of(place: &Place, keys: &TenantKeys, token: MoveToken) -> Result<bool, StoreError> {
    let found = place.visit(keys, Visitor::Setup, |copy| {
        let made = copy.row(
            sql!(
                "SELECT state FROM provisioned
                 WHERE [tenant = $T AND ]single = 1 AND mover = $1 AND state = $2"
            ),
            &[Value::Text(&token.to_string()), Value::Int(COPY)],
            |_| Ok(()),
        )?;
        Ok(made.is_some())
    });
    match found {
        Err(StoreError::Server(ServerError::NoStore { .. })) => Ok(false),
        found => found,
    }
}
