//! What holds of the scheduler after every event, for any calls, ends and changes of the limit.

#![expect(clippy::unwrap_used, reason = "in a test a panic is the report")]

mod world;

use std::collections::HashMap;
use std::time::Duration;

use base::TenantId;
use gateway::fairness::{
    Band, FairnessOptions, Offer, Prefix, Refused, Scheduler, TenantTerms, Ticket, Tokens, Weight,
};
use proptest::prelude::*;

use world::{Event, World, events};

const OPTIONS: FairnessOptions = FairnessOptions {
    weights: gateway::fairness::CostWeights {
        input: 1,
        output: 2,
    },
    guaranteed_permille: [200, 50],
    waiting_per_tenant_max: 20,
    waiting_max: 60,
    quantum_max: 2_000,
};

fn tenant(number: u8) -> TenantId {
    TenantId::from_bits(u128::from(number) + 1)
}

fn ticket(number: u8, input: u32, predicted_output: u32) -> Ticket {
    Ticket {
        tenant: tenant(number),
        terms: TenantTerms::default(),
        band: Band::Interactive,
        input,
        predicted_output,
        prefix: None,
        patience: Duration::MAX,
    }
}

fn cost(tokens: Tokens) -> u64 {
    OPTIONS.weights.cost(tokens)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// Places are not oversubscribed, caps and reservations hold, nobody waits who could go,
    /// nobody is refused while there is room, and charges are exact: after every event.
    #[test]
    fn books_agree_after_every_event(events in events()) {
        let mut world = World::new();
        for event in &events {
            world.apply(event);
            world.check();
        }
        // Everybody who waits is served in the end.
        world.apply(&Event::Limit(8));
        for number in 0..5 {
            world.apply(&Event::Terms(number, 0, 8));
        }
        while !world.running.is_empty() {
            world.apply(&Event::Finish(0, 7));
            world.check();
        }
        prop_assert!(world.waiting.is_empty());
    }
}

/// A call of a backlog: tokens in, predicted out and real out.
type Size = (u32, u32, u32);

/// A tenant that has more calls than are ever served, from some moment on.
#[derive(Debug, Clone)]
struct Backlogged {
    weight: u16,
    band: Band,
    sizes: Vec<Size>,
    /// The number of ends after which it comes.
    comes: usize,
    prefix: Option<Prefix>,
}

impl Backlogged {
    fn new(sizes: Vec<Size>) -> Self {
        Self {
            weight: 1,
            band: Band::Interactive,
            sizes,
            comes: 0,
            prefix: None,
        }
    }
}

/// Serves such tenants on `places` places; `ends` picks the call that ends next. Returns what the
/// calls of each that ended took, by weight, whenever one has ended.
fn serve(places: u32, tenants: &[Backlogged], ends: &[usize]) -> Vec<Vec<f64>> {
    let options = FairnessOptions {
        waiting_per_tenant_max: 10_000,
        waiting_max: 100_000,
        ..OPTIONS
    };
    let mut scheduler = Scheduler::new(options, 0);
    let mut calls = HashMap::new();
    let mut running = Vec::new();
    let mut served = vec![0.0; tenants.len()];
    let mut history = Vec::new();
    for (step, end) in ends.iter().enumerate() {
        for (number, who) in tenants.iter().enumerate() {
            if who.comes != step {
                continue;
            }
            let all = who.sizes.iter().cycle().take(ends.len() + places as usize);
            for (input, predicted, output) in all {
                let ticket = Ticket {
                    terms: TenantTerms {
                        weight: Weight::new(who.weight).unwrap(),
                        ..TenantTerms::default()
                    },
                    band: who.band,
                    prefix: who.prefix,
                    ..ticket(number as u8, *input, *predicted)
                };
                let Ok(Offer::Wait(call)) = scheduler.offer(&ticket, Duration::ZERO) else {
                    panic!("there is no place free");
                };
                let taken = Tokens {
                    input: *input,
                    output: *output,
                };
                calls.insert(call, (number, taken));
            }
        }
        scheduler.set_limit(places, Duration::ZERO);
        while let Some(call) = scheduler.dispatch(Duration::ZERO) {
            running.push(call);
        }
        let call = running.swap_remove(end % running.len());
        let (number, taken) = calls[&call];
        scheduler.finish(call, taken, Duration::ZERO);
        // No place may be free while a tenant comes.
        scheduler.set_limit(0, Duration::ZERO);
        served[number] += cost(taken) as f64 / f64::from(tenants[number].weight);
        history.push(served.clone());
    }
    history
}

fn sizes() -> impl Strategy<Value = Vec<Size>> {
    prop::collection::vec((1..400_u32, 1..400_u32, 0..400_u32), 1..6)
}

/// Sizes that are predicted as they turn out.
fn foreseen() -> impl Strategy<Value = Vec<Size>> {
    let honest = |(input, _, output): Size| (input, output, output);
    sizes().prop_map(move |sizes| sizes.into_iter().map(honest).collect())
}

/// Units of the dearest call, predicted or real: 400 in and 400 out.
const DEAREST: f64 = 1_200.0;

fn spread(served: &[f64]) -> f64 {
    let most = served.iter().copied().fold(f64::MIN, f64::max);
    most - served.iter().copied().fold(f64::MAX, f64::min)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// With true predictions and one place the counters are the service: tenants that wait all
    /// the while differ by a quantum and the dearest call at most, by weight, warm or not. The
    /// quantum is the mean cost of a call, so never above the dearest.
    #[test]
    fn true_predictions_bound_the_difference_by_a_quantum_and_a_call(
        sizes in prop::collection::vec(foreseen(), 3),
        weights in prop::collection::vec(1..5_u16, 3),
        warm in any::<bool>(),
    ) {
        let mut tenants: Vec<Backlogged> = sizes.into_iter().map(Backlogged::new).collect();
        for (tenant, weight) in tenants.iter_mut().zip(weights) {
            tenant.weight = weight;
        }
        tenants[0].prefix = warm.then_some(Prefix(9));
        for served in serve(1, &tenants, &[0; 300]) {
            prop_assert!(spread(&served) <= 2.0 * DEAREST, "{served:?}");
        }
    }

    /// However wrong the predictions are and whichever call ends first: what has ended differs by
    /// a quantum, a call, and on either side the calls under way, each as dear as can be.
    #[test]
    fn wrong_predictions_add_no_more_than_the_calls_under_way(
        sizes in prop::collection::vec(sizes(), 2),
        places in 1..8_u32,
        ends in prop::collection::vec(any::<usize>(), 400),
        warm in any::<bool>(),
    ) {
        let mut tenants: Vec<Backlogged> = sizes.into_iter().map(Backlogged::new).collect();
        tenants[0].prefix = warm.then_some(Prefix(9));
        let bound = (2.0 + f64::from(places)) * DEAREST;
        for served in serve(places, &tenants, &ends) {
            prop_assert!(spread(&served) <= bound, "{served:?}");
        }
    }

    /// Who comes late gets no more than who was there all the time, from then on, but for the
    /// same bound; and no less.
    #[test]
    fn idling_saves_nothing_up(sizes in prop::collection::vec(foreseen(), 2), comes in 1..100_usize) {
        let mut tenants: Vec<Backlogged> = sizes.into_iter().map(Backlogged::new).collect();
        tenants[1].comes = comes;
        let history = serve(1, &tenants, &[0; 300]);
        let before = history[comes - 1].clone();
        for served in &history[comes..] {
            let since: Vec<f64> = served.iter().zip(&before).map(|(now, then)| now - then).collect();
            prop_assert!(spread(&since) <= 2.0 * DEAREST, "{since:?}");
        }
    }

    /// Calls cut into pieces get their tenant no more service than whole ones.
    #[test]
    fn splitting_gains_nothing(whole in 40..400_u32, pieces in 2..10_u32) {
        let tenants = [
            Backlogged::new(vec![(whole, whole, whole)]),
            Backlogged::new(vec![(whole / pieces + 1, whole / pieces + 1, whole / pieces + 1)]),
        ];
        for served in serve(1, &tenants, &[0; 300]) {
            prop_assert!(spread(&served) <= 2.0 * DEAREST, "{served:?}");
        }
    }

    /// Each band gets its guaranteed share of the service whatever the others ask for: nobody is
    /// starved. The bound is what is owed at any moment: one call of each band.
    #[test]
    fn no_band_is_starved(input in 1..400_u32, places in 1..8_u32) {
        let tenants: Vec<Backlogged> = Band::ALL
            .into_iter()
            .map(|band| Backlogged { band, ..Backlogged::new(vec![(input, 1, 1)]) })
            .collect();
        let ends = 400;
        let history = serve(places, &tenants, &vec![0; ends]);
        let call = f64::from(input + 2);
        let last = history.last().unwrap();
        for (band, share) in [(0, 0.75), (1, 0.2), (2, 0.05)] {
            let due = share * call * ends as f64;
            let slack = call * (3.0 + f64::from(places));
            prop_assert!((last[band] - due).abs() <= slack, "{last:?} {due}");
        }
    }
}

/// A tenant that waits in two bands is charged in both: it gets no more than one that waits in
/// one.
#[test]
fn a_second_band_is_no_second_share() {
    let size: Size = (100, 1, 1);
    let mut scheduler = Scheduler::new(
        FairnessOptions {
            waiting_per_tenant_max: 10_000,
            waiting_max: 100_000,
            ..OPTIONS
        },
        0,
    );
    for band in [Band::Interactive, Band::Standard] {
        for number in 0..2 {
            if (band, number) == (Band::Standard, 0) {
                continue;
            }
            for _ in 0..1_000 {
                let ticket = Ticket {
                    band,
                    ..ticket(number, size.0, size.1)
                };
                scheduler.offer(&ticket, Duration::ZERO).unwrap();
            }
        }
    }
    scheduler.set_limit(1, Duration::ZERO);
    for _ in 0..500 {
        let call = scheduler.dispatch(Duration::ZERO).unwrap();
        let taken = Tokens {
            input: 100,
            output: 1,
        };
        scheduler.finish(call, taken, Duration::ZERO);
    }
    let [one, two] = [0, 1].map(|number| scheduler.tenant(tenant(number)).charged / 102);
    assert!(one.abs_diff(two) <= 4, "{one} and {two}");
}

/// Calls that must wait too long are refused at once, with the time after which they would not.
#[test]
fn refusal_is_early_and_honest() {
    let mut scheduler = Scheduler::new(FairnessOptions::default(), 2);
    let second = Duration::from_secs(1);
    let mut now = Duration::ZERO;
    let patient = ticket(0, 10, 10);
    let mut running = Vec::new();
    for _ in 0..40 {
        match scheduler.offer(&patient, now).unwrap() {
            Offer::Go(call) => running.push(call),
            Offer::Wait(_) => {}
        }
    }
    // Two places, each held for a second.
    for _ in 0..8 {
        now += second;
        for call in std::mem::take(&mut running) {
            scheduler.finish(call, Tokens::default(), now);
        }
        while let Some(call) = scheduler.dispatch(now) {
            running.push(call);
        }
    }
    let waiting = scheduler.view().waiting[0];
    assert_eq!(waiting, 22);
    // Another tenant's call goes second, not 23rd.
    let other = ticket(1, 10, 10);
    let Offer::Wait(call) = scheduler.offer(&other, now).unwrap() else {
        panic!("both places are taken");
    };
    let place = scheduler.place_in_line(call, now).unwrap();
    assert_eq!((place.own_ahead, place.ahead), (0, 1));
    // 23 of its own ahead at two a second, and the other's one.
    let hasty = Ticket {
        patience: 5 * second,
        ..patient
    };
    let Err(Refused::TooLong {
        expected,
        retry_after,
    }) = scheduler.offer(&hasty, now)
    else {
        panic!("it would wait longer");
    };
    assert!((11..=13).contains(&expected.as_secs()), "{expected:?}");
    assert_eq!(retry_after, expected - 5 * second);
}

/// One place in 16 is left to tenants below their share by one that holds its own: a burst of theirs
/// finds it. Nobody else has calls there: then it is taken too.
#[test]
fn whoever_holds_its_share_leaves_the_last_places_to_others() {
    const PLACES: u32 = 64;
    let mut scheduler = Scheduler::new(FairnessOptions::default(), PLACES);
    let now = Duration::ZERO;
    let go = |scheduler: &mut Scheduler, number| {
        let offer = scheduler.offer(&ticket(number, 10, 10), now).unwrap();
        match offer {
            Offer::Go(call) => Some(call),
            Offer::Wait(_) => scheduler.dispatch(now),
        }
    };
    let mut quiet: Vec<_> = (1..10)
        .map(|number| go(&mut scheduler, number).unwrap())
        .collect();
    let greedy: Vec<_> = (0..100).filter_map(|_| go(&mut scheduler, 0)).collect();
    assert_eq!(greedy.len(), 51, "64 less nine, less four that stay free");
    // Four of the others come at once, and find places; a fifth takes the next that is free.
    let four: Vec<_> = (1..5)
        .filter_map(|number| go(&mut scheduler, number))
        .collect();
    assert_eq!((four.len(), scheduler.view().in_flight), (4, PLACES));
    assert!(go(&mut scheduler, 5).is_none());
    let whole = Tokens {
        input: 10,
        output: 10,
    };
    scheduler.finish(greedy[0], whole, now);
    let next = scheduler.dispatch(now).unwrap();
    assert_eq!(scheduler.tenant(tenant(5)).in_flight, 2);
    // What the others give back is not the greedy one's before five places are free.
    quiet.extend(four.into_iter().chain([next]));
    for call in quiet.drain(..4) {
        scheduler.finish(call, Tokens::default(), now);
        assert_eq!(scheduler.dispatch(now), None);
    }
    scheduler.finish(quiet.remove(0), Tokens::default(), now);
    assert!(scheduler.dispatch(now).is_some());
    // Alone, it has them all.
    for call in quiet {
        scheduler.finish(call, Tokens::default(), now);
        while scheduler.dispatch(now).is_some() {}
    }
    assert_eq!(scheduler.tenant(tenant(0)).in_flight, PLACES);
}
