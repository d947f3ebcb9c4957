//! Whom a budget or a limit is for, and the stable ids that follow from it.

use std::fmt;
use std::hash::{BuildHasherDefault, Hasher};
use std::str::FromStr;
use std::sync::Arc;

use base::{KeyId, ModelName, Name, TeamId, TenantId, UserId};
use ring::digest::{Context, SHA256};
use serde::{Deserialize, Deserializer, Serialize};

/// Whom a budget or a limit is for, inside one tenant.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Subject {
    /// The tenant as a whole.
    Tenant,
    /// One team.
    Team(TeamId),
    /// One user.
    User(UserId),
    /// One key.
    Key(KeyId),
    /// One feature of the tenant's product.
    Feature(Name),
    /// One conversation.
    Session(SessionName),
    /// One user turn of a conversation.
    Turn {
        /// The conversation.
        session: SessionName,
        /// The turn in it.
        turn: SessionName,
    },
    /// One model, by the name that clients say.
    Model(ModelName),
}

impl Subject {
    /// Whether subjects of this kind come and go: their accounts are forgotten once idle for
    /// [`crate::EPHEMERAL_IDLE`].
    pub const fn is_ephemeral(&self) -> bool {
        matches!(self, Self::Session(_) | Self::Turn { .. })
    }

    /// Feeds a kind byte and each part with its length, so that no two subjects read alike.
    fn digest(&self, context: &mut Context) {
        let (kind, first, second): (u8, &[u8], &[u8]) = match self {
            Self::Tenant => (0, &[], &[]),
            Self::Team(team) => (1, &team.to_bytes(), &[]),
            Self::User(user) => (2, &user.to_bytes(), &[]),
            Self::Key(key) => (3, &key.to_bytes(), &[]),
            Self::Feature(feature) => (4, feature.as_str().as_bytes(), &[]),
            Self::Session(session) => (5, session.as_str().as_bytes(), &[]),
            Self::Turn { session, turn } => {
                (6, session.as_str().as_bytes(), turn.as_str().as_bytes())
            }
            Self::Model(model) => (7, model.as_str().as_bytes(), &[]),
        };
        context.update(&[kind]);
        digest_part(context, first);
        digest_part(context, second);
    }
}

fn digest_part(context: &mut Context, part: &[u8]) {
    context.update(&(part.len() as u64).to_le_bytes());
    context.update(part);
}

/// The first 128 bits of the digest: two of 10¹² subjects collide with a chance of 10⁻¹⁵.
fn finish(context: Context) -> u128 {
    let digest = context.finish();
    let mut bits = [0_u8; 16];
    bits.copy_from_slice(&digest.as_ref()[..16]);
    u128::from_le_bytes(bits)
}

/// One budget applied to one subject. Stable over restarts, replicas and versions.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct AccountId(u128);

impl AccountId {
    /// The account of `budget` for `subject` of `tenant`.
    pub fn of(tenant: TenantId, budget: &Name, subject: &Subject) -> Self {
        let mut context = Context::new(&SHA256);
        context.update(b"partywall/account/v1");
        context.update(&tenant.to_bytes());
        digest_part(&mut context, budget.as_str().as_bytes());
        subject.digest(&mut context);
        Self(finish(context))
    }

    /// The account that has these bits; for storage codecs.
    pub const fn from_bits(bits: u128) -> Self {
        Self(bits)
    }

    /// The bits; for storage codecs.
    pub const fn bits(self) -> u128 {
        self.0
    }
}

impl fmt::Debug for AccountId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "account_{:032x}", self.0)
    }
}

/// What a rate or concurrency limit counts for: one subject, or several together (a key's calls
/// of one model).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LimitId(u128);

impl LimitId {
    /// The limit over what all of `subjects` of `tenant` have in common.
    pub fn of(tenant: TenantId, subjects: &[Subject]) -> Self {
        let mut context = Context::new(&SHA256);
        context.update(b"partywall/limit/v1");
        context.update(&tenant.to_bytes());
        for subject in subjects {
            subject.digest(&mut context);
        }
        Self(finish(context))
    }

    /// The bits; for storage codecs.
    pub const fn bits(self) -> u128 {
        self.0
    }
}

impl fmt::Debug for LimitId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "limit_{:032x}", self.0)
    }
}

/// What a client calls a conversation, or a turn in one: 1 to 128 visible ASCII characters.
/// It means something inside its tenant only. Cheap to clone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct SessionName(Arc<str>);

/// 128: three UUIDs and their separators.
const SESSION_NAME_BYTES_MAX: usize = 128;

/// The text is not a [`SessionName`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a session or turn is 1 to 128 visible ASCII characters")]
pub struct ParseSessionNameError;

impl SessionName {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for SessionName {
    type Err = ParseSessionNameError;

    fn from_str(text: &str) -> Result<Self, ParseSessionNameError> {
        let fits = (1..=SESSION_NAME_BYTES_MAX).contains(&text.len());
        if fits && text.bytes().all(|byte| byte.is_ascii_graphic()) {
            Ok(Self(text.into()))
        } else {
            Err(ParseSessionNameError)
        }
    }
}

impl fmt::Display for SessionName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for SessionName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}

impl<'de> Deserialize<'de> for SessionName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

/// A map keyed by ids whose bits are random already, which need no second hashing.
pub(crate) type IdMap<K, V> = std::collections::HashMap<K, V, BuildHasherDefault<IdHasher>>;

/// Takes an id's own bits. Nobody outside chooses them: account and limit ids are digests, and
/// attempt ids are drawn by the gateway.
#[derive(Debug, Default)]
pub(crate) struct IdHasher(u64);

impl Hasher for IdHasher {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u128(&mut self, bits: u128) {
        // Spreads ids that a test made small over all bits.
        self.0 ^= (bits as u64 ^ (bits >> 64) as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn session(text: &str) -> SessionName {
        text.parse().unwrap()
    }

    proptest! {
        /// Part boundaries matter: what is moved from one part to the next is another account.
        #[test]
        fn invariant_3_accounts_of_different_parts_differ(
            text in "[a-z0-9]{2,20}", first in 1_usize..19, second in 1_usize..19,
            tenant: u128, other: u128,
        ) {
            let budget: Name = "b".parse().unwrap();
            let turn = |tenant: u128, cut: usize| {
                let (session_text, turn_text) = text.split_at(cut.min(text.len() - 1));
                let subject = Subject::Turn {
                    session: session(session_text),
                    turn: session(turn_text),
                };
                AccountId::of(TenantId::from_bits(tenant), &budget, &subject)
            };
            let same = first.min(text.len() - 1) == second.min(text.len() - 1);
            prop_assert_eq!(turn(tenant, first) == turn(tenant, second), same);
            prop_assert_eq!(turn(tenant, first) == turn(other, first), tenant == other);
        }
    }

    #[test]
    fn an_account_id_never_changes() {
        let id = AccountId::of(
            TenantId::from_bits(7),
            &"monthly".parse().unwrap(),
            &Subject::Tenant,
        );
        assert_eq!(
            format!("{id:?}"),
            "account_34c743e028f2b3c278d2fdf35f57f436"
        );
    }

    #[test]
    fn a_limit_of_a_pair_is_neither_ones_own() {
        let tenant = TenantId::from_bits(1);
        let key = Subject::Key(KeyId::from_bits(2));
        let model = Subject::Model("m".parse().unwrap());
        let pair = LimitId::of(tenant, &[key.clone(), model.clone()]);
        assert_ne!(pair, LimitId::of(tenant, &[key]));
        assert_ne!(pair, LimitId::of(tenant, &[model]));
    }

    #[test]
    fn session_names_are_visible_and_bounded() {
        assert!("Chat/7f3a:1".parse::<SessionName>().is_ok());
        for bad in ["", "a b", "a\n", &"a".repeat(129)] {
            assert!(bad.parse::<SessionName>().is_err(), "{bad}");
        }
    }
}
