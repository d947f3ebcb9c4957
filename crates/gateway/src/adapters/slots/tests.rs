//! Slots by themselves: no engine, no time but what is said.

use std::cell::Cell;
use std::rc::Rc;

use tenancy::catalogue::AdapterSpec;

use super::*;

const A: u128 = 1;
const B: u128 = 2;
const C: u128 = 3;

/// A caller by its number, which gives up when that is said.
#[derive(Debug, Clone)]
struct Caller(u32, Rc<Cell<bool>>);

impl Waiter for Caller {
    fn is_gone(&self) -> bool {
        self.1.get()
    }
}

fn caller(number: u32) -> Caller {
    Caller(number, Rc::default())
}

fn adapter(tenant: u128, number: u32) -> Arc<EngineAdapter> {
    let spec = r#"{"base":"m","source":{"reference":{"location":"/a"}}}"#;
    let spec: AdapterSpec = serde_json::from_str(spec).unwrap();
    let derived = format!("{tenant:020}-{number:022}");
    Arc::new(EngineAdapter {
        tenant: TenantId::from_bits(tenant),
        name: format!("a{number}").parse().unwrap(),
        spec: Arc::new(spec),
        engine_name: AdapterName::listed(&format!("pwa-{derived}")).unwrap(),
    })
}

fn at(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// Slots whose engine does what it is told at once, and a record of that.
struct House {
    slots: Slots<Caller>,
    now: Duration,
    loads: Vec<AdapterName>,
    evicted: Vec<AdapterName>,
    granted: Vec<(u32, AdapterName, u64)>,
    /// Loads are left undone.
    is_slow: bool,
}

impl House {
    fn new(capacity: usize) -> Self {
        Self {
            slots: Slots::new(capacity),
            now: at(0),
            loads: Vec::new(),
            evicted: Vec::new(),
            granted: Vec::new(),
            is_slow: false,
        }
    }

    fn run(&mut self) {
        while let Some(step) = self.slots.next(self.now) {
            match step {
                Step::Sync => self.slots.synced(Some(Vec::new())),
                Step::Load { adapter, evicted } => {
                    self.evicted.extend(evicted.clone());
                    self.loads.push(adapter.engine_name.clone());
                    if !self.is_slow {
                        let name = &adapter.engine_name;
                        self.slots.loaded(name, evicted.as_ref(), self.now);
                    }
                }
                Step::Unload(name) => {
                    self.evicted.push(name.clone());
                    self.slots.unloaded(&name);
                }
                Step::Grant {
                    adapter,
                    life,
                    waiters,
                } => {
                    let granted = waiters.iter().map(|it| (it.0, adapter.clone(), life));
                    self.granted.extend(granted);
                }
            }
            assert!(self.slots.in_use() <= self.slots.capacity);
        }
    }

    fn ask(&mut self, adapter: &Arc<EngineAdapter>, number: u32) -> bool {
        let asked = self.slots.ask(adapter, caller(number), self.now);
        if let Asked::Held(life, _) = &asked {
            let name = adapter.engine_name.clone();
            self.granted.push((number, name, *life));
        }
        self.run();
        self.has(number)
    }

    fn has(&self, number: u32) -> bool {
        self.granted.iter().any(|(it, ..)| *it == number)
    }

    fn end(&mut self, number: u32) {
        let place = self
            .granted
            .iter()
            .position(|(it, ..)| *it == number)
            .unwrap();
        let (_, name, life) = self.granted.remove(place);
        self.slots.release(&name, life, self.now);
        self.run();
    }

    /// One whole call.
    fn call(&mut self, adapter: &Arc<EngineAdapter>, number: u32) {
        assert!(self.ask(adapter, number), "call {number} waits");
        self.end(number);
    }

    fn is_loaded(&self, adapter: &Arc<EngineAdapter>) -> bool {
        self.slots.held.contains_key(&adapter.engine_name)
    }
}

#[test]
fn the_least_recently_used_makes_room() {
    let mut house = House::new(2);
    let [one, two, three] = [1, 2, 3].map(|number| adapter(A, number));
    for (second, (it, number)) in [(&one, 1), (&two, 2), (&one, 3)].into_iter().enumerate() {
        house.now = at(second as u64);
        house.call(it, number);
    }
    house.now = at(9);
    house.call(&three, 4);
    assert_eq!(house.evicted, std::slice::from_ref(&two.engine_name));
    assert!(house.is_loaded(&one) && house.is_loaded(&three));
    assert_eq!(house.loads.len(), 3);
}

#[test]
fn callers_of_one_adapter_share_one_load() {
    let mut house = House::new(1);
    house.is_slow = true;
    let it = adapter(A, 1);
    for number in 1..=5 {
        assert!(!house.ask(&it, number));
    }
    assert_eq!(house.loads.len(), 1);
    house.slots.loaded(&it.engine_name, None, at(1));
    house.run();
    assert!((1..=5).all(|number| house.has(number)));
}

#[test]
fn what_is_in_use_is_not_unloaded_and_whoever_waits_for_it_gets_it() {
    let mut house = House::new(1);
    let (ours, theirs) = (adapter(A, 1), adapter(B, 1));
    assert!(house.ask(&ours, 1));
    assert!(!house.ask(&theirs, 2), "the only slot is in use");
    assert!(house.is_loaded(&ours));
    // New calls of the first stand behind: else the second might wait for ever.
    assert!(!house.ask(&ours, 3));
    house.end(1);
    assert!(house.has(2) && !house.has(3));
    house.end(2);
    assert!(house.has(3));
}

#[test]
fn one_who_gives_up_closes_nothing() {
    let mut house = House::new(1);
    let (ours, theirs) = (adapter(A, 1), adapter(B, 1));
    assert!(house.ask(&ours, 1));
    let gone = caller(2);
    assert!(matches!(
        house.slots.ask(&theirs, gone.clone(), house.now),
        Asked::Waiting
    ));
    house.run();
    assert!(!house.ask(&ours, 3));
    gone.1.set(true);
    house.run();
    assert!(house.has(3));
    assert_eq!(house.slots.waiting(), 0);
}

#[test]
fn a_hog_pushes_out_its_own() {
    let mut house = House::new(2);
    let neighbour = adapter(B, 1);
    let hogs: Vec<_> = (0..10).map(|number| adapter(A, number)).collect();
    house.call(&hogs[0], 1);
    house.call(&hogs[1], 2);
    // The neighbour has none: one of the hog's two goes.
    house.call(&neighbour, 3);
    for round in 0..5 {
        for (index, hog) in hogs.iter().enumerate() {
            house.now += at(1);
            house.call(hog, 100 + 10 * round + index as u32);
            assert!(house.is_loaded(&neighbour));
        }
    }
    assert!(!house.evicted.contains(&neighbour.engine_name));
    // Nobody keeps what it does not use.
    house.now += STALE;
    house.call(&hogs[0], 1_000);
    house.call(&hogs[1], 1_001);
    assert!(!house.is_loaded(&neighbour));
}

#[test]
fn a_hog_that_never_rests_gives_way_to_a_neighbour() {
    let mut house = House::new(2);
    let (one, two, neighbour) = (adapter(A, 1), adapter(A, 2), adapter(B, 1));
    assert!(house.ask(&one, 1) && house.ask(&two, 2));
    assert!(!house.ask(&neighbour, 3));
    // Its next calls of the one whose slot is wanted wait; of the other they go on.
    let (first, second) = (house.ask(&one, 4), house.ask(&two, 5));
    assert!(first != second);
    house.end(1);
    house.end(2);
    assert!(house.has(3));
}

#[test]
fn more_tenants_than_slots_take_turns() {
    let mut house = House::new(2);
    let all = [A, B, C].map(|tenant| adapter(tenant, 1));
    for round in 0..4_u32 {
        for (index, it) in all.iter().enumerate() {
            house.now += at(1);
            house.call(it, 10 * round + index as u32);
        }
    }
}

#[test]
fn a_failure_is_the_adapters_own_and_tried_again_later() {
    let mut house = House::new(1);
    house.is_slow = true;
    let (bad, good) = (adapter(A, 1), adapter(B, 1));
    assert!(!house.ask(&bad, 1));
    let (told, again) = house.slots.failed(&bad.engine_name, None, at(0));
    assert_eq!((told[0].0, again), (1, BACKOFF_FIRST));
    let refused = house.slots.ask(&bad, caller(2), at(0));
    assert!(matches!(refused, Asked::Failed(wait) if wait == BACKOFF_FIRST));
    house.is_slow = false;
    house.call(&good, 3);
    house.now = BACKOFF_FIRST;
    house.is_slow = true;
    assert!(!house.ask(&bad, 4));
    let evicted = good.engine_name.clone();
    let (_, again) = house
        .slots
        .failed(&bad.engine_name, Some(&evicted), house.now);
    assert_eq!(again, 2 * BACKOFF_FIRST);
}

#[test]
fn what_is_revoked_goes_once_its_calls_have_ended() {
    let mut house = House::new(2);
    let (kept, gone) = (adapter(A, 1), adapter(A, 2));
    house.call(&kept, 1);
    assert!(house.ask(&gone, 2));
    let name = gone.name.clone();
    house.slots.revoke(|adapter| adapter.name != name);
    house.run();
    assert!(house.is_loaded(&gone) && house.evicted.is_empty());
    house.end(2);
    assert_eq!(house.evicted, std::slice::from_ref(&gone.engine_name));
    assert!(house.is_loaded(&kept));
}

#[test]
fn an_engine_that_began_anew_is_told_again_and_old_calls_change_nothing() {
    let mut house = House::new(1);
    let it = adapter(A, 1);
    assert!(house.ask(&it, 1) && house.ask(&it, 2));
    let (_, name, life) = house.granted[0].clone();
    house.slots.lost(&name, life);
    assert!(house.ask(&it, 3));
    assert_eq!(house.loads.len(), 2);
    // A second call that finds the same out, and the end of the first, are of the life before.
    house.slots.lost(&name, life);
    house.slots.release(&name, life, house.now);
    assert!(house.is_loaded(&it));
    assert_eq!(house.slots.held[&it.engine_name].users, 1);
}

#[test]
fn what_an_earlier_process_left_goes_first() {
    let mut slots: Slots<Caller> = Slots::new(2);
    let (stray, known, wanted) = (adapter(C, 9), adapter(A, 1), adapter(B, 1));
    assert!(matches!(
        slots.ask(&known, caller(1), at(0)),
        Asked::Waiting
    ));
    assert_eq!(sync(&mut slots), Step::<u32>::Sync);
    slots.synced(Some(vec![
        stray.engine_name.clone(),
        known.engine_name.clone(),
    ]));
    // What is wanted is there: told to load it, the engine says so. Nothing makes room.
    let Some(Step::Load { adapter, evicted }) = slots.next(at(0)) else {
        panic!("a load")
    };
    assert_eq!((adapter, evicted), (Arc::clone(&known), None));
    slots.loaded(&known.engine_name, None, at(0));
    assert!(matches!(slots.next(at(0)), Some(Step::Grant { .. })));
    assert!(matches!(
        slots.ask(&wanted, caller(2), at(0)),
        Asked::Waiting
    ));
    let load = slots.next(at(0));
    let expected = Some(stray.engine_name.clone());
    assert!(matches!(load, Some(Step::Load { evicted, .. }) if evicted == expected));
}

/// The first step, without its callers.
fn sync(slots: &mut Slots<Caller>) -> Step<u32> {
    match slots.next(at(0)) {
        Some(Step::Sync) => Step::Sync,
        step => panic!("{step:?}"),
    }
}

#[test]
fn nobody_fills_the_line_alone() {
    let mut house = House::new(1);
    house.is_slow = true;
    let (ours, theirs) = (adapter(A, 1), adapter(B, 1));
    for number in 0..WAITING_OF_TENANT_MAX {
        assert!(!house.ask(&ours, number as u32));
    }
    let full = house.slots.ask(&ours, caller(9_999), house.now);
    assert!(matches!(full, Asked::Full));
    let other = house.slots.ask(&theirs, caller(9_998), house.now);
    assert!(matches!(other, Asked::Waiting));
}
