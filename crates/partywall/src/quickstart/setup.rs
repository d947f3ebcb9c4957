//! Puts into the catalogue what is missing, by the admin API, as anybody would.

use std::collections::BTreeSet;

use control::api::{ApplyReport, ApplyRequest, KeyReply, Manifest, RotateRequest};
use http::{Method, StatusCode};
use serde_json::{Value, json};
use tenancy::catalogue::Kind;

use super::declare::{self, DEMOS, Demo};
use super::record::Record;
use super::upstream::Upstream;
use crate::client::{Client, ClientError, Pages, list, refusal_status};
use crate::commands::API;
use crate::commands::resource::{collection, item};
use crate::terminal::cell;

/// Declares what is missing, as one version; and makes sure that each demo tenant has a key that
/// is known. What is there already stays as it is, but for where the upstream is.
pub(super) async fn set_up(
    client: &mut Client,
    upstreams: &[Upstream],
    record: &mut Record,
) -> anyhow::Result<()> {
    let shares_cache = upstreams.iter().any(|upstream| upstream.shares_cache);
    let mut resources = missing_of_platform(client, upstreams).await?;
    let mut present = Vec::new();
    for demo in &DEMOS {
        match find(client, Kind::Tenant, demo.name).await? {
            None => resources.extend(declare::tenant(demo, shares_cache)),
            Some(tenant) => present.push((demo, tenant)),
        }
    }
    if !resources.is_empty() {
        let request = ApplyRequest {
            resources,
            note: Some("quickstart".to_owned()),
            ..ApplyRequest::default()
        };
        let report: ApplyReport = client.post(&format!("{API}/apply"), &request).await?;
        for created in report.created_keys {
            if let Some(tenant) = created.tenant {
                record.tenants.insert(tenant, created.key);
            }
        }
    }
    for (demo, tenant) in present {
        if shares_cache && tenant["spec"]["accepts_shared_cache"] != json!(true) {
            accept_shared_cache(client, demo, &tenant).await?;
        }
        if !record.tenants.contains_key(demo.name) {
            let key = new_key(client, demo).await?;
            let name = demo.name.parse().expect("the demo's names are names");
            record.tenants.insert(name, key);
        }
    }
    Ok(())
}

/// The upstream if it is not there or elsewhere, and the tiers, routes and prices that are not
/// there.
async fn missing_of_platform(
    client: &mut Client,
    upstreams: &[Upstream],
) -> Result<Vec<Manifest>, ClientError> {
    let mut missing = Vec::new();
    let names_of = [
        (Kind::Tier, names(client, Kind::Tier).await?),
        (Kind::Route, names(client, Kind::Route).await?),
        (Kind::Price, names(client, Kind::Price).await?),
    ];
    let is_there = |manifest: &Manifest| {
        names_of
            .iter()
            .any(|(kind, names)| *kind == manifest.kind && names.contains(&manifest.name))
    };
    let declared = upstreams.iter().flat_map(declare::upstream);
    for manifest in declared.chain(declare::tiers()) {
        if manifest.kind == Kind::Upstream {
            missing.extend(moved(client, manifest).await?);
        } else if !is_there(&manifest) {
            missing.push(manifest);
        }
    }
    Ok(missing)
}

/// The upstream, unless it stands in the catalogue as it is; of one that stands there, what an
/// operator changed stays.
async fn moved(client: &mut Client, mut wanted: Manifest) -> Result<Option<Manifest>, ClientError> {
    let Some(found) = find(client, Kind::Upstream, &wanted.name).await? else {
        return Ok(Some(wanted));
    };
    let mut spec = found["spec"].clone();
    for field in ["base_url", "credential"] {
        match wanted.spec.get(field) {
            Some(value) => spec[field] = value.clone(),
            None => {
                if let Some(fields) = spec.as_object_mut() {
                    fields.remove(field);
                }
            }
        }
    }
    let is_same = spec == found["spec"];
    wanted.spec = spec;
    Ok((!is_same).then_some(wanted))
}

async fn names(client: &mut Client, kind: Kind) -> Result<BTreeSet<String>, ClientError> {
    let limit = vec![("limit", Some("1000".to_owned()))];
    let listed = list(client, &collection(kind, None), Pages::All, limit).await?;
    Ok(listed.rows.iter().map(|row| cell(&row["name"])).collect())
}

async fn find(client: &mut Client, kind: Kind, name: &str) -> Result<Option<Value>, ClientError> {
    match client.get::<Value>(&item(kind, None, name)).await {
        Ok(found) => Ok(Some(found)),
        Err(error) if refusal_status(&error) == Some(StatusCode::NOT_FOUND) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The demo tenants are the operator's own, who chose this upstream: it is put on record.
async fn accept_shared_cache(
    client: &mut Client,
    demo: &Demo,
    tenant: &Value,
) -> Result<(), ClientError> {
    let mut spec = tenant["spec"].clone();
    spec["accepts_shared_cache"] = json!(true);
    let path = item(Kind::Tenant, None, demo.name);
    client
        .send::<Value>(Method::PUT, &path, &spec)
        .await
        .map(drop)
}

/// A key of a tenant whose key was forgotten: the old one is replaced.
async fn new_key(client: &mut Client, demo: &Demo) -> Result<String, ClientError> {
    let tenant = demo.name.parse().expect("the demo's names are names");
    let keys = collection(Kind::Key, Some(&tenant));
    let rotate = format!("{keys}/{}/rotate", demo.key);
    let reply = client
        .post::<KeyReply>(&rotate, &RotateRequest::default())
        .await;
    match reply {
        Err(error) if refusal_status(&error) == Some(StatusCode::NOT_FOUND) => {
            let body = json!({"name": demo.key, "role": "tenant-admin"});
            client
                .post::<KeyReply>(&keys, &body)
                .await
                .map(|reply| reply.key)
        }
        reply => reply.map(|reply| reply.key),
    }
}
