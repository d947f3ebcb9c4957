//! Exchanging a key for a token with fewer rights (RFC 8693), without the HTTP around it.

use base::{Clock, Entropy, ModelName, Name, PicoUsd};

use super::{TOKEN_BYTES_MAX, TOKEN_LIFETIME_SECONDS_MAX, TokenClaims, TokenId, TokenKeys};
use crate::authenticate::Principal;
use crate::roles::Permission;

/// What the token is to be good for. Every field can only take away.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExchangeRequest {
    /// The models it may call; none means the key's own, and an empty list means none at all.
    pub models: Option<Vec<ModelName>>,
    /// The features it may name; as above.
    pub features: Option<Vec<Name>>,
    /// What it may spend in all; none means what the key may.
    pub spend_cap: Option<PicoUsd>,
    /// For how long, 1 to 300 seconds; less if the key ends before.
    pub lifetime_seconds: u32,
}

/// A new token: for the response, and shown nowhere else.
pub struct IssuedToken {
    /// The token itself.
    pub token: String,
    /// What it says.
    pub claims: TokenClaims,
}

impl std::fmt::Debug for IssuedToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "IssuedToken({}, [redacted])", self.claims.jti)
    }
}

/// Why no token was issued.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ExchangeError {
    /// The role does not allow it, or a token was presented in place of a key.
    #[error("this credential cannot be exchanged: present an API key")]
    NotAllowed,
    /// Zero, or above five minutes.
    #[error("a token lives for 1 to 300 seconds")]
    Lifetime,
    /// The key itself ends within the second.
    #[error("the key is about to expire")]
    KeyEnds,
    /// The key may not call this model.
    #[error("the key may not call `{model}`")]
    Model {
        /// The model that was asked for.
        model: ModelName,
    },
    /// The key may not name this feature.
    #[error("the key may not name the feature `{feature}`")]
    Feature {
        /// The feature that was asked for.
        feature: Name,
    },
    /// Nothing, or less.
    #[error("a spending cap is more than zero")]
    SpendCap,
    /// Too many models and features for 4 KiB.
    #[error("the token would be longer than 4 KiB: name fewer models and features")]
    TooLong,
}

impl TokenKeys {
    /// A token with a subset of the rights of the key behind `principal`.
    ///
    /// # Errors
    ///
    /// [`ExchangeError`] if it asks for a right that the key lacks.
    pub fn exchange(
        &self,
        principal: &Principal,
        request: &ExchangeRequest,
        clock: &dyn Clock,
        entropy: &dyn Entropy,
    ) -> Result<IssuedToken, ExchangeError> {
        let grant = principal.grant();
        // A token's grant never allows an exchange, so that no chain of tokens outlives the key.
        let holder = grant
            .key_holder()
            .filter(|_| grant.allows(Permission::ExchangeToken))
            .ok_or(ExchangeError::NotAllowed)?;
        let key = &holder.key;
        check_subset(principal, request)?;
        let iat = clock.now().as_seconds();
        let claims = TokenClaims {
            iss: self.issuer().to_owned(),
            aud: self.issuer().to_owned(),
            sub: key.id,
            client_id: key.id,
            key: key.name.clone(),
            key_hash: holder.hash.short(),
            tenant: key.tenant,
            iat,
            exp: end(principal, iat, request.lifetime_seconds)?,
            jti: TokenId::generate(clock, entropy),
            models: request.models.clone(),
            features: request.features.clone(),
            spend_cap: request.spend_cap,
        };
        let token = self.issue(&claims);
        if token.len() > TOKEN_BYTES_MAX {
            return Err(ExchangeError::TooLong);
        }
        Ok(IssuedToken { token, claims })
    }
}

fn check_subset(principal: &Principal, request: &ExchangeRequest) -> Result<(), ExchangeError> {
    let grant = principal.grant();
    let foreign_model = request
        .models
        .iter()
        .flatten()
        .find(|model| !grant.may_call(model));
    if let Some(model) = foreign_model {
        return Err(ExchangeError::Model {
            model: model.clone(),
        });
    }
    let foreign_feature = request
        .features
        .iter()
        .flatten()
        .find(|feature| !grant.may_name(feature));
    if let Some(feature) = foreign_feature {
        return Err(ExchangeError::Feature {
            feature: feature.clone(),
        });
    }
    if request.spend_cap.is_some_and(|cap| cap <= PicoUsd::ZERO) {
        return Err(ExchangeError::SpendCap);
    }
    Ok(())
}

/// When the token ends: after its lifetime, or with its key.
fn end(principal: &Principal, iat: i64, lifetime_seconds: u32) -> Result<i64, ExchangeError> {
    if !(1..=TOKEN_LIFETIME_SECONDS_MAX).contains(&lifetime_seconds) {
        return Err(ExchangeError::Lifetime);
    }
    let wanted = iat.saturating_add(i64::from(lifetime_seconds));
    let key_ends = principal.grant().expires_at().map(|at| at.as_seconds());
    let exp = key_ends.map_or(wanted, |key_ends| wanted.min(key_ends));
    if exp > iat {
        Ok(exp)
    } else {
        Err(ExchangeError::KeyEnds)
    }
}
