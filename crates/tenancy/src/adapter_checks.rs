//! What must hold of adapters, tiers and upstreams together.

use crate::adapter_name::AdapterName;
use crate::catalogue::{
    AdapterSource, AdapterSpec, CredentialOf, Engine, TierAdapters, UpstreamAdapters, UpstreamSpec,
};
use crate::directory::{Adapters, Snapshot, TenantEntry};

/// 1,024 bytes: longer than any path or repository's name that people write.
const LOCATION_BYTES_MAX: usize = 1_024;
/// 128 bytes: a SHA-512 in hexadecimal.
const REVISION_BYTES_MAX: usize = 128;
/// 4,096: far above what engines take (vLLM's largest is 512).
const RANK_MAX: u32 = 4_096;
/// 4,096 slots: a hundred times what engines hold, and as many entries in this process.
const SLOTS_MAX: u32 = 4_096;
/// Ten minutes: a load that takes longer has failed.
const LOAD_MS_MAX: u64 = 600_000;
/// 64 places where references may lead.
const REFERENCES_MAX: usize = 64;

/// An adapter against its tenant's tier, and against the routes and upstreams that it needs.
pub(crate) fn check_adapter(
    snapshot: &Snapshot,
    tenant: &TenantEntry,
    adapters: &Adapters,
    name: &str,
    spec: &AdapterSpec,
    found: &mut Vec<String>,
) {
    if name.starts_with(AdapterName::PREFIX) {
        found.push(format!(
            "an adapter's name does not begin with `{}`: engines have names of that form",
            AdapterName::PREFIX
        ));
    }
    if spec.rank.is_some_and(|rank| rank == 0 || rank > RANK_MAX) {
        found.push(format!("`rank` is from 1 to {RANK_MAX}"));
    }
    check_source(&spec.source, found);
    check_base(snapshot, spec, found);
    let tier = snapshot.tiers.get(&tenant.spec.tier);
    let Some(tier) = tier.and_then(|tier| tier.adapters.as_ref()) else {
        found.push(format!(
            "the tier `{}` has no adapters: set its `adapters`",
            tenant.spec.tier
        ));
        return;
    };
    if adapters.len() > tier.count_max as usize {
        found.push(format!(
            "the tier `{}` allows {} adapters at most",
            tenant.spec.tier, tier.count_max
        ));
    }
    match &spec.source {
        AdapterSource::Reference(reference)
            if !tier.allows(tenant.name.as_str(), &reference.location) =>
        {
            found.push(format!(
                "the tier `{}` does not let references lead to `{}`: the operator lists where they may (`adapters.references`)",
                tenant.spec.tier, reference.location
            ));
        }
        AdapterSource::Uploaded(uploaded) if uploaded.bytes > tier.upload_bytes_max => {
            found.push(format!(
                "the tier `{}` allows uploads of {} bytes at most (`adapters.upload_bytes_max`), and this has {}",
                tenant.spec.tier, tier.upload_bytes_max, uploaded.bytes
            ));
        }
        AdapterSource::Reference(_) | AdapterSource::Uploaded(_) => {}
    }
}

fn check_source(source: &AdapterSource, found: &mut Vec<String>) {
    let AdapterSource::Reference(reference) = source else {
        return;
    };
    let location = &reference.location;
    let is_plain = location
        .bytes()
        .all(|byte| byte.is_ascii_graphic() && byte != b'\\');
    if !(1..=LOCATION_BYTES_MAX).contains(&location.len()) || !is_plain {
        found.push(format!(
            "`source.reference.location` is 1 to {LOCATION_BYTES_MAX} visible ASCII characters without `\\`"
        ));
    }
    // What leads up and out again would pass for what it begins with. A scheme's `//` is not one.
    let below = location
        .split_once("://")
        .map_or(&**location, |(_, below)| below);
    let mut segments = below.strip_prefix('/').unwrap_or(below).split('/');
    if segments.any(|segment| matches!(segment, "" | "." | "..")) {
        found.push(
            "`source.reference.location` has no empty part, no `.` and no `..` between slashes"
                .to_owned(),
        );
    }
    let revision = &reference.revision;
    if revision.len() > REVISION_BYTES_MAX || !revision.bytes().all(|byte| byte.is_ascii_graphic())
    {
        found.push(format!(
            "`source.reference.revision` is at most {REVISION_BYTES_MAX} visible ASCII characters"
        ));
    }
}

fn check_base(snapshot: &Snapshot, spec: &AdapterSpec, found: &mut Vec<String>) {
    let Some(route) = snapshot.routes.get(&spec.base) else {
        found.push(format!("there is no route `{}` to sit on", spec.base));
        return;
    };
    let takes = |adapters: &UpstreamAdapters| adapters.takes(spec.rank);
    let mut upstreams = route
        .all_targets()
        .filter_map(|target| snapshot.upstreams.get(&target.upstream));
    if !upstreams.any(|upstream| upstream.adapters.as_ref().is_some_and(takes)) {
        found.push(format!(
            "no upstream of the route `{}` takes such an adapter: set `adapters` of one (and its `rank_max`)",
            spec.base
        ));
    }
}

/// An upstream that loads adapters.
pub(crate) fn check_upstream_adapters(spec: &UpstreamSpec, found: &mut Vec<String>) {
    let Some(adapters) = &spec.adapters else {
        return;
    };
    if !matches!(spec.engine, Engine::Vllm | Engine::Lorax) {
        found.push(
            "`adapters` is for `engine = \"vllm\"` and `\"lorax\"`: others do not load any while they serve"
                .to_owned(),
        );
    }
    if spec.credential_of == CredentialOf::Tenant {
        found.push(
            "`adapters` are loaded with the installation's credential: `credential_of` cannot be `tenant`"
                .to_owned(),
        );
    }
    if !(1..=SLOTS_MAX).contains(&adapters.slots) {
        found.push(format!("`adapters.slots` is from 1 to {SLOTS_MAX}"));
    }
    if !(1..=LOAD_MS_MAX).contains(&adapters.load_ms) {
        found.push(format!("`adapters.load_ms` is from 1 to {LOAD_MS_MAX}"));
    }
    if adapters.rank_max == Some(0) {
        found.push("`adapters.rank_max` is at least 1".to_owned());
    }
}

/// A tier that lets its tenants have adapters.
pub(crate) fn check_tier_adapters(adapters: &TierAdapters, found: &mut Vec<String>) {
    if adapters.references.len() > REFERENCES_MAX {
        found.push(format!(
            "`adapters.references` has at most {REFERENCES_MAX} entries"
        ));
    }
    for allowed in &adapters.references {
        // `/` alone would be everything that the engine can read.
        if allowed.trim_matches('/').is_empty() || allowed.split('/').any(|part| part == "..") {
            found.push(format!(
                "`adapters.references`: `{allowed}` is no place: write a path or a repository's name, with a `/` at its end to allow what is below"
            ));
        }
    }
}
