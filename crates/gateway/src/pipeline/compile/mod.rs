//! Stage 4, compile context: the body is read within bounds, the tenant's own configuration is
//! merged into it, and its cost gets a bound.

mod targets;

use std::sync::Arc;

use base::ModelName;
use bytes::Bytes;
use http::HeaderMap;
use ledger::{ConsumptionBound, Price};
use models::{Bounds, Call, Envelope, InvalidRequest, Operation, REFUSED_FIELDS};

use super::again::Tries;
use super::arrive::Arrived;
use super::bodies::BodyTaking;
use super::body::read_body;
use super::caching::Caching;
use super::hop::{HopOrigin, Hops, ParentPlace};
use super::idempotency::Recording;
use super::kept_headers::kept_headers;
use super::merge::broken_parameters;
use super::resolve::Inside;
use super::responses::ResponseState;
use super::session::{Purpose, Session};
use super::terms::Terms;
use super::trail::Trail;
use crate::in_flight::HeldBytes;
use crate::inspect::Inspector;
use crate::refusal::Refusal;
use crate::route::{Route, Way};
use crate::speech::spoken_by;
use targets::Said;

/// A call whose every byte is checked and whose cost is bounded, for each place where it may go.
pub(super) struct Compiled {
    pub(super) inside: Arc<Inside>,
    pub(super) purpose: Purpose,
    pub(super) operation: Operation,
    /// Of the headers that the client sent, those that later stages read.
    pub(super) headers: HeaderMap,
    pub(super) envelope: Envelope,
    pub(super) call: Call,
    pub(super) terms: Arc<Terms>,
    pub(super) route: Arc<Route>,
    /// Where it goes, and where else it may go.
    way: Way,
    /// Why it goes nowhere, if only a kept answer can help it: what its target would be told.
    down: Option<Box<Refusal>>,
    /// What it has tried by now.
    pub(super) tries: Tries,
    /// How it is said there.
    pub(super) said: Said,
    /// The models that budgets have made cheaper ones.
    pub(super) given_up: Vec<ModelName>,
    /// The model that the client named, if a budget made it a cheaper one.
    pub(super) downgraded_from: Option<ModelName>,
    pub(super) recording: Option<Recording>,
    /// What the tenant's kept answers have to do with it.
    pub(super) caching: Caching,
    /// What its question means, once that was asked.
    pub(super) question_vector: Option<Arc<[f32]>>,
    /// What is to be known of a response until it is complete.
    pub(super) response: Option<Box<ResponseState>>,
    /// What of it is kept for people to look at, if its tenant has that.
    pub(super) bodies: Option<Box<BodyTaking>>,
    /// The guardrails that apply to it, if any does.
    pub(super) inspector: Option<Box<Inspector>>,
    /// The request on whose way it is made, if it is a hop.
    pub(super) origin: Option<HopOrigin>,
    /// What makes its own hops, once one is needed.
    pub(super) hops: Option<Hops>,
    /// The body as the client sent it, for its idempotency key.
    pub(super) client_body: Bytes,
    _bytes: HeldBytes,
    _tenant_bytes: HeldBytes,
}

impl Session {
    /// Reads the body and merges the tenant's configuration.
    pub(super) async fn compile_context(self, trail: &mut Trail) -> Result<Box<Compiled>, Refusal> {
        let Self {
            arrived,
            operation,
            inside,
            mut purpose,
            ..
        } = self;
        let Arrived { head, body, .. } = *arrived;
        let (body, mut bytes, mut tenant_bytes) = read_body(body, &head.headers, &inside).await?;
        let headers = kept_headers(&head.headers);
        // The client's credential goes with it, and the last reference to the connection's buffer.
        drop(head);
        let bounds = inside.body_bounds();
        let client_body = body.clone();
        let mut envelope = Envelope::parse(body, &bounds)?;
        let mut call = Call::parse(operation, &envelope)?;
        refuse_ours(&envelope)?;
        let mut response = None;
        if operation == Operation::Responses {
            let begun = Box::pin(inside.begin_response(&envelope, trail.request)).await?;
            if let Some(joined) = begun.joined {
                let length = joined.len() as u64;
                if !(bytes.grow(length) && tenant_bytes.grow(length)) {
                    return Err(Refusal::Overloaded);
                }
                envelope = Envelope::parse(joined, &bounds)?;
                call = Call::parse(operation, &envelope)?;
            }
            response = Some(Box::new(begun.state));
        }
        let route = inside.route(&call.model)?;
        trail.model = Some(route.model.clone());
        // Before the tenant's own prompt is in it: that is not looked through.
        let mut inspector = inside.inspector(&purpose, &call.model)?;
        let asks = inspector.as_ref().is_some_and(|inspector| inspector.asks());
        let hops = asks.then(|| Hops::of(&inside, &purpose, trail));
        if let Some(inspector) = &mut inspector
            && let Some(rewritten) =
                Box::pin(inside.inspect(inspector, (operation, &envelope), hops.as_ref(), trail))
                    .await?
        {
            envelope = Envelope::parse(rewritten, &bounds)?;
            call = Call::parse(operation, &envelope)?;
        }
        let merged = inside.merge(&envelope, &call, &purpose)?;
        trail.prompt.clone_from(&merged.prompt);
        purpose.prompt = merged.prompt;
        if let Some(merged) = merged.body {
            // What clients may not set, a tenant's configuration may not either.
            envelope = Envelope::parse(merged, &bounds).map_err(broken_parameters)?;
            call = Call::parse(operation, &envelope)?;
        }
        if let Some(span) = trail.span() {
            span.describe(&call, &envelope, purpose.session.as_ref());
        }
        let begun = Begun {
            inside,
            purpose,
            envelope,
            call,
            route,
            headers,
            bytes,
            tenant_bytes,
        };
        let mut compiled = begun.compiled();
        compiled.response = response;
        compiled.bodies = compiled.take_bodies(inspector.as_deref(), trail.request);
        compiled.inspector = inspector;
        compiled.hops = hops;
        compiled.client_body = client_body;
        compiled.check_output_asked()?;
        compiled.check_bounded()?;
        compiled.skip_to_open_target()
    }
}

/// A call with all that it cannot be without.
struct Begun {
    inside: Arc<Inside>,
    purpose: Purpose,
    envelope: Envelope,
    call: Call,
    route: Arc<Route>,
    headers: HeaderMap,
    bytes: HeldBytes,
    tenant_bytes: HeldBytes,
}

impl Begun {
    /// A kilobyte that every later stage holds: on the heap, it moves as a pointer.
    fn compiled(self) -> Box<Compiled> {
        let terms = self.inside.terms(&self.purpose, &self.route);
        Box::new(Compiled {
            tries: Tries::new(Compiled::patience_of(&self.inside)),
            way: self.inside.way(&self.route),
            operation: self.call.operation,
            terms,
            inside: self.inside,
            purpose: self.purpose,
            headers: self.headers,
            envelope: self.envelope,
            call: self.call,
            route: self.route,
            said: Said::default(),
            down: None,
            given_up: Vec::new(),
            downgraded_from: None,
            recording: None,
            caching: Caching::Off,
            question_vector: None,
            response: None,
            bodies: None,
            inspector: None,
            origin: None,
            hops: None,
            client_body: Bytes::new(),
            _bytes: self.bytes,
            _tenant_bytes: self.tenant_bytes,
        })
    }
}

impl HopOrigin {
    /// Compiles a hop: its body is the gateway's own, in which what others said is strings. It has
    /// neither guardrails nor hops, and no prompt or parameters of the tenant's.
    pub(super) fn compile(
        self,
        inside: &Arc<Inside>,
        purpose: &Purpose,
        operation: Operation,
        body: Bytes,
        trail: &mut Trail,
    ) -> Result<Box<Compiled>, Refusal> {
        let length = body.len() as u64;
        let bytes = inside.shared.in_flight.hold(length);
        let tenant_bytes = inside.runtime.in_flight.hold(length);
        let envelope = Envelope::parse(body, &inside.body_bounds())?;
        let call = Call::parse(operation, &envelope)?;
        let route = inside.route_of_hop(&call.model)?;
        trail.model = Some(route.model.clone());
        if let Some(span) = trail.span() {
            span.describe(&call, &envelope, purpose.session.as_ref());
        }
        let begun = Begun {
            inside: Arc::clone(inside),
            purpose: purpose.clone(),
            envelope,
            call,
            route,
            headers: HeaderMap::new(),
            bytes: bytes.ok_or(Refusal::Overloaded)?,
            tenant_bytes: tenant_bytes.ok_or(Refusal::Overloaded)?,
        };
        let mut compiled = begun.compiled();
        let patience = Compiled::patience_of(inside).min(self.until);
        compiled.tries = Tries::new(patience);
        if self.place == ParentPlace::Held {
            compiled.terms = Arc::new(compiled.terms.without_places());
        }
        compiled.origin = Some(self);
        compiled.check_output_asked()?;
        compiled.check_bounded()?;
        compiled.skip_to_open_target()
    }
}

impl Inside {
    /// The route of a model that the tenant's own configuration names, if the tenant may use it.
    /// Which models its caller may call by name does not matter: the caller did not choose it.
    fn route_of_hop(&self, model: &ModelName) -> Result<Arc<Route>, Refusal> {
        let route = self.configuration.route(model.as_str(), &self.tenant);
        route
            .filter(|_| self.is_open_to_tenant(model))
            .map(Arc::clone)
            .ok_or_else(|| Refusal::NoSuchModel(model.clone()))
    }

    /// What a body may have in it, whoever wrote it.
    pub(super) fn body_bounds(&self) -> Bounds {
        Bounds {
            depth_max: self.shared.bounds.json_depth_max,
            refused_keys: REFUSED_FIELDS,
            ..Bounds::default()
        }
    }

    /// The way of one call by this route.
    fn way(&self, route: &Route) -> Way {
        route.way(&self.tenant, &*self.shared.entropy)
    }
}

impl Compiled {
    /// More output than the model that the client named can give is the client's mistake. What
    /// a cheaper model gives less of is not: see [`Self::output_tokens_each`].
    fn check_output_asked(&self) -> Result<(), Refusal> {
        let asked = self.call.output_tokens_asked.map_or(0, |(asked, _)| asked);
        let most = u64::from(self.route.spec.output_tokens_max);
        if asked > most {
            return Err(Refusal::Invalid(InvalidRequest::new(
                format!(
                    "max_tokens is too large: {asked}. This model supports at most {most} completion tokens."
                ),
                "max_tokens",
                "integer_above_max_value",
            )));
        }
        Ok(())
    }

    /// Under a budget, whatever has no bound is refused.
    fn check_bounded(&self) -> Result<(), Refusal> {
        if !self.terms.limits_money() {
            return Ok(());
        }
        if self.call.image_count > 0 && self.route.spec.image_tokens_max.is_none() {
            return Err(Refusal::Unboundable("images on this model"));
        }
        if !self.call.unbounded.is_empty() {
            return Err(Refusal::Unboundable(
                "audio, files or a server-side tool in the request",
            ));
        }
        match self.call.service_tier.as_deref() {
            // Anthropic's `standard_only` is what `default` is elsewhere.
            None | Some("auto" | "default" | "flex" | "standard_only") => Ok(()),
            Some(_) => Err(Refusal::Unboundable(
                "a `service_tier` other than `default` or `flex`",
            )),
        }
    }

    /// The same call for a cheaper model, once its own does not fit a budget.
    pub(super) fn downgrade(mut self: Box<Self>, model: &ModelName) -> Result<Box<Self>, Refusal> {
        let route = self.inside.platform_route(model);
        let route = route.ok_or_else(|| Refusal::NoSuchModel(model.clone()))?;
        self.way = self.inside.way(&route);
        let from = std::mem::replace(&mut self.route, route);
        self.given_up.push(from.model.clone());
        self.downgraded_from
            .get_or_insert_with(|| from.model.clone());
        self.terms = self.inside.terms(&self.purpose, &self.route);
        self.check_bounded()?;
        self.skip_to_open_target()
    }

    /// What the model costs at the target.
    pub(super) fn price(&self) -> Result<Arc<Price>, Refusal> {
        let listed = self
            .target()
            .prices
            .as_ref()
            .and_then(|list| list.at(self.inside.at));
        listed
            .cloned()
            .ok_or_else(|| Refusal::Unpriced(self.route.model.clone()))
    }

    /// The most output tokens of each answer: forced on the upstream. A client that was given a
    /// cheaper model may have asked for more than that one has.
    pub(super) fn output_tokens_each(&self) -> u64 {
        let most = u64::from(self.route.spec.output_tokens_max);
        self.call
            .output_tokens_asked
            .map_or(most, |(asked, _)| asked.min(most))
    }

    /// More than the call can consume.
    pub(super) fn bound(&self) -> ConsumptionBound {
        if self.operation == Operation::CountTokens {
            // No provider bills it.
            return ConsumptionBound::default();
        }
        let image_tokens = u64::from(self.route.spec.image_tokens_max.unwrap_or(0));
        let images = self.call.image_count;
        let (spoken, _) = spoken_by(self.target().upstream.spec.engine);
        ConsumptionBound {
            input_tokens: self
                .call
                .input_tokens_bound()
                .saturating_add(image_tokens * u64::from(images))
                .saturating_add(spoken.input_tokens_added()),
            output_tokens: self
                .output_tokens_each()
                .saturating_mul(self.call.generations()),
            images,
            requests: self.requests_bound(),
        }
    }
}

/// Fields at the top of a request that engines obey and that only the gateway may say. Further
/// down the same names are the client's own: a tool may well have a `priority`.
const OURS: [&str; 1] = ["priority"];

fn refuse_ours(envelope: &Envelope) -> Result<(), InvalidRequest> {
    match OURS.into_iter().find(|name| envelope.kind(name).is_some()) {
        None => Ok(()),
        Some(name) => Err(InvalidRequest::new(
            format!("`{name}` is the gateway's to set: leave it out"),
            name,
            "unsupported_parameter",
        )),
    }
}
