//! The twins: two tenants who are alike in everything but their id and their canary.

use base::{KeyId, Name, PicoUsd, TenantId, Timestamp};
use ledger::{
    AccountId, AccountTerms, AccountUse, LimitId, LimitTerms, Price, PriceVersion, RateTerms,
    RollingHours, Subject, Window,
};

/// How many tenants there are.
pub(crate) const TENANTS: usize = 2;
/// How many sessions each has.
const SESSIONS: usize = 2;
/// Of a tenant's accounts: the tenant's own, whose window is the total.
pub(crate) const TENANT_ACCOUNT: usize = 0;
/// The key's, whose window rolls.
const KEY_ACCOUNT: usize = 1;
/// The sessions' accounts begin here.
const FIRST_SESSION: usize = 2;
/// Calls at the same time.
pub(crate) const IN_FLIGHT_MAX: u32 = 12;

/// One of the twins.
#[derive(Debug)]
pub(crate) struct Tenant {
    pub(crate) id: TenantId,
    /// Stands in each of its calls, and may stand in no line of its twin.
    pub(crate) canary: Name,
    pub(crate) key: KeyId,
    pub(crate) budgets: Vec<Budget>,
    pub(crate) limit: LimitId,
    pub(crate) limit_terms: LimitTerms,
}

/// A budget for one subject.
#[derive(Debug)]
pub(crate) struct Budget {
    pub(crate) account: AccountId,
    name: Name,
    pub(crate) subject: Subject,
    pub(crate) terms: AccountTerms,
}

impl Budget {
    fn new(tenant: TenantId, name: &str, subject: Subject, terms: AccountTerms) -> Self {
        let name: Name = name.parse().expect("a plain name");
        Self {
            account: AccountId::of(tenant, &name, &subject),
            name,
            subject,
            terms,
        }
    }

    pub(crate) fn used(&self) -> AccountUse<'_> {
        AccountUse {
            account: self.account,
            budget: &self.name,
            subject: &self.subject,
            terms: &self.terms,
        }
    }
}

impl Tenant {
    fn new(number: usize) -> Self {
        let id = TenantId::from_bits(0xa0 + number as u128);
        // The twins' keys are named alike: ids mean something inside a tenant alone.
        let key = KeyId::from_bits(1);
        let hours = RollingHours::try_from(24).expect("a day");
        let terms = |limit, window, calls_max| AccountTerms {
            limit: Some(limit),
            window,
            soft_percent: 80,
            calls_max,
        };
        let total = terms(milli_dollars(600), Window::Total, None);
        let rolling = terms(milli_dollars(250), Window::Rolling { hours }, None);
        let mut budgets = vec![
            Budget::new(id, "tenant", Subject::Tenant, total),
            Budget::new(id, "key", Subject::Key(key), rolling),
        ];
        for number in 0..SESSIONS {
            let name = format!("session-{number}").parse().expect("a plain name");
            let session = terms(milli_dollars(250), Window::Total, Some(60));
            budgets.push(Budget::new(id, "session", Subject::Session(name), session));
        }
        let rate = |per_minute| Some(RateTerms::per_minute(per_minute).expect("a small rate"));
        Self {
            id,
            canary: format!("canary-{number}").parse().expect("a plain name"),
            key,
            budgets,
            limit: LimitId::of(id, &[Subject::Tenant]),
            limit_terms: LimitTerms {
                requests: rate(3_000),
                tokens: rate(3_000_000),
                in_flight_max: Some(IN_FLIGHT_MAX),
            },
        }
    }

    /// The accounts of a call in one of the sessions.
    pub(crate) fn accounts_of_call(draw: u64) -> Vec<usize> {
        vec![
            TENANT_ACCOUNT,
            KEY_ACCOUNT,
            FIRST_SESSION + draw as usize % SESSIONS,
        ]
    }
}

/// The twins.
pub(crate) fn twins() -> Vec<Tenant> {
    (0..TENANTS).map(Tenant::new).collect()
}

/// What the one model costs.
pub(crate) fn price() -> Price {
    Price {
        version: PriceVersion(1),
        effective_from: Timestamp::from_micros(0),
        input: PicoUsd::new(2_500_000),
        output: PicoUsd::new(10_000_000),
        cached_read: Some(PicoUsd::new(1_250_000)),
        cached_write: Some(PicoUsd::new(3_125_000)),
        cached_write_1h: Some(PicoUsd::new(5_000_000)),
        image: None,
        request: PicoUsd::new(100),
        long_prompts: None,
    }
}

const fn milli_dollars(count: i128) -> PicoUsd {
    PicoUsd::new(count * 1_000_000_000)
}
