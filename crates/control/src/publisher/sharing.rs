//! Who begins or ceases to share prefixes with others is on record by itself, whichever change
//! brought it about: the operator's list, the tenant's own word, or its end.

use std::collections::BTreeSet;

use base::{Name, TenantId};
use tenancy::Snapshot;

use super::Act;
use crate::error::ApiError;

/// The acts of joining and leaving that lead from one version to the next. They stand in the
/// tenants' own logs too.
///
/// # Errors
///
/// None of its own: the actor's name was valid before.
pub(super) fn changes(
    act: &Act,
    current: &Snapshot,
    next: &Snapshot,
) -> Result<Vec<Act>, ApiError> {
    let (before, after) = (members(current), members(next));
    let joined = after.difference(&before).map(|one| ("join", one));
    let left = before.difference(&after).map(|one| ("leave", one));
    let acts = joined.chain(left).map(|(verb, (group, tenant))| {
        let entry = next.tenant(*tenant).or_else(|| current.tenant(*tenant));
        let name = entry.map_or_else(|| tenant.to_string(), |entry| entry.name.to_string());
        let target = format!("tenants/{name}/sharing-groups/{group}");
        let made = Act::new(
            act.actor.clone(),
            &format!("{verb}_sharing_group"),
            target,
            None,
        )?;
        // The log of a tenant that is about to go goes with it.
        Ok(match next.tenant(*tenant) {
            Some(entry) => made.in_log_of(&entry.unlocked),
            None => made,
        })
    });
    acts.collect()
}

fn members(snapshot: &Snapshot) -> BTreeSet<(Name, TenantId)> {
    let groups = snapshot.sharing_groups().keys();
    let of = |group| {
        let members = snapshot.sharing_members(group);
        members.map(move |tenant| (Name::clone(group), tenant.id()))
    };
    groups.flat_map(of).collect()
}
