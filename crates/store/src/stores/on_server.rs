//! Placements `pool`, `bridge` and `silo`: a tenant's store on a PostgreSQL server.

use std::sync::Arc;

use base::TenantId;
use tenancy::TenantKeys;
use tenancy::catalogue::ServerWall;

use super::{Open, Rotated, UpgradeError, copying};
use crate::database::{Database, Value, sql};
use crate::postgres::{
    COPY, Lease, MoveToken, OPEN, OwnerSession, Refused, Server, ServerError, Visitor, login_of,
    standing, tables_of_wall,
};
use crate::steps::{Standing, Upgraded};
use crate::tenant::StoreError;

/// Where on a server a tenant's store is.
#[derive(Clone)]
pub(super) struct Place {
    pub(super) wall: ServerWall,
    pub(super) server: Arc<Server>,
}

impl PartialEq for Place {
    fn eq(&self, other: &Self) -> bool {
        self.wall == other.wall && Arc::ptr_eq(&self.server, &other.server)
    }
}

/// What became of an operation.
pub(super) enum Tried<T, E> {
    /// It is done, or has failed.
    Done(Result<T, E>),
    /// The store is elsewhere, or about to be: nothing was done.
    Elsewhere,
    /// The connection was of a role or to tables that are not there any more, and is closed:
    /// nothing was done. Another one may do.
    Stale(E),
}

impl Place {
    /// Makes the store if it is not there.
    pub(super) fn provision(&self, open: &mut Open, keys: &TenantKeys) -> Result<(), StoreError> {
        self.server.provision(self.wall, keys)?;
        self.say_there_is(keys, OPEN, "")?;
        open.is_there = true;
        Ok(())
    }

    /// Makes a store that this move fills: nobody else uses it before it is opened.
    pub(super) fn provision_copy(
        &self,
        keys: &TenantKeys,
        token: MoveToken,
    ) -> Result<(), StoreError> {
        self.server.provision(self.wall, keys)?;
        self.say_there_is(keys, COPY, &token.to_string())
    }

    fn say_there_is(&self, keys: &TenantKeys, state: i64, mover: &str) -> Result<(), StoreError> {
        self.visit(keys, Visitor::Setup, |database| {
            database.execute(
                sql!(
                    "INSERT INTO provisioned ([tenant, ]single, state, mover)
                     VALUES ([$T, ]1, $1, $2)
                     ON CONFLICT ([tenant, ]single) DO NOTHING"
                ),
                &[Value::Int(state), Value::Text(mover)],
            )?;
            Ok(())
        })
    }

    pub(super) fn remove(&self, open: &mut Open, tenant: TenantId) -> Result<(), StoreError> {
        open.is_there = false;
        Ok(self.server.remove(self.wall, tenant)?)
    }

    /// The tenant has gone elsewhere: connections that are its own are of no use any more, and would
    /// be in the way of whoever removes what is here.
    pub(super) fn leave(&self, tenant: TenantId) {
        if self.wall != ServerWall::Pool {
            let login = login_of(self.wall, &self.server, tenant);
            self.server.close_idle_of(&login.role);
        }
    }

    /// An operation of the tenant's, once.
    pub(super) fn with_database<T, E: From<StoreError>>(
        &self,
        open: &mut Open,
        keys: &TenantKeys,
        act: impl FnOnce(&Database<'_>) -> Result<T, E>,
    ) -> Result<T, E> {
        match self.try_with(open, keys, act) {
            Tried::Done(done) => done,
            Tried::Elsewhere => Err(StoreError::Held.into()),
            Tried::Stale(error) => Err(error),
        }
    }

    /// An operation of the tenant's, if this is where its store is.
    pub(super) fn try_with<T, E: From<StoreError>>(
        &self,
        open: &mut Open,
        keys: &TenantKeys,
        act: impl FnOnce(&Database<'_>) -> Result<T, E>,
    ) -> Tried<T, E> {
        let lease = match self.lease_of_store(open, keys) {
            Ok(lease) => lease,
            Err(error) => return Tried::Done(Err(error.into())),
        };
        let database = Database::postgres(self.session(&lease, keys, Visitor::Tenant));
        let done = act(&database).and_then(|done| {
            database.finish().map_err(StoreError::from)?;
            Ok(done)
        });
        let done = match done {
            Ok(done) => Ok(done),
            Err(error) => match database.refused() {
                None => Err(error),
                Some(Refused::Missing) => {
                    open.is_there = false;
                    Err(StoreError::from(self.server.no_store()).into())
                }
                Some(Refused::Elsewhere) => return Tried::Elsewhere,
                Some(Refused::Stale) => {
                    open.is_there = false;
                    lease.session().give_up();
                    return Tried::Stale(error);
                }
            },
        };
        Tried::Done(done)
    }

    /// Uses the tables on another's behalf than the tenant's.
    pub(super) fn visit<T, E: From<StoreError>>(
        &self,
        keys: &TenantKeys,
        visitor: Visitor,
        act: impl FnOnce(&Database<'_>) -> Result<T, E>,
    ) -> Result<T, E> {
        let lease = self.lease(keys).map_err(StoreError::from)?;
        let database = Database::postgres(self.session(&lease, keys, visitor));
        let done = act(&database)?;
        database.finish().map_err(StoreError::from)?;
        Ok(done)
    }

    /// Reads one state of the store, whatever is changed meanwhile.
    pub(super) fn on_snapshot<T, E: From<StoreError>>(
        &self,
        keys: &TenantKeys,
        act: impl FnOnce(&Database<'_>) -> Result<T, E>,
    ) -> Result<T, E> {
        let lease = self.lease(keys).map_err(StoreError::from)?;
        let database = Database::postgres(self.session(&lease, keys, Visitor::Tenant));
        let begun = database.begin_snapshot();
        begun.map_err(|error| match database.refused() {
            Some(Refused::Missing) => self.server.no_store().into(),
            Some(Refused::Elsewhere) => StoreError::Held,
            Some(Refused::Stale) | None => StoreError::from(error),
        })?;
        let done = act(&database)?;
        database.end_snapshot().map_err(StoreError::from)?;
        Ok(done)
    }

    pub(super) fn session<'s>(
        &'s self,
        lease: &'s Lease<'_>,
        keys: &TenantKeys,
        visitor: Visitor,
    ) -> OwnerSession<'s> {
        // The low bits of an id are random; where two tenants share them, one waits for the other.
        // A move from one wall to another of the same database holds both locks.
        let wall = match self.wall {
            ServerWall::Pool => 0,
            ServerWall::Bridge => 1 << 62,
            ServerWall::Silo => 1 << 61,
        };
        let lock = keys.tenant().bits() as u64 as i64 ^ wall;
        OwnerSession::new(
            lease.session(),
            (tables_of_wall(self.wall), lock),
            visitor,
            keys,
            &*self.server.entropy,
        )
    }

    /// A connection to the store, whose tables are as this program knows them.
    fn lease_of_store(&self, open: &mut Open, keys: &TenantKeys) -> Result<Lease<'_>, StoreError> {
        let lease = self.lease(keys)?;
        if !open.is_there && self.wall != ServerWall::Pool {
            // What cannot be asked shows at once, when the store is used.
            let standing = standing(lease.session());
            if matches!(standing, Ok(Standing::TooOld | Standing::TooNew)) {
                // Brings it up to date, or says that a newer program has made it.
                self.server.provision(self.wall, keys)?;
            }
        }
        open.is_there = true;
        Ok(lease)
    }

    /// A connection that logs in with the keys' current secret, or, while a rotation is under way,
    /// with the previous.
    pub(super) fn lease(&self, keys: &TenantKeys) -> Result<Lease<'_>, ServerError> {
        let login = login_of(self.wall, &self.server, keys.tenant());
        if self.wall == ServerWall::Pool {
            return self.server.lease_pool(login);
        }
        let leased = self.server.lease(login.clone(), &keys.database_secret());
        match (leased, keys.previous_database_secret()) {
            (Err(ServerError::NoStore { .. }), Some(previous)) => {
                self.server.lease(login, &previous)
            }
            (leased, _) => leased,
        }
    }

    /// Brings the store's tables to the newest step, if they are the tenant's own, and nobody is
    /// moving them.
    pub(super) fn upgrade(
        &self,
        open: &mut Open,
        keys: &TenantKeys,
    ) -> Result<Upgraded, UpgradeError> {
        let is_open = self.with_database(open, keys, |database| {
            let asked = database.row(
                sql!("SELECT state FROM provisioned WHERE [tenant = $T AND ]single = 1"),
                &[],
                |row| row.int(0),
            )?;
            Ok::<_, StoreError>(asked == Some(OPEN))
        })?;
        if !is_open {
            return Err(UpgradeError::Moving);
        }
        Ok(self
            .server
            .upgrade(self.wall, keys)
            .map_err(StoreError::from)?)
    }

    /// Seals the store's values under the keys' current generation, and has the tenant's role log
    /// in with its secret. Can be repeated.
    pub(super) fn rotate(&self, open: &mut Open, keys: &TenantKeys) -> Result<Rotated, StoreError> {
        if keys.previous_database_secret().is_none() {
            return Ok(Rotated::AlreadyCurrent);
        }
        self.with_database(open, keys, copying::seal_anew)?;
        self.server.renew_password(self.wall, keys)?;
        Ok(Rotated::Encrypted)
    }
}
