//! What the caller behind a scope may do.

use std::sync::Arc;

use base::{KeyId, ModelName, Name, TeamId, Timestamp, UserId};

use crate::key_entry::KeyEntry;
use crate::keys::KeyHash;
use crate::roles::{Permission, Role};
use crate::tokens::TokenClaims;

/// What a caller may do inside the tenant. Every question is answered by the record of the
/// caller's key *and* by the token that was derived from it, if there is one: a token can only
/// take away (invariant 13).
#[derive(Debug)]
pub struct Grant {
    holder: Holder,
}

/// Who acts.
#[derive(Debug)]
enum Holder {
    Key(KeyHolder),
    Operator { name: Name },
    Service(ServicePurpose),
}

/// The bearer of a key, or of a token derived from one.
#[derive(Debug)]
pub(crate) struct KeyHolder {
    pub(crate) key: Arc<KeyEntry>,
    /// The hash that was presented: during a rotation a key has two.
    pub(crate) hash: KeyHash,
    pub(crate) team: Option<TeamId>,
    pub(crate) user: Option<UserId>,
    /// When what was presented ends.
    pub(crate) expires_at: Option<Timestamp>,
    /// The token, if that is what was presented.
    pub(crate) token: Option<Box<TokenClaims>>,
}

/// Why the platform itself acts inside a tenant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ServicePurpose {
    /// Folding the journal into the tenant's store.
    Compaction,
    /// Setting a tenant up.
    Onboarding,
    /// Encrypting a tenant's data anew.
    Rotation,
    /// Handing a tenant its data.
    Export,
    /// Putting a tenant's state in order after a crash.
    Recovery,
    /// Comparing a tenant with its own past, and telling it what it should know.
    Watching,
}

impl Grant {
    /// What the bearer of a credential, verified just now, may do.
    pub(crate) fn of_key(holder: KeyHolder) -> Self {
        Self {
            holder: Holder::Key(holder),
        }
    }

    pub(crate) fn of_operator(name: Name) -> Self {
        Self {
            holder: Holder::Operator { name },
        }
    }

    pub(crate) fn of_service(purpose: ServicePurpose) -> Self {
        Self {
            holder: Holder::Service(purpose),
        }
    }

    pub(crate) fn key_holder(&self) -> Option<&KeyHolder> {
        match &self.holder {
            Holder::Key(holder) => Some(holder),
            Holder::Operator { .. } | Holder::Service(_) => None,
        }
    }

    /// Whether the caller may do this. A token's bearer may call models and nothing else. The
    /// platform's own work asks for no permission, and has none.
    pub fn allows(&self, permission: Permission) -> bool {
        match &self.holder {
            Holder::Key(holder) if holder.token.is_some() => {
                permission == Permission::CallModels && holder.key.role.allows(permission)
            }
            Holder::Key(holder) => holder.key.role.allows(permission),
            Holder::Operator { .. } => Role::Operator.allows(permission),
            Holder::Service(_) => false,
        }
    }

    /// Whether the caller's credential lets it call the model of this name. The tenant's and the
    /// tier's own lists apply besides.
    pub fn may_call(&self, model: &ModelName) -> bool {
        self.key_holder().is_some_and(|holder| {
            let by_key = is_listed_or_open(holder.key.models(), model);
            let by_token = match &holder.token {
                Some(token) => token
                    .models
                    .as_ref()
                    .is_none_or(|list| list.contains(model)),
                None => true,
            };
            by_key && by_token
        })
    }

    /// Whether the caller's credential lets it say that a call is for this feature.
    pub fn may_name(&self, feature: &Name) -> bool {
        self.key_holder().is_some_and(|holder| {
            let by_key = is_listed_or_open(holder.key.features(), feature);
            let by_token = match &holder.token {
                Some(token) => token
                    .features
                    .as_ref()
                    .is_none_or(|list| list.contains(feature)),
                None => true,
            };
            by_key && by_token
        })
    }

    /// The feature of a call that names none, if the caller may name it.
    pub fn default_feature(&self) -> Option<&Name> {
        let feature = self.key_holder()?.key.default_feature()?;
        self.may_name(feature).then_some(feature)
    }

    /// The caller's key record; none for operators and services.
    pub fn key(&self) -> Option<&Arc<KeyEntry>> {
        self.key_holder().map(|holder| &holder.key)
    }

    /// The id of the caller's key.
    pub fn key_id(&self) -> Option<KeyId> {
        self.key().map(|key| key.id)
    }

    /// The team whose calls these are: the key's, or else its user's.
    pub fn team(&self) -> Option<TeamId> {
        self.key_holder()?.team
    }

    /// The user whose calls these are.
    pub fn user(&self) -> Option<UserId> {
        self.key_holder()?.user
    }

    /// When the key that was presented ends, by its own date or by a rotation's overlap.
    pub fn expires_at(&self) -> Option<Timestamp> {
        self.key_holder()?.expires_at
    }

    /// The token that was presented, if it was one: its id and its spending cap are a budget.
    pub fn token(&self) -> Option<&TokenClaims> {
        self.key_holder()?.token.as_deref()
    }

    /// The operator who acts for the tenant, if one does.
    pub fn operator(&self) -> Option<&Name> {
        match &self.holder {
            Holder::Operator { name } => Some(name),
            Holder::Key(_) | Holder::Service(_) => None,
        }
    }

    /// Why the platform itself acts, if it does.
    pub fn service(&self) -> Option<ServicePurpose> {
        match &self.holder {
            Holder::Service(purpose) => Some(*purpose),
            Holder::Key(_) | Holder::Operator { .. } => None,
        }
    }
}

/// In a key's record an empty list means all.
fn is_listed_or_open<T: PartialEq>(list: &[T], wanted: &T) -> bool {
    list.is_empty() || list.contains(wanted)
}
