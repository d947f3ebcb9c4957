//! The directory: who exists and what applies to them, as one immutable [`Snapshot`].
//!
//! A request takes the snapshot on arrival and reads nothing newer until it ends (invariant 14).
//! Publishing makes the next snapshot by structural sharing; see [`crate::publish`].

use std::collections::BTreeMap;
use std::sync::Arc;

use base::{ModelName, Name, TeamId, TenantId, UserId};

use crate::catalogue::{
    AdapterSpec, BudgetSpec, ChannelSpec, CredentialSpec, FeatureSpec, GuardrailSpec, LimitSpec,
    OperatorSpec, PriceBookSpec, PriceSpec, PromptSpec, RetentionSpec, RouteSpec, SecretText,
    SharedCostSpec, SharingGroupSpec, TeamSpec, TenantChannelSpec, TenantConfig, TenantSpec,
    TierSpec, UpstreamSpec, UserSpec,
};
use crate::credentials::{CredentialOwner, Credentials};
use crate::key_entry::KeyEntry;
use crate::keyring::TenantKeys;
use crate::keys::KeyHash;
use crate::shards::Shards;

/// One version of the whole catalogue. Immutable; cheap to clone.
#[derive(Debug, Clone)]
pub struct Snapshot {
    pub(crate) version: u64,
    pub(crate) tiers: Arc<BTreeMap<Name, Arc<TierSpec>>>,
    pub(crate) upstreams: Arc<BTreeMap<Name, Arc<UpstreamSpec>>>,
    pub(crate) routes: Arc<BTreeMap<ModelName, Arc<RouteSpec>>>,
    pub(crate) prices: Arc<BTreeMap<ModelName, Arc<PriceSpec>>>,
    pub(crate) operators: Arc<BTreeMap<Name, Arc<OperatorSpec>>>,
    pub(crate) sharing_groups: Arc<BTreeMap<Name, Arc<SharingGroupSpec>>>,
    pub(crate) price_books: Arc<BTreeMap<Name, Arc<PriceBookSpec>>>,
    pub(crate) channels: Arc<BTreeMap<Name, Arc<ChannelSpec>>>,
    pub(crate) shared_costs: Arc<BTreeMap<Name, Arc<SharedCostSpec>>>,
    pub(crate) tenants: Shards<TenantId, Arc<TenantEntry>>,
    pub(crate) tenant_names: Shards<Name, TenantId>,
    pub(crate) credentials: Credentials,
}

/// A tenant and all that is its own in the catalogue.
#[derive(Debug, Clone)]
pub struct TenantEntry {
    /// Its name.
    pub name: Name,
    /// What it is.
    pub spec: Arc<TenantSpec>,
    /// Its behaviour.
    pub config: Arc<TenantConfig>,
    /// Its teams, by name.
    pub teams: BTreeMap<Name, Arc<TeamSpec>>,
    /// Its users, by name.
    pub users: BTreeMap<Name, Arc<UserSpec>>,
    /// Its declared features, by name.
    pub features: BTreeMap<Name, Arc<FeatureSpec>>,
    /// Its keys, by name.
    pub keys: BTreeMap<Name, Arc<KeyEntry>>,
    /// Its own budgets, by name.
    pub budgets: BTreeMap<Name, Arc<BudgetSpec>>,
    /// Its own limits, by name.
    pub limits: BTreeMap<Name, Arc<LimitSpec>>,
    /// What it brings to models. Few tenants bring anything.
    pub own: Option<Box<OwnModels>>,
    /// What its calls and answers are looked through for, by name. Few tenants have any. Whoever
    /// compiles them knows them again by their address while it holds them.
    pub guardrails: Option<Arc<Guardrails>>,
    /// Its prompts, by name. Few tenants have any.
    pub prompts: Option<Arc<Prompts>>,
    /// Its unlocked keys.
    pub unlocked: Arc<TenantKeys>,
}

/// What a tenant brings that few tenants have: for models, and for its alerts.
#[derive(Debug, Clone, Default)]
pub struct OwnModels {
    /// Its credentials for upstreams, by name.
    pub credentials: BTreeMap<Name, Arc<CredentialSpec>>,
    /// Its LoRA adapters, by the names that its callers say.
    pub adapters: Adapters,
    /// Where its alerts are told.
    pub channels: BTreeMap<Name, Arc<TenantChannelSpec>>,
}

impl OwnModels {
    /// Whether it is nothing.
    pub(crate) fn is_empty(&self) -> bool {
        self.credentials.is_empty() && self.adapters.is_empty() && self.channels.is_empty()
    }
}

/// A tenant's LoRA adapters, by name.
pub type Adapters = BTreeMap<Name, Arc<AdapterSpec>>;

/// A tenant's guardrails, by name.
pub type Guardrails = BTreeMap<Name, Arc<GuardrailSpec>>;

/// A tenant's prompts, by name.
pub type Prompts = BTreeMap<Name, Arc<PromptSpec>>;

impl TenantEntry {
    /// The prompt of this name, if it is the tenant's.
    pub fn prompt(&self, name: &Name) -> Option<&Arc<PromptSpec>> {
        self.prompts.as_ref()?.get(name)
    }

    /// Its id.
    pub fn id(&self) -> TenantId {
        self.spec.id
    }

    /// Its adapter of this name.
    pub fn adapter(&self, name: &str) -> Option<(&Name, &Arc<AdapterSpec>)> {
        self.own.as_ref()?.adapters.get_key_value(name)
    }

    /// The secret that it is called with on an upstream, if it has one of its own.
    pub fn credential_for(&self, upstream: &Name) -> Option<&SecretText> {
        let mut all = self.own.as_ref()?.credentials.values();
        let own = all.find(|credential| credential.upstream == *upstream)?;
        Some(&own.secret)
    }

    /// The id of the team of this name.
    pub fn team_id(&self, name: &Name) -> Option<TeamId> {
        self.teams.get(name).map(|team| team.id)
    }

    /// The id of the user of this name.
    pub fn user_id(&self, name: &Name) -> Option<UserId> {
        self.users.get(name).map(|user| user.id)
    }
}

impl Snapshot {
    /// A catalogue without anything, at version 0.
    pub fn empty() -> Self {
        Self {
            version: 0,
            tiers: Arc::default(),
            upstreams: Arc::default(),
            routes: Arc::default(),
            prices: Arc::default(),
            operators: Arc::default(),
            sharing_groups: Arc::default(),
            price_books: Arc::default(),
            channels: Arc::default(),
            shared_costs: Arc::default(),
            tenants: Shards::new(),
            tenant_names: Shards::new(),
            credentials: Credentials::new(),
        }
    }

    /// The version of the catalogue that this is.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// The tenant with this id.
    pub fn tenant(&self, id: TenantId) -> Option<&Arc<TenantEntry>> {
        self.tenants.get(&id)
    }

    /// The tenant of this name.
    pub fn tenant_named(&self, name: &str) -> Option<&Arc<TenantEntry>> {
        self.tenant_names
            .get(name)
            .and_then(|id| self.tenants.get(id))
    }

    /// How many tenants there are.
    pub fn tenant_count(&self) -> usize {
        self.tenants.len()
    }

    /// The tenants, in no order.
    pub fn tenants(&self) -> impl Iterator<Item = &Arc<TenantEntry>> {
        self.tenants.values()
    }

    /// Whose credential has this hash.
    pub fn credential(&self, hash: &KeyHash) -> Option<CredentialOwner<'_>> {
        self.credentials.get(hash)
    }

    /// The tiers, by name.
    pub fn tiers(&self) -> &BTreeMap<Name, Arc<TierSpec>> {
        &self.tiers
    }

    /// The upstreams, by name.
    pub fn upstreams(&self) -> &BTreeMap<Name, Arc<UpstreamSpec>> {
        &self.upstreams
    }

    /// The routes, by the model name that clients say.
    pub fn routes(&self) -> &BTreeMap<ModelName, Arc<RouteSpec>> {
        &self.routes
    }

    /// The prices, by `provider/model`.
    pub fn prices(&self) -> &BTreeMap<ModelName, Arc<PriceSpec>> {
        &self.prices
    }

    /// The operators, by name.
    pub fn operators(&self) -> &BTreeMap<Name, Arc<OperatorSpec>> {
        &self.operators
    }

    /// Where the platform's alerts are told, by name.
    pub fn channels(&self) -> &BTreeMap<Name, Arc<ChannelSpec>> {
        &self.channels
    }

    /// The sharing groups, by name.
    pub fn sharing_groups(&self) -> &BTreeMap<Name, Arc<SharingGroupSpec>> {
        &self.sharing_groups
    }

    /// The price books, by name.
    pub fn price_books(&self) -> &BTreeMap<Name, Arc<PriceBookSpec>> {
        &self.price_books
    }

    /// The costs that tenants share, by name.
    pub fn shared_costs(&self) -> &BTreeMap<Name, Arc<SharedCostSpec>> {
        &self.shared_costs
    }

    /// The price book that a tenant is charged by, with its name; none if neither the tenant nor
    /// its tier names one.
    pub fn price_book_of(&self, tenant: &TenantEntry) -> Option<(&Name, &Arc<PriceBookSpec>)> {
        let own = tenant.spec.price_book.as_deref();
        let name = own.or(self.tier_of(tenant).price_book.as_ref())?;
        self.price_books.get_key_value(name)
    }

    /// How long what a tenant's calls leave is kept: as it says itself, or else its tier.
    pub fn retention_of(&self, tenant: &TenantEntry) -> RetentionSpec {
        let own = tenant.spec.retention.as_deref().copied();
        let of_tier = self.tier_of(tenant).retention;
        own.unwrap_or_default().or(of_tier.unwrap_or_default())
    }

    /// The tier of a tenant.
    ///
    /// # Panics
    ///
    /// Never: a snapshot whose tenant names a missing tier cannot be published.
    pub fn tier_of(&self, tenant: &TenantEntry) -> &Arc<TierSpec> {
        self.tiers
            .get(&tenant.spec.tier)
            .expect("publishing checks that a tenant's tier exists")
    }
}

#[cfg(test)]
mod tests {
    use std::mem::size_of;

    use super::*;

    /// An installation has ten thousand tenants with ten keys each in memory: a field that most
    /// of them leave empty belongs behind a box.
    #[test]
    fn what_every_tenant_and_key_has_is_small() {
        let tenant = size_of::<TenantEntry>() + size_of::<TenantSpec>() + size_of::<TenantKeys>();
        assert!(tenant <= 424, "{tenant}");
        let key = size_of::<KeyEntry>();
        assert!(key <= 96, "{key}");
    }
}
