//! What is kept, for how long, and whose room it takes.

use base::{SeededEntropy, TenantId};
use serde_json::json;
use tenancy::catalogue::{Address, Kind, Resource};
use tenancy::{
    CachePurpose, Change, LocalRootKey, PlatformKeys, ServiceIdentity, ServicePurpose, Snapshot,
    TenantKeys, TenantScope,
};

use super::*;

const MINUTE: Duration = Duration::from_secs(60);

/// One tenant, its scope, and the room that its cache has.
struct World {
    snapshot: Snapshot,
    scope: TenantScope,
    all: Arc<ByteCap>,
    cache: ResponseCache,
}

fn put(address: Address, spec: serde_json::Value) -> Change {
    let resource = Resource::from_json(address.kind, spec.to_string().as_bytes());
    let resource = Some(resource.expect("a specification"));
    Change { address, resource }
}

impl World {
    fn new(all: u64) -> Self {
        let entropy = SeededEntropy::new(1);
        let root = LocalRootKey::generate(&entropy);
        let id = TenantId::from_bits(1);
        let (keys, _) = TenantKeys::generate(&root, id, &entropy).expect("keys");
        let (platform, _) = PlatformKeys::generate(&root, &entropy).expect("keys");
        let keys = Arc::new(keys);
        let scope =
            ServiceIdentity::of(&platform).scope(Arc::clone(&keys), ServicePurpose::Recovery);
        let changes = vec![
            put(Address::platform(Kind::Tier, "free"), json!({})),
            put(
                Address::platform(Kind::Tenant, "acme"),
                json!({"id": id, "tier": "free"}),
            ),
        ];
        let source = |_| Some(Arc::clone(&keys));
        let snapshot = Snapshot::empty().with(1, changes, &source);
        Self {
            snapshot: snapshot.expect("it is valid"),
            scope,
            all: ByteCap::new(all),
            cache: ResponseCache::default(),
        }
    }

    fn key(&self, name: &str) -> CacheKey {
        self.scope
            .cache_key(CachePurpose::Answer, &[name.as_bytes()])
    }

    fn put(&self, name: &str, length: usize, bytes_max: u64, now: Duration) {
        let answer = KeptAnswer {
            body: vec![b'x'; length].into(),
            form: Form::Whole,
            consumption: Consumption::default(),
            at: now,
        };
        let room = Room {
            bytes_max,
            all: &self.all,
            generation: self.cache.generation(),
            ttl: MINUTE,
        };
        let reader = reader(&self.snapshot, now);
        self.cache.put(self.key(name), answer, None, reader, &room);
    }

    fn has(&self, name: &str, now: Duration) -> bool {
        let reader = reader(&self.snapshot, now);
        let found = self.cache.get(&self.key(name), reader, Duration::MAX);
        found.is_some()
    }
}

fn reader(snapshot: &Snapshot, now: Duration) -> Reader<'_> {
    Reader {
        tenant: snapshot.tenant_named("acme").expect("it is there"),
        version: snapshot.version(),
        now,
    }
}

#[test]
fn an_answer_lives_for_its_time_and_gives_its_bytes_back() {
    let world = World::new(1 << 20);
    world.put("a", 100, 1 << 20, Duration::ZERO);
    assert!(world.has("a", MINUTE - Duration::from_micros(1)));
    let (key, young) = (world.key("a"), Duration::from_secs(5));
    let at_ten = reader(&world.snapshot, 2 * young);
    assert!(world.cache.get(&key, at_ten, young).is_none());
    assert!(world.cache.get(&key, at_ten, 2 * young).is_some());
    assert_eq!(world.all.used(), 100 + ENTRY_BYTES);
    assert!(!world.has("a", MINUTE));
    assert_eq!((world.all.used(), world.cache.figures().entries), (0, 0));
    world.put("b", 100, 1 << 20, MINUTE);
    world.cache.expire(2 * MINUTE);
    assert_eq!(world.all.used(), 0);
}

#[test]
fn what_was_not_asked_for_the_longest_goes_first() {
    let world = World::new(1 << 20);
    // Room for four of them.
    let room = 4 * (1_000 + ENTRY_BYTES);
    for name in ["a", "b", "c", "d"] {
        world.put(name, 1_000, room, Duration::ZERO);
    }
    assert!(world.has("a", Duration::ZERO));
    world.put("e", 1_000, room, Duration::ZERO);
    let kept = ["a", "b", "c", "d", "e"].map(|name| world.has(name, Duration::ZERO));
    assert_eq!(kept, [true, false, true, true, true]);
    assert_eq!(world.cache.figures().bytes, room);
    // One that would take more than a quarter is not kept, and pushes none out.
    world.put("f", 1_001, room, Duration::ZERO);
    assert_eq!(world.cache.figures().entries, 4);
    // The same again takes its own place.
    world.put("e", 1_000, room, Duration::ZERO);
    assert_eq!(world.cache.figures().bytes, room);
}

#[test]
fn where_others_use_all_room_a_tenant_gives_up_its_own_alone() {
    let one = 1_000 + ENTRY_BYTES;
    let world = World::new(3 * one);
    let others = world.all.hold(2 * one).expect("it fits");
    world.put("a", 1_000, 1 << 20, Duration::ZERO);
    world.put("b", 1_000, 1 << 20, Duration::ZERO);
    let kept = ["a", "b"].map(|name| world.has(name, Duration::ZERO));
    assert_eq!(kept, [false, true]);
    assert_eq!(world.all.used(), 3 * one);
    drop(others);
}

#[test]
fn an_older_request_neither_reads_nor_writes_what_a_newer_version_keeps() {
    let world = World::new(1 << 20);
    let now = Duration::ZERO;
    world.put("a", 10, 1 << 20, now);
    let config = json!({"models": ["m"]});
    let address = Address::in_tenant(TenantId::from_bits(1), Kind::Config, "config");
    let newer = world
        .snapshot
        .with(2, vec![put(address, config)], &|_| None);
    let newer = newer.expect("it is valid");
    let key = world.key("a");
    let found = world.cache.get(&key, reader(&newer, now), Duration::MAX);
    assert!(found.is_none(), "it was made under another configuration");
    world.put("a", 10, 1 << 20, now);
    assert!(!world.has("a", now), "the cache is the newer version's");
    assert_eq!(world.cache.figures().entries, 0);
}

#[test]
fn what_is_emptied_stays_empty_for_calls_under_way() {
    let world = World::new(1 << 20);
    let generation = world.cache.generation();
    world.cache.clear();
    let answer = KeptAnswer {
        body: Bytes::new(),
        form: Form::Whole,
        consumption: Consumption::default(),
        at: Duration::ZERO,
    };
    let room = Room {
        bytes_max: 1 << 20,
        all: &world.all,
        generation,
        ttl: MINUTE,
    };
    let reader = reader(&world.snapshot, Duration::ZERO);
    world.cache.put(world.key("a"), answer, None, reader, &room);
    assert_eq!(world.cache.figures().entries, 0);
}

#[test]
fn what_means_the_same_is_found_in_its_own_partition_alone() {
    let world = World::new(1 << 20);
    let now = Duration::ZERO;
    let meaning = |partition: &str, vector: &[f32]| {
        Meaning::of(world.key(partition), vector).expect("it has a direction")
    };
    assert!(Meaning::of(world.key("p"), &[0.0, 0.0]).is_none());
    for (name, vector) in [("a", [1.0, 0.0]), ("b", [0.9, 0.5]), ("c", [0.0, 2.0])] {
        let answer = KeptAnswer {
            body: name.into(),
            form: Form::Whole,
            consumption: Consumption::default(),
            at: now,
        };
        let room = Room {
            bytes_max: 1 << 20,
            all: &world.all,
            generation: world.cache.generation(),
            ttl: MINUTE,
        };
        let meaning = Some(meaning("p", &vector));
        let reader = reader(&world.snapshot, now);
        world
            .cache
            .put(world.key(name), answer, meaning, reader, &room);
    }
    let find = |partition: &str, vector: &[f32], least: f32| {
        let reader = reader(&world.snapshot, now);
        let meaning = meaning(partition, vector);
        let found = world
            .cache
            .get_alike(&meaning, least, reader, Duration::MAX);
        found.map(|answer| answer.body.clone())
    };
    assert_eq!(find("p", &[3.0, 0.1], 0.95).as_deref(), Some(&b"a"[..]));
    assert_eq!(find("p", &[0.8, 0.5], 0.95).as_deref(), Some(&b"b"[..]));
    assert_eq!(find("p", &[1.0, 1.0], 0.99), None);
    assert_eq!(find("q", &[1.0, 0.0], 0.5), None);
    assert_eq!(find("p", &[1.0, 0.0, 0.0], 0.5), None, "another model's");
    world.cache.expire(MINUTE);
    assert_eq!(find("p", &[1.0, 0.0], 0.5), None);
}
