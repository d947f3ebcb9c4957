//! From a presented credential to a scope, against real snapshots.

use std::net::IpAddr;
use std::time::Duration;

use crate::world::{self, ACME, World, name, now};
use base::{KeyId, SeededEntropy};
use proptest::prelude::*;
use tenancy::catalogue::{KeySpec, Kind, RetiringHash, UserSpec};
use tenancy::{ApiKey, AuthError, Caller, PresentedCredential, Role};

const PEER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 7));

#[test]
fn a_key_leads_to_its_tenants_scope_and_carries_its_record() {
    let world = World::new();
    let principal = world.authenticate(world.acme_key.expose(), PEER).unwrap();
    assert_eq!(principal.tenant().name, name("acme"));
    assert_eq!(principal.grant().team(), Some(world::TEAM));
    assert_eq!(principal.grant().user(), Some(world::USER));
    assert_eq!(principal.key_id(), world::ACME_KEY);
    let scope = principal.into_scope().unwrap();
    assert_eq!(scope.tenant(), ACME);
    assert_eq!(scope.keys().tenant(), ACME);
    assert_eq!(scope.grant().key_id(), Some(world::ACME_KEY));
}

#[test]
fn invariant_2_foreign_keys_are_not_published() {
    let refused = World::new().problems_with_foreign_keys();
    assert!(
        refused[0].message.contains("another tenant's keys"),
        "{refused:?}"
    );
}

/// Whatever is changed about a good key, and what comes of it.
#[test]
fn every_reason_to_refuse_a_key_is_found() {
    type Change = fn(&mut KeySpec);
    let cases: [(&str, Change, Result<(), AuthError>); 12] = [
        ("unchanged", |_| (), Ok(())),
        ("revoked", |key| key.revoked = true, Err(AuthError::Revoked)),
        (
            "expired now",
            |key| key.expires_at = Some(now()),
            Err(AuthError::Expired),
        ),
        (
            "expires in a microsecond",
            |key| key.expires_at = Some(now().plus(Duration::from_micros(1))),
            Ok(()),
        ),
        (
            "revoked and expired",
            |key| {
                key.revoked = true;
                key.expires_at = Some(now());
            },
            Err(AuthError::Revoked),
        ),
        (
            "its network",
            |key| key.networks = ["192.0.2.0/24".parse().unwrap()].into(),
            Ok(()),
        ),
        (
            "another network",
            |key| key.networks = ["198.51.100.0/24".parse().unwrap()].into(),
            Err(AuthError::AddressNotAllowed),
        ),
        (
            "one of several networks",
            |key| {
                key.networks = [
                    "2001:db8::/32".parse().unwrap(),
                    "192.0.2.7/32".parse().unwrap(),
                ]
                .into();
            },
            Ok(()),
        ),
        (
            "another network and expired: expiry is not told",
            |key| {
                key.networks = ["198.51.100.0/24".parse().unwrap()].into();
                key.expires_at = Some(now());
            },
            Err(AuthError::AddressNotAllowed),
        ),
        (
            "rotated away",
            |key| key.hash = world::hash_of_nobody(),
            Err(AuthError::Unknown),
        ),
        (
            "rotated, in the overlap",
            |key| {
                let until = now().plus(Duration::from_secs(1));
                let hash = std::mem::replace(&mut key.hash, world::hash_of_nobody());
                key.retiring = Some(Box::new(RetiringHash { hash, until }));
            },
            Ok(()),
        ),
        (
            "rotated, after the overlap",
            |key| {
                let hash = std::mem::replace(&mut key.hash, world::hash_of_nobody());
                key.retiring = Some(Box::new(RetiringHash { hash, until: now() }));
            },
            Err(AuthError::Expired),
        ),
    ];
    for (case, change, expected) in cases {
        let mut world = World::new();
        world.change_key(change);
        let found = world.authenticate(world.acme_key.expose(), PEER).map(drop);
        assert_eq!(found, expected, "{case}");
    }
}

#[test]
fn a_removed_team_or_user_and_a_suspended_tenant_are_refused() {
    let key_of = |world: &World| world.acme_key.expose().to_owned();
    let mut world = World::new();
    world.remove(Kind::Team, "search");
    let found = world.authenticate(&key_of(&world), PEER).unwrap_err();
    assert_eq!(found, AuthError::Revoked);

    let mut world = World::new();
    world.remove(Kind::User, "ada");
    let found = world.authenticate(&key_of(&world), PEER).unwrap_err();
    assert_eq!(found, AuthError::Revoked);

    let mut world = World::new();
    world.put_user(UserSpec {
        disabled: true,
        ..world::ada()
    });
    let found = world.authenticate(&key_of(&world), PEER).unwrap_err();
    assert_eq!(found, AuthError::Revoked);

    // The key has no team of its own: it is in its user's, and that team is removed.
    let mut world = World::new();
    world.change_key(|key| key.team = None);
    let principal = world.authenticate(&key_of(&world), PEER).unwrap();
    assert_eq!(principal.grant().team(), Some(world::TEAM));
    world.remove(Kind::Team, "search");
    let found = world.authenticate(&key_of(&world), PEER).unwrap_err();
    assert_eq!(found, AuthError::Revoked);

    let mut world = World::new();
    world.change_tenant(|tenant| tenant.suspended = true);
    let found = world.authenticate(&key_of(&world), PEER).unwrap_err();
    assert_eq!(found, AuthError::TenantSuspended);
    // The neighbour does not notice.
    assert!(world.authenticate(world.bolt_key.expose(), PEER).is_ok());
}

#[test]
fn an_ipv4_client_of_an_ipv6_listener_is_still_itself() {
    let mut world = World::new();
    world.change_key(|key| key.networks = ["192.0.2.0/24".parse().unwrap()].into());
    let key = world.acme_key.expose();
    assert!(
        world
            .authenticate(key, "::ffff:192.0.2.7".parse().unwrap())
            .is_ok()
    );
    let outside = world.authenticate(key, "::ffff:198.51.100.7".parse().unwrap());
    assert_eq!(outside.unwrap_err(), AuthError::AddressNotAllowed);
}

#[test]
fn operators_are_not_tenants() {
    let world = World::new();
    let key = world.operator_key.expose();
    assert_eq!(
        world.authenticate(key, PEER).unwrap_err(),
        AuthError::Unknown
    );
    let presented = world::bearer(key);
    let credential = PresentedCredential::from_headers(Some(&presented), None).unwrap();
    match world
        .authority()
        .identify(&credential, PEER, now())
        .unwrap()
    {
        Caller::Operator(operator) => {
            assert_eq!(operator.name(), &name("root"));
            assert_eq!(operator.role(), Role::Operator);
        }
        Caller::Tenant(_) => panic!("an operator is no tenant"),
    }

    let mut world = world;
    world.disable_operator();
    let found = world
        .authority()
        .identify(&credential, PEER, now())
        .unwrap_err();
    assert_eq!(found, AuthError::Revoked);
}

#[test]
fn refusals_look_alike_from_outside_but_for_expiry() {
    let invalid = AuthError::Unknown.outward();
    for error in [
        AuthError::Malformed,
        AuthError::Revoked,
        AuthError::AddressNotAllowed,
        AuthError::TenantSuspended,
        AuthError::Token(tenancy::TokenError::Signature),
    ] {
        assert_eq!(error.outward(), invalid, "{error}");
    }
    assert_eq!(invalid.code, "invalid_api_key");
    assert_eq!(AuthError::Missing.outward().code, "invalid_api_key");
    assert_eq!(AuthError::Expired.outward().code, "expired_api_key");
}

#[test]
fn headers_are_read_strictly() {
    let world = World::new();
    let key = world.acme_key.expose().as_bytes();
    let header = |prefix: &str| [prefix.as_bytes(), key].concat();
    let accepted = [
        (Some(header("Bearer ")), None),
        (Some(header("bearer ")), None),
        (Some(header("BEARER   ")), None),
        (None, Some(key.to_vec())),
        (Some(header("Bearer ")), Some(key.to_vec())),
    ];
    for (authorization, x_api_key) in accepted {
        let presented =
            PresentedCredential::from_headers(authorization.as_deref(), x_api_key.as_deref());
        let found = world
            .authority()
            .authenticate(&presented.unwrap(), PEER, now());
        assert_eq!(found.unwrap().tenant().id(), ACME);
    }
    let other = world.bolt_key.expose().as_bytes().to_vec();
    let refused = [
        (None, None, AuthError::Missing),
        (Some(b"Bearer ".to_vec()), None, AuthError::Missing),
        (Some(b"Bearer".to_vec()), None, AuthError::Missing),
        (None, Some(Vec::new()), AuthError::Missing),
        (Some(header("Basic ")), None, AuthError::Malformed),
        (Some(header("Bearer")), None, AuthError::Malformed),
        (Some(header("Bearer\t")), None, AuthError::Malformed),
        (Some(key.to_vec()), None, AuthError::Malformed),
        (Some(b"Bearer a b".to_vec()), None, AuthError::Malformed),
        (
            Some(b"Bearer \xff\xfe".to_vec()),
            None,
            AuthError::Malformed,
        ),
        (Some(b"Bearer a\0b".to_vec()), None, AuthError::Malformed),
        (Some(header("Bearer ")), Some(other), AuthError::Malformed),
        (None, Some(vec![b'a'; 4_097]), AuthError::Malformed),
    ];
    for (authorization, x_api_key, error) in refused {
        let found =
            PresentedCredential::from_headers(authorization.as_deref(), x_api_key.as_deref());
        assert_eq!(found.unwrap_err(), error, "{authorization:?}");
    }
}

#[test]
fn a_key_that_was_never_issued_is_unknown_and_a_mistyped_one_is_malformed() {
    let world = World::new();
    let stranger = ApiKey::generate(&SeededEntropy::new(999));
    let found = world.authenticate(stranger.expose(), PEER).unwrap_err();
    assert_eq!(found, AuthError::Unknown);
    let mut mistyped = world.acme_key.expose().to_owned();
    let swapped = if mistyped.ends_with('A') { "B" } else { "A" };
    mistyped.replace_range(mistyped.len() - 1.., swapped);
    let found = world.authenticate(&mistyped, PEER).unwrap_err();
    assert_eq!(found, AuthError::Malformed);
}

#[test]
fn what_was_presented_is_not_printed() {
    let world = World::new();
    let key = world.acme_key.expose();
    let presented = world::bearer(key);
    let credential = PresentedCredential::from_headers(Some(&presented), None).unwrap();
    assert!(!format!("{credential:?}").contains("pw_"));
    let principal = world.authenticate(key, PEER).unwrap();
    assert!(!format!("{principal:?}").contains(key));
    let token = world.exchange(&principal, &world::everything()).unwrap();
    assert!(!format!("{token:?}").contains(&token.token));
}

#[test]
fn a_key_made_anew_under_an_old_name_is_another() {
    let mut world = World::new();
    let principal = world.authenticate(world.acme_key.expose(), PEER).unwrap();
    let token = world
        .exchange(&principal, &world::everything())
        .unwrap()
        .token;
    assert!(world.authenticate(&token, PEER).is_ok());
    world.change_key(|key| key.id = KeyId::from_bits(99));
    assert_eq!(
        world.authenticate(&token, PEER).unwrap_err(),
        AuthError::Revoked
    );
}

proptest! {
    #[test]
    fn no_made_up_header_is_let_in(
        bytes in prop::collection::vec(any::<u8>(), 0..120),
        text in "(Bearer |bearer  )?(pw_|eyJ)?[A-Za-z0-9_.-]{0,90}",
    ) {
        let world = World::new();
        for header in [bytes.as_slice(), text.as_bytes()] {
            for headers in [(Some(header), None), (None, Some(header))] {
                let admitted = PresentedCredential::from_headers(headers.0, headers.1)
                    .and_then(|presented| world.authority().authenticate(&presented, PEER, now()));
                prop_assert!(admitted.is_err());
            }
        }
    }
}
