//! Where the replicas of an engine are, and how they are asked for their load.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::SecretRef;

/// 128 replicas of one engine: a choice among them looks at each, and each has its connections.
pub const ENDPOINTS_MAX: usize = 128;

/// Where the replicas of an engine are. Each is a place for calls; `base_url` says what they have
/// in common: the scheme, the path, and the name that they are called by.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum EndpointsSpec {
    /// These, each `host:port`.
    Static(Vec<String>),
    /// Each address that a name resolves to.
    Dns(DnsEndpoints),
    /// The ready addresses of a Kubernetes service, followed by the API server's word.
    Kubernetes(KubernetesEndpoints),
}

/// Each address that a name resolves to, such as that of a headless service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DnsEndpoints {
    /// The name and the port: `engine.internal:8000`.
    pub name: String,
    /// How often it is resolved anew, in milliseconds: from 1,000 to 300,000. The resolver's own
    /// cache decides what that brings.
    #[serde(default = "default_resolve_every")]
    pub every_ms: u64,
}

/// Five seconds: CoreDNS's own time to live for services.
fn default_resolve_every() -> u64 {
    5_000
}

/// A service of a Kubernetes cluster: the one that this process runs in, read with the pod's
/// service account, unless the fields below name another. The account needs `list` and `watch` on
/// `endpointslices` of `discovery.k8s.io`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct KubernetesEndpoints {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub service: String,
    /// The port's name as the service has it, or its number. The only port if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<String>,
    /// The API server's address, outside of the cluster: `https://10.0.0.1:6443`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api_server: Option<String>,
    /// The token to ask it with; the pod's if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<SecretRef>,
    /// A file with the certificates of the authority that it is trusted by; the pod's if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<String>,
}

/// How an engine is asked for its load: by a GET for Prometheus's text, in which the names of
/// vLLM, SGLang, TGI and llama.cpp are known.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EngineMetrics {
    /// The path on its server, from the root.
    #[serde(default = "default_metrics_path")]
    pub path: String,
    /// How often, in milliseconds; from 1,000. What is older than five times as much says nothing.
    #[serde(default = "default_metrics_every")]
    pub every_ms: u64,
}

/// Where they all have it.
fn default_metrics_path() -> String {
    "/metrics".to_owned()
}

/// A second: a few steps of an engine's batch, and a few kilobytes each.
fn default_metrics_every() -> u64 {
    1_000
}

impl EndpointsSpec {
    /// Adds what is wrong with it to `found`, in sentences.
    pub fn check(&self, found: &mut Vec<String>) {
        match self {
            Self::Static(addresses) => check_static(addresses, found),
            Self::Dns(DnsEndpoints { name, every_ms }) => {
                if split_address(name).is_none() {
                    found.push(
                        "`endpoints.dns.name` is a name and a port: `engine.internal:8000`"
                            .to_owned(),
                    );
                }
                if !(1_000..=300_000).contains(every_ms) {
                    found.push("`endpoints.dns.every_ms` is from 1000 to 300000".to_owned());
                }
            }
            Self::Kubernetes(service) => {
                for (field, value) in [
                    ("namespace", Some(&service.namespace)),
                    ("service", Some(&service.service)),
                    ("port", service.port.as_ref()),
                ] {
                    if value.is_some_and(|value| !is_label(value)) {
                        found.push(format!(
                            "`endpoints.kubernetes.{field}` has up to 63 letters a-z, digits and `-`"
                        ));
                    }
                }
                let is_url = |address: &String| {
                    let url = url::Url::parse(address).ok();
                    url.is_some_and(|url| matches!(url.scheme(), "http" | "https"))
                };
                if service.api_server.as_ref().is_some_and(|it| !is_url(it)) {
                    found.push(
                        "`endpoints.kubernetes.api_server` is an http or https address".to_owned(),
                    );
                }
            }
        }
    }
}

fn check_static(addresses: &[String], found: &mut Vec<String>) {
    if addresses.is_empty() || addresses.len() > ENDPOINTS_MAX {
        found.push(format!(
            "`endpoints.static` has from 1 to {ENDPOINTS_MAX} addresses"
        ));
    }
    for (at, address) in addresses.iter().enumerate() {
        if split_address(address).is_none() {
            found.push(format!(
                "`endpoints.static` has `{address}`, which is no host and port, such as `10.0.0.5:8000`: scheme and path stand in `base_url`"
            ));
        }
        if addresses[..at].contains(address) {
            found.push(format!("`endpoints.static` has `{address}` twice"));
        }
    }
}

/// The host and the port of `host:port`; an IPv6 address stands in brackets.
pub fn split_address(address: &str) -> Option<(&str, u16)> {
    let (host, port) = address.rsplit_once(':')?;
    let port: u16 = port.parse().ok()?;
    let is_v6 = host
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
        .is_some_and(|bare| bare.parse::<std::net::Ipv6Addr>().is_ok());
    let is_name = !host.is_empty()
        && host.len() <= 253
        && host
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_'));
    (port > 0 && (is_v6 || is_name)).then_some((host, port))
}

/// Whether it can be a name in a Kubernetes path: RFC 1123.
fn is_label(text: &str) -> bool {
    let of_label = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    !text.is_empty() && text.len() <= 63 && text.bytes().all(of_label)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_host_and_a_port() {
        for (text, expected) in [
            ("10.0.0.5:8000", Some(("10.0.0.5", 8_000))),
            ("engine-0.engine:80", Some(("engine-0.engine", 80))),
            ("[fd00::5]:8000", Some(("[fd00::5]", 8_000))),
            ("fd00::5:8000", None),
            ("http://10.0.0.5:8000", None),
            ("10.0.0.5", None),
            ("10.0.0.5:0", None),
            (":80", None),
            ("a b:80", None),
            ("a:80/v1", None),
        ] {
            assert_eq!(split_address(text), expected, "{text}");
        }
    }

    fn problems(json: &str) -> usize {
        let spec: EndpointsSpec = serde_json::from_str(json).expect(json);
        let mut found = Vec::new();
        spec.check(&mut found);
        found.len()
    }

    #[test]
    fn what_cannot_be_reached_is_refused() {
        for (json, expected) in [
            (r#"{"static":["a:1","b:1"]}"#, 0),
            (r#"{"static":[]}"#, 1),
            (r#"{"static":["a:1","a:1"]}"#, 1),
            (r#"{"static":["a"]}"#, 1),
            (r#"{"dns":{"name":"a:1"}}"#, 0),
            (r#"{"dns":{"name":"a","every_ms":10}}"#, 2),
            (r#"{"kubernetes":{"namespace":"n","service":"s"}}"#, 0),
            (
                r#"{"kubernetes":{"namespace":"n/../x","service":"S","port":"p"}}"#,
                2,
            ),
        ] {
            assert_eq!(problems(json), expected, "{json}");
        }
        let both = r#"{"static":["a:1"],"dns":{"name":"a:1"}}"#;
        assert!(serde_json::from_str::<EndpointsSpec>(both).is_err());
    }
}
