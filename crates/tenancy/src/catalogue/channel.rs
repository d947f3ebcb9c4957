//! Where alerts are told: the platform's channels, and each tenant's own.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What an alert is about.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum AlertKind {
    /// A budget has passed its soft threshold.
    BudgetSoft,
    /// Nothing is left of a budget.
    BudgetExhausted,
    /// A tenant's spend, failures, refusals or latency are outside what its own past forecasts.
    Anomaly,
    /// A tenant's calls fail at an upstream, and are held back there.
    BreakerOpen,
    /// A key is about to end.
    KeyExpiring,
    /// A replica has not been heard of, and did not say that it ends. The platform's alone.
    ReplicaSilent,
    /// The upgrade of tenants' stores has halted. The platform's alone.
    UpgradeHalted,
}

impl AlertKind {
    /// Every kind.
    pub const ALL: [Self; 7] = [
        Self::BudgetSoft,
        Self::BudgetExhausted,
        Self::Anomaly,
        Self::BreakerOpen,
        Self::KeyExpiring,
        Self::ReplicaSilent,
        Self::UpgradeHalted,
    ];

    /// Whether it is about the platform, and no tenant's channel hears of it.
    pub const fn is_platforms_own(self) -> bool {
        matches!(self, Self::ReplicaSilent | Self::UpgradeHalted)
    }

    /// Its name: `budget-soft`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::BudgetSoft => "budget-soft",
            Self::BudgetExhausted => "budget-exhausted",
            Self::Anomaly => "anomaly",
            Self::BreakerOpen => "breaker-open",
            Self::KeyExpiring => "key-expiring",
            Self::ReplicaSilent => "replica-silent",
            Self::UpgradeHalted => "upgrade-halted",
        }
    }
}

impl std::fmt::Display for AlertKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One of the platform's channels: it is told the alerts of all tenants and of the platform.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ChannelSpec {
    /// For people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// Where to.
    pub to: ChannelTarget,
    /// What it is told; nothing here means everything.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub alerts: Vec<AlertKind>,
    /// An alert that is still open is told again after so many hours; 0 tells it once.
    #[serde(default = "remind_hours", skip_serializing_if = "is_daily")]
    pub remind_hours: u16,
    /// Whether it is told nothing for now.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub disabled: bool,
    /// Whether its address may be private or on loopback. The platform's own channels alone.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub allow_private_address: bool,
}

/// One of a tenant's own channels: it is told that tenant's alerts alone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct TenantChannelSpec(pub ChannelSpec);

/// Where a channel leads.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum ChannelTarget {
    /// A signed message as JSON, in the form of Standard Webhooks.
    Webhook(HookTarget),
    /// A message as text, as Slack, Mattermost and others take it at an incoming hook.
    Slack(HookTarget),
    /// An e-mail, by the mail server in `partywall.toml`.
    Email(EmailTarget),
}

/// A hook.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HookTarget {
    /// An `https` address. The platform's own may be `http`, or a reference to where the address
    /// is: `env:NAME` or `file:/path`, since whoever knows a Slack hook's address may write there.
    pub url: String,
}

/// Whom mail goes to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EmailTarget {
    /// 1 to 10 addresses.
    pub to: Vec<String>,
}

/// A day.
const fn remind_hours() -> u16 {
    24
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks by reference")]
fn is_daily(hours: &u16) -> bool {
    *hours == remind_hours()
}

/// 8,784: a year.
const REMIND_HOURS_MAX: u16 = 8_784;
/// 10: more people than that have a list.
const RECIPIENTS_MAX: usize = 10;
/// 254: the longest address that mail can be sent to (RFC 5321, erratum 1690).
const ADDRESS_BYTES_MAX: usize = 254;
/// 2,048: what browsers and proxies take at least.
const URL_BYTES_MAX: usize = 2_048;

/// Whose channel it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ChannelOf {
    Platform,
    Tenant,
}

impl ChannelSpec {
    /// Whether it is told of such alerts.
    pub fn hears(&self, kind: AlertKind) -> bool {
        !self.disabled && (self.alerts.is_empty() || self.alerts.contains(&kind))
    }

    /// What is wrong with it, in sentences.
    pub(crate) fn check(&self, of: ChannelOf, found: &mut Vec<String>) {
        if self.remind_hours > REMIND_HOURS_MAX {
            found.push(format!("`remind_hours` is at most {REMIND_HOURS_MAX}"));
        }
        if of == ChannelOf::Tenant {
            if self.allow_private_address {
                found.push(
                    "`allow_private_address` is for the platform's own channels: a tenant's lead to public addresses"
                        .to_owned(),
                );
            }
            let platforms_own = self.alerts.iter().filter(|kind| kind.is_platforms_own());
            found.extend(
                platforms_own
                    .map(|kind| format!("`{kind}` is told to the platform's own channels")),
            );
        }
        match &self.to {
            ChannelTarget::Webhook(hook) | ChannelTarget::Slack(hook) => {
                check_hook(&hook.url, of, found);
            }
            ChannelTarget::Email(email) => check_email(email, found),
        }
    }
}

fn check_hook(url: &str, of: ChannelOf, found: &mut Vec<String>) {
    let is_reference = url.starts_with("env:") || url.starts_with("file:");
    match of {
        ChannelOf::Platform if is_reference => {
            if url.parse::<super::SecretRef>().is_err() {
                found
                    .push("`url` is `env:NAME` or `file:/path` where it is a reference".to_owned());
            }
            return;
        }
        ChannelOf::Tenant if !url.starts_with("https://") => {
            found.push("`url` of a tenant's channel begins with https://".to_owned());
            return;
        }
        _ => {}
    }
    let parsed = url::Url::parse(url).ok();
    let is_http = parsed.is_some_and(|url| matches!(url.scheme(), "http" | "https"));
    if !is_http || url.len() > URL_BYTES_MAX {
        found.push(format!(
            "`url` is an http or https address of at most {URL_BYTES_MAX} bytes"
        ));
    }
}

fn check_email(email: &EmailTarget, found: &mut Vec<String>) {
    if !(1..=RECIPIENTS_MAX).contains(&email.to.len()) {
        found.push(format!("`to` has 1 to {RECIPIENTS_MAX} addresses"));
    }
    if let Some(wrong) = email.to.iter().find(|address| !is_address(address)) {
        let wrong: String = wrong.chars().take(40).collect();
        found.push(format!(
            "`{}` is no e-mail address: write name@example.com, in ASCII and without quotes",
            wrong.escape_default()
        ));
    }
}

/// Dot-atoms on both sides alone: nothing that could end a line or a command of SMTP.
pub fn is_address(text: &str) -> bool {
    let is_atom = |text: &str, more: &str| {
        !text.is_empty()
            && !text.starts_with('.')
            && !text.ends_with('.')
            && !text.contains("..")
            && text
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || c == '.' || more.contains(c))
    };
    text.len() <= ADDRESS_BYTES_MAX
        && text.split_once('@').is_some_and(|(local, domain)| {
            is_atom(local, "!#$%&'*+-/=?^_`{|}~") && is_atom(domain, "-")
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(of: ChannelOf, json: &str) -> Vec<String> {
        let spec: ChannelSpec = serde_json::from_str(json).expect(json);
        let mut found = Vec::new();
        spec.check(of, &mut found);
        found
    }

    #[test]
    fn a_tenants_channel_reaches_nothing_of_the_platforms() {
        for json in [
            r#"{"to":{"webhook":{"url":"http://hooks.example/in"}}}"#,
            r#"{"to":{"slack":{"url":"env:PATH"}}}"#,
            r#"{"to":{"slack":{"url":"file:/etc/passwd"}}}"#,
            r#"{"to":{"webhook":{"url":"https://h.example"}},"allow_private_address":true}"#,
            r#"{"to":{"webhook":{"url":"https://h.example"}},"alerts":["replica-silent"]}"#,
            r#"{"to":{"webhook":{"url":"https://h.example"}},"alerts":["upgrade-halted"]}"#,
        ] {
            assert_eq!(problems(ChannelOf::Tenant, json).len(), 1, "{json}");
            assert!(problems(ChannelOf::Platform, json).is_empty(), "{json}");
        }
    }

    #[test]
    fn an_address_cannot_carry_a_command() {
        for good in ["a@b", "ada.l+alerts@mail.example.com"] {
            assert!(is_address(good), "{good}");
        }
        for bad in [
            "",
            "a",
            "@b",
            "a@",
            "a b@c",
            "a@b>",
            "a@b\r\nRCPT TO:<x@y>",
            "\"a\"@b",
            "a@b@c",
            ".a@b",
            "a..b@c",
            "ä@b",
            "a@[127.0.0.1]",
        ] {
            assert!(!is_address(bad), "{bad}");
        }
        let json = r#"{"to":{"email":{"to":["a@b","x\r\ny@z"]}}}"#;
        assert_eq!(problems(ChannelOf::Tenant, json).len(), 1);
        assert_eq!(
            problems(ChannelOf::Tenant, r#"{"to":{"email":{"to":[]}}}"#).len(),
            1
        );
    }

    #[test]
    fn a_channel_hears_what_it_asked_for() {
        let json = r#"{"to":{"email":{"to":["a@b"]}},"alerts":["anomaly"]}"#;
        let mut spec: ChannelSpec = serde_json::from_str(json).expect(json);
        assert!(spec.hears(AlertKind::Anomaly) && !spec.hears(AlertKind::BudgetSoft));
        spec.disabled = true;
        assert!(!spec.hears(AlertKind::Anomaly));
    }
}
