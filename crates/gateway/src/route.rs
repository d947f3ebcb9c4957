//! Where a model name leads, and in which order one call tries the places.

use std::borrow::Cow;
use std::sync::Arc;

use base::{Entropy, ModelName};
use ledger::PriceList;
use smallvec::SmallVec;
use tenancy::TenantEntry;
use tenancy::catalogue::{CredentialOf, Engine, RouteSpec, RouteVariant, Salting, SecretText};

use crate::adapters::EngineAdapter;
use crate::upstream::Upstream;

/// Where a model name leads, with what it costs there.
#[derive(Debug)]
pub struct Route {
    /// The name that clients say.
    pub model: ModelName,
    /// The model below, where the name is of a tenant's adapter.
    pub base: Option<ModelName>,
    /// What the catalogue says of it.
    pub spec: Arc<RouteSpec>,
    /// For whoever no variant names.
    pub(crate) targets: Arc<[Target]>,
    /// As `spec.variants`, in their order.
    pub(crate) variants: Vec<Arc<[Target]>>,
}

/// One place where a route leads.
#[derive(Debug)]
pub struct Target {
    /// The upstream.
    pub upstream: Arc<Upstream>,
    /// The model's name there.
    pub model: ModelName,
    /// The tenant's adapter on it, if calls are for one.
    pub(crate) adapter: Option<Arc<EngineAdapter>>,
    /// What it costs there; none if nobody has said.
    pub prices: Option<Arc<PriceList>>,
    /// Its share among its weighted neighbours.
    pub weight: Option<u32>,
}

/// Why a tenant's calls may not go to a target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Closed {
    /// The tenant never leaves its region, and the upstream is elsewhere.
    OtherRegion,
    /// The upstream is called with tenants' own credentials alone, and this one has none.
    NoCredential,
    /// The upstream's prompt cache is a way to a neighbour (invariant 4).
    SharedCache,
}

impl Target {
    /// Whether this tenant's calls may go there.
    ///
    /// # Errors
    ///
    /// Why they may not.
    pub fn open_to(&self, tenant: &TenantEntry) -> Result<(), Closed> {
        let upstream = &self.upstream.spec;
        if tenant.spec.region.is_some() && tenant.spec.region != upstream.region {
            return Err(Closed::OtherRegion);
        }
        let has_own = self.credential_of(tenant).is_some();
        if upstream.credential_of == CredentialOf::Tenant && !has_own {
            return Err(Closed::NoCredential);
        }
        let keeps_apart = match upstream.salting {
            Salting::Derived | Salting::Uncached => true,
            // By its own credential the tenant is a customer of its own.
            Salting::SharingAccepted => has_own || tenant.spec.accepts_shared_cache,
            Salting::Exclusive => upstream.exclusive_to.as_ref() == Some(&tenant.name),
        };
        if keeps_apart {
            Ok(())
        } else {
            Err(Closed::SharedCache)
        }
    }
}

impl Target {
    /// What a call names as its model.
    pub(crate) fn said_model(&self) -> &str {
        match &self.adapter {
            Some(adapter) => adapter.said_to(self.upstream.spec.engine),
            None => self.model.as_str(),
        }
    }

    /// Where LoRAX looks for the adapter, where a call says that.
    pub(crate) fn lorax_source(&self) -> Option<&'static str> {
        let adapter = self.adapter.as_ref()?;
        let says_so = self.upstream.spec.engine == Engine::Lorax;
        says_so.then(|| adapter.lorax_source())
    }

    /// The model's and adapter's revision: what may share a prefix's state.
    pub(crate) fn revision(&self) -> Cow<'_, str> {
        match &self.adapter {
            // No model's name has a NUL in it.
            Some(adapter) => format!("{}\0{}", self.model, adapter.engine_name).into(),
            None => self.model.as_str().into(),
        }
    }

    /// The tenant's own credential, where calls go with that.
    pub(crate) fn credential_of<'a>(&self, tenant: &'a TenantEntry) -> Option<&'a SecretText> {
        match self.upstream.spec.credential_of {
            CredentialOf::Installation => None,
            CredentialOf::Tenant | CredentialOf::TenantOrInstallation => {
                tenant.credential_for(&self.upstream.name)
            }
        }
    }
}

impl Route {
    /// The targets that are for this tenant: those of the first variant that names it, or else
    /// of the first that names its tier, or else the route's own.
    pub(crate) fn targets_of(&self, tenant: &TenantEntry) -> &Arc<[Target]> {
        let variants = &self.spec.variants;
        let by_name = |it: &RouteVariant| it.tenants.contains(&tenant.name);
        let by_tier = |it: &RouteVariant| it.tiers.contains(&tenant.spec.tier);
        variants
            .iter()
            .position(by_name)
            .or_else(|| variants.iter().position(by_tier))
            .map_or(&self.targets, |index| &self.variants[index])
    }

    /// The way of one call of this tenant. Draws by weight where targets have one.
    pub(crate) fn way(&self, tenant: &TenantEntry, entropy: &dyn Entropy) -> Way {
        let targets = Arc::clone(self.targets_of(tenant));
        let mut order: SmallVec<[u8; 8]> = SmallVec::new();
        let mut index = 0;
        while index < targets.len() {
            let group = targets[index..]
                .iter()
                .take_while(|target| target.weight.is_some())
                .count();
            if group < 2 {
                order.push(place(index));
                index += 1;
            } else {
                draw(&targets, index..index + group, entropy, &mut order);
                index += group;
            }
        }
        Way {
            targets,
            order,
            next: 0,
        }
    }
}

/// Draws the targets of a group by weight, without putting any back: the first is where the call
/// goes, the others are where it goes if it cannot.
fn draw(
    targets: &[Target],
    group: std::ops::Range<usize>,
    entropy: &dyn Entropy,
    order: &mut SmallVec<[u8; 8]>,
) {
    let weight = |index: usize| u64::from(targets[index].weight.unwrap_or(0));
    let mut left: SmallVec<[usize; 8]> = group.collect();
    while left.len() > 1 {
        let sum: u64 = left.iter().map(|index| weight(*index)).sum();
        // 64 random bits over a sum below 2^26: what the remainder favours cannot be measured.
        let mut drawn = entropy.next_u64() % sum.max(1);
        let chosen = left.iter().position(|index| {
            let is_it = drawn < weight(*index);
            drawn = drawn.saturating_sub(weight(*index));
            is_it
        });
        order.push(place(left.remove(chosen.unwrap_or(0))));
    }
    order.extend(left.into_iter().map(place));
}

fn place(index: usize) -> u8 {
    u8::try_from(index).expect("publishing refuses more than 64 targets")
}

/// The targets of one call, in the order in which it tries them.
#[derive(Debug, Clone)]
pub(crate) struct Way {
    targets: Arc<[Target]>,
    order: SmallVec<[u8; 8]>,
    next: usize,
}

impl Way {
    /// Where the call goes next; none once it has been everywhere.
    pub(crate) fn target(&self) -> Option<&Target> {
        let index = self.order.get(self.next)?;
        self.targets.get(usize::from(*index))
    }

    /// Begins anew: what refused the call once may take it later.
    pub(crate) fn restart(&mut self) {
        self.next = 0;
    }

    /// Leaves the target behind.
    pub(crate) fn advance(&mut self) {
        self.next += 1;
    }
}
