//! The publisher: the one way by which the catalogue changes.
//!
//! One change at a time: what would come of it is checked as a whole, put on record, made
//! durable, and then served. A version that is wrong in any part is refused whole.

mod consent;
mod following;
mod load;
mod record;
mod rotation;
mod sealing;
mod settling;
mod sharing;
mod uploaded;
mod whereabouts;

use std::collections::HashMap;
use std::sync::Arc;

use base::{Clock, Entropy, Name, TenantId};
use parking_lot::RwLock;
use store::{Catalogue, CommitError, ResourceChange, StoredKey, Stores};
use tenancy::catalogue::{
    Address, Kind, OperatorSpec, Placement, PromptText, Resource, ServerWall,
};
use tenancy::{
    ApiKey, AuditSigningKey, Change, KeyHasher, PlatformKeys, Problem, Role, RootKey,
    ServiceIdentity, ServicePurpose, Snapshot, TenantEntry, TenantKeys, TenantScope, WrappedKey,
};
use zeroize::Zeroizing;

use crate::api::{ProblemView, RenderRequest};
use crate::backups::BackupFolder;
use crate::error::ApiError;
use crate::given::Mint;
use crate::moves::Moves;
use crate::placing::place_new_tenants;
use crate::ports::{PlatformKeyFile, PublishTarget};
use crate::resources;
use crate::token_keys::TokenKeyring;
use crate::uploads::AdapterFolder;

pub use load::{LoadError, Loaded, load};
pub(crate) use record::Act;
pub(crate) use rotation::root_key_at;
pub(crate) use sealing::{UnreadableResource, decode};

/// What a [`Publisher`] works with.
pub struct PublisherParts {
    /// Where versions are kept.
    pub catalogue: Arc<Catalogue>,
    /// The tenants' own files.
    pub stores: Stores,
    /// What serves the catalogue.
    pub target: Arc<dyn PublishTarget>,
    /// Wraps the tenants' keys.
    pub root: Arc<dyn RootKey>,
    /// The installation's own keys.
    pub platform_keys: Arc<PlatformKeys>,
    /// Where the installation's own wrapped key is kept.
    pub platform_key_file: Arc<dyn PlatformKeyFile>,
    /// The keys that sign tokens.
    pub token_keys: Arc<TokenKeyring>,
    /// The installation's id, as text: part of the names of audit logs.
    pub installation: String,
    /// Where uploaded adapters go, if any may be uploaded.
    pub adapters: Option<AdapterFolder>,
    /// Where backups go, if any are taken.
    pub backups: Option<BackupFolder>,
    /// What time it is.
    pub clock: Arc<dyn Clock>,
    /// Where keys and ids come from.
    pub entropy: Arc<dyn Entropy>,
}

/// Changes the catalogue, one change at a time.
pub struct Publisher {
    pub(crate) catalogue: Arc<Catalogue>,
    pub(crate) stores: Stores,
    target: Arc<dyn PublishTarget>,
    root: RwLock<Arc<dyn RootKey>>,
    platform_keys: Arc<PlatformKeys>,
    platform_key_file: Arc<dyn PlatformKeyFile>,
    pub(crate) token_keys: Arc<TokenKeyring>,
    pub(crate) adapters: Option<AdapterFolder>,
    pub(crate) backups: Option<BackupFolder>,
    installation: String,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    hasher: KeyHasher,
    service: ServiceIdentity,
    audit_key: AuditSigningKey,
    /// Held by whoever changes the catalogue, from reading what there is to serving what comes.
    pub(crate) turn: Arc<tokio::sync::Mutex<()>>,
    pub(crate) moves: Moves,
}

/// A tenant that is about to be: its keys exist, and nothing of them is kept yet.
pub(crate) struct NewTenant {
    pub(crate) keys: Arc<TenantKeys>,
    wrapped: WrappedKey,
}

impl NewTenant {
    /// The keys as they are stored.
    pub(crate) fn stored(&self) -> StoredKey {
        sealing::stored_key(&self.keys, &self.wrapped, None)
    }
}

/// A change that is checked and on record, and not yet durable.
pub(crate) struct Prepared<'t> {
    publisher: &'t Publisher,
    /// The version that it was made for.
    base: u64,
    rows: Vec<ResourceChange>,
    next: Arc<Snapshot>,
    /// What is on record as done; never empty.
    acts: Vec<Act>,
}

/// Whoever has this changes the catalogue alone. All its methods block.
pub(crate) struct Turn<'a> {
    pub(crate) publisher: &'a Publisher,
}

impl Publisher {
    /// A publisher over what `parts` hold. What the target serves must be what the catalogue
    /// has: see [`load`].
    pub fn new(parts: PublisherParts) -> Arc<Self> {
        Arc::new(Self {
            catalogue: parts.catalogue,
            stores: parts.stores,
            target: parts.target,
            root: RwLock::new(parts.root),
            platform_key_file: parts.platform_key_file,
            token_keys: parts.token_keys,
            adapters: parts.adapters,
            backups: parts.backups,
            installation: parts.installation,
            clock: parts.clock,
            entropy: parts.entropy,
            hasher: parts.platform_keys.key_hasher(),
            service: ServiceIdentity::of(&parts.platform_keys),
            audit_key: parts.platform_keys.audit_signing_key(),
            platform_keys: parts.platform_keys,
            turn: Arc::default(),
            moves: Moves::default(),
        })
    }

    /// What is served.
    pub fn current(&self) -> Arc<Snapshot> {
        self.target.current()
    }

    /// What a model would be told: see [`PublishTarget::render`].
    pub(crate) fn render(
        &self,
        tenant: &TenantEntry,
        text: &PromptText,
        asked: RenderRequest,
    ) -> Result<String, String> {
        self.target.render(tenant, text, asked)
    }

    /// Waits for the turn and does `work` on a thread that may block.
    ///
    /// # Cancel safety
    ///
    /// What has begun is finished, whether or not anybody waits for it.
    pub(crate) async fn in_turn<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&Turn<'_>) -> Result<T, ApiError> + Send + 'static,
    ) -> Result<T, ApiError> {
        let turn = Arc::clone(&self.turn).lock_owned().await;
        let publisher = Arc::clone(self);
        blocking(move || {
            let among_replicas = publisher.among_replicas()?;
            let done = work(&Turn {
                publisher: &publisher,
            });
            drop(among_replicas);
            drop(turn);
            done
        })
        .await
    }

    /// Reads the catalogue anew and serves it: what it refers to, such as files with secrets, is
    /// read again. A snapshot that cannot be served is refused, and the old one stays.
    ///
    /// # Errors
    ///
    /// [`ReloadError`].
    ///
    /// # Cancel safety
    ///
    /// What has begun is finished, whether or not anybody waits for it.
    pub async fn reload(self: &Arc<Self>) -> Result<u64, ReloadError> {
        let reloading = self.in_turn(|turn| turn.reload());
        reloading.await.map_err(|error| match error {
            ApiError::Problems { problems } => ReloadError::Problems { problems },
            other => ReloadError::Failed {
                source: Box::new(other),
            },
        })
    }

    /// Makes an operator from inside the process: the first one of an installation, or a way in
    /// for whoever holds the data folder and the root key and has lost the rest.
    ///
    /// # Errors
    ///
    /// [`CreateOperatorError`].
    ///
    /// # Cancel safety
    ///
    /// What has begun is finished, whether or not anybody waits for it.
    pub async fn create_operator(
        self: &Arc<Self>,
        name: Name,
        role: Role,
    ) -> Result<ApiKey, CreateOperatorError> {
        let making = self.in_turn(move |turn| {
            let address = Address::platform(Kind::Operator, name.as_str());
            if resources::find(&turn.current(), &address).is_some() {
                return Err(ApiError::conflict(format!(
                    "there is an operator `{name}` already"
                )));
            }
            let mint = turn.publisher.mint();
            let key = ApiKey::generate(mint.entropy);
            let hash = mint.hasher.hash(&key);
            let spec = OperatorSpec {
                role,
                hash,
                disabled: false,
            };
            let act = Act::of_platform("create_operator", address.to_string());
            let change = Change {
                address,
                resource: Some(spec.into()),
            };
            turn.commit(&act, vec![change], &[])?;
            Ok(key)
        });
        making.await.map_err(|error| CreateOperatorError {
            source: Box::new(error),
        })
    }

    pub(crate) fn mint(&self) -> Mint<'_> {
        Mint {
            clock: self.clock.as_ref(),
            entropy: self.entropy.as_ref(),
            hasher: &self.hasher,
        }
    }

    /// Where tenants are whose tiers do not say.
    pub(crate) fn default_placement(&self) -> Placement {
        match self.catalogue.server() {
            None => Placement::File,
            Some(_) => Placement::Server {
                wall: ServerWall::Pool,
                server: None,
            },
        }
    }

    pub(crate) fn clock(&self) -> &dyn Clock {
        self.clock.as_ref()
    }

    /// Does the platform's own work inside a tenant.
    pub(crate) fn service_scope(
        &self,
        keys: &Arc<TenantKeys>,
        purpose: ServicePurpose,
    ) -> TenantScope {
        self.service.scope(Arc::clone(keys), purpose)
    }

    /// The secret that signs the webhooks of the scope's tenant.
    pub(crate) fn webhook_secret(&self, scope: &TenantScope) -> Zeroizing<[u8; 32]> {
        self.platform_keys.webhook_secret(scope.tenant())
    }

    /// The secret that signs the platform's own webhooks.
    pub(crate) fn own_webhook_secret(&self) -> Zeroizing<[u8; 32]> {
        self.platform_keys.own_webhook_secret()
    }

    /// New keys for a tenant that is about to be.
    pub(crate) fn new_tenant(&self, id: TenantId) -> Result<NewTenant, ApiError> {
        let root = Arc::clone(&self.root.read());
        let (keys, wrapped) = TenantKeys::generate(root.as_ref(), id, self.entropy.as_ref())
            .map_err(ApiError::internal)?;
        Ok(NewTenant {
            keys: Arc::new(keys),
            wrapped,
        })
    }
}

/// Why an operator was not made.
#[derive(Debug, thiserror::Error)]
#[error("the operator was not made")]
pub struct CreateOperatorError {
    #[source]
    source: Box<dyn std::error::Error + Send + Sync>,
}

/// Why the configuration was not read anew. What was served is served still.
#[derive(Debug, thiserror::Error)]
pub enum ReloadError {
    /// It cannot be served.
    #[error("{} problem(s), the first: {}", problems.len(), first(problems))]
    Problems {
        /// All of it.
        problems: Vec<ProblemView>,
    },
    /// It cannot be read.
    #[error("the catalogue cannot be read anew")]
    Failed {
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

fn first(problems: &[ProblemView]) -> String {
    problems
        .first()
        .map(|p| format!("{}: {}", p.address, p.message))
        .unwrap_or_default()
}

impl Turn<'_> {
    /// What is served.
    pub(crate) fn current(&self) -> Arc<Snapshot> {
        self.publisher.current()
    }

    /// What would come of these changes.
    ///
    /// # Errors
    ///
    /// [`ApiError::Problems`]: everything that is wrong with it.
    pub(crate) fn check(
        &self,
        changes: Vec<Change>,
        new_tenants: &[NewTenant],
    ) -> Result<Snapshot, ApiError> {
        let current = self.current();
        let names = NewNames::of(&changes);
        let by_id: HashMap<TenantId, &NewTenant> = new_tenants
            .iter()
            .map(|tenant| (tenant.keys.tenant(), tenant))
            .collect();
        let keys = |id: TenantId| by_id.get(&id).map(|tenant| Arc::clone(&tenant.keys));
        let refused = |problems: Vec<Problem>| ApiError::Problems {
            problems: problems
                .iter()
                .map(|problem| names.view(&current, problem))
                .collect(),
        };
        let next = current
            .with(current.version() + 1, changes, &keys)
            .map_err(refused)?;
        refuse_without_operator(&current, &next)?;
        self.publisher.target.check(&next).map_err(refused)?;
        Ok(next)
    }

    /// Whether whoever acts may say what these changes say for tenants.
    ///
    /// # Errors
    ///
    /// [`ApiError::Invalid`]: it is for a tenant itself to say.
    pub(crate) fn check_consent(&self, act: &Act, changes: &[Change]) -> Result<(), ApiError> {
        consent::check(act, &self.current(), changes)
    }

    /// Makes these changes one version: checked, on record, durable, and then served.
    ///
    /// # Errors
    ///
    /// [`ApiError::Problems`] if it is wrong, [`ApiError::Conflict`] if another process changed
    /// the catalogue; then nothing was changed.
    pub(crate) fn commit(
        &self,
        act: &Act,
        changes: Vec<Change>,
        new_tenants: &[NewTenant],
    ) -> Result<Arc<Snapshot>, ApiError> {
        let touched = self.check_uploads(&self.current(), &changes)?;
        let prepared = self.prepare(act, changes, new_tenants)?;
        let next = prepared
            .publish()
            .inspect_err(|_| prepared.record_failure())?;
        self.sweep_uploads(&next, &touched);
        Ok(next)
    }

    /// Does all of [`Turn::commit`] but for the last: it is checked and on record.
    ///
    /// # Errors
    ///
    /// [`ApiError::Problems`] if it is wrong; then nothing was changed.
    pub(crate) fn prepare<'t>(
        &'t self,
        act: &Act,
        mut changes: Vec<Change>,
        new_tenants: &[NewTenant],
    ) -> Result<Prepared<'t>, ApiError> {
        let current = self.current();
        self.check_consent(act, &changes)?;
        let default = self.publisher.default_placement();
        place_new_tenants((&self.publisher.stores, &default), &current, &mut changes)?;
        let rows = self.rows(&current, &changes, new_tenants)?;
        let next = Arc::new(self.check(changes, new_tenants)?);
        self.provision(new_tenants, &next)?;
        self.publisher.record(
            &act.done_at(next.version(), rows.len()),
            act.tenant.as_ref(),
        )?;
        let mut acts = sharing::changes(act, &current, &next)?;
        for act in &acts {
            self.publisher.record(&act.done(), act.tenant.as_ref())?;
        }
        acts.push(act.clone());
        Ok(Prepared {
            publisher: self.publisher,
            base: current.version(),
            rows,
            next,
            acts,
        })
    }

    /// The rows of a version: a tenant's own are sealed under its key; a tenant that goes takes
    /// all that is in it along.
    fn rows(
        &self,
        current: &Snapshot,
        changes: &[Change],
        new_tenants: &[NewTenant],
    ) -> Result<Vec<ResourceChange>, ApiError> {
        let mut sealer = sealing::Sealer::new(self.publisher.entropy.as_ref());
        for new in new_tenants {
            sealer.add(&new.keys);
        }
        let mut rows = Vec::with_capacity(changes.len());
        for Change { address, resource } in changes {
            if address.kind == Kind::Tenant
                && resource.is_none()
                && let Some(tenant) = current.tenant_named(&address.name)
            {
                let gone = resources::of_tenant(current, tenant);
                rows.extend(gone.map(|address| sealing::removal(&address)));
            }
            rows.push(match resource {
                Some(resource) => sealer.row(current, address, resource).ok_or_else(|| {
                    ApiError::invalid(format!("{address}: there is no such tenant"))
                })?,
                None => sealing::removal(address),
            });
        }
        Ok(rows)
    }

    /// Keeps new tenants' wrapped keys and makes their files. A crash after this leaves keys
    /// without a tenant, which [`load`] finds and [`Publisher::sweep`] destroys.
    fn provision(&self, new_tenants: &[NewTenant], next: &Snapshot) -> Result<(), ApiError> {
        if new_tenants.is_empty() {
            return Ok(());
        }
        for new in new_tenants {
            let id = new.keys.tenant();
            let placement = next.tenant(id).map(|tenant| tenant.spec.placement());
            if let Some(placement) = placement.filter(|placement| !placement.is_file()) {
                self.publisher.expect_store(id, placement)?;
                let stores = &self.publisher.stores;
                stores.assign(id, placement).map_err(ApiError::internal)?;
            }
        }
        let stored: Vec<StoredKey> = new_tenants.iter().map(NewTenant::stored).collect();
        self.publisher
            .catalogue
            .put_keys(&stored)
            .map_err(ApiError::internal)?;
        let make = |new: &NewTenant| {
            let scope = self
                .publisher
                .service_scope(&new.keys, ServicePurpose::Onboarding);
            self.publisher
                .stores
                .provision(&scope)
                .map_err(ApiError::internal)
        };
        if new_tenants.len() < PROVISION_THREADS {
            return new_tenants.iter().try_for_each(make);
        }
        // Each file waits for the disk: several at a time share its waiting.
        let share = new_tenants.len().div_ceil(PROVISION_THREADS);
        std::thread::scope(|threads| {
            let workers = new_tenants
                .chunks(share)
                .map(|share| threads.spawn(move || share.iter().try_for_each(make)));
            let workers: Vec<_> = workers.collect();
            workers
                .into_iter()
                .try_for_each(|worker| match worker.join() {
                    Ok(made) => made,
                    Err(panic) => std::panic::resume_unwind(panic),
                })
        })
    }

    pub(crate) fn reload(&self) -> Result<u64, ApiError> {
        let root = Arc::clone(&self.publisher.root.read());
        let loaded = load(&self.publisher.catalogue, root.as_ref()).map_err(ApiError::internal)?;
        let next = Arc::new(loaded.snapshot);
        self.publisher
            .target
            .check(&next)
            .map_err(|problems| ApiError::Problems {
                problems: problems
                    .iter()
                    .map(|p| NewNames::default().view(&next, p))
                    .collect(),
            })?;
        let version = next.version();
        for tenant in next.tenants() {
            let stores = &self.publisher.stores;
            stores
                .assign(tenant.id(), tenant.spec.placement())
                .map_err(ApiError::internal)?;
        }
        self.publisher.target.publish(next);
        Ok(version)
    }
}

impl Prepared<'_> {
    /// Makes it durable, and serves it.
    ///
    /// # Errors
    ///
    /// [`ApiError::Conflict`] if another process changed the catalogue; then nothing was changed,
    /// and [`Prepared::record_failure`] says so.
    pub(crate) fn publish(&self) -> Result<Arc<Snapshot>, ApiError> {
        let (publisher, act) = (self.publisher, &self.acts[self.acts.len() - 1]);
        let now = publisher.clock.now();
        let committed =
            publisher
                .catalogue
                .commit(self.base, &self.rows, &act.actor, &act.note(), now);
        committed.map_err(|error| match error {
            CommitError::Conflict { .. } => {
                ApiError::conflict("another process changed the catalogue: reload, and try again")
            }
            error => ApiError::internal(error),
        })?;
        publisher.target.publish(Arc::clone(&self.next));
        Ok(Arc::clone(&self.next))
    }

    /// The record said that it was going to be done; now it says that it was not.
    pub(crate) fn record_failure(&self) {
        for act in &self.acts {
            if let Err(error) = self.publisher.record(&act.failed(), act.tenant.as_ref()) {
                tracing::error!(%error, "the record says of a change that it was done, and it was not");
            }
        }
    }
}

/// Whoever removes the last operator could not undo it.
fn refuse_without_operator(current: &Snapshot, next: &Snapshot) -> Result<(), ApiError> {
    let can_operate = |snapshot: &Snapshot| {
        let mut operators = snapshot.operators().values();
        operators.any(|operator| operator.role == Role::Operator && !operator.disabled)
    };
    if can_operate(next) || !can_operate(current) {
        return Ok(());
    }
    let problem = ProblemView {
        address: Kind::Operator.plural().to_owned(),
        message: "one operator who is not disabled has to stay".to_owned(),
    };
    Err(ApiError::Problems {
        problems: vec![problem],
    })
}

/// 4: as many files under way as share a disk's waiting without holding up the data path.
const PROVISION_THREADS: usize = 4;

/// Names of tenants that are about to be, so that problems speak of names and not of ids.
#[derive(Default)]
struct NewNames(HashMap<TenantId, String>);

impl NewNames {
    fn of(changes: &[Change]) -> Self {
        let named = changes.iter().filter_map(|change| match &change.resource {
            Some(Resource::Tenant(spec)) => Some((spec.id, change.address.name.clone())),
            _ => None,
        });
        Self(named.collect())
    }

    fn view(&self, snapshot: &Snapshot, problem: &Problem) -> ProblemView {
        let Address { kind, tenant, name } = &problem.address;
        let new = tenant.and_then(|id| self.0.get(&id));
        let address = match new {
            Some(tenant) => format!("{tenant}/{}/{name}", kind.plural()),
            None => resources::address_text(snapshot, &problem.address),
        };
        ProblemView {
            address,
            message: problem.message.clone(),
        }
    }
}

/// Does `work` on a thread that may block.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ApiError> + Send + 'static,
) -> Result<T, ApiError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(stopped) if stopped.is_panic() => std::panic::resume_unwind(stopped.into_panic()),
        Err(stopped) => Err(ApiError::internal(stopped)),
    }
}
