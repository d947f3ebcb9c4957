//! What the admin API asks of the process.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::replica::Membership;
use base::TenantId;
use control::api::{CacheReply, EndpointRow, RenderRequest, UpstreamStatusReply, WaitingCalls};
use control::{PublishTarget, ResponseCaches, UpstreamReader, Vitals};
use gateway::{EndpointView, Gateway, PromptTrial, UpstreamState};
use store::Journal;
use tenancy::catalogue::{Address, ChannelSpec, ChannelTarget, Kind, PromptText};
use tenancy::{Problem, Snapshot, TenantEntry};

/// The gateway serves the catalogue.
pub(super) struct Served {
    pub(super) gateway: Gateway,
    /// Whether there is a mail server.
    pub(super) mails: bool,
}

impl PublishTarget for Served {
    fn check(&self, snapshot: &Snapshot) -> Result<(), Vec<Problem>> {
        let mut problems = match self.mails {
            true => Vec::new(),
            false => without_mail(snapshot),
        };
        if let Err(more) = self.gateway.check(&Arc::new(snapshot.clone())) {
            problems.extend(more);
        }
        match problems.is_empty() {
            true => Ok(()),
            false => Err(problems),
        }
    }

    fn render(
        &self,
        tenant: &TenantEntry,
        text: &PromptText,
        asked: RenderRequest,
    ) -> Result<String, String> {
        let trial = PromptTrial {
            variables: asked.variables,
            feature: asked.feature,
            model: asked.model,
            user: asked.user,
            team: asked.team,
        };
        let tried = self.gateway.try_prompt(tenant, text, trial);
        tried.map_err(|error| error.to_string())
    }

    fn publish(&self, snapshot: Arc<Snapshot>) {
        if let Err(problems) = self.gateway.publish(&snapshot) {
            // It was checked a moment before: a file with a credential has gone since then.
            for problem in problems {
                tracing::error!(%problem, "a version is durable, and cannot be served");
            }
        }
    }

    fn current(&self) -> Arc<Snapshot> {
        self.gateway.snapshot()
    }
}

/// Channels that lead to mailboxes, where there is no mail server.
fn without_mail(snapshot: &Snapshot) -> Vec<Problem> {
    let is_mail = |channel: &ChannelSpec| matches!(channel.to, ChannelTarget::Email(_));
    let refused = |address: Address| Problem {
        address,
        message: "there is no mail server: name one in `[mail]` of partywall.toml".to_owned(),
    };
    let platform = snapshot.channels().iter();
    let platform = platform
        .filter(|(_, channel)| is_mail(channel))
        .map(|(name, _)| Address::platform(Kind::PlatformChannel, name.as_str()));
    let own = snapshot.tenants().flat_map(|tenant| {
        let own = tenant.own.iter().flat_map(|own| own.channels.iter());
        own.filter(|(_, channel)| is_mail(&channel.0))
            .map(|(name, _)| Address::in_tenant(tenant.id(), Kind::Channel, name.as_str()))
    });
    platform.chain(own).map(refused).collect()
}

/// The gateway's kept answers.
pub(super) struct Caches(pub(super) Gateway);

impl ResponseCaches for Caches {
    fn figures(&self, tenant: TenantId) -> CacheReply {
        let figures = self.0.cache_figures(tenant);
        CacheReply {
            entries: figures.entries,
            bytes: figures.bytes,
            hits: figures.hits,
            misses: figures.misses,
        }
    }

    fn clear(&self, tenant: TenantId) {
        self.0.clear_cache(tenant);
    }
}

/// How upstreams are, by the gateway.
pub(super) struct LiveUpstreams(pub(super) Gateway);

impl UpstreamReader for LiveUpstreams {
    fn upstream(&self, name: &str) -> Option<UpstreamStatusReply> {
        let status = self.0.upstream_status(name)?;
        let [interactive, standard, background] = status.waiting;
        let state = match status.state {
            UpstreamState::Working => "working",
            UpstreamState::Probation => "probation",
            UpstreamState::Down => "down",
        };
        let row = |endpoint: EndpointView| EndpointRow {
            address: endpoint.address,
            state: endpoint.state.as_str().to_owned(),
            calls_under_way: endpoint.calls_under_way,
            running: endpoint.running,
            waiting: endpoint.waiting,
            kv_use_permille: endpoint.kv_use_permille,
        };
        Some(UpstreamStatusReply {
            name: name.parse().ok()?,
            state: state.to_owned(),
            places: status.places,
            calls_under_way: status.calls_under_way,
            waiting: WaitingCalls {
                interactive,
                standard,
                background,
            },
            open_breakers: status.open_tenants as u64,
            endpoints: status.endpoints.into_iter().map(row).collect(),
        })
    }
}

/// How the process is.
pub(super) struct Health {
    pub(super) gateway: Gateway,
    pub(super) journal: Arc<Journal>,
    pub(super) is_stopping: Arc<AtomicBool>,
    pub(super) membership: Option<Arc<Membership>>,
}

impl Vitals for Health {
    fn ready(&self) -> Result<(), String> {
        if self.is_stopping.load(Ordering::Relaxed) {
            return Err("it is about to stop".to_owned());
        }
        if let Some(trouble) = self.membership.as_ref().and_then(|it| it.trouble()) {
            return Err(trouble);
        }
        if !self.journal.is_accepting() {
            return Err("the journal's disk takes nothing".to_owned());
        }
        Ok(())
    }

    fn metrics(&self) -> String {
        self.gateway.metrics().text()
    }

    fn open_metrics(&self) -> String {
        self.gateway.metrics().open_metrics()
    }
}
