//! Where a call goes: the first target of its route that may have it, and how the call is said there.

use std::time::Duration;

use bytes::Bytes;
use models::{Forced, Operation, Untranslatable};
use tenancy::{CacheSalt, SaltInputs, Sharing};

use super::Compiled;
use crate::pipeline::caching::Caching;
use crate::pipeline::retrieval::{embedding_request, rerank_request};
use crate::refusal::Refusal;
use crate::route::{Closed, Target};
use crate::speech::{Speech, check_native, operation_path};

/// How a call is said to its target.
#[derive(Debug)]
pub(in super::super) struct Said {
    pub(in super::super) speech: Speech,
    /// The body in the target's dialect; none where the client's own goes on.
    pub(in super::super) translated: Option<Bytes>,
}

impl Default for Said {
    fn default() -> Self {
        Self {
            speech: Speech::Same,
            translated: None,
        }
    }
}

/// Why a call cannot go to a target.
enum Obstacle {
    Closed(Closed),
    /// Calls of it fail: when the next one may try.
    Down(Duration),
    /// It has no such operation.
    NoSuchOperation,
    /// The request has what its dialect cannot say.
    Untranslatable(Untranslatable),
}

impl Obstacle {
    /// What tells the client more: where time helps, when to come back.
    fn or(self, later: Self) -> Self {
        match (self, later) {
            (Self::Down(one), Self::Down(other)) => Self::Down(one.min(other)),
            (down @ Self::Down(_), _) => down,
            (_, later) => later,
        }
    }
}

impl Compiled {
    /// The place where the call goes next.
    pub(in super::super) fn target(&self) -> &Target {
        let target = self.way.target();
        target.expect("a call that is anywhere stands before a target: see `skip_to_open_target`")
    }

    /// Passes over targets where the call may not or cannot go. Where all of them fail and the
    /// tenant keeps answers, it stands before the first: what was kept of that may still be given.
    pub(super) fn skip_to_open_target(mut self: Box<Self>) -> Result<Box<Self>, Refusal> {
        self.down = None;
        match self.seek() {
            Ok(()) => Ok(self),
            Err(refusal @ Refusal::UpstreamDown { .. }) if self.keeps_answers() => {
                self.stand_before_what_fails(refusal)
            }
            Err(refusal) => Err(refusal),
        }
    }

    fn keeps_answers(&self) -> bool {
        self.origin.is_none() && self.inside.tenant.config.cache.is_some()
    }

    fn stand_before_what_fails(
        mut self: Box<Self>,
        refusal: Refusal,
    ) -> Result<Box<Self>, Refusal> {
        self.way.restart();
        while let Some(target) = self.way.target() {
            if target.open_to(&self.inside.tenant).is_ok()
                && let Ok(said) = self.say_in_its_words(target)
            {
                self.said = said;
                self.down = Some(Box::new(refusal));
                return Ok(self);
            }
            self.way.advance();
        }
        Err(refusal)
    }

    /// Refuses a call whose targets all fail, and for which no answer was kept.
    pub(in super::super) fn refuse_if_down(&self) -> Result<(), Refusal> {
        match (&self.down, &self.caching) {
            (None, _) | (Some(_), Caching::Hit(_)) => Ok(()),
            (Some(refusal), _) => Err((**refusal).clone()),
        }
    }

    fn seek(&mut self) -> Result<(), Refusal> {
        let sought = self.seek_target();
        sought.map_err(|obstacle| self.nowhere_to_go(obstacle))
    }

    /// The first target from here on that takes the call, or why none does.
    fn seek_target(&mut self) -> Result<(), Obstacle> {
        let mut obstacle = Obstacle::Closed(Closed::SharedCache);
        while let Some(target) = self.way.target() {
            match self.say_to(target) {
                Ok(said) => {
                    self.said = said;
                    return Ok(());
                }
                Err(why) => obstacle = obstacle.or(why),
            }
            self.way.advance();
        }
        Err(obstacle)
    }

    /// The call as it is said to a target.
    fn say_to(&self, target: &Target) -> Result<Said, Obstacle> {
        target
            .open_to(&self.inside.tenant)
            .map_err(Obstacle::Closed)?;
        let gate = target.upstream.gate.is_open_to(self.inside.tenant.id());
        gate.map_err(|open| Obstacle::Down(open.retry_after()))?;
        self.say_in_its_words(target)
    }

    fn say_in_its_words(&self, target: &Target) -> Result<Said, Obstacle> {
        let engine = target.upstream.spec.engine;
        let speech = Speech::between(self.operation, engine, target.model.as_str())
            .ok_or(Obstacle::NoSuchOperation)?;
        let model = target.said_model();
        let body = match speech {
            Speech::Same => {
                if self.operation == Operation::Chat {
                    check_native(engine, &self.envelope).map_err(Obstacle::Untranslatable)?;
                }
                return Ok(Said {
                    speech,
                    translated: None,
                });
            }
            Speech::Translated(translation) => {
                let salt = self.salt_for(target);
                let forced = Forced {
                    model,
                    output_tokens: self.output_tokens_each(),
                    stream: self.call.stream,
                    salt: salt.as_ref().map(CacheSalt::as_str),
                };
                translation.request(&self.envelope, &forced)
            }
            Speech::Count(dialect) => {
                let forced = Forced {
                    model,
                    output_tokens: self.output_tokens_each(),
                    stream: false,
                    salt: None,
                };
                dialect.write(&self.envelope, &forced)
            }
            Speech::Embedding(dialect) => embedding_request(&self.envelope, dialect, model),
            Speech::Rerank(dialect) => {
                let salt = target.upstream.salt_field().zip(self.salt_for(target));
                rerank_request(&self.envelope, dialect, model, salt)
            }
        };
        Ok(Said {
            speech,
            translated: Some(body.map_err(Obstacle::Untranslatable)?),
        })
    }

    /// The tenant's salt, for a target that takes one.
    pub(in super::super) fn salt(&self) -> Option<CacheSalt> {
        self.salt_for(self.target())
    }

    fn salt_for(&self, target: &Target) -> Option<CacheSalt> {
        target.upstream.salt_field()?;
        let inside = &self.inside;
        let snapshot = &inside.configuration.snapshot;
        let share = snapshot.share_of(&inside.tenant, &inside.shared.sharing_secret, inside.at);
        Some(self.inside.scope.cache_salt(&SaltInputs {
            deployment: target.upstream.name.as_str(),
            revision: &target.revision(),
            sharing: share.as_ref().map_or(Sharing::Tenant, Sharing::Group),
            epoch: snapshot.salt_epoch(&inside.tenant, inside.at),
        }))
    }

    /// What the client is told if no target of the route takes the call; operators find in the
    /// log what they can do.
    fn nowhere_to_go(&self, obstacle: Obstacle) -> Refusal {
        let (route, tenant) = (&self.route.model, &self.inside.tenant.name);
        match obstacle {
            Obstacle::Down(retry_after) => Refusal::UpstreamDown { retry_after },
            Obstacle::Untranslatable(error) => error.into(),
            Obstacle::NoSuchOperation => {
                Refusal::NoSuchOperation(route.clone(), operation_path(self.operation))
            }
            Obstacle::Closed(Closed::OtherRegion) => {
                tracing::warn!(%route, %tenant, "no upstream of the route is in the tenant's region: add one that has this `region`");
                Refusal::Forbidden("no upstream of this model is in your region")
            }
            Obstacle::Closed(Closed::NoCredential) => Refusal::Forbidden(
                "this model is called with your own credential for its provider, and you have set none",
            ),
            Obstacle::Closed(Closed::SharedCache) => {
                tracing::warn!(%route, %tenant, "no upstream of the route keeps this tenant apart: set the upstream's `salting`, or say that the tenant accepts it (`partywall tenant set NAME --accepts-shared-cache`)");
                Refusal::Forbidden(
                    "no upstream of this model keeps your prompts apart from others'",
                )
            }
        }
    }

    /// Goes to the route's next target, if there is one.
    pub(in super::super) fn next_target(&mut self) -> bool {
        self.way.advance();
        self.seek_target().is_ok()
    }

    /// Begins its way anew.
    pub(in super::super) fn first_target(&mut self) -> Result<(), Refusal> {
        self.way.restart();
        self.seek()
    }
}
