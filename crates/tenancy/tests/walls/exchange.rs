//! Invariant 13: a derived token has no right that its parent lacks.

use std::net::IpAddr;
use std::time::Duration;

use crate::world::{self, World, everything, name, now};
use base::{ModelName, Name, PicoUsd};
use proptest::prelude::*;
use tenancy::catalogue::RetiringHash;
use tenancy::{AuthError, ExchangeError, ExchangeRequest, Permission, Role};

const PEER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 7));

fn model(text: &str) -> ModelName {
    text.parse().unwrap()
}

fn all_models() -> [ModelName; 3] {
    ["a", "b", "c"].map(model)
}

fn all_features() -> [Name; 3] {
    ["x", "y", "z"].map(name)
}

fn some<T: Clone + std::fmt::Debug + 'static>(
    all: [T; 3],
) -> impl Strategy<Value = Vec<T>> + Clone {
    prop::sample::subsequence(all.to_vec(), 0..=3)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn invariant_13_a_token_has_no_right_that_its_key_lacks(
        role in prop::sample::select(vec![Role::TenantAdmin, Role::TenantMember, Role::Service]),
        key_models in some(all_models()),
        key_features in some(all_features()),
        token_models in prop::option::of(some(all_models())),
        token_features in prop::option::of(some(all_features())),
        // What the key is narrowed to after the exchange.
        later_models in some(all_models()),
    ) {
        let mut world = World::new();
        world.change_key(|key| {
            key.role = role;
            key.models = key_models.into();
            key.features = key_features.into();
            key.default_feature = Some(name("x"));
        });
        let parent = world.authenticate(world.acme_key.expose(), PEER).unwrap();
        let request = ExchangeRequest {
            models: token_models.clone(),
            features: token_features.clone(),
            ..everything()
        };
        let fits = token_models.iter().flatten().all(|model| parent.grant().may_call(model))
            && token_features.iter().flatten().all(|feature| parent.grant().may_name(feature));
        let issued = world.exchange(&parent, &request);
        prop_assert_eq!(issued.is_ok(), fits);
        let Ok(issued) = issued else { return Ok(()) };

        for narrowed in [false, true] {
            if narrowed {
                world.change_key(|key| key.models = later_models.clone().into());
            }
            let parent = world.authenticate(world.acme_key.expose(), PEER).unwrap();
            let child = world.authenticate(&issued.token, PEER).unwrap();
            let (parent, child) = (parent.grant(), child.grant());
            for permission in Permission::ALL {
                prop_assert!(parent.allows(permission) || !child.allows(permission));
            }
            for model in all_models() {
                let asked = token_models.as_ref().is_none_or(|list| list.contains(&model));
                prop_assert_eq!(child.may_call(&model), asked && parent.may_call(&model));
            }
            for feature in all_features() {
                let asked = token_features.as_ref().is_none_or(|list| list.contains(&feature));
                prop_assert_eq!(child.may_name(&feature), asked && parent.may_name(&feature));
            }
            prop_assert!(child.default_feature().is_none_or(|feature| child.may_name(feature)));
        }
    }
}

#[test]
fn a_token_calls_models_and_nothing_else() {
    let mut world = World::new();
    world.change_key(|key| key.role = Role::TenantAdmin);
    let parent = world.authenticate(world.acme_key.expose(), PEER).unwrap();
    let request = ExchangeRequest {
        spend_cap: Some(PicoUsd::dollars(1)),
        ..everything()
    };
    let issued = world.exchange(&parent, &request).unwrap();
    let child = world.authenticate(&issued.token, PEER).unwrap();
    for permission in Permission::ALL {
        let expected = permission == Permission::CallModels;
        assert_eq!(child.grant().allows(permission), expected, "{permission:?}");
    }
    let claims = child.grant().token().unwrap();
    assert_eq!(claims.spend_cap, Some(PicoUsd::dollars(1)));
    assert_eq!(claims.jti, issued.claims.jti);
    assert_eq!(child.key_id(), parent.key_id());
    assert_eq!(
        world.exchange(&child, &everything()).unwrap_err(),
        ExchangeError::NotAllowed
    );
    assert_eq!(child.into_scope().unwrap().tenant(), world::ACME);
}

#[test]
fn whatever_ends_the_key_ends_its_tokens_at_once() {
    let issue = |world: &World| {
        let parent = world.authenticate(world.acme_key.expose(), PEER).unwrap();
        world.exchange(&parent, &everything()).unwrap().token
    };
    let mut world = World::new();
    let token = issue(&world);
    world.change_key(|key| key.revoked = true);
    assert_eq!(
        world.authenticate(&token, PEER).unwrap_err(),
        AuthError::Revoked
    );

    let mut world = World::new();
    let token = issue(&world);
    world.remove(tenancy::catalogue::Kind::Key, "main");
    assert_eq!(
        world.authenticate(&token, PEER).unwrap_err(),
        AuthError::Revoked
    );

    let mut world = World::new();
    let token = issue(&world);
    world.change_tenant(|tenant| tenant.suspended = true);
    assert_eq!(
        world.authenticate(&token, PEER).unwrap_err(),
        AuthError::TenantSuspended
    );

    let mut world = World::new();
    let token = issue(&world);
    world.change_key(|key| key.networks = ["198.51.100.0/24".parse().unwrap()].into());
    assert_eq!(
        world.authenticate(&token, PEER).unwrap_err(),
        AuthError::AddressNotAllowed
    );

    // A stolen key is rotated without overlap: the thief's tokens go with it.
    let mut world = World::new();
    let token = issue(&world);
    world.change_key(|key| key.hash = world::hash_of_nobody());
    assert_eq!(
        world.authenticate(&token, PEER).unwrap_err(),
        AuthError::Revoked
    );
}

#[test]
fn a_token_ends_with_its_key_or_its_overlap() {
    let at = |seconds| now().plus(Duration::from_secs(seconds));
    let mut world = World::new();
    world.change_key(|key| key.expires_at = Some(at(60)));
    let parent = world.authenticate(world.acme_key.expose(), PEER).unwrap();
    let issued = world.exchange(&parent, &everything()).unwrap();
    assert_eq!(issued.claims.exp, at(60).as_seconds());
    assert!(world.authenticate_at(&issued.token, PEER, at(59)).is_ok());
    let ended = world.authenticate_at(&issued.token, PEER, at(60));
    assert_eq!(
        ended.unwrap_err(),
        AuthError::Expired,
        "the clocks' skew does not extend a key"
    );

    let mut world = World::new();
    world.change_key(|key| {
        let hash = std::mem::replace(&mut key.hash, world::hash_of_nobody());
        key.retiring = Some(Box::new(RetiringHash {
            hash,
            until: at(30),
        }));
    });
    let parent = world.authenticate(world.acme_key.expose(), PEER).unwrap();
    let issued = world.exchange(&parent, &everything()).unwrap();
    assert_eq!(issued.claims.exp, at(30).as_seconds());
    assert!(world.authenticate_at(&issued.token, PEER, at(29)).is_ok());
    let ended = world.authenticate_at(&issued.token, PEER, at(30));
    assert_eq!(ended.unwrap_err(), AuthError::Expired);
}

#[test]
fn requests_that_cannot_be_granted_are_refused_with_their_reason() {
    let mut world = World::new();
    world.change_key(|key| {
        key.models = [model("a")].into();
        key.features = [name("x")].into();
    });
    let parent = world.authenticate(world.acme_key.expose(), PEER).unwrap();
    let many = (0..200)
        .map(|number| model(&format!("a-long-model-name-{number}")))
        .collect();
    let refused = [
        (
            ExchangeRequest {
                models: Some(vec![model("a"), model("b")]),
                ..everything()
            },
            ExchangeError::Model { model: model("b") },
        ),
        (
            ExchangeRequest {
                features: Some(vec![name("y")]),
                ..everything()
            },
            ExchangeError::Feature { feature: name("y") },
        ),
        (
            ExchangeRequest {
                spend_cap: Some(PicoUsd::ZERO),
                ..everything()
            },
            ExchangeError::SpendCap,
        ),
        (
            ExchangeRequest {
                spend_cap: Some(PicoUsd::dollars(-1)),
                ..everything()
            },
            ExchangeError::SpendCap,
        ),
        (
            ExchangeRequest {
                lifetime_seconds: 0,
                ..everything()
            },
            ExchangeError::Lifetime,
        ),
        (
            ExchangeRequest {
                lifetime_seconds: 301,
                ..everything()
            },
            ExchangeError::Lifetime,
        ),
    ];
    for (request, error) in refused {
        assert_eq!(world.exchange(&parent, &request).unwrap_err(), error);
    }

    world.change_key(|key| key.models = Vec::new().into());
    let parent = world.authenticate(world.acme_key.expose(), PEER).unwrap();
    let request = ExchangeRequest {
        models: Some(many),
        ..everything()
    };
    assert_eq!(
        world.exchange(&parent, &request).unwrap_err(),
        ExchangeError::TooLong
    );

    let soon = now().plus(Duration::from_millis(500));
    world.change_key(|key| key.expires_at = Some(soon));
    let parent = world.authenticate(world.acme_key.expose(), PEER).unwrap();
    assert_eq!(
        world.exchange(&parent, &everything()).unwrap_err(),
        ExchangeError::KeyEnds
    );
}
