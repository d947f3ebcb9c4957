//! Who is signed in: each visitor's own credential, sealed under a token that only the visitor
//! has. Whoever reads this process's memory for sessions finds hashes and ciphertext; and since
//! every page presents the credential anew, a key that is revoked, expired or bound to another
//! address ends its sessions by itself.

use std::collections::HashMap;
use std::time::Duration;

use base::Entropy;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use parking_lot::Mutex;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use ring::digest::{SHA256, digest};
use ring::hmac;
use zeroize::Zeroizing;

use crate::caller::Visitor;

/// What a visitor shows: 32 random bytes, which are kept nowhere else.
#[derive(Clone)]
pub(super) struct Token(Zeroizing<[u8; 32]>);

type Fingerprint = [u8; 32];

/// How long and how many.
#[derive(Debug, Clone, Copy)]
pub(super) struct LockerBounds {
    /// What a token is for: one of another purpose opens nothing.
    pub(super) purpose: &'static str,
    /// From the first to the last use.
    pub(super) life: Duration,
    /// From one use to the next.
    pub(super) idle: Duration,
    /// Of one operator, or of one tenant: one who has many loses the oldest, and nobody else does.
    pub(super) per_owner: usize,
}

/// Twelve hours are a long day, and who went home an hour ago signs in anew. 32 are more browsers
/// than an operator, or the administrators of a tenant, have.
pub(super) const SESSIONS: LockerBounds = LockerBounds {
    purpose: "session",
    life: Duration::from_secs(12 * 3600),
    idle: Duration::from_secs(3600),
    per_owner: 32,
};
/// Ten minutes: from a terminal to a browser, with a coffee in between.
pub(super) const LINKS: LockerBounds = LockerBounds {
    purpose: "link",
    life: Duration::from_secs(600),
    idle: Duration::from_secs(600),
    per_owner: 8,
};
/// 20,000 of about 300 bytes: beyond that, the oldest of all goes.
const LOCKERS_MAX: usize = 20_000;

/// Sealed credentials.
#[derive(Debug)]
pub(super) struct Lockers {
    bounds: LockerBounds,
    all: Mutex<HashMap<Fingerprint, Locker>>,
}

#[derive(Debug)]
struct Locker {
    owner: Owner,
    sealed: Box<[u8]>,
    made: Duration,
    used: Duration,
}

/// Whose lockers are counted together.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Owner {
    Operator(base::Name),
    Tenant(base::TenantId),
}

impl From<&Visitor> for Owner {
    fn from(visitor: &Visitor) -> Self {
        match visitor {
            Visitor::Platform(name, _) => Self::Operator(name.clone()),
            Visitor::TenantAdmin(_, tenant, _) => Self::Tenant(*tenant),
        }
    }
}

impl Token {
    pub(super) fn generate(entropy: &dyn Entropy) -> Self {
        let mut bytes = Zeroizing::new([0; 32]);
        entropy.fill(&mut *bytes);
        Self(bytes)
    }

    /// As it stands in a cookie or a link: 43 characters.
    pub(super) fn to_text(&self) -> Zeroizing<String> {
        Zeroizing::new(URL_SAFE_NO_PAD.encode(*self.0))
    }

    pub(super) fn parse(text: &str) -> Option<Self> {
        let mut bytes = Zeroizing::new([0; 32]);
        let length = URL_SAFE_NO_PAD.decode_slice(text, &mut *bytes).ok()?;
        (length == bytes.len()).then_some(Self(bytes))
    }

    /// What a form has to repeat. It says nothing about the token.
    pub(super) fn form_secret(&self) -> String {
        URL_SAFE_NO_PAD.encode(self.derive("form"))
    }

    pub(super) fn derive(&self, purpose: &str) -> Zeroizing<[u8; 32]> {
        let key = hmac::Key::new(hmac::HMAC_SHA256, &*self.0);
        let text = format!("partywall/dashboard/{purpose}/v1");
        let tag = hmac::sign(&key, text.as_bytes());
        let mut derived = Zeroizing::new([0; 32]);
        derived.copy_from_slice(tag.as_ref());
        derived
    }

    fn fingerprint(&self, purpose: &str) -> Fingerprint {
        let derived = self.derive(&format!("{purpose}/name"));
        let mut fingerprint = [0; 32];
        fingerprint.copy_from_slice(digest(&SHA256, &*derived).as_ref());
        fingerprint
    }

    fn cipher(&self, purpose: &str) -> LessSafeKey {
        let key = self.derive(&format!("{purpose}/seal"));
        let key = UnboundKey::new(&AES_256_GCM, &*key).expect("the key has 32 bytes");
        LessSafeKey::new(key)
    }
}

/// A token seals one credential, once: no nonce is used twice.
fn nonce() -> Nonce {
    Nonce::assume_unique_for_key([0; 12])
}

impl Lockers {
    pub(super) fn new(bounds: LockerBounds) -> Self {
        Self {
            bounds,
            all: Mutex::default(),
        }
    }

    /// Seals a credential; returns what opens it.
    pub(super) fn put(
        &self,
        visitor: &Visitor,
        credential: &str,
        entropy: &dyn Entropy,
        now: Duration,
    ) -> Token {
        let token = Token::generate(entropy);
        let mut sealed = credential.as_bytes().to_vec();
        token
            .cipher(self.bounds.purpose)
            .seal_in_place_append_tag(nonce(), Aad::empty(), &mut sealed)
            .expect("a credential is shorter than the cipher's bound");
        let owner = Owner::from(visitor);
        let mut all = self.all.lock();
        all.retain(|_, locker| self.is_good(locker, now));
        let of_owner = all.values().filter(|locker| locker.owner == owner).count();
        if of_owner >= self.bounds.per_owner {
            remove_oldest(&mut all, |locker| locker.owner == owner);
        } else if all.len() >= LOCKERS_MAX {
            remove_oldest(&mut all, |_| true);
        }
        let locker = Locker {
            owner,
            sealed: sealed.into(),
            made: now,
            used: now,
        };
        all.insert(token.fingerprint(self.bounds.purpose), locker);
        token
    }

    /// The credential that this token opens, if it is good still.
    pub(super) fn look(&self, token: &Token, now: Duration) -> Option<Zeroizing<String>> {
        let mut all = self.all.lock();
        let fingerprint = token.fingerprint(self.bounds.purpose);
        let locker = all.get_mut(&fingerprint)?;
        if !self.is_good(locker, now) {
            all.remove(&fingerprint);
            return None;
        }
        locker.used = now;
        self.open(token, locker)
    }

    /// The same, by a page that asks by itself: that is no use of it.
    pub(super) fn peek(&self, token: &Token, now: Duration) -> Option<Zeroizing<String>> {
        let all = self.all.lock();
        let locker = all.get(&token.fingerprint(self.bounds.purpose))?;
        self.is_good(locker, now)
            .then(|| self.open(token, locker))?
    }

    /// The same, for the last time.
    pub(super) fn take(&self, token: &Token, now: Duration) -> Option<Zeroizing<String>> {
        let locker = self
            .all
            .lock()
            .remove(&token.fingerprint(self.bounds.purpose))?;
        self.is_good(&locker, now)
            .then(|| self.open(token, &locker))?
    }

    /// Forgets what this token opens.
    pub(super) fn remove(&self, token: &Token) {
        let fingerprint = token.fingerprint(self.bounds.purpose);
        self.all.lock().remove(&fingerprint);
    }

    fn is_good(&self, locker: &Locker, now: Duration) -> bool {
        now.saturating_sub(locker.made) < self.bounds.life
            && now.saturating_sub(locker.used) < self.bounds.idle
    }

    fn open(&self, token: &Token, locker: &Locker) -> Option<Zeroizing<String>> {
        let mut bytes = Zeroizing::new(locker.sealed.to_vec());
        let cipher = token.cipher(self.bounds.purpose);
        let opened = cipher.open_in_place(nonce(), Aad::empty(), &mut bytes);
        let text = std::str::from_utf8(opened.ok()?).ok()?;
        Some(Zeroizing::new(text.to_owned()))
    }
}

fn remove_oldest(all: &mut HashMap<Fingerprint, Locker>, counts: impl Fn(&Locker) -> bool) {
    let candidates = all.iter().filter(|(_, locker)| counts(locker));
    let oldest = candidates
        .min_by_key(|(_, locker)| locker.used)
        .map(|(fingerprint, _)| *fingerprint);
    if let Some(oldest) = oldest {
        all.remove(&oldest);
    }
}

#[cfg(test)]
mod tests {
    use base::{SeededEntropy, TenantId};
    use tenancy::Role;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn operator(name: &str) -> Visitor {
        Visitor::Platform(name.parse().unwrap(), Role::Operator)
    }

    fn admin(of: u128) -> Visitor {
        let name: base::Name = "acme".parse().unwrap();
        Visitor::TenantAdmin(name.clone(), TenantId::from_bits(of), name)
    }

    #[test]
    fn a_token_opens_its_own_locker_alone_and_as_long_as_it_is_good() {
        let entropy = SeededEntropy::new(1);
        let lockers = Lockers::new(SESSIONS);
        let token = lockers.put(&operator("ada"), "pw_ada", &entropy, SECOND);
        let other = lockers.put(&operator("eve"), "pw_eve", &entropy, SECOND);
        let open = |token: &Token, at| lockers.look(token, at).map(|text| text.to_string());
        let again = Token::parse(&token.to_text()).unwrap();
        assert_eq!(open(&again, SECOND).as_deref(), Some("pw_ada"));
        assert_eq!(open(&other, SECOND).as_deref(), Some("pw_eve"));
        assert_eq!(open(&Token::generate(&entropy), SECOND), None);
        // Each use keeps it from being idle, to the end of its life.
        let mut at = SECOND;
        while at + SESSIONS.idle < SESSIONS.life {
            at += SESSIONS.idle - SECOND;
            assert!(open(&token, at).is_some(), "{at:?}");
        }
        assert_eq!(open(&other, at), None);
        assert_eq!(open(&token, SECOND + SESSIONS.life), None);
        for text in ["", "x", &"A".repeat(42), &"A".repeat(44), &"!".repeat(43)] {
            assert!(Token::parse(text).is_none(), "{text}");
        }
    }

    #[test]
    fn a_link_opens_once() {
        let entropy = SeededEntropy::new(2);
        let links = Lockers::new(LINKS);
        let link = links.put(&operator("ada"), "pw_ada", &entropy, SECOND);
        assert!(Lockers::new(SESSIONS).look(&link, SECOND).is_none());
        assert!(links.take(&link, SECOND).is_some());
        assert!(links.take(&link, SECOND).is_none());
        let late = links.put(&operator("ada"), "pw_ada", &entropy, SECOND);
        assert!(links.take(&late, SECOND + LINKS.life).is_none());
    }

    #[test]
    fn one_who_signs_in_often_ends_nobody_elses_session() {
        let entropy = SeededEntropy::new(3);
        let lockers = Lockers::new(SESSIONS);
        let quiet = lockers.put(&admin(1), "pw_quiet", &entropy, SECOND);
        let first = lockers.put(&admin(2), "pw_first", &entropy, SECOND);
        let mut last = first.clone();
        for second in 0..100 {
            last = lockers.put(&admin(2), "pw_more", &entropy, SECOND * (second + 2));
        }
        let now = SECOND * 200;
        assert!(lockers.look(&quiet, now).is_some());
        assert!(lockers.look(&last, now).is_some());
        assert!(lockers.look(&first, now).is_none());
        assert_eq!(lockers.all.lock().len(), 1 + SESSIONS.per_owner);
    }

    #[test]
    fn what_is_kept_shows_neither_token_nor_credential() {
        let entropy = SeededEntropy::new(4);
        let lockers = Lockers::new(SESSIONS);
        let token = lockers.put(&operator("ada"), "pw_canary", &entropy, SECOND);
        let all = lockers.all.lock();
        let (fingerprint, locker) = all.iter().next().unwrap();
        assert_ne!(fingerprint, &*token.0);
        let has = |bytes: &[u8]| locker.sealed.windows(bytes.len()).any(|part| part == bytes);
        assert!(!has(b"canary") && !has(&*token.0));
        assert_ne!(token.form_secret(), *token.to_text());
    }
}
