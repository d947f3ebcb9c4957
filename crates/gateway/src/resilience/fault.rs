//! Whose fault a failed call is.

use std::time::Duration;

use http::StatusCode;

/// With whose credential a call was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Credential {
    /// The tenant's own: its refusals and quotas are the tenant's affair.
    Tenant,
    /// The operator's, shared by tenants: its refusals and quotas concern all of them.
    Shared,
}

/// How a call of an upstream ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CallEnd {
    /// An answer came, with this status.
    Answered(StatusCode),
    /// No connection: refused, no route, no name, TLS failed, or too slow.
    NoConnection,
    /// The call was sent and no answer began in time.
    TimedOut,
    /// The connection ended before the answer did.
    Broken,
    /// The client went away, or the gateway cut the call: says nothing of anybody.
    Abandoned,
}

/// A failure that is the tenant's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TenantFault {
    /// The upstream refuses its credential: 401, 403, 407.
    Credential,
    /// Its quota with the upstream is used up: 429, 402.
    Quota,
    /// Its request is refused: any other 4xx. Says nothing of later ones.
    Request,
}

/// A failure that is the upstream's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProviderFault {
    /// It cannot be reached, or not in time.
    Unreachable,
    /// It began and did not end, or did not begin.
    Silent,
    /// It says that it failed: 5xx.
    Failed,
    /// It says that it has too much to do: 503, 529, or 429 to the shared credential.
    Overloaded,
    /// It refuses the operator's credential: 401, 403.
    Credential,
}

/// What a call's end says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The upstream works.
    None,
    /// The upstream works; the tenant does something wrong.
    Tenant(TenantFault),
    /// The upstream does not work as it should.
    Provider(ProviderFault),
    /// Nothing can be said.
    Unknown,
}

/// 529: "overloaded", as Anthropic answers it.
const OVERLOADED: u16 = 529;

/// Whose fault the end of a call is.
pub fn classify(end: CallEnd, credential: Credential) -> Fault {
    let status = match end {
        CallEnd::Answered(status) => status,
        CallEnd::NoConnection => return Fault::Provider(ProviderFault::Unreachable),
        CallEnd::TimedOut | CallEnd::Broken => return Fault::Provider(ProviderFault::Silent),
        CallEnd::Abandoned => return Fault::Unknown,
    };
    match (status.as_u16(), credential) {
        (401 | 403 | 407, Credential::Tenant) => Fault::Tenant(TenantFault::Credential),
        (401 | 403 | 407, Credential::Shared) => Fault::Provider(ProviderFault::Credential),
        (402 | 429, Credential::Tenant) => Fault::Tenant(TenantFault::Quota),
        (402 | 429 | 503 | OVERLOADED, _) => Fault::Provider(ProviderFault::Overloaded),
        // 408: the upstream gave up on us; 425: it asks for another try.
        (408 | 425, _) => Fault::Provider(ProviderFault::Silent),
        (400..=499, _) => Fault::Tenant(TenantFault::Request),
        (500..=599, _) => Fault::Provider(ProviderFault::Failed),
        _ => Fault::None,
    }
}

impl Fault {
    /// Whether the same call may succeed on another try, here or elsewhere.
    pub const fn is_worth_a_retry(self) -> bool {
        match self {
            Self::Provider(fault) => !matches!(fault, ProviderFault::Credential),
            Self::None | Self::Tenant(_) | Self::Unknown => false,
        }
    }

    /// Whether calls of the same tenant are likely to fail as well, whoever's fault it is.
    pub const fn will_recur(self) -> bool {
        match self {
            Self::Provider(_) => true,
            Self::Tenant(fault) => !matches!(fault, TenantFault::Request),
            Self::None | Self::Unknown => false,
        }
    }

    /// Whether it is evidence against the upstream itself.
    pub const fn is_providers(self) -> bool {
        matches!(self, Self::Provider(_))
    }
}

/// What an upstream may ask for at most: an hour. More is a mistake or an attack.
pub(super) const RETRY_AFTER_MAX: Duration = Duration::from_secs(3_600);

#[cfg(test)]
mod tests {
    use super::*;

    fn of(status: u16, credential: Credential) -> Fault {
        let status = StatusCode::from_u16(status).expect("a status");
        classify(CallEnd::Answered(status), credential)
    }

    #[test]
    fn a_tenants_own_credential_and_quota_are_its_own_affair() {
        use Credential::{Shared, Tenant};
        let table = [
            (200, Tenant, Fault::None),
            (401, Tenant, Fault::Tenant(TenantFault::Credential)),
            (403, Tenant, Fault::Tenant(TenantFault::Credential)),
            (429, Tenant, Fault::Tenant(TenantFault::Quota)),
            (400, Tenant, Fault::Tenant(TenantFault::Request)),
            (404, Shared, Fault::Tenant(TenantFault::Request)),
            (422, Shared, Fault::Tenant(TenantFault::Request)),
            (401, Shared, Fault::Provider(ProviderFault::Credential)),
            (429, Shared, Fault::Provider(ProviderFault::Overloaded)),
            (503, Tenant, Fault::Provider(ProviderFault::Overloaded)),
            (529, Tenant, Fault::Provider(ProviderFault::Overloaded)),
            (500, Tenant, Fault::Provider(ProviderFault::Failed)),
            (504, Shared, Fault::Provider(ProviderFault::Failed)),
        ];
        for (status, credential, fault) in table {
            assert_eq!(of(status, credential), fault, "{status} {credential:?}");
        }
    }

    #[test]
    fn what_never_answered_is_the_providers_and_what_the_client_left_is_nobodys() {
        for end in [CallEnd::NoConnection, CallEnd::TimedOut, CallEnd::Broken] {
            assert!(classify(end, Credential::Tenant).is_providers());
        }
        let left = classify(CallEnd::Abandoned, Credential::Tenant);
        assert_eq!(left, Fault::Unknown);
        assert!(!left.is_worth_a_retry() && !left.will_recur());
    }
}
