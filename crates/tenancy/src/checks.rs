//! What must hold between resources before a version is published.
//!
//! Each check adds sentences to `found`: what is wrong and what would be right.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use base::{ModelName, Name};

use crate::adapter_checks::{check_adapter, check_tier_adapters, check_upstream_adapters};
use crate::adapter_name::AdapterName;
use crate::catalogue::{
    AdaptiveConcurrency, Address, BODIES_DAYS_MAX, BodiesSpec, BudgetSpec, CacheMode, CacheSpec,
    ChannelOf, CredentialOf, CredentialSpec, Dimension, EndpointsSpec, Engine, Kind, LimitSpec,
    OnExhausted, PriceSpec, PromptRef, RouteSpec, RouteTarget, Salting, SharingGroupSpec, Subject,
    TenantSpec, TierSpec, UpstreamSpec,
};
use crate::dependents::{check_model_asked, check_models_asked};
use crate::directory::{Guardrails, Snapshot, TenantEntry};
use crate::roles::Role;

pub(crate) fn check_platform(snapshot: &Snapshot, address: &Address, found: &mut Vec<String>) {
    let name = address.name.as_str();
    match address.kind {
        Kind::Tier => match snapshot.tiers.get(name) {
            Some(tier) => {
                check_tier(tier, found);
                check_price_book(snapshot, tier.price_book.as_ref(), found);
                for budget in tier.budgets.values() {
                    check_budget(snapshot, None, budget, found);
                }
                for limit in tier.limits.values() {
                    check_limit(None, limit, found);
                }
            }
            None => refuse_while_used(
                "tenants are on it",
                snapshot
                    .tenants()
                    .filter(|tenant| tenant.spec.tier.as_str() == name),
                |tenant| tenant.name.to_string(),
                found,
            ),
        },
        Kind::Upstream => match snapshot.upstreams.get(name) {
            Some(upstream) => check_upstream(upstream, found),
            None => refuse_while_used(
                "routes lead there",
                snapshot.routes.iter().filter(|(_, route)| {
                    route
                        .all_targets()
                        .any(|target| target.upstream.as_str() == name)
                }),
                |(route, _)| route.to_string(),
                found,
            ),
        },
        Kind::Route => {
            if let Some(route) = snapshot.routes.get(name) {
                check_route(snapshot, route, found);
            }
        }
        Kind::Price => {
            if let Some(price) = snapshot.prices.get(name) {
                check_price(price, found);
            }
        }
        Kind::Operator => {
            let role = snapshot.operators.get(name).map(|operator| operator.role);
            if role.is_some_and(|role| !matches!(role, Role::Operator | Role::Auditor)) {
                found.push("an operator's role is `operator` or `auditor`".to_owned());
            }
        }
        Kind::SharingGroup => match snapshot.sharing_groups.get(name) {
            Some(group) => check_sharing_group(group, found),
            None => refuse_while_used(
                "tenants have opted into it",
                snapshot.tenants().filter(|tenant| {
                    let opted = tenant.config.sharing_group.as_ref();
                    opted.is_some_and(|group| group.as_str() == name)
                }),
                |tenant| tenant.name.to_string(),
                found,
            ),
        },
        Kind::PriceBook => match snapshot.price_books.get(name) {
            Some(book) => book.check(found),
            None => refuse_price_book_in_use(snapshot, name, found),
        },
        Kind::PlatformChannel => {
            check_channel_count(snapshot.channels.len(), PLATFORM_CHANNELS_MAX, found);
            if let Some(channel) = snapshot.channels.get(name) {
                channel.check(ChannelOf::Platform, found);
            }
        }
        Kind::SharedCost => {
            if let Some(cost) = snapshot.shared_costs.get(name) {
                cost.check(found);
            }
        }
        Kind::Tenant => {
            if let Some(tenant) = snapshot.tenant_named(name) {
                check_tenant(snapshot, &tenant.spec, found);
            }
        }
        _ => {}
    }
}

/// Names at most five of those who still use what was removed.
fn refuse_while_used<T>(
    why: &str,
    users: impl Iterator<Item = T>,
    name: impl Fn(T) -> String,
    found: &mut Vec<String>,
) {
    let some: Vec<String> = users.take(5).map(name).collect();
    if !some.is_empty() {
        found.push(format!("it cannot be removed: {why}: {}", some.join(", ")));
    }
}

fn refuse_price_book_in_use(snapshot: &Snapshot, name: &str, found: &mut Vec<String>) {
    let is_it = |book: &Name| book.as_str() == name;
    let tiers = snapshot.tiers.iter();
    let tiers = tiers.filter(|(_, tier)| tier.price_book.as_ref().is_some_and(is_it));
    let tiers = tiers.map(|(tier, _)| format!("tier {tier}"));
    let tenants = snapshot.tenants();
    let tenants = tenants.filter(|it| it.spec.price_book.as_deref().is_some_and(is_it));
    let tenants = tenants.map(|tenant| tenant.name.to_string());
    refuse_while_used("these name it", tiers.chain(tenants), |who| who, found);
}

fn check_price_book(snapshot: &Snapshot, name: Option<&Name>, found: &mut Vec<String>) {
    if let Some(name) = name.filter(|name| !snapshot.price_books.contains_key(*name)) {
        found.push(format!("there is no price book `{name}`"));
    }
}

fn check_tenant(snapshot: &Snapshot, spec: &TenantSpec, found: &mut Vec<String>) {
    check_price_book(snapshot, spec.price_book.as_deref(), found);
    if let Some(retention) = &spec.retention {
        retention.check(found);
    }
    if !snapshot.tiers.contains_key(&spec.tier) {
        found.push(format!("there is no tier `{}`", spec.tier));
    }
    if jiff::tz::TimeZone::get(&spec.zone).is_err() {
        found.push(format!(
            "`{}` is no IANA time zone; write one such as `Europe/Berlin`",
            spec.zone
        ));
    }
    if spec
        .webhook_url
        .as_ref()
        .is_some_and(|url| !url.starts_with("https://"))
    {
        found.push("`webhook_url` begins with https://".to_owned());
    }
}

/// Ten minutes: an upstream that is held back for longer is taken out of its routes.
const BREAKER_OPEN_MS_MAX: u64 = 600_000;

fn check_upstream(spec: &UpstreamSpec, found: &mut Vec<String>) {
    match spec.address().map(url::Url::parse) {
        None => found.push(format!(
            "`base_url` is missing: `engine = \"{}\"` has no address that is the same for all",
            spec.engine.as_str()
        )),
        Some(Ok(url)) if matches!(url.scheme(), "http" | "https") && url.has_host() => {
            if !url.username().is_empty() || url.password().is_some() {
                found.push("`base_url` carries a secret: use `credential`".to_owned());
            }
            if url.query().is_some() || url.fragment().is_some() {
                found.push("`base_url` has no query and no fragment".to_owned());
            }
        }
        Some(_) => found.push("`base_url` is an http or https address".to_owned()),
    }
    if spec.salting == Salting::Derived && spec.engine.salt_field().is_none() {
        found.push(
            "`salting = \"derived\"` needs an engine that takes a salt (`vllm`, `sglang`, `tensorrt-llm`): others ignore one".to_owned(),
        );
    }
    if (spec.salting == Salting::Exclusive) != spec.exclusive_to.is_some() {
        found.push(
            "`exclusive_to` names the tenant of `salting = \"exclusive\"`, and no other".to_owned(),
        );
    }
    if spec.credential_of == CredentialOf::Tenant && spec.credential.is_some() {
        found.push(
            "`credential` is never sent with `credential_of = \"tenant\"`: leave one of them out"
                .to_owned(),
        );
    }
    if spec.concurrency_max == 0 {
        found.push("`concurrency_max` is at least 1".to_owned());
    }
    let breaker = &spec.breaker;
    if breaker.failure_percent > 100 {
        found.push("`breaker.failure_percent` is 100 at most; 0 turns it off".to_owned());
    }
    if !(1..=breaker.open_ms_max).contains(&breaker.open_ms)
        || breaker.open_ms_max > BREAKER_OPEN_MS_MAX
    {
        found.push(format!(
            "`breaker.open_ms` is at least 1 and at most `breaker.open_ms_max`, which is {BREAKER_OPEN_MS_MAX} at most"
        ));
    }
    if let Some(health) = &spec.health {
        check_question("health", &health.path, health.every_ms, found);
    }
    if let Some(metrics) = &spec.engine_metrics {
        check_question("engine_metrics", &metrics.path, metrics.every_ms, found);
    }
    if let Some(endpoints) = &spec.endpoints {
        endpoints.check(found);
        if matches!(**endpoints, EndpointsSpec::Kubernetes(_)) && !spec.allow_private_address {
            found.push(
                "`endpoints.kubernetes` needs `allow_private_address`: pods have private addresses"
                    .to_owned(),
            );
        }
        if spec.adapters.is_some() {
            found.push(
                "`adapters` are loaded into one engine: make each of its `endpoints` an upstream of its own, and name them all in the route".to_owned(),
            );
        }
        if spec.adaptive_concurrency == AdaptiveConcurrency::On {
            found.push(
                "`adaptive_concurrency` finds the limit of one place: leave it out with `endpoints`, whose `engine_metrics` tell the load of each".to_owned(),
            );
        }
    }
    check_upstream_adapters(spec, found);
    if spec.priority_scheduling && spec.engine != Engine::Vllm {
        found.push(
            "`priority_scheduling` is for `engine = \"vllm\"`: others read `priority` otherwise or not at all".to_owned(),
        );
    }
}

/// A path that an engine is asked for, and how often.
fn check_question(field: &str, path: &str, every_ms: u64, found: &mut Vec<String>) {
    let path = path.as_bytes();
    if path.first() != Some(&b'/') || !path.iter().all(u8::is_ascii_graphic) {
        found.push(format!(
            "`{field}.path` is a path from the server's root, such as `/health`"
        ));
    }
    if every_ms < 1_000 {
        found.push(format!("`{field}.every_ms` is at least 1000"));
    }
}

/// Ten years: what lives longer than that need not change by itself.
const SALT_DAYS_MAX: u16 = 3_650;
/// 64: an owner's tenants; each call of a member looks all of them up.
const MEMBERS_MAX: usize = 64;

fn check_sharing_group(spec: &SharingGroupSpec, found: &mut Vec<String>) {
    let members: BTreeSet<&Name> = spec.members.iter().collect();
    if members.len() < spec.members.len() || !(2..=MEMBERS_MAX).contains(&members.len()) {
        found.push(format!(
            "a sharing group has from 2 to {MEMBERS_MAX} members, each named once"
        ));
    }
}

fn check_tier(spec: &TierSpec, found: &mut Vec<String>) {
    if let Some(retention) = &spec.retention {
        retention.check(found);
    }
    if spec.weight == 0 {
        found.push("`weight` is at least 1: nobody may be starved".to_owned());
    }
    if spec
        .salt_days_max
        .is_some_and(|days| !(1..=SALT_DAYS_MAX).contains(&days))
    {
        found.push(format!("`salt_days_max` is from 1 to {SALT_DAYS_MAX}"));
    }
    if spec.cache_price_percent > 100 {
        found.push("`cache_price_percent` is from 0 to 100".to_owned());
    }
    if let Some(adapters) = &spec.adapters {
        check_tier_adapters(adapters, found);
    }
    let most = spec.upstream_concurrency_max;
    if most == Some(0) {
        found.push("`upstream_concurrency_max` is at least 1".to_owned());
    }
    if most.is_some_and(|most| spec.upstream_concurrency_reserved > most) {
        found.push(
            "`upstream_concurrency_reserved` is `upstream_concurrency_max` at most".to_owned(),
        );
    }
}

/// A million: shares as fine as anybody draws, and sums of them fit in 64 bits.
const WEIGHT_MAX: u32 = 1_000_000;
/// 64 targets: more than anybody lists in order; a call's own order of them fits a few bytes.
const TARGETS_MAX: usize = 64;

fn check_route(snapshot: &Snapshot, spec: &RouteSpec, found: &mut Vec<String>) {
    if spec.output_tokens_max == 0 {
        found.push("`output_tokens_max` is at least 1".to_owned());
    }
    check_targets(&spec.targets, "a route", found);
    for variant in &spec.variants {
        check_targets(&variant.targets, "a variant", found);
        if variant.tenants.is_empty() && variant.tiers.is_empty() {
            found.push("a variant names the tenants or tiers that it is for".to_owned());
        }
    }
    for target in spec.all_targets() {
        if !snapshot.upstreams.contains_key(&target.upstream) {
            found.push(format!("there is no upstream `{}`", target.upstream));
        }
    }
    let tiers_of_variants = spec.variants.iter().flat_map(|variant| &variant.tiers);
    for tier in spec.tiers.iter().chain(tiers_of_variants) {
        if !snapshot.tiers.contains_key(tier) {
            found.push(format!("there is no tier `{tier}`"));
        }
    }
}

fn check_targets(targets: &[RouteTarget], whose: &str, found: &mut Vec<String>) {
    if targets.is_empty() || targets.len() > TARGETS_MAX {
        found.push(format!("{whose} has from 1 to {TARGETS_MAX} targets"));
    }
    if targets
        .iter()
        .any(|target| target.model.as_str().starts_with(AdapterName::PREFIX))
    {
        found.push(format!(
            "a model's name does not begin with `{}`: tenants' adapters have names of that form",
            AdapterName::PREFIX
        ));
    }
    let weights = targets.iter().filter_map(|target| target.weight);
    if weights
        .into_iter()
        .any(|weight| weight == 0 || weight > WEIGHT_MAX)
    {
        found.push(format!(
            "a `weight` is from 1 to {WEIGHT_MAX}; leave a target out that is to get no calls"
        ));
    }
}

fn check_price(spec: &PriceSpec, found: &mut Vec<String>) {
    if spec.entries.is_empty() {
        found.push("a price has at least one entry".to_owned());
    }
    if !spec.entries.is_sorted_by_key(|entry| entry.effective_from) {
        found.push("entries are in order of `effective_from`".to_owned());
    }
    let versions: BTreeSet<u32> = spec.entries.iter().map(|entry| entry.version).collect();
    if versions.len() < spec.entries.len() {
        found.push("two entries have the same `version`".to_owned());
    }
    let amounts = spec.entries.iter().flat_map(|entry| {
        let optional = [
            entry.cached_read,
            entry.cached_write,
            entry.cached_write_1h,
            entry.image,
            entry.request,
        ];
        let long = entry.long_prompts.iter().flat_map(|long| {
            let optional = [long.cached_read, long.cached_write, long.cached_write_1h];
            [Some(long.input), Some(long.output)]
                .into_iter()
                .chain(optional)
        });
        [entry.input, entry.output]
            .into_iter()
            .chain(optional.into_iter().chain(long).flatten())
    });
    if amounts.into_iter().any(base::PicoUsd::is_negative) {
        found.push("no amount is negative".to_owned());
    }
}

/// That what keys and users belong to is there when they are put. It may be removed later: then
/// they are refused when they call.
pub(crate) fn check_membership(tenant: &TenantEntry, address: &Address, found: &mut Vec<String>) {
    let name = address.name.as_str();
    let (team, user) = match address.kind {
        Kind::User => {
            let user = tenant.users.get(name);
            (user.and_then(|user| user.team.as_ref()), None)
        }
        Kind::Key => {
            let key = tenant.keys.get(name);
            let of = key.map(|key| (key.team(), key.user()));
            of.unwrap_or_default()
        }
        _ => return,
    };
    check_reference(Dimension::Team, team, tenant, found);
    check_reference(Dimension::User, user, tenant, found);
}

pub(crate) fn check_in_tenant(
    snapshot: &Snapshot,
    tenant: &TenantEntry,
    address: &Address,
    found: &mut Vec<String>,
) {
    let name = address.name.as_str();
    match address.kind {
        Kind::Key => {
            let role = tenant.keys.get(name).map(|key| key.role);
            if matches!(role, Some(Role::Operator | Role::Auditor)) {
                found.push("a tenant's key cannot have an operator's role".to_owned());
            }
        }
        Kind::Budget => {
            if let Some(budget) = tenant.budgets.get(name) {
                check_budget(snapshot, Some(tenant), budget, found);
            }
        }
        Kind::Limit => {
            if let Some(limit) = tenant.limits.get(name) {
                check_limit(Some(tenant), limit, found);
            }
        }
        Kind::Credential => {
            if let Some(own) = &tenant.own
                && let Some(credential) = own.credentials.get(name)
            {
                check_credential(snapshot, &own.credentials, credential, found);
            }
        }
        Kind::Guardrail => {
            if let Some(guardrails) = &tenant.guardrails
                && let Some(guardrail) = guardrails.get(name)
            {
                check_guardrail(guardrails, found);
                check_models_asked(snapshot, tenant, &guardrail.checks, found);
            }
        }
        Kind::Adapter => {
            if let Some(own) = &tenant.own
                && let Some(adapter) = own.adapters.get(name)
            {
                check_adapter(snapshot, tenant, &own.adapters, name, adapter, found);
            }
        }
        Kind::Channel => {
            if let Some(own) = &tenant.own
                && let Some(channel) = own.channels.get(name)
            {
                check_channel_count(own.channels.len(), TENANT_CHANNELS_MAX, found);
                channel.0.check(ChannelOf::Tenant, found);
            }
        }
        Kind::Prompt => check_prompt(tenant, name, found),
        Kind::Feature => {
            if let Some(feature) = tenant.features.get(name) {
                check_prompt_ref(tenant, feature.prompt.as_ref(), found);
            }
        }
        Kind::Config => {
            check_prompt_ref(tenant, tenant.config.prompt.as_ref(), found);
            for owned in ["model", "messages", "stream"] {
                let config = &tenant.config;
                if config.forced_parameters.contains_key(owned)
                    || config.default_parameters.contains_key(owned)
                {
                    found.push(format!(
                        "`{owned}` is the caller's and cannot be a parameter"
                    ));
                }
            }
            if let Some(group) = &tenant.config.sharing_group
                && !snapshot.sharing_groups.contains_key(group)
            {
                found.push(format!(
                    "there is no sharing group `{group}`: the platform's operator declares it"
                ));
            }
            if let Some(cache) = &tenant.config.cache {
                check_cache(snapshot, tenant, cache, found);
            }
            if let Some(bodies) = &tenant.config.bodies {
                check_bodies(tenant, bodies, found);
            }
        }
        _ => {}
    }
}

/// 64: a channel for each team of a large operator.
const PLATFORM_CHANNELS_MAX: usize = 64;
/// 8: an alert is at most so many messages to a tenant.
const TENANT_CHANNELS_MAX: usize = 8;

fn check_channel_count(count: usize, count_max: usize, found: &mut Vec<String>) {
    if count > count_max {
        found.push(format!(
            "there are at most {count_max} channels: remove one first"
        ));
    }
}

/// 30 days: what is older is asked anew.
const CACHE_TTL_SECONDS_MAX: u32 = 30 * 86_400;

fn check_cache(
    snapshot: &Snapshot,
    tenant: &TenantEntry,
    spec: &CacheSpec,
    found: &mut Vec<String>,
) {
    if let Some(model) = &spec.embedding_model {
        let who = "`cache.embedding_model`";
        check_model_asked(snapshot, tenant, who, model, found);
    }
    if !(1..=CACHE_TTL_SECONDS_MAX).contains(&spec.ttl_seconds) {
        found.push(format!(
            "`cache.ttl_seconds` is from 1 to {CACHE_TTL_SECONDS_MAX} (30 days)"
        ));
    }
    if (spec.mode == CacheMode::Semantic) != spec.embedding_model.is_some() {
        found.push(
            "`cache.embedding_model` goes with `mode = \"semantic\"`, which needs it".to_owned(),
        );
    }
    if !(50..=100).contains(&spec.similarity_percent) {
        found.push("`cache.similarity_percent` is from 50 to 100".to_owned());
    }
    check_features(tenant, &spec.features, found);
}

fn check_bodies(tenant: &TenantEntry, spec: &BodiesSpec, found: &mut Vec<String>) {
    if !(1..=BODIES_DAYS_MAX).contains(&spec.days) {
        found.push(format!("`bodies.days` is from 1 to {BODIES_DAYS_MAX}"));
    }
    check_features(tenant, &spec.features, found);
}

/// Calls may name features that nobody declared, unless the tenant says otherwise.
fn check_features(tenant: &TenantEntry, features: &[Name], found: &mut Vec<String>) {
    if tenant.spec.requires_known_feature {
        for feature in features {
            check_reference(Dimension::Feature, Some(feature), tenant, found);
        }
    }
}

fn check_credential(
    snapshot: &Snapshot,
    credentials: &BTreeMap<Name, Arc<CredentialSpec>>,
    spec: &CredentialSpec,
    found: &mut Vec<String>,
) {
    let upstream = &spec.upstream;
    match snapshot.upstreams.get(upstream) {
        None => found.push(format!("there is no upstream `{upstream}`")),
        Some(it) if it.credential_of == CredentialOf::Installation => found.push(format!(
            "the upstream `{upstream}` takes no tenant's credential: its `credential_of` is `installation`"
        )),
        Some(_) => {}
    }
    let for_it = credentials.values();
    if for_it.filter(|it| it.upstream == *upstream).count() > 1 {
        found.push(format!("there is a credential for `{upstream}` already"));
    }
}

/// 16: each passes over the whole text, and has 48 MiB of patterns at most.
const GUARDRAILS_MAX: usize = 16;

/// What has to be known of all of a tenant's guardrails; whoever compiles them finds what is wrong
/// in each.
fn check_guardrail(guardrails: &Guardrails, found: &mut Vec<String>) {
    if guardrails.len() > GUARDRAILS_MAX {
        found.push(format!("a tenant has at most {GUARDRAILS_MAX} guardrails"));
    }
}

/// 64: a prompt for each of a product's features, and some.
const PROMPTS_MAX: usize = 64;

/// A prompt by itself, and that what names it still finds it.
fn check_prompt(tenant: &TenantEntry, name: &str, found: &mut Vec<String>) {
    let prompts = tenant.prompts.as_ref();
    if prompts.is_some_and(|prompts| prompts.len() > PROMPTS_MAX) {
        found.push(format!("a tenant has at most {PROMPTS_MAX} prompts"));
    }
    if let Some(prompt) = prompts.and_then(|prompts| prompts.get(name)) {
        found.extend(prompt.problems());
    }
    let of_features = tenant.features.iter();
    let of_features =
        of_features.map(|(feature, spec)| (format!("feature `{feature}`"), &spec.prompt));
    let of_config = std::iter::once(("configuration".to_owned(), &tenant.config.prompt));
    for (who, named) in of_features.chain(of_config) {
        let mut lost = Vec::new();
        check_prompt_ref(
            tenant,
            named.as_ref().filter(|named| named.name.as_str() == name),
            &mut lost,
        );
        found.extend(
            lost.into_iter()
                .map(|problem| format!("the {who} names it: {problem}")),
        );
    }
}

fn check_prompt_ref(tenant: &TenantEntry, named: Option<&PromptRef>, found: &mut Vec<String>) {
    let Some(named) = named else { return };
    match tenant.prompt(&named.name) {
        None => found.push(format!("there is no prompt `{}`", named.name)),
        Some(prompt) if prompt.version(named.version).is_none() => {
            found.push(format!("there is no version `{named}`"));
        }
        Some(_) => {}
    }
}

fn check_reference(
    dimension: Dimension,
    name: Option<&Name>,
    tenant: &TenantEntry,
    found: &mut Vec<String>,
) {
    let Some(name) = name else { return };
    let exists = match dimension {
        Dimension::Team => tenant.teams.contains_key(name),
        Dimension::User => tenant.users.contains_key(name),
        Dimension::Key => tenant.keys.contains_key(name),
        Dimension::Feature => tenant.features.contains_key(name),
        Dimension::Session | Dimension::Turn => false,
    };
    if !exists {
        found.push(format!("there is no {} `{name}`", dimension.as_str()));
    }
}

fn check_subject(tenant: Option<&TenantEntry>, subject: &Subject, found: &mut Vec<String>) {
    match (tenant, subject) {
        (Some(tenant), Subject::One(dimension, name)) => {
            check_reference(*dimension, Some(name), tenant, found);
        }
        (None, Subject::One(..)) => {
            found.push("a tier's budgets and limits are for `tenant` or `each:…`".to_owned());
        }
        _ => {}
    }
}

fn check_budget(
    snapshot: &Snapshot,
    tenant: Option<&TenantEntry>,
    spec: &BudgetSpec,
    found: &mut Vec<String>,
) {
    check_subject(tenant, &spec.subject, found);
    if spec.limit.is_negative() {
        found.push("a budget's limit is not negative".to_owned());
    }
    if !(1..=100).contains(&spec.soft_percent) {
        found.push("`soft_percent` is from 1 to 100".to_owned());
    }
    if let OnExhausted::Downgrade(model) = &spec.on_exhausted {
        check_route_exists(snapshot, model, found);
    }
}

fn check_route_exists(snapshot: &Snapshot, model: &ModelName, found: &mut Vec<String>) {
    if !snapshot.routes.contains_key(model) {
        found.push(format!("there is no route `{model}` to downgrade to"));
    }
}

fn check_limit(tenant: Option<&TenantEntry>, spec: &LimitSpec, found: &mut Vec<String>) {
    check_subject(tenant, &spec.subject, found);
    if matches!(
        spec.subject,
        Subject::Each(Dimension::Session | Dimension::Turn)
    ) {
        found.push("limits are for tenant, team, user, key and feature; a session's calls are bounded by a budget's `calls_max`".to_owned());
    }
    let rates = [spec.requests_per_minute, spec.tokens_per_minute];
    if rates.into_iter().flatten().any(|rate| rate == 0) || spec.concurrency == Some(0) {
        found.push(
            "a limit is at least 1; suspend the tenant or revoke the key to stop calls".to_owned(),
        );
    }
}
