//! One version of the catalogue, compiled for the data path.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use base::{ModelName, Name, TenantId};
use ledger::{LongPrompts, Price, PriceList, PriceVersion};
use models::{Bounds, Envelope};
use tenancy::catalogue::{Address, Kind, PriceSpec, PromptText, RouteTarget};
use tenancy::{Problem, Snapshot, TenantEntry};

use crate::fairness::TenantTerms;
use crate::inspect::GuardSet;
use crate::prompt::PromptTemplate;
use crate::route::{Route, Target};
use crate::upstream::{Upstream, UpstreamParts, terms_of};

/// What a request reads from arrival to end: immutable (invariant 14).
#[derive(Debug)]
pub struct Configuration {
    /// The catalogue's version that this was compiled from.
    pub snapshot: Arc<Snapshot>,
    upstreams: BTreeMap<Name, Arc<Upstream>>,
    routes: HashMap<ModelName, Arc<Route>, foldhash::fast::FixedState>,
    /// By `provider/model`, or `provider/adapters/tenant/adapter`.
    prices: BTreeMap<ModelName, Arc<PriceList>>,
}

impl Configuration {
    /// Compiles a snapshot. Upstreams that did not change keep their connections.
    ///
    /// # Errors
    ///
    /// Every resource that cannot be used, with the reason.
    pub fn compile(
        snapshot: Arc<Snapshot>,
        previous: Option<&Self>,
        parts: &UpstreamParts,
    ) -> Result<Self, Vec<Problem>> {
        let mut problems = Vec::new();
        let mut refuse = |kind, name: &str, message: String| {
            problems.push(Problem {
                address: Address::platform(kind, name),
                message,
            });
        };

        let mut upstreams = BTreeMap::new();
        for (name, spec) in snapshot.upstreams() {
            let kept = previous.and_then(|previous| previous.upstreams.get(name));
            if let Some(kept) = kept.filter(|kept| kept.is_same(spec)) {
                upstreams.insert(name.clone(), Arc::clone(kept));
                continue;
            }
            match Upstream::new(
                name.clone(),
                (**spec).clone(),
                parts,
                kept.map(|kept| &**kept),
            ) {
                Ok(upstream) => drop(upstreams.insert(name.clone(), Arc::new(upstream))),
                Err(error) => refuse(Kind::Upstream, name.as_str(), error.to_string()),
            }
        }

        let mut prices = BTreeMap::new();
        for (name, spec) in snapshot.prices() {
            match price_list(spec) {
                Ok(list) => drop(prices.insert(name.clone(), Arc::new(list))),
                Err(message) => refuse(Kind::Price, name.as_str(), message),
            }
        }

        let target = |target: &RouteTarget| {
            let upstream = Arc::clone(upstreams.get(&target.upstream)?);
            let price = format!("{}/{}", upstream.provider, target.model);
            Some(Target {
                prices: prices.get(price.as_str()).cloned(),
                model: target.model.clone(),
                adapter: None,
                weight: target.weight,
                upstream,
            })
        };
        let targets = |of: &[RouteTarget]| of.iter().filter_map(target).collect();
        let routes = snapshot.routes().iter().map(|(model, spec)| {
            let variants = spec.variants.iter();
            let route = Route {
                model: model.clone(),
                base: None,
                spec: Arc::clone(spec),
                targets: targets(&spec.targets),
                variants: variants.map(|variant| targets(&variant.targets)).collect(),
            };
            (model.clone(), Arc::new(route))
        });
        let routes = routes.collect();

        if problems.is_empty() {
            Ok(Self {
                snapshot,
                upstreams,
                routes,
                prices,
            })
        } else {
            Err(problems)
        }
    }

    /// What of a tenant's own parts cannot be used: a prompt template that does not compile,
    /// parameters that only the gateway may set, guardrails.
    pub fn check_tenant(tenant: &TenantEntry) -> Vec<Problem> {
        let mut problems: Vec<Problem> = Self::check_config(tenant).err().into_iter().collect();
        let guardrails = tenant.guardrails.as_deref();
        if let Some(Err(refused)) = guardrails.map(GuardSet::compile) {
            problems.extend(refused.into_iter().map(|(name, error)| Problem {
                address: Address::in_tenant(tenant.id(), Kind::Guardrail, name.as_str()),
                message: error.to_string(),
            }));
        }
        let prompts = tenant.prompts.iter().flat_map(|prompts| prompts.iter());
        for (name, spec) in prompts {
            let of_versions = spec.versions.iter().filter_map(|(version, text)| {
                let problem = check_prompt(text)?;
                Some(Problem {
                    address: Address::in_tenant(tenant.id(), Kind::Prompt, name.as_str()),
                    message: format!("version {version}: {problem}"),
                })
            });
            problems.extend(of_versions);
        }
        problems
    }

    /// The first that is wrong with a tenant's configuration.
    fn check_config(tenant: &TenantEntry) -> Result<(), Problem> {
        let config = &tenant.config;
        let problem = |message: String| Problem {
            address: Address::in_tenant(tenant.id(), Kind::Config, Kind::Config.as_str()),
            message,
        };
        for parameters in [&config.default_parameters, &config.forced_parameters] {
            let text = serde_json::to_vec(parameters).expect("JSON values have a text");
            Envelope::parse(text.into(), &Bounds::default())
                .map_err(|error| problem(format!("a parameter cannot be set: {error}")))?;
        }
        match &config.system_prompt {
            Some(source) => PromptTemplate::compile(source)
                .map(drop)
                .map_err(|error| problem(error.to_string())),
            None => Ok(()),
        }
    }

    /// Says how many calls each upstream takes at one time, and keeps places there for the tenants whose tiers reserve some, from before their first
    /// call on.
    pub fn reserve_places(&self) {
        let mut reserved: HashMap<&Name, hashbrown::HashMap<TenantId, TenantTerms>> = self
            .upstreams
            .keys()
            .map(|name| (name, hashbrown::HashMap::new()))
            .collect();
        for tenant in self.snapshot.tenants() {
            let terms = terms_of(self.snapshot.tier_of(tenant));
            if terms.reserved == 0 {
                continue;
            }
            let targets = self
                .routes_of(tenant)
                .flat_map(|route| route.targets_of(tenant).iter());
            for target in targets.filter(|target| target.open_to(tenant).is_ok()) {
                if let Some(reserved) = reserved.get_mut(&target.upstream.name) {
                    reserved.insert(tenant.id(), terms);
                }
            }
        }
        self.upstreams.values().for_each(|it| it.set_places());
        for (name, reserved) in reserved {
            self.upstreams[name].gate.reserve(reserved);
        }
    }

    /// Every upstream.
    pub(crate) fn upstreams(&self) -> impl Iterator<Item = &Arc<Upstream>> {
        self.upstreams.values()
    }

    /// Closes those of the upstreams' kept connections that have grown useless.
    pub fn sweep_idle(&self) {
        self.upstreams
            .values()
            .for_each(|upstream| upstream.sweep_idle());
    }

    /// Closes the upstreams' kept connections.
    pub fn close_idle(&self) {
        self.upstreams
            .values()
            .for_each(|upstream| upstream.close_idle());
    }

    /// What something costs, by the name of its price.
    pub(crate) fn prices(&self, name: &str) -> Option<&Arc<PriceList>> {
        self.prices.get(name)
    }

    /// Lets engines unload the adapters that their tenants no longer have.
    pub(crate) fn keep_adapters(&self) {
        for upstream in self.upstreams() {
            if let Some(shelf) = &upstream.adapters {
                shelf.keep_those_in(upstream, &self.snapshot);
            }
        }
    }

    /// The route of a model name, if this tenant's tier may use it.
    pub fn route(&self, model: &str, tenant: &TenantEntry) -> Option<&Arc<Route>> {
        let route = self.routes.get(model)?;
        let tiers = &route.spec.tiers;
        (tiers.is_empty() || tiers.contains(&tenant.spec.tier)).then_some(route)
    }

    /// Every route that this tenant's tier may use.
    pub fn routes_of<'a>(
        &'a self,
        tenant: &'a TenantEntry,
    ) -> impl Iterator<Item = &'a Arc<Route>> {
        self.routes.values().filter(|route| {
            let tiers = &route.spec.tiers;
            tiers.is_empty() || tiers.contains(&tenant.spec.tier)
        })
    }
}

/// Why a version of a prompt cannot be used.
fn check_prompt(text: &PromptText) -> Option<String> {
    let template = match PromptTemplate::compile(&text.template) {
        Ok(template) => template,
        Err(error) => return Some(error.to_string()),
    };
    let unknown = template.unknown_names(|name| text.variables.contains_key(name));
    let first = unknown.first()?;
    Some(format!(
        "`{first}` is asked for and no variable: declare it in `variables`"
    ))
}

fn price_list(spec: &PriceSpec) -> Result<PriceList, String> {
    let prices = spec.entries.iter().map(|entry| Price {
        version: PriceVersion(entry.version),
        effective_from: entry.effective_from,
        input: entry.input,
        output: entry.output,
        cached_read: entry.cached_read,
        cached_write: entry.cached_write,
        cached_write_1h: entry.cached_write_1h,
        image: entry.image,
        request: entry.request.unwrap_or_default(),
        long_prompts: entry.long_prompts.as_ref().map(|long| LongPrompts {
            above_tokens: long.above_tokens,
            input: long.input,
            output: long.output,
            cached_read: long.cached_read,
            cached_write: long.cached_write,
            cached_write_1h: long.cached_write_1h,
        }),
    });
    PriceList::new(prices.collect()).map_err(|error| error.to_string())
}
