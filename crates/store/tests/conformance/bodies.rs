//! What calls asked and were answered: kept in the tenant's own store, bounded, and forgotten.

use base::{RequestId, Timestamp};
use store::{BodyBounds, BodyMarks, CallBodies, TooOld};

use super::Placement;
use super::fixture::{DAY, Hierarchy};

fn bodies(number: u128, days: i64, bytes: usize) -> CallBodies {
    CallBodies {
        request: RequestId::from_bits(number),
        at: Timestamp::from_micros(days * DAY),
        asked: vec![b'q'; bytes / 2],
        answered: vec![b'a'; bytes - bytes / 2],
        marks: BodyMarks {
            asked_cut: number.is_multiple_of(2),
            answered_cut: number.is_multiple_of(3),
            incomplete: number.is_multiple_of(5),
        },
    }
}

pub(super) fn bodies_are_kept_bounded_and_forgotten(placement: impl Placement) {
    let hierarchy = Hierarchy::new(1);
    let (scope, other) = (hierarchy.scope(1), hierarchy.scope(2));
    let bounds = BodyBounds::default();
    for scope in [&scope, &other] {
        placement.provision(scope).unwrap();
    }
    let (store, neighbour) = (placement.open(&scope), placement.open(&other));
    let all: Vec<_> = (0..40).map(|n| bodies(n, n as i64, 100)).collect();
    for pair in all.chunks(7) {
        store.keep_bodies(pair, &bounds).unwrap();
    }
    neighbour.keep_bodies(&all[20..21], &bounds).unwrap();
    let ever = Timestamp::from_micros(-DAY);
    let find = |number: u128| store.bodies(RequestId::from_bits(number), ever).unwrap();
    for one in &all {
        assert_eq!(store.bodies(one.request, ever).unwrap().as_ref(), Some(one));
    }
    // The same request once more takes the place of what there was.
    let again = bodies(7, 8, 10);
    store
        .keep_bodies(std::slice::from_ref(&again), &bounds)
        .unwrap();
    assert_eq!(find(7), Some(again));
    // What is too old is not shown, whether or not it is forgotten by now.
    let since = Timestamp::from_micros(30 * DAY);
    assert_eq!(store.bodies(RequestId::from_bits(30), since).unwrap(), None);
    let young = store.bodies(RequestId::from_bits(31), since).unwrap();
    assert!(young.is_some());
    // It is forgotten in small parts, and only here.
    let too_old = TooOld {
        hours: Timestamp::from_micros(0),
        lines: None,
        responses: None,
        conversations: None,
        bodies: since,
    };
    let now = Timestamp::from_micros(50 * DAY);
    let first = store.forget(&too_old, now, 20).unwrap();
    assert_eq!((first.rows, first.is_done), (20, false));
    let rest = store.forget(&too_old, now, 1_000).unwrap();
    assert_eq!((rest.rows, rest.is_done), (11, true));
    assert!(find(30).is_none() && find(31).is_some());
    assert!(neighbour.bodies(all[20].request, ever).unwrap().is_some());
    // One by one.
    assert!(store.remove_bodies(all[39].request).unwrap());
    assert!(!store.remove_bodies(all[39].request).unwrap());
    assert_eq!(find(39), None);
    // Beyond either bound the oldest go: eight of 100 bytes are there.
    let few = BodyBounds {
        count_max: 4,
        bytes_max: 1_000_000,
    };
    store.keep_bodies(&[bodies(49, 49, 100)], &few).unwrap();
    let left = (31..=49).filter(|number| find(*number).is_some()).count();
    assert!(find(49).is_some() && left <= 4, "{left}");
    let narrow = BodyBounds {
        count_max: 100,
        bytes_max: 150,
    };
    store.keep_bodies(&[bodies(50, 50, 100)], &narrow).unwrap();
    assert!(find(50).is_some() && find(49).is_none());
    let huge = BodyBounds {
        count_max: 100,
        bytes_max: 99,
    };
    store.keep_bodies(&[bodies(51, 51, 60)], &huge).unwrap();
    assert!(find(51).is_some() && find(50).is_none());
}
