//! What a call's prompt begins with, for the replica that may have it in its cache.

use models::Raw;
use tenancy::catalogue::Salting;
use tenancy::{SaltInputs, Sharing};

use super::compile::Compiled;
use crate::resilience::Credential;
use crate::upstream::{Beginnings, Caller};

/// Where the prompt stands, in the dialects of engines that have replicas.
const PROMPTS: [&str; 4] = ["messages", "prompt", "input", "contents"];

impl Compiled {
    /// Who calls, if the target has replicas to choose from.
    pub(super) fn caller(&self) -> Option<Box<Caller>> {
        let target = self.target();
        if !target.upstream.has_replicas() {
            return None;
        }
        let has_own = target.credential_of(&self.inside.tenant).is_some();
        Some(Box::new(Caller {
            tenant: self.inside.tenant.id(),
            credential: if has_own {
                Credential::Tenant
            } else {
                Credential::Shared
            },
            beginnings: match target.upstream.spec.salting {
                // Nothing is warm there.
                Salting::Uncached => Beginnings::default(),
                _ => self.beginnings(),
            },
        }))
    }

    /// Digests under the tenant's salt, whether the engine is sent one or not.
    fn beginnings(&self) -> Beginnings {
        let body = match &self.said.translated {
            Some(translated) => translated,
            None => self.envelope.body(),
        };
        let prompt = PROMPTS.iter().find_map(|name| Raw::new(body).get(name));
        let Some(prompt) = prompt else {
            return Beginnings::default();
        };
        let target = self.target();
        let salt = self.salt().unwrap_or_else(|| {
            self.inside.scope.cache_salt(&SaltInputs {
                deployment: target.upstream.name.as_str(),
                revision: target.model.as_str(),
                sharing: Sharing::Tenant,
                epoch: 0,
            })
        });
        Beginnings::of(&salt, prompt.bytes())
    }
}
