//! Invariants 3 and 15: nothing that was sealed for one tenant, purpose, context or generation
//! opens for another; and rotations lose nothing.

use base::{SeededEntropy, TenantId};
use ring::signature::{ED25519, UnparsedPublicKey};
use tenancy::{
    KeyError, KeyOwner, LocalRootKey, OpenError, PlatformKeys, PlatformPurpose, RootKey,
    SealingKey, TenantKeys, TenantPurpose, WrappedKey, purpose,
};

const ACME: TenantId = TenantId::from_bits(1);
const BOLT: TenantId = TenantId::from_bits(2);

fn root(seed: u64) -> LocalRootKey {
    LocalRootKey::generate(&SeededEntropy::new(seed))
}

type Opener = dyn Fn(&[u8]) -> Result<Vec<u8>, OpenError>;

/// One cell of the matrix: a way to seal, and the way to open that belongs to it.
struct Pair {
    name: String,
    sealed: Vec<u8>,
    open: Box<Opener>,
}

const CONTEXT: &[&[u8]] = &[b"table", b"row"];

fn pair<P: tenancy::Purpose>(owner: &str, key: SealingKey<P>) -> Pair {
    let name = format!("{owner}/{}", P::LABEL);
    let entropy = SeededEntropy::new(9);
    Pair {
        sealed: key.seal(&entropy, CONTEXT, name.as_bytes()),
        open: Box::new(move |sealed| key.open(CONTEXT, sealed).map(|plain| plain.to_vec())),
        name,
    }
}

fn of_tenant<P: TenantPurpose>(keys: &TenantKeys) -> Pair {
    pair::<P>(&keys.tenant().to_string(), keys.sealing_key())
}

fn of_platform<P: PlatformPurpose>(keys: &PlatformKeys) -> Pair {
    pair::<P>("platform", keys.sealing_key())
}

#[test]
fn invariant_3_nothing_opens_what_another_purpose_or_tenant_sealed() {
    let root = root(1);
    let mut pairs = Vec::new();
    for tenant in [ACME, BOLT] {
        // The same randomness for both: even an equal key must not open across tenants.
        let (keys, _) = TenantKeys::generate(&root, tenant, &SeededEntropy::new(5)).unwrap();
        pairs.extend([
            of_tenant::<purpose::Catalogue>(&keys),
            of_tenant::<purpose::Blob>(&keys),
            of_tenant::<purpose::Cache>(&keys),
            of_tenant::<purpose::Credential>(&keys),
            of_tenant::<purpose::Idempotency>(&keys),
            of_tenant::<purpose::WebhookSigning>(&keys),
        ]);
    }
    let (keys, _) = PlatformKeys::generate(&root, &SeededEntropy::new(5)).unwrap();
    pairs.extend([
        of_platform::<purpose::Catalogue>(&keys),
        of_platform::<purpose::Credential>(&keys),
        of_platform::<purpose::TokenSigning>(&keys),
        of_platform::<purpose::WebhookSigning>(&keys),
    ]);

    for sealer in &pairs {
        for opener in &pairs {
            let opened = (opener.open)(&sealer.sealed);
            if sealer.name == opener.name {
                assert_eq!(opened.unwrap(), sealer.name.as_bytes());
            } else {
                let error = opened.expect_err("sealed by one, opened by another");
                assert_eq!(
                    error,
                    OpenError::NotAuthentic,
                    "{} {}",
                    sealer.name,
                    opener.name
                );
            }
        }
    }
}

#[test]
fn invariant_3_a_sealed_value_is_bound_to_its_context_and_whole() {
    let (keys, _) = TenantKeys::generate(&root(1), ACME, &SeededEntropy::new(5)).unwrap();
    let key = keys.sealing_key::<purpose::Blob>();
    let sealed = key.seal(&SeededEntropy::new(6), &[b"ab", b"c"], b"secret");
    assert_eq!(sealed.len(), 33 + b"secret".len());
    assert_eq!(**key.open(&[b"ab", b"c"], &sealed).unwrap(), *b"secret");
    for context in [
        &[b"a".as_slice(), b"bc"][..],
        &[b"abc"],
        &[],
        &[b"ab", b"c", b""],
    ] {
        assert_eq!(
            key.open(context, &sealed).unwrap_err(),
            OpenError::NotAuthentic
        );
    }
    for place in 0..sealed.len() {
        let mut changed = sealed.clone();
        changed[place] ^= 1;
        assert!(key.open(&[b"ab", b"c"], &changed).is_err(), "byte {place}");
        assert!(key.open(&[b"ab", b"c"], &sealed[..place]).is_err());
    }
}

#[test]
fn database_keys_differ_by_owner_and_generation() {
    let root = root(1);
    let (acme, _) = TenantKeys::generate(&root, ACME, &SeededEntropy::new(5)).unwrap();
    let (bolt, _) = TenantKeys::generate(&root, BOLT, &SeededEntropy::new(5)).unwrap();
    let (rotated, _) = acme.next_generation(&root, &SeededEntropy::new(5)).unwrap();
    let (platform, _) = PlatformKeys::generate(&root, &SeededEntropy::new(5)).unwrap();
    let mut pragmas = vec![
        acme.placement_key().sqlcipher_pragma(),
        bolt.placement_key().sqlcipher_pragma(),
        rotated.placement_key().sqlcipher_pragma(),
        platform.catalogue_key().sqlcipher_pragma(),
    ];
    for pragma in &pragmas {
        let digits = pragma
            .strip_prefix("x'")
            .and_then(|rest| rest.strip_suffix('\''))
            .unwrap();
        assert_eq!(digits.len(), 64);
        assert!(digits.bytes().all(|byte| byte.is_ascii_hexdigit()));
    }
    pragmas.sort_by(|one, two| one.as_str().cmp(two));
    pragmas.dedup();
    assert_eq!(pragmas.len(), 4);
    assert!(acme.previous_placement_key().is_none());
    let previous = rotated.previous_placement_key().unwrap().sqlcipher_pragma();
    assert_eq!(previous, acme.placement_key().sqlcipher_pragma());
}

#[test]
fn a_wrapped_key_unwraps_for_its_owner_generation_and_root_alone() {
    let root = root(1);
    let (_, wrapped) = TenantKeys::generate(&root, ACME, &SeededEntropy::new(5)).unwrap();
    assert!(TenantKeys::unwrap(&root, ACME, &wrapped).is_ok());
    let foreign = TenantKeys::unwrap(&root, BOLT, &wrapped).unwrap_err();
    assert!(matches!(foreign, KeyError::NotAuthentic));
    let platform = PlatformKeys::unwrap(&root, &wrapped).unwrap_err();
    assert!(matches!(platform, KeyError::NotAuthentic));
    let renumbered = WrappedKey {
        generation: 2,
        ..wrapped.clone()
    };
    let error = TenantKeys::unwrap(&root, ACME, &renumbered).unwrap_err();
    assert!(matches!(error, KeyError::NotAuthentic));

    let other = LocalRootKey::generate(&SeededEntropy::new(2));
    let error = TenantKeys::unwrap(&other, ACME, &wrapped).unwrap_err();
    assert!(error.to_string().contains(other.id().as_str()), "{error}");
    // A wrapped key that claims the other root is still not that root's.
    let relabelled = WrappedKey {
        root: other.id(),
        ..wrapped
    };
    let error = TenantKeys::unwrap(&other, ACME, &relabelled).unwrap_err();
    assert!(matches!(error, KeyError::NotAuthentic));
}

#[test]
fn rotating_the_root_key_changes_no_data() {
    let (old, new) = (root(1), root(2));
    let (keys, wrapped) = TenantKeys::generate(&old, ACME, &SeededEntropy::new(5)).unwrap();
    let sealed = keys
        .sealing_key::<purpose::Blob>()
        .seal(&SeededEntropy::new(6), &[], b"data");

    let rewrapped = wrapped.rewrap(KeyOwner::Tenant(ACME), &old, &new).unwrap();
    assert!(TenantKeys::unwrap(&old, ACME, &rewrapped).is_err());
    let reopened = TenantKeys::unwrap(&new, ACME, &rewrapped).unwrap();
    assert_eq!(
        **reopened
            .sealing_key::<purpose::Blob>()
            .open(&[], &sealed)
            .unwrap(),
        *b"data"
    );
    let foreign = wrapped
        .rewrap(KeyOwner::Tenant(BOLT), &old, &new)
        .unwrap_err();
    assert!(matches!(foreign, KeyError::NotAuthentic));

    let (platform, wrapped) = PlatformKeys::generate(&old, &SeededEntropy::new(5)).unwrap();
    let rewrapped = wrapped.rewrap(KeyOwner::Platform, &old, &new).unwrap();
    let reopened = PlatformKeys::unwrap(&new, &rewrapped).unwrap();
    let key = tenancy::ApiKey::generate(&SeededEntropy::new(7));
    assert_eq!(
        platform.key_hasher().hash(&key),
        reopened.key_hasher().hash(&key)
    );
}

#[test]
fn rotating_a_tenants_key_keeps_the_old_data_open_until_it_has_moved() {
    let root = root(1);
    let entropy = SeededEntropy::new(5);
    let (first, first_wrapped) = TenantKeys::generate(&root, ACME, &entropy).unwrap();
    let old = first
        .sealing_key::<purpose::Blob>()
        .seal(&entropy, &[], b"old");

    let (_, second_wrapped) = first.next_generation(&root, &entropy).unwrap();
    assert_eq!(second_wrapped.generation, 2);
    // A restart in the middle of a rotation has both wrapped keys and nothing else.
    let moving = TenantKeys::unwrap_rotating(&root, ACME, &second_wrapped, &first_wrapped).unwrap();
    let key = moving.sealing_key::<purpose::Blob>();
    assert!(key.is_outdated(&old).unwrap());
    let moved = key.seal(&entropy, &[], &key.open(&[], &old).unwrap());
    assert!(!key.is_outdated(&moved).unwrap());

    // Invariant 15: without the first key its data is gone, and the moved data is not.
    let after = TenantKeys::unwrap(&root, ACME, &second_wrapped).unwrap();
    let key = after.sealing_key::<purpose::Blob>();
    assert_eq!(
        key.open(&[], &old).unwrap_err(),
        OpenError::UnknownGeneration { generation: 1 }
    );
    assert_eq!(**key.open(&[], &moved).unwrap(), *b"old");
    let first_key = first.sealing_key::<purpose::Blob>();
    assert!(first_key.open(&[], &moved).is_err());
}

#[test]
fn a_wrapped_key_survives_json() {
    let (_, wrapped) = TenantKeys::generate(&root(1), ACME, &SeededEntropy::new(5)).unwrap();
    let json = serde_json::to_string(&wrapped).unwrap();
    assert_eq!(serde_json::from_str::<WrappedKey>(&json).unwrap(), wrapped);
}

#[test]
fn the_audit_key_signs_and_is_the_same_after_a_restart() {
    let root = root(1);
    let (keys, wrapped) = PlatformKeys::generate(&root, &SeededEntropy::new(5)).unwrap();
    let signature = keys.audit_signing_key().sign(b"checkpoint");
    let public = PlatformKeys::unwrap(&root, &wrapped)
        .unwrap()
        .audit_signing_key()
        .public_key();
    let public = UnparsedPublicKey::new(&ED25519, public);
    assert!(public.verify(b"checkpoint", &signature).is_ok());
    assert!(public.verify(b"checkpoint!", &signature).is_err());
}

#[test]
fn no_secret_is_printed() {
    let root = root(1);
    let (tenant, _) = TenantKeys::generate(&root, ACME, &SeededEntropy::new(5)).unwrap();
    let (platform, _) = PlatformKeys::generate(&root, &SeededEntropy::new(5)).unwrap();
    assert_eq!(
        format!("{tenant:?}"),
        format!("TenantKeys({ACME}, [redacted])")
    );
    assert_eq!(format!("{platform:?}"), "PlatformKeys([redacted])");
    assert_eq!(
        format!("{:?}", tenant.placement_key()),
        "PlacementKey([redacted])"
    );
    assert_eq!(format!("{root:?}"), format!("LocalRootKey({})", root.id()));
    let key = tenant.sealing_key::<purpose::Blob>();
    assert_eq!(
        format!("{key:?}"),
        format!("SealingKey(blob, Tenant({ACME}))")
    );
}
