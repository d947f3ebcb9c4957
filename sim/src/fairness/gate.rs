//! Who decides which call an engine gets next: the scheduler under test, or nobody.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use base::{ModelName, TenantId};
use gateway::fairness::{
    Band, CallId, FairnessOptions, Offer, OutputPredictor, PredictorOptions, Scheduler,
    TenantTerms, Ticket, Tokens, Weight,
};

use super::chance::Chance;
use super::engine::Engine;
use super::service::Served;

/// A call that a client will make.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asked {
    pub(super) at: f64,
    pub(super) client: usize,
    pub(super) input: u32,
    pub(super) output: u32,
}

/// What the scheduler is told of an answer's length.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Prediction {
    /// No scheduler: first come, first served, over all clients.
    FirstCome,
    /// Nothing: outputs are charged as they come (the artifact's "VTC").
    Nothing,
    /// The truth (the artifact's "VTC with an oracle").
    Truth,
    /// The truth and up to so much of it more or less, evenly (the artifact's "VTC ±50%").
    Estimate(f64),
    /// Such an estimate, through the gateway's [`OutputPredictor`], as the product does it: it
    /// learns from the answers how far estimates can be trusted.
    Calibrated(f64),
    /// The gateway's predictor alone, without any estimate.
    Learned,
}

/// What one client may have.
#[derive(Debug, Clone, Copy)]
pub(super) struct Client {
    pub(super) weight: u16,
}

/// Seconds of virtual time as the scheduler is told them.
pub(super) fn instant(seconds: f64) -> Duration {
    Duration::from_secs_f64(seconds)
}

pub(super) fn tenant(client: usize) -> TenantId {
    TenantId::from_bits(client as u128 + 1)
}

/// Serves all that is asked for, in the order of its time, and returns how it went.
pub(super) fn serve(
    asked: &[Asked],
    clients: &[Client],
    prediction: Prediction,
    seed: u64,
) -> Vec<Served> {
    let mut world = World::new(asked, clients, prediction, seed);
    while world.served.len() < asked.len() {
        world.arrive();
        if world.engine.admits() {
            world.admit();
        }
        if world.engine.is_idle() {
            // Nobody waits: on to the next call.
            world.now = world.now.max(asked[world.next].at);
        } else {
            world.advance();
        }
    }
    world.served
}

struct World<'a> {
    asked: &'a [Asked],
    clients: &'a [Client],
    prediction: Prediction,
    chance: Chance,
    predictor: OutputPredictor,
    model: ModelName,
    engine: Engine,
    line: VecDeque<usize>,
    scheduler: Scheduler,
    waiting: HashMap<CallId, usize>,
    /// By call: its id, what its estimate was, when its first token came.
    known: Vec<Option<(CallId, Option<u32>)>>,
    began: Vec<f64>,
    next: usize,
    /// Room has to be there for the largest call, since who is next is not known before.
    largest: (u32, u32),
    now: f64,
    served: Vec<Served>,
}

/// What the gateway reports while an answer streams: every 16 tokens, as its `Place` does.
const REPORT_EVERY: u32 = 16;

impl<'a> World<'a> {
    fn new(asked: &'a [Asked], clients: &'a [Client], prediction: Prediction, seed: u64) -> Self {
        let calls = u32::try_from(asked.len()).expect("an experiment is small");
        let options = FairnessOptions {
            // As the artifact's: without bounds.
            waiting_per_tenant_max: calls,
            waiting_max: calls * 2 + 1,
            ..FairnessOptions::default()
        };
        Self {
            asked,
            clients,
            prediction,
            chance: Chance::new(seed),
            predictor: OutputPredictor::new(PredictorOptions::default()),
            model: "m".parse().expect("a model's name"),
            engine: Engine::default(),
            line: VecDeque::new(),
            scheduler: Scheduler::new(options, 0),
            waiting: HashMap::new(),
            known: vec![None; asked.len()],
            began: vec![0.0; asked.len()],
            next: 0,
            largest: (
                asked.iter().map(|call| call.input).max().unwrap_or(0),
                asked.iter().map(|call| call.output).max().unwrap_or(0),
            ),
            now: 0.0,
            served: Vec::new(),
        }
    }

    fn arrive(&mut self) {
        while let Some(call) = self.asked.get(self.next)
            && call.at <= self.now
        {
            if self.prediction == Prediction::FirstCome {
                self.line.push_back(self.next);
            } else {
                self.offer(self.next);
            }
            self.next += 1;
        }
    }

    fn offer(&mut self, number: usize) {
        let call = self.asked[number];
        let (estimate, predicted_output) = self.predict(call);
        let ticket = Ticket {
            tenant: tenant(call.client),
            terms: TenantTerms {
                weight: Weight::new(self.clients[call.client].weight).expect("weights are not 0"),
                ..TenantTerms::default()
            },
            band: Band::Interactive,
            input: call.input,
            predicted_output,
            prefix: None,
            patience: Duration::MAX,
        };
        let offered = self.scheduler.offer(&ticket, instant(self.now));
        let Ok(Offer::Wait(id)) = offered else {
            unreachable!("between admissions no place is free, and nothing is bounded");
        };
        self.waiting.insert(id, number);
        self.known[number] = Some((id, estimate));
    }

    /// An estimate, and what the scheduler is told.
    fn predict(&self, call: Asked) -> (Option<u32>, u32) {
        let estimate = |error: f64| {
            let factor = self.chance.between(1.0 - error, 1.0 + error);
            (f64::from(call.output) * factor).round() as u32
        };
        let learned = |estimate| {
            self.predictor
                .predict(tenant(call.client), &self.model, estimate, 4_096)
        };
        match self.prediction {
            Prediction::FirstCome | Prediction::Nothing => (None, 0),
            Prediction::Truth => (None, call.output),
            Prediction::Estimate(error) => (None, estimate(error)),
            Prediction::Learned => (None, learned(None)),
            Prediction::Calibrated(error) => {
                let estimate = Some(estimate(error));
                (estimate, learned(estimate))
            }
        }
    }

    /// Hands calls to the engine as long as it has room: a place is free while the next call fits.
    fn admit(&mut self) {
        loop {
            let (input, output) = self.largest;
            if !self.engine.fits(input, output) {
                return;
            }
            let Some(number) = self.take() else {
                return;
            };
            let call = self.asked[number];
            self.engine.admit(number, call.input, call.output);
        }
    }

    fn take(&mut self) -> Option<usize> {
        if self.prediction == Prediction::FirstCome {
            return self.line.pop_front();
        }
        let now = instant(self.now);
        let in_flight = self.scheduler.view().in_flight;
        self.scheduler.set_limit(in_flight + 1, now);
        let call = self.scheduler.dispatch(now);
        let in_flight = self.scheduler.view().in_flight;
        self.scheduler.set_limit(in_flight, now);
        Some(self.waiting[&call?])
    }

    fn advance(&mut self) {
        let done = self.engine.advance();
        self.now += done.seconds;
        for number in done.began {
            self.began[number] = self.now;
        }
        for (number, made) in done.made {
            if made.is_multiple_of(REPORT_EVERY) {
                self.report(number, made);
            }
        }
        for number in done.ended {
            self.end(number);
        }
    }

    fn report(&mut self, number: usize, output: u32) {
        if let Some((id, _)) = self.known[number] {
            let input = self.asked[number].input;
            self.scheduler.report(id, Tokens { input, output });
        }
    }

    fn end(&mut self, number: usize) {
        let call = self.asked[number];
        let Asked { input, output, .. } = call;
        if let Some((id, estimate)) = self.known[number] {
            let now = instant(self.now);
            self.scheduler.finish(id, Tokens { input, output }, now);
            let in_flight = self.scheduler.view().in_flight;
            self.scheduler.set_limit(in_flight, now);
            self.waiting.remove(&id);
            self.predictor
                .learn(tenant(call.client), &self.model, estimate, output);
        }
        self.served.push(Served {
            client: call.client,
            input,
            output,
            came: call.at,
            first: self.began[number],
            last: self.now,
        });
    }
}
