//! Placements `pool`, `bridge` and `silo`: a tenant's store on a PostgreSQL server.

use std::sync::Arc;

use base::TenantId;
use tenancy::TenantKeys;
use tenancy::catalogue::ServerWall;

use super::{Open, Rotated, copying};
use crate::database::{Database, sql};
use crate::postgres::{Lease, OwnerSession, Server, ServerError, login_of, tables_of_wall};
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

impl Place {
    pub(super) fn provision(&self, open: &mut Open, keys: &TenantKeys) -> Result<(), StoreError> {
        self.server.provision(self.wall, keys)?;
        open.is_there = true;
        self.with_database(open, keys, |database| {
            database.execute(
                sql!(
                    "INSERT INTO provisioned ([tenant, ]single) VALUES ([$T, ]1)
                     ON CONFLICT ([tenant, ]single) DO NOTHING"
                ),
                &[],
            )?;
            Ok(())
        })
    }

    pub(super) fn remove(&self, open: &mut Open, tenant: TenantId) -> Result<(), StoreError> {
        open.is_there = false;
        Ok(self.server.remove(self.wall, tenant)?)
    }

    pub(super) fn with_database<T, E: From<StoreError>>(
        &self,
        open: &mut Open,
        keys: &TenantKeys,
        act: impl FnOnce(&Database<'_>) -> Result<T, E>,
    ) -> Result<T, E> {
        let lease = self.lease(keys).map_err(StoreError::from)?;
        let mut database = Database::postgres(self.session(&lease, keys));
        if !open.is_there {
            self.find_store(&database)?;
            open.is_there = true;
        }
        if open.changes.is_some() {
            database.log_changes();
        }
        let done = act(&database)?;
        database.finish().map_err(StoreError::from)?;
        open.log(database.into_log());
        Ok(done)
    }

    /// Reads one state of the store, whatever is changed meanwhile.
    pub(super) fn on_snapshot<T, E: From<StoreError>>(
        &self,
        keys: &TenantKeys,
        act: impl FnOnce(&Database<'_>) -> Result<T, E>,
    ) -> Result<T, E> {
        let lease = self.lease(keys).map_err(StoreError::from)?;
        let database = Database::postgres(self.session(&lease, keys));
        database.begin_snapshot().map_err(StoreError::from)?;
        self.find_store(&database)?;
        let done = act(&database)?;
        database.end_snapshot().map_err(StoreError::from)?;
        Ok(done)
    }

    pub(super) fn session<'s>(
        &'s self,
        lease: &'s Lease<'_>,
        keys: &TenantKeys,
    ) -> OwnerSession<'s> {
        OwnerSession::new(
            lease.session(),
            tables_of_wall(self.wall),
            keys,
            &*self.server.entropy,
        )
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

    fn find_store(&self, database: &Database<'_>) -> Result<(), StoreError> {
        let found = database.row(
            sql!("SELECT single FROM provisioned[ WHERE tenant = $T]"),
            &[],
            |_| Ok(()),
        )?;
        found.ok_or_else(|| self.server.no_store().into())
    }
}
