//! A small platform: two tenants with a key each, and an operator.

use std::net::IpAddr;
use std::sync::Arc;

use base::{KeyId, ManualClock, Name, SeededEntropy, TeamId, TenantId, Timestamp, UserId};
use tenancy::catalogue::{
    Address, KeySpec, Kind, OperatorSpec, Resource, TeamSpec, TenantSpec, TierSpec, UserSpec,
};
use tenancy::{
    ApiKey, AuthError, Authority, Change, ExchangeError, ExchangeRequest, IssuedToken, KeyHash,
    KeyHasher, LocalRootKey, PlatformKeys, PresentedCredential, Principal, Problem, Role, Snapshot,
    TenantKeys, TokenKeys, TokenSeed,
};

pub(crate) const ACME: TenantId = TenantId::from_bits(1);
pub(crate) const BOLT: TenantId = TenantId::from_bits(2);
pub(crate) const TEAM: TeamId = TeamId::from_bits(11);
pub(crate) const USER: UserId = UserId::from_bits(12);
pub(crate) const ACME_KEY: KeyId = KeyId::from_bits(13);
pub(crate) const BOLT_KEY: KeyId = KeyId::from_bits(14);

pub(crate) struct World {
    pub(crate) root: LocalRootKey,
    pub(crate) platform: PlatformKeys,
    pub(crate) snapshot: Snapshot,
    pub(crate) hasher: KeyHasher,
    pub(crate) tokens: TokenKeys,
    pub(crate) acme_key: ApiKey,
    pub(crate) bolt_key: ApiKey,
    pub(crate) operator_key: ApiKey,
}

impl World {
    pub(crate) fn new() -> Self {
        let entropy = SeededEntropy::new(1);
        let root = LocalRootKey::generate(&entropy);
        let (platform, _) = PlatformKeys::generate(&root, &entropy).unwrap();
        let mut world = Self {
            hasher: platform.key_hasher(),
            tokens: TokenKeys::new("https://ai.example", &TokenSeed::generate(&entropy)),
            snapshot: Snapshot::empty(),
            acme_key: ApiKey::generate(&entropy),
            bolt_key: ApiKey::generate(&entropy),
            operator_key: ApiKey::generate(&entropy),
            root,
            platform,
        };
        world.publish_all();
        world
    }

    fn publish_all(&mut self) {
        let acme_key = KeySpec {
            team: Some(name("search")),
            user: Some(name("ada")),
            ..key_spec(ACME_KEY, self.hasher.hash(&self.acme_key))
        };
        let bolt_key = key_spec(BOLT_KEY, self.hasher.hash(&self.bolt_key));
        let operator = OperatorSpec {
            role: Role::Operator,
            hash: self.hasher.hash(&self.operator_key),
            disabled: false,
        };
        let team = TeamSpec {
            id: TEAM,
            display_name: String::new(),
        };
        self.put_platform(Kind::Tier, "free", TierSpec::default());
        self.put_platform(Kind::Operator, "root", operator);
        self.put_platform(Kind::Tenant, "acme", tenant_spec(ACME));
        self.put_platform(Kind::Tenant, "bolt", tenant_spec(BOLT));
        self.put(ACME, Kind::Team, "search", team);
        self.put_user(ada());
        self.put(ACME, Kind::Key, "main", acme_key);
        self.put(BOLT, Kind::Key, "main", bolt_key);
    }

    fn publish(&mut self, address: Address, resource: Option<Resource>) {
        let change = Change { address, resource };
        let root = &self.root;
        let keys = |tenant: TenantId| {
            let entropy = SeededEntropy::new(tenant.bits() as u64);
            let (keys, _) = TenantKeys::generate(root, tenant, &entropy).ok()?;
            Some(Arc::new(keys))
        };
        let version = self.snapshot.version() + 1;
        self.snapshot = self.snapshot.with(version, vec![change], &keys).unwrap();
    }

    /// What publishing says to a third tenant, in whose place somebody put the second one's keys.
    pub(crate) fn problems_with_foreign_keys(&self) -> Vec<Problem> {
        let id = TenantId::from_bits(3);
        let foreign = Arc::clone(&self.snapshot.tenant(BOLT).unwrap().unlocked);
        let tenant = Change {
            address: Address::platform(Kind::Tenant, "crook"),
            resource: Some(tenant_spec(id).into()),
        };
        let keys = |_| Some(Arc::clone(&foreign));
        self.snapshot.with(99, vec![tenant], &keys).unwrap_err()
    }

    fn put_platform(&mut self, kind: Kind, name: &str, spec: impl Into<Resource>) {
        self.publish(Address::platform(kind, name), Some(spec.into()));
    }

    fn put(&mut self, tenant: TenantId, kind: Kind, name: &str, spec: impl Into<Resource>) {
        self.publish(Address::in_tenant(tenant, kind, name), Some(spec.into()));
    }

    pub(crate) fn remove(&mut self, kind: Kind, name: &str) {
        self.publish(Address::in_tenant(ACME, kind, name), None);
    }

    pub(crate) fn put_user(&mut self, spec: UserSpec) {
        self.put(ACME, Kind::User, "ada", spec);
    }

    pub(crate) fn change_key(&mut self, change: impl FnOnce(&mut KeySpec)) {
        let mut spec = self.snapshot.tenant(ACME).unwrap().keys["main"].spec();
        change(&mut spec);
        self.put(ACME, Kind::Key, "main", spec);
    }

    pub(crate) fn change_tenant(&mut self, change: impl FnOnce(&mut TenantSpec)) {
        let mut spec = TenantSpec::clone(&self.snapshot.tenant(ACME).unwrap().spec);
        change(&mut spec);
        self.put_platform(Kind::Tenant, "acme", spec);
    }

    pub(crate) fn make_operator_an_auditor(&mut self) {
        let mut spec = OperatorSpec::clone(&self.snapshot.operators()["root"]);
        spec.role = Role::Auditor;
        self.put_platform(Kind::Operator, "root", spec);
    }

    pub(crate) fn disable_operator(&mut self) {
        let mut spec = OperatorSpec::clone(&self.snapshot.operators()["root"]);
        spec.disabled = true;
        self.put_platform(Kind::Operator, "root", spec);
    }

    pub(crate) fn authority(&self) -> Authority<'_> {
        Authority {
            snapshot: &self.snapshot,
            hasher: &self.hasher,
            tokens: &self.tokens,
        }
    }

    pub(crate) fn authenticate(
        &self,
        credential: &str,
        peer: IpAddr,
    ) -> Result<Principal, AuthError> {
        self.authenticate_at(credential, peer, now())
    }

    pub(crate) fn authenticate_at(
        &self,
        credential: &str,
        peer: IpAddr,
        at: Timestamp,
    ) -> Result<Principal, AuthError> {
        let header = bearer(credential);
        let presented = PresentedCredential::from_headers(Some(&header), None)?;
        self.authority().authenticate(&presented, peer, at)
    }

    pub(crate) fn exchange(
        &self,
        principal: &Principal,
        request: &ExchangeRequest,
    ) -> Result<IssuedToken, ExchangeError> {
        self.tokens
            .exchange(principal, request, &clock(), &SeededEntropy::new(3))
    }
}

pub(crate) fn now() -> Timestamp {
    Timestamp::from_micros(1_700_000_000_000_000)
}

pub(crate) fn clock() -> ManualClock {
    ManualClock::at(now())
}

pub(crate) fn name(text: &str) -> Name {
    text.parse().unwrap()
}

pub(crate) fn bearer(credential: &str) -> Vec<u8> {
    format!("Bearer {credential}").into_bytes()
}

pub(crate) fn hash_of_nobody() -> KeyHash {
    KeyHash::from_bytes([0xee; 32])
}

/// A request that takes nothing away.
pub(crate) fn everything() -> ExchangeRequest {
    ExchangeRequest {
        models: None,
        features: None,
        spend_cap: None,
        lifetime_seconds: 300,
    }
}

pub(crate) fn ada() -> UserSpec {
    UserSpec {
        id: USER,
        display_name: String::new(),
        team: Some(name("search")),
        disabled: false,
    }
}

fn tenant_spec(id: TenantId) -> TenantSpec {
    TenantSpec {
        id,
        display_name: Box::default(),
        tier: name("free"),
        zone: "UTC".into(),
        suspended: false,
        requires_known_feature: false,
        accepts_shared_cache: false,
        salt_epoch: 0,
        region: None,
        placement: None,
        former_placement: None,
        webhook_url: None,
        price_book: None,
        retention: None,
    }
}

fn key_spec(id: KeyId, hash: KeyHash) -> KeySpec {
    KeySpec {
        id,
        hash,
        retiring: None,
        role: Role::TenantMember,
        team: None,
        user: None,
        expires_at: None,
        revoked: false,
        models: Default::default(),
        features: Default::default(),
        default_feature: None,
        networks: Default::default(),
    }
}
