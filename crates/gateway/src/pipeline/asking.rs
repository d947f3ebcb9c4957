//! What guardrails' checks ask: models as hops of the request, services by one signed POST.

use std::time::Duration;

use base::ModelName;
use ledger::Hop;

use super::hop::{HopError, Hops};
use crate::guard::{Moderated, Remote, RemoteFailure};

impl Remote for Hops {
    async fn embed(
        &self,
        model: &ModelName,
        texts: &[&str],
    ) -> Result<Vec<Vec<f32>>, RemoteFailure> {
        Ok(Self::embed(self, Hop::Guard, model, texts).await?)
    }

    async fn moderate(
        &self,
        model: &ModelName,
        texts: &[&str],
    ) -> Result<Vec<Moderated>, RemoteFailure> {
        Ok(Self::moderate(self, model, texts).await?)
    }

    async fn complete(
        &self,
        model: &ModelName,
        system: &str,
        user: &str,
        output_tokens_max: u32,
    ) -> Result<String, RemoteFailure> {
        let messages = [system, user];
        Ok(Self::complete(self, Hop::Judge, model, messages, output_tokens_max).await?)
    }

    async fn post(
        &self,
        url: &str,
        timeout: Duration,
        body: Vec<u8>,
    ) -> Result<Vec<u8>, RemoteFailure> {
        let shared = &self.inside().shared;
        let tenant = self.inside().tenant.id();
        let services = &shared.guard_services;
        services
            .post(
                tenant,
                (&*shared.clock, &*shared.entropy),
                url,
                timeout,
                body,
            )
            .await
    }
}

impl From<HopError> for RemoteFailure {
    fn from(error: HopError) -> Self {
        match error {
            HopError::TooMany => Self::TooMany,
            HopError::Late => Self::Late,
            HopError::Refused(refusal) => Self::Refused(refusal),
            HopError::Unreadable => Self::Unreadable,
        }
    }
}
