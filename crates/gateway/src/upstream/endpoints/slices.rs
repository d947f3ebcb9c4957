//! What Kubernetes says of a service's endpoints, as `discovery.k8s.io/v1` has it.

use std::collections::BTreeMap;

use serde::Deserialize;

/// 1,000 slices of a hundred endpoints each are far above what is used.
const SLICES_MAX: usize = 1_000;

/// `EndpointSliceList`.
#[derive(Debug, Deserialize)]
pub(super) struct SliceList {
    metadata: ListMetadata,
    #[serde(default)]
    items: Vec<Slice>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ListMetadata {
    resource_version: String,
}

/// `EndpointSlice`, as far as it matters here.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Slice {
    metadata: SliceMetadata,
    #[serde(default)]
    address_type: String,
    #[serde(default)]
    endpoints: Option<Vec<SliceEndpoint>>,
    #[serde(default)]
    ports: Option<Vec<SlicePort>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct SliceMetadata {
    name: String,
    resource_version: String,
}

#[derive(Debug, Deserialize)]
struct SliceEndpoint {
    #[serde(default)]
    addresses: Vec<String>,
    #[serde(default)]
    conditions: Conditions,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Conditions {
    /// Absent means that it is not known, which consumers are to take for ready.
    ready: Option<bool>,
}

#[derive(Debug, Deserialize)]
struct SlicePort {
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    port: Option<u16>,
}

/// One line of a watch.
#[derive(Debug, Deserialize)]
pub(super) struct WatchEvent {
    #[serde(rename = "type")]
    kind: String,
    object: serde_json::Value,
}

/// Why a watch cannot go on.
#[derive(Debug, thiserror::Error)]
pub(super) enum WatchEnd {
    /// The version that it began with is too old, or the server has trouble: all has to be
    /// listed anew.
    #[error("the API server ended the watch")]
    Ended,
    /// It is none of the events that there are.
    #[error("the API server said something else than an event")]
    Malformed,
}

/// A service's slices, as they are by now.
#[derive(Debug, Default)]
pub(super) struct Slices {
    /// By name: the ready addresses with the port, `host:port`.
    known: BTreeMap<String, Vec<String>>,
    /// What a watch goes on from.
    pub(super) version: String,
}

impl Slices {
    /// Those of a list.
    pub(super) fn listed(list: SliceList, port: Option<&str>) -> Self {
        let items = list.items.into_iter().take(SLICES_MAX);
        let known = items.map(|slice| (slice.metadata.name.clone(), slice.ready(port)));
        Self {
            known: known.collect(),
            version: list.metadata.resource_version,
        }
    }

    /// Something changed; whether that is of interest.
    ///
    /// # Errors
    ///
    /// [`WatchEnd`].
    pub(super) fn apply(
        &mut self,
        event: WatchEvent,
        port: Option<&str>,
    ) -> Result<bool, WatchEnd> {
        if event.kind == "ERROR" {
            return Err(WatchEnd::Ended);
        }
        let slice: Slice = serde_json::from_value(event.object).map_err(|_| WatchEnd::Malformed)?;
        self.version.clone_from(&slice.metadata.resource_version);
        let name = slice.metadata.name.clone();
        match &*event.kind {
            "BOOKMARK" => return Ok(false),
            "DELETED" => drop(self.known.remove(&name)),
            "ADDED" | "MODIFIED" if self.known.len() < SLICES_MAX => {
                self.known.insert(name, slice.ready(port));
            }
            "ADDED" | "MODIFIED" => {}
            _ => return Err(WatchEnd::Malformed),
        }
        Ok(true)
    }

    /// Every ready address, `host:port`. An address may be in two slices while one replaces the
    /// other.
    pub(super) fn addresses(&self) -> Vec<String> {
        self.known.values().flatten().cloned().collect()
    }
}

impl Slice {
    fn ready(&self, wanted: Option<&str>) -> Vec<String> {
        let Some(port) = self.port(wanted) else {
            return Vec::new();
        };
        let endpoints = self.endpoints.iter().flatten();
        let ready = endpoints.filter(|it| it.conditions.ready != Some(false));
        // The addresses of one endpoint are the same place.
        let first = ready.filter_map(|it| it.addresses.first());
        let address = |host: &String| match &*self.address_type {
            "IPv4" => Some(format!("{host}:{port}")),
            "IPv6" => Some(format!("[{host}]:{port}")),
            _ => None,
        };
        first.filter_map(address).collect()
    }

    /// The port of that name or number; the only one if none is wanted.
    fn port(&self, wanted: Option<&str>) -> Option<u16> {
        let ports = self.ports.as_deref().unwrap_or_default();
        let is_it = |it: &&SlicePort| match wanted {
            None => ports.len() == 1,
            Some(wanted) => {
                let number = it.port.map(|port| port.to_string());
                it.name.as_deref() == Some(wanted) || number.as_deref() == Some(wanted)
            }
        };
        ports.iter().find(is_it)?.port
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn slice(name: &str, version: &str, pods: &[(&str, Option<bool>)]) -> serde_json::Value {
        let endpoints = pods.iter().map(|(address, ready)| {
            json!({"addresses": [address], "conditions": {"ready": ready, "serving": true}})
        });
        json!({
            "kind": "EndpointSlice", "apiVersion": "discovery.k8s.io/v1", "addressType": "IPv4",
            "metadata": {"name": name, "resourceVersion": version, "namespace": "models"},
            "endpoints": endpoints.collect::<Vec<_>>(),
            "ports": [
                {"name": "http", "port": 8_000, "protocol": "TCP"},
                {"name": "metrics", "port": 9_000, "protocol": "TCP"},
            ],
        })
    }

    fn listed(items: serde_json::Value, port: Option<&str>) -> Slices {
        let list = json!({"kind": "EndpointSliceList", "metadata": {"resourceVersion": "7"}, "items": items});
        Slices::listed(serde_json::from_value(list).expect("a list"), port)
    }

    fn apply(slices: &mut Slices, kind: &str, object: serde_json::Value) -> Result<bool, WatchEnd> {
        let event = json!({"type": kind, "object": object});
        let event = serde_json::from_value(event).expect("an event");
        slices.apply(event, Some("http"))
    }

    #[test]
    fn the_ready_addresses_are_followed() {
        let pods = [
            ("10.0.0.1", Some(true)),
            ("10.0.0.2", Some(false)),
            ("10.0.0.3", None),
        ];
        let mut slices = listed(json!([slice("a", "5", &pods)]), Some("http"));
        assert_eq!(slices.addresses(), ["10.0.0.1:8000", "10.0.0.3:8000"]);
        assert_eq!(slices.version, "7");
        let more = slice("b", "8", &[("10.0.0.9", Some(true))]);
        assert!(apply(&mut slices, "ADDED", more).expect("an event"));
        let gone = slice("a", "9", &[("10.0.0.1", Some(false))]);
        assert!(apply(&mut slices, "MODIFIED", gone).expect("an event"));
        assert_eq!(slices.addresses(), ["10.0.0.9:8000"]);
        let bookmark = json!({"kind": "EndpointSlice", "metadata": {"resourceVersion": "12"}});
        assert!(!apply(&mut slices, "BOOKMARK", bookmark).expect("an event"));
        assert_eq!(slices.version, "12");
        assert!(apply(&mut slices, "DELETED", slice("b", "13", &[])).expect("an event"));
        assert!(slices.addresses().is_empty());
    }

    #[test]
    fn a_watch_that_is_too_old_ends() {
        let mut slices = listed(json!([]), None);
        let gone = json!({"kind": "Status", "code": 410, "reason": "Expired"});
        assert!(matches!(
            apply(&mut slices, "ERROR", gone),
            Err(WatchEnd::Ended)
        ));
        let odd = apply(&mut slices, "RENAMED", slice("a", "1", &[]));
        assert!(matches!(odd, Err(WatchEnd::Malformed)));
    }

    #[test]
    fn a_port_has_a_name_a_number_or_no_rival() {
        let pods = [("10.0.0.1", Some(true))];
        for (port, expected) in [
            (Some("metrics"), Some("10.0.0.1:9000")),
            (Some("8000"), Some("10.0.0.1:8000")),
            (Some("grpc"), None),
            (None, None),
        ] {
            let found = listed(json!([slice("a", "1", &pods)]), port).addresses();
            assert_eq!(found.first().map(String::as_str), expected, "{port:?}");
        }
        let mut only = slice("a", "1", &pods);
        only["ports"] = json!([{"port": 80}]);
        assert_eq!(listed(json!([only]), None).addresses(), ["10.0.0.1:80"]);
        let mut six = slice("a", "1", &[("fd00::1", Some(true))]);
        six["addressType"] = json!("IPv6");
        assert_eq!(
            listed(json!([six]), Some("http")).addresses(),
            ["[fd00::1]:8000"]
        );
        // Kubernetes writes `null` for what is empty.
        let mut empty = slice("a", "1", &[]);
        (empty["endpoints"], empty["ports"]) = (json!(null), json!(null));
        assert!(listed(json!([empty]), None).addresses().is_empty());
    }
}
