//! Models that are a tenant's own adapters: found by the tenant's names, loaded for a call, and
//! called by the tenant's names again in the answer.

use std::sync::Arc;

use base::ModelName;
use bytes::{Bytes, BytesMut};
use http::StatusCode;
use memchr::memmem::Finder;
use tenancy::AdapterInputs;
use tenancy::catalogue::Engine;

use super::again::{Remedy, Setback};
use super::compile::Compiled;
use super::resolve::Inside;
use crate::adapters::{AdapterLease, EngineAdapter, NoAdapter};
use crate::refusal::Refusal;
use crate::route::{Route, Target};

impl Inside {
    /// The route of a model, if the caller may use it: absent and forbidden look alike. The
    /// tenant's own names come first.
    pub(super) fn route(&self, model: &ModelName) -> Result<Arc<Route>, Refusal> {
        let route = match self.tenant.adapter(model.as_str()) {
            Some(_) => self.adapter_route(model),
            None => self.platform_route(model),
        };
        route.ok_or_else(|| Refusal::NoSuchModel(model.clone()))
    }

    /// The route of one of the platform's models.
    pub(super) fn platform_route(&self, model: &ModelName) -> Option<Arc<Route>> {
        let route = self.configuration.route(model.as_str(), &self.tenant);
        route.filter(|_| self.may_call(model)).map(Arc::clone)
    }

    /// Whether the caller may use one of the tenant's adapters. Key and tenant name it; the tier
    /// knows nothing of it, and names the model that it sits on.
    pub(super) fn may_call_adapter(&self, name: &ModelName, base: &ModelName) -> bool {
        self.is_open_to_caller(name) && self.is_open_to_tier(base)
    }

    /// The tenant's adapters that the caller may use.
    pub(super) fn adapters(&self) -> impl Iterator<Item = ModelName> + '_ {
        let own = self.tenant.own.iter();
        let all = own.flat_map(|own| own.adapters.keys());
        let names = all.filter_map(|name| name.as_str().parse::<ModelName>().ok());
        names.filter(|name| self.adapter_route(name).is_some())
    }

    /// The way of a base model, as far as it leads to engines that can load the adapter.
    fn adapter_route(&self, model: &ModelName) -> Option<Arc<Route>> {
        let (name, spec) = self.tenant.adapter(model.as_str())?;
        if !self.may_call_adapter(model, &spec.base) {
            return None;
        }
        let base = self.configuration.route(spec.base.as_str(), &self.tenant)?;
        let adapted = |target: &Target| {
            let takes = target.upstream.spec.adapters.as_ref()?.takes(spec.rank);
            takes.then(|| {
                let inputs = AdapterInputs {
                    deployment: target.upstream.name.as_str(),
                    base: target.model.as_str(),
                    adapter: name.as_str(),
                    location: spec.location(),
                    revision: spec.revision(),
                };
                let adapter = EngineAdapter {
                    tenant: self.tenant.id(),
                    name: name.clone(),
                    spec: Arc::clone(spec),
                    engine_name: self.scope.adapter_name(&inputs),
                };
                let own = format!(
                    "{}/adapters/{}/{name}",
                    target.upstream.provider, self.tenant.name
                );
                let priced = self.configuration.prices(&own);
                Target {
                    upstream: Arc::clone(&target.upstream),
                    model: target.model.clone(),
                    adapter: Some(Arc::new(adapter)),
                    prices: priced.or(target.prices.as_ref()).cloned(),
                    weight: target.weight,
                }
            })
        };
        let targets: Arc<[Target]> = base
            .targets_of(&self.tenant)
            .iter()
            .filter_map(adapted)
            .collect();
        let is_served = !targets.is_empty();
        is_served.then(|| {
            Arc::new(Route {
                model: model.clone(),
                base: Some(spec.base.clone()),
                spec: Arc::clone(&base.spec),
                variants: base.variants.iter().map(|_| Arc::clone(&targets)).collect(),
                targets,
            })
        })
    }
}

impl Compiled {
    /// Gets the target's adapter loaded, if it has one.
    pub(super) async fn take_adapter(&self) -> Result<Option<AdapterLease>, Setback> {
        let Target {
            upstream, adapter, ..
        } = self.target();
        let (Some(adapter), Some(shelf)) = (adapter, &upstream.adapters) else {
            return Ok(None);
        };
        let patience = self.tries.patience.remaining(&*self.inside.shared.clock);
        let taken = Box::pin(shelf.take(upstream, adapter, patience)).await;
        taken.map(Some).map_err(|error| {
            tracing::debug!(%error, upstream = %upstream.name, adapter = %adapter.name, "a call has no adapter");
            let model = self.route.model.clone();
            Setback {
                refusal: match error {
                    NoAdapter::Failed(retry_after) => {
                        Refusal::AdapterFailed { model, retry_after }
                    }
                    NoAdapter::Busy => Refusal::AdapterBusy { model },
                },
                remedy: Remedy::Elsewhere,
            }
        })
    }

    /// Whether the engine's answer is that it does not know the adapter, though it was loaded: it
    /// began anew. Then the call may be made again, once.
    pub(super) fn has_lost_adapter(&mut self, status: StatusCode) -> bool {
        let target = self.target();
        let loads = target.adapter.is_some() && target.upstream.spec.engine == Engine::Vllm;
        let is_lost = loads && status == StatusCode::NOT_FOUND;
        is_lost && !std::mem::replace(&mut self.tries.was_reloaded, true)
    }

    /// How the engine's name of the adapter becomes the client's again.
    pub(super) fn renaming(&self) -> Option<Renaming> {
        let target = self.target();
        let adapter = target.adapter.as_ref()?;
        let engine_name = adapter.said_to(target.upstream.spec.engine);
        Some(Renaming::new(engine_name, &adapter.name))
    }
}

/// Puts one name in the place of another wherever a whole string of JSON is that name. Inside a
/// longer string its quotes would be escaped.
#[derive(Debug)]
pub(super) struct Renaming {
    from: Finder<'static>,
    to: Box<[u8]>,
}

impl Renaming {
    fn new(from: &str, to: &base::Name) -> Self {
        let from = serde_json::Value::from(from).to_string();
        Self {
            from: Finder::new(from.as_bytes()).into_owned(),
            to: format!("\"{to}\"").into_bytes().into(),
        }
    }

    /// These bytes with the other name; as they are where it does not occur.
    pub(super) fn apply(&self, bytes: Bytes) -> Bytes {
        self.renamed(&bytes).unwrap_or(bytes)
    }

    /// These bytes with the other name; none where it does not occur.
    pub(super) fn renamed(&self, bytes: &[u8]) -> Option<Bytes> {
        let mut from = 0;
        let mut out: Option<BytesMut> = None;
        for at in self.from.find_iter(bytes) {
            // A backslash before it: it is the end of a longer string.
            if at > 0 && bytes[at - 1] == b'\\' {
                continue;
            }
            let out = out.get_or_insert_with(|| BytesMut::with_capacity(bytes.len()));
            out.extend_from_slice(&bytes[from..at]);
            out.extend_from_slice(&self.to);
            from = at + self.from.needle().len();
        }
        let mut out = out?;
        out.extend_from_slice(&bytes[from..]);
        Some(out.freeze())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_replaced_where_it_is_a_whole_string() {
        let renaming = Renaming::new("acme/tone", &"tone".parse().unwrap());
        let apply = |text: &'static str| renaming.apply(Bytes::from_static(text.as_bytes()));
        assert_eq!(
            apply(r#"{"model":"acme/tone","a":["acme/tone"]}"#),
            r#"{"model":"tone","a":["tone"]}"#
        );
        for same in [
            r#"{"content":"it is acme/tone"}"#,
            r#"{"content":"say \"acme/tone\" now"}"#,
            r#"{"content":"nothing"}"#,
        ] {
            assert_eq!(apply(same), same);
        }
    }
}
