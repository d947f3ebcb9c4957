//! Who somebody is here, by what their provider says of them.

use base::Name;
use ring::digest::{SHA256, digest};
use serde_json::Value;
use tenancy::{Snapshot, VouchedRole};

use super::id_token::Claims;

/// 40 of a name's 64 characters: the beginning and eight digits have the rest.
const SAID_MAX: usize = 40;

/// What becomes of somebody whose claim has this value. The first rule that fits counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OidcRule {
    /// A claim's name (`groups`), or a JSON pointer into the token (`/realm_access/roles`).
    pub claim: String,
    /// The value that it has, or that is in its list; any value if none is given.
    pub value: Option<String>,
    /// As what they come in.
    pub role: OidcRole,
}

/// As what somebody comes in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OidcRole {
    /// Runs the platform.
    Operator,
    /// Reads the platform's figures.
    Auditor,
    /// Runs this tenant.
    TenantAdmin(Name),
    /// Runs the tenant that this claim names: one, as text.
    TenantAdminOf(String),
}

/// A claim by its name, or by a pointer to it.
fn claim<'c>(claims: &'c Claims, name: &str) -> Option<&'c Value> {
    let Some(path) = name.strip_prefix('/') else {
        return claims.get(name);
    };
    let mut parts = path.split('/');
    let first = claims.get(parts.next()?)?;
    parts.try_fold(first, |value, part| value.get(part))
}

impl OidcRule {
    fn fits(&self, claims: &Claims) -> bool {
        let is_it = |value: &Value| match &self.value {
            Some(wanted) => value.as_str() == Some(wanted),
            None => value.as_str().is_some_and(|said| !said.is_empty()),
        };
        match claim(claims, &self.claim) {
            Some(Value::Array(all)) => all.iter().any(is_it),
            Some(one) => is_it(one),
            None => false,
        }
    }
}

/// The role that the first fitting rule gives; none if it leads to no tenant.
pub(super) fn role(
    rules: &[OidcRule],
    claims: &Claims,
    snapshot: &Snapshot,
) -> Option<VouchedRole> {
    let rule = rules.iter().find(|rule| rule.fits(claims))?;
    let admin_of = |name: &str| {
        let tenant = snapshot.tenant_named(name)?;
        Some(VouchedRole::TenantAdmin(tenant.id()))
    };
    match &rule.role {
        OidcRole::Operator => Some(VouchedRole::Operator),
        OidcRole::Auditor => Some(VouchedRole::Auditor),
        OidcRole::TenantAdmin(name) => admin_of(name.as_str()),
        OidcRole::TenantAdminOf(of) => admin_of(claim(claims, of)?.as_str()?),
    }
}

/// What somebody is called on record: `sso.ada-example.com-1f3a9c2e`. The digits are of issuer and
/// subject, so that no two people share a name.
pub(super) fn name(claims: &Claims) -> Option<Name> {
    let text = |name: &str| claims.get(name).and_then(Value::as_str);
    let (issuer, subject) = (text("iss")?, text("sub")?);
    // An address that nobody has verified may be anybody's.
    let is_verified = claims.get("email_verified") != Some(&Value::Bool(false));
    let said = text("email").filter(|_| is_verified);
    let said = said
        .or_else(|| text("preferred_username"))
        .unwrap_or(subject);
    let said: String = said
        .chars()
        .take(SAID_MAX)
        .map(|letter| match letter.to_ascii_lowercase() {
            plain @ ('a'..='z' | '0'..='9' | '.' | '_' | '-') => plain,
            _ => '-',
        })
        .collect();
    let digest = digest(&SHA256, format!("{issuer}\n{subject}").as_bytes());
    let digits: String = digest.as_ref()[..4]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    format!("sso.{said}-{digits}").parse().ok()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn claims(value: Value) -> Claims {
        value.as_object().unwrap().clone()
    }

    #[test]
    fn a_claim_fits_by_its_value_or_in_its_list_and_nearly_is_not() {
        let rule = |claim: &str, value: Option<&str>| OidcRule {
            claim: claim.to_owned(),
            value: value.map(str::to_owned),
            role: OidcRole::Auditor,
        };
        let said = claims(json!({
            "groups": ["ops", "dev"], "org": "acme", "n": 7, "realm_access": {"roles": ["root"]},
        }));
        for (rule, fits) in [
            (rule("groups", Some("ops")), true),
            (rule("groups", Some("op")), false),
            (rule("groups", Some("ops,dev")), false),
            (rule("org", Some("acme")), true),
            (rule("org", None), true),
            (rule("n", Some("7")), false),
            (rule("n", None), false),
            (rule("realm_access", None), false),
            (rule("absent", None), false),
            (rule("/realm_access/roles", Some("root")), true),
            (rule("/realm_access/none", None), false),
        ] {
            assert_eq!(rule.fits(&said), fits, "{rule:?}");
        }
    }

    #[test]
    fn a_name_is_readable_and_of_one_person() {
        let of = |sub: &str, email: &str| {
            let said = json!({"iss": "https://id", "sub": sub, "email": email});
            name(&claims(said)).unwrap().to_string()
        };
        let ada = of("1", "Ada+x@Example.com");
        assert!(ada.starts_with("sso.ada-x-example.com-"), "{ada}");
        assert_ne!(ada, of("2", "Ada+x@Example.com"));
        assert!(of("3", &"é".repeat(300)).len() <= 64);
        let unverified = claims(json!({
            "iss": "https://id", "sub": "s-4", "email": "ada@example.com", "email_verified": false,
        }));
        assert!(name(&unverified).unwrap().as_str().starts_with("sso.s-4-"));
    }
}
