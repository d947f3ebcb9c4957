//! What the server gives and a client cannot: ids, hashes of keys, and states that go one way.
//!
//! A client may leave these out, or send back what it read; it cannot set or change them.

use base::{Clock, Entropy, Id, IdKind};
use schemars::{Schema, SchemaGenerator};
use serde_json::{Map, Value, json};
use tenancy::catalogue::{Kind, Resource, Spec};
use tenancy::{ApiKey, KeyHasher};

use crate::placing::keep_placement;

/// Where new ids and keys come from.
#[derive(Clone, Copy)]
pub(crate) struct Mint<'a> {
    pub(crate) clock: &'a dyn Clock,
    pub(crate) entropy: &'a dyn Entropy,
    pub(crate) hasher: &'a KeyHasher,
}

impl Mint<'_> {
    fn id<K: IdKind>(&self) -> Value {
        Value::String(Id::<K>::generate(self.clock, self.entropy).to_string())
    }
}

/// A specification that is whole, and the key that was made for it, if one was.
#[derive(Debug)]
pub(crate) struct Completed {
    pub(crate) resource: Resource,
    pub(crate) key: Option<ApiKey>,
}

/// Fills what the server gives, from what there is or anew.
///
/// # Errors
///
/// A sentence: what is wrong, and what would be right.
pub(crate) fn complete(
    kind: Kind,
    spec: &Value,
    existing: Option<&Resource>,
    mint: Mint<'_>,
) -> Result<Completed, String> {
    let Value::Object(spec) = spec else {
        return Err("a specification is an object".to_owned());
    };
    let mut spec = spec.clone();
    let former = existing.map(|resource| Former {
        full: full(resource),
        view: view(resource),
    });
    for field in given_fields(kind) {
        take_over(&mut spec, field, former.as_ref())?;
    }
    if kind == Kind::Tenant {
        keep_placement(&mut spec, former.as_ref().map(|former| &former.full))?;
    }
    keep_secret(kind, &mut spec, former.as_ref())?;
    keep_upload(kind, &spec, former.as_ref())?;
    keep_one_way_states(kind, &mut spec, former.as_ref().map(|former| &former.full))?;
    let mut key = None;
    if former.is_none() {
        key = give(kind, &mut spec, mint);
    }
    let bytes = serde_json::to_vec(&spec).expect("JSON is written as it was read");
    let resource = Resource::from_json(kind, &bytes).map_err(|error| error.to_string())?;
    Ok(Completed { resource, key })
}

const fn given_fields(kind: Kind) -> &'static [&'static str] {
    match kind {
        Kind::Tenant => &["id", "salt_epoch", "former_placement"],
        Kind::Team | Kind::User => &["id"],
        Kind::Key => &["id", "hash", "retiring"],
        Kind::Operator => &["hash"],
        _ => &[],
    }
}

/// What a resource was: whole, and as it was shown.
struct Former {
    full: Map<String, Value>,
    view: Map<String, Value>,
}

/// The former value of a field, which the client may repeat as it read it or leave out.
fn take_over(
    spec: &mut Map<String, Value>,
    field: &str,
    former: Option<&Former>,
) -> Result<(), String> {
    let said = spec.remove(field);
    let Some(Former { full, view }) = former else {
        return match said {
            None => Ok(()),
            Some(_) => Err(format!(
                "`{field}` is given by the server: leave it out of what is new"
            )),
        };
    };
    let repeats = |value: &Value| Some(value) == full.get(field) || Some(value) == view.get(field);
    if said.as_ref().is_some_and(|said| !repeats(said)) {
        return Err(format!(
            "`{field}` is given by the server and cannot be changed"
        ));
    }
    if let Some(value) = full.get(field) {
        spec.insert(field.to_owned(), value.clone());
    }
    Ok(())
}

/// A credential's secret is written and never shown: left out, it stays as it is.
fn keep_secret(
    kind: Kind,
    spec: &mut Map<String, Value>,
    former: Option<&Former>,
) -> Result<(), String> {
    if kind != Kind::Credential {
        return Ok(());
    }
    let hint = spec.remove(HINT);
    let Some(former) = former else {
        return match spec.contains_key(SECRET) {
            true => Ok(()),
            false => Err("`secret` is missing: a new credential needs its value".to_owned()),
        };
    };
    if let (None, Some(secret)) = (spec.get(SECRET), former.full.get(SECRET)) {
        if hint.is_some_and(|hint| Some(&hint) != former.view.get(HINT)) {
            return Err(format!(
                "`{HINT}` is given by the server and cannot be changed"
            ));
        }
        spec.insert(SECRET.to_owned(), secret.clone());
    }
    Ok(())
}

/// Where uploaded files are is found out by uploading them.
fn keep_upload(
    kind: Kind,
    spec: &Map<String, Value>,
    former: Option<&Former>,
) -> Result<(), String> {
    let uploaded = |spec: &Map<String, Value>| spec.get("source")?.get("uploaded").cloned();
    let Some(said) = uploaded(spec).filter(|_| kind == Kind::Adapter) else {
        return Ok(());
    };
    match former.and_then(|former| uploaded(&former.full)) {
        Some(there) if there == said => Ok(()),
        _ => Err(
            "`source.uploaded` is given by the server: upload the files with PUT …/adapters/NAME/files"
                .to_owned(),
        ),
    }
}

/// A revoked key stays revoked. A suspended tenant is resumed by saying so, not by leaving it
/// out.
fn keep_one_way_states(
    kind: Kind,
    spec: &mut Map<String, Value>,
    former: Option<&Map<String, Value>>,
) -> Result<(), String> {
    let field = match kind {
        Kind::Key => "revoked",
        Kind::Tenant => "suspended",
        _ => return Ok(()),
    };
    if former.and_then(|former| former.get(field)) != Some(&Value::Bool(true)) {
        return Ok(());
    }
    match spec.get(field) {
        None => drop(spec.insert(field.to_owned(), Value::Bool(true))),
        Some(Value::Bool(false)) if kind == Kind::Key => {
            return Err("a revoked key stays revoked: make another".to_owned());
        }
        Some(_) => {}
    }
    Ok(())
}

/// Gives what is new its id and its key.
fn give(kind: Kind, spec: &mut Map<String, Value>, mint: Mint<'_>) -> Option<ApiKey> {
    let id = match kind {
        Kind::Tenant => Some(mint.id::<base::kinds::Tenant>()),
        Kind::Team => Some(mint.id::<base::kinds::Team>()),
        Kind::User => Some(mint.id::<base::kinds::User>()),
        Kind::Key => Some(mint.id::<base::kinds::Key>()),
        _ => None,
    };
    if let Some(id) = id {
        spec.insert("id".to_owned(), id);
    }
    if !matches!(kind, Kind::Key | Kind::Operator) {
        return None;
    }
    let key = ApiKey::generate(mint.entropy);
    spec.insert("hash".to_owned(), json!(mint.hasher.hash(&key)));
    Some(key)
}

/// The whole specification.
pub(crate) fn full(resource: &Resource) -> Map<String, Value> {
    match resource.to_json() {
        Value::Object(spec) => spec,
        _ => unreachable!("every specification is an object"),
    }
}

/// The specification as export has it: whole, but for secrets.
pub(crate) fn exported(resource: &Resource) -> Map<String, Value> {
    match resource {
        Resource::Credential(_) => view(resource),
        _ => full(resource),
    }
}

/// A credential's secret, and what is shown instead of it.
const SECRET: &str = "secret";
const HINT: &str = "hint";

/// The specification as it is shown: without the hashes of keys and without secrets.
pub(crate) fn view(resource: &Resource) -> Map<String, Value> {
    let mut spec = full(resource);
    if matches!(resource.kind(), Kind::Key | Kind::Operator) {
        spec.remove("hash");
        if let Some(Value::Object(retiring)) = spec.get_mut("retiring") {
            retiring.remove("hash");
        }
    }
    if let Resource::Credential(credential) = resource {
        spec.remove(SECRET);
        spec.insert(HINT.to_owned(), credential.secret.hint().into());
    }
    spec
}

/// The schema of what a client sends: what the server gives may be left out.
pub(crate) fn draft_schema<S: Spec>(generator: &mut SchemaGenerator) -> Schema {
    let mut fields = given_fields(S::KIND);
    if S::KIND == Kind::Credential {
        // Left out, it stays as it is.
        fields = &[SECRET];
    }
    if fields.is_empty() {
        return generator.subschema_for::<S>();
    }
    let mut schema = S::json_schema(generator);
    if let Some(Value::Array(required)) = schema.get_mut("required") {
        required.retain(|name| !fields.iter().any(|field| name == field));
    }
    schema
}

/// The schema of what a client reads.
pub(crate) fn view_schema<S: Spec>(generator: &mut SchemaGenerator) -> Schema {
    let mut spec = S::json_schema(generator);
    if matches!(S::KIND, Kind::Key | Kind::Operator) {
        if let Some(Value::Array(required)) = spec.get_mut("required") {
            required.retain(|name| name != "hash");
        }
        if let Some(Value::Object(properties)) = spec.get_mut("properties") {
            properties.remove("hash");
            let until = json!({
                "type": "object",
                "description": "Until when the key that a rotation replaced stays good",
                "properties": {"until": {"type": "string", "format": "date-time"}},
            });
            properties
                .entry("retiring")
                .and_modify(|schema| *schema = until);
        }
    }
    if S::KIND == Kind::Credential {
        if let Some(Value::Array(required)) = spec.get_mut("required") {
            required.retain(|name| name != SECRET);
        }
        if let Some(Value::Object(properties)) = spec.get_mut("properties") {
            properties.remove(SECRET);
            let hint =
                json!({"type": "string", "description": "The secret's last four characters"});
            properties.insert(HINT.to_owned(), hint);
        }
    }
    let kind = S::KIND.as_str();
    schemars::json_schema!({
        "type": "object",
        "properties": {
            "kind": {"const": kind},
            "tenant": {"type": "string", "description": "Whose it is"},
            "name": {"type": "string"},
            "spec": spec,
            "etag": {"type": "string", "description": "Changes when the specification does"},
        },
        "required": ["kind", "name", "spec", "etag"],
    })
}

#[cfg(test)]
mod tests {
    use base::{ManualClock, SeededEntropy};
    use tenancy::{LocalRootKey, PlatformKeys};

    use super::*;

    fn with_mint<T>(act: impl FnOnce(Mint<'_>) -> T) -> T {
        let (clock, entropy) = (ManualClock::default(), SeededEntropy::new(1));
        let root = LocalRootKey::generate(&entropy);
        let (platform, _) = PlatformKeys::generate(&root, &entropy).unwrap();
        act(Mint {
            clock: &clock,
            entropy: &entropy,
            hasher: &platform.key_hasher(),
        })
    }

    #[test]
    fn a_new_key_gets_an_id_and_a_hash_and_what_is_shown_has_no_hash() {
        with_mint(|mint| {
            let made = complete(Kind::Key, &json!({"role": "service"}), None, mint).unwrap();
            let Resource::Key(spec) = &made.resource else {
                panic!("a key")
            };
            assert_eq!(spec.hash, mint.hasher.hash(made.key.as_ref().unwrap()));
            assert!(view(&made.resource).get("hash").is_none());
            let again = Value::Object(view(&made.resource));
            let same = complete(Kind::Key, &again, Some(&made.resource), mint).unwrap();
            assert_eq!(same.resource, made.resource);
            assert!(same.key.is_none());
        });
    }

    #[test]
    fn ids_and_hashes_can_be_neither_set_nor_changed() {
        with_mint(|mint| {
            for spec in [
                json!({"id": "key_00000000000000000000000001"}),
                json!({"hash": "00"}),
            ] {
                assert!(complete(Kind::Key, &spec, None, mint).is_err(), "{spec}");
            }
            let made = complete(Kind::Key, &json!({}), None, mint)
                .unwrap()
                .resource;
            let foreign = json!({"hash": "00".repeat(32)});
            let refused = complete(Kind::Key, &foreign, Some(&made), mint).unwrap_err();
            assert_eq!(
                refused,
                "`hash` is given by the server and cannot be changed"
            );
            let exported = Value::Object(full(&made));
            assert_eq!(
                complete(Kind::Key, &exported, Some(&made), mint)
                    .unwrap()
                    .resource,
                made
            );
        });
    }

    #[test]
    fn a_revoked_key_stays_revoked_and_a_suspended_tenant_suspended() {
        with_mint(|mint| {
            let revoked = complete(Kind::Key, &json!({"revoked": true}), None, mint).unwrap();
            let kept = complete(Kind::Key, &json!({}), Some(&revoked.resource), mint).unwrap();
            assert_eq!(kept.resource, revoked.resource);
            let back = json!({"revoked": false});
            assert!(complete(Kind::Key, &back, Some(&revoked.resource), mint).is_err());
            let suspended = json!({"tier": "free", "suspended": true});
            let tenant = complete(Kind::Tenant, &suspended, None, mint)
                .unwrap()
                .resource;
            let kept = complete(Kind::Tenant, &json!({"tier": "team"}), Some(&tenant), mint);
            let Resource::Tenant(kept) = kept.unwrap().resource else {
                panic!("a tenant")
            };
            assert!(kept.suspended && kept.tier.as_str() == "team");
        });
    }

    #[test]
    fn a_secret_by_value_is_refused_and_not_repeated() {
        with_mint(|mint| {
            let spec =
                json!({"base_url": "https://x.test/v1", "provider": "x", "credential": "sk-123"});
            let refused = complete(Kind::Upstream, &spec, None, mint).unwrap_err();
            assert!(
                refused.contains("by reference") && !refused.contains("123"),
                "{refused}"
            );
        });
    }
}
