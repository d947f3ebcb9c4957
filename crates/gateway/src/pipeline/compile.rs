//! Stage 4, compile context: the body is read within bounds, the tenant's own configuration is
//! merged into it, and its cost gets a bound.

use std::sync::Arc;

use base::{Deadline, ModelName};
use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http::header::CONTENT_LENGTH;
use http_body_util::BodyExt as _;
use hyper::body::{Body as _, Incoming};
use ledger::{ConsumptionBound, Price};
use models::{Bounds, Call, Envelope, InvalidRequest, Json, Operation, REFUSED_FIELDS, Rebuild};

use super::idempotency::Recording;
use super::resolve::Inside;
use super::session::{Purpose, Session};
use super::terms::Terms;
use super::trail::Trail;
use crate::in_flight::HeldBytes;
use crate::prompt::{PromptTemplate, PromptValues};
use crate::refusal::Refusal;
use crate::route::{Closed, Route, Target, Way};

/// The bytes that a body of unknown length reserves at a time.
const GROW_BYTES: u64 = 64 << 10;

/// The two names of the bound on the output.
const OUTPUT_LIMITS: [&str; 2] = ["max_tokens", "max_completion_tokens"];

/// A call whose every byte is checked and whose cost is bounded, for each place where it may go.
pub(super) struct Compiled {
    pub(super) inside: Arc<Inside>,
    pub(super) purpose: Purpose,
    pub(super) operation: Operation,
    /// The head that the client sent: for the headers that later stages read.
    pub(super) headers: HeaderMap,
    pub(super) envelope: Envelope,
    pub(super) call: Call,
    pub(super) terms: Arc<Terms>,
    pub(super) route: Arc<Route>,
    /// Where it goes, and where else it may go.
    way: Way,
    /// The models that budgets have made cheaper ones.
    pub(super) given_up: Vec<ModelName>,
    /// The model that the client named, if a budget made it a cheaper one.
    pub(super) downgraded_from: Option<ModelName>,
    pub(super) recording: Option<Recording>,
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
            purpose,
            ..
        } = self;
        let headers = arrived.head.headers;
        let (body, bytes, tenant_bytes) = read_body(arrived.body, &headers, &inside).await?;
        let bounds = Bounds {
            depth_max: inside.shared.bounds.json_depth_max,
            refused_keys: REFUSED_FIELDS,
            ..Bounds::default()
        };
        let client_body = body.clone();
        let mut envelope = Envelope::parse(body, &bounds)?;
        let mut call = Call::parse(operation, &envelope)?;
        let route = inside.route(&call.model)?;
        trail.model = Some(route.model.clone());
        if let Some(merged) = inside.merge(&envelope, &call, &purpose)? {
            // What clients may not set, a tenant's configuration may not either.
            envelope = Envelope::parse(merged, &bounds).map_err(broken_parameters)?;
            call = Call::parse(operation, &envelope)?;
        }
        if let Some(span) = trail.span() {
            span.describe(&call, &envelope, purpose.session.as_ref());
        }
        let terms = inside.terms(&purpose, &route.model);
        let way = inside.way(&route);
        // A kilobyte that every later stage holds: on the heap, it moves as a pointer.
        let compiled = Box::new(Compiled {
            inside,
            purpose,
            operation,
            headers,
            envelope,
            call,
            terms,
            route,
            way,
            given_up: Vec::new(),
            downgraded_from: None,
            recording: None,
            client_body,
            _bytes: bytes,
            _tenant_bytes: tenant_bytes,
        });
        compiled.check_output_asked()?;
        compiled.check_bounded()?;
        compiled.skip_to_open_target()
    }
}

impl Inside {
    /// The route of a model, if the caller may use it: absent and forbidden look alike.
    pub(super) fn route(&self, model: &ModelName) -> Result<Arc<Route>, Refusal> {
        let route = self.configuration.route(model.as_str(), &self.tenant);
        route
            .filter(|_| self.may_call(model))
            .map(Arc::clone)
            .ok_or_else(|| Refusal::NoSuchModel(model.clone()))
    }

    /// The way of one call by this route.
    fn way(&self, route: &Route) -> Way {
        route.way(&self.tenant, &*self.shared.entropy)
    }

    /// The body with the tenant's parameters and system prompt in it; none if it has neither.
    fn merge(
        &self,
        envelope: &Envelope,
        call: &Call,
        purpose: &Purpose,
    ) -> Result<Option<Bytes>, Refusal> {
        let config = &self.tenant.config;
        let prompt = self.prompt(call, purpose)?;
        let has_parameters =
            !config.default_parameters.is_empty() || !config.forced_parameters.is_empty();
        let prompt = prompt.filter(|_| call.operation == Operation::Chat);
        if prompt.is_none() && !has_parameters {
            return Ok(None);
        }
        let mut rebuild = Rebuild::from(envelope);
        if call.operation != Operation::Embedding {
            for (name, value) in &config.default_parameters {
                if call.output_tokens_asked.is_none() || !OUTPUT_LIMITS.contains(&name.as_str()) {
                    rebuild.default(name, json(value));
                }
            }
            for (name, value) in &config.forced_parameters {
                if OUTPUT_LIMITS.contains(&name.as_str()) {
                    // Whichever of its names the client called the bound by.
                    rebuild.remove(OUTPUT_LIMITS[0]).remove(OUTPUT_LIMITS[1]);
                }
                rebuild.set(name, json(value));
            }
        }
        if let Some(prompt) = prompt {
            let message = serde_json::json!({"role": "system", "content": prompt});
            rebuild
                .prepend_to_array("messages", json(&message))
                .map_err(|_| InvalidRequest::missing("messages"))?;
        }
        Ok(Some(rebuild.finish().to_bytes()))
    }

    /// The tenant's system prompt for this call.
    fn prompt(&self, call: &Call, purpose: &Purpose) -> Result<Option<String>, Refusal> {
        let Some(source) = &self.tenant.config.system_prompt else {
            return Ok(None);
        };
        let template = {
            let mut kept = self.runtime.prompt.lock();
            match &*kept {
                Some((of, template)) if of == source => template.clone(),
                _ => {
                    let template = PromptTemplate::compile(source).map_err(broken_prompt)?;
                    *kept = Some((source.clone(), template.clone()));
                    template
                }
            }
        };
        let key = self.scope.grant().key();
        let values = PromptValues {
            tenant: &self.tenant.name,
            feature: Some(&purpose.feature),
            model: &call.model,
            user: key.and_then(|key| key.spec.user.as_ref()),
            team: key.and_then(|key| key.spec.team.as_ref()),
            flags: &self.tenant.config.flags,
            date: crate::calendar::date(self.at, &self.tenant.spec.zone),
        };
        template.render(&values).map(Some).map_err(broken_prompt)
    }
}

/// The tenant's own configuration is at fault; its administrator finds the reason in the log.
fn broken_prompt(error: crate::prompt::PromptError) -> Refusal {
    let reason = std::error::Error::source(&error)
        .map(ToString::to_string)
        .unwrap_or_default();
    tracing::warn!(%error, reason, "a tenant's system prompt cannot be used");
    Refusal::Invalid(InvalidRequest::new(
        "the tenant's system prompt cannot be rendered; its administrator has to mend it",
        "system_prompt",
        "invalid_configuration",
    ))
}

/// As above: a parameter that no request may have, or one field too many.
fn broken_parameters(error: models::BodyError) -> Refusal {
    tracing::warn!(%error, "a tenant's parameters cannot be used");
    Refusal::Invalid(InvalidRequest::new(
        "the tenant's default or forced parameters cannot be used; its administrator has to mend them",
        "forced_parameters",
        "invalid_configuration",
    ))
}

fn json(value: &serde_json::Value) -> Json {
    Json::of(value).expect("a JSON value is JSON")
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
            None | Some("auto" | "default" | "flex") => Ok(()),
            Some(_) => Err(Refusal::Unboundable(
                "a `service_tier` other than `default` or `flex`",
            )),
        }
    }

    /// The place where the call goes next.
    pub(super) fn target(&self) -> &Target {
        let target = self.way.target();
        target.expect("a call that is anywhere stands before a target: see `skip_to_open_target`")
    }

    /// Passes over targets where the tenant's calls may not go.
    fn skip_to_open_target(mut self: Box<Self>) -> Result<Box<Self>, Refusal> {
        let mut closed = Closed::SharedCache;
        while let Some(target) = self.way.target() {
            match target.open_to(&self.inside.tenant) {
                Ok(()) => return Ok(self),
                Err(why) => closed = why,
            }
            self.way.advance();
        }
        let tenant = &self.inside.tenant;
        match closed {
            Closed::OtherRegion => {
                tracing::warn!(
                    route = %self.route.model,
                    tenant = %tenant.name,
                    "no upstream of the route is in the tenant's region: add one that has this `region`"
                );
                Err(Refusal::Forbidden(
                    "no upstream of this model is in your region",
                ))
            }
            Closed::NoCredential => Err(Refusal::Forbidden(
                "this model is called with your own credential for its provider, and you have set none",
            )),
            Closed::SharedCache => {
                tracing::warn!(
                    route = %self.route.model,
                    tenant = %tenant.name,
                    "no upstream of the route keeps this tenant apart: set `salting`, or record that the tenant accepts a shared cache"
                );
                Err(Refusal::Forbidden(
                    "no upstream of this model keeps your prompts apart from others'",
                ))
            }
        }
    }

    /// The same call for the route's next target, if there is one.
    pub(super) fn next_target(mut self: Box<Self>) -> Option<Box<Self>> {
        self.way.advance();
        self.skip_to_open_target().ok()
    }

    /// The same call for a cheaper model, once its own does not fit a budget.
    pub(super) fn downgrade(mut self: Box<Self>, model: &ModelName) -> Result<Box<Self>, Refusal> {
        let route = self.inside.route(model)?;
        self.way = self.inside.way(&route);
        let from = std::mem::replace(&mut self.route, route);
        self.given_up.push(from.model.clone());
        self.downgraded_from
            .get_or_insert_with(|| from.model.clone());
        self.terms = self.inside.terms(&self.purpose, model);
        self.check_bounded()?;
        self.skip_to_open_target()
    }

    /// What the model costs at the target.
    pub(super) fn price(&self) -> Result<Price, Refusal> {
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
        let image_tokens = u64::from(self.route.spec.image_tokens_max.unwrap_or(0));
        let images = self.call.image_count;
        ConsumptionBound {
            input_tokens: self
                .call
                .input_tokens_bound()
                .saturating_add(image_tokens * u64::from(images)),
            output_tokens: self
                .output_tokens_each()
                .saturating_mul(self.call.generations()),
            images,
            requests: 1,
        }
    }
}

fn incomplete_body() -> Refusal {
    Refusal::Invalid(InvalidRequest {
        message: "the request body ended early or is not framed as its head says".to_owned(),
        param: None,
        code: "incomplete_body",
    })
}

/// Reads a body within the tier's size, the process's and the tenant's bytes in flight, and time.
async fn read_body(
    mut body: Incoming,
    headers: &HeaderMap,
    inside: &Inside,
) -> Result<(Bytes, HeldBytes, HeldBytes), Refusal> {
    let tier = inside.configuration.snapshot.tier_of(&inside.tenant);
    let limit = tier.body_bytes_max;
    inside.runtime.in_flight.set_max(tier.in_flight_bytes_max);
    let declared = headers
        .get(CONTENT_LENGTH)
        .and_then(|length| length.to_str().ok()?.parse::<u64>().ok())
        .unwrap_or(0);
    if declared > limit {
        return Err(Refusal::TooLarge { limit });
    }
    let mut held = inside
        .shared
        .in_flight
        .hold(declared)
        .ok_or(Refusal::Overloaded)?;
    let mut tenant_held = inside
        .runtime
        .in_flight
        .hold(declared)
        .ok_or(Refusal::Overloaded)?;
    let mut reserved = declared;

    let clock = &*inside.shared.clock;
    let deadline = Deadline::after(clock, inside.shared.bounds.body_timeout);
    let mut first: Option<Bytes> = None;
    let mut rest = BytesMut::new();
    let mut length = 0;
    while !body.is_end_stream() {
        let frame = tokio::time::timeout(deadline.remaining(clock), body.frame())
            .await
            .map_err(|_| Refusal::BodyTooSlow)?;
        let Some(frame) = frame else { break };
        let frame = frame.map_err(|error| {
            tracing::debug!(%error, "a body could not be read");
            incomplete_body()
        })?;
        let Ok(data) = frame.into_data() else {
            continue;
        };
        length += data.len() as u64;
        if length > limit {
            return Err(Refusal::TooLarge { limit });
        }
        while length > reserved {
            if !(held.grow(GROW_BYTES) && tenant_held.grow(GROW_BYTES)) {
                return Err(Refusal::Overloaded);
            }
            reserved += GROW_BYTES;
        }
        match &first {
            None => first = Some(data),
            Some(begun) => {
                if rest.is_empty() {
                    // Room for all of it at once, so that nothing is copied twice.
                    rest.reserve(usize::try_from(declared.max(length)).unwrap_or(0));
                    rest.extend_from_slice(begun);
                }
                rest.extend_from_slice(&data);
            }
        }
    }
    let whole = if rest.is_empty() {
        first.unwrap_or_default()
    } else {
        rest.freeze()
    };
    Ok((whole, held, tenant_held))
}
