//! The catalogue's resources: what an operator declares, as typed data.
//!
//! One file per room: [`platform`](self) resources are shared by all tenants (tiers, upstreams,
//! routes, prices, operators); a tenant's own are its teams, users, keys, features, budgets,
//! limits and configuration. All are named, versioned together, validated as a whole and
//! published as one [`crate::Snapshot`].

mod adapter;
mod bodies;
mod cache;
mod channel;
mod credential;
mod endpoints;
mod engine;
mod guardrail;
mod money;
mod placement;
mod platform;
mod price_book;
mod prompt;
mod retention;
mod route;
mod shared_cost;
mod sharing_group;
mod tenant;
mod upstream;

use std::fmt;
use std::str::FromStr;

use base::{Name, TenantId};
use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

pub use adapter::{
    AdapterReference, AdapterSource, AdapterSpec, TierAdapters, UploadedAdapter, UpstreamAdapters,
};
pub(crate) use bodies::BODIES_DAYS_MAX;
pub use bodies::BodiesSpec;
pub use cache::{CacheMode, CacheSpec, CachedRequests};
pub(crate) use channel::ChannelOf;
pub use channel::{
    AlertKind, ChannelSpec, ChannelTarget, EmailTarget, HookTarget, TenantChannelSpec, is_address,
};
pub use credential::{CredentialSpec, NotACredential, SecretText};
pub use endpoints::{
    DnsEndpoints, ENDPOINTS_MAX, EndpointsSpec, EngineMetrics, KubernetesEndpoints, split_address,
};
pub use engine::Engine;
pub use guardrail::{
    CHECKS_MAX, Check, CheckSpec, DENY_BYTES_MAX, DENY_ENTRIES_MAX, DENY_ENTRY_BYTES_MAX,
    DenyListSpec, GuardAction, GuardrailSpec, IdCountry, JsonSchemaSpec, JudgeSpec, LooksAt,
    ModerationSpec, OnFailure, PiiKind, PiiSpec, PromptInjectionSpec, REGEX_CHECKS_MAX,
    REGEX_PATTERN_BYTES_MAX, REGEX_PATTERNS_MAX, RegexSpec, TEXT_BYTES_MAX, TOPIC_EXAMPLES_MAX,
    TOPICS_MAX, TopicSpec, TopicsSpec, WEBHOOK_TIMEOUT_MS_MAX, WebhookSpec,
};
pub use money::{
    BudgetSpec, Dimension, LimitSpec, LongPrompts, OnExhausted, ParseSubjectError, PriceEntry,
    PriceSpec, Subject, WindowSpec,
};
pub use placement::{FormerPlacement, ParsePlacementError, Placement, ServerWall};
pub use platform::{OperatorSpec, ParsePriorityError, Priority, SecretRef, TierSpec};
pub use price_book::{
    BASIS_POINTS, CacheHits, DiscountSpec, PriceBookEntry, PriceBookSpec, RateSpec, VolumeTier,
};
pub use prompt::{
    PROMPT_BUILT_INS, PROMPT_BYTES_MAX, PROMPT_TEMPLATE_BYTES_MAX, PROMPT_VARIABLES_MAX,
    PROMPT_VERSIONS_MAX, ParsePromptRefError, PromptRef, PromptSpec, PromptText, PromptVersion,
    VARIABLE_BYTES_MAX, VariableSpec,
};
pub use retention::RetentionSpec;
pub use route::{RouteSpec, RouteTarget, RouteVariant};
pub use shared_cost::{SharedCostSpec, SplitMethod};
pub use sharing_group::SharingGroupSpec;
pub use tenant::{
    FeatureSpec, KeySpec, RetiringHash, TeamSpec, TenantConfig, TenantSpec, UserSpec,
};
pub use upstream::{
    AdaptiveConcurrency, BreakerSpec, CredentialOf, HealthCheck, Salting, Timeouts, TraceContextTo,
    UpstreamSpec,
};

/// What a resource is.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// [`TierSpec`].
    Tier,
    /// [`UpstreamSpec`].
    Upstream,
    /// [`PriceSpec`].
    Price,
    /// [`RouteSpec`].
    Route,
    /// [`OperatorSpec`].
    Operator,
    /// [`SharingGroupSpec`].
    SharingGroup,
    /// [`PriceBookSpec`].
    PriceBook,
    /// [`ChannelSpec`].
    PlatformChannel,
    /// [`SharedCostSpec`].
    SharedCost,
    /// [`TenantSpec`].
    Tenant,
    /// [`TeamSpec`].
    Team,
    /// [`UserSpec`].
    User,
    /// [`PromptSpec`].
    Prompt,
    /// [`FeatureSpec`].
    Feature,
    /// [`KeySpec`].
    Key,
    /// [`BudgetSpec`].
    Budget,
    /// [`LimitSpec`].
    Limit,
    /// [`CredentialSpec`].
    Credential,
    /// [`GuardrailSpec`].
    Guardrail,
    /// [`AdapterSpec`].
    Adapter,
    /// [`TenantChannelSpec`].
    Channel,
    /// [`TenantConfig`]: one per tenant, named `config`.
    Config,
}

impl Kind {
    /// Every kind, in the order in which they can refer to each other.
    pub const ALL: [Self; 22] = [
        Self::Tier,
        Self::Upstream,
        Self::Price,
        Self::Route,
        Self::Operator,
        Self::SharingGroup,
        Self::PriceBook,
        Self::PlatformChannel,
        Self::SharedCost,
        Self::Tenant,
        Self::Team,
        Self::User,
        Self::Prompt,
        Self::Feature,
        Self::Key,
        Self::Budget,
        Self::Limit,
        Self::Credential,
        Self::Guardrail,
        Self::Adapter,
        Self::Channel,
        Self::Config,
    ];

    /// The kind's name: `upstream`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Tier => "tier",
            Self::Upstream => "upstream",
            Self::Price => "price",
            Self::Route => "route",
            Self::Operator => "operator",
            Self::SharingGroup => "sharing-group",
            Self::PriceBook => "price-book",
            Self::PlatformChannel => "platform-channel",
            Self::SharedCost => "shared-cost",
            Self::Tenant => "tenant",
            Self::Team => "team",
            Self::User => "user",
            Self::Prompt => "prompt",
            Self::Feature => "feature",
            Self::Key => "key",
            Self::Budget => "budget",
            Self::Limit => "limit",
            Self::Credential => "credential",
            Self::Guardrail => "guardrail",
            Self::Adapter => "adapter",
            Self::Channel => "channel",
            Self::Config => "config",
        }
    }

    /// The kind's name in paths and folders: `upstreams`.
    pub const fn plural(self) -> &'static str {
        match self {
            Self::Tier => "tiers",
            Self::Upstream => "upstreams",
            Self::Price => "prices",
            Self::Route => "routes",
            Self::Operator => "operators",
            Self::SharingGroup => "sharing-groups",
            Self::PriceBook => "price-books",
            Self::PlatformChannel => "platform-channels",
            Self::SharedCost => "shared-costs",
            Self::Tenant => "tenants",
            Self::Team => "teams",
            Self::User => "users",
            Self::Prompt => "prompts",
            Self::Feature => "features",
            Self::Key => "keys",
            Self::Budget => "budgets",
            Self::Limit => "limits",
            Self::Credential => "credentials",
            Self::Guardrail => "guardrails",
            Self::Adapter => "adapters",
            Self::Channel => "channels",
            Self::Config => "configs",
        }
    }

    /// Whether such a resource belongs to a tenant.
    pub const fn is_in_tenant(self) -> bool {
        matches!(
            self,
            Self::Team
                | Self::User
                | Self::Prompt
                | Self::Feature
                | Self::Key
                | Self::Budget
                | Self::Limit
                | Self::Credential
                | Self::Guardrail
                | Self::Adapter
                | Self::Channel
                | Self::Config
        )
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The text names no kind of resource.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is no kind of resource")]
pub struct ParseKindError {
    text: String,
}

impl FromStr for Kind {
    type Err = ParseKindError;

    fn from_str(text: &str) -> Result<Self, ParseKindError> {
        Self::ALL
            .into_iter()
            .find(|kind| kind.as_str() == text || kind.plural() == text)
            .ok_or_else(|| ParseKindError {
                text: text.chars().take(40).collect(),
            })
    }
}

/// A resource's specification: plain data with one JSON form.
pub trait Spec: Serialize + DeserializeOwned + JsonSchema {
    /// What it is.
    const KIND: Kind;
}

/// Ties each specification to its kind and to its arm of [`Resource`].
macro_rules! resources {
    ($($kind:ident($spec:ty)),* $(,)?) => {
        /// A specification of any kind.
        #[derive(Debug, Clone, PartialEq)]
        #[expect(missing_docs, reason = "each arm is named and documented by its specification")]
        pub enum Resource {
            $($kind($spec)),*
        }

        impl Resource {
            /// What it is.
            pub const fn kind(&self) -> Kind {
                match self {
                    $(Self::$kind(_) => Kind::$kind),*
                }
            }

            /// The resource that this JSON specifies.
            ///
            /// # Errors
            ///
            /// What `serde_json` finds wrong, unknown fields included.
            pub fn from_json(kind: Kind, json: &[u8]) -> Result<Self, serde_json::Error> {
                Ok(match kind {
                    $(Kind::$kind => Self::$kind(serde_json::from_slice(json)?)),*
                })
            }

            /// The specification as JSON.
            pub fn to_json(&self) -> serde_json::Value {
                let value = match self {
                    $(Self::$kind(spec) => serde_json::to_value(spec)),*
                };
                value.expect("specifications have string keys and finite numbers")
            }
        }

        $(
            impl Spec for $spec {
                const KIND: Kind = Kind::$kind;
            }

            impl From<$spec> for Resource {
                fn from(spec: $spec) -> Self {
                    Self::$kind(spec)
                }
            }
        )*
    };
}

resources! {
    Tier(TierSpec),
    Upstream(UpstreamSpec),
    Price(PriceSpec),
    Route(RouteSpec),
    Operator(OperatorSpec),
    SharingGroup(SharingGroupSpec),
    PriceBook(PriceBookSpec),
    PlatformChannel(ChannelSpec),
    SharedCost(SharedCostSpec),
    Tenant(TenantSpec),
    Team(TeamSpec),
    User(UserSpec),
    Prompt(PromptSpec),
    Feature(FeatureSpec),
    Key(KeySpec),
    Budget(BudgetSpec),
    Limit(LimitSpec),
    Credential(CredentialSpec),
    Guardrail(GuardrailSpec),
    Adapter(AdapterSpec),
    Channel(TenantChannelSpec),
    Config(TenantConfig),
}

/// Where a resource stands: its kind, its tenant if it is in one, and its name.
///
/// Names of routes and prices are model names (`gpt-4o`, `openai/gpt-4o`); all others are
/// [`Name`]s.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address {
    /// What it is.
    pub kind: Kind,
    /// Whose it is; none for the platform's own.
    pub tenant: Option<TenantId>,
    /// Its name, unique for its kind and tenant.
    pub name: String,
}

impl Address {
    /// The address of one of the platform's own resources.
    pub fn platform(kind: Kind, name: impl Into<String>) -> Self {
        Self {
            kind,
            tenant: None,
            name: name.into(),
        }
    }

    /// The address of a tenant's resource.
    pub fn in_tenant(tenant: TenantId, kind: Kind, name: impl Into<String>) -> Self {
        Self {
            kind,
            tenant: Some(tenant),
            name: name.into(),
        }
    }

    /// Whether the name has the form that this kind wants.
    pub fn has_valid_name(&self) -> bool {
        match self.kind {
            Kind::Route | Kind::Price => self.name.parse::<base::ModelName>().is_ok(),
            Kind::Config => self.name == Kind::Config.as_str(),
            _ => self.name.parse::<Name>().is_ok(),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(tenant) = self.tenant {
            write!(f, "{tenant}/")?;
        }
        write!(f, "{}/{}", self.kind.plural(), self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_parse_in_both_numbers() {
        for kind in Kind::ALL {
            assert_eq!(kind.as_str().parse(), Ok(kind));
            assert_eq!(kind.plural().parse(), Ok(kind));
        }
        assert!("widgets".parse::<Kind>().is_err());
    }

    #[test]
    fn an_unknown_field_is_refused() {
        let refused = Resource::from_json(Kind::Team, br#"{"id":"x","colour":"red"}"#);
        assert!(refused.is_err());
    }

    #[test]
    fn a_route_may_have_a_slash_in_its_name_and_a_tenant_may_not() {
        assert!(Address::platform(Kind::Route, "openai/gpt-4o").has_valid_name());
        assert!(!Address::platform(Kind::Tenant, "a/b").has_valid_name());
    }
}
