//! Which budgets and limits apply to a call: the tier's, and the tenant's own in their place.

use std::collections::BTreeMap;
use std::sync::Arc;

use base::{KeyId, ModelName, Name};
use hashbrown::HashMap;
use ledger::{
    AccountId, AccountTerms, AccountUse, LimitId, LimitTerms, LimitUse, RateTerms, RollingHours,
    SessionName, Subject as LedgerSubject, Window, Zone,
};
use parking_lot::Mutex;
use smallvec::SmallVec;
use tenancy::TenantEntry;
use tenancy::catalogue::{
    BudgetSpec, Dimension, LimitSpec, OnExhausted, Subject, TierSpec, WindowSpec,
};

use super::resolve::Inside;
use super::session::Purpose;
use crate::route::Route;

/// All that applies to one call.
#[derive(Debug, Default, Clone)]
pub(super) struct Terms {
    pub(super) budgets: SmallVec<[BudgetTerms; 4]>,
    pub(super) limits: SmallVec<[(LimitId, LimitTerms); 4]>,
}

/// One budget as it applies to one call.
#[derive(Debug, Clone)]
pub(super) struct BudgetTerms {
    pub(super) account: AccountId,
    pub(super) budget: Name,
    pub(super) subject: LedgerSubject,
    pub(super) terms: AccountTerms,
    pub(super) on_exhausted: OnExhausted,
    /// Whom it is for, as the catalogue says it.
    pub(super) subject_text: Subject,
}

/// A tenant's terms, by key, feature and model; of one version of the catalogue.
#[derive(Debug, Default)]
pub(crate) struct TermsCache {
    of_version: Mutex<(u64, HashMap<CacheIndex, Arc<Terms>>)>,
}

type CacheIndex = (KeyId, Name, ModelName);

/// 256 combinations of one tenant: beyond it they are found anew, which costs microseconds.
const CACHED_MAX: usize = 256;
/// The account that every call of a tenant has, so that a crash leaves no call uncounted even
/// where nothing is limited.
const EVERYTHING: &str = "everything";
/// The budget of a token with a spending cap.
const TOKEN_CAP: &str = "token-cap";

impl Inside {
    /// The terms of a call of `model`.
    pub(super) fn terms(&self, purpose: &Purpose, route: &Route) -> Arc<Terms> {
        let Some(key) = self.scope.grant().key_id() else {
            return Arc::new(self.find_terms(purpose, route));
        };
        // What differs from call to call is not worth keeping.
        let is_particular = purpose.session.is_some()
            || self
                .scope
                .grant()
                .token()
                .is_some_and(|token| token.spend_cap.is_some());
        if is_particular {
            return Arc::new(self.find_terms(purpose, route));
        }
        let version = self.configuration.snapshot.version();
        let index = (key, purpose.feature.clone(), route.model.clone());
        let mut cache = self.runtime.terms.of_version.lock();
        if cache.0 != version {
            *cache = (version, HashMap::new());
        }
        if let Some(found) = cache.1.get(&index) {
            return Arc::clone(found);
        }
        let found = Arc::new(self.find_terms(purpose, route));
        if cache.1.len() < CACHED_MAX {
            cache.1.insert(index, Arc::clone(&found));
        }
        found
    }

    fn find_terms(&self, purpose: &Purpose, route: &Route) -> Terms {
        let tier = &self.tier;
        let finder = Finder {
            inside: self,
            purpose,
            route,
        };
        let mut terms = Terms::default();
        finder.add_everything(&mut terms);
        for (name, budget) in in_force(&tier.budgets, &self.tenant.budgets) {
            finder.add_budget(name, budget, &mut terms);
        }
        for (name, limit) in in_force(&tier.limits, &self.tenant.limits) {
            finder.add_limit(name, limit, &mut terms);
        }
        finder.add_token_cap(&mut terms);
        terms
    }
}

/// The tier's entries that the tenant has none of the same name for, then the tenant's.
fn in_force<'a, T>(
    tier: &'a BTreeMap<Name, T>,
    own: &'a BTreeMap<Name, Arc<T>>,
) -> impl Iterator<Item = (&'a Name, &'a T)> {
    let inherited = tier.iter().filter(|(name, _)| !own.contains_key(*name));
    inherited.chain(own.iter().map(|(name, spec)| (name, &**spec)))
}

struct Finder<'a> {
    inside: &'a Inside,
    purpose: &'a Purpose,
    route: &'a Route,
}

impl Finder<'_> {
    fn add_everything(&self, terms: &mut Terms) {
        let name: Name = EVERYTHING.parse().expect("the constant is a name");
        let counted = AccountTerms {
            limit: None,
            window: Window::Total,
            soft_percent: 100,
            calls_max: None,
        };
        self.push(
            name,
            LedgerSubject::Tenant,
            counted,
            OnExhausted::Reject,
            Subject::Tenant,
            terms,
        );
    }

    fn add_budget(&self, name: &Name, spec: &BudgetSpec, terms: &mut Terms) {
        let Some(subject) = self.subject(&spec.subject) else {
            return;
        };
        let applied = AccountTerms {
            limit: Some(spec.limit),
            window: window(spec.window, &self.inside.tenant),
            soft_percent: spec.soft_percent,
            calls_max: spec.calls_max,
        };
        let on_exhausted = spec.on_exhausted.clone();
        self.push(
            name.clone(),
            subject,
            applied,
            on_exhausted,
            spec.subject.clone(),
            terms,
        );
    }

    fn add_token_cap(&self, terms: &mut Terms) {
        let Some(token) = self.inside.scope.grant().token() else {
            return;
        };
        let Some(cap) = token.spend_cap else { return };
        let session: SessionName = token
            .jti
            .to_string()
            .parse()
            .expect("a token's id is short and ASCII");
        let name: Name = TOKEN_CAP.parse().expect("the constant is a name");
        let applied = AccountTerms {
            limit: Some(cap),
            window: Window::Total,
            soft_percent: 100,
            calls_max: None,
        };
        let subject = LedgerSubject::Session(session);
        self.push(
            name,
            subject,
            applied,
            OnExhausted::Reject,
            Subject::Tenant,
            terms,
        );
    }

    fn push(
        &self,
        budget: Name,
        subject: LedgerSubject,
        applied: AccountTerms,
        on_exhausted: OnExhausted,
        subject_text: Subject,
        terms: &mut Terms,
    ) {
        let account = AccountId::of(self.inside.tenant.id(), &budget, &subject);
        terms.budgets.push(BudgetTerms {
            account,
            budget,
            subject,
            terms: applied,
            on_exhausted,
            subject_text,
        });
    }

    fn add_limit(&self, name: &Name, spec: &LimitSpec, terms: &mut Terms) {
        // What limits a model limits the adapters on it too.
        let named = |model: &ModelName| {
            *model == self.route.model || Some(model) == self.route.base.as_ref()
        };
        if !spec.model.as_ref().is_none_or(named) {
            return;
        }
        let Some(subject) = self.subject(&spec.subject) else {
            return;
        };
        let rate = |per_minute: Option<u64>| {
            per_minute.and_then(|rate| RateTerms::per_minute(rate.min(ledger::RATE_MAX)).ok())
        };
        let applied = LimitTerms {
            requests: rate(spec.requests_per_minute),
            tokens: rate(spec.tokens_per_minute),
            in_flight_max: spec.concurrency,
        };
        // Two limits of one subject count apart, so the name is a part of what is counted.
        let named = LedgerSubject::Feature(name.clone());
        let limit = LimitId::of(self.inside.tenant.id(), &[named, subject]);
        terms.limits.push((limit, applied));
    }

    /// The call's own subject along the axis that a budget or limit is about, if it counts.
    fn subject(&self, of: &Subject) -> Option<LedgerSubject> {
        let grant = self.inside.scope.grant();
        let tenant = &self.inside.tenant;
        match of {
            Subject::Tenant => Some(LedgerSubject::Tenant),
            Subject::One(Dimension::Team, name) => {
                let team = grant
                    .team()
                    .filter(|team| tenant.team_id(name) == Some(*team))?;
                Some(LedgerSubject::Team(team))
            }
            Subject::One(Dimension::User, name) => {
                let user = grant
                    .user()
                    .filter(|user| tenant.user_id(name) == Some(*user))?;
                Some(LedgerSubject::User(user))
            }
            Subject::One(Dimension::Key, name) => {
                let key = grant.key().filter(|key| key.name == *name)?;
                Some(LedgerSubject::Key(key.id))
            }
            Subject::One(Dimension::Feature, name) => {
                (self.purpose.feature == *name).then(|| LedgerSubject::Feature(name.clone()))
            }
            Subject::One(Dimension::Session | Dimension::Turn, _) => None,
            Subject::Each(Dimension::Team) => grant.team().map(LedgerSubject::Team),
            Subject::Each(Dimension::User) => grant.user().map(LedgerSubject::User),
            Subject::Each(Dimension::Key) => grant.key_id().map(LedgerSubject::Key),
            Subject::Each(Dimension::Feature) => {
                Some(LedgerSubject::Feature(self.purpose.feature.clone()))
            }
            Subject::Each(Dimension::Session) => {
                self.purpose.session.clone().map(LedgerSubject::Session)
            }
            Subject::Each(Dimension::Turn) => {
                let session = self.purpose.session.clone()?;
                self.purpose
                    .turn
                    .clone()
                    .map(|turn| LedgerSubject::Turn { session, turn })
            }
        }
    }
}

fn window(spec: WindowSpec, tenant: &TenantEntry) -> Window {
    let zone = || {
        tenant
            .spec
            .zone
            .parse::<Zone>()
            .expect("publishing checks a tenant's zone")
    };
    match spec {
        WindowSpec::Total => Window::Total,
        WindowSpec::Daily => Window::Daily { zone: zone() },
        WindowSpec::Monthly => Window::Monthly { zone: zone() },
        WindowSpec::Rolling { hours } => Window::Rolling {
            hours: RollingHours::try_from(hours).expect("parsing checks the hours"),
        },
    }
}

impl Terms {
    /// The accounts, as the ledger takes them.
    pub(super) fn accounts(&self) -> SmallVec<[AccountUse<'_>; 4]> {
        let uses = self.budgets.iter().map(|budget| AccountUse {
            account: budget.account,
            budget: &budget.budget,
            subject: &budget.subject,
            terms: &budget.terms,
        });
        uses.collect()
    }

    /// The limits, as the ledger takes them.
    pub(super) fn limits(&self) -> SmallVec<[LimitUse<'_>; 4]> {
        self.limits
            .iter()
            .map(|(limit, terms)| LimitUse {
                limit: *limit,
                terms,
            })
            .collect()
    }

    /// The same for a hop whose parent has its place among the calls in flight: theirs is one, and
    /// a hop that waited for a second would wait for its own parent.
    pub(super) fn without_places(&self) -> Self {
        let mut terms = self.clone();
        for (_, limit) in &mut terms.limits {
            limit.in_flight_max = None;
        }
        terms
    }

    /// The budget behind an account.
    pub(super) fn budget(&self, account: AccountId) -> Option<&BudgetTerms> {
        self.budgets.iter().find(|budget| budget.account == account)
    }

    /// Whether any budget limits money, so that what has no bound must be refused.
    pub(super) fn limits_money(&self) -> bool {
        self.budgets
            .iter()
            .any(|budget| budget.terms.limit.is_some())
    }
}

/// How long the tier lets an interactive call wait.
pub(super) fn patience(tier: &TierSpec) -> std::time::Duration {
    std::time::Duration::from_millis(tier.wait_ms_max)
}
