//! Ten tenants at one upstream: what the others feel of one that asks for ten times its share, or
//! whose own upstream and credential are dead and whose clients try again at once.
//!
//! The upstream takes 64 calls at once and is as fast with 64 as with one, as a provider's API is
//! to one of its customers. (An engine of one's own becomes slower as its batch fills; that is
//! its owner's choice of places, which no order of calls can undo.) The nine others make the same
//! calls at the same moments in every run.

use std::collections::{BinaryHeap, HashMap};
use std::time::Duration;

use gateway::fairness::{
    Band, CallId, FairnessOptions, Offer, Scheduler, TenantTerms, Ticket, Tokens,
};
use gateway::resilience::{
    BreakersOptions, CallEnd, Credential, Fault, Guarded, RetryBudget, RetryOptions,
    UpstreamBreakers, classify,
};
use http::StatusCode;

use super::chance::Chance;
use super::gate::{instant, tenant};

/// What the tenant does that the others should not feel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Neighbour {
    /// It asks for its share.
    Quiet,
    /// It asks for ten times its share, and may hold a quarter of the places, as its tier says.
    TenTimes,
    /// The same, and it may hold all the places.
    TenTimesUncapped,
    /// Its credential was revoked and each client of it tries again at once, four times; ten
    /// times its share before that.
    Revoked,
    /// Its own upstream does not answer; its clients do the same.
    Dead,
    /// Its own upstream fails three calls of ten: below what opens a breaker.
    Flaky,
}

/// What the nine others felt.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Experience {
    /// Calls.
    pub calls: u64,
    /// Of them, those that got no answer.
    pub errors: u64,
    /// Seconds from asking to the last token, of 99 in a hundred calls.
    pub p99: f64,
    /// Seconds from asking to the first token, of 99 in a hundred calls.
    pub first_token_p99: f64,
}

/// What came of a run.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Crowd {
    /// The nine others.
    pub others: Experience,
    /// Calls that the tenant's clients made, tries of their own included.
    pub own_calls: u64,
    /// Of them, those that were sent upstream at least once.
    pub own_sent: u64,
    /// Calls that upstreams saw of it.
    pub own_attempts: u64,
    /// Breakers of others, or of all, that were open at any moment: none may be.
    pub others_breakers_opened: u64,
}

impl Crowd {
    /// Calls that upstreams saw for each that the tenant's clients made.
    pub fn amplification(&self) -> f64 {
        self.own_attempts as f64 / self.own_calls.max(1) as f64
    }
}

const TENANTS: usize = 10;
const PLACES: u32 = 64;
const SECONDS: f64 = 900.0;
/// Seconds that a token in and a token out take.
const INPUT_TOKEN: f64 = 0.000_1;
const OUTPUT_TOKEN: f64 = 0.025;
/// Tokens of a call: evenly between.
const INPUT: (f64, f64) = (64.0, 1_024.0);
const OUTPUT: (f64, f64) = (16.0, 400.0);
/// Calls a second that the upstream can take: a call takes 5.25 s on average.
const CAPACITY: f64 = PLACES as f64 / (544.0 * INPUT_TOKEN + 208.0 * OUTPUT_TOKEN);
/// What part of their shares the others ask for.
const OTHERS_LOAD: f64 = 0.7;
/// How long a call can wait for a place.
const PATIENCE: Duration = Duration::from_secs(30);
/// Times that a client of the failing tenant tries again at once.
const CLIENT_TRIES: u32 = 4;
/// Times that the gateway sends one call.
const ATTEMPTS_MAX: u32 = 3;
/// Seconds until a refused credential, a dead upstream and a failing one are noticed.
const REFUSED: f64 = 0.05;
const DEAD: f64 = 1.0;
const FAILED: f64 = 0.3;

/// Which of the two upstreams: the one that all share, or the tenant's own.
const SHARED: usize = 0;
const OWN: usize = 1;

#[derive(Debug, Clone, Copy)]
struct Call {
    tenant: usize,
    asked: f64,
    input: u32,
    output: u32,
    /// Tries of the client and of the gateway that are left.
    client_tries: u32,
    attempts: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Come(usize),
    /// The call of this number has waited as long as it can.
    GiveUp(usize),
    End(usize),
}

/// Events by time, then by when they were made.
#[derive(Debug, Default)]
struct Agenda {
    events: BinaryHeap<std::cmp::Reverse<(u64, u64, Event)>>,
    made: u64,
}

impl Agenda {
    fn add(&mut self, seconds: f64, event: Event) {
        self.made += 1;
        let nanos = (seconds * 1e9) as u64;
        self.events
            .push(std::cmp::Reverse((nanos, self.made, event)));
    }

    fn next(&mut self) -> Option<(f64, Event)> {
        let std::cmp::Reverse((nanos, _, event)) = self.events.pop()?;
        Some((nanos as f64 / 1e9, event))
    }
}

/// Runs the ten tenants once.
pub fn crowd(neighbour: Neighbour, seed: u64) -> Crowd {
    let mut world = World::new(neighbour, seed);
    while let Some((now, event)) = world.agenda.next() {
        world.now = now;
        match event {
            Event::Come(call) => world.come(call),
            Event::GiveUp(call) => world.give_up(call),
            Event::End(call) => world.end(call),
        }
        world.watch();
    }
    world.report()
}

struct Upstream {
    scheduler: Scheduler,
    breakers: UpstreamBreakers,
    waiting: HashMap<CallId, usize>,
}

struct World {
    neighbour: Neighbour,
    chance: Chance,
    agenda: Agenda,
    now: f64,
    calls: Vec<Call>,
    /// By call: its place or position, and leave to go.
    entered: Vec<Option<CallId>>,
    permits: Vec<Option<Guarded>>,
    upstreams: [Upstream; 2],
    budgets: Vec<RetryBudget>,
    others: Experience,
    latencies: Vec<f64>,
    first_tokens: Vec<f64>,
    own_calls: u64,
    own_sent: u64,
    own_attempts: u64,
    others_breakers_opened: u64,
}

impl World {
    fn new(neighbour: Neighbour, seed: u64) -> Self {
        let upstream = || Upstream {
            scheduler: Scheduler::new(FairnessOptions::default(), PLACES),
            breakers: UpstreamBreakers::new(BreakersOptions::default()),
            waiting: HashMap::new(),
        };
        let mut world = Self {
            neighbour,
            chance: Chance::new(seed ^ 0xc0ffee),
            agenda: Agenda::default(),
            now: 0.0,
            calls: Vec::new(),
            entered: Vec::new(),
            permits: Vec::new(),
            upstreams: [upstream(), upstream()],
            budgets: (0..TENANTS)
                .map(|_| RetryBudget::new(RetryOptions::default()))
                .collect(),
            others: Experience::default(),
            latencies: Vec::new(),
            first_tokens: Vec::new(),
            own_calls: 0,
            own_sent: 0,
            own_attempts: 0,
            others_breakers_opened: 0,
        };
        for number in 0..TENANTS {
            world.plan(number, seed);
        }
        world
    }

    /// All calls that a tenant's clients make of themselves.
    fn plan(&mut self, number: usize, seed: u64) {
        let share = CAPACITY / TENANTS as f64;
        let per_second = match (number, self.neighbour) {
            (0, Neighbour::Quiet) => share * OTHERS_LOAD,
            (0, _) => share * 10.0,
            _ => share * OTHERS_LOAD,
        };
        let chance = Chance::new(seed.wrapping_mul(1_000) + number as u64);
        let mut at = chance.pause(per_second);
        while at < SECONDS {
            let client_tries = match self.neighbour {
                Neighbour::Revoked | Neighbour::Dead if number == 0 => CLIENT_TRIES,
                _ => 0,
            };
            self.add(Call {
                tenant: number,
                asked: at,
                input: chance.between(INPUT.0, INPUT.1) as u32,
                output: chance.between(OUTPUT.0, OUTPUT.1) as u32,
                client_tries,
                attempts: 0,
            });
            at += chance.pause(per_second);
        }
    }

    fn add(&mut self, call: Call) {
        self.agenda.add(call.asked, Event::Come(self.calls.len()));
        self.calls.push(call);
        self.entered.push(None);
        self.permits.push(None);
        if call.tenant == 0 {
            self.own_calls += 1;
        } else {
            self.others.calls += 1;
        }
    }

    fn upstream_of(&self, number: usize) -> usize {
        match self.neighbour {
            Neighbour::Dead | Neighbour::Flaky if number == 0 => OWN,
            _ => SHARED,
        }
    }

    /// A call comes, or is tried again by the gateway.
    fn come(&mut self, number: usize) {
        let call = self.calls[number];
        let now = instant(self.now);
        let which = self.upstream_of(call.tenant);
        let upstream = &mut self.upstreams[which];
        match upstream.breakers.ask(tenant(call.tenant), now) {
            Ok(permit) => self.permits[number] = Some(permit),
            Err(_) => return self.fail(number),
        }
        let concurrency_max = match self.neighbour {
            Neighbour::TenTimesUncapped => PLACES,
            _ => PLACES / 4,
        };
        let ticket = Ticket {
            tenant: tenant(call.tenant),
            terms: TenantTerms {
                concurrency_max,
                ..TenantTerms::default()
            },
            band: Band::Interactive,
            input: call.input,
            predicted_output: ((OUTPUT.0 + OUTPUT.1) / 2.0) as u32,
            prefix: None,
            patience: PATIENCE,
        };
        match upstream.scheduler.offer(&ticket, now) {
            Ok(Offer::Go(id)) => {
                self.entered[number] = Some(id);
                self.begin(number);
            }
            Ok(Offer::Wait(id)) => {
                self.entered[number] = Some(id);
                upstream.waiting.insert(id, number);
                let until = self.now + PATIENCE.as_secs_f64();
                self.agenda.add(until, Event::GiveUp(number));
                self.dispatch(which);
            }
            Err(_) => {
                self.give_back(number, Fault::Unknown);
                self.fail(number);
            }
        }
    }

    fn dispatch(&mut self, which: usize) {
        let now = instant(self.now);
        while let Some(id) = self.upstreams[which].scheduler.dispatch(now) {
            let number = self.upstreams[which].waiting.remove(&id);
            self.begin(number.expect("only who waits is dispatched"));
        }
    }

    /// A call is sent.
    fn begin(&mut self, number: usize) {
        let call = &mut self.calls[number];
        call.attempts += 1;
        let first = call.attempts == 1;
        let call = *call;
        if first {
            self.budgets[call.tenant].call();
        }
        if call.tenant == 0 {
            self.own_sent += u64::from(first);
            self.own_attempts += 1;
        } else {
            let first_token = self.now - call.asked + f64::from(call.input) * INPUT_TOKEN;
            self.first_tokens.push(first_token);
        }
        let whole = f64::from(call.input) * INPUT_TOKEN + f64::from(call.output) * OUTPUT_TOKEN;
        let seconds = match self.outcome(number) {
            CallEnd::Answered(StatusCode::OK) => whole,
            CallEnd::Answered(StatusCode::UNAUTHORIZED) => REFUSED,
            CallEnd::Answered(_) => FAILED,
            _ => DEAD,
        };
        self.agenda.add(self.now + seconds, Event::End(number));
    }

    /// How the attempt under way will end: the same whenever it is asked.
    fn outcome(&self, number: usize) -> CallEnd {
        let call = self.calls[number];
        let dice = Chance::new(number as u64 * 8 + u64::from(call.attempts)).unit();
        match self.neighbour {
            _ if call.tenant != 0 => CallEnd::Answered(StatusCode::OK),
            Neighbour::Revoked => CallEnd::Answered(StatusCode::UNAUTHORIZED),
            Neighbour::Dead => CallEnd::NoConnection,
            Neighbour::Flaky if dice < 0.3 => CallEnd::Answered(StatusCode::BAD_GATEWAY),
            _ => CallEnd::Answered(StatusCode::OK),
        }
    }

    fn end(&mut self, number: usize) {
        let call = self.calls[number];
        let which = self.upstream_of(call.tenant);
        let fault = classify(self.outcome(number), Credential::Tenant);
        let taken = match fault {
            Fault::None => Tokens {
                input: call.input,
                output: call.output,
            },
            _ => Tokens::default(),
        };
        let id = self.entered[number].take().expect("it was sent");
        let now = instant(self.now);
        self.upstreams[which].scheduler.finish(id, taken, now);
        self.give_back(number, fault);
        self.dispatch(which);
        if fault == Fault::None {
            if call.tenant != 0 {
                self.latencies.push(self.now - call.asked);
            }
        } else if fault.is_worth_a_retry()
            && call.attempts < ATTEMPTS_MAX
            && self.budgets[call.tenant].take().is_some()
        {
            self.agenda.add(self.now, Event::Come(number));
        } else {
            self.fail(number);
        }
    }

    fn give_up(&mut self, number: usize) {
        let call = self.calls[number];
        let which = self.upstream_of(call.tenant);
        let upstream = &mut self.upstreams[which];
        let Some(id) = self.entered[number] else {
            return;
        };
        if upstream.waiting.remove(&id).is_some() {
            upstream.scheduler.cancel(id, instant(self.now));
            self.entered[number] = None;
            self.give_back(number, Fault::Unknown);
            self.fail(number);
        }
    }

    fn give_back(&mut self, number: usize, fault: Fault) {
        let which = self.upstream_of(self.calls[number].tenant);
        if let Some(permit) = self.permits[number].take() {
            let (now, chance) = (instant(self.now), self.chance.bits());
            let breakers = &mut self.upstreams[which].breakers;
            breakers.report(permit, fault, None, now, chance);
        }
    }

    /// The client gets an error; one of the failing tenant's tries again at once, whatever it was
    /// told.
    fn fail(&mut self, number: usize) {
        let call = self.calls[number];
        if call.tenant != 0 {
            self.others.errors += 1;
        } else if call.client_tries > 0 {
            self.add(Call {
                asked: self.now,
                client_tries: call.client_tries - 1,
                attempts: 0,
                ..call
            });
        }
    }

    /// Counts breakers that are open and must not be.
    fn watch(&mut self) {
        use gateway::resilience::{BreakerState, ProviderState};
        let breakers = &self.upstreams[SHARED].breakers;
        let is_open = breakers.provider() != ProviderState::Working
            || (1..TENANTS).any(|other| breakers.tenant(tenant(other)) != BreakerState::Closed);
        self.others_breakers_opened += u64::from(is_open);
    }

    fn report(mut self) -> Crowd {
        self.others.p99 = p99(&mut self.latencies);
        self.others.first_token_p99 = p99(&mut self.first_tokens);
        Crowd {
            others: self.others,
            own_calls: self.own_calls,
            own_sent: self.own_sent,
            own_attempts: self.own_attempts,
            others_breakers_opened: self.others_breakers_opened,
        }
    }
}

fn p99(seconds: &mut [f64]) -> f64 {
    seconds.sort_by(f64::total_cmp);
    let place = (seconds.len() as f64 * 0.99) as usize;
    seconds.get(place).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dead_neighbour_costs_the_others_nothing() {
        let quiet = crowd(Neighbour::Quiet, 1);
        for neighbour in [Neighbour::Revoked, Neighbour::Dead] {
            let storm = crowd(neighbour, 1);
            assert_eq!(storm.others.errors, quiet.others.errors);
            assert_eq!(storm.others_breakers_opened, 0);
            assert!(storm.own_calls > 4 * storm.own_sent, "{storm:?}");
        }
    }
}
