//! Options of alerts, of the mail server that brings some of them, and of the dashboard that their
//! links lead to.

use std::path::PathBuf;

use base::Name;
use control::OidcRole;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tenancy::Role;
use tenancy::catalogue::{SecretRef, is_address};

/// How alerts are watched for. Where they are told is the catalogue's business: `partywall
/// platform-channel` and `partywall channel`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct AlertsOptions {
    /// Every so many seconds somebody looks. 30: soon enough for people, and little work for ten
    /// thousand tenants.
    pub(crate) every_seconds: u64,
    /// An alert is over when its condition was not seen for so many seconds. Five minutes: what
    /// comes and goes is one alert.
    pub(crate) resolve_seconds: u64,
    /// A key that ends within so many days is told of. 7: a working week to replace it.
    pub(crate) key_notice_days: u16,
}

impl Default for AlertsOptions {
    fn default() -> Self {
        Self {
            every_seconds: 30,
            resolve_seconds: 300,
            key_notice_days: 7,
        }
    }
}

/// The mail server for alerts. Without one no channel leads to mailboxes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct MailOptions {
    /// Its name, which its certificate has to have.
    pub(crate) host: Option<String>,
    /// Its port. 587, 465 or 25 by default, as `encryption` has it.
    pub(crate) port: Option<u16>,
    /// How the connection is encrypted. `none` is for a relay on this machine: it takes no
    /// password.
    pub(crate) encryption: MailEncryption,
    /// The address that mail comes from: `partywall@example.com`.
    pub(crate) from: Option<String>,
    /// As whom to sign in, if it asks.
    pub(crate) user: Option<String>,
    /// Where the password is: `env:NAME` or `file:/path`.
    pub(crate) password: Option<SecretRef>,
    /// A PEM file with the authorities that vouch for its certificate. By default those that
    /// browsers trust.
    pub(crate) ca_file: Option<PathBuf>,
}

/// How the connection to a mail server is encrypted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum MailEncryption {
    /// After a word in the clear; a server without it is sent nothing.
    #[default]
    Starttls,
    /// From the first byte.
    Tls,
    /// Not at all.
    None,
}

/// The pages for people.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct DashboardOptions {
    /// Where people open it: `https://partywall.example`. Alerts link there.
    pub(crate) url: Option<String>,
    /// The identity provider by which people sign in (OpenID Connect), besides keys. It needs `url`.
    pub(crate) oidc: Option<OidcProviderOptions>,
}

/// An identity provider.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct OidcProviderOptions {
    /// Its issuer, to the letter: `https://id.example.com/realms/main`.
    pub(crate) issuer: String,
    /// What it calls this installation.
    pub(crate) client_id: String,
    /// Where the client's secret is: `env:NAME` or `file:/path`. Without one, PKCE alone proves that
    /// who began a sign-in ends it.
    #[serde(default)]
    pub(crate) client_secret: Option<SecretRef>,
    /// What is asked for. The claims that rules read may need more.
    #[serde(default = "usual_scopes")]
    pub(crate) scopes: Vec<String>,
    /// For how many minutes its word counts: then whoever is signed in by it goes there again, which
    /// is a click while it still knows them. Who was removed there is out by then. An hour by
    /// default; 5 to 720.
    #[serde(default = "an_hour")]
    pub(crate) session_minutes: u64,
    /// Who its people are here. The first rule that fits counts; without one nobody gets in.
    pub(crate) rules: Vec<OidcRuleOptions>,
}

fn an_hour() -> u64 {
    60
}

fn usual_scopes() -> Vec<String> {
    ["openid", "email", "profile"].map(str::to_owned).to_vec()
}

/// What becomes of people of whom the provider says this.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct OidcRuleOptions {
    /// A claim of the ID token: `groups`; or a JSON pointer to it: `/realm_access/roles`.
    pub(crate) claim: String,
    /// The value that it has, or that is in its list. Left out: any text.
    #[serde(default)]
    pub(crate) value: Option<String>,
    /// As what they come in: `operator`, `auditor` or `tenant-admin`.
    pub(crate) role: Role,
    /// Of which tenant they are administrators.
    #[serde(default)]
    pub(crate) tenant: Option<Name>,
    /// The claim that names their tenant, where that is not the same for all.
    #[serde(default)]
    pub(crate) tenant_claim: Option<String>,
}

impl OidcRuleOptions {
    /// The rule, or what is wrong with it.
    pub(crate) fn to_rule(&self) -> Result<control::OidcRule, &'static str> {
        let role = match (self.role, &self.tenant, &self.tenant_claim) {
            (Role::Operator, None, None) => OidcRole::Operator,
            (Role::Auditor, None, None) => OidcRole::Auditor,
            (Role::TenantAdmin, Some(tenant), None) => OidcRole::TenantAdmin(tenant.clone()),
            (Role::TenantAdmin, None, Some(claim)) => OidcRole::TenantAdminOf(claim.clone()),
            (Role::TenantAdmin, ..) => return Err("say `tenant` or `tenant_claim`, and not both"),
            (Role::Operator | Role::Auditor, ..) => {
                return Err("operators and auditors are of no tenant");
            }
            _ => return Err("the role is `operator`, `auditor` or `tenant-admin`"),
        };
        if self.claim.is_empty() {
            return Err("the claim is missing");
        }
        Ok(control::OidcRule {
            claim: self.claim.clone(),
            value: self.value.clone(),
            role,
        })
    }
}

impl OidcProviderOptions {
    fn problem(&self) -> Option<(&'static str, String)> {
        if !control::is_safe(&self.issuer) {
            let message = "an issuer begins with https:// (or is on this machine)";
            return Some(("dashboard.oidc.issuer", message.to_owned()));
        }
        if !self.scopes.iter().any(|scope| scope == "openid") {
            let message = "`openid` is one of the scopes";
            return Some(("dashboard.oidc.scopes", message.to_owned()));
        }
        if !(5..=720).contains(&self.session_minutes) {
            let message = "a session by the provider's word lasts 5 to 720 minutes";
            return Some(("dashboard.oidc.session_minutes", message.to_owned()));
        }
        if self.rules.is_empty() {
            let message = "without a rule nobody gets in: say one";
            return Some(("dashboard.oidc.rules", message.to_owned()));
        }
        let wrong = self.rules.iter().find_map(|rule| rule.to_rule().err())?;
        Some(("dashboard.oidc.rules", wrong.to_owned()))
    }
}

impl AlertsOptions {
    pub(super) fn problem(&self) -> Option<(&'static str, String)> {
        let least = [
            ("alerts.every_seconds", self.every_seconds),
            ("alerts.resolve_seconds", self.resolve_seconds),
        ];
        let (key, _) = least.into_iter().find(|(_, value)| *value == 0)?;
        Some((key, "at least 1 is needed".to_owned()))
    }
}

impl MailOptions {
    pub(super) fn problem(&self) -> Option<(&'static str, String)> {
        let wrong = |key, message: &str| Some((key, message.to_owned()));
        self.host.as_ref()?;
        if !self.from.as_deref().is_some_and(is_address) {
            return wrong(
                "mail.host",
                "`mail.from` has to be an address such as partywall@example.com",
            );
        }
        match (&self.user, &self.password) {
            (Some(_), None) => wrong("mail.user", "`mail.password` is missing"),
            (None, Some(_)) => wrong("mail.password", "`mail.user` is missing"),
            (Some(_), Some(_)) if self.encryption == MailEncryption::None => wrong(
                "mail.password",
                "a password goes to a mail server by `starttls` or `tls` alone",
            ),
            _ => None,
        }
    }
}

impl DashboardOptions {
    pub(super) fn problem(&self) -> Option<(&'static str, String)> {
        if let Some(oidc) = &self.oidc {
            if self.url.is_none() {
                let message = "the provider sends people back to `dashboard.url`: say it";
                return Some(("dashboard.oidc", message.to_owned()));
            }
            if let Some(problem) = oidc.problem() {
                return Some(problem);
            }
        }
        let url = url::Url::parse(self.url.as_ref()?).ok();
        let is_origin = url.is_some_and(|url| {
            matches!(url.scheme(), "http" | "https") && url.path() == "/" && url.query().is_none()
        });
        let message =
            "where people open the dashboard begins with http:// or https:// and has no path";
        (!is_origin).then(|| ("dashboard.url", message.to_owned()))
    }
}
