//! Who calls, and whether the call may reach its endpoint.
//!
//! Absent and forbidden are the same for a tenant's key: whatever is not inside its own tenant,
//! or not allowed to it, is not there. An operator is told what is wrong.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use axum::extract::ConnectInfo;
use axum::http::HeaderMap;
use axum::http::header::{AUTHORIZATION, HeaderName};
use axum::http::request::Parts;
use base::{Name, TenantId};
use tenancy::catalogue::KeySpec;
use tenancy::{
    AuthError, Authority, Caller as Identity, OperatorPrincipal, Permission, PresentedCredential,
    Principal, Role, Snapshot, TenantEntry, VouchingKey,
};

use crate::Control;
use crate::endpoint::Reach;
use crate::error::ApiError;

/// Who calls an endpoint, once that is allowed.
pub(crate) enum Caller {
    /// Anybody: the endpoint is public.
    Anybody,
    /// An operator or auditor.
    Operator(OperatorPrincipal),
    /// An administrator of the tenant in the path.
    TenantAdmin(Principal),
}

impl Caller {
    /// Who did it, for the record: `operator:ada`, `key:prod`.
    pub(crate) fn actor(&self) -> String {
        match self {
            Self::Anybody => "anybody".to_owned(),
            Self::Operator(operator) => format!("operator:{}", operator.name()),
            Self::TenantAdmin(principal) => {
                let key = principal.grant().key().map(|key| key.name.clone());
                format!(
                    "key:{}/{}",
                    principal.tenant().name,
                    key.as_ref().map_or("", Name::as_str)
                )
            }
        }
    }

    /// The key that calls; none for operators, whom no key bounds.
    pub(crate) fn key(&self) -> Option<KeySpec> {
        match self {
            Self::TenantAdmin(principal) => principal.grant().key().map(|key| key.spec()),
            Self::Anybody | Self::Operator(_) => None,
        }
    }
}

/// Somebody who may see pages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Visitor {
    /// An operator or auditor, by name.
    Platform(Name, Role),
    /// A tenant's administrator: the tenant's name and id, and the key's name.
    TenantAdmin(Name, TenantId, Name),
}

/// Who has presented a credential, if pages are for them.
pub(crate) fn recognise(control: &Control, snapshot: &Snapshot, parts: &Parts) -> Option<Visitor> {
    let identity = identify(control, snapshot, parts).map_err(|error| {
        tracing::debug!(%error, "a visitor of the dashboard was not recognised");
    });
    match identity.ok()? {
        Identity::Operator(operator) => {
            Some(Visitor::Platform(operator.name().clone(), operator.role()))
        }
        Identity::Tenant(principal) => {
            let key = principal.grant().key().filter(|_| is_admin(&principal))?;
            let tenant = principal.tenant();
            Some(Visitor::TenantAdmin(
                tenant.name.clone(),
                tenant.id(),
                key.name.clone(),
            ))
        }
    }
}

/// Verifies the credential, then the right to this endpoint; and finds the tenant in the path.
pub(crate) fn admit(
    control: &Control,
    snapshot: &Snapshot,
    reach: Reach,
    tenant_name: Option<&str>,
    parts: &Parts,
) -> Result<(Caller, Option<Arc<TenantEntry>>), ApiError> {
    if reach == Reach::Public {
        return Ok((Caller::Anybody, None));
    }
    let identity = identify(control, snapshot, parts).map_err(|error| {
        tracing::debug!(%error, "an admin call was refused");
        ApiError::Unauthenticated
    })?;
    match identity {
        Identity::Operator(operator) => admit_operator(snapshot, reach, tenant_name, operator),
        Identity::Tenant(principal) => admit_tenant(reach, tenant_name, principal),
    }
}

fn identify(control: &Control, snapshot: &Snapshot, parts: &Parts) -> Result<Identity, AuthError> {
    let authorization = only(&parts.headers, &AUTHORIZATION)?;
    let tokens = control.publisher.token_keys.shared();
    let tokens = tokens.load();
    let authority = Authority {
        snapshot,
        hasher: &control.hasher,
        tokens: &tokens,
    };
    if let Some(word) = authorization.and_then(word) {
        let vouching = &control.dashboard.vouching;
        return authority.identify_vouched(word, vouching, control.clock.now());
    }
    let x_api_key = only(&parts.headers, &HeaderName::from_static("x-api-key"))?;
    let presented = PresentedCredential::from_headers(authorization, x_api_key)?;
    // Without an address a key that is bound to some is refused: none of them is this one.
    let peer = parts
        .extensions
        .get::<ConnectInfo<SocketAddr>>()
        .map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |peer| peer.0.ip());
    // Tokens reach nothing here; that they are good is found out all the same.
    authority.identify(&presented, peer, control.clock.now())
}

/// What the dashboard itself presents for somebody whom the identity provider vouches for.
fn word(authorization: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(authorization).ok()?;
    let word = text.strip_prefix("Bearer ")?;
    VouchingKey::claims(word).then_some(word)
}

/// The header's value; refused if it is repeated, since others could read the other one.
fn only<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a [u8]>, AuthError> {
    let mut values = headers.get_all(name).iter();
    let first = values.next().map(|value| value.as_bytes());
    if values.next().is_some() {
        Err(AuthError::Malformed)
    } else {
        Ok(first)
    }
}

fn admit_operator(
    snapshot: &Snapshot,
    reach: Reach,
    tenant_name: Option<&str>,
    operator: OperatorPrincipal,
) -> Result<(Caller, Option<Arc<TenantEntry>>), ApiError> {
    let (Reach::Platform(permission) | Reach::Tenant(permission)) = reach else {
        return Err(ApiError::NotFound);
    };
    if !operator.allows(permission) {
        return Err(ApiError::Forbidden);
    }
    let tenant = match tenant_name {
        Some(name) => Some(Arc::clone(
            snapshot.tenant_named(name).ok_or(ApiError::NotFound)?,
        )),
        None => None,
    };
    Ok((Caller::Operator(operator), tenant))
}

fn admit_tenant(
    reach: Reach,
    tenant_name: Option<&str>,
    principal: Principal,
) -> Result<(Caller, Option<Arc<TenantEntry>>), ApiError> {
    let Reach::Tenant(permission) = reach else {
        return Err(ApiError::NotFound);
    };
    let tenant = Arc::clone(principal.tenant());
    let is_own = tenant_name == Some(tenant.name.as_str());
    if is_own && is_admin(&principal) && principal.grant().allows(permission) {
        Ok((Caller::TenantAdmin(principal), Some(tenant)))
    } else {
        Err(ApiError::NotFound)
    }
}

/// Members and services have permissions too, but what they ask for here is about others.
fn is_admin(principal: &Principal) -> bool {
    principal
        .grant()
        .key()
        .is_some_and(|key| key.role == Role::TenantAdmin)
}

/// What a new or changed key would be able to do that the key which makes it is not: rights are
/// passed on, never widened.
pub(crate) fn widening(issuer: &KeySpec, key: &KeySpec) -> Option<&'static str> {
    fn is_wider<T: PartialEq>(issuer: &[T], key: &[T]) -> bool {
        !issuer.is_empty() && (key.is_empty() || key.iter().any(|item| !issuer.contains(item)))
    }
    let held = Permission::ALL.into_iter();
    if held
        .into_iter()
        .any(|p| key.role.allows(p) && !issuer.role.allows(p))
    {
        return Some("role");
    }
    if is_wider(&issuer.models, &key.models) {
        return Some("models");
    }
    if is_wider(&issuer.features, &key.features) {
        return Some("features");
    }
    let ranges = &issuer.networks;
    let is_inside = |net| {
        ranges
            .iter()
            .any(|range: &ipnet::IpNet| range.contains(net))
    };
    if !ranges.is_empty() && (key.networks.is_empty() || !key.networks.iter().all(is_inside)) {
        return Some("networks");
    }
    match (issuer.expires_at, key.expires_at) {
        (Some(_), None) => Some("expires_at"),
        (Some(issuer), Some(key)) if key > issuer => Some("expires_at"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use base::{KeyId, Timestamp};
    use tenancy::KeyHash;

    use super::*;

    fn key(role: Role) -> KeySpec {
        KeySpec {
            id: KeyId::from_bits(1),
            hash: KeyHash::from_bytes([1; 32]),
            retiring: None,
            role,
            team: None,
            user: None,
            expires_at: None,
            revoked: false,
            models: Vec::new().into(),
            features: Vec::new().into(),
            default_feature: None,
            networks: Vec::new().into(),
        }
    }

    #[test]
    fn rights_are_passed_on_and_never_widened() {
        let free = key(Role::TenantAdmin);
        let bound = KeySpec {
            models: ["a".parse().unwrap(), "b".parse().unwrap()].into(),
            features: ["f".parse().unwrap()].into(),
            networks: ["10.0.0.0/8".parse().unwrap()].into(),
            expires_at: Some(Timestamp::from_micros(5)),
            ..key(Role::TenantAdmin)
        };
        assert_eq!(widening(&free, &bound), None);
        assert_eq!(widening(&bound, &bound), None);
        let narrower = KeySpec {
            role: Role::Service,
            models: ["a".parse().unwrap()].into(),
            networks: ["10.1.0.0/16".parse().unwrap()].into(),
            expires_at: Some(Timestamp::from_micros(4)),
            ..bound.clone()
        };
        assert_eq!(widening(&bound, &narrower), None);
        let wider = [
            (
                "models",
                KeySpec {
                    models: Vec::new().into(),
                    ..bound.clone()
                },
            ),
            (
                "models",
                KeySpec {
                    models: ["c".parse().unwrap()].into(),
                    ..bound.clone()
                },
            ),
            (
                "features",
                KeySpec {
                    features: Vec::new().into(),
                    ..bound.clone()
                },
            ),
            (
                "networks",
                KeySpec {
                    networks: Vec::new().into(),
                    ..bound.clone()
                },
            ),
            (
                "networks",
                KeySpec {
                    networks: ["0.0.0.0/0".parse().unwrap()].into(),
                    ..bound.clone()
                },
            ),
            (
                "expires_at",
                KeySpec {
                    expires_at: None,
                    ..bound.clone()
                },
            ),
            (
                "role",
                KeySpec {
                    role: Role::Operator,
                    ..bound.clone()
                },
            ),
        ];
        for (field, key) in wider {
            assert_eq!(widening(&bound, &key), Some(field));
        }
    }
}
