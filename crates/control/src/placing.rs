//! Where a new tenant's data is going to live, and whether a tenant may go somewhere.

use std::collections::HashMap;

use base::Name;
use store::Stores;
use tenancy::catalogue::{Placement, Resource, ServerWall, TenantSpec};
use tenancy::{Change, Snapshot};

use crate::error::ApiError;

/// Gives every tenant among `changes` that is new the placement that it says, or that its tier
/// says, on a server that has room.
///
/// # Errors
///
/// [`ApiError::Invalid`] says why there is none, and what would be right.
pub(crate) fn place_new_tenants(
    (stores, default): (&Stores, &Placement),
    current: &Snapshot,
    changes: &mut [Change],
) -> Result<(), ApiError> {
    let tiers: HashMap<String, Option<Placement>> = changes
        .iter()
        .filter_map(|change| match &change.resource {
            Some(Resource::Tier(tier)) => {
                Some((change.address.name.to_string(), tier.placement.clone()))
            }
            _ => None,
        })
        .collect();
    let mut taken = Taken::of(current);
    for change in changes {
        let Some(Resource::Tenant(spec)) = &mut change.resource else {
            continue;
        };
        if current.tenant(spec.id).is_some() {
            continue;
        }
        let of_tier = || match tiers.get(spec.tier.as_str()) {
            Some(placement) => placement.clone(),
            None => current
                .tiers()
                .get(&spec.tier)
                .and_then(|tier| tier.placement.clone()),
        };
        let wanted = match &spec.placement {
            Some(placement) => (**placement).clone(),
            None => of_tier().unwrap_or_else(|| default.clone()),
        };
        if wanted.is_file() && !default.is_file() {
            let why = format!("{}: {NO_FILES}", change.address.name);
            return Err(ApiError::of("placement", why));
        }
        let placement = choose(stores, &taken, spec.region.as_ref(), &wanted)
            .map_err(|why| ApiError::of("placement", format!("{}: {why}", change.address.name)))?;
        taken.add(&placement);
        spec.placement = (!placement.is_file()).then(|| Box::new(placement));
    }
    Ok(())
}

/// Why no tenant has a file where several replicas serve it.
pub(crate) const NO_FILES: &str = "a file is in one replica's data folder, and the others would not see it. Where replicas share a catalogue, tenants are on PostgreSQL servers: `pool`, `bridge` or `silo`";

/// Where a tenant goes that is to be moved to `wanted`.
///
/// # Errors
///
/// As [`place_new_tenants`].
pub(crate) fn place_to_move(
    stores: &Stores,
    current: &Snapshot,
    spec: &TenantSpec,
    wanted: &Placement,
) -> Result<Placement, ApiError> {
    choose(stores, &Taken::of(current), spec.region.as_ref(), wanted)
        .map_err(|why| ApiError::of("to", why))
}

/// How many tenants are on each server, behind each wall.
#[derive(Default)]
pub(crate) struct Taken(HashMap<(Name, ServerWall), u32>);

impl Taken {
    pub(crate) fn of(snapshot: &Snapshot) -> Self {
        let mut taken = Self::default();
        for tenant in snapshot.tenants() {
            taken.add(tenant.spec.placement());
        }
        taken
    }

    pub(crate) fn on(&self, server: &Name, wall: ServerWall) -> u32 {
        let place = (server.clone(), wall);
        self.0.get(&place).copied().unwrap_or(0)
    }

    fn add(&mut self, placement: &Placement) {
        if let Placement::Server {
            wall,
            server: Some(server),
        } = placement
        {
            *self.0.entry((server.clone(), *wall)).or_default() += 1;
        }
    }
}

/// The placement that is meant, with a server.
fn choose(
    stores: &Stores,
    taken: &Taken,
    region: Option<&Name>,
    wanted: &Placement,
) -> Result<Placement, String> {
    let Placement::Server { wall, server } = wanted else {
        return Ok(Placement::File);
    };
    let candidates = match server {
        Some(server) => vec![server.clone()],
        None => stores.servers(),
    };
    if candidates.is_empty() {
        return Err(format!(
            "there is no PostgreSQL server for `{wanted}`: describe one in partywall.toml, [storage.servers.NAME]"
        ));
    }
    let mut first_problem = None;
    let mut emptiest: Option<(f64, Name)> = None;
    for name in candidates {
        match fill(stores, taken, region, *wall, &name) {
            Ok(fill) if emptiest.as_ref().is_none_or(|(least, _)| fill < *least) => {
                emptiest = Some((fill, name));
            }
            Ok(_) => {}
            Err(problem) => drop(first_problem.get_or_insert(problem)),
        }
    }
    match emptiest {
        Some((_, name)) => Ok(Placement::on(*wall, name)),
        None => Err(first_problem.unwrap_or_default()),
    }
}

/// How full a server is, from 0 to 1; or why no tenant of this region goes there.
fn fill(
    stores: &Stores,
    taken: &Taken,
    region: Option<&Name>,
    wall: ServerWall,
    name: &Name,
) -> Result<f64, String> {
    let Some((stands_in, capacity)) = stores.room(name) else {
        return Err(format!(
            "there is no PostgreSQL server `{name}`: describe it in partywall.toml, [storage.servers.{name}]"
        ));
    };
    if let Some(region) = region
        && stands_in != Some(region)
    {
        return Err(format!(
            "the server `{name}` is not in the tenant's region `{region}`"
        ));
    }
    let (taken, most) = (taken.on(name, wall), capacity.behind(wall));
    if taken >= most {
        let wall = wall.as_str();
        return Err(format!(
            "the server `{name}` has {taken} tenants in `{wall}`, and may have {most}: raise {wall}_tenants_max, or add a server"
        ));
    }
    Ok(f64::from(taken) / f64::from(most))
}

/// Says no to a placement that is changed by the way: data does not follow a specification.
///
/// # Errors
///
/// A sentence: what to do instead.
pub(crate) fn keep_placement(
    spec: &mut serde_json::Map<String, serde_json::Value>,
    former: Option<&serde_json::Map<String, serde_json::Value>>,
) -> Result<(), String> {
    const FIELD: &str = "placement";
    let Some(former) = former else { return Ok(()) };
    let parse = |value: Option<&serde_json::Value>| match value {
        None => Some(Placement::File),
        Some(value) => value.as_str().and_then(|text| text.parse().ok()),
    };
    if let Some(said) = spec.get(FIELD) {
        let is_meant = match (parse(Some(said)), parse(former.get(FIELD))) {
            // Without a server it means the one that was chosen.
            (
                Some(Placement::Server { wall, server: None }),
                Some(Placement::Server { wall: now, .. }),
            ) => wall == now,
            (Some(said), Some(now)) => said == now,
            _ => false,
        };
        if !is_meant {
            return Err(
                "a tenant's data is moved by `partywall tenant move NAME --to PLACEMENT`, and not by changing `placement`"
                    .to_owned(),
            );
        }
    }
    match former.get(FIELD) {
        Some(now) => drop(spec.insert(FIELD.to_owned(), now.clone())),
        None => drop(spec.remove(FIELD)),
    }
    Ok(())
}
