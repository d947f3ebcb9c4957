//! From what a client presents to a verified [`Principal`]. This file alone makes one.
//!
//! Reads the directory snapshot, and asks nobody. What is presented is parsed within bounds; a
//! key's checksum is verified before anything is looked up.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use base::{KeyId, Name, TeamId, Timestamp, UserId};

use crate::catalogue::KeySpec;
use crate::credentials::CredentialOwner;
use crate::directory::{Snapshot, TenantEntry};
use crate::grant::{Grant, KeyHolder};
use crate::key_entry::KeyEntry;
use crate::keys::{ApiKey, KeyHash, KeyHasher, ParseKeyError};
use crate::remembered::RememberedKey;
use crate::roles::{Permission, Role};
use crate::tokens::{TOKEN_BYTES_MAX, TokenClaims, TokenError, TokenKeys};
use crate::vouched::{VouchedRole, VouchingKey};

/// What credentials are verified against: one version of the directory, and the keys of the
/// process.
#[derive(Debug, Clone, Copy)]
pub struct Authority<'a> {
    /// The directory, as the request sees it from beginning to end.
    pub snapshot: &'a Snapshot,
    /// Hashes keys.
    pub hasher: &'a KeyHasher,
    /// Verifies tokens.
    pub tokens: &'a TokenKeys,
}

/// Whom a credential belongs to.
#[derive(Debug)]
pub enum Caller {
    /// Somebody inside a tenant.
    Tenant(Principal),
    /// Somebody who runs the platform.
    Operator(OperatorPrincipal),
}

/// A caller inside a tenant, verified. [`Principal::into_scope`] resolves the tenant.
#[derive(Debug)]
pub struct Principal {
    tenant: Arc<TenantEntry>,
    grant: Grant,
}

/// An operator or auditor, verified.
#[derive(Debug)]
pub struct OperatorPrincipal {
    name: Name,
    role: Role,
}

impl Authority<'_> {
    /// Verifies what a caller of the data path presents; an operator's key is unknown there.
    /// `peer` is the client's address, as the listener or a trusted proxy knows it.
    ///
    /// # Errors
    ///
    /// [`AuthError`]: the precise reason is for the log, and its outward form for the client.
    pub fn authenticate(
        &self,
        presented: &PresentedCredential<'_>,
        peer: IpAddr,
        now: Timestamp,
    ) -> Result<Principal, AuthError> {
        match self.identify(presented, peer, now)? {
            Caller::Tenant(principal) => Ok(principal),
            Caller::Operator(_) => Err(AuthError::Unknown),
        }
    }

    /// Verifies what a caller of the control plane presents.
    ///
    /// # Errors
    ///
    /// As [`Authority::authenticate`].
    pub fn identify(
        &self,
        presented: &PresentedCredential<'_>,
        peer: IpAddr,
        now: Timestamp,
    ) -> Result<Caller, AuthError> {
        let remembered = presented.remembered;
        if let Some(hash) = remembered.and_then(|last| last.recall(presented.text)) {
            return self.identify_hash(&hash, peer, now);
        }
        match presented.parse()? {
            Credential::Key(key) => {
                let hash = self.hasher.hash(&key);
                let caller = self.identify_hash(&hash, peer, now)?;
                if let Some(remembered) = remembered {
                    remembered.remember(&key, &hash);
                }
                Ok(caller)
            }
            Credential::Token(token) => self.identify_token(token, peer, now),
        }
    }

    /// Verifies the word that this process has written down of somebody: it reaches the control
    /// plane alone.
    ///
    /// # Errors
    ///
    /// [`AuthError`].
    pub fn identify_vouched(
        &self,
        word: &str,
        key: &VouchingKey,
        now: Timestamp,
    ) -> Result<Caller, AuthError> {
        let vouched = key.open(word).ok_or(AuthError::Unknown)?;
        if vouched.until <= now {
            return Err(AuthError::Expired);
        }
        let operator = |role| {
            Caller::Operator(OperatorPrincipal {
                name: vouched.name.clone(),
                role,
            })
        };
        let id = match vouched.role {
            VouchedRole::Operator => return Ok(operator(Role::Operator)),
            VouchedRole::Auditor => return Ok(operator(Role::Auditor)),
            VouchedRole::TenantAdmin(id) => id,
        };
        let tenant = self.snapshot.tenant(id).ok_or(AuthError::Unknown)?;
        if tenant.spec.suspended {
            return Err(AuthError::TenantSuspended);
        }
        // A key that is in no directory: nobody can present it, and it ends with this request.
        let hash = KeyHash::from_bytes([0; 32]);
        let spec = KeySpec::plain(KeyId::from_bits(0), hash.clone(), Role::TenantAdmin, false);
        let holder = KeyHolder {
            key: Arc::new(KeyEntry::new(id, vouched.name, spec)),
            hash,
            team: None,
            user: None,
            expires_at: Some(vouched.until),
            token: None,
        };
        Ok(Caller::Tenant(Principal::new(Arc::clone(tenant), holder)))
    }

    fn identify_hash(
        &self,
        hash: &KeyHash,
        peer: IpAddr,
        now: Timestamp,
    ) -> Result<Caller, AuthError> {
        match self.snapshot.credential(hash).ok_or(AuthError::Unknown)? {
            CredentialOwner::Key(key) => {
                let (tenant, holder) = self.admit(key, hash, peer, now)?;
                Ok(Caller::Tenant(Principal::new(tenant, holder)))
            }
            CredentialOwner::Operator(name) => self.admit_operator(name).map(Caller::Operator),
        }
    }

    fn identify_token(
        &self,
        token: &str,
        peer: IpAddr,
        now: Timestamp,
    ) -> Result<Caller, AuthError> {
        let claims = self
            .tokens
            .verify(token, now)
            .map_err(|error| match error {
                TokenError::Expired => AuthError::Expired,
                error => AuthError::Token(error),
            })?;
        let (key, hash) = self.key_behind(&claims).ok_or(AuthError::Revoked)?;
        let (tenant, mut holder) = self.admit(key, hash, peer, now)?;
        holder.token = Some(Box::new(claims));
        Ok(Caller::Tenant(Principal::new(tenant, holder)))
    }

    /// The key that a token was derived from, if it is still there: its name finds it, and its id
    /// tells it from a later key of the same name. And the hash that was presented then, if it is
    /// still one of the key's: a key that was rotated away takes its tokens with it.
    fn key_behind(&self, claims: &TokenClaims) -> Option<(&Arc<KeyEntry>, &KeyHash)> {
        let key = self.snapshot.tenant(claims.tenant)?.keys.get(&claims.key)?;
        let retiring = key.retiring().map(|retiring| &retiring.hash);
        let hash = std::iter::once(&key.hash)
            .chain(retiring)
            .find(|hash| hash.short() == claims.key_hash)?;
        (key.id == claims.sub).then_some((key, hash))
    }

    /// Whatever must hold of a key at every call. Expiry comes last: it is the one reason that a
    /// client is told, so that only who could otherwise use the key learns of it.
    fn admit(
        &self,
        key: &Arc<KeyEntry>,
        hash: &KeyHash,
        peer: IpAddr,
        now: Timestamp,
    ) -> Result<(Arc<TenantEntry>, KeyHolder), AuthError> {
        let tenant = self.snapshot.tenant(key.tenant).ok_or(AuthError::Unknown)?;
        if tenant.spec.suspended {
            return Err(AuthError::TenantSuspended);
        }
        if key.revoked || !key.role.is_in_tenant() {
            return Err(AuthError::Revoked);
        }
        let (team, user) = members(tenant, key)?;
        // An IPv4 client of a dual-stack listener arrives as ::ffff:a.b.c.d.
        let peer = peer.to_canonical();
        let networks = key.networks();
        if !networks.is_empty() && !networks.iter().any(|range| range.contains(&peer)) {
            return Err(AuthError::AddressNotAllowed);
        }
        let expires_at = end_of(key, hash);
        if expires_at.is_some_and(|end| end <= now) {
            return Err(AuthError::Expired);
        }
        let holder = KeyHolder {
            key: Arc::clone(key),
            hash: hash.clone(),
            team,
            user,
            expires_at,
            token: None,
        };
        Ok((Arc::clone(tenant), holder))
    }

    fn admit_operator(&self, name: &Name) -> Result<OperatorPrincipal, AuthError> {
        let operator = self
            .snapshot
            .operators()
            .get(name)
            .ok_or(AuthError::Unknown)?;
        if operator.disabled || operator.role.is_in_tenant() {
            return Err(AuthError::Revoked);
        }
        Ok(OperatorPrincipal {
            name: name.clone(),
            role: operator.role,
        })
    }
}

/// When the key that was presented ends: by its own date, and if it is the one that a rotation
/// replaced, at the end of the overlap.
fn end_of(key: &KeyEntry, presented: &KeyHash) -> Option<Timestamp> {
    let overlap = key
        .retiring()
        .filter(|retiring| retiring.hash == *presented)
        .map(|retiring| retiring.until);
    match (key.expires_at(), overlap) {
        (Some(end), Some(overlap)) => Some(end.min(overlap)),
        (end, overlap) => end.or(overlap),
    }
}

/// The key's team and user: both still there, and the user not disabled. A key without a team is
/// in its user's.
fn members(
    tenant: &TenantEntry,
    key: &KeyEntry,
) -> Result<(Option<TeamId>, Option<UserId>), AuthError> {
    let user = match key.user() {
        Some(name) => Some(tenant.users.get(name).ok_or(AuthError::Revoked)?),
        None => None,
    };
    if user.is_some_and(|user| user.disabled) {
        return Err(AuthError::Revoked);
    }
    let find = |name: &Name| tenant.team_id(name).ok_or(AuthError::Revoked);
    let users_team = user
        .and_then(|user| user.team.as_ref())
        .map(find)
        .transpose()?;
    let own_team = key.team().map(find).transpose()?;
    Ok((own_team.or(users_team), user.map(|user| user.id)))
}

impl Principal {
    fn new(tenant: Arc<TenantEntry>, holder: KeyHolder) -> Self {
        Self {
            tenant,
            grant: Grant::of_key(holder),
        }
    }

    /// The tenant, as the request's snapshot has it.
    pub fn tenant(&self) -> &Arc<TenantEntry> {
        &self.tenant
    }

    /// What the caller may do.
    pub fn grant(&self) -> &Grant {
        &self.grant
    }

    /// The id of the caller's key.
    pub fn key_id(&self) -> KeyId {
        self.grant
            .key_id()
            .expect("a principal is made from a key's record")
    }

    pub(crate) fn into_parts(self) -> (Arc<TenantEntry>, Grant) {
        (self.tenant, self.grant)
    }
}

impl OperatorPrincipal {
    /// The operator's name.
    pub fn name(&self) -> &Name {
        &self.name
    }

    /// The operator's role.
    pub fn role(&self) -> Role {
        self.role
    }

    /// Whether the operator may do this.
    pub fn allows(&self, permission: Permission) -> bool {
        self.role.allows(permission)
    }
}

/// A credential as it was presented: unverified, and never printed.
#[derive(Clone, Copy)]
pub struct PresentedCredential<'a> {
    text: &'a str,
    remembered: Option<&'a RememberedKey>,
}

enum Credential<'a> {
    Key(ApiKey),
    Token(&'a str),
}

impl<'a> PresentedCredential<'a> {
    /// The credential in the values of the headers `authorization` (`Bearer` and the credential,
    /// as OpenAI's SDK sends it) and `x-api-key` (as Anthropic's does). A header that is repeated
    /// must be refused before.
    ///
    /// # Errors
    ///
    /// [`AuthError::Missing`] without either; [`AuthError::Malformed`] if the form is wrong or
    /// the two differ.
    pub fn from_headers(
        authorization: Option<&'a [u8]>,
        x_api_key: Option<&'a [u8]>,
    ) -> Result<Self, AuthError> {
        let bearer = authorization.map(strip_bearer).transpose()?;
        let text = match (bearer, x_api_key) {
            (Some(bearer), Some(key)) if bearer != key => return Err(AuthError::Malformed),
            (Some(text), _) | (None, Some(text)) => text,
            (None, None) => return Err(AuthError::Missing),
        };
        if text.is_empty() {
            return Err(AuthError::Missing);
        }
        if text.len() > TOKEN_BYTES_MAX || !text.iter().all(u8::is_ascii_graphic) {
            return Err(AuthError::Malformed);
        }
        let text = std::str::from_utf8(text).map_err(|_| AuthError::Malformed)?;
        Ok(Self {
            text,
            remembered: None,
        })
    }

    /// The same, presented on the connection whose last key this is.
    pub fn on_connection(self, remembered: &'a RememberedKey) -> Self {
        Self {
            remembered: Some(remembered),
            ..self
        }
    }

    /// A key has no dot; a token has two.
    fn parse(&self) -> Result<Credential<'a>, AuthError> {
        if self.text.contains('.') {
            Ok(Credential::Token(self.text))
        } else {
            Ok(Credential::Key(ApiKey::parse(self.text)?))
        }
    }
}

/// RFC 9110: the scheme in any case, then one or more blanks.
fn strip_bearer(value: &[u8]) -> Result<&[u8], AuthError> {
    const SCHEME: &[u8] = b"bearer";
    match value.split_at_checked(SCHEME.len()) {
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case(SCHEME) => match rest {
            [b' ', ..] | [] => Ok(rest.trim_ascii()),
            _ => Err(AuthError::Malformed),
        },
        _ => Err(AuthError::Malformed),
    }
}

impl fmt::Debug for PresentedCredential<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PresentedCredential([redacted])")
    }
}

/// Why a caller was refused. The text is for the log; a client gets [`AuthError::outward`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AuthError {
    /// No credential.
    #[error("no credential was presented")]
    Missing,
    /// Neither a key nor a token, by its form.
    #[error("the credential is malformed")]
    Malformed,
    /// Nobody's.
    #[error("nobody has this credential")]
    Unknown,
    /// It has ended.
    #[error("the credential has expired")]
    Expired,
    /// The key, its user or its team was removed or disabled.
    #[error("the key, or its user or team, was removed or disabled")]
    Revoked,
    /// Not from there.
    #[error("the key may not be used from this address")]
    AddressNotAllowed,
    /// The whole tenant is refused.
    #[error("the tenant is suspended")]
    TenantSuspended,
    /// A token that we did not issue, or not like this.
    #[error(transparent)]
    Token(TokenError),
}

impl From<ParseKeyError> for AuthError {
    fn from(_: ParseKeyError) -> Self {
        Self::Malformed
    }
}

/// What a client is told, always with status 401. Who guesses learns nothing: whether a key is
/// unknown, revoked, suspended or used from a wrong address looks the same. Expiry is told, since
/// only who holds a key that was good can see it, and it is what its owner must know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OutwardAuthError {
    /// OpenAI's `error.code`.
    pub code: &'static str,
    /// OpenAI's `error.message`.
    pub message: &'static str,
}

impl AuthError {
    /// What a client is told.
    pub const fn outward(self) -> OutwardAuthError {
        match self {
            Self::Missing => OutwardAuthError {
                code: "invalid_api_key",
                message: "No API key was given: send `Authorization: Bearer YOUR_KEY`.",
            },
            Self::Expired => OutwardAuthError {
                code: "expired_api_key",
                message: "The API key or token has expired.",
            },
            Self::Malformed
            | Self::Unknown
            | Self::Revoked
            | Self::AddressNotAllowed
            | Self::TenantSuspended
            | Self::Token(_) => OutwardAuthError {
                code: "invalid_api_key",
                message: "The API key or token is not valid.",
            },
        }
    }
}
